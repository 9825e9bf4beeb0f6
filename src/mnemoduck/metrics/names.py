"""Every metric: its name, kind, labels and meaning. docs/monitoring.md has the same table; a test compares.

Names follow Prometheus' conventions: base units, `_total` for what only grows, moments as Unix time (an age
would be that of the last scrape). No label says whose a memory is: their number has no bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "mnemoduck_"


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: as Prometheus stores it.
        help: what it is, as a sentence without its full stop.
    """

    name: str
    kind: Literal["gauge", "counter", "info"]
    help: str
    labels: tuple[str, ...] = ()


def _gauge(name: str, help: str, *labels: str) -> MetricSpec:
    return MetricSpec(PREFIX + name, "gauge", help, labels)


def _counter(name: str, help: str, *labels: str) -> MetricSpec:
    return MetricSpec(f"{PREFIX}{name}_total", "counter", help, labels)


METRICS = (
    MetricSpec(f"{PREFIX}build_info", "info", "Versions at work; always 1", ("version", "python", "duckdb")),
    # is it running
    _counter("runs", "Runs by how they ended, over the history that the home keeps", "rhythm", "outcome"),
    _counter("runs_duration_seconds", "What these runs took", "rhythm"),
    _counter("runs_events_loaded", "Events that these runs have loaded", "rhythm"),
    _gauge("last_run_timestamp_seconds", "When the last run ended", "rhythm"),
    _gauge("last_run_duration_seconds", "What the last run that was not skipped took", "rhythm"),
    _gauge("last_run_outcome", "1 for how the last run ended, 0 for the other outcomes", "rhythm", "outcome"),
    _gauge("last_run_nodes", "Models and tests of the last run by their status", "rhythm", "status"),
    _gauge("last_run_peak_memory_bytes", "The most that the last run held", "rhythm"),
    _gauge(
        "last_good_run_timestamp_seconds",
        "When a run last ended in which all tests passed, with something new or without",
        "rhythm",
    ),
    _gauge("run_lock_held", "1 while a run is at work, else 0"),
    _gauge("run_lock_acquired_timestamp_seconds", "Since when; absent while none is"),
    _gauge("model_duration_seconds", "What a model took when it was built last", "model"),
    _gauge("model_rows", "Rows of a table after it was built last", "model"),
    _gauge("expectations_passed", "1 if the last check of a suite passed, else 0", "suite"),
    _gauge("expectations_evaluated", "Expectations that it evaluated", "suite"),
    _gauge("expectations_failed", "Expectations that failed in it", "suite"),
    _gauge("expectations_checked_timestamp_seconds", "When the suite was last checked", "suite"),
    # what waits
    _gauge(
        "events_waiting",
        "Events that no snapshot has: arrived (in the inbox), loaded (in raw/, but not published)",
        "stage",
    ),
    _gauge(
        "events_waiting_oldest_timestamp_seconds",
        "When the first of them arrived; absent if none waits",
    ),
    _gauge("quarantined_lines", "Lines in quarantine"),
    _counter(
        "redactions",
        "Secrets found in what was written, by what was done with them (redact, report) and their kind",
        "mode",
        "kind",
    ),
    _gauge("consolidation_backlog", "Memories that are ready to be consolidated, and are not"),
    # memory
    _gauge("snapshot_published_timestamp_seconds", "When what readers see was published"),
    _gauge("snapshot_size_bytes", "The size of that snapshot"),
    _gauge("memories", "Memories in it"),
    _gauge("memories_forgotten", "Memories of these that were ordered forgotten"),
    _gauge("memories_consolidated", "Consolidated memories in it"),
    _gauge(
        "memory_junk_ratio",
        "Share of consolidated memories that are forgotten or of no importance",
    ),
    _gauge("memory_duplicate_ratio", "Share of memories that said again what another had said"),
    _gauge("facts_orphaned", "Facts that hold, and none of whose memories is there"),
    _gauge("scopes_stale", "Scopes in which nothing was said or recalled for long"),
    _gauge("working_memory_scopes", "Scopes that have something in mind"),
    _gauge("working_memory_slots_mean", "Slots that are taken in such a scope, on average"),
    _gauge("working_memory_full_ratio", "Share of such scopes whose slots are all taken"),
    _gauge("partitions", "Months of a model: hot (a table), cold (a file) or dropped", "model", "state"),
    _gauge("partition_rows", "Rows of these months", "model", "state"),
    # recall
    _counter("recall_cache_hits", "What recall found in a level of its caches, in all processes", "level"),
    _counter("recall_cache_misses", "What it did not find there", "level"),
    _counter("recall_cache_evictions", "What was removed from a level to make room", "level"),
    _gauge("queries_sampled", "Sampled queries of the last hour that has any, by kind", "kind"),
    _gauge("queries_sampled_errors", "Of these, those that failed", "kind"),
    _gauge("query_duration_seconds", "What they took, by quantile", "kind", "quantile"),
    # models of language
    _counter("llm_calls", "Prompts or vectors (kind) that a model was asked for", "model", "kind"),
    _counter("llm_attempts", "Requests that this took, with repeats after faults", "model", "kind"),
    _counter("llm_failures", "Of these calls, those without an answer that can be used", "model", "kind"),
    _counter("llm_hits", "Prompts or vectors that the cache answered", "model", "kind"),
    _counter("llm_misses", "Prompts or vectors that the cache did not have", "model", "kind"),
    _counter(
        "llm_tokens", "Tokens of what was asked (prompt) and answered (answer)", "model", "kind", "direction"
    ),
    _counter("llm_saved_tokens", "Tokens that the hits had cost when they were asked", "model", "kind"),
    _counter("llm_seconds", "What the calls took", "model", "kind"),
    _counter("llm_saved_seconds", "What the hits had taken when they were asked", "model", "kind"),
    _gauge("llm_pending", "Prompts or vectors that the last run left for the next", "model", "kind"),
    # storage
    _gauge("storage_bytes", "What a part of the home takes on disk", "part"),
    _gauge("disk_free_bytes", "What is free on the disk of the home, for its user"),
    _gauge("disk_size_bytes", "The size of that disk"),
    # of the scrape itself
    _gauge("scrape_error", "1 if a section could not be read, and is missing; else 0", "section"),
    _gauge("scrape_duration_seconds", "What collecting all this took"),
)

BY_NAME = {spec.name: spec for spec in METRICS}
