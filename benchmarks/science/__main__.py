"""`python -m benchmarks.science run` asks the macros, `… report` makes docs/science.md of the answers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchmarks.science.mechanisms import Mechanisms
from benchmarks.science.report import write_report
from benchmarks.science.studies import run_studies

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@click.group()
def main() -> None:
    """The mechanisms of memory against what experiments on people have found."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(out: Path) -> None:
    """Run every study and write the figures as JSON (a few seconds; the same on every machine)."""
    out.write_text(json.dumps(run_studies(Mechanisms()), indent=1) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page and the plot in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


if __name__ == "__main__":
    main()
