"""`python -m benchmarks.recall run` measures, `… report` makes docs/recall-benchmark.md of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_run
from benchmarks.recall.homes import (
    LAYOUTS,
    MANY,
    ONE,
    PROJECT,
    Corpus,
    add_memories,
    build_home,
    make_corpus,
    texts_of,
    write_texts,
)
from benchmarks.recall.measure import ask_fts5, measure_recall, measure_scans
from benchmarks.recall.peers import Fts5
from benchmarks.recall.queries import Question, draw_questions
from benchmarks.recall.report import write_report
from mnemoduck.home import Home

RESULT = Path(__file__).with_name("result.json")
DOCS = PROJECT / "docs"

QUESTIONS = 600
SCANNED_QUESTIONS = 10
SECONDS = 40.0

PEER_LIMITS = {
    "Chroma": 100_000,
    "LanceDB vectors": 1_000_000,
    "LanceDB full text": 1_000_000,
    "rank-bm25": 100_000,
}
"""The most memories that a peer is given, for its time or its memory: see the page."""
PEER_SECONDS = 300.0
"""Then a peer is stopped."""

Save = Callable[[], None]


@click.group()
def main() -> None:
    """The speed of recall against the number of memories, scopes and threads, and beside peers."""


@main.command()
@click.option(
    "--rows", "sizes", multiple=True, type=click.IntRange(min=1000), default=(10_000, 100_000, 1_000_000)
)
@click.option("--seed", default=1, show_default=True, help="Another seed is another stream.")
@click.option("--questions", default=QUESTIONS, show_default=True, type=click.IntRange(min=60))
@click.option("--seconds", default=SECONDS, show_default=True, help="At most for each kind of measurement.")
@click.option("--layout", "layouts", multiple=True, type=click.Choice(list(LAYOUTS)), default=list(LAYOUTS))
@click.option("--peers/--no-peers", "with_peers", default=True, show_default=True)
@click.option("--adding/--no-adding", "with_adding", default=True, show_default=True)
@click.option(
    "--peers-python",
    default=sys.executable,
    show_default=True,
    help="The Python of an environment that has the peers.",
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/recall"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(
    sizes: tuple[int, ...],
    seed: int,
    questions: int,
    seconds: float,
    layouts: tuple[str, ...],
    with_peers: bool,
    with_adding: bool,
    peers_python: str,
    folder: Path,
    out: Path,
) -> None:
    """Measure each size, and put it into the result in place of what was there of that size.

    What is measured is written at once: a run that is stopped leaves what it had. A step that fails is
    told, and the others go on; then the exit code is 1.
    """
    started = time.perf_counter()
    is_whole = True
    for memories in sizes:
        found: dict[str, Any] = {"rows": memories, "run": describe_run(), "layouts": {}, "failures": []}
        found["run"]["sqlite"] = sqlite3.sqlite_version

        def tell(line: str) -> None:
            click.echo(f"{time.perf_counter() - started:7.0f} s  {line}")

        def save(found: dict[str, Any] = found) -> None:
            _write(out, found)

        tell(f"{memories:,} memories")
        work = folder.absolute() / f"work_{memories}"
        shutil.rmtree(work, ignore_errors=True)
        corpus = make_corpus(memories, work / "stream", seed)
        for layout in layouts:
            try:
                home = _measure_layout(
                    corpus, layout, work, seed, questions, seconds, found, with_adding, tell, save
                )
                if layout == MANY and with_peers:
                    _measure_peers(home, work, seed, seconds, peers_python, found, tell, save)
            except Exception as error:  # what was measured before stands
                found["failures"].append(f"{layout}: {error}")
                tell(f"{layout}: FAILED: {error}")
            save()
            shutil.rmtree(work / "home", ignore_errors=True)
        is_whole = is_whole and not found["failures"]
        shutil.rmtree(work)
    sys.exit(0 if is_whole else 1)


def _measure_layout(
    corpus: Corpus,
    layout: str,
    work: Path,
    seed: int,
    count: int,
    seconds: float,
    found: dict[str, Any],
    with_adding: bool,
    tell: Callable[[str], None],
    save: Save,
) -> Home:
    home, built = build_home(corpus, layout, work / "home")
    own: dict[str, Any] = {"scopes": LAYOUTS[layout], "build": built}
    found["layouts"][layout] = own
    save()
    tell(f"{layout}: loaded in {built['load_seconds']:.0f} s, built in {built['dbt_seconds']:.0f} s")
    is_shared = layout != ONE
    index = Fts5(work / "fts5.sqlite", with_users=is_shared)
    started = time.perf_counter()
    for rows in texts_of(home):
        index.add(rows)
    index.finish()
    own["fts5_build"] = {
        "seconds": round(time.perf_counter() - started, 3),
        "bytes": index.bytes,
        "rows": corpus.memories,
    }
    tell(f"{layout}: FTS5 built in {own['fts5_build']['seconds']:.0f} s")
    questions = draw_questions(home, count, seed)
    own["recall"] = measure_recall(home, questions, ask_fts5(index, is_shared), seconds)
    index.close()
    save()
    for kind in ("cold", "fts5", "cold_threads", "cached", "cached_threads"):
        tell(f"{layout}: {kind}: {own['recall'][kind]}")
    fresh = frozenset(question.text for question in questions)
    own["scans"] = measure_scans(home, draw_questions(home, SCANNED_QUESTIONS, seed + 1, fresh))
    tell(f"{layout}: rows scanned: {own['scans']['rows_scanned']}")
    save()
    if with_adding:
        own["adding"] = add_memories(home, corpus, layout)
        tell(f"{layout}: added: {own['adding']['rounds']}")
        save()
    return home


def _measure_peers(
    home: Home,
    work: Path,
    seed: int,
    seconds: float,
    python: str,
    found: dict[str, Any],
    tell: Callable[[str], None],
    save: Save,
) -> None:
    """Measure each peer that can stand the size, in a process of its own."""
    write_texts(home, work / "texts.jsonl")
    asked = [_as_dict(question) for question in draw_questions(home, 120, seed)]
    (work / "questions.json").write_text(json.dumps(asked), "utf-8")
    found["peers"] = {}
    for engine, limit in PEER_LIMITS.items():
        if found["rows"] > limit:
            found["peers"][engine] = {"skipped": f"given at most {limit:,} memories"}
            continue
        tell(f"{engine} ...")
        found["peers"][engine] = measure_apart(engine, work, seconds / 2, python)
        tell(f"{engine}: {found['peers'][engine]}")
        save()


def measure_apart(engine: str, work: Path, seconds: float, python: str) -> dict[str, Any]:
    """Return what a peer took in a process of its own, or why it was skipped."""
    out = work / f"{engine}.json"
    out.unlink(missing_ok=True)
    command = [python, "-m", "benchmarks.recall.peers", engine, str(work), str(seconds)]
    try:
        done = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=PEER_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"skipped": f"not done after {PEER_SECONDS:.0f} seconds"}
    except OSError as error:
        return {"skipped": f"{python} could not be started: {error}"}
    if not out.exists():
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        missing = "ModuleNotFoundError" in lines[-1] or "PackageNotFoundError" in lines[-1]
        return {"skipped": "not installed" if missing else lines[-1]}
    result: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return result


def _as_dict(question: Question) -> dict[str, str]:
    return {"text": question.text, "user": question.user}


def _write(out: Path, found: dict[str, Any]) -> None:
    by_rows: dict[int, dict[str, Any]] = {}
    if out.exists():
        by_rows = {size["rows"]: size for size in json.loads(out.read_text("utf-8"))["sizes"]}
    by_rows[found["rows"]] = found
    result = {"sizes": [by_rows[rows] for rows in sorted(by_rows)], "remarks": []}
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the tables and the plot in docs/ from a result file."""
    write_report(json.loads(result.read_text("utf-8")), docs)


if __name__ == "__main__":
    main()
