"""What a home already has: asked before an import, so that importing again adds nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

import mnemoduck.event_ids
from mnemoduck.errors import StorageError
from mnemoduck.event_ids import KnownEventIds
from mnemoduck.events import Event, new_event
from mnemoduck.home import Home
from mnemoduck.inbox import InboxWriter, retire_loaded
from mnemoduck.pipeline import load
from mnemoduck.pipeline.load import load_inbox, read_manifest


def write(home: Home, count: int, *, is_closed: bool = True) -> list[UUID]:
    events = [
        new_event("step", {"episode_id": "run-1", "tool": "look", "step": number}) for number in range(count)
    ]
    writer = InboxWriter(home)
    writer.append([event.to_line() for event in events])
    if is_closed:
        writer.close()
    return ids_of(events)


def ids_of(events: list[Event]) -> list[UUID]:
    return [event.event_id for event in events]


def test_a_new_home_knows_nothing(home: Home) -> None:
    assert KnownEventIds(home)([uuid4(), uuid4()]) == set()
    assert KnownEventIds(home)([]) == set()


def test_events_are_known_at_every_station(home: Home) -> None:
    published = write(home, 3)
    load_inbox(home)
    retire_loaded(home, 1)
    loaded = write(home, 3)
    load_inbox(home)
    sealed = write(home, 3)
    open_still = write(home, 3, is_closed=False)
    strangers = [uuid4() for _ in range(3)]
    known = KnownEventIds(home)
    for station in (published, loaded, sealed, open_still):
        assert known(station) == set(station)
    everything = published + loaded + sealed + open_still
    assert known(everything + strangers + everything) == set(everything)
    assert known(strangers) == set()


def test_events_are_known_in_merged_files(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "COMPACT_AT", 2)
    written = []
    for _ in range(5):
        written += write(home, 2)
        load_inbox(home)
    assert KnownEventIds(home)(written) == set(written)


def test_a_run_may_merge_files_while_they_are_being_listed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(home, 2)
    stale = load_inbox(home)
    monkeypatch.setattr(load, "COMPACT_AT", 2)
    written += write(home, 2)
    load_inbox(home)
    answers = iter([stale])
    monkeypatch.setattr(
        mnemoduck.event_ids, "read_manifest", lambda home: next(answers, None) or read_manifest(home)
    )
    assert not (home.raw / stale[0].files[0].path).exists()
    assert KnownEventIds(home)(written) == set(written)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damaged")])
def test_a_damaged_raw_file_is_told(home: Home, damage: Callable[[Path], object]) -> None:
    write(home, 1)
    (batch,) = load_inbox(home)
    damage(home.raw / batch.files[0].path)
    with pytest.raises(StorageError, match=batch.files[0].path):
        KnownEventIds(home)


def test_thousands_are_asked_at_once(home: Home) -> None:
    written = write(home, 3_000)
    load_inbox(home)
    known = KnownEventIds(home)
    assert known([*written[::2], *(uuid4() for _ in range(3_000))]) == set(written[::2])
