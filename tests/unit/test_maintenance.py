"""Maintenance: what is merged, bounded and forgotten while nobody waits; and which rhythm a run has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from mnemoduck import maintenance
from mnemoduck.errors import StorageError, UsageError
from mnemoduck.events import Event, new_event, new_event_id
from mnemoduck.home import Home
from mnemoduck.inbox import InboxWriter
from mnemoduck.llm.cache import open_cache
from mnemoduck.maintenance import maintain
from mnemoduck.pipeline.load import compact_past_months, load_inbox, read_manifest
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.rhythm import RHYTHMS, choose_rhythm
from mnemoduck.pipeline.run import run_pipeline

PROJECT = Path(__file__).resolve().parents[2]
JUNE, JULY = datetime(2026, 6, 30, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)


def append(home: Home, *events: Event) -> None:
    writer = InboxWriter(home)
    writer.append([event.to_line() for event in events])
    writer.close()


def memory(recorded_at: datetime) -> Event:
    return new_event("memory", {"content": "x"}, recorded_at=recorded_at)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a weekly maintenance of one step, by its name: those that start dbt are tested elsewhere."""
    due = maintenance._due

    def keep(name: str) -> None:
        monkeypatch.setattr(
            maintenance, "_due", lambda *asked: [step for step in due(*asked) if step[0] == name]
        )

    return keep


def test_each_month_that_is_over_becomes_one_file_and_keeps_every_row(home: Home) -> None:
    for _ in range(3):
        append(home, memory(JUNE), memory(JULY))
        load_inbox(home)
    before = sorted(row["event_id"] for row in rows(home))
    assert compact_past_months(home, JULY) == [("year=2026/month=06", 3, 3)]
    files = [file.path for batch in read_manifest(home) for file in batch.files]
    assert sorted(path.rsplit("/", 1)[0] for path in files) == [
        "year=2026/month=06",
        *["year=2026/month=07"] * 3,
    ]
    assert sorted(str(path.relative_to(home.raw)) for path in home.raw.rglob("*.parquet")) == sorted(files)
    assert sorted(row["event_id"] for row in rows(home)) == before
    assert compact_past_months(home, JULY) == []
    append(home, memory(JUNE))
    assert load_inbox(home) == read_manifest(home)


def rows(home: Home) -> list[dict[str, Any]]:
    paths = [home.raw / file.path for batch in read_manifest(home) for file in batch.files]
    return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def test_a_step_that_fails_is_told_and_the_others_go_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[str]:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(maintenance, "_bound_cache", fail)
    steps = maintain(home, PROJECT, "nightly")
    assert [(step.name, step.error) for step in steps] == [
        ("cache of answers", "The disk is full."),
    ]
    assert maintain(home, PROJECT, "continuous") == maintain(home, PROJECT, "hourly") == []


def test_a_cache_beyond_its_bound_is_made_smaller(
    home: Home, only: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only("cache of answers")
    assert maintain(home, PROJECT, "weekly")[0].said == ("there is none",)
    with RunLock(home), open_cache(home):
        pass
    assert maintain(home, PROJECT, "weekly")[0].said == ("its file is within 10 GB",)
    monkeypatch.setattr(maintenance, "variables", lambda _: {"llm_cache_gigabytes": 1e-6})
    assert maintain(home, PROJECT, "weekly")[0].said == ("0 answers and 0 vectors evicted, 0 kept",)
    monkeypatch.setattr(maintenance, "variables", lambda _: {"llm_cache_gigabytes": 0})
    assert maintain(home, PROJECT, "weekly")[0].said == ("not bounded",)


def test_a_step_that_meets_a_run_is_told_of_it(
    home: Home, only: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only("raw files")
    monkeypatch.setattr("mnemoduck.inbox.LOCK_PATIENCE", 0.0)
    with RunLock(home):
        (step,) = maintain(home, PROJECT, "weekly")
    assert step.error is not None
    assert "Another run is at work" in step.error


@pytest.mark.parametrize("age", [1, 2.5])
def test_an_age_that_no_month_can_have_is_refused(
    home: Home, only: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    only("archive")
    assert maintain(home, PROJECT, "weekly")[0].said == ("not asked for",)
    monkeypatch.setattr(maintenance, "variables", lambda _: {"archive_after_months": age})
    error = maintain(home, PROJECT, "weekly")[0].error
    assert error is not None
    assert f"archive_after_months is {age:g}; it takes a whole number" in error


# --- the rhythm of a run -------------------------------------------------------------------------------


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_before_the_first_complete_build_every_rhythm_builds_everything(home: Home, rhythm: str) -> None:
    selected, reason = choose_rhythm(home, rhythm)
    assert selected is None
    assert reason == "There is no complete build yet, so everything is built."


def test_a_run_that_is_to_load_an_order_to_forget_is_a_nightly_one(home: Home) -> None:
    pretend_a_build(home)
    append(home, memory(JULY))
    assert choose_rhythm(home, "continuous") == ("continuous", None)
    append(home, new_event("forget", {"memory_ids": [str(new_event_id())]}))
    assert choose_rhythm(home, "continuous")[0] == choose_rhythm(home, "hourly")[0] == "nightly"
    assert choose_rhythm(home, "weekly") == ("weekly", None)


def test_what_a_slower_rhythm_owes_is_built_at_once_and_not_at_night(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_a_build(home)
    said = [
        "mnemoduck not published: readers stay on the last good snapshot. Not built and tested: facts.",
        "mnemoduck published: 20260701T000000Z-0123456789ab",
    ]
    asked = []

    @contextmanager
    def dbt(arguments: list[str], *_: object, **__: object) -> Iterator[SimpleNamespace]:
        asked.append(arguments)
        info = {"name": "JinjaLogInfo", "msg": said[len(asked) - 1], "level": "info"}
        yield SimpleNamespace(stdout=[json.dumps({"info": info, "data": {}})], returncode=0)

    monkeypatch.setattr("mnemoduck.pipeline.run.check_database_file", lambda _: None)
    monkeypatch.setattr("mnemoduck.pipeline.run.start_dbt", dbt)
    summary = run_pipeline(home, PROJECT, rhythm="continuous")
    assert asked == [["build", "--selector", "continuous"], ["build"]]
    assert summary.is_ok
    assert summary.outcome == "published"
    assert summary.notices == ["Not built and tested: facts. So everything is built."]


def test_a_full_refresh_of_a_part_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="A full refresh builds everything"):
        run_pipeline(home, PROJECT, rhythm="nightly", full_refresh=True)


def pretend_a_build(home: Home) -> None:
    home.warehouse.touch()
    (home.published / "s.duckdb").touch()
    home.current.write_text("s.duckdb\n")
