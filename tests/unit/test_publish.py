"""Publishing: readers see a whole tested copy, the old one or the new one, and never anything else."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

import mnemoduck.pipeline.publish
from mnemoduck.errors import StorageError
from mnemoduck.home import Home
from mnemoduck.inbox import FreshEvents, InboxWriter
from mnemoduck.pipeline.load import load_inbox
from mnemoduck.pipeline.publish import current_snapshot, fingerprint_build, publish

from .conftest import in_child


def build(home: Home, batch_seq: int) -> None:
    """Make the warehouse what a checkpointed build with so many batches would leave."""
    home.warehouse.unlink(missing_ok=True)
    with duckdb.connect(str(home.warehouse)) as connection:
        connection.execute("create schema staging")
        connection.execute(f"create table staging.raw_batches as select {batch_seq}::bigint as batch_seq")


def batch_in(snapshot: Path | None) -> int:
    assert snapshot is not None
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        row = connection.execute("select max(batch_seq) from staging.raw_batches").fetchone()
    assert row is not None
    return int(row[0])


def snapshots(home: Home) -> list[Path]:
    return sorted(home.published.glob("*.duckdb"))


def load_one_event(home: Home, events: list[Any]) -> None:
    writer = InboxWriter(home)
    writer.append([event.to_line() for event in events])
    writer.close()
    load_inbox(home)


def test_what_was_built_is_published_and_named_by_current(home: Home) -> None:
    build(home, 1)
    assert current_snapshot(home) is None
    said = publish(home, "aaaaaaaaaaaa", 1)
    snapshot = current_snapshot(home)
    assert snapshot is not None
    assert said == f"published: {snapshot.stem}"
    assert snapshots(home) == [snapshot]
    assert batch_in(snapshot) == 1
    assert snapshot.stat().st_mode & 0o077 == 0
    assert home.current.read_text() == f"{snapshot.name}\n"


def test_an_unchanged_build_is_not_copied_again(home: Home) -> None:
    build(home, 1)
    publish(home, "aaaaaaaaaaaa", 1)
    (snapshot,) = snapshots(home)
    written_at = snapshot.stat().st_mtime_ns
    assert publish(home, "aaaaaaaaaaaa", 1) == f"unchanged: {snapshot.stem}"
    assert snapshots(home) == [snapshot]
    assert snapshot.stat().st_mtime_ns == written_at


def test_an_unchanged_build_clears_up_after_a_publication_that_died_once_readers_were_told(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        build(home, number)
        publish(home, f"{number}" * 12, number)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    build(home, 3)
    with monkeypatch.context() as dying:
        dying.setattr(mnemoduck.pipeline.publish, "retire_loaded", die)
        with pytest.raises(KeyboardInterrupt):
            publish(home, "3" * 12, 3)
    assert len(snapshots(home)) == 3
    assert publish(home, "3" * 12, 3).startswith("unchanged: ")
    assert [batch_in(snapshot) for snapshot in snapshots(home)] == [2, 3]


def test_a_fingerprint_is_compared_whole(home: Home) -> None:
    build(home, 1)
    publish(home, "aaaaaaaaaaaa", 1)
    assert publish(home, "aaaa", 1).startswith("published: ")


def test_the_snapshot_before_is_kept_for_readers_and_older_ones_are_removed(home: Home) -> None:
    made = []
    for number in range(1, 5):
        build(home, number)
        publish(home, f"{number:012x}", number)
        made.append(current_snapshot(home))
    assert snapshots(home) == made[-2:]
    assert [batch_in(snapshot) for snapshot in snapshots(home)] == [3, 4]


def test_with_a_clock_that_was_set_back_readers_keep_the_snapshot_that_was_current(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of snapshots say when they were made, and are in no order then."""
    made: list[Path] = []
    for number, hour in enumerate((14, 15, 13, 13, 13, 16), start=1):
        clock = datetime(2026, 5, 1, hour, number, tzinfo=UTC)
        monkeypatch.setattr(
            mnemoduck.pipeline.publish,
            "datetime",
            type("Clock", (datetime,), {"now": classmethod(lambda _, zone, clock=clock: clock)}),
        )
        build(home, number)
        publish(home, f"{number:012x}", number)
        snapshot = current_snapshot(home)
        assert snapshot is not None
        made.append(snapshot)
        assert batch_in(snapshot) == number
        assert set(snapshots(home)) == set(made[-2:]), "the current one, and the one that was current before"


