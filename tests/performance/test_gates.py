"""Gates of speed: each hot question alone and by eight threads, and readers while a build is running.

They gate on what was measured in the same run: rows that EXPLAIN ANALYZE counts, processor time as a multiple
of that of `select 1`, time by eight threads as a multiple of that by one; never on seconds. LIMITS are five
times what was measured, so that a busy machine makes none of them fail: only another plan or another way of
asking does, and the rows tell a wrong plan of any size.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from benchmarks.recall.homes import SELECTED, publish_warehouse
from benchmarks.stream import BASE, Shape, generate
from benchmarks.suite.hot import (
    CACHED_ANSWER,
    CACHED_RECALL,
    CONSOLIDATION,
    DAILY,
    LOOKUP,
    MODEL,
    MONTH,
    RANGE,
    RECALL,
    THOUSAND_ROWS,
    TOP,
    WORKING_MEMORY,
    HotQueries,
    HotQuery,
    WrongAnswerError,
    hot_queries,
    make_answers,
)
from benchmarks.suite.load import Call, Threads, time_while

from mnemoduck import Memory
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import OPEN_SUFFIX, SEALED_SUFFIX
from tests.integration.workbench import Workbench, made_once
from tests.performance.cost import check_cost

MEMORIES = 3_000
ANSWERS = 500
THREADS = 8
CALLS_OF_A_THREAD = 2
"""In a block: the least of BLOCKS counts, which nothing else has disturbed."""
BLOCKS = 3

LIMITS = {
    WORKING_MEMORY: 350,
    MONTH: 30,
    LOOKUP: 85,
    CONSOLIDATION: 100,
    DAILY: 75,
    THOUSAND_ROWS: 85,
    RANGE: 35,
    RECALL: 140,
    CACHED_RECALL: 1,
    CACHED_ANSWER: 7,
}
"""At most so many times the processor time of `select 1`."""

THREADS_LIMIT = 8
"""Eight threads take at most so many times as long for as many calls as one thread does."""

MONTHS_READ = {WORKING_MEMORY: 2, MONTH: 1, DAILY: 1, RANGE: 2, CONSOLIDATION: 3, THOUSAND_ROWS: 3}
"""At most so many months are read, of the six that there are."""
ROWS_READ = {LOOKUP: 3, CACHED_ANSWER: 1, RECALL: 4 * TOP, CACHED_RECALL: 0}
"""Of what is found by keys, so many rows; of a memory its month, its time, and itself."""

NEW = 30
_OF_NEW_MEMORIES = ("raw_batches", "stg_events", "stg_memories", MODEL, "search_documents", "search_postings")


@pytest.fixture(scope="module")
def gates_home(shared_folder: None) -> Path:
    """A published home with half a year of a generated stream; do not change it."""

    def build(folder: Path) -> None:
        bench = Workbench(folder / "home")
        home = open_home(bench.home)
        half_a_year = Shape(datetime(2025, 7, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
        _arrive(home, generate(MEMORIES, folder / "stream", shape=half_a_year).segments[BASE])
        _build(bench)
        make_answers(folder / "answers" / "llm_cache.duckdb", ANSWERS)

    return made_once("gates", build)


def _arrive(home: Home, segments: list[Path]) -> None:
    for segment in segments:
        opened = home.inbox / segment.with_suffix(OPEN_SUFFIX).name
        segment.rename(opened)
        opened.rename(opened.with_suffix(SEALED_SUFFIX))


def _build(bench: Workbench, *selected: str) -> None:
    """Build models, by default what the questions read, and publish what was built."""
    done = bench.dbt("run", "--select", *(selected or SELECTED))
    assert done.code == 0, done.out + done.err
    publish_warehouse(Home(bench.home))


@pytest.fixture(scope="module")
def hot(gates_home: Path) -> Iterator[HotQueries]:
    with hot_queries(Home(gates_home / "home"), gates_home / "answers" / "llm_cache.duckdb") as made:
        yield made


def check_plan(hot: HotQueries, name: str) -> None:
    """Fail if a variant of a question reads other months than it is about, or more rows by a key."""
    largest = max(count for _, _, count in hot.months)
    for scans in hot.scans(name):
        months = [table for table, rows in scans.items() if rows and table.startswith(f"{MODEL}__months.m")]
        rows = sum(scans.values())
        if name in MONTHS_READ:
            assert len(months) <= MONTHS_READ[name], f"it reads {len(months)} months: {scans}"
            # DuckDB scans a month a second time for the columns of the rows that `limit` lets through.
            assert rows <= 2 * MONTHS_READ[name] * largest, f"it reads {rows:,} rows: {scans}"
        else:
            assert rows <= ROWS_READ[name], f"it reads {rows:,} rows: {scans}"


def check_threads(call: Call, limit: float) -> None:
    """Fail if eight threads get a wrong answer, or take much longer for as many calls than one does."""
    with Threads(THREADS) as many, Threads(1) as one:
        blocks = [
            (many.time(call, CALLS_OF_A_THREAD), one.time(call, CALLS_OF_A_THREAD * THREADS))
            for _ in range(BLOCKS)
        ]
    for threads, alone in blocks:
        assert threads.errors == 0, threads.first_error
        assert len(threads.milliseconds) == len(alone.milliseconds)
    ratio = min(threads.seconds for threads, _ in blocks) / min(alone.seconds for _, alone in blocks)
    assert ratio <= limit, f"{THREADS} threads take {ratio:.1f} times as long as one, more than {limit}"


@pytest.mark.parametrize("name", LIMITS)
def test_a_hot_question_reads_what_it_is_about_and_costs_a_few_times_what_select_1_does(
    hot: HotQueries, name: str
) -> None:
    check_plan(hot, name)
    check_cost(hot.floor, hot.queries[name], LIMITS[name])


@pytest.mark.parametrize("name", LIMITS)
def test_a_hot_question_is_answered_to_eight_threads_on_one_snapshot(hot: HotQueries, name: str) -> None:
    snapshot = hot.reader.get_published()
    check_threads(hot.queries[name], THREADS_LIMIT)
    assert hot.reader.get_published() is snapshot


def test_a_mixed_load_is_answered_to_eight_threads_on_one_snapshot(hot: HotQueries) -> None:
    check_cost(hot.floor, hot.mixed, sum(LIMITS.values()) / len(LIMITS))
    check_threads(hot.mixed, THREADS_LIMIT)


def test_eight_readers_are_answered_while_a_build_runs_and_read_what_it_publishes(
    gates_home: Path, tmp_path: Path
) -> None:
    shutil.copytree(gates_home / "home", tmp_path / "home")
    home = Home(tmp_path / "home")
    with Memory(home.path) as memory:
        for number in range(NEW):
            memory.remember(f"what arrives before the build, number {number}", user_id="user-of-the-build")
    with hot_queries(home) as hot, ThreadPoolExecutor(1) as pool:
        before = hot.reader.get_published().path
        build = pool.submit(_build, Workbench(home.path), *_OF_NEW_MEMORIES)
        found = time_while(lambda: not build.done(), hot.floor, hot.mixed, THREADS, CALLS_OF_A_THREAD)
        build.result()
        assert (found["errors"], found.get("first_error")) == (0, None)
        assert found["calls"] >= THREADS * CALLS_OF_A_THREAD
        assert found["throughput_ratio"] <= 2 * sum(LIMITS.values()) / len(LIMITS)
        assert hot.reader.get_published().path != before
        rows = hot.memory.sql(f"select count(*) as rows from {MODEL} where user_id = 'user-of-the-build'")
        assert rows["rows"][0] == NEW


def test_the_gates_notice_a_question_that_reads_all_months(hot: HotQueries) -> None:
    begin, _, count = hot.months[-1]

    def ask(_: int) -> int:
        cursor = hot.reader.get_published().thread_cursor()
        # What keeps DuckDB from leaving months out: it cannot know what the function returns.
        text = f"select * from {MODEL} where strftime(occurred_at, '%Y-%m') = '{begin:%Y-%m}'"
        return len(cursor.execute(text).fetchall())

    through_all = replace(hot.queries[MONTH], ask=ask, expected=[count])
    through_all(0)
    asked = hot.queries | {MONTH: through_all}
    with (
        mock.patch.object(hot, "queries", asked),
        pytest.raises(AssertionError, match="it reads 6 months"),
    ):
        check_plan(hot, MONTH)


def test_the_gates_notice_what_is_slow_what_waits_and_what_is_wrong(hot: HotQueries) -> None:
    def slow(_: int) -> int:
        return sum(range(1_000_000))

    with pytest.raises(AssertionError, match="times what `select 1` does"):
        check_cost(hot.floor, slow, LIMITS[CACHED_RECALL])

    here: list[int] = []

    def waits_for_others(_: int) -> None:
        here.append(1)
        time.sleep(0.002)
        if len(here) > 1:
            time.sleep(0.3)
        here.pop()

    with pytest.raises(AssertionError, match="8 threads take"):
        check_threads(waits_for_others, limit=1)

    wrong = HotQuery("a question", lambda variant: variant, expected=[0, 2])
    wrong(0)
    with pytest.raises(WrongAnswerError, match="variant 1: 1 rows, not 2"):
        wrong(1)
    with pytest.raises(AssertionError, match="WrongAnswerError"):
        check_threads(wrong, THREADS_LIMIT)
