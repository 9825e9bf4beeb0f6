"""Recall, put together: read the question, rank, read the winners."""

from __future__ import annotations

from dataclasses import asdict

from mnemoduck.asking import Asker
from mnemoduck.reader import MemoryReader, check_limit
from mnemoduck.recall.fusion import fuse
from mnemoduck.recall.query import Query, check_query, read_query
from mnemoduck.recall.ranking import rank
from mnemoduck.recall.records import Candidate, RecallRequest, Recollection
from mnemoduck.recall.vectors import Meaning, MeaningSearch, weight


class Recaller:
    """Answers questions to one home. Safe between threads."""

    def __init__(self, asker: Asker, reader: MemoryReader) -> None:
        self._asker = asker
        self._reader = reader
        self._meanings = MeaningSearch(asker)

    def recall(self, request: RecallRequest) -> list[Recollection]:
        """Return the memories of the scope that answer the query best, best first.

        An empty query, or one without any letter or digit, matches nothing.

        Raises:
            UsageError: the limit is not between 0 and 10,000, or the query longer than 100,000
                characters.
        """
        check_limit(request.limit)
        check_query(request.query)
        query = read_query(self._asker, request.query)
        meaning = self._meanings.understand(request.query, query, request.scope, request.weights)
        found = rank(
            self._asker,
            query,
            request.scope,
            limit=request.limit if meaning is None else max(100, 2 * request.limit),
            as_of=request.as_of,
            weights=request.weights,
        )
        if meaning is not None:
            found = self._fuse(request, query, meaning, found)
        stored = self._reader.read([(one.memory_id, one.occurred_at) for one in found])
        return [
            Recollection(
                **{
                    name: value for name, value in asdict(stored[one.memory_id]).items() if name != "is_fresh"
                },
                is_fresh=one.is_fresh,
                score=one.score,
                parts=one.parts,
                matched_terms=list(one.matched_terms),
                support_count=one.support_count,
                embedding_model=None if meaning is None else meaning.model,
            )
            for one in found
            if one.memory_id in stored  # its month may have been dropped a moment ago
        ]

    def _fuse(
        self, request: RecallRequest, query: Query, meaning: Meaning, found: list[Candidate]
    ) -> list[Candidate]:
        """Return the best of what was found by words and of what is near in meaning."""
        similar = self._meanings.search(
            meaning,
            query,
            request.scope,
            limit=request.limit,
            known=[one.memory_id for one in found],
            as_of=request.as_of,
            weights=request.weights,
        )
        return fuse(found, similar, weight=weight(self._asker, request.weights), limit=request.limit)
