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
PARTS = ("quality", "costs")
PARAMETERS = ("near_duplicate_similarity", "near_duplicate_additions", "minhash_bands", "minhash_rows")


@click.group()
def main() -> None:
    """Near-duplicates: found against all pairs, merged against labels, and what it costs."""


@main.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, show_default=True)
@click.option("--rows", "sizes", multiple=True, type=int, default=(10_000, 100_000, 1_000_000))
@click.option("--labelled", "sayings", default=10_000, show_default=True, help="Sayings of the labelled set.")
@click.option("--questions", default=10, show_default=True, help="Haystacks of LongMemEval.")
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Folder of the conversations.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(
    parts: tuple[str, ...], sizes: tuple[int, ...], sayings: int, questions: int, data: Path | None, out: Path
) -> None:
    """Measure, and write the result as JSON; parts that are not asked for stay as they are in it.

    Without --data, the conversations are left out.
    """
    result: dict[str, Any] = json.loads(out.read_text("utf-8")) if out.exists() else {}
    values = variables(measure.PROJECT)
    result |= {"run": describe_run(), "parameters": {name: values[name] for name in PARAMETERS}}
    if "quality" in parts:
        result |= _quality(sayings, questions, data, values["near_duplicate_similarity"])
        out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if "costs" in parts:
        result |= {"template": measure.template(50_000 if max(sizes) >= 100_000 else 1_000), "costs": []}
        for rows in sizes:
            result["costs"].append(measure.costs(rows, seed=1))
            click.echo(json.dumps(result["costs"][-1], indent=2))
            out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def _quality(sayings: int, questions: int, data: Path | None, threshold: float) -> dict[str, Any]:
    said = list(labelled(sayings, seed=3))
    layers = {"generated": measure.build(said)}
    if data is not None:
        layers["LoCoMo dev"] = measure.build(measure.locomo(data))
        layers[f"LongMemEval dev, {questions} haystacks"] = measure.build(
            measure.longmemeval(data, questions)
        )
    found = {
        "labels": measure.against_labels(layers["generated"], said),
        "all_pairs": {name: measure.against_all_pairs(layer) for name, layer in layers.items()},
        "drift": {name: measure.drift(layer, threshold) for name, layer in layers.items()},
        "settings": list(measure.settings(sayings, seed=5)),
    }
    click.echo(json.dumps(found, indent=2))
    return found


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


main()
