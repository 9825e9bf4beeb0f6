"""`python -m benchmarks.suite run` measures, `… report` makes docs/performance.md, `… compare` compares."""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from benchmarks.machine import describe_run
from benchmarks.suite.page import write_page
from benchmarks.suite.parts import Part, build, find_parts
from benchmarks.suite.results import (
    WORSE_AT,
    Result,
    ResultError,
    compare,
    keep,
    new_result,
    read_result,
    write_result,
)
from benchmarks.suite.work import DEFAULT_ROUNDS, SCALES, Work
from mnemoduck.cli.output import progress_bar

BASELINE = Path(__file__).with_name("baseline.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULT = Path("target/benchmarks/suite/result.json")
DEFAULT_SCALES = ("10k", "100k")

_path = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """Measure mnemoduck on a generated stream: builds, queries, threads, ingest, files."""


@main.command()
@click.option("--scale", "scales", multiple=True, type=click.Choice(list(SCALES)), default=DEFAULT_SCALES)
@click.option("--part", "parts", multiple=True, help="Only these; by default all.")
@click.option("--seed", default=1, show_default=True, help="Another seed is another stream.")
@click.option("--rounds", default=DEFAULT_ROUNDS, show_default=True, type=click.IntRange(min=20))
@click.option("--out", type=_path, default=RESULT, show_default=True)
@click.option("--work", "folder", type=_path, default=Path("target/benchmarks/suite"), show_default=True)
@click.option("--keep", "keeps_work", is_flag=True, help="Leave the streams and homes in --work.")
@click.option(
    "--reuse", "reuses_work", is_flag=True, help="Measure what --keep has left in --work: not part build."
)
@click.option("--compare", "baseline", type=_path, help="Then compare with this result, as `compare` does.")
def run(
    scales: tuple[str, ...],
    parts: tuple[str, ...],
    seed: int,
    rounds: int,
    out: Path,
    folder: Path,
    keeps_work: bool,
    reuses_work: bool,
    baseline: Path | None,
) -> None:
    """Measure, and put each part of each scale into the result in place of what was there of it.

    What a part found is written at once. A part that fails is told, and the others go on; the exit code is 1.
    """
    chosen = _choose(parts)
    if reuses_work and build.NAME in chosen:
        raise click.UsageError("--reuse builds nothing: name the other parts by --part.")
    result = _open(out, seed)
    before = _read(baseline) if baseline else None  # read first: a wrong file is not told after an hour
    started = time.perf_counter()
    failures = []
    with progress_bar() as bar:
        task = bar.add_task("", total=len(scales) * len(chosen))
        for scale in dict.fromkeys(scales):

            def tell(line: str, scale: str = scale) -> None:
                _print(bar, f"{time.perf_counter() - started:7.0f} s  {scale}  {line}")

            work = Work(scale, SCALES[scale], folder.absolute() / scale, seed, tell, rounds)
            if reuses_work:
                try:
                    work.take_kept()
                except ValueError as error:
                    raise click.UsageError(f"--reuse: {error}.") from error
            else:
                work.clear()
            for name, part in chosen.items():
                bar.update(task, description=f"{scale} {name}")
                try:
                    keep(result, scale, work.memories, name, _measure(part, work))
                    write_result(out, result)
                except Exception as error:  # what the other parts measure stands
                    failures.append(f"{scale} {name}: {error}")
                    tell(f"{name} FAILED: {''.join(traceback.format_exception(error)).rstrip()}")
                bar.advance(task)
            if keeps_work:
                work.note_kept()
            elif not reuses_work:
                work.clear()
    click.echo(f"The result is {out}.")
    for failure in failures:
        click.echo(f"FAILED {failure}", err=True)
    if failures:
        sys.exit(1)
    if before is not None:
        _compare(before, result)


@main.command()
@click.option("--result", "path", type=_path, default=BASELINE, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True, file_okay=False), default=DOCS)
def report(path: Path, docs: Path) -> None:
    """Make docs/performance.md and its plots from a result file and from nothing else."""
    write_page(_read(path), find_parts(), docs)
    click.echo(f"Written: {docs / 'performance.md'}")


@main.command("compare")
@click.argument("baseline", type=_path)
@click.argument("result", type=_path, default=RESULT)
def compare_command(baseline: Path, result: Path) -> None:
    """Compare a result with a baseline; if a ratio is 1.3 times worse, the exit code is 1."""
    _compare(_read(baseline), _read(result))


def _compare(baseline: Result, result: Result) -> None:
    try:
        changes = compare(baseline, result)
    except ResultError as error:
        raise click.ClickException(str(error)) from error
    worse = [change for change in changes if change.is_worse]
    for change in changes:
        click.echo(("WORSE  " if change.is_worse else "       ") + str(change))
    click.echo(f"{len(changes)} ratios compared, {len(worse)} worse than {WORSE_AT} times the baseline.")
    sys.exit(1 if worse else 0)


def _choose(names: tuple[str, ...]) -> dict[str, Part]:
    parts = find_parts()
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise click.UsageError(f"There is no part {', '.join(unknown)}. There are: {', '.join(parts)}.")
    return {name: part for name, part in parts.items() if not names or name in names}


def _open(out: Path, seed: int) -> Result:
    if not out.exists():
        return new_result(seed)
    result = _read(out)
    if result["seed"] != seed:
        raise click.UsageError(
            f"{out} is of seed {result['seed']}: name another file with --out, or measure with that seed."
        )
    return result


def _read(path: Path) -> Result:
    try:
        return read_result(path)
    except ResultError as error:
        raise click.ClickException(str(error)) from error


def _measure(part: Part, work: Work) -> dict[str, Any]:
    started = time.perf_counter()
    found = part.measure(work)
    ratios = part.ratios({**found, "memories": work.memories})
    seconds = time.perf_counter() - started
    work.tell(f"{part.NAME}: {len(ratios)} ratios in {seconds:.0f} s")
    return {
        "run": describe_run(),
        "seconds": round(seconds, 1),
        "ratios": {name: float(f"{value:.5g}") for name, value in ratios.items()},
        "found": found,
    }


def _print(bar: Progress, line: str) -> None:
    bar.console.print(line, soft_wrap=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.suite")
