"""The library that ends or fails a command at an exact call: what it counts, and what it does there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from benchmarks.reliability.shim import Blow, Ended, Shim, ShimError, read_trace

WRITE = """
import os, sys
for number in range(4):
    with open(f"{sys.argv[1]}/{number}.log", "wb") as file:
        file.write(b"begin 0123456789 " + str(number).encode())
    os.rename(f"{sys.argv[1]}/{number}.log", f"{sys.argv[1]}/{number}.done")
"""
"""Three calls for each file: it is made, written and renamed."""

CHILD = """
import subprocess, sys
subprocess.run([sys.executable, "-S", "-c", sys.argv[2], sys.argv[1]])
open(sys.argv[1] + "/of-the-parent", "x").close()
"""


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    try:
        return Shim(tmp_path / "shim")
    except ShimError as error:
        pytest.skip(str(error))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "struck").mkdir()
    return tmp_path / "struck"


def strike(shim: Shim, folder: Path, blow: Blow, *, trace: Path | None = None, code: str = WRITE) -> Ended:
    command = [sys.executable, "-S", "-c", code, str(folder), *([WRITE] if code is CHILD else [])]
    return shim.run(command, folder, blow, cwd=folder, environment=dict(os.environ), trace=trace)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_calls_that_change_something_are_counted_and_traced(shim: Shim, folder: Path, tmp_path: Path) -> None:
    ended = strike(shim, folder, Blow(), trace=tmp_path / "trace")
    assert (ended.code, ended.calls, ended.struck) == (0, 12, 0)
    calls = read_trace(tmp_path / "trace")
    assert [call.number for call in calls] == list(range(1, 13))
    assert [call.name.removesuffix("64") for call in calls[:3]] == ["open", "write", "rename"]
    assert calls[1].path == str(folder / "0.log")
    assert calls[1].text == "begin 0123456789 0"


def test_a_command_is_killed_before_the_call_that_is_named(shim: Shim, folder: Path) -> None:
    ended = strike(shim, folder, Blow("kill", 6))
    assert (ended.code, ended.struck) == (-9, 6)
    assert names(folder) == ["0.done", "1.log"]
    assert (folder / "1.log").read_bytes() == b"begin 0123456789 1"


def test_a_torn_write_has_written_half(shim: Shim, folder: Path) -> None:
    ended = strike(shim, folder, Blow("torn", 2))
    assert ended.code == -9
    assert (folder / "0.log").read_bytes() == b"begin 012"


def test_children_are_counted_too_and_all_of_them_are_killed(shim: Shim, folder: Path) -> None:
    assert strike(shim, folder, Blow(), code=CHILD).calls == 13
    for path in folder.iterdir():
        path.unlink()
    ended = strike(shim, folder, Blow("kill", 12), code=CHILD)
    assert ended.code == -9
    assert names(folder) == ["0.done", "1.done", "2.done", "3.log"], "the parent did not go on"


@pytest.mark.parametrize(
    ("action", "at", "said", "left"),
    [
        ("enospc", 3, "No space left on device", ["0.done"]),  # renaming takes no space
        ("full", 3, "No space left on device", ["0.done"]),
        ("eio", 3, "Input/output error", ["0.log"]),
    ],
)
def test_a_call_fails_as_on_a_full_or_broken_disk(
    shim: Shim, folder: Path, action: str, at: int, said: str, left: list[str]
) -> None:
    ended = strike(shim, folder, Blow(action, at))
    assert ended.code == 1
    assert said in ended.said
    assert names(folder) == left


GO_ON = """
import contextlib, sys
for number in range(6):
    with contextlib.suppress(OSError):
        open(f"{sys.argv[1]}/{number}", "x").close()
"""


@pytest.mark.parametrize(
    ("action", "left"), [("enospc", "0 2 3 4 5"), ("full", "0"), ("eio", "0 2 3 4 5"), ("dead", "0")]
)
def test_a_fault_happens_once_or_from_then_on(shim: Shim, folder: Path, action: str, left: str) -> None:
    ended = strike(shim, folder, Blow(action, 2), code=GO_ON)
    assert (ended.code, ended.struck) == (0, 2)
    assert names(folder) == left.split()


def test_only_calls_between_two_marks_are_counted(shim: Shim, folder: Path) -> None:
    """The first mark is in what is written to a log, the second one in a path."""
    assert strike(shim, folder, Blow("count", 0, "789 1", "/3.log")).calls == 5


def test_what_is_elsewhere_is_none_of_its_business(shim: Shim, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "struck-not").mkdir()
    command = [sys.executable, "-S", "-c", WRITE, str(tmp_path / "struck-not")]
    ended = shim.run(command, folder, Blow("kill", 1), cwd=folder, environment=dict(os.environ))
    assert (ended.code, ended.calls) == (0, 0)
