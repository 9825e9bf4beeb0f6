"""Recall, put together: read the question, rank, select, explain, record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime

from mnemoduck.asking import Asker
from mnemoduck.errors import UsageError
from mnemoduck.holding import Signals
from mnemoduck.project import variables
from mnemoduck.reader import MemoryReader, StoredMemory, check_limit
from mnemoduck.recall.cache import RecallCache
from mnemoduck.recall.diversity import check_diversity
from mnemoduck.recall.filters import Filters
from mnemoduck.recall.finding import Finder, Search
from mnemoduck.recall.frozen import FrozenList, freeze
from mnemoduck.recall.provenance import Provenance
from mnemoduck.recall.query import check_query, read_query
from mnemoduck.recall.recording import Recorder
from mnemoduck.recall.records import TIME_MODES, Candidate, Explanation, RecallRequest, Recollection
from mnemoduck.recall.selection import Selector
from mnemoduck.recall.signals import bonuses_of
from mnemoduck.recall.times import TimeRange, parse_times

_Winners = list[tuple[Candidate, StoredMemory, Signals | None]]


class Recaller:
    """Answers questions to one home. Safe between threads.

    Args:
        environment: says whether questions become vectors, see `mnemoduck.recall.vectors`.
    """

    def __init__(
        self,
        asker: Asker,
        reader: MemoryReader,
        cache: RecallCache,
        recorder: Recorder | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._asker = asker
        self._reader = reader
        self._cache = cache
        self._finder = Finder(asker, cache.vectors, cache.documents, cache.postings, environment)
        self._provenance = Provenance(asker)
        self._recorder = recorder

    def recall(self, request: RecallRequest) -> list[Recollection]:
        """Return the memories of the scope that answer the query best, best first.

        An empty query, or one without any letter or digit, matches nothing. The list is the caller's, what
        is in it may be given to others and cannot be changed. An answer that was computed before is recorded
        no second time.

        Raises:
            UsageError: the limit is not between 0 and 10,000, or the query longer than 100,000
                characters; or another value of the request is none that it can have.
        """
        check_limit(request.limit)  # before the cache, to which True is 1
        return self._cache.answer(request, self._compute_at_once)

    def close(self) -> None:
        """Close what was opened to understand questions; the next one opens it anew."""
        self._finder.close()

    def _compute_at_once(self, request: RecallRequest) -> list[Recollection]:
        with self._asker.hold():
            return self._compute(request)

    def _compute(self, request: RecallRequest) -> list[Recollection]:
        check_query(request.query)
        check_diversity(request.diversity)
        if request.times not in TIME_MODES:
            raise UsageError(f"times takes {', '.join(TIME_MODES)}; got {request.times!r}.")
        if not request.limit:
            return []
        query = self._cache.queries.get_or_make(request.query, lambda: read_query(self._asker, request.query))
        ranges = self._read_times(request)
        search = self._finder.open(request, query)
        winners, notes = self._answer(request, search, ranges)
        if query.phrases and not winners:
            search = self._finder.open(request, read_query(self._asker, request.query.replace('"', " ")))
            winners, notes = self._answer(request, search, ranges)
            notes = [*notes, "No memory has what stands in quotes, so its words count."]
        explanations = self._explain(request, winners, ranges, notes) if request.explain else {}
        found = [
            Recollection(
                **{field.name: freeze(getattr(memory, field.name)) for field in fields(StoredMemory)}
                | {"is_fresh": one.is_fresh},
                score=one.score,
                parts=one.parts,
                matched_terms=FrozenList(one.matched_terms),
                found_by=FrozenList(one.parts.found_by()),
                support_count=one.support_count,
                embedding_model=search.model,
                explanation=explanations.get(one.memory_id),
            )
            for one, memory, _ in winners
        ]
        if self._recorder is not None and self.is_recorded(request.record):
            self._recorder.record(request, found)
        return found

    def is_recorded(self, record: bool | None) -> bool:
        """Return what is asked for; of None what the variable of the project says."""
        return bool(variables(self._asker.project)["record_recalls"]) if record is None else record

    def _read_times(self, request: RecallRequest) -> list[TimeRange]:
        if request.times == "off":
            return []
        try:
            return parse_times(request.query, request.as_of or datetime.now(UTC))
        except OverflowError as error:
            raise UsageError(f"as_of is {request.as_of}, which is out of range in UTC.") from error

    def _answer(
        self, request: RecallRequest, search: Search, ranges: list[TimeRange]
    ) -> tuple[_Winners, list[str]]:
        """Return the winners, and what was done otherwise than asked: a filter by time hides no answer."""
        if request.times == "filter" and ranges:
            winners = self._select(request, search, ranges, request.filters.within(ranges))
            if winners:
                return winners, search.notes
            named = ", ".join(one.text for one in ranges)
            note = (
                f"No memory that matches is of the time that the query names ({named}), so all times count."
            )
            return self._select(replace(request, times="off"), search, [], request.filters), [
                *search.notes,
                note,
            ]
        return self._select(request, search, ranges, request.filters), search.notes

    def _select(
        self, request: RecallRequest, search: Search, ranges: list[TimeRange], filters: Filters
    ) -> _Winners:
        bonuses = bonuses_of(self._asker.project, request, ranges)
        selector = Selector(self._reader, self._provenance, request, bonuses)
        return selector.select(lambda limit: search.find(limit, filters))

    def _explain(
        self, request: RecallRequest, winners: _Winners, ranges: list[TimeRange], notes: list[str]
    ) -> dict[object, Explanation]:
        places = [(one.memory_id, one.occurred_at) for one, _, _ in winners]
        origins = self._provenance.origins(places, request.as_of)
        found: dict[object, Explanation] = {}
        for one, memory, signals in winners:
            assert signals is not None
            origin = origins.get(one.memory_id)
            found[one.memory_id] = Explanation(
                event_id=one.memory_id,
                segment=origin.segment if origin else None,
                line=origin.line if origin else None,
                recorded_at=memory.recorded_at,
                session_id=memory.session_id,
                activation=signals.activation,
                strength=signals.strength,
                retention=signals.retention,
                is_consolidated=origin is not None and origin.consolidated_id is not None,
                consolidated_id=origin.consolidated_id if origin else None,
                fate=origin.fate if origin else None,
                fate_reason=origin.fate_reason if origin else None,
                times=[one.as_text() for one in ranges],
                notes=notes,
            )
        return found
