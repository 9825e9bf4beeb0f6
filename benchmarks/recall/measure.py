"""Times recall through `Memory.recall`, in turns with `select 1` and with SQLite's FTS5 on the same texts.

Nothing is timed for longer than it has seconds for: where an engine is slow, fewer queries are asked, and
the result says how many there were.
"""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any, cast
from unittest.mock import patch

import duckdb
import numpy as np

from benchmarks.recall.peers import Fts5
from benchmarks.recall.queries import Question
from mnemoduck import Memory
from mnemoduck.home import Home
from mnemoduck.partitions import Partitions
from mnemoduck.warehouse import Snapshot

THREADS = 8
TOP = 10
FEWEST = 20
"""So many queries are timed, however long they take."""

CACHED_QUESTIONS = 16
_WARM_UP = 3

Ask = Callable[[Question], int]
"""Asks a question, and returns how many memories answered."""


@dataclass
class Latencies:
    """Milliseconds of calls, and how many of them went wrong: an error, or no answer."""

    milliseconds: list[float] = field(default_factory=list)
    errors: int = 0

    def time(self, ask: Ask, question: Question) -> None:
        started = time.perf_counter_ns()
        try:
            answers = ask(question)
        except Exception:  # counted, and the result must be 0
            answers = 0
        self.milliseconds.append((time.perf_counter_ns() - started) / 1e6)
        self.errors += answers == 0

    def as_dict(self, select_1_ms: float | None = None) -> dict[str, Any]:
        if not self.milliseconds:
            return {"calls": 0, "errors": self.errors}
        p50, p99 = (float(value) for value in np.percentile(self.milliseconds, [50, 99]))
        found = {"p50_ms": round(p50, 5), "p99_ms": round(p99, 5)}
        if select_1_ms is not None:
            found |= {"p50_ratio": round(p50 / select_1_ms, 4), "p99_ratio": round(p99 / select_1_ms, 4)}
        return {"calls": len(self.milliseconds), "errors": self.errors, **found}


LEXICAL: dict[str, Any] = {"weights": {"recall_prior_weight": 0}, "times": "off"}
"""Recall by words alone: without how well a memory is held, and the times that a query names."""


def asking(memory: Memory, **arguments: Any) -> Ask:
    """Return what asks a memory, without recording that it was asked: peers record nothing either."""
    unrecorded = {"record": False} if "record" in inspect.signature(memory.recall).parameters else {}
    recall: Callable[..., Sequence[Any]] = memory.recall

    def ask(question: Question) -> int:
        return len(recall(question.text, user_id=question.user, limit=TOP, **unrecorded, **arguments))

    return ask


