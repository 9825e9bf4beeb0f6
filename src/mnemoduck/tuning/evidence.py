"""What tuning reads: runs, caches, tails of what is kept in order, sampled times, calls of models.

All of it is read and nothing measured, so it costs no more than a look at some files and the snapshot.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb

from mnemoduck.home import Home
from mnemoduck.partitions import Partitions, partitioned_models
from mnemoduck.pipeline.history import RunRecord, read_runs
from mnemoduck.project import find_project, variables
from mnemoduck.recall.statistics import Counts, read_counts, read_most_bytes
from mnemoduck.settings import SETTINGS, Settings, Values, load_settings, read_file, settings_file
from mnemoduck.tuning.journal import Change, changed_at, last_changes, read_journal
from mnemoduck.warehouse import SnapshotReader

RECENT_RUNS = 1_000
"""A week of runs every ten minutes: what was earlier says little of the next ones."""


@dataclass(frozen=True)
class Machine:
    """What there is to share: processors, and bytes of memory."""

    processors: int
    memory_bytes: int


def this_machine() -> Machine:
    return Machine(os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@dataclass(frozen=True)
class Tail:
    """Rows of a model that are not in its order, of all in those of its months that are tables."""

    model: str
    rows: int
    tail_rows: int


@dataclass(frozen=True)
class ModelCalls:
    """What one run asked of one model for prompts, a row of the model llm_cache_metrics."""

    started_at: datetime
    prompts: int
    calls: int
    failures: int
    pending: int
    stopped_by: str | None


@dataclass(frozen=True)
class Sample:
    """One sampled question; `at_once` counts those that the process answered at that moment."""

    kind: str
    started_at: datetime
    milliseconds: float
    at_once: int


@dataclass(frozen=True)
class Evidence:
    """What is known, oldest first. `file` is what the file says, by key."""

    settings: Settings
    machine: Machine
    file: Values = field(default_factory=dict)
    journal: list[Change] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)
    counts: Counts = field(default_factory=dict)
    most_bytes: dict[str, int] = field(default_factory=dict)
    tails: list[Tail] = field(default_factory=list)
    calls: list[ModelCalls] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """Return the value in force, that of dbt's variable where the setting leaves it to that."""
        value = self.settings.get(key)
        variable = SETTINGS[key].variable
        return self.variables.get(variable) if value is None and variable is not None else value

    def runs_since(self, key: str) -> list[RunRecord]:
        """Return the last RECENT_RUNS of the runs that began after the key was changed last."""
        since = changed_at(self.journal, key)
        return [run for run in self.runs if since is None or run.started_at > since][-RECENT_RUNS:]

    def counts_since(self, key: str, level: str) -> dict[str, int]:
        """Return hits, misses and evictions of a level of recall's cache since the key was changed last."""
        change = last_changes(self.journal).get(key)
        before = {} if change is None else change.counts.get(level, {})
        return {
            what: max(0, self.counts.get(level, {}).get(what, 0) - before.get(what, 0))
            for what in ("hits", "misses", "evictions")
        }


def gather(home: Home, machine: Machine | None = None) -> Evidence:
    """Return what is known of a home.

    Raises:
        UsageError: its settings cannot be read.
    """
    tails, calls = _read_snapshot(home)
    return Evidence(
        settings=load_settings(home),
        machine=machine or this_machine(),
        file=read_file(settings_file(home)),
        journal=read_journal(home),
        runs=list(read_runs(home)),
        counts=read_counts(home),
        most_bytes=read_most_bytes(home),
        tails=tails,
        calls=calls,
        samples=_read_samples(home),
        variables=variables(find_project()),
    )


_CALLS = """
    select started_at, prompts, calls, failures, pending, stopped_by from main.llm_cache_metrics
    where kind = 'prompts' and mode = 'ollama' order by started_at
"""


def _read_snapshot(home: Home) -> tuple[list[Tail], list[ModelCalls]]:
    """Return what the published snapshot tells; nothing where it has not such a table."""
    reader = SnapshotReader(home)
    try:
        snapshot = reader.get()
        if snapshot.path is None:
            return [], []
        cursor = snapshot.cursor()
        try:
            tails = [_tail(cursor, home, model) for model in partitioned_models(cursor)]
            calls = [
                ModelCalls(began.replace(tzinfo=UTC), *rest)
                for began, *rest in cursor.execute(_CALLS).fetchall()
            ]
        except duckdb.CatalogException:  # a snapshot of an earlier release
            return [], []
        return tails, calls
    finally:
        reader.close()


def _tail(cursor: duckdb.DuckDBPyConnection, home: Home, model: str) -> Tail:
    months = [month for month in Partitions(cursor, model, home.path).months() if month.state == "hot"]
    rows = sum(month.rows for month in months)
    return Tail(model, rows, round(sum(month.rows * (1 - month.clustered_share) for month in months)))


def _read_samples(home: Home) -> list[Sample]:
    """Return the sampled questions of the files that there are; a line that cannot be read is passed over."""
    found = []
    for path in sorted((home.logs / "queries").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                told = json.loads(line)
                began = datetime.fromisoformat(told["started_at"])
                found.append(Sample(told["kind"], began, float(told["milliseconds"]), int(told["at_once"])))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue
    return found
