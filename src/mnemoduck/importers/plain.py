"""Plain memories: records with a `content` and a few optional fields, whatever file they come from.

The schema is in docs/importing.md. The readers of JSONL, JSON, CSV, Parquet and Markdown give their
records as mappings of field names to values; what a field may look like is decided here, once.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from mnemoduck.errors import InvalidEventError
from mnemoduck.events import EARLIEST, MAX_CONTENT_BYTES, Event, derived_event_id, new_event
from mnemoduck.importers.documents import parse_json
from mnemoduck.importers.occurrence import parse_occurred_at
from mnemoduck.importers.records import Line, RefusedError, reason_of, show
from mnemoduck.importers.source import Source
from mnemoduck.importers.tally import Tally
from mnemoduck.memory_lines import PlainWriter
from mnemoduck.scope import Scope

CONTENT_NAMES = ("content", "text", "message")
"""Where the content is looked for: in the first of these that a record has."""

OCCURRED_AT_NAMES = ("occurred_at", "timestamp", "created_at")

FIELDS = (
    "content",
    "occurred_at",
    "role",
    "user_id",
    "agent_id",
    "session_id",
    "tags",
    "importance",
    "memory_type",
    "metadata",
)

MAX_DEPTH = 100
"""Levels of nesting in metadata; the parser that reads the inbox stops at 200."""

MAX_INTEGER_BITS = 14_000
"""Python writes no number of more than 4,300 digits; YAML can name one in few, as a power of 2 or of 60."""

_MICROSECOND = timedelta(microseconds=1)


class MemoryBuilder:
    """Turns the records of one source into events.

    The id of an event is that of its content, role, scope, time, tags and metadata, not of the file.
    Records without a time have none in their id either: the time part is 1970, and a second equal
    record of the same source is told from the first by its number.
    """

    def __init__(self, defaults: Scope) -> None:
        self._defaults = defaults
        self._undated = Tally()
        self._now = EARLIEST
        self._writer = PlainWriter({})

    def build(
        self, fields: dict[str, Any], *, place: Mapping[str, Any] | None = None, is_counted: bool = True
    ) -> Event | Line:
        """Return the memory that the fields describe; `fields` is used up.

        Args:
            fields: of FIELDS, or another name of the content or time; the rest goes to metadata. An
                empty text is as good as nothing, but for content.
            place: further metadata that is no part of the memory's identity.
            is_counted: whether equal records without a time are different memories.

        Raises:
            RefusedError: a field breaks a rule.
        """
        content = _content(_take(fields, CONTENT_NAMES))
        time_given = _take(fields, OCCURRED_AT_NAMES)
        occurred_at = parse_occurred_at(time_given) if _is_given(time_given) else None
        role = _text("role", fields.pop("role", None))
        user_id = _text("user_id", fields.pop("user_id", None)) or self._defaults.user_id
        agent_id = _text("agent_id", fields.pop("agent_id", None)) or self._defaults.agent_id
        session_id = _text("session_id", fields.pop("session_id", None)) or self._defaults.session_id
        tags = _tags(fields.pop("tags", None))
        importance = _importance(fields.pop("importance", None))
        memory_type = fields.pop("memory_type", None)
        metadata = _metadata(fields)

        identity = (content, role, user_id, agent_id, session_id, tags, metadata)
        if occurred_at is None:
            event_id = self._undated_id(identity, is_counted=is_counted)
        else:
            event_id = derived_event_id(occurred_at, "memory", *identity)
        payload: dict[str, Any] = {"content": content, "role": role, "importance": importance}
        if _is_given(memory_type):
            payload["memory_type"] = memory_type
        if tags:
            payload["tags"] = tags
        if place:
            metadata = {**metadata, **place}
        if metadata:
            payload["metadata"] = metadata
        now = self._next_moment()
        whole = {
            **payload,
            "user_id": user_id,
            "agent_id": agent_id,
            "session_id": session_id,
            "occurred_at": occurred_at or now,
        }
        line = self._writer.line_of(whole, event_id, now)
        if line is not None:
            return Line(event_id, "memory", line)
        try:
            return new_event(
                "memory",
                payload,
                occurred_at=occurred_at or now,
                recorded_at=now,
                user_id=user_id,
                agent_id=agent_id,
                session_id=session_id,
                event_id=event_id,
            )
        except InvalidEventError as error:
            raise RefusedError(reason_of(error)) from error

    def _undated_id(self, identity: tuple[object, ...], *, is_counted: bool) -> UUID:
        event_id = derived_event_id(EARLIEST, "undated memory", *identity, 0)
        if is_counted and (number := self._undated.add(event_id.bytes)):
            return derived_event_id(EARLIEST, "undated memory", *identity, number)
        return event_id

    def _next_moment(self) -> datetime:
        """Return now, but later than the last time, so that records keep the order of their file."""
        self._now = max(datetime.now(UTC), self._now + _MICROSECOND)
        return self._now


def arrange_columns(source: Source, names: Sequence[str]) -> list[str]:
    """Return the field of each column of a table: one of FIELDS, or its own name for metadata.

    The names of fields are known in any case and with spaces around them. Another name of the content
    or time is replaced, so that a blank cell in that column is not looked for elsewhere.

    Raises:
        UnusableSourceError: two columns have one name, or none of them holds the content.
    """
    fields = []
    for number, name in enumerate(names, start=1):
        field = name.strip().lower()
        is_known = field in FIELDS or field in CONTENT_NAMES or field in OCCURRED_AT_NAMES
        fields.append(field if is_known else name.strip() or f"column_{number}")
    for synonyms in (CONTENT_NAMES, OCCURRED_AT_NAMES):
        if found := next((name for name in synonyms if name in fields), None):
            fields[fields.index(found)] = synonyms[0]
    if "content" not in fields:
        shown = ", ".join(show(name) for name in names[:20]) + (", …" if len(names) > 20 else "")
        raise source.unusable(
            "no column is named content",
            f"Its columns are {shown}. One of them has to be named content (or text, or message), and "
            "the first line of a CSV file has to hold the names, separated by commas.",
        )
    name, count = Counter(fields).most_common(1)[0]
    if count > 1:
        raise source.unusable(f"two columns are named {show(name)}", "Rename one of them.")
    return fields


def _take(fields: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if name in fields:
            return fields.pop(name)
    return None


def _is_given(value: object) -> bool:
    return value is not None and value != ""


def _content(value: object) -> str:
    if value is None:
        raise RefusedError("content is missing")
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise RefusedError("content is not valid UTF-8") from None
    if not isinstance(value, str):
        raise RefusedError(f"content is not a text ({show(value)})")
    if not value or value.isspace():
        raise RefusedError("content is empty")
    if len(value) * 4 > MAX_CONTENT_BYTES:
        # Of what is too long by its characters alone, no copy is made.
        is_long = len(value) > MAX_CONTENT_BYTES
        size = len(value) if is_long else len(value.encode("utf-8", errors="surrogatepass"))
        if size > MAX_CONTENT_BYTES:
            raise RefusedError(f"content is too long ({size:,} bytes; the limit is {MAX_CONTENT_BYTES:,})")
    return value


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value == value // 1:
        return str(int(value))
    raise RefusedError(f"{name} is not a text ({show(value)})")


def _tags(value: object) -> list[str]:
    if not _is_given(value):
        return []
    if isinstance(value, str):
        text = value.strip()
        value = parse_json(text) if text.startswith("[") else text.replace(";", ",").split(",")
    if not isinstance(value, list | tuple | set):
        raise RefusedError(f"tags are not a list ({show(value)})")
    tags = (_text("tag", tag) for tag in value)
    return list(dict.fromkeys(tag.strip() for tag in tags if tag and not tag.isspace()))


def _importance(value: object) -> float | None:
    if not _is_given(value):
        return None
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if 0 <= number <= 1:
            return number
    raise RefusedError(f"importance is not a number from 0 to 1 ({show(value)})")


def _metadata(fields: dict[str, Any]) -> dict[str, Any]:
    """Return `metadata` and every field that is left, keys in order of their names."""
    given = fields.pop("metadata", None)
    if not _is_given(given):
        return _sorted_object(fields) if fields else {}
    if isinstance(given, str):
        given = parse_json(given)
    if not isinstance(given, dict):
        raise RefusedError(f"metadata is not an object ({show(given)})")
    twice = given.keys() & fields.keys()
    if twice:
        raise RefusedError(f"a field is also given inside metadata ({show(min(twice, key=str))})")
    return _sorted_object({**given, **fields})


def to_json_value(value: Any, depth: int = 0) -> Any:
    """Return the value with every type that JSON lacks written as a text or a number.

    The keys of objects are sorted, so that equal objects have equal ids.

    Raises:
        RefusedError: it is nested too deeply, holds a number that is not finite, or is something
            else again.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise RefusedError(f"metadata holds a number that is too long ({value.bit_length():,} bits)")
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise RefusedError("metadata holds a number that is not finite")
    if depth >= MAX_DEPTH:
        raise RefusedError(f"metadata is nested too deeply (more than {MAX_DEPTH} levels)")
    if isinstance(value, dict):
        return _sorted_object(value, depth)
    if isinstance(value, list | tuple):
        return [to_json_value(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((to_json_value(item, depth + 1) for item in value), key=str)
    if isinstance(value, date | time):  # datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return to_json_value(int(value) if value.is_finite() and value == value // 1 else float(value), depth)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise RefusedError(f"metadata holds what JSON cannot ({show(value)})")


def _sorted_object(value: dict[Any, Any], depth: int = 0) -> dict[str, Any]:
    items = {str(key): to_json_value(item, depth + 1) for key, item in value.items()}
    if len(items) < len(value):
        raise RefusedError("metadata holds a key twice")
    return dict(sorted(items.items())) if len(items) > 1 else items
