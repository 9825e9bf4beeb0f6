"""Times logging, extraction and suggestions; and counts what is in the inbox after what was logged.

Logging is timed through `Memory`, on homes of their own, in turns with `select 1` through the client and with
an `fsync` on the same disk: what a durable step costs is what the disk takes. Extraction is what dbt says of
the models int_pattern_*. A part whose code this version has not raises RuntimeError and says so.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.episodes.stream import USER, Episodes, lines_of, observation
from benchmarks.recall.homes import PROJECT, load_lines, publish_warehouse, run_dbt
from mnemoduck import Memory
from mnemoduck.events import parse_event
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import seal_open_segments

EXTRACTING = "int_pattern_"
"""What the names of the models begin with that find patterns in new episodes."""

STEPS_AN_EPISODE = 7
"""Buffered steps before each end that is timed; fewer than a buffer holds."""

Tell = Callable[[str], None]


@dataclass
class Latencies:
    """Milliseconds of calls of one kind."""

    milliseconds: list[float] = field(default_factory=list)

    def time(self, call: Callable[[], Any]) -> Any:
        started = time.perf_counter_ns()
        found = call()
        self.milliseconds.append((time.perf_counter_ns() - started) / 1e6)
        return found

    def as_dict(self, select_1_ms: float | None = None) -> dict[str, Any]:
        p50, p95, p99 = (float(value) for value in np.percentile(self.milliseconds, [50, 95, 99]))
        found = {
            "calls": len(self.milliseconds),
            "p50_ms": round(p50, 4),
            "p95_ms": round(p95, 4),
            "p99_ms": round(p99, 4),
            "worst_ms": round(max(self.milliseconds), 4),
        }
        if select_1_ms is not None:
            found["p95_ratio"] = round(p95 / select_1_ms, 2)
        return found


def measure_logging(folder: Path, calls: int) -> dict[str, Any]:
    """Return times of `calls` starts and ends, ten times as many steps, and some durable ones."""
    home = _new_home(folder / "logging")
    kinds = ("select_1", "fsync", "start", "buffered", "durable", "complete")
    times = {name: Latencies() for name in kinds}
    connection = duckdb.connect()
    logged = 0
    beside = os.open(home.path / "beside", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with Memory(home.path) as memory:
        memory.log_step(memory.start_episode("warm up", user_id=USER), "look")
        for number in range(calls):
            times["select_1"].time(lambda: connection.execute("select 1").fetchall())
            episode = times["start"].time(
                lambda: memory.start_episode("cancel an order", domain="retail", user_id=USER)
            )
            for step in range(STEPS_AN_EPISODE):
                call = _step(memory, episode, step)
                times["buffered"].time(call)
            times["complete"].time(lambda: memory.complete_episode(episode, "success", reward=1.0))  # noqa: B023
            for step in range(3):
                times["buffered"].time(_step(memory, episode, step))
            logged += STEPS_AN_EPISODE + 3
            if number % 4 == 0:  # a disk's fsync is slow, and a quarter as many tell as much
                times["durable"].time(_step(memory, episode, 99, durable=True))
                os.write(beside, observation(number).encode() * 5)
                times["fsync"].time(lambda: os.fsync(beside))
                logged += 1
    os.close(beside)
    connection.close()
    _check(home, logged + 1)
    floor = float(np.median(times["select_1"].milliseconds))
    return {name: own.as_dict(floor) for name, own in times.items()}


def measure_sustained(folder: Path, seconds: float, per_second: int) -> dict[str, Any]:
    """Log so many steps a second for so long, while the inbox is sealed each second; count what is there."""
    home = _new_home(folder / "sustained")
    total = round(seconds * per_second)
    latencies, late = Latencies(), Latencies()
    is_done = threading.Event()

    def seal_each_second() -> None:
        while not is_done.wait(1):
            seal_open_segments(home)

    sealer = threading.Thread(target=seal_each_second)
    sealer.start()
    try:
        with Memory(home.path) as memory:
            episode = memory.start_episode("a stream", user_id=USER)
            began = time.perf_counter()
            for number in range(total):
                behind = time.perf_counter() - began - number / per_second
                if behind < 0:
                    time.sleep(-behind)
                late.milliseconds.append(max(behind, 0.0) * 1e3)
                latencies.time(_step(memory, episode, number))
            elapsed = time.perf_counter() - began
            memory.complete_episode(episode, "success")
    finally:
        is_done.set()
        sealer.join()
    return {
        "seconds": round(elapsed, 2),
        "asked_per_second": per_second,
        "steps_per_second": round(total / elapsed, 1),
        "log_step": latencies.as_dict(),
        "most_behind_ms": round(max(late.milliseconds), 2),
        **_check(home, total),
    }


def measure_bursts(folder: Path, bursts: int, steps: int) -> dict[str, Any]:
    """Log bursts of steps as fast as one thread can, then end the episode; count what is there."""
    home = _new_home(folder / "bursts")
    rates = []
    with Memory(home.path) as memory:
        for _ in range(bursts):
            episode = memory.start_episode("a burst", user_id=USER)
            began = time.perf_counter()
            for number in range(steps):
                memory.log_step(episode, "look", {"n": number}, observation(number))
            memory.complete_episode(episode, "success")
            rates.append(steps / (time.perf_counter() - began))
    return {
        "bursts": bursts,
        "steps": steps,
        "slowest_steps_per_second": round(min(rates)),
        "steps_per_second": round(float(np.median(rates))),
        **_check(home, bursts * steps),
    }


def prepare_home(folder: Path, episodes: int, tell: Tell) -> Home:
    """Return a published home that has episodes and the patterns in them.

    Raises:
        RuntimeError: this version has no models that find patterns, or dbt failed.
    """
    _check_models()
    home = _new_home(folder / "home")
    seconds = load_lines(home, "base", lines_of(Episodes().draw(0, episodes)))
    started = time.perf_counter()
    times = run_dbt(home, ("+path:models/procedural",))
    tell(
        f"{episodes:,} episodes loaded in {seconds:.1f} s, built in {time.perf_counter() - started:.1f} s "
        f"({sum(_extracting(times).values()) * 1e3:.0f} ms of it extraction)"
    )
    publish_warehouse(home)
    return home


def measure_extraction(home: Home, episodes: int, rounds: int, tell: Tell) -> dict[str, Any]:
    """Add as many episodes as the home has, again and again to a copy of it; return what the models took."""
    found: list[dict[str, float]] = []
    for number in range(rounds):
        copy = open_home(_copy(home, home.path.with_name("copy")))
        load_lines(copy, f"new-{number}", lines_of(Episodes().draw(episodes * (number + 1), episodes)))
        times = run_dbt(copy, (f"+{EXTRACTING}*",))
        found.append(_extracting(times))
        tell(f"{episodes:,} new episodes: {sum(found[-1].values()) * 1e3:.0f} ms ({found[-1]})")
    idle = _extracting(run_dbt(copy, (f"+{EXTRACTING}*",)))
    with duckdb.connect(str(copy.warehouse), read_only=True) as connection:
        row = connection.execute("select count(*) from staging.episode_features").fetchone()
    if row != (2 * episodes,):
        raise RuntimeError(f"of {2 * episodes:,} episodes {row} were built: the times say nothing")
    shutil.rmtree(copy.path)
    totals = Latencies([sum(times.values()) * 1e3 for times in found])
    return {
        "episodes": episodes,
        "rounds": rounds,
        **totals.as_dict(),
        "nothing_new_ms": round(sum(idle.values()) * 1e3, 1),
        "models": {
            name: round(float(np.median([times[name] for times in found])) * 1e3, 1) for name in found[0]
        },
    }


def measure_suggest(home: Home, calls: int) -> dict[str, Any]:
    """Ask what to do next in episodes that the home has not seen; return times and how many had an answer.

    Raises:
        RuntimeError: this version of `Memory` has no `suggest`.
    """
    times, floor = Latencies(), Latencies()
    connection = duckdb.connect()
    answered = 0
    with Memory(home.path) as memory:
        suggest = getattr(memory, "suggest", None)
        if suggest is None:
            raise RuntimeError("Memory.suggest is not in this version: merge it first")
        first = Latencies()
        for number, attempt in enumerate(Episodes().draw(10**6, calls)):
            so_far = [
                {"tool": tool, "error": has_failed}
                for tool, has_failed in attempt.calls[: number % len(attempt.calls)]
            ]
            floor.time(lambda: connection.execute("select 1").fetchall())
            found = (times if number else first).time(
                lambda: suggest(attempt.task, so_far, user_id=USER, domain=attempt.domain)  # noqa: B023
            )
            answered += bool(found.next_steps)
    connection.close()
    select_1_ms = float(np.median(floor.milliseconds))
    return {
        "first_ms": round(first.milliseconds[0], 2),
        "answered": answered,
        "asked": calls,
        "select_1_ms": round(select_1_ms, 4),
        **times.as_dict(select_1_ms),
    }


def _step(memory: Memory, episode: str, number: int, *, durable: bool = False) -> Callable[[], Any]:
    args, seen = {"order_id": f"#W{number:07}"}, observation(number)
    return lambda: memory.log_step(episode, "get_order", args, seen, latency_ms=12.5, durable=durable)


def _check(home: Home, expected: int) -> dict[str, int]:
    """Return how many of the steps that were logged are in the inbox: lost, doubled, out of order."""
    seal_open_segments(home)
    numbers: dict[object, list[int]] = {}
    ids = set()
    steps = 0
    for line in _lines(sorted(home.inbox.glob("*.jsonl"))):
        event = parse_event(line)
        if event.event_type == "step":
            steps += 1
            ids.add(event.event_id)
            number: Any = event.payload["step"]
            numbers.setdefault(event.payload["episode_id"], []).append(number)
    swapped = sum(own != sorted(own) for own in numbers.values())
    return {
        "logged": expected,
        "lost": expected - len(ids),
        "doubled": steps - len(ids),
        "out_of_order": swapped,
    }


def _lines(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            yield from file


def _new_home(path: Path) -> Home:
    shutil.rmtree(path, ignore_errors=True)
    return open_home(path)


def _copy(home: Home, path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(home.path, path)
    return path


def _check_models() -> None:
    if not list((PROJECT / "models" / "procedural").glob(f"{EXTRACTING}*.sql")):
        raise RuntimeError(f"the models {EXTRACTING}* are not in this version: merge them first")


def _extracting(times: dict[str, float]) -> dict[str, float]:
    found = {name: seconds for name, seconds in times.items() if name.startswith(EXTRACTING)}
    if not found:
        raise RuntimeError(f"dbt has built no model {EXTRACTING}*")
    return found


def percentiles(found: dict[str, Any]) -> Sequence[float]:
    """Return p50, p95 and p99 of what was measured."""
    return [float(found[f"p{share}_ms"]) for share in (50, 95, 99)]
