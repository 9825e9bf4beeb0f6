"""docs/performance.md and its plots: a section of each part, made from a result and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.page import table
from benchmarks.suite.parts import Part
from benchmarks.suite.results import Result, found_by_scale

PAGE = "performance.md"


def write_page(result: Result, parts: Mapping[str, Part], docs: Path) -> None:
    """Write the page and the plot of each part that has one."""
    for name, part in parts.items():
        found = found_by_scale(result, name)
        if found and hasattr(part, "plot"):
            part.plot(found, docs / plot_of(name))
    (docs / PAGE).write_text("\n".join(_page(result, parts)) + "\n", "utf-8")


def plot_of(name: str) -> str:
    """Return the name of a part's plot, beside the page."""
    return f"performance-{name}.svg"


def _page(result: Result, parts: Mapping[str, Part]) -> Iterator[str]:
    yield "# Performance, measured"
    yield ""
    yield (
        "Made by `python -m benchmarks.suite report` from benchmarks/suite/baseline.json. Repeat it with "
        "`make bench`, or `mnemoduck bench --scale 10k --scale 100k`; compare with "
        "`mnemoduck bench --compare benchmarks/suite/baseline.json`, which flags a ratio that is more than "
        "1.3 times that of the baseline."
    )
    yield ""
    yield (
        "The stream is generated (benchmarks/stream.py): 36 months, users of unequal activity, sessions, "
        f"words by Zipf's law, repeats, late arrivals; seed {result['seed']}. Times depend on the machine, "
        "ratios to `select 1` (or what else a table names) far less. k is the exponent of y = "
        "c * memories^k, fitted to all scales: 1 is linear, 0 does not grow. Where the build's time goes is "
        "in [performance-profile.md](performance-profile.md); recall and its peers (FTS5, Chroma, LanceDB, "
        "rank-bm25), measured in one run, are in [recall-benchmark.md](recall-benchmark.md)."
    )
    yield ""
    yield from _runs(result)
    for name, part in parts.items():
        found = found_by_scale(result, name)
        if found:
            yield ""
            yield f"## {part.TITLE}"
            yield ""
            if hasattr(part, "plot"):
                yield f"![{part.TITLE}]({plot_of(name)})"
                yield ""
            yield from part.report(found)


def _runs(result: Result) -> Iterator[str]:
    yield "What each part was measured on:"
    yield ""
    rows: dict[tuple[str, ...], list[str]] = {}
    for scale, of_scale in result["scales"].items():
        for name, part in of_scale["parts"].items():
            rows.setdefault(_machine(part["run"]), []).append(f"{name} {scale}")
    yield from table(
        ["measured", "commit", "machine", "versions", "parts"],
        [[*machine, ", ".join(measured)] for machine, measured in rows.items()],
    )


def _machine(run: Mapping[str, Any]) -> tuple[str, ...]:
    packages = run["packages"]
    return (
        run["measured_at"][:10],
        run["commit"],
        f"{run['processors']} processors ({run['architecture']}), {run['memory_gb']} GB",
        f"Python {run['python']}, DuckDB {packages['duckdb']}, dbt {packages['dbt-core']}",
    )
