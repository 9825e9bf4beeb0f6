"""Does a pattern's confidence predict success at tasks that it was not learned from?

Tasks are split into five parts within their domain, ten times over. Patterns are learned from four parts;
each episode of the fifth gets a score from the patterns that it has. Everything is compared within a part and
a domain, so all that is compared was judged by the same patterns, and a split that is uneven by chance tells
nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.patterns.mining import Mining

PARTS, SPLITS = 5, 10
RESAMPLES = 2000
BIN_EDGES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
ESCALATION = "transfer_to_human_agents"
"""Giving the customer to a person ends an episode; in these data it is nearly the outcome itself."""

PRIMARY = "mean"
SCORES = {
    PRIMARY: "the mean over all its patterns (chosen before any result was seen)",
    "telling": "the mean over those that are actionable or a warning, 0 without any",
    "lowest": "the lowest",
    "highest": "the highest",
    "strongest": "the one farthest from 0",
    "tool_sequence": "the mean over tool sequences",
    "decision": "the mean over decisions",
    "error_recovery": "the mean over recoveries from errors",
    "context": "the mean over contexts",
}
"""How the log-odds lifts of an episode's patterns become one number."""

_ENDS = f"""
    (
        (o.kind = 'decision' and o.pattern[-1] = '$')
        or (o.kind = 'error_recovery' and list_contains(o.pattern, '$'))
        or (o.kind = 'context' and o.pattern[1] = 'last tool')
        or list_contains(o.pattern, '{ESCALATION}')
    )
"""
_NOT_KNOWN_YET = f"""
    (
        {_ENDS}
        or o.kind = 'error_recovery'
        or (o.kind = 'context' and o.pattern[1] in ('calls', 'failed calls', 'repeated calls'))
    )
"""
VARIANTS = {
    "whole": ("occurrences", "true"),
    "without the end": ("occurrences", f"not {_ENDS}"),
    "first half": ("begun", f"not {_NOT_KNOWN_YET}"),
}
"""Which patterns of an episode count: all; those that do not tell how it ended; those of its first half."""

Matrix = NDArray[np.float64]


def held_out(mining: Mining) -> dict[str, Any]:
    """Return what patterns of other tasks say of each episode, and how well that agrees with how it ended."""
    episodes = mining.ask(
        "select cast(episode_key as varchar) as episode_key, cast(task_key as varchar) as task_key, domain, "
        "is_success, tool_count from occurrences_features order by episode_key"
    )
    places = {one["episode_key"]: place for place, one in enumerate(episodes)}
    comparisons = {(variant, score): Comparison(episodes) for variant in VARIANTS for score in SCORES}
    by_calls = Comparison(episodes)
    bins: dict[str, dict[int, list[float]]] = {variant: {} for variant in VARIANTS}
    for split in range(SPLITS):
        parts = _parts(episodes, split)
        for part in range(PARTS):
            out = [place for place, one in enumerate(episodes) if parts[one["task_key"]] == part]
            mining.learn([task for task, its in parts.items() if its != part])
            base = _base_rates(episodes, parts, part)
            by_calls.add(out, {place: -float(episodes[place]["tool_count"]) for place in out}, base)
            mining.connection.execute(
                "create or replace temp table out as select unnest($keys) as episode_key",
                {"keys": [episodes[place]["episode_key"] for place in out]},
            )
            for variant, (table, condition) in VARIANTS.items():
                found = mining.ask(_SCORED.format(table=table, condition=condition))
                rows = {places[row.pop("episode_key")]: row for row in found}
                for score in SCORES:
                    values = {
                        place: float(row[score])
                        if (row := rows.get(place)) and row[score] is not None
                        else 0.0
                        for place in out
                    }
                    comparisons[variant, score].add(out, values, base)
                _add_to_bins(bins[variant], mining.ask(_BINNED.format(table=table, condition=condition)))
    return {
        "episodes": len(episodes),
        "parts": PARTS,
        "splits": SPLITS,
        "resamples": RESAMPLES,
        "fewer calls": by_calls.areas(),
        "variants": {
            variant: {
                "scores": {score: comparisons[variant, score].areas() for score in SCORES},
                "episodes": comparisons[variant, PRIMARY].calibration(),
                "patterns": _pattern_calibration(bins[variant]),
            }
            for variant in VARIANTS
        },
    }


