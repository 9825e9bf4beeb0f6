"""Every run is recorded once: by its dbt, or by `mnemoduck run` where that did not live to do it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from mnemoduck import Memory
from mnemoduck.dbt_plugin import Plugin
from mnemoduck.errors import LockedError, StorageError, UsageError
from mnemoduck.home import HOME_VARIABLE, Home
from mnemoduck.pipeline.history import NodeRun, RunRecord, read_runs, record_run
from mnemoduck.pipeline.load import load_inbox
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.run import COMMAND_VARIABLE, RunSummary, run_pipeline

RUN_ID = "0b9f3a52-6a3c-4f0e-9a55-6a1f6d1f2c11"


def line(name: str, message: str, level: str = "info", **data: object) -> str:
    info = {"name": name, "msg": message, "level": level, "invocation_id": RUN_ID}
    return json.dumps({"info": info, "data": data})


def node_line(name: str, status: str, event: str = "LogModelResult", kind: str = "model") -> str:
    node = {"node_name": name, "node_status": status, "resource_type": kind}
    return line(event, f"{status} {name}", node_info=node, execution_time=0.25, index=1, total=2)


@pytest.fixture
def run_with(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunSummary]:
    """Run the pipeline with a dbt that says what it is told to, and ends as it is told to."""

    def run_it(*lines: str, end: str = "exit 0", **options: object) -> RunSummary:
        log = tmp_path / "log"
        log.write_text("".join(f"{text}\n" for text in lines))
        instead = tmp_path / "python"
        instead.write_text(f"#!/bin/sh\ncat {log}\n{end}\n")
        instead.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(instead))
        return run_pipeline(home, tmp_path, **options)  # type: ignore[arg-type]

    return run_it


def test_a_run_that_its_dbt_has_recorded_is_not_recorded_again(
    home: Home, run_with: Callable[..., RunSummary]
) -> None:
    now = datetime.now(UTC)
    by_dbt = RunRecord(run_id=RUN_ID, command="run", outcome="published", started_at=now, ended_at=now)
    record_run(home, by_dbt)

    summary = run_with(line("JinjaLogInfo", "mnemoduck published: 2026"))

    assert (summary.outcome, summary.run_id) == ("published", RUN_ID)
    assert list(read_runs(home)) == [by_dbt]


def test_a_run_whose_dbt_was_killed_is_recorded_with_what_it_had_done(
    home: Home, run_with: Callable[..., RunSummary]
) -> None:
    as_of = datetime(2026, 3, 15, 18, 30, tzinfo=UTC)

    summary = run_with(node_line("stg_memories", "success"), end="kill -9 $$", full_refresh=True, as_of=as_of)

    assert "it was ended by SIGKILL" in summary.errors[0]
    assert "out of memory" in summary.errors[0]
    (record,) = read_runs(home)
    assert (record.run_id, record.outcome) == (RUN_ID, "not published")
    assert record.command == "run --full-refresh --as-of 2026-03-15T18:30:00+00:00"
    assert record.as_of == as_of
    assert record.errors == tuple(summary.errors)
    assert record.nodes == (NodeRun(name="stg_memories", kind="model", status="success", seconds=0.25),)
    assert timedelta(0) <= record.ended_at - record.started_at


def test_a_run_that_could_not_begin_is_recorded_with_the_reason(
    home: Home, run_with: Callable[..., RunSummary]
) -> None:
    run_with(line("MainEncounteredError", "Compilation Error\n  no such macro", level="error"), end="exit 2")

    (record,) = read_runs(home)
    assert (record.outcome, record.errors) == ("not published", ("Compilation Error\n  no such macro",))


def test_what_dbt_said_of_a_failure_is_in_a_record_that_it_could_not_make(
    home: Home, run_with: Callable[..., RunSummary]
) -> None:
    failed = node_line("assert_it", "fail", "LogTestResult", "test")
    said = line("RunResultError", "Got 2 results", level="error", node_info={"node_name": "assert_it"})

    run_with(failed, said, end="exit 1")

    (record,) = read_runs(home)
    assert [(node.name, node.kind, node.status, node.message) for node in record.nodes] == [
        ("assert_it", "test", "fail", "Got 2 results")
    ]


def test_a_run_of_a_damaged_warehouse_is_recorded(home: Home, run_with: Callable[..., RunSummary]) -> None:
    home.warehouse.write_bytes(b"nothing that DuckDB has written")

    with pytest.raises(StorageError):
        run_with()

    (record,) = read_runs(home)
    assert record.outcome == "not published"
    assert "is damaged" in record.errors[0]


def test_a_run_that_finds_another_at_work_is_recorded_as_skipped(
    home: Home, run_with: Callable[..., RunSummary]
) -> None:
    with RunLock(home), pytest.raises(LockedError):
        run_with()

    (record,) = read_runs(home)
    assert record.outcome == "skipped"
    assert "Another run is at work" in record.errors[0]


def test_what_cannot_be_run_as_it_was_asked_for_is_no_run(
    home: Home, run_with: Callable[..., RunSummary]
) -> None:
    with pytest.raises(UsageError):
        run_with(threads=0)

    assert list(read_runs(home)) == []


def test_a_run_that_cannot_be_recorded_says_so_and_ends_as_it_did(
    home: Home, run_with: Callable[..., RunSummary]
) -> None:
    home.runs.write_text("a file where a folder is expected")

    summary = run_with(line("JinjaLogInfo", "mnemoduck published: 2026"))

    assert summary.is_ok
    assert "The run could not be recorded" in summary.notices[0]


# --- by dbt --------------------------------------------------------------------------------------------


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the plugin says in dbt's log."""
    lines: list[str] = []
    monkeypatch.setattr("mnemoduck.dbt_plugin.say", lines.append)
    return lines


