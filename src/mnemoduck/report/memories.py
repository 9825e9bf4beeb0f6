"""What a page shows of memories: read from the published snapshot, at a moment, of a scope.

The definitions are those of the project: table macros of the snapshot (`consolidated_as_of`), and macros of
macros/memory by `project.render`. SQL counts and picks; only what is drawn is fetched.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mnemoduck.asking import View, months
from mnemoduck.project import render, variables
from mnemoduck.report.records import (
    Activity,
    Bin,
    Concept,
    Curve,
    Edge,
    Fates,
    Graph,
    HeldMemory,
    Mind,
    Minds,
    Slot,
)
from mnemoduck.report.texts import MAX_CHARACTERS
from mnemoduck.scope import SCOPE_CONDITION

MAX_MINDS = 6
MAX_LISTED = 10
MAX_CURVES = 5
MAX_CONCEPTS = 40
MAX_EDGES = 90
MAX_OWNERS = 5
"""Of so many users and agents the graph has concepts: of more it would have a few of each."""

_EDGES_OF_A_CONCEPT = 4
_CANDIDATE_EDGES = 2_000
_CURVE_STEPS = 48
_MAX_BINS = 48
_FATE_MOMENTS = 12
_TICK = timedelta(microseconds=1)
_HORIZONS = (7, 14, 30, 60, 90, 180, 365, 730, 1_825, 3_650)
"""How far curves are drawn, days: the first in which the most stable of them loses most of it."""

STEPS = (
    ("hour", "1 hour", 3_600),
    ("six hours", "6 hours", 21_600),
    ("day", "1 day", 86_400),
    ("week", "7 days", 604_800),
    ("month", "1 month", 2_629_800),
    ("quarter", "3 months", 7_889_400),
    ("year", "1 year", 31_557_600),
    ("decade", "10 years", 315_576_000),
    ("century", "100 years", 3_155_760_000),
    ("millennium", "1000 years", 31_557_600_000),
)
"""Lengths of the bins of activity: their name, their interval and about how many seconds they have."""

_MINDED = (
    "memory_id", "user_id", "agent_id", "session_id", "scope_key", "content", "content_hash", "role",
    "memory_type", "importance", "urgency", "emotional_salience", "occurred_at", "recorded_at",
    "forgotten_at",
)  # fmt: skip

_THERE = f"""
    occurred_at <= $moment and (forgotten_at is null or forgotten_at > $moment) and not {{forgotten_since}}
    and {SCOPE_CONDITION}
