"""Many threads and many processes that read one published snapshot, and how they get their connections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from benchmarks.page import table
from benchmarks.suite.asking import MIX, asking_the_mix, time_processes
from benchmarks.suite.handling import KEPT, compare_duckdb_threads, compare_handling
from benchmarks.suite.hot import hot_queries
from benchmarks.suite.load import time_beside
from benchmarks.suite.parts import Found, FoundByScale
from benchmarks.suite.work import Work

NAME = "concurrency"
TITLE = "Many readers at once"

THREADS = (1, 2, 4, 8, 16, 32, 50)
PROCESSES = 8
HANDLING_THREADS = (1, 8, 32)
DUCKDB_THREADS_BY = (1, 8)
_CALLS = 4
"""So many times `work.rounds` calls are made in all, however many threads they are divided between."""
_LEAST_CALLS = 10


def measure(work: Work) -> Found:
    """Return times of the mix by threads and processes, and of each way to give them connections."""
    home = work.home
    found: Found = {"threads": {}, "handling": {}, "duckdb_threads": {}}
    with hot_queries(home, seed=work.seed) as hot:
        ask = asking_the_mix(hot)
        for threads in THREADS:
            own = time_beside(hot.floor, ask, threads, _calls(work, threads))
            found["threads"][str(threads)] = own
            work.tell(
                f"{threads} threads: {own['p50_ms']:.1f} ms, p99 {own['p99_ms']:.1f} ms, "
                f"{own['per_second']:,.0f}/s, {own['errors']} errors"
            )
        found["connections"] = {
            "working memory and lookups": hot.memory.connection_statistics().as_dict(),
            "recall": hot.uncached.connection_statistics().as_dict(),
            "months": hot.reader.connection_statistics.as_dict(),
        }
    found["processes"] = time_processes(home, work.seed, PROCESSES, _calls(work, PROCESSES))
    work.tell(f"{PROCESSES} processes: {found['processes']['per_second']:,.0f}/s")
    for threads in HANDLING_THREADS:
        found["handling"][str(threads)] = compare_handling(home, threads, _calls(work, threads))
    settings = tuple(sorted({1, 2, os.cpu_count() or 1, 2 * (os.cpu_count() or 1)}))
    for threads in DUCKDB_THREADS_BY:
        found["duckdb_threads"][str(threads)] = compare_duckdb_threads(
            home, settings, threads, _calls(work, threads)
        )
    _check(found)
    return found


def _calls(work: Work, threads: int) -> int:
    """Return how many calls each thread makes."""
    return max(_LEAST_CALLS, _CALLS * work.rounds // threads)


def _check(found: Found) -> None:
    """Raise if a call went wrong: errors must be 0, and times of wrong answers say nothing.

    Of ways that mnemoduck does not go, errors are counted and shown.
    """
    loads = [found["processes"], *found["threads"].values()]
    loads += [by[KEPT] for by in found["handling"].values()]
    loads += [load for by in found["duckdb_threads"].values() for load in by.values()]
    errors = [load["first_error"] for load in loads if load["errors"]]
    if errors:
        raise RuntimeError("; ".join(errors))


def ratios(found: Found) -> dict[str, float]:
    """Medians and throughput of the mix, as multiples of those of `select 1` by as many."""
    named = {}
    loads = {f"{threads} threads": load for threads, load in found["threads"].items()}
    for name, load in {**loads, f"{PROCESSES} processes": found["processes"]}.items():
        named[name] = load["p50_ratio"]
        named[f"{name}, throughput"] = load["throughput_ratio"]
    return named


def report(found_by_scale: FoundByScale) -> Iterator[str]:
    """Yield the distribution of latencies, what the connections did, and the ways to give them out."""
    yield (
        f"A mix of {', '.join(MIX)} in turns, each answer checked, on one published snapshot: threads of one "
        f"process, and {PROCESSES} processes of one thread. An error would be a call that failed or found "
        "other rows than there are. x is the median as a multiple of that of `select 1` by as many threads."
    )
    yield ""
    yield from table(
        ["memories", "readers", "p50", "x", "p95", "p99", "worst", "calls a second", "errors"],
        [row for found in found_by_scale.values() for row in _load_rows(found)],
    )
    yield ""
    yield from _report_connections(found_by_scale)
    yield ""
    yield (
        "Ways to give connections to threads: a memory by its id and a month by type in turns, on an "
        "instance like that of a snapshot, in blocks by turns with each other; calls a second, p50 and p99 "
        "in ms, and errors. "
        "Why it is the first: [the decision](decisions/0021-connections.md)."
    )
    yield ""
    yield from _table_of_ways("handling", "threads", found_by_scale)
    yield ""
    yield (
        "With a cursor kept by each thread, how many threads DuckDB may use for a query (`threads` of the "
        "instance, which is the number of processors if it is not set, as in mnemoduck):"
    )
    yield ""
    yield from _table_of_ways("duckdb_threads", "threads that ask", found_by_scale)


def _load_rows(found: Found) -> Iterator[list[str]]:
    loads = {f"{threads} threads": load for threads, load in found["threads"].items()}
    for name, load in {**loads, f"{PROCESSES} processes": found["processes"]}.items():
        yield [
            f"{int(found['memories']):,}",
            name,
            f"{load['p50_ms']:.1f} ms",
            f"{load['p50_ratio']:.1f}",
            *(f"{load[figure]:.1f} ms" for figure in ("p95_ms", "p99_ms", "worst_ms")),
            f"{load['per_second']:,.0f}",
            f"{load['errors']}",
        ]


def _report_connections(found_by_scale: FoundByScale) -> Iterator[str]:
    yield (
        "What the connections had done by then, as `Memory.connection_statistics()` tells it of the process: "
        "cursors that threads keep, those that answered at one time at most, all that were made, and "
        "questions that waited for another thread to look for what has arrived. No thread waits for a "
        "cursor; the threads of a row above, and their cursors, end with it."
    )
    yield ""
    yield from table(
        ["memories", "asked for", "open", "most in use", "made", "waits"],
        [
            [
                f"{int(found['memories']):,}",
                name,
                *(f"{statistics[figure]:,}" for figure in ("open", "most_in_use", "made", "waits")),
            ]
            for found in found_by_scale.values()
            for name, statistics in found["connections"].items()
        ],
    )


def _table_of_ways(kind: str, by: str, found_by_scale: FoundByScale) -> Iterator[str]:
    found_first = next(iter(found_by_scale.values()))[kind]
    ways = list(list(found_first.values())[-1])  # with most threads there are pools of all sizes
    yield from table(
        ["memories", "", *(f"{threads} {by}" for threads in found_first)],
        [
            [
                f"{int(found['memories']):,}",
                way,
                *(_show(found[kind].get(threads, {}).get(way)) for threads in found_first),
            ]
            for found in found_by_scale.values()
            for way in ways
        ],
    )


def _show(load: dict[str, Any] | None) -> str:
    if load is None:
        return ""
    errors = f"; {load['errors']} errors" if load["errors"] else ""
    return f"{load['per_second']:,.0f}; {load['p50_ms']:.1f}, {load['p99_ms']:.1f}{errors}"
