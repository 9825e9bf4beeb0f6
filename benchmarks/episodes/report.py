"""The page in docs/, made from a result file and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.page import table

PAGE = "episodes-benchmark.md"

PARTS = ("logging", "sustained", "bursts", "extraction", "suggest")

Result = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """A promise: p95 of what a part measured is at most so many milliseconds."""

    name: str
    part: str
    kind: str | None
    limit_ms: float

    def measured(self, result: Result) -> dict[str, Any] | None:
        """Return what was measured, None if it was not."""
        part: dict[str, Any] = result["parts"].get(self.part, {})
        found = part.get(self.kind) if self.kind else part
        return found if found and "p95_ms" in found else None


GOALS = (
    Goal("start an episode", "logging", "start", 20),
    Goal("log a step, buffered", "logging", "buffered", 3),
    Goal("complete an episode", "logging", "complete", 200),
    Goal("find the patterns in 1,000 new episodes", "extraction", None, 400),
    Goal("suggest the next step", "suggest", None, 40),
)


def missed(result: Result) -> list[str]:
    """Return what is not as it was asked for: a goal missed or not measured, a step that is not there."""
    names = []
    for goal in GOALS:
        found = goal.measured(result)
        if found is None or found["p95_ms"] > goal.limit_ms:
            names.append(goal.name)
    names += [part for part in ("sustained", "bursts") if not _is_all_there(result, part)]
    return names


def write_report(result: Result, docs: Path) -> None:
    """Write the page of a result."""
    (docs / PAGE).write_text("\n".join(_page(result)) + "\n", "utf-8")


def _page(result: Result) -> Iterator[str]:
    parts = result["parts"]
    run = next(parts[part]["run"] for part in PARTS if part in parts)
    yield "# Episodes, their speed measured"
    yield ""
    yield (
        "Made by `python -m benchmarks.episodes report` from benchmarks/episodes/result.json. Measured "
        f"{run['measured_at'][:10]} at commit {run['commit']} on {run['processors']} processors "
        f"({run['architecture']}, {run['memory_gb']} GB), Python {run['python']}, DuckDB "
        f"{run['packages']['duckdb']}, dbt {run['packages']['dbt-core']}. Repeat it with "
        "`make bench-episodes`."
    )
    others = sorted({part["run"]["commit"] for part in parts.values()} - {run["commit"]})
    if others:
        yield f"Some parts were measured at {', '.join(others)}."
    failures = [f"{name}: {part['failure']}" for name, part in parts.items() if "failure" in part]
    if failures:
        yield ""
        yield "Parts that failed, of which nothing is told below: " + "; ".join(failures) + "."
    yield ""
    yield "## What is asked for"
    yield ""
    yield from table(["", "goal at p95", "p50", "p95", "p99", ""], list(_goals(result)))
    yield ""
    yield from table(
        ["", "steps", "lost", "doubled", "out of order", "steps a second"], list(_losses(result))
    )
    if "start" in parts.get("logging", {}):
        yield from _logging(parts["logging"])
    if "log_step" in parts.get("sustained", {}):
        found = parts["sustained"]
        yield ""
        yield (
            f"The stream logs a step each {1000 / found['asked_per_second']:g} ms for {found['seconds']:.0f} "
            "seconds, while another thread seals the inbox every second as a run does. p95 of `log_step` in "
            f"it is {_ms(found['log_step']['p95_ms'])} ms, the slowest call "
            f"{_ms(found['log_step']['worst_ms'])} ms, and it was at most {_ms(found['most_behind_ms'])} ms "
            "behind. Lost, doubled and out of order are counted by reading the inbox."
        )
    if "models" in parts.get("extraction", {}):
        yield from _extraction(parts["extraction"])
    if "answered" in parts.get("suggest", {}):
        found = parts["suggest"]
        yield ""
        yield "## Suggestions"
        yield ""
        yield (
            f"`Memory.suggest(task, so_far, user_id=…, domain=…)` for {found['asked']:,} tasks that the home "
            f"has not seen, after none to all of their calls but one; {found['answered']:,} had an answer. "
            f"The first took {found['first_ms']:,.0f} ms: it opens the snapshot. p95 is "
            f"{found['p95_ratio']:.0f} times `select 1` ({found['select_1_ms']:.2f} ms)."
        )


def _goals(result: Result) -> Iterator[list[str]]:
    for goal in GOALS:
        found = goal.measured(result)
        limit = f"{goal.limit_ms:g} ms"
        if found is None:
            yield [goal.name, limit, "", "", "", "not measured"]
            continue
        figures = [f"{_ms(found[name])} ms" for name in ("p50_ms", "p95_ms", "p99_ms")]
        yield [goal.name, limit, *figures, "met" if found["p95_ms"] <= goal.limit_ms else "**missed**"]
    durable = result["parts"].get("logging", {}).get("durable")
    if durable:
        figures = [f"{_ms(durable[name])} ms" for name in ("p50_ms", "p95_ms", "p99_ms")]
        yield ["log a step, durable", "none", *figures, "the disk's"]


def _losses(result: Result) -> Iterator[list[str]]:
    names = {"sustained": "a steady stream", "bursts": "bursts"}
    for part, name in names.items():
        found = result["parts"].get(part, {})
        if "logged" in found:
            if part == "bursts":
                name = f"bursts of {found['steps']:,} ({found['bursts']})"
            counts = [f"{found[key]:,}" for key in ("logged", "lost", "doubled", "out_of_order")]
            yield [name, *counts, f"{found['steps_per_second']:,.0f}"]


def _is_all_there(result: Result, part: str) -> bool:
    found = result["parts"].get(part, {})
    return all(found.get(key) == 0 for key in ("lost", "doubled", "out_of_order"))


def _logging(found: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "## Logging"
    yield ""
    yield (
        "One process logs episodes of ten buffered steps, each of 400 characters, and now and then a durable "
        "one; all calls in turns with `select 1` through the DuckDB client, and with an `fsync` of a file on "
        "the same disk."
    )
    yield ""
    names = {
        "start": "`start_episode`",
        "buffered": "`log_step`",
        "durable": "`log_step(durable=True)`",
        "complete": "`complete_episode`",
        "fsync": "`fsync` of 2 KB, for comparison",
        "select_1": "`select 1`",
    }
    rows = [
        [
            name,
            *(_ms(found[kind][key]) for key in ("p50_ms", "p95_ms", "p99_ms", "worst_ms")),
            f"{found[kind]['p95_ratio']:.2f}",
            f"{found[kind]['calls']:,}",
        ]
        for kind, name in names.items()
    ]
    yield from table(["ms", "p50", "p95", "p99", "slowest", "p95 / median of select 1", "calls"], rows)


def _extraction(found: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "## Extraction"
    yield ""
    yield (
        f"A home that has {found['episodes']:,} generated episodes (benchmarks/episodes/stream.py) gets as "
        f"many new ones, {found['rounds']} times from the same state. Milliseconds are those that dbt took "
        f"for the models, compiling included; with nothing new they take {found['nothing_new_ms']:.0f} ms."
    )
    yield ""
    rows = [[f"`{name}`", f"{milliseconds:.0f}"] for name, milliseconds in found["models"].items()]
    yield from table(["model", "median ms"], rows)


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds >= 10 else f"{milliseconds:.2f}"
