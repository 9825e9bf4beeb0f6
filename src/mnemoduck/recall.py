"""Recall and working memory: questions to the published snapshot and to what arrived since.

Recall ranks memories by BM25 (Robertson & Zaragoza 2009) over stemmed words. Statistics and postings
of the snapshot and of the fresh memories are put together, so that a memory counts the same whether
the pipeline has seen it or not.

Each question names the months that it needs, and ranks on few columns before it reads the winners
whole: a view over all months would plan, and read, every column of each (see `mnemoduck.partitions`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.fresh import FreshReader, FreshTables
from mnemoduck.project import render, variables
from mnemoduck.scope import SCOPE_CONDITION, Scope, check_unicode
from mnemoduck.warehouse import Snapshot

MAX_LIMIT = 10_000
MAX_QUERY_CHARACTERS = 100_000

BM25_K1 = 1.2
BM25_B = 0.75

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
_MINDED = (
    *_RANKED, "content", "role", "memory_type", "importance", "urgency", "emotional_salience",
)  # fmt: skip
_LONG_TERM_RANKED = (
    "consolidated_id", "user_id", "agent_id", "session_ids", "support_count", "recall_count", "use_count",
    "importance", "interference", "stability_days", "first_seen_at", "last_seen_at", "last_used_at",
    "recent_use_times", "consolidated_at", "forgotten_at", "superseded_at", "settled_at",
)  # fmt: skip
_LONG_TERM_EVALUATED = (
    *_LONG_TERM_RANKED, "memory_ids", "content", "gist", "gist_method", "role", "memory_type", "tags",
    "run_id",
)  # fmt: skip
_LONG_TERM_UNSETTLED = (
    "consolidated_id", "user_id", "agent_id", "memory_ids", "run_id", "consolidated_at", "settled_at",
)  # fmt: skip
_MEMBERS = (
    "memory_id", "user_id", "agent_id", "session_id", "content", "content_hash", "role", "memory_type",
    "tags", "importance", "interference", "occurred_at", "ready_at", "forgotten_at", "changed_batch_seq",
)  # fmt: skip

_OF_OWNER = "($user_id is null or user_id = $user_id) and ($agent_id is null or agent_id = $agent_id)"
_IN_LONG_TERM_SCOPE = f"{_OF_OWNER} and ($session_id is null or list_contains(session_ids, $session_id))"
_IS_HELD = "fate in ('retained', 'reinforced')"

_RECALL = """
with
terms as materialized (
    select distinct {stem} as term from (select unnest({words}) as word)
),
hits as materialized (
    select term, memory_id, term_frequency
    from ({postings})
    where term in (select term from terms)
),
documents as (
    {documents}
),
statistics as (
    select count(*) as document_count, avg(term_count) as average_length from documents
),
weights as (
    select
        term,
        ln(1 + (any_value(document_count) - count(*) + 0.5) / (count(*) + 0.5)) as weight
    from hits cross join statistics
    group by term
),
scored as (
    select
        hits.memory_id,
        sum(
            weights.weight * hits.term_frequency * ({k1}::double + 1)
            / (
                hits.term_frequency
                + {k1}::double * (1 - {b}::double + {b}::double * documents.term_count / average_length)
            )
        ) as score,
        list(hits.term order by hits.term) as matched_terms
    from hits
    inner join weights on hits.term = weights.term
    inner join documents on hits.memory_id = documents.memory_id
    cross join statistics
    group by hits.memory_id
),
matched as (
    select memories.*, scored.score, scored.matched_terms
    from scored
    inner join (select * from ({memories}) where {scope} and {remembered}) as memories
        on scored.memory_id = memories.memory_id
)
select
    memory_id, occurred_at, is_fresh, score, matched_terms,
    count(*) over (partition by user_id, agent_id, content_hash) as support_count
from matched
qualify
    row_number() over (
        partition by user_id, agent_id, content_hash order by occurred_at desc, memory_id desc
    ) = 1
