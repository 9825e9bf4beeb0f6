"""Opening what was published: the newest snapshot, read-only, and a sentence where it cannot be."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

import mnemoduck.warehouse
from mnemoduck.errors import NothingPublishedError, SnapshotError, StorageError
from mnemoduck.extensions import extension_path
from mnemoduck.home import Home, open_home
from mnemoduck.warehouse import ConnectionStatistics, Snapshot, SnapshotReader, check_database_file

MakeSnapshot = Callable[[int], Path]


@pytest.fixture
def reader(home: Home) -> Iterator[SnapshotReader]:
    opened = SnapshotReader(home)
    yield opened
    opened.close()


def count_notes(snapshot: Snapshot) -> int:
    row = snapshot.cursor().execute("select count(*) from notes").fetchone()
    assert row is not None
    return int(row[0])


def replace_by_another_database(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table not_ours (i int)")


def test_before_the_first_publication_there_is_an_empty_snapshot(reader: SnapshotReader) -> None:
    snapshot = reader.get()
    assert snapshot.path is None
    assert snapshot.batch_seq == 0
    assert snapshot.cursor().execute("select stem('running', 'porter')").fetchall() == [("run",)]
    with pytest.raises(NothingPublishedError, match=r"Nothing has been published .* `mnemoduck run`"):
        reader.get_published()


def test_a_snapshot_is_opened_once_and_again_when_current_names_another(
    reader: SnapshotReader, make_snapshot: MakeSnapshot
) -> None:
    nothing = reader.get()
    path = make_snapshot(1)
    first = reader.get()
    assert first is not nothing
    assert first.path == path
    assert first.batch_seq == 1
    assert count_notes(first) == 10
    assert reader.get() is first
    make_snapshot(2)
    assert reader.get().batch_seq == 2
    assert count_notes(first) == 10, "a query that still works on the old one is not disturbed"


def test_a_snapshot_that_is_pruned_just_before_it_is_opened_is_followed_by_the_newer_one(
    reader: SnapshotReader, make_snapshot: MakeSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_snapshot(1), make_snapshot(2)
    old.unlink()
    names = iter([old, new])
    monkeypatch.setattr(mnemoduck.warehouse, "current_snapshot", lambda _: next(names))
    assert reader.get().path == new


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database" * 1000),
        lambda path: os.truncate(path, 5000),
        replace_by_another_database,
    ],
)
def test_a_damaged_snapshot_is_named_with_what_to_do(
    reader: SnapshotReader, make_snapshot: MakeSnapshot, damage: Callable[[Path], object]
) -> None:
    path = make_snapshot(1)
    damage(path)
    for _ in range(2):
        with pytest.raises(SnapshotError) as refusal:
            reader.get()
        assert f"The published snapshot {path} cannot be opened" in str(refusal.value)
        assert "Delete that file and run `mnemoduck run`" in str(refusal.value)
        assert "\n" not in str(refusal.value)
    make_snapshot(2)
    assert reader.get().batch_seq == 2, "a good one is opened afterwards"


def test_a_snapshot_opens_whatever_the_path_of_its_home(
    tmp_path: Path, home: Home, make_snapshot: MakeSnapshot
) -> None:
    make_snapshot(1)
    moved = open_home(home.path.rename(tmp_path / 'it\'s "mine"; drop — 日本'))
    reader = SnapshotReader(moved)
    assert count_notes(reader.get_published()) == 10
    reader.close()


def test_a_snapshot_is_not_written_to_and_not_locked(
    reader: SnapshotReader, make_snapshot: MakeSnapshot
) -> None:
    path = make_snapshot(1)
    before = path.read_bytes()
    snapshot = reader.get()
    with pytest.raises(duckdb.Error, match="read-only"):
        snapshot.cursor().execute("insert into notes values (11, 'x')")
    with duckdb.connect(str(path), read_only=True) as other:
        assert other.execute("select count(*) from notes").fetchall() == [(10,)]
    assert path.read_bytes() == before


def test_the_settings_of_other_connections_in_the_process_are_left_alone(
    reader: SnapshotReader, make_snapshot: MakeSnapshot, tmp_path: Path
) -> None:
    make_snapshot(1)
    reader.get()
    (tmp_path / "mine.csv").write_text("a\n1\n")
    with duckdb.connect() as mine:
        assert mine.execute("select * from read_csv(?)", [str(tmp_path / "mine.csv")]).fetchall() == [(1,)]
        mine.execute("set threads = 1")


def test_threads_get_the_same_snapshot_and_a_cursor_each(
    reader: SnapshotReader, make_snapshot: MakeSnapshot
) -> None:
    make_snapshot(1)
    barrier, got = threading.Barrier(8), []

    def get_together() -> None:
        barrier.wait()
        snapshot = reader.get()
        got.append((snapshot, count_notes(snapshot)))

    threads = [threading.Thread(target=get_together) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [count for _, count in got] == [10] * 8
    assert len({id(snapshot) for snapshot, _ in got}) == 1


def test_each_living_thread_keeps_a_cursor_and_those_that_answer_are_in_use(
    reader: SnapshotReader, make_snapshot: MakeSnapshot
) -> None:
    assert reader.connection_statistics == ConnectionStatistics()
    make_snapshot(1)
    snapshot = reader.get_published()
    both_ask, is_seen = threading.Barrier(3, timeout=60), threading.Event()

    def ask() -> None:
        with snapshot.asking() as cursor:
            cursor.execute("select count(*) from notes")
            both_ask.wait()
            is_seen.wait(60)
            assert cursor.fetchall() == [(10,)]
        with snapshot.asking() as again:
            assert again is cursor

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    both_ask.wait()
    assert reader.connection_statistics == ConnectionStatistics(open=2, in_use=2, most_in_use=2, made=2)
    is_seen.set()
    for thread in threads:
        thread.join()
    snapshot.cursor().execute("select 1").fetchall()
    with pytest.raises(duckdb.CatalogException), snapshot.asking() as cursor:
        cursor.execute("from nothing")
    found = reader.connection_statistics
    assert (found.in_use, found.most_in_use, found.made) == (0, 2, 4), "what fails is in use no more"
    assert found.open == 1, "the cursor of a thread goes with it"


def test_a_closed_reader_opens_again_when_it_is_asked(
    reader: SnapshotReader, make_snapshot: MakeSnapshot
) -> None:
    make_snapshot(1)
    reader.get()
    reader.close()
    reader.close()
    assert count_notes(reader.get()) == 10


@pytest.mark.parametrize(
    ("content", "is_damaged"),
    [
        (None, False),  # no file yet
        (b"", False),  # DuckDB makes a database of it
        (b"12345678DUCK" + b"\0" * 100, False),
        (b"not a database at all", True),
        (b"\0", True),
        (b"SQLite format 3\0" + b"\0" * 100, True),
    ],
)
def test_a_warehouse_file_that_is_no_database_is_told(
    tmp_path: Path, content: bytes | None, is_damaged: bool
) -> None:
    path = tmp_path / "warehouse.duckdb"
    if content is not None:
        path.write_bytes(content)
    if is_damaged:
        with pytest.raises(StorageError, match=r"is damaged: .*Move it away and run again.*nothing is lost"):
            check_database_file(path)
    else:
        check_database_file(path)


def test_a_folder_in_place_of_the_warehouse_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        check_database_file(tmp_path)


def test_a_real_database_is_not_taken_for_a_damaged_one(home: Home, make_snapshot: MakeSnapshot) -> None:
    check_database_file(make_snapshot(1))


def test_an_extension_that_is_missing_is_told_with_the_command_that_installs_it() -> None:
    from mnemoduck.errors import MnemoduckError

    with pytest.raises(MnemoduckError, match=rf"pip install duckdb-extension-nosuch=={duckdb.__version__}"):
        extension_path("nosuch")
    assert extension_path("fts").is_file()
