"""Looking for what was forgotten: in the bytes of every file under a home, and in what these bytes stand for.

Bytes alone would not do: Parquet and DuckDB compress. So every Parquet file and every DuckDB database is
also read, each text column of each table, nested ones as JSON. What each way can see:

- bytes: what is not compressed, wherever it lies: logs, JSON, names, headers, dictionaries, blocks that a
  database has given up but not yet used again;
- values: what any query of these files can find.

What neither sees is a compressed block that a database has given up. So a purge writes databases to new
files, from sources that were purged before; `find_free_blocks` tells of a database that has such blocks.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mnemoduck.forgetting.material import find_in_column
from mnemoduck.forgetting.passages import CHUNK, OVERLAP, Match, Needles
from mnemoduck.home import Home
from mnemoduck.pipeline.load import ROWS_IN_MEMORY

_DUCKDB = b"DUCK"
_DUCKDB_OFFSET = 8
_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_PACKED = {b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}

WITHOUT_WORDS = ("logs", "target", "runs", "expectations", "data_docs")
"""What programs write in their own words is searched for passages: a single word of theirs says nothing."""

PLAIN_TYPES = frozenset(
    [
        "BIGINT",
        "INTEGER",
        "SMALLINT",
        "TINYINT",
        "HUGEINT",
        "UBIGINT",
        "UINTEGER",
        "USMALLINT",
        "UTINYINT",
        "UHUGEINT",
        "DOUBLE",
        "FLOAT",
        "BOOLEAN",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "INTERVAL",
        "DECIMAL",
    ]
)
"""Columns of these types hold no words."""

ORDERING = ("stg_forgets", "stg_recalls", "stg_feedback")
"""Tables that name memories which may be gone: of the orders, and of uses whose ids are kept."""


@dataclass(frozen=True)
class Trace:
    """Something that was found.

    Attributes:
        file: relative to the home.
        where: the table and column, or "bytes", or "name".
        kind: passage, word, hash or id.
        count: how often.
    """

    file: str
    where: str
    kind: str
    count: int

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count:,} times"
        return f"{self.file}: a {self.kind} in {self.where}, {times}"


@dataclass(frozen=True)
class Search:
    """What a search went through, and what it has found.

    Attributes:
        unread: files whose values could not be read, and why; their bytes were searched.
    """

    traces: tuple[Trace, ...]
    files: int
    bytes: int
    columns: int
    values: int
    unread: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not self.traces and not self.unread


@dataclass
class _Tally:
    files: int = 0
    bytes: int = 0
    columns: int = 0
    values: int = 0


def search_home(home: Home, needles: Needles, *, skipped: Collection[Path] = ()) -> Search:
    """Search every file under a home. The caller holds the run lock, so that no database is open for writing.

    Args:
        skipped: files that are allowed to hold what is searched for.

    Cost: the bytes of all files, and those of all texts in them, at some 100 ns each.
    """
    traces: list[Trace] = []
    unread: list[str] = []
    tally = _Tally()
    for path in _files(home):
        if path in skipped or any(one in path.parents for one in skipped):
            continue
        name = str(path.relative_to(home.path))
        with_words = name.split("/")[0] not in WITHOUT_WORDS
        tally.files += 1
        found: dict[tuple[str, str], int] = {}
        try:
            _note(found, "name", needles.find(os.fsencode(name), with_words=with_words))
            for chunk, seen in _chunks(path):
                tally.bytes += len(chunk) - seen
                matches = needles.find(chunk, with_words=with_words)
                _note(found, "bytes", [match for match in matches if match.end > seen])
            for where, column in _columns(path):
                tally.columns += 1
                tally.values += len(column)
                rows: dict[int, list[Match]] = {}
                for row, match in find_in_column(needles, column, with_words=with_words):
                    rows.setdefault(row, []).append(match)
                for matches in rows.values():
                    _note(found, where, matches)
        except FileNotFoundError:
            continue  # a segment that its writer has sealed; a snapshot cannot go, since the lock is held
        except (OSError, EOFError, zlib.error, duckdb.Error, pa.ArrowException, _PackedError) as error:
            unread.append(f"{name}: {str(error).splitlines()[0]}")
        traces += [Trace(name, where, kind, count) for (where, kind), count in sorted(found.items())]
    return Search(tuple(traces), tally.files, tally.bytes, tally.columns, tally.values, tuple(unread))


def find_ids(home: Home, ids: Collection[UUID]) -> Search:
    """Search raw/ for events with these ids, and every table of every database for rows of these memories.

    An order that names them, and a recall that does, are none: they hold ids and no words.
    """
    texts = pa.array(sorted(str(one) for one in ids), pa.string())
    traces: list[Trace] = []
    tally = _Tally()
    unread: list[str] = []
    for path in _files(home):
        name = str(path.relative_to(home.path))
        kind = _kind(path)
        if not kind or home.purge in path.parents:
            continue
        tally.files += 1
        tally.bytes += path.stat().st_size
        try:
            with duckdb.connect(":memory:") as connection:
                connection.register("ids", pa.table({"id": texts}))
                for where, source, column in _id_columns(connection, path, kind, home):
                    row = connection.execute(
                        f"select count(*) filter (where {column}::varchar in (select id from ids)), count(*) "
                        f"from {source}"
                    ).fetchone()
                    assert row is not None
                    tally.columns += 1
                    tally.values += row[1]
                    if row[0]:
                        traces.append(Trace(name, where, "id", row[0]))
        except duckdb.Error as error:
            unread.append(f"{name}: {str(error).splitlines()[0]}")
    return Search(tuple(traces), tally.files, tally.bytes, tally.columns, tally.values, tuple(unread))


def find_free_blocks(path: Path) -> int:
    """Return how many blocks of a database were given up, and may still hold what was in them."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"attach {_literal(path)} as searched (read_only)")
        row = connection.execute(
            "select free_blocks from pragma_database_size() where database_name = 'searched'"
        ).fetchone()
    return int(row[0]) if row else 0


