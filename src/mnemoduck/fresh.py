"""What arrived since the last published build, as tables that queries can put beside the snapshot.

Readers see their own writes, and those of every other process, before the pipeline has run: the
events of the inbox that the snapshot does not contain are parsed once per process and kept as tables
of the reader's in-memory instance. Their columns are those of the models that they stand beside.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from mnemoduck.events import LATEST, Event, ForgetPayload
from mnemoduck.fresh_tables import FilledTables
from mnemoduck.home import Home
from mnemoduck.inbox import VISIBLE_EVENT_TYPES, Arrived, FreshEvents
from mnemoduck.warehouse import Snapshot, SnapshotReader

MAX_USERS_TOLD_APART = 65_536
"""Of more users with news in one process, all are taken to have some, and it begins again."""


@dataclass(frozen=True)
class FreshTables:
    """Names of the tables with what is fresh. `forgets` are the orders to forget among it.

    No memory in them is in the snapshot that they belong to. The tables grow while they are read, at their
    end: whoever reads them by several statements that have to agree takes only the rows that are counted
    here, `rowid < memory_count` of memories and documents, `rowid < posting_count` of postings.
    """

    memory_count: int
    posting_count: int
    memories: str
    postings: str
    documents: str
    forgets: list[tuple[Event, ForgetPayload]] = field(default_factory=list)


class Changes:
    """When something changed last, for whom, in ticks of an own clock. Written by one thread at a time.

    A new memory changes what its user is answered, and what is asked of any user: statistics of words are
    those of a user. An order to forget that names no user is for everyone.
    """

    def __init__(self) -> None:
        self.now = 0
        self._everyone = 0
        self._users: dict[str, int] = {}

    def note_everyone(self) -> None:
        self._everyone = self.now + 1
        self.now += 1

    def note(self, event: Event) -> None:
        if event.event_type == "forget" and event.user_id is None:
            self.note_everyone()
        elif event.user_id is None:  # of nobody: only questions about any user see it
            self.now += 1
        else:
            if len(self._users) >= MAX_USERS_TOLD_APART and event.user_id not in self._users:
                self.note_everyone()
                self._users.clear()
            self._users[event.user_id] = self.now + 1
            self.now += 1  # last: who has read it has what it stands for

    def last(self, user_id: str | None) -> int:
        """Return the tick of the last change to what is answered about a user, or about any if None."""
        return self.now if user_id is None else max(self._everyone, self._users.get(user_id, 0))


class _CountedLock:
    """A lock that counts how often a thread had to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waits = 0

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._lock.acquire()
            self.waits += 1

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class FreshReader:
    """Pairs the newest snapshot with the fresh tables that belong to it. Safe between threads.

    `changes` tells what has changed up to the last `get`, of all threads.
    """

    def __init__(self, home: Home, reader: SnapshotReader, project: Path) -> None:
        self.changes = Changes()
        self._events = FreshEvents(home, VISIBLE_EVENT_TYPES)
        self._reader = reader
        self._project = project
        self._mutex = _CountedLock()
        self._numbers = itertools.count(1)
        self._snapshot: Snapshot | None = None
        self._tables: FreshTables | None = None
        self._filled: FilledTables | None = None
        self._older: FilledTables | None = None
        self._waiting: list[Arrived] = []
        self._is_stale = True
        self._due: list[datetime] = []
        self._published_due: tuple[Snapshot | None, datetime, datetime | None] = (None, LATEST, None)

    @property
    def waits(self) -> int:
        """How often a thread had to wait for another one that looked for what has arrived."""
        return self._mutex.waits

    def get(self) -> tuple[Snapshot, FreshTables]:
        with self._mutex:
            # A segment is deleted only after CURRENT names a snapshot that contains it. So what is
            # not in this listing is in the snapshot that CURRENT names afterwards; if that is a newer
            # one, the listing is made again for it.
            while True:
                snapshot = self._reader.get()
                advance = self._events.advance(snapshot.batch_seq)
                self._waiting += advance.added
                for one in advance.added:
                    self.changes.note(one.event)
                if advance.is_reduced:
                    self._is_stale = True
                    self.changes.note_everyone()
                if self._reader.get() is snapshot:
                    break
            if self._snapshot is not snapshot:
                self.changes.note_everyone()
                self._snapshot, self._tables = snapshot, None
                self._filled = self._older = None  # tables go with the instance that they are in
            if self._is_stale or self._tables is None or self._filled is None:
                self._renew(snapshot)
            elif self._waiting:
                self._add(snapshot, self._filled, self._tables)
            assert self._tables is not None
            return snapshot, self._tables

    def next_due(self, after: datetime) -> datetime | None:
        """Return when the next memory that is dated in the future happens; None if there is none."""
        with self._mutex:
            snapshot, since, published = self._published_due
            is_known = since <= after and (published is None or after < published)
            if snapshot is not self._snapshot or not is_known:
                snapshot = self._snapshot
                published = None if snapshot is None else _next_due(snapshot, after)
                self._published_due = (snapshot, after, published)
            moments = [moment for moment in (published, *self._due) if moment is not None]
        return min((moment for moment in moments if moment > after), default=None)

    def _renew(self, snapshot: Snapshot) -> None:
        """Make the tables under new names: queries that run on the old ones are not disturbed."""
        arrived = self._events.arrived()
        filled = FilledTables(snapshot, self._project, next(self._numbers))
        self._waiting, self._due = [], []
        self._is_stale = True  # until it has succeeded
        kept = filled.make(_memories(arrived))
        self._note_due(kept)
        if self._older is not None:  # those before the last: a query of another thread may still use the last
            self._older.drop()
        self._older, self._filled = self._filled, filled
        empty = FreshTables(0, 0, filled.memories, filled.postings, filled.documents)
        self._tables = _with_more(empty, len(kept), filled.posting_count, arrived)
        self._is_stale = False

    def _add(self, snapshot: Snapshot, filled: FilledTables, tables: FreshTables) -> None:
        """Append what has arrived; made anew if that belongs before something that is there."""
        arrived = self._waiting
        self._is_stale = True
        memories = _memories(arrived)
        kept = filled.add(memories) if memories else []
        if kept is None:
            self._renew(snapshot)
            return
        self._note_due(kept)
        self._tables = _with_more(tables, len(kept), filled.posting_count, arrived)
        self._waiting = []
        self._is_stale = False

    def _note_due(self, kept: Iterable[Arrived]) -> None:
        now = datetime.now(UTC)
        moments = (*self._due, *(one.event.occurred_at for one in kept))
        self._due = [moment for moment in moments if moment > now]


def _next_due(snapshot: Snapshot, after: datetime) -> datetime | None:
    if snapshot.path is None:
        return None
    row = (
        snapshot.cursor()
        .execute(
            "select min(occurred_at) from retrieval.search_documents where occurred_at > $1", [_naive(after)]
        )
        .fetchone()
    )
    return row[0].replace(tzinfo=UTC) if row and row[0] is not None else None


def _with_more(
    tables: FreshTables, count: int, posting_count: int, arrived: Iterable[Arrived]
) -> FreshTables:
    orders = [
        (one.event, ForgetPayload.model_validate(one.event.payload))
        for one in arrived
        if one.event.event_type == "forget"
    ]
    return replace(
        tables,
        memory_count=tables.memory_count + count,
        posting_count=posting_count,
        forgets=tables.forgets + orders,
    )


def _memories(arrived: Iterable[Arrived]) -> list[Arrived]:
    return [one for one in arrived if one.event.event_type == "memory"]


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)