"""
_OWNER = "($user_id is null or user_id = $user_id) and ($agent_id is null or agent_id = $agent_id)"
_IN_SCOPE = f"{_OWNER} and ($session_id is null or list_contains(session_ids, $session_id))"
_HELD = "fate in ('retained', 'reinforced')"

# What was ordered forgotten is not shown, not even as it was before the order: a page outlives what it shows.
_ORDERED = "select memory_id from short_term_memories where forgotten_at > $moment or {forgotten_since}"


class MemoryPart:
    """Reads what a page shows of memories in one state of a home, at a moment (naive UTC)."""

    def __init__(self, view: View, project: Path, moment: datetime) -> None:
        self._view = view
        self._project = project
        self._moment = moment
        self._hides_some = bool(self._rows(f"select 1 from ({_ORDERED}) limit 1"))
        hidden = (
            f"""consolidated_id not in (
                select consolidated_id
                from (select consolidated_id, unnest(memory_ids) as memory_id from consolidated_memories)
                where memory_id in ({_ORDERED})
            )"""
            if self._hides_some
            else "true"
        )
        self._long_term = f"(select * from consolidated_as_of($moment) where {_IN_SCOPE} and {hidden})"

    def minds(self) -> Minds:
        """Return what is in mind, scope by scope; those with the most pressing memories first."""
        fallback = timedelta(minutes=variables(self._project)["attention_fallback_minutes"])
        begin = self._moment - fallback if self._moment - datetime.min > fallback else None
        end = self._moment + _TICK if self._moment < datetime.max else None
        source = months(self._view.snapshot, "short_term_memories", _MINDED, begin, end)
        hidden = f"and memory_id not in ({_ORDERED})" if self._hides_some else ""
        slots = render(
            self._project,
            "working_memory_slots",
            f"(select * from {source} where {SCOPE_CONDITION} {hidden})",
            "scope_key",
            "$moment",
        )
        rows = self._rows(
            f"""
            with
            slots as materialized (select * from ({slots})),
            minds as (
                select user_id, agent_id, session_id,
                    row_number() over (order by max(priority) desc, user_id, agent_id, session_id) as place,
                    count(*) over () as scope_count,
                    sum(count(*)) over () as slot_count
                from slots
                group by user_id, agent_id, session_id
            )
            select
                minds.*, slots.slot, slots.capacity, slots.coherence, slots.priority, slots.role,
                {_shortened("slots.content")} as content, slots.occurred_at
            from slots
            inner join minds
                on slots.user_id is not distinct from minds.user_id
                and slots.agent_id is not distinct from minds.agent_id
                and slots.session_id is not distinct from minds.session_id
            where minds.place <= {MAX_MINDS}
            order by minds.place, slots.slot
            """
        )
        of_mind: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            of_mind[row["place"]].append(row)
        (last,) = self._rows(f"select max(occurred_at) as last_at from short_term_memories where {_THERE}")
        return Minds(
            shown=[
                Mind(
                    scope=(held[0]["user_id"], held[0]["agent_id"], held[0]["session_id"]),
                    capacity=held[0]["capacity"],
                    coherence=held[0]["coherence"],
                    slots=[
                        Slot(row["slot"], row["priority"], row["content"], row["role"], row["occurred_at"])
                        for row in held
                    ],
                )
                for held in of_mind.values()
            ],
            scope_count=rows[0]["scope_count"] if rows else 0,
            slot_count=int(rows[0]["slot_count"]) if rows else 0,
            last_at=last["last_at"],
        )

    def activity(self) -> Activity:
        """Return how many memories there are of each stretch of time up to the moment, by type."""
        (span,) = self._rows(
            "select count(*) as memory_count, min(occurred_at) as first_at "
            f"from short_term_memories where {_THERE}"
        )
        if not span["memory_count"]:
            return Activity(0, STEPS[0][0], [], [])
        seconds = (self._moment - span["first_at"]).total_seconds()
        name, step, _ = next(item for item in STEPS if seconds <= item[2] * (_MAX_BINS - 2))
        rows = self._rows(
            f"""
            with
            happened as (
                select
                    time_bucket(interval '{step}', occurred_at) as begin, memory_type,
                    count(*) as memory_count
                from short_term_memories where {_THERE}
                group by all
            ),
            bins as (
                select unnest(generate_series(
                    (select min(begin) from happened),
                    time_bucket(interval '{step}', $moment),
                    interval '{step}'
                )) as begin
            )
            select bins.begin, happened.memory_type, coalesce(happened.memory_count, 0) as memory_count
            from bins
            left join happened on bins.begin = happened.begin
            order by bins.begin, happened.memory_type
            """
        )
        counts: dict[datetime, dict[str, int]] = defaultdict(dict)
        for row in rows:
            of_bin = counts[row["begin"]]
            if row["memory_type"] is not None:
                of_bin[row["memory_type"]] = row["memory_count"]
        return Activity(
            memory_count=span["memory_count"],
            step=name,
            types=sorted({kind for of_bin in counts.values() for kind in of_bin}),
            bins=[Bin(begin, of_bin) for begin, of_bin in counts.items()],
        )

    def fates(self, activity: Activity) -> Fates:
        """Return how many long-term memories had which fate at the end of some bins of the activity."""
        begins = [one.begin for one in activity.bins[1:]]
        every = max(1, -(-len(begins) // (_FATE_MOMENTS - 1)))
        moments = [*begins[::-1][::every][::-1], self._moment] if activity.bins else []
        found = []
        for moment in moments:
            rows = self._view.rows(
                f"""
                select fate, count(*) as memory_count from consolidated_as_of($at)
                where {_IN_SCOPE} group by fate
                """,
                {"at": moment},
            )
            found.append(Bin(moment, {row["fate"]: row["memory_count"] for row in rows}))
        return Fates(found if any(one.total for one in found) else [])

    def strongest(self) -> list[HeldMemory]:
        """Return the memories that are most likely to be recalled."""
        return self._held("activation desc, importance desc, consolidated_id")

    def fading(self) -> list[HeldMemory]:
        """Return the memories that are held, and forgotten soonest if nobody uses them."""
        return self._held("forgets_at, activation, consolidated_id", "forgets_at is not null")

    def curves(self) -> list[Curve]:
        """Return how memories of different stability are lost from the moment on if nobody uses them.

        Of each stability the memory that was used last is typical; of many, the least and the most stable
        are taken and some between.
        """
        (levels,) = self._rows(
            f"""
            select coalesce(list_sort(list(distinct stability_days)), []) as found
            from {self._long_term} where {_HELD}
            """
        )
        stabilities = _spread(levels["found"], MAX_CURVES)
        if not stabilities:
            return []
        typical = self._held(
            "stability_days",
            f"stability_days in ({', '.join(map(repr, stabilities))}) and retention > 0",
            "qualify row_number() over "
            "(partition by stability_days order by last_used_at desc, activation desc, consolidated_id) = 1",
        )
        horizon = next((days for days in _HORIZONS if days >= 2 * stabilities[-1]), _HORIZONS[-1])
        then = "($moment + to_microseconds(cast(days * 86400e6 as bigint)))"
        retention = render(self._project, "retention", "last_used_at", "stability_days", then)
        rows = self._rows(
            f"""
            with
            picked as materialized (
                select consolidated_id, last_used_at, stability_days, forgets_at
                from consolidated_as_of($moment)
                where consolidated_id in ({_literals(typical)})
            ),
            looked_at as (
                select *, {horizon} * pow(step / {_CURVE_STEPS}.0, 2) as days, false as is_end
                from picked cross join (select unnest(range({_CURVE_STEPS + 1})) as step)
                union all
                select *, -1 as step, epoch(forgets_at - $moment) / 86400 as days, true as is_end
                from picked where forgets_at is not null
            )
            select
                consolidated_id, days, is_end,
                {retention} as retention
            from looked_at
            where days between 0 and {horizon}
            order by consolidated_id, is_end, days
            """
        )
        points: dict[Any, list[tuple[float, float]]] = defaultdict(list)
        ends: dict[Any, tuple[float, float]] = {}
        for row in rows:
            point = (float(row["days"]), float(row["retention"]))
            if row["is_end"]:
                ends[row["consolidated_id"]] = point
            else:
                points[row["consolidated_id"]].append(point)
        return [
            Curve(memory, points[memory.consolidated_id], ends.get(memory.consolidated_id))
            for memory in typical
        ]

    def graph(self) -> Graph:
        """Return the concepts with the strongest associations, and the strongest of those between them.

        The potential of an association at a moment is what the view associations has; all fade by the same
        share, so which are strongest is told by the stored logarithms. They are of a user and agent, across
        sessions; of many, of those with the most of them.
        """
        then = render(self._project, "log_potential", "coactivations", "$moment")
        hidden = (
            f"""and concept_id in (
                select concept_id from memory_concepts where memory_id not in ({_ORDERED})
            )"""
            if self._hides_some
            else ""
        )
        strengths = f"""
            exp(log_potential - max(log_potential) over ()) as strength
            from (
                select
                    source_id, target_id,
                    case when settled_at <= $moment then log_potential else {then} end as log_potential
                from staging.int_associations
                where source_id in {{of}} and target_id in {{of}}
            )
            where log_potential is not null
        """
        own = f"(select concept_id from concepts where {_OWNER} {hidden})"
        concepts = self._rows(
            f"""
            with
            strongest as (
                select
                    source_id,
                    -- In whole parts, since sums of doubles depend on the order.
                    sum(cast(round(1e12 * strength) as hugeint)) as strength
                from (select source_id, {strengths.replace("{of}", own)}) as edges
                group by source_id
            ),
            owned as (
                select
                    concepts.concept_id, concepts.concept, concepts.user_id, concepts.agent_id,
                    strongest.strength,
                    sum(strongest.strength) over (
                        partition by concepts.user_id, concepts.agent_id
                    ) as strength_of_owner,
                    count(*) over () as concept_count
                from strongest
                inner join concepts on strongest.source_id = concepts.concept_id
            ),
            placed as (
                select *, dense_rank() over (order by strength_of_owner desc, user_id, agent_id) as owner
                from owned
            )
            select concept_id, concept, user_id, agent_id, strength, concept_count
            from placed
            where owner <= {MAX_OWNERS}
            order by strength desc, concept_id
            limit {MAX_CONCEPTS}
            """
        )
        if not concepts:
            return Graph([], [], 0)
        places = {row["concept_id"]: place for place, row in enumerate(concepts)}
        ids = f"({', '.join(map(str, places))})"
        pairs = self._rows(
            f"""
            select source_id, target_id, strength
            from (select source_id, target_id, {strengths.replace("{of}", ids)}) as edges
            where source_id < target_id
            order by strength desc, source_id, target_id
            limit {_CANDIDATE_EDGES}
            """
        )
        most = float(concepts[0]["strength"])
        return Graph(
            concepts=[
                Concept(
                    row["concept_id"],
                    row["concept"],
                    (row["user_id"], row["agent_id"]),
                    float(row["strength"]) / most if most else 0.0,
                )
                for row in concepts
            ],
            edges=_backbone(
                [(places[row["source_id"]], places[row["target_id"]], row["strength"]) for row in pairs]
            ),
            concept_count=concepts[0]["concept_count"],
        )

    def _held(self, order: str, condition: str = "true", qualify: str = "") -> list[HeldMemory]:
        rows = self._rows(
            f"""
            with ranked as materialized (
                select consolidated_id from {self._long_term}
                where {_HELD} and {condition}
                {qualify}
                order by {order}
                limit {MAX_LISTED}
            )
            select
                consolidated_id, user_id, agent_id, role, {_shortened("content")} as content, strength,
                retention, stability_days, support_count, recall_count, last_used_at, forgets_at
            from consolidated_as_of($moment)
            where consolidated_id in (select consolidated_id from ranked)
            order by {order}
            """
        )
        return [HeldMemory(scope=(row.pop("user_id"), row.pop("agent_id")), **row) for row in rows]

    def _rows(self, statement: str) -> list[dict[str, Any]]:
        return self._view.rows(statement, {"moment": self._moment})


def _backbone(pairs: list[tuple[int, int, float]]) -> list[Edge]:
    """Return of edges in order of strength those that are among the strongest of one of their ends."""
    taken: dict[int, int] = defaultdict(int)
    edges: list[Edge] = []
    for source, target, strength in pairs:
        if min(taken[source], taken[target]) < _EDGES_OF_A_CONCEPT and len(edges) < MAX_EDGES:
            edges.append(Edge(source, target, strength))
            taken[source] += 1
            taken[target] += 1
    return edges


def _spread(values: list[float], most: int) -> list[float]:
    """Return at most so many of sorted values, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def _shortened(column: str) -> str:
    """Return the expression for the beginning of a text: what a page cuts anyway is not fetched."""
    return f"left(ltrim({column}, chr(32) || chr(9) || chr(10) || chr(13)), {4 * MAX_CHARACTERS + 1})"


def _literals(memories: list[HeldMemory]) -> str:
    return ", ".join(f"'{memory.consolidated_id}'" for memory in memories)
