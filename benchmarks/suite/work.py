"""What the parts of one scale share: its stream, and a home that was built of it and published."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.layers.measure import FULL, LATE_PERCENT, NEWEST_PERCENT, build_steps
from benchmarks.recall.homes import publish_warehouse
from benchmarks.stream import Stream, generate
from mnemoduck.home import Home, open_home, write_atomically

SCALES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000, "10m": 10_000_000}

DEFAULT_ROUNDS = 200
"""How often a quick call is timed."""

KEPT = "kept.json"
"""Beside a home that was kept: what it was made of, and what making it took."""

_CALIBRATING = "select sum(hash(i)), count(distinct i % 65521) from range(4000000) as numbers (i)"
_CALIBRATING_ROUNDS = 5


def calibrate() -> float:
    """Return the median seconds of a fixed aggregation by DuckDB on all processors.

    Builds are told as multiples of it: it says how quick this machine is at what a build does.
    """
    with duckdb.connect() as connection:
        seconds = []
        for _ in range(_CALIBRATING_ROUNDS + 1):
            started = time.perf_counter()
            connection.execute(_CALIBRATING).fetchall()
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


@dataclass
class Work:
    """One scale. The stream and the home are made when a part first asks for them.

    Do not change the home, but by adding memories as `queries` does, which comes after what weighs it.

    Args:
        folder: what is made lies below it, 4 KB a memory, and is removed by `clear`.
        tell: takes a line about what is done.
        rounds: how often a quick call is timed.
    """

    scale: str
    memories: int
    folder: Path
    seed: int = 1
    tell: Callable[[str], None] = lambda _: None
    rounds: int = DEFAULT_ROUNDS
    built: dict[str, Any] = field(default_factory=dict)
    """What building the home took, by step, as `build_steps` returns it: part `build` reports it."""

    @cached_property
    def stream(self) -> Stream:
        """The generated stream (benchmarks/stream.py): segments of JSON lines, not to be changed."""
        started = time.perf_counter()
        stream = generate(self.memories, self.folder / "stream", self.seed)
        count = sum(stream.event_counts.values())
        self.tell(f"generated {count:,} events in {time.perf_counter() - started:.1f} s")
        return stream

    @cached_property
    def home(self) -> Home:
        """The home: the stream, its newest 1 % and its late 1 % each in a run of its own, and published."""
        return self._build((FULL, NEWEST_PERCENT, LATE_PERCENT))

    def build_home(self, steps: tuple[str, ...]) -> None:
        """Make the home by other steps: they lead to the same, and what they take is measured."""
        self.home = self._build(steps)

    def _build(self, steps: tuple[str, ...]) -> Home:
        home = open_home(self.empty_folder("home"))
        self.built = build_steps(home, self.stream, steps, tell=self.tell)
        started = time.perf_counter()
        publish_warehouse(home)
        self.built["publish_seconds"] = round(time.perf_counter() - started, 3)
        return home

    def note_kept(self) -> None:
        """Write down what was made, if a home was, so that `take_kept` finds it in another process."""
        if "home" not in self.__dict__:
            return
        stream = self.stream
        noted = {
            "memories": self.memories,
            "seed": self.seed,
            "memory_counts": stream.memory_counts,
            "event_counts": stream.event_counts,
            "segments": {part: [path.name for path in paths] for part, paths in stream.segments.items()},
            "built": self.built,
        }
        write_atomically(self.folder / KEPT, json.dumps(noted) + "\n")

    def take_kept(self) -> None:
        """Take the stream and the home that an earlier run has kept, in place of making them.

        Raises:
            ValueError: there are none, or not of as many memories and this seed.
        """
        try:
            noted = json.loads((self.folder / KEPT).read_text("utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"no home is kept in {self.folder}: measure with --keep first") from error
        if (noted["memories"], noted["seed"]) != (self.memories, self.seed):
            raise ValueError(
                f"what {self.folder} keeps is of {noted['memories']:,} memories and seed {noted['seed']}, "
                f"not of {self.memories:,} and {self.seed}"
            )
        folder = self.folder / "stream"
        self.stream = Stream(
            self.memories,
            {part: [folder / name for name in names] for part, names in noted["segments"].items()},
            noted["memory_counts"],
            noted["event_counts"],
        )
        self.home = open_home(self.folder / "home")
        self.built = noted["built"]

    def empty_folder(self, name: str) -> Path:
        """Return the path of a folder of the part's own; what was left there is removed."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def clear(self) -> None:
        """Remove everything that was made."""
        shutil.rmtree(self.folder, ignore_errors=True)
