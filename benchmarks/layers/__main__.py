"""`python -m benchmarks.layers run` measures, `… report` makes docs/layers-benchmark.md of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.layers.measure import measure
from benchmarks.layers.report import write_report
from benchmarks.machine import describe_run

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@click.group()
def main() -> None:
    """The time of each layer against the number of memories, full and incremental."""


@main.command()
@click.option("--rows", "sizes", multiple=True, type=click.IntRange(min=100), default=(10_000, 100_000))
@click.option("--seed", default=1, show_default=True, help="Another seed is another stream.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/layers"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(sizes: tuple[int, ...], seed: int, folder: Path, out: Path) -> None:
    """Measure each size, and put it into the result in place of what was there of that size."""
    for rows in sizes:
        click.echo(f"{rows:,} memories")
        found = {"run": describe_run()} | measure(
            rows, folder.absolute(), seed=seed, tell=lambda line: click.echo(f"  {line}")
        )
        by_rows: dict[int, dict[str, Any]] = {}
        if out.exists():
            by_rows = {size["rows"]: size for size in json.loads(out.read_text("utf-8"))["sizes"]}
        by_rows[rows] = found
        result = {"sizes": [by_rows[key] for key in sorted(by_rows)]}
        out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the tables and the plot in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


main()
