"""Ranking by words: the SQL of the macro `ranked_memories` on the snapshot and on what is fresh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID
from weakref import WeakKeyDictionary

from mnemoduck.asking import Asker
from mnemoduck.fresh import FreshTables
from mnemoduck.project import render, variables
from mnemoduck.recall.filters import Filters
from mnemoduck.recall.phrases import find_phrases
from mnemoduck.recall.query import Phrase, Query
from mnemoduck.recall.records import Candidate, ScoreParts
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot

_DOCUMENT_COLUMNS = (
    "memory_id", "memory_key", "session_key", "user_id", "agent_id", "session_id", "content_hash", "role",
    "memory_type", "tags", "term_count", "is_question", "occurred_at", "recorded_at",
)  # fmt: skip
_POSTING_COLUMNS = ("term_key", "memory_key", "session_key", "term_frequency", "term_count")

_OUT_OF_SCOPE = (
    "not (($agent_id is null or agent_id is not distinct from $agent_id)"
    " and ($session_id is null or session_id is not distinct from $session_id))"
)


def rank(
    asker: Asker,
    query: Query,
    scope: Scope,
    *,
    limit: int,
    as_of: datetime | None = None,
    weights: tuple[tuple[str, float], ...] = (),
    filters: Filters = Filters(),  # noqa: B008 - immutable
) -> list[Candidate]:
    """Return the memories of the scope that match the terms of a query best, best first.

    Equal texts of one user and agent are one answer: the one that matches best, of equals the last.

    Cost: see the macro; the statistics are those of the user.
    """
    if not query.terms:
        return []
    condition, values = filters.in_index()
    sessions = max(variables(asker.project)["recall_sessions"], limit)
    only = None
    if query.phrases:
        only = find_phrases(asker, query.phrases, _phrase_candidates(asker, query.phrases, scope))
        if not only:
            return []

    def fill_in(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
        documents = _with_fresh("documents", _DOCUMENT_COLUMNS, snapshot, fresh, _of_user(asker, scope))
        in_terms = f"{_of_user(asker, scope)} and term_key in ({{term_keys}})"
        postings = _with_fresh("postings", _POSTING_COLUMNS, snapshot, fresh, in_terms)
        statement = render(  # it is kept for the next question, so the terms come in afterwards
            asker.project,
            "ranked_memories",
            postings,
            documents,
            _left_out(snapshot, fresh, documents, scope, condition, as_of is None),
            "$names",
            sessions,
            "$limit",
            weights,
            "" if only is None else "(select unnest($only) as memory_key)",
        )
        return statement.replace("{term_keys}", ", ".join(map(str, sorted(query.terms))))

    while True:
        asked = {"names": query.names, "limit": limit, "only": only, **values}
        rows = asker.ask("{memories}", asked, scope, as_of, fill_in)
        # Equal texts are one answer, so the sessions that were looked into may hold fewer than are asked for.
        if len(rows) >= limit or not rows or rows[0]["session_count"] < sessions:
            break
        sessions *= 8
    return [
        Candidate(
            memory_id=row["memory_id"],
            occurred_at=row["occurred_at"],
            is_fresh=row["is_fresh"],
            score=row["score"],
            parts=ScoreParts(
                words=row["own_score"],
                context=row["context_score"],
                session=row["session_score"],
                speaker=float(row["speaker_factor"]),  # a decimal in SQL
            ),
            matched_terms=tuple(sorted(query.terms[key] for key in row["term_keys"] or ())),
            support_count=row["support_count"],
            equals=(row["user_id"], row["agent_id"], row["content_hash"]),
        )
        for row in rows
    ]


def findable(
    asker: Asker,
    snapshot: Snapshot,
    fresh: FreshTables,
    scope: Scope,
    condition: str,
    *,
    is_about_now: bool,
) -> tuple[str, str]:
    """Return two relations: the user's documents, and the keys of those that are not to be found.

    Args:
        condition: on columns of search_documents, that of the filters; "" for none.
    """
    documents = _with_fresh("documents", _DOCUMENT_COLUMNS, snapshot, fresh, _of_user(asker, scope))
    left_out = _left_out(snapshot, fresh, documents, scope, condition, is_about_now)
    return documents, left_out or "(select 0 as memory_key where false)"


def _of_user(asker: Asker, scope: Scope) -> str:
    if scope.user_id is None:
        return "true"
    return f"user_key = {render(asker.project, 'search_user_key', '$user_id')}"


def _with_fresh(
    kind: str, columns: Sequence[str], snapshot: Snapshot, fresh: FreshTables, condition: str
) -> str:
    """Return a relation of the index: what is published, and what is fresh, which holds nothing of that."""
    names = ", ".join(columns)
    table = fresh.documents if kind == "documents" else fresh.postings
    branches = []
    if snapshot.path is not None:
        branches.append(f"select {names}, false as is_fresh from retrieval.search_{kind} where {condition}")
    if fresh.memory_count or not branches:
        branches.append(f"select {names}, true as is_fresh from {table} where {condition}")
    return f"({' union all '.join(branches)})"


def _left_out(
    snapshot: Snapshot,
    fresh: FreshTables,
    documents: str,
    scope: Scope,
    condition: str,
    is_about_now: bool,
) -> str:
    """Return a relation of the keys of what is not to be found: not yet, not any more, not in the scope.

    An empty text, if everything is: most questions are about now, and without it they are half as long.
    """
    published = _span(snapshot)
    conditions = []
    if not is_about_now or fresh.memory_count or published.ends_at > datetime.now(UTC).replace(tzinfo=None):
        conditions.append("occurred_at > $as_of")
    if fresh.forgets:
        conditions.append("{forgotten_since}")
    if scope.agent_id is not None or scope.session_id is not None:
        conditions.append(_OUT_OF_SCOPE)
    if condition:
        conditions.append(f"not ({condition})")
    branches = []
    if conditions:
        branches.append(f"select memory_key from {documents} where {' or '.join(conditions)}")
    if published.has_forgotten:
        branches.append("select memory_key from staging.int_forgotten_memories where forgotten_at <= $as_of")
    return f"({' union all '.join(branches)})" if branches else ""


@dataclass(frozen=True)
class _Span:
    """When the last of the published memories happened, and whether any was ever forgotten."""

    ends_at: datetime
    has_forgotten: bool


_spans: WeakKeyDictionary[Snapshot, _Span] = WeakKeyDictionary()


def _span(snapshot: Snapshot) -> _Span:
    """Return what is read once for each snapshot: it never changes."""
    known = _spans.get(snapshot)
    if known is None:
        known = _Span(datetime.min, False)
        if snapshot.path is not None:
            row = (
                snapshot.cursor()
                .execute(
                    "select (select max(occurred_at) from retrieval.search_documents),"
                    " exists(from staging.int_forgotten_memories)"
                )
                .fetchone()
            )
            assert row is not None
            known = _Span(row[0] or datetime.min, row[1])
        _spans[snapshot] = known
    return known


def _phrase_candidates(
    asker: Asker, phrases: Sequence[Phrase], scope: Scope
) -> list[tuple[UUID, datetime, int]]:
    """Return id, time and key of the memories of the user that have all terms of all phrases."""
    keys = sorted({key for phrase in phrases for key in phrase.term_keys})

    def fill_in(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
        condition = _of_user(asker, scope)
        documents = _with_fresh("documents", _DOCUMENT_COLUMNS, snapshot, fresh, condition)
        in_terms = f"{condition} and term_key in ({', '.join(map(str, keys))})"
        postings = _with_fresh("postings", _POSTING_COLUMNS, snapshot, fresh, in_terms)
        return f"""
            select memory_id, occurred_at, memory_key from {documents} as documents
            where memory_key in (
                select memory_key from {postings} group by memory_key having count(*) = {len(keys)}
            )
        """

    rows = asker.ask("{memories}", {}, scope, None, fill_in)
    return [(row["memory_id"], row["occurred_at"], row["memory_key"]) for row in rows]
