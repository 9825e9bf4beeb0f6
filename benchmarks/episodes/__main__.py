"""`python -m benchmarks.episodes run` measures, `… report` makes docs/episodes-benchmark.md of it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.episodes.measure import (
    measure_bursts,
    measure_extraction,
    measure_logging,
    measure_suggest,
    measure_sustained,
    prepare_home,
)
from benchmarks.episodes.report import PARTS, write_report
from benchmarks.machine import describe_run
from mnemoduck.home import Home

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"


@click.group()
def main() -> None:
    """The speed of logging episodes, of learning from them and of suggesting; and that nothing is lost."""


@main.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, show_default=True)
@click.option("--calls", default=1_000, show_default=True, type=click.IntRange(8), help="Episodes to log.")
@click.option("--seconds", default=60.0, show_default=True, help="Of the sustained stream.")
@click.option("--per-second", default=1_000, show_default=True, help="Steps of the sustained stream.")
@click.option("--bursts", default=5, show_default=True, type=click.IntRange(1))
@click.option("--burst-steps", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--episodes", default=1_000, show_default=True, help="That the home has, and that are new.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1), help="Of the extraction.")
@click.option("--questions", default=300, show_default=True, type=click.IntRange(2), help="To suggest.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/episodes"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(
    parts: tuple[str, ...],
    calls: int,
    seconds: float,
    per_second: int,
    bursts: int,
    burst_steps: int,
    episodes: int,
    rounds: int,
    questions: int,
    folder: Path,
    out: Path,
) -> None:
    """Measure parts, and put each into the result in place of what was there of it.

    A part that fails is told, also in the result, and the others go on; then the exit code is 1.
    """
    started = time.perf_counter()
    work = folder.absolute()
    built: list[Home] = []

    def tell(line: str) -> None:
        click.echo(f"{time.perf_counter() - started:7.0f} s  {line}")

    def home() -> Home:
        if not built:
            built.append(prepare_home(work, episodes, tell))
        return built[0]

    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "logging": lambda: measure_logging(work, calls),
        "sustained": lambda: measure_sustained(work, seconds, per_second),
        "bursts": lambda: measure_bursts(work, bursts, burst_steps),
        "extraction": lambda: measure_extraction(home(), episodes, rounds, tell),
        "suggest": lambda: measure_suggest(home(), questions),
    }
    is_whole = True
    for part in parts:
        found: dict[str, Any] = {"run": describe_run()}
        try:
            found |= measures[part]()
            tell(f"{part}: {json.dumps({name: found[name] for name in found if name != 'run'})}")
        except Exception as error:  # what else can be measured is
            found["failure"] = str(error)
            is_whole = False
            tell(f"{part}: FAILED: {error}")
        _write(out, part, found)
    shutil.rmtree(work, ignore_errors=True)
    sys.exit(0 if is_whole else 1)


def _write(out: Path, part: str, found: dict[str, Any]) -> None:
    result = json.loads(out.read_text("utf-8")) if out.exists() else {"parts": {}}
    result["parts"][part] = found
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


if __name__ == "__main__":
    main()
