"""Lines of the inbox as rows, many at a time.

What a line means is said by `parse_event`, which makes a model of each. But most lines are as our own
writers write them, and of those one regular expression says the same in a fifth of the time: a line that it
matches is an event that `parse_event` accepts, and the columns of its row are pieces of the line as they
stand. It is made to be narrow: what it does not match (another spelling, a rare field, anything that is
wrong) is left to `parse_event`, so that nothing is accepted, changed or refused by this module alone.
tests/unit/test_event_rows.py holds the two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeAlias

from pydantic_core import from_json

from mnemoduck.errors import InvalidEventError
from mnemoduck.events import MAX_CONTENT_BYTES, Event, parse_event

ROW = (
    "event_id",
    "event_type",
    "occurred_at",
    "recorded_at",
    "user_id",
    "agent_id",
    "session_id",
    "payload",
)
"""What a row has. Times are ISO 8601 in UTC without their zone; the payload is compact JSON in Unicode."""

Row: TypeAlias = tuple[str, str, str, str, str | None, str | None, str | None, str]

OnInvalid: TypeAlias = Callable[[int, InvalidEventError, bytes], None]
"""Told the number of a line from 0, why it is no event, and the line without its newline."""

MAX_PLAIN_CHARACTERS = MAX_CONTENT_BYTES // 4
"""Of this length, no text can have more bytes than a content may have."""

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# 29 February is left out: whether there is one is not for a regular expression to say.
_DAY = "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
TIME = f"(?:19[7-9]|20[0-9])[0-9]-{_DAY}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{{6}})?"
"""An expression for a moment from 1970 to 2099, in UTC and without its zone."""

_ID = r'[^"\\\x00-\x1f\x7f]{1,256}+'
_WORD = r'(?=\S)[^"\\\x00-\x1f]{1,256}+(?<=\S)'
# Groups are atomic, `(?>(?:…)*)`, not possessive, `(?:…)*+`: up to Python 3.11.4 the latter can match too
# much (python/cpython, issue 106052). Sets of characters are possessive.
# As both pydantic and json.dumps write a text: what has to be escaped, shortly, and nothing else.
_PLAIN = r'[^"\\\x00-\x1f]*+'
_TEXT = rf'"{_PLAIN}(?>(?:\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f])){_PLAIN})*)"'
_SOMETHING = rf'(?="\s*+[^\s"\\]){_TEXT}'
_NUMBER = r"-?[0-9]{1,17}(?:\.[0-9]{1,17})?"
_SCALAR = f"(?:{_TEXT}|true|false|null|{_NUMBER})"
_FLAT = rf"(?:{_SCALAR}|\[(?:{_SCALAR}(?>(?:,{_SCALAR})*))?\])"
_INNER = rf"(?:{_FLAT}|\{{(?:{_TEXT}:{_FLAT}(?>(?:,{_TEXT}:{_FLAT})*))?\}})"
_OBJECT = rf"\{{(?:{_TEXT}:{_INNER}(?>(?:,{_TEXT}:{_INNER})*))?\}}"

# The groups `…_check` are not empty where there are numbers, or names of the caller's own: these may be
# written in several ways, or twice.
_IMPORTANCE = r',"importance":[01]\.[0-9]{1,17}'
_MEMORY = (
    rf'\{{"content":{_SOMETHING}(?>,"role":"{_ID}"|)'
    rf"(?P<memory_check_1>(?>{_IMPORTANCE}|))"
    r'(?>,"memory_type":"(?:episodic|semantic|procedural)"|)'
    rf'(?>,"tags":\["{_WORD}"(?:,"{_WORD}"){{0,99}}\]|)'
    rf'(?P<memory_check_2>(?>{_IMPORTANCE}|)(?>,"metadata":{_OBJECT}|))\}}'
)
_RECALL = rf'\{{"memory_ids":\["{_UUID}"(?>(?:,"{_UUID}"){{0,99}})\](?>,"query":{_TEXT}|)\}}'
_STEP = (
    rf'\{{"episode_id":"{_ID}","step":(?:0|[1-9][0-9]{{0,5}}),(?:'
    rf'"tool":"{_ID}"(?P<step_check_1>(?>,"args":{_OBJECT}|))(?>,"observation":{_TEXT}|)'
    rf'(?>,"is_error":true(?:,"error":{_TEXT})?|)'
    rf'(?P<step_check_2>(?>,"latency_ms":[0-9]{{1,9}}\.[0-9]{{1,17}}|))(?>,"requestor":"{_ID}"|)'
    rf'|"step_type":"message"(?>,"role":"{_ID}"|),"text":{_TEXT}'
    r")\}"
)
_LINE = re.compile(
    rf'\{{"event_id":"(?P<event_id>{_UUID})",'
    r'"event_type":"(?:memory|(?P<recall>recall)|(?P<step>step))",'
    rf'"occurred_at":"(?P<occurred_at>{TIME})Z","recorded_at":"(?P<recorded_at>{TIME})Z"'
    rf'(?:,"user_id":"(?P<user_id>{_ID})")?'
    rf'(?:,"agent_id":"(?P<agent_id>{_ID})")?'
    rf'(?:,"session_id":"(?P<session_id>{_ID})")?'
    rf',"payload":(?P<payload>(?(recall){_RECALL}|(?(step){_STEP}|{_MEMORY})))\}}\n'
    r"|(?P<other>[^\n]*+)\n?"
)
"""A line with its end: the pieces of one that is plain, or else all of it as `other`."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_GROUPS = tuple(_LINE.groupindex)
_CHECKS = tuple(name for name in _GROUPS if "_check_" in name)


