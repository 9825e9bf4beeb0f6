"""The table that the seed claims were made on, filled with texts of the stream, and the same queries."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.stream import BASE, Stream
from benchmarks.timing import WARM_UP_ROUNDS, Timing, describe_times

ROWS = 10_000
THREADS = 8
TOP, ACTIVE_ABOVE, USED_AT_LEAST = 7, 0.6, 2
BATCHES, BATCH = 3, 1_000
MONTH = ("2025-12-01", "2026-01-01")
"""The newest month of the stream: the claim's "current month", so that the answer is the same every day."""

_SCHEMA = """
    create table memories (
        memory_id uuid,
        content varchar,
        concepts varchar[],
        activation_strength double,
        created_at timestamp,
        last_accessed_at timestamp,
        access_count integer,
        importance_score double,
        memory_type varchar
    )
"""
_FILL = """
    insert into memories
    with told as (
        select * from read_json(
            $paths, format = 'newline_delimited',
            columns = {
                'event_id': 'uuid', 'event_type': 'varchar', 'occurred_at': 'timestamp',
                'payload': 'struct(content varchar, memory_type varchar)'
            }
        )
        where event_type = 'memory'
    )
    select
        told.event_id,
        told.payload.content,
        list_sort(list_distinct(regexp_extract_all(lower(told.payload.content), '[a-z]{5,}')))[:4],
        drawn.activation,
        told.occurred_at,
        case
            when drawn.uses = 0 then told.occurred_at
            else told.occurred_at + to_microseconds(
                cast(epoch_us($until::timestamp - told.occurred_at) * drawn.since as bigint)
            )
        end,
        drawn.uses,
        drawn.importance,
        coalesce(told.payload.memory_type, 'episodic')
    from (
        select *, row_number() over (order by occurred_at, event_id) - 1 as place from told
    ) as told
    inner join drawn on told.place = drawn.place
    order by told.occurred_at, told.event_id
"""

SETTINGS: dict[str, str | bool | int | float | list[str]] = {"late_materialization_max_rows": 0}
"""As a published snapshot is opened (`mnemoduck.warehouse`)."""

TOP_BY_ACTIVATION = "top 7 by activation"
TOP_NARROW = "top 7 by activation, ids only"
CONSOLIDATION = "consolidation batch, 3 x 1,000 rows"
CURRENT_MONTH = "current month by type"
DAILY = "two-level daily aggregation"


