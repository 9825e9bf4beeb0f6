"""`Memory`: one object for many threads, processes and forks, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from mnemoduck import Memory
from mnemoduck.errors import InvalidEventError, MnemoduckError, StorageError, UsageError
from mnemoduck.events import new_event
from mnemoduck.home import Home
from mnemoduck.inbox import FreshEvents
from mnemoduck.status import read_status

from .conftest import StartPython, in_child


def found(memory: Memory, query: str, **scope: object) -> list[str]:
    return [item.content for item in memory.recall(query, limit=1000, **scope)]  # type: ignore[arg-type]


# --- remember ------------------------------------------------------------------------------------------


def test_what_is_remembered_comes_back_with_everything_that_was_said(memory: Memory) -> None:
    before = datetime.now(UTC)
    memory_id = memory.remember(
        "Maya is allergic to hazelnuts",
        role="user",
        user_id="maya",
        agent_id="coach",
        session_id="s1",
        occurred_at=datetime(2026, 3, 1, 13, 0, tzinfo=timezone(timedelta(hours=1))),
        memory_type="semantic",
        tags=["health", "food"],
        importance=0.9,
        metadata={"source": {"page": 3}, "none": None, "π": [1.5]},
        facts=[{"subject": "Maya", "predicate": "is allergic to", "object": "hazelnuts"}],
    )
    (item,) = memory.recall("hazelnuts", record=False)
    assert item.memory_id == memory_id
    assert (item.user_id, item.agent_id, item.session_id, item.role) == ("maya", "coach", "s1", "user")
    assert (item.memory_type, item.tags, item.importance) == ("semantic", ["health", "food"], 0.9)
    assert item.metadata == {"source": {"page": 3}, "none": None, "π": [1.5]}
    assert item.occurred_at == datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert before <= item.recorded_at <= datetime.now(UTC)
    assert item.is_fresh
    (event,), _ = FreshEvents(Home(memory.home)).read(0)
    assert event.payload["facts"] == [
        {"subject": "Maya", "predicate": "is allergic to", "object": "hazelnuts"}
    ]


def test_what_is_left_out_has_its_default(memory: Memory) -> None:
    memory.remember("plain")
    (item,) = memory.recall("plain")
    assert (item.user_id, item.agent_id, item.session_id, item.role) == (None, None, None, None)
    assert (item.memory_type, item.tags, item.importance, item.metadata) == ("episodic", [], 0.5, {})


@pytest.mark.parametrize(
    "refused",
    [
        {"content": ""},
        {"content": " \n"},
        {"content": "\ud800"},
        {"content": None},
        {"content": "x" * (1024 * 1024 + 1)},
        {"content": "\0" * (1024 * 1024)},  # six bytes each on a line
        {"content": "x", "importance": 1.5},
        {"content": "x", "importance": float("nan")},
        {"content": "x", "memory_type": "vague"},
        {"content": "x", "user_id": ""},
        {"content": "x", "agent_id": "a\nb"},
        {"content": "x", "session_id": "\udcff"},
        {"content": "x", "tags": [""]},
        {"content": "x", "tags": "abc"},
        {"content": "x", "occurred_at": "2020"},
        {"content": "x", "occurred_at": "20260310"},
        {"content": "x", "user_id": b"maya"},
        {"content": "x", "metadata": {"a": object()}},
        {"content": "x", "metadata": {"a": "x" * 5_000_000}},
        {"content": "x", "facts": [{"subject": "Ada"}]},
        {"content": "x", "occurred_at": datetime(1969, 12, 31, tzinfo=UTC)},
        {"content": "x", "occurred_at": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))},
    ],
)
def test_what_breaks_a_rule_is_refused_and_nothing_is_remembered(
    memory: Memory, refused: dict[str, object]
) -> None:
    with pytest.raises(InvalidEventError) as refusal:
        memory.remember(**refused)  # type: ignore[arg-type]
    assert refusal.value.exit_code == 2
    assert FreshEvents(Home(memory.home)).read(0)[0] == []


def test_what_is_acknowledged_is_what_the_loader_takes(memory: Memory) -> None:
    """The longest content, and the worst: control characters take six bytes each on a line."""
    contents = ["x" * 1024 * 1024, "\0" * 600_000, "é" * 512 * 1024, '"\\' * 500_000]
    for content in contents:
        memory.remember(content)
    events, _ = FreshEvents(Home(memory.home)).read(0)
    assert [event.payload["content"] for event in events] == contents


def test_ready_made_events_are_remembered_together_or_not_at_all(memory: Memory) -> None:
    events = [new_event("memory", {"content": f"event {number}"}) for number in range(3)]
    broken = new_event("memory", {"content": "x", "metadata": {"\ud800": 1}})
    with pytest.raises(InvalidEventError):
        memory.remember_many([*events, broken])
    assert found(memory, "event") == []
    assert memory.remember_many(events, durable=True) == 3
    assert len(found(memory, "event")) == 3
    assert memory.remember_many([]) == 0


def test_a_refusing_disk_is_told_and_nothing_is_remembered(memory: Memory) -> None:
    (Path(memory.home) / "inbox" / "loaded").rmdir()
    (Path(memory.home) / "inbox").rmdir()
    with pytest.raises(StorageError, match="was not stored"):
        memory.remember("x")
    with pytest.raises(StorageError, match="moved or deleted"):
        memory.recall("x")


# --- reinforce -----------------------------------------------------------------------------------------


def test_memories_that_were_used_together_are_named_in_one_recall_event(memory: Memory) -> None:
    ids = [memory.remember(f"duck {number}") for number in range(2)]
    unknown = uuid4()  # it may be on its way
    event_id = memory.reinforce(
        [ids[1], str(ids[0]).upper(), ids[1], unknown],
        query="ducks?",
        user_id="maya",
        occurred_at=datetime(2026, 3, 1, 13, 0, tzinfo=timezone(timedelta(hours=1))),
        durable=True,
    )
    *_, event = FreshEvents(Home(memory.home)).read(0)[0]
    assert (event.event_id, event.event_type, event.user_id) == (event_id, "recall", "maya")
    assert event.occurred_at == datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert event.payload["query"] == "ducks?"
    named = event.payload["memory_ids"]
    assert isinstance(named, list)
    assert {UUID(str(item)) for item in named} == {*ids, unknown}
    assert len(found(memory, "duck")) == 2, "a use is no memory"


@pytest.mark.parametrize(
    ("used", "error", "sentence"),
    [
        ({"memory_ids": []}, UsageError, "Nothing says what was used"),
        ({"memory_ids": ["not an id"]}, InvalidEventError, "memory_ids.0: Input should be a valid UUID"),
        ({"memory_ids": [uuid4() for _ in range(1001)]}, InvalidEventError, "memory_ids"),
        ({"memory_ids": [uuid4()], "user_id": ""}, InvalidEventError, "user_id"),
        ({"memory_ids": [uuid4()], "query": "\ud800"}, InvalidEventError, "UTF-8"),
        ({"memory_ids": [uuid4()], "occurred_at": datetime(1900, 1, 1)}, InvalidEventError, "out of range"),
    ],
)
def test_a_use_of_nothing_or_nonsense_is_refused(
    memory: Memory, used: dict[str, object], error: type[MnemoduckError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        memory.reinforce(**used)  # type: ignore[arg-type]
    assert FreshEvents(Home(memory.home)).read(0)[0] == []


# --- forget --------------------------------------------------------------------------------------------


def test_forgetting_by_id_takes_effect_at_once_in_every_process(memory: Memory, home: Home) -> None:
    ids = [memory.remember(f"duck {number}") for number in range(3)]
    with Memory(home.path) as other:
        assert len(found(other, "duck")) == 3
        memory.forget([ids[0], str(ids[1])])
        assert found(other, "duck") == found(memory, "duck") == ["duck 2"]
        assert [slot.content for slot in other.working_memory()] == ["duck 2"]
    memory.forget([uuid4()])  # an id that nobody knows is no error: it may be on its way
    assert found(memory, "duck") == ["duck 2"]


def test_forgetting_a_scope_takes_what_was_recorded_by_then_and_only_of_the_scope(memory: Memory) -> None:
    memory.remember("duck of maya", user_id="maya", agent_id="coach", session_id="s1")
    memory.remember("duck of maya too", user_id="maya")
    memory.remember("duck of jonas", user_id="jonas", agent_id="coach")
    memory.remember("duck of nobody")
    memory.forget(user_id="maya", agent_id="coach")
    assert sorted(found(memory, "duck")) == ["duck of jonas", "duck of maya too", "duck of nobody"]
    memory.remember("duck of maya again", user_id="maya", agent_id="coach")
    assert "duck of maya again" in found(memory, "duck"), "what comes later is not forgotten"
    memory.forget(agent_id="coach")
    assert sorted(found(memory, "duck")) == ["duck of maya too", "duck of nobody"]
    memory.forget(session_id="s1")
    memory.forget(user_id="maya")
    assert found(memory, "duck") == ["duck of nobody"]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), None])
def test_forgetting_before_a_moment_takes_what_happened_earlier(
    memory: Memory, zone: timezone | None
) -> None:
    noon = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    for minutes in (-1, 0, 1):
        memory.remember(f"duck {minutes}", occurred_at=noon + timedelta(minutes=minutes))
    memory.forget(before=noon.astimezone(zone) if zone else noon.replace(tzinfo=None))
    assert sorted(found(memory, "duck")) == ["duck 0", "duck 1"]


def test_before_an_order_was_given_nothing_was_forgotten(memory: Memory) -> None:
    """As it will be once the order is built: `as_of` asks what was known then."""
    memory_id = memory.remember("duck", occurred_at=datetime(2026, 3, 1, tzinfo=UTC))
    then = datetime.now(UTC)
    memory.forget([memory_id])
    memory.forget(user_id="nobody")
    assert found(memory, "duck") == []
    assert found(memory, "duck", as_of=then) == ["duck"]
    memory.forget(before=datetime.now(UTC))
    assert found(memory, "duck") == []
    assert found(memory, "duck", as_of=then) == ["duck"]


@pytest.mark.parametrize(
    ("order", "error", "sentence"),
    [
        ({}, UsageError, "Nothing says what to forget"),
        ({"memory_ids": []}, UsageError, "Nothing says what to forget"),
        ({"memory_ids": [uuid4()], "agent_id": "a"}, UsageError, "not both in one order"),
        ({"memory_ids": [uuid4()], "user_id": "u", "session_id": "s"}, UsageError, "not both in one order"),
        ({"memory_ids": [uuid4()], "before": datetime(2026, 1, 1)}, UsageError, "not both in one order"),
        ({"memory_ids": [uuid4()], "user_id": ""}, InvalidEventError, "user_id"),
        ({"memory_ids": ["not an id"]}, InvalidEventError, "memory_ids.0: Input should be a valid UUID"),
        ({"user_id": ""}, InvalidEventError, "user_id"),
        ({"before": datetime(1900, 1, 1, tzinfo=UTC)}, InvalidEventError, "out of range"),
        ({"before": datetime.min.replace(tzinfo=timezone(timedelta(hours=9)))}, InvalidEventError, "range"),
    ],
)
def test_an_order_that_says_nothing_or_nonsense_is_refused(
    memory: Memory, order: dict[str, object], error: type[MnemoduckError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        memory.forget(**order)  # type: ignore[arg-type]
    assert FreshEvents(Home(memory.home)).read(0)[0] == []


def test_an_order_of_a_user_forgets_of_the_ids_it_names_only_those_of_this_user(memory: Memory) -> None:
    users = ["maya", "Maya", " maya", "may", None]
    ids = {user: memory.remember("duck", user_id=user, agent_id="coach") for user in users}
    memory.forget(ids.values(), user_id="maya")
    assert memory.get(ids["maya"]) is None
    assert {one.user_id for one in memory.recall("duck")} == set(users) - {"maya"}
    memory.forget([ids["may"]])
    assert memory.recall("duck", user_id="may") == []


def test_where_an_order_by_ids_was_given_does_not_confine_it(memory: Memory) -> None:
    memory_id = memory.remember("duck", user_id="maya", agent_id="coach", session_id="s1")
    order = new_event(
        "forget", {"memory_ids": [str(memory_id)]}, user_id="maya", agent_id="another", session_id="s2"
    )
    memory.remember_many([order])
    assert memory.recall("duck") == []


def test_many_orders_at_once_are_all_carried_out(memory: Memory) -> None:
    for number in range(30):
        memory.remember(f"duck {number}", user_id=f"user {number}")
    for number in range(0, 30, 2):
        memory.forget(user_id=f"user {number}")
    assert sorted(found(memory, "duck")) == sorted(f"duck {number}" for number in range(1, 30, 2))


# --- many at once --------------------------------------------------------------------------------------


def test_threads_recall_while_another_remembers_and_forgets_without_any_error(memory: Memory) -> None:
    """Each writer finds its own write at once; readers find only what was written."""
    is_done = threading.Event()
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
                is_done.set()

        return run

    def write() -> None:
        for number in range(8):
            memory.remember(f"duck number{number}", user_id="writer")
            assert found(memory, f"number{number}") == [f"duck number{number}"]
            if number % 4 == 3:
                memory.forget([memory.remember("duck shortlived", user_id="writer")])
                assert found(memory, "shortlived") == []
        is_done.set()

    def read() -> None:
        seen = 0
        while not is_done.is_set():
            ducks = [content for content in found(memory, "duck") if "number" in content]
            assert len(ducks) == len(set(ducks))
            assert len(ducks) >= seen
            seen = len(ducks)
            assert len(memory.working_memory(user_id="writer")) <= 9

    threads = [threading.Thread(target=guarded(work)) for work in (write, *[read] * 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(found(memory, "duck")) == 8


def test_the_first_recall_may_come_from_many_threads_at_once(home: Home) -> None:
    memory = Memory(home.path)
    memory.remember("duck")
    barrier, answers = threading.Barrier(8), []

    def recall_together() -> None:
        barrier.wait()
        answers.append(found(memory, "duck"))

    threads = [threading.Thread(target=recall_together) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.close()
    assert answers == [["duck"]] * 8


REMEMBER = """
import sys
from mnemoduck import Memory
memory = Memory(sys.argv[1])
for line in sys.stdin:
    print(memory.remember(line.strip()), flush=True)