def test_a_reader_of_a_removed_snapshot_reads_on(home: Home) -> None:
    build(home, 1)
    publish(home, "1" * 12, 1)
    with duckdb.connect(str(current_snapshot(home)), read_only=True) as connection:
        for number in (2, 3, 4):
            build(home, number)
            publish(home, f"{number}" * 12, number)
        assert connection.execute("select batch_seq from staging.raw_batches").fetchall() == [(1,)]


def test_leftovers_of_a_publisher_that_died_are_removed(home: Home) -> None:
    (home.published / "20260101T000000000000Z-dead.tmp").write_bytes(b"half a copy")
    (home.published / "20260101T000000000000Z-dead.duckdb").write_bytes(b"a copy that was never named")
    for number in (1, 2):
        build(home, number)
        publish(home, f"{number:012x}", number)
    assert len(snapshots(home)) == 2
    assert not list(home.published.glob("*dead*"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(b"no database" * 1000), "does not open"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "does not open"),
        (lambda path: path.write_bytes(b""), "does not open|ends at another batch"),
        (lambda path: path.unlink(), "could not be written: .*No such file"),
        (lambda path: path.with_name(path.name + ".wal").write_bytes(b"x"), "was not checkpointed"),
    ],
)
def test_a_damaged_copy_is_refused_and_readers_stay_where_they_are(
    home: Home, damage: Callable[[Path], object], sentence: str
) -> None:
    build(home, 1)
    publish(home, "1" * 12, 1)
    good = current_snapshot(home)
    build(home, 2)
    damage(home.warehouse)
    with pytest.raises(StorageError, match=sentence):
        publish(home, "2" * 12, 2)
    assert current_snapshot(home) == good
    assert batch_in(good) == 1
    assert sorted(home.published.iterdir()) == sorted([home.current, *snapshots(home)])
    assert snapshots(home) == [good]


def test_a_copy_that_holds_another_batch_than_it_should_is_refused(home: Home) -> None:
    build(home, 1)
    with pytest.raises(StorageError, match="ends at another batch than 2"):
        publish(home, "1" * 12, 2)
    assert current_snapshot(home) is None
    assert list(home.published.iterdir()) == []


def test_segments_of_the_inbox_are_retired_when_readers_have_them_in_the_snapshot(home: Home) -> None:
    from mnemoduck.events import new_event

    first, second = (new_event("memory", {"content": text}) for text in ("first", "second"))
    load_one_event(home, [first])
    load_one_event(home, [second])
    build(home, 1)
    publish(home, "1" * 12, 1)
    assert FreshEvents(home).read(1)[0] == [second]
    assert [path.name for path in home.loaded.iterdir()] == [f"{2:012d}"]


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b".", b"..", b"../raw", b"missing.duckdb\n", b"\xff\xfe", b"home.json", b"/etc/passwd"],
)
def test_a_damaged_current_names_nothing_and_the_next_publication_mends_it(home: Home, text: bytes) -> None:
    build(home, 1)
    publish(home, "1" * 12, 1)
    home.current.write_bytes(text)
    assert current_snapshot(home) is None
    assert publish(home, "1" * 12, 1).startswith("published: ")
    assert batch_in(current_snapshot(home)) == 1


