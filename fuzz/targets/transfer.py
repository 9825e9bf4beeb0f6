"""Exports of the cache of answers that another machine has written."""

from __future__ import annotations

from datetime import datetime
from functools import cache

import duckdb

from fuzz.target import DEAR, Target, may_refuse, scratch_file
from mnemoduck.llm.cache_migrations import migrate
from mnemoduck.llm.cache_transfer import TABLES, import_


@cache
def _cache() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    migrate(connection, "the cache of a fuzzer", datetime(2026, 3, 1))
    return connection


def check(data: bytes) -> None:
    cursor = _cache().cursor()
    file = scratch_file("export.parquet", data)
    before = {table: cursor.execute(f"select count(*) from {table}").fetchone() for table in TABLES}
    with may_refuse():
        for done in import_(cursor, file, 1):
            assert done.taken >= 0
            assert done.known >= 0
            assert done.refused >= 0
            again = import_(cursor, file, 1)
            assert [one.taken for one in again] == [0]
            for table in TABLES:
                cursor.execute(f"delete from {table}")
        return
    after = {table: cursor.execute(f"select count(*) from {table}").fetchone() for table in TABLES}
    assert after == before  # all of it or nothing


TARGETS = (
    Target("transfer", "sound rows are taken once; of a file all is taken or nothing", check, (b"PAR1",),
           max_bytes=16384, weight=DEAR),
)  # fmt: skip
