"""Memories as lines of the inbox: one as an event, and many at a time.

`memory_event` says what a memory may be. For many, most of its time would go into models of values that are
what they should be at first sight; those are put on a line as they are, and whatever is not (another type, a
fact, a text that is no Unicode, anything that is wrong) goes through `memory_event`, which changes or refuses
it. tests/unit/test_memory_lines.py holds the two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, overload
from uuid import UUID

import uuid_utils

from mnemoduck.errors import InvalidEventError
from mnemoduck.event_rows import TIME
from mnemoduck.events import EARLIEST, LATEST, MAX_CONTENT_BYTES, MAX_LINE_BYTES, Event, new_event

FIELDS = (
    "content",
    "role",
    "user_id",
    "agent_id",
    "session_id",
    "occurred_at",
    "memory_type",
    "tags",
    "importance",
    "metadata",
    "facts",
)

LINES_IN_A_BLOCK = 500
"""Few enough for their memory to be used again by the next block while it is in the processor's cache."""

Fields: TypeAlias = Mapping[str, Any]

_KNOWN = frozenset(FIELDS)
_PLAIN = _KNOWN - {"facts"}
_SIMPLE = _PLAIN - {"tags", "importance", "metadata"}
_MEMORY_TYPES = ("episodic", "semantic", "procedural")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_MAX_CHARACTERS = MAX_CONTENT_BYTES // 4
_MAX_TAGS = 100
_MAX_KNOWN = 10_000
_SECOND = timedelta(seconds=1)
_PLAIN_TIME = re.compile(f"{TIME}Z")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_quote = json.encoder.encode_basestring


class _NotPlainError(Exception):
    """A value is not what it should be at first sight."""


_NOT_PLAIN = (_NotPlainError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def memory_event(
    fields: Fields, *, recorded_at: datetime | None = None, event_id: UUID | None = None
) -> Event:
    """Return the event of a memory, FIELDS as `Memory.remember` takes them.

    Raises:
        InvalidEventError: a value breaks the rules; says which.
    """
    metadata, facts, tags = fields.get("metadata"), fields.get("facts"), fields.get("tags")
    if isinstance(tags, str | bytes):  # its letters would be the tags
        raise InvalidEventError(f"payload.tags: must be a list of texts, not {tags!r:.100}")
    return new_event(
        "memory",
        {
            "content": fields.get("content"),
            "role": fields.get("role"),
            "memory_type": "episodic" if fields.get("memory_type") is None else fields["memory_type"],
            "tags": list(tags or ()) or None,
            "importance": fields.get("importance"),
            "metadata": dict(metadata) if metadata else None,
            "facts": [_fact(fact) for fact in facts] if facts else None,
        },
        occurred_at=fields.get("occurred_at"),
        recorded_at=recorded_at,
        user_id=fields.get("user_id"),
        agent_id=fields.get("agent_id"),
        session_id=fields.get("session_id"),
        event_id=event_id,
    )


def memory_lines(memories: Iterable[Fields], defaults: Fields) -> tuple[MemoryIds, list[bytes]]:
    """Return the ids of memories, and blocks of their lines, in the order of their `recorded_at`.

    Args:
        defaults: the scope of memories that do not say theirs.

    Raises:
        InvalidEventError: a memory breaks the rules; says which one, counted from 0, and how.
    """
    ids = bytearray()
    blocks: list[bytes] = []
    lines: list[bytes] = []
    writer = _BatchWriter(defaults)
    for number, memory in enumerate(memories):
        event_id = uuid_utils.uuid7()
        recorded_at = writer.next_moment()
        try:
            line = writer.plain_line(memory, str(event_id), recorded_at)
        except _NOT_PLAIN:
            try:
                line = writer.exact_line(memory, UUID(bytes=event_id.bytes), recorded_at)
            except InvalidEventError as error:
                raise InvalidEventError(f"memories[{number}]: {error}") from error
        ids += event_id.bytes
        lines.append(line)
        if len(lines) == LINES_IN_A_BLOCK:
            blocks.append(b"".join(lines))
            lines.clear()
    return MemoryIds(bytes(ids)), [*blocks, b"".join(lines)]


class MemoryIds(Sequence[UUID]):
    """Ids in the order of their memories: 16 bytes each, made when they are asked for."""

    def __init__(self, ids: bytes) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids) // 16

    @overload
    def __getitem__(self, place: int) -> UUID: ...

    @overload
    def __getitem__(self, place: slice) -> list[UUID]: ...

    def __getitem__(self, place: int | slice) -> UUID | list[UUID]:
        found = range(len(self))[place]
        if isinstance(found, range):
            return [self[number] for number in found]
        return UUID(bytes=self._ids[16 * found : 16 * found + 16])

    def __repr__(self) -> str:
        return f"<{len(self):,} memory ids>"


