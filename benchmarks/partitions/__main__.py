"""`python -m benchmarks.partitions run` measures, `… report` makes docs/partitions-benchmark.md of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_run
from benchmarks.partitions.measure import measure
from benchmarks.partitions.report import write_report

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@click.group()
def main() -> None:
    """Monthly partitions against one table in time order, with and without compound indexes."""


@main.command()
@click.option("--rows", "sizes", multiple=True, type=int, default=(10_000, 1_000_000), show_default=True)
@click.option("--rounds", default=60, show_default=True, help="How often each question is asked.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/partitions"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(sizes: tuple[int, ...], rounds: int, folder: Path, out: Path) -> None:
    """Build every layout at each size, ask every question, and write the result as JSON."""
    result: dict[str, Any] = {"run": describe_run(), "sizes": []}
    for rows in sizes:
        click.echo(f"{rows:,} rows…")
        found = measure(rows, folder.absolute(), rounds)
        result["sizes"].append(found)
        for question in found["questions"]:
            asked = f"{question['layout']:>8}  {question['way']:<28} {question['question']}"
            click.echo(f"  {question['ratio']:8.1f} x  {asked}")
        click.echo(json.dumps({key: found[key] for key in ("builds", "changes", "life_cycle")}, indent=2))
        out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the table and the plot in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


main()
