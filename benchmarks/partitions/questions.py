"""The questions that are asked of every layout, and how each is put to it.

A question to the months goes through the router (`mnemoduck.partitions`) or through the SQL that users
write; its time includes the routing. A peer gets the SQL that its users would write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from benchmarks.partitions.stream import LAST_MOMENT, ONE_MONTH, Stream
from mnemoduck.partitions import Partitions

WORKING_MEMORY = "working memory: the 7 most important of the last 30 minutes"
ONE_MONTH_BY_TYPE = "one month of 36, counted by type"
LOOKUP = "a memory by its id"
USER_AND_TYPE = "one user and one type over all history: how many, and the last"
LATEST_OF_USER = "one user and one type over all history: the last 20 in full"


@dataclass(frozen=True)
class Question:
    """One way to ask: `ask` runs it and returns its rows; `sql` is what EXPLAIN ANALYZE looks at."""

    name: str
    way: str
    ask: Callable[[], list[tuple[object, ...]]]
    sql: str | None


class Months:
    """Questions to the partitioned model."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, stream: Stream, home: Path) -> None:
        self._connection = connection
        self._stream = stream
        self._partitions = Partitions(connection, "memories", home)

    def questions(self) -> list[Question]:
        key, memory_id = _find(self._connection, "memories", self._stream)
        recent = f"occurred_at > {_literal(LAST_MOMENT - timedelta(minutes=30))}"
        owner = f"scope_key = '{key}'"
        start, end = ONE_MONTH
        return [
            self._routed(
                WORKING_MEMORY,
                lambda: _working_memory(
                    self._partitions.between(LAST_MOMENT - timedelta(minutes=30), LAST_MOMENT), "true"
                ),
            ),
            self._sql(WORKING_MEMORY, "_recent view", _working_memory("memories_recent", recent)),
            self._sql(WORKING_MEMORY, "view of all months", _working_memory("memories", recent)),
            self._routed(ONE_MONTH_BY_TYPE, lambda: _by_type(self._partitions.between(start, end), "true")),
            self._sql(
                ONE_MONTH_BY_TYPE,
                "_between macro",
                _by_type(f"memories_between({_literal(start)}, {_literal(end)})", "true"),
            ),
            self._sql(ONE_MONTH_BY_TYPE, "view of all months", _by_type("memories", _within(start, end))),
            Question(
                LOOKUP,
                "router",
                lambda: [tuple((self._partitions.find(memory_id) or {}).values())],
                f"select * from memories__months.m{start:%Y_%m} where memory_id = '{memory_id}'",
            ),
            self._sql(LOOKUP, "view of all months", _lookup("memories", memory_id)),
            self._sql(
                USER_AND_TYPE,
                "access path",
                _count_and_last("memories__months.access", owner),
            ),
            self._sql(
                USER_AND_TYPE, "view of all months", _count_and_last("memories", f"scope_key = '{key}'")
            ),
            Question(LATEST_OF_USER, "access path, then its months", lambda: self._latest(key), None),
            self._sql(LATEST_OF_USER, "view of all months", _latest("memories", owner)),
        ]

    def _latest(self, key: str) -> list[tuple[object, ...]]:
        found = self._connection.execute(
            f"select memory_id, occurred_at from memories__months.access where scope_key = '{key}' "
            "and memory_type = 'semantic' order by occurred_at desc limit 20"
        ).fetchall()
        rows = self._partitions.fetch((memory_id, occurred_at) for memory_id, occurred_at in found)
        return [tuple(row.values()) for row in rows]

    def _routed(self, name: str, make: Callable[[], str]) -> Question:
        return Question(name, "router", lambda: self._connection.execute(make()).fetchall(), make())

    def _sql(self, name: str, way: str, sql: str) -> Question:
        return Question(name, way, lambda: self._connection.execute(sql).fetchall(), sql)


def plain_questions(connection: duckdb.DuckDBPyConnection, stream: Stream) -> list[Question]:
    """Questions to one table, with or without indexes."""
    _, memory_id = _find(connection, "memories", stream)
    user = f"user_id = '{stream.user_id}'"
    texts = {
        WORKING_MEMORY: _working_memory(
            "memories", f"occurred_at > {_literal(LAST_MOMENT - timedelta(minutes=30))}"
        ),
        ONE_MONTH_BY_TYPE: _by_type("memories", _within(*ONE_MONTH)),
        LOOKUP: _lookup("memories", memory_id),
        USER_AND_TYPE: _count_and_last("memories", user),
        LATEST_OF_USER: _latest("memories", user),
    }
    return [
        Question(name, "one table", lambda sql=sql: connection.execute(sql).fetchall(), sql)  # type: ignore[misc]
        for name, sql in texts.items()
    ]


def only_that_month(connection: duckdb.DuckDBPyConnection) -> Question:
    """The aggregate on a table that holds nothing but the month: what no layout can beat."""
    sql = _by_type("only_month", "true")
    return Question(ONE_MONTH_BY_TYPE, "only that month", lambda: connection.execute(sql).fetchall(), sql)


def _find(connection: duckdb.DuckDBPyConnection, table: str, stream: Stream) -> tuple[str, str]:
    """Return the scope key of the stream's user, and the id of a memory in the middle of the one month."""
    row = connection.execute(
        f"select any_value(scope_key) filter (where user_id = '{stream.user_id}'), "
        f"quantile_disc(memory_id, 0.5) filter (where {_within(*ONE_MONTH)}) from {table}"
    ).fetchone()
    assert row is not None
    assert None not in row, f"the stream has no {stream.user_id}"
    return str(row[0]), str(row[1])


def _working_memory(source: str, condition: str) -> str:
    return (
        f"select memory_id, occurred_at, importance, content from {source} where {condition} "
        "order by importance desc, memory_id limit 7"
    )


def _by_type(source: str, condition: str) -> str:
    return (
        f"select memory_type, count(*), avg(importance) from {source} where {condition} "
        "group by memory_type order by memory_type"
    )


def _lookup(source: str, memory_id: str) -> str:
    return f"select * from {source} where memory_id = '{memory_id}'"


def _count_and_last(source: str, owner: str) -> str:
    return f"select count(*), max(occurred_at) from {source} where {owner} and memory_type = 'semantic'"


def _latest(source: str, owner: str) -> str:
    condition = f"{owner} and memory_type = 'semantic'"
    return f"select * from {source} where {condition} order by occurred_at desc limit 20"


def _within(start: datetime, end: datetime) -> str:
    return f"occurred_at >= {_literal(start)} and occurred_at < {_literal(end)}"


def _literal(moment: datetime) -> str:
    return f"timestamp '{moment.isoformat(sep=' ')}'"
