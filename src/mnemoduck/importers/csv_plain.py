"""CSV of plain memories (RFC 4180): a header, then a memory a row; fields may span lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import BufferedIOBase

from mnemoduck.events import MAX_LINE_BYTES
from mnemoduck.importers.lines import BYTE_ORDER_MARK
from mnemoduck.importers.plain import FIELDS, MemoryBuilder, arrange_columns
from mnemoduck.importers.records import Record, RefusedError
from mnemoduck.importers.source import BUFFER_BYTES, Source
from mnemoduck.quarantine import EXCERPT_BYTES, Rejection
from mnemoduck.scope import Scope


def read_csv(source: Source, defaults: Scope) -> Iterator[Record]:
    """Yield the memories of a file, a row at a time; the place of a row is its first line."""
    # The limit of the csv module is one for the process. It is only ever raised: rows are bounded here.
    csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_LINE_BYTES))
    builder = MemoryBuilder(defaults)
    with source.open() as file:
        rows = _Rows(source, file)
        columns: list[str] | None = None
        for row in rows:
            if columns is None:
                if isinstance(row, RefusedError):
                    raise source.unusable(f"the header: {row}", "Its first line has to name the columns.")
                columns = arrange_columns(source, row)
                continue
            try:
                if isinstance(row, RefusedError):
                    raise row
                yield builder.build(_name_fields(columns, row))
            except RefusedError as error:
                yield Rejection(source.line, str(error), rows.excerpt())


def _name_fields(columns: list[str], row: list[str]) -> dict[str, str | None]:
    if len(row) != len(columns):
        raise RefusedError(f"the row has not as many fields as the header ({len(row)} for {len(columns)})")
    # For a field, a blank cell is said to hold nothing, so that another column does not take its place.
    return {name: cell or None for name, cell in zip(columns, row, strict=True) if cell or name in FIELDS}


class _Rows:
    """Iterates over the rows of a file, or the reasons why they cannot be read, in bounded memory.

    A row ends where the csv module says so. Its lines are given to it one by one, and no more than
    MAX_LINE_BYTES of them; the end of a longer row is found by counting quotes.
    """

    def __init__(self, source: Source, file: BufferedIOBase) -> None:
        self._source = source
        self._file = file
        self._lines_read = 0
        self._raw: list[bytes] = []
        self._size = 0
        self._refusal: RefusedError | None = None

    def __iter__(self) -> Iterator[list[str] | RefusedError]:
        reader = csv.reader(self._lines(), strict=True)
        while True:
            self._raw, self._size, self._refusal = [], 0, None
            self._source.line = self._lines_read + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except RefusedError as error:
                yield error
                reader = csv.reader(self._lines(), strict=True)  # a generator that raised is finished
                continue
            except csv.Error as error:
                yield self._refusal or RefusedError(f"the quoting cannot be read ({error})")
                continue
            if row:
                yield self._refusal or row

    def excerpt(self) -> bytes:
        """Return the bytes of the row that was read last, or their beginning."""
        return b"".join(self._raw)

    def _lines(self) -> Iterator[str]:
        while line := self._file.readline(MAX_LINE_BYTES + 1):
            self._size += len(line)
            if self._lines_read == 0:
                line = line.removeprefix(BYTE_ORDER_MARK)
            self._lines_read += 1
            self._raw.append(line)
            if self._size > MAX_LINE_BYTES:
                raise RefusedError(
                    f"row is too long ({self._skip_row():,} bytes; the limit is {MAX_LINE_BYTES:,}; perhaps "
                    "a quote is never closed)"
                )
            if b"\0" in line:
                self._refusal = RefusedError("the row holds NUL bytes")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                self._refusal = RefusedError("the row is not valid UTF-8")
                yield line.decode("utf-8", errors="surrogateescape")

    def _skip_row(self) -> int:
        """Read on to the end of a row that is too long; return its length."""
        kept = b"".join(self._raw)
        self._raw = [kept[:EXCERPT_BYTES]]
        quotes, length, last = kept.count(b'"'), len(kept), kept[-1:]
        while last != b"\n" or quotes % 2:
            line = self._file.readline(BUFFER_BYTES)
            if not line:
                break
            if last == b"\n":
                self._lines_read += 1
            quotes += line.count(b'"')
            length += len(line)
            last = line[-1:]
        return length
