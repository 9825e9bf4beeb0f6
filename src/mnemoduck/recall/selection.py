"""From the candidates of ranking to the winners: what is added to their scores, what they must be, diversity.

Ranking gives its best; what is added to a score is bounded, and a condition leaves out. So candidates are
taken in growing numbers, until enough pass and those that were not looked at cannot overtake them. What
passes is exact. Where very many match about equally well, overtaking ends: how well a memory is held counts
among the best 200 (or 4 for each result), the time that the query names among the best 3,200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mnemoduck.holding import Signals
from mnemoduck.reader import MemoryReader, StoredMemory
from mnemoduck.recall.diversity import diversify, word_likeness
from mnemoduck.recall.provenance import Provenance
from mnemoduck.recall.records import Candidate, RecallRequest
from mnemoduck.recall.signals import Bonuses, add_prior, add_time, hold

_LEAST_POOL = 50
_MOST_POOL = 200
_LEAST_TIMED_POOL = 200
_MOST_TIMED_POOL = 3200
_GROWTH = 4


@dataclass(frozen=True)
class Read:
    """A memory that was read; signals only where they count."""

    memory: StoredMemory
    signals: Signals | None


class Selector:
    """Selects the winners of one request."""

    def __init__(
        self, reader: MemoryReader, provenance: Provenance, request: RecallRequest, bonuses: Bonuses
    ) -> None:
        self._reader = reader
        self._provenance = provenance
        self._request = request
        self._bonuses = bonuses
        self._needs_signals = bool(bonuses.prior) or request.filters.needs_signals or request.explain
        self._read: dict[UUID, Read] = {}
        self._fates: dict[UUID, str] = {}

    def select(
        self, rank: Callable[[int], list[Candidate]]
    ) -> list[tuple[Candidate, StoredMemory, Signals | None]]:
        """Return the winners, best first, with what was read of them.

        Args:
            rank: gives the best candidates, at most so many, best first.
        """
        limit = self._request.limit
        pool = self._first_pool()
        most = max(pool, _MOST_TIMED_POOL if self._bonuses.ranges else _MOST_POOL)
        while True:
            ranked = rank(pool)
            judged = self._judge(ranked)
            if len(ranked) < pool:
                break
            unseen = ranked[-1].score + self._bonuses.most * ranked[0].score
            if len(judged) >= limit and (
                not self._bonuses.most or pool >= most or judged[limit - 1].score > unseen
            ):
                break
            pool *= _GROWTH
        chosen = self._diversify(judged) if self._request.diversity else judged[:limit]
        self._fetch(chosen)
        return [(one, read.memory, read.signals) for one in chosen if (read := self._read.get(one.memory_id))]

    def _first_pool(self) -> int:
        request = self._request
        is_plain = not (self._bonuses.most or request.diversity or request.filters.judges_rows)
        least = _LEAST_TIMED_POOL if self._bonuses.ranges else _LEAST_POOL
        return request.limit if is_plain else max(least, _GROWTH * request.limit)

    def _judge(self, ranked: list[Candidate]) -> list[Candidate]:
        """Return the candidates that pass, with all that is added to their scores, best first."""
        if not ranked:
            return []
        best = ranked[0].score
        if self._bonuses.ranges:
            ranked = [add_time(one, best, self._bonuses) for one in ranked]
        if self._bonuses.prior:
            ranked = self._with_prior(ranked, best)
        if self._request.filters.judges_rows:
            self._fetch(ranked)
            ranked = [one for one in ranked if self._passes(one)]
        return sorted(ranked, key=lambda one: (one.score, one.occurred_at, one.memory_id.int), reverse=True)

    def _with_prior(self, ranked: list[Candidate], best: float) -> list[Candidate]:
        """Add the prior where it can make a difference: far below the last place it cannot."""
        limit = self._request.limit
        scores = sorted((one.score for one in ranked), reverse=True)
        is_cut = not (self._request.filters.judges_rows or self._request.diversity)
        least = scores[limit - 1] - self._bonuses.prior * best if is_cut and len(scores) > limit else 0.0
        near = [one for one in ranked if one.score >= least]
        self._fetch(near)
        return [
            add_prior(one, best, self._bonuses, hold(read.signals, read.memory.importance))
            for one in near
            if (read := self._read.get(one.memory_id)) and read.signals
        ]

    def _passes(self, candidate: Candidate) -> bool:
        filters = self._request.filters
        read = self._read.get(candidate.memory_id)
        if read is None:
            return False
        if filters.min_importance is not None and read.memory.importance < filters.min_importance:
            return False
        if filters.min_strength is not None and (
            read.signals is None or read.signals.strength < filters.min_strength
        ):
            return False
        if filters.fates and self._fates.get(candidate.memory_id, "retained") not in filters.fates:
            return False
        return filters.match_metadata(read.memory.metadata)

    def _fetch(self, candidates: list[Candidate]) -> None:
        """Read those that were not read yet; a month may have been dropped a moment ago."""
        places = [(one.memory_id, one.occurred_at) for one in candidates if one.memory_id not in self._read]
        if not places:
            return
        as_of: datetime | None = self._request.as_of
        if self._needs_signals:
            held = self._reader.read_signals(places, as_of)
            self._read.update({key: Read(memory, signals) for key, (memory, signals) in held.items()})
        else:
            self._read.update({key: Read(one, None) for key, one in self._reader.read(places).items()})
        if self._request.filters.fates:
            fates: Mapping[UUID, str] = self._provenance.fates(places, as_of)
            self._fates.update(fates)

    def _diversify(self, judged: list[Candidate]) -> list[Candidate]:
        request = self._request
        pool = judged[: max(_LEAST_POOL, _GROWTH * request.limit)]
        self._fetch(pool)
        pool = [one for one in pool if one.memory_id in self._read]
        order = diversify(
            [one.score for one in pool],
            word_likeness([self._read[one.memory_id].memory.content for one in pool]),
            diversity=request.diversity,
            limit=request.limit,
        )
        return [pool[place] for place in order]
