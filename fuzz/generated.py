"""Cases that hypothesis generates: near those that are accepted, and made small where one fails."""

from __future__ import annotations

import hashlib
import mmap
import resource
import signal
import struct
import time
import traceback
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import HypothesisException

from fuzz.target import Target

SECONDS_PER_CASE = 10
MEMORY_BYTES = 4 * 1024**3
CASES_PER_ROUND = 1000
"""Hypothesis remembers what it has tried within a round, and gets slower with it."""
MAX_CRASHES = 5


class TooSlowError(Exception):
    """A case took longer than SECONDS_PER_CASE."""


class CaseCounter:
    """Counts cases in a file, so that the count is there however the process ends."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)
        self.count = 0

    def add(self) -> None:
        self.count += 1
        struct.pack_into("<q", self._memory, 0, self.count)


def read_count(path: Path) -> int:
    """Return what a counter has counted; 0 if it never began."""
    data = path.read_bytes() if path.exists() else b""
    return int(struct.unpack("<q", data)[0]) if len(data) == 8 else 0


def run(target: Target, *, cases: int, seconds: float, seed: int, folder: Path) -> None:
    """Try so many cases, or as many as there is time for; failing ones are written to the folder."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    signal.signal(signal.SIGALRM, _too_slow)
    counter = CaseCounter(folder / "count")
    end = time.monotonic() + seconds
    found: set[str] = set()
    number = 0
    while counter.count < cases and time.monotonic() < end and len(found) < MAX_CRASHES:
        size = min(CASES_PER_ROUND, cases - counter.count)
        crash = _round(target, size, seed * 1_000_003 + number, counter, end)
        number += 1
        if crash is None:
            continue
        data, told = crash
        place = told.strip().splitlines()[-1]
        if place not in found:
            found.add(place)
            name = f"crash-{hashlib.sha256(data).hexdigest()[:12]}"
            (folder / name).write_bytes(data)
            (folder / f"{name}.txt").write_text(told, "utf-8", errors="backslashreplace")


def _round(
    target: Target, cases: int, seed: int, counter: CaseCounter, end: float
) -> tuple[bytes, str] | None:
    """Return the smallest case that failed, with what went wrong; None if none did."""
    last: list[tuple[bytes, str]] = []

    @seeded(seed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(target.strategy())
    def attempt(data: bytes) -> None:
        if time.monotonic() > end and not last:
            return
        counter.add()
        data = data[: target.max_bytes]
        signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_CASE)
        try:
            target.check(data)
        except Exception:
            last[:] = [(data, traceback.format_exc())]
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    try:
        attempt()
    except (HypothesisException, ExceptionGroup):
        if not last:
            raise
    except Exception:
        if not last:
            raise
    return last[0] if last else None


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"a case took longer than {SECONDS_PER_CASE} s")
