"""What each weight is worth, whether that holds for a conversation not looked at, and what was tried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from benchmarks.recall_quality.conversations import Corpus
from benchmarks.recall_quality.formula import Asked, Index, Numbers, Weights, Words, values_of, weights_of
from mnemoduck.evaluation import Ablation
from mnemoduck.memory import Memory
from mnemoduck.project import find_project

SWEPT: dict[str, tuple[float, ...]] = {
    "recall_saturation": (0.9, 1.6),
    "recall_length_weight": (0.25, 0.55, 0.75),
    "recall_session_length_weight": (0.5, 1.0),
    "recall_neighbour_weight": (0.0, 0.25, 0.4, 0.65),
    "recall_second_neighbour_weight": (0.0, 0.1, 0.4),
    "recall_answer_weight": (0.0, 0.15, 0.5),
    "recall_question_weight": (0.4, 0.8, 1.0),
    "recall_speaker_weight": (1.0, 1.25, 2.0),
    "recall_names": (1.0,),
    "recall_session_weight": (0.0, 0.2, 0.6),
}
"""Each weight moved alone, the others as they are: few steps, since more would find what is chance."""

BY_WORDS_ALONE = Ablation(
    "by words alone: without the time boost and the prior",
    {"recall_time_weight": 0.0, "recall_prior_weight": 0.0},
)
"""What the formula computes: what a memory's time and strength add takes more than its text."""

WITHOUT_VECTORS = Ablation("without vectors", {"recall_meaning_weight": 0.0})


Expansions: TypeAlias = dict[str, list[tuple[str, float]]]
"""For a user and a question, concepts that come to mind with its words, and their activation."""


@dataclass
class Bench:
    """The corpora of a run, indexed."""

    words: Words
    weights: dict[str, float]
    corpora: dict[str, Corpus]
    indexes: dict[str, list[Index]]

    def __post_init__(self) -> None:
        self._known: dict[tuple[Any, ...], Numbers] = {}

    def values(self, name: str, weights: Weights | None = None, scores: Any = None) -> Numbers:
        key = (name, scores, *sorted((weights or self.weights).items()))
        if key not in self._known:
            self._known[key] = values_of(
                self.indexes[name], self.corpora[name], weights or self.weights, scores
            )
        return self._known[key]

    def means(self, weights: Weights | None = None, scores: Any = None) -> dict[str, list[float]]:
        return {name: mean_of(self.values(name, weights, scores)) for name in self.corpora}


def open_bench(corpora: dict[str, Corpus], weights: dict[str, float]) -> Bench:
    words = Words()
    indexes = {
        name: [Index(words, conversation) for conversation in corpus.conversations]
        for name, corpus in corpora.items()
    }
    return Bench(words, weights, corpora, indexes)


def study(corpora: dict[str, Corpus], expansions: Expansions) -> dict[str, Any]:
    """Return everything that is tried in the formula."""
    bench = open_bench(corpora, weights_of(find_project()))
    return {
        "weights": bench.weights,
        "formula": bench.means(),
        "sweep": sweep(bench),
        "leave_one_out": leave_one_out(bench, "locomo"),
        "tried": tried(bench, expansions),
        "turns_first": turns_first(bench, "longmemeval"),
        "quoted": {name: quoted(corpus) for name, corpus in corpora.items()},
    }


def quoted(corpus: Corpus) -> int:
    """Return how many questions have something between quotation marks, which the formula takes as words."""
    return sum(re.search(r'"[^"]+"', one.text) is not None for one in corpus.asked.questions)


def turns_first(bench: Bench, name: str, count: int = 10) -> dict[str, int]:
    """Return what the first turns of the answers are, and what those are that answer."""
    found = dict.fromkeys(
        ("turns", "evidence", "same_session", "same_session_assistant", "to_be_found", "ends_with_question"),
        0,
    )
    for index in bench.indexes[name]:
        for question in index.conversation.questions:
            turns, sessions = question.evidence["turns"], question.evidence["sessions"]
            for turn in index.best(index.scores(question.text, bench.weights), count):
                is_evidence = turn.names["turns"] in turns
                is_beside = not is_evidence and turn.names["sessions"] in sessions
                found["turns"] += 1
                found["evidence"] += is_evidence
                found["same_session"] += is_beside
                found["same_session_assistant"] += is_beside and turn.role == "assistant"
            for turn, is_question in zip(index.turns, index.is_question, strict=True):
                if turn.names["turns"] in turns:
                    found["to_be_found"] += 1
                    found["ends_with_question"] += bool(is_question)
    return found


def expand(memory: Memory, corpus: Corpus) -> Expansions:
    """Return what comes to mind with the words of each question."""
    found = {}
    for conversation in corpus.conversations:
        for question in conversation.questions:
            words = sorted(
                {word for word in question.text.lower().replace("?", " ").split() if len(word) > 3}
            )
            near = (
                memory.associations(words, user_id=conversation.user_id, depth=1, limit=10) if words else []
            )
            found[f"{conversation.user_id}/{question.text}"] = [(one.concept, one.activation) for one in near]
    return found


def mean_of(values: Numbers) -> list[float]:
    """Return the averages of the measures, over the questions that have them."""
    return [round(float(mean), 4) for mean in np.nanmean(values, axis=0)]


def sweep(bench: Bench) -> list[dict[str, Any]]:
    """Move each weight alone; the first row is as it is."""
    rows: list[dict[str, Any]] = [{"weight": None, "value": None, "means": bench.means()}]
    for name, values in SWEPT.items():
        for value in values:
            means = bench.means({**bench.weights, name: value})
            rows.append({"weight": name, "value": value, "means": means})
    return rows


