"""What is asked of recall, and what it answers with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mnemoduck.reader import StoredMemory
from mnemoduck.scope import Scope


@dataclass(frozen=True)
class RecallRequest:
    """A question to memory. `as_of` None means now; a request is hashable, and equal requests are one.

    `weights` are pairs of a variable `recall_…` and the value that it has for this question only.
    """

    query: str
    scope: Scope
    limit: int = 10
    as_of: datetime | None = None
    weights: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class ScoreParts:
    """What a score is made of: the parts add up to it.

    `words` is the BM25 of the memory's own words, `context` what its neighbours in the session add,
    `session` what the session as a whole adds. `speaker` is the factor that `words` and `context` include
    because the query names who said it, 1 if it does not. `meaning` is what its nearness in meaning adds,
    where there are vectors.
    """

    words: float
    context: float
    session: float
    speaker: float
    meaning: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """A memory that may answer, before it is read: what ranking knows of it.

    `equals` is the same for equal texts of one user and agent.
    """

    memory_id: UUID
    occurred_at: datetime
    is_fresh: bool
    score: float
    parts: ScoreParts
    matched_terms: tuple[str, ...]
    support_count: int
    equals: tuple[object, ...] = ()


@dataclass(frozen=True)
class Recollection(StoredMemory):
    """A memory that answers a query. `score` is above 0 and comparable within one recall; `parts` make it up.

    `matched_terms` are the terms of the query that are in it: none, if it is found by its neighbours.
    `support_count` tells how often the same words were remembered in the scope of the query.
    `embedding_model` made the vectors that this answer used, None if it used none.
    """

    score: float
    parts: ScoreParts
    matched_terms: list[str]
    support_count: int
    embedding_model: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
