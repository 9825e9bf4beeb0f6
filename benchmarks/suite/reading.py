"""`python -m benchmarks.suite.reading HOME THREADS CALLS` prints how much memory a mixed load takes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from benchmarks.layers.measure import peak_mb
from benchmarks.suite.hot import hot_queries
from benchmarks.suite.load import Threads
from mnemoduck.home import Home


def main(home: str, threads: str, calls: str) -> None:
    """Print MB before anything was opened and at the most, and how many calls went wrong."""
    started = peak_mb(os.getpid())
    with hot_queries(Home(Path(home))) as hot, Threads(int(threads)) as workers:
        times = workers.time(hot.mixed, int(calls))
    print(json.dumps({"started_mb": started, "peak_mb": peak_mb(os.getpid()), "errors": times.errors}))


if __name__ == "__main__":
    main(*sys.argv[1:])
