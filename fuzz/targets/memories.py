"""Memories in bulk: a batch takes what is taken alone, and stores the same."""

from __future__ import annotations

import json
from typing import Any

import pydantic_core
from hypothesis import strategies as st

from fuzz.target import Target
from mnemoduck.errors import InvalidEventError
from mnemoduck.events import Event, parse_event
from mnemoduck.memory_lines import FIELDS, memory_event, memory_lines


def _alone(memory: dict[str, Any]) -> Event | None:
    try:
        return parse_event(memory_event(memory).to_line())
    except (InvalidEventError, TypeError, ValueError, AttributeError):
        return None


def _said(event: Event) -> str:
    fields = event.model_dump(exclude={"event_id", "recorded_at"})
    if event.occurred_at == event.recorded_at:
        fields["occurred_at"] = "then"
    return repr(fields)


def check(data: bytes) -> None:
    try:
        given = pydantic_core.from_json(data, allow_inf_nan=True)
    except ValueError:
        return
    batch = given if isinstance(given, list) else [given]
    if not all(isinstance(memory, dict) and memory.keys() <= set(FIELDS) for memory in batch):
        with_error = _refusal(batch)
        assert with_error is not None or not batch or all(isinstance(memory, dict) for memory in batch)
        return
    alone = [_alone(memory) for memory in batch]
    if None in alone:
        refusal = _refusal(batch)
        assert refusal is not None
        assert refusal.startswith(f"memories[{alone.index(None)}]: ")
        return
    ids, blocks = memory_lines(batch, {})
    events = [parse_event(line) for line in b"".join(blocks).split(b"\n") if line]
    assert [_said(event) for event in events] == [_said(event) for event in alone if event]
    assert [event.event_id for event in events] == list(ids)


def _refusal(batch: list[Any]) -> str | None:
    try:
        memory_lines(batch, {})
    except InvalidEventError as error:
        str(error).encode("utf-8")
        return str(error)
    return None


_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["2026-03-01T12:00:00Z", "2026-03-01T12:00:00+02:00", "semantic", "é" * 257]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_memory = st.dictionaries(st.sampled_from(FIELDS), _value, max_size=5) | st.builds(
    lambda text, rest: {**rest, "content": text},
    st.text(min_size=1, max_size=10),
    st.dictionaries(st.sampled_from(["metadata", "tags", "importance", "user_id"]), _value, max_size=3),
)

TARGETS = (
    Target(
        "memories",
        "a batch is taken where each of its memories is, and stored the same",
        check,
        tuple(f'"{name}":'.encode() for name in FIELDS),
        st.lists(_memory, min_size=1, max_size=3).map(lambda batch: json.dumps(batch).encode()),
    ),
)
