"""The tables of what is fresh: however it arrives, they are what they would be if it had all been there."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnemoduck.events import Event, new_event
from mnemoduck.fresh import Changes, FreshReader
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import InboxWriter, seal_open_segments
from mnemoduck.project import find_project
from mnemoduck.warehouse import Snapshot, SnapshotReader

START = datetime(2026, 3, 1, tzinfo=UTC)
homes = itertools.count()


def open_reader(home: Home) -> FreshReader:
    return FreshReader(home, SnapshotReader(home), find_project())


def rows_of(reader: FreshReader) -> dict[str, list[tuple[Any, ...]]]:
    snapshot, tables = reader.get()
    return {
        kind: sorted(snapshot.cursor().execute(f"select * from {table}").fetchall(), key=repr)
        for kind, table in (
            ("memories", tables.memories),
            ("postings", tables.postings),
            ("documents", tables.documents),
        )
    }


def memory_event(number: int, text: str, minute: int) -> Event:
    return new_event(
        "memory",
        {"content": text},
        user_id="u",
        occurred_at=START + timedelta(minutes=minute),
        event_id=UUID(int=number),
    )


arrivals = st.tuples(
    st.integers(0, 1),  # which writer
    st.builds(
        memory_event, st.integers(1, 6), st.sampled_from(["duck", "Duck  ", "pond"]), st.integers(0, 1)
    ),
)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrived=st.lists(arrivals, min_size=2, max_size=6))
def test_tables_that_grew_are_those_of_who_comes_later(
    tmp_path: Path, impatient_disk: None, arrived: list[tuple[int, Event]]
) -> None:
    """Also where the same event, or a retry under another id, comes again, in a segment that sorts before."""
    home = open_home(tmp_path / str(next(homes)))
    writers = [InboxWriter(home) for _ in range(2)]
    reader = open_reader(home)
    reader.get()
    for writer, event in arrived:
        writers[writer].append([event.to_line()])
        _, tables = reader.get()
    assert rows_of(reader) == rows_of(open_reader(home))
    assert tables.memory_count == len(rows_of(reader)["memories"])


def test_what_arrives_is_added_and_what_was_there_is_not_touched(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = InboxWriter(home), open_reader(home)
    writer.append([memory_event(number, f"text {number}", 0).to_line() for number in range(1, 4)])
    snapshot, before = reader.get()
    running = snapshot.cursor()
    running.execute("begin")
    query = f"select count(*) from {before.memories}"
    assert running.execute(query).fetchone() == (3,)
    writer.append([memory_event(4, "text 4", 0).to_line()])
    _, after = reader.get()
    assert (before.memories, before.memory_count) == (after.memories, 3)
    assert after.memory_count == 4
    assert running.execute(query).fetchone() == (3,), "a transaction that runs sees what it saw"
    assert snapshot.cursor().execute(query).fetchone() == (4,)


def test_events_that_no_reader_has_to_know_change_no_table(home: Home) -> None:
    writer, reader = InboxWriter(home), open_reader(home)
    writer.append([memory_event(1, "duck", 0).to_line()])
    before, tick = reader.get()[1], reader.changes.now
    writer.append([new_event("recall", {"memory_ids": [str(UUID(int=1))]}).to_line()])
    writer.append([new_event("feedback", {"outcome": "success", "memory_id": str(uuid4())}).to_line()])
    assert reader.get()[1] is before
    assert reader.changes.now == tick
    writer.append([new_event("forget", {"memory_ids": [str(UUID(int=1))]}).to_line()])
    assert len(reader.get()[1].forgets) == 1
    assert reader.changes.now > tick


def test_what_was_taken_back_is_taken_from_the_tables(home: Home) -> None:
    segment = home.inbox / "a.open"
    kept, taken_back = memory_event(1, "kept", 0).to_line(), memory_event(2, "not", 0).to_line()
    segment.write_bytes(kept + taken_back)
    reader = open_reader(home)
    assert reader.get()[1].memory_count == 2
    segment.write_bytes(kept)
    assert reader.get()[1].memory_count == 1
    assert [row[4] for row in rows_of(reader)["memories"]] == ["kept"]


def test_tables_are_made_anew_after_an_error_between(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, reader = InboxWriter(home), open_reader(home)
    writer.append([memory_event(1, "duck", 0).to_line()])
    reader.get()
    writer.append([memory_event(2, "pond", 0).to_line()])
    with monkeypatch.context() as patch:
        patch.setattr("mnemoduck.fresh_tables._to_table", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reader.get()
    writer.append([memory_event(3, "bread", 0).to_line()])
    assert reader.get()[1].memory_count == 3
    assert rows_of(reader) == rows_of(open_reader(home))


def test_what_the_snapshot_has_is_not_fresh(home: Home, search_snapshot: Callable[..., Path]) -> None:
    """It was imported again, say: the published row counts."""
    writer = InboxWriter(home)
    writer.append([memory_event(number, f"text {number}", 0).to_line() for number in (1, 2)])
    search_snapshot(0, [UUID(int=1)])
    reader = open_reader(home)
    assert [row[0] for row in rows_of(reader)["memories"]] == [UUID(int=2)]
    writer.append([memory_event(3, "text 3", 0).to_line(), memory_event(1, "text 1", 0).to_line()])
    assert reader.get()[1].memory_count == 2


def test_the_next_due_is_of_the_snapshot_and_of_what_is_fresh(
    home: Home, search_snapshot: Callable[..., Path]
) -> None:
    now = datetime.now(UTC)
    soon, later, last = (now + timedelta(hours=hours) for hours in (1, 2, 3))
    search_snapshot(0, [UUID(int=1), UUID(int=2)], [later, last])
    reader = open_reader(home)
    reader.get()
    assert reader.next_due(now) == later
    event = new_event("memory", {"content": "x"}, occurred_at=soon)
    InboxWriter(home).append([event.to_line()])
    reader.get()
    assert reader.next_due(now) == soon
    assert reader.next_due(soon) == later
    assert reader.next_due(later) == last
    assert reader.next_due(now) == soon
    assert reader.next_due(last) is None


def test_a_question_that_waits_for_another_to_look_is_counted(home: Home) -> None:
    reader = open_reader(home)
    has_to_wait = threading.Event()
    lock = reader._mutex._lock

    class Watched:
        def acquire(self, blocking: bool = True) -> bool:
            if blocking:
                has_to_wait.set()
            return lock.acquire(blocking)

        def release(self) -> None:
            lock.release()

    reader._mutex._lock = Watched()  # type: ignore[assignment]
    reader.get()
    assert reader.waits == 0
    with reader._mutex:
        other = threading.Thread(target=reader.get)
        other.start()
        assert has_to_wait.wait(60)
    other.join()
    assert reader.waits == 1


def test_a_change_concerns_its_user_and_who_asks_about_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemoduck.fresh.MAX_USERS_TOLD_APART", 2)
    changes = Changes()

    def concerned(event: Event) -> set[str | None]:
        before = {user: changes.last(user) for user in ("a", "b", None)}
        changes.note(event)
        return {user for user, tick in before.items() if changes.last(user) > tick}

    text = {"content": "x"}
    assert concerned(new_event("memory", text, user_id="a")) == {"a", None}
    assert concerned(new_event("memory", text)) == {None}
    assert concerned(new_event("forget", {"is_whole_scope": True}, user_id="b")) == {"b", None}
    everyone = {"a", "b", None}
    assert concerned(new_event("forget", {"is_whole_scope": True}, session_id="s")) == everyone
    named = {"memory_ids": [str(UUID(int=1))]}
    assert concerned(new_event("forget", named, user_id="a")) == {"a", None}
    assert concerned(new_event("forget", named, agent_id="x", session_id="s")) == everyone
    assert concerned(new_event("memory", text, user_id="a")) == {"a", None}
    assert concerned(new_event("memory", text, user_id="c")) == everyone, "of so many none is told apart"


def test_an_instance_of_a_new_snapshot_has_tables_of_its_own(
    home: Home, search_snapshot: Callable[..., Path]
) -> None:
    writer, reader = InboxWriter(home), open_reader(home)
    writer.append([memory_event(1, "duck", 0).to_line()])
    first, _ = reader.get()
    seal_open_segments(home)
    search_snapshot(0, [])
    second, tables = reader.get()
    assert isinstance(second, Snapshot)
    assert second is not first
    assert tables.memory_count == 1
    with pytest.raises(duckdb.CatalogException):
        first.cursor().execute(f"select * from {tables.memories}")
