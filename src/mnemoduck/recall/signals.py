"""What is added to the score of words: for the time that the query names, and for how well a memory is held.

Both are shares of the best score among the candidates, so that they mean the same for any query, and at most
their weights: which memories can still overtake others is known, and the rest need not be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mnemoduck.errors import UsageError
from mnemoduck.holding import Signals
from mnemoduck.project import variables
from mnemoduck.recall.records import Candidate, RecallRequest
from mnemoduck.recall.times import TimeRange


@dataclass(frozen=True)
class Bonuses:
    """How much of the best score can be added, for what."""

    time: float
    prior: float
    ranges: tuple[TimeRange, ...]

    @property
    def most(self) -> float:
        return self.time + self.prior


def bonuses_of(project: Path, request: RecallRequest, ranges: Sequence[TimeRange]) -> Bonuses:
    """Return the bonuses of a request; a time that is filtered by lifts nothing."""
    lifted = tuple(ranges) if request.times == "boost" else ()
    weights = {**variables(project), **dict(request.weights)}
    slack = timedelta(days=weights["recall_time_slack_days"])
    return Bonuses(
        time=weights["recall_time_weight"] if lifted else 0.0,
        prior=weights["recall_prior_weight"],
        ranges=tuple(replace(one, until=_later(one.until, slack)) for one in lifted),
    )


def check_weights(project: Path, weights: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Return weights as a request has them.

    Raises:
        UsageError: one is no variable of recall, or its value no number of at least 0.
    """
    known = [
        name for name, value in variables(project).items() if name.startswith("recall_") and _is_number(value)
    ]
    for name, value in weights.items():
        if name not in known:
            raise UsageError(f"{name!r} is no weight of recall. These are: {', '.join(sorted(known))}.")
        if not _is_number(value) or not 0 <= value <= 100_000:
            raise UsageError(f"The weight {name} is {value!r}; it takes a number from 0 to 100,000.")
    return tuple(sorted(weights.items()))


def hold(signals: Signals, importance: float) -> float:
    """Return how well a memory is held, 0..1: the mean of its strength, its retention and its importance.

    To two decimals, so that a moment later it is the same.
    """
    return round((signals.strength + signals.retention + importance) / 3, 2)


def add_time(candidate: Candidate, best: float, bonuses: Bonuses) -> Candidate:
    """Return the candidate with what the times that the query names add to it."""
    moment = candidate.occurred_at.replace(tzinfo=UTC)
    if not any(_is_within(moment, one) for one in bonuses.ranges):
        return candidate
    added = bonuses.time * best
    return replace(candidate, score=candidate.score + added, parts=replace(candidate.parts, time=added))


def add_prior(candidate: Candidate, best: float, bonuses: Bonuses, held: float) -> Candidate:
    """Return the candidate with what is added because it is well held; `held` is 0..1."""
    added = bonuses.prior * best * held
    return replace(candidate, score=candidate.score + added, parts=replace(candidate.parts, prior=added))


def _is_within(moment: datetime, span: TimeRange) -> bool:
    return (span.since is None or span.since <= moment) and (span.until is None or moment < span.until)


def _later(moment: datetime | None, by: timedelta) -> datetime | None:
    try:
        return None if moment is None else moment + by
    except OverflowError:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
