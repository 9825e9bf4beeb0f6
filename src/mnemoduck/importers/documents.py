"""JSON: one line, or a file that is a single document."""

from __future__ import annotations

from typing import Any

import pydantic_core

from mnemoduck.importers.lines import BYTE_ORDER_MARK
from mnemoduck.importers.records import RefusedError
from mnemoduck.importers.source import Source

MAX_DOCUMENT_BYTES = 512 * 1024 * 1024
"""A document is read whole and takes about four times its size in memory."""


def parse_json(data: bytes | str) -> Any:
    """Return what a JSON text says. NaN and Infinity are not JSON (RFC 8259).

    Raises:
        RefusedError: it is not JSON, not UTF-8, or nested more than about 200 deep.
    """
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        detail = str(error).replace("at line 1 column", "at column")
        raise RefusedError(f"not valid JSON ({detail})") from error


def read_document(source: Source) -> Any:
    """Return the content of a file that is one JSON document; None if there is nothing in it.

    Raises:
        UnusableSourceError: the file is too large, or not one JSON document.
    """
    with source.open() as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise source.unusable(
            f"the JSON document is larger than {MAX_DOCUMENT_BYTES // 1024**2} MiB",
            "Split it into several files, or write one JSON object a line (JSONL), which has no limit.",
        )
    data = data.removeprefix(BYTE_ORDER_MARK)
    if not data.strip():
        return None
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise source.unusable(
            f"not valid JSON ({error})",
            "Nothing was taken from it. Fetch or mend the file; if it has one object a line, say "
            "--format jsonl or --format events.",
        ) from error


def excerpt(value: object) -> bytes:
    """Return a part of a document as JSON, for the quarantine."""
    return pydantic_core.to_json(value, inf_nan_mode="constants")
