"""`python -m benchmarks.recall_quality run` measures, `… report` makes docs/recall-quality.md of it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_run
from benchmarks.recall_quality.conversations import LOCOMO, LONGMEMEVAL, Corpus, read_corpus
from benchmarks.recall_quality.peers import measure_peers
from benchmarks.recall_quality.report import write_report
from benchmarks.recall_quality.studies import BY_WORDS_ALONE, WITHOUT_VECTORS, expand, study
from benchmarks.recall_quality.vectors import Vectors, fill_cache, has_minilm
from mnemoduck.evaluation import ABLATION, Ablation, evaluate, fill_home
from mnemoduck.home import open_home
from mnemoduck.memory import Memory
from mnemoduck.pipeline.run import run_pipeline
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
    type=click.Path(path_type=Path, exists=True),
    help="Folder of MiniLM vectors made beforehand: for the peers that need them, and for the builds.",
)
@click.option("--threads", default=2, show_default=True)
@click.option("--resume", is_flag=True, help="Go on with what the result file already has.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(data: Path, vectors: Path | None, threads: int, resume: bool, out: Path) -> None:
    """Ask every question of both development files through the API, and try each weight in the formula."""
    corpora = {name: read_corpus(data / file) for name, file in FILES.items()}
    result: dict[str, Any] = {"run": describe_run(), "evaluations": {}, "with_vectors": {}, "expansions": {}}
    if resume:
        result = json.loads(out.read_text("utf-8"))
    for name, corpus in corpora.items():
        if name not in result["evaluations"]:
            _measure(name, corpus, data / FILES[name], vectors, threads, result)
            _write(result, out)
    if "formula" not in result:
        click.echo("trying weights")
        result |= study(corpora, result["expansions"])
        _write(result, out)
    click.echo("asking peers")
    result["peers"] = measure_peers(corpora, vectors)
    del result["expansions"]
    _write(result, out)


def _measure(
    name: str, corpus: Corpus, file: Path, vectors: Path | None, threads: int, result: dict[str, Any]
) -> None:
    """Build a home of the file and ask; once more with vectors, if the extra is installed."""
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder))
        memories = fill_home(home, file, corpus.asked.format)

        def ask(embeddings: str, *ablation: Ablation) -> dict[str, Any]:
            with Memory(home.path) as memory:
                if name == "locomo" and not result["expansions"]:
                    result["expansions"] = expand(memory, corpus)
                return evaluate(
                    memory,
                    corpus.asked,
                    file=file.name,
                    memories=memories,
                    embeddings=embeddings,
                    ablation=ablation,
                    threads=threads,
                ).as_dict()

        click.echo(f"{name}: {memories:,} memories are built; asking")
        without = ask("none", *ABLATION, BY_WORDS_ALONE)
        if has_minilm():
            if vectors is not None:
                fill_cache(home, corpus, Vectors(vectors, name))
            done = run_pipeline(home, find_project(), llm="off", embeddings="minilm")
            if not done.is_ok:
                raise click.ClickException(f"{name}: no vectors: {done.failures or done.errors}")
            click.echo(f"{name}: with vectors; asking")
            result["with_vectors"][name] = ask("minilm", WITHOUT_VECTORS)
        result["evaluations"][name] = without


def _write(result: dict[str, Any], out: Path) -> None:
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
