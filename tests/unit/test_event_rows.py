"""Lines read in bulk: the same events, stored the same way, as those that `parse_event` reads one by one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fuzz.event_lines import AT, IDS, lines
from fuzz.targets.events import check, in_bulk, one_by_one
from hypothesis import example, given
from hypothesis import strategies as st

from mnemoduck import event_rows
from mnemoduck.event_rows import plain_identity, row_of
from mnemoduck.events import MAX_CONTENT_BYTES, MAX_LINE_BYTES, new_event, parse_event
from mnemoduck.home import Home
from mnemoduck.importers import ingest
from mnemoduck.inbox import seal_open_segments, sealed_segments
from mnemoduck.memory import Memory

# --- lines near those that our writers write -------------------------------------------------------------


@given(st.lists(lines(), min_size=1, max_size=6), st.binary(max_size=4), st.booleans())
def test_whatever_a_line_says_it_is_read_in_bulk_as_it_is_read_alone(
    parts: list[bytes], noise: bytes, is_cut: bool
) -> None:
    data = b"".join(parts[:1]) + noise + b"".join(parts[1:])
    check(data[:-2] if is_cut else data)


@given(st.data())
def test_a_plain_line_with_any_byte_replaced_is_read_in_bulk_as_it_is_read_alone(data: st.DataObject) -> None:
    plain = bytearray(data.draw(st.sampled_from(PLAIN)))
    place = data.draw(st.integers(0, len(plain) - 1))
    plain[place] = data.draw(st.sampled_from(b'"\\{}[],: \n\r\t\0\x1f\x7f\xff09azAZ') | st.integers(0, 255))
    check(bytes(plain) + PLAIN[0])


@example(b"")
@example(b"\n")
@example(b"\r\n\r")
@example(b"\xff\n \n\n{}")
@given(st.binary())
def test_arbitrary_bytes_are_read_in_bulk_as_they_are_read_alone(data: bytes) -> None:
    check(data)


# --- limits that no small example reaches ------------------------------------------------------------------


def memory_line(**payload: object) -> bytes:
    fields = {
        "event_id": IDS[0],
        "event_type": "memory",
        "occurred_at": AT,
        "recorded_at": AT,
        "payload": payload,
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        "x" * MAX_CONTENT_BYTES,
        "x" * (MAX_CONTENT_BYTES + 1),
        "é" * (MAX_CONTENT_BYTES // 2),
        "é" * (MAX_CONTENT_BYTES // 2 + 1),
        "👩" * (MAX_CONTENT_BYTES // 4 - 100),
        "x" * MAX_LINE_BYTES,
        "\n" * MAX_CONTENT_BYTES,
    ],
    ids=lambda content: f"{content[0]!r}x{len(content)}",
)
def test_a_content_at_its_limit_is_read_in_bulk_as_it_is_read_alone(content: str) -> None:
    check(memory_line(content=content) + PLAIN[0])


@pytest.mark.parametrize("count", [99, 100, 101, 1000, 1001])
def test_a_list_at_its_limit_is_read_in_bulk_as_it_is_read_alone(count: int) -> None:
    check(memory_line(content="x", tags=["t"] * count))
    ids = new_event("recall", {"memory_ids": IDS[:1]}).to_line().replace(
        f'"{IDS[0]}"'.encode(), b",".join([f'"{IDS[0]}"'.encode()] * count)
    )  # fmt: skip
    check(ids)


def test_a_name_that_comes_twice_counts_once_with_its_last_value() -> None:
    twice = memory_line(content="x", metadata={"a": 1}).replace(b'{"a":1}', b'{"a":1,"b":2,"a":3}')
    check(twice)
    ((_, row),) = in_bulk(twice)[0]
    assert json.loads(row[-1]) == {"content": "x", "metadata": {"a": 3, "b": 2}}


# --- what is gained: these lines are not parsed one by one -------------------------------------------------

PLAIN = [
    new_event("memory", payload, occurred_at=datetime(2026, 3, 1, 12, tzinfo=UTC), user_id="maya").to_line()
    for payload in (
        {"content": 'a "quoted" \\ word\nand\ttabs \x01, é, 👩🏽\u200d🚀 \x7f', "role": "user"},
        {"content": "  x", "memory_type": "semantic", "tags": ["a b", "é"], "importance": 0.25},
        {"content": "x", "importance": 1.0, "metadata": {"a": [1, "b", None], "c": {"d": False, "e": 1.5}}},
    )
] + [
    new_event("recall", {"memory_ids": IDS, "query": "what?\n"}, user_id="maya", session_id="s").to_line(),
    new_event("step", {"episode_id": "e", "step": 0, "tool": "grep", "args": {"a": ["b"]}}).to_line(),
    new_event("step", {"episode_id": "e", "step": 1, "step_type": "message", "text": "é\n"}).to_line(),
]  # fmt: skip


@pytest.fixture
def nothing_parsed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(line: bytes) -> Any:
        raise AssertionError(f"parsed alone: {line!r}")

    monkeypatch.setattr(event_rows, "parse_event", refuse)


@pytest.mark.usefixtures("nothing_parsed_alone")
@pytest.mark.parametrize("line", PLAIN)
def test_what_has_no_rare_field_is_read_in_bulk(line: bytes) -> None:
    row = row_of(parse_event(line))
    assert in_bulk(line)[0] == [(0, row)]
    assert plain_identity(line.rstrip()) == row[:2]


@pytest.mark.usefixtures("nothing_parsed_alone")
def test_what_our_writers_and_importers_write_is_read_in_bulk(home: Home, tmp_path: Path) -> None:
    with Memory(home.path) as memory:
        memory.remember("plain")
        remembered = memory.remember(
            "all there is", role="user", user_id="u", agent_id="a", session_id="s", memory_type="semantic",
            tags=["t", "u"], importance=0.3, metadata={"page": 3},
        )  # fmt: skip
        memory.reinforce([remembered], query="what?")
        episode = memory.start_episode("task")
        memory.log_step(episode, "grep", {"path": "x"}, "found", latency_ms=2.5)
        memory.log_step(episode, "grep", {}, error="no such file", requestor="user")
        memory.log_message(episode, "user", "thanks")
    plain = tmp_path / "plain.jsonl"
    plain.write_text(
        '{"text": "imported", "importance": "0.4", "tags": "a, b", "page": 2, "memory_type": "semantic"}\n'
    )
    ingest(home, [plain], known_event_ids=lambda _: set())
    seal_open_segments(home)
    for segment in sealed_segments(home):
        whole = b"".join(
            line for line in segment.read_bytes().splitlines(True) if b"episode_started" not in line
        )
        assert in_bulk(whole) == one_by_one(whole)
