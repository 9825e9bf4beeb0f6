"""Fusion: one order of what was found by words and of what is near in meaning.

A weighted sum of normalised scores (Fox & Shaw 1994): the memory nearest in meaning gets
`recall_meaning_weight` of the best memory's score by words, the others in proportion to their similarity.
Reciprocal ranks (Cormack et al. 2009), which know no scores, were measured beside it and fell behind: see
docs/vectors.md.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from mnemoduck.recall.records import Candidate, ScoreParts


@dataclass(frozen=True)
class Similar:
    """A memory near in meaning, of equal texts one: similarity is its cosine, by the speaker's factor.

    `equals` names its text within its user and agent; of a candidate it is the same.
    """

    memory_id: UUID
    occurred_at: datetime
    similarity: float
    support_count: int
    equals: Hashable


def fuse(
    by_words: Sequence[Candidate], by_meaning: Sequence[Similar], *, weight: float, limit: int
) -> list[Candidate]:
    """Return the best of both, best first; a memory that both have found adds up.

    Where nothing was found by words, similarities count as they are, so scores stay above 0 and
    comparable within the answer. What is not nearer than a right angle adds nothing.
    """
    nearest = max((one.similarity for one in by_meaning), default=0.0)
    if nearest <= 0 or weight <= 0:
        return list(by_words[:limit])
    gain = weight * max(one.score for one in by_words) / nearest if by_words else 1.0
    meanings = {one.memory_id: gain * max(one.similarity, 0.0) for one in by_meaning}
    fused = [_add(one, meanings.get(one.memory_id, 0.0)) for one in by_words]
    found = {one.memory_id for one in by_words}
    texts = {one.equals for one in by_words}
    fused.extend(
        _by_meaning_alone(one, meanings[one.memory_id])
        for one in by_meaning
        if meanings[one.memory_id] > 0 and one.memory_id not in found and one.equals not in texts
    )
    fused.sort(key=lambda one: (one.score, one.occurred_at, one.memory_id), reverse=True)
    return fused[:limit]


def _add(one: Candidate, meaning: float) -> Candidate:
    if not meaning:
        return one
    return replace(one, score=one.score + meaning, parts=replace(one.parts, meaning=meaning))


def _by_meaning_alone(similar: Similar, meaning: float) -> Candidate:
    return Candidate(
        memory_id=similar.memory_id,
        occurred_at=similar.occurred_at,
        is_fresh=False,
        score=meaning,
        parts=ScoreParts(words=0.0, context=0.0, session=0.0, speaker=1.0, meaning=meaning),
        matched_terms=(),
        support_count=similar.support_count,
        equals=similar.equals,
    )
