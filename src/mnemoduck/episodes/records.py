"""What is asked about episodes, and what is answered: suggestions, similar episodes, patterns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Call:
    """A tool that was called: whether that failed, and what was said of it if so."""

    tool: str
    is_error: bool = False
    error: str | None = None
    observation: str | None = None


@dataclass(frozen=True)
class Pattern:
    """Something that agents do again and again, and how well it goes with success.

    `kind` is tool_sequence, decision, error_recovery or context; `steps` are its parts and `pattern` is the
    same as a text. `support` counts the episodes that have it, `task_count` their tasks, `feedback_count` how
    often somebody said whether it helped. `success_rate` is that of the episodes with it, `base_rate` that of
    what it is compared with; `confidence` is the mean of the Beta posterior of success given the pattern,
    with the ends of its 95 % interval; `lift` is confidence over the base rate. `p_value` is Fisher's,
    `q_value` after Benjamini and Hochberg, None where there is nothing to compare with. `is_actionable` says
    that it surely goes with success, `is_warning` that it surely does not. See docs/patterns.md.
    """

    pattern_id: UUID
    user_id: str | None
    domain: str
    kind: str
    pattern: str
    steps: list[str]
    support: int
    task_count: int
    success_count: int
    feedback_count: int
    first_seen_at: datetime
    last_seen_at: datetime
    examples: list[str]
    success_rate: float
    base_rate: float
    confidence: float
    confidence_low: float
    confidence_high: float
    lift: float
    p_value: float | None
    q_value: float | None
    is_actionable: bool
    is_warning: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SimilarEpisode:
    """An episode that was like what is at hand.

    `similarity` (0 to 1) is the mean of `task_similarity`, how much of the words of the task it shares, and
    `shared_steps`, the part of the steps so far that it took too; of one of them, where the other is not
    asked about (None). `tools` are its calls in their order.
    """

    episode_id: str
    agent_id: str | None
    domain: str
    task_id: str | None
    task: str
    similarity: float
    task_similarity: float | None
    shared_steps: float | None
    outcome: str
    is_success: bool
    reward: float | None
    tools: list[str]
    completed_at: datetime


@dataclass(frozen=True)
class NextStep:
    """A tool to call next.

    `probability` is how often this followed, each moment of an episode weighed by how like it is to the one
    at hand; over all tools and the end they add up to 1. `confidence` is the mean of the Beta posterior of
    success of the episodes that did it, each counting as much as it is alike, `confidence_low` and
    `confidence_high` are the ends of its 95 % interval. `support` counts the episodes that did it right
    after the same last call. `episode_ids` are the best of those that did, and `args` what the first of
    them called it with.
    """

    tool: str
    probability: float
    confidence: float
    confidence_low: float
    confidence_high: float
    support: int
    episode_ids: list[str]
    args: Any = None


@dataclass(frozen=True)
class Suggestion:
    """What worked in episodes like the one at hand.

    `finish_probability` is how often the episode ended here; `domain` is the one that was asked for, else the
    one of most of what is alike, None where there are no episodes. `episode_count` tells how many there were
    to learn from. Each list is best first.
    """

    task: str
    domain: str | None
    next_steps: list[NextStep] = field(default_factory=list)
    finish_probability: float = 0.0
    episodes: list[SimilarEpisode] = field(default_factory=list)
    patterns: list[Pattern] = field(default_factory=list)
    episode_count: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SuggestionRequest:
    """What is asked of `suggest`. `as_of` None means now; of `user_id` None: what nobody is named for."""

    task: str
    so_far: tuple[Call, ...] = ()
    user_id: str | None = None
    agent_id: str | None = None
    domain: str | None = None
    limit: int = 5
    as_of: datetime | None = None