def leave_one_out(bench: Bench, name: str) -> list[dict[str, Any]]:
    """Choose among the moves of `sweep` on all conversations but one, and judge the choice on that one.

    What is chosen by is the average of the measures. Nothing is chosen if no move is better than as it is.
    """
    ways: list[tuple[str, dict[str, float]]] = [("as it is", bench.weights)] + [
        (f"{weight} {value:g}", {**bench.weights, weight: value})
        for weight, values in SWEPT.items()
        for value in values
    ]
    found = [bench.values(name, weights) for _, weights in ways]
    owner = np.array(
        [index.conversation.user_id for index in bench.indexes[name] for _ in index.conversation.questions]
    )
    rows = []
    for index in bench.indexes[name]:
        out = owner == index.conversation.user_id
        best = int(np.argmax([values[~out].mean() for values in found]))
        rows.append(
            {
                "conversation": index.conversation.user_id,
                "questions": int(out.sum()),
                "as_it_is": mean_of(found[0][out]),
                "chosen": ways[best][0],
                "with_the_choice": mean_of(found[best][out]),
            }
        )
    return rows


def tried(bench: Bench, expansions: Expansions) -> list[dict[str, Any]]:
    """What else was tried, each beside recall as it is."""
    rows = [{"name": "as it is", "means": bench.means()}]
    for name, scores in _other_scores(expansions):
        means = bench.means(scores=scores)
        rows.append({"name": name, "means": means if _ONLY not in name else {"locomo": means["locomo"]}})
    for name, rewrite in _OTHER_TERMS.items():
        other = Bench(
            bench.words,
            bench.weights,
            bench.corpora,
            {
                corpus: [Index(bench.words, index.conversation, rewrite) for index in indexes]
                for corpus, indexes in bench.indexes.items()
            },
        )
        rows.append({"name": name, "means": other.means()})
    return rows


_ONLY = "(LoCoMo only)"


def _without_ending(term: str) -> str:
    for ending in (
        "ation",
        "ition",
        "ator",
        "ment",
        "ness",
        "ist",
        "ian",
        "ier",
        "er",
        "or",
        "al",
        "ic",
        "i",
    ):
        if term.endswith(ending) and len(term) - len(ending) >= 4:
            return term[: -len(ending)]
    return term


_OTHER_TERMS: dict[str, Callable[[str], str]] = {
    "stems cut to 5 letters": lambda term: term[:5],
    "stems cut to 6 letters": lambda term: term[:6],
    "endings that derive words taken off stems": _without_ending,
}


def _other_scores(expansions: Expansions) -> Iterator[tuple[str, Any]]:
    for weight in (0.6, 0.5):
        yield (
            f"recall_question_weight {weight:g} for the share of a turn's words that stand in questions",
            _by_share(weight),
        )
    for documents, terms, weight in ((5, 10, 0.1), (5, 10, 0.2), (10, 20, 0.1), (10, 20, 0.3)):
        yield (
            f"pseudo-relevance feedback: {terms} terms of the best {documents}, weight {weight:g}",
            _feedback(documents, terms, weight),
        )
    if expansions:
        for weight in (0.1, 0.2, 0.4):
            yield (
                f"query expansion through the concept graph, weight {weight:g} {_ONLY}",
                _through_concepts(expansions, weight),
            )


def _by_share(weight: float) -> Callable[[Index, str, Weights], Numbers]:
    """A turn that tells something before it asks loses only by what it asks."""

    def scores(index: Index, text: str, weights: Weights) -> Numbers:
        return index.scores(text, weights, 1 - (1 - weight) * index.question_share)

    return scores


def _feedback(documents: int, count: int, weight: float) -> Callable[[Index, str, Weights], Numbers]:
    """RM3 in spirit (Lavrenko & Croft 2001): words that the best answers share are searched for as well."""

    def scores(index: Index, text: str, weights: Weights) -> Numbers:
        own = index.scores(text, weights)
        top = np.argsort(-own, kind="stable")[:documents]
        top = top[own[top] > 0]
        if not len(top):
            return own
        found = index.document_counts
        rarity = np.log(1 + (len(own) - found + 0.5) / (found + 0.5))
        shared = ((index.frequencies[top] > 0) * (own[top] / own[top[0]])[:, None]).sum(0) * rarity
        shared[index.read(text, weights).columns] = 0
        shared[found < 2] = 0
        return own + weight * _also(index, shared, count, weights)

    return scores


def _through_concepts(expansions: Expansions, weight: float) -> Callable[[Index, str, Weights], Numbers]:
    """What comes to mind with the words of the question, by spreading activation, is searched for as well."""

    def scores(index: Index, text: str, weights: Weights) -> Numbers:
        own = index.scores(text, weights)
        shared = np.zeros(len(index.vocabulary))
        for concept, activation in expansions.get(f"{index.conversation.user_id}/{text}", ()):
            for word in concept.lower().split():
                column = index.vocabulary.get(index.terms.get(word, ""))
                if column is not None:
                    shared[column] = max(shared[column], activation)
        shared[index.read(text, weights).columns] = 0
        return own + weight * _also(index, shared, 10, weights) if shared.any() else own

    return scores


def _also(index: Index, shared: Numbers, count: int, weights: Weights) -> Numbers:
    columns = [int(column) for column in np.argsort(-shared, kind="stable")[:count] if shared[column] > 0]
    asked = Asked(columns, index.frequencies[:, columns].astype(float), np.zeros(len(index.turns), bool))
    if not columns:
        return np.zeros(len(index.turns))
    return index.bm25(asked, weights, shared[columns] / shared.max())  # of activation, only the ratios count
