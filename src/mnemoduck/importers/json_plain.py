"""A JSON document with a list of plain memories, or with a single one."""

from __future__ import annotations

from collections.abc import Iterator

from mnemoduck.importers.documents import excerpt, read_document
from mnemoduck.importers.plain import MemoryBuilder
from mnemoduck.importers.records import Record, RefusedError
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope


def read_json(source: Source, defaults: Scope) -> Iterator[Record]:
    """Yield the memories of a document; their place is their number in the list."""
    document = read_document(source)
    builder = MemoryBuilder(defaults)
    items = [] if document is None else document if isinstance(document, list) else [document]
    for item in items:
        source.line += 1
        try:
            if not isinstance(item, dict):
                raise RefusedError("the item is not a JSON object")
            yield builder.build(dict(item))
        except RefusedError as error:
            yield Rejection(source.line, str(error), excerpt(item))
