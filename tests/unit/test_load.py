"""Loading: each event of the inbox is in raw/ exactly once, whatever dies when."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck.errors import StorageError
from mnemoduck.events import Event, new_event, new_event_id
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import FreshEvents, InboxWriter, sealed_segments
from mnemoduck.pipeline import load
from mnemoduck.pipeline.load import load_inbox, newest_batch, note_answers, read_manifest, to_table

from .conftest import in_child

JUNE, JULY = datetime(2026, 6, 30, 23, 59, tzinfo=UTC), datetime(2026, 7, 1, 0, 0, tzinfo=UTC)


def append(home: Home, *lines: bytes | Event) -> None:
    writer = InboxWriter(home)
    writer.append([line.to_line() if isinstance(line, Event) else line for line in lines])
    writer.close()


def memory(content: str = "x", recorded_at: datetime | None = None) -> Event:
    return new_event("memory", {"content": content}, recorded_at=recorded_at)


def raw_rows(home: Home) -> list[dict[str, Any]]:
    """Every row that the manifest names, in its order."""
    paths = [home.raw / file.path for batch in read_manifest(home) for file in batch.files]
    return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def loaded_ids(home: Home) -> list[str]:
    return [row["event_id"] for row in raw_rows(home)]


def quarantined(home: Home) -> list[dict[str, Any]]:
    files = sorted(home.quarantine.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def check_that_nothing_is_left_over(home: Home) -> None:
    """The manifest and the disk agree, file by file and row by row."""
    named = [file for batch in read_manifest(home) for file in batch.files]
    on_disk = {str(path.relative_to(home.raw)) for path in home.raw.rglob("*.parquet")}
    assert Counter(file.path for file in named) == Counter(on_disk)
    for file in named:
        assert pq.read_metadata(home.raw / file.path).num_rows == file.rows
    assert not [path for path in home.raw.rglob("*") if path.is_file() and path.suffix == ".tmp"]
    assert sealed_segments(home) == []
    assert not list(home.inbox.glob("*.open"))


# --- what a load does ----------------------------------------------------------------------------------


def test_an_empty_inbox_makes_no_batch(home: Home) -> None:
    assert load_inbox(home) == []
    assert not home.manifest.exists()


def test_events_are_in_raw_as_they_were_written(home: Home) -> None:
    event = new_event(
        "memory",
        {"content": "a\0b 'é' {{ x }} \u202e 👩🏽\u200d🚀", "tags": ["t"], "unknown": [None, 1.5]},
        occurred_at=datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        recorded_at=JUNE,
        user_id="u",
    )
    append(home, event)
    (segment,) = sealed_segments(home)
    (batch,) = load_inbox(home)
    (row,) = raw_rows(home)
    assert json.loads(row.pop("payload")) == event.payload
    assert row == {
        "batch_seq": 1,
        "event_id": str(event.event_id),
        "event_type": "memory",
        "occurred_at": datetime(1999, 12, 31, 23, 59, 59, 999999),
        "recorded_at": JUNE.replace(tzinfo=None),
        "user_id": "u",
        "agent_id": None,
        "session_id": None,
        "segment": segment.stem,
        "line": 1,
    }
    assert batch.segments == [segment.name]
    assert batch.event_counts == {"memory": 1}


def test_each_load_is_a_batch_with_the_next_number(home: Home) -> None:
    for number in range(1, 4):
        append(home, memory(f"{number}"))
        assert [batch.batch_seq for batch in load_inbox(home)] == list(range(1, number + 1))
    assert [batch.batch_seq for batch in load_inbox(home)] == [1, 2, 3], "nothing new, no batch"


def test_events_lie_in_the_month_in_which_they_were_recorded(home: Home) -> None:
    append(home, memory("june", JUNE), memory("july", JULY), memory("also june", JUNE))
    (batch,) = load_inbox(home)
    assert [(file.path.rsplit("/", 1)[0], file.rows) for file in batch.files] == [
        ("year=2026/month=06", 2),
        ("year=2026/month=07", 1),
    ]


def test_files_and_folders_of_raw_are_private(home: Home) -> None:
    append(home, memory())
    load_inbox(home)
    for path in home.raw.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_bad_line_goes_to_quarantine_with_its_number_and_its_neighbours_are_loaded(home: Home) -> None:
    good = [memory("first"), memory("second")]
    append(home, b"no json\n", good[0], b"\n", b"\xff\xfe\0\n", b'{"event_id": 5}\n', good[1])
    (segment,) = sealed_segments(home)
    (batch,) = load_inbox(home)
    assert loaded_ids(home) == [str(event.event_id) for event in good]
    assert [row["line"] for row in raw_rows(home)] == [2, 6]
    entries = quarantined(home)
    assert [(entry["source"], entry["line"]) for entry in entries] == [(segment.stem, n) for n in (1, 4, 5)]
    assert entries[0]["text"] == "no json"
    assert entries[1]["base64"] == "//4A"
    assert "Field required" in entries[2]["reason"]
    assert batch.quarantined_count == 3


def test_a_line_that_is_too_long_is_kept_whole_in_quarantine(home: Home) -> None:
    """The segment is deleted afterwards, so the quarantine is all that is left of it."""
    long = b"x" * (5 * 1024 * 1024)
    (home.inbox / "a.jsonl").write_bytes(long + b"\n" + memory().to_line())
    load_inbox(home)
    (entry,) = quarantined(home)
    assert "5,242,880 bytes long; the limit is" in entry["reason"]
    assert entry["text"].encode() == long
    assert len(loaded_ids(home)) == 1


def test_a_segment_without_any_event_is_a_batch_without_files(home: Home) -> None:
    append(home, b"no json\n")
    (batch,) = load_inbox(home)
    assert (batch.files, batch.event_counts, batch.quarantined_count) == ([], {}, 1)
    check_that_nothing_is_left_over(home)


def test_events_beyond_one_chunk_are_all_loaded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "ROWS_IN_MEMORY", 3)
    monkeypatch.setattr(load, "CHUNK_BYTES", 500)
    events = [memory(str(number), (JUNE, JULY)[number % 2]) for number in range(10)]
    append(home, *events[:4], b"bad\n")
    append(home, *events[4:])
    (batch,) = load_inbox(home)
    assert batch.event_counts == {"memory": 10}
    by_month = events[::2] + events[1::2]
    assert loaded_ids(home) == [str(event.event_id) for event in by_month]
    check_that_nothing_is_left_over(home)


def test_events_of_more_months_than_files_may_be_open_are_all_loaded(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The times of imported events are what a file says: one such file must not stop every later load."""
    monkeypatch.setattr(load, "OPEN_FILES", 3)
    monkeypatch.setattr(load, "BYTES_IN_MEMORY", 2_000)
    monkeypatch.setattr(load, "CHUNK_BYTES", 250)
    months = [datetime(2000 + number % 5, 1, 1, tzinfo=UTC) for number in range(40)]
    events = [memory(str(number), month) for number, month in enumerate(months)]
    append(home, *events)
    (batch,) = load_inbox(home)
    assert Counter(loaded_ids(home)) == Counter(str(event.event_id) for event in events)
    assert sum(file.rows for file in batch.files) == 40
    for row in raw_rows(home):
        assert row["line"] == 1 + int(json.loads(row["payload"])["content"])
    check_that_nothing_is_left_over(home)


