"""The schema of the warehouse: a version that is raised where an incremental build cannot follow.

Tables of the warehouse keep rows over many runs. dbt adds a column that is new to a model, empty in the rows
that are there; a column of another meaning, another type, another key or another grain it cannot make of
them. Whoever changes a model like that raises SCHEMA_VERSION. Nothing is migrated: raw/ and the cache of
answers are the truth, and everything is built anew from them.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from mnemoduck.errors import StorageError
from mnemoduck.home import Home
from mnemoduck.pipeline.publish import current_snapshot

SCHEMA_VERSION = 1
"""What the models of this release build. The schema of each is in tests/fixtures/warehouse_schema.json."""

FIRST_VERSION = 1
"""Of warehouses that do not say: release 0.1.0 did not."""


def stored_version(connection: duckdb.DuckDBPyConnection, database: str) -> int:
    """Return the version of the schema of an attached database.

    Raises:
        duckdb.Error: it cannot be read.
    """
    try:
        row = connection.execute(f'select max(version) from "{database}".meta.schema_version').fetchone()
    except duckdb.CatalogException:
        return FIRST_VERSION
    return FIRST_VERSION if row is None or row[0] is None else int(row[0])


def find_outdated(home: Home) -> str | None:
    """Return why what is published has to be built anew, as a sentence; None if an incremental build will do.

    Raises:
        StorageError: it was built by a later release.
    """
    snapshot = current_snapshot(home)
    if snapshot is None:
        return None
    try:
        with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
            quoted = str(snapshot).replace("'", "''")
            connection.execute(f"attach '{quoted}' as snapshot (read_only)")
            version = stored_version(connection, "snapshot")
    except duckdb.Error:
        return None  # the run makes it again from the warehouse, or says what is wrong with that
    if version > SCHEMA_VERSION:
        raise StorageError(describe_later(snapshot, version))
    if version == SCHEMA_VERSION:
        return None
    return (
        f"What is there was built by an earlier release (schema version {version}; this one builds "
        f"{SCHEMA_VERSION}), so everything is built anew from raw/."
    )


def describe_later(path: Path, version: int) -> str:
    """Say that a database is of a later release."""
    return (
        f"{path} was built by a later mnemoduck (schema version {version}; this one knows {SCHEMA_VERSION}). "
        "Use that release; or move warehouse.duckdb and published/ away and run `mnemoduck run`, which "
        "builds everything anew from raw/."
    )