@dataclass(frozen=True)
class SeedQuery:
    """One query, how many rows it must return, and the sum that their last column must have, if any."""

    sql: str
    rows: int
    counted: int | None = None

    def ask(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Ask it and check what it returns.

        Raises:
            RuntimeError: other rows came back than there are.
        """
        cursor = connection.execute(self.sql)
        rows = cursor.fetchall()
        counted = None if self.counted is None else sum(row[-1] for row in rows)
        if (len(rows), counted) != (self.rows, self.counted):
            raise RuntimeError(
                f"{len(rows)} rows of {counted} memories, not {self.rows} of {self.counted}: {self.sql}"
            )


def make_seed_rows(stream: Stream, path: Path, seed: int, rows: int = ROWS) -> None:
    """Write the table to a DuckDB file: texts, types and times of the stream's base, the rest drawn.

    Activation is u^1.6 of a uniform u: 27 % are above 0.6. Uses follow a Pareto law of exponent 1.25: a
    quarter has two or more. Importance is the mean of two uniforms. The last access of what was used lies
    anywhere between its creation and the end of the stream.

    Raises:
        RuntimeError: the stream has another number of memories than `rows`.
    """
    path.unlink(missing_ok=True)
    random = np.random.default_rng(seed)
    drawn = pa.table(
        {
            "place": np.arange(rows),
            "activation": np.round(random.random(rows) ** 1.6, 4),
            "uses": np.minimum((1 - random.random(rows)) ** -0.8 - 1, 1_000).astype(np.int32),
            "importance": np.round((random.random(rows) + random.random(rows)) / 2, 3),
            "since": random.random(rows),
        }
    )
    with duckdb.connect(str(path)) as connection:
        connection.register("drawn", drawn)
        connection.execute(_SCHEMA)
        connection.execute(_FILL, {"paths": [str(part) for part in stream.segments[BASE]], "until": MONTH[1]})
        row = connection.execute("select count(*) from memories").fetchone()
        if row != (rows,):
            raise RuntimeError(f"{row} rows were written, not {rows:,}")


def seed_queries(path: Path) -> dict[str, SeedQuery]:
    """Return the queries by name; what they must return is counted in Python, from all rows of the file."""
    with duckdb.connect(str(path), read_only=True) as connection:
        told = connection.execute(
            "select activation_strength, access_count, created_at, memory_type from memories order by rowid"
        ).fetchall()
    begin, end = MONTH
    active = sum(strength > ACTIVE_ABOVE and uses >= USED_AT_LEAST for strength, uses, *_ in told)
    types_of_month = [kind for *_, at, kind in told if begin <= f"{at:%Y-%m-%d}" < end]
    batched = [(place // BATCH, kind) for place, (*_, kind) in enumerate(told[: BATCHES * BATCH])]
    if active < TOP or not types_of_month:
        raise RuntimeError(f"{active} rows are active and {len(types_of_month)} of the month: too few")
    return {
        TOP_BY_ACTIVATION: SeedQuery(
            "select memory_id, content, concepts, activation_strength, importance_score, memory_type "
            f"from memories where activation_strength > {ACTIVE_ABOVE} and access_count >= {USED_AT_LEAST} "
            f"order by activation_strength desc limit {TOP}",
            TOP,
        ),
        TOP_NARROW: SeedQuery(
            "select memory_id, activation_strength from memories "
            f"where activation_strength > {ACTIVE_ABOVE} and access_count >= {USED_AT_LEAST} "
            f"order by activation_strength desc limit {TOP}",
            TOP,
        ),
        CONSOLIDATION: SeedQuery(
            f"""
            select
                rowid // {BATCH} as batch, memory_type, avg(activation_strength), avg(importance_score),
                max(last_accessed_at), sum(access_count), count(*) as memories
            from memories where rowid < {BATCHES * BATCH} group by batch, memory_type
            """,
            len(set(batched)),
            len(batched),
        ),
        CURRENT_MONTH: SeedQuery(
            "select memory_type, avg(activation_strength), count(*) as memories from memories "
            f"where created_at >= timestamp '{begin}' and created_at < timestamp '{end}' "
            "group by memory_type",
            len(set(types_of_month)),
            len(types_of_month),
        ),
        DAILY: SeedQuery(
            """
            with daily as (
                select
                    date_trunc('day', created_at) as day, memory_type, count(*) as memories,
                    avg(activation_strength) as activation, max(importance_score) as importance
                from memories group by all
            )
            select
                memory_type, avg(memories), max(memories), avg(activation), max(importance),
                count(*) as days, sum(memories) as memories
            from daily group by memory_type
            """,
            len({kind for *_, kind in told}),
            len(told),
        ),
    }


def time_worst_of_threads(
    connection: duckdb.DuckDBPyConnection, queries: Sequence[SeedQuery], rounds: int
) -> Timing:
    """Time the slowest of THREADS threads that begin at once, a cursor each; the floor is theirs as well.

    In a round each asks one query, in the next each the one after it.
    """
    own, floor = [], []
    with _threads(connection) as ask_at_once:
        for number in range(-WARM_UP_ROUNDS, rounds):
            below = ask_at_once([SeedQuery("select 1", 1)] * THREADS)
            slowest = ask_at_once([queries[(number + place) % len(queries)] for place in range(THREADS)])
            if number >= 0:
                floor.append(below * 1e3)
                own.append(slowest * 1e3)
    return describe_times(own, floor)


@contextmanager
def _threads(connection: duckdb.DuckDBPyConnection) -> Iterator[Any]:
    """Give a function that has each thread ask a query at once and returns the seconds of the slowest."""
    cursors = [connection.cursor() for _ in range(THREADS)]
    barrier = threading.Barrier(THREADS)

    def ask(place: int, query: SeedQuery) -> float:
        barrier.wait()
        started = time.perf_counter()
        query.ask(cursors[place])
        return time.perf_counter() - started

    with ThreadPoolExecutor(THREADS) as pool:
        yield lambda queries: max(pool.map(ask, range(THREADS), queries))
