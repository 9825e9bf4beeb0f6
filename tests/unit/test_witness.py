"""The witness of benchmarks finds what it is there to find: here each fault is made, and has to be named."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from benchmarks.witness import count_events, find_faults, find_lost, leftovers

from mnemoduck.events import new_event
from mnemoduck.home import Home
from mnemoduck.inbox import InboxWriter, retire_loaded
from mnemoduck.pipeline.load import load_inbox

TABLES = (
    "staging.stg_memories",
    "main.short_term_memories",
    "main.memory_features",
    "retrieval.search_documents",
)


@pytest.fixture
def told(home: Home) -> list[str]:
    """Ids of memories that were loaded, and are in a published snapshot."""
    ids = [tell(home), tell(home)]
    load_inbox(home)
    retire_loaded(home, 2)
    publish(home, ids)
    return ids


def tell(home: Home) -> str:
    event = new_event("memory", {"content": "something"})
    writer = InboxWriter(home)
    writer.append([event.to_line()])
    writer.close()
    return str(event.event_id)


def publish(home: Home, ids: list[str]) -> Path:
    path = home.published / "20260101T000000000000Z-0.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema staging; create schema retrieval; create schema meta")
        connection.execute("create table meta.model_audits as select 'facts' as model, true as is_audited")
        connection.execute("create table staging.int_forgotten_memories (memory_id uuid)")
        for table in TABLES:
            connection.execute(f"create table {table} as select unnest($1)::uuid as memory_id", [ids])
    home.current.write_text(path.name)
    return path


def change(home: Home, sql: str) -> None:
    with duckdb.connect(str(home.published / home.current.read_text())) as connection:
        connection.execute(sql)


def test_a_sound_home_has_no_faults(home: Home, told: list[str]) -> None:
    assert find_faults(home.path, told, []) == []
    assert count_events(home.path).total() == 2


def test_what_waits_counts_and_what_was_loaded_meanwhile_counts_once(home: Home, told: list[str]) -> None:
    waiting = tell(home)
    assert find_lost(home.path, [*told, waiting]) == []
    load_inbox(home)
    (segment,) = home.loaded.glob("*/*.jsonl")
    shutil.copy(segment, home.inbox)  # the load was committed, and killed before it moved the segment
    assert find_lost(home.path, [*told, waiting]) == []


def test_a_lost_event_is_named(home: Home, told: list[str]) -> None:
    lost = str(new_event("memory", {"content": "never written"}).event_id)
    assert find_lost(home.path, [*told, lost]) == [f"{lost} is lost"]


def test_a_doubled_event_is_named(home: Home, told: list[str]) -> None:
    waiting = tell(home)
    (segment,) = home.inbox.glob("*.jsonl")
    shutil.copy(segment, home.inbox / "twice.jsonl")
    assert find_lost(home.path, [*told, waiting]) == [f"{waiting} is there 2 times"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("update meta.model_audits set is_audited = false", "facts was not tested"),
        ("delete from staging.stg_memories where rowid = 0", "is not in the snapshot"),
        ("insert into staging.stg_memories from staging.stg_memories limit 1", "2 times in the snapshot"),
        ("delete from main.short_term_memories where rowid = 0", "short_term_memories has 1 rows"),
        ("create table main.facts__dbt_tmp as select 1", "facts__dbt_tmp is left behind"),
    ],
)  # fmt: skip
def test_a_snapshot_that_lacks_something_is_found_out(
    home: Home, told: list[str], sql: str, said: str
) -> None:
    change(home, sql)
    assert any(said in fault for fault in find_faults(home.path, told, []))


def test_a_memory_that_is_not_forgotten_though_it_should_be_is_named(home: Home, told: list[str]) -> None:
    assert find_faults(home.path, told, told[:1]) == [f"{told[0]} is not forgotten"]
    change(home, f"insert into staging.int_forgotten_memories values ('{told[0]}')")
    assert find_faults(home.path, told, told[:1]) == []


def test_a_snapshot_that_does_not_open_is_found_out(home: Home, told: list[str]) -> None:
    os.truncate(home.published / home.current.read_text(), 5_000)
    assert any("does not open" in fault for fault in find_faults(home.path, told, []))


def make(name: str, text: str = "x") -> Callable[[Home], object]:
    def change(home: Home) -> None:
        path = home.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return change


@pytest.mark.parametrize(
    "name",
    [
        "home.json.1-2.tmp",
        "inbox/a.open",
        "inbox/a.jsonl",
        "inbox/loaded/000000000009/a.jsonl",
        "raw/.staging/year=2026-month=01-1.parquet",
        "raw/year=2026/month=01/batch-9.parquet",
        "raw/batches.jsonl.1-2.tmp",
        "published/20260101T000000000000Z-1.tmp",
        "quarantine/a.7.tmp",
        "warehouse.duckdb.wal",
        "archive/facts/2026-01.tmp",
        "archive/facts/2026-01-0123456789ab.parquet",
        "llm_cache.duckdb.wal",
    ],
)
def test_what_is_left_behind_is_named(home: Home, told: list[str], name: str) -> None:
    assert leftovers(home.path) == []
    make(name)(home)
    (fault,) = leftovers(home.path)
    assert fault.removesuffix(" is left behind") in (name, str(Path(name).parent))


def test_a_third_snapshot_is_one_too_many(home: Home, told: list[str]) -> None:
    for number in (1, 2):
        shutil.copy(home.published / home.current.read_text(), home.published / f"2025-{number}.duckdb")
    assert leftovers(home.path) == ["published/2025-1.duckdb is left behind"]


def test_a_lock_that_is_held_is_named(home: Home, told: list[str]) -> None:
    home.run_lock.write_text(json.dumps({"pid": 1}))
    with home.run_lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert leftovers(home.path) == ["run.lock is held"]
    assert leftovers(home.path) == []
