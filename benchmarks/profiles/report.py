"""The page in docs/, made from a result file and from nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.page import table
from benchmarks.profiles.measure import DEFAULT, ratios, summary
from mnemoduck.settings import PROFILES, SETTINGS

PAGE = "profiles-benchmark.md"

Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A figure of the page."""

    part: str
    name: str
    says: str
    unit: str


ROWS = (
    Row("ingest", "remember_per_second", "memories, one call each", "/s"),
    Row("ingest", "remember_durable_per_second", "memories, durable", "/s"),
    Row("ingest", "step_per_second", "steps of an episode", "/s"),
    Row("ingest", "step_cpu_us", "… time of processors for each", " µs"),
    Row("ingest", "step_durable_per_second", "steps, durable", "/s"),
    Row("build", "build_seconds", "a build, seconds", " s"),
    Row("build", "build_cpu_seconds", "a build, seconds of processors", " s"),
    Row("build", "build_peak_mb", "a build, most memory", " MB"),
    Row("recall", "recall_p50_ms", "a question for the first time, p50", " ms"),
    Row("recall", "recall_p95_ms", "… p95", " ms"),
    Row("recall", "recall_cpu_ms", "… time of processors for each", " ms"),
    Row("recall", "crowd_p50_ms", "the same with eight threads, p50", " ms"),
    Row("recall", "crowd_p95_ms", "… p95", " ms"),
    Row("recall", "crowd_per_second", "… questions a second", "/s"),
    Row("recall", "crowd_cpu_ms", "… time of processors for each", " ms"),
    Row("recall", "again_mean_ms", "a question asked again, mean", " ms"),
    Row("recall", "again_hits", "… share found in the cache", ""),
    Row("recall", "reader_mb", "memory of the process that reads", " MB"),
)


def write_report(result: Result, docs: Path) -> None:
    """Write the page of a result."""
    (docs / PAGE).write_text("\n".join(_page(result)) + "\n", "utf-8")


def _page(result: Result) -> Iterator[str]:
    run = result["run"]
    profiles = [name for name in PROFILES if name != DEFAULT]
    yield "# Profiles, measured"
    yield ""
    yield (
        "Made by `python -m benchmarks.profiles report` from benchmarks/profiles/result.json. Measured "
        f"{run['measured_at'][:10]} at commit {run['commit']} on {run['processors']} processors "
        f"({run['architecture']}, {run['memory_gb']} GB), Python {run['python']}, DuckDB "
        f"{run['packages']['duckdb']}, dbt {run['packages']['dbt-core']}. Repeat it with "
        "`python -m benchmarks.profiles run`."
    )
    yield ""
    yield (
        f"{result['memories']:,} memories of the generated stream; {result['rounds']} rounds, in each the "
        "default and the profiles in turns. Behind each figure (the median) stands how many times the "
        "default's it is: the median of the ratios within a round, and in brackets the least and the "
        "greatest of them. A ratio whose brackets hold 1 tells no difference. Where a profile sets nothing "
        "that a part depends on, it was not measured there: -."
    )
    yield ""
    head = ["", DEFAULT, *profiles]
    rows = [
        [row.says, _number(summary(result["parts"][row.part], DEFAULT, row.name)[0]) + row.unit]
        + [_cell(result, profile, row) for profile in profiles]
        for row in ROWS
    ]
    yield from table(head, rows)
    yield ""
    yield (
        f"*Ingest*: {result['steps']:,} calls of each kind in one thread, a fiftieth as many durable; what "
        "is buffered is written within the time. *A build* is dbt with all that waits in the inbox: staging, "
        "the index and associations, which is the largest model. *Recall*: a process of its own asks "
        f"{result['questions']:,} questions alone, as many others from eight threads, then "
        f"{result['again']:,} times one of all these, drawn evenly; answers have up to 50 memories, so that "
        "they are more than the default cache holds."
    )
    yield ""
    yield "## What they set"
    yield ""
    for profile in profiles:
        values = ", ".join(
            f"`{key} = {SETTINGS[key].to_text(value)}`" for key, value in PROFILES[profile].items()
        )
        yield f"- **{profile}**: {values}"
    yield ""
    yield "## What differs"
    yield ""
    for profile in profiles:
        told = [text for row in ROWS if (text := _difference(result, profile, row))]
        yield f"- **{profile}**: {'; '.join(told) if told else 'nothing that the rounds agree on'}."


def _cell(result: Result, profile: str, row: Row) -> str:
    figures = result["parts"][row.part]
    if profile not in figures:
        return "-"
    own, ratio = summary(figures, profile, row.name)
    each = ratios(figures, profile, row.name)
    return f"{_number(own)}{row.unit}, {ratio:.2f}x ({min(each):.2f} to {max(each):.2f})"


def _difference(result: Result, profile: str, row: Row) -> str:
    """Return what all rounds agree on, and by more than a twentieth; else nothing."""
    if profile not in result["parts"][row.part]:
        return ""
    each = ratios(result["parts"][row.part], profile, row.name)
    if min(each) <= 1 <= max(each) or abs(statistics.median(each) - 1) < 0.05:
        return ""
    return f"{row.says.removeprefix('… ')} {statistics.median(each):.2f} times the default's"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
