"""The inbox: many writers, nobody waits, nothing that was acknowledged is lost or doubled."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnemoduck.inbox
from mnemoduck.errors import InvalidEventError, StorageError
from mnemoduck.events import MAX_LINE_BYTES
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import (
    InboxWriter,
    iterate_chunks,
    loaded_folder,
    move_to_loaded,
    retire_loaded,
    seal_open_segments,
    sealed_segments,
)

from .conftest import in_child


def open_segments(home: Home) -> list[Path]:
    return sorted(home.inbox.glob("*.open"))


def sealed_lines(home: Home) -> list[bytes]:
    seal_open_segments(home)
    return [line for segment in sealed_segments(home) for line in segment.read_bytes().splitlines()]


def quarantined(home: Home) -> list[dict[str, object]]:
    files = sorted(home.quarantine.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


# --- append and seal -----------------------------------------------------------------------------------


def test_what_is_appended_is_on_disk_when_append_returns(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([b"one\n", b"two\n"])
    writer.append([b"three\n"], durable=True)
    (segment,) = open_segments(home)
    assert segment.read_bytes() == b"one\ntwo\nthree\n"
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600


def test_appending_nothing_makes_no_segment(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([])
    writer.append([b""])
    writer.close()
    assert list(home.inbox.iterdir()) == [home.loaded]


def test_closing_seals_the_segment_and_closing_again_does_nothing(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([b"one\n"])
    (segment,) = open_segments(home)
    writer.close()
    writer.close()
    assert sealed_segments(home) == [segment.with_suffix(".jsonl")]
    assert open_segments(home) == []


def test_a_closed_writer_starts_another_segment(home: Home) -> None:
    writer = InboxWriter(home)
    for text in (b"one\n", b"two\n"):
        writer.append([text])
        writer.close()
    assert [segment.read_bytes() for segment in sealed_segments(home)] == [b"one\n", b"two\n"]


def test_a_segment_is_sealed_by_its_writer_when_it_is_full(home: Home) -> None:
    writer = InboxWriter(home, max_segment_bytes=10)
    for number in range(6):
        writer.append([b"line%d\n" % number])
    assert [segment.read_bytes() for segment in sealed_segments(home)] == [
        b"line0\nline1\n",
        b"line2\nline3\n",
        b"line4\nline5\n",
    ]


def test_a_writer_goes_on_in_another_segment_after_its_own_was_sealed_behind_its_back(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([b"before\n"])
    report = seal_open_segments(home)
    assert report.sealed == sealed_segments(home)
    writer.append([b"after\n"])
    assert report.sealed[0].read_bytes() == b"before\n"
    assert [segment.read_bytes() for segment in open_segments(home)] == [b"after\n"]


def test_a_writer_goes_on_after_its_sealed_segment_was_loaded_and_deleted(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([b"before\n"])
    move_to_loaded(home, seal_open_segments(home).sealed, 1)
    assert retire_loaded(home, 1) == 1
    writer.append([b"after\n"])
    writer.close()
    assert [segment.read_bytes() for segment in sealed_segments(home)] == [b"after\n"]


def test_two_writers_of_one_process_have_a_segment_each(home: Home) -> None:
    writers = [InboxWriter(home), InboxWriter(home)]
    for round_number in range(3):
        for number, writer in enumerate(writers):
            writer.append([b"%d of %d\n" % (round_number, number)])
    texts = sorted(segment.read_bytes() for segment in open_segments(home))
    assert texts == [b"0 of 0\n1 of 0\n2 of 0\n", b"0 of 1\n1 of 1\n2 of 1\n"]


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 4))  # a writer appends so many lines
        | st.sampled_from(["seal", "close 0", "close 1", "close 2"]),
        max_size=25,
    )
)
def test_every_line_is_there_once_and_in_its_writers_order_however_sealing_interferes(
    steps: list[tuple[int, int] | str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder) / "home")
        writers = [InboxWriter(home, max_segment_bytes=40) for _ in range(3)]
        written: list[list[bytes]] = [[], [], []]
        for step in steps:
            if step == "seal":
                seal_open_segments(home)
            elif isinstance(step, str):
                writers[int(step[-1])].close()
            else:
                writer, count = step
                lines = [b"%d:%d" % (writer, len(written[writer]) + n) for n in range(count)]
                writers[writer].append([line + b"\n" for line in lines])
                written[writer] += lines
        read = sealed_lines(home)
        assert open_segments(home) == []
        for number, lines in enumerate(written):
            assert [line for line in read if line.startswith(b"%d:" % number)] == lines


# --- many at once --------------------------------------------------------------------------------------


def test_threads_share_a_writer_while_another_thread_seals(home: Home) -> None:
    writer = InboxWriter(home, max_segment_bytes=4_000)
    is_done = threading.Event()

    def seal_on_and_on() -> None:
        while not is_done.is_set():
            seal_open_segments(home)

    def write(thread: int) -> None:
        for number in range(200):
            writer.append([b"%d:%d:a\n" % (thread, number), b"%d:%d:b\n" % (thread, number)])

    sealer = threading.Thread(target=seal_on_and_on)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    sealer.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    is_done.set()
    sealer.join()
    expected = {b"%d:%d:%c" % (t, n, part) for t in range(8) for n in range(200) for part in b"ab"}
    lines = sealed_lines(home)
    assert len(lines) == len(expected)
    assert set(lines) == expected
    assert quarantined(home) == []


def test_a_forked_child_writes_to_a_segment_of_its_own(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([b"parent before\n"])

    def write_and_close() -> None:
        writer.append([b"child\n"])
        writer.close()

    assert in_child(write_and_close) == 0
    writer.append([b"parent after\n"])
    assert [segment.read_bytes() for segment in open_segments(home)] == [b"parent before\nparent after\n"]
    assert [segment.read_bytes() for segment in sealed_segments(home)] == [b"child\n"]


def test_a_child_that_only_closes_leaves_the_parents_segment_open(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([b"parent\n"])
    assert in_child(writer.close) == 0
    assert len(open_segments(home)) == 1
    writer.append([b"again\n"])
    assert sealed_lines(home) == [b"parent", b"again"]


def test_a_child_forked_while_another_thread_was_writing_is_not_stuck(home: Home) -> None:
    writer = InboxWriter(home)
    is_done = threading.Event()

    def write_on_and_on() -> None:
        while not is_done.is_set():
            writer.append([b"x" * 10_000 + b"\n"], durable=True)

    thread = threading.Thread(target=write_on_and_on)
    thread.start()
    try:
        assert [in_child(lambda: writer.append([b"child\n"])) for _ in range(10)] == [0] * 10
    finally:
        is_done.set()
        thread.join()
    assert sealed_lines(home).count(b"child") == 10
    assert quarantined(home) == []


# --- recovery ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"half', b"\0", b"caf\xc3", b"x" * 200_000])
def test_a_torn_last_line_goes_to_quarantine_with_file_line_and_reason(home: Home, torn: bytes) -> None:
    segment = home.inbox / "20260301T120000000000Z-1-abcd.open"
    segment.write_bytes(b"one\ntwo\n" + torn)
    report = seal_open_segments(home)
    assert report.torn == [segment]
    assert [path.read_bytes() for path in report.sealed] == [b"one\ntwo\n"]
    (entry,) = quarantined(home)
    assert entry["source"] == "20260301T120000000000Z-1-abcd.torn"
    assert entry["line"] == 3
    assert entry["reason"] == "torn last line: the writer died before it was acknowledged"
    assert entry["raw_bytes"] == len(torn)


def test_a_segment_with_nothing_but_a_torn_line_is_removed(home: Home) -> None:
    (home.inbox / "a.open").write_bytes(b"half a line")
    report = seal_open_segments(home)
    assert report.sealed == []
    assert [entry["text"] for entry in quarantined(home)] == ["half a line"]
    assert list(home.inbox.iterdir()) == [home.loaded]


def test_an_empty_segment_of_a_dead_writer_is_removed(home: Home) -> None:
    (home.inbox / "a.open").touch()
    report = seal_open_segments(home)
    assert (report.sealed, report.torn, report.busy) == ([], [], [])
    assert list(home.inbox.iterdir()) == [home.loaded]


def test_sealing_again_finds_nothing_to_do(home: Home) -> None:
    (home.inbox / "a.open").write_bytes(b"one\nhalf")
    seal_open_segments(home)
    before = quarantined(home)
    assert seal_open_segments(home).sealed == []
    assert quarantined(home) == before


@given(
    lines=st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b" ")), max_size=8),
    cut=st.integers(0, 80),
)
@settings(max_examples=30)
def test_a_segment_cut_anywhere_keeps_its_whole_lines_and_quarantines_the_rest(
    lines: list[bytes], cut: int
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    data = data[: max(0, len(data) - cut)]
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder) / "home")
        (home.inbox / "a.open").write_bytes(data)
        report = seal_open_segments(home)
        kept = b"".join(path.read_bytes() for path in report.sealed)
        rest = data[len(kept) :]
        assert data.startswith(kept)
        assert kept == b"" or kept.endswith(b"\n")
        assert b"\n" not in rest
        assert [entry["raw_bytes"] for entry in quarantined(home)] == ([len(rest)] if rest else [])


def test_a_writer_that_holds_its_lock_is_left_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnemoduck.inbox, "LOCK_PATIENCE", 0.0)
    segment = home.inbox / "a.open"
    with segment.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b"half a line")
        file.flush()
        report = seal_open_segments(home)
        assert report.busy == [segment]
        assert report.sealed == []
        file.write(b", and the rest\n")
    assert [path.read_bytes() for path in seal_open_segments(home).sealed] == [b"half a line, and the rest\n"]


# --- the disk refuses ----------------------------------------------------------------------------------


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_refused_write_is_taken_back_and_told(
    home: Home, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    writer = InboxWriter(home)
    writer.append([b"kept\n"])
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(
            StorageError, match=r"was not stored: .*No space left on device.*remember it again"
        ):
            writer.append([b"refused\n"], durable=True)
    writer.append([b"again\n"])
    writer.close()
    assert sealed_lines(home) == [b"kept", b"again"]
    assert quarantined(home) == []


def test_a_write_that_stops_in_the_middle_is_taken_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = InboxWriter(home)
    writer.append([b"kept\n"])
    write = os.write
    calls: list[int] = []

    def write_a_little(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 4:
            refuse()
        return write(descriptor, data[:5])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_a_little)
        with pytest.raises(StorageError):
            writer.append([b"1\n", b"2\n", b"a longer line\n", b"4\n"])
    assert len(calls) == 4
    assert [segment.read_bytes() for segment in open_segments(home)] == [b"kept\n"]


def test_a_write_that_comes_in_pieces_is_whole_in_the_end(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    writer = InboxWriter(home)
    writer.append([b"one and a half\n", b"two\n"])
    writer.close()
    assert sealed_lines(home) == [b"one and a half", b"two"]


def test_an_interrupted_write_is_not_glued_to_the_next_line(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = InboxWriter(home)
    write = os.write

    def interrupt(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:4])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.append([b"interrupted\n"])
    writer.append([b"whole\n"])
    writer.close()
    assert sealed_lines(home) == [b"whole"]
    assert quarantined(home) == []


def test_what_was_acknowledged_stays_so_when_sealing_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error here would make the caller remember it again, and have it twice."""
    writer = InboxWriter(home, max_segment_bytes=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        writer.append([b"one\n"])
        writer.append([b"two\n"])
        writer.close()
    assert sorted(sealed_lines(home)) == [b"one", b"two"]


def test_a_line_that_no_reader_would_take_is_refused_before_it_is_written(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([b"x" * MAX_LINE_BYTES + b"\n"])
    with pytest.raises(
        InvalidEventError, match=r"too long: 4,194,305 bytes as a line; the limit is 4,194,304"
    ):
        writer.append([b"fine\n", b"x" * (MAX_LINE_BYTES + 1) + b"\n"])
    assert [len(line) for line in sealed_lines(home)] == [MAX_LINE_BYTES]


def test_a_home_that_was_deleted_is_told_at_the_next_write(home: Home) -> None:
    writer = InboxWriter(home)
    home.loaded.rmdir()
    home.inbox.rmdir()
    with pytest.raises(StorageError, match="The memory was not stored"):
        writer.append([b"one\n"])


# --- the stations of a segment -------------------------------------------------------------------------


def test_moving_to_loaded_again_after_a_crash_does_the_rest(home: Home) -> None:
    segments = [home.inbox / f"{number}.jsonl" for number in range(3)]
    for segment in segments:
        segment.write_bytes(b"x\n")
    move_to_loaded(home, segments[:1], 7)
    move_to_loaded(home, segments, 7)
    assert sealed_segments(home) == []
    assert sorted(path.name for path in loaded_folder(home, 7).iterdir()) == ["0.jsonl", "1.jsonl", "2.jsonl"]


def test_only_segments_of_published_batches_are_retired(home: Home) -> None:
    for batch in (1, 2, 10):
        segment = home.inbox / f"{batch}.jsonl"
        segment.write_bytes(b"x\n")
        move_to_loaded(home, [segment], batch)
    assert retire_loaded(home, 2) == 2
    assert [path.name for path in home.loaded.iterdir()] == [f"{10:012d}"]
    assert retire_loaded(home, 2) == 0
    assert retire_loaded(home, 10) == 1


def test_segments_are_read_in_the_order_in_which_they_were_begun(home: Home) -> None:
    writers = [InboxWriter(home) for _ in range(5)]
    before = datetime.now(UTC)
    for number, writer in enumerate(writers):
        writer.append([b"%d\n" % number])
    for writer in reversed(writers):
        writer.close()
    assert sealed_lines(home) == [b"0", b"1", b"2", b"3", b"4"]
    stamps = [
        datetime.strptime(path.name[:21], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
        for path in sealed_segments(home)
    ]
    assert before <= stamps[0] <= stamps[-1] <= datetime.now(UTC)


@pytest.mark.parametrize("chunk_bytes", range(1, 40))
def test_a_segment_is_read_in_whole_lines_whatever_the_size_of_a_chunk(
    tmp_path: Path, chunk_bytes: int
) -> None:
    path = tmp_path / "a.jsonl"
    lines = [b"one\r\n", b"\n", b"\r\n", b" \n", b"five\n", b"six without an end"]
    path.write_bytes(b"".join(lines))
    chunks = list(iterate_chunks(path, chunk_bytes=chunk_bytes))
    assert b"".join(data for _, data in chunks) == path.read_bytes()
    for first_line, data in chunks:
        assert data.startswith(lines[first_line - 1])
        assert data.endswith((b"\n", lines[-1]))
