"""The sample stream keeps what seeds/README.md and the demo promise about it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from mnemoduck.events import Event, ForgetPayload, MemoryPayload, derived_event_id, parse_event

SEEDS = Path(__file__).parents[2] / "seeds"
STREAM = SEEDS / "sample_stream.jsonl"
README = SEEDS / "README.md"

START = datetime(2026, 3, 2, tzinfo=UTC)
END = datetime(2026, 3, 15, 18, 30, tzinfo=UTC)
INACTIVITY = timedelta(minutes=30)
A_FEW_SECONDS = timedelta(seconds=5)


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return STREAM.read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def events(lines: list[bytes]) -> list[Event]:
    return [parse_event(line) for line in lines]


@pytest.fixture(scope="module")
def conversation(events: list[Event]) -> list[Event]:
    """What was said and ordered: the episodes follow at the end, handed in when all was over."""
    return [event for event in events if event.event_type in ("memory", "forget")]


@pytest.fixture(scope="module")
def memories(events: list[Event]) -> list[Event]:
    return [event for event in events if event.event_type == "memory"]


def payload(memory: Event) -> MemoryPayload:
    return MemoryPayload.model_validate(memory.payload)


def content(memory: Event) -> str:
    return payload(memory).content


def delay(event: Event) -> timedelta:
    return event.recorded_at - event.occurred_at


def in_the_last(minutes: int, user_id: str, memories: list[Event]) -> list[Event]:
    since = END - timedelta(minutes=minutes)
    return [m for m in memories if m.user_id == user_id and m.occurred_at > since]


def by_session(events: list[Event]) -> dict[str, list[Event]]:
    sessions: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.occurred_at):
        if event.session_id is not None:
            sessions[event.session_id].append(event)
    return sessions


def facts_about(memories: list[Event], subject: str, predicate: str) -> list[str]:
    return [
        fact.object
        for memory in sorted(memories, key=lambda memory: memory.occurred_at)
        for fact in payload(memory).facts
        if (fact.subject, fact.predicate) == (subject, predicate)
    ]


def test_every_line_is_an_event_exactly_as_we_would_write_it(lines: list[bytes], events: list[Event]) -> None:
    assert [event.to_line() for event in events] == lines


def test_it_holds_256_memories_and_one_forget_and_then_five_episodes(events: list[Event]) -> None:
    assert Counter(event.event_type for event in events) == {
        "memory": 256,
        "forget": 1,
        "episode_started": 5,
        "step": 26,
        "episode_completed": 5,
        "feedback": 1,
    }
    assert {event.event_type for event in events[:257]} == {"memory", "forget"}
    assert {event.recorded_at for event in events[257:]} == {END}


def test_the_episodes_end_in_every_way_and_one_of_them_gets_over_the_error_of_another(
    events: list[Event],
) -> None:
    ended = {
        (event.payload["episode_id"], event.payload["outcome"])
        for event in events
        if event.event_type == "episode_completed"
    }
    assert ended == {
        ("orders-0311", "failure"),
        ("orders-0312", "success"),
        ("invoices-0314", "success"),
        ("storage-box", "success"),
        ("courier", "abandoned"),
    }
    calls = [e.payload for e in events if e.event_type == "step" and "tool" in e.payload]
    tried = {
        name: [(call["tool"], call.get("is_error", False)) for call in calls if call["episode_id"] == name]
        for name, _ in ended
    }
    assert tried["orders-0311"] == [("list_runs", False), ("start_run", True), ("start_run", True)]
    assert tried["orders-0312"] == [
        ("list_runs", False),
        ("start_run", True),
        ("release_lock", False),
        ("start_run", False),
        ("compare_rows", False),
    ]
    started = {event.payload["domain"] for event in events if event.event_type == "episode_started"}
    assert started == {"pipelines", "errands"}


def test_ids_are_unique_and_derived_from_time_and_line_number(events: list[Event]) -> None:
    assert [event.event_id for event in events] == [
        derived_event_id(event.occurred_at, "sample_stream", number)
        for number, event in enumerate(events, start=1)
    ]
    assert len({event.event_id for event in events}) == len(events)


def test_lines_stand_in_order_of_arrival(events: list[Event]) -> None:
    assert [event.recorded_at for event in events] == sorted(e.recorded_at for e in events)


def test_both_clocks_begin_on_2_march_and_end_on_15_march_at_half_past_six(
    events: list[Event],
) -> None:
    occurred = [event.occurred_at for event in events]
    assert START <= min(occurred) < START + timedelta(days=1)
    assert max(occurred) == END
    assert max(event.recorded_at for event in events) == END
    assert events[-1].occurred_at == events[-1].recorded_at == END


def test_two_users_share_one_agent(events: list[Event]) -> None:
    users = Counter(event.user_id for event in events)
    assert set(users) == {"maya", "jonas"}
    assert min(users.values()) > 100
    assert {event.agent_id for event in events} == {"otter"}


def test_each_of_the_18_sessions_belongs_to_one_user_and_to_the_day_in_its_name(
    events: list[Event],
) -> None:
    sessions = by_session(events)
    assert len(sessions) == 18
    for session_id, members in sessions.items():
        assert len({event.user_id for event in members}) == 1, session_id
        assert {f"{event.occurred_at:%Y-%m-%d}" for event in members} == {session_id[:10]}


def test_three_notes_have_no_session(conversation: list[Event]) -> None:
    alone = [event for event in conversation if event.session_id is None]
    assert [event.payload["role"] for event in alone] == ["note"] * 3


def test_all_four_roles_speak(memories: list[Event]) -> None:
    roles = Counter(payload(memory).role for memory in memories)
    assert roles == {"user": 156, "assistant": 58, "note": 27, "tool": 15}


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("importance", 0.25, 0.42),
        ("tags", 0.25, 0.42),
        ("metadata", 0.05, 0.15),
        ("facts", 0.03, 0.08),
        ("memory_type", 0.05, 0.15),
    ],
)
def test_optional_fields_are_given_on_a_share_of_the_memories(
    memories: list[Event], field: str, least: float, most: float
) -> None:
    share = sum(field in memory.payload for memory in memories) / len(memories)
    assert least <= share <= most


def test_all_three_memory_types_occur(memories: list[Event]) -> None:
    types = Counter(payload(memory).memory_type for memory in memories)
    assert types["semantic"] >= 10
    assert types["procedural"] >= 7
    assert types["episodic"] > types["semantic"] + types["procedural"]


def test_nine_sentences_are_repeated_word_for_word_in_two_to_four_sessions(
    memories: list[Event],
) -> None:
    groups: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
    for memory in memories:
        groups[(memory.user_id, memory.agent_id, content(memory))].append(memory)
    repeated = {key: members for key, members in groups.items() if len(members) > 1}
    assert sorted(len(members) for members in repeated.values()) == [2, 2, 2, 2, 3, 3, 3, 4, 4]
    for key, members in repeated.items():
        assert len({memory.session_id for memory in members}) == len(members), key
        assert {payload(memory).role for memory in members} == {"user"}, key


def test_one_preference_is_shared_by_both_users_so_that_scopes_can_be_told_apart(
    memories: list[Event],
) -> None:
    users: dict[str, set[str | None]] = defaultdict(set)
    for memory in memories:
        users[content(memory)].add(memory.user_id)
    assert [text for text, owners in users.items() if len(owners) > 1] == [
        "Please answer in short bullet points."
    ]


def test_the_hazelnut_allergy_is_also_paraphrased(memories: list[Event]) -> None:
    wordings = {
        content(memory)
        for memory in memories
        if memory.user_id == "maya"
        and re.search("hazelnut", content(memory))
        and re.search("allerg", content(memory))
    }
    assert len(wordings) >= 4


def test_the_new_flight_date_supersedes_the_old_one(memories: list[Event]) -> None:
    assert facts_about(memories, "Maya", "flies to Lisbon on") == ["2026-03-28", "2026-03-25"]


def test_the_root_cause_is_found_in_the_fifth_session_and_recurs_in_a_later_one(
    memories: list[Event],
) -> None:
    sessions = list(by_session(memories))
    causes = [
        sessions.index(memory.session_id) + 1
        for memory in memories
        if memory.session_id and "root-cause" in payload(memory).tags and payload(memory).facts
    ]
    assert causes == [5, 12]


def test_exactly_three_memories_arrive_a_day_late_and_everything_else_within_seconds(
    conversation: list[Event],
) -> None:
    late = [number for number, event in enumerate(conversation) if delay(event) > timedelta(days=1)]
    assert len(late) == 3
    for number in late:
        assert conversation[number].occurred_at < conversation[number - 1].occurred_at
    punctual = [event for number, event in enumerate(conversation) if number not in late]
    assert all(timedelta(0) <= delay(event) <= A_FEW_SECONDS for event in punctual)


def test_a_late_arrival_hits_an_old_session_of_each_user_and_one_hits_none(
    conversation: list[Event],
) -> None:
    late = [event for event in conversation if delay(event) > timedelta(days=1)]
    assert [(event.user_id, event.session_id) for event in late] == [
        ("jonas", "2026-03-04-pipeline"),
        ("maya", "2026-03-03-flat-hunt"),
        ("maya", None),
    ]


def test_two_sessions_hold_a_break_longer_than_the_inactivity_gap(events: list[Event]) -> None:
    broken = [
        session_id
        for session_id, members in by_session(events).items()
        if any(b.occurred_at - a.occurred_at > INACTIVITY for a, b in pairwise(members))
    ]
    assert broken == ["2026-03-02-planning", "2026-03-05-root-cause"]


def test_forgetting_names_the_secret_and_leaves_no_other_copy_of_it(events: list[Event]) -> None:
    [forget] = [event for event in events if event.event_type == "forget"]
    named = set(ForgetPayload.model_validate(forget.payload).memory_ids)
    told = [event for event in events if "blue heron lantern" in event.to_line().decode()]
    assert {event.event_id for event in told} == named
    assert len(told) == 2
    for event in told:
        assert (event.user_id, event.agent_id) == (forget.user_id, forget.agent_id)
        assert event.recorded_at < forget.recorded_at


@pytest.mark.parametrize(
    ("user_id", "pattern"),
    [
        pytest.param("jonas", r"delete from \w+ where .* = '.*'; insert into .*; --", id="sql"),
        pytest.param("jonas", r"\{\{ .* \}\}", id="jinja"),
        pytest.param("maya", r"\n- ", id="line breaks"),
        pytest.param("maya", r"Amanhã ligo à Dona Celeste", id="portuguese"),
        pytest.param("maya", r"Fischbrötchen", id="german"),
        pytest.param("jonas", r"Für die Einladung.*überflüssig, Hunger nötig", id="umlauts"),
        pytest.param("maya", "\N{LUGGAGE}", id="emoji"),
    ],
)
def test_awkward_text_is_part_of_the_conversation(memories: list[Event], user_id: str, pattern: str) -> None:
    assert any(re.search(pattern, content(memory)) for memory in memories if memory.user_id == user_id)


def test_maya_ends_with_more_in_mind_than_working_memory_can_hold(memories: list[Event]) -> None:
    assert len(in_the_last(30, "maya", memories)) >= 14
    assert len(in_the_last(5, "maya", memories)) >= 9
    assert {m.session_id for m in in_the_last(30, "maya", memories)} == {"2026-03-15-packing"}


def test_her_last_memories_differ_in_importance_and_are_mostly_about_packing(
    memories: list[Event],
) -> None:
    last = in_the_last(30, "maya", memories)
    importances = {payload(m).importance for m in last} - {None}
    assert len(importances) >= 9
    assert min(i for i in importances if i is not None) <= 0.1
    assert max(i for i in importances if i is not None) >= 0.9
    assert sum("packing" in payload(m).tags for m in last) > len(last) / 2


def test_jonas_ends_with_six_memories_that_share_no_tag_and_no_long_word(
    memories: list[Event],
) -> None:
    last = in_the_last(30, "jonas", memories)
    assert len(last) == 6
    for a, b in combinations(last, 2):
        assert not set(payload(a).tags) & set(payload(b).tags)
        words = [set(re.findall(r"[a-z]{5,}", content(m).lower())) for m in (a, b)]
        assert not words[0] & words[1]


def test_no_memory_lies_on_the_edge_of_a_window(memories: list[Event]) -> None:
    edges = {END - timedelta(minutes=minutes) for minutes in (5, 25, 30)}
    assert not edges & {memory.occurred_at for memory in memories}


def test_the_readme_finds_its_five_queries_on_the_lines_that_it_names(events: list[Event]) -> None:
    rows = re.findall(
        r"^\| (maya|jonas) \| (.+?) \| .+? \| ([\d, ]+) \|$",
        README.read_text("utf-8"),
        re.MULTILINE,
    )
    assert len(rows) == 5
    for user_id, query, numbers in rows:
        asked = {word[:5] for word in re.findall(r"\w{4,}", query.lower())}
        for number in map(int, numbers.split(",")):
            memory = events[number - 1]
            assert memory.user_id == user_id, (query, number)
            said = {word[:5] for word in re.findall(r"\w{4,}", content(memory).lower())}
            assert asked & said, (query, number)


def test_the_readme_states_the_size_and_the_end_of_the_stream(events: list[Event]) -> None:
    text = README.read_text("utf-8")
    assert f"{len(events)} events" in text
    assert f"{END:%Y-%m-%dT%H:%M:%SZ}" in text
