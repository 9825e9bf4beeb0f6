"""Scores by words, in numpy: what the macro `ranked_memories` defines, computed without a statement.

There are two, since DuckDB takes 20 ms to plan that macro's statement, whatever it is to read: three times
what all of a question takes here. The macro is the definition, and what SQL clients are answered with; a
test holds the two together (tests/unit/test_search_sql.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mnemoduck.recall.documents import Booleans, Documents, Integers

Scores: TypeAlias = NDArray[np.float64]
Weights: TypeAlias = Mapping[str, float]
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Hits:
    """Occurrences of the terms of a query: which term, in which memory of which session, how often.

    `term` is the place of the term among those of the query, `length` how many words the memory has.
    """

    term: Integers
    memory_key: Integers
    session_key: Integers
    frequency: Integers
    length: Integers

    def take(self, rows: Integers | Booleans) -> Hits:
        return Hits(
            self.term[rows],
            self.memory_key[rows],
            self.session_key[rows],
            self.frequency[rows],
            self.length[rows],
        )


@dataclass(frozen=True, eq=False)
class Matches:
    """The memories and sessions in which terms occur, both in the order of their keys (of memories those of
    their sessions first), and the hits in the order of memories.

    `session_score` is a share of the best session's; `session_merit` is what sessions are chosen by.
    """

    hits: Hits
    memory_key: Integers
    memory_session: Integers
    own_score: Scores
    session_key: Integers
    session_score: Scores
    session_merit: Scores


@dataclass(frozen=True, eq=False)
class Answers:
    """The best answers, best first: the documents that they are, and what makes up their scores."""

    documents: Documents
    score: Scores
    words: Scores
    context: Scores
    session: Scores
    speaker: Scores
    support_count: Integers


def match(
    hits: Hits,
    not_found: Integers,
    document_count: int,
    average_length: float,
    weights: Weights,
) -> Matches | None:
    """Return what matches, None if nothing does.

    Args:
        not_found: keys of memories that are not to be found, in their order.
        document_count, average_length: of all documents of the user; the length in words.
    """
    term_count = int(hits.term.max(initial=-1)) + 1
    occurring = np.bincount(hits.term, minlength=term_count)
    if len(not_found):
        hits = hits.take(~is_among(hits.memory_key, not_found))
    if not len(hits.term):
        return None
    hits = hits.take(np.lexsort((hits.memory_key, hits.session_key)))
    scores = _bm25(
        _rarity(document_count, occurring)[hits.term],
        hits.frequency,
        hits.length / average_length,
        weights["recall_length_weight"],
        weights["recall_saturation"],
    )
    memory_begins = _begins(hits.memory_key)
    own_scores = np.add.reduceat(_billionths(scores), memory_begins) / 1e9
    sessions_of_hits = hits.session_key
    memory_session = sessions_of_hits[memory_begins]
    session_begins = _begins(memory_session)
    session_key = memory_session[session_begins]
    best = np.maximum.reduceat(own_scores, session_begins)
    session_scores = _score_sessions(
        hits, np.add.reduceat(hits.length[memory_begins], session_begins), term_count, weights
    )
    best_session, best_memory = session_scores.max(), best.max()
    if best_session <= 0 or best_memory <= 0:
        return None  # less than a billionth
    share = session_scores / best_session
    return Matches(
        hits=hits,
        memory_key=hits.memory_key[memory_begins],
        memory_session=memory_session,
        own_score=own_scores,
        session_key=session_key,
        session_score=share,
        session_merit=best / best_memory + weights["recall_session_weight"] * session_scores / best_session,
    )


def choose_sessions(matches: Matches, count: int, only: Integers | None = None) -> Integers:
    """Return the places of the best sessions, at most so many, in the order of their keys.

    Args:
        only: as of `score`; a session that has none of them holds no answer, however well it matches.
    """
    places = np.arange(len(matches.session_key))
    if only is not None:
        sessions = np.unique(matches.memory_session[is_among(matches.memory_key, only)])
        places = np.searchsorted(matches.session_key, sessions)
    merit = matches.session_merit[places]
    if len(merit) <= count:
        return places
    least = -np.partition(-merit, count - 1)[count - 1]
    near = np.flatnonzero(merit >= least)
    # Of equals the least keys.
    return places[np.sort(near[np.argsort(-merit[near], kind="stable")[:count]])]


def score(
    matches: Matches,
    sessions: Integers,
    documents: Documents,
    not_found: Integers,
    only: Integers | None,
    is_named: Booleans,
    weights: Weights,
    gap_microseconds: int,
    limit: int,
) -> Answers:
    """Return the best answers of some sessions; equal texts are one.

    Args:
        sessions: places of the sessions that are looked into, in the order of their keys.
        documents: those of these sessions.
        not_found: as of `match`. only: keys of what may be an answer, in their order; None for everything.
        is_named: for each of the roles of the documents, and none at the end, whether the query names it.
        gap_microseconds: how long a silence ends that something was said just before.
    """
    if len(not_found):
        documents = documents.take(~is_among(documents.memory_key, not_found))
    chosen_keys = matches.session_key[sessions]
    own = _own_scores(matches, chosen_keys, documents.memory_key)
    before = _near(documents, own, 1, gap_microseconds)
    after = _near(documents, own, -1, gap_microseconds)
    is_answer = _shift(documents.is_question, 1)
    own_part = own * np.where(documents.is_question, weights["recall_question_weight"], 1.0)
    context = (
        weights["recall_neighbour_weight"] * (before + after)
        + weights["recall_second_neighbour_weight"]
        * (_near(documents, own, 2, gap_microseconds) + _near(documents, own, -2, gap_microseconds))
        + weights["recall_answer_weight"] * np.where(is_answer, before, 0.0)
    )
    is_matched = own_part + context > 0
    if only is not None:
        is_matched &= is_among(documents.memory_key, only)
    rows = np.flatnonzero(is_matched)
    documents, own_part, context = documents.take(rows), own_part[rows], context[rows]
    speaker = np.where(is_named[documents.role], float(weights["recall_speaker_weight"]), 1.0)
    lexical = (own_part + context) * speaker
    shares = matches.session_score[sessions][np.searchsorted(chosen_keys, documents.session_key)]
    session = weights["recall_session_weight"] * shares * lexical.max(initial=0.0)
    total = lexical + session
    best = _best(documents, total, limit)
    return Answers(
        documents=documents.take(best),
        score=total[best],
        words=(own_part * speaker)[best],
        context=(context * speaker)[best],
        session=session[best],
        speaker=speaker[best],
        support_count=_support(documents, best),
    )


def terms_of(matches: Matches, memory_keys: Integers) -> dict[int, list[int]]:
    """Return the places of the terms that occur in some memories, by their keys."""
    hits = matches.hits
    rows = np.flatnonzero(is_among(hits.memory_key, np.sort(memory_keys)))
    found: dict[int, list[int]] = {}
    for key, term in zip(hits.memory_key[rows].tolist(), hits.term[rows].tolist(), strict=True):
        found.setdefault(key, []).append(term)
    return found


def is_among(values: Integers, keys: Integers) -> Booleans:
    """Return for each value whether it is among keys that are in their order."""
    if not len(keys):
        return np.zeros(len(values), np.bool_)
    places = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    return np.asarray(keys[places] == values)


def _bm25(
    rarity: Scores, frequency: Integers, relative_length: Scores, length_weight: float, saturation: float
) -> Scores:
    """The macro `bm25`."""
    weakened: Scores = saturation * (1 - length_weight + length_weight * relative_length)
    scores: Scores = rarity * frequency * (saturation + 1) / (frequency + weakened)
    return scores


def _rarity(count: int, occurring: Integers) -> Scores:
    """Return the weight of each term that occurs in so many of all documents, or sessions."""
    rarity: Scores = np.log(1 + (count - occurring + 0.5) / (occurring + 0.5))
    return rarity


def _billionths(scores: Scores) -> Integers:
    """The macro `summed`: sums of whole numbers are the same in any order."""
    return np.rint(1e9 * scores).astype(np.int64)


def _score_sessions(hits: Hits, lengths: Integers, term_count: int, weights: Weights) -> Scores:
    """Return the BM25 of each session over the sessions, which are in the order of the hits."""
    begins = _begins(hits.session_key)
    numbers = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(hits.term)))
    pairs, places = np.unique(numbers * term_count + hits.term, return_inverse=True)
    frequency = np.bincount(places, weights=hits.frequency)
    sessions, terms = np.divmod(pairs, term_count)
    scores = _bm25(
        _rarity(len(begins), np.bincount(terms, minlength=term_count))[terms],
        frequency,
        (lengths / (lengths.sum() / len(begins)))[sessions],
        weights["recall_session_length_weight"],
        weights["recall_saturation"],
    )
    totals: Scores = np.add.reduceat(_billionths(scores), _begins(sessions)) / 1e9
    return totals


def _begins(keys: Integers) -> Integers:
    """Return where each run of equal keys begins; there is at least one key."""
    return np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))


def _own_scores(matches: Matches, session_keys: Integers, memory_keys: Integers) -> Scores:
    """Return the own score of each memory of some sessions, 0 where no term occurs."""
    rows = np.flatnonzero(is_among(matches.memory_session, session_keys))
    rows = rows[np.argsort(matches.memory_key[rows])]
    keys = matches.memory_key[rows]
    if not len(keys):
        return np.zeros(len(memory_keys))
    places = np.minimum(np.searchsorted(keys, memory_keys), len(keys) - 1)
    return np.where(keys[places] == memory_keys, matches.own_score[rows][places], 0.0)


def _near(documents: Documents, own: Scores, distance: int, gap_microseconds: int) -> Scores:
    """The macro `near`: the score of what was said so many before (after, if less than 0)."""
    is_near = (_shift(documents.session_key, distance) == documents.session_key) & (
        np.abs(_shift(documents.occurred_at, distance) - documents.occurred_at) <= gap_microseconds
    )
    shifted = np.where(is_near, _shift(own, distance), 0.0)
    if distance > 0:
        shifted[:distance] = 0.0
    else:
        shifted[distance:] = 0.0
    return shifted


def _shift(values: NDArray[_Scalar], distance: int) -> NDArray[_Scalar]:
    """Return what stands so many places before; the first ones are of no meaning."""
    shifted = np.empty_like(values)
    if distance > 0:
        shifted[distance:] = values[:-distance]
        shifted[:distance] = values[:distance]
    else:
        shifted[:distance] = values[-distance:]
        shifted[distance:] = values[distance:]
    return shifted


def _best(documents: Documents, total: Scores, limit: int) -> Integers:
    """Return the rows of the best answers: by score, of equals the last; of equal texts the best."""
    taken = 4 * limit
    while True:
        if taken < len(total):
            least = -np.partition(-total, taken - 1)[taken - 1]
            rows = np.flatnonzero(total >= least)
        else:
            rows = np.arange(len(total))
        rows = rows[
            np.lexsort(
                (
                    documents.id_low[rows],
                    documents.id_high[rows],
                    documents.occurred_at[rows],
                    total[rows],
                )
            )[::-1]
        ]
        first = np.sort(np.unique(documents.equals[rows], return_index=True)[1])
        if len(first) >= limit or len(rows) == len(total):
            return rows[first[:limit]]
        taken *= 4


def _support(documents: Documents, best: Integers) -> Integers:
    """Return how many of the memories have the text of each of the best."""
    if not len(best):
        return np.empty(0, np.int64)
    order = np.argsort(documents.equals[best])
    texts = documents.equals[best][order]
    places = np.minimum(np.searchsorted(texts, documents.equals), len(texts) - 1)
    counts = np.bincount(places[texts[places] == documents.equals], minlength=len(texts))
    support = np.empty(len(best), np.int64)
    support[order] = counts
    return support
