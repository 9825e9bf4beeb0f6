"""Memories as they are stored, working memory and long-term memory: all that is read but recall.

Each question names the months that it needs, and ranks on few columns before it reads the winners
whole: a view over all months would plan, and read, every column of each (see `mnemoduck.partitions`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from mnemoduck.asking import Asker, View, at_places, literals, months, rows_at, with_fresh
from mnemoduck.disturbed import disturbed_ids
from mnemoduck.errors import UsageError
from mnemoduck.fresh import FreshTables
from mnemoduck.holding import Signals, signals_of
from mnemoduck.project import render, variables
from mnemoduck.scope import SCOPE_CONDITION, Scope
from mnemoduck.warehouse import Snapshot

MAX_LIMIT = 10_000
_EPOCH = datetime(1970, 1, 1)
_TICK = timedelta(microseconds=1)

_MEMORIES = "short_term_memories"
_LONG_TERM = "consolidated_memories"

_RANKED = (
    "memory_id", "user_id", "agent_id", "session_id", "content_hash",
    "occurred_at", "recorded_at", "forgotten_at",
)  # fmt: skip
_SHOWN = (
    "memory_id", "user_id", "agent_id", "session_id", "content", "role", "memory_type", "tags", "metadata",
    "importance", "occurred_at", "recorded_at",
)  # fmt: skip
_USED = ("recall_count", "spaced_reinforcements", "recent_use_times")
_USED_ONCE = {
    "recall_count": "0",
    "spaced_reinforcements": "0",
    "recent_use_times": "[occurred_at]",
}
_MINDED = (
    *_RANKED, "content", "role", "memory_type", "importance", "urgency", "emotional_salience",
)  # fmt: skip
_LONG_TERM_RANKED = (
    "consolidated_id", "user_id", "agent_id", "session_ids", "support_count", "recall_count", "use_count",
    "importance", "interference", "stability_days", "first_seen_at", "last_seen_at", "last_used_at",
    "recent_use_times", "consolidated_at", "forgotten_at", "superseded_at", "settled_at",
)  # fmt: skip
LONG_TERM_COLUMNS = (
    *_LONG_TERM_RANKED, "memory_ids", "content", "gist", "gist_method", "role", "memory_type", "tags",
    "run_id",
)  # fmt: skip
_LONG_TERM_UNSETTLED = (
    "consolidated_id", "user_id", "agent_id", "memory_ids", "run_id", "consolidated_at", "settled_at",
)  # fmt: skip
MEMBER_COLUMNS = (
    "memory_id", "user_id", "agent_id", "session_id", "content", "content_hash", "role", "memory_type",
    "tags", "importance", "interference", "occurred_at", "ready_at", "forgotten_at", "changed_batch_seq",
)  # fmt: skip

_OF_OWNER = "($user_id is null or user_id = $user_id) and ($agent_id is null or agent_id = $agent_id)"
_IN_LONG_TERM_SCOPE = f"{_OF_OWNER} and ($session_id is null or list_contains(session_ids, $session_id))"
_IS_HELD = "fate in ('retained', 'reinforced')"
_USES_NOW = """
    select *, recall_count + 1 as use_count, spaced_reinforcements as spaced, recent_use_times as uses
    from stored
