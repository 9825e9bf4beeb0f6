"""What is shown to people is data: nothing in it steers a terminal, breaks JSON or a table."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mnemoduck.cli.output import (
    escape_controls,
    format_bytes,
    format_scope,
    format_time,
    one_line,
    print_json,
    print_rows,
    print_table,
)
from mnemoduck.reader import LongTermMemory

BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
HOSTILE = [
    "\x1b]0;title\x07\x1b[2J\x1b[31mred",
    "\x9b31m C1 \x85 \x90",
    "\u202egnp.exe \u2066\u2069\u200f\u061c",
    "over\rwritten \x08\x08\x7f",
    "\0",
    "[bold]markup[/bold] :duck: [link=http://evil]x[/link]",
]
any_text = st.text() | st.sampled_from(HOSTILE)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)


HIDDEN = {chr(code) for code in (0xAD, 0x200B, *range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC))}
HIDDEN |= set(map(chr, range(0xE0000, 0xE0080)))
"""What has no width but the joiners, which scripts and emoji need."""


def steers(text: str) -> list[str]:
    """Return what in a text a terminal would obey or hide, line ends and tabs apart."""
    return [
        character
        for character in text
        if (unicodedata.category(character) == "Cc" and character not in "\n\t")
        or unicodedata.bidirectional(character) in BIDIRECTIONAL
        or character in "\u061c\u200e\u200f"
        or unicodedata.category(character) in ("Zl", "Zp", "Cs")
        or (unicodedata.category(character) == "Cf" and character in HIDDEN)
    ]


@given(text=any_text)
@example(text="".join(map(chr, range(0x100))))
def test_no_text_steers_a_terminal(text: str) -> None:
    assert steers(escape_controls(text)) == []
    shown = one_line(text)
    assert steers(shown) == []
    assert "\n" not in shown
    assert "\t" not in shown


@given(text=any_text)
def test_a_text_without_controls_is_shown_as_it_is(text: str) -> None:
    harmless = "".join(character for character in text if not steers(character))
    assert escape_controls(harmless) == harmless


@given(value=json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_is_printed_as_json_that_reads_back_and_steers_no_terminal(
    capsys: pytest.CaptureFixture[str], value: Any
) -> None:
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert steers(printed) == []
    assert "\t" not in printed


def test_what_memory_returns_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    identity = UUID(int=7)
    item = LongTermMemory(
        consolidated_id=identity,
        user_id="u",
        agent_id=None,
        memory_ids=[identity],
        session_ids=["s"],
        content=HOSTILE[0],
        gist=HOSTILE[0],
        gist_method="extractive",
        role=None,
        memory_type="episodic",
        tags=["π"],
        fate="retained",
        fate_reason="Said once.",
        support_count=1,
        recall_count=0,
        use_count=1,
        importance=0.5,
        interference=0.0,
        activation=-1.5,
        strength=0.5,
        retention=0.5,
        stability_days=7.0,
        first_seen_at=moment,
        last_seen_at=moment,
        last_used_at=moment,
        fate_at=moment,
        forgets_at=None,
    )
    print_json([item])
    (read,) = json.loads(capsys.readouterr().out)
    assert read["consolidated_id"] == str(identity)
    assert read["memory_ids"] == [str(identity)]
    assert read["content"] == HOSTILE[0]
    assert read["last_seen_at"] == "2026-03-01T12:00:00+00:00"
    assert read["tags"] == ["π"]
    assert set(read) == set(item.as_dict())


@given(cells=st.lists(any_text.map(one_line), min_size=2, max_size=2), title=any_text.map(one_line))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_table_shows_any_text_and_nothing_of_it_is_markup(
    capsys: pytest.CaptureFixture[str], cells: list[str], title: str
) -> None:
    print_table(title, [("who", "left"), ("memory", "left")], [cells])
    printed = capsys.readouterr().out
    assert steers(re.sub(r"\x1b\[[0-9;]*m", "", printed)) == []


def test_markup_in_a_text_is_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = "[bold]markup[/bold] :duck: [/] [link=http://evil]x[/link]"
    print_table(text, [(text, "left"), ("memory", "left")], [[text, text]], note=text)
    assert capsys.readouterr().out.count(text) == 5


def test_a_long_memory_is_shown_whole_on_several_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    words = [f"word{number}" for number in range(100)]
    print_table("", [("n", "right"), ("memory", "left")], [["1", " ".join(words)]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert "".join("".join(lines).split()).count("word99") == 1


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (1_500_000, "1.5 MB"), (2_340_000_000_000, "2340.0 GB")],
)
def test_sizes_are_shown_with_a_unit(size: int, shown: str) -> None:
    assert format_bytes(size) == shown


def test_times_are_shown_in_utc_and_scopes_without_what_is_not_given() -> None:
    assert format_time(datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))) == "2026-02-28 23:30"
    assert format_time(None) == "-"
    assert format_scope("maya", None, "s\n1") == "maya / s 1"
    assert format_scope(None, None) == "-"


def test_what_json_has_not_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"x": float("nan"), "y": -float("inf"), date(2020, 1, 1): {None: (1, UUID(int=0))}, True: 2}])
    assert json.loads(capsys.readouterr().out) == [
        {"x": "nan", "y": "-inf", "2020-01-01": {"null": [1, str(UUID(int=0))]}, "true": 2}
    ]


def test_a_large_result_is_printed_as_lines_in_a_moment(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(number, f"name {number}") for number in range(50_000)]
    began = time.process_time()
    print_rows(["number", "name"], rows)
    assert time.process_time() - began < 10
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "number  name"
    assert lines[-2:] == ["49999   name 49999", "50,000 rows"]
