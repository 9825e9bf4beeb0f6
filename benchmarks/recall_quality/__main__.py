"""`python -m benchmarks.recall_quality run` measures, `… report` makes docs/recall-quality.md of it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_run
from benchmarks.recall_quality.conversations import LOCOMO, LONGMEMEVAL, read_corpus
from benchmarks.recall_quality.formula import weights_of
from benchmarks.recall_quality.peers import measure_peers
from benchmarks.recall_quality.report import write_report
from benchmarks.recall_quality.studies import leave_one_out, mean_of, open_bench, sweep, tried
from mnemoduck.evaluation import ABLATION, evaluate, fill_home
from mnemoduck.home import open_home
from mnemoduck.memory import Memory
from mnemoduck.project import find_project

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
@click.option(
    "--ablation-questions", type=int, help="How many questions are asked without each part; default all."
)
@click.option("--threads", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(data: Path, vectors: Path | None, ablation_questions: int | None, threads: int, out: Path) -> None:
    """Ask every question of both development files through the API, and try each weight in the formula."""
    corpora = {name: read_corpus(data / file) for name, file in FILES.items()}
    result: dict[str, Any] = {"run": describe_run(), "evaluations": {}, "ablations": {}}
    expansions: dict[str, list[tuple[str, float]]] = {}
    for name, corpus in corpora.items():
        with tempfile.TemporaryDirectory() as folder:
            home = open_home(Path(folder))
            memories = fill_home(home, data / FILES[name], corpus.asked.format, build=True)
            with Memory(home.path) as memory:
                common: dict[str, Any] = {"file": FILES[name], "memories": memories, "threads": threads}
                click.echo(f"{name}: {memories:,} memories are built; asking")
                result["evaluations"][name] = evaluate(memory, corpus.asked, **common).as_dict()
                part = corpus.asked.first(ablation_questions)
                result["ablations"][name] = evaluate(memory, part, ablation=ABLATION, **common).as_dict()
                if name == "locomo":
                    expansions = _expansions(memory, corpus)
    click.echo("trying weights")
    bench = open_bench(corpora, weights_of(find_project()))
    result["weights"] = bench.weights
    result["formula"] = {name: mean_of(bench.values(name)) for name in corpora}
    result["sweep"] = sweep(bench)
    result["leave_one_out"] = leave_one_out(bench, "locomo")
    result["tried"] = tried(bench, expansions)
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


def _expansions(memory: Memory, corpus: Any) -> dict[str, list[tuple[str, float]]]:
    """Return what comes to mind with the words of each question."""
    found = {}
    for conversation in corpus.conversations:
        for question in conversation.questions:
            words = sorted(
                {word for word in question.text.lower().replace("?", " ").split() if len(word) > 3}
            )
            near = (
                memory.associations(words, user_id=conversation.user_id, depth=1, limit=10) if words else []
            )
            found[f"{conversation.user_id}/{question.text}"] = [(one.concept, one.activation) for one in near]
    return found


if __name__ == "__main__":
    main()
