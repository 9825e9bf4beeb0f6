"""Writing episodes: a start, steps that are buffered, an end, and feedback; all of them events of the inbox.

An agent must not wait for the disk at each step, so steps are kept in this process until there are
`episode_buffer_steps` of them or the oldest is `episode_buffer_ms` old, and are then appended in one write.
What this means for who logs:

* A step is acknowledged once it is in the inbox: with `durable=True` when the call returns (after fsync),
  else within the time of the buffer. `kill -9` can lose the steps that are still buffered, nothing else. The
  start and the end of an episode are in the inbox when the call returns, and all that was logged before too.
* Lines are appended in the order of the calls, of all threads of the process: one flush at a time takes
  everything that is buffered.
* Where the disk refuses, the buffered steps stay and are tried again: by every further call and, once a
  second, by the thread that watches their age. A call that raises StorageError has not taken its own step; so
  the buffer does not grow while the disk is full, and whoever tries again logs nothing twice.
* A forked child begins with an empty buffer: what was buffered is the parent's to write.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias, cast
from uuid import UUID

from mnemoduck.errors import InvalidEventError, StorageError, UsageError
from mnemoduck.events import MAX_LINE_BYTES, Event, EventType, new_event, new_event_id
from mnemoduck.inbox import InboxWriter
from mnemoduck.project import find_project, variables

Outcome: TypeAlias = Literal["success", "failure", "abandoned"]

MAX_BUFFERED_BYTES = 4 * 1024 * 1024
"""More is written at once, however few steps it is."""

MAX_KNOWN_EPISODES = 100_000
"""So many episodes are remembered, with their scope and the number of their next step; about 50 MB."""

SECONDS_BETWEEN_TRIALS = 1.0
"""So long the watching thread waits after a write that failed."""

SECONDS_UNTIL_REST = 1.0
"""The watching thread ends when nothing was buffered for so long; the next step starts another."""

logger = logging.getLogger("mnemoduck.episodes")
logger.addHandler(logging.NullHandler())


class Whose(NamedTuple):
    """The scope of an event as it was given; whether its parts are valid is checked with the event."""

    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None


@dataclass
class _Known:
    """An episode that this process has logged to; `started_as` is None if another process started it."""

    started_as: Whose | None = None
    next_step: int = 0


@dataclass(frozen=True)
class _BufferSize:
    steps: int
    seconds: float


class EpisodeWriter:
    """Writes the episodes of one process. Safe between threads and across fork.

    Args:
        writer: where the events go; its segment is shared with all else that the process writes.
        buffer_steps, buffer_ms: instead of the variables of the project; for tests.

    Every method raises InvalidEventError if a value breaks the rules, before anything is taken, and
    StorageError if the disk refused; then what was to be written by this call was not taken.
    """

    def __init__(
        self, writer: InboxWriter, *, buffer_steps: int | None = None, buffer_ms: float | None = None
    ) -> None:
        self._writer = writer
        self._asked_size = (buffer_steps, buffer_ms)
        self._size: _BufferSize | None = None
        self._known: OrderedDict[tuple[str | None, str], _Known] = OrderedDict()
        self._users: dict[str, list[str | None]] = {}
        """Whose episodes of a name this process has started."""
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        """Have nothing buffered, nobody waiting, and no thread: in a new writer, and in a forked child."""
        self._flushing = threading.Lock()
        """Held by the one that writes. Whoever needs both locks takes this one first."""
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._lines: list[bytes] = []
        """What is buffered, oldest first; what is being written stays until it is written."""
        self._bytes = 0
        self._being_written = 0
        self._oldest = 0.0
        self._has_failed = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many steps are buffered in this process."""
        return len(self._lines)

    def start(
        self,
        task: str,
        whose: Whose,
        *,
        domain: str | None,
        task_id: str | None,
        context: Mapping[str, Any] | None,
        episode_id: str | None,
        occurred_at: datetime | None,
        durable: bool,
    ) -> str:
        """Write that an episode begins, and return its id."""
        name = str(new_event_id()) if episode_id is None else episode_id
        _check_names(name, whose)
        payload = {
            "episode_id": name,
            "task": task,
            "domain": domain,
            "task_id": task_id,
            "context": _as_dict("context", context),
        }
        self._write_event(_make("episode_started", payload, whose, occurred_at), durable=durable)
        with self._mutex:
            self._remember(name, whose)
        return name

    def log(
        self,
        episode_id: str,
        payload: Mapping[str, Any],
        whose: Whose,
        *,
        step: int | None,
        occurred_at: datetime | None,
        durable: bool,
    ) -> UUID:
        """Take a step: buffered, or written with all that was buffered before it. Return its event id."""
        _check_names(episode_id, whose)
        event_id = new_event_id()

        def take() -> bytes:
            """Return the line of the step, which has its number now; called with the mutex held."""
            known, scope = self._find(episode_id, whose)
            number = known.next_step if step is None else step
            values = {"episode_id": episode_id, "step": number, **payload}
            event = _make("step", values, scope, occurred_at, event_id)
            line = _line(event)
            known.next_step = max(known.next_step, cast(int, event.payload["step"]) + 1)
            self._keep(episode_id, scope.user_id, known)
            return line

        if durable:
            self._write("step", take, durable=True)
            return event_id
        if self._has_failed:
            try:
                self.flush()
            except StorageError as error:
                raise StorageError(f"The step was not taken. {error}") from error
        size = self._buffer_size()
        with self._mutex:
            line = take()
            if not self._lines:
                self._oldest = time.monotonic()
            self._lines.append(line)
            self._bytes += len(line)
            is_full = (
                len(self._lines) - self._being_written >= size.steps or self._bytes >= MAX_BUFFERED_BYTES
            )
            if not is_full:
                is_full = not self._watch()
        if is_full:
            with contextlib.suppress(StorageError):  # the step is taken; the next call tells that it waits
                self.flush()
        return event_id

    def complete(
        self,
        episode_id: str,
        outcome: Outcome,
        whose: Whose,
        *,
        reward: float | None,
        occurred_at: datetime | None,
        durable: bool,
    ) -> UUID:
        """Write that an episode has ended, in one write with the steps that are buffered."""
        _check_names(episode_id, whose)
        with self._mutex:
            _, scope = self._find(episode_id, whose)
        payload = {"episode_id": episode_id, "outcome": outcome, "reward": reward}
        return self._write_event(_make("episode_completed", payload, scope, occurred_at), durable=durable)

    def give_feedback(
        self, payload: Mapping[str, Any], whose: Whose, *, occurred_at: datetime | None, durable: bool
    ) -> UUID:
        """Write whether a pattern or a memory has helped."""
        return self._write_event(_make("feedback", payload, whose, occurred_at), durable=durable)

    def flush(self) -> None:
        """Append what is buffered to the inbox.

        Raises:
            StorageError: the disk refused; it stays buffered.
        """
        with self._flushing:
            try:
                self._append_buffered()
            except StorageError as error:
                raise StorageError(
                    f"{_count(self.waiting)} in this process, since writing to the inbox failed "
                    f"({_reason(error)}). Free space or mend the disk: the next call writes what waits."
                ) from error

    def close(self) -> None:
        """Write what is buffered. What is logged afterwards is buffered anew.

        Raises:
            StorageError: the disk refused; it stays buffered, and closing again tries again.
        """
        with self._mutex:
            self._is_closed = True
            self._changed.notify_all()
        self.flush()

    def _write_event(self, event: Event, *, durable: bool) -> UUID:
        line = _line(event)
        self._write(event.event_type.replace("_", " "), lambda: line, durable=durable)
        return event.event_id

    def _write(self, what: str, take: Callable[[], bytes], *, durable: bool) -> None:
        """Append a line behind all that is buffered, in one write; `take` makes it, under the mutex."""
        with self._flushing:  # first: the line has to be part of this very write, and of this fsync
            try:
                self._append_buffered(take, durable=durable)
            except StorageError as error:
                waiting = f"; {_count(self.waiting, ' before it')} in this process" if self._lines else ""
                raise StorageError(
                    f"The {what} was not taken: writing to the inbox failed ({_reason(error)}){waiting}. "
                    "Free space or mend the disk, then log it again."
                ) from error

    def _append_buffered(self, take: Callable[[], bytes] | None = None, *, durable: bool = False) -> None:
        """Append what is buffered and the line that `take` makes; only what is written leaves the buffer."""
        with self._mutex:
            last = [take()] if take else []
            count = self._being_written = len(self._lines)
            lines = self._lines[:count]
            began = time.monotonic()
        is_written = False
        try:
            self._writer.append([*lines, *last], durable=durable, is_news=False)
            is_written = True
        except StorageError as error:
            logger.warning(
                "steps could not be written", extra={"waiting_steps": count, "reason": str(_reason(error))}
            )
            raise
        finally:
            with self._mutex:
                self._being_written = 0
                if is_written:
                    del self._lines[:count]
                    self._bytes -= sum(map(len, lines))
                    self._oldest = began  # what was logged meanwhile is no older
                has_failed = not is_written and bool(self._lines)
                if has_failed:
                    self._watch()
                if has_failed != self._has_failed:
                    self._has_failed = has_failed
                    self._changed.notify_all()  # the thread waits for something else now

    def _find(self, episode_id: str, whose: Whose) -> tuple[_Known, Whose]:
        """Return what is known of an episode, and the scope of what is logged to it.

        Raises:
            UsageError: no user is given, and this process has started episodes of the name for several.
        """
        user_id = whose.user_id
        if user_id is None and (users := self._users.get(episode_id)):
            if len(users) > 1:
                raise UsageError(
                    f"Several users have an episode {episode_id!r} here. Say whose it is with user_id, or "
                    "give each episode an id of its own."
                )
            user_id = users[0]
        known = self._known.get((user_id, episode_id)) or _Known()
        started_as = known.started_as or Whose()
        agent_id = started_as.agent_id if whose.agent_id is None else whose.agent_id
        session_id = started_as.session_id if whose.session_id is None else whose.session_id
        return known, Whose(user_id, agent_id, session_id)

    def _remember(self, episode_id: str, whose: Whose) -> None:
        known = self._known.get((whose.user_id, episode_id)) or _Known()
        known.started_as = whose
        self._keep(episode_id, whose.user_id, known)
        users = self._users.setdefault(episode_id, [])
        if whose.user_id not in users:
            users.append(whose.user_id)

    def _keep(self, episode_id: str, user_id: str | None, known: _Known) -> None:
        """Keep an episode as the last one that was used; the one used longest ago makes room."""
        key = (user_id, episode_id)
        self._known[key] = known
        self._known.move_to_end(key)
        while len(self._known) > MAX_KNOWN_EPISODES:
            (old_user, old_episode), _ = self._known.popitem(last=False)
            users = [user for user in self._users.pop(old_episode, []) if user != old_user]
            if users:
                self._users[old_episode] = users

    def _buffer_size(self) -> _BufferSize:
        if self._size is None:
            steps, milliseconds = self._asked_size
            self._size = _BufferSize(
                int(_variable("episode_buffer_steps", 1, 10_000) if steps is None else steps),
                (_variable("episode_buffer_ms", 1, 60_000) if milliseconds is None else milliseconds) / 1e3,
            )
        return self._size

    def _watch(self) -> bool:
        """Have a thread watch the age of what is buffered; False if none can be started any more.

        Called with the mutex held.
        """
        self._is_closed = False
        if self._thread is not None and self._thread.is_alive():
            if len(self._lines) == 1:
                self._changed.notify()
            return True
        thread = threading.Thread(target=self._flush_in_time, name="mnemoduck-episodes", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down
            return False
        self._thread = thread
        return True

    def _flush_in_time(self) -> None:
        """Write what has become old enough, until nothing was buffered for a while."""
        while True:
            with self._mutex:
                if not self._lines and not self._is_closed:
                    self._changed.wait(SECONDS_UNTIL_REST)
                if not self._lines:
                    self._thread = None
                    return
                if self._has_failed:
                    self._changed.wait(SECONDS_BETWEEN_TRIALS)
                    if not self._has_failed:
                        continue
                else:
                    rest = self._oldest + self._buffer_size().seconds - time.monotonic()
                    if rest > 0 and not self._is_closed:
                        self._changed.wait(rest)
                        continue
            with contextlib.suppress(StorageError):  # the next call tells it
                self.flush()


def tool_step(
    tool: str,
    args: Mapping[str, Any] | None,
    observation: object,
    error: str | bool | None,
    latency_ms: float | None,
    requestor: str | None,
) -> dict[str, Any]:
    """Return the payload of a call of a tool; an observation that is no text is kept as JSON.

    Raises:
        InvalidEventError: the observation is nothing that JSON can hold, or `args` no mapping.
    """
    if error is not None and not isinstance(error, str | bool):
        raise InvalidEventError(f"The step is not valid: error is a text or true; got {error!r}.")
    has_failed = error is not None and error is not False
    return {
        "tool": tool,
        "args": _as_dict("args", args),
        "observation": as_text(observation),
        "is_error": has_failed or None,
        "error": error if isinstance(error, str) and error else None,
        "latency_ms": latency_ms,
        "requestor": requestor,
    }


def message_step(role: str | None, text: str) -> dict[str, Any]:
    """Return the payload of a message."""
    return {"step_type": "message", "role": role, "text": text}


def as_text(value: object) -> str | None:
    """Return what a tool gave back as a text: itself if it is one, else JSON.

    Raises:
        InvalidEventError: it is nothing that JSON can hold.
    """
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEventError(
            f"The step is not valid: observation is neither a text nor what JSON can hold ({error})."
        ) from error


def _make(
    event_type: EventType,
    payload: Mapping[str, Any],
    whose: Whose,
    occurred_at: datetime | None,
    event_id: UUID | None = None,
) -> Event:
    return new_event(event_type, payload, occurred_at=occurred_at, event_id=event_id, **whose._asdict())


def _as_dict(name: str, value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise InvalidEventError(f"{name} is no mapping of names to values: {value!r}.")
    return dict(value) if value else None


def _check_names(episode_id: object, whose: Whose) -> None:
    """Raise InvalidEventError for a name that is no text: the rest is checked with the event."""
    for name, value in (("episode_id", episode_id), *whose._asdict().items()):
        if not isinstance(value, str) and (value is not None or name == "episode_id"):
            raise InvalidEventError(f"{name} is no text: {value!r}.")


def _count(steps: int, which: str = "") -> str:
    return f"1 step{which} waits" if steps == 1 else f"{steps:,} steps{which} wait"


def _reason(error: StorageError) -> object:
    cause = error.__cause__
    return cause.strerror if isinstance(cause, OSError) else error


def _line(event: Event) -> bytes:
    """Return the line of an event; one that the inbox would refuse is refused here, before it is buffered."""
    line = event.to_line()
    if len(line) > MAX_LINE_BYTES:
        raise InvalidEventError(
            f"The {event.event_type} is too long: {len(line):,} bytes as a line; the limit is "
            f"{MAX_LINE_BYTES:,}. Keep a large observation elsewhere, and log where it is."
        )
    return line


def _variable(name: str, low: float, high: float) -> float:
    """Return a variable of the project, checked as `parameter` does for dbt."""
    value = variables(find_project())[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(
            f"The variable {name} is {value!r}; it takes a number from {low:,} to {high:,}. Change it in "
            "dbt_project.yml."
        )
    return value


_writers: weakref.WeakSet[EpisodeWriter] = weakref.WeakSet()


def _begin_in_child() -> None:
    """In a forked child: threads that it has not may hold locks, and the parent writes what it buffered."""
    for writer in list(_writers):
        writer._begin()


def _flush_at_exit() -> None:
    """Write what nobody has closed; that it cannot be written is told as the interpreter tells it."""
    failures = []
    for writer in list(_writers):
        try:
            writer.flush()
        except StorageError as error:
            failures.append(error)
    if failures:
        raise failures[0]


os.register_at_fork(after_in_child=_begin_in_child)
atexit.register(_flush_at_exit)
