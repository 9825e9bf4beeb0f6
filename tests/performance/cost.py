"""What a call costs: processor time, which does not run while other processes do."""

from __future__ import annotations

import time

from benchmarks.suite.load import Call

CALLS = 4
BLOCKS = 3
"""The least of so many blocks of CALLS counts, which nothing else has disturbed."""


def _cost(call: Call) -> float:
    """Return the processor time of a block of calls: it does not run while other processes do."""
    started = time.process_time()
    for number in range(CALLS):
        call(number)
    return time.process_time() - started


def check_cost(floor: Call, call: Call, limit: float) -> None:
    """Fail if a call costs more than so many times what the floor costs."""
    _cost(floor), _cost(call)
    costs = [(_cost(call), _cost(floor)) for _ in range(BLOCKS)]
    ratio = min(own for own, _ in costs) / min(below for _, below in costs)
    assert ratio <= limit, f"it costs {ratio:.1f} times what `select 1` does, more than {limit}"
