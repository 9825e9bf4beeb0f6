"""What is in a cache and what it was good for, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import duckdb

from mnemoduck.llm.cache_eviction import SIZES

LAST_RUNS = 10
"""So many runs are listed, the last first."""


@dataclass(frozen=True)
class TemplateUse:
    """What one model was asked with one template, over all versions of it. Times are naive UTC.

    Attributes:
        entries: answers or vectors, and `failures`.
        bytes: of texts and vectors, before compression (see `mnemoduck.llm.cache_eviction.SIZES`).
        uses: prompts that were answered without a call.
    """

    model: str
    template: str
    versions: list[int]
    entries: int
    failures: int
    prompt_tokens: int
    answer_tokens: int
    bytes: int
    uses: int
    last_used_at: datetime


@dataclass(frozen=True)
class ModelRuns:
    """What the recorded runs asked of one model for one kind: prompts or vectors.

    Attributes:
        hit_rate: hits / (hits + misses), 0..1; None if there were none of either. Prompts that failed or
            were left over are neither.
    """

    model: str
    kind: str
    runs: int
    prompts: int
    hits: int
    misses: int
    hit_rate: float | None
    tokens_saved: int
    seconds_saved: float


@dataclass(frozen=True)
class RunSummary:
    """One recorded run, model and kind."""

    run_id: UUID
    model: str
    kind: str
    mode: str
    started_at: datetime
    seconds: float
    prompts: int
    hits: int
    calls: int
    failures: int
    pending: int
    stopped_by: str | None


@dataclass(frozen=True)
class CacheStatistics:
    """Totals, then what they are made of."""

    entries: int
    failures: int
    bytes: int
    templates: list[TemplateUse]
    models: list[ModelRuns]
    last_runs: list[RunSummary]


def read_statistics(cursor: duckdb.DuckDBPyConnection) -> CacheStatistics:
    """Return the statistics of the cache that is the cursor's default database."""
    templates = [
        TemplateUse(*row)
        for row in _rows(
            cursor,
            f"""
            with entries as (
                select
                    model, template, template_version, error, prompt_tokens, answer_tokens, use_count,
                    last_used_at, {SIZES["responses"]} as bytes
                from responses
                union all
                select
                    model, template, template_version, error, prompt_tokens, 0, use_count,
                    last_used_at, {SIZES["embeddings"]}
                from embeddings
            )
            select
                model, template, list_sort(list(distinct template_version)), count(*), count(error),
                sum(prompt_tokens), sum(answer_tokens), sum(bytes), sum(use_count), max(last_used_at)
            from entries
            group by model, template
            order by model, template
            """,
        )
    ]
    models = [
        ModelRuns(*row)
        for row in _rows(
            cursor,
            """
            select
                model, kind, count(*), sum(prompts), sum(hits), sum(misses),
                sum(hits) / nullif(sum(hits) + sum(misses), 0), sum(tokens_saved), sum(seconds_saved)
            from runs
            group by model, kind
            order by model, kind
            """,
        )
    ]
    last_runs = [
        RunSummary(*row)
        for row in _rows(
            cursor,
            """
            select
                run_id, model, kind, mode, started_at, epoch(ended_at - started_at), prompts, hits, calls,
                failures, pending, stopped_by
            from runs
            order by started_at desc, run_id, model, kind
            limit ?
            """,
            [LAST_RUNS],
        )
    ]
    return CacheStatistics(
        entries=sum(one.entries for one in templates),
        failures=sum(one.failures for one in templates),
        bytes=sum(one.bytes for one in templates),
        templates=templates,
        models=models,
        last_runs=last_runs,
    )


def _rows(cursor: duckdb.DuckDBPyConnection, sql: str, values: list[Any] | None = None) -> list[Any]:
    return cursor.execute(sql, values or []).fetchall()
