"""JSONL of plain memories: an object a line."""

from __future__ import annotations

from collections.abc import Iterator

from mnemoduck.events import MAX_LINE_BYTES
from mnemoduck.importers.documents import parse_json
from mnemoduck.importers.lines import read_lines
from mnemoduck.importers.plain import MemoryBuilder
from mnemoduck.importers.records import Record, RefusedError, too_long
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope


def read_jsonl(source: Source, defaults: Scope) -> Iterator[Record]:
    """Yield the memories of a file, a line at a time."""
    builder = MemoryBuilder(defaults)
    for line, length in read_lines(source):
        if length > MAX_LINE_BYTES:
            yield Rejection(source.line, too_long(length), line)
            continue
        try:
            fields = parse_json(line)
            if not isinstance(fields, dict):
                raise RefusedError("the line is not a JSON object")
            yield builder.build(fields)
        except RefusedError as error:
            yield Rejection(source.line, str(error), line)
