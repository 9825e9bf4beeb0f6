"""Bringing memories in: one by one, durably, in batches, by many processes, from files; and loading them."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.page import table
from benchmarks.stream import BASE
from benchmarks.suite.parts import Found, FoundByScale
from benchmarks.suite.work import Work
from benchmarks.suite.writers import write_from
from mnemoduck import Memory
from mnemoduck.event_ids import KnownEventIds
from mnemoduck.home import Home, open_home
from mnemoduck.importers import ingest
from mnemoduck.inbox import seal_open_segments, sealed_segments
from mnemoduck.pipeline.load import load_inbox

NAME = "ingest"
TITLE = "Bringing memories in"

MEMORIES = 100_000
"""At most so many are remembered and imported."""
LOADED_EVENTS = 1_000_000
"""At most about so many events are loaded."""
ONE_BY_ONE = 5_000
DURABLE = 500
PROCESSES = 8
PER_PROCESS = 5_000
ROUNDS = 3

DURABLE_AT_MOST = 2.0
"""The goal: a durable memory, as a multiple of one write and fsync of the same bytes."""
BATCHED_PER_SECOND = 172_000
"""The goal: events a second, batched in one process."""

BATCHED, JSONL, EVENTS, PARQUET, LOADED = (
    "remembered in a batch, durable",
    "JSONL of memories, ingested",
    "JSONL of events, ingested",
    "Parquet of memories, ingested",
    "loaded from the inbox into raw/",
)
_Memories = list[dict[str, Any]]


def measure(work: Work) -> Found:
    """Return how long each way takes, in turns with what the machine needs at least for the same bytes."""
    events = list(islice(_events(work.stream.segments[BASE]), 2 * MEMORIES))
    memories = [_memory(event) for event in events if event["event_type"] == "memory"][:MEMORIES]
    lines = [json.dumps(event, ensure_ascii=False).encode() for event in events[: len(memories)]]
    files = work.empty_folder("ingest-files")
    files.mkdir()
    plain = (json.dumps(memory).encode() for memory in memories)
    found: Found = {"in_bulk": {}}
    with _home(work) as home:
        found["buffered"] = _time_singles(home, memories[:ONE_BY_ONE], durable=False)
    with _home(work) as home:
        found["durable"] = _time_singles(home, memories[:DURABLE], durable=True)
    with _home(work) as home:
        found["processes"] = _time_processes(home, memories[:PER_PROCESS])
    ways: dict[str, Callable[[Home], int]] = {
        BATCHED: lambda home: _remember(home, memories),
        EVENTS: _ingesting(_write_lines(files / "events.jsonl", lines)),
        JSONL: _ingesting(_write_lines(files / "plain.jsonl", plain)),
        PARQUET: _ingesting(_write_parquet(files / "plain.parquet", memories)),
    }
    for name, way in ways.items():
        found["in_bulk"][name] = _time_rounds(work, way, lines, len(memories))
        work.tell(f"{name}: {found['in_bulk'][name]['per_second']:,.0f} a second")
    found["in_bulk"][LOADED] = _time_loading(work, lines)
    work.tell(f"{LOADED}: {found['in_bulk'][LOADED]['per_second']:,.0f} a second")
    shutil.rmtree(files)
    return found


def _events(segments: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for segment in segments:
        with segment.open("rb") as file:
            yield from map(json.loads, file)


def _memory(event: dict[str, Any]) -> dict[str, Any]:
    scope = {name: event.get(name) for name in ("user_id", "agent_id", "session_id")}
    payload = {name: event["payload"].get(name) for name in ("content", "role", "importance")}
    return {**payload, **scope, "occurred_at": event["occurred_at"]}


@contextmanager
def _home(work: Work) -> Iterator[Home]:
    """An empty home that is removed afterwards."""
    home = open_home(work.empty_folder("ingest-home"))
    try:
        yield home
    finally:
        shutil.rmtree(home.path)


def _count_lines(home: Home) -> int:
    seal_open_segments(home)
    return sum(segment.read_bytes().count(b"\n") for segment in sealed_segments(home))


def _check(what: str, expected: int, actual: int) -> None:
    if actual != expected:
        raise RuntimeError(f"{what}: {actual:,} events, where {expected:,} were acknowledged")


def _time_singles(home: Home, memories: _Memories, *, durable: bool) -> dict[str, float]:
    """Time `remember` in turns with one write (and fsync) of a line of about the same bytes."""
    descriptor = os.open(home.path / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    own, floor = [], []
    try:
        with Memory(home.path) as memory:
            for fields in memories:
                line = json.dumps(fields, ensure_ascii=False).encode().ljust(420)
                started = time.perf_counter()
                os.write(descriptor, line)
                if durable:
                    os.fsync(descriptor)
                between = time.perf_counter()
                memory.remember(**fields, durable=durable)
                own.append((time.perf_counter() - between) * 1e6)
                floor.append((between - started) * 1e6)
    finally:
        os.close(descriptor)
    _check("remembered one by one", len(memories), _count_lines(home))
    quantiles = statistics.quantiles(own, n=100)
    return {
        "memories": len(memories),
        "p50_us": round(statistics.median(own), 2),
        "p95_us": round(quantiles[94], 2),
        "p99_us": round(quantiles[98], 2),
        "floor_p50_us": round(statistics.median(floor), 2),
        "p50_ratio": round(statistics.median(own) / statistics.median(floor), 4),
    }


def _time_processes(home: Home, memories: _Memories) -> dict[str, float]:
    """Remember the same from many processes at once, one by one; then from one process, as the floor."""
    together = write_from(PROCESSES, home.path, memories)
    alone = write_from(1, home.path, memories)
    _check(f"remembered by {PROCESSES} processes", (PROCESSES + 1) * len(memories), _count_lines(home))
    return {
        "processes": PROCESSES,
        "per_second": round(PROCESSES * len(memories) / together, 1),
        "alone_per_second": round(len(memories) / alone, 1),
    }


def _remember(home: Home, memories: _Memories) -> int:
    with Memory(home.path) as memory:
        return len(memory.remember_batch(memories, durable=True))


def _ingesting(path: Path) -> Callable[[Home], int]:
    return lambda home: ingest(home, [path], known_event_ids=KnownEventIds(home)).accepted


def _write_lines(path: Path, lines: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def _write_parquet(path: Path, memories: _Memories) -> Path:
    pq.write_table(pa.Table.from_pylist(memories), path)
    return path


def _time_rounds(
    work: Work, way: Callable[[Home], int], lines: list[bytes], expected: int
) -> dict[str, float]:
    seconds, floor = [], []
    for _ in range(ROUNDS):
        floor.append(_parse(lines) / len(lines))
        with _home(work) as home:
            started = time.perf_counter()
            accepted = way(home)
            seconds.append((time.perf_counter() - started) / expected)
            # Equal memories of one moment are one: an import counts the others as duplicated.
            _check("brought in", accepted, _count_lines(home))
            if not 0.95 * expected <= accepted <= expected:
                raise RuntimeError(f"only {accepted:,} of {expected:,} were brought in")
    return _rate(expected, statistics.median(seconds), statistics.median(floor))


def _time_loading(work: Work, lines: list[bytes]) -> dict[str, float]:
    """Time one load of sealed segments, of all there are or of LOADED_EVENTS."""
    with _home(work) as home:
        for segment in work.stream.segments[BASE]:
            shutil.copy(segment, home.inbox / segment.name)
            if _count_lines(home) >= LOADED_EVENTS:
                break
        expected = _count_lines(home)
        before = _parse(lines)
        started = time.perf_counter()
        (batch,) = load_inbox(home)
        seconds = time.perf_counter() - started
        after = _parse(lines)
        _check("loaded", expected, sum(batch.event_counts.values()))
    return _rate(expected, seconds / expected, (before + after) / 2 / len(lines))


def _parse(lines: list[bytes]) -> float:
    """Return the seconds in which Python's own parser reads the lines: the floor of what is done in bulk."""
    started = time.perf_counter()
    for line in lines:
        json.loads(line)
    return time.perf_counter() - started


