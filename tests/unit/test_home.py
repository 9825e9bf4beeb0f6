"""The home folder: made once, private, never mistaken for another folder."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from mnemoduck.errors import HomeError
from mnemoduck.home import DEFAULT_HOME, HOME_VARIABLE, Home, open_home, resolve_home, write_atomically
from mnemoduck.memory import Memory

from .conftest import StartPython


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_home_is_made_with_its_parents_and_found_again(tmp_path: Path) -> None:
    home = open_home(tmp_path / "a" / "b")
    marker = home.marker.read_bytes()
    assert json.loads(marker)["layout_version"] == 1
    assert open_home(tmp_path / "a" / "b") == home
    assert home.marker.read_bytes() == marker


def test_an_empty_folder_becomes_a_home(tmp_path: Path) -> None:
    assert open_home(tmp_path).marker.exists()


def test_folders_and_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o000)
    try:
        home = open_home(tmp_path / "home")
        with Memory(home.path) as memory:
            memory.remember("a secret")
    finally:
        os.umask(old)
    paths = [home.path, *home.path.rglob("*")]
    assert {mode(path) for path in paths if path.is_dir()} == {0o700}
    assert {mode(path) for path in paths if path.is_file()} == {0o600}
    assert any(path.suffix == ".jsonl" for path in paths)


def test_the_argument_goes_before_the_variable_and_that_before_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    assert resolve_home() == tmp_path / DEFAULT_HOME
    monkeypatch.setenv(HOME_VARIABLE, "of-variable")
    assert resolve_home() == tmp_path / "of-variable"
    assert resolve_home("of-argument") == tmp_path / "of-argument"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_home("~/mine") == tmp_path / "mine"


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(
        HomeError, match=r"not a mnemoduck home: it holds other files \(such as 'thesis.tex'\)"
    ):
        open_home(tmp_path)
    assert names(tmp_path) == {"thesis.tex"}


@pytest.mark.parametrize("is_made", [True, False])
def test_a_home_to_read_is_never_made(tmp_path: Path, is_made: bool) -> None:
    path = tmp_path / "typo"
    if is_made:
        path.mkdir()
    with pytest.raises(
        HomeError, match=r"There is no mnemoduck home at .*typo. Start one with `mnemoduck init`"
    ):
        open_home(path, create=False)
    assert names(tmp_path) == ({"typo"} if is_made else set())
    assert not is_made or not names(path)


def test_a_folder_with_other_files_is_no_home_to_read_either(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(HomeError, match="not a mnemoduck home"):
        open_home(tmp_path, create=False)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_place_of_the_home_or_of_its_parent_is_named(
    tmp_path: Path, create: bool, below: str
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(HomeError, match="file"):
        open_home(file / below, create=create)
    assert file.read_text() == "precious"


@pytest.mark.parametrize("name", ["inbox", "raw", "published"])
def test_a_file_in_place_of_a_folder_of_the_home_is_named(home: Home, name: str) -> None:
    for path in sorted((home.path / name).rglob("*"), reverse=True):
        path.rmdir()
    (home.path / name).rmdir()
    (home.path / name).write_text("in the way")
    with pytest.raises(HomeError, match=f"{name}.* is a file where a folder is expected"):
        open_home(home.path)


@pytest.mark.parametrize("marker", [b"", b"\xff\xfe", b"[]", b"null", b"7", b"{}", b'{"layout_version"'])
def test_a_damaged_marker_is_named_with_what_to_do(home: Home, marker: bytes) -> None:
    home.marker.write_bytes(marker)
    with pytest.raises(HomeError, match=r"home.json cannot be read as a home's marker .*restore the file"):
        open_home(home.path)
    assert home.marker.read_bytes() == marker


@pytest.mark.parametrize("version", [2, 0, None, "2", [1]])
def test_a_home_of_another_version_is_refused(home: Home, version: object) -> None:
    home.marker.write_text(json.dumps({"layout_version": version}))
    with pytest.raises(HomeError, match=r"layout version .*; this mnemoduck knows version 1"):
        open_home(home.path)


@pytest.mark.parametrize(
    "path", ["nul\0inside", os.fsdecode(b"\xff"), "x" * 300, "~no-such-user-here/home", "/proc/no/home"]
)
def test_a_path_that_cannot_be_is_refused_with_a_sentence(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for create in (True, False):
        with pytest.raises(HomeError):
            open_home(path, create=create)
    assert not names(tmp_path)


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(HomeError, match="cannot be a home"):
        open_home("relative")


def test_a_path_with_quotes_blanks_and_other_scripts_is_a_path_like_any_other(tmp_path: Path) -> None:
    with Memory(tmp_path / 'it\'s "mine"; café\t\u202e 日本') as memory:
        memory.remember("found in a strange place")
        assert [item.content for item in memory.recall("strange")] == ["found in a strange place"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("folder", ["", "inbox"])
def test_a_home_without_permission_is_told(home: Home, folder: str) -> None:
    closed = home.path / folder
    closed.chmod(0o000)
    try:
        for create in (True, False):
            with pytest.raises(HomeError, match="Give this user read and write access"):
                open_home(home.path, create=create)
    finally:
        closed.chmod(0o700)


AS_NOBODY = """
import os, sys
from pathlib import Path
from mnemoduck.errors import HomeError
from mnemoduck.home import open_home
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for create in (True, False):
    try:
        open_home(Path(sys.argv[1]), create=create)
    except HomeError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("closed", "what"), [("home", "home.json"), ("home/inbox", "inbox"), (".", "home")])
def test_another_user_without_permission_is_told(start_python: StartPython, closed: str, what: str) -> None:
    # Not in tmp_path, which is closed to others already.
    with tempfile.TemporaryDirectory(prefix="mnemoduck-") as folder:
        base = Path(folder)
        open_home(base / "home")
        for path in (base, *base.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        (base / closed).chmod(0o700)
        out, err = start_python(AS_NOBODY, base / "home").communicate(timeout=30)
    sentences = out.decode().splitlines()
    assert len(sentences) == 2, err.decode()
    assert all("permission" in sentence.lower() and what in sentence for sentence in sentences)


def test_threads_that_open_a_new_home_at_once_all_get_it(tmp_path: Path) -> None:
    for number in range(20):
        barrier, opened, errors = threading.Barrier(8), [], []

        def open_together(path: Path = tmp_path / str(number)) -> None:
            barrier.wait()  # noqa: B023
            try:
                opened.append(open_home(path))  # noqa: B023
            except HomeError as error:
                errors.append(error)  # noqa: B023

        threads = [threading.Thread(target=open_together) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(opened) == 8
        assert not list((tmp_path / str(number)).glob("*.tmp"))


OPEN_MANY = """
import sys
from pathlib import Path
from mnemoduck.home import open_home
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    open_home(Path(sys.argv[1]) / str(number))
"""


def test_processes_that_open_a_new_home_at_once_all_get_it(tmp_path: Path, start_python: StartPython) -> None:
    processes = [start_python(OPEN_MANY, tmp_path) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err.decode()
    assert len(names(tmp_path)) == 100
    for number in range(100):
        open_home(tmp_path / str(number), create=False)
        assert not list((tmp_path / str(number)).glob("*.tmp"))


def test_a_write_that_fails_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "CURRENT"
    write_atomically(path, "old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