def measure_recall(
    home: Home, questions: Sequence[Question], fts5: Callable[[Question], int] | None, seconds: float
) -> dict[str, Any]:
    """Return times of recall: cold and cached, one thread and THREADS of them, beside FTS5's.

    Args:
        questions: different ones; those that are asked cold are asked for the first time.
        fts5: asks SQLite the same; None where it could not be built.
        seconds: at most about so many for each of the four.
    """
    left = iter(questions)
    found: dict[str, Any] = {}
    started = time.perf_counter()
    with Memory(home.path) as memory:
        ask = asking(memory)
        ask(next(left))
        found["first_ms"] = round((time.perf_counter() - started) * 1e3, 3)
        for _ in range(_WARM_UP):
            ask(next(left))
        half = [next(left) for _ in range((len(questions) - 1 - _WARM_UP) // 2)]
        found |= _in_turns(ask, asking(memory, **LEXICAL), fts5, half, seconds)
        floor = found["select_1_ms"]
        found["cold_threads"] = _in_threads(ask, left, seconds, floor)
        again = half[:CACHED_QUESTIONS]
        found["cached"] = _cached(ask, again, seconds / 4, floor)
        found["cached_threads"] = _cached_in_threads(ask, again, seconds / 4, floor)
    return found


def _in_turns(
    ask: Ask,
    ask_by_words: Ask,
    fts5: Callable[[Question], int] | None,
    questions: Sequence[Question],
    seconds: float,
) -> dict[str, Any]:
    """Ask each question once: `select 1`, FTS5 for its telling words and for all of them, then us.

    Of two questions one is asked by words alone.

    So no question is asked twice: its words would be known by then.
    """
    floor, by_words, ours, theirs, as_asked = (Latencies() for _ in range(5))
    connection = duckdb.connect()
    deadline = time.perf_counter() + seconds
    busy = 0.0
    for number, question in enumerate(questions):
        if number >= FEWEST and time.perf_counter() > deadline:
            break
        floor.time(lambda _: len(connection.execute("select 1").fetchall()), question)
        if fts5 is not None:
            theirs.time(fts5, question)
            all_words = tuple(dict.fromkeys(question.text.split()))
            as_asked.time(fts5, replace(question, words=all_words))
        if number % 2:
            by_words.time(ask_by_words, question)
            continue
        started = time.perf_counter()
        ours.time(ask, question)
        busy += time.perf_counter() - started
    connection.close()
    floor_ms = float(np.median(floor.milliseconds))
    return {
        "select_1_ms": round(floor_ms, 5),
        "cold": ours.as_dict(floor_ms) | {"calls_per_second": round(len(ours.milliseconds) / busy, 1)},
        "lexical": by_words.as_dict(floor_ms),
        "fts5": theirs.as_dict(floor_ms) if fts5 is not None else None,
        "fts5_as_asked": as_asked.as_dict(floor_ms) if fts5 is not None else None,
    }


def _in_threads(ask: Ask, questions: Iterator[Question], seconds: float, floor_ms: float) -> dict[str, Any]:
    mutex = threading.Lock()
    deadline = time.perf_counter() + seconds

    def work() -> Latencies:
        own = Latencies()
        while time.perf_counter() < deadline or len(own.milliseconds) * THREADS < FEWEST:
            with mutex:
                question = next(questions, None)
            if question is None:
                break
            own.time(ask, question)
        return own

    return _sum_up(work, floor_ms)


def _cached(ask: Ask, questions: Sequence[Question], seconds: float, floor_ms: float) -> dict[str, Any]:
    """Ask what was asked before: each call timed, then as many as there is time for, not timed singly."""
    own = Latencies()
    deadline = time.perf_counter() + seconds
    for question in cycle(questions):
        own.time(ask, question)
        if time.perf_counter() > deadline:
            break
    calls = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not calls:
        for question in questions:
            ask(question)
        calls += len(questions)
    return own.as_dict(floor_ms) | {"calls_per_second": round(calls / elapsed, 1)}


def _cached_in_threads(
    ask: Ask, questions: Sequence[Question], seconds: float, floor_ms: float
) -> dict[str, Any]:
    deadline = time.perf_counter() + seconds

    def work() -> Latencies:
        own = Latencies()
        for question in cycle(questions):
            own.time(ask, question)
            if time.perf_counter() > deadline:
                break
        return own

    return _sum_up(work, floor_ms)


def _sum_up(work: Callable[[], Latencies], floor_ms: float) -> dict[str, Any]:
    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        each = [future.result() for future in [pool.submit(work) for _ in range(THREADS)]]
    elapsed = time.perf_counter() - started
    total = Latencies([value for own in each for value in own.milliseconds], sum(own.errors for own in each))
    return total.as_dict(floor_ms) | {
        "threads": THREADS,
        "calls_per_second": round(len(total.milliseconds) / elapsed, 1),
    }


def measure_scans(home: Home, questions: Iterable[Question]) -> dict[str, Any]:
    """Return rows that recall scans of each table, by EXPLAIN ANALYZE of what it executes: medians.

    What stays in the process from one question to the next is not scanned, so it is measured without any.

    DuckDB skips row groups of 122,880 rows whose range of values cannot match, and counts the rest.
    """
    per_question: list[dict[str, int]] = []
    with Memory(home.path, resident_bytes=0) as memory:
        ask = asking(memory)
        for question in questions:
            rows: dict[str, int] = {}
            with counted_scans(rows):
                ask(question)
            per_question.append(rows)
    tables = sorted({table for rows in per_question for table, count in rows.items() if count})
    return {
        "questions": len(per_question),
        "rows_scanned": {
            table: int(np.median([rows.get(table, 0) for rows in per_question])) for table in tables
        },
        "most_rows_scanned": {table: max(rows.get(table, 0) for rows in per_question) for table in tables},
    }


@contextmanager
def counted_scans(rows: dict[str, int]) -> Iterator[None]:
    """Have every SELECT on a snapshot explained before it is executed; add up the rows it scans by table."""
    plain, plain_on = Snapshot.thread_cursor, Partitions.on

    class Explaining:
        def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
            self._cursor = cursor

        def __getattr__(self, name: str) -> Any:
            return getattr(self._cursor, name)

        def execute(self, statement: Any, parameters: Any = None) -> Any:
            if isinstance(statement, str) and statement.lstrip().lower().startswith(("select", "with")):
                explained = self._cursor.execute(
                    f"explain (analyze, format json) {statement}", parameters or None
                ).fetchone()
                assert explained is not None
                _add_rows(json.loads(explained[1]), rows)
            return self._cursor.execute(statement, parameters or None)

    def on(months: Partitions, cursor: duckdb.DuckDBPyConnection) -> Partitions:
        return plain_on(months, cast(Any, Explaining(cursor)))

    with (
        patch.object(Snapshot, "thread_cursor", lambda snapshot: Explaining(plain(snapshot))),
        patch.object(Partitions, "on", on),
    ):
        yield


def _add_rows(node: dict[str, Any], rows: dict[str, int]) -> None:
    if "SCAN" in str(node.get("operator_name", "")).upper():
        table = str(node.get("extra_info", {}).get("Table", ""))
        if table:
            name = table.split(".", 1)[1] if table.count(".") > 1 else table
            rows[name] = rows.get(name, 0) + int(node.get("operator_rows_scanned", 0))
    for child in node.get("children", []):
        _add_rows(child, rows)


def ask_fts5(index: Fts5, is_shared: bool) -> Callable[[Question], int]:
    """Return what asks FTS5 for the telling words of a question, in the scope of its user if it is shared."""
    return lambda question: len(index.search(question.words, question.user if is_shared else None))