def _rate(events: int, seconds: float, floor: float) -> dict[str, float]:
    return {
        "events": events,
        "per_second": round(1 / seconds, 1),
        "parsed_per_second": round(1 / floor, 1),
        "ratio": round(seconds / floor, 4),
    }


def ratios(found: Found) -> dict[str, float]:
    """One by one as multiples of a write (and fsync), in bulk of parsing the same lines with `json`."""
    processes = found["processes"]
    return {
        "remember, buffered, of a write": found["buffered"]["p50_ratio"],
        "remember, durable, of a write and fsync": found["durable"]["p50_ratio"],
        f"remember, {PROCESSES} processes, of one": processes["alone_per_second"] / processes["per_second"],
        **{f"{name}, of parsing JSON": way["ratio"] for name, way in found["in_bulk"].items()},
    }


def report(found_by_scale: FoundByScale) -> Iterator[str]:
    """Yield a table of single memories, one of bulk, and the goals."""
    scales = list(found_by_scale.values())
    yield (
        "One memory at a time, in turns with one write of as many bytes to a file of the same disk (durable: "
        "with its fsync): p50 / p95 / p99, and p50 as a multiple of that write's. What is counted was found "
        "in the inbox afterwards."
    )
    yield ""
    yield from table(
        ["remember()", *found_by_scale],
        [
            ["buffered", *(_single(found["buffered"]) for found in scales)],
            ["durable", *(_single(found["durable"]) for found in scales)],
            [
                f"from {PROCESSES} processes at once; from one",
                *(_processes(found["processes"]) for found in scales),
            ],
        ],
    )
    yield ""
    yield (
        "In bulk, by one process: events a second, and the time of one as a multiple of parsing its line "
        f"with Python's `json`. Up to {MEMORIES:,} memories are brought in, {LOADED_EVENTS:,} events loaded. "
        "An ingested file is durable at its end, and its records have been looked for among what is there."
    )
    yield ""
    yield from table(
        ["", *found_by_scale],
        [
            [name, *(f"{way['per_second']:,.0f}/s, {way['ratio']:.2f}x" for way in ways)]
            for name in scales[-1]["in_bulk"]
            for ways in [[found["in_bulk"][name] for found in scales]]
        ],
    )
    yield ""
    yield from _goals(list(found_by_scale)[-1], scales[-1])


def _single(one: dict[str, float]) -> str:
    return f"{one['p50_us']:,.0f} / {one['p95_us']:,.0f} / {one['p99_us']:,.0f} us, {one['p50_ratio']:.2f}x"


def _processes(found: dict[str, float]) -> str:
    return f"{found['per_second']:,.0f}/s; {found['alone_per_second']:,.0f}/s"


def _goals(scale: str, found: Found) -> Iterator[str]:
    durable, batched = found["durable"]["p50_ratio"], found["in_bulk"][BATCHED]["per_second"]
    yield from table(
        ["goal", "asked for", "measured", ""],
        [
            [
                f"durable memory at {scale}: p50, of one write and fsync of the same bytes",
                f"under {DURABLE_AT_MOST}",
                f"{durable:.2f}",
                "met" if durable < DURABLE_AT_MOST else "**missed**",
            ],
            [
                f"batched in one process at {scale}: events a second",
                f"at least {BATCHED_PER_SECOND:,}",
                f"{batched:,.0f}",
                "met" if batched >= BATCHED_PER_SECOND else "**missed**",
            ],
        ],
    )
