"""Questions to the published snapshot and to what arrived since: one relation of both for SQL to select from.

Each question names the months that it needs, and ranks on few columns before it reads the winners
whole: a view over all months would plan, and read, every column of each (see `mnemoduck.partitions`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import duckdb
import pyarrow as pa

from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.fresh import FreshReader, FreshTables
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot, rows_of

MEMORIES = "short_term_memories"

Read = TypeVar("Read")

_REMEMBERED = (
    "(occurred_at <= $as_of and (forgotten_at is null or forgotten_at > $as_of) and not {forgotten_since})"
)


class View:
    """One state of a home to read: a snapshot, what arrived since, and the moment that is asked about.

    Used by the thread that was given it, as long as the call lasts that gave it.
    """

    def __init__(
        self, snapshot: Snapshot, fresh: FreshTables, scope: Scope, as_of: datetime | None, moment: datetime
    ) -> None:
        self.snapshot = snapshot
        self.fresh = fresh
        self.scope = scope
        self.moment = moment
        self.is_about_now = as_of is None

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a statement, see `Asker.ask`."""
        with self.snapshot.asking() as cursor:
            return rows_of(self._execute(cursor, statement, values))

    def columns(self, statement: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of a statement's rows as arrays of numpy, by their names."""
        with self.snapshot.asking() as cursor:
            return dict(self._execute(cursor, statement, values).fetchnumpy())

    def table(self, statement: str, values: Mapping[str, Any]) -> pa.Table:
        """Return the rows of a statement as a table of Arrow."""
        with self.snapshot.asking() as cursor:
            return self._execute(cursor, statement, values).to_arrow_table()

    def _execute(
        self, cursor: duckdb.DuckDBPyConnection, statement: str, values: Mapping[str, Any]
    ) -> duckdb.DuckDBPyConnection:
        forgotten_since, forget_values = _forgotten_since(
            self.fresh, None if self.is_about_now else self.moment
        )
        filled = statement.replace("{remembered}", _REMEMBERED).replace("{forgotten_since}", forgotten_since)
        parameters = {**values, **self.scope.as_dict(), **forget_values, "as_of": self.moment}
        used = {name: value for name, value in parameters.items() if f"${name}" in filled}
        return cursor.execute(filled, used)


class Asker:
    """Executes statements on one home. Safe between threads: each has a cursor of its own."""

    def __init__(self, fresh: FreshReader, project: Path) -> None:
        self.project = project
        self._fresh = fresh
        self._held = threading.local()

    def view(self) -> tuple[Snapshot, FreshTables]:
        """Return the newest snapshot and what arrived since."""
        return getattr(self._held, "pair", None) or self._fresh.get()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Have all that this thread asks see the same state, which is looked for once: that takes 0.3 ms."""
        self._held.pair = self._fresh.get()
        try:
            yield
        finally:
            self._held.pair = None

    def ask(
        self,
        statement: str,
        values: Mapping[str, Any],
        scope: Scope,
        as_of: datetime | None,
        memories: Callable[[Snapshot, FreshTables, datetime], str],
    ) -> list[dict[str, Any]]:
        """Fill in a statement and execute it on the newest snapshot and what is fresh.

        Args:
            statement: SQL. `{memories}` stands for the relation that is given, `{remembered}` for the
                condition that a memory has happened and is not forgotten, `{forgotten_since}` for the one
                that an order that is not in the snapshot yet forgets it.
            values: parameters; those of the scope and `$as_of` are added.
            as_of: the moment that is asked about; None means now, with all orders to forget.
            memories: the relation that the statement is about.
        """

        def read(view: View) -> list[dict[str, Any]]:
            relation = memories(view.snapshot, view.fresh, view.moment)
            return view.rows(statement.replace("{memories}", relation), values)

        return self.look(read, scope, as_of)

    def look(self, read: Callable[[View], Read], scope: Scope, as_of: datetime | None) -> Read:
        """Return what a function reads of one state of the home; it is called again if that went away.

        Raises:
            UsageError: the moment is outside of the calendar in UTC.
            SnapshotError: the published snapshot, or an archived month, cannot be read.
        """
        try:
            moment = (as_of or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)
        except OverflowError as error:
            raise UsageError(f"as_of is {as_of}, which is out of range in UTC.") from error
        while True:
            snapshot, fresh = self.view()
            try:
                return read(View(snapshot, fresh, scope, as_of, moment))
            except duckdb.CatalogException:
                renewed = self._fresh.get()
                if renewed[1] is fresh:
                    raise
                if getattr(self._held, "pair", None) is not None:
                    self._held.pair = renewed
                continue  # the fresh tables were renewed twice while this query was being prepared
            except (duckdb.IOException, duckdb.PermissionException) as error:
                reason = str(error).splitlines()[0]
                raise SnapshotError(
                    snapshot.find_archive_fault()
                    or f"The published snapshot {snapshot.path} could not be read ({reason})."
                ) from error


def with_fresh(
    columns: Sequence[str],
    published: str | None,
    fresh: FreshTables,
    condition: str = "true",
    fresh_values: Mapping[str, str] | None = None,
) -> str:
    """Return a query for published memories, and for the fresh ones that meet a condition.

    `fresh_values` are expressions for columns that only published memories have.
    """
    names = ", ".join(columns)
    values = fresh_values or {}
    fresh_names = ", ".join(f"{values[name]} as {name}" if name in values else name for name in columns)
    fresh_rows = f"select {fresh_names}, true as is_fresh from {fresh.memories}"
    if published is None:
        return f"{fresh_rows} where {condition}"
    if not fresh.memory_count:
        return f"select {names}, false as is_fresh from {published}"
    return f"select {names}, false as is_fresh from {published} union all {fresh_rows} where {condition}"


def months(
    snapshot: Snapshot,
    model: str,
    columns: Sequence[str],
    from_time: datetime | None = None,
    until_time: datetime | None = None,
) -> str | None:
    """Return the relation of a model's published rows in a range of time; None if nothing is published."""
    if snapshot.path is None:
        return None
    partitions = snapshot.partitions(model)
    if partitions is None:
        return f"main.{model}"
    return partitions.between(from_time, until_time, columns=columns)


def rows_at(
    snapshot: Snapshot, model: str, columns: Sequence[str], places: Sequence[tuple[UUID, datetime]]
) -> str | None:
    """Return the relation of a model's published rows at ids and times; None if nothing is published."""
    if snapshot.path is None:
        return None
    partitions = snapshot.partitions(model)
    if partitions is None:
        return f"(select * from main.{model} where {columns[0]} in ({literals(places)}))"
    return partitions.rows_at(places, columns=columns)


def at_places(
    columns: Sequence[str],
    snapshot: Snapshot,
    fresh: FreshTables,
    places: Sequence[tuple[UUID, datetime]],
    fresh_values: Mapping[str, str] | None = None,
) -> str:
    """Return a query for the memories of some ids, fresh ones included; the first column is the id."""
    published = rows_at(snapshot, MEMORIES, columns, places)
    return with_fresh(columns, published, fresh, f"memory_id in ({literals(places)})", fresh_values)


def literals(places: Sequence[tuple[UUID, datetime]]) -> str:
    return ", ".join(f"'{UUID(str(key))}'" for key, _ in places)


def _forgotten_since(fresh: FreshTables, as_of: datetime | None) -> tuple[str, dict[str, Any]]:
    """Return the condition for memories that fresh orders forget, and the values of its parameters.

    By the rules of the model int_forgotten_memories; those count that were given by `as_of`, if that is asked
    for. What the snapshot has carried out is in its tables.
    """
    conditions = []
    values: dict[str, Any] = {}
    named: list[str] = []
    for number, (event, payload) in enumerate(fresh.forgets):
        if as_of is not None and event.recorded_at.replace(tzinfo=None) > as_of:
            continue
        name = f"forget_{number}"
        scope = {"user_id": event.user_id, "agent_id": event.agent_id, "session_id": event.session_id}
        said = {part: value for part, value in scope.items() if value is not None}
        values.update({f"{name}_{part}": value for part, value in said.items()})
        ids = [str(memory_id) for memory_id in payload.memory_ids]
        if ids and event.user_id is not None:
            conditions.append(
                f"(memory_id in (select cast(unnest(${name}_ids) as uuid))"
                f" and user_id is not distinct from ${name}_user_id)"
            )
            values[f"{name}_ids"] = ids
        else:
            named.extend(ids)
        if payload.is_whole_scope:
            parts = [f"recorded_at <= ${name}_recorded_at"]
            values[f"{name}_recorded_at"] = event.recorded_at.replace(tzinfo=None)
            parts.extend(f"{part} is not distinct from ${name}_{part}" for part in said)
            if payload.occurred_before is not None:
                parts.append(f"occurred_at < ${name}_before")
                values[f"{name}_before"] = payload.occurred_before.replace(tzinfo=None)
            conditions.append(f"({' and '.join(parts)})")
    if named:
        conditions.append("memory_id in (select cast(unnest($forget_ids) as uuid))")
        values["forget_ids"] = named
    return f"({' or '.join(conditions)})" if conditions else "false", values
