"""How the tables of llm_cache.duckdb come to be: statements with names, each applied once, in order."""

from __future__ import annotations

from datetime import datetime

import duckdb

from mnemoduck.errors import StorageError

MIGRATIONS: dict[str, str] = {
    "0001-responses-embeddings-runs": """
        create table responses (
            key uuid primary key,
            algorithm varchar not null,
            template varchar not null,
            template_version integer not null,
            settings_hash uuid not null,
            instructions varchar not null,
            input_characters integer not null,
            input varchar not null,
            input_hash uuid not null,
            model varchar not null,
            model_digest varchar,
            options varchar not null,
            response_schema varchar not null,
            response varchar,
            answer varchar,
            error varchar,
            prompt_tokens bigint not null,
            answer_tokens bigint not null,
            latency_ms double not null,
            created_at timestamp not null,
            last_used_at timestamp not null,
            use_count bigint not null,
            response_seq bigint not null
        );
        create table embeddings (
            key uuid primary key,
            algorithm varchar not null,
            template varchar not null,
            template_version integer not null,
            settings_hash uuid not null,
            input_characters integer not null,
            input_hash uuid not null,
            model varchar not null,
            model_digest varchar,
            options varchar not null,
            dimension integer,
            vector float[],
            error varchar,
            prompt_tokens bigint not null,
            latency_ms double not null,
            created_at timestamp not null,
            last_used_at timestamp not null,
            use_count bigint not null,
            response_seq bigint not null
        );
        create table models (
            model varchar primary key,
            model_digest varchar,
            seen_at timestamp not null
        );
        create table runs (
            run_id uuid not null,
            model varchar not null,
            kind varchar not null,
            mode varchar not null,
            started_at timestamp not null,
            ended_at timestamp not null,
            prompts bigint not null,
            distinct_prompts bigint not null,
            hits bigint not null,
            misses bigint not null,
            failures bigint not null,
            pending bigint not null,
            calls bigint not null,
            attempts bigint not null,
            prompt_tokens bigint not null,
            answer_tokens bigint not null,
            tokens_saved bigint not null,
            seconds_spent double not null,
            seconds_saved double not null,
            latency_p50_ms double,
            latency_p95_ms double,
            latency_p99_ms double,
            stopped_by varchar,
            primary key (run_id, model, kind)
        );
        create table failures (
            key uuid primary key,
            failures integer not null,
            last_failed_at timestamp not null
        );
    """,
}
"""The statements that make the newest cache of any earlier one, in order, by name."""


def migrate(cursor: duckdb.DuckDBPyConnection, file: str, at: datetime) -> None:
    """Bring the tables of the cursor's default database up to date, in one transaction.

    Args:
        file: how messages name the database.
        at: the moment that is recorded for migrations applied now; naive UTC.

    Raises:
        StorageError: the database was written by a later mnemoduck, or holds something else.
        duckdb.Error: the database cannot be read or written.
    """
    tables = {
        name
        for (name,) in cursor.execute(
            "select table_name from duckdb_tables() where database_name = current_database()"
        ).fetchall()
    }
    if tables and "migrations" not in tables:
        raise StorageError(
            f"{file} is no cache of answers: it holds other tables (such as {sorted(tables)[0]!r}). Move it "
            "away and run again, which starts a new cache."
        )
    applied = _applied(cursor) if tables else []
    for name in applied:
        if name not in MIGRATIONS:
            raise StorageError(
                f"{file} was written by a later mnemoduck (it has the migration {name!r}). Use that release, "
                "or move the file away and run again: models are then asked anew."
            )
    if len(applied) == len(MIGRATIONS):
        return
    cursor.execute("begin")
    try:
        cursor.execute(
            "create table if not exists migrations (name varchar primary key, applied_at timestamp not null)"
        )
        for name, statements in MIGRATIONS.items():
            if name not in applied:
                cursor.execute(statements)
                cursor.execute("insert into migrations values (?, ?)", [name, at])
        cursor.execute("commit")
    except BaseException:
        cursor.execute("rollback")
        raise


def _applied(cursor: duckdb.DuckDBPyConnection) -> list[str]:
    return [name for (name,) in cursor.execute("select name from migrations order by name").fetchall()]
