"""What a page shows of the home itself: runs, caches, months, expectations, and what needs a look."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from mnemoduck.asking import View
from mnemoduck.home import Home
from mnemoduck.partitions import months_schema, partitioned_models
from mnemoduck.pipeline.history import NOT_PUBLISHED, SKIPPED, RunRecord, read_runs
from mnemoduck.quarantine import count_quarantined
from mnemoduck.recall.statistics import read_statistics
from mnemoduck.report.records import (
    BAD,
    LOOK,
    CacheSavings,
    Measure,
    ModelTime,
    Operation,
    PartitionedModel,
    PartitionMonth,
    RecallLevel,
    Remark,
    Run,
    Runs,
    Verdict,
)
from mnemoduck.report.texts import NONE, counted, duration, shown

MAX_RUNS = 48
MAX_SLOWEST = 10
MAX_SAVINGS = 8
_LOOK_BACK = (timedelta(days=2), timedelta(days=31), None)
"""Runs are looked for in so much time before the moment; in more, if there are few."""

STALE = timedelta(days=1)
"""From this age on a snapshot that lacks waiting events needs a look: no rhythm publishes more seldom."""

_MAX_RESULT_BYTES = 1 << 20
"""So much is read of the end of the results of expectations."""

_BUILDS = ("model", "seed", "snapshot")
_TESTS = ("test", "unit_test")


def read_operation(
    home: Home, view: View, moment: datetime, waiting_events: int, waiting_forgets: int
) -> Operation:
    """Return how a home with a published snapshot stands at a moment (naive UTC)."""
    assert view.snapshot.path is not None
    (published,) = view.rows("select max(ended_at) as ended_at from meta.runs", {})
    return Operation(
        home=str(home.path),
        snapshot=view.snapshot.path.name,
        published_at=published["ended_at"],
        waiting_events=waiting_events,
        waiting_forgets=waiting_forgets,
        quarantined_lines=count_quarantined(home),
        runs=_read_run_history(home, moment.replace(tzinfo=UTC)),
        savings=_read_savings(view, moment),
        recall_levels=[
            RecallLevel(name, level["hits"], level["misses"])
            for name, level in sorted(read_statistics(home).items())
        ],
        partitions=_read_partitions(view),
        verdicts=_read_verdicts(home, moment.replace(tzinfo=UTC)),
        health=_read_health(view),
        data_docs=_find_data_docs(home),
    )


def find_remarks(operation: Operation, moment: datetime) -> list[Remark]:
    """Return what needs a look at a moment (naive UTC), the worst first."""
    remarks = []
    done = [run for run in operation.runs.shown if run.outcome != SKIPPED]
    if done and done[0].outcome == NOT_PUBLISHED:
        reason = done[0].error or ", ".join(done[0].failed[:3]) or "it ended before it was done"
        remarks.append(
            Remark(
                BAD,
                f"The last run was not published: {shown(reason, 300)}. Readers stay on the last good "
                "snapshot.",
                "Mend what it names, then start `mnemoduck run` again.",
            )
        )
    if done and done[0].warned:
        remarks.append(
            Remark(
                LOOK,
                f"{counted(len(done[0].warned), 'test')} of the last run warned: "
                f"{', '.join(shown(name, 80) for name in done[0].warned[:5])}.",
                "The table of runs has them.",
            )
        )
    remarks += [_remark_on(verdict) for verdict in operation.verdicts if not verdict.success]
    age = moment - operation.published_at if operation.published_at else timedelta(0)
    if operation.waiting_events and age >= STALE:
        remarks.append(
            Remark(
                LOOK,
                f"{counted(operation.waiting_events, 'event')} wait for a run, and the snapshot is "
                f"{duration(age.total_seconds())} old.",
                "Start `mnemoduck run`, and see that it is scheduled.",
            )
        )
    if operation.quarantined_lines:
        remarks.append(
            Remark(
                LOOK,
                f"{counted(operation.quarantined_lines, 'line')} could not be read and are in quarantine.",
                "Each says its file, line and reason in the folder quarantine/ of the home.",
            )
        )
    return sorted(remarks, key=lambda remark: remark.level != BAD)


def _remark_on(verdict: Verdict) -> Remark:
    failed = ", ".join(shown(name, 80) for name in verdict.failed[:3]) or "no detail was given"
    return Remark(
        LOOK if verdict.severity.startswith("warn") else BAD,
        f"Expectations of {shown(verdict.suite, 60)} were not met: {failed}.",
        "The section on expectations says more.",
    )


def _read_run_history(home: Home, until: datetime) -> Runs:
    records: list[RunRecord] = []
    for span in _LOOK_BACK:
        since = until - span if span and until - datetime.min.replace(tzinfo=UTC) > span else None
        records = [record for record in read_runs(home, since) if record.ended_at <= until]
        if len(records) >= MAX_RUNS:
            break
    records = sorted(records, key=lambda record: (record.ended_at, record.run_id))[-MAX_RUNS:]
    return Runs([_to_run(record) for record in reversed(records)], _find_slowest(records))


def _to_run(record: RunRecord) -> Run:
    tests = [node for node in record.nodes if node.kind in _TESTS]
    return Run(
        started_at=record.started_at,
        ended_at=record.ended_at,
        command=record.command,
        outcome=record.outcome,
        seconds=record.seconds,
        events_loaded=record.events_loaded,
        models=sum(node.kind in _BUILDS for node in record.nodes),
        tests=len(tests),
        failed=sorted(node.name for node in record.nodes if node.status in ("fail", "error")),
        warned=sorted(node.name for node in tests if node.status == "warn"),
        error=record.errors[0] if record.errors else None,
    )


def _find_slowest(records: list[RunRecord]) -> list[ModelTime]:
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    rows: dict[tuple[str, str], int | None] = {}
    for record in records:
        for node in record.nodes:
            if node.status != "skipped":
                seconds[node.name, node.kind].append(node.seconds)
                rows[node.name, node.kind] = node.rows
    slowest = [
        ModelTime(name, kind, len(taken), median(taken), max(taken), rows[name, kind])
        for (name, kind), taken in seconds.items()
    ]
    slowest.sort(key=lambda model: (-model.median_seconds, model.name, model.kind))
    return slowest[:MAX_SLOWEST]


def _columns_of(view: View, model: str) -> list[dict[str, Any]]:
    """Return name and comment of the columns of a model; none where the snapshot does not have it."""
    return view.rows(
        "select column_name, comment from duckdb_columns() where database_name = 'snapshot' "
        "and schema_name = 'main' and table_name = $model order by column_index",
        {"model": model},
    )


def _read_savings(view: View, moment: datetime) -> list[CacheSavings]:
    if not _columns_of(view, "llm_cache_metrics"):
        return []
    rows = view.rows(
        f"""
        select
            model, kind,
            cast(sum(hits) as bigint) as hits,
            cast(sum(misses) as bigint) as misses,
            cast(sum(tokens_saved) as bigint) as tokens_saved,
            cast(sum(prompt_tokens + answer_tokens) as bigint) as tokens_spent,
            -- In whole parts, since sums of doubles depend on the order.
            cast(sum(cast(round(1e6 * seconds_saved) as bigint)) / 1e6 as double) as seconds_saved
        from llm_cache_metrics
        where started_at <= $moment
        group by model, kind
        having sum(hits + misses) > 0
        order by tokens_saved desc, hits desc, model, kind
        limit {MAX_SAVINGS}
        """,
        {"moment": moment},
    )
    return [CacheSavings(**row) for row in rows]


def _read_partitions(view: View) -> list[PartitionedModel]:
    """Return the months of each model by their catalogs: no row of theirs is read."""
    cursor = view.snapshot.cursor()
    models = []
    for model in partitioned_models(cursor):
        schema = months_schema(model).replace('"', '""')
        rows = cursor.execute(
            f'select month, state, row_count from "{schema}".catalog order by month'
        ).fetchall()
        models.append(PartitionedModel(model, [PartitionMonth(*row) for row in rows]))
    return models


def _read_verdicts(home: Home, until: datetime) -> list[Verdict]:
    """Return the last verdict of each suite; lines that are none are passed over."""
    path = home.path / "expectations" / "results.jsonl"
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_RESULT_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    last: dict[str, Verdict] = {}
    for line in lines:
        try:
            result = json.loads(line)
            checked_at = datetime.fromisoformat(result["checked_at"])
            verdict = Verdict(
                suite=str(result["suite"]),
                checked_at=str(result["checked_at"]),
                success=result["success"] is True,
                severity=str(result.get("severity", "")),
                evaluated=int(result.get("evaluated", 0)),
                failed=[_name_of(failed) for failed in result.get("failed") or []],
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
        if (checked_at.replace(tzinfo=UTC) if checked_at.tzinfo is None else checked_at) <= until:
            last[verdict.suite] = verdict
    return [last[suite] for suite in sorted(last)]


def _name_of(failed: Any) -> str:
    if isinstance(failed, dict):
        return ", ".join(f"{name} {value}" for name, value in failed.items())
    return str(failed)


def _read_health(view: View) -> list[Measure]:
    """Return the row of memory_health, if the snapshot has that model, each column with its description."""
    columns = _columns_of(view, "memory_health")
    rows = view.rows("select * from memory_health limit 1", {}) if columns else []
    return [
        Measure(
            name=column["column_name"].replace("_", " "),
            value=_to_text(rows[0][column["column_name"]]),
            meaning=column["comment"] or "",
        )
        for column in (columns if rows else [])
    ]


def _to_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return NONE if value is None else str(value)


def _find_data_docs(home: Home) -> str | None:
    """Return the page that Data Docs begin with, relative to the home; None if there are none."""
    folder = home.path / "data_docs"
    pages = [page for pattern in ("index.html", "*/index.html") for page in sorted(folder.glob(pattern))]
    return str(pages[0].relative_to(home.path)) if pages else None
