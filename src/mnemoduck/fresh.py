"""What arrived since the last published build, as tables that queries can put beside the snapshot.

Readers see their own writes, and those of every other process, before the pipeline has run: the
events of the inbox that the snapshot does not contain are parsed once per process and kept as tables
of the reader's in-memory instance. Their columns are those of the models that they stand beside.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from mnemoduck.events import Event, ForgetPayload, MemoryPayload
from mnemoduck.home import Home
from mnemoduck.inbox import FreshEvents
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

_MEMORIES = """
    create table {table} as
    select
        cast(memory_id as uuid) as memory_id,
        user_id,
        agent_id,
        session_id,
        content,
        content_hash,
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
    -- As in staging, one after the other: the same event twice, then a retry under another id, are one
    -- memory, the one that arrived first.
    from (
        select *, {content_hash} as content_hash
        from {source}
        qualify row_number() over (partition by memory_id order by arrival) = 1
    )
    qualify
        row_number() over (
            partition by user_id, agent_id, session_id, occurred_at, role, content_hash order by arrival
        ) = 1
"""

_DOCUMENTS = """
    create table {table} as
    select
        memory_id,
        {memory_key} as memory_key,
        {user_key} as user_key,
        {session_key} as session_key,
        user_id,
        agent_id,
        session_id,
        content_hash,
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
    create table {table} as
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


@dataclass(frozen=True)
class FreshTables:
    """Names of the tables with what is fresh. `forgets` are the orders to forget among it."""

    memory_count: int
    memories: str
    postings: str
    documents: str
    forgets: list[tuple[Event, ForgetPayload]] = field(default_factory=list)


class FreshReader:
    """Pairs the newest snapshot with the fresh tables that belong to it. Safe between threads."""

    def __init__(self, home: Home, reader: SnapshotReader, project: Path) -> None:
        self._events = FreshEvents(home)
        self._reader = reader
        self._project = project
        self._mutex = threading.Lock()
        self._numbers = itertools.count(1)
        self._snapshot: Snapshot | None = None
        self._tables: FreshTables | None = None
        self._is_stale = True
        self._older: list[str] = []

    def get(self) -> tuple[Snapshot, FreshTables]:
        with self._mutex:
            # A segment is deleted only after CURRENT names a snapshot that contains it. So what is
            # not in this listing is in the snapshot that CURRENT names afterwards; if that is a newer
            # one, the listing is made again for it.
            while True:
                snapshot = self._reader.get()
                events, is_changed = self._events.read(snapshot.batch_seq)
                if self._reader.get() is snapshot:
                    break
            self._is_stale |= is_changed or self._snapshot is not snapshot
            if self._is_stale or self._tables is None:
                self._tables = self._make_tables(snapshot, events)
                self._snapshot = snapshot
                self._is_stale = False
            return snapshot, self._tables

    def _make_tables(self, snapshot: Snapshot, events: Sequence[Event]) -> FreshTables:
        """Make the tables under new names: queries that run on the old ones are not disturbed."""
        number = next(self._numbers)
        memories = [event for event in events if event.event_type == "memory"]
        tables = FreshTables(
            memory_count=len(memories),
            memories=f"memory.main.fresh_memories_{number}",
            postings=f"memory.main.fresh_postings_{number}",
            documents=f"memory.main.fresh_documents_{number}",
            forgets=[
                (event, ForgetPayload.model_validate(event.payload))
                for event in events
                if event.event_type == "forget"
            ],
        )
        cursor = snapshot.cursor()
        rows = f"fresh_input_{number}"
        cursor.register(rows, _to_table(memories))
        try:
            cursor.execute(self._fill(_MEMORIES, tables.memories, rows))
        finally:
            cursor.unregister(rows)
        cursor.execute(self._fill(_POSTINGS, tables.postings, tables.memories))
        cursor.execute(self._fill(_DOCUMENTS, tables.documents, tables.memories))
        self._drop_older(cursor, snapshot)
        return tables

    def _fill(self, statement: str, table: str, source: str) -> str:
        return statement.format(
            table=table,
            source=source,
            content_hash=render(
                self._project, "hash_key", (render(self._project, "normalised_text", "content"),)
            ),
            default_importance=variables(self._project)["default_importance"],
            memory_key=render(self._project, "short_key", "cast(memory_id as varchar)"),
            user_key=render(self._project, "search_user_key", "user_id"),
            session_key=render(
                self._project,
                "search_session_key",
                "user_id",
                "agent_id",
                "session_id",
                "occurred_at",
                "memory_id",
            ),
            words=render(self._project, "search_words", "content"),
            is_question=render(self._project, "is_question", "content"),
            terms=render(self._project, "search_terms", "vocabulary"),
        )

    def _drop_older(self, cursor: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
        """Drop the tables before the last: a query of another thread may still use the last."""
        if self._tables is None or self._snapshot is not snapshot:
            self._older = []
            return
        for name in self._older:
            cursor.execute(f"drop table if exists {name}")
        self._older = [self._tables.memories, self._tables.postings, self._tables.documents]


def _to_table(memories: Sequence[Event]) -> pa.Table:
    rows = [_to_row(event, arrival) for arrival, event in enumerate(memories)]
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
