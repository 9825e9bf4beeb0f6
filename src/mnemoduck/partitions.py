"""The router: which months of a partitioned model there are, and which of them a question needs.

A partitioned model is a table for each month, or a Parquet file for a month that was archived (the
layout is in macros/partitions/layout.sql). Its view names them all, and DuckDB plans each of them:
about 13 ms at 36 months. What knows a range of time, or a key, names here only the months that it
needs. A published snapshot never changes, so what its catalog says is read once for each object.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, overload
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.scope import check_unicode

MENDING = (
    "Put the file back from a backup, or rebuild every month from raw/ with `mnemoduck run --full-refresh`."
)
"""What to do about an archived month whose file is gone."""

_SUFFIX = "__months"
_EPOCH = datetime(1970, 1, 1)
_PLAIN_NAME = re.compile("[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class Month:
    """One month of a model. `state` is "hot" (a table), "cold" (a file) or "dropped"; a cold month whose
    file is not as it was written says so, such as "cold, file missing".

    `bytes` is what the file takes; of a table about what its blocks take in the database, which share
    some with their neighbours. `clustered_share` (0..1) is the share of rows in the order of the access
    path; what was added since lies behind. `file` is relative to the home.
    """

    month: date
    state: str
    rows: int
    bytes: int
    first_at: datetime | None
    last_at: datetime | None
    clustered_share: float
    file: str | None

    @property
    def label(self) -> str:
        return f"{self.month:%Y-%m}"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "month": self.label}


@dataclass(frozen=True)
class _Entry:
    """A row of the catalog."""

    month: date
    state: str
    rows: int
    tail_rows: int
    file: str | None
    bytes: int | None

    @property
    def table(self) -> str:
        return f"m{self.month:%Y_%m}"

    @property
    def begin(self) -> datetime:
        return datetime(self.month.year, self.month.month, 1)

    @property
    def end(self) -> datetime:
        return datetime(self.month.year + self.month.month // 12, self.month.month % 12 + 1, 1)


def months_schema(model: str) -> str:
    """Return the name of the schema that holds the months of a model."""
    return model + _SUFFIX


def partitioned_models(cursor: duckdb.DuckDBPyConnection, database: str | None = None) -> list[str]:
    """Return the names of the partitioned models in a database, by default the cursor's own, in order."""
    rows = cursor.execute(
        "select schema_name from duckdb_tables() where database_name = coalesce($1, current_database()) "
        "and table_name = 'catalog' and ends_with(schema_name, $2) order by schema_name",
        [database, _SUFFIX],
    ).fetchall()
    return [schema.removesuffix(_SUFFIX) for (schema,) in rows]


