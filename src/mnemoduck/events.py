"""The event envelope: the one shape in which everything enters.

An event is immutable. `occurred_at` says when it happened in the world, `recorded_at` when we heard
of it; both are UTC with microseconds. The scope (user_id, agent_id, session_id) may be null in every
part. The payload depends on the type of the event; keys that we do not know are kept as they are.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import uuid_utils
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from mnemoduck.errors import InvalidEventError

EventType = Literal["memory", "recall", "feedback", "forget", "episode_started", "step", "episode_completed"]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)

MemoryType = Literal["episodic", "semantic", "procedural"]

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)

MAX_CONTENT_BYTES = 1024 * 1024
"""A memory is a thought, not a file: longer texts are split by whoever imports them."""

MAX_LINE_BYTES = 4 * 1024 * 1024
"""The longest line that is read as an event; bounds what a broken file can make us hold."""


def _to_utc(value: datetime) -> datetime:
    try:
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:  # its zone moves it out of the calendar
        raise ValueError(f"{value.isoformat()} is out of range: expected 1970-01-01 to 2099-12-31") from error
    if not EARLIEST <= value < LATEST:
        raise ValueError(f"{value.isoformat()} is out of range: expected 1970-01-01 to 2099-12-31")
    return value


_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


def _without_control_characters(value: str) -> str:
    if _CONTROL_CHARACTER.search(value):
        raise ValueError("control characters are not allowed in an id")
    return value


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take True for 1
        raise ValueError("must be a number, not true or false")
    return value


def _says_something(value: str) -> str:
    """A predicate is compared without these characters (macro predicate_key), so it needs others."""
    if not value.replace("_", " ").replace("-", " ").strip():
        raise ValueError("must have a letter or another sign besides blanks, underscores and hyphens")
    return value


def _within_content_limit(value: str) -> str:
    if not value or value.isspace():
        raise ValueError("must not be empty")
    if len(value) > MAX_CONTENT_BYTES:  # a text of gigabytes is refused without another copy of it
        raise ValueError(f"is {len(value):,} characters long; the limit is {MAX_CONTENT_BYTES:,} bytes")
    size = len(value.encode("utf-8"))
    if size > MAX_CONTENT_BYTES:
        raise ValueError(f"is {size:,} bytes long; the limit is {MAX_CONTENT_BYTES:,}")
    return value


Measure = Annotated[float, BeforeValidator(_no_truth_value), Field(allow_inf_nan=False)]


def _no_bare_digits(value: object) -> object:
    """A year or a date without hyphens would be taken for so many seconds since 1970."""
    if isinstance(value, str) and _BARE_DATE.fullmatch(value.strip()):
        raise ValueError(f"{value!r} could be a year or seconds; write a date like 2026-03-15")
    return value


_BARE_DATE = re.compile("[0-9]{1,8}")

UtcDatetime = Annotated[datetime, BeforeValidator(_no_bare_digits), AfterValidator(_to_utc)]
ScopeId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256, strict=True),
    AfterValidator(_without_control_characters),
]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
Content = Annotated[str, AfterValidator(_within_content_limit)]


Words = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Fact(BaseModel):
    """A statement that the caller vouches for, such as ("Ada", "lives in", "London").

    It holds in the world from `valid_from`, by default when the memory happened, until `valid_to`
    (exclusive), by default until something else is said. `is_functional` tells whether the subject has one
    value of the predicate at a time; left out, a list of usual predicates decides.
    """

    model_config = ConfigDict(extra="allow")

    subject: Words
    predicate: Annotated[Words, AfterValidator(_says_something)]
    object: Words
    valid_from: UtcDatetime | None = None
    valid_to: UtcDatetime | None = None
    is_functional: bool | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Fact:
        if self.valid_from and self.valid_to and self.valid_to <= self.valid_from:
            raise ValueError(
                f"valid_to is {self.valid_to.isoformat()}; it must be later than valid_from, "
                f"{self.valid_from.isoformat()}"
            )
        return self


class MemoryPayload(BaseModel):
    """What a `memory` event carries. Only `content` is required."""

    model_config = ConfigDict(extra="allow")

    content: Content
    role: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    memory_type: MemoryType = "episodic"
    tags: list[Tag] = Field(default_factory=list, max_length=1000)
    importance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    facts: list[Fact] = Field(default_factory=list, max_length=1000)


class ForgetPayload(BaseModel):
    """What a `forget` event carries: the memories, or a bound that picks them (any of the two).

    `memory_ids` names them; if the event has a user, those of others are left alone. `is_whole_scope` forgets
    everything in the event's scope, where a null part of the scope means any; `occurred_before` limits that
    to what happened earlier.
    """

    model_config = ConfigDict(extra="allow")

    memory_ids: list[UUID] = Field(default_factory=list, max_length=100_000)
    is_whole_scope: bool = False
    occurred_before: UtcDatetime | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _names_something(self) -> ForgetPayload:
        if not self.memory_ids and not self.is_whole_scope:
            raise ValueError("names no memory: give memory_ids, or is_whole_scope with a scope or a date")
        return self


class RecallPayload(BaseModel):
    """What a `recall` event carries: the memories that were used together, and what was asked.

    Each of them is reinforced, and they are associated with each other.
    """

    model_config = ConfigDict(extra="allow")

    memory_ids: list[UUID] = Field(min_length=1, max_length=1000)
    query: str | None = None


class EpisodeStartedPayload(BaseModel):
    """What an `episode_started` event carries: the task, and in which circumstances it is done.

    `episode_id` names the episode among those of the user. `domain` says what kind of tasks it belongs to:
    patterns are found within one. Episodes of the same `task_id` are attempts at the same task. `context`
    holds what may matter for success, such as the model, the channel, the customer's plan.
    """

    model_config = ConfigDict(extra="allow")

    episode_id: ScopeId
    task: Content
    domain: ScopeId | None = None
    task_id: ScopeId | None = None
    context: dict[str, JsonValue] = Field(default_factory=dict)


class StepPayload(BaseModel):
    """What a `step` event carries: a call of a tool with what came of it, or a message.

    `step` is its number in the episode, from 0; steps of the same number lie in order of their time.
    `observation` is what the tool gave back, `error` says why it failed (`is_error` alone: that it did).
    `requestor` is who called: the agent if it is not said.
    """

    model_config = ConfigDict(extra="allow")

    episode_id: ScopeId
    step: Annotated[int, BeforeValidator(_no_truth_value), Field(ge=0, le=1_000_000)]
    step_type: Literal["tool", "message"] = "tool"
    tool: ScopeId | None = None
    args: dict[str, JsonValue] = Field(default_factory=dict)
    observation: str | None = None
    is_error: bool = False
    error: str | None = None
    latency_ms: Annotated[Measure, Field(ge=0)] | None = None
    requestor: ScopeId | None = None
    role: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _says_what_was_done(self) -> StepPayload:
        if self.step_type == "tool" and self.tool is None:
            raise ValueError("a step of type tool needs the name of its tool")
        if self.step_type == "message" and self.text is None:
            raise ValueError("a step of type message needs its text")
        if self.error is not None and not self.is_error:
            raise ValueError("error says why the step failed, so is_error must be true")
        return self


class EpisodeCompletedPayload(BaseModel):
    """What an `episode_completed` event carries: how it ended. Only success counts as one."""

    model_config = ConfigDict(extra="allow")

    episode_id: ScopeId
    outcome: Literal["success", "failure", "abandoned"]
    reward: Measure | None = None


class FeedbackPayload(BaseModel):
    """What a `feedback` event carries: whether a pattern, or a memory, has helped."""

    model_config = ConfigDict(extra="allow")

    pattern_id: UUID | None = None
    memory_id: UUID | None = None
    outcome: Literal["success", "failure"]
    note: str | None = None

    @model_validator(mode="after")
    def _is_about_one_thing(self) -> FeedbackPayload:
        if (self.pattern_id is None) == (self.memory_id is None):
            raise ValueError("is about a pattern or about a memory: give one of pattern_id and memory_id")
        return self


_PAYLOADS: dict[str, type[BaseModel]] = {
    "memory": MemoryPayload,
    "forget": ForgetPayload,
    "recall": RecallPayload,
    "episode_started": EpisodeStartedPayload,
    "step": StepPayload,
    "episode_completed": EpisodeCompletedPayload,
    "feedback": FeedbackPayload,
}
_RESPELLED: dict[str, set[str]] = {
    "memory": {"importance", "tags", "facts"},
    "forget": {"memory_ids", "is_whole_scope", "occurred_before"},
    "recall": {"memory_ids"},
    "step": {"step", "is_error", "latency_ms"},
    "episode_completed": {"reward"},
    "feedback": {"pattern_id", "memory_id"},
}


def _check_ends(facts: list[Fact], occurred_at: datetime) -> None:
    """Raise ValueError for a fact without valid_from that ends before the memory that states it."""
    for number, fact in enumerate(facts):
        if fact.valid_to and not fact.valid_from and fact.valid_to <= occurred_at:
            raise ValueError(
                f"payload.facts.{number}: valid_to is {fact.valid_to.isoformat()}, but the fact would begin "
                f"when the memory happened, {occurred_at.isoformat()}; give its valid_from"
            )


def _check_numbers(payload: dict[str, JsonValue]) -> None:
    """Raise ValueError for a number that JSON cannot write: NaN, or an infinite one, as 1e400 is read."""
    # Every event comes by here: to name the place as well takes twenty times as long as this.
    waiting: list[Any] = [payload]
    while waiting:
        inner = waiting.pop()
        for value in inner.values() if isinstance(inner, dict) else inner:
            if isinstance(value, float):
                if not math.isfinite(value):
                    raise ValueError(
                        f"{_place_of_not_finite(payload, 'payload')}: must be a number that JSON has, from "
                        "-1.8e308 to 1.8e308; NaN and Infinity are none"
                    )
            elif isinstance(value, dict | list):
                waiting.append(value)


def _place_of_not_finite(value: JsonValue, place: str) -> str | None:
    """Return the place of the first number that is not finite, such as "payload.metadata.a.0"."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if isinstance(value, dict):
        inner = [(f"{place}.{key:.40}", one) for key, one in value.items()]
    elif isinstance(value, list):
        inner = [(f"{place}.{number}", one) for number, one in enumerate(value)]
    else:
        return None
    return next((found for name, one in inner if (found := _place_of_not_finite(one, name))), None)