class _PackedError(Exception):
    """A file that is packed in a way that is not looked into."""


def _files(home: Home) -> Iterator[Path]:
    """Yield every file under a home; what a link points to lies elsewhere."""
    for folder, folders, names in os.walk(home.path):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except FileNotFoundError:
                continue


def _note(found: dict[tuple[str, str], int], where: str, matches: Iterable[Match]) -> None:
    """Count what was found; what several spellings have found in one place counts once."""
    ends: dict[str, int] = {}
    for match in matches:
        if match.start >= ends.get(match.kind, 0):
            found[where, match.kind] = found.get((where, match.kind), 0) + 1
        ends[match.kind] = max(ends.get(match.kind, 0), match.end)


def _chunks(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the bytes of a file, a piece at a time, and how many of them were in the piece before.

    What is packed by gzip is unpacked.
    """
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        for magic, kind in _PACKED.items():
            if head.startswith(magic):
                raise _PackedError(f"it is packed ({kind}) and was not looked into")
        source = gzip.GzipFile(fileobj=file) if head.startswith(_GZIP) else file
        kept = b""
        while data := source.read(CHUNK - OVERLAP):
            yield kept + data, len(kept)
            kept = data[-OVERLAP:]


def _kind(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        return ""
    if head[_DUCKDB_OFFSET : _DUCKDB_OFFSET + 4] == _DUCKDB:
        return "duckdb"
    return "parquet" if head.startswith(_PARQUET) else ""


def _columns(path: Path) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield (table and column, texts) of a Parquet file or a DuckDB database; of other files nothing."""
    kind = _kind(path)
    if kind == "parquet":
        for batch in pq.ParquetFile(path).iter_batches(ROWS_IN_MEMORY):
            table = pa.Table.from_batches([batch])
            yield from _texts_of(table, "")
    elif kind == "duckdb":
        yield from _database_columns(path)


def _texts_of(table: pa.Table, prefix: str) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for name in table.schema.names:
        column = table.column(name)
        if (
            pa.types.is_string(column.type)
            or pa.types.is_large_string(column.type)
            or pa.types.is_binary(column.type)
            or pa.types.is_large_binary(column.type)
        ):
            yield f"{prefix}{name}", column
        elif pa.types.is_nested(column.type) or pa.types.is_dictionary(column.type):
            texts = [None if one is None else str(one) for one in column.to_pylist()]
            yield f"{prefix}{name}", pa.chunked_array([pa.array(texts, pa.large_string())])


def _database_columns(path: Path) -> Iterator[tuple[str, pa.ChunkedArray]]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"attach {_literal(path)} as searched (read_only)")
        columns = connection.execute(
            "select schema_name, table_name, column_name, data_type from duckdb_columns() "
            "where database_name = 'searched' and not internal order by schema_name, table_name, column_index"
        ).fetchall()
        tables: dict[tuple[str, str], list[str]] = {}
        for schema, table, column, data_type in columns:
            if data_type.split("(")[0].split(" ")[0] in PLAIN_TYPES and not data_type.endswith("]"):
                continue
            if data_type.rstrip("[]0123456789") in ("FLOAT", "DOUBLE", "TINYINT", "BIGINT", "BIT"):
                continue
            quoted = '"' + column.replace('"', '""') + '"'
            is_nested = data_type.endswith("]") or data_type.startswith(("STRUCT", "MAP", "UNION"))
            shown = quoted if data_type in ("VARCHAR", "BLOB") else f"cast({quoted} as varchar)"
            if is_nested:
                shown = f"cast(to_json({quoted}) as varchar)"
            tables.setdefault((schema, table), []).append(f"{shown} as {quoted}")
        names = {
            (schema, table)
            for schema, table in connection.execute(
                "select schema_name, table_name from duckdb_tables() where database_name = 'searched'"
            ).fetchall()
        }
        for (schema, table), shown in tables.items():
            if (schema, table) not in names:
                continue
            reader = connection.execute(
                f'select {", ".join(shown)} from searched."{schema}"."{table}"'
            ).to_arrow_reader(ROWS_IN_MEMORY)
            for batch in reader:
                yield from _texts_of(pa.Table.from_batches([batch]), f"{schema}.{table}.")


def _id_columns(
    connection: duckdb.DuckDBPyConnection, path: Path, kind: str, home: Home
) -> Iterator[tuple[str, str, str]]:
    """Yield (table and column, what to select from, the column) of what holds rows of memories."""
    if kind == "parquet":
        if home.raw / "purged" in path.parents:
            return
        names = pq.read_schema(path).names
        for column in ("event_id", "memory_id"):
            if column in names:
                yield column, f"read_parquet({_literal(path)})", column
        return
    connection.execute(f"attach {_literal(path)} as searched (read_only)")
    rows = connection.execute(
        "select c.schema_name, c.table_name, c.column_name from duckdb_columns() as c "
        "inner join duckdb_tables() as t on c.database_name = t.database_name "
        "and c.schema_name = t.schema_name and c.table_name = t.table_name "
        "where c.database_name = 'searched' and c.column_name = 'memory_id'"
    ).fetchall()
    for schema, table, column in rows:
        if not any(one in f"{schema}.{table}" for one in ORDERING):
            yield f"{schema}.{table}.{column}", f'searched."{schema}"."{table}"', column


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
