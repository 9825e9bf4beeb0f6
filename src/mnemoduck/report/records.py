"""What a page shows, as plain data. Times are UTC; nothing in it depends on the clock but through `as_of`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from mnemoduck.scope import Scope

GOOD = "good"
LOOK = "look"
BAD = "bad"
LEVELS = (GOOD, LOOK, BAD)
"""How it stands: all is well, somebody should look, somebody must."""


@dataclass(frozen=True)
class Remark:
    """Something that needs a look, at one of LEVELS, and what to do about it; both are sentences."""

    level: str
    text: str
    mend: str


@dataclass(frozen=True)
class Slot:
    """A memory in mind; `priority` is 0 to 1."""

    slot: int
    priority: float
    content: str
    role: str | None
    occurred_at: datetime


@dataclass(frozen=True)
class Mind:
    """What is in mind in one scope: at most `capacity` slots, 5 to 9."""

    scope: tuple[str | None, str | None, str | None]
    capacity: int
    coherence: float
    slots: list[Slot]


@dataclass(frozen=True)
class Minds:
    """The minds that are shown, the busiest first; `scope_count` and `slot_count` are those of all."""

    shown: list[Mind]
    scope_count: int
    slot_count: int
    last_at: datetime | None
    """When the last memory happened, whether it is in mind or not."""


@dataclass(frozen=True)
class Bin:
    """A stretch of time that begins at `begin`, or a moment, with a count for each series."""

    begin: datetime
    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Activity:
    """Memories over time; `step` names the length of a bin, as "day"."""

    memory_count: int
    step: str
    types: list[str]
    bins: list[Bin]


@dataclass(frozen=True)
class Fates:
    """How many long-term memories had which fate at some moments, of which the last is `as_of`."""

    moments: list[Bin]

    @property
    def now(self) -> dict[str, int]:
        return self.moments[-1].counts if self.moments else {}

    @property
    def held(self) -> int:
        return self.now.get("retained", 0) + self.now.get("reinforced", 0)


@dataclass(frozen=True)
class HeldMemory:
    """A long-term memory that is held. `strength` and `retention` are 0 to 1."""

    consolidated_id: UUID
    scope: tuple[str | None, str | None]
    role: str | None
    content: str
    strength: float
    retention: float
    stability_days: float
    support_count: int
    recall_count: int
    last_used_at: datetime
    forgets_at: datetime | None


@dataclass(frozen=True)
class Curve:
    """What is retained of a memory: pairs of days from `as_of` and share, and when it is forgotten."""

    memory: HeldMemory
    points: list[tuple[float, float]]
    forgotten: tuple[float, float] | None


@dataclass(frozen=True)
class Concept:
    """A concept of a user and agent; `strength` is relative to the strongest, 0 to 1."""

    concept_id: int
    concept: str
    scope: tuple[str | None, str | None]
    strength: float


@dataclass(frozen=True)
class Edge:
    """An association, by the places of its concepts; `strength` is relative to the strongest, 0 to 1."""

    source: int
    target: int
    strength: float


@dataclass(frozen=True)
class Graph:
    concepts: list[Concept]
    edges: list[Edge]
    concept_count: int


@dataclass(frozen=True)
class CacheSavings:
    """What the cache of answers of one model has spared over all runs."""

    model: str
    kind: str
    hits: int
    misses: int
    tokens_saved: int
    tokens_spent: int
    seconds_saved: float

    @property
    def hit_rate(self) -> float | None:
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


@dataclass(frozen=True)
class RecallLevel:
    """One of the caches of recall, over all processes."""

    name: str
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float | None:
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


@dataclass(frozen=True)
class Run:
    """A run of the pipeline. `failed` are the models and tests that did; `error` is the first."""

    started_at: datetime
    ended_at: datetime
    command: str
    outcome: str
    seconds: float
    events_loaded: int
    models: int
    tests: int
    failed: list[str]
    warned: list[str]
    error: str | None


@dataclass(frozen=True)
class ModelTime:
    """What a model took in the runs that are shown: the median and the longest, seconds."""

    name: str
    kind: str
    runs: int
    median_seconds: float
    most_seconds: float
    rows: int | None


@dataclass(frozen=True)
class Runs:
    """The last runs, the newest first, and the slowest models and tests of those that built."""

    shown: list[Run]
    slowest: list[ModelTime]


@dataclass(frozen=True)
class PartitionMonth:
    month: date
    state: str
    rows: int


@dataclass(frozen=True)
class PartitionedModel:
    model: str
    months: list[PartitionMonth]

    @property
    def rows(self) -> int:
        return sum(month.rows for month in self.months)


@dataclass(frozen=True)
class Verdict:
    """What a suite of expectations found when it was last checked."""

    suite: str
    checked_at: str
    success: bool
    severity: str
    evaluated: int
    failed: list[str]


@dataclass(frozen=True)
class Measure:
    """One column of the model memory_health, with what its description says."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Operation:
    """How the home stands, whoever's memories are asked about."""

    home: str
    snapshot: str
    published_at: datetime | None
    waiting_events: int
    waiting_forgets: int
    quarantined_lines: int
    runs: Runs
    savings: list[CacheSavings]
    recall_levels: list[RecallLevel]
    partitions: list[PartitionedModel]
    verdicts: list[Verdict]
    health: list[Measure]
    data_docs: str | None
    """The path of Data Docs, if there are any."""


@dataclass(frozen=True)
class Report:
    """All that a page shows."""

    as_of: datetime
    scope: Scope
    remarks: list[Remark]
    operation: Operation
    minds: Minds
    activity: Activity
    fates: Fates
    curves: list[Curve]
    graph: Graph
    strongest: list[HeldMemory]
    fading: list[HeldMemory]

    @property
    def level(self) -> str:
        """The worst level of its remarks."""
        return max((remark.level for remark in self.remarks), key=LEVELS.index, default=GOOD)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
