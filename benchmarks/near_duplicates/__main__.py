"""`python -m benchmarks.near_duplicates run` measures, `… report` makes docs/near-duplicates.md of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_run
from benchmarks.near_duplicates import measure
from benchmarks.near_duplicates.report import write_report
from benchmarks.near_duplicates.stream import labelled
from mnemoduck.project import variables

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"
PARAMETERS = ("near_duplicate_similarity", "near_duplicate_additions", "minhash_bands", "minhash_rows")


@click.group()
def main() -> None:
    """Near-duplicates: found against all pairs, merged against labels, and what it costs."""


@main.command()
@click.option("--rows", "sizes", multiple=True, type=int, default=(10_000, 100_000, 1_000_000))
@click.option("--labelled", "sayings", default=10_000, show_default=True, help="Sayings of the labelled set.")
@click.option("--questions", default=10, show_default=True, help="Haystacks of LongMemEval.")
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Folder of the conversations.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(sizes: tuple[int, ...], sayings: int, questions: int, data: Path | None, out: Path) -> None:
    """Measure, and write the result as JSON. Without --data, the conversations are left out."""
    values = variables(measure.PROJECT)
    result: dict[str, Any] = {
        "run": describe_run(),
        "parameters": {name: values[name] for name in PARAMETERS},
    }
    said = list(labelled(sayings, seed=3))
    layer = measure.build(said)
    result["labels"] = measure.against_labels(layer, said)
    result["all_pairs"] = {"generated": measure.against_all_pairs(layer)}
    result["drift"] = {"generated": measure.drift(layer, values["near_duplicate_similarity"])}
    if data is not None:
        for name, turns in (
            ("LoCoMo dev", measure.locomo(data)),
            (f"LongMemEval dev, {questions} haystacks", measure.longmemeval(data, questions)),
        ):
            layer = measure.build(turns)
            result["all_pairs"][name] = measure.against_all_pairs(layer)
            result["drift"][name] = measure.drift(layer, values["near_duplicate_similarity"])
    click.echo(json.dumps(result, indent=2))
    result["settings"] = list(measure.settings(sayings, seed=5))
    result["template"] = measure.template(max(sayings * 5, 10))
    click.echo(json.dumps({key: result[key] for key in ("settings", "template")}, indent=2))
    result["costs"] = []
    for rows in sizes:
        result["costs"].append(measure.costs(rows, seed=1))
        click.echo(json.dumps(result["costs"][-1], indent=2))
    out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


main()
