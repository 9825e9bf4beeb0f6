"""Reading your own writes: each event is seen exactly once, wherever its segment is at the moment."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mnemoduck.errors import StorageError
from mnemoduck.events import Event, new_event, parse_event
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import FreshEvents, InboxWriter, retire_loaded, seal_open_segments
from mnemoduck.pipeline.load import load_inbox


def make_event(text: str = "x") -> Event:
    return new_event("memory", {"content": text})


def contents(events: list[Event]) -> list[str]:
    return [str(event.payload["content"]) for event in events]


class FreshEventsAgree(RuleBasedStateMachine):
    """Writers, the sealer, the loader and the publisher do what they do, in any interleaving.

    Two readers follow: one looks after every step, the other once in a while.
    """

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", lambda _: None)
        self.home = open_home(Path(self.folder) / "home")
        self.writers = [InboxWriter(self.home, max_segment_bytes=1500) for _ in range(2)]
        self.eager, self.lazy = FreshEvents(self.home), FreshEvents(self.home)
        self.seen_by: dict[FreshEvents, list[UUID]] = {}
        self.waiting: set[UUID] = set()
        self.batches: dict[int, set[UUID]] = {}
        self.published = 0

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    @rule(writer=st.integers(0, 1), count=st.integers(1, 3))
    def remember(self, writer: int, count: int) -> None:
        events = [make_event() for _ in range(count)]
        self.writers[writer].append([event.to_line() for event in events])
        self.waiting |= {event.event_id for event in events}

    @rule()
    def a_writer_dies_within_a_line(self) -> None:
        torn = make_event().to_line()[:-30]
        (self.home.inbox / f"20260101T000000000000Z-1-{os.urandom(4).hex()}.open").write_bytes(torn)

    @rule()
    def a_line_arrives_that_is_no_event(self) -> None:
        self.writers[0].append([b"no event\n"])

    @rule(writer=st.integers(0, 1))
    def close(self, writer: int) -> None:
        self.writers[writer].close()

    @rule()
    def seal(self) -> None:
        seal_open_segments(self.home)

    @rule()
    def load(self) -> None:
        batches = load_inbox(self.home)
        if batches and batches[-1].batch_seq not in self.batches:
            self.batches[batches[-1].batch_seq] = self.waiting
            self.waiting = set()

    @rule()
    def publish_without_retiring(self) -> None:
        """The publisher died between naming the snapshot and deleting the segments in it."""
        self.published = max(self.batches, default=0)

    @rule()
    def publish(self) -> None:
        self.published = max(self.batches, default=0)
        retire_loaded(self.home, self.published)

    @rule()
    def the_lazy_reader_looks(self) -> None:
        self.check(self.lazy)

    @invariant()
    def the_eager_reader_has_looked(self) -> None:
        self.check(self.eager)

    def check(self, reader: FreshEvents) -> None:
        events, is_changed = reader.read(self.published)
        ids = [event.event_id for event in events]
        later = [ids for number, ids in self.batches.items() if number > self.published]
        assert len(ids) == len(set(ids))
        assert set(ids) == self.waiting.union(*later)
        assert is_changed or ids == self.seen_by.get(reader, [])
        self.seen_by[reader] = ids


TestFreshEventsAgree = FreshEventsAgree.TestCase
TestFreshEventsAgree.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_line_is_seen_when_it_is_whole_and_not_before(home: Home) -> None:
    reader = FreshEvents(home)
    text = make_event("slowly").to_line()
    with (home.inbox / "a.open").open("wb", buffering=0) as file:
        file.write(text[:20])
        assert reader.read(0) == ([], False)
        file.write(text[20:-1])
        assert reader.read(0) == ([], False)
        file.write(text[-1:])
        events, is_changed = reader.read(0)
    assert contents(events) == ["slowly"]
    assert is_changed
    assert reader.read(0) == (events, False)


def test_events_are_not_parsed_again_when_their_segment_moves(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = InboxWriter(home)
    writer.append([make_event("one").to_line()])
    reader = FreshEvents(home)
    (first,), _ = reader.read(0)
    writer.close()
    (second,), is_changed = reader.read(0)
    assert second is first
    assert not is_changed
    load_inbox(home)
    (third,), is_changed = reader.read(0)
    assert third is first
    assert not is_changed
    assert reader.read(1) == ([], True)


def test_what_was_taken_back_by_a_failed_write_is_not_seen_any_more(home: Home) -> None:
    segment = home.inbox / "a.open"
    kept, taken_back = make_event("kept").to_line(), make_event("taken back").to_line()
    segment.write_bytes(kept + taken_back)
    reader = FreshEvents(home)
    assert contents(reader.read(0)[0]) == ["kept", "taken back"]
    os.truncate(segment, len(kept))
    events, is_changed = reader.read(0)
    assert contents(events) == ["kept"]
    assert is_changed


def test_a_change_is_told_even_if_a_segment_moves_while_it_is_read(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass has read one segment when it finds the other one gone."""
    (home.inbox / "a.open").write_bytes(make_event("one").to_line())
    (home.inbox / "b.open").write_bytes(make_event("two").to_line())
    reader = FreshEvents(home)
    list_segments = reader._list
    passes: list[int] = []

    def list_and_seal(after_batch_seq: int) -> dict[str, str]:
        found = list_segments(after_batch_seq)
        passes.append(len(found))
        if len(passes) == 1:
            os.rename(home.inbox / "b.open", home.inbox / "b.jsonl")
        return found

    monkeypatch.setattr(reader, "_list", list_and_seal)
    events, is_changed = reader.read(0)
    assert passes == [2, 2]
    assert contents(events) == ["one", "two"]
    assert is_changed


