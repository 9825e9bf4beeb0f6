"""What dbt's process makes in a home is private, whatever the umask it was started with."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from mnemoduck.home import Home
from mnemoduck.pipeline import run
from mnemoduck.pipeline.lock import RunLock

from .conftest import StartPython

BUILD = """
import os, sys
from types import SimpleNamespace

os.umask(0)
import duckdb
from mnemoduck.dbt_plugin import Plugin

plugin = Plugin("mnemoduck", {}, credentials=SimpleNamespace(path=sys.argv[1] + "/warehouse.duckdb"))
connection = duckdb.connect(plugin.creds.path)
plugin.configure_connection(connection)
connection.execute("create table notes as select 'private' as text")
connection.execute("insert into llm_cache.models values ('llama3.2', 'sha', now()::timestamp)")
os.makedirs(sys.argv[1] + "/target")
open(sys.argv[1] + "/target/run_results.json", "w").close()
print("built", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_run_leaves_behind_is_private(
    tmp_path: Path, start_python: StartPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its WAL files hold the newest rows of the warehouse and of the cache."""
    monkeypatch.delenv("MNEMODUCK_HOME", raising=False)
    home = Home(tmp_path / "home")
    process = start_python(BUILD, home.path)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"built\n", process.stderr.read().decode()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert {"warehouse.duckdb.wal", "llm_cache.duckdb.wal"} <= set(os.listdir(home.path))
    for path in (home.path, *home.path.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_dbt_is_started_so_that_its_log_is_private(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins its log before it loads a plugin."""
    instead = tmp_path / "python"
    instead.write_text("#!/bin/sh\numask\n")
    instead.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(instead))
    with RunLock(home) as lock, run.start_dbt(["build"], home, tmp_path, lock) as process:
        assert process.stdout is not None
        assert int(process.stdout.read(), 8) == 0o077
