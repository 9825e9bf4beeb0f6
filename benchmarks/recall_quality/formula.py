"""Recall by words as a formula in numpy: what the macro `ranked_memories` does, fast enough to try a weight.

Words are told apart, brought to one form and numbered by the project's own macros in DuckDB. `run` asks the
same questions through the API; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.recall_quality.conversations import Conversation, Turn
from mnemoduck.extensions import load_extension
from mnemoduck.project import find_project, render, variables

Numbers: TypeAlias = NDArray[np.float64]
Weights: TypeAlias = Mapping[str, float]
_SENTENCE = re.compile(r"[^.?!\n]+[.?!]*|[.?!]+")


def weights_of(project: Path, changes: Weights | None = None) -> dict[str, float]:
    """Return the weights of recall in dbt_project.yml, some of them changed."""
    own = {
        name: float(value)
        for name, value in variables(project).items()
        if name.startswith("recall_") and isinstance(value, int | float)
    }
    return own | dict(changes or {})


class Words:
    """Tells the words of texts apart, as the project does."""

    def __init__(self) -> None:
        self._project = find_project()
        self._connection = duckdb.connect()
        load_extension(self._connection, "fts")
        self.stop_words = frozenset(render(self._project, "stop_words").split())
        self.impersonal = frozenset(render(self._project, "impersonal_roles").split())
        groups = (group.split() for group in render(self._project, "spoken_roles").split(";"))
        self.spoken = {role: frozenset(names) for role, *names in groups}

    def read(self, texts: Sequence[str]) -> tuple[list[list[str]], list[bool], dict[str, str]]:
        """Return for each text its words and whether it asks something; and the term of each word."""
        given = pa.table({"place": list(range(len(texts))), "content": list(texts)})
        self._connection.register("given", given)
        rows = self._connection.execute(
            f"select {render(self._project, 'search_words', 'content')}, "
            f"{render(self._project, 'is_question', 'content')} from given order by place"
        ).fetchall()
        vocabulary = sorted({word for words, _ in rows for word in words})
        self._connection.register("vocabulary", pa.table({"word": vocabulary}))
        terms = self._connection.execute(
            f"select word, term from ({render(self._project, 'search_terms', 'vocabulary')})"
        ).fetchall()
        return [row[0] for row in rows], [row[1] for row in rows], dict(terms)


@dataclass
class Asked:
    """What a question searches for in a conversation: columns of its terms, and whose turns it names."""

    columns: list[int]
    frequencies: Numbers
    is_named: NDArray[np.bool_]


class Index:
    """A conversation to be searched with any weights; `rewrite` changes terms, to try other forms."""

    def __init__(
        self, words: Words, conversation: Conversation, rewrite: Callable[[str], str] = lambda term: term
    ) -> None:
        self._words = words
        self.conversation = conversation
        self.turns: list[Turn] = conversation.turns
        texts = [turn.text for turn in self.turns]
        queries = [question.text for question in conversation.questions]
        roles = sorted({turn.role for turn in self.turns})
        told, asks, terms = words.read([*texts, *queries, *roles])
        self.terms = {word: rewrite(term) for word, term in terms.items()}
        self.is_question = np.array(asks[: len(texts)])
        self._queries = dict(zip(queries, told[len(texts) :], strict=False))
        role_words = dict(zip(roles, map(frozenset, told[len(texts) + len(queries) :]), strict=True))
        self._roles = [role_words[turn.role] for turn in self.turns]
        self._names = frozenset().union(*role_words.values()) - words.impersonal
        self.vocabulary: dict[str, int] = {}
        counts: list[dict[int, int]] = []
        for text in told[: len(texts)]:
            row: dict[int, int] = {}
            for word in text:
                column = self.vocabulary.setdefault(self.terms[word], len(self.vocabulary))
                row[column] = row.get(column, 0) + 1
            counts.append(row)
        self.frequencies = np.zeros((len(texts), len(self.vocabulary)), np.float32, order="F")
        for place, row in enumerate(counts):
            for column, count in row.items():
                self.frequencies[place, column] = count
        self.lengths = np.array([len(text) for text in told[: len(texts)]], float)
        self.sessions = np.unique([turn.session for turn in self.turns], return_inverse=True)[1]
        same = {" ".join(text.lower().split()): place for place, text in enumerate(texts)}
        self._same = np.array([same[" ".join(text.lower().split())] for text in texts])
        self._asked: dict[tuple[str, bool], Asked] = {}

    @cached_property
    def document_counts(self) -> Numbers:
        return np.asarray((self.frequencies > 0).sum(0), float)

    def read(self, text: str, weights: Weights) -> Asked:
        """Return what a question of the conversation searches for."""
        keep_names = bool(weights["recall_names"])
        key = (text, keep_names)
        if key not in self._asked:
            all_words = list(dict.fromkeys(self._queries[text]))
            telling = [word for word in all_words if word not in self._words.stop_words] or all_words
            searched = [word for word in telling if keep_names or word not in self._names] or telling
            named = set(telling) | {
                role for role, names in self._words.spoken.items() if names.intersection(all_words)
            }
            columns = sorted({self.vocabulary.get(self.terms[word], -1) for word in searched} - {-1})
            self._asked[key] = Asked(
                columns,
                self.frequencies[:, columns].astype(float),
                np.array([bool(role & named) for role in self._roles]),
            )
        return self._asked[key]

    @cached_property
    def question_share(self) -> Numbers:
        """Of each turn, the share of its words that stand in a sentence with a question mark."""
        shares = []
        for turn in self.turns:
            sentences = [(len(one.split()), "?" in one) for one in re.findall(_SENTENCE, turn.text)]
            total = sum(count for count, _ in sentences)
            shares.append(sum(count for count, asks in sentences if asks) / max(total, 1))
        return np.array(shares)

    def scores(self, text: str, weights: Weights, own_factor: Numbers | None = None) -> Numbers:
        """Return the score of each turn for a question; 0 if it is not found.

        Args:
            own_factor: of each turn, instead of `recall_question_weight` for those that end in a question.
        """
        asked = self.read(text, weights)
        if not asked.columns:
            return np.zeros(len(self.turns))
        own = self.bm25(asked, weights)
        if own_factor is None:
            own_factor = np.where(self.is_question, weights["recall_question_weight"], 1)
        parts = own * own_factor
        for distance, name in ((1, "recall_neighbour_weight"), (2, "recall_second_neighbour_weight")):
            parts = parts + weights[name] * (self._shifted(own, distance) + self._shifted(own, -distance))
        parts = parts + weights["recall_answer_weight"] * self._shifted(own * self.is_question, 1)
        lexical = parts * np.where(asked.is_named, weights["recall_speaker_weight"], 1)
        session = self._session_scores(asked, weights)[self.sessions] * lexical.max()
        return np.where(parts > 0, lexical + weights["recall_session_weight"] * session, 0)

    def bm25(self, asked: Asked, weights: Weights, boosts: Numbers | float = 1.0) -> Numbers:
        found = self.document_counts[asked.columns]
        rarity = np.log(1 + (len(self.turns) - found + 0.5) / (found + 0.5)) * boosts
        relative = self.lengths / self.lengths.mean()
        return _bm25(asked.frequencies, relative, rarity, weights, weights["recall_length_weight"])

    def best(self, scores: Numbers, count: int) -> list[Turn]:
        """Return the best turns, equal texts once, of equals the last."""
        order = np.lexsort((-np.arange(len(scores)), -scores))
        order = order[scores[order] > 0][: 3 * count + 20]
        _, first = np.unique(self._same[order], return_index=True)
        return [self.turns[place] for place in order[np.sort(first)][:count]]

    def _shifted(self, values: Numbers, distance: int) -> Numbers:
        """Return for each turn the value of the one so many before it, 0 if that is of another session."""
        source = np.arange(len(values)) - distance
        is_there = (source >= 0) & (source < len(values))
        source = source.clip(0, len(values) - 1)
        is_there &= self.sessions[source] == self.sessions
        return np.where(is_there, values[source], 0)

    def _session_scores(self, asked: Asked, weights: Weights) -> Numbers:
        """Return the BM25 of each session, the best 1. Its length is that of its turns that have a term."""
        count = int(self.sessions.max()) + 1
        frequencies = np.zeros((count, len(asked.columns)))
        np.add.at(frequencies, self.sessions, asked.frequencies)
        lengths = np.zeros(count)
        np.add.at(lengths, self.sessions, self.lengths * asked.frequencies.any(1))
        having = (frequencies > 0).sum(0)
        total = (lengths > 0).sum()
        rarity = np.log(1 + (total - having + 0.5) / (having + 0.5))
        relative = lengths / lengths[lengths > 0].mean()
        scores = _bm25(frequencies, relative, rarity, weights, weights["recall_session_length_weight"])
        best: Numbers = scores / max(scores.max(), 1e-12)
        return best


def _bm25(frequencies: Numbers, relative: Numbers, rarity: Numbers, weights: Weights, b: float) -> Numbers:
    k1 = weights["recall_saturation"]
    saturated = frequencies * (k1 + 1) / (frequencies + k1 * (1 - b + b * relative[:, None]) + 1e-12)
    total: Numbers = (rarity * saturated).sum(1)
    return total


def values_of(indexes: list[Index], corpus: Any, weights: Weights, scores: Any = None) -> Numbers:
    """Return the measures of every question, a row each, in the order of the conversations."""
    count = corpus.asked.limit
    return np.array(
        [
            corpus.score(
                question,
                index.best((scores or Index.scores)(index, question.text, weights), count),
            )
            for index in indexes
            for question in index.conversation.questions
        ]
    )
