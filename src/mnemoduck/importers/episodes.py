"""Episodes of agents: an object an episode, with its steps; one a line, or a list of them.

The fields are those of the development episodes of tau2-bench (Barres et al. 2025): `episode_id`, `task_id`,
`domain`, `model`, `agent_impl`, `reward`, `success`, `started_at`, `ended_at`, and `steps`, a list of
`{step, type: tool, requestor, tool, args, observation, error, timestamp}` and
`{step, type: message, role, text, timestamp}`. docs/episodes.md says what becomes of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from mnemoduck.episodes.writing import as_text
from mnemoduck.errors import InvalidEventError
from mnemoduck.events import MAX_LINE_BYTES, Event, EventType, derived_event_id, new_event
from mnemoduck.importers.documents import excerpt, parse_json, read_document
from mnemoduck.importers.lines import BYTE_ORDER_MARK, read_lines
from mnemoduck.importers.occurrence import parse_occurred_at
from mnemoduck.importers.plain import to_json_value
from mnemoduck.importers.records import RefusedError, Whole, reason_of, show, too_long
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope

SECONDS_BETWEEN_STEPS = 1
"""A step without a time happened so long after the start for each that its number counts."""

SUCCESS_REWARD = 1.0
"""Where nobody says whether an episode succeeded, this reward or more says that it did."""

_CONTEXT = ("model", "agent_impl")
"""Fields that were settled when the episode began, and may matter for success. Others would tell its end, or
where it was found."""

_USED = frozenset(
    {
        *("episode_id", "task", "task_id", "domain", "context", "reward", "success", "outcome", "steps"),
        *("started_at", "ended_at", "user_id", "agent_id", "session_id", *_CONTEXT),
    }
)


def is_episode(item: dict[str, Any]) -> bool:
    """Return whether an object looks like an episode."""
    return "episode_id" in item and isinstance(item.get("steps"), list)


def read_episodes(source: Source, defaults: Scope) -> Iterator[Whole]:
    """Yield the events of every episode: its start, its steps, and its end if it has one.

    An episode is taken whole or refused whole: without one of its steps it would teach what never worked. The
    place of an episode is its line, or its number in the list. One that has grown may come again; but of a
    user's two that began at different times the second is refused: under one id their steps would be mixed.
    """
    begun: dict[tuple[str | None, object], datetime] = {}
    if _is_document(source):
        document = read_document(source)
        items = [] if document is None else document if isinstance(document, list) else [document]
        for item in items:
            source.line += 1
            try:
                yield from _events(item, defaults, begun)
            except RefusedError as error:
                yield Rejection(source.line, str(error), excerpt(item))
        return
    for line, length in read_lines(source):
        if length > MAX_LINE_BYTES:
            yield Rejection(source.line, too_long(length), line)
            continue
        try:
            yield from _events(parse_json(line), defaults, begun)
        except RefusedError as error:
            yield Rejection(source.line, str(error), line)


def _events(item: Any, defaults: Scope, begun: dict[tuple[str | None, object], datetime]) -> list[Event]:
    """Return the events of an episode; `begun` tells when those of the file began, by user and id."""
    events = _Episode(item, defaults).events()
    start = events[0]
    first = begun.setdefault((start.user_id, start.payload["episode_id"]), start.occurred_at)
    if first != start.occurred_at:
        raise RefusedError(
            f"another episode of the file has this episode_id (it began at {first.isoformat()}, this one at "
            f"{start.occurred_at.isoformat()}; give each an id of its own)"
        )
    return events


def _is_document(source: Source) -> bool:
    """Return whether a file is a list, or one object spread over lines, instead of an object a line."""
    with source.open() as file:
        first = file.readline(1024).removeprefix(BYTE_ORDER_MARK)
        while first.isspace():
            first = file.readline(1024)
    return first.lstrip().startswith(b"[") or first.strip() == b"{"


class _Episode:
    """One episode of a file.

    Raises:
        RefusedError: a field breaks a rule; where it is one of a step, the step is named.
    """

    def __init__(self, item: Any, defaults: Scope) -> None:
        if not isinstance(item, dict):
            raise RefusedError("the episode is not a JSON object")
        self._item = item
        self._id = _text(item, "episode_id")
        if self._id is None:
            raise RefusedError("the episode has no episode_id")
        if not isinstance(item.get("steps"), list):
            raise RefusedError("the episode has no list of steps")
        self._steps: list[Any] = item["steps"]
        self._user_id = _text(item, "user_id") or defaults.user_id
        self._agent_id = _text(item, "agent_id") or defaults.agent_id or _text(item, "model")
        self._session_id = _text(item, "session_id") or defaults.session_id

    def events(self) -> list[Event]:
        """Return the start, the steps and the end, in this order; all are checked before any is given."""
        steps = [
            _Step(index, step if isinstance(step, dict) else None) for index, step in enumerate(self._steps)
        ]
        given = [step.timestamp for step in steps if step.timestamp is not None]
        started_at = _moment(self._item, "started_at") or min(given, default=None)
        if started_at is None:
            raise RefusedError("the episode has no started_at")
        found = [self._event("episode_started", self._start(steps), started_at, 0)]
        last = started_at
        for step in steps:
            occurred_at = step.timestamp or started_at + timedelta(
                seconds=step.number * SECONDS_BETWEEN_STEPS
            )
            last = max(last, occurred_at)
            try:
                found.append(self._event("step", step.payload(), occurred_at, step.index))
            except RefusedError as error:
                raise RefusedError(f"a step is refused (item {step.index} of steps: {error})") from error
        outcome, reward = self._outcome(), _number(self._item, "reward")
        if outcome is not None:
            ended_at = max(_moment(self._item, "ended_at") or last, last)
            found.append(
                self._event("episode_completed", {"outcome": outcome, "reward": reward}, ended_at, 0)
            )
        return found

    def _start(self, steps: list[_Step]) -> dict[str, Any]:
        item = self._item
        task_id = _text(item, "task_id")
        task = _text(item, "task") or next(
            (step.said_by_user for step in steps if step.said_by_user), task_id
        )
        if task is None:
            raise RefusedError(
                "the episode has no task: neither a task, a message of the user, nor a task_id"
            )
        context = item.get("context") or {}
        if not isinstance(context, dict):
            raise RefusedError(f"context is not an object ({show(context)})")
        settled = {name: item[name] for name in _CONTEXT if item.get(name) is not None}
        rest = {name: value for name, value in item.items() if name not in _USED and value is not None}
        return {
            "task": task,
            "domain": _text(item, "domain"),
            "task_id": task_id,
            "context": to_json_value({**settled, **context}) or None,
            "metadata": to_json_value(rest) or None,
        }

    def _outcome(self) -> str | None:
        outcome, success = self._item.get("outcome"), self._item.get("success")
        if outcome is not None:
            return str(outcome)
        if success is None:
            reward = _number(self._item, "reward")
            if reward is None:
                return None
            success = reward >= SUCCESS_REWARD
        if not isinstance(success, bool):
            raise RefusedError(f"success is neither true nor false ({show(success)})")
        return "success" if success else "failure"

    def _event(
        self, event_type: EventType, payload: dict[str, Any], occurred_at: datetime, index: int
    ) -> Event:
        """Return an event of the episode; its id is that of its place in the episode of the user."""
        place = (self._user_id, self._id, event_type, index)
        try:
            event = new_event(
                event_type,
                {"episode_id": self._id, **payload},
                occurred_at=occurred_at,
                event_id=derived_event_id(occurred_at, "episodes", *place),
                user_id=self._user_id,
                agent_id=self._agent_id,
                session_id=self._session_id,
            )
            length = len(event.to_line())
        except InvalidEventError as error:
            raise RefusedError(reason_of(error)) from error
        if length > MAX_LINE_BYTES:
            raise RefusedError(
                f"the record is too long ({length:,} bytes as an event; the limit is {MAX_LINE_BYTES:,})"
            )
        return event


class _Step:
    """One step of an episode; `index` is its place in the list, from 0."""

    def __init__(self, index: int, item: dict[str, Any] | None) -> None:
        if item is None:
            raise RefusedError(f"a step is not a JSON object (item {index} of steps)")
        self.index = index
        self._item = item
        self._type = item.get("type") or ("tool" if item.get("tool") is not None else "message")
        try:
            self.timestamp = _moment(item, "timestamp")
        except RefusedError as error:
            raise RefusedError(f"a step is refused (item {index} of steps: {error})") from error
        number = item.get("step")
        self.number = index if number is None else number
        if not isinstance(self.number, int) or isinstance(self.number, bool) or not 0 <= self.number <= 10**6:
            raise RefusedError(f"a step has no number from 0 to 1,000,000 (item {index} of steps)")

    @property
    def said_by_user(self) -> str | None:
        """What the user says in it; None if it is something else, or blank."""
        text = self._item.get("text")
        if self._type == "message" and self._item.get("role") == "user" and isinstance(text, str):
            return text if text.strip() else None
        return None

    def payload(self) -> dict[str, Any]:
        item = self._item
        if self._type == "message":
            return {
                "step": self.number,
                "step_type": "message",
                "role": _text(item, "role"),
                "text": item.get("text"),
            }
        if self._type != "tool":
            raise RefusedError(f"its type is neither tool nor message ({show(self._type)})")
        error = item.get("error")
        if error is not None and not isinstance(error, str | bool):
            raise RefusedError(f"error is neither a text nor true or false ({show(error)})")
        return {
            "step": self.number,
            "tool": _text(item, "tool"),
            "args": item.get("args"),
            "observation": as_text(item.get("observation")),
            "is_error": bool(error),
            "error": error if isinstance(error, str) and error else None,
            "latency_ms": item.get("latency_ms"),
            "requestor": _text(item, "requestor"),
        }


def _text(item: dict[str, Any], name: str) -> str | None:
    """Return a text or a whole number as text; None if it is missing or empty."""
    value = item.get(name)
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RefusedError(f"{name} is not a text ({show(value)})")


def _number(item: dict[str, Any], name: str) -> float | None:
    value = item.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise RefusedError(f"{name} is not a number ({show(value)})")


def _moment(item: dict[str, Any], name: str) -> datetime | None:
    value = item.get(name)
    if value is None or value == "":
        return None
    try:
        return parse_occurred_at(value)
    except RefusedError as error:
        raise RefusedError(str(error).replace("occurred_at", name, 1)) from error
