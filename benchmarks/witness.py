"""Looks at a home from outside, with DuckDB and the files alone: nothing of the package is imported here."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

KEPT_SNAPSHOTS = 2
HOLDS = [
    "home.json",
    "inbox",
    "raw",
    "quarantine",
    "llm_cache.duckdb",
    "warehouse.duckdb",
    "archive",
    "published",
    "news",
    "logs",
    "runs",
]
"""What a home holds that is of interest here; docs/home.md names the rest."""

_PER_MEMORY = ("main.short_term_memories", "main.memory_features", "retrieval.search_documents")
"""Tables with one row for each memory of staging.stg_memories."""


def snapshot_of(home: Path) -> Path:
    """Return the snapshot that CURRENT names."""
    return home / "published" / (home / "published" / "CURRENT").read_text().strip()


def count_events(home: Path) -> Counter[str]:
    """Return how often each event is there: in raw files that the manifest names, and in what waits.

    Segments in inbox/loaded are in raw/ already. A torn last line was not acknowledged.
    """
    return Counter(_raw_ids(home)) + Counter(waiting_ids(home))


def _raw_ids(home: Path) -> list[str]:
    files = [str(home / "raw" / name) for name in named_raw_files(home)]
    if not files:
        return []
    rows = duckdb.connect().execute("select event_id from read_parquet($files)", {"files": files}).fetchall()
    return [event_id for (event_id,) in rows]


def named_raw_files(home: Path) -> list[str]:
    """Return the files that the manifest names, relative to raw/; another one does not exist."""
    return [file["path"] for batch in _batches(home) for file in batch["files"]]


def _batches(home: Path) -> list[dict[str, Any]]:
    manifest = home / "raw" / "batches.jsonl"
    data = manifest.read_bytes() if manifest.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def waiting_ids(home: Path) -> list[str]:
    """Return what waits in the inbox and is in no batch: a load commits before it moves segments away."""
    loaded = {name for batch in _batches(home) for name in batch.get("segments", ())}
    inbox = home / "inbox"
    segments = [path for path in inbox.glob("*.jsonl") if path.name not in loaded]
    found = []
    for path in [*segments, *inbox.glob("*.open")]:
        data = path.read_bytes()
        found += [json.loads(line)["event_id"] for line in data[: data.rfind(b"\n") + 1].splitlines()]
    return found


def untested_models(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the models of an open snapshot whose rows were not tested."""
    rows = connection.execute("select model from meta.model_audits where not is_audited order by model")
    return [model for (model,) in rows.fetchall()]


def find_lost(home: Path, acknowledged: Collection[str]) -> list[str]:
    """Return what is wrong with events that were acknowledged, as sentences; nothing need be published."""
    copies = count_events(home)
    return [
        *(f"{event_id} is lost" for event_id in acknowledged if not copies[event_id]),
        *(f"{event_id} is there {count} times" for event_id, count in copies.items() if count > 1),
    ]


def find_half_purged(home: Path, purged: Collection[str]) -> list[str]:
    """Return what is wrong with events that are purged together: all of them are there, or none."""
    copies = count_events(home)
    left = sum(copies[event_id] > 0 for event_id in purged)
    return [] if left in (0, len(purged)) else [f"{left} of {len(purged)} are left of what is purged at once"]


def find_unpurged(home: Path, purged: Collection[str]) -> list[str]:
    """Return which events are there still though they were purged, as sentences."""
    copies = count_events(home)
    return [f"{event_id} is there though it was purged" for event_id in purged if copies[event_id]]


def find_faults(home: Path, memories: Collection[str], forgotten: Collection[str]) -> list[str]:
    """Return what is wrong with a home after a run that loaded all, as sentences.

    Args:
        memories: ids that were acknowledged as remembered.
        forgotten: ids of those that were acknowledged as forgotten.
    """
    return [*find_lost(home, memories), *_unseen(home, memories, forgotten), *leftovers(home)]


def _unseen(home: Path, memories: Collection[str], forgotten: Collection[str]) -> Iterator[str]:
    """Yield what readers of the published snapshot do not see as they should."""
    try:
        connection = duckdb.connect(str(snapshot_of(home)), read_only=True)
    except (OSError, duckdb.Error) as error:
        yield f"the published snapshot does not open: {error}"
        return
    with connection:
        yield from (f"{model} was not tested" for model in untested_models(connection))
        held = Counter(
            str(row[0]) for row in connection.execute("select memory_id from staging.stg_memories").fetchall()
        )
        yield from (f"{memory} is not in the snapshot" for memory in memories if not held[memory])
        yield from (f"{memory} is {n} times in the snapshot" for memory, n in held.items() if n > 1)
        for table in _PER_MEMORY:
            rows = Counter(
                str(row[0]) for row in connection.execute(f"select memory_id from {table}").fetchall()
            )
            if rows != held:
                yield f"{table} has {rows.total():,} rows of {len(rows):,} memories, not {held.total():,}"
        hidden = connection.execute("select memory_id from staging.int_forgotten_memories").fetchall()
        yield from (
            f"{memory} is not forgotten" for memory in set(forgotten) - {str(row[0]) for row in hidden}
        )
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() where not internal order by all"
        ).fetchall()
        for schema, table in tables:
            if "__dbt_" in table:
                yield f"the table {schema}.{table} is left behind"
            try:  # reads each block, whose checksum DuckDB compares
                connection.execute(f'select bit_xor(hash(columns(*))) from "{schema}"."{table}"').fetchall()
            except duckdb.Error as error:
                yield f"{schema}.{table} cannot be read: {error}"