class PlainWriter:
    """Puts memories on lines as they are.

    Args:
        defaults: what a memory is that does not say it: the parts of its scope, and `memory_type`.
    """

    def __init__(self, defaults: Fields) -> None:
        self._defaults = defaults
        self._known: dict[tuple[object, ...], tuple[str, str]] = {}
        """By scope, role and type of memory: how they are written."""

    def line_of(self, memory: Fields, event_id: UUID, recorded_at: datetime) -> bytes | None:
        """Return the line of a memory, its `recorded_at` in UTC; None if it is not plain."""
        try:
            return self.plain_line(memory, str(event_id), recorded_at.replace(tzinfo=None).isoformat())
        except _NOT_PLAIN:
            return None

    def plain_line(self, memory: Fields, event_id: str, recorded_at: str) -> bytes:
        """Return the line of a memory that is plain; of another one, raise whatever comes of it."""
        rest = "" if memory.keys() <= _SIMPLE else _rest(memory)
        get = memory.get
        content = get("content")
        if type(content) is not str or not content or content.isspace() or len(content) > _MAX_CHARACTERS:
            raise _NotPlainError
        # What is printable is neither a control character nor a lone surrogate.
        is_as_it_stands = content.isprintable() and '"' not in content and "\\" not in content
        text = f'"{content}"' if is_as_it_stands else _quote(content)
        said = (get("user_id"), get("agent_id"), get("session_id"), get("role"), get("memory_type"))
        known = self._known.get(said)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[said] = self._describe(said)
        scope, kind = known
        occurred_at = get("occurred_at")
        happened_at = recorded_at if occurred_at is None else _time(occurred_at)
        return (
            f'{{"event_id":"{event_id}","event_type":"memory","occurred_at":"{happened_at}Z",'
            f'"recorded_at":"{recorded_at}Z"{scope},"payload":{{"content":{text}{kind}{rest}}}}}\n'
        ).encode()  # a lone surrogate is a ValueError

    def _describe(self, said: tuple[object, ...]) -> tuple[str, str]:
        names = ("user_id", "agent_id", "session_id", "role", "memory_type")
        given = {
            name: self._defaults.get(name) if value is None else value
            for name, value in zip(names, said, strict=True)
        }
        memory_type = given.pop("memory_type")
        if memory_type not in (*_MEMORY_TYPES, None):
            raise _NotPlainError
        written = {name: f',"{name}":{_name(value)}' for name, value in given.items() if value is not None}
        role = written.pop("role", "")
        return "".join(
            written.values()
        ), role if memory_type is None else f'{role},"memory_type":"{memory_type}"'


class _BatchWriter(PlainWriter):
    def __init__(self, defaults: Fields) -> None:
        super().__init__({**defaults, "memory_type": "episodic"})
        now = datetime.now(UTC).replace(tzinfo=None)
        self._microsecond = now.microsecond
        self._begin_second(now.replace(microsecond=0))

    def next_moment(self) -> str:
        """Return a microsecond later than before: fewer are written in one than pass."""
        self._microsecond += 1
        if self._microsecond == 1_000_000:
            self._microsecond = 0
            self._begin_second(self._second + _SECOND)
        return f"{self._seconds}.{self._microsecond:06}"

    def exact_line(self, memory: Fields, event_id: UUID, recorded_at: str) -> bytes:
        if not isinstance(memory, Mapping):
            raise InvalidEventError(f"it is no mapping of names to values: {memory!r:.100}.")
        unknown = [name for name in memory if name not in _KNOWN]
        if unknown:
            raise InvalidEventError(
                f"no memory has a field {unknown[0]!r}; its fields are {', '.join(FIELDS)}."
            )
        moment = datetime.fromisoformat(recorded_at).replace(tzinfo=UTC)
        fields = dict(memory)
        for name, value in (*self._defaults.items(), ("occurred_at", moment)):
            if fields.get(name) is None:
                fields[name] = value
        try:
            event = memory_event(fields, recorded_at=moment, event_id=event_id)
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidEventError(f"tags, metadata or facts are of a wrong type: {error}.") from error
        line = event.to_line()
        if len(line) > MAX_LINE_BYTES:
            raise InvalidEventError(
                f"it is too long: {len(line):,} bytes as a line; the limit is {MAX_LINE_BYTES:,}."
            )
        return line

    def _begin_second(self, second: datetime) -> None:
        self._second = second
        self._seconds = second.isoformat()


def _name(value: object) -> str:
    if type(value) is not str or not 1 <= len(value) <= 256 or _CONTROL_CHARACTER.search(value):
        raise _NotPlainError
    return _quote(value)


def _time(value: object) -> str:
    if type(value) is str and _PLAIN_TIME.fullmatch(value):
        return value[:-1]
    if type(value) is not datetime:
        raise _NotPlainError
    moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if not EARLIEST <= moment < LATEST:
        raise _NotPlainError
    return moment.replace(tzinfo=None).isoformat()


def _rest(memory: Fields) -> str:
    if not memory.keys() <= _PLAIN:
        raise _NotPlainError
    tags, importance, metadata = memory.get("tags"), memory.get("importance"), memory.get("metadata")
    rest = ""
    if tags is not None:
        if type(tags) not in (list, tuple) or len(tags) > _MAX_TAGS or not all(map(_is_tag, tags)):
            raise _NotPlainError
        rest = f',"tags":{_encode(tags)}' if tags else ""
    if importance is not None:
        if type(importance) not in (float, int) or not 0 <= importance <= 1:
            raise _NotPlainError
        rest += f',"importance":{float(importance)!r}'
    if metadata is not None:
        if type(metadata) is not dict or not all(map(_is_plain, metadata.items())):
            raise _NotPlainError
        text = _encode(metadata)
        if len(text) > _MAX_CHARACTERS:
            raise _NotPlainError
        rest += f',"metadata":{text}' if metadata else ""
    return rest


def _is_tag(tag: object) -> bool:
    return type(tag) is str and 1 <= len(tag) <= 256 and tag == tag.strip()


def _is_plain(item: tuple[Any, Any]) -> bool:
    name, value = item
    kind = type(value)
    return type(name) is str and (kind in (str, bool, float) or (kind is int and abs(value) < 2**63))


def _fact(fact: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in fact.items()
        if value is not None
    }
