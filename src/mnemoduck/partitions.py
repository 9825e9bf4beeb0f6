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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.scope import check_unicode

_SUFFIX = "__months"
_EPOCH = datetime(1970, 1, 1)
_LAST_MILLISECOND = int((datetime(9999, 12, 31) - _EPOCH).total_seconds()) * 1000
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
        self._schema = _name(model + _SUFFIX)
        (text,) = self._row(f"select settings from {self._schema}.settings")
        settings = json.loads(text)
        self._key: list[str] = settings["unique_key"]
        self._time: str = settings["time"]
        self._months = [
            _Entry(*row)
            for row in cursor.execute(
                "select month, state, row_count, tail_rows, archive_file, archive_bytes "
                f"from {self._schema}.catalog order by month"
            ).fetchall()
        ]
        self._by_month = {entry.month: entry for entry in self._months}
        self._columns = self._read_columns()
        self._columns_of_files: dict[str, list[str]] = {}

    def on(self, cursor: duckdb.DuckDBPyConnection) -> Partitions:
        """Return the same partitions for another cursor on the same database; nothing is read again."""
        other = copy.copy(self)
        other._cursor = cursor
        return other

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
        branches = [
            self._branch(entry, begin, end, columns)
            for entry in self._months
            if entry.state != "dropped"
            and (begin is None or begin < entry.end)
            and (end is None or entry.begin < end)
            and (begin is None or end is None or begin < end)
        ]
        if not branches:
            nulls = [f"cast(null as {self._type(column)}) as {_quote(column)}" for column in columns or self._columns]
            return f"(select {', '.join(nulls)} where false)"
        (first, *others) = branches
        if not others and (table := re.fullmatch(r"select \* from (\S+)", first)):
            return table[1]
        return f"({' union all '.join(branches)})"

    def find(self, key: object) -> dict[str, Any] | None:
        """Return the row of a key, by column, or None. Looks into the month that the key tells, then into
        that of key_months, and into no other.

        Args:
            key: the value of the unique key; of several columns a sequence of their values.

        Raises:
            UsageError: the key cannot be one of this model.
        """
        literals = self._literals(key)
        for entry in self._places(literals):
            # The key alone in the condition: DuckDB uses the index for nothing else.
            row = self._cursor.execute(
                f"select * from {self._source(entry)} where {self._equals(literals)}"
            ).fetchone()
            if row is not None:
                return dict(zip(self._columns, row, strict=True))
        return None

    def fetch(self, places: Iterable[tuple[object, datetime]]) -> list[dict[str, Any]]:
        """Return the rows of keys whose event times are known, in the order that was asked for.

        For what was ranked on few columns, such as those of `access`: it reads the wide rows of the
        winners, from their months only. A key that has no row at its time is left out.
        """
        asked = [(self._literals(key), _in_utc(time)) for key, time in places]
        by_month: dict[date, list[str]] = {}
        for literals, time in asked:
            assert time is not None
            by_month.setdefault(date(time.year, time.month, 1), []).append(f"({', '.join(literals)})")
        key = ", ".join(map(_quote, self._key))
        branches = [
            f"select {self._match_columns()} as matched, * from {self._source(entry)} "
            f"where ({key}) in ({', '.join(wanted)})"
            for month, wanted in by_month.items()
            if (entry := self._by_month.get(month)) and entry.state != "dropped"
        ]
        if not branches:
            return []
        rows = self._cursor.execute(" union all ".join(branches)).fetchall()
        found = {row[0]: dict(zip(self._columns, row[1:], strict=True)) for row in rows}
        wanted_rows = [found.get(_plain(literals)) for literals, _ in asked]
        return [row for row in wanted_rows if row is not None]

    @cached_property
    def cold_files(self) -> list[Path]:
        """The files of archived months."""
        return [self._path(entry) for entry in self._months if entry.file]
