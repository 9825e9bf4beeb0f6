"""The cache stays within its budget; the benchmark runs as documented, and its page says what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.llm_cache.__main__ import make_page

PROJECT = Path(__file__).resolve().parents[2]
RESULT = PROJECT / "benchmarks" / "llm_cache" / "result.json"
PAGE = PROJECT / "docs" / "llm-cache-benchmark.md"
LOOKUP_BUDGET = 4
"""Times `select 1`."""
JOIN_BUDGET = 3
"""Times the join on an integer key that fetches the same answers."""
LOOKUP_LIMIT = 6
JOIN_LIMIT = 5
"""What fails the tests, whatever else the machine does meanwhile."""
UUID_KEY = "UUID, as the cache has"
TEXT_KEY = "text of 64 hex digits"


def joins(result: dict[str, Any], payload: str) -> dict[str, float]:
    return {one["key"]: one["ratio"] for one in result["joins"] if one["payload"] == payload}


def test_the_committed_result_is_within_the_budget() -> None:
    result = json.loads(RESULT.read_text())
    assert result["responses"] == 1_000_000
    assert result["lookup"]["ratio"] <= LOOKUP_BUDGET
    assert (result["lookup"]["index_scans"], result["lookup"]["sequential_scans"]) == (1, 0)
    assert joins(result, "the answer")[UUID_KEY] <= JOIN_BUDGET
    bare = joins(result, "a number")
    assert bare[UUID_KEY] <= JOIN_BUDGET * bare["integer, scattered"]
    assert bare[TEXT_KEY] > 1.5 * bare[UUID_KEY], "why keys are not texts"


def test_the_page_says_what_was_measured() -> None:
    assert PAGE.read_text() == "\n".join(make_page(json.loads(RESULT.read_text())))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result at 10,000 responses."""
    folder = tmp_path_factory.mktemp("llm_cache")
    out = folder / "result.json"
    size = ["--responses", "10000", "--rounds", "3"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.llm_cache",
            "run",
            *size,
            "--folder",
            str(folder),
            "--out",
            str(out),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(folder.iterdir()) == [out], "the caches that it made are gone"
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_it_stays_near_its_budget_at_a_small_scale(small: dict[str, Any]) -> None:
    assert small["lookup"]["index_scans"] == 1
    assert small["lookup"]["rows_scanned"] <= 1
    assert small["lookup"]["ratio"] < LOOKUP_LIMIT
    assert joins(small, "the answer")[UUID_KEY] < JOIN_LIMIT


def test_its_page_has_every_figure(small: dict[str, Any]) -> None:
    page = "\n".join(make_page(small))
    for one in [*small["steps"], *small["joins"]]:
        assert f"{one['median_ms']:,.1f}" in page or f"{one['median_ms']:.0f}" in page