"""


def test_what_another_process_remembered_is_found_while_it_lives_and_after_its_death(
    memory: Memory, start_python: StartPython
) -> None:
    process = start_python(REMEMBER, memory.home)
    assert process.stdin is not None
    assert process.stdout is not None
    assert found(memory, "duck") == []
    process.stdin.write(b"a living duck\n")
    process.stdin.flush()
    memory_id = UUID(process.stdout.readline().decode().strip())
    assert [item.memory_id for item in memory.recall("duck")] == [memory_id]
    process.stdin.write(b"a duck in its last moment\n")
    process.stdin.flush()
    process.stdout.readline()
    process.kill()
    process.wait()
    assert sorted(found(memory, "duck")) == ["a duck in its last moment", "a living duck"]


def test_a_forked_child_writes_and_reads_with_what_it_inherited(memory: Memory) -> None:
    memory.remember("duck of the parent")
    assert found(memory, "duck") == ["duck of the parent"]

    def child() -> None:
        assert found(memory, "duck") == ["duck of the parent"]
        memory.remember("duck of the child")
        assert sorted(found(memory, "duck")) == ["duck of the child", "duck of the parent"]

    assert in_child(child) == 0
    memory.remember("duck thereafter")
    assert len(found(memory, "duck")) == 3


def test_children_forked_while_other_threads_remember_and_recall_are_not_stuck(memory: Memory) -> None:
    is_done = threading.Event()

    def work() -> None:
        while not is_done.is_set():
            memory.remember("duck of a thread")
            memory.recall("duck")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()

    def child() -> None:
        memory.remember("duckling")
        assert "duckling" in found(memory, "duckling")

    try:
        assert [in_child(child) for _ in range(3)] == [0] * 3
    finally:
        is_done.set()
        for thread in threads:
            thread.join()


def test_a_closed_memory_has_sealed_what_it_wrote_and_can_be_used_again(home: Home) -> None:
    memory = Memory(home.path)
    memory.remember("before")
    memory.close()
    memory.close()
    assert len(list(home.inbox.glob("*.jsonl"))) == 1
    assert not list(home.inbox.glob("*.open"))
    memory.remember("after")
    assert sorted(found(memory, "before after")) == ["after", "before"]
    memory.close()


# --- status --------------------------------------------------------------------------------------------


def test_status_counts_what_waits_and_what_was_quarantined(memory: Memory, home: Home) -> None:
    assert read_status(home).waiting_events == 0
    memory.remember("one")
    memory.forget(user_id="u")
    status = read_status(home)
    assert (status.snapshot, status.waiting_events, status.memories) == (None, 2, 0)
    assert status.running is None
    assert status.bytes["inbox"] > 0
    assert status.bytes["warehouse"] == 0


def test_status_can_be_asked_while_files_come_and_go(memory: Memory, home: Home) -> None:
    is_done = threading.Event()

    def make_and_remove() -> None:
        while not is_done.is_set():
            for folder in (home.raw, home.published, home.quarantine):
                path = folder / "passing.jsonl"
                path.write_text("x\n")
                path.unlink()

    thread = threading.Thread(target=make_and_remove)
    thread.start()
    try:
        for _ in range(8):
            status = read_status(home)
            assert status.waiting_events == 0
    finally:
        is_done.set()
        thread.join()