order by score desc, occurred_at desc, memory_id desc
limit $limit
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
class Recollection(StoredMemory):
    """A memory that answers a query. `score` is its BM25 score, above 0, comparable within one recall.

    `support_count` tells how often the same words were remembered in the scope of the query.
    """

    score: float
    matched_terms: list[str]
    support_count: int


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
    """Answers questions about one home. Safe between threads: each question has a cursor of its own."""

    def __init__(self, fresh: FreshReader, project: Path) -> None:
        self._fresh = fresh
        self._project = project

    def recall(
        self, query: str, scope: Scope, *, limit: int = 10, as_of: datetime | None = None
    ) -> list[Recollection]:
        """Return the memories of the scope that match the query best, best first.

        An empty query, or one without any letter or digit, matches nothing.

        Raises:
            UsageError: the limit is not between 0 and 10,000, or the query longer than 100,000
                characters.
        """
        _check_limit(limit)
        check_unicode("The query", query)
        if len(query) > MAX_QUERY_CHARACTERS:
            raise UsageError(
                f"The query has {len(query):,} characters; at most {MAX_QUERY_CHARACTERS:,} are allowed."
            )
        statement = _RECALL.format(
            stem=render(self._project, "stemmed", "word"),
            words=render(self._project, "words", "$query"),
            postings="{postings}",
            documents="{documents}",
            memories="{memories}",
            scope=SCOPE_CONDITION,
            remembered="{remembered}",
            k1=BM25_K1,
            b=BM25_B,
        )
        ranked = self._ask(
            statement,
            {"query": query, "limit": limit},
            scope,
            as_of,
            lambda snapshot, fresh, _: _with_fresh(_RANKED, _months(snapshot, _MEMORIES, _RANKED), fresh),
        )
        stored = self._read([(row["memory_id"], row["occurred_at"]) for row in ranked])
        return [
            Recollection(
                **{
                    **asdict(stored[row["memory_id"]]),
                    **{name: row[name] for name in ("is_fresh", "score", "matched_terms", "support_count")},
                }
            )
            for row in ranked
            if row["memory_id"] in stored  # its month may have been dropped a moment ago
        ]

    def get(self, memory_id: UUID) -> StoredMemory | None:
        """Return a memory that recall could answer with now: None if there is none of this id, if it was
        forgotten, or if it is dated in the future.

        Costs three small queries, whatever is stored.
        """

        def find(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
            partitions = snapshot.partitions(_MEMORIES) if snapshot.path else None
            row = partitions.on(snapshot.cursor()).find(memory_id) if partitions else None
            places = [(memory_id, row["occurred_at"])] if row else []
            return _at_places((*_SHOWN, "forgotten_at"), snapshot, fresh, places or [(memory_id, _EPOCH)])

        rows = self._ask(
            # Materialized, so that the condition does not keep DuckDB from using the index of the key.
            "with found as materialized ({memories}) select * from found where {remembered}",
            {},
            Scope(),
            None,
            find,
        )
        return _to_memory(rows[0]) if rows else None

    def _read(self, places: Sequence[tuple[UUID, datetime]]) -> dict[UUID, StoredMemory]:
        """Return the memories of some ids and times, whole."""
        if not places:
            return {}
        rows = self._ask(
            "{memories}",
            {},
            Scope(),
            None,
            lambda snapshot, fresh, _: _at_places(_SHOWN, snapshot, fresh, places),
        )
        return {row["memory_id"]: _to_memory(row) for row in rows}

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
            return _with_fresh(_MINDED, _months(snapshot, _MEMORIES, _MINDED, begin, end), fresh)

        rows = self._ask(f"select * from ({slots}) order by slot", {}, scope, as_of, last_minutes)
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
        _check_limit(limit)
        if self._fresh.get()[0].path is None:
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
        """Return ids of the strongest memories of the scope that were settled by then, and of all others.

        Reads few columns, and each month once.
        """
        project = self._project
        activation = render(project, "activation", "use_count", "first_seen_at", "recent_use_times", "$as_of")
        forgets_at = render(
            project, "forgets_at", "last_used_at", "stability_days", "interference", "importance"
        )
        statement = f"""
            with
            there_were as materialized (  -- or each month would compute for itself, and be planned for it
                select * from {{memories}}
                where consolidated_at <= $as_of and {_IN_LONG_TERM_SCOPE}
            ),
            ranked as (
                select
                    consolidated_id, first_seen_at, importance, {activation} as activation,
                    {render(project, "fate", "$as_of")} as fate
                from (select *, {forgets_at} as forgets_at from there_were)
                where settled_at <= $as_of
            )
            (
                select consolidated_id, first_seen_at, false as is_unsettled from ranked
                where {_IS_HELD}
                order by activation desc, importance desc, consolidated_id
                limit $limit
            )
            union all
            select consolidated_id, first_seen_at, true as is_unsettled from there_were
            where settled_at > $as_of
        """
        return self._ask(
            statement,
            {"limit": limit},
            scope,
            as_of,
            lambda snapshot, _, __: _months(snapshot, _LONG_TERM, _LONG_TERM_RANKED) or "",
        )

    def _evaluate_settled(
        self, places: Sequence[tuple[UUID, datetime]], as_of: datetime
    ) -> list[dict[str, Any]]:
        """Return the memories at some places as they are stored, evaluated, strongest first."""
        return self._ask(
            f"""
            select * from ({render(self._project, "evaluated_memories", "{memories}", "$as_of")})
            order by activation desc, importance desc, consolidated_id
            """,
            {},
            Scope(),
            as_of,
            lambda snapshot, _, __: _rows_at(snapshot, _LONG_TERM, _LONG_TERM_EVALUATED, places) or "",
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
        )
        statement = f"""
            select * from ({render(self._project, "evaluated_memories", f"({anew})", "$as_of")})
            where {_IS_HELD} and {_IN_LONG_TERM_SCOPE}
            order by activation desc, importance desc, consolidated_id
            limit $limit
        """

        def fill_in(snapshot: Snapshot, _: FreshTables, moment: datetime) -> str:
            end = moment + _TICK if moment < datetime.max else None
            consolidated = _months(snapshot, _LONG_TERM, _LONG_TERM_UNSETTLED, since, end) or ""
            members = _months(snapshot, _MEMORIES, _MEMBERS, since, end) or ""
            of_owner = f"(select * from {consolidated} where {_OF_OWNER})"
            return statement.replace("{consolidated}", of_owner).replace("{members}", members)

        return self._ask("{memories}", {"limit": limit}, scope, as_of, fill_in)

    def _ask(
        self,
        statement: str,
        values: Mapping[str, Any],
        scope: Scope,
        as_of: datetime | None,
        memories: Callable[[Snapshot, FreshTables, datetime], str],
    ) -> list[dict[str, Any]]:
        """Fill in a statement, with the relation of the memories that it is about, and execute it."""
        try:
            moment = (as_of or datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)
        except OverflowError as error:
            raise UsageError(f"as_of is {as_of}, which is out of range in UTC.") from error
        while True:
            snapshot, fresh = self._fresh.get()
            remembered, forget_values = _remembered(fresh, None if as_of is None else moment)
            filled = (
                statement.replace(
                    "{postings}", _both(snapshot, "retrieval.search_postings", fresh, fresh.postings)
                )
                .replace("{documents}", _both(snapshot, "retrieval.search_documents", fresh, fresh.documents))
                .replace("{memories}", memories(snapshot, fresh, moment))
                .replace("{remembered}", remembered)
            )
            parameters = {**values, **scope.as_dict(), **forget_values, "as_of": moment}
            used = {name: value for name, value in parameters.items() if f"${name}" in filled}
            try:
                cursor = snapshot.cursor()
                cursor.execute(filled, used)
            except duckdb.CatalogException:
                if self._fresh.get()[1] is fresh:
                    raise
                continue  # the fresh tables were renewed twice while this query was being prepared
            except (duckdb.IOException, duckdb.PermissionException) as error:
                reason = str(error).splitlines()[0]
                raise SnapshotError(
                    snapshot.find_archive_fault()
                    or f"The published snapshot {snapshot.path} could not be read ({reason})."
                ) from error
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _both(snapshot: Snapshot, published: str, fresh: FreshTables, table: str) -> str:
    """Return a query for a published table of the index and its fresh counterpart."""
    columns = "term, memory_id, term_frequency" if "postings" in published else "memory_id, term_count"
    fresh_rows = f"select {columns} from {table}"
    if snapshot.path is None:
        return fresh_rows
    return f"select {columns} from {published}" + _but_published(fresh_rows, fresh)


def _with_fresh(
    columns: Sequence[str], published: str | None, fresh: FreshTables, condition: str = "true"
) -> str:
    """Return a query for published memories, and for the fresh ones that meet a condition."""
    names = ", ".join(columns)
    fresh_rows = f"select {names}, true as is_fresh from {fresh.memories}"
    if published is None:
        return f"{fresh_rows} where {condition}"
    return f"select {names}, false as is_fresh from {published}" + _but_published(
        fresh_rows, fresh, condition
    )


def _but_published(fresh_rows: str, fresh: FreshTables, condition: str = "true") -> str:
    """Return the rest of a query that adds fresh rows to published ones; where nothing is fresh, none.

    A memory may be in both while its batch is being published; the published row counts.
    """
    if not fresh.memory_count:
        return ""
    return (
        f" union all {fresh_rows} where {condition} and memory_id not in (select memory_id from "
        f"retrieval.search_documents where memory_id in (select memory_id from {fresh.memories}))"
    )


def _months(
    snapshot: Snapshot,
    model: str,
    columns: Sequence[str],
    from_time: datetime | None = None,
    until_time: datetime | None = None,
) -> str | None:
    """Return the relation of a model's published rows in a range of time; None if nothing is published."""
    if snapshot.path is None:
        return None
    partitions = snapshot.partitions(model)
    if partitions is None:
        return f"main.{model}"
    return partitions.between(from_time, until_time, columns=columns)


def _rows_at(
    snapshot: Snapshot, model: str, columns: Sequence[str], places: Sequence[tuple[UUID, datetime]]
) -> str | None:
    """Return the relation of a model's published rows at ids and times; None if nothing is published."""
    if snapshot.path is None:
        return None
    partitions = snapshot.partitions(model)
    if partitions is None:
        return f"(select * from main.{model} where {columns[0]} in ({_literals(places)}))"
    return partitions.rows_at(places, columns=columns)


def _at_places(
    columns: Sequence[str], snapshot: Snapshot, fresh: FreshTables, places: Sequence[tuple[UUID, datetime]]
) -> str:
    """Return a query for the memories of some ids, fresh ones included; the first column is the id."""
    published = _rows_at(snapshot, _MEMORIES, columns, places)
    return _with_fresh(columns, published, fresh, f"memory_id in ({_literals(places)})")


def _literals(places: Sequence[tuple[UUID, datetime]]) -> str:
    return ", ".join(f"'{UUID(str(key))}'" for key, _ in places)


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


def _remembered(fresh: FreshTables, as_of: datetime | None) -> tuple[str, dict[str, Any]]:
    """Return the condition for memories that are not forgotten, and the values of its parameters.

    Orders to forget that the snapshot has carried out are in `forgotten_at`; fresh ones are applied
    here, by the rules of the model int_forgotten_memories: those given by `as_of`, if that is asked for.
    """
    conditions = ["occurred_at <= $as_of", "(forgotten_at is null or forgotten_at > $as_of)"]
    values: dict[str, Any] = {}
    named: list[str] = []
    for number, (event, payload) in enumerate(fresh.forgets):
        if as_of is not None and event.recorded_at.replace(tzinfo=None) > as_of:
            continue
        named.extend(str(memory_id) for memory_id in payload.memory_ids)
        if payload.is_whole_scope:
            name = f"forget_{number}"
            parts = [f"recorded_at <= ${name}_recorded_at"]
            values[f"{name}_recorded_at"] = event.recorded_at.replace(tzinfo=None)
            for part in ("user_id", "agent_id", "session_id"):
                if getattr(event, part) is not None:
                    parts.append(f"{part} is not distinct from ${name}_{part}")
                    values[f"{name}_{part}"] = getattr(event, part)
            if payload.occurred_before is not None:
                parts.append(f"occurred_at < ${name}_before")
                values[f"{name}_before"] = payload.occurred_before.replace(tzinfo=None)
            conditions.append(f"not ({' and '.join(parts)})")
    if named:
        conditions.append("memory_id not in (select cast(unnest($forget_ids) as uuid))")
        values["forget_ids"] = named
    return " and ".join(conditions), values


def _check_limit(limit: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MAX_LIMIT:
        raise UsageError(f"The limit is {limit!r}; it takes a whole number from 0 to {MAX_LIMIT:,}.")


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
