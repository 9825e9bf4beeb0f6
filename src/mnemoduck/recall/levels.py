"""A level of caching: what was computed, for a while, within a budget of bytes.

Memory pressure, in parts of the budget of the level:

* from 80 % on, each entry that is stored makes room by removing the one that was used least, of those used
  equally often the one whose last use is longest ago;
* an entry that brings it to 95 % has such entries removed until at most 70 % is used.

What has expired goes first in both cases. The entry that is being stored is never the one that goes: it was
used less than any other only because it is new.
"""

from __future__ import annotations

import heapq
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar

from cachetools import Cache

PRESSURE = 0.80
HIGH_PRESSURE = 0.95
RELIEVED = 0.70

LARGEST_SHARE = 1 / 8
"""A value that takes more of the budget than this is not stored: it would push out too many others."""

_ENTRY_BYTES = 400
"""What an entry costs beside its key and its value: its places in two dicts and a heap, and itself."""

Clock = Callable[[], float]
Value = TypeVar("Value")


@dataclass(frozen=True)
class LevelStatistics:
    """What a level has done in this process, and holds now. `bytes` are estimated, see `size_of`."""

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int
    budget_bytes: int

    @property
    def hit_rate(self) -> float | None:
        """Part of the look-ups that found something, None before the first."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None


class Entry:
    """A stored value, with what decides whether it stays. `tick` is free for whoever stores the value."""

    __slots__ = ("expires_at", "size", "tick", "used_at", "uses", "value")

    def __init__(self, value: Any, size: int, expires_at: float, tick: int) -> None:
        self.value = value
        self.size = size
        self.expires_at = expires_at
        self.tick = tick
        self.uses = 0
        self.used_at = 0


class Level(Generic[Value]):
    """Values by their keys. Safe between threads; a forked child makes its own.

    A value that is given away is the one that is stored, so it must not be changed.

    Args:
        budget_bytes: of keys and values together; 0 stores nothing.
        seconds: how long a value is good for; None for what is true forever.
        clock: seconds that only grow.
        largest_share: what takes more of the budget is not stored.
    """

    def __init__(
        self,
        budget_bytes: int,
        *,
        seconds: float | None = None,
        clock: Clock = time.monotonic,
        largest_share: float = LARGEST_SHARE,
    ) -> None:
        self.budget_bytes = budget_bytes
        self._largest_share = largest_share
        self.hits = self.misses = self.evictions = 0
        self._seconds = float("inf") if seconds is None else seconds
        self._clock = clock
        self._mutex = threading.Lock()
        self._uses = 0
        self._entries: Cache[Hashable, Entry] = Cache(budget_bytes, getsizeof=lambda entry: entry.size)
        self._by_use: list[tuple[int, int, int, Hashable, Entry]] = []
        """A heap of (uses, last use, …) as they were when it was put there: they only grow."""
        self._stored = 0
        self._first_expiry = float("inf")

    def get(self, key: Hashable) -> Value | None:
        """Return the value of a key, None if there is none or if it has expired."""
        entry = self.find(key, self._clock())
        return None if entry is None else entry.value

    def peek(self, key: Hashable) -> Value | None:
        """Return the value of a key as it is there, without counting that somebody looked."""
        with self._mutex:
            entry = self._entries.get(key)
            return None if entry is None else entry.value

    def put(self, key: Hashable, value: Value) -> None:
        """Store a value, in place of one that is there."""
        self.keep(key, value, self._clock() + self._seconds)

    def get_or_make(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made and stored first if there is none."""
        entry = self.find(key, self._clock())
        if entry is not None:
            return entry.value  # type: ignore[no-any-return]
        value = make()
        self.put(key, value)
        return value

    def refuse(self, key: Hashable, entry: Entry) -> None:
        """Remove an entry that was found but is not good any more: that was no hit."""
        with self._mutex:
            self.hits -= 1
            self.misses += 1
            if self._entries.get(key) is entry:
                del self._entries[key]

    def find(self, key: Hashable, now: float) -> Entry | None:
        """Return the entry of a key and count its use; None if there is none, or if it has expired."""
        with self._mutex:
            try:
                entry = self._entries[key]
            except KeyError:
                self.misses += 1
                return None
            if entry.expires_at <= now:
                del self._entries[key]
                self.misses += 1
                return None
            self.hits += 1
            entry.uses += 1
            self._uses += 1
            entry.used_at = self._uses
            return entry

    def keep(self, key: Hashable, value: Value, expires_at: float, tick: int = 0) -> None:
        """Store a value until a moment of the clock; one that is too large for the level is not stored."""
        size = size_of((key, value)) + _ENTRY_BYTES
        if size > self.budget_bytes * self._largest_share:
            return
        entry = Entry(value, size, expires_at, tick)
        with self._mutex:
            self._uses += 1
            entry.used_at = self._uses
            self._entries.pop(key, None)
            used = self._entries.currsize + size
            if used >= HIGH_PRESSURE * self.budget_bytes:
                self._remove_expired()
                self._make_room(RELIEVED * self.budget_bytes - size, at_most=len(self._entries))
            elif used >= PRESSURE * self.budget_bytes:
                self._remove_expired()
                self._make_room(PRESSURE * self.budget_bytes - size, at_most=1)
            self._entries[key] = entry
            self._first_expiry = min(self._first_expiry, expires_at)
            self._stored += 1
            heapq.heappush(self._by_use, (entry.uses, entry.used_at, self._stored, key, entry))
            if len(self._by_use) > 2 * len(self._entries) + 64:
                self._drop_removed_from_heap()

    def clear(self) -> None:
        with self._mutex:
            self._entries.clear()
            self._by_use.clear()

    @property
    def statistics(self) -> LevelStatistics:
        with self._mutex:
            return LevelStatistics(
                hits=self.hits,
                misses=self.misses,
                evictions=self.evictions,
                entries=len(self._entries),
                bytes=int(self._entries.currsize),
                budget_bytes=self.budget_bytes,
            )

    def _make_room(self, until: float, at_most: int) -> None:
        """Remove what was used least until no more than so many bytes are used, but only so many entries."""
        while at_most > 0 and self._entries.currsize > until and self._by_use:
            uses, used_at, number, key, entry = heapq.heappop(self._by_use)
            if self._entries.get(key) is not entry:
                continue  # it was removed before
            if (entry.uses, entry.used_at) != (uses, used_at):
                heapq.heappush(self._by_use, (entry.uses, entry.used_at, number, key, entry))
                continue
            del self._entries[key]
            self.evictions += 1
            at_most -= 1

    def _remove_expired(self) -> None:
        now = self._clock()
        if now < self._first_expiry:
            return
        for key in [key for key, entry in self._entries.items() if entry.expires_at <= now]:
            del self._entries[key]
        self._first_expiry = min((entry.expires_at for entry in self._entries.values()), default=float("inf"))

    def _drop_removed_from_heap(self) -> None:
        self._by_use = [
            (entry.uses, entry.used_at, number, key, entry)
            for number, (key, entry) in enumerate(self._entries.items(), start=self._stored)
        ]
        self._stored += len(self._by_use)
        heapq.heapify(self._by_use)


def size_of(value: Any) -> int:
    """Return about how many bytes of memory a value takes with all that it refers to, each object once.

    Texts, numbers, bytes, moments and ids count as Python tells; of dataclasses, lists, tuples, dicts and
    sets the parts too. What Python keeps once for everybody (None, True, small numbers, classes, zones) is
    not counted.
    """
    seen: set[int] = set()
    waiting = [value]
    total = 0
    while waiting:
        one = waiting.pop()
        if one is None or isinstance(one, bool | type) or id(one) in seen:
            continue
        if isinstance(one, int) and -5 <= one <= 256:
            continue
        seen.add(id(one))
        total += max(sys.getsizeof(one), getattr(one, "nbytes", 0))  # a part of an array counts as its own
        if isinstance(one, dict):
            waiting.extend(one.keys())
            waiting.extend(one.values())
        elif isinstance(one, list | tuple | set | frozenset):
            waiting.extend(one)
        elif is_dataclass(one):
            names = [field.name for field in fields(one)]
            total += 8 * len(names) + 16
            waiting.extend(getattr(one, name) for name in names)
        elif (whole := getattr(one, "int", None)) is not None:  # a UUID
            waiting.append(whole)
    return total
