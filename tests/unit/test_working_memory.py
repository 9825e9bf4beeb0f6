"""Working memory: 5 to 9 things in mind, the same for everybody who asks."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck import Memory, WorkingMemorySlot
from mnemoduck.events import new_event

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
users = (f"user {number}" for number in itertools.count())
"""The properties share a home; each example has a user of its own, whose mind it looks into."""

UNRELATED = ["acorn", "birch", "cedar", "dahlia", "elder", "ferns", "gorse", "hazel", "ivies", "jasmine"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    with Memory(tmp_path_factory.mktemp("shared") / "home") as memory:
        yield memory


def remember(
    memory: Memory, contents: list[str], *, user: str = "u", seconds_ago: float = 60, importance: float = 0.5
) -> None:
    for number, content in enumerate(contents):
        moment = NOW - timedelta(seconds=seconds_ago) + timedelta(milliseconds=number)
        memory.remember(content, user_id=user, occurred_at=moment, importance=importance)


def contents(slots: list[WorkingMemorySlot]) -> list[str]:
    return [slot.content for slot in slots]


def test_nothing_is_in_mind_where_nothing_was_remembered(memory: Memory) -> None:
    assert memory.working_memory() == []
    remember(memory, ["long ago"], seconds_ago=3600)
    assert memory.working_memory(as_of=NOW) == []


stream = st.lists(
    st.tuples(
        st.sampled_from([*UNRELATED, "red acorn", "red birch", "red cedar", "ACORN ", "x"]),  # what was said
        st.integers(-60, 2400),  # how many seconds ago, up to a minute in the future
        st.sampled_from([None, 0.0, 0.5, 1.0]),
    ),
    max_size=40,
)


@settings(max_examples=15)
@given(said=stream)
def test_never_more_than_9_nor_less_than_5_or_all_there_is(
    shared: Memory, said: list[tuple[str, int, float | None]]
) -> None:
    user = next(users)
    events = [
        new_event(
            "memory",
            {"content": content, "importance": importance},
            user_id=user,
            occurred_at=NOW - timedelta(seconds=seconds),
        )
        for content, seconds, importance in said
    ]
    shared.remember_many(events)
    slots = shared.working_memory(user_id=user, as_of=NOW)
    # The same words at the same moment are one use: somebody has retried.
    uses = {(content.strip().lower(), seconds) for content, seconds, _ in said if 0 <= seconds < 1800}
    by_words = Counter(words for words, _ in uses)

    assert min(5, len(by_words)) <= len(slots) <= 9
    assert [slot.slot for slot in slots] == list(range(1, len(slots) + 1))
    words = [slot.content.strip().lower() for slot in slots]
    assert len(set(words)) == len(words), "repetitions share a slot"
    for slot, said_words in zip(slots, words, strict=True):
        assert slot.use_count == by_words[said_words]
        assert 5 <= slot.capacity <= 9
        assert len(slots) <= slot.capacity
        assert NOW - timedelta(minutes=30) < slot.occurred_at <= NOW
        for term in (slot.activation_term, slot.importance_term, slot.urgency_term, slot.emotion_term):
            assert 0 <= term <= 1
        assert 0 <= slot.priority <= 1
    priorities = [slot.priority for slot in slots]
    assert priorities == sorted(priorities, reverse=True)
    assert shared.working_memory(user_id=user, as_of=NOW) == slots


def test_the_mind_holds_5_things_that_have_nothing_in_common_and_9_that_belong_together(
    memory: Memory,
) -> None:
    remember(memory, UNRELATED, user="scattered")
    remember(memory, [f"garden {plant}" for plant in UNRELATED], user="focused")
    scattered = memory.working_memory(user_id="scattered", as_of=NOW)
    focused = memory.working_memory(user_id="focused", as_of=NOW)
    assert (len(scattered), scattered[0].capacity, scattered[0].coherence) == (5, 5, 0.0)
    assert (len(focused), focused[0].capacity, focused[0].coherence) == (9, 9, 1.0)


def test_a_thousand_things_at_once_leave_9_at_most(memory: Memory) -> None:
    memory.remember_many(
        new_event("memory", {"content": f"garden plant {number}"}, occurred_at=NOW) for number in range(1_000)
    )
    assert len(memory.working_memory(as_of=NOW)) == 9


def test_the_last_5_minutes_count_unless_they_hold_too_little(memory: Memory) -> None:
    remember(memory, UNRELATED[:4], seconds_ago=100)
    remember(memory, UNRELATED[4:6], seconds_ago=600)
    slots = memory.working_memory(as_of=NOW)
    assert {slot.content: slot.attention for slot in slots} == {
        **dict.fromkeys(UNRELATED[:4], "attention"),
        UNRELATED[5]: "fallback",
    }
    remember(memory, UNRELATED[6:7], seconds_ago=50)
    assert set(contents(memory.working_memory(as_of=NOW))) == {*UNRELATED[:4], UNRELATED[6]}


@pytest.mark.parametrize(("seconds_ago", "is_in_mind"), [(-1, False), (0, True), (1799, True), (1800, False)])
def test_what_is_older_than_30_minutes_or_still_to_come_is_not_in_mind(
    memory: Memory, seconds_ago: float, is_in_mind: bool
) -> None:
    remember(memory, ["acorn"], seconds_ago=seconds_ago)
    assert contents(memory.working_memory(as_of=NOW)) == (["acorn"] if is_in_mind else [])


def test_the_important_the_recent_and_the_repeated_come_first(memory: Memory) -> None:
    remember(memory, ["acorn"], seconds_ago=200, importance=1.0)
    remember(memory, ["birch"], seconds_ago=200)
    remember(memory, ["cedar"], seconds_ago=20)
    remember(memory, ["dahlia"] * 3, seconds_ago=200)
    slots = {slot.content: slot for slot in memory.working_memory(as_of=NOW)}
    assert slots["acorn"].priority > slots["birch"].priority
    assert slots["cedar"].activation_term > slots["birch"].activation_term
    assert slots["dahlia"].activation_term > slots["birch"].activation_term
    assert slots["dahlia"].use_count == 3
    assert next(iter(slots)) == "acorn"
    assert list(slots)[-1] == "birch"


def test_a_single_use_at_the_edge_of_the_window_is_half_active(memory: Memory) -> None:
    memory.remember("acorn", occurred_at=NOW - timedelta(minutes=5))
    (slot,) = memory.working_memory(as_of=NOW)
    assert slot.activation_term == pytest.approx(0.5)
    assert slot.priority == pytest.approx(0.4 * 0.5 + 0.3 * 0.5)


def test_a_mind_is_of_its_scope(memory: Memory) -> None:
    for user, agent, session in itertools.product(["maya", "jonas"], ["coach", None], ["s1", "s2"]):
        memory.remember(
            f"{user} {agent} {session}", user_id=user, agent_id=agent, session_id=session, occurred_at=NOW
        )
    assert sorted(contents(memory.working_memory(user_id="maya", agent_id="coach", as_of=NOW))) == [
        "maya coach s1",
        "maya coach s2",
    ]
    assert len(memory.working_memory(session_id="s2", as_of=NOW)) == 4
    assert memory.working_memory(user_id="nobody", as_of=NOW) == []


def test_what_is_forgotten_makes_room_for_what_was_next(memory: Memory) -> None:
    for word in UNRELATED[:8]:
        memory.remember(word)
    first = memory.working_memory()
    memory.forget([first[0].memory_id])
    then = memory.working_memory()
    assert len(first) == len(then) == 5
    assert contents(then)[:4] == contents(first)[1:]
    assert contents(then)[4] not in contents(first)


def test_slots_are_the_same_whatever_the_order_of_arrival(
    memory: Memory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    events = [
        new_event("memory", {"content": f"garden {word}"}, occurred_at=NOW - timedelta(seconds=number % 3))
        for number, word in enumerate(UNRELATED * 2)
    ]
    memory.remember_many(events)
    with Memory(tmp_path_factory.mktemp("other") / "home") as other:
        for event in reversed(events):
            other.remember_many([event])
        assert other.working_memory(as_of=NOW) == memory.working_memory(as_of=NOW)