class Comparison:
    """Episodes compared in pairs, one that succeeded with one that did not, by a score that each got."""

    def __init__(self, episodes: Sequence[dict[str, Any]]) -> None:
        count = len(episodes)
        self._success = np.array([one["is_success"] for one in episodes])
        self._domains = np.array([one["domain"] for one in episodes])
        self._tasks = np.array([one["task_key"] for one in episodes])
        self._won: Matrix = np.zeros((count, count))
        self._compared: Matrix = np.zeros((count, count))
        self._expected: Matrix = np.zeros(count)
        self._base: Matrix = np.zeros(count)
        self._times: Matrix = np.zeros(count)

    def add(self, out: Sequence[int], scores: dict[int, float], base: dict[str, float]) -> None:
        """Compare the episodes that were left out of one part; `base` is the rate of the others by domain."""
        for domain, rate in base.items():
            places = np.array([place for place in out if self._domains[place] == domain], dtype=int)
            values = np.array([scores[place] for place in places])
            good, bad = places[self._success[places]], places[~self._success[places]]
            higher = np.sign(np.subtract.outer(values[self._success[places]], values[~self._success[places]]))
            self._won[np.ix_(good, bad)] += (higher + 1) / 2
            self._compared[np.ix_(good, bad)] += 1
            self._expected[places] += 1 / (1 + np.exp(-(math.log(rate / (1 - rate)) + values)))
            self._base[places] += rate
            self._times[places] += 1

    def areas(self) -> dict[str, Any]:
        """Return the area under the ROC curve by domain, and of all pairs within domains, with intervals.

        `same task` is of pairs of attempts at one task: there the task cannot be what tells them apart.
        """
        counts = self._resampled()
        names = sorted(str(domain) for domain in set(self._domains))
        areas = {domain: self._area(counts, (self._domains == domain)[:, None]) for domain in names}
        same_task = np.equal.outer(self._tasks, self._tasks)
        return {
            **areas,
            "pooled": self._area(counts, np.full_like(same_task, True)),
            "same task": self._area(counts, same_task),
        }

    def calibration(self) -> dict[str, Any]:
        """Return expected and observed success in fifths, and Brier scores beside the base rate's."""
        expected, base = self._expected / self._times, self._base / self._times
        happened = self._success.astype(float)
        order = np.argsort(expected, kind="stable")
        fifths = [
            {
                "episodes": len(some),
                "expected": float(expected[some].mean()),
                "observed": float(happened[some].mean()),
                "low": _wilson(happened[some])[0],
                "high": _wilson(happened[some])[1],
            }
            for some in np.array_split(order, 5)
        ]
        loss, base_loss = (expected - happened) ** 2, (base - happened) ** 2
        counts = self._resampled()
        gains = (counts @ (base_loss - loss)) / counts.sum(axis=1)
        return {
            "bins": fifths,
            "brier": float(loss.mean()),
            "base_brier": float(base_loss.mean()),
            "gain": float((base_loss - loss).mean()),
            "gain_low": float(np.quantile(gains, 0.025)),
            "gain_high": float(np.quantile(gains, 0.975)),
        }

    def _area(self, counts: Matrix, kept: NDArray[np.bool_]) -> dict[str, float]:
        won, compared = self._won * kept, self._compared * kept
        # Of a resample, each pair counts as often as its two episodes were drawn together.
        both = [np.einsum("ri,ij,rj->r", counts, pairs, counts, optimize=True) for pairs in (won, compared)]
        resampled = both[0][both[1] > 0] / both[1][both[1] > 0]
        return {
            "pairs": float((compared > 0).sum()),
            "area": float(won.sum() / compared.sum()) if compared.any() else math.nan,
            "low": float(np.quantile(resampled, 0.025)) if resampled.size else math.nan,
            "high": float(np.quantile(resampled, 0.975)) if resampled.size else math.nan,
        }

    def _resampled(self) -> Matrix:
        """Return how often each episode is in each resample: tasks are drawn with all of their episodes."""
        chance = np.random.default_rng(7)
        counts: Matrix = np.zeros((RESAMPLES, len(self._tasks)))
        for domain in sorted(set(self._domains)):
            tasks, numbers = np.unique(self._tasks[self._domains == domain], return_inverse=True)
            drawn = chance.multinomial(len(tasks), np.full(len(tasks), 1 / len(tasks)), size=RESAMPLES)
            counts[:, self._domains == domain] = drawn[:, numbers]
        return counts