class Event(BaseModel):
    """One immutable event, as it stands on a line of the inbox."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    event_id: UUID
    event_type: EventType
    occurred_at: UtcDatetime
    recorded_at: UtcDatetime
    user_id: ScopeId | None = None
    agent_id: ScopeId | None = None
    session_id: ScopeId | None = None
    payload: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_payload(self) -> Event:
        model = _PAYLOADS.get(self.event_type)
        checked = model.model_validate(self.payload) if model is not None else None
        _check_numbers(self.payload)
        if checked is not None:
            # The models cast these in SQL, which knows fewer spellings than pydantic ("yes", a number of
            # seconds) and drops the zone of a time: what is stored has one spelling.
            spelled = _RESPELLED.get(self.event_type, set()) & self.payload.keys()
            if spelled:
                self.payload.update(checked.model_dump(mode="json", include=spelled, exclude_unset=True))
            if isinstance(checked, MemoryPayload):
                _check_ends(checked.facts, self.occurred_at)
        return self

    def to_line(self) -> bytes:
        """Return the event as one line of JSON, newline included.

        Raises:
            InvalidEventError: the payload holds what could not be read back: a text that is not Unicode
                (a lone surrogate), lists or mappings nested more than about 200 deep, a number of
                thousands of digits.
        """
        try:
            json.dumps(self.payload, ensure_ascii=False).encode("utf-8")  # pydantic replaces odd keys
            line = self.model_dump_json(exclude_none=True).encode("utf-8") + b"\n"
        except (UnicodeError, ValueError) as error:
            raise InvalidEventError(f"The event cannot be written as UTF-8: {error}.") from error
        try:
            from_json(line, allow_inf_nan=False)
        except ValueError as error:
            raise InvalidEventError(f"The event cannot be read back from JSON: {error}.") from error
        return line


def new_event_id() -> UUID:
    """Return a fresh UUIDv7 (RFC 9562): ordered by the time at which it was made."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


