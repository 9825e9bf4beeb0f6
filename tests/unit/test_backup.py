"""Backups: what was acknowledged is in them once, whatever happens meanwhile; nothing leads out of them."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck.backup import (
    back_up,
    capture,
    generation,
    list_backups,
    refresh_backup,
    restoration,
    restore_backup,
    store,
    verify_backup,
)
from mnemoduck.backup.generation import Generation, RowsSum, check_path, id_of
from mnemoduck.cli import cli
from mnemoduck.errors import HomeError, LockedError, MnemoduckError, StorageError, UsageError
from mnemoduck.events import new_event, parse_event
from mnemoduck.home import Home, create_file, open_home
from mnemoduck.inbox import InboxWriter, seal_open_segments
from mnemoduck.llm.cache import open_cache
from mnemoduck.pipeline import load
from mnemoduck.pipeline.load import load_inbox, newest_batch
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.publish import publish

from .conftest import StartPython, in_child
from .llm_cache_rows import make_response
from .test_publish import build

_fingerprints = (f"{number:012x}" for number in itertools.count())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


class Diary:
    """A home that events arrive in, numbered by their content."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.written = 0
        self._writer = InboxWriter(home)

    def write(self, count: int = 1) -> None:
        for _ in range(count):
            event = new_event("memory", {"content": f"number {self.written}"}, user_id="maya")
            self._writer.append([event.to_line()])
            self.written += 1

    def load(self) -> None:
        load_inbox(self.home)

    def publish(self) -> None:
        batch_seq = newest_batch(self.home)
        build(self.home, batch_seq)
        publish(self.home, next(_fingerprints), batch_seq)

    def merge(self) -> None:
        with mock.patch.object(load, "COMPACT_AT", 2):
            self.write()
            load_inbox(self.home)


@pytest.fixture
def diary(home: Home) -> Diary:
    return Diary(home)


def numbers_in(home: Home) -> Counter[int]:
    """Return how often each number is there once a home has loaded what waits."""
    load_inbox(home)
    files = [str(home.raw / file.path) for batch in load.read_manifest(home) for file in batch.files]
    if not files:
        return Counter()
    rows = duckdb.execute(
        "select payload ->> 'content' from read_parquet($files, hive_partitioning = false)", {"files": files}
    ).fetchall()
    return Counter(int(content.split()[1]) for (content,) in rows)


def restored(target: Path, generation_id: str | None = None) -> Home:
    folder = target.with_name(f"restored-{next(_fingerprints)}")
    restore_backup(target, folder, generation_id)
    return open_home(folder, create=False)


def all_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def object_bytes(target: Path) -> int:
    return sum(path.stat().st_size for path in (target / "objects").rglob("*") if path.is_file())


def test_a_restored_home_holds_what_the_home_held(diary: Diary, target: Path) -> None:
    diary.write(3)
    diary.load()
    diary.publish()
    diary.write(2)
    (diary.home.path / "mnemoduck.toml").write_text('[run]\nllm = "off"\n')
    (diary.home.path / "kept_by_a_later_release").mkdir()
    (diary.home.path / "kept_by_a_later_release" / "ledger").write_bytes(b"what it keeps")
    done = back_up(diary.home, target)
    assert (done.generation.events.rows, done.generation.waiting_events) == (3, 2)
    before = all_files(diary.home.path)
    home = restored(target)
    after = all_files(home.path)
    assert numbers_in(home) == Counter(range(5))
    for path in (
        "raw/batches.jsonl",
        "mnemoduck.toml",
        "kept_by_a_later_release/ledger",
        "published/CURRENT",
    ):
        assert after[path] == before[path]
    assert after["warehouse.duckdb"] == before[f"published/{before['published/CURRENT'].decode().strip()}"]
    assert json.loads(after["home.json"])["restored_from"]["backup"] == done.generation_id


def test_folders_are_0700_and_files_0600_in_the_target_and_in_the_restored_home(
    diary: Diary, target: Path
) -> None:
    umask = os.umask(0)
    try:
        diary.write()
        diary.load()
        diary.publish()
        back_up(diary.home, target)
        home = restored(target)
    finally:
        os.umask(umask)
    for folder in (target, home.path):
        for path in (folder, *folder.rglob("*")):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


