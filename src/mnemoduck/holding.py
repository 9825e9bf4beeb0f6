"""How well a memory is held, in Python: for the few memories that a question has found.

The macros `activation`, `retrieval_probability`, `stability_days` and `retention` are the definition, with
their sources. To plan them as a statement takes DuckDB several times as long as to read the memories that
they are about; a test holds the two together (tests/unit/test_holding.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mnemoduck.project import variables

_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Signals:
    """How well a memory is held at a moment, by its uses until then.

    `strength` is the probability that it is retrieved (0..1) at its `activation`, `retention` exp(-t / S)
    since its last use (0..1); see docs/science.md.
    """

    activation: float
    strength: float
    retention: float


def signals_of(
    project: Path,
    use_count: int,
    spaced_reinforcements: int,
    first_used_at: datetime,
    recent_use_times: Sequence[datetime],
    as_of: datetime,
) -> Signals | None:
    """Return how well a memory is held; None if it was not used by then. All moments are naive.

    Args:
        recent_use_times: the last uses, the newest first.
    """
    values = variables(project)
    activation = _activation(use_count, first_used_at, recent_use_times, as_of, values["activation_decay"])
    if activation is None:
        return None
    threshold, noise = values["retrieval_threshold"], values["activation_noise"]
    stability = values["initial_stability_days"] * _power(values["stability_growth"], spaced_reinforcements)
    idle = max(0.0, (as_of - recent_use_times[0]).total_seconds())
    return Signals(
        activation=activation,
        strength=1 / (1 + _power(math.e, (threshold - activation) / noise)),
        retention=math.exp(-idle / (_DAY_SECONDS * stability)),
    )


def _activation(
    use_count: int, first: datetime, recent: Sequence[datetime], as_of: datetime, decay: float
) -> float | None:
    def age(used_at: datetime) -> float:
        return max(1.0, (as_of - used_at).total_seconds())

    total = math.fsum(age(used_at) ** -decay for used_at in recent if used_at <= as_of)
    older = use_count - len(recent)
    if older > 0 and first <= as_of:
        first_age, oldest_kept_age = age(first), age(min(recent))
        if first_age > oldest_kept_age:
            rest = 1 - decay
            powers = first_age**rest - oldest_kept_age**rest
            total += older * powers / (rest * (first_age - oldest_kept_age))
        else:
            total += older * first_age**-decay
    return math.log(total) if total > 0 else None


def _power(base: float, exponent: float) -> float:
    """As in SQL, where what is too large for a number is infinite."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf
