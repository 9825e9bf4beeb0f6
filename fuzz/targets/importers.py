"""Importers: each record is an event that can be read back, or a rejection that says why."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from fuzz.target import CHEAP, MEDIUM, Target, may_refuse, scratch_file
from mnemoduck.errors import InvalidEventError
from mnemoduck.evaluation.locomo import read_locomo_questions
from mnemoduck.evaluation.longmemeval import read_longmemeval_questions
from mnemoduck.events import MAX_LINE_BYTES, parse_event
from mnemoduck.importers.formats import FORMATS, detect_format
from mnemoduck.importers.records import kind_of, printable
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope

_DEFAULTS = Scope(user_id="somebody")
_SUFFIX = {"csv": "csv", "parquet": "parquet", "markdown": "md", "json": "json"}


def _read(name: str, data: bytes) -> list[tuple[str, str]]:
    """Return for each record what it is: the id of its event, or the reason why it is none."""
    path = scratch_file(f"source.{_SUFFIX.get(name, 'jsonl')}", data)
    source = Source(path, size=len(data))
    found: list[tuple[str, str]] = []
    with may_refuse():
        for record in FORMATS[name](source, _DEFAULTS):
            if isinstance(record, Rejection):
                assert kind_of(record.reason).strip()
                printable(record.reason).encode("utf-8")
                found.append(("refused", record.reason))
                continue
            try:
                line = record.to_line()
            except InvalidEventError as error:  # the intake puts it into quarantine
                found.append(("refused", str(error)))
                continue
            if len(line) <= MAX_LINE_BYTES:
                event = parse_event(line.removesuffix(b"\n"))
                assert str(event.event_id) == str(record.event_id)
                assert event.event_type == record.event_type
            found.append(("taken", str(record.event_id)))
    return found


def check(name: str, data: bytes) -> None:
    assert _read(name, data) == _read(name, data)


def check_detection(data: bytes) -> None:
    for suffix in ("", ".json", ".jsonl"):
        with may_refuse():
            assert detect_format(scratch_file(f"source{suffix}", data)) in FORMATS


def check_questions(data: bytes) -> None:
    path = scratch_file("questions.json", data)
    for read in (read_locomo_questions, read_longmemeval_questions):
        with may_refuse():
            assert all(question.text for question in read(path).questions)


_FIELDS = (
    b'"content":', b'"text":', b'"metadata":', b'"tags":', b'"importance":', b'"occurred_at":',
    b'"timestamp":',
    b'"user_id":', b'"session_id":', b'"memory_type":', b'"role":', b"2026-03-01", b"1772366400",
)  # fmt: skip
_EPISODES = (
    b'"episode_id":', b'"steps":[', b'"type":"tool"', b'"type":"message"', b'"tool":', b'"args":{',
    b'"step":',
    b'"observation":', b'"error":', b'"reward":', b'"success":', b'"started_at":', b'"timestamp":',
    b'"task":',
)  # fmt: skip
_SETS = (
    b'"conversation":{', b'"session_1":[', b'"session_1_date_time":', b'"speaker":', b'"dia_id":',
    b'"sample_id":',
    b'"haystack_sessions":[', b'"haystack_session_ids":[', b'"haystack_dates":[', b'"question_id":',
    b'"qa":[',
    b'"evidence":[', b'"category":', b'"answer_session_ids":[', b'"question_date":',
    b"2023/04/24 (Mon) 05:03",
    b"1:56 pm on 8 May, 2023",
)  # fmt: skip
_MARKDOWN = (
    b"---\n", b"...\n", b"# ", b"## ", b"```\n", b"~~~\n", b"date: ", b"tags: [", b"&a ", b"*a", b"!!",
    b"<<: ",
    b"!!python/object:os.system ", b"!!binary ", b"!!set {", b"? ", b"| ", b"> ", b"0x", b"1:1:1",
    b"2026-03-01",
    b"!!timestamp ", b".inf", b".nan", b"%YAML 1.1\n", b"title: ",
)  # fmt: skip
_CSV = (
    b"content,",
    b"text,",
    b'"',
    b'""',
    b"\r\n",
    b",",
    b"tags",
    b"metadata",
    b"occurred_at",
    b"importance",
)

_cell = (
    st.none() | st.text(max_size=5) | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=4)
    | st.booleans() | st.datetimes() | st.dates() | st.decimals(allow_nan=False, allow_infinity=False,
    places=2)
    | st.lists(st.text(max_size=3), max_size=3) | st.dictionaries(st.sampled_from("ab"), st.floats(),
    max_size=2)
)  # fmt: skip
_names = st.sampled_from(
    [
        "content",
        "Text",
        "tags",
        "metadata",
        "importance",
        "occurred_at",
        "user_id",
        "role",
        "memory_type",
        "a",
        "b",
    ]
)


@st.composite
def _parquet(draw: st.DrawFn) -> bytes:
    rows = draw(st.integers(0, 3))
    columns: dict[str, Any] = {"content": draw(st.lists(st.text(min_size=1), min_size=rows, max_size=rows))}
    for name in draw(st.lists(_names, max_size=4, unique=True)):
        values = draw(st.lists(_cell, min_size=rows, max_size=rows))
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            columns[name] = pa.array([str(value) for value in values])
    file = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), file)
    except (pa.ArrowException, ValueError):
        return b"PAR1"
    data = file.getvalue()
    if draw(st.integers(0, 3)):
        return data
    place = draw(st.integers(0, len(data) - 1))
    return data[:place] + draw(st.binary(max_size=3)) + data[place + draw(st.integers(0, 3)) :]


_TAKEN = "each record is an event that is read back, or a rejection with a reason; twice the same"


def _importer(
    name: str, tokens: tuple[bytes, ...], weight: int = CHEAP, cases: st.SearchStrategy[bytes] | None = None
) -> Target:
    checked: Callable[[bytes], None] = partial(check, name)
    return Target(f"import_{name}", _TAKEN, checked, tokens, cases, weight=weight)


TARGETS = (
    _importer("events", _FIELDS),
    _importer("jsonl", _FIELDS),
    _importer("json", _FIELDS),
    _importer("csv", _CSV),
    _importer("markdown", _MARKDOWN, MEDIUM),
    _importer("locomo", _SETS),
    _importer("longmemeval", _SETS),
    _importer("episodes", _EPISODES),
    _importer("parquet", (b"PAR1",), MEDIUM, _parquet()),
    Target("format", "one of the formats, or a sentence", check_detection, (*_FIELDS, *_SETS, *_EPISODES)),
    Target("questions", "questions with a text, or a sentence", check_questions, _SETS),
)