def leftovers(home: Path) -> list[str]:
    """Return what nobody needs after a run: temporary files, segments, locks, files without a name."""
    found = [f"{path.relative_to(home)} is left behind" for path in _leftover_files(home)]
    return found + (["run.lock is held"] if is_held(home / "run.lock") else [])


def _leftover_files(home: Path) -> Iterator[Path]:
    ours = [home / name for name in HOLDS]
    for path in [
        *home.iterdir(),
        *(path for folder in ours if folder.is_dir() for path in folder.rglob("*")),
    ]:
        if (
            path.suffix in {".tmp", ".open", ".partial"}
            or path.name.startswith(".tmp")
            or (path.suffix == ".wal" and path.stat().st_size)
        ):
            yield path
    yield from (home / "inbox").glob("*.jsonl")
    yield from (home / "inbox" / "loaded").iterdir()
    with suppress(FileNotFoundError):
        yield from (home / "raw" / ".staging").iterdir()
    named = {*named_raw_files(home), *(batch["purged"] for batch in _batches(home) if "purged" in batch)}
    for path in (home / "raw").rglob("*.parquet"):
        if str(path.relative_to(home / "raw")) not in named and ".staging" not in path.parts:
            yield path
    snapshots = sorted((home / "published").glob("*.duckdb"))
    yield from snapshots[:-KEPT_SNAPSHOTS] if len(snapshots) > KEPT_SNAPSHOTS else ()
    yield from _unnamed_archives(home, snapshots)


def _unnamed_archives(home: Path, snapshots: list[Path]) -> Iterator[Path]:
    """Yield archived months that no snapshot reads."""
    files = list((home / "archive").glob("*/*.parquet"))
    read: set[str] = set()
    for snapshot in snapshots if files else ():
        with duckdb.connect(str(snapshot), read_only=True) as connection:
            catalogs = connection.execute(
                "select schema_name from duckdb_tables() where table_name = 'catalog'"
            ).fetchall()
            for (schema,) in catalogs:
                rows = connection.execute(f'select archive_file from "{schema}".catalog').fetchall()
                read |= {file for (file,) in rows if file}
    yield from (path for path in files if str(path.relative_to(home)) not in read)


def is_held(lock: Path) -> bool:
    """Tell whether a process holds a lock file at this moment."""
    with suppress(FileNotFoundError):
        descriptor = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


_BOOKKEEPING = frozenset(
    [
        "batch_seq",
        "changed_batch_seq",
        "run_id",
        "segment",
        "line",
        "loaded_at",
        "files",
        "left_histories",
        "response_seq",
    ]
)
"""Columns that say how a row came to be, not what it says: they differ between equal contents."""


_OF_RUNS = frozenset(["main.llm_cache_metrics", "main.query_performance", "staging.stg_runs"])
"""Tables that tell of runs and of questions: each build has more to tell than the one before."""

_VERSIONS = {"staging.int_association_versions": "staging.int_associations"}
"""Tables that keep what was replaced, and the views of what holds: a build from nothing replaces nothing."""


def checksums(home: Path) -> dict[str, tuple[int, str]]:
    """Return for each table of the published snapshot its number of rows and a checksum of what they say.

    Left out is what tells of runs, of loads, and of how the tables are laid out. Of a table that keeps
    versions the newest ones are summed up, under the name of their view.
    """
    found = {}
    with duckdb.connect(str(snapshot_of(home)), read_only=True) as connection:
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() "
            "where schema_name in ('main', 'staging') order by all"
        ).fetchall()
        for name in (f"{schema}.{table}" for schema, table in tables):
            if name in _OF_RUNS:
                continue
            relation = _VERSIONS.get(name, name)
            columns = [row[0] for row in connection.execute(f"describe {relation}").fetchall()]
            kept = [f'cast("{column}" as varchar)' for column in columns if column not in _BOOKKEEPING]
            row = connection.execute(
                f"select count(*), md5(coalesce(string_agg(line, chr(10) order by line), '')) "
                f"from (select concat_ws('|', {', '.join(kept)}) as line from {relation})"
            ).fetchone()
            assert row is not None
            found[relation] = (row[0], row[1])
    return found
