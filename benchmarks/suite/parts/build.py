"""Building: everything, nothing new, 1 % new and 1 % late, in time, memory and bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from benchmarks.layers.measure import (
    FULL,
    LATE_PERCENT,
    NEWEST_PERCENT,
    NOTHING_NEW,
    STEPS,
    bytes_of_stream,
)
from benchmarks.layers.report import STEP_NAMES, seconds_of
from benchmarks.page import plt, table
from benchmarks.suite.growth import exponent, format_exponent, memories_of
from benchmarks.suite.parts import Found, FoundByScale
from benchmarks.suite.work import Work, calibrate
from mnemoduck.settings import MEMORY_VARIABLE

NAME = "build"
TITLE = "Builds"

EXPONENT_AT_MOST = 1.1
PER_SECOND_AT_LEAST = 10_000
GOALS_FROM = 1_000_000
INCREMENTAL_AT_MOST = 0.05
"""The goals: of the full build, and of 1 % new as a share of its model time."""

_RATE = "memories/s by models"
_SHARE = "1 % new"
_WHY_MISSED = {
    _RATE: "words, stems and concepts are found in each text, and some 30 pairs of concepts come of it, on "
    "the processors there are (docs/performance-profile.md). More of them would change it, or fewer concepts "
    "a memory (association_concepts).",
    _SHARE: "a run with nothing new, above, is a part of it, which is dbt's time for as many models. The "
    "largest part of the rest are concepts and associations: of a concept that is mentioned again all "
    "associations are read for its norm and its strongest ones, which frequent concepts have many of. Norms "
    "that are kept and added to would change it, and the rhythms do: what runs every ten minutes leaves "
    "associations and consolidation to the night (docs/schedule.md).",
}
"""What a goal that is missed rests on, and what would change it."""


def measure(work: Work) -> Found:
    """Return what each step of building the home took, and how quick the machine was before and after."""
    before = calibrate()
    work.build_home(STEPS)
    after = calibrate()
    return {
        **work.built,
        "stream_bytes": bytes_of_stream(work.stream),
        "calibration_seconds": round((before + after) / 2, 5),
        "memory_limit": os.environ.get(MEMORY_VARIABLE),
    }


def ratios(found: Found) -> dict[str, float]:
    """Times as multiples of the calibrating aggregation or of the full build, bytes of the stream's."""
    full = seconds_of(found, FULL)
    loop = found["calibration_seconds"]
    named = {
        "full build, models, per million memories": 1e6 * full / loop / found["memories"],
        "full build, outside of models": _outside(found, FULL) / loop,
        "nothing new, models": seconds_of(found, NOTHING_NEW) / loop,
        "nothing new, whole process": found["steps"][NOTHING_NEW]["wall_seconds"] / loop,
        "1 % new, models, of the full build": seconds_of(found, NEWEST_PERCENT) / full,
        "1 % late, models, of the full build": seconds_of(found, LATE_PERCENT) / full,
        "publishing": found["publish_seconds"] / loop,
        "warehouse, of the stream's bytes": found["files"]["warehouse_bytes"] / found["stream_bytes"],
        "raw, of the stream's bytes": found["files"]["raw_bytes"] / found["stream_bytes"],
    }
    for step in STEPS:
        named[f"{STEP_NAMES[step]}, peak MB"] = found["steps"][step]["peak_mb"]
    return named


def report(found_by_scale: FoundByScale) -> Iterator[str]:
    """Yield the table of times, memory and bytes, and the goals."""
    yield (
        "No model is asked. `models` is what dbt took for all models, one after the other, compiling "
        "included; `whole` is the process from its start to its end. 1 % new is 1 % more memories in the "
        "days that follow, 1 % late as many all over the 36 months. Loading the inbox and publishing come "
        "on top of it; publishing is one copy of the file, or next to nothing where the file system shares "
        "blocks, as XFS does. Peak memory is that of the process (VmHWM). The time of each layer and model "
        "is in [layers-benchmark.md](layers-benchmark.md); what lay on which disk in "
        "[performance-profile.md](performance-profile.md#ten-million-memories-with-4-gb)."
    )
    yield ""
    yield from table(["", *found_by_scale, "k"], list(_rows(found_by_scale)))
    yield ""
    yield from _goals(found_by_scale)


_Figure = Callable[[Found], float]


