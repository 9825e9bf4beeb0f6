"""Collecting the metrics of one home: a section for each place that they are read from.

A scrape takes no lock, opens neither the warehouse nor the cache of answers, and keeps no file open. What is
read of the published snapshot (catalogs and tables of a few rows, never memories) is kept until another one
is published; of segments and of the history only what was added is read. What is not known is left out, and
what cannot be read is told by `mnemoduck_scrape_error`, with all the other sections there.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from mnemoduck import __version__
from mnemoduck.home import Home
from mnemoduck.metrics.names import BY_NAME, METRICS, PREFIX, MetricSpec
from mnemoduck.partitions import months_schema, partitioned_models
from mnemoduck.pipeline.history import OUTCOMES
from mnemoduck.pipeline.lock import find_holder, held_since
from mnemoduck.pipeline.publish import current_snapshot, published_at
from mnemoduck.pipeline.tally import RunTally
from mnemoduck.quarantine import count_lines
from mnemoduck.recall.statistics import read_statistics
from mnemoduck.waiting import WaitingEvents
from mnemoduck.warehouse import Snapshot

EXPECTATIONS_TAIL_BYTES = 256 * 1024
"""So much is read of the end of the results of expectations: hundreds of checks of a few suites."""

PARTS = {
    "inbox": "inbox",
    "raw": "raw",
    "quarantine": "quarantine",
    "warehouse": "warehouse.duckdb*",
    "llm_cache": "llm_cache.duckdb*",
    "published": "published",
    "archive": "archive",
    "runs": "runs",
    "logs": "logs",
    "target": "target",
    "data_docs": "data_docs",
    "expectations": "expectations",
}
"""Parts of a home whose size is told, and the files or folders that they consist of."""

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """A value of a metric, with the values of its labels in their order."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


