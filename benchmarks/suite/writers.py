"""Processes that remember at the same time. What they import is little: each of them starts anew."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

from mnemoduck import Memory


def write_from(processes: int, home: Path, memories: list[dict[str, Any]]) -> float:
    """Remember the memories in each of the processes, one by one, and close.

    Returns:
        The seconds from when the first of them began until the last was done.
    """
    context = multiprocessing.get_context("spawn")
    barrier, done = context.Barrier(processes), context.Queue()
    writers = [context.Process(target=_write, args=(home, memories, barrier, done)) for _ in range(processes)]
    for writer in writers:
        writer.start()
    times = [done.get(timeout=600) for _ in writers]
    for writer in writers:
        writer.join()
    return float(max(ended for _, ended in times) - min(began for began, _ in times))


def _write(home: Path, memories: list[dict[str, Any]], barrier: Any, done: Any) -> None:
    with Memory(home) as memory:
        barrier.wait(timeout=600)
        began = time.monotonic()
        for fields in memories:
            memory.remember(**fields)
        done.put((began, time.monotonic()))
