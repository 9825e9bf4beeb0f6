"""Ways to give connections to threads, on one published snapshot, measured in turns with each other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import duckdb

from benchmarks.suite.hot import MODEL, WrongAnswerError
from benchmarks.suite.load import BLOCKS, WARM_UP_CALLS, Threads, Times, describe
from benchmarks.suite.seed_rows import SETTINGS
from mnemoduck.home import Home
from mnemoduck.partitions import Partitions
from mnemoduck.pipeline.publish import current_snapshot

KEPT, FRESH_CURSOR, FRESH_CONNECTION = (
    "a cursor kept by each thread",
    "a cursor a query",
    "a connection a query",
)
POOL_SIZES = (1, 2, 4, 8, 16)
_SECONDS_OF_A_BLOCK = 1.0
"""Who connects for each statement makes fewer calls, at least one."""


def _cursor(base: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Make a cursor as `Snapshot.cursor` does: the default database is not inherited."""
    cursor = base.cursor()
    cursor.execute("use snapshot")
    return cursor


class Handling(Protocol):
    """Gives connections to threads."""

    def connection(self) -> Any:
        """Return a context with a connection for one statement and its rows."""


class Kept:
    """Each thread keeps a cursor, as `Snapshot.thread_cursor` has it."""

    def __init__(self, base: duckdb.DuckDBPyConnection) -> None:
        self._base = base
        self._of_thread = threading.local()

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = getattr(self._of_thread, "cursor", None)
        if cursor is None:
            cursor = self._of_thread.cursor = _cursor(self._base)
        yield cursor


class Pool:
    """So many cursors that are handed out; who finds none waits in a queue."""

    def __init__(self, base: duckdb.DuckDBPyConnection, size: int) -> None:
        self._free: queue.SimpleQueue[duckdb.DuckDBPyConnection] = queue.SimpleQueue()
        for _ in range(size):
            self._free.put(_cursor(base))

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._free.get()
        try:
            yield cursor
        finally:
            self._free.put(cursor)


class FreshCursor:
    """A cursor is made for each statement and closed after it."""

    def __init__(self, base: duckdb.DuckDBPyConnection) -> None:
        self._base = base

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with _cursor(self._base) as cursor:
            yield cursor


class FreshConnection:
    """The file is connected to for each statement, and opened if no other thread has it open."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect(self._path, read_only=True, config=SETTINGS) as connection:
            yield connection


class Statements:
    """A memory by its id in its month, and a month counted by type, in turns; their rows are known."""

    def __init__(self, home: Home) -> None:
        path = current_snapshot(home)
        if path is None:
            raise RuntimeError(f"{home.path} has published nothing")
        self.path = path
        with duckdb.connect(str(path), read_only=True) as connection:
            months = Partitions(connection, MODEL, home.path)
            drawn = connection.execute(
                f"select memory_id, occurred_at from {MODEL} order by md5(memory_id::varchar) limit 8"
            ).fetchall()
            self._asked: list[tuple[str, int]] = []
            for memory_id, moment in drawn:
                self._asked.append((f"from {months.rows_at([(memory_id, moment)])}", 1))
                begin = datetime(moment.year, moment.month, 1)
                end = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1)
                month = months.between(begin, end, columns=("memory_type", "importance"))
                statement = f"select memory_type, count(*), avg(importance) from {month} group by memory_type"
                self._asked.append((statement, len(connection.execute(statement).fetchall())))

    def calls(self, handling: Handling) -> Callable[[int], None]:
        """Return what asks the statement of a number."""

        def ask(number: int) -> None:
            statement, expected = self._asked[number % len(self._asked)]
            with handling.connection() as connection:
                found = len(connection.execute(statement).fetchall())
            if found != expected:
                raise WrongAnswerError(f"{found} rows, not {expected}: {statement}")

        return ask


def compare_handling(home: Home, threads: int, calls: int) -> dict[str, dict[str, Any]]:
    """Return times of each way by so many threads, each of which makes so many calls, in blocks by turns."""
    statements = Statements(home)
    with ExitStack() as opened:
        # Not the file itself: who connects to that anew would share its instance, and open nothing.
        base = opened.enter_context(_attached(statements.path))
        ways: dict[str, Handling] = {
            KEPT: Kept(base),
            **{f"a pool of {size}": Pool(base, size) for size in POOL_SIZES if size < 2 * threads},
            FRESH_CURSOR: FreshCursor(base),
        }
        found = _in_turns(
            {name: statements.calls(way) for name, way in ways.items()}, ways[KEPT], threads, calls
        )
        # Apart: what it leaves behind in caches and memory slows down who comes after it.
        anew = {FRESH_CONNECTION: statements.calls(FreshConnection(statements.path))}
        return found | _in_turns(anew, ways[KEPT], threads, calls)


def compare_duckdb_threads(
    home: Home, settings: tuple[int, ...], threads: int, calls: int
) -> dict[str, dict[str, Any]]:
    """Return times by a kept cursor, of instances that may work on a query with so many threads."""
    statements = Statements(home)
    with ExitStack() as opened:
        bases = {str(number): opened.enter_context(_attached(statements.path, number)) for number in settings}
        ways = {name: statements.calls(Kept(base)) for name, base in bases.items()}
        return _in_turns(ways, Kept(next(iter(bases.values()))), threads, calls)


@contextmanager
def _attached(path: Path, threads: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a snapshot as `mnemoduck.warehouse` does, in an instance of its own."""
    config = SETTINGS if threads is None else {**SETTINGS, "threads": threads}
    with duckdb.connect(config=config) as connection:
        quoted = str(path).replace("'", "''")
        connection.execute(f"attach '{quoted}' as snapshot (read_only)")
        connection.execute("use snapshot")
        yield connection


def _in_turns(
    ways: dict[str, Callable[[int], None]], floor: Handling, threads: int, calls: int
) -> dict[str, dict[str, Any]]:
    def select_1(_: int) -> None:
        with floor.connection() as connection:
            connection.execute("select 1").fetchall()

    times = {name: Times() for name in ways}
    below = Times()
    each = max(1, calls // BLOCKS)
    with ExitStack() as opened:
        workers = {name: opened.enter_context(Threads(threads)) for name in (*ways, "")}
        for block in range(-1, BLOCKS):
            count = WARM_UP_CALLS if block < 0 else each
            first = max(block, 0) % len(ways)  # another one in each block: nobody always follows the same
            for name, call in [("", select_1), *list(ways.items())[first:], *list(ways.items())[:first]]:
                found = workers[name].time(call, count, _SECONDS_OF_A_BLOCK)
                total = times.get(name, below)
                if block >= 0:
                    total.add(found)
                    total.seconds += found.seconds
    return {name: describe(own, below) for name, own in times.items()}
