"""docs/reliability.md says what the committed results say, and hides no broken promise."""

from __future__ import annotations

import json
from pathlib import Path

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
