"""The index as statements see it: what is published and fresh of a user, and what is not to be found."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from mnemoduck.asking import Asker, View
from mnemoduck.fresh import FreshTables
from mnemoduck.project import render
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot

DOCUMENT_COLUMNS = (
    "memory_id", "memory_key", "session_key", "user_id", "agent_id", "session_id", "content_hash", "role",
    "memory_type", "tags", "term_count", "is_question", "occurred_at", "recorded_at",
)  # fmt: skip
POSTING_COLUMNS = ("term_key", "memory_key", "session_key", "term_frequency", "term_count")

EQUALS = "hash(user_id, agent_id, content_hash)"
"""The same number for equal texts of one user and agent: in one process, since the hash is DuckDB's own."""

_OUT_OF_SCOPE = (
    "not (($agent_id is null or agent_id is not distinct from $agent_id)"
    " and ($session_id is null or session_id is not distinct from $session_id))"
)
_KNOWN_USERS = 10_000
_EPOCH = datetime(1970, 1, 1)
_NO_KEYS: NDArray[np.int64] = np.empty(0, np.int64)


def of_user(project: Path, scope: Scope) -> str:
    """Return the condition for rows of the user of a scope, whose parameter is `$user_id`."""
    if scope.user_id is None:
        return "true"
    return f"user_key = {render(project, 'search_user_key', '$user_id')}"


def of_known_user(asker: Asker, view: View) -> str:
    """Return the same with the number of the user in it: nothing has to be hashed."""
    user_id = view.scope.user_id
    if user_id is None:
        return "true"
    place = (asker.project, user_id)
    with _mutex:
        known = _user_keys.get(place)
    if known is None:
        macro = render(asker.project, "search_user_key", "$user_id")
        known = int(view.rows(f"select {macro} as user_key", {})[0]["user_key"])
        with _mutex:
            _user_keys[place] = known
    return f"user_key = {known}"


def of_documents(of_user: str, scope: Scope) -> str:
    """Return the condition for documents of the user of a scope, from that for all rows of the index.

    The number of a user finds the rows, 63 bits of a hash; the id, which documents have too, tells whose they
    are. So another user with the same number, who may have been made up, is never read.
    """
    return of_user if scope.user_id is None else f"{of_user} and user_id = $user_id"


_mutex = threading.Lock()
_user_keys: LRUCache[tuple[Path, str], int] = LRUCache(_KNOWN_USERS)


def _begin_anew() -> None:
    """In a forked child: another thread of the parent may have held the mutex, which nobody releases here."""
    global _mutex, _user_keys
    _mutex, _user_keys = threading.Lock(), LRUCache(_KNOWN_USERS)


os.register_at_fork(after_in_child=_begin_anew)


def with_fresh(
    kind: str, columns: Sequence[str], snapshot: Snapshot, fresh: FreshTables, condition: str
) -> str:
    """Return a relation of the index: what is published, and what is fresh, which holds nothing of that.

    Args:
        kind: documents or postings.
    """
    names = ", ".join(columns)
    table = fresh.documents if kind == "documents" else fresh.postings
    branches = []
    if snapshot.path is not None:
        branches.append(f"select {names}, false as is_fresh from retrieval.search_{kind} where {condition}")
    if fresh.memory_count or not branches:
        branches.append(f"select {names}, true as is_fresh from {table} where {condition}")
    return f"({' union all '.join(branches)})"


def left_out(
    snapshot: Snapshot,
    fresh: FreshTables,
    documents: str,
    scope: Scope,
    condition: str,
    *,
    is_about_now: bool,
) -> str:
    """Return a relation of the keys of what is not to be found: not yet, not in the scope, not any more since
    the snapshot. What is forgotten in it is told by `Span`.

    An empty text, if everything is: most questions are about now, and need nothing read.

    Args:
        documents: relation of the user's documents.
        condition: on columns of search_documents, that of the filters; "" for none.
    """
    published = span(snapshot)
    conditions = []
    if not is_about_now or fresh.memory_count or published.ends_at > datetime.now(UTC).replace(tzinfo=None):
        conditions.append("occurred_at > $as_of")
    if fresh.forgets:
        conditions.append("{forgotten_since}")
    if scope.agent_id is not None or scope.session_id is not None:
        conditions.append(_OUT_OF_SCOPE)
    if condition:
        conditions.append(f"not ({condition})")
    return f"(select memory_key from {documents} where {' or '.join(conditions)})" if conditions else ""


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
    condition_of_user = of_documents(of_user(asker.project, scope), scope)
    documents = with_fresh("documents", DOCUMENT_COLUMNS, snapshot, fresh, condition_of_user)
    keys = left_out(snapshot, fresh, documents, scope, condition, is_about_now=is_about_now)
    branches = [f"select memory_key from {keys}"] if keys else []
    if len(span(snapshot).forgotten_keys):
        branches.append("select memory_key from staging.int_forgotten_memories where forgotten_at <= $as_of")
    return documents, f"({' union all '.join(branches) or 'select 0 as memory_key where false'})"


@dataclass(frozen=True)
class Span:
    """What a snapshot says of all its memories: how many there are, when the last of them happened, and which
    were ordered forgotten, by their keys in order, and when, in microseconds since 1970.
    """

    document_count: int
    ends_at: datetime
    forgotten_keys: NDArray[np.int64]
    forgotten_at: NDArray[np.int64]

    def forgotten_by(self, moment: datetime) -> NDArray[np.int64]:
        """Return the keys of what was forgotten by a naive moment, in their order."""
        return self.forgotten_keys[self.forgotten_at <= (moment - _EPOCH) // timedelta(microseconds=1)]


_spans: WeakKeyDictionary[Snapshot, Span] = WeakKeyDictionary()


def span(snapshot: Snapshot) -> Span:
    """Return what is read once for each snapshot: it never changes."""
    known = _spans.get(snapshot)
    if known is None:
        known = Span(0, datetime.min, _NO_KEYS, _NO_KEYS)
        if snapshot.path is not None:
            cursor = snapshot.cursor()
            row = cursor.execute(
                "select count(*), max(occurred_at) from retrieval.search_documents"
            ).fetchone()
            assert row is not None
            forgotten = cursor.execute(
                "select memory_key, epoch_us(forgotten_at) as forgotten_at from "
                "staging.int_forgotten_memories where forgotten_at is not null order by memory_key"
            ).fetchnumpy()
            known = Span(
                row[0],
                row[1] or datetime.min,
                np.asarray(forgotten["memory_key"]),
                np.asarray(forgotten["forgotten_at"]),
            )
        _spans[snapshot] = known
    return known