class Partitions:
    """The months of one model, in the default database of a cursor.

    What gives SQL text needs no cursor and is safe between threads; for the rest each thread takes its
    own with `on`.

    Args:
        home: the folder that the files of archived months are relative to.

    Raises:
        UsageError: the database holds no such partitioned model; says which there are.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, model: str, home: Path) -> None:
        models = partitioned_models(cursor)
        if model not in models:
            raise UsageError(
                f"There is no partitioned model {model!r}. There are: {', '.join(models) or 'none yet'}."
            )
        self.model = model
        self._cursor = cursor
        self._home = home
        self._schema = _name(months_schema(model))
        (text,) = self._row(f"select settings from {self._schema}.settings")
        self._months = [
            _Entry(*row)
            for row in cursor.execute(
                "select month, state, row_count, tail_rows, archive_file, archive_bytes "
                f"from {self._schema}.catalog order by month"
            ).fetchall()
        ]
        self._by_month = {entry.month: entry for entry in self._months}
        self._columns = self._read_columns()
        names = {name.lower(): name for name in self._columns}  # DuckDB does not tell them apart by case
        settings = json.loads(text)
        self._key = [names[name.lower()] for name in settings["unique_key"]]
        self._time = names[settings["time"].lower()]
        self._columns_of_files: dict[Path, list[str]] = {}

    def on(self, cursor: duckdb.DuckDBPyConnection) -> Partitions:
        """Return the same partitions for another cursor on the same database; nothing is read again."""
        other = copy.copy(self)
        other._cursor = cursor
        return other

    @property
    def row_count(self) -> int:
        """How many rows there are in all months, as the catalog has it: nothing is read."""
        return sum(entry.rows for entry in self._months if entry.state != "dropped")

    def months(self) -> list[Month]:
        """Return what there is of each month, the earliest first. Reads no rows but times of cold months."""
        return [self._describe(entry) for entry in self._months]

    def between(
        self,
        from_time: datetime | None = None,
        until_time: datetime | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> str:
        """Return a relation, to stand behind `from`, of the rows with from_time <= event time < until_time.

        It names only the months in which such rows can be, without a condition where a month is wanted
        whole: exactly one whole month is the bare name of its table. A bound of None is open, a naive
        one is UTC.

        Args:
            columns: only these, in this order; by default those of the model.

        Raises:
            UsageError: a column is none of the model's.
            SnapshotError: a month that is needed is archived, and its file is not there.
        """
        begin, end = _in_utc(from_time), _in_utc(until_time)
        names = self._check_columns(columns)
        is_empty = begin is not None and end is not None and begin >= end
        needed = [
            (entry, self._bounds(entry, begin, end))
            for entry in self._months
            if entry.state != "dropped"
            and not is_empty
            and (begin is None or begin < entry.end)
            and (end is None or entry.begin < end)
        ]
        if not needed:
            return self._no_rows(names)
        if columns is None and len(needed) == 1 and needed[0][0].state == "hot" and not needed[0][1]:
            return self._table(needed[0][0])
        branches = [
            f"select {'*' if columns is None else ', '.join(map(_quote, names))} from {self._source(entry)}"
            + (f" where {bounds}" if bounds else "")
            for entry, bounds in needed
        ]
        return f"({' union all '.join(branches)})"

    def find(self, key: object) -> dict[str, Any] | None:
        """Return the row of a key, by column, or None.

        Looks into the month that the key tells of itself (a UUIDv7 does), then into the one that
        key_months has for it, and into no other.

        Args:
            key: the value of the unique key; of several columns a tuple of their values.

        Raises:
            UsageError: no row of this model can have such a key.
            SnapshotError: the row is in a month that is archived, and its file is not there.
        """
        values = self._key_values(key)
        told = _month_of_uuid7(values[0]) if self._is_uuid_key else None
        if told in self._by_month and (row := self._look(self._by_month[told], values)) is not None:
            return row
        # Each question names one table, with nothing but the key in its condition, as a literal: with
        # anything more DuckDB reads the table instead of its index.
        place = self._cursor.execute(
            f"select month from {self._schema}.key_months where {self._equals(values)}"
        ).fetchone()
        return self._look(self._by_month[place[0]], values) if place else None

    def fetch(self, places: Iterable[tuple[object, datetime]]) -> list[dict[str, Any]]:
        """Return the rows of keys whose event times are known, in the order in which they were asked for.

        For what was ranked on few columns, such as those of `access`: this reads the wide rows of the
        winners, from their months only. A key without a row in the month of its time is left out.

        Raises:
            UsageError: no row of this model can have such a key.
            SnapshotError: a month that is needed is archived, and its file is not there.
        """
        asked = list(places)
        found = {}
        for row in self._cursor.execute(f"from {self.rows_at(asked)}").fetchall():
            named = dict(zip(self._columns, row, strict=True))
            found[tuple(str(named[column]) for column in self._key)] = named
        keys = [self._key_values(key) for key, _ in asked]
        return [found[values] for values in keys if values in found]

    def rows_at(
        self, places: Iterable[tuple[object, datetime]], *, columns: Sequence[str] | None = None
    ) -> str:
        """Return a relation of the rows that `fetch` gives, in no order; see there and `between`."""
        names = self._check_columns(columns)
        by_month: dict[date, list[str]] = {}
        for key, time in places:
            moment = _in_utc(time)
            literal = self._literal(self._key_values(key))
            by_month.setdefault(date(moment.year, moment.month, 1), []).append(literal)
        branches = [
            f"select {', '.join(map(_quote, names))} from {self._source(entry)} "
            f"where {self._key_columns} in ({', '.join(literals)})"
            for month, literals in by_month.items()
            if (entry := self._by_month.get(month)) is not None and entry.state != "dropped"
        ]
        return f"({' union all '.join(branches)})" if branches else self._no_rows(names)

    def _look(self, entry: _Entry, values: tuple[str, ...]) -> dict[str, Any] | None:
        if entry.state == "dropped":
            return None
        row = self._cursor.execute(
            f"select * from {self._source(entry)} where {self._equals(values)}"
        ).fetchone()
        return None if row is None else dict(zip(self._columns, row, strict=True))

    # --- SQL: names come from the catalog and are quoted, values are literals of the column's type ---------

    def _table(self, entry: _Entry) -> str:
        return f"{self._schema}.{entry.table}"

    def _source(self, entry: _Entry) -> str:
        """Return a relation with all rows of a month and the columns of the model, in their order."""
        if entry.state == "hot":
            return self._table(entry)
        path = self._path(entry)
        kept = self._read_columns_of_file(entry, path)
        columns = [  # Parquet does not know every type, and a cast to the same one costs nothing
            f"cast({_quote(name) if name in kept else 'null'} as {kind}) as {_quote(name)}"
            for name, kind in self._columns.items()
        ]
        return f"(select {', '.join(columns)} from read_parquet({_text(str(path))}))"

    def _no_rows(self, names: Sequence[str]) -> str:
        nulls = [f"cast(null as {self._columns[name]}) as {_quote(name)}" for name in names]
        return f"(select {', '.join(nulls)} where false)"

    def _check_columns(self, columns: Sequence[str] | None) -> Sequence[str]:
        for name in columns or ():
            if name not in self._columns:
                raise UsageError(
                    f"The model {self.model} has no column {name!r}. It has: {', '.join(self._columns)}."
                )
        return list(self._columns) if columns is None else columns

    def _bounds(self, entry: _Entry, begin: datetime | None, end: datetime | None) -> str:
        bounds = []
        if begin is not None and begin > entry.begin:
            bounds.append(f"{_quote(self._time)} >= {_timestamp(begin)}")
        if end is not None and end < entry.end:
            bounds.append(f"{_quote(self._time)} < {_timestamp(end)}")
        return " and ".join(bounds)

    @property
    def _is_uuid_key(self) -> bool:
        return len(self._key) == 1 and self._columns[self._key[0]] == "UUID"

    @property
    def _key_columns(self) -> str:
        columns = ", ".join(map(_quote, self._key))
        return columns if len(self._key) == 1 else f"({columns})"

    def _key_values(self, key: object) -> tuple[str, ...]:
        """Return the text of each value of a key."""
        values = (key,) if len(self._key) == 1 else tuple(key) if isinstance(key, list | tuple) else ()
        if len(values) != len(self._key):
            raise UsageError(
                f"A row of {self.model} is found by {len(self._key)} values ({', '.join(self._key)}); "
                f"got {key!r}."
            )
        return tuple(
            _key_text(name, self._columns[name], value) for name, value in zip(self._key, values, strict=True)
        )

    def _literal(self, values: tuple[str, ...]) -> str:
        literals = [
            f"cast({_text(value)} as {self._columns[name]})"
            for name, value in zip(self._key, values, strict=True)
        ]
        return literals[0] if len(literals) == 1 else f"({', '.join(literals)})"

    def _equals(self, values: tuple[str, ...]) -> str:
        return f"{self._key_columns} = {self._literal(values)}"

    # --- what is read of the database and of the files -------------------------------------------------

    def _row(self, query: str) -> tuple[Any, ...]:
        row = self._cursor.execute(query).fetchone()
        assert row is not None
        return row

    def _read_columns(self) -> dict[str, str]:
        """Return the model's columns and their types: any month that is a table can tell them."""
        hot = [entry for entry in self._months if entry.state == "hot"]
        if not hot:
            raise SnapshotError(
                f"The model {self.model} has no month that is a table, so its columns are not known. Run "
                "`mnemoduck run`: it makes the months to come."
            )
        rows = self._cursor.execute(f"describe {self._table(hot[-1])}").fetchall()
        return {row[0]: row[1] for row in rows}

    def _path(self, entry: _Entry) -> Path:
        assert entry.file is not None
        return self._home / entry.file

    def _read_columns_of_file(self, entry: _Entry, path: Path) -> list[str]:
        """Return the columns that an archived month has: those that the model had then."""
        if path not in self._columns_of_files:
            try:
                self._columns_of_files[path] = pq.read_schema(path).names
            except (OSError, pa.ArrowException) as error:
                raise SnapshotError(
                    f"The archive of {entry.month:%Y-%m} of {self.model} is missing or cannot be read: "
                    f"{path}. {MENDING}"
                ) from error
        return self._columns_of_files[path]

    def _describe(self, entry: _Entry) -> Month:
        state, size = entry.state, entry.bytes or 0
        times: tuple[Any, ...] = (None, None)
        range_of_times = f"select min({_quote(self._time)}), max({_quote(self._time)})"
        if entry.state == "hot":
            size = self._bytes_of_table(entry)
            times = self._row(f"{range_of_times} from {self._table(entry)}")
        elif entry.state == "cold":
            fault = _fault_of_file(self._path(entry), size)
            if not fault:
                try:
                    times = self._row(f"{range_of_times} from read_parquet({_text(str(self._path(entry)))})")
                except duckdb.Error:
                    fault = "file cannot be read"
            state = f"cold, {fault}" if fault else state
        first, last = (moment and moment.replace(tzinfo=UTC) for moment in times)
        share = 1 - entry.tail_rows / entry.rows if entry.rows else 1.0
        return Month(entry.month, state, entry.rows, size, first, last, share, entry.file)

    def _bytes_of_table(self, entry: _Entry) -> int:
        (size,) = self._row(
            "select count(distinct block) * (select max(block_size) from pragma_database_size() where "
            "database_name = current_database()) from (select unnest(list_append(additional_block_ids, "
            f"block_id)) as block from pragma_storage_info({_text(self._table(entry))})) where block >= 0"
        )
        return int(size or 0)


def _fault_of_file(path: Path, size: int) -> str:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return "file missing"
    except OSError:
        return "file cannot be read"
    return "" if found == size else "file changed"


def _month_of_uuid7(text: str) -> date | None:
    """Return the month of a UUIDv7's time (RFC 9562), None of any other UUID."""
    value = UUID(text).int
    if (value >> 76) & 0xF != 7:
        return None
    try:
        moment = _EPOCH + timedelta(milliseconds=value >> 80)
    except OverflowError:
        return None
    return date(moment.year, moment.month, 1)


def _key_text(name: str, kind: str, value: object) -> str:
    text = str(value)
    if kind == "UUID":
        try:
            return str(UUID(text))
        except ValueError as error:
            raise UsageError(f"{name} must be a UUID; got {text!r}.") from error
    check_unicode(name, text)
    if "\0" in text:
        raise UsageError(f"{name} holds a NUL character, which no key of ours does; got {text!r}.")
    return text


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else _quote(name)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _timestamp(moment: datetime) -> str:
    return f"timestamp '{moment.isoformat(sep=' ')}'"


@overload
def _in_utc(moment: datetime) -> datetime: ...
@overload
def _in_utc(moment: None) -> None: ...
def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)