"""


@dataclass(frozen=True)
class StoredMemory:
    """A memory as it was remembered. `is_fresh` tells that it is not in a published build yet."""

    memory_id: UUID
    user_id: str | None
    agent_id: str | None
    session_id: str | None
    content: str
    role: str | None
    memory_type: str
    tags: list[str]
    metadata: dict[str, Any]
    importance: float
    occurred_at: datetime
    recorded_at: datetime
    is_fresh: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class WorkingMemorySlot:
    """One of the 5 to 9 memories that are in mind, with the terms of its priority (each 0..1).

    `attention` is "attention" within the 5-minute window and "fallback" within the 30 minutes that
    are used while the window holds too little. `capacity` and `coherence` are those of the scope.
    """

    slot: int
    memory_id: UUID
    user_id: str | None
    agent_id: str | None
    session_id: str | None
    content: str
    role: str | None
    memory_type: str
    attention: str
    capacity: int
    coherence: float
    priority: float
    activation_term: float
    importance_term: float
    urgency_term: float
    emotion_term: float
    use_count: int
    occurred_at: datetime

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class LongTermMemory:
    """A consolidated memory: what one speaker said in nearly the same words, and how well it is held at a
    moment.

    `content` is as it was last said, `gist` the most central sentence of all that was said. `support_count`
    tells how often it was said, `recall_count` how often it was recalled, `use_count` both. `strength` is
    the probability of retrieval (0..1) from the activation of all its uses, `retention` exp(-t / S) since
    the last one, with S = `stability_days`. `fate` is retained or reinforced (a memory that is forgotten or
    superseded is not among the long-term memories), since `fate_at`, for `fate_reason`; `forgets_at` is when
    it is forgotten if it is not used again, None if never.
    """

    consolidated_id: UUID
    user_id: str | None
    agent_id: str | None
    memory_ids: list[UUID]
    session_ids: list[str]
    content: str
    gist: str
    gist_method: str
    role: str | None
    memory_type: str
    tags: list[str]
    fate: str
    fate_reason: str
    support_count: int
    recall_count: int
    use_count: int
    importance: float
    interference: float
    activation: float
    strength: float
    retention: float
    stability_days: float
    first_seen_at: datetime
    last_seen_at: datetime
    last_used_at: datetime
    fate_at: datetime
    forgets_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class MemoryReader:
    """Reads the memories of one home. Safe between threads: each question has a cursor of its own."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._project = asker.project

    def get(self, memory_id: UUID, scope: Scope) -> StoredMemory | None:
        """Return a memory that recall could answer with now: None if there is none of this id in the scope,
        if it was forgotten, or if it is dated in the future.

        Costs three small queries, whatever is stored.
        """

        def find(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
            partitions = snapshot.partitions(_MEMORIES) if snapshot.path else None
            row = partitions.on(snapshot.thread_cursor()).find(memory_id) if partitions else None
            places = [(memory_id, row["occurred_at"])] if row else []
            return at_places((*_SHOWN, "forgotten_at"), snapshot, fresh, places or [(memory_id, _EPOCH)])

        rows = self._asker.ask(
            # Materialized, so that the condition does not keep DuckDB from using the index of the key.
            "with found as materialized ({memories}) select * from found where {remembered}"
            f" and {SCOPE_CONDITION}",
            {},
            scope,
            None,
            find,
        )
        return _to_memory(rows[0]) if rows else None

    def read(self, places: Sequence[tuple[UUID, datetime]]) -> dict[UUID, StoredMemory]:
        """Return the memories of some ids and times, whole, by their ids; what is not there is left out."""
        if not places:
            return {}
        rows = self._asker.ask(
            "{memories}",
            {},
            Scope(),
            None,
            lambda snapshot, fresh, _: at_places(_SHOWN, snapshot, fresh, places),
        )
        return {row["memory_id"]: _to_memory(row) for row in rows}

    def read_signals(
        self, places: Sequence[tuple[UUID, datetime]], as_of: datetime | None = None
    ) -> dict[UUID, tuple[StoredMemory, Signals]]:
        """Return what `read` does, and how well each of them was held at `as_of` (default: now).

        Uses after that moment do not count: of the past they are read again from the recalls. A fresh memory
        was used once.
        """
        if not places:
            return {}
        if as_of is None:
            return self._read_signals_now(places)
        activation = render(self._project, "activation", "use_count", "occurred_at", "uses", "$as_of")
        stability = render(self._project, "stability_days", "spaced")
        statement = f"""
            with
            stored as materialized ({{memories}}),
            used as ({self._uses_by_then(places)})
            select
                *,
                {activation} as activation,
                {render(self._project, "retention", "uses[1]", stability, "$as_of")} as retention
            from used
        """
        threshold = variables(self._project)["retrieval_threshold"]
        rows = self._asker.ask(
            f"""
            select *, {render(self._project, "retrieval_probability", "activation", threshold)} as strength
            from ({statement})
            """,
            {},
            Scope(),
            as_of,
            lambda snapshot, fresh, _: at_places((*_SHOWN, *_USED), snapshot, fresh, places, _USED_ONCE),
        )
        return {
            row["memory_id"]: (
                _to_memory(row),
                Signals(row["activation"], row["strength"], row["retention"]),
            )
            for row in rows
        }

    def _read_signals_now(
        self, places: Sequence[tuple[UUID, datetime]]
    ) -> dict[UUID, tuple[StoredMemory, Signals]]:
        """Of now the uses are stored as they count, and what follows from them is computed here."""
        columns = (*_SHOWN, *_USED)

        def read(view: View) -> dict[UUID, tuple[StoredMemory, Signals]]:
            rows = view.rows(at_places(columns, view.snapshot, view.fresh, places, _USED_ONCE), {})
            found = {}
            for row in rows:
                signals = signals_of(
                    self._project,
                    row["recall_count"] + 1,
                    row["spaced_reinforcements"],
                    row["occurred_at"],
                    row["recent_use_times"],
                    view.moment,
                )
                if signals is not None:
                    found[row["memory_id"]] = (_to_memory(row), signals)
            return found

        return self._asker.look(read, Scope(), None)

    def _uses_by_then(self, places: Sequence[tuple[UUID, datetime]]) -> str:
        """Return the query for the uses of stored memories that there had been by a moment."""
        if self._asker.view()[0].path is None:
            return _USES_NOW
        project = self._project
        times = render(project, "use_times", "stored.occurred_at", "recalled.recall_times")
        recalled = render(project, "recalls_of", "stored", "recalls_by_then")
        return f"""
            with recalls_by_then as (
                select * from staging.stg_recalls
                where occurred_at <= $as_of and memory_id in ({literals(places)})
            )
            select
                * exclude (use_times), len(use_times) as use_count,
                {render(project, "spaced_uses", "use_times")} as spaced,
                {render(project, "recent_uses", "use_times")} as uses
            from (
                select
                    stored.*,
                    {times} as use_times
                from stored
                left join ({recalled}) as recalled on stored.memory_id = recalled.memory_id
            )
        """

    def working_memory(self, scope: Scope, *, as_of: datetime | None = None) -> list[WorkingMemorySlot]:
        """Return what is in mind in the scope at `as_of` (default: now), slot 1 first.

        All memories of the scope count as one mind: without any part given, everything does.
        """
        slots = render(
            self._project,
            "working_memory_slots",
            f"(select * from ({{memories}}) where {SCOPE_CONDITION} and {{remembered}})",
            "'asked'",
            "$as_of",
        )
        fallback = timedelta(minutes=variables(self._project)["attention_fallback_minutes"])

        def last_minutes(snapshot: Snapshot, fresh: FreshTables, moment: datetime) -> str:
            begin = moment - fallback if moment - datetime.min > fallback else None
            end = moment + _TICK if moment < datetime.max else None
            return with_fresh(_MINDED, months(snapshot, _MEMORIES, _MINDED, begin, end), fresh)

        rows = self._asker.ask(f"select * from ({slots}) order by slot", {}, scope, as_of, last_minutes)
        return [WorkingMemorySlot(**{**row, "occurred_at": _aware(row["occurred_at"])}) for row in rows]

    def long_term(
        self, scope: Scope, *, limit: int = 10, as_of: datetime | None = None
    ) -> list[LongTermMemory]:
        """Return the strongest consolidated memories of the last build, strongest first.

        They are those that a build of `as_of` would have: what was said, recalled or ordered later does not
        count. What is forgotten or superseded by then is left out.

        Raises:
            UsageError: the limit is not between 0 and 10,000.
        """
        check_limit(limit)
        if self._asker.view()[0].path is None:
            return []
        moment = as_of or datetime.now(UTC)
        ranked = self._rank_long_term(scope, limit, moment)
        settled = [
            (row["consolidated_id"], row["first_seen_at"]) for row in ranked if not row["is_unsettled"]
        ]
        unsettled_since = min((row["first_seen_at"] for row in ranked if row["is_unsettled"]), default=None)
        rows = self._evaluate_settled(settled, moment) if settled else []
        if unsettled_since is not None:
            rows += self._evaluate_anew(scope, limit, moment, unsettled_since)
            rows.sort(key=lambda row: (-row["activation"], -row["importance"], row["consolidated_id"]))
        return [_to_long_term(row) for row in rows[:limit]]

    def _rank_long_term(self, scope: Scope, limit: int, as_of: datetime) -> list[dict[str, Any]]:
        """Return ids of the strongest memories of the scope that were settled by then, and of all others,
        the disturbed ones among them.

        Reads few columns, and each month once.
        """
        project = self._project
        activation = render(project, "activation", "use_count", "first_seen_at", "recent_use_times", "$as_of")
        forgets_at = render(
            project, "forgets_at", "last_used_at", "stability_days", "interference", "importance"
        )
        statement = f"""
            with
            disturbed as materialized ({{disturbed}}),
            there_were as materialized (  -- or each month would compute for itself, and be planned for it
                select
                    *,
                    settled_at > $as_of
                    or consolidated_id in (select disturbed.consolidated_id from disturbed) as is_unsettled
                from {{memories}}
                where consolidated_at <= $as_of and {_IN_LONG_TERM_SCOPE}
            ),
            ranked as (
                select
                    consolidated_id, first_seen_at, importance, {activation} as activation,
                    {render(project, "fate", "$as_of")} as fate
                from (select *, {forgets_at} as forgets_at from there_were)
                where not is_unsettled
            )
            (
                select consolidated_id, first_seen_at, false as is_unsettled from ranked
                where {_IS_HELD}
                order by activation desc, importance desc, consolidated_id
                limit $limit
            )
            union all
            select consolidated_id, first_seen_at, is_unsettled from there_were
            where is_unsettled
        """

        def fill_in(snapshot: Snapshot, _: FreshTables, __: datetime) -> str:
            stored = months(snapshot, _LONG_TERM, _LONG_TERM_RANKED) or ""
            disturbed = disturbed_ids(snapshot, project)
            return statement.replace("{memories}", stored).replace("{disturbed}", disturbed)

        return self._asker.ask("{memories}", {"limit": limit}, scope, as_of, fill_in)

    def _evaluate_settled(
        self, places: Sequence[tuple[UUID, datetime]], as_of: datetime
    ) -> list[dict[str, Any]]:
        """Return the memories at some places as they are stored, evaluated, strongest first."""
        return self._asker.ask(
            f"""
            select * from ({render(self._project, "evaluated_memories", "{memories}", "$as_of")})
            order by activation desc, importance desc, consolidated_id
            """,
            {},
            Scope(),
            as_of,
            lambda snapshot, _, __: rows_at(snapshot, _LONG_TERM, LONG_TERM_COLUMNS, places) or "",
        )

    def _evaluate_anew(
        self, scope: Scope, limit: int, as_of: datetime, since: datetime
    ) -> list[dict[str, Any]]:
        """Return the memories that have changed after `as_of`, as they were then, strongest first.

        Args:
            since: when the first of them was first said; earlier months are not read.
        """
        anew = render(
            self._project,
            "consolidated_anew",
            "{consolidated}",
            "{members}",
            "staging.stg_recalls",
            "main.facts",
            "$as_of",
            "{disturbed}",
        )
        statement = f"""
            select * from ({render(self._project, "evaluated_memories", f"({anew})", "$as_of")})
            where {_IS_HELD} and {_IN_LONG_TERM_SCOPE}
            order by activation desc, importance desc, consolidated_id
            limit $limit
        """

        def fill_in(snapshot: Snapshot, _: FreshTables, moment: datetime) -> str:
            end = moment + _TICK if moment < datetime.max else None
            consolidated = months(snapshot, _LONG_TERM, _LONG_TERM_UNSETTLED, since, end) or ""
            members = months(snapshot, _MEMORIES, MEMBER_COLUMNS, since, end) or ""
            of_owner = f"(select * from {consolidated} where {_OF_OWNER})"
            filled = statement.replace("{consolidated}", of_owner).replace("{members}", members)
            return filled.replace("{disturbed}", disturbed_ids(snapshot, self._project))

        return self._asker.ask("{memories}", {"limit": limit}, scope, as_of, fill_in)


def _to_memory(row: Mapping[str, Any]) -> StoredMemory:
    return StoredMemory(
        **{name: row[name] for name in (*_SHOWN, "is_fresh")}
        | {
            "metadata": json.loads(row["metadata"]),
            "occurred_at": _aware(row["occurred_at"]),
            "recorded_at": _aware(row["recorded_at"]),
        }
    )


def _to_long_term(row: Mapping[str, Any]) -> LongTermMemory:
    values: dict[str, Any] = {field.name: row[field.name] for field in fields(LongTermMemory)}
    moments = {name: _aware(value) for name, value in values.items() if isinstance(value, datetime)}
    return LongTermMemory(**{**values, **moments})


def check_limit(limit: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MAX_LIMIT:
        raise UsageError(f"The limit is {limit!r}; it takes a whole number from 0 to {MAX_LIMIT:,}.")


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
