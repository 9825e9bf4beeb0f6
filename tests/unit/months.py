"""Partitioned models as macros/partitions leaves them, written by hand: a few rows in a few months."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import duckdb

Row = tuple[object, datetime, str]
"""Its key, its time (naive, UTC), a text."""


def uuid7(moment: datetime, number: int = 0) -> UUID:
    milliseconds = int(moment.replace(tzinfo=UTC).timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | number)


def write_months(
    connection: duckdb.DuckDBPyConnection,
    home: Path,
    rows: Iterable[Row],
    *,
    model: str = "notes_by_month",
    key_type: str = "uuid",
    empty: Collection[str] = ("2026-12",),
    cold: Collection[str] = (),
    dropped: Collection[str] = (),
    without_text: Collection[str] = (),
) -> None:
    """Make the tables, the files and the view of a model; months are named like 2025-03."""
    by_month: dict[str, list[Row]] = {label: [] for label in (*empty, *dropped)}
    for row in rows:
        by_month.setdefault(f"{row[1]:%Y-%m}", []).append(row)
    schema = f"{model}__months"
    settings = {
        "unique_key": ["id"],
        "time": "happened_at",
        "row_hash": "row_hash",
        "compound_index": [],
        "indexes": [],
    }
    connection.execute(f"create schema {schema}")
    connection.execute(
        f"create table {schema}.catalog (month date, state varchar, row_count bigint, tail_rows bigint, "
        "archive_file varchar, archive_bytes bigint, archive_sha256 varchar)"
    )
    connection.execute(f"create table {schema}.key_months (id {key_type}, month date)")
    connection.execute(f"create table {schema}.settings as select $1 as settings", [json.dumps(settings)])
    branches = []
    for label in sorted(by_month):
        kept, first_day = by_month[label], f"{label}-01"
        if label in dropped:
            connection.execute(
                f"insert into {schema}.catalog values ($1, 'dropped', 0, 0, null, null, null)", [first_day]
            )
            continue
        table = f"{schema}.m{label.replace('-', '_')}"
        connection.execute(f"create table {table} (id {key_type}, happened_at timestamp, text varchar)")
        if kept:
            connection.executemany(f"insert into {table} values ($1, $2, $3)", kept)
        connection.execute(f"create index {table.partition('.')[2]}_id on {table} (id)")
        connection.execute(
            f"insert into {schema}.catalog values ($1, 'hot', $2, 0, null, null, null)",
            [first_day, len(kept)],
        )
        branches.append(f"select * from {table}")
        if label in cold:
            columns = "id, happened_at" if label in without_text else "*"
            file = _write_archive(
                connection, home / "archive" / model, label, f"select {columns} from {table}"
            )
            connection.execute(f"drop table {table}")
            connection.execute(
                f"update {schema}.catalog set state = 'cold', archive_file = $1, archive_bytes = $2, "
                "archive_sha256 = $3 where month = $4",
                [
                    str(file.relative_to(home)),
                    file.stat().st_size,
                    hashlib.sha256(file.read_bytes()).hexdigest(),
                    first_day,
                ],
            )
            text = "null as text" if label in without_text else "text"
            branches[-1] = f"select id, happened_at, {text} from read_parquet('{file}')"
        for key, _, _ in kept:
            if not isinstance(key, UUID) or key.version != 7 or _told_by(key) != label:
                connection.execute(f"insert into {schema}.key_months values ($1, $2)", [key, first_day])
    connection.execute(f"create view {model} as {' union all '.join(branches)}")


def _write_archive(connection: duckdb.DuckDBPyConnection, folder: Path, label: str, query: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{label}-0123456789ab.parquet"
    connection.execute(f"copy ({query}) to '{file}' (format parquet)")
    return file


def _told_by(key: UUID) -> str:
    return f"{datetime.fromtimestamp((key.int >> 80) / 1000, UTC):%Y-%m}"
