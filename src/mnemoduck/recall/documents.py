"""The documents of a user as columns of numpy: what ranking has to know of each memory, whatever is asked.

Those of a scope that fits the budget stay in this process, read once for each snapshot: to plan and execute
the statement that reads those of some sessions takes longer than all the rest of a question.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mnemoduck.asking import Asker, View
from mnemoduck.recall.index import EQUALS, of_documents, of_known_user, span
from mnemoduck.recall.levels import Level, size_of

Integers: TypeAlias = NDArray[np.int64]
Unsigned: TypeAlias = NDArray[np.uint64]
Booleans: TypeAlias = NDArray[np.bool_]

DEFAULT_RESIDENT_BYTES = 256 * 1024 * 1024
LARGEST_RESIDENT_SHARE = 1 / 2
"""A user whose documents take more of the budget is read by statements: others have to fit beside them."""

_ROW_BYTES = 64
"""What a document takes, about."""

_COLUMNS = (
    "memory_key, session_key, epoch_us(occurred_at) as occurred_at, memory_id::blob as memory_id, "
    f"{EQUALS} as equals, is_question, role"
)


@dataclass(frozen=True, eq=False)
class Documents:
    """Rows in the order of session_key, occurred_at (microseconds since 1970), memory_id (in two halves).

    `role` is the place in `roles`, -1 of none.
    """

    memory_key: Integers
    session_key: Integers
    occurred_at: Integers
    id_high: Unsigned
    id_low: Unsigned
    equals: Unsigned
    is_question: Booleans
    is_fresh: Booleans
    role: NDArray[np.int32]
    roles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.memory_key)

    def take(self, rows: Any) -> Documents:
        """Return some of the rows, in the order in which they are asked for."""
        return Documents(**{name: getattr(self, name)[rows] for name in _ARRAYS}, roles=self.roles)

    def of_sessions(self, keys: Integers) -> Documents:
        """Return the rows of sessions whose keys are given in their order."""
        if not len(self):
            return self
        begins, known = self._sessions
        places = np.searchsorted(known, keys)
        places = places[known[np.minimum(places, len(known) - 1)] == keys]
        lengths = begins[places + 1] - begins[places]
        before = np.cumsum(lengths) - lengths
        return self.take(np.repeat(begins[places] - before, lengths) + np.arange(lengths.sum()))

    @cached_property
    def _sessions(self) -> tuple[Integers, Integers]:
        """Where each session begins, and at the end the count of rows; and their keys."""
        begins = np.flatnonzero(np.diff(self.session_key, prepend=self.session_key[0] - 1))
        return np.append(begins, len(self)), self.session_key[begins]


_ARRAYS = (
    "memory_key", "session_key", "occurred_at", "id_high", "id_low", "equals", "is_question", "is_fresh",
    "role",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Corpus:
    """All documents of a user: how many there are, how many words they have, and themselves if they fit."""

    document_count: int
    term_count: int
    documents: Documents | None


class DocumentStore:
    """Keeps the published documents of users, as long as their snapshot is the newest. Safe between threads.

    Args:
        level: where they are kept, by its budget.
    """

    def __init__(self, asker: Asker, level: Level[Corpus]) -> None:
        self._asker = asker
        self._level = level
        self._path: Path | None = None
        self._mutex = threading.Lock()

    def measure(self, view: View) -> tuple[int, int]:
        """Return how many documents the user has, fresh ones included, and how many words they have."""
        published = self._corpus(view)
        counts = (published.document_count, published.term_count)
        if not view.fresh.memory_count:
            return counts
        fresh = _count(view, view.fresh.documents, f"{self._of_user(view)} and {_known(view)}")
        return counts[0] + fresh[0], counts[1] + fresh[1]

    def of_sessions(self, view: View, keys: Integers) -> Documents:
        """Return the user's documents of some sessions, whose keys are given in their order."""
        # `measure` has counted this question's look-up.
        corpus = self._level.peek((view.snapshot.path, view.scope.user_id)) or self._corpus(view)
        condition = f"{self._of_user(view)} and session_key in ({', '.join(map(str, keys))})"
        if corpus.documents is not None:
            parts = [corpus.documents.of_sessions(keys)]
        else:
            parts = [_read(view, "retrieval.search_documents", condition)]
        if view.fresh.memory_count:
            parts.append(_read(view, view.fresh.documents, f"{condition} and {_known(view)}"))
        return _merge(parts)

    def _of_user(self, view: View) -> str:
        return of_documents(of_known_user(self._asker, view), view.scope)

    def _corpus(self, view: View) -> Corpus:
        path = view.snapshot.path
        if path is None:
            return _NOTHING
        place = (path, view.scope.user_id)
        known = self._level.get(place)
        if known is None:
            with self._mutex:  # one thread reads, the others wait for it
                if self._path != path:
                    self._level.clear()  # what older snapshots had is of no use any more
                    self._path = path
                known = self._level.peek(place)
                if known is None:
                    known = self._load(view)
                    self._level.put(place, known)
        return known

    def _load(self, view: View) -> Corpus:
        condition = self._of_user(view)
        most_bytes = self._level.budget_bytes * LARGEST_RESIDENT_SHARE
        if span(view.snapshot).document_count * _ROW_BYTES > most_bytes:
            count, terms = _count(view, "retrieval.search_documents", condition)
            if count * _ROW_BYTES > most_bytes:
                return Corpus(count, terms, None)
        table = _fetch(view, "retrieval.search_documents", condition, more=", term_count")
        corpus = Corpus(
            table.num_rows,
            int(table["term_count"].to_numpy().sum()),
            _to_documents(table, is_fresh=False),
        )
        if size_of(corpus) > most_bytes * 0.99:
            return replace(corpus, documents=None)  # very many roles
        return corpus


