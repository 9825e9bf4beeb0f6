"""Two snapshots as schemas of a DuckDB in memory: `candidate`, which is checked, and `live`, the one before.

A query names a model by its schema here and its name, as in `from candidate.memory_features`. What the
one before has not, or not with all columns, stands there without rows, as does all if there is none: after an
upgrade, say, some things cannot be compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import duckdb

from mnemoduck.errors import SnapshotError, UsageError

_NAMED = re.compile(r"\b(candidate|live)\.([a-z_][a-z0-9_]*)", re.IGNORECASE)


def make_published_tables(
    connection: duckdb.DuckDBPyConnection, candidate: Path, before: Path | None, queries: Iterable[str]
) -> None:
    """Make a view for each model that the queries name, in each of the two schemas.

    Raises:
        SnapshotError: a snapshot cannot be opened.
        UsageError: a query names a model that the candidate has not.
    """
    named = sorted({found[2].lower() for query in queries for found in _NAMED.finditer(query)})
    connection.execute("create schema candidate; create schema live")
    models = _attach(connection, candidate, "candidate_file")
    models_before = _attach(connection, before, "live_file") if before is not None else {}
    for name in named:
        if name not in models:
            raise UsageError(f"A query of the suite published names the model {name}, which is not built.")
        connection.execute(f'create view candidate."{name}" as from candidate_file.{models[name]}')
        columns = _columns(connection, f"candidate_file.{models[name]}")
        is_alike = name in models_before and columns <= _columns(
            connection, f"live_file.{models_before[name]}"
        )
        if is_alike:
            connection.execute(f'create view live."{name}" as from live_file.{models_before[name]}')
        else:
            connection.execute(f'create table live."{name}" as from candidate."{name}" limit 0')


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, alias: str) -> dict[str, str]:
    """Attach a snapshot read-only, and return its models by name, each with its schema."""
    try:
        quoted = str(path).replace("'", "''")
        connection.execute(f"attach '{quoted}' as {alias} (read_only)")
        rows = connection.execute(
            "select table_schema, table_name from information_schema.tables where table_catalog = $1 "
            "and table_schema in ('main', 'staging', 'retrieval')",
            [alias],
        ).fetchall()
    except duckdb.Error as error:
        raise SnapshotError(f"The snapshot {path} cannot be opened: {str(error).splitlines()[0]}.") from error
    return {name: f'"{schema}"."{name}"' for schema, name in rows}


def _columns(connection: duckdb.DuckDBPyConnection, relation: str) -> set[str]:
    return {row[0] for row in connection.execute(f"describe {relation}").fetchall()}
