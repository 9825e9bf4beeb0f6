"""Expectations by the real Great Expectations, in its process, on real snapshots and in the real pipeline."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mnemoduck.events import new_event
from mnemoduck.expectations.verdicts import Verdict
from tests.integration.workbench import PROJECT, SAMPLE_END, Workbench

WITH_EARS = """
import runpy, sys
def hear(event, _):
    if event.startswith("socket."):
        print("HEARD", event, file=sys.stderr)
sys.addaudithook(hear)
runpy.run_module("mnemoduck.expectations.worker", run_name="__main__")
"""


def results(bench: Workbench) -> list[dict[str, Any]]:
    lines = (bench.home / "expectations" / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_sample_meets_what_is_expected_of_a_snapshot_and_nobody_is_spoken_to(sample: Workbench) -> None:
    request = {
        "suite": "published",
        "severity": "fail",
        "home": str(sample.home),
        "project": str(PROJECT),
        "as_of": SAMPLE_END,
        "candidate": str(sample.snapshot()),
        "before": str(sample.snapshot()),
    }
    done = subprocess.run(
        [sys.executable, "-c", WITH_EARS],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    verdict = Verdict.model_validate_json(done.stdout)
    assert verdict.failed == ()
    assert verdict.evaluated >= 8
    heard = set(re.findall(r"HEARD (\S+)", done.stderr))
    assert not heard & {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"}


def test_a_snapshot_that_lost_memories_and_weighs_them_anew_fails_and_is_shown(sample: Workbench) -> None:
    candidate = sample.home / "published" / "29990101T000000000000Z-aaaaaaaaaaaa.duckdb"
    shutil.copy(sample.snapshot(), candidate)
    with duckdb.connect(str(candidate)) as connection:
        connection.execute("delete from stg_memories__months.m2026_03 where user_id = 'maya'")
        connection.execute("update main.memory_features set importance = 0.95, importance_method = 'model'")
    (sample.home / "published" / "CURRENT").write_text(candidate.name + "\n")
    done = sample.mnemoduck("expect", "published")
    assert done.code == 1, done.out + done.err
    assert "Expectations on published failed" in done.out
    assert re.search(r"Fail: Of each user, at least 90 % .* kept_share is .*0 of maya", done.out)
    assert "Fail: The importance of all memories is distributed as in the live snapshot" in done.out
    assert "Warn: The share of features that a model said" in done.out
    (result,) = results(sample)
    assert (result["suite"], result["success"], result["result"]) == ("published", False, "failed")
    assert {one["column"] for one in result["failed"]} >= {"kept_share", "stability_part", "model_shift"}

    pages = sorted((sample.home / result["docs"]).parent.rglob("*.html"))
    assert len(pages) >= 6
    assert "published_users" in pages[0].read_text()
    for page in pages:
        assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page.read_text()), page
    for path in [*(sample.home / "data_docs").rglob("*"), *(sample.home / "expectations").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path

    status = sample.mnemoduck_here("status").out
    assert "published failed (" in status
    assert str(sample.home / "data_docs" / "index.html") in status
    assert json.loads(sample.mnemoduck_here("status", "--json").out)["expectations"]["published"] == result


@pytest.mark.long
def test_the_pipeline_loads_and_publishes_nothing_that_fails(sample: Workbench, tmp_path: Path) -> None:
    current = sample.snapshot()
    stream = tmp_path / "future.jsonl"
    recorded_at, occurred_at = datetime(2026, 3, 15, 18, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    future = new_event("memory", {"content": "Not yet."}, recorded_at=recorded_at, occurred_at=occurred_at)
    stream.write_bytes(future.to_line())
    assert sample.mnemoduck("ingest", str(stream)).code == 0
    inbox = {path.name: path.read_bytes() for path in (sample.home / "inbox").glob("*.*")}
    manifest = (sample.home / "raw" / "batches.jsonl").read_bytes()

    done = sample.mnemoduck("run", MNEMODUCK_EXPECTATIONS_INCOMING="fail")
    assert done.code == 1
    assert "fail: At most 1 % of the waiting events lie more than a day after they were recorded" in done.out
    assert "Nothing was loaded or built: the events wait in the inbox." in done.out
    assert {path.name: path.read_bytes() for path in (sample.home / "inbox").glob("*.*")} == inbox
    assert (sample.home / "raw" / "batches.jsonl").read_bytes() == manifest

    # The source of truth is lost, and the warehouse is built from what waits alone.
    shutil.rmtree(sample.home / "raw")
    (sample.home / "warehouse.duckdb").unlink()
    done = sample.mnemoduck("run", MNEMODUCK_EXPECTATIONS_PUBLISHED="fail")
    assert done.code == 1
    assert "Of each month, at least 95 % of the memories of the live snapshot are kept" in done.out
    assert "Not published" in done.out
    assert sample.snapshot() == current
    assert not list((sample.home / "published").glob("*.tmp"))
    assert sample.query("select count(*) from staging.stg_memories") == [(256,)]
    assert list((sample.home / "inbox" / "loaded").rglob("*.jsonl"))
    assert [result["result"] for result in results(sample)] == ["failed", "failed"]
