"""Whatever is accepted as an event is loaded, and means in the warehouse what it meant when it was told."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow.parquet as pq
import pytest
from click import BadParameter
from fuzz.event_lines import AT, lines
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mnemoduck.cli.recall import MetadataValue
from mnemoduck.errors import InvalidEventError
from mnemoduck.event_rows import ROW, Row, row_of
from mnemoduck.events import new_event, parse_event
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import InboxWriter
from mnemoduck.memory import Memory
from mnemoduck.memory_lines import memory_event, memory_lines
from mnemoduck.pipeline.load import load_inbox, read_manifest
from mnemoduck.quarantine import count_quarantined

_database = duckdb.connect()


def load(home: Home, data: list[bytes]) -> list[Row]:
    """Return the rows of raw/ after these lines were loaded, in their order."""
    writer = InboxWriter(home)
    writer.append(data)
    writer.close()
    load_inbox(home)
    files = [home.raw / file.path for batch in read_manifest(home) for file in batch.files]
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    rows.sort(key=lambda row: row["line"])
    for row in rows:
        for name in ("occurred_at", "recorded_at"):
            row[name] = row[name].isoformat()
    return [tuple(row[name] for name in ROW) for row in rows]


def accepted(data: list[bytes]) -> list[Row]:
    found = []
    for line in b"".join(data).split(b"\n"):
        try:
            found.append(row_of(parse_event(line)))
        except InvalidEventError:
            continue
    return found


@pytest.mark.usefixtures("impatient_disk")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines(), min_size=1, max_size=12))
@example([])
def test_every_event_that_is_accepted_is_in_raw_as_it_was_told(given_lines: list[bytes]) -> None:
    whole = [line for line in given_lines if line.endswith(b"\n")]
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder) / "home")
        told = accepted(whole)
        assert load(home, whole) == told
        blank = sum(not line.rstrip(b"\r") for line in b"".join(whole).split(b"\n"))
        refused = b"".join(whole).count(b"\n") + 1 - blank - len(told)
        assert count_quarantined(home) == refused
    for row in told:
        check_what_duckdb_reads(row[-1])


def check_what_duckdb_reads(payload: str) -> None:
    """The payload is JSON to DuckDB, and says what it says to Python."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    said = json.loads(payload, parse_constant=refuse)
    (keys, texts), = _database.execute(
        "select json_keys($payload), "
        "[json_extract($payload, '/' || replace(replace(key, '~', '~0'), '/', '~1'))::varchar "
        "for key in json_keys($payload)]",
        {"payload": payload},
    ).fetchall()  # fmt: skip
    assert keys == list(said)
    assert [json.loads(text) for text in texts] == list(said.values())


REFUSED = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1.8e308", "1" + "0" * 310 + ".5", "9" * 4301]
NUMBERS = [
    *REFUSED, "1e308", "1.7976931348623157e308", "1e-400", "5e-324", "-0", "-0.0", "9223372036854775808",
    "18446744073709551616", "9" * 400, "9" * 4300, "12345678901234567.5", "0.1e-5", "1E+2",
]  # fmt: skip


@pytest.mark.parametrize(
    "place",
    [
        '"metadata":{"a":[?]}',
        '"something new":?',
        '"facts":[{"subject":"a","predicate":"b","object":"c","weight":?}]',
    ],
)
def test_a_number_is_refused_or_comes_back_equal(home: Home, place: str) -> None:
    told = [
        (
            f'{{"event_id":"{UUID(int=key)}","event_type":"memory","occurred_at":"{AT}",'
            f'"recorded_at":"{AT}","payload":{{"content":"x",{place.replace("?", number)}}}}}\n'
        ).encode()
        for key, number in enumerate(NUMBERS)
    ]
    rows = load(home, told)
    assert rows == accepted(told)
    assert [NUMBERS[UUID(row[0]).int] for row in rows] == [one for one in NUMBERS if one not in REFUSED]
    assert count_quarantined(home) == len(REFUSED)
    for *_, payload in rows:
        check_what_duckdb_reads(payload)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_no_way_in_takes_a_number_that_json_has_not(memory: Memory, number: float) -> None:
    for metadata in ({"a": number}, {"a": {"b": [1, number]}}):
        with pytest.raises(InvalidEventError, match="must be a number that JSON has"):
            memory.remember("x", metadata=metadata)
        with pytest.raises(InvalidEventError, match="must be a number that JSON has"):
            memory_event({"content": "x", "metadata": metadata})
        with pytest.raises(InvalidEventError):
            memory_lines([{"content": "x", "metadata": metadata}], {})
        with pytest.raises(InvalidEventError, match="must be a number that JSON has"):
            memory.start_episode("task", context=metadata)
        episode = memory.start_episode("task")
        with pytest.raises(InvalidEventError, match="must be a number that JSON has"):
            memory.log_step(episode, "tool", metadata)


def test_a_text_that_json_writes_as_an_escape_comes_back_equal(home: Home) -> None:
    content = "a\0b\x1f\x7f\u2028\u2029\ufeff\ufffe\U0010ffff \\u0000 \\ud800"
    event = new_event("memory", {"content": content, "metadata": {content: [content]}, "tags": ["a\0b"]})
    rows = load(home, [event.to_line()])
    assert rows == [row_of(event)]
    check_what_duckdb_reads(rows[0][-1])
    assert _database.execute("select $1::json ->> '$.content'", [rows[0][-1]]).fetchone() == (content,)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=NaN", "NaN"),
        ("a=-Infinity", "-Infinity"),
        ("a=1e400", "1e400"),
        ("a=" + "[" * 100_000, "[" * 100_000),
        ("a=" + "9" * 5000, "9" * 5000),
        ("a=1e3", 1000.0),
        ('a="NaN"', "NaN"),
        ("a=", ""),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_is_no_json_is_a_text_to_filter_by(text: str, value: object) -> None:
    assert MetadataValue().convert(text, None, None) == ("a", value)


def test_a_filter_without_a_key_is_refused() -> None:
    with pytest.raises(BadParameter, match="is not KEY=VALUE"):
        MetadataValue().convert("=NaN", None, None)
