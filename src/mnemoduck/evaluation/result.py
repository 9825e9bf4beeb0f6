"""What came of an evaluation: figures with intervals, for all questions and for each kind."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mnemoduck.evaluation.measures import CONFIDENCE, RESAMPLES, SEED, Values, bootstrap_interval
from mnemoduck.evaluation.questions import QuestionSet

ALL = "all"


@dataclass(frozen=True)
class Figure:
    """An average over questions with its 95 % interval; None where no question has the measure."""

    questions: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Answers:
    """What one way to recall found: `values` has a row a question and a column a measure."""

    values: Values
    seconds: list[float]

    def figures(self, questions: QuestionSet) -> dict[str, dict[str, Figure]]:
        """Return the figures of each measure: of all questions, and of each kind."""
        return {
            measure.name: {
                kind: _figure(self.values[chosen, column]) for kind, chosen in _kinds(questions).items()
            }
            for column, measure in enumerate(questions.measures)
        }

    def differences(self, other: Answers, questions: QuestionSet) -> dict[str, Figure]:
        """Return how much better this is than the other on the same questions, by measure."""
        return {
            measure.name: _figure(self.values[:, column] - other.values[:, column])
            for column, measure in enumerate(questions.measures)
        }

    def milliseconds(self) -> dict[str, float | None]:
        """Return the median and the 95th percentile of the times of recall."""
        if not self.seconds:
            return {"p50": None, "p95": None}
        p50, p95 = np.percentile(np.array(self.seconds) * 1e3, [50, 95])
        return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


@dataclass(frozen=True)
class Variant:
    """One row of an ablation: recall with other weights, and its differences from recall as it is."""

    name: str
    weights: dict[str, float]
    measures: dict[str, dict[str, Figure]]
    differences: dict[str, Figure]
    milliseconds: dict[str, float | None]


@dataclass(frozen=True)
class Evaluation:
    """How recall did on a file; `measures` has for each its figures: of all questions, of each kind."""

    benchmark: str
    file: str
    memories: int
    questions: int
    skipped: dict[str, int]
    notes: list[str]
    embeddings: str
    is_built: bool
    threads: int
    measures: dict[str, dict[str, Figure]]
    milliseconds: dict[str, float | None]
    variants: list[Variant] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "interval": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED},
        }


def _kinds(questions: QuestionSet) -> dict[str, list[int]]:
    places = {ALL: list(range(len(questions.questions)))}
    for kind in questions.kinds:
        places[kind] = [place for place, one in enumerate(questions.questions) if one.kind == kind]
    return {kind: chosen for kind, chosen in places.items() if chosen or kind == ALL}


def _figure(values: Values) -> Figure:
    known = values[~np.isnan(values)]
    if not len(known):
        return Figure(0, None, None, None)
    low, high = bootstrap_interval(known)
    return Figure(len(known), *(round(float(one), 6) for one in (math.fsum(known) / len(known), low, high)))
