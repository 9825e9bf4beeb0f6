"""What is asked of recall, and what it answers with."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mnemoduck.reader import StoredMemory
from mnemoduck.recall.filters import Filters
from mnemoduck.recall.frozen import thaw
from mnemoduck.scope import Scope

TIME_MODES = ("boost", "filter", "off")


@dataclass(frozen=True)
class RecallRequest:
    """A question to memory. `as_of` None means now; a request is hashable, and equal requests are one.

    `weights` are pairs of a variable `recall_…` and the value that it has for this question only. `times`
    tells what a time that the query names does: it lifts what is of it ("boost"), leaves out what is not
    ("filter"), or nothing ("off"). `explain` asks for the explanation of each result. `record` asks for the
    answer to be recorded, None leaves that to the variable `record_recalls`; who only looks has a cached
    answer of their own, so that looking never takes the place of a recall.
    """

    query: str
    scope: Scope
    limit: int = 10
    as_of: datetime | None = None
    weights: tuple[tuple[str, float], ...] = ()
    filters: Filters = Filters()  # noqa: RUF009 - immutable
    times: str = "boost"
    diversity: float = 0.0
    explain: bool = False
    record: bool | None = False

    def __post_init__(self) -> None:
        fields = (self.query, self.scope, self.limit, self.as_of, self.weights, self.filters)
        object.__setattr__(
            self, "_hash", hash((*fields, self.times, self.diversity, self.explain, self.record))
        )

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined,no-any-return] # once: each use of the cache asks for it


@dataclass(frozen=True)
class ScoreParts:
    """What a score is made of: the parts add up to it, but for `speaker`, which is a factor.

    `words` is the BM25 of the memory's own words, `context` what its neighbours in the session add,
    `session` what the session as a whole adds, `meaning` what vectors add, `time` what is added because it is
    of a time that the query names, `prior` what is added because it is important and well held. `speaker` is
    the factor that `words` and `context` include because the query names who said it, 1 if it does not.
    """

    words: float
    context: float
    session: float
    speaker: float
    meaning: float = 0.0
    time: float = 0.0
    prior: float = 0.0

    def found_by(self) -> list[str]:
        """Return what found it: its own words, what was said around it, its meaning."""
        parts = {"words": self.words, "neighbours": self.context, "meaning": self.meaning}
        return [name for name, value in parts.items() if value > 0]


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
    equals: Hashable = None


@dataclass(frozen=True)
class Explanation:
    """Where a memory comes from and what became of it, at the moment that is asked about.

    `segment` and `line` are where its event (`event_id`) stood in the inbox, None while it is fresh.
    `activation`, `strength` and `retention` are those of the memory; `fate` and `fate_reason` those of the
    consolidated memory that it is part of, None while it is part of none. `times` are the times that the
    query names, as they were understood; `notes` say what was done otherwise than asked.
    """

    event_id: UUID
    segment: str | None
    line: int | None
    recorded_at: datetime
    session_id: str | None
    activation: float
    strength: float
    retention: float
    is_consolidated: bool
    consolidated_id: UUID | None
    fate: str | None
    fate_reason: str | None
    times: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Recollection(StoredMemory):
    """A memory that answers a query. `score` is above 0 and comparable within one recall; `parts` make it up.

    `matched_terms` are the terms of the query that are in it: none, if it is found by its neighbours.
    `found_by` tells what found it: words, neighbours, meaning. `support_count` tells how often the same words
    were remembered in the scope of the query. `explanation` is there where it was asked for.
    `embedding_model` made the vectors that this answer used, None if it used none. Lists and dicts in it
    refuse to be changed: take `list(…)` or `dict(…)` of them, or `as_dict()`.
    """

    score: float
    parts: ScoreParts
    matched_terms: list[str]
    found_by: list[str]
    support_count: int
    explanation: Explanation | None = None
    embedding_model: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a dict of the caller's own, in which lists and dicts are plain ones."""
        return dict(thaw(asdict(self)))
