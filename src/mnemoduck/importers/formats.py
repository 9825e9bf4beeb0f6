"""The formats that can be imported, and how to tell them apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic_core

from mnemoduck.errors import UnknownFormatError
from mnemoduck.importers.csv_plain import read_csv
from mnemoduck.importers.documents import parse_json
from mnemoduck.importers.episodes import is_episode, read_episodes
from mnemoduck.importers.json_plain import read_json
from mnemoduck.importers.jsonl_events import read_events
from mnemoduck.importers.jsonl_plain import read_jsonl
from mnemoduck.importers.lines import BYTE_ORDER_MARK
from mnemoduck.importers.locomo import read_locomo
from mnemoduck.importers.longmemeval import read_longmemeval
from mnemoduck.importers.markdown import SUFFIXES as MARKDOWN_SUFFIXES
from mnemoduck.importers.markdown import read_note
from mnemoduck.importers.parquet_plain import read_parquet
from mnemoduck.importers.records import Importer, RefusedError
from mnemoduck.importers.source import Source, UnusableSourceError, show_path

FORMATS: Mapping[str, Importer] = {
    "events": read_events,
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
    "markdown": read_note,
    "locomo": read_locomo,
    "longmemeval": read_longmemeval,
    "episodes": read_episodes,
}

HEAD_BYTES = 4 * 1024 * 1024
HEAD_LINES = 1000
"""How much of a file is looked at."""

_SUFFIXES = {
    **dict.fromkeys(MARKDOWN_SUFFIXES, "markdown"),
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def detect_format(path: Path) -> str:
    """Return the name of a file's format, one of FORMATS: by its name, and for JSON by what is in it.

    Raises:
        UnknownFormatError: neither tells.
        UnusableSourceError: the file cannot be read.
    """
    if path.is_dir():
        return "markdown"
    by_name = format_of_name(path)
    if by_name in ("csv", "parquet", "markdown"):
        return by_name
    head = _read_head(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if by_name is None and not text.startswith((b"{", b"[")):
        raise UnknownFormatError(
            f"The format of {show_path(path)} is not known: neither its name nor its content tells. "
            f"Name it with --format, one of {', '.join(FORMATS)}."
        )
    return _detect_json(text) or by_name or "json"


def _read_head(path: Path) -> bytes:
    """Return the first HEAD_BYTES, or what can be read of them before damaged data."""
    head = bytearray()
    try:
        with Source(path).open() as file:
            while len(head) < HEAD_BYTES and (data := file.read1(HEAD_BYTES - len(head))):
                head += data
    except UnusableSourceError:
        if not head:
            raise
    return bytes(head)


def format_of_name(path: Path) -> str | None:
    """Return what the name of a file says of its format, JSON told from lines of JSON only."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def _detect_json(text: bytes) -> str | None:
    """Return the format that the beginning of a JSON file has, None if it does not tell."""
    if text.startswith(b"["):
        items = _parse_partly(text)
        if isinstance(items, list) and items and isinstance(items[0], dict):
            return _by_fields(items[0]) or "json"
        return None
    first_line, _, _ = text.partition(b"\n")
    if text.startswith(b"{") and _parse_object(first_line) is None:
        whole = _parse_partly(text)
        if isinstance(whole, dict) and (told := _by_fields(whole)):
            return told
    for line in text.split(b"\n", HEAD_LINES)[:HEAD_LINES]:
        if item := _parse_object(line):
            is_event = "event_type" in item and "event_id" in item
            return _by_fields(item) or ("events" if is_event else "jsonl")
    return None


def _by_fields(item: dict[str, Any]) -> str | None:
    if "haystack_sessions" in item:
        return "longmemeval"
    conversation = item.get("conversation")
    if isinstance(conversation, dict) and any(key.startswith("session_") for key in conversation):
        return "locomo"
    return "episodes" if is_episode(item) else None


def _parse_object(line: bytes) -> dict[str, Any] | None:
    try:
        value = parse_json(line)
    except RefusedError:
        return None
    return value if isinstance(value, dict) else None


def _parse_partly(text: bytes) -> Any:
    """Return what a text says that may break off anywhere; None if it is not JSON."""
    try:
        return pydantic_core.from_json(text.decode("utf-8", errors="ignore"), allow_partial=True)
    except ValueError:
        return None
