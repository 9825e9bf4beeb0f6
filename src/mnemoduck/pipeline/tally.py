"""The history of runs in numbers: how many ended how, and what the last of each rhythm did.

A year of runs every ten minutes is half a gigabyte, nearly all of it what the runs did with each model. So
only the beginning of each line is parsed, and of the models only those of the runs that are asked for; a
tally that is kept reads what was appended since it looked last.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from mnemoduck.appending import append_line
from mnemoduck.errors import StorageError
from mnemoduck.home import Home
from mnemoduck.pipeline.history import PUBLISHED, SKIPPED, UNCHANGED, RunRecord

ALL_MODELS = "all"
"""The rhythm of a run that was asked for no rhythm."""

GOOD = (PUBLISHED, UNCHANGED)
"""Outcomes after which readers have what was there to be had."""

_NODES = b',"nodes":['
"""Where the part of a line begins that is long. A text in JSON cannot hold it: its quotes are escaped."""


@dataclass
class RhythmRuns:
    """The runs of one rhythm.

    Attributes:
        outcomes: how many runs ended so.
        last: the last that ended, without its nodes; `last_started` the last that was not skipped.
        last_good_at: when the last ended whose outcome is one of GOOD.
        with_nodes: the line of the last run that tells of nodes, to be parsed by `nodes_of`.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    events_loaded: int = 0
    seconds: float = 0.0
    last: RunRecord | None = None
    last_started: RunRecord | None = None
    last_good_at: datetime | None = None
    with_nodes: bytes | None = None

    def add(self, run: RunRecord, line: bytes) -> None:
        self.outcomes[run.outcome] += 1
        self.events_loaded += run.events_loaded
        self.seconds += run.seconds
        self.last = run
        if run.outcome != SKIPPED:
            self.last_started = run
        if run.outcome in GOOD:
            self.last_good_at = run.ended_at
        if _NODES in line:
            self.with_nodes = line

    def follow(self, later: RhythmRuns) -> None:
        """Add the runs of a later file."""
        self.outcomes.update(later.outcomes)
        self.events_loaded += later.events_loaded
        self.seconds += later.seconds
        self.last = later.last or self.last
        self.last_started = later.last_started or self.last_started
        self.last_good_at = later.last_good_at or self.last_good_at
        self.with_nodes = later.with_nodes or self.with_nodes

    def read_nodes(self) -> RunRecord | None:
        """Return the last run that tells of nodes, with them; None if none does."""
        return None if self.with_nodes is None else RunRecord.model_validate_json(self.with_nodes)


@dataclass
class _File:
    """What was read of one file of the history."""

    offset: int = 0
    rhythms: dict[str, RhythmRuns] = field(default_factory=dict)


class RunTally:
    """Counts the runs of a home. For one thread at a time."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._files: dict[Path, _File] = {}

    def look(self) -> dict[str, RhythmRuns]:
        """Return the runs of each rhythm over all the history, as it is now.

        Of files that were removed only counts are known, see `keep_counts`.

        Lines that a crash has torn count for nothing, as in `mnemoduck.pipeline.history.read_runs`.
        """
        paths = sorted(self._home.runs.glob("*.jsonl"))
        self._files = {path: self._files.get(path) or _File() for path in paths}
        rhythms: dict[str, RhythmRuns] = {}
        for removed in _read_removed(self._home, {path.name for path in paths}):
            for name, runs in removed.items():
                rhythms.setdefault(name, RhythmRuns()).follow(runs)
        for path, file in self._files.items():
            if path.stat().st_size < file.offset:  # another file has this name by now
                file = self._files[path] = _File()
            _read_on(path, file)
            for name, runs in file.rhythms.items():
                rhythms.setdefault(name, RhythmRuns()).follow(runs)
        return rhythms


def keep_counts(home: Home, path: Path) -> None:
    """Keep the counts of a file of the history that is about to be removed, so that no count ever falls.

    To Prometheus a counter that falls was set back to 0, and all that it shows then is new.

    Raises:
        StorageError: the disk refuses it.
    """
    file = _File()
    _read_on(path, file)
    rhythms = {
        name: {"outcomes": runs.outcomes, "events_loaded": runs.events_loaded, "seconds": runs.seconds}
        for name, runs in file.rhythms.items()
    }
    line = json.dumps({"file": path.name, "rhythms": rhythms}).encode()
    try:
        append_line(_removed(home), line)
    except OSError as error:
        raise StorageError(f"The counts of {path} could not be kept in {_removed(home)}: {error}.") from error


def _removed(home: Home) -> Path:
    return home.runs / "removed.counts"


def _read_removed(home: Home, there: Collection[str]) -> list[dict[str, RhythmRuns]]:
    """Return what is kept of each file that is gone; one that is still there is counted itself."""
    removed: dict[str, dict[str, RhythmRuns]] = {}
    try:
        lines = _removed(home).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            kept = json.loads(line)
            removed[kept["file"]] = {
                name: RhythmRuns(Counter(runs["outcomes"]), runs["events_loaded"], runs["seconds"])
                for name, runs in kept["rhythms"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # torn by a crash, before the file was removed
    return [rhythms for name, rhythms in removed.items() if name not in there]


def _read_on(path: Path, file: _File) -> None:
    with path.open("rb") as stream:
        stream.seek(file.offset)
        for line in stream:
            if not line.endswith(b"\n"):
                break  # it is being written
            file.offset += len(line)
            head, _, nodes = line.partition(_NODES)
            try:
                run = RunRecord.model_validate_json(head + b"}" if nodes else line)
            except ValidationError:
                continue
            file.rhythms.setdefault(run.rhythm or ALL_MODELS, RhythmRuns()).add(run, line)
