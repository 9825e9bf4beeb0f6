"""LongMemEval (Wu et al. 2024) in its official format: a memory a turn of every haystack.

A document is a list of questions, or one of them: `question_id`, and three lists of equal length,
`haystack_sessions` (lists of turns `{role, content, has_answer?}`), `haystack_session_ids` and
`haystack_dates`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from mnemoduck.errors import InvalidEventError
from mnemoduck.events import derived_event_id, new_event
from mnemoduck.importers.documents import excerpt, read_document
from mnemoduck.importers.locomo import SECONDS_BETWEEN_TURNS, check_date
from mnemoduck.importers.plain import to_json_value
from mnemoduck.importers.records import RefusedError, Whole, reason_of, show
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope

_DATE = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2}) (?:\([A-Za-z]{3}\) )?([0-9]{2}):([0-9]{2})", re.ASCII)


def read_longmemeval(source: Source, defaults: Scope) -> Iterator[Whole]:
    """Yield the turns of every question's haystack; their place is their number in the file.

    The scope is (question_id, the default agent, the id of the session): a session that is in the
    haystacks of several questions is a memory of each.
    """
    document = read_document(source)
    questions = [] if document is None else document if isinstance(document, list) else [document]
    for number, question in enumerate(questions, start=1):
        try:
            question_id, sessions = _sessions(question)
        except RefusedError as error:
            source.line += 1
            yield Rejection(source.line, f"{error} (question {number})", excerpt(question))
            continue
        for turns, session_id, date in sessions:
            for index, turn in enumerate(turns):
                source.line += 1
                try:
                    yield _read_turn(turn, question_id, session_id, date, index, defaults.agent_id)
                except RefusedError as error:
                    yield Rejection(source.line, str(error), excerpt(turn))


def parse_date(value: object) -> datetime:
    """Return the UTC time of a session such as "2023/04/24 (Mon) 05:03".

    Raises:
        RefusedError: it is not written so.
    """
    match = _DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise RefusedError(f"the session has no date like 2023/04/24 (Mon) 05:03 ({show(value)})")
    try:
        return check_date(*(int(part) for part in match.groups()))
    except ValueError:
        raise RefusedError(f"the date of the session is not in the calendar ({show(value)})") from None


def _sessions(question: Any) -> tuple[str, list[tuple[list[Any], object, object]]]:
    """Return the id of a question and its sessions: turns, id and what is said of their time."""
    if not isinstance(question, dict) or not isinstance(question.get("haystack_sessions"), list):
        raise RefusedError("the question has no haystack_sessions")
    question_id = question.get("question_id")
    if not isinstance(question_id, str) or not question_id:
        raise RefusedError("the question has no question_id")
    columns: list[Any] = [question.get(f"haystack_{name}") for name in ("sessions", "session_ids", "dates")]
    if not all(isinstance(column, list) for column in columns) or len({len(c) for c in columns}) > 1:
        raise RefusedError("haystack_sessions, haystack_session_ids and haystack_dates do not match")
    if not all(isinstance(turns, list) for turns in columns[0]):
        raise RefusedError("a session is not a list of turns")
    return question_id, list(zip(*columns, strict=True))


def _read_turn(
    turn: Any, question_id: str, session_id: object, date: object, index: int, agent_id: str | None
) -> Whole:
    if not isinstance(turn, dict):
        raise RefusedError("the turn is not a JSON object")
    if not isinstance(session_id, str) or not session_id:
        raise RefusedError("the session has no id")
    content, role = turn.get("content"), turn.get("role")
    if not isinstance(content, str):
        raise RefusedError("the turn has no content")
    started_at = parse_date(date)
    occurred_at = started_at + timedelta(seconds=index * SECONDS_BETWEEN_TURNS)
    metadata = {key: value for key, value in turn.items() if key not in ("content", "role")}
    metadata |= {"question_id": question_id, "session_id": session_id, "turn": index}
    place = (question_id, session_id, index, agent_id)
    try:
        return new_event(
            "memory",
            {"content": content, "role": role, "metadata": to_json_value(metadata)},
            occurred_at=occurred_at,
            user_id=question_id,
            agent_id=agent_id,
            session_id=session_id,
            event_id=derived_event_id(occurred_at, "longmemeval", *place, role, content),
        )
    except InvalidEventError as error:
        raise RefusedError(reason_of(error)) from error
