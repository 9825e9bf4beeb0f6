"""Lines of events: read in bulk as they are read alone, and written again as they were read."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from fuzz.event_lines import lines
from fuzz.target import CHEAP, Target, may_refuse
from mnemoduck.errors import InvalidEventError
from mnemoduck.event_rows import ROW, Row, plain_identity, read_rows, row_of
from mnemoduck.events import parse_event

Refused = tuple[int, str, bytes]


def in_bulk(data: bytes) -> tuple[list[tuple[int, Row]], list[Refused]]:
    """Return the rows of some lines, and those that are refused, with their numbers."""
    refused: list[Refused] = []
    rows = read_rows(data, lambda number, error, line: refused.append((number, str(error), line)))
    columns = [rows.columns[name] for name in ROW]
    return list(zip(rows.lines, zip(*columns, strict=True), strict=True)), refused


def one_by_one(data: bytes) -> tuple[list[tuple[int, Row]], list[Refused]]:
    """Return what `in_bulk` has to return."""
    rows, refused = [], []
    for number, ended in enumerate(data.split(b"\n")):
        if line := ended.rstrip(b"\r\n"):
            try:
                rows.append((number, row_of(parse_event(line))))
            except InvalidEventError as error:
                refused.append((number, str(error), line))
    return rows, refused


def check(data: bytes) -> None:
    rows, refused = one_by_one(data)
    assert in_bulk(data) == (rows, refused)
    found, events = data.split(b"\n"), dict(rows)
    for number, line in enumerate(found):
        identity = plain_identity(line)
        assert identity is None or identity == events[number][:2]


def check_round_trip(data: bytes) -> None:
    with may_refuse():
        event = parse_event(data)
        line = event.to_line()
        assert line.count(b"\n") == 1
        assert parse_event(line) == event
        assert row_of(parse_event(line)) == row_of(event)
        json.loads(row_of(event)[-1], parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


_TOKENS = (
    b'"event_id":"', b'"event_type":"memory"', b'"event_type":"step"', b'"event_type":"recall"',
    b'"payload":{',
    b'"event_type":"forget"', b'"content":"', b'"metadata":{', b'"tags":[', b'"facts":[', b'"occurred_at":"',
    b'"importance":', b'"args":{', b'"step":', b'"is_error":true', b'"memory_ids":[', b'"valid_to":"',
    b"null",
    b"2026-03-01T12:00:00Z", b"+14:00", b"00000000-0000-0000-0000-000000000001",
)  # fmt: skip
_SOME = st.lists(lines(), min_size=1, max_size=3).map(b"".join)

TARGETS = (
    Target(
        "event_rows", "lines read in bulk are the lines read one by one", check, _TOKENS, _SOME, weight=CHEAP
    ),
    Target(
        "events",
        "an event that is read is written as one line, and read again as the same",
        check_round_trip,
        _TOKENS,
        lines().map(lambda line: line.rstrip(b"\n")),
    ),
)
