"""Makes docs/day.md and its plot of what a day of operation has shown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.page import plt, table

COMMAND = "python -m benchmarks.day run"


def write_report(result: dict[str, Any], docs: Path) -> None:
    """Write the page and the plot into the folder of the documentation."""
    plot(result, docs / "day.svg")
    (docs / "day.md").write_text("\n".join(_page(result)) + "\n", "utf-8")


def _page(result: dict[str, Any]) -> Iterator[str]:
    slots = result["slots"]
    runs = [run for slot in slots for run in slot["runs"]]
    yield "# A day of operation"
    yield ""
    told = result["told"] - result["history"]
    yield (
        f"Made by `{COMMAND}` and `python -m benchmarks.day report`. The crontab that `mnemoduck schedule "
        f"install` writes, started line by line on a clock that libfaketime sets, on a Sunday: {len(runs)} "
        f"runs. {result['history']:,} events of two months before; {told:,} arrive during the day, "
        f"{result['late']} of them days or weeks late. At ten somebody builds everything anew by hand. "
        "From noon a test fails, because of a memory that it forbids, until that is forgotten at 12:40. From "
        "two to four the model server is down. One agent reads and writes all day long, across all of it."
    )
    yield ""
    yield "![The day](day.svg)"
    yield ""
    yield "## What is promised, and what was seen"
    yield ""
    yield from table(["promise", "seen", ""], list(_verdicts(result)))
    yield ""
    yield "## Runs"
    yield ""
    yield from table(["rhythm", "runs", *_OUTCOMES, "seconds, median", "slowest"], list(_by_rhythm(runs)))
    yield ""
    yield "## What cron shows"
    yield ""
    yield "The lines of the crontab:"
    yield ""
    yield "```"
    yield from (_PROGRAM.sub("mnemoduck", line) for line in result["crontab"])
    yield "```"
    yield ""
    yield (
        "`logs/schedule.log` in the night, at ten, from noon on, while the model server was away, and when "
        "it was back:"
    )
    yield ""
    yield "```"
    yield from _excerpts(result["log"])
    yield "```"
    yield ""
    yield "## What the report shows"
    yield ""
    yield "The section on runs of `mnemoduck report`, ten minutes after midnight:"
    yield ""
    yield "![Runs](day-runs.png)"
    yield ""
    yield "## What Airflow shows"
    yield ""
    yield (
        "The same runs as DAGs, by a task for each model or as one: `make test-airflow` runs them in a real "
        "Airflow to success, with a failing test to a failure that publishes nothing and is not tried again, "
        "and beside another run, whose end they wait for ([Airflow](airflow.md)). A whole day was lived with "
        "cron alone."
    )
    yield ""
    yield "## Hour by hour"
    yield ""
    yield from table(
        ["hour", "told", "built in", "waiting at its end", *_OUTCOMES, "failed tests"], list(_by_hour(slots))
    )


_PROGRAM = re.compile(r"\S*/bin/mnemoduck")
_HOME = re.compile(r"\S*/home(?=[/:])")
_TOLD_OF = ("03:1", "04:1", "10:0", "10:10", "12:", "14:05", "15:05", "16:05")
"""How the times begin of which the page shows what cron has logged."""


def _excerpts(lines: list[str]) -> Iterator[str]:
    was_shown = True
    for line in lines:
        if line[11:].startswith(_TOLD_OF):
            yield _HOME.sub("~/home", line)
            was_shown = True
        elif was_shown:
            yield "..."
            was_shown = False


_OUTCOMES = ("published", "unchanged", "not published", "skipped")


def is_kept(slot: dict[str, Any]) -> bool:
    """Tell whether every promise was kept in a slot of ten minutes."""
    return bool(slot["is_found_at_once"]) and not any(
        slot[fault] for fault in ("lost", "doubled", "untested", "marked")
    )


def _verdicts(result: dict[str, Any]) -> Iterator[list[str]]:
    slots, end = result["slots"], result["end"]
    untested = sum(bool(slot["untested"]) for slot in slots)
    marked = sum(bool(slot["marked"]) for slot in slots)
    unfound = sum(not slot["is_found_at_once"] for slot in slots)

    def verdict(is_kept: bool) -> str:
        return "kept" if is_kept else "**broken**"

    yield [
        "nothing acknowledged is lost or doubled",
        f"{result['told']:,} told; {end['lost']} lost, {end['doubled']} doubled at the end; looked at "
        f"{len(slots)} times",
        verdict(not any(slot["lost"] or slot["doubled"] for slot in [*slots, end])),
    ]
    yield [
        "what readers see was tested",
        f"in {len(slots)} looks at the published snapshot, {untested} had a model that was not tested",
        verdict(not untested),
    ]
    yield [
        "a failing test publishes nothing",
        f"the forbidden memory was in {marked} of {len(slots)} snapshots",
        verdict(not marked),
    ]
    yield [
        "what was told is found at once",
        f"{len(slots) - unfound} of {len(slots)} times, by an agent that was there all day",
        verdict(not unfound),
    ]


def _by_rhythm(runs: list[dict[str, Any]]) -> Iterator[list[str]]:
    rhythms = sorted({run["rhythm"] or "all" for run in runs})
    for rhythm in rhythms:
        members = [run for run in runs if (run["rhythm"] or "all") == rhythm]
        counts = Counter(run["outcome"] for run in members)
        seconds = [run["seconds"] for run in members if run["outcome"] != "skipped"] or [0.0]
        yield [
            rhythm,
            str(len(members)),
            *(str(counts[outcome]) for outcome in _OUTCOMES),
            f"{median(seconds):.1f}",
            f"{max(seconds):.1f}",
        ]


def _by_hour(slots: list[dict[str, Any]]) -> Iterator[list[str]]:
    for hour in range(len(slots) // 6):
        members = slots[6 * hour : 6 * hour + 6]
        runs = [run for slot in members for run in slot["runs"]]
        counts = Counter(run["outcome"] for run in runs)
        failed = sorted({name for run in runs for name in run["failed"]})
        yield [
            f"{hour:02}",
            str(sum(slot["told"] for slot in members)),
            f"{members[-1]['built_in']:,}",
            str(members[-1]["waiting"]),
            *(str(counts[outcome]) for outcome in _OUTCOMES),
            ", ".join(f"`{name}`" for name in failed),
        ]


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw memories built in and events that wait, and the seconds of each run by its outcome."""
    slots = result["slots"]
    hours = [number / 6 for number in range(len(slots))]
    figure, (held, took) = plt.subplots(2, 1, figsize=(9, 5), sharex=True)
    held.plot(hours, [slot["built_in"] for slot in slots], label="memories that readers' snapshot holds")
    held.set_ylabel("memories")
    held.legend(fontsize=8)
    colours = dict(zip(_OUTCOMES, ("tab:blue", "tab:gray", "tab:red", "tab:orange"), strict=True))
    for outcome in _OUTCOMES:
        points = [
            (hour, run["seconds"])
            for hour, slot in zip(hours, slots, strict=True)
            for run in slot["runs"]
            if run["outcome"] == outcome
        ]
        if points:
            took.scatter(*zip(*points, strict=True), s=10, label=outcome, color=colours[outcome])
    took.set_ylabel("seconds of a run")
    took.set_xlabel("hour of the day")
    took.legend(fontsize=8)
    for panel in (held, took):
        panel.axvspan(12, 12 + 4 / 6, color="tab:red", alpha=0.12)
        panel.axvspan(14, 16, color="tab:gray", alpha=0.15)
        panel.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