STEPS = ("_read_inbox", "_read_snapshot", "_read_cache", "_read_raw", "_put_segments", "_read_others")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("events", ["load publish load publish", "load publish merge", "merge"])
@pytest.mark.usefixtures("impatient_disk")
def test_what_was_acknowledged_is_in_a_backup_once_whatever_the_pipeline_does_between_its_steps(
    diary: Diary, target: Path, step: str, events: str
) -> None:
    for _ in range(2):
        diary.write(2)
        diary.load()
    diary.publish()
    diary.write(2)
    diary.load()
    diary.write(2)
    acknowledged = diary.written
    real: Callable[..., Any] = getattr(capture._Capture, step)

    def meanwhile(self: Any, *arguments: Any) -> Any:
        for event in events.split():
            diary.write()
            getattr(diary, event)()
        diary.write()
        return real(self, *arguments)

    with mock.patch.object(capture._Capture, step, meanwhile):
        done = back_up(diary.home, target)
    home = restored(target)
    found = numbers_in(home)
    assert set(found.values()) == {1}
    assert set(range(acknowledged)) <= set(found)
    assert sum(found.values()) == done.generation.events.rows + done.generation.waiting_events
    assert done.generation.snapshot_batch_seq <= done.generation.batch_seq
    assert numbers_in(diary.home) == Counter(range(diary.written))


@pytest.mark.parametrize("moves", ["seal", "load", "load publish"])
def test_a_segment_that_moves_between_being_listed_and_being_read_is_found_where_it_went(
    diary: Diary, target: Path, moves: str
) -> None:
    diary.write(3)
    real = capture._Capture._list_segments

    def list_and_move(self: Any) -> dict[str, Path]:
        found = real(self)
        if not has_moved:
            has_moved.append(True)
            if moves == "seal":
                seal_open_segments(diary.home)
            else:
                for move in moves.split():
                    getattr(diary, move)()
        return found

    has_moved: list[bool] = []
    with mock.patch.object(capture._Capture, "_list_segments", list_and_move):
        back_up(diary.home, target)
    assert numbers_in(restored(target)) == Counter(range(3))