def test_segments_stay_for_readers_until_their_batch_is_published(home: Home) -> None:
    events = [memory("one"), memory("two")]
    append(home, *events)
    load_inbox(home)
    assert FreshEvents(home).read(0)[0] == events
    assert FreshEvents(home).read(1)[0] == []


def test_batches_are_a_table_for_dbt(home: Home) -> None:
    recall = new_event("recall", {"memory_ids": [str(new_event_id())]}, recorded_at=JULY)
    append(home, memory("june", JUNE), memory("july", JULY), recall, b"bad\n")
    (row,) = to_table(load_inbox(home)).to_pylist()
    assert (row["batch_seq"], row["segment_count"], row["event_count"]) == (1, 1, 3)
    assert (row["memory_count"], row["quarantined_count"]) == (2, 1)
    assert all((home.raw / file).exists() for file in row["files"])
    assert to_table([]).num_rows == 0


# --- merging small files -------------------------------------------------------------------------------


@settings(max_examples=8)
@given(
    open_files=st.sampled_from([1, 64]),
    loads=st.lists(st.lists(st.sampled_from([JUNE, JULY]), max_size=4), min_size=3, max_size=13),
)
def test_merging_keeps_every_row_and_bounds_the_files_of_a_tier(
    open_files: int, loads: list[list[datetime]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "COMPACT_AT", 3)
        patch.setattr(load, "OPEN_FILES", open_files)
        patch.setattr(os, "fsync", lambda _: None)
        home = open_home(Path(folder) / "home")
        expected: dict[str, list[str]] = {"06": [], "07": []}
        for months in loads:
            events = [memory("x", month) for month in months]
            for event in events:
                expected[f"{event.recorded_at:%m}"].append(str(event.event_id))
            append(home, *events)
            batches = load_inbox(home)
            files = [file for batch in batches for file in batch.files]
            places = Counter((file.path.rsplit("/", 1)[0], file.tier) for file in files)
            assert max(places.values(), default=0) <= 3  # a tier that became full is merged by the next load
            assert read_manifest(home) == batches
        check_that_nothing_is_left_over(home)
        for month in expected:
            found = [row for row in raw_rows(home) if f"{row['recorded_at']:%m}" == month]
            assert Counter(row["event_id"] for row in found) == Counter(expected[month])
        assert [batch.batch_seq for batch in read_manifest(home)] == list(range(1, len(batches) + 1))


def test_a_merged_row_still_says_in_which_batch_segment_and_line_it_came(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "COMPACT_AT", 4)
    places = []
    for number in range(1, 5):
        append(home, memory(recorded_at=JUNE), memory(recorded_at=JUNE))
        (segment,) = sealed_segments(home)
        places += [(number, segment.stem, line) for line in (1, 2)]
        batches = load_inbox(home)
    assert [[file.tier for file in batch.files] for batch in batches] == [[], [], [], [1]]
    assert [(row["batch_seq"], row["segment"], row["line"]) for row in raw_rows(home)] == places


# --- crashes -------------------------------------------------------------------------------------------

CALLS = ("replace", "rename", "write", "unlink", "mkdir", "rmdir", "truncate", "ftruncate")
"""What changes what others see on a disk: a process dies before one of these, or within a write."""


def load_and_die(home: Home, at_call: int, calls: Sequence[str]) -> Callable[[], None]:
    """Return work that loads, but whose process ends (no cleaning up) at one of its system calls."""

    def work() -> None:
        count = itertools.count()

        def wrap(name: str) -> Callable[..., Any]:
            call = getattr(os, name)

            def wrapped(*arguments: Any, **options: Any) -> Any:
                if next(count) != at_call:
                    return call(*arguments, **options)
                if calls == ("write",):
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os._exit(9)

            return wrapped

        for name in calls:
            setattr(os, name, wrap(name))
        load_inbox(home)

    return work


@pytest.fixture(scope="module")
def eventful_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[str]]:
    """Two batches loaded; waiting: a good, a bad and a torn segment. The load will also merge."""
    home = open_home(tmp_path_factory.mktemp("eventful") / "home")
    events = [memory(str(number), (JUNE, JULY)[number % 2]) for number in range(10)]
    append(home, *events[:3])
    load_inbox(home)
    append(home, *events[3:5])
    load_inbox(home)
    append(home, *events[5:7])
    append(home, events[7], b"no json\n", events[8])
    torn = home.inbox / "29990101T000000000000Z-1-dead.open"
    torn.write_bytes(events[9].to_line() + b'{"event_id": "torn')
    return home, [str(event.event_id) for event in events]


