"""Finding: the candidates for an answer, by words and, where there are vectors, by meaning."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mnemoduck.asking import Asker
from mnemoduck.project import variables
from mnemoduck.recall.documents import Corpus, DocumentStore
from mnemoduck.recall.filters import Filters
from mnemoduck.recall.fusion import fuse
from mnemoduck.recall.levels import Level
from mnemoduck.recall.postings import Columns, PostingStore
from mnemoduck.recall.query import Query
from mnemoduck.recall.ranking import Ranking
from mnemoduck.recall.records import Candidate, RecallRequest
from mnemoduck.recall.speakers import Speakers
from mnemoduck.recall.vectors import Meaning, MeaningSearch, QueryVector, weight

_LEAST_TO_FUSE = 100
"""So many candidates by words are fused with those by meaning, or twice as many as are asked for."""


@dataclass(frozen=True)
class Search:
    """How one request finds: `find` gives the best candidates, at most so many, that pass filters.

    `model` made the vectors that it uses, None if it uses none; `notes` say what is otherwise than usual.
    """

    find: Callable[[int, Filters], list[Candidate]]
    model: str | None = None
    notes: list[str] = field(default_factory=list)


class Finder:
    """Finds in one home. Safe between threads.

    Args:
        query_vectors: where the vectors of questions are kept.
        documents, postings: where those of users are kept.
        environment: says whether questions become vectors, see `MeaningSearch`.
    """

    def __init__(
        self,
        asker: Asker,
        query_vectors: Level[QueryVector],
        documents: Level[Corpus],
        postings: Level[Columns],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._asker = asker
        self._documents = DocumentStore(asker, documents)
        self._postings = PostingStore(asker, postings)
        self._speakers = Speakers(asker)
        self._meanings = MeaningSearch(asker, query_vectors=query_vectors, environment=environment)

    def open(self, request: RecallRequest, query: Query) -> Search:
        """Return the search for a request, whose query was read."""
        meaning = self._meanings.understand(request.query, query, request.scope, request.weights)
        trouble = self._meanings.trouble if meaning is None else None
        if not dict(request.weights).get("recall_names", variables(self._asker.project)["recall_names"]):
            query = query.without(self._speakers.names(request.scope))

        rankings: dict[Filters, Ranking] = {}

        def find_by_words(limit: int, filters: Filters) -> list[Candidate]:
            if filters not in rankings:
                rankings[filters] = Ranking(
                    self._asker,
                    self._documents,
                    self._postings,
                    query,
                    request.scope,
                    as_of=request.as_of,
                    weights=request.weights,
                    filters=filters,
                )
            return rankings[filters].best(limit)

        def find(limit: int, filters: Filters) -> list[Candidate]:
            # What stands in quotes is looked for in words: nothing else is near enough.
            if meaning is None or query.phrases:
                return find_by_words(limit, filters)
            found = find_by_words(max(_LEAST_TO_FUSE, 2 * limit), filters)
            return self._fuse(request, query, meaning, found, limit, filters)

        return Search(
            find,
            model=None if meaning is None or query.phrases else meaning.model,
            notes=[f"Vectors were not used: {trouble}."] if trouble else [],
        )

    def close(self) -> None:
        """Close what was opened to understand questions; the next one opens it anew."""
        self._meanings.close()

    def _fuse(
        self,
        request: RecallRequest,
        query: Query,
        meaning: Meaning,
        found: list[Candidate],
        limit: int,
        filters: Filters,
    ) -> list[Candidate]:
        similar = self._meanings.search(
            meaning,
            query,
            request.scope,
            limit=limit,
            known=[one.memory_id for one in found],
            as_of=request.as_of,
            weights=request.weights,
            filters=filters,
        )
        return fuse(found, similar, weight=weight(self._asker, request.weights), limit=limit)
