"""The postings of terms: those of a user's published memories stay in this process while they are in use.

Questions repeat words, and to fetch the postings of some takes DuckDB longer than to rank by them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mnemoduck.asking import Asker, View
from mnemoduck.recall.documents import Integers
from mnemoduck.recall.index import of_known_user
from mnemoduck.recall.levels import Level
from mnemoduck.recall.scoring import Hits

_COLUMNS = ("memory_key", "session_key", "term_frequency", "term_count")

Columns: TypeAlias = tuple[NDArray[np.int64], ...]
"""The columns above, of one term."""


class PostingStore:
    """Reads the postings of terms. Safe between threads.

    Args:
        level: where those are kept that are published, by its budget.
    """

    def __init__(self, asker: Asker, level: Level[Columns]) -> None:
        self._asker = asker
        self._level = level
        self._path: Path | None = None
        self._mutex = threading.Lock()

    def read(self, view: View, term_keys: Integers) -> Hits:
        """Return where terms occur in the memories of the user; `term` is the place of a term among them."""
        parts = [*self._published(view, term_keys.tolist())] if view.snapshot.path is not None else []
        if view.fresh.memory_count:
            known = f"rowid < {view.fresh.posting_count}"  # see FreshTables
            parts += _fetch(view, self._asker, view.fresh.postings, term_keys.tolist(), known)
        places = np.searchsorted(term_keys, [key for key, _ in parts])
        terms = np.repeat(places, [len(columns[0]) for _, columns in parts])
        if not parts:
            return Hits(*(np.empty(0, np.int64),) * 5)
        return Hits(
            terms, *(np.concatenate([columns[number] for _, columns in parts]) for number in range(4))
        )

    def _published(self, view: View, term_keys: Sequence[int]) -> list[tuple[int, Columns]]:
        path, user_id = view.snapshot.path, view.scope.user_id
        with self._mutex:
            if self._path != path:
                self._level.clear()  # what older snapshots had is of no use any more
                self._path = path
        found = {key: columns for key in term_keys if (columns := self._level.get((path, user_id, key)))}
        unknown = [key for key in term_keys if key not in found]
        if unknown:
            for key, columns in _fetch(view, self._asker, "retrieval.search_postings", unknown):
                found[key] = columns
                self._level.put((path, user_id, key), columns)
        return list(found.items())


def _fetch(
    view: View, asker: Asker, table: str, term_keys: Sequence[int], known: str = "true"
) -> list[tuple[int, Columns]]:
    """Return the columns of each of the terms, of those without any row empty ones."""
    condition = f"{of_known_user(asker, view)} and {known} and term_key in ({', '.join(map(str, term_keys))})"
    rows = view.columns(f"select term_key, {', '.join(_COLUMNS)} from {table} where {condition}", {})
    order = np.argsort(rows["term_key"], kind="stable")
    keys = np.sort(np.array(term_keys, np.int64))
    ends = np.searchsorted(rows["term_key"][order], keys, side="right")
    columns = [np.split(rows[name][order], ends[:-1]) for name in _COLUMNS]
    return [
        # Copies: a part of an array would keep all of it.
        (key, tuple(np.array(column[number]) for column in columns))
        for number, key in enumerate(keys.tolist())
    ]
