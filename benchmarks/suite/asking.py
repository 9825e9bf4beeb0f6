"""`python -m benchmarks.suite.asking HOME SEED CALLS`: one of several processes that ask the mix at once.

It prints a line when it is ready, and after each line that it gets another one, with what it measured: first
of `select 1`, then of the mix.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite.hot import LOOKUP, MONTH, RECALL, WORKING_MEMORY, HotQueries, hot_queries
from benchmarks.suite.load import WARM_UP_CALLS, Threads, Times, describe
from mnemoduck.home import Home, open_home

MIX = (WORKING_MEMORY, LOOKUP, MONTH, RECALL)
"""What is asked in turns: recall is computed each time, none of it is cached answers."""

PROJECT = Path(__file__).resolve().parents[2]


def asking_the_mix(hot: HotQueries) -> Callable[[int], None]:
    """Return what asks one of MIX after the other, each time the next variant, and checks the answer."""
    queries = [hot.queries[name] for name in MIX]

    def ask(number: int) -> None:
        queries[number % len(queries)](number // len(queries))

    return ask


def time_processes(home: Home, seed: int, processes: int, calls: int) -> dict[str, Any]:
    """Return times of so many processes that ask the mix at once, each so often, beside `select 1` by all.

    `peak_mb` is the most memory that one of them held.

    Raises:
        RuntimeError: a process failed.
    """
    command = [sys.executable, "-m", "benchmarks.suite.asking", str(home.path), str(seed), str(calls)]
    started = [
        subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    try:
        for process in started:
            _next_line(process)
        floor, own = (_ask_at_once(started) for _ in range(2))
        return {
            "processes": processes,
            **describe(_sum_up(own), _sum_up(floor)),
            "peak_mb": round(max(one["peak_mb"] for one in own)),
        }
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _ask_at_once(processes: Sequence[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [json.loads(_next_line(process)) for process in processes]


def _next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process that asks ended with {process.wait()}")
    return line


def _sum_up(measured: Sequence[dict[str, Any]]) -> Times:
    total = Times()
    for one in measured:
        total.add(Times(one["milliseconds"], one["errors"], one["first_error"]))
    total.seconds = max(one["ended"] for one in measured) - min(one["began"] for one in measured)
    return total


def main(home: str, seed: str, calls: str) -> None:
    """Measure twice, each time when a line comes."""
    with hot_queries(open_home(home), seed=int(seed)) as hot, Threads(1) as thread:
        asked = (hot.floor, asking_the_mix(hot))
        for call in asked:
            thread.time(call, 4 * WARM_UP_CALLS)
        print("ready", flush=True)
        for call in asked:
            sys.stdin.readline()
            began = time.monotonic()
            times = thread.time(call, int(calls))
            found = {
                "milliseconds": [round(value, 4) for value in times.milliseconds],
                "errors": times.errors,
                "first_error": times.first_error,
                "began": began,
                "ended": time.monotonic(),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
