"""The documents that ranking reads: the same whether they are published or fresh, resident or not."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pytest

from mnemoduck.asking import Asker, View
from mnemoduck.events import new_event
from mnemoduck.fresh import FreshReader, FreshTables
from mnemoduck.home import Home
from mnemoduck.inbox import InboxWriter
from mnemoduck.project import find_project
from mnemoduck.recall.documents import Corpus, Documents, DocumentStore
from mnemoduck.recall.levels import Level
from mnemoduck.recall.postings import Columns, PostingStore
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot, SnapshotReader

START = datetime(2026, 3, 1, tzinfo=UTC)
ROLES = ("user", "Maya", None, "assistant")
_numbers = itertools.count(1)


@pytest.fixture
def asker(home: Home) -> Asker:
    """40 memories of two users in five sessions, which arrived in no order."""
    InboxWriter(home).append(
        [
            new_event(
                "memory",
                {"content": f"pond {number % 7}?", "role": ROLES[number % 4]},
                user_id="uv"[number % 10 == 0],
                session_id=str(number % 5),
                occurred_at=START + timedelta(minutes=number * 17 % 40 // 2),
                event_id=UUID(int=number * 29 % 40 + (number << 70)),
            ).to_line()
            for number in range(1, 41)
        ]
    )
    return Asker(FreshReader(home, SnapshotReader(home), find_project()), find_project())


def publish(home: Home, asker: Asker, condition: str) -> None:
    """Publish the index of what is fresh, as far as it meets a condition. All of it stays in the inbox."""
    snapshot, fresh = asker.view()
    tables = {
        name: snapshot.cursor()
        .execute(
            f"select * from {table} "
            f"where memory_key in (select memory_key from {fresh.documents} where {condition})"
        )
        .to_arrow_table()
        for name, table in (("search_documents", fresh.documents), ("search_postings", fresh.postings))
    }
    columns = {  # Arrow has no type of ids
        "search_documents": "* replace (memory_id::uuid as memory_id, content_hash::uuid as content_hash)",
        "search_postings": "*",
    }
    path = home.published / f"20260101T000000{next(_numbers):06d}Z-{0:012x}.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema staging; create schema retrieval")
        connection.execute("create table staging.raw_batches as select 0::bigint as batch_seq")
        connection.execute(
            "create table staging.int_forgotten_memories (memory_key bigint, forgotten_at timestamp)"
        )
        for name, rows in tables.items():
            connection.register("rows", rows)
            connection.execute(f"create table retrieval.{name} as select {columns[name]} from rows")
            connection.unregister("rows")
    home.current.write_text(path.name + "\n")


def view_of(pair: tuple[Snapshot, FreshTables], user_id: str | None = "u") -> View:
    return View(*pair, Scope(user_id), None, START.replace(tzinfo=None) + timedelta(days=1))


def columns_of(documents: Documents) -> dict[str, Any]:
    names = (
        "memory_key", "session_key", "occurred_at", "id_high", "id_low", "equals", "is_question",
    )  # fmt: skip
    roles = [*documents.roles, None]
    return {name: getattr(documents, name).tolist() for name in names} | {
        "role": [roles[place] for place in documents.role]
    }


def session_keys(view: View) -> Any:
    keys = view.columns(f"select distinct session_key from {view.fresh.documents}", {})["session_key"]
    return np.sort(keys)


@pytest.mark.parametrize("budget", [0, 2**20])
@pytest.mark.parametrize("user_id", ["u", None, "nobody"])
def test_documents_and_postings_are_the_same_wherever_they_are(
    home: Home, asker: Asker, budget: int, user_id: str | None
) -> None:
    before = view_of(asker.view(), user_id)
    keys = session_keys(before)
    terms = np.sort(before.columns(f"select distinct term_key from {before.fresh.postings}", {})["term_key"])
    documents = DocumentStore(asker, Level(budget, largest_share=1 / 2))
    postings = PostingStore(asker, Level(budget))
    expected = columns_of(documents.of_sessions(before, keys))
    count, term_count = documents.measure(before)
    hits = postings.read(before, terms)
    assert count == len(expected["memory_key"]) == {"u": 36, None: 40, "nobody": 0}[user_id]
    assert not np.any(np.diff(expected["session_key"]) < 0)
    publish(home, asker, "is_question and memory_key % 3 > 0")
    after = view_of(asker.view(), user_id)
    assert 0 < after.fresh.memory_count < 40
    for _ in range(2):  # read, and kept
        merged = documents.of_sessions(after, keys)
        assert columns_of(merged) == expected
        assert documents.measure(after) == (count, term_count)
        again = postings.read(after, terms)
        for name in ("term", "memory_key", "session_key", "frequency", "length"):
            order, before_order = (np.lexsort((one.term, one.memory_key)) for one in (again, hits))
            assert getattr(again, name)[order].tolist() == getattr(hits, name)[before_order].tolist()
    if user_id != "nobody":
        assert 0 < merged.is_fresh.sum() < len(merged)
        some = documents.of_sessions(after, keys[1::2])
        assert set(some.session_key.tolist()) == {*keys[1::2].tolist()} & {*expected["session_key"]}


def test_what_is_kept_of_a_snapshot_goes_with_it(home: Home, asker: Asker) -> None:
    level: Level[Corpus] = Level(2**20, largest_share=1 / 2)
    posting_level: Level[Columns] = Level(2**20)
    documents, postings = DocumentStore(asker, level), PostingStore(asker, posting_level)
    first_view = view_of(asker.view())
    keys = session_keys(first_view)
    terms = np.sort(
        first_view.columns(f"select distinct term_key from {first_view.fresh.postings}", {})["term_key"]
    )
    kept: list[Path | None] = []
    for condition, count in (("memory_key % 2 = 0", None), ("true", 36)):
        publish(home, asker, condition)
        view = view_of(asker.view())
        for user_id in ("u", "v"):
            documents.of_sessions(view_of(asker.view(), user_id), keys)
        assert len(postings.read(view, terms).term)
        kept.append(view.snapshot.path)
        assert level.statistics.entries == 2
        assert posting_level.statistics.entries == len(terms)
        assert level.peek((view.snapshot.path, "u")) is not None
        if count is not None:
            assert documents.measure(view)[0] == count
        asker = Asker(FreshReader(home, SnapshotReader(home), find_project()), find_project())
    assert kept[0] != kept[1]
    assert level.peek((kept[0], "u")) is None
