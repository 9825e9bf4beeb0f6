"""The conversations of the two development files, as the importers read them, with their questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoduck.evaluation import Question, QuestionSet, read_locomo_questions, read_longmemeval_questions
from mnemoduck.events import Event
from mnemoduck.importers.locomo import read_locomo
from mnemoduck.importers.longmemeval import read_longmemeval
from mnemoduck.importers.source import Source
from mnemoduck.scope import Scope

LOCOMO = "locomo_dev.json"
LONGMEMEVAL = "longmemeval_s_dev.json.gz"


@dataclass(frozen=True)
class Turn:
    """A memory of a conversation, and what it is called in the evidence, by unit."""

    text: str
    role: str
    session: str
    names: dict[str, Hashable]


@dataclass(frozen=True)
class Conversation:
    """The turns of one user, session by session, and the questions to them."""

    user_id: str
    turns: list[Turn]
    questions: list[Question]


@dataclass(frozen=True)
class Corpus:
    """All conversations of a file."""

    asked: QuestionSet
    conversations: list[Conversation]

    def score(self, question: Question, order: list[Turn]) -> list[float]:
        """Return the measures of turns that were found, best first."""
        found = {unit: list(dict.fromkeys(turn.names[unit] for turn in order)) for unit in self.asked.units}
        return [
            measure.count(question.evidence[measure.unit], found[measure.unit], measure.first)
            for measure in self.asked.measures
        ]


def read_corpus(path: Path) -> Corpus:
    """Return a development file's conversations; which benchmark it is, its name tells."""
    is_locomo = path.name == LOCOMO
    asked = read_locomo_questions(path) if is_locomo else read_longmemeval_questions(path)
    read = read_locomo if is_locomo else read_longmemeval
    turns: dict[str, list[Turn]] = defaultdict(list)
    # In the order of the file, session by session: some sessions were at the same time.
    for event in read(Source(path, size=path.stat().st_size), Scope()):
        if not isinstance(event, Event):
            raise ValueError(f"{path}: {event.reason}")
        payload: dict[str, Any] = event.payload
        names = {unit: name(payload.get("metadata") or {}) for unit, name in asked.units.items()}
        session = f"{event.session_id} {event.occurred_at.date()}"
        turns[event.user_id or ""].append(Turn(payload["content"], payload["role"] or "", session, names))
    questions: dict[str, list[Question]] = defaultdict(list)
    for question in asked.questions:
        questions[question.user_id].append(question)
    return Corpus(asked, [Conversation(user, turns[user], questions[user]) for user in questions])
