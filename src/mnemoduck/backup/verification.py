"""Whether a restored home is what was backed up, by what its files hold and not only by their bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import duckdb

from mnemoduck.backup.capture import sum_events
from mnemoduck.backup.generation import Generation, RowsSum
from mnemoduck.errors import StorageError
from mnemoduck.home import Home
from mnemoduck.llm.cache import open_cache
from mnemoduck.pipeline.load import read_manifest


@dataclass(frozen=True)
class Verified:
    """What a restored backup holds.

    Attributes:
        events: those in raw/, with a checksum over them.
        waiting_events: lines of the inbox that wait to be loaded.
        answers: responses and vectors of models in the cache.
        tables: rows of each table of the snapshot, all of which were read.
    """

    generation_id: str
    events: RowsSum
    waiting_events: int
    answers: int
    tables: dict[str, int] = field(default_factory=dict)


def verify_home(home: Home, generation_id: str, generation: Generation) -> Verified:
    """Read everything in a home that was just restored from a generation.

    Raises:
        StorageError: it is not what was backed up, or cannot be read.
    """
    named = {file.path for batch in read_manifest(home) for file in batch.files}
    there = {path.relative_to(home.raw).as_posix() for path in home.raw.rglob("*.parquet")}
    if named != there:
        odd = sorted(named ^ there)[0]
        raise StorageError(
            f"The backup {generation_id} is damaged: raw/{odd} is not what its manifest names."
        )
    events = sum_events([home.raw / name for name in sorted(named)])
    if events != generation.events:
        raise StorageError(
            f"The backup {generation_id} is damaged: raw/ holds {events.rows:,} events with the checksum "
            f"{events.checksum}; backed up were {generation.events.rows:,} with {generation.events.checksum}."
        )
    waiting = sum(path.read_bytes().count(b"\n") for path in home.inbox.glob("*.jsonl"))
    if waiting != generation.waiting_events:
        raise StorageError(
            f"The backup {generation_id} is damaged: {waiting:,} events wait in its inbox; backed up were "
            f"{generation.waiting_events:,}."
        )
    return Verified(generation_id, events, waiting, _count_answers(home), _count_rows(home, generation))


def _count_answers(home: Home) -> int:
    if not home.llm_cache.exists():
        return 0
    with open_cache(home) as cache:
        return cache.stats().entries


def _count_rows(home: Home, generation: Generation) -> dict[str, int]:
    """Return the rows of each table of the snapshot; every block of it is read."""
    if generation.snapshot is None:
        return {}
    path = home.published / generation.snapshot
    counts = {}
    try:
        with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
            quoted = str(path).replace("'", "''")
            connection.execute(f"attach '{quoted}' as snapshot (read_only)")
            tables = connection.execute(
                "select schema_name, table_name from duckdb_tables() where database_name = 'snapshot' "
                "order by all"
            ).fetchall()
            for schema, table in tables:
                name = f'snapshot."{schema}"."{table}"'
                row = connection.execute(f"select count(*), bit_xor(hash(one)) from {name} as one").fetchone()
                assert row is not None
                counts[f"{schema}.{table}"] = int(row[0])
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise StorageError(f"The backup has a snapshot that cannot be read, {path.name}: {first}.") from error
    return counts
