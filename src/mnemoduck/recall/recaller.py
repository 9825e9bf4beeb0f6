"""Recall, put together: read the question, rank, read the winners."""

from __future__ import annotations

from dataclasses import asdict

from mnemoduck.asking import Asker
from mnemoduck.project import variables
from mnemoduck.reader import MemoryReader, check_limit
from mnemoduck.recall.query import check_query, read_query
from mnemoduck.recall.ranking import rank
from mnemoduck.recall.records import RecallRequest, Recollection
from mnemoduck.recall.speakers import Speakers


class Recaller:
    """Answers questions to one home. Safe between threads."""

    def __init__(self, asker: Asker, reader: MemoryReader) -> None:
        self._asker = asker
        self._reader = reader
        self._speakers = Speakers(asker)

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
        if not dict(request.weights).get("recall_names", variables(self._asker.project)["recall_names"]):
            query = query.without(self._speakers.names(request.scope))
        found = rank(
            self._asker,
            query,
            request.scope,
            limit=request.limit,
            as_of=request.as_of,
            weights=request.weights,
        )
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
            )
            for one in found
            if one.memory_id in stored  # its month may have been dropped a moment ago
        ]
