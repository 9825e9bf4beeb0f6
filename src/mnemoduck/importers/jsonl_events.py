"""JSONL of events as they stand in the inbox: kept unchanged, with their own ids, times and scope."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from mnemoduck.errors import InvalidEventError
from mnemoduck.event_rows import plain_identity
from mnemoduck.events import MAX_LINE_BYTES, parse_event
from mnemoduck.importers.lines import read_lines
from mnemoduck.importers.records import Line, Record, reason_of, too_long
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope


def read_events(source: Source, defaults: Scope) -> Iterator[Record]:
    """Yield the events of a file; `defaults` do not apply, since the scope is part of an event."""
    for line, length in read_lines(source):
        if length > MAX_LINE_BYTES:
            yield Rejection(source.line, too_long(length), line)
            continue
        if plain := plain_identity(line):
            event_id, event_type = plain
            yield Line(UUID(event_id), event_type, line + b"\n")
            continue
        try:
            yield parse_event(line)
        except InvalidEventError as error:
            yield Rejection(source.line, _phrase(reason_of(error)), line)


def _phrase(reason: str) -> str:
    detail = reason.removeprefix("Invalid JSON: ")
    if detail == reason:
        return reason
    return f"not valid JSON ({detail.replace('at line 1 column', 'at column')})"