def _rows(found_by_scale: FoundByScale) -> Iterator[list[str]]:
    def row(text: str, figure: _Figure, unit: str) -> list[str]:
        figures = [figure(found) for found in found_by_scale.values()]
        points = list(zip(memories_of(found_by_scale), figures, strict=True))
        return [text, *(unit.format(value) for value in figures), format_exponent(points)]

    limits = [found.get("memory_limit") or "" for found in found_by_scale.values()]
    if any(limits):
        yield [f"DuckDB's memory limit ({MEMORY_VARIABLE})", *(limit or "none set" for limit in limits), ""]
    yield row("loading, full", lambda found: found["loads"][FULL]["seconds"], "{:.2f} s")
    for step in STEPS:
        name = STEP_NAMES[step]
        yield row(f"{name}: models", lambda found, step=step: seconds_of(found, step), "{:.2f} s")  # type: ignore[misc]
        yield row(
            f"{name}: whole",
            lambda found, step=step: found["steps"][step]["wall_seconds"],  # type: ignore[misc]
            "{:.1f} s",
        )
        if step in (NEWEST_PERCENT, LATE_PERCENT):
            yield row(f"{name}: of the full build's models", _share(step), "{:.1%}")
        yield row(
            f"{name}: most memory",
            lambda found, step=step: found["steps"][step]["peak_mb"],  # type: ignore[misc]
            "{:,.0f} MB",
        )
    yield row("publishing", lambda found: found["publish_seconds"], "{:.2f} s")
    yield row("memories/s by models", lambda found: found["memories"] / seconds_of(found, FULL), "{:,.0f}")
    yield row("memories/s, loading and publishing too", _per_second, "{:,.0f}")
    yield row("stream as JSON lines", lambda found: found["stream_bytes"] / 1e6, "{:,.1f} MB")
    yield row("raw/", lambda found: found["files"]["raw_bytes"] / 1e6, "{:,.1f} MB")
    yield row("warehouse", lambda found: found["files"]["warehouse_bytes"] / 1e6, "{:,.1f} MB")


def _per_second(found: Found) -> float:
    """Return memories a second from the sealed segments to the published snapshot."""
    seconds = found["loads"][FULL]["seconds"] + found["steps"][FULL]["wall_seconds"]
    return float(found["memories"] / (seconds + found["publish_seconds"]))


def _share(step: str) -> _Figure:
    return lambda found: seconds_of(found, step) / seconds_of(found, FULL)


def _outside(found: Found, step: str) -> float:
    return float(found["steps"][step]["wall_seconds"] - seconds_of(found, step))


def _goals(found_by_scale: FoundByScale) -> Iterator[str]:
    """Yield the goals that these scales can tell of: growth of two, the others from a million memories on."""
    largest = list(found_by_scale)[-1]
    points = [(found["memories"], seconds_of(found, FULL)) for found in found_by_scale.values()]
    goals: list[tuple[str, str, str, bool]] = []
    if (k := exponent(points)) is not None:
        text = f"full build: k of its models up to {largest}"
        goals.append((text, f"at most {EXPONENT_AT_MOST}", f"{k:.2f}", k <= EXPONENT_AT_MOST))
    for scale, found in found_by_scale.items():
        if found["memories"] < GOALS_FROM:
            continue
        rate = found["memories"] / seconds_of(found, FULL)
        text, least = f"full build at {scale}: {_RATE}", f"at least {PER_SECOND_AT_LEAST:,}"
        goals.append((text, least, f"{rate:,.0f}", rate >= PER_SECOND_AT_LEAST))
        share = _share(NEWEST_PERCENT)(found)
        text, most = f"{_SHARE} at {scale}: of the full build's models", f"at most {INCREMENTAL_AT_MOST:.0%}"
        goals.append((text, most, f"{share:.1%}", share <= INCREMENTAL_AT_MOST))
    if len(points) > 2:
        steps = ", ".join(format_exponent(pair) for pair in pairwise(points))
        yield (
            f"From one scale to the next, k of the full build's models is {steps}: what each model costs at "
            "least flattens it where memories are few, and a memory limit steepens it where one is set."
        )
        yield ""
    if goals:
        yield from table(
            ["goal", "asked for", "measured", ""],
            [[*texts, "met" if is_met else "**missed**"] for *texts, is_met in goals],
        )
        missed = [text for text, *_, is_met in goals if not is_met]
        reasons = [
            f"- {goal}: {why}" for goal, why in _WHY_MISSED.items() if any(goal in text for text in missed)
        ]
        if reasons:
            yield from ("", "Not met:", "", *reasons)


def plot(found_by_scale: FoundByScale, path: Path) -> None:
    """Draw seconds of the models of each step, and the most memory, against the number of memories."""
    memories = memories_of(found_by_scale)
    figure, (times, peaks) = plt.subplots(1, 2, figsize=(9, 3.8))
    for step in STEPS:
        found = list(found_by_scale.values())
        times.plot(memories, [seconds_of(one, step) for one in found], marker="o", label=STEP_NAMES[step])
        peaks.plot(memories, [one["steps"][step]["peak_mb"] for one in found], marker="o")
    for panel, label in ((times, "seconds of models"), (peaks, "most memory, MB")):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("memories")
        panel.set_ylabel(label)
        panel.grid(visible=True, alpha=0.3)
    times.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
