"""The questions of LongMemEval (Wu et al. 2024) in its official format.

Measured is recall_all@k: 1 if all the sessions of `answer_session_ids` are among the first k that are
recalled from the question's own haystack, and the same over the turns that have `has_answer`. Sessions are
in the order of their first turn that is recalled, as the official `evaluate_retrieval_turn2session` does it.
Abstention questions, whose id has `_abs` in it, are left out of all averages, as the official
`print_retrieval_metrics.py` does it: nothing in their haystacks answers them.

Unlike the official retrievers, which index what the user says only, recall searches the turns of both.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mnemoduck.evaluation.measures import all_found
from mnemoduck.evaluation.questions import Measure, Question, QuestionSet, read_items, refuse
from mnemoduck.importers.locomo import SECONDS_BETWEEN_TURNS
from mnemoduck.importers.longmemeval import parse_date
from mnemoduck.importers.records import RefusedError

TITLE = "LongMemEval"
KINDS = (
    "single-session-user",
    "single-session-assistant",
    "single-session-preference",
    "multi-session",
    "knowledge-update",
    "temporal-reasoning",
)
CUTS = (5, 10)
MEMORIES = 50

ABSTENTION = "abstention: nothing answers it"
NO_EVIDENCE = "no session that answers it"


def read_longmemeval_questions(path: Path) -> QuestionSet:
    """Return the questions of a file; abstention questions are counted as skipped.

    A question is asked at its date, or just after the last turn of its haystack if that is later: some
    haystacks go on after the date, evidence included, and the official measure searches them whole.

    Raises:
        UsageError: the file cannot be read, or is not of the format; says where.
    """
    questions: list[Question] = []
    skipped: Counter[str] = Counter()
    late = 0
    for number, item in enumerate(read_items(path, TITLE), start=1):
        where = f"question {number}"
        try:
            question, is_late = _read(item)
        except (RefusedError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = str(error) if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}"
            raise refuse(path, TITLE, f"{where}: {reason}") from error
        if "_abs" in question.question_id:
            skipped[ABSTENTION] += 1
        elif not question.evidence["sessions"]:
            skipped[NO_EVIDENCE] += 1
        else:
            questions.append(question)
            late += is_late
    return QuestionSet(
        title=TITLE,
        format="longmemeval",
        units={
            "sessions": lambda metadata: metadata.get("session_id"),
            "turns": lambda metadata: (metadata.get("session_id"), metadata.get("turn")),
        },
        measures=tuple(
            Measure(f"{unit} recall_all@{k}", unit, k, all_found)
            for unit in ("sessions", "turns")
            for k in CUTS
        ),
        limit=MEMORIES,
        kinds=tuple(dict.fromkeys([*KINDS, *(question.kind for question in questions)])),
        questions=tuple(questions),
        skipped=dict(skipped),
        notes=(
            (f"{late} of {len(questions)} questions are dated before their haystack ends: asked after it.",)
            if late
            else ()
        ),
    )


def _read(item: dict[str, Any]) -> tuple[Question, bool]:
    missing = [
        name
        for name in ("question_id", "question", "question_type", "question_date", "answer_session_ids",
                     "haystack_sessions", "haystack_session_ids", "haystack_dates")
        if name not in item
    ]  # fmt: skip
    if missing:
        raise RefusedError(f"it has no {missing[0]}")
    asked_at = parse_date(item["question_date"])
    after = asked_at
    turns: set[tuple[str, int]] = set()
    haystack = zip(
        item["haystack_session_ids"], item["haystack_sessions"], item["haystack_dates"], strict=True
    )
    for session_id, session, date in haystack:
        after = max(after, _end(date, session))
        turns |= {(session_id, place) for place, turn in enumerate(session) if turn.get("has_answer")}
    sessions = frozenset(item["answer_session_ids"]) & frozenset(item["haystack_session_ids"])
    question = Question(
        question_id=str(item["question_id"]),
        user_id=str(item["question_id"]),
        text=str(item["question"]),
        kind=str(item["question_type"]),
        as_of=after,
        evidence={"sessions": sessions, "turns": frozenset(turns)},
    )
    return question, after > asked_at


def _end(date: object, session: list[Any]) -> datetime:
    return parse_date(date) + timedelta(seconds=SECONDS_BETWEEN_TURNS * len(session))
