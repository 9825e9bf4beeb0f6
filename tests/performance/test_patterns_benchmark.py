"""The page about what patterns are worth says what was measured, and its areas are areas under ROC curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.patterns.__main__ import DOCS, RESULT
from benchmarks.patterns.heldout import PARTS, Comparison, _parts
from benchmarks.patterns.judgements import JUDGEMENTS
from benchmarks.patterns.report import PAGE, PLOT, write_report


def test_the_committed_page_and_plot_are_made_of_the_committed_result(tmp_path: Path) -> None:
    write_report(json.loads(RESULT.read_text("utf-8")), tmp_path)
    for name in (PAGE, PLOT):
        assert (tmp_path / name).read_text("utf-8") == (DOCS / name).read_text("utf-8"), (
            f"{name}: run `python -m benchmarks.patterns report`"
        )


def test_each_of_the_most_telling_patterns_was_read_and_judged() -> None:
    telling = json.loads(RESULT.read_text("utf-8"))["telling"]
    assert {(one["domain"], one["kind"], one["pattern"]) for one in telling} == set(JUDGEMENTS)


def episode(domain: str, task: str, is_success: bool) -> dict[str, object]:
    return {"domain": domain, "task_key": task, "is_success": is_success}


def test_an_area_is_the_share_of_pairs_within_a_domain_in_which_the_success_scores_higher() -> None:
    episodes = [
        episode("shop", "a", True),
        episode("shop", "b", False),
        episode("shop", "c", True),
        episode("shop", "d", False),
        episode("bank", "e", True),
        episode("bank", "f", False),
    ]
    comparison = Comparison(episodes)
    scores = {0: 2.0, 1: 1.0, 2: 1.0, 3: 3.0, 4: -9.0, 5: -9.0}
    comparison.add(range(6), scores, {"shop": 0.5, "bank": 0.9})
    areas = comparison.areas()
    # Of the shop's four pairs one is won, one a tie, two are lost; the bank's only one is a tie.
    assert areas["shop"]["area"] == pytest.approx(1.5 / 4)
    assert areas["bank"]["area"] == pytest.approx(0.5)
    assert areas["pooled"]["area"] == pytest.approx(2 / 5)


def test_attempts_at_one_task_are_also_compared_alone() -> None:
    comparison = Comparison(
        [episode("shop", "a", True), episode("shop", "a", False), episode("shop", "b", False)]
    )
    comparison.add(range(3), {0: 1.0, 1: 0.0, 2: 5.0}, {"shop": 0.5})
    areas = comparison.areas()
    assert (areas["pooled"]["area"], areas["same task"]["area"]) == (0.5, 1.0)
    assert areas["same task"]["pairs"] == 1


def test_all_attempts_at_a_task_are_in_one_part_and_each_domain_is_dealt_out_evenly() -> None:
    episodes = [episode("shop", f"task {number % 20}", True) for number in range(40)]
    parts = _parts(episodes, 3)
    assert len(parts) == 20
    assert [list(parts.values()).count(part) for part in range(PARTS)] == [4] * PARTS
    assert parts != _parts(episodes, 4), "another split deals otherwise"
