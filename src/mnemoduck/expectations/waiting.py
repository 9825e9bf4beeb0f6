"""What waits in the inbox, and what was loaded before it, as tables of a DuckDB in memory.

Nothing in the home is opened for writing, locked, moved or sealed. Of a large inbox a sample is read: every
line is counted, but at most SAMPLED_BYTES are parsed, in blocks spread evenly over the whole.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from mnemoduck.errors import InvalidEventError
from mnemoduck.event_rows import ROW, read_rows
from mnemoduck.home import Home
from mnemoduck.inbox import OPEN_SUFFIX, SEALED_SUFFIX
from mnemoduck.pipeline.load import RAW_SCHEMA, Batch, read_manifest

SAMPLED_BYTES = 32 * 1024 * 1024
"""About 70,000 memories of ordinary length: a share of a half is known to 0.4 points (twice its error)."""

BLOCK_BYTES = 256 * 1024

HISTORY_ROWS = 100_000
"""How many of the newest events in raw/ count as history, by whole files."""

HISTORY_LOADS = 200

_EVENTS = """
    select
        event_id,
        event_type,
        occurred_at::timestamp as occurred_at,
        recorded_at::timestamp as recorded_at,
        user_id,
        agent_id,
        session_id,
        length(payload ->> '$.content') as content_length,
        hash(payload ->> '$.content') as content_hash
    from {source}
"""


def make_incoming_tables(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    """Make the tables that queries on what comes in may read: inbox, waiting, loads, history and recorded.

    See docs/expectations.md for their columns. Raises StorageError where the manifest of raw/ is damaged.
    """
    batches = [batch for batch in read_manifest(home) if batch.segments]
    _make_waiting(connection, home, set(batches[-1].segments) if batches else set())
    _make_loads(connection, batches)
    newest = f"(from {_raw(home, _newest(batches))} order by batch_seq desc, line desc limit {HISTORY_ROWS})"
    connection.execute("create table history as " + _EVENTS.format(source=newest))
    months = sorted({str(Path(file.path).parent) for batch in batches for file in batch.files})[-2:]
    recent = [file.path for batch in batches for file in batch.files if str(Path(file.path).parent) in months]
    connection.execute(f"create view recorded as select recorded_at from {_raw(home, recent)}")


def _make_waiting(connection: duckdb.DuckDBPyConnection, home: Home, loaded: set[str]) -> None:
    columns: dict[str, list[str | None]] = {name: [] for name in ROW}
    segments = _waiting_segments(home, loaded)
    total = sum(size for _, size in segments)
    step = max(1, math.ceil(total / SAMPLED_BYTES))
    lines = sampled = quarantined = number = 0

    def reject(_number: int, _error: InvalidEventError, line: bytes) -> None:
        nonlocal quarantined
        quarantined += bool(line.strip())

    for path, size in segments:
        for data in _whole_lines(path, size):
            count = data.count(b"\n")
            lines += count
            if number % step == 0:
                sampled += count
                for name, values in read_rows(data, reject).columns.items():
                    columns[name] += values
            number += 1
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    connection.register("waiting_rows", table)
    connection.execute("create table waiting as " + _EVENTS.format(source="waiting_rows"))
    connection.unregister("waiting_rows")
    connection.execute(
        "create table inbox as select $1::bigint as segments, $2::bigint as lines, "
        "$3::bigint as sampled_lines, $4::bigint as quarantined_lines",
        [len(segments), lines, sampled, quarantined],
    )


def _waiting_segments(home: Home, loaded: set[str]) -> list[tuple[Path, int]]:
    """Return what waits, oldest first, each with its size now; what the last load has read but not yet moved
    away does not wait."""
    found: dict[str, tuple[Path, int]] = {}
    for suffix in (OPEN_SUFFIX, SEALED_SUFFIX):  # in the order in which a segment is renamed
        for entry in os.scandir(home.inbox):
            if entry.name.endswith(suffix) and not entry.name.startswith(".") and entry.name not in loaded:
                try:
                    size = entry.stat().st_size
                except FileNotFoundError:
                    continue  # sealed meanwhile: found again under its new name
                found[entry.name.removesuffix(suffix)] = Path(entry.path), size
    return [found[stem] for stem in sorted(found)]


def _whole_lines(path: Path, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a segment in blocks of whole lines; a torn last line is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        try:
            file = path.with_suffix(SEALED_SUFFIX).open("rb")  # sealed since it was listed
        except FileNotFoundError:
            return  # and loaded: a run is at work
    with file:
        left, rest = size, b""
        while data := file.read(min(BLOCK_BYTES, left)):
            left -= len(data)
            end = data.rfind(b"\n") + 1
            if end:
                yield rest + data[:end]
                rest = data[end:]
            else:
                rest += data


def _make_loads(connection: duckdb.DuckDBPyConnection, batches: list[Batch]) -> None:
    table = pa.Table.from_pylist(
        [
            {
                "batch_seq": batch.batch_seq,
                "loaded_at": batch.loaded_at,
                "events": sum(batch.event_counts.values()),
                "quarantined_lines": batch.quarantined_count,
            }
            for batch in batches[-HISTORY_LOADS:]
        ],
        schema=pa.schema(
            [
                ("batch_seq", pa.int64()),
                ("loaded_at", pa.string()),
                ("events", pa.int64()),
                ("quarantined_lines", pa.int64()),
            ]
        ),
    )
    connection.register("load_rows", table)
    connection.execute(
        "create table loads as select batch_seq, (loaded_at::timestamptz at time zone 'utc') as loaded_at, "
        "events, quarantined_lines from load_rows"
    )
    connection.unregister("load_rows")


def _newest(batches: list[Batch]) -> list[str]:
    """Return the files of the newest loads until they have HISTORY_ROWS rows."""
    files: list[str] = []
    rows = 0
    for batch in reversed(batches):
        if rows >= HISTORY_ROWS:
            break
        files += [file.path for file in batch.files]
        rows += sum(file.rows for file in batch.files)
    return files


def _raw(home: Home, files: list[str]) -> str:
    """Return what stands for the rows of some files of raw/ in a statement."""
    if not files:
        columns = ", ".join(f"null::{_SQL_TYPES[str(field.type)]} as {field.name}" for field in RAW_SCHEMA)
        return f"(select {columns} where false)"
    names = ", ".join("'" + str(home.raw / file).replace("'", "''") + "'" for file in sorted(files))
    return f"read_parquet([{names}])"


_SQL_TYPES = {"int64": "bigint", "string": "varchar", "timestamp[us]": "timestamp"}
