"""Diversity: an answer that repeats another is worth less beside it.

Maximal marginal relevance (Carbonell & Goldstein 1998): of what is left, the next is the one with the highest

    (1 - diversity) * relevance - diversity * (its likeness to the most like of those that were taken),

relevance being its score as a share of the best score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mnemoduck.errors import UsageError

MAX_DIVERSIFIED = 1000
"""So many are put in an order of their own at most: each is compared with each."""

_WORD = re.compile(r"[^\W_]+")

Likeness = Callable[[int, int], float]


def check_diversity(diversity: float) -> None:
    """Raise UsageError unless it is a number from 0 (off) to 1."""
    is_number = isinstance(diversity, int | float) and not isinstance(diversity, bool)
    if not is_number or not 0 <= diversity <= 1:
        raise UsageError(f"diversity takes a number from 0 (off) to 1; got {diversity!r}.")


def diversify(scores: Sequence[float], likeness: Likeness, *, diversity: float, limit: int) -> list[int]:
    """Return the places of the chosen in the order in which they are chosen, at most `limit`.

    Args:
        scores: of the candidates, best first, above 0. Equal ones are taken in this order.
        likeness: of two places, 0..1.
    """
    left = list(range(min(len(scores), MAX_DIVERSIFIED)))
    nearest = [0.0] * len(left)
    chosen: list[int] = []
    while left and len(chosen) < limit:
        taken = max(
            left,
            key=lambda place: (
                (1 - diversity) * scores[place] / scores[0] - diversity * nearest[place],
                -place,
            ),
        )
        left.remove(taken)
        chosen.append(taken)
        for place in left:
            nearest[place] = max(nearest[place], likeness(taken, place))
    return chosen + list(range(MAX_DIVERSIFIED, min(len(scores), limit)))


def word_likeness(texts: Sequence[str]) -> Likeness:
    """Return the Jaccard similarity of the words of two texts; texts without any word are alike."""
    words = [frozenset(_WORD.findall(text.casefold())) for text in texts]

    def likeness(one: int, other: int) -> float:
        together = words[one] | words[other]
        return len(words[one] & words[other]) / len(together) if together else 1.0

    return likeness


def vector_likeness(vectors: Sequence[Sequence[float]]) -> Likeness:
    """Return the cosine of two vectors of length 1, below 0 being 0."""

    def likeness(one: int, other: int) -> float:
        product = sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))
        return min(1.0, max(0.0, product))

    return likeness