@pytest.mark.usefixtures("impatient_disk")
@pytest.mark.parametrize(("calls", "at_least"), [(CALLS, 20), (("write",), 1)])
def test_a_load_that_dies_at_any_step_is_finished_by_the_next_one(
    eventful_home: tuple[Home, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: Sequence[str],
    at_least: int,
) -> None:
    monkeypatch.setattr(load, "COMPACT_AT", 3)
    template, expected = eventful_home
    for at_call in itertools.count():
        home = Home(tmp_path / str(at_call))
        shutil.copytree(template.path, home.path)
        status = in_child(load_and_die(home, at_call, calls))
        assert status in (0, 9)
        # Readers find everything at this moment already, in raw/ or in the inbox.
        committed = read_manifest(home)
        fresh, _ = FreshEvents(home).read(committed[-1].batch_seq)
        known = {*loaded_ids(home), *(str(event.event_id) for event in fresh)}
        assert known == set(expected), at_call
        load_inbox(home)
        check_that_nothing_is_left_over(home)
        assert Counter(loaded_ids(home)) == Counter(expected), at_call
        assert sorted(entry["line"] for entry in quarantined(home)) == [2, 2]
        assert len(FreshEvents(home).read(0)[0]) == len(expected)
        shutil.rmtree(home.path)
        if status == 0:
            break
    assert at_call >= at_least


@pytest.mark.usefixtures("impatient_disk")
@pytest.mark.parametrize("call", ["replace", "rename", "fsync"])
def test_a_load_that_the_disk_refuses_is_finished_by_the_next_one(
    eventful_home: tuple[Home, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Unlike a death, a refusal is handled: what the handling does must be right as well."""
    monkeypatch.setattr(load, "COMPACT_AT", 3)
    template, expected = eventful_home
    for at_call in itertools.count():
        home = Home(tmp_path / str(at_call))
        shutil.copytree(template.path, home.path)
        count = itertools.count()
        original = getattr(os, call)

        def refuse_once(*arguments: Any, number: int = at_call) -> Any:
            if next(count) == number:  # noqa: B023
                raise OSError(28, "No space left on device")
            return original(*arguments)  # noqa: B023

        is_refused = False
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse_once)
            try:
                load_inbox(home)
            except StorageError:
                is_refused = True
        load_inbox(home)
        check_that_nothing_is_left_over(home)
        assert Counter(loaded_ids(home)) == Counter(expected), at_call
        assert len(quarantined(home)) == 2
        shutil.rmtree(home.path)
        if next(count) <= at_call:
            assert not is_refused
            break
    assert at_call > 1


def test_the_line_of_the_manifest_is_whole_even_if_the_disk_takes_it_in_pieces(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short write is no error: believing it done would lose the batch, whose segments are retired."""
    append(home, memory())
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    batches = load_inbox(home)
    assert read_manifest(home) == batches
    assert len(loaded_ids(home)) == 1


# --- the manifest --------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b"{", b'{"batch_seq":3,"loaded_at":"2026', b"\0\0\0", b"\xff"])
def test_a_torn_last_line_of_the_manifest_counts_for_nothing(home: Home, torn: bytes) -> None:
    for _ in range(2):
        append(home, memory())
        load_inbox(home)
    with home.manifest.open("ab") as file:
        file.write(torn)
    assert [batch.batch_seq for batch in read_manifest(home)] == [1, 2]
    append(home, memory())
    assert [batch.batch_seq for batch in load_inbox(home)] == [1, 2, 3]
    assert [batch.batch_seq for batch in read_manifest(home)] == [1, 2, 3]
    assert len(loaded_ids(home)) == 3


@pytest.mark.parametrize(
    "damage",
    [
        b"garbage\n",
        b"[]\n",
        b"null\n",
        b"\xff\xff\n",
        b"{}\n",
        b'{"files": 5}\n',
        b'{"files": [{}]}\n',
        b"\n",
    ],
)
def test_a_damaged_manifest_says_so_and_nothing_is_changed(home: Home, damage: bytes) -> None:
    append(home, memory())
    load_inbox(home)
    whole = home.manifest.read_bytes()
    append(home, memory())
    home.manifest.write_bytes(damage + whole)
    before = sorted(path for path in home.path.rglob("*") if path.is_file())
    with pytest.raises(
        StorageError, match=r"The manifest .*batches.jsonl is damaged .*Restore it from a backup"
    ):
        load_inbox(home)
    assert sorted(path for path in home.path.rglob("*") if path.is_file()) == before
    assert home.manifest.read_bytes() == damage + whole
    home.manifest.write_bytes(whole)
    assert len(load_inbox(home)) == 2


@pytest.mark.parametrize("order", [(0, 0, 1), (0, 1, 0), (1, 0)])
def test_batches_that_are_in_the_manifest_twice_or_out_of_order_are_damage(
    home: Home, order: tuple[int, ...]
) -> None:
    for _ in range(2):
        append(home, memory())
        load_inbox(home)
    lines = home.manifest.read_bytes().splitlines(keepends=True)
    home.manifest.write_bytes(b"".join(lines[place] for place in order))
    with pytest.raises(StorageError, match=r"is damaged \(batch [12] follows batch [12]\)"):
        read_manifest(home)


def test_a_file_that_the_manifest_does_not_name_does_not_exist(home: Home) -> None:
    append(home, memory())
    (batch,) = load_inbox(home)
    stray = (home.raw / batch.files[0].path).with_name("batch-000000000099-t0.parquet")
    shutil.copy(home.raw / batch.files[0].path, stray)
    assert len(loaded_ids(home)) == 1
    load_inbox(home)
    assert not stray.exists()


# --- the arrival of answers ----------------------------------------------------------------------------


def test_answers_that_arrive_are_numbered_among_the_loads(home: Home) -> None:
    append(home, memory())
    load_inbox(home)
    assert note_answers(home, 7, "state 1") == newest_batch(home) == 2
    append(home, memory())
    assert [batch.batch_seq for batch in load_inbox(home)] == [1, 2, 3]
    assert [row["batch_seq"] for row in raw_rows(home)] == [1, 3]
    assert [batch.answers for batch in read_manifest(home)] == [None, "7 state 1", None]
    arrival = to_table(read_manifest(home)).to_pylist()[1]
    assert (arrival["batch_seq"], arrival["segment_count"], arrival["event_count"]) == (2, 0, 0)


def test_the_same_answers_are_noted_once_whatever_was_loaded_since(home: Home) -> None:
    assert [note_answers(home, 7, "state 1") for _ in range(2)] == [1, 1], "also before the first load"
    append(home, memory())
    load_inbox(home)
    manifest = home.manifest.read_bytes()
    assert note_answers(home, 7, "state 1") == 2
    assert home.manifest.read_bytes() == manifest
    assert [note_answers(home, 7, state) for state in ("state 2", "state 1")] == [3, 4], "back is news too"


def test_a_manifest_of_before_there_were_answers_is_read(home: Home) -> None:
    append(home, memory())
    load_inbox(home)
    entry = json.loads(home.manifest.read_bytes())
    del entry["answers"]
    home.manifest.write_text(json.dumps(entry) + "\n")
    assert [batch.answers for batch in read_manifest(home)] == [None]
    assert note_answers(home, 7, "state 1") == 2


def test_a_load_that_died_before_its_segments_were_moved_is_not_repeated_after_answers_arrived(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(home, memory())
    load_inbox(home)
    append(home, memory())

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(load, "move_to_loaded", die)
        with pytest.raises(KeyboardInterrupt):
            load_inbox(home)
    assert note_answers(home, 7, "state 1") == 3
    load_inbox(home)
    assert [row["batch_seq"] for row in raw_rows(home)] == [1, 2]
    assert len(set(loaded_ids(home))) == 2
    check_that_nothing_is_left_over(home)
    assert FreshEvents(home).read(2)[0] == [], "its segments count as those of their own load"


@pytest.mark.parametrize("torn", [b"{", b'{"batch_seq":2,"loaded_at":"2026', b"\xff"])
def test_an_arrival_of_answers_is_not_glued_to_a_torn_line(home: Home, torn: bytes) -> None:
    append(home, memory())
    load_inbox(home)
    with home.manifest.open("ab") as file:
        file.write(torn)
    assert note_answers(home, 7, "state 1") == 2
    noted = [(batch.batch_seq, batch.answers) for batch in read_manifest(home)]
    assert noted == [(1, None), (2, "7 state 1")]
    assert newest_batch(home) == 2


def test_where_nothing_was_ever_answered_there_is_no_arrival_and_a_lost_cache_is_one(home: Home) -> None:
    assert note_answers(home, 0, "asked") == 0
    assert note_answers(home, 7, "asked") == 1
    assert note_answers(home, 0, "asked") == 2
    assert note_answers(home, 0, "asked") == 2


def test_a_disk_that_refuses_is_told_and_the_next_load_has_it_all(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(home, memory("on a full disk"))

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "replace", refuse)
        with pytest.raises(
            StorageError, match=r"not loaded whole: No space left on device\. Nothing is lost"
        ):
            load_inbox(home)
    (batch,) = load_inbox(home)
    assert batch.event_counts == {"memory": 1}
