"""Parquet of plain memories: a memory a row, types as the columns say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoduck.importers.plain import FIELDS, MemoryBuilder, arrange_columns
from mnemoduck.importers.records import Record, RefusedError, printable
from mnemoduck.importers.source import FREE_EXPANSION_BYTES, MAX_EXPANSION, Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope

ROWS_IN_MEMORY = 128
"""Each of them may hold a text of the largest size, however small the file is that says it so often."""

_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError, KeyError, TypeError)
"""What pyarrow raises for damaged files and for values that Python cannot hold."""


def read_parquet(source: Source, defaults: Scope) -> Iterator[Record]:
    """Yield the memories of a file, in batches of rows; the place of a row is its number."""
    if source.trouble:
        raise source.unusable(f"cannot be read ({source.trouble})")
    try:
        file = pq.ParquetFile(source.path, pre_buffer=False, buffer_size=1024 * 1024)
    except _ARROW_ERRORS as error:
        raise _damaged(source, error) from error
    builder = MemoryBuilder(defaults)
    with file:
        groups = range(file.metadata.num_row_groups)
        _check_growth(source, sum(file.metadata.row_group(group).total_byte_size for group in groups))
        columns = arrange_columns(source, file.schema_arrow.names)
        for row in _rows(source, file, columns):
            source.line += 1
            if source.line % ROWS_IN_MEMORY == 0:
                source.advance_to(source.line / file.metadata.num_rows)
            try:
                if isinstance(row, RefusedError):
                    raise row
                yield builder.build(_without_missing(row))
            except RefusedError as error:
                raw = b"" if isinstance(row, RefusedError) else _excerpt(row)
                yield Rejection(source.line, str(error), raw)
    source.advance_to(1)


def _rows(
    source: Source, file: pq.ParquetFile, columns: list[str]
) -> Iterator[dict[str, Any] | RefusedError]:
    unpacked = 0
    try:
        batches = file.iter_batches(batch_size=ROWS_IN_MEMORY, use_threads=False)
        while (batch := next(batches, None)) is not None:
            batch = pa.RecordBatch.from_arrays([_plain(column) for column in batch], names=columns)
            unpacked += batch.nbytes
            _check_growth(source, unpacked)
            yield from _to_python(batch)
    except _ARROW_ERRORS as error:
        raise _damaged(source, error) from error


def _check_growth(source: Source, unpacked: int) -> None:
    """Raise UnusableSourceError for a file of which a few bytes stand for many, as Source does for gzip."""
    if unpacked > FREE_EXPANSION_BYTES + MAX_EXPANSION * source.size:
        raise source.unusable(
            "the Parquet data grows suspiciously",
            f"{source.size:,} packed bytes gave {unpacked:,}, more than {MAX_EXPANSION} times as many. What "
            "was read before is kept. If you trust the file, write it anew without compression.",
        )


def _to_python(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | RefusedError]:
    try:
        yield from batch.to_pylist(maps_as_pydicts="strict")
    except _ARROW_ERRORS as error:
        if batch.num_rows == 1:
            yield RefusedError(f"the row cannot be read ({printable(str(error))})")
            return
        for number in range(batch.num_rows):
            yield from _to_python(batch.slice(number, 1))


def _plain(column: pa.Array) -> pa.Array:
    """Return a column as its values are given out, and so counted: without a dictionary, in microseconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz), safe=False)
    return column


def _without_missing(row: dict[str, Any]) -> dict[str, Any]:
    """Drop what has no value; NaN is how data frames say so."""
    return {
        name: None if _is_missing(value) else value
        for name, value in row.items()
        if name in FIELDS or not _is_missing(value)
    }


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _excerpt(row: dict[str, Any]) -> bytes:
    return json.dumps(row, default=str, ensure_ascii=False).encode("utf-8", errors="replace")


def _damaged(source: Source, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:
        return source.unusable(f"cannot be read ({error.strerror})")
    return source.unusable(
        "not a Parquet file, or a damaged one",
        f"The reader says: {printable(str(error))[:200]}. Fetch or write the file again.",
    )
