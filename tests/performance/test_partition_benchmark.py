"""The benchmark of partitions runs as documented, on a small stream: it cannot rot unseen.

It times nothing that counts at this size; plans and costs are held in tests/integration.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from benchmarks.partitions import layouts

from tests.integration import forks

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_it_measures_every_layout_and_makes_its_page_and_plot(tmp_path: Path) -> None:
    """One test for all, since a run takes most of a minute, and workers share no fixture."""
    result = tmp_path / "result.json"
    _benchmark("run", "--rows", "4000", "--rounds", "5", "--folder", str(tmp_path), "--out", str(result))

    (size,) = json.loads(result.read_text())["sizes"]
    assert {entry["layout"] for entry in size["questions"]} == {"months", "plain", "indexed", "only"}
    assert all(entry["ratio"] > 0 and entry["answer_rows"] > 0 for entry in size["questions"])
    changed = size["changes"]["changed_1_percent"]["months"]
    assert 20 < changed["changed_rows"] < 80
    assert changed["untouched_rows"] == changed["unchanged_rows"] == 4000 - changed["changed_rows"]

    _benchmark("report", "--result", str(result), "--docs", str(tmp_path))
    page = (tmp_path / "partitions-benchmark.md").read_text()
    assert "| lookup by id, to `select 1` | at most 4 x |" in page
    assert "4,000 rows" in page
    assert (tmp_path / "partitions-benchmark.svg").read_text().startswith("<?xml")


def test_the_committed_page_is_made_of_the_committed_result(tmp_path: Path) -> None:
    _benchmark("report", "--docs", str(tmp_path))
    committed = (PROJECT / "docs" / "partitions-benchmark.md").read_text()
    assert (tmp_path / "partitions-benchmark.md").read_text() == committed


def _benchmark(*arguments: str) -> None:
    """Do what `python -m benchmarks.partitions` does; its dbt need not be imported: see forks.py."""
    with (
        mock.patch.object(sys, "argv", ["benchmarks.partitions", *arguments]),
        mock.patch.object(layouts, "subprocess", SimpleNamespace(run=_run_dbt)),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_module("benchmarks.partitions", run_name="__main__")
    assert ended.value.code == 0


def _run_dbt(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], **_: bool
) -> subprocess.CompletedProcess[str]:
    assert tuple(command[:3]) == forks.START_OF_DBT
    return subprocess.CompletedProcess(command, *forks.run(["dbt", *command[3:]], cwd=cwd, env=env))
