"""What an importer yields: events, and rejections that say why a record is none.

A reason is a fixed phrase, then what is particular to this record in parentheses: "content is too
long (2,000,000 bytes; the limit is 1,048,576)". A summary counts the phrases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from pydantic import ValidationError

from mnemoduck.errors import InvalidEventError
from mnemoduck.events import MAX_LINE_BYTES, Event, explain
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope


@dataclass(frozen=True, slots=True)
class Line:
    """An event that has its line already: what the intake has to know of it."""

    event_id: UUID
    event_type: str
    line: bytes

    def to_line(self) -> bytes:
        return self.line


Whole: TypeAlias = Event | Rejection
Record: TypeAlias = Whole | Line
Importer: TypeAlias = Callable[[Source, Scope], Iterator[Record]]
"""Reads one source; the scope fills in what a record does not say of its own.

An importer sets `source.line` to the place of the record that it yields.
"""


class RefusedError(Exception):
    """A record breaks a rule; the message is the reason of its rejection."""


def kind_of(reason: str) -> str:
    """Return the fixed phrase of a reason."""
    return reason.partition(" (")[0]


def reason_of(error: InvalidEventError) -> str:
    """Return why an event is not valid, without the words around it."""
    cause = error.__cause__
    return explain(cause) if isinstance(cause, ValidationError) else str(error)


def too_long(length: int) -> str:
    """Return the reason for a line over the limit; `length` is its true length in bytes."""
    return f"line is too long ({length:,} bytes; the limit is {MAX_LINE_BYTES:,})"


def show(value: object, limit: int = 60) -> str:
    """Return a value for use in a sentence: short, and with nothing that could steer a terminal."""
    text = repr(value[: limit + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def printable(text: str) -> str:
    """Return the text with everything that is not printable spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
