"""Measures the profiles: each round has every profile once, so that a slow moment of the machine hits all.

What is told of a profile is the median, over the rounds, of its figure divided by the default's in the same
round. The order within a round turns by one with each.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.layers.measure import peak_mb
from benchmarks.recall.homes import PROJECT, SELECTED, publish_warehouse, run_dbt
from benchmarks.stream import BASE, Stream, generate
from mnemoduck import Memory
from mnemoduck.home import HOME_VARIABLE, Home, open_home
from mnemoduck.inbox import SEALED_SUFFIX
from mnemoduck.settings import PROFILE_VARIABLE, PROFILES, SETTINGS, load_settings

DEFAULT = "balanced"
DURABLE = 50
"""For so many calls of a kind there is one that is durable."""

SECTIONS = {"ingest": "write", "build": "run", "recall": "recall"}
"""Which settings each part depends on."""

BUILT = ("+path:models/retrieval", "+int_associations")
"""What is built: what recall reads, and the largest model. The others take as long again and less memory."""

Tell = Callable[[str], None]
Figures = dict[str, float]


def measure(
    folder: Path, *, memories: int, rounds: int, steps: int, questions: int, again: int, tell: Tell
) -> dict[str, Any]:
    """Return the figures of each profile in each round, by part."""
    shutil.rmtree(folder, ignore_errors=True)
    stream = generate(memories, folder / "stream")
    home = _inbox(folder / "read", stream)
    run_dbt(home, SELECTED)
    publish_warehouse(home)
    tell(f"a home of {memories:,} memories is built")
    parts: dict[str, Callable[[str], Figures]] = {
        "ingest": lambda profile: measure_ingest(folder / "ingest", profile, steps),
        "build": lambda profile: measure_build(folder / "build", profile, stream),
        "recall": lambda profile: measure_recall(home, profile, questions, again),
    }
    concerned = {part: concerned_by(section) for part, section in SECTIONS.items()}
    found: dict[str, Any] = {
        "memories": memories,
        "rounds": rounds,
        "steps": steps,
        "questions": questions,
        "again": again,
        "parts": {},
    }
    for part, take in parts.items():
        figures: dict[str, list[Figures]] = {profile: [] for profile in concerned[part]}
        take(DEFAULT)  # dbt parses the project, and the files come into memory
        for round_number in range(rounds):
            for profile in _turned(concerned[part], round_number):
                taken = take(profile)
                figures[profile].append({name: round(value, 4) for name, value in taken.items()})
            tell(f"{part}: round {round_number + 1} of {rounds}")
        found["parts"][part] = figures
    shutil.rmtree(folder, ignore_errors=True)
    return found


def concerned_by(section: str) -> list[str]:
    """Return the default, and the profiles that set anything of a section; others are as the default."""
    return [
        name
        for name, values in PROFILES.items()
        if name == DEFAULT or any(key.startswith(f"{section}.") for key in values)
    ]


def ratios(figures: dict[str, list[Figures]], profile: str, name: str) -> list[float]:
    """Return a figure of a profile divided by the default's, for each round."""
    return [own[name] / other[name] for own, other in zip(figures[profile], figures[DEFAULT], strict=True)]


def summary(figures: dict[str, list[Figures]], profile: str, name: str) -> tuple[float, float]:
    """Return the median of a figure, and that of its ratios to the default."""
    own = statistics.median(one[name] for one in figures[profile])
    return own, statistics.median(ratios(figures, profile, name))


def measure_ingest(folder: Path, profile: str, steps: int) -> Figures:
    """Return events a second: memories one by one and steps of an episode, durable and not.

    What the process has buffered is written within the time.
    """
    home = _fresh(folder)
    few = max(1, steps // DURABLE)
    found: Figures = {}
    with _profile(profile):
        for name, count, durable in (("", steps, False), ("_durable", few, True)):
            with Memory(home.path) as memory:
                started = time.perf_counter()
                for number in range(count):
                    memory.remember(f"a note of number {number}", user_id="maya", durable=durable)
                found[f"remember{name}_per_second"] = count / (time.perf_counter() - started)
                episode = memory.start_episode("a task", user_id="maya")
                started, processor = time.perf_counter(), time.process_time()
                for number in range(count):
                    memory.log_step(episode, "look", {"number": number}, "found", durable=durable)
                memory.complete_episode(episode, "success", user_id="maya")
                found[f"step{name}_per_second"] = count / (time.perf_counter() - started)
                found[f"step{name}_cpu_us"] = (time.process_time() - processor) / count * 1e6
    shutil.rmtree(folder)
    return found


def measure_build(folder: Path, profile: str, stream: Stream) -> Figures:
    """Return seconds of wall and of processors, and the most memory, of building what is in the inbox."""
    home = _inbox(folder, stream)
    with _profile(profile):
        threads = load_settings(home).run.threads
        command = [
            *(sys.executable, "-c", "from dbt.cli.main import cli; cli()", "run", "--select", *BUILT),
            *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
            *("--target-path", str(folder.parent / "target"), "--log-path", str(home.logs)),
            *("--threads", str(threads)),  # said by the variable, dbt would parse the project anew
        ]
        started, before = time.perf_counter(), _processor_seconds()
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={
                **os.environ,
                HOME_VARIABLE: str(home.path),
                "MNEMODUCK_LLM": "off",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, peak_mb(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - started
    out = process.communicate()[0]
    if process.returncode != 0:
        raise RuntimeError(f"dbt failed with the profile {profile}:\n{out}")
    shutil.rmtree(folder)
    return {
        "build_seconds": seconds,
        "build_cpu_seconds": _processor_seconds() - before,
        "build_peak_mb": peak,
    }


def measure_recall(home: Home, profile: str, questions: int, again: int) -> Figures:
    """Return what a process that recalls found, see benchmarks.profiles.reading."""
    with _profile(profile):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.profiles.reading", str(questions), str(again), "1"],
            cwd=PROJECT,
            env={**os.environ, HOME_VARIABLE: str(home.path), "MNEMODUCK_PROJECT": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(f"reading failed with the profile {profile}:\n{done.stderr}")
    found: Figures = json.loads(done.stdout)
    return found


class _profile:  # noqa: N801 (reads as what it does: with _profile(name))
    """Have a profile in force, and no other setting of whoever measures."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._before: dict[str, str] = {}

    def __enter__(self) -> None:
        names = [one.environment for one in SETTINGS.values()]
        self._before = {name: os.environ.pop(name) for name in names if name in os.environ}
        os.environ[PROFILE_VARIABLE] = self._name

    def __exit__(self, *_: object) -> None:
        del os.environ[PROFILE_VARIABLE]
        os.environ.update(self._before)


def _turned(names: Sequence[str], by: int) -> Iterator[str]:
    for number in range(len(names)):
        yield names[(number + by) % len(names)]


def _fresh(folder: Path) -> Home:
    shutil.rmtree(folder, ignore_errors=True)
    return open_home(folder)


def _inbox(folder: Path, stream: Stream) -> Home:
    home = _fresh(folder)
    for path in stream.segments[BASE]:
        shutil.copy(path, home.inbox / path.with_suffix(SEALED_SUFFIX).name)
    return home


def _processor_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system
