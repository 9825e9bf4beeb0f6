"""`python -m benchmarks.patterns run` mines and asks, `… report` makes docs/patterns-evaluation.md of it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_run
from benchmarks.patterns.heldout import held_out
from benchmarks.patterns.mining import Mining
from benchmarks.patterns.report import write_report
from benchmarks.patterns.telling import counts, most_telling
from mnemoduck.evaluation import fill_home
from mnemoduck.home import open_home
from mnemoduck.pipeline.publish import current_snapshot

RESULT = Path(__file__).with_name("result.json")
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "agent_episodes_dev.jsonl.gz"
DOCS = ROOT / "docs"


@click.group()
def main() -> None:
    """What patterns of episodes are worth, on the development episodes."""


@main.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, show_default=True)
@click.option("--warehouse", type=click.Path(path_type=Path, exists=True), help="One that has them already.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(data: Path, warehouse: Path | None, out: Path) -> None:
    """Build the episodes, count and choose patterns, and test them on tasks that were left out (minutes)."""
    with tempfile.TemporaryDirectory() as folder:
        if warehouse is None:
            home = open_home(Path(folder))
            fill_home(home, data, "episodes")
            warehouse = current_snapshot(home)
            assert warehouse is not None, "the build has just published one"
        mining = Mining(warehouse)
    mining.learn()
    result: dict[str, Any] = {
        "run": describe_run(),
        "parameters": {name: mining.parameters[name] for name in sorted(PARAMETERS)},
        "moment": mining.moment.isoformat(timespec="seconds"),
        "domains": mining.ask(
            "select domain, count(*) as episodes, count(distinct task_key) as tasks, count(*) filter "
            "(where is_success) as successes, sum(tool_count)::bigint as calls, sum(error_count)::bigint "
            "as failed_calls from occurrences_features group by domain order by domain"
        ),
        "counts": counts(mining),
        "telling": most_telling(mining),
        "held_out": held_out(mining),
    }
    out.write_text(json.dumps(_rounded(result), indent=1, ensure_ascii=False) + "\n", "utf-8")


PARAMETERS = (
    "pattern_max_length",
    "pattern_max_gap",
    "pattern_min_support",
    "pattern_false_discovery_rate",
    "confidence_period_days",
    "confidence_decay",
    "confidence_prior_weight",
)


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page and the plot in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
