"""Recall answers a question again without computing it, as long as the answer would be the same.

Three levels, each with its own part of the budget: the answers, by the whole request; the queries that were
read, by their text; and the vectors of queries, by the settings of the model and the text. Two have a
budget of their own: the documents of users and the postings of terms, which answers are computed from.

An answer is given again only if nothing has changed that it depends on, in any process:

* each use reads the 16 bytes of `mnemoduck.news`. Where they differ from those of the last look, or that
  is longer ago than `LOOK_SECONDS`, the reader looks at the inbox and at CURRENT, and notes who is concerned;
* an answer carries the tick of these changes at which its computation began, and is good while none of a
  later tick concerns its user (or anyone, if it was asked of any user);
* it expires after some seconds, since activation is a matter of time, and when a memory that is dated in the
  future happens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mnemoduck.fresh import FreshReader
from mnemoduck.news import News
from mnemoduck.recall.documents import DEFAULT_RESIDENT_BYTES, LARGEST_RESIDENT_SHARE, Corpus
from mnemoduck.recall.frozen import FrozenList
from mnemoduck.recall.levels import Clock, Level, LevelStatistics
from mnemoduck.recall.postings import Columns
from mnemoduck.recall.query import Query
from mnemoduck.recall.records import RecallRequest, Recollection
from mnemoduck.recall.statistics import StatisticsFile

DEFAULT_CACHE_BYTES = 32 * 1024 * 1024
DEFAULT_CACHE_SECONDS = 60.0

LOOK_SECONDS = 0.1
"""What was not announced is found after this time."""

_SHARES = {"results": 0.8, "queries": 0.1, "vectors": 0.1}
_DOCUMENTS_SHARE = 0.75
_LEVELS = (*_SHARES, "documents", "postings")


class RecallCache:
    """The levels of one process for one home. Safe between threads; a forked child makes its own.

    `vectors` is for whoever embeds queries: `vectors.get_or_make((settings, text), make)`, where the settings
    are all that the vector depends on beside the text.

    Args:
        fresh: notes what changes.
        budget_bytes: of the first three levels together; 0 turns caching off.
        resident_bytes: of the documents and the postings of users.
        seconds: how long an answer is good for at most.
        clock: seconds that only grow.
        statistics_file: where the counts are added now and then, and at the end.
    """

    def __init__(
        self,
        fresh: FreshReader,
        news: News,
        *,
        budget_bytes: int = DEFAULT_CACHE_BYTES,
        resident_bytes: int = DEFAULT_RESIDENT_BYTES,
        seconds: float = DEFAULT_CACHE_SECONDS,
        clock: Clock = time.monotonic,
        statistics_file: StatisticsFile | None = None,
    ) -> None:
        budgets = {name: int(budget_bytes * share) for name, share in _SHARES.items()}
        self.results: Level[FrozenList[Recollection]] = Level(budgets["results"], clock=clock)
        self.queries: Level[Query] = Level(budgets["queries"], clock=clock)
        self.vectors: Level[Any] = Level(budgets["vectors"], clock=clock)
        self.documents: Level[Corpus] = Level(
            int(resident_bytes * _DOCUMENTS_SHARE), clock=clock, largest_share=LARGEST_RESIDENT_SHARE
        )
        self.postings: Level[Columns] = Level(int(resident_bytes * (1 - _DOCUMENTS_SHARE)), clock=clock)
        self._fresh = fresh
        self._changes = fresh.changes
        self._news = news
        self._seconds = seconds
        self._clock = clock
        self._statistics_file = statistics_file
        self._mutex = threading.Lock()
        self._seen: bytes | None = None
        self._look_at = float("-inf")

    def answer(
        self, request: RecallRequest, compute: Callable[[RecallRequest], list[Recollection]]
    ) -> list[Recollection]:
        """Return the answer to a request: one that is stored if it is good, else computed and stored.

        The list is the caller's own; what is in it cannot be changed.
        """
        now = self._clock()
        if now >= self._look_at or self._news.read() != self._seen:
            self._look(now)
        changes = self._changes
        tick = changes.now
        entry = self.results.find(request, now)
        if entry is not None:
            if entry.tick == tick:
                return list(entry.value)
            if entry.tick >= changes.last(request.scope.user_id):
                entry.tick = tick  # so much for what has changed up to then
                return list(entry.value)
            self.results.refuse(request, entry)
        began_at = datetime.now(UTC)
        recollections = compute(request)
        if self.results.budget_bytes:
            self.results.keep(request, FrozenList(recollections), self._expiry(request, now, began_at), tick)
        return recollections

    @property
    def statistics(self) -> dict[str, LevelStatistics]:
        """What each level has done in this process."""
        return {name: getattr(self, name).statistics for name in _LEVELS}

    def close(self) -> None:
        """Add the counts to those of all processes, and let go of what is stored."""
        done = self.statistics  # with what it holds
        for name in _LEVELS:
            getattr(self, name).clear()
        if self._statistics_file is not None:
            self._statistics_file.add(done, at_once=True)

    def _look(self, now: float) -> None:
        with self._mutex:
            if now < self._look_at and self._news.read() == self._seen:
                return  # another thread has looked meanwhile
            self._news.renew()
            seen = self._news.read()  # before looking: what is announced meanwhile is looked for again
            began = self._clock()
            self._fresh.get()
            # A look that takes long (thousands of segments) is taken less often: at most a tenth of the time.
            self._look_at = began + max(LOOK_SECONDS, 10 * (self._clock() - began))
            self._seen = seen
            if self._statistics_file is not None:
                self._statistics_file.add(self.statistics)

    def _expiry(self, request: RecallRequest, now: float, began_at: datetime) -> float:
        due = self._fresh.next_due(began_at) if request.as_of is None else None
        if due is None:
            return now + self._seconds
        return now + min(self._seconds, (due - began_at).total_seconds())
