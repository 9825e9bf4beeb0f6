"""`python -m benchmarks.reliability crash|faults|full-disk|concurrency|clocks`, `… report`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.machine import describe_run
from benchmarks.reliability.clocks import measure as measure_clocks
from benchmarks.reliability.concurrency import is_kept
from benchmarks.reliability.concurrency import measure as measure_concurrency
from benchmarks.reliability.full_disk import measure as measure_full_disk
from benchmarks.reliability.homes import SetupError
from benchmarks.reliability.instants import Attack
from benchmarks.reliability.report import write_report
from benchmarks.reliability.shim import FAULTS, KILLS, ShimError

RESULTS = Path(__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs"
WORK = Path("target/benchmarks/reliability")

_path = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """Hold the promises under fire, and say what came of it."""


def _attack(
    actions: tuple[str, ...],
    instants: int,
    names: tuple[str, ...],
    seed: int,
    workers: int,
    minutes: float | None,
    out: Path,
    work: Path,
) -> None:
    started = time.monotonic()

    def tell(line: str) -> None:
        click.echo(f"{time.monotonic() - started:6.0f} s  {line}")

    try:
        attack = Attack(work.absolute(), out, seed, actions, workers, tell)
        done = attack.carry_out(instants, names, None if minutes is None else 60 * minutes)
    except (ShimError, SetupError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{done} instants, {len(attack.faults)} faults; {out}")
    for fault in attack.faults:
        click.echo(f"FAULT {fault}", err=True)
    sys.exit(1 if attack.faults else 0)


_instants = click.option(
    "--instants", default=220, show_default=True, help="With those in the result already."
)
_phases = click.option("--phase", "names", multiple=True, help="Only these phases, models or parts.")
_seed = click.option("--seed", default=1, show_default=True, help="Another seed is other instants.")
_workers = click.option("--workers", default=2, show_default=True)
_minutes = click.option("--minutes", type=float, help="Begin no instant after so long.")
_work = click.option("--work", type=_path, default=WORK, show_default=True)


@main.command()
@_instants
@_phases
@_seed
@_workers
@_minutes
@click.option("--out", type=_path, default=RESULTS / "crash.jsonl", show_default=True)
@_work
def crash(
    instants: int,
    names: tuple[str, ...],
    seed: int,
    workers: int,
    minutes: float | None,
    out: Path,
    work: Path,
) -> None:
    """Kill -9 at random instants of each phase; a run has to mend it, and the witness looks."""
    _attack(KILLS, instants, names, seed, workers, minutes, out, work)


@main.command()
@_instants
@_phases
@_seed
@_workers
@_minutes
@click.option("--out", type=_path, default=RESULTS / "faults.jsonl", show_default=True)
@_work
def faults(
    instants: int,
    names: tuple[str, ...],
    seed: int,
    workers: int,
    minutes: float | None,
    out: Path,
    work: Path,
) -> None:
    """Let the disk be full or broken at random instants of each phase."""
    _attack(FAULTS, instants, names, seed, workers, minutes, out, work)


@main.command()
@click.option("--seconds", default=300.0, show_default=True)
@click.option("--writers", default=16, show_default=True)
@click.option("--readers", default=8, show_default=True)
@click.option("--out", type=_path, default=RESULTS / "concurrency.json", show_default=True)
@_work
def concurrency(seconds: float, writers: int, readers: int, out: Path, work: Path) -> None:
    """Let writers, readers and builds at one home at once, and pipelines in between."""
    try:
        found = measure_concurrency(work.absolute(), seconds, writers, readers, click.echo)
    except SetupError as error:
        raise click.ClickException(str(error)) from error
    out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if not is_kept(found):
        raise click.ClickException(f"A promise was broken; see {out}.")


@main.command()
@click.option("--scenario", "names", multiple=True, help="Only these functions of clocks.py.")
@click.option("--out", type=_path, default=RESULTS / "clocks.json", show_default=True)
@_work
def clocks(names: tuple[str, ...], out: Path, work: Path) -> None:
    """Let clocks lie. Needs Debian's faketime."""
    kept = _kept(out, "scenario")
    _collect(out, measure_clocks(work.absolute(), names, kept, click.echo), "scenario")


@main.command("full-disk")
@click.option("--out", type=_path, default=RESULTS / "full_disk.json", show_default=True)
@_work
def full_disk(out: Path, work: Path) -> None:
    """Fill a small file system before each step of the work. Needs root."""
    _collect(out, measure_full_disk(work.absolute(), _kept(out, "name"), click.echo), "name")


def _kept(out: Path, key: str) -> set[str]:
    """Return what is in a result already and went well: that is not done again."""
    return {one[key] for one in _outcomes(out) if not one["faults"]}


def _outcomes(out: Path) -> list[dict[str, Any]]:
    return list(json.loads(out.read_text("utf-8"))["outcomes"]) if out.exists() else []


def _collect(out: Path, found: Iterator[dict[str, Any]], key: str) -> None:
    """Put each outcome into the result, in place of what was there of it, as soon as it is known."""
    outcomes = {one[key]: one for one in _outcomes(out)}
    try:
        for one in found:
            outcomes[one[key]] = one
            result = {"run": describe_run(), "outcomes": list(outcomes.values())}
            out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    except SetupError as error:
        raise click.ClickException(str(error)) from error
    if any(one["faults"] for one in outcomes.values()):
        raise click.ClickException(f"A promise was broken; see {out}.")


@main.command()
@click.option("--results", type=click.Path(path_type=Path, exists=True), default=RESULTS, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(results: Path, docs: Path) -> None:
    """Make docs/reliability.md from the results."""
    write_report(results, docs)
    click.echo(f"Written: {docs / 'reliability.md'}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.reliability")