def _known(view: View) -> str:
    """Return the condition for fresh documents that had arrived at the moment of a view: what arrives while
    it is read is not known to what was read before."""
    return f"rowid < {view.fresh.memory_count}"


def _count(view: View, table: str, condition: str) -> tuple[int, int]:
    row = view.rows(
        f"select count(*) as documents, coalesce(sum(term_count), 0) as terms from {table} where {condition}",
        {},
    )[0]
    return int(row["documents"]), int(row["terms"])


def _read(view: View, table: str, condition: str) -> Documents:
    return _to_documents(_fetch(view, table, condition), is_fresh=table == view.fresh.documents)


def _fetch(view: View, table: str, condition: str, more: str = "") -> pa.Table:
    return view.table(f"select {_COLUMNS}{more} from {table} where {condition}", {})


def _to_documents(table: pa.Table, *, is_fresh: bool) -> Documents:
    ids = table["memory_id"].combine_chunks()
    halves = np.frombuffer(ids.buffers()[2] if len(ids) else b"", ">u8").reshape(-1, 2)
    roles = table["role"].combine_chunks().dictionary_encode()
    return _in_order(
        Documents(
            memory_key=table["memory_key"].to_numpy(),
            session_key=table["session_key"].to_numpy(),
            occurred_at=table["occurred_at"].to_numpy(),
            id_high=halves[:, 0].astype(np.uint64),
            id_low=halves[:, 1].astype(np.uint64),
            equals=table["equals"].to_numpy(),
            is_question=table["is_question"].to_numpy(),
            is_fresh=np.full(len(table), is_fresh),
            role=roles.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32),
            roles=tuple(roles.dictionary.to_pylist()),
        )
    )


def _in_order(documents: Documents) -> Documents:
    keys = (documents.id_low, documents.id_high, documents.occurred_at, documents.session_key)
    return documents.take(np.lexsort(keys))


def _merge(parts: Sequence[Documents]) -> Documents:
    """Return the rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in parts]) for name in _ARRAYS[:-1]
    }
    roles: list[str] = []
    codes = []
    for one in parts:
        codes.append(np.where(one.role < 0, -1, one.role + len(roles)))
        roles.extend(one.roles)
    return _in_order(Documents(**columns, role=np.concatenate(codes).astype(np.int32), roles=tuple(roles)))


_NO_KEYS: Integers = np.empty(0, np.int64)
_NO_HALVES: Unsigned = np.empty(0, np.uint64)
_NO_TRUTHS: Booleans = np.empty(0, np.bool_)
_NOTHING = Corpus(
    0,
    0,
    Documents(*(_NO_KEYS,) * 3, *(_NO_HALVES,) * 3, *(_NO_TRUTHS,) * 2, role=np.empty(0, np.int32), roles=()),
)