class HomeCollector(Collector):
    """Gives the metrics of a home as they are at each scrape. Safe between threads, one scrape at a time."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._mutex = threading.Lock()
        self._waiting = WaitingEvents(home)
        self._runs = RunTally(home)
        self._quarantine: dict[Path, tuple[tuple[int, int, int], int]] = {}
        self._snapshot: Path | None = None
        self._batch_seq: int | None = None
        self._of_snapshot: dict[str, list[Sample]] = {}

    def collect(self) -> Iterable[Metric]:
        """Return one family for each metric that has a value."""
        with self._mutex:
            begun = time.perf_counter()
            samples = list(self._samples())
            samples.append(sample("scrape_duration_seconds", time.perf_counter() - begun))
        families: dict[str, Metric] = {spec.name: _family(spec) for spec in METRICS}
        for one in samples:
            families[one.name].add_metric(one.labels, one.value)  # type: ignore[attr-defined]
        return [family for family in families.values() if family.samples]

    def describe(self) -> Iterable[Metric]:
        """Return no names: with them the registry would collect once when it is set up."""
        return []

    def _samples(self) -> Iterator[Sample]:
        sections: dict[str, Callable[[], Iterable[Sample]]] = {
            "snapshot": self._look_at_snapshot,
            "build": _read_build,
            "runs": self._read_runs,
            "lock": self._read_lock,
            "expectations": self._read_expectations,
            "inbox": self._read_inbox,
            "quarantine": self._read_quarantine,
            "recall": self._read_recall,
            "storage": self._read_storage,
            "disk": self._read_disk,
        }
        for name, read in sections.items():
            yield from self._read(name, read)
            if name == "snapshot":
                yield from self._read_tables()

    def _read(self, section: str, read: Callable[[], Iterable[Sample]]) -> Iterator[Sample]:
        try:
            samples = list(read())
        except Exception as error:
            _log.warning("The metrics of the section %s are missing: %r", section, str(error))
            yield sample("scrape_error", 1, section)
        else:
            yield sample("scrape_error", 0, section)
            yield from samples

    # --- of the published snapshot, which never changes -----------------------------------------------------

    def _look_at_snapshot(self) -> Iterator[Sample]:
        path = current_snapshot(self._home)
        if path != self._snapshot:
            self._snapshot, self._batch_seq, self._of_snapshot = path, None, {}
        if path is None:
            self._batch_seq = 0
        else:
            yield sample("snapshot_published_timestamp_seconds", published_at(path).timestamp())
            yield sample("snapshot_size_bytes", path.stat().st_size)

    def _read_tables(self) -> Iterator[Sample]:
        """Read what is not known yet of the snapshot; it is open no longer than that."""
        missing = {name: read for name, read in _TABLES.items() if name not in self._of_snapshot}
        if self._snapshot is not None and missing:
            try:
                snapshot = Snapshot(self._snapshot, self._home)
            except Exception as error:  # damaged, or pruned this moment: the next scrape has the new one
                _log.warning("The snapshot %s is not read: %r", self._snapshot, str(error))
                for name in missing:
                    yield sample("scrape_error", 1, name)
                return
            self._batch_seq = snapshot.batch_seq
            try:
                for name, read in missing.items():
                    found = list(self._read(name, lambda read=read: read(snapshot.cursor())))  # type: ignore[misc]
                    if found[0].value == 0:
                        self._of_snapshot[name] = found
                    else:
                        yield from found
            finally:
                snapshot.close()
        for found in self._of_snapshot.values():
            yield from found

    # --- of the folders ---------------------------------------------------------------------------------

    def _read_inbox(self) -> Iterator[Sample]:
        waiting = self._waiting.look(self._batch_seq or 0)
        yield sample("events_waiting", waiting.arrived, "arrived")
        if self._batch_seq is None:
            return  # the snapshot does not open: what of the loaded ones it has is not known
        yield sample("events_waiting", waiting.loaded, "loaded")
        if waiting.oldest_at is not None:
            yield sample("events_waiting_oldest_timestamp_seconds", waiting.oldest_at.timestamp())

    def _read_quarantine(self) -> Iterator[Sample]:
        known, self._quarantine = self._quarantine, {}
        for path in sorted(self._home.quarantine.glob("*.jsonl")):
            try:
                found = path.stat()
                state = (found.st_ino, found.st_size, found.st_mtime_ns)
                before = known.get(path)
                lines = before[1] if before and before[0] == state else count_lines(path)
            except FileNotFoundError:
                continue  # its source was read again, without a fault
            self._quarantine[path] = (state, lines)
        yield sample("quarantined_lines", sum(lines for _, lines in self._quarantine.values()))

    def _read_lock(self) -> Iterator[Sample]:
        holder = find_holder(self._home)
        yield sample("run_lock_held", 0 if holder is None else 1)
        since = held_since(self._home.run_lock) if holder is not None else None
        if since is not None:
            yield sample("run_lock_acquired_timestamp_seconds", since.timestamp())

    def _read_runs(self) -> Iterator[Sample]:
        models: dict[str, tuple[datetime, float, int | None]] = {}
        for rhythm, runs in sorted(self._runs.look().items()):
            # Also those of which there is none: `increase` of a counter misses what it begins with.
            for outcome in sorted({*OUTCOMES, *runs.outcomes}):
                yield sample("runs_total", runs.outcomes[outcome], rhythm, outcome)
            yield sample("runs_duration_seconds_total", runs.seconds, rhythm)
            yield sample("runs_events_loaded_total", runs.events_loaded, rhythm)
            if runs.last is not None:
                yield sample("last_run_timestamp_seconds", runs.last.ended_at.timestamp(), rhythm)
                for outcome in OUTCOMES:
                    is_it = runs.last.outcome == outcome
                    yield sample("last_run_outcome", 1 if is_it else 0, rhythm, outcome)
            if runs.last_started is not None:
                yield sample("last_run_duration_seconds", runs.last_started.seconds, rhythm)
                if runs.last_started.peak_memory_bytes is not None:
                    peak = runs.last_started.peak_memory_bytes
                    yield sample("last_run_peak_memory_bytes", peak, rhythm)
            if runs.last_good_at is not None:
                yield sample("last_good_run_timestamp_seconds", runs.last_good_at.timestamp(), rhythm)
            detailed = runs.read_nodes()
            if detailed is None:
                continue
            statuses = sorted({node.status for node in detailed.nodes})
            for status in statuses:
                count = sum(node.status == status for node in detailed.nodes)
                yield sample("last_run_nodes", count, rhythm, status)
            for node in detailed.nodes:
                before = models.get(node.name)
                if node.kind not in {"model", "seed", "snapshot"} or node.status != "success":
                    continue
                if before is None or before[0] <= detailed.ended_at:
                    models[node.name] = (detailed.ended_at, node.seconds, node.rows)
        for model, (_, seconds, rows) in sorted(models.items()):
            yield sample("model_duration_seconds", seconds, model)
            if rows is not None:
                yield sample("model_rows", rows, model)

    def _read_expectations(self) -> Iterator[Sample]:
        path = self._home.path / "expectations" / "results.jsonl"
        last: dict[str, dict[str, Any]] = {}
        for line in _last_lines(path, EXPECTATIONS_TAIL_BYTES):
            try:
                result = json.loads(line)
                last[str(result["suite"])] = result
            except (ValueError, TypeError, KeyError):
                continue  # torn by a crash
        for suite, result in sorted(last.items()):
            yield sample("expectations_passed", 1 if result["success"] else 0, suite)
            yield sample("expectations_evaluated", result["evaluated"], suite)
            yield sample("expectations_failed", len(result["failed"]), suite)
            checked_at = datetime.fromisoformat(result["checked_at"])
            if checked_at.tzinfo is None:
                checked_at = checked_at.replace(tzinfo=UTC)
            yield sample("expectations_checked_timestamp_seconds", checked_at.timestamp(), suite)

    def _read_recall(self) -> Iterator[Sample]:
        for level, counts in sorted(read_statistics(self._home).items()):
            for what in ("hits", "misses", "evictions"):
                yield sample(f"recall_cache_{what}_total", counts[what], level)

    def _read_storage(self) -> Iterator[Sample]:
        for part, pattern in PARTS.items():
            places = list(self._home.path.glob(pattern))
            if places:
                yield sample("storage_bytes", sum(map(_bytes_of, places)), part)

    def _read_disk(self) -> Iterator[Sample]:
        disk = shutil.disk_usage(self._home.path)
        yield sample("disk_free_bytes", disk.free)
        yield sample("disk_size_bytes", disk.total)


def home_registry(home: Home) -> CollectorRegistry:
    """Return a registry of its own with the metrics of a home, and nothing of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HomeCollector(home))
    return registry