@dataclass
class Rows:
    """Events as columns of equal length, by the names of ROW; `lines` are their numbers, from 0."""

    columns: dict[str, list[str | None]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)


def read_rows(data: bytes, on_invalid: OnInvalid) -> Rows:
    """Return the events on whole lines, in their order; blank lines are none.

    They are as `row_of(parse_event(line))`; of a line that `parse_event` refuses, `on_invalid` is told.
    """
    try:
        found = _LINE.findall(data.decode("utf-8"))
    except UnicodeDecodeError:
        lines = data.split(b"\n")
        nothing: list[list[str | None]] = [[None] * len(lines) for _ in ROW]
        rows = Rows(dict(zip(ROW, nothing, strict=True)), list(range(len(lines))))
        return _parse(rows, lines, range(len(lines)), on_invalid)
    groups = dict(zip(_GROUPS, zip(*found, strict=True), strict=True))
    kinds = zip(groups["recall"], groups["step"], strict=True)
    rows = Rows(
        {
            "event_id": list(groups["event_id"]),
            "event_type": [recall or step or "memory" for recall, step in kinds],
            "occurred_at": list(groups["occurred_at"]),
            "recorded_at": list(groups["recorded_at"]),
            "user_id": _or_none(groups["user_id"]),
            "agent_id": _or_none(groups["agent_id"]),
            "session_id": _or_none(groups["session_id"]),
            "payload": list(groups["payload"]),
        },
        list(range(len(found))),
    )
    left = _not_plain(groups["payload"], zip(*(groups[name] for name in _CHECKS), strict=True))
    return _parse(rows, data.split(b"\n"), left, on_invalid) if left else rows


def plain_identity(line: bytes) -> tuple[str, str] | None:
    """Return id and type of an event whose line, without its end, is plain; None of any other line."""
    try:
        found = _LINE.fullmatch(line.decode("utf-8") + "\n")
    except UnicodeDecodeError:
        return None
    payload = found["payload"] if found else None
    if not found or not payload or len(payload) > MAX_PLAIN_CHARACTERS:
        return None
    if any(found[name] for name in _CHECKS) and not _is_as_written(payload):
        return None
    return found["event_id"], found["recall"] or found["step"] or "memory"


def row_of(event: Event) -> Row:
    """Return the row of an event."""
    return (
        str(event.event_id),
        event.event_type,
        event.occurred_at.replace(tzinfo=None).isoformat(),
        event.recorded_at.replace(tzinfo=None).isoformat(),
        event.user_id,
        event.agent_id,
        event.session_id,
        _encode(event.payload),
    )


def _or_none(values: Sequence[str]) -> list[str | None]:
    return [value or None for value in values] if "" in values else list(values)


def _not_plain(payloads: Sequence[str], checks: Iterable[tuple[str, str, str, str]]) -> set[int]:
    """Return the numbers of the lines that `parse_event` has to read."""
    left: set[int] = set()
    if "" in payloads:
        left.update(number for number, payload in enumerate(payloads) if not payload)
    if max(map(len, payloads)) > MAX_PLAIN_CHARACTERS:
        left.update(number for number, text in enumerate(payloads) if len(text) > MAX_PLAIN_CHARACTERS)
    for number, (a, b, c, d) in enumerate(checks):
        if (a or b or c or d) and not _is_as_written(payloads[number]):
            left.add(number)
    return left


def _parse(rows: Rows, lines: list[bytes], numbers: Iterable[int], on_invalid: OnInvalid) -> Rows:
    """Return the rows with those of some lines as `parse_event` reads them, or without them."""
    gone = set()
    for number in sorted(numbers):
        line = lines[number].rstrip(b"\r") if number < len(lines) else b""
        try:
            row = row_of(parse_event(line)) if line else None
        except InvalidEventError as error:
            on_invalid(number, error, line)
            row = None
        if row is None:
            gone.add(number)
            continue
        for name, value in zip(ROW, row, strict=True):
            rows.columns[name][number] = value
    if not gone:
        return rows
    is_kept = [number not in gone for number in rows.lines]
    columns = {name: list(compress(column, is_kept)) for name, column in rows.columns.items()}
    return Rows(columns, list(compress(rows.lines, is_kept)))


def _is_as_written(payload: str) -> bool:
    """Return whether a payload is as `row_of` writes it: each name once, each number in its spelling."""
    try:
        return _encode(from_json(payload)) == payload
    except ValueError:
        return False
