"""The questions that are asked all the time: alone, by eight threads, and while a build is running."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.page import plt, table
from benchmarks.suite.growth import format_exponent, memories_of
from benchmarks.suite.hot import DAILY, MIXED, MONTH, RANGE, HotQueries, hot_queries, make_answers
from benchmarks.suite.load import Call, time_beside, time_while
from benchmarks.suite.parts import Found, FoundByScale
from benchmarks.suite.work import Work
from mnemoduck import Memory
from mnemoduck.home import HOME_VARIABLE, Home

PROJECT = Path(__file__).resolve().parents[3]
NAME = "queries"
TITLE = "Hot queries"

THREADS = 8
ANSWERS_SHARE = 0.1
"""So many answers of a model are in the cache that is looked up, as a share of the memories."""
REMEMBERED = 500
"""So many memories arrive for the build that runs while questions are asked."""
BLOCK_CALLS = 20

GROWS_AT_MOST = 2.0
"""Times, from the smallest to the largest scale: the goal for each question."""

_A_WHOLE_MONTH = (
    "it reads a whole month of everyone, which grows as memory does; counts kept by day would not"
)
GROWS_BECAUSE = {
    MONTH: _A_WHOLE_MONTH,
    DAILY: _A_WHOLE_MONTH,
    RANGE: "a month lies in the order of its scopes (a hash of user, agent and session), so every part of it "
    "has rows of the user; scopes whose keys begin with that of their user would change it",
    MIXED: "it asks all of these in turns",
}

ALONE, TOGETHER = "alone", "threads"


def measure(work: Work) -> Found:
    """Return the times of each question at a scale, as multiples of `select 1` by as many threads."""
    home = work.home
    answers = make_answers(
        work.empty_folder("answers") / "llm_cache.duckdb", round(work.memories * ANSWERS_SHARE)
    )
    found: Found = {"queries": {}}
    with hot_queries(home, answers, work.seed) as hot:
        calls: dict[str, Call] = {**hot.queries, MIXED: hot.mixed}
        for name, call in calls.items():
            own: dict[str, Any] = {}
            own[ALONE] = time_beside(hot.floor, call, 1, work.rounds)
            own[TOGETHER] = time_beside(hot.floor, call, THREADS, work.rounds // 2)
            if name in hot.queries:
                own["rows"] = statistics.median(hot.queries[name].expected)
                own["rows_scanned"] = max(sum(rows.values()) for rows in hot.scans(name))
            found["queries"][name] = own
            work.tell(
                f"{name}: {own[ALONE]['p50_ms']:.2f} ms, {own[ALONE]['p50_ratio']:.1f} x select 1; "
                f"{THREADS} threads {own[TOGETHER]['p50_ratio']:.1f} x"
            )
        found["reading"] = _read_apart(home)
        found["while_building"] = _while_building(home, hot)
        work.tell(
            f"while building: {found['while_building']['p50_ratio']:.1f} x, "
            f"{found['while_building']['errors']} errors"
        )
    _check(found)
    return found


def _while_building(home: Home, hot: HotQueries) -> dict[str, Any]:
    """Ask the mixed load by eight threads while `mnemoduck run` builds and publishes what just arrived."""
    before = hot.reader.get_published().path
    with Memory(home.path) as memory:
        for number in range(REMEMBERED):
            memory.remember(f"what arrives before build number {number}", user_id="user-of-the-build")
    environment = {**os.environ, HOME_VARIABLE: str(home.path), "MNEMODUCK_LLM": "off"}
    log = home.path / "build.out"
    with log.open("w") as out:
        build = subprocess.Popen(
            [sys.executable, "-c", "from mnemoduck.cli import main; main()", "run"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            found = time_while(lambda: build.poll() is None, hot.floor, hot.mixed, THREADS, BLOCK_CALLS)
        finally:
            build.wait()
    if build.returncode != 0:
        raise RuntimeError(f"the build failed:\n{log.read_text()}")
    if hot.reader.get_published().path == before:
        raise RuntimeError("the build published nothing: no reader went from one snapshot to the next")
    return found


def _read_apart(home: Home) -> dict[str, Any]:
    """Return what memory the mixed load takes in a process that does nothing else."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.suite.reading",
        str(home.path),
        str(THREADS),
        str(BLOCK_CALLS),
    ]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the readers failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def _check(found: Found) -> None:
    """Raise if a call went wrong: times of wrong answers say nothing."""
    loads = [own[kind] for own in found["queries"].values() for kind in (ALONE, TOGETHER)]
    errors = [load["first_error"] for load in [*loads, found["while_building"]] if load["errors"]]
    if errors or found["reading"]["errors"]:
        raise RuntimeError("; ".join(errors) or "a reader of the mixed load got a wrong answer")


def ratios(found: Found) -> dict[str, float]:
    """Alone the median as a multiple of that of `select 1`; by many threads the cost, from the throughput.

    Of many threads on few processors most calls are quick and some wait long: a median says little.
    """
    named = {}
    for name, own in found["queries"].items():
        named[f"{name}, alone"] = own[ALONE]["p50_ratio"]
        named[f"{name}, {THREADS} threads"] = own[TOGETHER]["throughput_ratio"]
    named[f"{MIXED}, {THREADS} threads while building"] = found["while_building"]["throughput_ratio"]
    named[f"{MIXED}, {THREADS} threads, peak MB"] = found["reading"]["peak_mb"]
    return named