def test_what_was_loaded_and_not_published_is_fresh_in_the_restored_home(diary: Diary, target: Path) -> None:
    diary.write(2)
    diary.load()
    diary.publish()
    diary.write(3)
    diary.load()
    diary.write(1)
    back_up(diary.home, target)
    home = restored(target)
    lines = [line for path in home.inbox.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    contents = sorted(str(parse_event(line).payload["content"]) for line in lines)
    assert contents == ["number 2", "number 3", "number 4", "number 5"]
    assert numbers_in(home) == Counter(range(6))


def test_a_torn_last_line_of_a_writer_that_died_is_not_taken(diary: Diary, target: Path) -> None:
    diary.write(2)
    (segment,) = diary.home.inbox.glob("*.open")
    with segment.open("ab") as file:
        file.write(b'{"event_id":"torn')
    back_up(diary.home, target)
    home = restored(target)
    assert numbers_in(home) == Counter(range(2))
    assert list(home.quarantine.iterdir()) == []


WRITE_AND_LOAD = """
import sys
from pathlib import Path
from tests.unit.test_backup import Diary
from mnemoduck.home import open_home

diary = Diary(open_home(Path(sys.argv[1])))
while True:
    diary.write(7)
    print(diary.written, flush=True)
    diary.load()
    if diary.written % 3 == 0:
        diary.publish()
    if diary.written % 5 == 0:
        diary.merge()
"""


def test_backups_beside_a_process_that_writes_loads_publishes_and_merges_lose_and_double_nothing(
    home: Home, target: Path, start_python: StartPython
) -> None:
    process = start_python(WRITE_AND_LOAD, home.path)
    assert process.stdout is not None
    acknowledged = 0

    def listen() -> None:
        nonlocal acknowledged
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged = int(line)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        while acknowledged == 0:
            assert process.poll() is None
            time.sleep(0.01)
        for _ in range(8):
            known = acknowledged
            back_up(home, target)
            found = numbers_in(restored(target))
            assert set(found.values()) == {1}
            assert set(range(known)) <= set(found)
            assert set(found) == set(range(len(found)))
    finally:
        process.kill()
        process.wait()
        listener.join()


def test_a_backup_writes_what_is_new_and_shares_the_rest(diary: Diary, target: Path) -> None:
    diary.write(500)
    diary.load()
    (diary.home.path / "large").write_bytes(random.Random(1).randbytes(3 * generation.PIECE_BYTES + 5))
    first = back_up(diary.home, target)
    assert first.new_bytes == object_bytes(target) > 3 * generation.PIECE_BYTES
    second = back_up(diary.home, target)
    assert (second.new_bytes, object_bytes(target)) == (0, first.new_bytes)
    diary.write(1)
    diary.load()
    third = back_up(diary.home, target)
    assert 0 < third.new_bytes < first.new_bytes / 100
    assert object_bytes(target) == first.new_bytes + third.new_bytes
    with (diary.home.path / "large").open("r+b") as file:
        file.seek(generation.PIECE_BYTES + 7)
        file.write(b"changed")
    fourth = back_up(diary.home, target)
    assert fourth.new_bytes == generation.PIECE_BYTES
    for done, events in ((first, 500), (second, 500), (third, 501), (fourth, 501)):
        assert len(numbers_in(restored(target, done.generation_id))) == events


def test_files_that_are_as_they_were_are_not_read_again(diary: Diary, target: Path) -> None:
    diary.write(3)
    diary.load()
    diary.publish()
    with mock.patch.object(capture, "RACY_NS", 0):
        back_up(diary.home, target)
        read: list[str] = []
        back_up(diary.home, target, on_file=read.append)
        assert read == []
        (raw,) = diary.home.raw.rglob("*.parquet")
        os.utime(raw, ns=(1, raw.stat().st_mtime_ns))  # only its ctime tells
        back_up(diary.home, target, on_file=read.append)
    assert read == [str(raw.relative_to(diary.home.path))]


def test_a_piece_that_is_gone_from_the_target_is_written_again(diary: Diary, target: Path) -> None:
    diary.write(3)
    diary.load()
    back_up(diary.home, target)
    for piece in list((target / "objects").rglob("*/*")):
        piece.unlink()
    with pytest.raises(StorageError, match=r"pieces of .* files are missing"):
        restored(target)
    back_up(diary.home, target)
    assert numbers_in(restored(target)) == Counter(range(3))


def back_up_notes(diary: Diary, target: Path, count: int) -> list[str]:
    """Make backups, each of another note of 50,000 bytes; return their ids."""
    ids = []
    for number in range(count):
        (diary.home.path / "note").write_bytes(random.Random(number).randbytes(50_000))
        ids.append(back_up(diary.home, target).generation_id)
    return ids


def test_only_so_many_backups_are_kept_as_is_said_and_what_only_the_others_named_goes(
    diary: Diary, target: Path
) -> None:
    ids = back_up_notes(diary, target, 4)
    done = back_up(diary.home, target, keep=2)
    assert done.removed == tuple(ids[:3])
    assert done.freed_bytes >= 150_000
    assert list(list_backups(target)) == [ids[3], done.generation_id]
    for generation_id in (ids[3], done.generation_id):
        assert (restored(target, generation_id).path / "note").read_bytes() == random.Random(3).randbytes(
            50_000
        )


def test_with_a_damaged_list_backups_are_made_and_say_that_nothing_is_given_back(
    diary: Diary, target: Path
) -> None:
    ids = back_up_notes(diary, target, 3)
    damaged = target / "generations" / f"{ids[1]}.json"
    damaged.write_bytes(damaged.read_bytes()[:100])
    told = run("backup", target, "--keep", "3", "--home", diary.home.path).output
    assert "Removed 1 earlier backups" in told
    assert f"nothing was given back of what earlier ones had: The backup {ids[1]}" in told
    assert back_up(diary.home, target).not_freed is None  # it was not asked to remove anything
    damaged.unlink(missing_ok=True)
    done = back_up(diary.home, target, keep=1)
    assert (done.not_freed, done.freed_bytes > 0) == (None, True)
    assert (restored(target).path / "note").read_bytes() == random.Random(2).randbytes(50_000)


def test_a_backup_that_is_killed_leaves_no_generation_and_is_cleaned_by_the_next(
    diary: Diary, target: Path
) -> None:
    diary.write(3)
    diary.load()
    back_up(diary.home, target)
    chance = random.Random(1)
    killed = 0
    for number in range(6):
        (diary.home.path / "large").write_bytes(chance.randbytes(40 * generation.PIECE_BYTES))

        def back_up_until_killed(seconds: float = chance.random() * 0.2) -> None:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, seconds)
            back_up(diary.home, target)

        killed += in_child(back_up_until_killed) == -signal.SIGKILL
        assert all(isinstance(one, Generation) for one in list_backups(target).values()), number
    assert killed > 0
    (diary.home.path / "large").unlink()
    done = back_up(diary.home, target, keep=1)
    assert sorted(path.name for path in target.iterdir()) == [
        "generations", "lock", "mnemoduck-backup.json", "objects",
    ]  # fmt: skip
    named = done.generation.pieces
    assert {path.name for path in (target / "objects").glob("*/*")} == named
    assert numbers_in(restored(target)) == Counter(range(3))


