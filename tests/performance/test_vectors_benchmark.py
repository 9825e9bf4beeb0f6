"""The figures behind the way vectors are stored, and the benchmark that they come from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
RESULT = PROJECT / "benchmarks" / "vectors" / "result.json"
PAGE = "vectors-benchmark.md"


def test_the_committed_result_is_why_vectors_are_uncompressed_lists() -> None:
    result = json.loads(RESULT.read_text())
    stored = {(one["type"], one["compression"]): one for one in result["layouts"]}
    assert stored["float[]", "ALPRD disabled"]["found"] == ["Uncompressed"]
    for scope in ("all", "one user"):
        times = _best_times(result, scope)
        assert times["float[]", "as DuckDB compresses"] > 1.5 * times["float[]", "ALPRD disabled"]
        assert times["float[]", "ALPRD disabled"] < 2 * times["float[n]", "ALPRD disabled"]


def test_the_committed_page_is_made_of_the_committed_result(tmp_path: Path) -> None:
    _benchmark("report", "--docs", str(tmp_path))
    assert (tmp_path / PAGE).read_text() == (PROJECT / "docs" / PAGE).read_text()


def test_it_times_every_search_in_every_layout(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    small = ("--rows", "3000", "--dimension", "8", "--rounds", "2", "--folder", str(tmp_path))
    _benchmark("run", *small, "--out", str(out))
    result = json.loads(out.read_text())
    assert len(result["scans"]) == 4 * 2 * 4
    assert {
        one["type"]: one["found"] for one in result["layouts"] if one["compression"] == "ALPRD disabled"
    } == {
        "float[]": ["Uncompressed"],
        "float[n]": ["Uncompressed"],
    }


def _best_times(result: dict[str, Any], scope: str) -> dict[tuple[str, str], float]:
    """Return for each layout the milliseconds of the fastest way to search it."""
    best: dict[tuple[str, str], float] = {}
    for one in result["scans"]:
        if one["scope"] == scope:
            layout = (one["type"], one["compression"])
            best[layout] = min(best.get(layout, one["fastest_ms"]), one["fastest_ms"])
    return best


def _benchmark(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.vectors", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
