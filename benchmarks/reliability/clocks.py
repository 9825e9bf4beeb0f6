"""Clocks that lie: set back, an hour apart, years ahead, in other time zones. libfaketime tells the time.

Each scenario has the same invariant: nothing is lost or doubled, and nothing stays hidden once the clocks
have reached the moments that were told.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.reliability.homes import MNEMODUCK, PROJECT, Place, SetupError, environment, make_bases
from benchmarks.witness import checksums, find_faults, snapshot_of
from mnemoduck import Memory

HOUR = 3600
MEMORIES = 10
"""At each clock."""


@dataclass
class Seen:
    """What came of a scenario.

    Attributes:
        told: memories that were acknowledged.
        found_at_once: of them, recalled at once by a reader with the clock of their writer.
        found_at_last: recalled after the last run, at a moment that all clocks have passed.
        faults: what broke the invariant.
    """

    name: str
    told: int
    found_at_once: int
    found_at_last: int
    faults: list[str] = field(default_factory=list)


class Clocked:
    """A home on which commands are started with a clock that is so many seconds off."""

    def __init__(self, place: Place, library: str, work: Path) -> None:
        self.place = place
        self._library = library
        self._work = work
        self.told: list[str] = []
        self.found_at_once = 0
        self.faults: list[str] = []

    def remember(self, label: str, *shifts: float, occurs_in: float | None = None) -> None:
        """Remember ten memories at each of the clocks, by one process, which recalls each of them at once.

        Args:
            occurs_in: seconds from then at which they happen; None leaves that to the package.
        """
        before = len(self.place.acknowledged()["memory"])
        spec = self._work / "clock"
        spec.write_text("+0")
        done = self._start(
            [sys.executable, "-m", __name__, str(self.place.home), str(self.place.diary), str(spec), label,
             json.dumps(occurs_in), *map(str, shifts)],
            FAKETIME_TIMESTAMP_FILE=str(spec),
            FAKETIME_NO_CACHE="1",
        )  # fmt: skip
        if done.returncode != 0:
            raise SetupError(f"{label}: {done.stderr[-500:]}")
        self.found_at_once += int(done.stdout)
        self.told += self.place.acknowledged()["memory"][before:]

    def run(self, shift: float, *arguments: str, zone: str = "UTC") -> None:
        """Build with a clock that is off; what is published has to be what readers see then."""
        command = [MNEMODUCK, "run", "--rhythm", "continuous", *arguments, "--home", str(self.place.home)]
        done = self._start(command, FAKETIME=f"{shift:+.0f}", TZ=zone)
        if done.returncode != 0:
            self.faults.append(f"a run at {shift:+.0f} s fails: {(done.stdout + done.stderr)[-500:]}")
        elif (name := snapshot_of(self.place.home).stem) not in done.stdout:
            self.faults.append(f"CURRENT names {name}, which that run did not publish: {done.stdout[-200:]}")

    def end(self, name: str, shift: float) -> Seen:
        """Build once more, when all clocks have passed what was told, and look."""
        self.run(shift)
        acknowledged = self.place.acknowledged()
        self.faults += find_faults(self.place.home, acknowledged["memory"], acknowledged["forgotten"])
        found = self._count_recalled(datetime.now(UTC) + timedelta(seconds=shift))
        if found != len(self.told):
            self.faults.append(
                f"{len(self.told) - found} of {len(self.told)} memories are not recalled at last"
            )
        return Seen(name, len(self.told), self.found_at_once, found, self.faults)

    def _count_recalled(self, as_of: datetime) -> int:
        with Memory(self.place.home) as memory:
            hits = memory.recall("clocked", user_id="clock", limit=10_000, record=False, as_of=as_of)
        return len({hit.memory_id for hit in hits} & {UUID(one) for one in self.told})

    def _start(self, command: list[str], **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=PROJECT,
            env=environment(LD_PRELOAD=self._library, **changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def set_back_between_memories(clock: Clocked) -> Seen:
    """One process remembers, its clock is set back by an hour, by a day, and right again."""
    clock.remember("stepping", 0, -HOUR, -24 * HOUR, 0, -60, 0)
    return clock.end("set back between memories of one process", HOUR)


def set_back_between_runs(clock: Clocked) -> Seen:
    """Three runs with a clock that is set back by an hour each time."""
    for shift in (0, -HOUR, -2 * HOUR):
        clock.remember(f"before the run at {shift}", shift)
        clock.run(shift)
    return clock.end("set back between runs", HOUR)


def an_hour_apart(clock: Clocked) -> Seen:
    """Two machines whose clocks are an hour apart write to one home; now the one builds, now the other."""
    for ahead in (True, False, True):
        clock.remember("machine in time", 0)
        clock.remember("machine ahead", HOUR)
        clock.run(HOUR if ahead else 0)
    return clock.end("two machines an hour apart", 2 * HOUR)


def years_ahead(clock: Clocked) -> Seen:
    """A clock without a battery begins years ahead, and is set right."""
    clock.remember("years ahead", 10 * 365 * 24 * HOUR)
    clock.run(10 * 365 * 24 * HOUR)
    clock.remember("set right", 0)
    clock.run(0)
    return clock.end("ten years ahead, then set right", 11 * 365 * 24 * HOUR)


def in_the_future(clock: Clocked) -> Seen:
    """What is told of tomorrow is not recalled before; of what has happened nothing is held back by it."""
    clock.remember("tomorrow", 0, occurs_in=24 * HOUR)
    at_once, clock.found_at_once = clock.found_at_once, 0
    if at_once:
        clock.faults.append(f"{at_once} memories of tomorrow are recalled today")
    clock.remember("today", 0)
    clock.run(0)
    return clock.end("told of tomorrow", 25 * HOUR)


def time_zones(clock: Clocked) -> Seen:
    """Runs in zones on both sides of the date line, in the hours in which summer begins and ends."""
    found = set()
    for number, (zone, moment) in enumerate(_ZONES):
        shift = datetime.fromisoformat(moment).timestamp() - time.time()
        clock.run(shift, "--as-of", "2030-01-01T00:00:00Z", zone=zone)
        found.add(
            json.dumps(
                {table: found for table, found in checksums(clock.place.home).items() if table in _TOLD}
            )
        )
        if len(found) > 1:
            clock.faults.append(f"in {zone} at {moment} the same memories gave another build (run {number})")
            break
    clock.remember("after the zones", 0)
    return clock.end("time zones and summer time", HOUR)


_ZONES = (
    ("America/New_York", "2026-11-01T05:30:00+00:00"),
    ("America/New_York", "2026-11-01T06:30:00+00:00"),
    ("Pacific/Kiritimati", "2027-03-28T00:59:00+00:00"),
    ("Europe/Berlin", "2027-03-28T01:01:00+00:00"),
)
_TOLD = frozenset(
    [
        "staging.stg_steps",
        "main.facts",
        "main.memory_features",
        "main.memory_concepts",
        "staging.episode_features",
    ]
)

SCENARIOS: tuple[Callable[[Clocked], Seen], ...] = (
    set_back_between_memories,
    set_back_between_runs,
    an_hour_apart,
    years_ahead,
    in_the_future,
    time_zones,
)


def measure(
    work: Path, names: Sequence[str], known: Collection[str], tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Let the clocks lie in each scenario, on a home of its own; yield what came of each as soon as it ends.

    Args:
        names: of scenarios; none for all.
        known: names of those that need not be run again.
    """
    library = _library()
    base = make_bases(work / "bases", tell)["built"]
    for scenario in SCENARIOS:
        if scenario.__name__ in known or (names and scenario.__name__ not in names):
            continue
        place = Place(work / "clocks" / scenario.__name__)
        place.folder.parent.mkdir(parents=True, exist_ok=True)
        place.take(base)
        seen = scenario(Clocked(place, library, place.folder))
        tell(f"{seen.name}: {seen.found_at_last} of {seen.told} found; {'; '.join(seen.faults) or 'kept'}")
        yield {"scenario": scenario.__name__, **asdict(seen)}


def _library() -> str:
    if shutil.which("faketime") is None:
        raise SetupError("faketime was not found: install it (apt-get install faketime).")
    said = subprocess.run(
        ["faketime", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def main() -> None:
    """Remember at each of the clocks, and say how many of the memories were recalled at once."""
    home, diary, spec, label, occurs_in, *shifts = sys.argv[1:]
    kept = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    count = 0
    with Memory(home) as memory:
        for step, shift in enumerate(map(float, shifts)):
            Path(spec).write_text(f"{shift:+.0f}")
            for number in range(MEMORIES):
                delay = json.loads(occurs_in)
                # Two memories of the same words would be one.
                text = f"clocked thought {number} of {label}, {shift:+.0f} s off, {time.time_ns()}x{step}"
                memory_id = memory.remember(
                    text,
                    user_id="clock",
                    occurred_at=None if delay is None else datetime.now(UTC) + timedelta(seconds=delay),
                )
                os.write(kept, json.dumps({"what": "memory", "id": str(memory_id)}).encode() + b"\n")
                hits = memory.recall(text, user_id="clock", limit=1000, record=False)
                count += memory_id in {hit.memory_id for hit in hits}
    print(count)


if __name__ == "__main__":
    main()
