"""`python -m benchmarks.day run` lives a day of operation, `… report` makes docs/day.md of what was seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from benchmarks.day.operate import Operation
from benchmarks.day.report import is_kept, write_report

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"
WORK = Path("target/benchmarks/day")


@click.group()
def main() -> None:
    """A day of operation with an accelerated clock, cron's runs and what can go wrong."""


@main.command()
@click.option("--memories", default=12_000, show_default=True, help="Of two months and the day.")
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=WORK, show_default=True)
def run(memories: int, seed: int, out: Path, work: Path) -> None:
    """Live the day (40 minutes) and write what was seen as JSON. Needs Debian's faketime."""
    if shutil.which("faketime") is None:
        raise click.ClickException("faketime was not found: install it (apt-get install faketime).")
    found = Operation(work.absolute(), click.echo).run(memories, seed)
    out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    broken = [slot["at"] for slot in found["slots"] if not is_kept(slot)]
    if broken or found["end"]["lost"] or found["end"]["doubled"]:
        raise click.ClickException(f"A promise was broken, at {', '.join(broken) or 'the end'}; see {out}.")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page and the plot in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


if __name__ == "__main__":
    main()
