"""Upgrades: a step is made as a whole or not at all, and nobody uses a home in between."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pytest
from click.testing import CliRunner

from mnemoduck import __version__, migrations
from mnemoduck import home as homes
from mnemoduck.backup import restore_backup
from mnemoduck.cli import cli
from mnemoduck.doctor import Patient, examine
from mnemoduck.errors import HomeError, LockedError, SnapshotError, StorageError, UsageError
from mnemoduck.home import Home, open_home
from mnemoduck.migrations import MIGRATIONS, Journal, Migration, upgrade_home, warehouse
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.warehouse import SnapshotReader

from .conftest import in_child, write_snapshot


def split_quarantine(home: Home, journal: Journal) -> None:
    """A made-up step: files of quarantine go into a folder for each of their first letters."""
    for path in sorted(home.quarantine.glob("*.jsonl")):
        place = home.quarantine / path.name[0] / path.name
        journal.make(place)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        place.write_bytes(path.read_bytes())
        journal.keep(path)
        path.unlink()
    journal.keep(home.manifest)
    home.manifest.write_bytes(b"#2\n" + home.manifest.read_bytes())


def name_the_home(home: Home, journal: Journal) -> None:
    journal.make(home.path / "name")
    (home.path / "name").write_text("a name\n")


STEPS = (
    Migration(2, "quarantine by first letter", split_quarantine),
    Migration(3, "homes have names", name_the_home),
)


@pytest.fixture
def later_release(home: Home) -> Iterator[None]:
    """A release that has come to layout 3."""
    with (
        mock.patch.object(homes, "LAYOUT_VERSION", 3),
        mock.patch.object(migrations, "MIGRATIONS", STEPS),
    ):
        yield


@pytest.fixture
def old_home(home: Home) -> Home:
    """A home of layout 1."""
    (home.quarantine / "a-one.jsonl").write_bytes(b"one\n")
    (home.quarantine / "b-two.jsonl").write_bytes(b"two\n")
    home.manifest.write_bytes(b"{}\n")
    return home


def files_of(home: Home) -> dict[str, bytes]:
    return {
        str(path.relative_to(home.path)): path.read_bytes()
        for path in home.path.rglob("*")
        if path.is_file() and path != home.run_lock
    }


def test_released_steps_lead_from_the_first_layout_to_the_newest_one_by_one() -> None:
    assert [step.version for step in MIGRATIONS] == list(range(2, homes.LAYOUT_VERSION + 1))
    assert len({step.name for step in MIGRATIONS}) == len(MIGRATIONS)


def test_a_home_of_this_release_needs_nothing(home: Home) -> None:
    before = files_of(home)
    assert upgrade_home(home) == []
    assert files_of(home) == before


@pytest.mark.usefixtures("later_release")
def test_a_home_of_an_earlier_layout_is_refused_with_the_command_until_it_is_upgraded(old_home: Home) -> None:
    with pytest.raises(
        HomeError, match=r"layout version 1, of an earlier release.*`mnemoduck upgrade --home"
    ):
        open_home(old_home.path)
    told = {one.name: one for one in examine(Patient(old_home))}["home"]
    assert (told.status, told.mend) == ("fail", f"mnemoduck upgrade --home {old_home.path}")
    made = upgrade_home(old_home)
    assert [step.version for step in made] == [2, 3]
    open_home(old_home.path)
    files = files_of(old_home)
    assert files["quarantine/a/a-one.jsonl"] == b"one\n"
    assert "quarantine/a-one.jsonl" not in files
    assert files["raw/batches.jsonl"] == b"#2\n{}\n"
    assert files["name"] == b"a name\n"
    assert not any(name.startswith("upgrade") for name in files)
    marker = json.loads(files["home.json"])
    assert [(one["version"], one["name"], one["by"]) for one in marker["migrations"]] == [
        (2, "quarantine by first letter", __version__),
        (3, "homes have names", __version__),
    ]
    assert marker["created_at"]
    assert upgrade_home(old_home) == []


@pytest.mark.usefixtures("later_release")
def test_only_the_steps_that_are_missing_are_made(old_home: Home) -> None:
    old_home.marker.write_text('{"layout_version": 2}')
    assert [step.version for step in upgrade_home(old_home)] == [3]
    assert (old_home.quarantine / "a-one.jsonl").exists()


@pytest.mark.usefixtures("later_release")
def test_a_step_that_fails_is_undone_and_the_steps_before_it_stay(old_home: Home) -> None:
    def fail(home: Home, journal: Journal) -> None:
        split_quarantine(home, journal)
        raise OSError(28, "No space left on device")

    before = files_of(old_home)
    with mock.patch.object(migrations, "MIGRATIONS", (Migration(2, "fails", fail), STEPS[1])):
        with pytest.raises(StorageError, match=r"layout 2 \(fails\) failed: .*No space left"):
            upgrade_home(old_home)
        assert files_of(old_home) == {**before, "home.json": old_home.marker.read_bytes()}
        assert json.loads(old_home.marker.read_text()) == json.loads(before["home.json"])
    with (
        mock.patch.object(migrations, "MIGRATIONS", (STEPS[0], Migration(3, "fails", fail))),
        pytest.raises(StorageError, match="layout 3"),
    ):
        upgrade_home(old_home)
    assert json.loads(old_home.marker.read_text())["layout_version"] == 2
    assert [step.version for step in upgrade_home(old_home)] == [3]


CALLS = ("os.replace", "os.fsync", "pathlib.Path.unlink", "pathlib.Path.write_bytes", "shutil.rmtree")


@pytest.mark.usefixtures("later_release")
@pytest.mark.parametrize("call", CALLS)
def test_an_upgrade_that_is_killed_anywhere_leaves_no_home_in_between_and_is_made_by_the_next(
    tmp_path: Path, call: str
) -> None:
    with mock.patch.object(homes, "LAYOUT_VERSION", 1):
        whole = open_home(tmp_path / "whole")
    upgraded: dict[str, bytes] | None = None
    for after in itertools.count():
        folder = tmp_path / f"home-{after}"
        with mock.patch.object(homes, "LAYOUT_VERSION", 1):
            home = open_home(folder)
        home.marker.write_bytes(whole.marker.read_bytes())
        (home.quarantine / "a-one.jsonl").write_bytes(b"one\n")
        (home.quarantine / "b-two.jsonl").write_bytes(b"two\n")
        home.manifest.write_bytes(b"{}\n")

        def upgrade_and_die(home: Home = home, after: int = after) -> None:
            module, _, name = call.rpartition(".")
            owner: Any = {"os": os, "shutil": __import__("shutil"), "pathlib.Path": Path}[module]
            real, calls = getattr(owner, name), itertools.count()

            def die(*arguments: Any, **named: Any) -> Any:
                if next(calls) == after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **named)

            with mock.patch.object(owner, name, die):
                upgrade_home(home)

        is_done = in_child(upgrade_and_die) == 0
        version = json.loads(home.marker.read_text())["layout_version"]
        if not is_done and version < 3:
            with pytest.raises(HomeError, match="`mnemoduck upgrade"):
                open_home(folder)
        upgrade_home(home)
        open_home(folder)
        found = {
            name: data
            for name, data in files_of(home).items()
            if name != "home.json" and not name.endswith(".tmp")
        }
        upgraded = upgraded or found
        assert found == upgraded, f"killed at {call} number {after}"
        if is_done:
            assert after > 0
            return


@pytest.mark.usefixtures("later_release")
def test_an_upgrade_waits_for_no_run_and_a_home_of_a_later_release_is_refused(old_home: Home) -> None:
    with RunLock(old_home), pytest.raises(LockedError):
        upgrade_home(old_home)
    old_home.marker.write_text('{"layout_version": 4}')
    with pytest.raises(HomeError, match="layout version 4; this mnemoduck knows version 3"):
        upgrade_home(old_home)


def test_a_way_that_is_not_known_is_not_taken(old_home: Home) -> None:
    with mock.patch.object(homes, "LAYOUT_VERSION", 3), pytest.raises(HomeError, match="knows no way"):
        upgrade_home(old_home)


@pytest.mark.usefixtures("later_release")
def test_a_backup_of_an_earlier_release_is_restored_and_upgraded(old_home: Home, tmp_path: Path) -> None:
    old_home.manifest.unlink()
    done = CliRunner().invoke(cli, ["backup", str(tmp_path / "target"), "--home", str(old_home.path)])
    assert done.exit_code == 0, done.output
    with mock.patch("mnemoduck.backup.restoration.LAYOUT_VERSION", 3):
        restore_backup(tmp_path / "target", tmp_path / "restored")
    home = Home(tmp_path / "restored")
    home.raw.mkdir(mode=0o700)
    home.manifest.touch()
    with pytest.raises(HomeError, match="`mnemoduck upgrade"):
        open_home(home.path)
    upgrade_home(home)
    open_home(home.path)
    assert (home.quarantine / "a" / "a-one.jsonl").read_bytes() == b"one\n"


@pytest.mark.usefixtures("later_release")
def test_the_command_tells_each_step(old_home: Home) -> None:
    done = CliRunner().invoke(cli, ["upgrade", "--home", str(old_home.path)])
    assert done.output.splitlines() == [
        "Layout 2: quarantine by first letter.",
        "Layout 3: homes have names.",
    ]
    done = CliRunner().invoke(cli, ["upgrade", "--home", str(old_home.path)])
    assert done.output == "The home has layout 3 already, which is the newest.\n"
    told = json.loads(CliRunner().invoke(cli, ["upgrade", "--json", "--home", str(old_home.path)]).output)
    assert told == {"steps": [], "layout_version": 3, "outdated": None}


def test_there_is_nothing_to_upgrade_where_there_is_no_home(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["upgrade", "--home", str(tmp_path / "none")])
    assert isinstance(done.exception, UsageError)
    assert not (tmp_path / "none").exists()


def say_version(snapshot: Path, version: int) -> None:
    with duckdb.connect(str(snapshot)) as connection:
        connection.execute("create schema meta; create table meta.schema_version (version integer)")
        connection.execute("insert into meta.schema_version values ($1)", [version])


def test_a_snapshot_that_does_not_say_its_schema_is_of_the_first(home: Home) -> None:
    snapshot = write_snapshot(home, 1)
    reader = SnapshotReader(home)
    assert reader.get().path == snapshot
    reader.close()
    assert warehouse.find_outdated(home) is None


def test_a_snapshot_of_another_schema_is_not_read_and_an_earlier_one_is_outdated(home: Home) -> None:
    assert warehouse.find_outdated(home) is None
    snapshot = write_snapshot(home, 1)
    say_version(snapshot, 7)
    with pytest.raises(SnapshotError, match=r"built by a later mnemoduck .schema version 7"):
        SnapshotReader(home).get()
    with pytest.raises(StorageError, match="built by a later mnemoduck"):
        warehouse.find_outdated(home)
    with (
        mock.patch.object(warehouse, "SCHEMA_VERSION", 8),
        mock.patch("mnemoduck.warehouse.SCHEMA_VERSION", 8),
    ):
        with pytest.raises(
            SnapshotError, match=r"built by an earlier release .schema version 7; this one reads 8"
        ):
            SnapshotReader(home).get()
        assert "schema version 7; this one builds 8" in str(warehouse.find_outdated(home))
        done = CliRunner().invoke(cli, ["upgrade", "--home", str(home.path)])
        assert "everything is built anew from raw/. The next run does it." in done.output
