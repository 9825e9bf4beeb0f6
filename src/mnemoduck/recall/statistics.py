"""How often recall was answered from its caches, over all processes: one small file of the home.

Each process adds what it has counted since it added last: at the end, and every few seconds of use. So the
file has one row a level however many processes there were, and a process that is killed takes a few seconds
of counting with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mnemoduck.home import Home, create_file
from mnemoduck.inbox import lock_patiently
from mnemoduck.recall.levels import Clock, LevelStatistics

SAVE_SECONDS = 5.0

_COUNTED = ("hits", "misses", "evictions")

Counts = dict[str, dict[str, int]]


class StatisticsFile:
    """Adds the counts of one process to the file of its home. Used by one thread at a time."""

    def __init__(self, home: Home, clock: Clock = time.monotonic) -> None:
        self._home = home
        self._clock = clock
        self._saved: Counts = {}
        self._saved_at = clock()
        self._most_bytes: dict[str, int] = {}

    def add(self, levels: Mapping[str, LevelStatistics], *, at_once: bool = False) -> None:
        """Add what was counted since the last time, if that is some seconds ago or it is to be `at_once`.

        Nothing depends on it, so whatever keeps it from being written is passed over; the counts wait.
        """
        now = self._clock()
        if not at_once and now - self._saved_at < SAVE_SECONDS:
            return
        self._saved_at = now
        self._most_bytes = {
            name: max(level.bytes, self._most_bytes.get(name, 0)) for name, level in levels.items()
        }
        counts = {name: {what: getattr(level, what) for what in _COUNTED} for name, level in levels.items()}
        if counts == self._saved or not any(count for level in counts.values() for count in level.values()):
            return
        with contextlib.suppress(OSError):
            folder = os.open(self._home.logs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if self._lock(folder, is_patient=at_once):
                    self._replace(counts)
                    self._saved = counts
            finally:
                os.close(folder)

    def _lock(self, folder: int, *, is_patient: bool) -> bool:
        if is_patient:
            return lock_patiently(folder)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _replace(self, counts: Counts) -> None:
        stored = _read(self._home)
        levels = stored.setdefault("levels", {})
        for name, level in counts.items():
            before = self._saved.get(name, {})
            total = levels.setdefault(name, {})
            for what, count in level.items():
                total[what] = total.get(what, 0) + count - before.get(what, 0)
        most = stored.setdefault("most_bytes", {})
        for name, held in self._most_bytes.items():
            most[name] = max(most.get(name, 0), held)
        stored.setdefault("since", datetime.now(UTC).isoformat())
        path = self._home.recall_statistics
        temporary = path.with_suffix(".tmp")  # under the lock there is one writer
        with create_file(temporary) as file:
            file.write((json.dumps(stored) + "\n").encode())
        os.replace(temporary, path)


def read_statistics(home: Home) -> dict[str, dict[str, Any]]:
    """Return hits, misses, evictions and hit_rate (0 to 1, None before the first look-up) of each level.

    Those of all processes so far but for what the living ones have counted in the last seconds.
    """
    levels = _read(home).get("levels", {})
    return {
        name: {what: level.get(what, 0) for what in _COUNTED} | {"hit_rate": _hit_rate(level)}
        for name, level in levels.items()
    }


def read_counts(home: Home) -> Counts:
    """Return hits, misses and evictions of each level, of all processes so far."""
    return {name: dict(level) for name, level in _read(home).get("levels", {}).items()}


def read_most_bytes(home: Home) -> dict[str, int]:
    """Return the most bytes that each level was seen to hold in one process; nothing before it was seen."""
    most = _read(home).get("most_bytes", {})
    return {name: held for name, held in most.items() if isinstance(held, int)}


def _hit_rate(level: Mapping[str, int]) -> float | None:
    looked_up = level.get("hits", 0) + level.get("misses", 0)
    return level.get("hits", 0) / looked_up if looked_up else None


def _read(home: Home) -> dict[str, Any]:
    """Return what the file holds; what cannot be read counts for nothing and is begun again."""
    try:
        stored = json.loads(home.recall_statistics.read_bytes())
        if all(isinstance(count, int) for level in stored["levels"].values() for count in level.values()):
            return dict(stored)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return {}
