"""The benchmark of profiles: who is measured where, that its page is its result, and that it holds no more.

dbt is not started: the measurement itself is `python -m benchmarks.profiles run`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from benchmarks.profiles import measure
from benchmarks.profiles.measure import DEFAULT, SECTIONS, concerned_by, measure_ingest, summary
from benchmarks.profiles.report import PAGE, ROWS, write_report

from mnemoduck import Memory
from mnemoduck.settings import PROFILE_VARIABLE, PROFILES
from tests.performance.machine import RUN

PROJECT = Path(__file__).resolve().parents[2]
RESULT = PROJECT / "benchmarks" / "profiles" / "result.json"


def a_result(**ratios: float) -> dict[str, Any]:
    """Two rounds in which a figure of a profile is so many times the default's, the other ones the same."""
    parts: dict[str, Any] = {}
    for part, section in SECTIONS.items():
        names = [row.name for row in ROWS if row.part == part]
        parts[part] = {
            profile: [
                {name: 10.0 * number * (1 if profile == DEFAULT else ratios.get(name, 1)) for name in names}
                for number in (1, 2)
            ]
            for profile in concerned_by(section)
        }
    return {"run": RUN, "memories": 1, "rounds": 2, "steps": 1, "questions": 1, "again": 1, "parts": parts}


def test_each_profile_is_measured_by_the_parts_that_its_settings_concern() -> None:
    measured = {name for section in SECTIONS.values() for name in concerned_by(section)}
    assert measured == set(PROFILES)
    sections = {key.split(".")[0] for values in PROFILES.values() for key in values}
    assert sections <= set(SECTIONS.values())
    assert "high-throughput" not in concerned_by("recall")


def test_a_profile_is_told_by_ratios_within_a_round() -> None:
    figures = {DEFAULT: [{"s": 10.0}, {"s": 40.0}, {"s": 10.0}], "own": [{"s": 5.0}, {"s": 20.0}, {"s": 9.0}]}
    assert summary(figures, "own", "s") == (9.0, 0.5)


def test_only_what_the_rounds_agree_on_is_told_as_a_difference(tmp_path: Path) -> None:
    write_report(a_result(step_per_second=3.0, build_seconds=1.02), tmp_path)
    text = (tmp_path / PAGE).read_text()
    assert "- **high-throughput**: steps of an episode 3.00 times the default's" in text
    assert "- **memory-constrained**: nothing that the rounds agree on." in text


def test_events_are_counted_and_the_profile_is_in_force_only_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEMODUCK_WRITE_EPISODE_BUFFER_STEPS", "7")
    seen = []

    def watched(*arguments: Any) -> Memory:
        memory = Memory(*arguments)
        seen.append(memory._settings.write.episode_buffer_steps)
        return memory

    monkeypatch.setattr(measure, "Memory", watched)
    found = measure_ingest(tmp_path / "home", "high-throughput", 50)
    assert all(value > 0 for value in found.values())
    assert {row.name for row in ROWS if row.part == "ingest"} <= set(found)
    assert seen == [PROFILES["high-throughput"]["write.episode_buffer_steps"]] * 2
    assert PROFILE_VARIABLE not in os.environ
    assert os.environ["MNEMODUCK_WRITE_EPISODE_BUFFER_STEPS"] == "7"


@pytest.mark.skipif(not RESULT.exists(), reason="not measured yet: python -m benchmarks.profiles run")
def test_the_page_is_the_result_and_each_profile_differs_from_the_default(tmp_path: Path) -> None:
    result = json.loads(RESULT.read_text())
    write_report(result, tmp_path)
    written = (tmp_path / PAGE).read_text()
    assert (PROJECT / "docs" / PAGE).read_text() == written
    assert "nothing that the rounds agree on" not in written
