"""A disk that is really full: a home on a small file system in memory, filled before each step."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reliability.homes import (
    PROJECT,
    Place,
    SetupError,
    act,
    act_command,
    environment,
    make_bases,
    run,
)
from benchmarks.witness import find_faults, find_lost

MEGABYTES = 600
"""Of the file system, which lies in memory."""


@dataclass(frozen=True)
class Step:
    """What is done with so little space left: `left` bytes, or a share of the warehouse's size."""

    name: str
    left: int = 0
    share_of_warehouse: float = 0.0


STEPS = (
    Step("remember", left=64_000),
    Step("load", left=16_000),
    Step("build, from its first page on", left=300_000),
    Step("build, in the middle", left=3_000_000),
    Step("publish", share_of_warehouse=0.6),
)


@dataclass
class Outcome:
    """What came of a step.

    Attributes:
        code: of the command that met the full disk.
        said: its last words.
        faults: what was lost or not said; and what was wrong once there was space again.
    """

    name: str
    code: int
    said: str
    faults: list[str] = field(default_factory=list)


def measure(work: Path, known: Collection[str], tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Fill the disk before each step, make space afterwards, and yield what came of each as soon as it ends.

    Args:
        known: names of steps that need not be done again.
    """
    base = make_bases(work / "bases", tell)["built"]
    with _file_system(work / "full-disk") as disk:
        place = Place(disk / "place")
        place.take(base)
        for step in STEPS:
            if step.name in known:
                continue
            outcome = _meet(place, step, disk / "place" / "struck" / "ballast")
            kept = "; ".join(outcome.faults) or "kept"
            tell(f"{outcome.name}: exit {outcome.code}, {outcome.said}: {kept}")
            yield asdict(outcome)


def _meet(place: Place, step: Step, ballast: Path) -> Outcome:
    if step.name != "remember":
        for _ in range(20):
            act("tell", place, step.name)
    size = (place.home / "warehouse.duckdb").stat().st_size
    _fill(ballast, step.left + round(step.share_of_warehouse * size))
    if step.name == "remember":  # it makes space itself, to show that the same process goes on
        done = subprocess.run(
            act_command("fill", place, "full"),
            cwd=PROJECT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        outcome = Outcome(step.name, done.returncode, (done.stdout or done.stderr).strip().splitlines()[-1])
        if done.returncode != 0:
            outcome.faults.append("remember() did not refuse, or did not go on")
    else:
        done = run(place.home, "run")
        lines = (done.stdout + done.stderr).strip().splitlines()
        outcome = Outcome(step.name, done.returncode, _reason(lines))
        if done.returncode == 0:
            outcome.faults.append("the disk was not full")
        elif "Traceback" in done.stdout + done.stderr or not outcome.said:
            outcome.faults.append(f"it is not said clearly: {lines[-5:]}")
    told = place.acknowledged()
    outcome.faults += [f"on the full disk {fault}" for fault in find_lost(place.home, told["memory"])]
    outcome.said = outcome.said.replace(f"{place.struck}/", "")
    ballast.unlink(missing_ok=True)
    mended = run(place.home, "run")
    if mended.returncode != 0:
        outcome.faults.append(f"with space again a run fails: {(mended.stdout + mended.stderr)[-400:]}")
    outcome.faults += find_faults(place.home, told["memory"], told["forgotten"])
    return outcome


def _reason(lines: list[str]) -> str:
    """Return the first line that tells of space, else the last one."""
    reasons = [line.strip() for line in lines if "space" in line.lower() or "disk" in line.lower()]
    return (reasons or lines[-1:] or [""])[0][:300]


def _fill(ballast: Path, left: int) -> None:
    free = os.statvfs(ballast.parent)
    size = free.f_bavail * free.f_frsize - left
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))


@contextmanager
def _file_system(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise SetupError(f"No small file system can be made here, which takes root: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
