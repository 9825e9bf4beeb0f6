"""The tables of what is fresh: filled by the definitions that the models have, by as much as has arrived.

Most of the cost of one memory is planning these statements, which hold a list of words. They are not
prepared: DuckDB 1.5.5 keeps the statistics of a table in the plan, and one that was made while the staging
table was empty takes `session_id is null` for false ever after.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from mnemoduck.events import Event, MemoryPayload
from mnemoduck.inbox import Arrived
from mnemoduck.project import render, variables
from mnemoduck.warehouse import Snapshot

_COLUMNS = {
    "arrival": "bigint",
    "memory_id": "varchar",
    "user_id": "varchar",
    "agent_id": "varchar",
    "session_id": "varchar",
    "content": "varchar",
    "role": "varchar",
    "memory_type": "varchar",
    "tags": "varchar[]",
    "metadata": "varchar",
    "importance": "double",
    "occurred_at": "timestamp",
    "recorded_at": "timestamp",
}

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

_HASHED = "select {content_hash} from {source} order by arrival"

_PUBLISHED = """
    select cast(memory_id as varchar) from retrieval.search_documents
    where memory_key in (select {memory_key} from {source})
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


class FilledTables:
    """Tables in a snapshot's instance: made with what there is, then added to. Not for two threads at once.

    `posting_count` tells how many rows the postings have.

    Args:
        number: their own among the tables of the instance.
    """

    def __init__(self, snapshot: Snapshot, project: Path, number: int) -> None:
        self.memories = f"memory.main.fresh_memories_{number}"
        self.postings = f"memory.main.fresh_postings_{number}"
        self.documents = f"memory.main.fresh_documents_{number}"
        self._staged = f"memory.main.fresh_staged_{number}"
        self._rows = f"fresh_rows_{number}"
        self._cursor = snapshot.cursor()
        self._known = _Known()
        self.posting_count = 0
        names = _macros(project) | {"source": self._staged}
        self._hashed = _HASHED.format(**names)
        self._published = None if snapshot.path is None else _PUBLISHED.format(**names)
        self._contents = {
            self.memories: _MEMORIES.format(**names),
            self.postings: _POSTINGS.format(**names),
            self.documents: _DOCUMENTS.format(**names),
        }

    def make(self, memories: Sequence[Arrived]) -> list[Arrived]:
        """Make the tables of those that are memories of their own and not in the snapshot; return these.

        As in staging: the same event twice, then a retry under another id, are one memory, the one that
        arrived first.
        """
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        self._cursor.execute(f"create table {self._staged} ({columns})")
        kept, _ = self._stage(memories)
        for table, content in self._contents.items():
            self._cursor.execute(f"create table {table} as {content}")
        self._cursor.execute(f"delete from {self._staged}")
        self._count_postings()
        return kept

    def add(self, memories: Sequence[Arrived]) -> list[Arrived] | None:
        """Add what has arrived since, all at once, and return what was added; see `make`.

        If something arrived before what it is the same as, nothing is added and None returned: the tables
        have to be made anew.
        """
        self._cursor.execute("begin")
        try:
            kept, is_in_order = self._stage(memories)
            if is_in_order and kept:
                for table, content in self._contents.items():
                    self._cursor.execute(f"insert into {table} {content}")
            self._cursor.execute(f"delete from {self._staged}")
            self._cursor.execute("commit")
        except BaseException:
            self._cursor.execute("rollback")
            raise
        if is_in_order and kept:
            self._count_postings()
        return kept if is_in_order else None

    def drop(self) -> None:
        for table in (*self._contents, self._staged):
            self._cursor.execute(f"drop table if exists {table}")

    def _count_postings(self) -> None:
        row = self._cursor.execute(f"select count(*) from {self.postings}").fetchone()
        assert row is not None
        self.posting_count = row[0]

    def _stage(self, memories: Sequence[Arrived]) -> tuple[list[Arrived], bool]:
        """Put what is to be added into the staging table; return it, and whether all arrived in order."""
        if not memories:
            return [], True
        self._cursor.register(self._rows, _to_table(memories))
        try:
            self._cursor.execute(f"insert into {self._staged} select * from {self._rows}")
        finally:
            self._cursor.unregister(self._rows)
        hashes = self._cursor.execute(self._hashed).fetchall()
        published: set[str] = set()
        if self._published is not None:
            published = {row[0] for row in self._cursor.execute(self._published).fetchall()}
        kept = []
        left_out = []
        is_in_order = True
        for arrival, (one, (content_hash,)) in enumerate(zip(memories, hashes, strict=True)):
            is_new, is_late = self._known.add(one, content_hash)
            is_in_order &= not is_late
            if is_new and str(one.event.event_id) not in published:
                kept.append(one)
            else:
                left_out.append(arrival)
        if left_out:
            self._cursor.execute(
                f"delete from {self._staged} where arrival in (select unnest($1))", [left_out]
            )
        return kept, is_in_order


class _Known:
    """The memories that are told apart already, by their ids and by what makes a retry of them."""

    def __init__(self) -> None:
        self._by_id: dict[str, tuple[str, int]] = {}
        self._by_content: dict[tuple[Any, ...], tuple[str, int]] = {}

    def add(self, one: Arrived, content_hash: UUID) -> tuple[bool, bool]:
        """Return whether it is a memory of its own, and whether it belongs before what it is the same as."""
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


def _macros(project: Path) -> dict[str, Any]:
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
        "occurred_at": event.occurred_at.replace(tzinfo=None),
        "recorded_at": event.recorded_at.replace(tzinfo=None),
    }
