"""A slice of benchmarks/reliability: what is killed, short of disk or crowded keeps its promises.

The whole of it is `make soak`; docs/reliability.md shows its figures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.reliability.homes import Place, act, act_command, environment
from benchmarks.reliability.shim import Blow, Ended, Shim, ShimError
from benchmarks.witness import count_events, find_lost, is_held

from mnemoduck.home import open_home
from tests.integration.workbench import PROJECT


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    try:
        return Shim(tmp_path / "shim")
    except ShimError as error:
        pytest.skip(str(error))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "place")
    place.beside.mkdir(parents=True)
    open_home(place.home)
    return place


def strike(shim: Shim, place: Place, name: str, blow: Blow) -> Ended:
    ended = shim.run(
        act_command(name, place, f"{blow.action}-{blow.at}"),
        place.struck,
        blow,
        cwd=PROJECT,
        environment=environment(),
    )
    assert not is_held(place.home / "run.lock")
    assert find_lost(place.home, place.acknowledged()["memory"]) == [], (name, blow)
    return ended


@pytest.mark.parametrize(
    ("name", "blows"),
    [
        ("remember", [Blow("torn", 40), Blow("enospc", 23), Blow("dead", 60)]),
        ("load", [Blow("torn", 14), Blow("kill", 47), Blow("full", 6)]),
    ],
)
def test_what_is_struck_while_it_remembers_or_loads_loses_nothing_and_the_next_load_has_it_all(
    shim: Shim, place: Place, name: str, blows: list[Blow]
) -> None:
    for blow in blows:
        if name == "load":
            act("tell", place, f"{blow.action}-{blow.at}")
        ended = strike(shim, place, name, blow)
        assert ended.struck == blow.at
        assert ended.code == (-9 if blow.action in ("kill", "torn") else 1), ended.said
    act("load", place, "the last")
    acknowledged = place.acknowledged()["memory"]
    assert len(acknowledged) > 40
    copies = count_events(place.home)
    assert all(copies[memory] == 1 for memory in acknowledged)
    assert set(copies.values()) == {1}
    assert not list((place.home / "inbox").glob("*.*"))
    assert not list(place.home.rglob("*.tmp"))
    assert not list((place.home / "raw").glob(".staging/*"))


def attack(tmp_path: Path, *arguments: str) -> None:
    """Run the benchmark as `make soak` does; what it says of a broken promise is shown."""
    folders = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "result")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reliability", *arguments, *folders],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "result").stat().st_size > 0


@pytest.mark.long
@pytest.mark.parametrize("what", ["crash", "faults"])
def test_a_run_that_is_struck_in_a_model_or_while_it_publishes_is_mended_by_the_next(
    tmp_path: Path, what: str
) -> None:
    phases = ("raw_batches", "int_texts", "search_postings", "publish")
    named = [word for phase in phases for word in ("--phase", phase)]
    attack(tmp_path, what, "--instants", str(len(phases)), *named)


@pytest.mark.long
def test_writers_readers_and_builds_at_once_lose_nothing_and_fail_nobody(tmp_path: Path) -> None:
    attack(tmp_path, "concurrency", "--seconds", "60", "--writers", "6", "--readers", "3")


@pytest.mark.long
@pytest.mark.skipif(shutil.which("faketime") is None, reason="needs Debian's faketime")
def test_two_machines_an_hour_apart_lose_and_hide_nothing(tmp_path: Path) -> None:
    attack(tmp_path, "clocks", "--scenario", "an_hour_apart")


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small file system")
def test_a_full_disk_is_told_and_mended_by_space(tmp_path: Path) -> None:
    attack(tmp_path, "full-disk")