_encode_identity = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=str).encode


def derived_event_id(occurred_at: datetime, *identity: object) -> UUID:
    """Return the UUIDv7 that belongs to a record of an imported source, the same at every import.

    The time part is `occurred_at` in milliseconds; the 74 free bits are SHA-256 of `identity`, so
    two records collide with a probability of about n² / 2^75 within one millisecond.
    """
    digest = hashlib.sha256(_encode_identity(identity).encode()).digest()
    milliseconds = max(0, int(occurred_at.timestamp() * 1000))
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(digest[:10], "big")
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return UUID(int=value)


def new_event(
    event_type: EventType,
    payload: Mapping[str, Any],
    *,
    occurred_at: datetime | None = None,
    recorded_at: datetime | None = None,
    user_id: str | None = None,
    agent_id: str | None = None,
    session_id: str | None = None,
    event_id: UUID | None = None,
) -> Event:
    """Return a valid event, with what is not given filled in: a new id, and now for both times.

    Raises:
        InvalidEventError: says which field breaks which rule.
    """
    now = datetime.now(UTC)
    try:
        return Event.model_validate(
            {
                "event_id": event_id or new_event_id(),
                "event_type": event_type,
                "occurred_at": occurred_at or now,
                "recorded_at": recorded_at or now,
                "user_id": user_id,
                "agent_id": agent_id,
                "session_id": session_id,
                "payload": {key: value for key, value in payload.items() if value is not None},
            }
        )
    except ValidationError as error:
        raise InvalidEventError(f"The {event_type} is not valid: {explain(error)}.") from error


def parse_event(line: bytes) -> Event:
    """Return the event that stands on a line of JSON.

    Raises:
        InvalidEventError: says why the line is no event; the line itself is not repeated.
    """
    if len(line) > MAX_LINE_BYTES:
        raise InvalidEventError(f"the line is {len(line):,} bytes long; the limit is {MAX_LINE_BYTES:,}")
    try:
        return Event.model_validate_json(line)
    except ValidationError as error:
        raise InvalidEventError(explain(error)) from error


def explain(error: ValidationError) -> str:
    """Return a validation error as one sentence fragment: every field at fault and its rule."""
    reasons = []
    for detail in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        reasons.append(f"{field}: {message}" if field else message)
    return "; ".join(reasons)
