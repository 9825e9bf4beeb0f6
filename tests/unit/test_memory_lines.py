"""Many memories at a time: accepted, stored and refused as `remember` does with each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnemoduck.errors import InvalidEventError, StorageError
from mnemoduck.events import MAX_CONTENT_BYTES, Event, parse_event
from mnemoduck.home import Home
from mnemoduck.importers.plain import MemoryBuilder
from mnemoduck.importers.records import RefusedError
from mnemoduck.inbox import FreshEvents
from mnemoduck.memory import Memory
from mnemoduck.memory_lines import FIELDS, PlainWriter, memory_event, memory_lines
from mnemoduck.scope import Scope

from .conftest import in_child


class Text(str):
    pass


texts = st.text(max_size=6) | st.sampled_from(
    ["é" * 257, "", " ", "\u00a0", "\n", 'say "x" \\', "\0", "\x7f", "\ud800", "\u2028", "👩", " a ", "\x1c"]
)  # fmt: skip
odd = st.sampled_from(
    [None, 0, 1, 5, -0.0, 0.5, 1.5, float("nan"), True, b"x", [], {}, (), object(), Text("t")]
)
moments = st.sampled_from(
    [
        datetime(2026, 3, 1, 12), datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=5))),
        datetime(1969, 1, 1), datetime(2100, 1, 1, tzinfo=UTC), datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), date(2026, 3, 1),
        "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.5Z", "2026-03-01T12:00:00+02:00", "2024-02-29T00:00:00Z",
        "2026-02-29T00:00:00Z", "yesterday", "",
    ]
)  # fmt: skip
values = texts | odd | st.integers(-(2**70), 2**70) | st.floats() | st.lists(texts, max_size=2) | moments
memories = st.fixed_dictionaries(
    {"content": texts | odd},
    optional={
        "role": texts | odd,
        "user_id": texts | odd,
        "agent_id": texts | odd,
        "session_id": texts | odd,
        "occurred_at": moments | odd,
        "memory_type": st.sampled_from(["episodic", "semantic", "procedural", "vague", "", None, 5]),
        "tags": st.lists(texts, max_size=3) | st.lists(texts, max_size=3).map(tuple) | odd | texts,
        "importance": st.floats() | odd | st.just("0.5") | st.just(Decimal("0.5")),
        "metadata": st.dictionaries(texts | st.just(3), values, max_size=3) | odd,
        "facts": st.just([{"subject": "Ada", "predicate": "likes", "object": "tea"}]) | odd,
    },
)


def one_by_one(memory: dict[str, Any]) -> Event | None:
    try:
        return parse_event(memory_event(memory).to_line())
    except (InvalidEventError, TypeError, ValueError, AttributeError):
        return None


def said(event: Event) -> dict[str, Any]:
    """What does not depend on when it was asked."""
    fields = event.model_dump(exclude={"event_id", "recorded_at"})
    return fields if event.occurred_at != event.recorded_at else {**fields, "occurred_at": "then"}


@example([{"content": "x"}])
@given(st.lists(memories, min_size=1, max_size=4))
def test_a_batch_takes_what_is_taken_alone_and_stores_the_same(batch: list[dict[str, Any]]) -> None:
    alone = [one_by_one(memory) for memory in batch]
    if None in alone:
        with pytest.raises(InvalidEventError) as refusal:
            memory_lines(batch, {})
        assert str(refusal.value).startswith(f"memories[{alone.index(None)}]: ")
        return
    ids, blocks = memory_lines(batch, {})
    events = [parse_event(line) for line in b"".join(blocks).splitlines()]
    assert [said(event) for event in events] == [said(event) for event in alone if event]
    assert [event.event_id for event in events] == list(ids)


@pytest.mark.parametrize("character", ["x", "é", "👩", "\n", '"'])
def test_a_content_at_its_limit_is_taken_and_one_beyond_is_not(character: str) -> None:
    longest = character * (MAX_CONTENT_BYTES // len(character.encode()))
    _, blocks = memory_lines([{"content": "a", "tags": ["t"] * 1000}, {"content": f"{longest[1:]}x"}], {})
    assert parse_event(b"".join(blocks).splitlines()[1]).payload["content"] == f"{longest[1:]}x"
    with pytest.raises(InvalidEventError, match=r"^memories\[1\]: .*the limit is 1,048,576"):
        memory_lines([{"content": "a"}, {"content": f"{longest}x"}], {})


@pytest.mark.parametrize(
    ("memory", "sentence"),
    [
        ({"contents": "x"}, "no memory has a field 'contents'; its fields are content, role"),
        ({}, "content: Field required"),
        ("x", "it is no mapping of names to values: 'x'"),
        (None, "it is no mapping of names to values: None"),
        ({"content": "x", "tags": 5}, "tags, metadata or facts are of a wrong type"),
        ({"content": "\0" * 1_000_000}, "it is too long: 6,000,"),
    ],
)
def test_what_is_wrong_with_a_memory_is_told_with_its_place(memory: Any, sentence: str) -> None:
    with pytest.raises(InvalidEventError) as refusal:
        memory_lines([{"content": "first"}, memory, {"content": ""}], {})
    assert str(refusal.value).startswith("memories[1]: ")
    assert sentence in str(refusal.value)


def test_moments_and_ids_of_a_batch_are_in_its_order_and_none_is_in_the_future(memory: Memory) -> None:
    before = datetime.now(UTC)
    ids = memory.remember_batch({"content": str(number)} for number in range(2_000))
    events, _ = FreshEvents(Home(memory.home)).read(0)
    assert [event.payload["content"] for event in events] == [str(number) for number in range(2_000)]
    assert list(ids) == [event.event_id for event in events] == sorted(set(ids))
    moments = [event.recorded_at for event in events]
    assert before < moments[0]
    assert moments == sorted(set(moments)) == [event.occurred_at for event in events]
    assert moments[-1] <= datetime.now(UTC)


def test_the_scope_of_a_batch_is_that_of_memories_that_do_not_say_theirs(memory: Memory) -> None:
    memory.remember_batch(
        [{"content": "plain"}, {"content": "own", "user_id": "u2"}, {"content": "exact", "facts": []}],
        user_id="u1",
        session_id="s",
    )
    events, _ = FreshEvents(Home(memory.home)).read(0)
    assert [(event.user_id, event.agent_id, event.session_id) for event in events] == [
        ("u1", None, "s"),
        ("u2", None, "s"),
        ("u1", None, "s"),
    ]


def test_a_batch_is_remembered_as_a_whole_or_not_at_all(memory: Memory) -> None:
    with pytest.raises(InvalidEventError):
        memory.remember_batch([*({"content": str(number)} for number in range(1_000)), {"content": ""}])
    assert FreshEvents(Home(memory.home)).read(0)[0] == []
    ids = memory.remember_batch([{"content": "a duck"}, {"content": "a goose"}], durable=True)
    assert (len(ids), ids[1], ids[-1:]) == (2, ids[-1], [ids[1]])
    assert [item.memory_id for item in memory.recall("goose")] == [ids[1]]
    assert isinstance(ids[0], UUID)
    assert len(memory.remember_batch([])) == 0


def test_what_was_written_of_a_batch_that_the_disk_refuses_is_taken_back(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.remember("before")
    sizes: Iterator[int] = iter([10_000, 7])
    write = os.write

    def write_less_and_less(descriptor: int, data: bytes) -> int:
        size = next(sizes, None)
        if size is None:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:size])

    monkeypatch.setattr(os, "write", write_less_and_less)
    with pytest.raises(StorageError, match="No space left"):
        memory.remember_batch({"content": str(number)} for number in range(2_000))
    monkeypatch.undo()
    memory.remember("after")
    events, _ = FreshEvents(Home(memory.home)).read(0)
    assert [event.payload["content"] for event in events] == ["before", "after"]


def test_a_batch_survives_the_death_of_its_writer(home: Home) -> None:
    def write_and_die() -> None:
        Memory(home.path).remember_batch({"content": str(number)} for number in range(1_200))
        os.kill(os.getpid(), 9)

    assert in_child(write_and_die) == -9
    assert len(FreshEvents(home).read(0)[0]) == 1_200


def test_every_field_of_a_memory_comes_back(memory: Memory) -> None:
    plain = {
        "content": "x",
        "role": "user",
        "user_id": "u",
        "agent_id": "a",
        "session_id": "s",
        "occurred_at": datetime(2026, 3, 1, tzinfo=UTC),
        "memory_type": "semantic",
        "tags": ["t"],
        "importance": 0.25,
        "metadata": {"page": 3},
    }
    facts = [{"subject": "Ada", "predicate": "likes", "object": "tea"}]
    assert {*plain, "facts"} == set(FIELDS)
    memory.remember_batch([plain, {**plain, "facts": facts}])
    memory.remember(**plain)  # type: ignore[arg-type]
    quick, exact, alone = FreshEvents(Home(memory.home)).read(0)[0]
    assert said(quick) == said(alone)
    assert exact.payload == {**alone.payload, "facts": facts}


def imported(record: dict[str, Any]) -> tuple[UUID, dict[str, Any]] | str:
    """What an importer makes of a record of a file, or why it is refused."""
    try:
        made = MemoryBuilder(Scope(agent_id="a")).build(dict(record))
        return made.event_id, said(parse_event(made.to_line()))
    except (RefusedError, InvalidEventError) as error:
        return str(error)


@given(memories)
def test_an_importer_stores_the_same_of_a_plain_record_as_of_any_other(record: dict[str, Any]) -> None:
    found = imported(record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainWriter, "line_of", lambda *_: None)
        assert imported(record) == found