@pytest.fixture
def dbt(home: Home, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> duckdb.DuckDBPyConnection:
    """The warehouse as dbt has it open, on a home in which a load is committed since."""
    monkeypatch.setenv(HOME_VARIABLE, str(home.path))
    monkeypatch.delenv(COMMAND_VARIABLE, raising=False)
    umask = os.umask(0o077)  # the plugin sets that of its process
    try:
        plugin = Plugin("mnemoduck", {}, credentials=SimpleNamespace(path=str(home.warehouse)))
    finally:
        os.umask(umask)
    plugin.update_connection_config(plugin.creds, {})
    connection = duckdb.connect(str(home.warehouse))
    plugin.configure_connection(connection)
    return connection


def told(**changes: object) -> str:
    return json.dumps(
        {
            "run_id": RUN_ID,
            "command": "/opt/bin/dbt build --select stg_memories",
            "started_at": "2026-03-15T18:30:00+00:00",
            "as_of": "None",
            "kept_days": 90,
            "nodes": [
                {"name": "raw_batches", "kind": "model", "status": "success", "seconds": 0.5, "rows": 1}
            ],
            **changes,
        }
    )


def test_dbt_records_its_run_with_what_was_loaded_and_what_it_took(
    home: Home, dbt: duckdb.DuckDBPyConnection
) -> None:
    with Memory(home.path) as memory:
        memory.remember("Maya drinks tea")
    load_inbox(home)

    dbt.execute("select mnemoduck_note_run($1)", [told(as_of="2026-03-15T18:30:00")])
    dbt.execute("select mnemoduck_record_run('published: 2026-abc', 0.25)")

    (record,) = read_runs(home)
    assert (record.run_id, record.outcome, record.snapshot) == (RUN_ID, "published", "2026-abc")
    assert record.command == "dbt build --select stg_memories"
    assert (record.batch_seq, record.events_loaded, record.memories_loaded) == (1, 1, 1)
    assert (record.load_seconds, record.publish_seconds) == (0.5, 0.25)
    assert record.as_of == datetime(2026, 3, 15, 18, 30, tzinfo=UTC)
    assert record.peak_memory_bytes is None or record.peak_memory_bytes > 10e6


@pytest.mark.parametrize(
    ("end", "outcome", "snapshot", "publish_seconds"),
    [
        ("published: 2026-abc", "published", "2026-abc", 0.25),
        ("unchanged: 2026-abc", "unchanged", "2026-abc", 0.25),
        ("not published", "not published", None, None),
    ],
)
def test_a_record_says_what_readers_see_since(
    end: str,
    outcome: str,
    snapshot: str | None,
    publish_seconds: float | None,
    home: Home,
    dbt: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, "run --full-refresh")
    dbt.execute("select mnemoduck_note_run($1)", [told()])
    dbt.execute("select mnemoduck_record_run($1, 0.25)", [end])

    (record,) = read_runs(home)
    assert (record.outcome, record.snapshot, record.publish_seconds) == (outcome, snapshot, publish_seconds)
    assert record.command == "run --full-refresh"
    assert record.as_of is None


def test_a_run_whose_publication_fails_is_recorded_with_the_reason(
    home: Home, dbt: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise StorageError("The snapshot could not be written: no space left on device.")

    monkeypatch.setattr("mnemoduck.dbt_plugin.publish", fail)
    monkeypatch.chdir(home.path)
    dbt.execute("select mnemoduck_note_run($1)", [told()])

    with pytest.raises(duckdb.Error, match="no space left"):
        dbt.execute("select mnemoduck_publish('{}', 0)")

    (record,) = read_runs(home)
    assert record.outcome == "not published"
    assert record.errors == ("The snapshot could not be written: no space left on device.",)


def test_a_run_that_dbt_cannot_record_says_so_and_does_not_fail(
    home: Home, dbt: duckdb.DuckDBPyConnection, said: list[str]
) -> None:
    home.runs.write_text("a file where a folder is expected")
    dbt.execute("select mnemoduck_note_run($1)", [told()])

    assert dbt.execute("select mnemoduck_record_run('published: 2026', 0.25)").fetchone() == (False,)

    assert len(said) == 1
    assert "The run could not be recorded" in said[0]


def test_recording_a_run_forgets_those_that_are_too_old(home: Home, dbt: duckdb.DuckDBPyConnection) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=100)
    for days in (0, 50):
        at = long_ago + timedelta(days=days)
        record_run(
            home,
            RunRecord(run_id=str(days), command="run", outcome="published", started_at=at, ended_at=at),
        )

    dbt.execute("select mnemoduck_note_run($1)", [told()])
    dbt.execute("select mnemoduck_record_run('not published', 0.25)")

    assert [record.run_id for record in read_runs(home)] == ["50", RUN_ID]


def test_the_files_of_runs_that_may_be_new_are_those_of_the_last_days(
    home: Home, dbt: duckdb.DuckDBPyConnection
) -> None:
    for day in (1, 2, 3):
        at = datetime(2026, 3, day, 12, tzinfo=UTC)
        record_run(
            home,
            RunRecord(run_id=str(day), command="run", outcome="published", started_at=at, ended_at=at),
        )

    def names(newest: str) -> list[str]:
        row = dbt.execute("select mnemoduck_run_files($1)", [newest]).fetchone()
        assert row is not None
        return [Path(path).stem for path in row[0]]

    assert names("") == ["2026-03-01", "2026-03-02", "2026-03-03"]
    assert names("2026-03-03 12:00:00") == ["2026-03-02", "2026-03-03"]
