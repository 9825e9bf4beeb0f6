"""`python -m benchmarks.profiles run` measures, `… report` makes docs/profiles-benchmark.md of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from benchmarks.machine import describe_run
from benchmarks.profiles.measure import measure
from benchmarks.profiles.report import write_report

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@click.group()
def main() -> None:
    """What each profile of settings is worth beside the default."""


@main.command()
@click.option("--memories", default=10_000, show_default=True, type=click.IntRange(1_000))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--steps", default=5_000, show_default=True, type=click.IntRange(50), help="And memories.")
@click.option("--questions", default=240, show_default=True, type=click.IntRange(8), help="For each.")
@click.option("--again", default=240, show_default=True, type=click.IntRange(1), help="Asked again.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/profiles"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(memories: int, rounds: int, steps: int, questions: int, again: int, folder: Path, out: Path) -> None:
    """Measure all profiles in turns."""
    started = time.perf_counter()

    def tell(line: str) -> None:
        click.echo(f"{time.perf_counter() - started:7.0f} s  {line}")

    found = measure(
        folder.absolute(),
        memories=memories,
        rounds=rounds,
        steps=steps,
        questions=questions,
        again=again,
        tell=tell,
    )
    out.write_text(json.dumps({"run": describe_run(), **found}, indent=1) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


if __name__ == "__main__":
    main()
