"""`python -m benchmarks.recall_quality run` measures, `… report` makes docs/recall-quality.md of it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_run
from benchmarks.recall_quality.conversations import LOCOMO, LONGMEMEVAL, read_corpus
from benchmarks.recall_quality.peers import measure_peers
from benchmarks.recall_quality.report import write_report
from benchmarks.recall_quality.studies import Expansions, expand, study
from mnemoduck.evaluation import evaluate, fill_home
from mnemoduck.home import open_home
from mnemoduck.memory import Memory

RESULT = Path(__file__).with_name("result.json")
ROOT = Path(__file__).resolve().parents[2]
FILES = {"locomo": LOCOMO, "longmemeval": LONGMEMEVAL}


@click.group()
def main() -> None:
    """How well recall finds what answers: measured, weight by weight, and beside peers."""


@main.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=ROOT.parent / "shared" / "data")
@click.option(
    "--vectors",
    type=click.Path(path_type=Path),
    help="Folder of MiniLM vectors, for the peers that need them.",
)
@click.option("--threads", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(data: Path, vectors: Path | None, threads: int, out: Path) -> None:
    """Ask every question of both development files through the API, and try each weight in the formula."""
    corpora = {name: read_corpus(data / file) for name, file in FILES.items()}
    result: dict[str, Any] = {"run": describe_run(), "evaluations": {}}
    expansions: Expansions = {}
    for name, corpus in corpora.items():
        with tempfile.TemporaryDirectory() as folder:
            home = open_home(Path(folder))
            memories = fill_home(home, data / FILES[name], corpus.asked.format)
            click.echo(f"{name}: {memories:,} memories are built; asking")
            with Memory(home.path) as memory:
                result["evaluations"][name] = evaluate(
                    memory, corpus.asked, file=FILES[name], memories=memories, threads=threads
                ).as_dict()
                expansions |= expand(memory, corpus) if name == "locomo" else {}
    click.echo("trying weights")
    result |= study(corpora, expansions)
    click.echo("asking peers")
    result["peers"] = measure_peers(corpora, vectors)
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option(
    "--docs", type=click.Path(path_type=Path, exists=True), default=ROOT / "docs", show_default=True
)
def report(result: Path, docs: Path) -> None:
    """Make the page in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


if __name__ == "__main__":
    main()
