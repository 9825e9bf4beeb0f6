"""LoCoMo (Maharana et al. 2024) in its official format: a memory a turn.

A document is a list of samples, or one of them: `sample_id`, `conversation` with `session_N` lists
of turns `{speaker, dia_id, text, blip_caption?, query?, …}` and `session_N_date_time`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from mnemoduck.errors import InvalidEventError
from mnemoduck.events import EARLIEST, LATEST, derived_event_id, new_event
from mnemoduck.importers.documents import excerpt, read_document
from mnemoduck.importers.plain import to_json_value
from mnemoduck.importers.records import RefusedError, Whole, reason_of, show
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope

SECONDS_BETWEEN_TURNS = 1
"""A session has one time for all its turns. A second keeps them in order, and together: sessions are
told apart by half an hour's pause."""

_SESSION = re.compile(r"session_([0-9]{1,9})", re.ASCII)
_DATE = re.compile(r"([0-9]{1,2}):([0-9]{2}) ([ap]m) on ([0-9]{1,2}) ([a-z]+),? ([0-9]{4})", re.ASCII)
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)


def read_locomo(source: Source, defaults: Scope) -> Iterator[Whole]:
    """Yield the turns of every conversation; their place is their number in the file.

    The scope is (sample_id, the default agent, "session_N"), the role is the speaker.
    """
    document = read_document(source)
    samples = [] if document is None else document if isinstance(document, list) else [document]
    for number, sample in enumerate(samples, start=1):
        try:
            sample_id, sessions = _sessions(sample)
        except RefusedError as error:
            source.line += 1
            yield Rejection(source.line, f"{error} (sample {number})", excerpt(sample))
            continue
        for session, turns, date in sessions:
            for index, turn in enumerate(turns):
                source.line += 1
                try:
                    yield _Turn(sample_id, session, index, defaults).read(turn, date)
                except RefusedError as error:
                    yield Rejection(source.line, str(error), excerpt(turn))


def parse_date(value: object) -> datetime:
    """Return the UTC time of a session such as "1:56 pm on 8 May, 2023".

    Raises:
        RefusedError: it is not written so.
    """
    match = _DATE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None:
        raise RefusedError(f"the session has no date of the form 1:56 pm on 8 May, 2023 ({show(value)})")
    hour, minute, half, day, month, year = match.groups()
    try:
        return check_date(
            int(year),
            _MONTHS.index(month) + 1,
            int(day),
            int(hour) % 12 + (12 if half == "pm" else 0),
            int(minute),
        )
    except ValueError:
        raise RefusedError(f"the date of the session is not in the calendar ({show(value)})") from None


def check_date(*parts: int) -> datetime:
    """Return the UTC time of a session from its year, month, day, hour and minute.

    Raises:
        ValueError: it is not in the calendar.
        RefusedError: no event can be of then; and after it there may be no time for its turns.
    """
    moment = datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]
    if not EARLIEST <= moment < LATEST:
        raise RefusedError(
            f"the date of the session is out of range ({moment:%Y-%m-%d}; expected 1970-01-01 to 2099-12-31)"
        )
    return moment


def _sessions(sample: Any) -> tuple[str, list[tuple[int, list[Any], object]]]:
    """Return the id of a sample and its sessions: number, turns and what is said of their time."""
    if not isinstance(sample, dict) or not isinstance(sample.get("conversation"), dict):
        raise RefusedError("the sample has no conversation")
    sample_id = sample.get("sample_id")
    if not isinstance(sample_id, str) or not sample_id:
        raise RefusedError("the sample has no sample_id")
    conversation = sample["conversation"]
    sessions = []
    for key, turns in conversation.items():
        if match := _SESSION.fullmatch(key):
            if not isinstance(turns, list):
                raise RefusedError(f"a session is not a list of turns ({key})")
            sessions.append((int(match.group(1)), turns, conversation.get(f"{key}_date_time")))
    return sample_id, sorted(sessions, key=lambda session: session[0])


class _Turn:
    """The place of one turn."""

    def __init__(self, sample_id: str, session: int, index: int, defaults: Scope) -> None:
        self._sample_id = sample_id
        self._session = session
        self._index = index
        self._agent_id = defaults.agent_id

    def read(self, turn: Any, date: object) -> Whole:
        if not isinstance(turn, dict):
            raise RefusedError("the turn is not a JSON object")
        speaker, text = turn.get("speaker"), turn.get("text")
        if not isinstance(speaker, str) or not speaker:
            raise RefusedError("the turn has no speaker")
        caption = turn.get("blip_caption")
        if isinstance(caption, str) and caption:
            image = f"[shared an image: {caption}]"
            text = f"{text} {image}" if text else image
        if not isinstance(text, str):
            raise RefusedError("the turn has no text")
        occurred_at = parse_date(date) + timedelta(seconds=self._index * SECONDS_BETWEEN_TURNS)
        metadata = {key: value for key, value in turn.items() if key != "text"}
        metadata |= {"sample_id": self._sample_id, "session": self._session, "turn": self._index}
        place = (self._sample_id, self._session, self._index)
        try:
            return new_event(
                "memory",
                {"content": text, "role": speaker, "metadata": to_json_value(metadata)},
                occurred_at=occurred_at,
                user_id=self._sample_id,
                agent_id=self._agent_id,
                session_id=f"session_{self._session}",
                event_id=derived_event_id(occurred_at, "locomo", *place, self._agent_id, speaker, text),
            )
        except InvalidEventError as error:
            raise RefusedError(reason_of(error)) from error
