"""The process of dbt: what it makes in a home is private whatever its umask, its memory can be limited."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from dbt_common.exceptions import DbtRuntimeError

from mnemoduck.dbt_plugin import Plugin
from mnemoduck.home import HOME_VARIABLE, Home
from mnemoduck.pipeline import run
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.settings import MEMORY_VARIABLE

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


@pytest.mark.parametrize(
    ("in_environment", "variable", "holds"), [(None, "512MB", 512), ("256MB", "512MB", 256)]
)
def test_the_memory_of_a_run_is_limited_by_the_environment_else_by_the_variable(
    in_environment: str | None, variable: str, holds: int, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = _plugged_in(home, in_environment, monkeypatch)
    connection.execute("select mnemoduck_limit_memory($1)", [variable])
    assert _memory_limit_bytes(connection) == pytest.approx(holds * 1e6, rel=0.01)
    assert _setting_bytes(connection, "wal_autocheckpoint") == pytest.approx(holds * 1e6 / 32, rel=0.01)


def test_a_run_without_a_limit_keeps_that_of_duckdb(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = _plugged_in(home, None, monkeypatch)
    before = _memory_limit_bytes(connection)
    connection.execute("select mnemoduck_limit_memory('')")
    assert _memory_limit_bytes(connection) == before
    assert _setting_bytes(connection, "wal_autocheckpoint") == pytest.approx(1e9, rel=0.01)


def test_a_memory_limit_that_is_no_size_stops_the_run_with_a_sentence(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = _plugged_in(home, None, monkeypatch)
    with pytest.raises(duckdb.Error, match="The memory limit is plenty; it takes a size such as 4GB"):
        connection.execute("select mnemoduck_limit_memory('plenty')")
    with pytest.raises(DbtRuntimeError, match=r"run\.memory_limit is 'plenty'; it takes a size such as 4GB"):
        _plugged_in(home, "plenty", monkeypatch)


def _plugged_in(home: Home, limit: str | None, monkeypatch: pytest.MonkeyPatch) -> duckdb.DuckDBPyConnection:
    monkeypatch.delenv(MEMORY_VARIABLE, raising=False)
    if limit is not None:
        monkeypatch.setenv(MEMORY_VARIABLE, limit)
    monkeypatch.setenv(HOME_VARIABLE, str(home.path))
    umask = os.umask(0o077)  # the plugin sets that of its process
    try:
        plugin = Plugin("mnemoduck", {}, credentials=SimpleNamespace(path=str(home.warehouse)))
    finally:
        os.umask(umask)
    connection = duckdb.connect(str(home.warehouse))
    plugin.configure_connection(connection)
    return connection


def _memory_limit_bytes(connection: duckdb.DuckDBPyConnection) -> float:
    return _setting_bytes(connection, "memory_limit")


def _setting_bytes(connection: duckdb.DuckDBPyConnection, name: str) -> float:
    row = connection.execute(f"select parse_formatted_bytes(current_setting('{name}'))").fetchone()
    assert row is not None
    return float(row[0])