def growth_of(found_by_scale: FoundByScale, name: str, kind: str) -> float | None:
    """Return the ratio to `select 1` at the largest scale over that at the smallest; None of one scale."""
    scales = [found["queries"][name][kind] for found in found_by_scale.values() if name in found["queries"]]
    if len(scales) < 2:
        return None
    measure = "p50_ratio" if kind == ALONE else "throughput_ratio"
    return float(scales[-1][measure] / scales[0][measure])


def report(found_by_scale: FoundByScale) -> Iterator[str]:
    """Yield a table of each question alone and by threads, then what a build does to it, then the goals."""
    names = list(next(reversed(list(found_by_scale.values())))["queries"])
    yield (
        "Each is asked in eight variants, and each answer is checked: a call that found other rows than "
        "there are would be an error. Alone: median as a multiple of `select 1` by the same client, in "
        "blocks that alternate with blocks of it. Growth is that multiple at the largest scale over "
        "the smallest."
    )
    yield ""
    yield from table(
        ["alone", *found_by_scale, "growth", "k", "rows it returns", "rows it reads"],
        [[name, *_alone(found_by_scale, name)] for name in names],
    )
    yield ""
    yield (
        f"By {THREADS} threads at once on one published snapshot, each with a cursor that it keeps: calls a "
        "second, and what a call costs as a multiple of `select 1` by as many threads (its calls a second "
        "over ours); then p50, p95 and p99."
    )
    yield ""
    yield from table(
        [f"{THREADS} threads", *found_by_scale, "growth", "errors"],
        [[name, *_together(found_by_scale, name)] for name in names],
    )
    yield ""
    peaks = (f"{found['reading']['peak_mb']:,.0f} MB at {scale}" for scale, found in found_by_scale.items())
    before = next(iter(found_by_scale.values()))["reading"]["started_mb"]
    yield (
        f"A process that asks the mixed load by {THREADS} threads holds at most {', '.join(peaks)}, of which "
        f"{before:,.0f} MB are Python with what it has imported."
    )
    yield ""
    yield (
        f"While `mnemoduck run` builds, tests and publishes {REMEMBERED} new memories of the same home, "
        f"{THREADS} readers ask the mixed load; they go on to the new snapshot when it is published:"
    )
    yield ""
    yield from table(
        ["while a build is running", *found_by_scale],
        [
            ["calls", *(f"{found['while_building']['calls']:,}" for found in found_by_scale.values())],
            ["errors", *(str(found["while_building"]["errors"]) for found in found_by_scale.values())],
            *(
                [text, *(_load(found["while_building"], rate) for found in found_by_scale.values())]
                for text, rate in (("calls a second, cost", True), ("p50 / p95 / p99", False))
            ),
        ],
    )
    yield ""
    yield from _goal(found_by_scale, names)


def _alone(found_by_scale: FoundByScale, name: str) -> Iterator[str]:
    own = [found["queries"][name] for found in found_by_scale.values()]
    for one in own:
        yield f"{one[ALONE]['p50_ratio']:.3g}x ({one[ALONE]['p50_ms']:.3g} ms)"
    growth = growth_of(found_by_scale, name, ALONE)
    yield "" if growth is None else f"{growth:.2f}"
    memories = memories_of(found_by_scale)
    points = zip(memories, (one[ALONE]["p50_ratio"] for one in own), strict=True)
    yield format_exponent(list(points))
    for count in ("rows", "rows_scanned"):
        yield " / ".join(f"{one[count]:,.0f}" for one in own if count in one)


def _together(found_by_scale: FoundByScale, name: str) -> Iterator[str]:
    own = [found["queries"][name][TOGETHER] for found in found_by_scale.values()]
    yield from (f"{_load(one, True)}; {_load(one, False)}" for one in own)
    growth = growth_of(found_by_scale, name, TOGETHER)
    yield "" if growth is None else f"{growth:.2f}"
    yield str(sum(one["errors"] for one in own))


def _load(one: dict[str, Any], is_rate: bool) -> str:
    if is_rate:
        return f"{one['per_second']:,.0f}/s, {one['throughput_ratio']:.3g}x"
    return " / ".join(f"{one[f'{name}_ms']:.3g}" for name in ("p50", "p95", "p99")) + " ms"


def _goal(found_by_scale: FoundByScale, names: list[str]) -> Iterator[str]:
    grown = {name: growth for name in names if (growth := growth_of(found_by_scale, name, ALONE)) is not None}
    if not grown:
        return
    scales = list(found_by_scale)
    yield f"Goal: within {GROWS_AT_MOST:.0f}x from {scales[0]} to {scales[-1]}."
    missed = {name: growth for name, growth in grown.items() if growth > GROWS_AT_MOST}
    if missed:
        yield f"Missed by {len(missed)} of {len(grown)}:"
        yield ""
        for name, growth in missed.items():
            why = GROWS_BECAUSE.get(name)
            yield f"- {name} ({growth:.1f}x)" + (f": {why}." if why else ".")
    else:
        yield "Met by all."


def plot(found_by_scale: FoundByScale, path: Path) -> None:
    """Draw each question alone against the number of memories."""
    names = list(next(reversed(list(found_by_scale.values())))["queries"])
    figure, panel = plt.subplots(figsize=(8, 4.5))
    for place, name in enumerate(names):
        panel.plot(
            memories_of(found_by_scale),
            [found["queries"][name][ALONE]["p50_ratio"] for found in found_by_scale.values()],
            marker="o", label=name, color=f"C{place % 10}", linestyle="-" if place < 10 else "--",
        )  # fmt: skip
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("memories")
    panel.set_ylabel("multiple of select 1")
    panel.grid(visible=True, alpha=0.3)
    panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