def test_on_a_full_disk_a_backup_fails_takes_back_what_it_wrote_and_leaves_the_others_whole(
    diary: Diary, target: Path
) -> None:
    diary.write(3)
    diary.load()
    before = back_up(diary.home, target)
    size = object_bytes(target)
    (diary.home.path / "large").write_bytes(random.Random(1).randbytes(5 * generation.PIECE_BYTES))
    real, pieces = create_file, itertools.count()

    def refuse(path: Path) -> Any:
        if next(pieces) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path)

    with (
        mock.patch.object(store, "create_file", refuse),
        pytest.raises(StorageError, match=r"disk of the backup folder .* is full.*Earlier backups are whole"),
    ):
        back_up(diary.home, target)
    assert object_bytes(target) == size
    assert list(list_backups(target)) == [before.generation_id]
    assert back_up(diary.home, target).cleaned


def test_a_target_that_cannot_be_one_is_refused_and_left_as_it_is(
    diary: Diary, tmp_path: Path, target: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    others = tmp_path / "others"
    others.mkdir()
    (others / "letter.txt").write_text("mine")
    inside = diary.home.path / "backups"
    link = tmp_path / "link"
    link.symlink_to(diary.home.path)
    for place, says in (
        (file, "is a file"),
        (file / "below", "cannot be used"),
        (others, "holds other things .*letter"),
        (inside, "lies in the home"),
        (link / "backups", "lies in the home"),
        (diary.home.path, "lies in the home"),
        (tmp_path, "lies in the backup folder"),
    ):
        with pytest.raises(UsageError, match=says):
            back_up(diary.home, place)
    assert all_files(others) == {"letter.txt": b"mine"}
    assert not inside.exists()
    back_up(diary.home, target)
    with pytest.raises(UsageError, match="backups of another home"):
        back_up(open_home(tmp_path / "another"), target)
    with pytest.raises(UsageError, match="There is no backup at"):
        list_backups(others)


def test_two_backups_to_one_target_at_once_are_not_made(diary: Diary, target: Path) -> None:
    back_up(diary.home, target)
    with store.create_store(target, None).changing():
        with pytest.raises(LockedError, match=r"Another backup .* is at work .*: process \d+ .* since 20"):
            back_up(diary.home, target)
        with pytest.raises(LockedError, match="A backup is at work"):
            restored(target)


def test_no_byte_of_earlier_backups_is_left_after_a_refresh(diary: Diary, target: Path) -> None:
    secret = diary.home.path / "quarantine" / "secret.jsonl"
    secret.write_bytes(b"MARKER-7f3a\n")
    back_up(diary.home, target)
    secret.unlink()
    back_up(diary.home, target)
    assert any(b"MARKER-7f3a" in data for data in all_files(target).values())
    (target / "generations" / "000009-0123456789ab.json").write_text("damaged")
    diary.write(2)
    done = refresh_backup(diary.home, target)
    assert list(list_backups(target)) == [done.generation_id]
    assert not any(b"MARKER-7f3a" in data for data in all_files(target).values())
    assert {path.name for path in (target / "objects").glob("*/*")} == done.generation.pieces
    assert numbers_in(restored(target)) == Counter(range(2))


def test_a_refresh_that_dies_in_the_middle_is_finished_by_the_next_backup(diary: Diary, target: Path) -> None:
    secret = diary.home.path / "quarantine" / "secret.jsonl"
    secret.write_bytes(b"MARKER-7f3a\n")
    back_up(diary.home, target)
    secret.unlink()

    def die() -> None:
        def kill_this(_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        with mock.patch.object(store.BackupStore, "remove_unnamed", kill_this):
            refresh_backup(diary.home, target)

    assert in_child(die) == -signal.SIGKILL
    broken = OSError(errno.EIO, "broken", "disk")
    with (
        mock.patch.object(capture._Capture, "run", side_effect=broken),
        pytest.raises(StorageError, match="could not be written"),
    ):
        back_up(diary.home, target)
    assert not any(b"MARKER-7f3a" in data for data in all_files(target).values())
    assert len(list_backups(target)) == 1


def test_a_restore_into_what_is_not_empty_is_refused_and_changes_nothing(
    diary: Diary, tmp_path: Path, target: Path
) -> None:
    diary.write()
    back_up(diary.home, target)
    others = tmp_path / "others"
    others.mkdir()
    (others / "letter.txt").write_text("mine")
    before = all_files(diary.home.path)
    for place, says in (
        (others, "holds other files"),
        (diary.home.path, "is a home already"),
        (target / "home", "lie in each other"),
        (tmp_path, "lie in each other"),
        (others / "letter.txt", "is a file"),
    ):
        with pytest.raises(UsageError, match=says):
            restore_backup(target, place)
    assert all_files(others) == {"letter.txt": b"mine"}
    assert all_files(diary.home.path) == before


def test_a_restore_that_dies_leaves_no_home_and_goes_on_when_it_is_said_again(
    diary: Diary, tmp_path: Path, target: Path
) -> None:
    diary.write(3)
    diary.load()
    diary.publish()
    first = back_up(diary.home, target)
    diary.write(1)
    back_up(diary.home, target)
    folder = tmp_path / "restored"
    real = restoration._put
    for after in range(len(first.generation.files) + 1):
        done = itertools.count()

        def put_or_die(*arguments: Any, after: int = after, done: Any = done) -> bool:
            if next(done) == after:
                (folder / f"half{restoration._ASIDE}").write_text("what was being written")
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        def restore_and_die(put: Any = put_or_die) -> None:
            with mock.patch.object(restoration, "_put", put):
                restore_backup(target, folder, first.generation_id)

        if in_child(restore_and_die) == 0:
            break
        with pytest.raises(HomeError, match="no home yet: a backup is being restored"):
            open_home(folder)
        with pytest.raises(HomeError, match="restore of another backup"):
            restore_backup(target, folder)
    assert after > 3
    with pytest.raises(HomeError, match="is a home already"):
        restore_backup(target, folder, first.generation_id)
    assert not list(folder.rglob(f"*{restoration._ASIDE}"))
    assert numbers_in(open_home(folder, create=False)) == Counter(range(3))


def test_what_an_attempt_had_restored_is_looked_at_again_by_its_digest(
    diary: Diary, tmp_path: Path, target: Path
) -> None:
    diary.write(3)
    diary.load()
    back_up(diary.home, target)
    folder = tmp_path / "restored"
    with (
        mock.patch.object(os, "rename", side_effect=OSError(errno.EIO, "broken", "disk")),
        pytest.raises(StorageError, match="goes on where it stopped"),
    ):
        restore_backup(target, folder)
    (folder / "raw" / "batches.jsonl").write_text("damaged meanwhile")
    done = restore_backup(target, folder)
    assert 0 < done.kept == done.files - 2
    assert numbers_in(open_home(folder, create=False)) == Counter(range(3))


def rewrite(target: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Change what the newest generation says, as who forges one would: its digest fits."""
    (path,) = (target / "generations").glob("*.json")
    said = json.loads(path.read_text())
    change(said)
    text = json.dumps(said)
    generation_id = id_of(said["number"], text)
    path.unlink()
    (path.parent / f"{generation_id}.json").write_text(text)
    return generation_id


@pytest.mark.parametrize(
    "path",
    [
        "../evil", "/etc/evil", "raw/../../evil", "raw//evil", "./evil", "raw/.", "..", "", "raw\\evil",
        "a\nb", "raw/batches.jsonl/evil", "mnemoduck.toml", "restoring.json", "home.json.evil",
        "x/" * 600 + "y",
    ],
)  # fmt: skip
def test_a_backup_that_names_a_path_outside_or_twice_is_refused_before_anything_is_written(
    diary: Diary, tmp_path: Path, target: Path, path: str
) -> None:
    diary.write()
    diary.load()
    (diary.home.path / "mnemoduck.toml").write_text("")
    back_up(diary.home, target)

    def forge(said: dict[str, Any]) -> None:
        said["files"].append({**said["files"][0], "path": path})

    rewrite(target, forge)
    before = {str(one) for one in tmp_path.rglob("*")}
    with pytest.raises(StorageError):
        restore_backup(target, tmp_path / "restored")
    assert {str(one) for one in tmp_path.rglob("*")} == before


@given(st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "a", "/", "", "\\", "~"])).map("/".join))
def test_no_path_that_is_taken_leads_out_of_the_home(path: str) -> None:
    try:
        taken = check_path(path)
    except ValueError:
        return
    home = Path("/home/of/maya")
    assert Path(os.path.normpath(home / taken)).parts[:4] == home.parts
    assert os.path.normpath(home / taken) != str(home)


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(layout_version=99),
        lambda said: said.update(format_version=2),
        lambda said: said["files"][0].update(pieces=["../../../../etc/passwd"]),
        lambda said: said["files"][0].update(pieces=[]),
        lambda said: said["files"][0].update(size=-1),
        lambda said: said["files"][0].update(size=10**15),
        lambda said: said["files"][0].update(sha256="0" * 64),
        lambda said: said.update(files=[one for one in said["files"] if one["path"] != "home.json"]),
        lambda said: said.update(number=0),
        lambda said: said.update(surprise=1),
        lambda said: said.clear(),
    ],
)
def test_a_backup_that_says_what_none_does_is_refused(
    diary: Diary, tmp_path: Path, target: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    diary.write()
    diary.load()
    back_up(diary.home, target)
    if change.__code__.co_names == ("clear",):
        (path,) = (target / "generations").glob("*.json")
        path.write_text("{}")
    else:
        try:
            rewrite(target, change)
        except ValueError:  # pragma: no cover
            pytest.fail("the forged text has no name")
    with pytest.raises(MnemoduckError):
        restore_backup(target, tmp_path / "restored")
    assert not (tmp_path / "restored" / "home.json").exists()


def test_a_generation_whose_text_was_changed_shows_by_its_name(diary: Diary, target: Path) -> None:
    diary.write()
    done = back_up(diary.home, target)
    path = target / "generations" / f"{done.generation_id}.json"
    path.write_text(path.read_text().replace('"waiting_events":1', '"waiting_events":2'))
    with pytest.raises(StorageError, match="was changed since it was made"):
        restored(target)
    assert "was changed" in str(list_backups(target)[done.generation_id])
    assert back_up(diary.home, target).generation.number == 2


def test_a_piece_that_is_a_symbolic_link_or_has_other_bytes_is_not_restored(
    diary: Diary, tmp_path: Path, target: Path
) -> None:
    diary.write(2)
    diary.load()
    done = back_up(diary.home, target)
    stored = next(file for file in done.generation.files if file.path.startswith("raw/year="))
    piece = target / "objects" / stored.pieces[0][:2] / stored.pieces[0]
    data = piece.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(data)
    piece.unlink()
    piece.symlink_to(elsewhere)
    with pytest.raises(StorageError, match="damaged"):
        restore_backup(target, tmp_path / "one")
    piece.unlink()
    piece.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(StorageError, match="is not what was written"):
        restore_backup(target, tmp_path / "two")
    with pytest.raises(HomeError, match="no home yet"):
        open_home(tmp_path / "two")
    with pytest.raises(StorageError, match="is not what was written"):
        verify_backup(target, tmp_path / "three")
    piece.unlink()
    back_up(diary.home, target)
    assert verify_backup(target, tmp_path / "four").events.rows == 2


def test_symbolic_links_in_a_home_are_not_followed_and_are_told(
    diary: Diary, tmp_path: Path, target: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("not of the home")
    (diary.home.path / "link").symlink_to(outside)
    done = back_up(diary.home, target)
    assert done.skipped == (str(diary.home.path / "link"),)
    assert not any(b"not of the home" in data for data in all_files(target).values())


def test_verifying_reads_everything_and_says_what_there_is(
    diary: Diary, tmp_path: Path, target: Path
) -> None:
    diary.write(3)
    diary.load()
    diary.publish()
    diary.write(2)
    with open_cache(diary.home) as cache:
        cache.store_responses([make_response("one"), make_response("two")])
    done = back_up(diary.home, target)
    verified = verify_backup(target, tmp_path / "scratch")
    assert verified.events == done.generation.events
    assert (verified.waiting_events, verified.answers) == (2, 2)
    assert verified.tables == {"staging.raw_batches": 1}


def test_a_backup_whose_sum_of_events_is_another_is_told(diary: Diary, tmp_path: Path, target: Path) -> None:
    diary.write(3)
    diary.load()
    back_up(diary.home, target)
    rewrite(target, lambda said: said["events"].update(checksum="f" * 32))
    with pytest.raises(StorageError, match="holds 3 events with the checksum"):
        verify_backup(target, tmp_path / "scratch")


def test_the_sum_over_events_does_not_depend_on_their_order_or_files(diary: Diary) -> None:
    for _ in range(3):
        diary.write(4)
        diary.load()
    files = sorted(diary.home.raw.rglob("*.parquet"))
    whole = capture.sum_events(files)
    parts = RowsSum()
    for file in reversed(files):
        parts += capture.sum_events([file])
    assert whole == parts
    assert whole.rows == 12
    assert capture.sum_events(files[:2] + files[:1]) != whole


CHANGE_CACHE = """
import sys, time
from pathlib import Path
from mnemoduck.home import open_home
from mnemoduck.llm.cache import open_cache
from tests.unit.llm_cache_rows import make_response

with open_cache(open_home(Path(sys.argv[1]))) as cache:
    number = 0
    while True:
        cache.store_responses([make_response(f"text {number + one}") for one in range(25)])
        number += 25
        print(number, flush=True)
        if number % 200 == 0:
            cache._cursor.execute("checkpoint")
        time.sleep(0.005)
"""


def test_the_cache_is_read_beside_the_process_that_has_it_open(
    home: Home, target: Path, start_python: StartPython
) -> None:
    process = start_python(CHANGE_CACHE, home.path)
    assert process.stdout is not None
    stored = 0

    def listen() -> None:
        nonlocal stored
        assert process.stdout is not None
        for line in process.stdout:
            stored = int(line)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        while stored == 0:
            assert process.poll() is None
            time.sleep(0.01)
        for _ in range(6):
            known = stored
            back_up(home, target)
            with open_cache(restored(target)) as cache:
                found = cache.stats().entries
                assert cache.verify().fault_count == 0
            assert known <= found <= stored + 50
            assert found % 25 == 0  # what was stored together is there together
    finally:
        process.kill()
        process.wait()
        listener.join()


def test_a_cache_that_a_crash_left_in_the_middle_of_a_checkpoint_is_read_under_the_run_lock(
    home: Home, target: Path
) -> None:
    with open_cache(home) as cache:
        cache.store_responses([make_response("one")])
    home.llm_cache.with_name(f"{home.llm_cache.name}.wal.checkpoint").touch()
    with mock.patch("time.sleep"):
        with RunLock(home), pytest.raises(LockedError, match="Another run is at work"):
            back_up(home, target, wait_seconds=0)
        with RunLock(home):
            done = back_up(home, target, is_locked=True)
        again = back_up(home, target, wait_seconds=0)
    for one in (done, again):
        assert one.generation.file("llm_cache.duckdb.wal.checkpoint") is not None


def test_a_raw_file_that_is_missing_for_good_is_told(diary: Diary, target: Path) -> None:
    diary.write()
    diary.load()
    (raw,) = diary.home.raw.rglob("*.parquet")
    raw.unlink()
    with pytest.raises(StorageError, match=r"A raw file is missing that the manifest names: .*batch"):
        back_up(diary.home, target)
    assert list_backups(target) == {}


def test_without_the_snapshot_a_restored_home_has_only_what_everything_is_built_from(
    diary: Diary, target: Path
) -> None:
    diary.write(3)
    diary.load()
    diary.publish()
    diary.write()
    done = back_up(diary.home, target, with_snapshot=False)
    assert done.generation.snapshot is None
    home = restored(target)
    assert not home.current.exists()
    assert not home.warehouse.exists()
    assert numbers_in(home) == Counter(range(4))


def test_a_home_of_a_later_layout_is_not_backed_up(home: Home, target: Path) -> None:
    home.marker.write_text('{"layout_version": 99}')
    with pytest.raises(HomeError, match="layout version 99"):
        back_up(home, target)
    assert not target.exists()


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=True)


def test_the_commands_say_what_they_did(diary: Diary, tmp_path: Path, target: Path) -> None:
    diary.write(3)
    diary.load()
    home = ["--home", diary.home.path]
    done = run("backup", target, *home)
    assert "Backed up 3 events and 0 waiting as 000001-" in done.output
    told = json.loads(run("backup", target, "--json", *home).output)
    assert (told["events"], told["new_bytes"]) == (3, 0)
    listed = json.loads(run("backup", target, "--list", "--json").output)
    assert [one["number"] for one in listed] == [1, 2]
    assert "000002-" in run("backup", target, "--list").output
    assert "is whole: 3 events with the checksum" in run("backup", target, "--verify").output
    verified = json.loads(
        run("backup", target, "--verify", "--json", "--generation", told["generation"]).output
    )
    assert verified["events_checksum"] == told["events_checksum"]
    done = run("restore", target, "--home", tmp_path / "restored", "--generation", listed[0]["generation"])
    assert "3 events loaded and 0 waiting" in done.output
    assert "`mnemoduck run` builds it from raw/" in done.output
    assert numbers_in(open_home(tmp_path / "restored", create=False)) == Counter(range(3))


def test_commands_that_contradict_themselves_are_refused(diary: Diary, target: Path) -> None:
    home = ["--home", diary.home.path]
    for arguments, says in (
        (["backup", *home], "Say where to"),
        (["backup", target, "--list", "--verify"], "two commands"),
        (["backup", target, "--list", "--keep", "2"], "about making a backup"),
        (["backup", target, "--generation", "x", *home], "goes with --verify"),
        (["backup", target, "--list"], "There is no backup at"),
        (["restore", target, "--home", target / "x"], "There is no backup at"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, UsageError), done.output
        assert says in str(done.exception)
    for command in ("backup", "restore"):
        done = run(command, "", *home)
        assert done.exit_code == 2
        assert "its name is empty" in done.output
    assert not target.exists()


def test_the_target_that_is_set_is_used_where_none_is_named(diary: Diary, target: Path) -> None:
    run("settings", "set", "backup.target", target, "--home", diary.home.path)
    diary.write()
    assert "Backed up 0 events and 1 waiting" in run("backup", "--home", diary.home.path).output
    assert len(list_backups(target)) == 1


def test_an_unknown_backup_is_told_with_those_there_are(diary: Diary, target: Path) -> None:
    done = back_up(diary.home, target)
    with pytest.raises(UsageError, match=f"has no backup '../x'.*{done.generation_id}"):
        restore_backup(target, target.with_name("restored"), "../x")
    with pytest.raises(UsageError, match="has no backup ''"):  # a variable that is not set is not the newest
        restore_backup(target, target.with_name("restored"), "")


def test_half_a_line_that_is_being_appended_is_left_out_and_a_last_line_without_an_end_is_not(
    diary: Diary, target: Path
) -> None:
    old, new = diary.home.path / "old.jsonl", diary.home.path / "new.jsonl"
    for path in (old, new):
        path.write_bytes(b'{"whole":1}\n{"half"')
    os.utime(old, (1, 1))
    back_up(diary.home, target)
    home = restored(target)
    assert (home.path / "old.jsonl").read_bytes() == b'{"whole":1}\n{"half"'
    assert (home.path / "new.jsonl").read_bytes() == b'{"whole":1}\n'
