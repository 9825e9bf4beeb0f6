"""Snapshots that hold only what expectations on them look at, written in a moment."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb

MARCH = datetime(2026, 3, 10)


def write_snapshot(
    path: Path,
    *,
    memories: int = 400,
    importance: str = "((number * 37) % 100) / 100",
    method: str = "if(number % 2 = 0, 'model', 'lexical')",
    forgotten: int = 4,
    loads: int = 1,
    users: int = 4,
    concepts: str = "['sea']",
) -> Path:
    """Write a snapshot of some memories; the texts are SQL over the `number` of a memory, from 0."""
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            f"""
            create schema staging;
            create table numbers as select range as number from range({memories});
            create table staging.raw_batches as select range + 1 as batch_seq from range({loads});
            create table staging.stg_memories as
                select
                    number as memory_id,
                    'u' || (number % {users}) as user_id,
                    timestamp '{MARCH}' + interval (number) hour as occurred_at,
                    timestamp '{MARCH}' + interval (number) hour as recorded_at
                from numbers;
            create table main.memory_features as
                select
                    number as memory_id,
                    {importance} as importance,
                    {method} as importance_method,
                    {method} as sentiment_method,
                    {method} as task_type_method,
                    {method} as entities_method,
                    {method} as concepts_method,
                    {method} as summary_method,
                    {concepts} as concepts,
                    1 + number // 400 as changed_batch_seq
                from numbers;
            create table staging.int_forgotten_memories as
                select number as memory_id from numbers limit {forgotten};
            create view main.working_memory as
                select
                    'u' || (slot % 1) as user_id,
                    null::varchar as agent_id,
                    null::varchar as session_id,
                    slot,
                    7 as capacity
                from (select range as slot from range(5));
            """
        )
    return path
