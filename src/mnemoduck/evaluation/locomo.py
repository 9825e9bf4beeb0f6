"""The questions of LoCoMo (Maharana et al. 2024) in its official format.

Each item has beside its `conversation` the questions, `qa`: `question`, `category`, and `evidence`, the
`dia_id` of the turns that answer it. Measured is the fraction of them among the first turns that are
recalled from the question's own conversation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mnemoduck.evaluation.measures import fraction_found
from mnemoduck.evaluation.questions import Measure, Question, QuestionSet, read_items, refuse
from mnemoduck.importers.locomo import SECONDS_BETWEEN_TURNS, parse_date
from mnemoduck.importers.records import RefusedError

TITLE = "LoCoMo"
CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
CUTS = (5, 10, 20)

NO_EVIDENCE = "no evidence that is a turn"

_SEPARATORS = re.compile(r"[\s;,]+")
_SESSION = re.compile(r"session_[0-9]{1,9}", re.ASCII)


def read_locomo_questions(path: Path) -> QuestionSet:
    """Return the questions of a file; those without any evidence that is a turn are counted as skipped.

    An evidence may name several turns, with blanks, commas or semicolons between them; what is not the id
    of a turn is dropped. A question is asked just after the last turn of its conversation.

    Raises:
        UsageError: the file cannot be read, or is not of the format; says where.
    """
    questions: list[Question] = []
    skipped: Counter[str] = Counter()
    for number, sample in enumerate(read_items(path, TITLE), start=1):
        where = f"sample {number}"
        sample_id, conversation, asked = (sample.get(key) for key in ("sample_id", "conversation", "qa"))
        if (
            not isinstance(sample_id, str)
            or not isinstance(conversation, dict)
            or not isinstance(asked, list)
        ):
            raise refuse(path, TITLE, f"{where} has not all of sample_id, conversation and qa")
        try:
            turns, as_of = _turns(conversation)
        except RefusedError as error:
            raise refuse(path, TITLE, f"{error} ({where})") from error
        for place, one in enumerate(asked, start=1):
            if not isinstance(one, dict) or not _is_category(one.get("category")):
                raise refuse(path, TITLE, f"question {place} of {where} has no category from 1 to 5")
            text, evidence = one.get("question"), one.get("evidence", [])
            if text is None or not isinstance(evidence, list):
                raise refuse(
                    path, TITLE, f"question {place} of {where} has no text, or its evidence is no list"
                )
            named = frozenset(split_evidence(evidence) & turns)
            if not named:
                skipped[NO_EVIDENCE] += 1
                continue
            questions.append(
                Question(
                    question_id=f"{sample_id}/{place}",
                    user_id=sample_id,
                    text=str(text),
                    kind=CATEGORIES[one["category"]],
                    as_of=as_of,
                    evidence={"turns": named},
                )
            )
    return QuestionSet(
        title=TITLE,
        format="locomo",
        units={"turns": lambda metadata: metadata.get("dia_id")},
        measures=tuple(Measure(f"recall@{k}", "turns", k, fraction_found) for k in CUTS),
        limit=max(CUTS),
        kinds=tuple(CATEGORIES.values()),
        questions=tuple(questions),
        skipped=dict(skipped),
    )


def _is_category(value: object) -> bool:
    return isinstance(value, int) and value in CATEGORIES


def split_evidence(evidence: list[Any]) -> set[Hashable]:
    """Return the ids that evidence strings name."""
    return {name for text in evidence for name in _SEPARATORS.split(str(text)) if name}


def _turns(conversation: dict[str, Any]) -> tuple[set[Hashable], datetime]:
    """Return the ids of a conversation's turns, and the moment after the last of them.

    Raises:
        RefusedError: a session has turns and no date.
    """
    turns: set[Hashable] = set()
    as_of = datetime.min.replace(tzinfo=UTC)
    for key, session in conversation.items():
        if _SESSION.fullmatch(key) and isinstance(session, list) and session:
            named = (turn.get("dia_id") for turn in session if isinstance(turn, dict))
            turns |= {name for name in named if isinstance(name, str) and name}
            length = timedelta(seconds=SECONDS_BETWEEN_TURNS * len(session))
            as_of = max(as_of, parse_date(conversation.get(f"{key}_date_time")) + length)
    if not turns:
        raise RefusedError("the conversation has no turns")
    return turns, as_of
