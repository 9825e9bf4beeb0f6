"""Files of a home that were damaged or made up: commands end in a sentence, and none follows them outside."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from mnemoduck import Memory
from mnemoduck.cli import main
from mnemoduck.errors import HomeError, StorageError, UsageError
from mnemoduck.home import Home, open_home
from mnemoduck.pipeline.load import load_inbox, read_manifest
from mnemoduck.pipeline.lock import RunLock, describe_holder, find_holder
from mnemoduck.pipeline.publish import current_snapshot
from mnemoduck.settings import MAX_FILE_BYTES, load_settings, settings_file

STEERING = "\x1b]0;PWNED\x07"
CONTENTS = {
    "nested": b"[" * 100_000,
    "bytes": b"\xff\xfe\x9b\x00\x1b]0;PWNED\x07\n" * 20,
    "escapes": json.dumps(dict.fromkeys(("since", "layout_version", "redact"), STEERING)).encode(),
    "null": b"null\n",
}
FILES = (
    "home.json",
    "mnemoduck.toml",
    "published/CURRENT",
    "raw/batches.jsonl",
    "logs/recall_cache.json",
    "logs/redactions.json",
    "runs/2026-11-22.jsonl",
    "runs/removed.counts",
    "tune.jsonl",
    "expectations/results.jsonl",
    "logs/queries/2026-11-22.jsonl",
    "inbox/x.jsonl",
)


def say(home: Path, *arguments: str) -> tuple[int, str]:
    """Return how a command ended and what it said."""
    told = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"MNEMODUCK_HOME": str(home), "OLLAMA_HOST": "http://127.0.0.1:9"}),
        mock.patch.object(sys, "argv", ["mnemoduck", *arguments]),
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(told),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, told.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_ends_no_command_in_a_traceback(name: str, tmp_path: Path) -> None:
    empty = open_home(tmp_path / "empty").path
    for kind, content in CONTENTS.items():
        home = tmp_path / "home"
        shutil.copytree(empty, home)
        file = home / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(content)
        for command in (("status",), ("tune",)):
            code, told = say(home, *command)
            assert code in (0, 1, 2), (kind, told)
            assert "unexpected" not in told, (kind, command, told)
            assert "\x1b" not in told, (kind, command)
            assert "\x9b" not in told, (kind, command)
        shutil.rmtree(home)


@pytest.mark.parametrize("kind", ["a folder", "a link to itself"])
@pytest.mark.parametrize("name", ["run.lock", "published/CURRENT", "inbox/x.jsonl"])
def test_what_is_no_file_where_one_is_expected_is_named(name: str, kind: str, tmp_path: Path) -> None:
    path = open_home(tmp_path).path / name
    if kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(path.name)
    code, told = say(tmp_path, "status")
    assert code == 1
    assert str(path) in told
    assert "doctor" in told


def test_current_names_files_of_its_own_folder_only(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    outside = tmp_path / "outside.duckdb"
    outside.write_bytes(b"x")
    for name in ("../../outside.duckdb", str(outside), "x/../../../outside.duckdb", "..", "", "/", "a" * 250):
        home.current.write_text(name)
        assert current_snapshot(home) is None, name


@pytest.mark.parametrize(
    "path",
    ["../../x.parquet", "/etc/x.parquet", "year=2026/month=01/../../../x.parquet", "year=2026/x.parquet", ""],
)
def test_a_manifest_that_leads_out_of_raw_is_damaged(path: str, tmp_path: Path) -> None:
    home = open_home(tmp_path)
    with Memory(home.path) as memory:
        memory.remember("kept")
    load_inbox(home)
    (batch,) = read_manifest(home)
    batch.files[0] = replace(batch.files[0], path=path)
    home.manifest.write_text(batch.to_line())
    with pytest.raises(StorageError, match="no path of a raw file"):
        load_inbox(home)


def test_settings_and_markers_of_any_size_are_refused_unread(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    with settings_file(home).open("wb") as file:
        file.truncate(10**11)  # a hole: whoever reads it whole needs 100 GB
    with pytest.raises(UsageError, match=f"larger than {MAX_FILE_BYTES:,} bytes"):
        load_settings(home)
    settings_file(home).unlink()
    with home.marker.open("wb") as file:
        file.truncate(10**11)
    with pytest.raises(HomeError, match="cannot be read as a home's marker"):
        open_home(tmp_path)


def test_who_holds_the_lock_is_told_without_its_escapes(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    with RunLock(home):
        home.run_lock.write_text(json.dumps({"pid": STEERING, "command": STEERING, "since": STEERING}))
        assert STEERING in str(find_holder(home))
        assert "\x1b" not in say(home.path, "status")[1]
        for text in ("[" * 100_000, "{}", "\0"):
            home.run_lock.write_text(text)
            assert describe_holder(home.run_lock) == "a process that has not said who it is"
    assert Home(tmp_path).run_lock.exists()
