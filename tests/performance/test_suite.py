"""The performance suite's frame: its parts are found, its results are kept whole, what is worse is flagged.

Nothing is timed here: what is gated on in each run of the tests is in test_gates.py.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.suite import __main__ as suite
from benchmarks.suite.growth import exponent
from benchmarks.suite.hot import LOOKUP, MONTH
from benchmarks.suite.load import BLOCKS, Threads, time_beside
from benchmarks.suite.page import PAGE, write_page
from benchmarks.suite.parts import Found, FoundByScale, build, find_parts, queries
from benchmarks.suite.results import (
    ResultError,
    compare,
    found_by_scale,
    keep,
    new_result,
    read_result,
    write_result,
)
from benchmarks.suite.work import SCALES, Work
from click.testing import CliRunner

from mnemoduck.cli.bench import SCALES as OFFERED_SCALES
from mnemoduck.cli.bench import bench_command
from mnemoduck.errors import UsageError
from mnemoduck.home import open_home
from tests.performance.machine import RUN

PROJECT = Path(__file__).resolve().parents[2]


def _result(**ratios: float) -> dict[str, Any]:
    result = new_result(seed=1)
    run = dict(RUN)
    keep(result, "10k", 10_000, "clock", {"run": run, "ratios": ratios, "found": {"ticks": 3}})
    return result


class Clock:
    """A part that finds what it is told to."""

    NAME, TITLE = "clock", "The clock"

    def __init__(self, ticks: int = 3) -> None:
        self.ticks = ticks

    def measure(self, work: Work) -> Found:
        if not self.ticks:
            raise RuntimeError("it stands still")
        return {"ticks": self.ticks}

    def ratios(self, found: Found) -> dict[str, float]:
        return {"ticks": found["ticks"] / found["memories"]}

    def report(self, found_by_scale: FoundByScale) -> Iterator[str]:
        for scale, found in found_by_scale.items():
            yield f"{scale}: {found['ticks']} ticks of {found['memories']:,}"


def test_each_part_has_a_name_a_title_and_what_a_part_is_made_of() -> None:
    parts = find_parts()
    assert list(parts)[:1] == ["build"], "it makes the home that the others read"
    for name, part in parts.items():
        assert name == part.NAME
        assert part.TITLE
        assert all(callable(getattr(part, word)) for word in ("measure", "ratios", "report"))


def test_the_command_line_offers_the_scales_of_the_suite() -> None:
    assert list(OFFERED_SCALES) == list(SCALES)


def test_what_grew_by_more_than_three_tenths_is_worse() -> None:
    changes = compare(_result(a=1.0, b=1.0, c=2.0), _result(a=1.29, b=1.31, c=0.5))
    assert {change.ratio: change.is_worse for change in changes} == {"a": False, "b": True, "c": False}
    assert str(changes[1]) == "10k clock: b: 1 -> 1.31 (1.31x)"


def test_a_ratio_that_is_no_longer_measured_is_flagged_and_a_new_one_is_not() -> None:
    changes = compare(_result(gone=1.0, kept=0.0), _result(kept=0.0, new=9.0))
    assert {change.ratio: change.is_worse for change in changes} == {"gone": True, "kept": False}
    (worse,) = [change for change in changes if change.is_worse]
    assert "not measured now" in str(worse)
    assert compare(_result(errors=0.0), _result(errors=1.0))[0].is_worse, "from none to one"


def test_results_of_different_streams_or_of_nothing_in_common_are_not_compared() -> None:
    other = _result(a=1.0)
    other["seed"] = 2
    with pytest.raises(ResultError, match="Measure with --seed 1"):
        compare(_result(a=1.0), other)
    with pytest.raises(ResultError, match=r"The baseline has: 10k \(clock\)"):
        compare(_result(a=1.0), new_result(seed=1))


def test_a_result_is_read_as_it_was_written_with_the_smallest_scale_first(tmp_path: Path) -> None:
    result = new_result(seed=1)
    for scale in ("1m", "10k"):
        keep(result, scale, SCALES[scale], "clock", {"found": {}, "ratios": {}})
    write_result(tmp_path / "new" / "result.json", result)
    assert list(read_result(tmp_path / "new" / "result.json")["scales"]) == ["10k", "1m"]
    assert list(found_by_scale(result, "clock")) == ["1m", "10k"]
    assert found_by_scale(result, "other") == {}


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 0}'])
def test_what_is_no_result_is_told_with_what_to_do(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ResultError, match="mnemoduck bench --out FILE"):
        read_result(path)


def test_an_exponent_is_fitted_to_all_scales() -> None:
    assert exponent([(10, 3.0), (100, 30.0), (1000, 300.0)]) == pytest.approx(1)
    assert exponent([(10, 5.0), (100, 5.0)]) == pytest.approx(0)
    assert exponent([(10, 5.0), (10, 6.0)]) is None
    assert exponent([(10, 0.0), (100, 5.0)]) is None


def test_a_part_that_fails_is_told_and_what_the_others_measured_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Clock(ticks=0)
    broken.NAME = "broken"
    monkeypatch.setattr(suite, "find_parts", lambda: {"broken": broken, "clock": Clock()})
    out, work = tmp_path / "result.json", tmp_path / "work"
    arguments = ["run", "--scale", "10k", "--out", str(out), "--work", str(work)]
    done = CliRunner().invoke(suite.main, arguments)
    assert done.exit_code == 1
    assert "FAILED 10k broken: it stands still" in done.output
    assert list(read_result(out)["scales"]["10k"]["parts"]) == ["clock"]
    assert read_result(out)["scales"]["10k"]["parts"]["clock"]["ratios"] == {"ticks": 0.0003}
    done = CliRunner().invoke(suite.main, [*arguments, "--part", "watch"])
    assert done.exit_code == 2
    assert "There is no part watch. There are: broken, clock." in done.output
    done = CliRunner().invoke(suite.main, [*arguments, "--part", "clock", "--seed", "2"])
    assert done.exit_code == 2, "results of different seeds are not mixed"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_home_that_was_kept_is_measured_again_without_being_built(tmp_path: Path) -> None:
    made = Work("10k", 200, tmp_path / "10k")
    made.note_kept()
    assert not (tmp_path / "10k").exists(), "nothing was made"
    made.home = open_home(tmp_path / "10k" / "home")
    made.built = {"steps": {"full": {"wall_seconds": 3.0}}}
    made.note_kept()
    taken = Work("10k", 200, tmp_path / "10k")
    taken.take_kept()
    assert taken.stream == made.stream
    assert all(path.exists() for paths in taken.stream.segments.values() for path in paths)
    assert (taken.home, taken.built) == (made.home, made.built)
    with pytest.raises(ValueError, match="of 200 memories and seed 1, not of 200 and 2"):
        Work("10k", 200, tmp_path / "10k", seed=2).take_kept()


def test_what_cannot_be_reused_is_refused(tmp_path: Path) -> None:
    arguments = ["run", "--scale", "10k", "--out", str(tmp_path / "out.json"), "--work", str(tmp_path)]
    done = CliRunner().invoke(suite.main, [*arguments, "--reuse"])
    assert done.exit_code == 2
    assert "--reuse builds nothing: name the other parts by --part." in done.output
    done = CliRunner().invoke(suite.main, [*arguments, "--reuse", "--part", "queries"])
    assert done.exit_code == 2
    assert "measure with --keep first" in " ".join(done.output.replace("│", " ").split())


def test_comparing_ends_with_1_if_something_is_worse(tmp_path: Path) -> None:
    baseline, now = tmp_path / "baseline.json", tmp_path / "now.json"
    baseline.write_text(json.dumps(_result(a=1.0)))
    for ratio, code in ((1.2, 0), (1.4, 1)):
        now.write_text(json.dumps(_result(a=ratio)))
        done = CliRunner().invoke(suite.main, ["compare", str(baseline), str(now)])
        assert done.exit_code == code
        assert ("WORSE  10k clock: a" in done.output) == bool(code)


def test_a_run_reads_what_it_will_compare_with_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(suite, "find_parts", lambda: {"clock": clock})
    out = tmp_path / "result.json"
    arguments = ["run", "--scale", "10k", "--out", str(out), "--work", str(tmp_path / "work")]
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{")
    done = CliRunner().invoke(suite.main, [*arguments, "--compare", str(wrong)])
    assert done.exit_code == 1
    assert f"{wrong} cannot be read as a result" in done.output
    assert not out.exists(), "nothing was measured"
    assert CliRunner().invoke(suite.main, arguments).exit_code == 0
    clock.ticks *= 2
    done = CliRunner().invoke(suite.main, [*arguments, "--compare", str(out)])
    assert done.exit_code == 1
    assert "WORSE  10k clock: ticks: 0.0003 -> 0.0006 (2.00x)" in done.output, "with what was there before"


def test_calls_are_timed_in_turns_with_a_floor_and_errors_are_counted_and_told() -> None:
    asked: list[tuple[str, int]] = []

    def floor(number: int) -> None:
        asked.append(("floor", number))

    def call(number: int) -> None:
        asked.append(("call", number))
        if number % 2:
            raise ValueError(f"odd: {number}")

    found = time_beside(floor, call, threads=2, calls=2 * BLOCKS)
    assert (found["threads"], found["calls"]) == (2, 2 * 2 * BLOCKS)
    assert found["errors"] == sum(number % 2 for kind, number in asked if kind == "call")
    assert found["first_error"].startswith("ValueError: odd: ")
    kinds = [kind for kind, _ in asked]
    assert kinds[-8:] == ["floor"] * 4 + ["call"] * 4, "each block of two threads with two calls each"
    numbers = [number for kind, number in asked if kind == "call"]
    assert len(set(numbers)) == len(numbers), "no two calls are the same"
    assert found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]


def test_a_block_ends_when_its_time_is_over() -> None:
    with Threads(2) as threads:
        assert len(threads.time(lambda _: None, calls=1000, seconds=0).milliseconds) == 2


def test_the_suite_is_called_from_the_command_line_for_a_project_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        calls.append(command[1:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    out, baseline = tmp_path / "out.json", tmp_path / "baseline.json"
    baseline.write_text("{}")
    asked = ["--scale", "100k", "--part", "clock", "--out", str(out), "--compare", str(baseline)]
    done = CliRunner().invoke(bench_command, [*asked, "--project", str(PROJECT)])
    assert done.exit_code == 0
    measured = ["--scale", "100k", "--part", "clock", "--compare", str(baseline), "--out", str(out)]
    assert calls == [["-m", "benchmarks.suite", "run", *measured]]
    (tmp_path / "dbt_project.yml").write_text("name: mnemoduck\n")
    done = CliRunner().invoke(bench_command, ["--project", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "they come with the source" in str(done.exception)


def test_the_committed_page_is_made_of_the_committed_result(tmp_path: Path) -> None:
    done = CliRunner().invoke(suite.main, ["report", "--docs", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / PAGE).read_text() == (PROJECT / "docs" / PAGE).read_text()
    for plot in tmp_path.glob("*.svg"):
        assert f"]({plot.name})" in (tmp_path / PAGE).read_text()


def test_no_call_of_the_committed_result_went_wrong() -> None:
    found = found_by_scale(read_result(suite.BASELINE), "queries")
    assert found
    for of_scale in found.values():
        loads = [own[kind] for own in of_scale["queries"].values() for kind in ("alone", "threads")]
        assert not any(load["errors"] for load in [*loads, of_scale["while_building"]])
        assert len(of_scale["queries"]) == 11, "ten questions and the mixed load"


def test_the_page_tells_which_questions_grow_beyond_the_goal_and_why() -> None:
    small = found_by_scale(read_result(suite.BASELINE), "queries")["10k"]
    large = copy.deepcopy(small) | {"memories": 10 * small["memories"]}
    lines = list(queries.report({"10k": small, "100k": large}))
    assert "Goal: within 2x from 10k to 100k." in lines
    assert lines[-1] == "Met by all."
    for name in (LOOKUP, MONTH):
        large["queries"][name]["alone"]["p50_ratio"] *= 3
    lines = list(queries.report({"10k": small, "100k": large}))
    missed = lines[lines.index("Missed by 2 of 11:") + 2 :]
    assert {line.partition(" (3.0x)")[0] for line in missed} == {f"- {LOOKUP}", f"- {MONTH}"}
    assert any(line.startswith(f"- {MONTH} (3.0x): it reads a whole month of everyone") for line in missed)


def test_the_page_tells_which_goals_of_builds_are_missed() -> None:
    small = found_by_scale(read_result(suite.BASELINE), "build")["10k"]
    large = copy.deepcopy(small) | {"memories": 10 * small["memories"]}

    def goal() -> str:
        lines = build.report({"10k": small, "100k": large})
        return next(line for line in lines if line.startswith("| full build: k"))

    for model in large["steps"]["full"]["models"]:
        model["seconds"] *= 10
    assert goal().endswith("| at most 1.1 | 1.00 | met |")
    for model in large["steps"]["full"]["models"]:
        model["seconds"] *= 2
    assert goal().endswith("| at most 1.1 | 1.30 | **missed** |")


def test_the_page_tells_the_exponent_of_each_step_beside_the_one_fitted_to_all() -> None:
    small = found_by_scale(read_result(suite.BASELINE), "build")["10k"]
    scales = {str(n): copy.deepcopy(small) | {"memories": n} for n in (1_000, 10_000, 100_000)}
    for times, found in zip((1, 2, 40), scales.values(), strict=True):
        for model in found["steps"]["full"]["models"]:
            model["seconds"] *= times
    (line,) = [line for line in build.report(scales) if line.startswith("From one scale to the next")]
    assert "models is 0.30, 1.30: " in line


def test_goals_from_a_million_memories_on_are_told_of_each_scale_and_reasons_once() -> None:
    small = found_by_scale(read_result(suite.BASELINE), "build")["10k"]
    scales = {
        name: copy.deepcopy(small) | {"memories": n * 1_000_000} for name, n in (("1m", 1), ("10m", 10))
    }
    for found in scales.values():  # a second for a million: the rate is met by both
        for model in found["steps"]["full"]["models"]:
            model["seconds"] = 1 / len(found["steps"]["full"]["models"])
    lines = list(build.report(scales))
    for scale, rate in (("1m", "1,000,000"), ("10m", "10,000,000")):
        assert f"| full build at {scale}: memories/s by models | at least 10,000 | {rate} | met |" in lines
        (share,) = [line for line in lines if line.startswith(f"| 1 % new at {scale}:")]
        assert share.endswith("**missed** |")
    assert len([line for line in lines if line.startswith("- 1 % new: ")]) == 1
    assert not [line for line in lines if line.startswith("- memories/s")]


def test_the_page_says_what_each_part_found_and_on_what(tmp_path: Path) -> None:
    write_page(_result(a=1.0), {"clock": Clock()}, tmp_path)
    page = (tmp_path / PAGE).read_text()
    assert "## The clock\n\n10k: 3 ticks of 10,000\n" in page
    assert "| 2026-11-21 | abc | 2 processors (x), 24 GB |" in page