def test_a_home_that_is_gone_is_told_instead_of_looked_for_forever(home: Home) -> None:
    reader = FreshEvents(home)
    shutil.rmtree(home.path)
    with pytest.raises(StorageError, match="moved or deleted"):
        reader.read(0)


@pytest.mark.usefixtures("impatient_disk")
def test_a_reader_beside_writers_and_the_pipeline_never_misses_and_never_doubles(home: Home) -> None:
    """What was acknowledged before a reading begins is in it, until its batch is published."""
    writer = InboxWriter(home, max_segment_bytes=5_000)
    acknowledged: list[UUID] = []
    is_done = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        reader = FreshEvents(home)
        try:
            for _ in range(150):
                event = make_event()
                writer.append([event.to_line()])
                acknowledged.append(event.event_id)
                assert event in reader.read(0)[0]
        except BaseException as error:
            errors.append(error)
        finally:
            is_done.set()

    def load_again_and_again() -> None:
        for _ in range(15):
            load_inbox(home)

    def read_on_and_on() -> None:
        reader = FreshEvents(home)
        try:
            while not is_done.is_set():
                expected = set(acknowledged[:])
                ids = [event.event_id for event in reader.read(0)[0]]
                assert len(ids) == len(set(ids))
                assert expected <= set(ids)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work)
        for work in (write, load_again_and_again, read_on_and_on, read_on_and_on)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(FreshEvents(home).read(0)[0]) == 150


def test_lines_of_types_that_nobody_asked_for_are_not_parsed_unless_they_are_spelled_otherwise(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []

    def parse(line: bytes) -> Event:
        parsed.append(line)
        return parse_event(line)

    monkeypatch.setattr("mnemoduck.inbox.parse_event", parse)
    step = new_event("step", {"episode_id": "run-1", "step": 0, "tool": "look"}).to_line()
    told = json.loads(step)
    otherwise = json.dumps(dict(reversed(told.items()))).encode() + b"\n"
    memories = [make_event("first"), make_event("second")]
    writer = InboxWriter(home)
    writer.append([memories[0].to_line(), step, otherwise, b"no event\n", memories[1].to_line()])
    fresh = FreshEvents(home, frozenset({"memory"}))
    assert fresh.read(0) == (memories, True)
    assert step.rstrip() not in parsed
    assert otherwise.rstrip() in parsed
    assert len(FreshEvents(home).read(0)[0]) == 4
