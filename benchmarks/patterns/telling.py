"""How many patterns there are of each kind, and the ten that say most, of those that do not say the same."""

from __future__ import annotations

from typing import Any

from benchmarks.patterns.mining import Mining

SHOWN = 10
OVERLAP = 0.5
"""Patterns whose episodes are the same by so much (Jaccard) say the same: the more telling one is shown."""


def counts(mining: Mining) -> list[dict[str, Any]]:
    """Return for each domain and kind how many patterns were found, are kept, and are telling."""
    return mining.ask(
        """
        select
            o.domain,
            o.kind,
            count(distinct o.pattern_key) as found,
            count(distinct l.pattern_id) as kept,
            count(distinct l.pattern_id) filter (where l.is_actionable) as actionable,
            count(distinct l.pattern_id) filter (where l.is_warning) as warnings
        from occurrences as o
        left join learned as l on o.pattern_id = l.pattern_id
        where o.kind <> 'comparison'
        group by o.domain, o.kind
        order by o.domain, o.kind
        """
    )


def most_telling(mining: Mining) -> list[dict[str, Any]]:
    """Return the patterns that chance explains least (p-value, then distance of confidence and base rate).

    A pattern that half of its episodes share with one before it is passed over.
    """
    candidates = mining.ask(
        """
        select
            l.domain,
            l.kind,
            l.pattern,
            l.steps,
            l.support,
            l.success_count,
            count(distinct o.task_key) as task_count,
            l.base_rate,
            l.confidence,
            l.confidence_low,
            l.confidence_high,
            l.p_value,
            l.q_value,
            l.is_warning,
            list(cast(o.episode_key as varchar)) as episode_keys
        from learned as l
        inner join occurrences as o on l.pattern_id = o.pattern_id
        where l.is_actionable or l.is_warning
        group by all
        """
    )
    candidates.sort(
        key=lambda one: (
            one["p_value"],
            -abs(one["confidence"] - one["base_rate"]),
            one["domain"],
            one["pattern"],
        )
    )
    shown: list[dict[str, Any]] = []
    seen: list[set[str]] = []
    for one in candidates:
        episodes = set(one.pop("episode_keys"))
        if len(shown) < SHOWN and all(len(episodes & its) < OVERLAP * len(episodes | its) for its in seen):
            shown.append(one)
            seen.append(episodes)
    return shown
