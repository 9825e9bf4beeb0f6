"""Who speaks in a user's memories: their names say who is asked about, not what.

A name is in every other turn of a conversation of two, mostly where the other one is addressed, and what the
one who is named said is found by its role. So names of speakers are not searched for (see `recall_names`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from cachetools import LRUCache

from mnemoduck.asking import Asker, View
from mnemoduck.fresh import FreshTables
from mnemoduck.project import render
from mnemoduck.recall.index import of_documents, of_user
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot

MAX_ROLES = 1_000
"""Of each user; those that said the most. Who has more speakers than that has no conversations."""

MAX_USERS = 10_000

_Place: TypeAlias = tuple[Path | None, str, int, str | None]


def role_words(asker: Asker, view: View, roles: Sequence[str]) -> list[frozenset[str]]:
    """Return the words of each role, by the macro `role_names`; asked for once while they are in use."""
    with _mutex:
        known = {role: words for role in roles if (words := _words_of_roles.get((asker.project, role)))}
    unknown = [role for role in roles if role not in known]
    if unknown:
        rows = view.rows(
            f"select role, {render(asker.project, 'role_names', 'role')} as words"
            " from (select unnest($roles::varchar[]) as role)",
            {"roles": unknown},
        )
        learnt = {row["role"]: frozenset(row["words"]) for row in rows}
        known.update(learnt)
        with _mutex:
            _words_of_roles.update({(asker.project, role): words for role, words in learnt.items()})
    return [known[role] for role in roles]


_mutex = threading.Lock()
_words_of_roles: LRUCache[tuple[Path, str], frozenset[str]] = LRUCache(MAX_USERS)


def _begin_anew() -> None:
    """In a forked child: another thread of the parent may have held the mutex, which nobody releases here."""
    global _mutex, _words_of_roles
    _mutex, _words_of_roles = threading.Lock(), LRUCache(MAX_USERS)


os.register_at_fork(after_in_child=_begin_anew)


class Speakers:
    """The words of the names of those who speak to each user. Safe between threads.

    What is published is read once for each snapshot and user, at the cost of one column of the user's
    documents; what is fresh, once for each arrival.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._mutex = threading.Lock()
        self._words: LRUCache[_Place, frozenset[str]] = LRUCache(MAX_USERS)

    def names(self, scope: Scope) -> frozenset[str]:
        """Return the words of the roles of the user's memories, but for roles that are nobody's name."""
        snapshot, fresh = self._asker.view()
        words: frozenset[str] = frozenset()
        if snapshot.path is not None:
            words |= self._look_up((snapshot.path, "", 0, scope.user_id), scope)
        if fresh.memory_count:
            words |= self._look_up((snapshot.path, fresh.documents, fresh.memory_count, scope.user_id), scope)
        return words

    def _look_up(self, place: _Place, scope: Scope) -> frozenset[str]:
        with self._mutex:
            if place in self._words:
                return self._words[place]
        words = self._read(scope, is_fresh=bool(place[1]))
        with self._mutex:
            self._words[place] = words
        return words

    def _read(self, scope: Scope, *, is_fresh: bool) -> frozenset[str]:
        project = self._asker.project
        condition = of_documents(of_user(project, scope), scope)

        def fill_in(snapshot: Snapshot, fresh: FreshTables, _: object) -> str:
            published = "retrieval.search_documents" if snapshot.path is not None else fresh.documents
            return f"(select role from {fresh.documents if is_fresh else published} where {condition})"

        statement = f"""
            select distinct unnest({render(project, "search_words", "role")}) as word
            from (select role from {{memories}} group by role order by count(*) desc, role limit {MAX_ROLES})
        """
        rows = self._asker.ask(statement, {}, scope, None, fill_in)
        return frozenset(row["word"] for row in rows).difference(render(project, "impersonal_roles").split())
