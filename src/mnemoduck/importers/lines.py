"""Lines of a file, read with a bound: no line, however long, is held whole."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedIOBase

from mnemoduck.events import MAX_LINE_BYTES
from mnemoduck.importers.source import BUFFER_BYTES, Source
from mnemoduck.quarantine import EXCERPT_BYTES

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(source: Source) -> Iterator[tuple[bytes, int]]:
    """Yield (line without its newline, length in bytes); `source.line` is its number.

    Blank lines are left out. Of a line over MAX_LINE_BYTES only the beginning is returned, with the
    length of the whole.
    """
    with source.open() as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            source.line += 1
            is_whole = len(line) <= MAX_LINE_BYTES or line.endswith(b"\n")
            if source.line == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if not is_whole:
                yield line[:EXCERPT_BYTES], len(line) + _skip_line(file)
                continue
            line = line.rstrip(b"\r\n")
            if line and not line.isspace():
                yield line, len(line)


def _skip_line(file: BufferedIOBase) -> int:
    """Read on behind the next newline; return how many bytes stood before it."""
    skipped = 0
    while line := file.readline(BUFFER_BYTES):
        skipped += len(line)
        if line.endswith(b"\n"):
            return skipped - 1
    return skipped