def sample(name: str, value: float, *labels: str) -> Sample:
    """Return a value of a metric that is named without its prefix."""
    spec = BY_NAME[PREFIX + name]
    assert len(labels) == len(spec.labels), spec.name
    return Sample(spec.name, value, tuple(map(_clean, labels)))


def _clean(label: str) -> str:
    """Return a label's value with nothing in it that steers a terminal or cannot be encoded."""
    return _CONTROLS.sub("\ufffd", label).encode("utf-8", "replace").decode()


def _family(spec: MetricSpec) -> Metric:
    if spec.kind == "counter":
        return CounterMetricFamily(spec.name, spec.help, labels=spec.labels)
    if spec.kind == "info":
        return _InfoFamily(spec.name.removesuffix("_info"), spec.help, names=spec.labels)
    return GaugeMetricFamily(spec.name, spec.help, labels=spec.labels)


class _InfoFamily(InfoMetricFamily):
    """An info whose texts are given as labels are everywhere else here."""

    def __init__(self, name: str, documentation: str, names: tuple[str, ...]) -> None:
        super().__init__(name, documentation, labels=())
        self._names = names

    def add_metric(self, labels: Any, value: Any, timestamp: Any = None) -> None:
        super().add_metric((), dict(zip(self._names, labels, strict=True)), timestamp)


def _read_build() -> Iterator[Sample]:
    yield sample("build_info", 1, __version__, platform.python_version(), duckdb.__version__)


def _read_memory(cursor: duckdb.DuckDBPyConnection) -> Iterator[Sample]:
    counts = {model: sum(rows for _, _, rows in months) for model, months in _months(cursor).items()}
    if "stg_memories" in counts:
        yield sample("memories", counts["stg_memories"])
    if "consolidated_memories" in counts:
        yield sample("memories_consolidated", counts["consolidated_memories"])
    if _relation(cursor, "int_forgotten_memories"):
        # What a table's own count says: no column of it is read.
        row = cursor.execute("select count(*) from staging.int_forgotten_memories").fetchone()
        assert row is not None
        yield sample("memories_forgotten", row[0])


def _read_partitions(cursor: duckdb.DuckDBPyConnection) -> Iterator[Sample]:
    for model, months in _months(cursor).items():
        for state in sorted({state for state, _, _ in months}):
            yield sample("partitions", sum(n for one, n, _ in months if one == state), model, state)
            yield sample("partition_rows", sum(rows for one, _, rows in months if one == state), model, state)


def _months(cursor: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[str, int, int]]]:
    """Return for each partitioned model its states, the months in each and their rows, by the catalogs."""
    return {
        model: cursor.execute(
            "select state, count(*), coalesce(sum(row_count) filter (where state <> 'dropped'), 0)::bigint "
            f'from "{months_schema(model)}".catalog group by state'
        ).fetchall()
        for model in partitioned_models(cursor)
    }


_HEALTH = {
    "junk_share": "memory_junk_ratio",
    "duplicate_share": "memory_duplicate_ratio",
    "orphan_facts": "facts_orphaned",
    "stale_scopes": "scopes_stale",
    "working_memory_scopes": "working_memory_scopes",
    "working_memory_mean_slots": "working_memory_slots_mean",
    "working_memory_full_share": "working_memory_full_ratio",
    "consolidation_backlog": "consolidation_backlog",
}
"""Columns of memory_health, and the metrics that they are."""


