"""How much was found, and how sure the average of that is."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float64]

RESAMPLES = 2_000
CONFIDENCE = 0.95
SEED = 20_240_501
"""Any would do: with one of its own, the same answers have the same interval."""


def fraction_found(evidence: frozenset[Hashable], found: Sequence[Hashable], first: int) -> float:
    """Return the share of the evidence that is among the first found; NaN if there is none."""
    return len(evidence.intersection(found[:first])) / len(evidence) if evidence else math.nan


def all_found(evidence: frozenset[Hashable], found: Sequence[Hashable], first: int) -> float:
    """Return 1 if all the evidence is among the first found, else 0; NaN if there is none (recall_all@k)."""
    return float(evidence.issubset(found[:first])) if evidence else math.nan


def bootstrap_interval(
    values: Values, *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Return the 95 % interval of the mean by the percentile bootstrap (Efron & Tibshirani 1993, chapter 13).

    The questions are what is drawn again, with replacement. Of differences between two ways to answer the
    same questions it is the paired interval.

    Args:
        values: one for each question; NaN are left out.

    Returns:
        Its lower and upper end; NaN of no values.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return math.nan, math.nan
    numbers = np.random.default_rng(seed)
    means = [
        known[numbers.integers(0, len(known), size=(min(200, resamples - done), len(known)))].mean(axis=1)
        for done in range(0, resamples, 200)
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float(low), float(high)


def clustered_interval(
    values: Values, groups: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Return the 95 % interval of the mean where values come in groups that go together.

    The groups are what is drawn again, with replacement, each with all its values (the cluster bootstrap,
    Davison & Hinkley 1997, section 3.8): the values of one group say less than as many of different ones.

    Args:
        values: any number of each group.
        groups: for each value the number of its group, from 0.

    Returns:
        Its lower and upper end; NaN of no values.
    """
    if not len(values):
        return math.nan, math.nan
    _, places = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(places, values), np.bincount(places).astype(np.float64)
    numbers = np.random.default_rng(seed)
    drawn = numbers.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=resamples)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile((drawn @ sums) / (drawn @ counts), [tail, 100 - tail])
    return float(low), float(high)
