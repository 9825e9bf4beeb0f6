"""Times calls by one thread or by many, in blocks that alternate with blocks of a floor by as many threads.

So a slow moment of the machine hits both, and what counts is the ratio of the two.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Call = Callable[[int], object]
"""Takes the number of the call, which differs between all calls; raises if what it got is not right."""

BLOCKS = 5
WARM_UP_CALLS = 3
_APART = 1_000_003
"""The numbers of each thread's calls begin so far apart."""


@dataclass
class Times:
    """Milliseconds of calls, how many went wrong with what the first said, and seconds from begin to end."""

    milliseconds: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""
    seconds: float = 0.0

    def add(self, other: Times) -> None:
        self.milliseconds += other.milliseconds
        self.errors += other.errors
        self.first_error = self.first_error or other.first_error

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    def percentiles(self) -> list[float]:
        """Return p50, p95 and p99 in milliseconds."""
        return [float(value) for value in np.percentile(self.milliseconds, [50, 95, 99])]


class Threads:
    """So many threads that are there as long as this is open: what they have opened each, they keep."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count)
        self._barrier = threading.Barrier(count)
        self._next = 0

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def time(self, call: Call, calls: int, seconds: float = float("inf")) -> Times:
        """Have each thread call so often, or until so many seconds are over, but at least once."""
        first = self._next
        self._next += calls

        def work(place: int) -> tuple[Times, float, float]:
            own = Times()
            self._barrier.wait()
            began = time.perf_counter()
            for number in range(calls):
                started = time.perf_counter()
                try:
                    call(place * _APART + first + number)
                except Exception as error:  # counted, and the first is told
                    own.errors += 1
                    own.first_error = own.first_error or f"{type(error).__name__}: {error}"
                ended = time.perf_counter()
                own.milliseconds.append((ended - started) * 1e3)
                if ended - began > seconds:
                    break
            return own, began, time.perf_counter()

        total = Times()
        each = [future.result() for future in [self._pool.submit(work, n) for n in range(self.count)]]
        for own, _, _ in each:
            total.add(own)
        total.seconds = max(ended for *_, ended in each) - min(began for _, began, _ in each)
        return total


def time_beside(floor: Call, call: Call, threads: int, calls: int, *, seconds: float = 8.0) -> dict[str, Any]:
    """Return times of `call` and of `floor`, each called so often by each thread, and their ratios.

    Args:
        seconds: of the call at most about so many; then fewer calls are made.
    """
    own, below = Times(), Times()
    each = max(1, round(calls / BLOCKS))
    with Threads(threads) as workers:
        workers.time(floor, WARM_UP_CALLS)
        warm = workers.time(call, WARM_UP_CALLS)
        for _ in range(BLOCKS):
            _count(below, workers.time(floor, each))
            _count(own, workers.time(call, each, seconds / BLOCKS))
    own.errors += warm.errors
    own.first_error = own.first_error or warm.first_error
    return {"threads": threads, **describe(own, below)}


def time_while(
    is_running: Callable[[], bool], floor: Call, call: Call, threads: int, calls: int
) -> dict[str, Any]:
    """Return what `time_beside` does, of blocks of so many calls as long as something is running."""
    own, below = Times(), Times()
    with Threads(threads) as workers:
        workers.time(floor, WARM_UP_CALLS)
        workers.time(call, WARM_UP_CALLS)
        while is_running() or not own.milliseconds:
            _count(below, workers.time(floor, calls))
            _count(own, workers.time(call, calls))
    return {"threads": threads, **describe(own, below)}


def _count(total: Times, block: Times) -> None:
    total.add(block)
    total.seconds += block.seconds


def describe(own: Times, floor: Times) -> dict[str, Any]:
    """Return both in figures. A ratio is of the same percentile, that of throughput the floor's over ours."""
    found: dict[str, Any] = {"calls": len(own.milliseconds), "errors": own.errors}
    if own.first_error:
        found["first_error"] = own.first_error
    for name, mine, below in zip(("p50", "p95", "p99"), own.percentiles(), floor.percentiles(), strict=True):
        found |= {f"{name}_ms": round(mine, 4), f"select_1_{name}_ms": round(below, 4)}
        found[f"{name}_ratio"] = round(mine / below, 3)
    found["worst_ms"] = round(max(own.milliseconds), 4)
    found["per_second"] = round(own.per_second, 1)
    found["throughput_ratio"] = round(floor.per_second / own.per_second, 3)
    return found
