"""What arrived since the last published build, as tables that queries can put beside the snapshot.

Readers see their own writes, and those of every other process, before the pipeline has run: the
events of the inbox that the snapshot does not contain are parsed once per process and kept as tables
of the reader's in-memory instance. Their columns are those of the models that they stand beside.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa

from mnemoduck.events import LATEST, Event, ForgetPayload, MemoryPayload
from mnemoduck.home import Home
from mnemoduck.inbox import VISIBLE_EVENT_TYPES, Arrived, FreshEvents
from mnemoduck.project import render, variables
from mnemoduck.warehouse import Snapshot, SnapshotReader

_INPUT_SCHEMA = pa.schema(
    [
        ("arrival", pa.int64()),
        ("memory_id", pa.string()),
        ("user_id", pa.string()),
        ("agent_id", pa.string()),
        ("session_id", pa.string()),
        ("content", pa.string()),
        ("role", pa.string()),
        ("memory_type", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("metadata", pa.string()),
        ("importance", pa.float64()),
        ("occurred_at", pa.timestamp("us")),
        ("recorded_at", pa.timestamp("us")),
    ]
)

_HASHED = """
    select {content_hash} from {source} order by arrival
"""

_PUBLISHED = """
    select cast(memory_id as varchar) from retrieval.search_documents where memory_key in ({memory_keys})
"""

_MEMORIES = """
    select
        cast(memory_id as uuid) as memory_id,
        user_id,
        agent_id,
        session_id,
        content,
        {content_hash} as content_hash,
        role,
        memory_type,
        tags,
        metadata,
        coalesce(importance, {default_importance}) as importance,
        cast(null as double) as urgency,
        cast(null as double) as emotional_salience,
        occurred_at,
        recorded_at,
        cast(null as timestamp) as forgotten_at
    from {source}
"""

_DOCUMENTS = """
    select
        cast(memory_id as uuid) as memory_id,
        {memory_key} as memory_key,
        {user_key} as user_key,
        {session_key} as session_key,
        user_id,
        agent_id,
        session_id,
        {content_hash} as content_hash,
        role,
        memory_type,
        tags,
        cast(len({words}) as integer) as term_count,
        {is_question} as is_question,
        occurred_at,
        recorded_at
    from {source}
"""

_POSTINGS = """
    with
    placed as (
        select
            {memory_key} as memory_key,
            {user_key} as user_key,
            {session_key} as session_key,
            {words} as words
        from {source}
    ),
    occurrences as (
        select
            memory_key, user_key, session_key,
            cast(len(words) as integer) as term_count,
            unnest(words) as word
        from placed
    ),
    vocabulary as (select distinct word from occurrences),
    terms as ({terms})
    select
        user_key, term_key, memory_key, session_key,
        cast(count(*) as integer) as term_frequency, term_count
    from occurrences inner join terms on occurrences.word = terms.word
    group by all
