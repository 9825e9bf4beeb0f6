"""The run lock: one pipeline at a time, and everybody is told who it is."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import mnemoduck.inbox
from mnemoduck.errors import LockedError
from mnemoduck.home import Home
from mnemoduck.pipeline.lock import INHERITED_VARIABLE, RunLock, find_holder, is_held_by_parent

from .conftest import StartPython

HOLD = """
import sys
from pathlib import Path
from mnemoduck.home import open_home
from mnemoduck.pipeline.lock import RunLock
with RunLock(open_home(Path(sys.argv[1]))) as lock:
    print("held", flush=True)
    sys.stdin.readline()
"""

HOLD_AND_HAND_OVER = """
import os, subprocess, sys
from pathlib import Path
from mnemoduck.home import open_home
from mnemoduck.pipeline.lock import RunLock
with RunLock(open_home(Path(sys.argv[1]))) as lock:
    # The child lives until its standard input, which is ours, is closed.
    child = subprocess.Popen(["cat"], stdin=0, stdout=subprocess.DEVNULL, pass_fds=[lock.descriptor])
    print("held", flush=True)
    child.wait()
"""


@pytest.fixture(autouse=True)
def _without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnemoduck.inbox, "LOCK_PATIENCE", 0.0)


def wait_until_held(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"


def test_nobody_holds_the_lock_of_a_new_home(home: Home) -> None:
    assert find_holder(home) is None
    assert not home.run_lock.exists()


def test_the_second_holder_is_told_who_and_since_when(home: Home, start_python: StartPython) -> None:
    process = start_python(HOLD, home.path)
    wait_until_held(process)
    with pytest.raises(LockedError) as refusal:
        RunLock(home).acquire()
    sentence = str(refusal.value)
    assert f"process {process.pid} (`-c {home.path}`) since " in sentence
    since = datetime.fromisoformat(sentence.split("since ")[1].split(". Nothing")[0])
    assert timedelta(0) <= datetime.now(UTC) - since < timedelta(minutes=1)
    assert "Nothing was started; wait for it to finish, or stop that process." in sentence
    assert refusal.value.exit_code == 75
    assert f"process {process.pid} " in (find_holder(home) or "")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_is_gone_the_moment_its_holder_is(
    home: Home, start_python: StartPython, ending: signal.Signals
) -> None:
    process = start_python(HOLD, home.path)
    wait_until_held(process)
    process.send_signal(ending)
    process.wait()
    assert find_holder(home) is None
    with RunLock(home):
        assert f"process {os.getpid()} " in (find_holder(home) or "")


def test_the_lock_outlives_its_holder_in_the_child_that_inherited_it(
    home: Home, start_python: StartPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_python(HOLD_AND_HAND_OVER, home.path)
    wait_until_held(process)
    process.kill()
    process.wait()
    with pytest.raises(LockedError, match=f"process {process.pid}"):
        RunLock(home).acquire()
    assert process.stdin is not None
    process.stdin.close()  # ends the child
    monkeypatch.setattr(mnemoduck.inbox, "LOCK_PATIENCE", 10.0)  # until the kernel has ended the child
    with RunLock(home):
        pass


@pytest.mark.parametrize("whose", ["of a process that is dead", "of one that has got its number since"])
def test_a_lock_file_that_was_left_behind_keeps_nobody_out(
    home: Home, start_python: StartPython, whose: str
) -> None:
    """The kernel knows who holds it; what the file says counts for nothing."""
    process = start_python(HOLD, home.path)
    wait_until_held(process)
    process.kill()
    process.wait()
    left = home.run_lock.read_text()
    assert f'"pid": {process.pid}' in left
    if whose != "of a process that is dead":
        home.run_lock.write_text(left.replace(f'"pid": {process.pid}', f'"pid": {os.getppid()}'))
    assert find_holder(home) is None
    with RunLock(home):
        assert f"process {os.getpid()}" in str(find_holder(home))


def test_the_lock_of_a_home_is_not_copied_with_it(
    home: Home, start_python: StartPython, tmp_path: Path
) -> None:
    process = start_python(HOLD, home.path)
    wait_until_held(process)
    copy = Home(tmp_path / "copy")
    shutil.copytree(home.path, copy.path)
    assert find_holder(home) is not None
    assert find_holder(copy) is None
    with RunLock(copy), pytest.raises(LockedError, match=f"process {process.pid}"):
        RunLock(home).acquire()


def test_the_lock_is_taken_on_a_full_disk_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the file is for people; that a run cannot go on, its first write to something else says."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with RunLock(home):
        assert find_holder(home) == "a process that has not said who it is"
        with pytest.raises(LockedError, match="a process that has not said who it is"):
            RunLock(home).acquire()
    assert find_holder(home) is None


def test_a_released_lock_can_be_taken_again(home: Home) -> None:
    lock = RunLock(home)
    for _ in range(3):
        lock.acquire()
        with pytest.raises(LockedError):
            RunLock(home).acquire()
        lock.release()
        lock.release()
        assert find_holder(home) is None


def test_a_refused_lock_leaves_the_holder_its_name(home: Home) -> None:
    with RunLock(home):
        before = home.run_lock.read_bytes()
        with pytest.raises(LockedError):
            RunLock(home).acquire()
        assert home.run_lock.read_bytes() == before


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"null", b'{"pid": 1}', b"{"])
def test_a_holder_that_has_not_said_who_it_is_is_a_holder_all_the_same(home: Home, text: bytes) -> None:
    with RunLock(home):
        home.run_lock.write_bytes(text)
        assert find_holder(home) == "a process that has not said who it is"
        with pytest.raises(LockedError, match="a process that has not said who it is"):
            RunLock(home).acquire()


def test_asking_who_holds_the_lock_never_keeps_a_run_from_starting(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do two who ask at once take each other for a run."""
    monkeypatch.setattr(mnemoduck.inbox, "LOCK_PATIENCE", 10.0)
    with RunLock(home):
        pass
    asked = [threading.Event(), threading.Event()]
    is_done = threading.Event()
    holders: list[str] = []

    def ask_on_and_on(is_asked: threading.Event) -> None:
        while not is_done.is_set():
            holder = find_holder(home)
            is_asked.set()
            if holder is not None:
                holders.append(holder)

    threads = [threading.Thread(target=ask_on_and_on, args=(event,)) for event in asked]
    for thread in threads:
        thread.start()
    for event in asked:
        event.wait()
    assert [find_holder(home) for _ in range(2_000)] == [None] * 2_000
    assert holders == []
    for _ in range(50):
        with RunLock(home):
            pass
    is_done.set()
    for thread in threads:
        thread.join()


def test_a_child_knows_by_a_variable_that_its_parent_holds_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INHERITED_VARIABLE, raising=False)
    assert not is_held_by_parent()
    monkeypatch.setenv(INHERITED_VARIABLE, "5")
    assert is_held_by_parent()


def test_who_may_wait_has_the_lock_when_the_other_run_ends(
    home: Home, start_python: StartPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_python(HOLD, home.path)
    wait_until_held(process)
    looked = threading.Event()

    def let_go(_: float) -> None:
        if not looked.is_set():
            looked.set()
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    monkeypatch.setattr("tenacity.nap.time.sleep", let_go)
    with RunLock(home, wait_seconds=600):
        assert looked.is_set()


def test_who_waits_in_vain_is_told_who_was_at_work(
    home: Home, start_python: StartPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemoduck.pipeline.lock.LOOK_AGAIN_SECONDS", 0.01)
    process = start_python(HOLD, home.path)
    wait_until_held(process)
    with pytest.raises(LockedError, match=f"process {process.pid}"):
        RunLock(home, wait_seconds=0.05).acquire()