def _read_health(cursor: duckdb.DuckDBPyConnection) -> Iterator[Sample]:
    for row in _rows(cursor, "memory_health"):
        for column, name in _HEALTH.items():
            if row.get(column) is not None:
                yield sample(name, float(row[column]))


_LLM = {
    "calls": "llm_calls_total",
    "attempts": "llm_attempts_total",
    "failures": "llm_failures_total",
    "hits": "llm_hits_total",
    "misses": "llm_misses_total",
    "tokens_saved": "llm_saved_tokens_total",
    "seconds_spent": "llm_seconds_total",
    "seconds_saved": "llm_saved_seconds_total",
}
"""Columns of llm_cache_metrics that add up over runs, and the counters that they are."""


def _read_llm(cursor: duckdb.DuckDBPyConnection) -> Iterator[Sample]:
    relation = _relation(cursor, "llm_cache_metrics")
    if relation is None:
        return
    sums = ", ".join(f"sum({column})" for column in _LLM)
    rows = cursor.execute(
        f"select model, kind, sum(prompt_tokens), sum(answer_tokens), arg_max(pending, started_at), {sums} "
        f"from {relation} group by model, kind order by model, kind"
    ).fetchall()
    for model, kind, prompt_tokens, answer_tokens, pending, *totals in rows:
        yield sample("llm_tokens_total", prompt_tokens, model, kind, "prompt")
        yield sample("llm_tokens_total", answer_tokens, model, kind, "answer")
        yield sample("llm_pending", pending, model, kind)
        for name, total in zip(_LLM.values(), totals, strict=True):
            yield sample(name, float(total), model, kind)


def _read_queries(cursor: duckdb.DuckDBPyConnection) -> Iterator[Sample]:
    """Read the last hour of each kind of query in query_performance, if queries are sampled."""
    relation = _relation(cursor, "query_performance")
    if relation is None:
        return
    columns = cursor.execute(f"describe {relation}").fetchall()
    hour = next(name for name, kind, *_ in columns if kind.startswith("TIMESTAMP"))
    rows = cursor.execute(
        f"select kind, calls, errors, p50_ms, p95_ms, p99_ms from {relation} "
        f'qualify row_number() over (partition by kind order by "{hour}" desc) = 1 order by kind'
    ).fetchall()
    for kind, calls, errors, *latencies in rows:
        yield sample("queries_sampled", calls, kind)
        yield sample("queries_sampled_errors", errors, kind)
        for quantile, milliseconds in zip(("0.5", "0.95", "0.99"), latencies, strict=True):
            if milliseconds is not None:
                yield sample("query_duration_seconds", milliseconds / 1000, kind, quantile)


_TABLES: dict[str, Callable[[duckdb.DuckDBPyConnection], Iterable[Sample]]] = {
    "memory": _read_memory,
    "partitions": _read_partitions,
    "health": _read_health,
    "llm": _read_llm,
    "queries": _read_queries,
}
"""Sections that are read of the snapshot, and kept as long as it is the newest."""


def _relation(cursor: duckdb.DuckDBPyConnection, name: str) -> str | None:
    """Return the name, with its schema, of a table or view of the snapshot; None if it has none."""
    row = cursor.execute(
        "select schema_name from (select schema_name, table_name, database_name from duckdb_tables() "
        "union all select schema_name, view_name, database_name from duckdb_views()) "
        "where table_name = $1 and database_name = current_database()",
        [name],
    ).fetchone()
    return None if row is None else f'"{row[0]}"."{name}"'


def _rows(cursor: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    relation = _relation(cursor, name)
    if relation is None:
        return []
    cursor.execute(f"from {relation}")
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _last_lines(path: Path, size: int) -> list[bytes]:
    """Return the lines in the last bytes of a file but the first of them, which may be cut; [] without it."""
    try:
        with path.open("rb") as file:
            begin = max(0, os.fstat(file.fileno()).st_size - size)
            file.seek(begin)
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    return lines[1:] if begin else lines


def _bytes_of(path: Path) -> int:
    """Return what a file, or all files in a folder, take; what goes meanwhile is left out."""
    total = 0
    waiting = [os.fspath(path)]
    while waiting:
        place = waiting.pop()
        try:
            found = os.lstat(place)
            if stat.S_ISDIR(found.st_mode):
                waiting += [entry.path for entry in os.scandir(place)]
            elif stat.S_ISREG(found.st_mode):
                total += found.st_size
        except FileNotFoundError:
            continue
    return total