"""

MAX_USERS_TOLD_APART = 65_536
"""Of more users with news in one process, all are taken to have some, and it begins again."""


@dataclass(frozen=True)
class FreshTables:
    """Names of the tables with what is fresh. `forgets` are the orders to forget among it.

    No memory in them is in the snapshot that they belong to.
    """

    memory_count: int
    memories: str
    postings: str
    documents: str
    forgets: list[tuple[Event, ForgetPayload]] = field(default_factory=list)


class Changes:
    """When something changed last, for whom, in ticks of an own clock. Written by one thread at a time.

    A new memory changes what its user is answered, and what is asked of any user: statistics of words are
    those of a user. An order to forget by ids is for everyone, since nobody looks up whose they are.
    """

    def __init__(self) -> None:
        self.now = 0
        self._everyone = 0
        self._users: dict[str, int] = {}

    def note_everyone(self) -> None:
        self._everyone = self.now + 1
        self.now += 1

    def note(self, event: Event) -> None:
        is_of_one_user = event.user_id is not None and not event.payload.get("memory_ids")
        if event.event_type == "forget" and not is_of_one_user:
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


class FreshReader:
    """Pairs the newest snapshot with the fresh tables that belong to it. Safe between threads.

    `changes` tells what has changed up to the last `get`, of all threads.
    """

    def __init__(self, home: Home, reader: SnapshotReader, project: Path) -> None:
        self.changes = Changes()
        self._events = FreshEvents(home, VISIBLE_EVENT_TYPES)
        self._reader = reader
        self._project = project
        self._mutex = threading.Lock()
        self._numbers = itertools.count(1)
        self._snapshot: Snapshot | None = None
        self._tables: FreshTables | None = None
        self._known = _Known()
        self._waiting: list[Arrived] = []
        self._is_stale = True
        self._older: list[str] = []
        self._due: list[datetime] = []
        self._published_due: tuple[Snapshot | None, datetime, datetime | None] = (None, LATEST, None)

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
                self._snapshot, self._tables, self._older = snapshot, None, []
            if self._is_stale or self._tables is None:
                self._renew(snapshot)
            elif self._waiting:
                self._add(snapshot, self._tables)
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
        self._is_stale = True  # until it has succeeded
        number = next(self._numbers)
        tables = FreshTables(
            memory_count=0,
            memories=f"memory.main.fresh_memories_{number}",
            postings=f"memory.main.fresh_postings_{number}",
            documents=f"memory.main.fresh_documents_{number}",
        )
        arrived = self._events.arrived()
        self._known = _Known()
        self._due = []
        self._waiting = []
        cursor = snapshot.cursor()
        kept, _ = self._tell_apart(cursor, snapshot, _memories(arrived))
        self._fill(cursor, "create table {table} as {query}", tables, kept)
        for name in self._older:  # those before the last: a query of another thread may still use the last
            cursor.execute(f"drop table if exists {name}")
        last = self._tables
        self._older = [] if last is None else [last.memories, last.postings, last.documents]
        self._tables = _with_more(tables, len(kept), arrived)
        self._is_stale = False

    def _add(self, snapshot: Snapshot, tables: FreshTables) -> None:
        """Append what has arrived; made anew if that must be put before something that is there."""
        self._is_stale = True
        arrived = self._waiting
        kept: list[Arrived] = []
        is_in_order = True
        if memories := _memories(arrived):
            cursor = snapshot.cursor()
            kept, is_in_order = self._tell_apart(cursor, snapshot, memories)
            if kept and is_in_order:
                self._fill(cursor, "insert into {table} {query}", tables, kept)
        if not is_in_order:
            self._renew(snapshot)
            return
        self._waiting = []
        self._tables = _with_more(tables, len(kept), arrived)
        self._is_stale = False

    def _tell_apart(
        self, cursor: duckdb.DuckDBPyConnection, snapshot: Snapshot, memories: list[Arrived]
    ) -> tuple[list[Arrived], bool]:
        """Return those that are memories of their own and not in the snapshot, and whether all came in order.

        As in staging: the same event twice, then a retry under another id, are one memory, the one that
        arrived first.
        """
        if not memories:
            return [], True
        rows = f"fresh_input_{next(self._numbers)}"
        cursor.register(rows, _to_table(memories))
        try:
            hashes = cursor.execute(self._statement(_HASHED, rows)).fetchall()
            published: set[str] = set()
            if snapshot.path is not None:
                keys = f"select {self._macros()['memory_key']} from {rows}"
                statement = _PUBLISHED.format(memory_keys=keys)
                published = {row[0] for row in cursor.execute(statement).fetchall()}
        finally:
            cursor.unregister(rows)
        kept = []
        is_in_order = True
        for one, (content_hash,) in zip(memories, hashes, strict=True):
            is_new, is_late = self._known.add(one, content_hash)
            is_in_order &= not is_late
            if is_new and str(one.event.event_id) not in published:
                kept.append(one)
        now = datetime.now(UTC)
        self._due = [
            moment for moment in (*self._due, *(one.event.occurred_at for one in kept)) if moment > now
        ]
        return kept, is_in_order

    def _fill(
        self, cursor: duckdb.DuckDBPyConnection, into: str, tables: FreshTables, kept: list[Arrived]
    ) -> None:
        rows = f"fresh_input_{next(self._numbers)}"
        cursor.register(rows, _to_table(kept))
        cursor.execute("begin")
        try:
            for table, query in (
                (tables.memories, _MEMORIES),
                (tables.postings, _POSTINGS),
                (tables.documents, _DOCUMENTS),
            ):
                cursor.execute(into.format(table=table, query=self._statement(query, rows)))
            cursor.execute("commit")
        except BaseException:
            cursor.execute("rollback")
            raise
        finally:
            cursor.unregister(rows)

    def _statement(self, query: str, source: str) -> str:
        return query.format(source=source, **self._macros())

    def _macros(self) -> dict[str, Any]:
        project = self._project
        return {
            "content_hash": render(project, "hash_key", (render(project, "normalised_text", "content"),)),
            "default_importance": variables(project)["default_importance"],
            "memory_key": render(project, "short_key", "cast(memory_id as varchar)"),
            "user_key": render(project, "search_user_key", "user_id"),
            "session_key": render(
                project, "search_session_key", "user_id", "agent_id", "session_id", "occurred_at", "memory_id"
            ),
            "words": render(project, "search_words", "content"),
            "is_question": render(project, "is_question", "content"),
            "terms": render(project, "search_terms", "vocabulary"),
        }


class _Known:
    """The memories that are told apart already, by their ids and by what makes a retry of them."""

    def __init__(self) -> None:
        self._by_id: dict[str, tuple[str, int]] = {}
        self._by_content: dict[tuple[Any, ...], tuple[str, int]] = {}

    def add(self, one: Arrived, content_hash: UUID) -> tuple[bool, bool]:
        """Return whether it is a memory of its own, and whether it comes before one that it is the same as."""
        event = one.event
        role = event.payload.get("role")
        content = (event.user_id, event.agent_id, event.session_id, event.occurred_at, role, content_hash)
        memory_id = str(event.event_id)
        same = [self._by_id.get(memory_id), self._by_content.get(content)]
        first = [place for place in same if place is not None]
        if first:
            self._by_id.setdefault(memory_id, one.place)
            return False, any(place > one.place for place in first)
        self._by_id[memory_id] = self._by_content[content] = one.place
        return True, False


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


def _with_more(tables: FreshTables, count: int, arrived: Iterable[Arrived]) -> FreshTables:
    orders = [
        (one.event, ForgetPayload.model_validate(one.event.payload))
        for one in arrived
        if one.event.event_type == "forget"
    ]
    return replace(tables, memory_count=tables.memory_count + count, forgets=tables.forgets + orders)


def _memories(arrived: Iterable[Arrived]) -> list[Arrived]:
    return [one for one in arrived if one.event.event_type == "memory"]


def _to_table(memories: Sequence[Arrived]) -> pa.Table:
    rows = [_to_row(one.event, arrival) for arrival, one in enumerate(memories)]
    return pa.Table.from_pylist(rows, schema=_INPUT_SCHEMA)


def _to_row(event: Event, arrival: int) -> dict[str, object]:
    memory = MemoryPayload.model_validate(event.payload)
    return {
        "arrival": arrival,
        "memory_id": str(event.event_id),
        "user_id": event.user_id,
        "agent_id": event.agent_id,
        "session_id": event.session_id,
        "content": memory.content,
        "role": memory.role,
        "memory_type": memory.memory_type,
        "tags": memory.tags,
        "metadata": json.dumps(memory.metadata, ensure_ascii=False),
        "importance": memory.importance,
        "occurred_at": _naive(event.occurred_at),
        "recorded_at": _naive(event.recorded_at),
    }


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)
