"""Making room in a cache: what was used least lately goes first."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import duckdb

from mnemoduck.errors import UsageError

SIZES = {
    "responses": (
        "strlen(input) + coalesce(strlen(response), 0) + coalesce(strlen(answer), 0) "
        "+ coalesce(strlen(error), 0)"
    ),
    "embeddings": "4 * coalesce(len(vector), 0) + coalesce(strlen(error), 0)",
}
"""Bytes that a row holds, as SQL, before compression. Instructions and schemas are not counted: they are
the same in all rows of a template, and take next to nothing."""


@dataclass(frozen=True)
class Evicted:
    """What was evicted (in a dry run: what would be), and what stays; bytes as in SIZES."""

    responses: int
    embeddings: int
    bytes: int
    kept: int
    kept_bytes: int


def evict(
    cursor: duckdb.DuckDBPyConnection,
    *,
    unused_since: datetime | None = None,
    max_bytes: int | None = None,
    template: str | None = None,
    below_version: int | None = None,
    failures: bool = False,
    dry_run: bool = False,
) -> Evicted:
    """Remove entries of the cache that is the cursor's default database.

    `template`, `below_version` and `failures` (those with an error, so without an answer or a vector) say
    which entries it is about, else it is about all. Of these go the ones last used before `unused_since`
    (naive UTC), then those used least lately until the others hold `max_bytes` at most; without both, all
    of them.

    DuckDB does not reuse the room of rows deleted from a table with a key, so tables are written anew.

    Raises:
        UsageError: there is nothing to go by, or a number makes no sense.
    """
    if unused_since is None and max_bytes is None and template is None and not failures:
        raise UsageError("Say what to evict: by age, by size, by template, or failures.")
    if below_version is not None and template is None:
        raise UsageError("Versions are those of a template: say which with --template.")
    if max_bytes is not None and max_bytes < 0:
        raise UsageError(f"A size cannot be less than 0 bytes; got {max_bytes}.")
    conditions = {
        "template = $template": template,
        "template_version < $below_version": below_version,
    }
    scope = " and ".join(
        [
            "error is not null" if failures else "true",
            *(sql for sql, value in conditions.items() if value is not None),
        ]
    )
    goes = []
    if unused_since is not None:
        goes.append("last_used_at < $unused_since")
    if max_bytes is not None:
        goes.append("bytes_so_far > $max_bytes")
    values = {
        "template": template,
        "below_version": below_version,
        "unused_since": unused_since,
        "max_bytes": max_bytes,
    }
    cursor.execute("begin")
    try:
        cursor.execute(
            f"""
            create or replace temp table evicted as
            with entries as (
                {" union all ".join(_entries(table, scope) for table in SIZES)}
            ),
            counted as (
                select
                    *,
                    sum(bytes) over (
                        order by last_used_at desc, key rows between unbounded preceding and current row
                    ) as bytes_so_far
                from entries
            )
            select key, kind, bytes from counted where {" or ".join(goes) or "true"}
            """,
            {name: value for name, value in values.items() if value is not None},
        )
        evicted = _count(cursor)
        if not dry_run:
            for table, count in (("responses", evicted.responses), ("embeddings", evicted.embeddings)):
                if count:
                    _write_anew(cursor, table)
        cursor.execute("drop table evicted")
        cursor.execute("rollback" if dry_run else "commit")
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has ended the transaction already
            cursor.execute("rollback")
        raise
    if not dry_run:
        with suppress(duckdb.TransactionException):  # others are reading: the next checkpoint makes the room
            cursor.execute("checkpoint")
    return evicted


def _entries(table: str, scope: str) -> str:
    return f"select key, '{table}' as kind, last_used_at, {SIZES[table]} as bytes from {table} where {scope}"


def _count(cursor: duckdb.DuckDBPyConnection) -> Evicted:
    everything = " union all ".join(
        f"select count(*) as rows, coalesce(sum({size}), 0) as bytes from {table}"
        for table, size in SIZES.items()
    )
    row = cursor.execute(
        f"""
        select
            evicted.responses, evicted.embeddings, evicted.bytes,
            present.rows - evicted.responses - evicted.embeddings, present.bytes - evicted.bytes
        from (
            select
                count(*) filter (kind = 'responses') as responses,
                count(*) filter (kind = 'embeddings') as embeddings,
                coalesce(sum(bytes), 0) as bytes
            from evicted
        ) as evicted,
        (select sum(rows) as rows, sum(bytes) as bytes from ({everything})) as present
        """
    ).fetchone()
    assert row is not None
    return Evicted(*map(int, row))


def _write_anew(cursor: duckdb.DuckDBPyConnection, table: str) -> None:
    """Put a table without the evicted rows in the place of the one that is there."""
    found = cursor.execute(
        "select sql from duckdb_tables() where database_name = current_database() and table_name = ?", [table]
    ).fetchone()
    assert found is not None
    statement = str(found[0])
    head = f"CREATE TABLE {table}("
    assert statement.startswith(head), statement
    cursor.execute(statement.replace(head, f"CREATE TABLE {table}_kept(", 1))
    cursor.execute(f"insert into {table}_kept from {table} anti join evicted using (key)")
    cursor.execute(f"drop table {table}")
    cursor.execute(f"alter table {table}_kept rename to {table}")
