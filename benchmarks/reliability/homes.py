"""Homes to be killed in: made once, copied, and given what the next act needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.witness import is_held
from mnemoduck import Memory

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = PROJECT / "seeds" / "sample_stream.jsonl"
MNEMODUCK = str(Path(sys.executable).with_name("mnemoduck"))
NOBODY = "http://127.0.0.1:9"
MONTHS = 6
"""So many months before the previous one hold memories that can be archived."""


class SetupError(Exception):
    """A home could not be made ready; says what failed."""


@dataclass
class Place:
    """A home and what is beside it: `diary` says what was acknowledged."""

    folder: Path

    @property
    def struck(self) -> Path:
        """The folder whose changes are counted: the home, and what commands write beside it."""
        return self.folder / "struck"

    @property
    def home(self) -> Path:
        return self.struck / "home"

    @property
    def beside(self) -> Path:
        """Where commands write that do not write to the home alone."""
        return self.struck / "beside"

    @property
    def diary(self) -> Path:
        return self.folder / "diary"

    def acknowledged(self) -> dict[str, list[str]]:
        """Return ids of what was acknowledged, by what it was: memory, forgotten, answer."""
        found: dict[str, list[str]] = {"memory": [], "forgotten": [], "answer": []}
        for line in self.diary.read_text().splitlines() if self.diary.exists() else ():
            entry = json.loads(line)
            found[entry["what"]].append(entry["id"])
        return found

    def take(self, other: Place) -> None:
        """Become a copy of another place."""
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(other.folder), str(self.folder)], check=True)


def environment(host: str = NOBODY, **changes: str) -> dict[str, str]:
    """Return the variables of a command: nobody's own settings, a log that says what is going on."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MNEMODUCK_", "DBT_"))}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)]),
        "MNEMODUCK_PROJECT": str(PROJECT),
        "OLLAMA_HOST": host,
        "DBT_LOG_FORMAT_FILE": "text",
        "COLUMNS": "160",
        "NO_COLOR": "1",
        **changes,
    }


def run(
    home: Path, *arguments: str, host: str = NOBODY, seconds: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run `mnemoduck` on a home and return how it ended."""
    return run_command([MNEMODUCK, *arguments, "--home", str(home)], host, seconds)


def run_command(
    command: Sequence[str], host: str = NOBODY, seconds: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run a command in peace and return how it ended."""
    return subprocess.run(
        command,
        cwd=PROJECT,
        env=environment(host),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def act(name: str, place: Place, number: str) -> None:
    """Let an act of acts.py end in peace."""
    done = subprocess.run(
        act_command(name, place, number),
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(f"{name} failed: {done.stderr.strip()[-500:]}")


def act_command(name: str, place: Place, number: str) -> list[str]:
    """Return the command of an act of acts.py."""
    return [
        sys.executable,
        "-m",
        "benchmarks.reliability.acts",
        name,
        str(place.home),
        str(place.diary),
        number,
    ]


def wait_until_free(home: Path, seconds: float = 60) -> None:
    """Wait until nobody holds the lock: what was killed holds it until the kernel has torn it down."""
    deadline = time.monotonic() + seconds
    while is_held(home / "run.lock"):
        if time.monotonic() > deadline:
            raise SetupError(f"{home / 'run.lock'} is held {seconds:g} s after its holder was killed")
        time.sleep(0.01)


def past_months() -> list[str]:
    """Return the months that can be archived, newest first, as the command line names them."""
    first = datetime.now(UTC).replace(day=1)
    months = []
    for _ in range(MONTHS + 1):
        first = (first - timedelta(days=1)).replace(day=1)
        months.append(f"{first:%Y-%m}")
    return months[1:]


def make_bases(folder: Path, tell: Callable[[str], None]) -> dict[str, Place]:
    """Return places with homes that were ingested; built; and built and archived. They are made once."""
    bases = {name: Place(folder / name) for name in ("ingested", "built", "archived")}
    made = folder / "made"
    if made.exists():
        return bases
    shutil.rmtree(folder, ignore_errors=True)
    tell("making homes (a few minutes)")
    ingested = bases["ingested"]
    ingested.beside.mkdir(parents=True)
    with Memory(ingested.home) as memory:
        for number in range(4 * MONTHS):
            memory_id = memory.remember(
                f"In month {number % MONTHS} Mia told Paul of trip {number} to Lisbon.",
                user_id=f"user-{number % 2}",
                session_id=f"past-{number % MONTHS}",
                occurred_at=datetime.fromisoformat(f"{past_months()[number % MONTHS]}-10T10:00:00+00:00")
                + timedelta(minutes=number),
            )
            with ingested.diary.open("a") as diary:
                diary.write(json.dumps({"what": "memory", "id": str(memory_id)}) + "\n")
    _succeed(ingested.home, "ingest", str(SAMPLE))
    built = bases["built"]
    built.take(ingested)
    _succeed(built.home, "run")
    archived = bases["archived"]
    archived.take(built)
    for model in PARTITIONED:
        _succeed(archived.home, "partitions", "archive", model, *past_months())
    _succeed(archived.home, "run")
    made.touch()
    return bases


PARTITIONED: Sequence[str] = ("stg_memories", "short_term_memories")
"""Models whose months are archived and restored."""


def _succeed(home: Path, *arguments: str) -> None:
    done = run(home, *arguments)
    if done.returncode != 0:
        raise SetupError(
            f"mnemoduck {' '.join(arguments)} failed: {(done.stdout + done.stderr).strip()[-1000:]}"
        )
