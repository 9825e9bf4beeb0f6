"""The envelope: whatever is accepted can be stored, read back exactly, and used by the models."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mnemoduck.errors import InvalidEventError
from mnemoduck.events import (
    EARLIEST,
    EVENT_TYPES,
    LATEST,
    MAX_CONTENT_BYTES,
    MAX_LINE_BYTES,
    derived_event_id,
    new_event,
    new_event_id,
    parse_event,
)

AT = "2026-03-01T12:00:00Z"

any_text = st.text()  # every character that is one: hypothesis leaves lone surrogates out
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
in_range = st.datetimes(
    datetime(1970, 1, 2),
    datetime(2099, 12, 30),
    timezones=st.one_of(st.timezones(), st.none()),
    allow_imaginary=False,
)


anywhen = st.builds(
    "{}{}".format,
    st.datetimes().map(datetime.isoformat),
    st.sampled_from(["", "Z", "+14:00", "-12:00", "+00:01"]),
)


def line(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "event_id": "019ca945-0a7b-7b86-933f-0f921f006407",
        "event_type": "memory",
        "occurred_at": AT,
        "recorded_at": AT,
        "payload": {"content": "x"},
    }
    fields.update(changes)
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def memory_line(**payload: object) -> bytes:
    return line(payload={"content": "x", **payload})


STEP = {"episode_id": "run-1", "step": 0, "tool": "look"}
EPISODE = {"episode_id": "run-1", "task": "x"}


def forget_line(**payload: object) -> bytes:
    return line(event_type="forget", payload=payload)


# --- what goes in comes back ---------------------------------------------------------------------------


@given(content=any_text, metadata=st.dictionaries(any_text, json_values, max_size=4))
@example(content="'; drop table memories; --", metadata={})
@example(content="{{ var('x') }} {% raw %} {# #}", metadata={"{{": "}}"})
@example(content="a\0b\r\n\t\x1b[31m\x7f\x85 c", metadata={"\0": "\0"})
@example(content="\u202eevil\u2066 \u200f\ufeff 👩🏽\u200d🚀 e\u0301 \U0010ffff", metadata={})
@example(content='"\\u0000" \\ud800 \\', metadata={"a": [1e300, -0.0, 5e-324, 10**400]})
def test_any_text_and_any_json_come_back_exactly(content: str, metadata: dict[str, Any]) -> None:
    assume(content.strip())
    event = new_event("memory", {"content": content, "metadata": metadata})
    read = parse_event(event.to_line())
    assert read == event
    assert read.payload["content"] == content
    assert repr(read.payload["metadata"]) == repr(metadata)  # tells 1 from 1.0 and from true


LEAST: dict[str, dict[str, Any]] = {
    "memory": {"content": "x"},
    "recall": {"memory_ids": ["019c0000-0000-7000-8000-000000000001"]},
    "forget": {"memory_ids": ["019c0000-0000-7000-8000-000000000001"]},
    "feedback": {"outcome": "success", "memory_id": "019c0000-0000-7000-8000-000000000001"},
    "episode_started": {"episode_id": "run-1", "task": "x"},
    "step": {"episode_id": "run-1", "step": 0, "tool": "look"},
    "episode_completed": {"episode_id": "run-1", "outcome": "success"},
}
"""The least that an event of each type has to say."""


@given(
    event_type=st.sampled_from(EVENT_TYPES),
    others=st.dictionaries(any_text.map(lambda name: f"other {name}"), json_values, max_size=5),
)
def test_what_the_rules_of_a_type_do_not_name_comes_back_exactly_but_for_nulls(
    event_type: Any, others: dict[str, Any]
) -> None:
    payload = LEAST[event_type] | others
    read = parse_event(new_event(event_type, payload).to_line())
    assert read.payload == {key: value for key, value in payload.items() if value is not None}


@given(content=any_text)
def test_an_event_is_one_line_whatever_it_says(content: str) -> None:
    assume(content.strip())
    text = new_event("memory", {"content": content}).to_line()
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1


@given(occurred_at=in_range)
def test_any_zone_is_read_as_the_same_moment_in_utc(occurred_at: datetime) -> None:
    event = new_event("memory", {"content": "x"}, occurred_at=occurred_at)
    aware = occurred_at.replace(tzinfo=UTC) if occurred_at.tzinfo is None else occurred_at.astimezone(UTC)
    assert event.occurred_at == aware
    assert event.occurred_at.utcoffset() == timedelta(0)
    assert parse_event(event.to_line()).occurred_at == aware


def test_keys_that_are_not_known_are_kept() -> None:
    event = parse_event(memory_line(mood="calm", nested={"a": [None]}))
    assert event.payload == {"content": "x", "mood": "calm", "nested": {"a": [None]}}


def test_an_event_without_times_and_id_gets_now_and_a_fresh_id() -> None:
    before = datetime.now(UTC)
    first, second = new_event("step", LEAST["step"]), new_event("step", LEAST["step"])
    assert before <= first.occurred_at == first.recorded_at <= datetime.now(UTC)
    assert first.event_id != second.event_id


# --- every rule and its sentence -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (b"", "Invalid JSON"),
        (b"not json", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b'{"a": 1', "Invalid JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (line(event_id=...), "event_id: Field required"),
        (line(event_id="12"), "event_id: Input should be a valid UUID"),
        (line(event_type="dream"), "event_type: Input should be 'memory', 'recall'"),
        (line(occurred_at=...), "occurred_at: Field required"),
        (line(recorded_at="yesterday"), "recorded_at: Input should be a valid datetime"),
        (line(mood="calm"), "mood: Extra inputs are not permitted"),
        (line(user_id=""), "user_id: String should have at least 1 character"),
        (line(user_id="u" * 257), "user_id: String should have at most 256 characters"),
        (line(agent_id="a\x1bb"), "agent_id: control characters are not allowed in an id"),
        (line(session_id="a\x7f"), "session_id: control characters are not allowed in an id"),
        (line(user_id=5), "user_id: Input should be a valid string"),
        (line(payload=[]), "payload: Input should be an object"),
        (line(payload={}), "content: Field required"),
        (memory_line(content=""), "content: must not be empty"),
        (memory_line(content=" \n\t\u2003"), "content: must not be empty"),
        (memory_line(content=7), "content: Input should be a valid string"),
        (
            memory_line(content="é" * (MAX_CONTENT_BYTES // 2 + 1)),
            "1,048,578 bytes long; the limit is 1,048,576",
        ),
        (memory_line(importance=1.01), "importance: Input should be less than or equal to 1"),
        (memory_line(importance=-0.01), "importance: Input should be greater than or equal to 0"),
        (memory_line(importance=float("nan")), "importance: Input should be a finite number"),
        (memory_line(memory_type="vague"), "memory_type: Input should be 'episodic', 'semantic' or"),
        (memory_line(tags=["ok", " "]), "tags.1: String should have at least 1 character"),
        (memory_line(tags="ok"), "tags: Input should be a valid array"),
        (memory_line(metadata=[]), "metadata: Input should be"),
        (memory_line(facts=[{"subject": "Ada", "predicate": "is"}]), "facts.0.object: Field required"),
        (memory_line(role=""), "role: String should have at least 1 character"),
        (forget_line(), "names no memory: give memory_ids, or is_whole_scope"),
        (forget_line(memory_ids=["x"]), "memory_ids.0: Input should be a valid UUID"),
        (forget_line(occurred_before=AT), "names no memory"),
        (memory_line(metadata={"a": float("nan")}), "payload.metadata.a: must be a number that JSON has"),
        (memory_line(metadata={"a": [1, {"b": [0.5, float("-inf")]}]}), "payload.metadata.a.1.b.1: must be"),
        (memory_line(n=0).replace(b'"n": 0', b'"n": [1e400]'), "payload.n.0: must be a number that JSON has"),
        (memory_line(n=0).replace(b'"n": 0', b'"n": -' + b"9" * 400 + b".5"), "payload.n: must be a number"),
        (line(event_type="step", payload=STEP | {"args": {"a": float("inf")}}), "payload.args.a: must be"),
        (
            line(event_type="episode_started", payload=EPISODE | {"context": {"a": float("nan")}}),
            "payload.context.a: must be",
        ),
        (memory_line(n=[[]]).replace(b"[[]]", b"[" * 300 + b"]" * 300), "recursion limit exceeded"),
        (memory_line(n=0).replace(b'"n": 0', b'"n": ' + b"1" * 5000), "number out of range"),
        (memory_line(n="?").replace(b'"?"', rb'"\ud800"'), "Invalid JSON"),
    ],
)
def test_each_rule_is_told_by_a_sentence_that_names_the_field(broken: bytes, sentence: str) -> None:
    with pytest.raises(InvalidEventError) as refusal:
        parse_event(broken)
    assert sentence in str(refusal.value)


def test_the_sentence_does_not_repeat_what_is_wrong_with_a_private_text() -> None:
    with pytest.raises(InvalidEventError) as refusal:
        parse_event(memory_line(importance="my password is 1234"))
    assert "1234" not in str(refusal.value)


def test_a_line_is_refused_by_its_length_before_it_is_parsed() -> None:
    with pytest.raises(InvalidEventError, match=r"the line is 50,000,000 bytes long; the limit is"):
        parse_event(b"[" * 50_000_000)
    padded = memory_line()
    longest = padded + b" " * (MAX_LINE_BYTES - len(padded))
    assert parse_event(longest).payload == {"content": "x"}
    with pytest.raises(InvalidEventError, match="the limit is"):
        parse_event(longest + b" ")


@pytest.mark.parametrize("moment", [EARLIEST, LATEST - timedelta(microseconds=1)])
def test_the_first_and_the_last_moment_are_accepted(moment: datetime) -> None:
    assert new_event("step", LEAST["step"], occurred_at=moment, recorded_at=moment).occurred_at == moment


@pytest.mark.parametrize(
    "moment",
    [
        EARLIEST - timedelta(microseconds=1),
        LATEST,
        datetime(1970, 1, 1, 0, 59, tzinfo=timezone(timedelta(hours=1))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))),
    ],
)
def test_a_moment_out_of_range_is_refused_even_where_its_zone_leaves_the_calendar(moment: datetime) -> None:
    with pytest.raises(InvalidEventError, match=r"occurred_at: .* is out of range: expected 1970-01-01 to"):
        new_event("step", LEAST["step"], occurred_at=moment)
    with pytest.raises(InvalidEventError, match="out of range"):
        parse_event(line(recorded_at=moment.isoformat()))


def test_a_local_date_is_in_range_if_it_is_so_in_utc() -> None:
    moment = datetime(2100, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert new_event("step", LEAST["step"], occurred_at=moment).occurred_at == datetime(
        2099, 12, 31, 23, 30, tzinfo=UTC
    )


# --- nothing is acknowledged that cannot be read back --------------------------------------------------


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "payload",
    [
        {"metadata": nested(230)},
        {"metadata": {"n": 10**5000}},
        {"metadata": {"\ud800": 1}},
        {"metadata": {"a": ["\udfff"]}},
        {"content": "\ud83d"},
        {"\udc00": "x"},
        {"role": "\ud800"},
        {"tags": ["\ud800"]},
    ],
)
def test_what_could_not_be_read_back_is_refused_when_it_is_written(payload: dict[str, Any]) -> None:
    with pytest.raises(InvalidEventError):
        new_event("memory", {"content": "x", **payload}).to_line()


@given(depth=st.integers(150, 260))
def test_whatever_depth_can_be_written_can_be_read(depth: int) -> None:
    event = new_event("memory", {"content": "x", "metadata": nested(150)})
    assert parse_event(event.to_line()) == event
    try:
        text = new_event("memory", {"content": "x", "metadata": nested(depth)}).to_line()
    except InvalidEventError:
        return
    assert parse_event(text).payload["metadata"] == nested(depth)


# --- one spelling, because the models cast in SQL ------------------------------------------------------


@pytest.mark.parametrize("importance", [True, "0.5", 1, " 1 ", "1e-1", 0])
def test_importance_is_stored_as_a_number(importance: object) -> None:
    stored = parse_event(memory_line(importance=importance)).payload["importance"]
    assert type(stored) is float
    assert 0 <= stored <= 1


@pytest.mark.parametrize("spelling", ["yes", "on", "t", 1, "TRUE", True])
def test_a_whole_scope_is_stored_as_a_boolean(spelling: object) -> None:
    assert parse_event(forget_line(is_whole_scope=spelling)).payload["is_whole_scope"] is True


@pytest.mark.parametrize(
    "spelling",
    [
        "2026-03-01T13:00:00+01:00",
        "2026-03-01T12:00:00",
        1772366400,
        "1772366400",
        "2026-03-01T02:00:00-10:00",
    ],
)
def test_the_bound_of_a_forget_is_stored_in_utc(spelling: object) -> None:
    stored = parse_event(forget_line(is_whole_scope=True, occurred_before=spelling)).payload
    assert stored["occurred_before"] == "2026-03-01T12:00:00Z"


def test_ids_to_forget_are_stored_in_one_spelling() -> None:
    memory_id = uuid4()
    spellings = [str(memory_id), memory_id.hex, memory_id.urn, f"{{{memory_id}}}", str(memory_id).upper()]
    assert parse_event(forget_line(memory_ids=spellings)).payload["memory_ids"] == [str(memory_id)] * 5


def test_tags_are_stored_without_blanks_around_them() -> None:
    assert parse_event(memory_line(tags=["  travel ", "x y"])).payload["tags"] == ["travel", "x y"]


@given(
    payload=st.fixed_dictionaries(
        {"content": st.just("x")},
        optional={
            "importance": json_values | st.floats(0, 1),
            "tags": json_values | st.lists(any_text),
            "role": json_values,
            "metadata": json_values,
            "memory_ids": json_values | st.lists(st.uuids().map(str)),
            "is_whole_scope": json_values,
            "occurred_before": json_values | in_range.map(str),
            "reason": json_values,
        },
    ),
    event_type=st.sampled_from(["memory", "forget"]),
)
def test_what_is_stored_is_a_fixed_point_of_reading(payload: dict[str, Any], event_type: str) -> None:
    try:
        event = parse_event(line(event_type=event_type, payload=payload))
    except InvalidEventError:
        return
    again = parse_event(event.to_line())
    assert again == event


# --- no bytes at all make it raise anything else -------------------------------------------------------


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_an_event_or_an_invalid_event(data: bytes) -> None:
    with pytest.raises(InvalidEventError):
        parse_event(data)


@given(data=st.data())
def test_a_valid_line_with_any_field_replaced_is_an_event_or_an_invalid_event(data: st.DataObject) -> None:
    field = data.draw(
        st.sampled_from(
            ["event_id", "event_type", "occurred_at", "recorded_at", "user_id", "payload", "importance"]
        )
    )
    value = data.draw(json_values | anywhen)
    text = memory_line(importance=value) if field == "importance" else line(**{field: value})
    try:
        event = parse_event(text)
    except InvalidEventError:
        return
    assert parse_event(event.to_line()) == event


@given(data=st.data())
def test_a_valid_line_with_any_byte_replaced_is_an_event_or_an_invalid_event(data: st.DataObject) -> None:
    text = bytearray(memory_line(tags=["a"], importance=0.5, metadata={"a": [1.5, "é", None]}))
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        event = parse_event(bytes(text))
    except InvalidEventError:
        return
    assert parse_event(event.to_line()) == event


# --- ids -----------------------------------------------------------------------------------------------


def milliseconds_of(event_id: UUID) -> int:
    return event_id.int >> 80


@given(
    occurred_at=st.datetimes(
        EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None), timezones=st.just(UTC)
    ),
    identity=st.tuples(any_text, st.integers(), st.none() | any_text),
)
def test_a_derived_id_is_a_uuid7_of_its_moment_and_stable(
    occurred_at: datetime, identity: tuple[object, ...]
) -> None:
    event_id = derived_event_id(occurred_at, *identity)
    assert event_id.version == 7
    assert event_id.variant == "specified in RFC 4122"
    assert milliseconds_of(event_id) == int(occurred_at.timestamp() * 1000)
    assert derived_event_id(occurred_at, *identity) == event_id


def test_a_derived_id_never_changes_between_releases() -> None:
    """The hash part is `printf '["locomo","conv-1",7]' | sha256sum`, with version and variant put in."""
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert str(derived_event_id(moment, "locomo", "conv-1", 7)) == "019ca945-0a7b-7b86-933f-0f921f006407"


@given(identities=st.sets(st.tuples(any_text, any_text) | st.tuples(any_text) | st.tuples(), min_size=2))
def test_derived_ids_of_different_records_differ(identities: set[tuple[str, ...]]) -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    assert len({derived_event_id(moment, *identity) for identity in identities}) == len(identities)


def test_new_ids_are_uuid7_distinct_and_ordered_as_they_were_made() -> None:
    ids = [new_event_id() for _ in range(20_000)]
    assert all(event_id.version == 7 for event_id in ids[:100])
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_new_ids_of_many_threads_are_distinct_and_ordered_within_each() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_event_id() for _ in range(2_000)], range(8)))
    assert all(ids == sorted(ids) for ids in made)
    assert len({event_id for ids in made for event_id in ids}) == 16_000