def test_a_snapshot_that_is_pruned_while_current_is_read_is_followed_by_the_newer_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing published is an answer that readers believe: they would have forgotten everything."""
    build(home, 1)
    publish(home, "1" * 12, 1)
    snapshot = current_snapshot(home)
    assert snapshot is not None
    answers = iter([b"20200101T000000000000Z-0.duckdb\n", b"20200102T000000000000Z-0.duckdb\n"])
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: next(answers, None) or read_bytes(path))
    assert current_snapshot(home) == snapshot


def test_current_never_leads_out_of_the_home(home: Home, tmp_path: Path) -> None:
    (tmp_path / "other.duckdb").write_bytes(b"")
    home.current.write_text("../../other.duckdb\n")
    assert current_snapshot(home) is None


CALLS = ("replace", "unlink", "rmdir", "chmod")


@pytest.mark.usefixtures("impatient_disk")
def test_a_publication_that_dies_at_any_step_leaves_the_old_or_the_new_build(
    home: Home, tmp_path: Path
) -> None:
    from mnemoduck.events import new_event

    events = [new_event("memory", {"content": text}) for text in ("first", "second")]
    load_one_event(home, [events[0]])
    build(home, 1)
    publish(home, "1" * 12, 1)
    load_one_event(home, [events[1]])
    build(home, 2)
    seen = set()
    for at_call in itertools.count():
        copy = Home(tmp_path / str(at_call))
        shutil.copytree(home.path, copy.path)

        def publish_and_die(copy: Home = copy, at_call: int = at_call) -> None:
            count = itertools.count()

            def wrap(name: str) -> Callable[..., Any]:
                call = getattr(os, name)

                def wrapped(*arguments: Any, **options: Any) -> Any:
                    if next(count) == at_call:
                        os._exit(9)
                    return call(*arguments, **options)

                return wrapped

            for name in CALLS:
                setattr(os, name, wrap(name))
            publish(copy, "2" * 12, 2)

        status = in_child(publish_and_die)
        assert status in (0, 9)
        batch = batch_in(current_snapshot(copy))
        seen.add(batch)
        # Each event is in the snapshot or in the inbox.
        assert FreshEvents(copy).read(batch)[0] == events[batch:]
        publish(copy, "2" * 12, 2)
        assert batch_in(current_snapshot(copy)) == 2
        assert not list(copy.published.glob("*.tmp"))
        assert not list(copy.loaded.iterdir())
        assert len(snapshots(copy)) == 2
        shutil.rmtree(copy.path)
        if status == 0:
            break
    assert at_call >= 5
    assert seen == {1, 2}


# --- the fingerprint -----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, text in {
        "models/staging/a.sql": "select 1",
        "models/staging/a.yml": "models: []",
        "models/staging/b.py": "pass",
        "macros/m.sql": "{% macro m() %}{% endmacro %}",
        "seeds/s.csv": "a\n1\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_same_build_has_the_same_fingerprint(project: Path, tmp_path: Path) -> None:
    one = fingerprint_build(project, "{}", 1)
    assert len(one) == 12
    assert int(one, 16) >= 0
    shutil.copytree(project, tmp_path / "copy")
    assert fingerprint_build(tmp_path / "copy", "{}", 1) == one


@pytest.mark.parametrize(
    "change",
    [
        lambda project: (project / "models/staging/a.sql").write_text("select 2"),
        lambda project: (project / "models/staging/a.sql").rename(project / "models/staging/c.sql"),
        lambda project: (project / "models/staging/a.sql").unlink(),
        lambda project: (project / "models/staging/new.sql").write_text(""),
        lambda project: (project / "models/staging/b.py").write_text("pass\n"),
        lambda project: (project / "macros/m.sql").write_text(""),
        lambda project: (project / "seeds/s.csv").write_text("a\n2\n"),
    ],
)
def test_a_change_of_the_code_changes_the_fingerprint(
    project: Path, change: Callable[[Path], object]
) -> None:
    before = fingerprint_build(project, "{}", 1)
    change(project)
    assert fingerprint_build(project, "{}", 1) != before


def test_events_and_settings_change_the_fingerprint_and_other_files_do_not(project: Path) -> None:
    before = fingerprint_build(project, "{}", 1)
    assert fingerprint_build(project, "{}", 2) != before
    assert fingerprint_build(project, '{"as_of": null}', 1) != before
    (project / "README.md").write_text("new")
    (project / "models/.DS_Store").write_bytes(b"\0")
    assert fingerprint_build(project, "{}", 1) == before
