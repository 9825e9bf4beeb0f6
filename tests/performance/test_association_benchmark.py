"""The benchmark of associations runs as documented, on a small graph: it cannot rot unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_it_asks_every_question_and_makes_its_page(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    _benchmark("run", "--edges", "4000", "--rounds", "3", "--folder", str(tmp_path), "--out", str(result))
    answers = json.loads(result.read_text())["answers"]
    assert {answer["graph"] for answer in answers} == {"one scope", "50 scopes"}
    spread = [answer for answer in answers if answer["question"].startswith("spread, depth")]
    assert all(answer["answer_rows"] > 0 and answer["rows_scanned"] > 0 for answer in spread)
    _benchmark("report", "--result", str(result), "--docs", str(tmp_path))
    page = (tmp_path / "associations-benchmark.md").read_text()
    assert all(answer["question"] in page for answer in answers)


def _benchmark(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.associations", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