_SCORED = """
    with had as (
        select
            o.episode_key,
            l.kind,
            ln(l.confidence / (1 - l.confidence)) - ln(l.base_rate / (1 - l.base_rate)) as lift,
            l.is_actionable or l.is_warning as is_telling
        from {table} as o
        inner join learned as l on o.pattern_id = l.pattern_id
        where o.kind <> 'comparison' and cast(o.episode_key as varchar) in (select episode_key from out)
            and {condition}
    )
    select
        cast(episode_key as varchar) as episode_key,
        avg(lift) as mean,
        coalesce(avg(lift) filter (where is_telling), 0) as telling,
        min(lift) as lowest,
        max(lift) as highest,
        arg_max(lift, abs(lift)) as strongest,
        avg(lift) filter (where kind = 'tool_sequence') as tool_sequence,
        avg(lift) filter (where kind = 'decision') as decision,
        avg(lift) filter (where kind = 'error_recovery') as error_recovery,
        avg(lift) filter (where kind = 'context') as context
    from had
    group by episode_key
"""
"""What the episodes in `out` get for the patterns that they have, of those that are `learned`."""

_BINNED = f"""
    select
        len(list_filter({list(BIN_EDGES[1:-1])}, lambda edge: l.confidence >= edge)) as bin,
        count(*) as pairs,
        sum(l.confidence) as confidence,
        sum(l.base_rate) as base_rate,
        count(*) filter (where o.is_success) as successes,
        sum(pow(l.confidence - cast(o.is_success as integer), 2)) as loss,
        sum(pow(l.base_rate - cast(o.is_success as integer), 2)) as base_loss
    from {{table}} as o
    inner join learned as l on o.pattern_id = l.pattern_id
    where o.kind <> 'comparison' and cast(o.episode_key as varchar) in (select episode_key from out)
        and {{condition}}
    group by bin
"""


def _parts(episodes: Sequence[dict[str, Any]], split: int) -> dict[str, int]:
    """Return the part of each task: in each domain, dealt out in an order that only the split decides."""
    parts: dict[str, int] = {}
    for domain in sorted({one["domain"] for one in episodes}):
        tasks = {one["task_key"] for one in episodes if one["domain"] == domain}
        ordered = sorted(tasks, key=lambda task: hashlib.sha256(f"{split} {task}".encode()).digest())
        parts |= {task: place % PARTS for place, task in enumerate(ordered)}
    return parts


def _base_rates(episodes: Sequence[dict[str, Any]], parts: dict[str, int], part: int) -> dict[str, float]:
    """Return how often episodes of the other parts succeeded, by domain (Laplace's rule of succession)."""
    rates = {}
    for domain in sorted({one["domain"] for one in episodes}):
        ended = [
            one["is_success"]
            for one in episodes
            if one["domain"] == domain and parts[one["task_key"]] != part
        ]
        rates[domain] = (sum(ended) + 1) / (len(ended) + 2)
    return rates


def _add_to_bins(bins: dict[int, list[float]], found: Sequence[dict[str, Any]]) -> None:
    for row in found:
        number = int(row.pop("bin"))
        sums = bins.setdefault(number, [0.0] * len(row))
        bins[number] = [old + float(new) for old, new in zip(sums, row.values(), strict=True)]


def _pattern_calibration(bins: dict[int, list[float]]) -> dict[str, Any]:
    pairs, _, _, _, loss, base_loss = (sum(values) for values in zip(*bins.values(), strict=True))
    return {
        "pairs": pairs / SPLITS,
        "brier": loss / pairs,
        "base_brier": base_loss / pairs,
        "bins": [
            {
                "from": BIN_EDGES[number],
                "to": BIN_EDGES[number + 1],
                "pairs": count / SPLITS,
                "confidence": confidence / count,
                "base_rate": base_rate / count,
                "observed": successes / count,
            }
            for number, (count, confidence, base_rate, successes, _, _) in sorted(bins.items())
        ],
    }


def _wilson(happened: Matrix) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    count, share, z = len(happened), float(happened.mean()), 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return middle - reach, middle + reach
