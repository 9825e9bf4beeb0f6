"""docs/reliability.md says what the committed results say, and hides no broken promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.reliability.report import write_report

PROJECT = Path(__file__).resolve().parents[2]
RESULTS = PROJECT / "benchmarks" / "reliability"
PAGE = PROJECT / "docs" / "reliability.md"


def test_the_page_is_made_of_the_committed_results(tmp_path: Path) -> None:
    write_report(RESULTS, tmp_path)
    assert (tmp_path / "reliability.md").read_text("utf-8") == PAGE.read_text("utf-8")


def test_a_fault_is_counted_and_shown_with_its_instant(tmp_path: Path) -> None:
    instant = {
        "phase": "facts",
        "part": "models",
        "attempt": 3,
        "seed": 1,
        "action": "kill",
        "at": 5,
        "of": 9,
        "call": "fsync",
        "path": "home/warehouse.duckdb.wal",
        "is_struck": True,
        "faults": ["a memory is lost"],
    }
    (tmp_path / "crash.jsonl").write_text(json.dumps(instant) + "\n")
    scenario = {
        "name": "years ahead",
        "told": 3,
        "found_at_once": 3,
        "found_at_last": 2,
        "faults": ["hidden"],
    }
    (tmp_path / "clocks.json").write_text(json.dumps({"run": {}, "outcomes": [scenario]}))
    write_report(tmp_path, tmp_path)
    page = (tmp_path / "reliability.md").read_text("utf-8")
    assert "1 instants, **1 with faults**" in page
    assert "| facts 3 | 1 | kill | 5 of 9 | fsync `home/warehouse.duckdb.wal` | a memory is lost |" in page
    assert "| models | 1 | 1 kill | 0 | 1 |" in page
    assert "| years ahead | 3 | 3 | 2 | hidden |" in page
    assert "0 of 1 scenarios with clocks kept" in page
    assert "Not run yet: `python -m benchmarks.reliability concurrency`." in page


SPREAD = {"p50": 1.0, "p99": 2.0, "most": 70.0}
CROWD = {
    "run": {"processors": 2},
    "seconds": 300.0,
    "writers": 16,
    "readers": 8,
    "remembered": 9000,
    "looks": 500,
    "builds": [{"code": 0, "seconds": 30.0}, {"code": 0, "seconds": 40.0}],
    "refusals": [{"code": 75, "is_said": True, "said": "Error: Another run is at work"}],
    "reader_errors": [],
    "unseen": 0,
    "went_back": 0,
    "faults": [],
    **dict.fromkeys(("remember_ms", "recall_ms", "age_of_news_ms", "age_of_snapshot_s"), SPREAD),
}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "kept"),
        ({"unseen": 1}, "**broken**"),
        ({"reader_errors": ["IOException"]}, "**broken**"),
        ({"faults": ["lost"]}, "**broken**"),
        ({"builds": [{"code": 1, "seconds": 40.0}]}, "**broken**"),
        ({"builds": [{"code": 0, "seconds": 34.0}]}, "**broken**"),  # the build that was read was 70 s old
        ({"refusals": [{"code": 1, "is_said": False, "said": "?"}]}, "**broken**"),
    ],
)
def test_a_crowd_keeps_a_promise_or_breaks_it(tmp_path: Path, change: dict[str, Any], verdict: str) -> None:
    (tmp_path / "concurrency.json").write_text(json.dumps({**CROWD, **change}))
    step = {"name": "load", "code": 1, "said": "No space | left", "faults": []}
    (tmp_path / "full_disk.json").write_text(json.dumps({"run": {}, "outcomes": [step]}))
    write_report(tmp_path, tmp_path)
    page = (tmp_path / "reliability.md").read_text("utf-8")
    assert f"on 2 processors: {verdict}." in page
    assert "| age of the build that readers are on | 1 s | 2 s | 70 s |" in page
    assert "| load | 1 | No space \\| left | kept |" in page
