"""The questions that are asked all the time: alone, by eight threads, and while a build is running."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.recall.measure import counted_scans
from benchmarks.suite.hot import MIXED, HotQueries, hot_queries, make_answers
from benchmarks.suite.load import Call, time_beside, time_while
from benchmarks.suite.parts import Found, FoundByScale
from benchmarks.suite.work import Work
from mnemoduck import Memory
from mnemoduck.home import HOME_VARIABLE, Home

NAME = "queries"
TITLE = "Hot queries"

THREADS = 8
ANSWERS_SHARE = 0.1
"""So many answers of a model are in the cache that is looked up, as a share of the memories."""
REMEMBERED = 500
"""So many memories arrive for the build that runs while questions are asked."""
BLOCK_CALLS = 20

GROWS_AT_MOST = 2.0
"""Times, from the smallest to the largest scale: the goal for each question."""

ALONE, TOGETHER = "alone", "threads"


def measure(work: Work) -> Found:
    """Return the times of each question at a scale, as multiples of `select 1` by as many threads."""
    home = work.home
    answers = make_answers(
        work.empty_folder("answers") / "llm_cache.duckdb", round(work.memories * ANSWERS_SHARE)
    )
    found: Found = {"queries": {}}
    with hot_queries(home, answers, work.seed) as hot:
        calls: dict[str, Call] = {**hot.queries, MIXED: hot.mixed}
        for name, call in calls.items():
            own: dict[str, Any] = {}
            own[ALONE] = time_beside(hot.floor, call, 1, work.rounds)
            own[TOGETHER] = time_beside(hot.floor, call, THREADS, work.rounds // 2)
            if name in hot.queries:
                own["rows"] = statistics.median(hot.queries[name].expected)
                own["rows_scanned"] = count_rows_scanned(hot, name)
            found["queries"][name] = own
            work.tell(
                f"{name}: {own[ALONE]['p50_ms']:.2f} ms, {own[ALONE]['p50_ratio']:.1f} x select 1; "
                f"{THREADS} threads {own[TOGETHER]['p50_ratio']:.1f} x"
            )
        found["while_building"] = _while_building(home, hot)
        work.tell(
            f"while building: {found['while_building']['p50_ratio']:.1f} x, "
            f"{found['while_building']['errors']} errors"
        )
    _check(found)
    return found


def count_rows_scanned(hot: HotQueries, name: str) -> int:
    """Return how many rows of tables a question reads by EXPLAIN ANALYZE: the median of its variants."""
    counts = []
    query = hot.queries[name]
    for variant in range(len(query.expected)):
        rows: dict[str, int] = {}
        with counted_scans(rows):
            query(variant)
        counts.append(sum(rows.values()))
    return int(statistics.median(counts))


def _while_building(home: Home, hot: HotQueries) -> dict[str, Any]:
    """Ask the mixed load by eight threads while `mnemoduck run` builds and publishes what just arrived."""
    before = hot.reader.get_published().path
    with Memory(home.path) as memory:
        for number in range(REMEMBERED):
            memory.remember(f"what arrives before build number {number}", user_id="user-of-the-build")
    environment = {**os.environ, HOME_VARIABLE: str(home.path), "MNEMODUCK_LLM": "off"}
    log = home.path / "build.out"
    with log.open("w") as out:
        build = subprocess.Popen(
            [sys.executable, "-c", "from mnemoduck.cli import main; main()", "run"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            found = time_while(lambda: build.poll() is None, hot.floor, hot.mixed, THREADS, BLOCK_CALLS)
        finally:
            build.wait()
    if build.returncode != 0:
        raise RuntimeError(f"the build failed:\n{log.read_text()}")
    if hot.reader.get_published().path == before:
        raise RuntimeError("the build published nothing: no reader went from one snapshot to the next")
    return found


def _check(found: Found) -> None:
    """Raise if a call went wrong: times of wrong answers say nothing."""
    loads = [own[kind] for own in found["queries"].values() for kind in (ALONE, TOGETHER)]
    errors = [load["first_error"] for load in [*loads, found["while_building"]] if load["errors"]]
    if errors:
        raise RuntimeError("; ".join(errors))


def ratios(found: Found) -> dict[str, float]:
    """Medians and throughput as multiples of those of `select 1`."""
    named = {}
    for name, own in found["queries"].items():
        named[f"{name}, alone"] = own[ALONE]["p50_ratio"]
        named[f"{name}, {THREADS} threads"] = own[TOGETHER]["p50_ratio"]
        named[f"{name}, {THREADS} threads, throughput"] = own[TOGETHER]["throughput_ratio"]
    named[f"{MIXED}, {THREADS} threads while building"] = found["while_building"]["p50_ratio"]
    return named


def report(found_by_scale: FoundByScale) -> Iterator[str]:
    yield ""
