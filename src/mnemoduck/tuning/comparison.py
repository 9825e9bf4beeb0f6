"""Whether a change has helped: what was after it beside what was before, and what chance alone would do.

Times of runs are compared by their ranks (Mann & Whitney 1947), exactly, since there are few and they are not
normal; shares of look-ups, of which there are thousands, by the difference of two proportions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from statistics import median
from typing import Any, Literal

from mnemoduck.pipeline.history import PUBLISHED
from mnemoduck.tuning.evidence import Evidence
from mnemoduck.tuning.journal import TAKE_BACK, Change

MIN_AFTER = 8
"""So many runs on each side: then even a clear difference of ranks is no accident (p below 0.001)."""
COMPARED = 30
MIN_LOOKUPS = 1_000
CHANCE = 0.05
LEAST_RATIO = 1.05
"""What differs by less is told as no difference, however sure it is."""

Verdict = Literal["helped", "worse", "no difference", "too little"]


@dataclass(frozen=True)
class Comparison:
    """What became of one change.

    Attributes:
        measure: what is compared.
        before, after: its median, or the share; None where there is none.
        ratio: after / before.
        chance: how likely such a difference is if nothing has changed; two-sided.
        note: what else to know.
    """

    change: Change
    verdict: Verdict
    measure: str
    before: float | None = None
    after: float | None = None
    ratio: float | None = None
    chance: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "change": self.change.model_dump(mode="json", exclude={"counts"})}


def compare_changes(evidence: Evidence) -> list[Comparison]:
    """Return what became of the change of each key that is in force: of several the last counts."""
    found = []
    for key, change in {change.key: change for change in evidence.journal}.items():
        if change.rule == TAKE_BACK:
            continue
        if evidence.file.get(key) != change.after:
            found.append(Comparison(change, "too little", "", note="the file says something else by now"))
        elif key in {"recall.cache_bytes", "recall.resident_bytes"}:
            found.append(_compare_hits(evidence, change))
        elif key == "recall.duckdb_threads":
            found.append(_compare_questions(evidence, change))
        else:
            found.append(_compare_runs(evidence, change))
    return found


def _compare_runs(evidence: Evidence, change: Change) -> Comparison:
    """Published runs of the same rhythm as the newest; nothing-new runs do not tell how fast one builds."""
    published = [run for run in evidence.runs if run.outcome == PUBLISHED]
    rhythm = published[-1].rhythm if published else None
    runs = [run for run in published if run.rhythm == rhythm]
    others = [other.applied_at for other in evidence.journal if other.key.split(".")[0] in ("run", "llm")]
    begin, end = _neighbours(change.applied_at, others)
    before = [run.seconds for run in runs if begin < run.started_at and run.ended_at <= change.applied_at]
    after = [run.seconds for run in runs if change.applied_at < run.started_at and run.ended_at <= end]
    return _compare_times(change, "seconds of a run", before[-COMPARED:], after[:COMPARED])


def _compare_questions(evidence: Evidence, change: Change) -> Comparison:
    recalls = [one for one in evidence.samples if one.kind == "recall"]
    before = [one.milliseconds for one in recalls if one.started_at <= change.applied_at]
    after = [one.milliseconds for one in recalls if one.started_at > change.applied_at]
    return _compare_times(change, "milliseconds of a recall", before[-COMPARED:], after[:COMPARED])


def _compare_times(
    change: Change, measure: str, before: Sequence[float], after: Sequence[float]
) -> Comparison:
    missing = MIN_AFTER - min(len(before), len(after))
    if missing > 0:
        side = "before" if len(before) < len(after) else "after"
        note = f"{missing} more {side} it are needed"
        if side == "before":
            note = f"only {len(before)} are known from before it: it cannot be told"
        return Comparison(change, "too little", measure, note=note)
    ratio = median(after) / max(median(before), 1e-9)
    chance = rank_test(before, after)
    return Comparison(
        change,
        _judge(1 / max(ratio, 1e-9), chance),
        measure,
        median(before),
        median(after),
        ratio,
        chance,
        f"{len(before)} before and {len(after)} after; what is built also grows with time",
    )


def _compare_hits(evidence: Evidence, change: Change) -> Comparison:
    level = {"recall.cache_bytes": "results", "recall.resident_bytes": "documents"}[change.key]
    measure = "share of look-ups that found something"
    was = change.counts.get(level, {})
    since = evidence.counts_since(change.key, level)
    lookups_before = was.get("hits", 0) + was.get("misses", 0)
    lookups_after = since["hits"] + since["misses"]
    if min(lookups_before, lookups_after) < MIN_LOOKUPS:
        note = f"{max(0, MIN_LOOKUPS - lookups_after):,} more look-ups are needed"
        return Comparison(change, "too little", measure, note=note)
    before, after = was.get("hits", 0) / lookups_before, since["hits"] / lookups_after
    pooled = (was.get("hits", 0) + since["hits"]) / (lookups_before + lookups_after)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / lookups_before + 1 / lookups_after))
    chance = math.erfc(abs(after - before) / spread / math.sqrt(2)) if spread else 1.0
    ratio = after / before if before else None
    verdict = _judge(ratio if ratio is not None else 1 + after, chance)
    if verdict == "no difference" and change.before is not None and change.after < change.before:
        verdict = "helped"  # it was to find as much with less
    note = f"{lookups_before:,} look-ups before and {lookups_after:,} after"
    return Comparison(change, verdict, measure, before, after, ratio, chance, note)


def _judge(better: float, chance: float) -> Verdict:
    """`better` is above 1 if it is better after than before."""
    if chance >= CHANCE or 1 / LEAST_RATIO < better < LEAST_RATIO:
        return "no difference"
    return "helped" if better > 1 else "worse"


def _neighbours(moment: datetime, others: Sequence[datetime]) -> tuple[datetime, datetime]:
    """Return the moments of the changes before and after one: what lies between has one cause."""
    earliest = datetime.min.replace(tzinfo=moment.tzinfo)
    latest = datetime.max.replace(tzinfo=moment.tzinfo)
    return (
        max((other for other in others if other < moment), default=earliest),
        min((other for other in others if other > moment), default=latest),
    )


def rank_test(before: Sequence[float], after: Sequence[float]) -> float:
    """Return how likely ranks that differ so much are if both come from the same (two-sided, exact).

    Of equal values half count as larger, and the result is rounded to the safe side, so that ties never
    make a difference look surer than it is. Cost: about (n · m)² / 2 additions, once for each n and m.
    """
    n, m = len(before), len(after)
    larger = sum((a > b) + 0.5 * (a == b) for b in before for a in after)
    extreme = math.ceil(min(larger, n * m - larger))
    ways = _ways(n, m)
    return min(1.0, 2 * sum(ways[: extreme + 1]) / math.comb(n + m, n))


@cache
def _ways(n: int, m: int) -> list[int]:
    """Return in how many orders of n and m values u pairs are larger, for each u (Mann & Whitney 1947)."""
    if n == 0 or m == 0:
        return [1]
    with_largest_after = _ways(n, m - 1)  # it is larger than all n
    with_largest_before = _ways(n - 1, m)
    ways = [0] * (n * m + 1)
    for u, count in enumerate(with_largest_after):
        ways[u + n] += count
    for u, count in enumerate(with_largest_before):
        ways[u] += count
    return ways
