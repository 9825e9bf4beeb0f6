"""Ranking by words: the SQL of the macro `ranked_memories` on the snapshot and on what is fresh."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mnemoduck.asking import Asker
from mnemoduck.fresh import FreshTables
from mnemoduck.project import render, variables
from mnemoduck.recall.query import Query
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

_RANK = """
select
    *,
    count(*) over (partition by user_id, agent_id, content_hash) as support_count
from ({ranked}) as ranked
qualify
    row_number() over (
        partition by user_id, agent_id, content_hash order by score desc, occurred_at desc, memory_id desc
    ) = 1
order by score desc, occurred_at desc, memory_id desc
limit $limit
"""


def rank(
    asker: Asker,
    query: Query,
    scope: Scope,
    *,
    limit: int,
    as_of: datetime | None = None,
    weights: tuple[tuple[str, float], ...] = (),
) -> list[Candidate]:
    """Return the memories of the scope that match the terms of a query best, best first.

    Equal texts of one user and agent are one answer: the one that matches best, of equals the last.

    Cost: see the macro; the statistics are those of the user.
    """
    if not query.terms:
        return []
    sessions = max(variables(asker.project)["recall_sessions"], limit)

    def fill_in(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
        documents = _with_fresh("documents", _DOCUMENT_COLUMNS, snapshot, fresh, _of_user(asker, scope))
        terms = ", ".join(map(str, sorted(query.terms)))
        postings = _with_fresh(
            "postings",
            _POSTING_COLUMNS,
            snapshot,
            fresh,
            f"{_of_user(asker, scope)} and term_key in ({terms})",
        )
        ranked = render(
            asker.project,
            "ranked_memories",
            postings,
            documents,
            _left_out(snapshot, documents, scope),
            "$names",
            sessions,
            weights,
        )
        return _RANK.replace("{ranked}", ranked)

    while True:
        rows = asker.ask("{memories}", {"names": query.names, "limit": limit}, scope, as_of, fill_in)
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
                speaker=row["speaker_factor"],
            ),
            matched_terms=tuple(sorted(query.terms[key] for key in row["term_keys"] or ())),
            support_count=row["support_count"],
            equals=(row["user_id"], row["agent_id"], row["content_hash"]),
        )
        for row in rows
    ]


def findable(asker: Asker, snapshot: Snapshot, fresh: FreshTables, scope: Scope) -> tuple[str, str]:
    """Return two relations: the user's documents, and the keys of those that are not to be found."""
    documents = _with_fresh("documents", _DOCUMENT_COLUMNS, snapshot, fresh, _of_user(asker, scope))
    return documents, _left_out(snapshot, documents, scope)


def _of_user(asker: Asker, scope: Scope) -> str:
    if scope.user_id is None:
        return "true"
    return f"user_key = {render(asker.project, 'search_user_key', '$user_id')}"


def _with_fresh(
    kind: str, columns: Sequence[str], snapshot: Snapshot, fresh: FreshTables, condition: str
) -> str:
    """Return a relation of the index: what is published, and what is fresh and not published yet."""
    names = ", ".join(columns)
    table = fresh.documents if kind == "documents" else fresh.postings
    branches = [f"select {names}, true as is_fresh from {table} where {condition}"]
    if snapshot.path is not None:
        if fresh.memory_count:
            branches[0] += (
                " and memory_key not in (select memory_key from retrieval.search_documents"
                f" where memory_key in (select memory_key from {fresh.documents}))"
            )
        else:
            branches = []
        branches.insert(
            0, f"select {names}, false as is_fresh from retrieval.search_{kind} where {condition}"
        )
    return f"({' union all '.join(branches)})"


def _left_out(snapshot: Snapshot, documents: str, scope: Scope) -> str:
    """Return a relation of the keys of what is not to be found: not yet, not any more, not in the scope."""
    conditions = ["occurred_at > $as_of", "{forgotten_since}"]
    if scope.agent_id is not None or scope.session_id is not None:
        conditions.append(_OUT_OF_SCOPE)
    branches = [f"select memory_key from {documents} where {' or '.join(conditions)}"]
    if snapshot.path is not None:
        branches.append("select memory_key from staging.int_forgotten_memories where forgotten_at <= $as_of")
    return f"({' union all '.join(branches)})"
