"""Showing memories to people: content is data, so nothing in it may steer the terminal."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mnemoduck.sizes import format_bytes as format_bytes

# C0 and C1 control characters, the marks that reorder text (Trojan Source, CVE-2021-42574), separators of
# lines that are not newlines, and what has no width. The joiners U+200C and U+200D stay: scripts and emoji
# need them.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def console() -> Console:
    """Return a console for standard output; markup and emoji codes in texts mean nothing to it."""
    return Console(markup=False, emoji=False, highlight=False)


def escape_controls(text: str) -> str:
    """Return the text with control characters spelled out, so that a terminal only shows them."""
    return _CONTROLS.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def shorten(text: str, length: int = 200) -> str:
    """Return the beginning of a text, of so many characters at most, on one line and without controls."""
    line = one_line(text[: 8 * length])  # what is left out need not be looked through
    return line if len(line) <= length and len(text) <= 8 * length else f"{line[: length - 1]}…"


def one_line(text: str) -> str:
    """Return the text as it is shown in a table cell: on one line, control characters spelled out."""
    return escape_controls(" ".join(text.split()))


def with_role(role: str | None, content: str) -> str:
    return f"{one_line(role)}: {one_line(content)}" if role else one_line(content)


def format_time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if moment else "-"


def format_scope(*parts: str | None, default: str = "-") -> str:
    return " / ".join(one_line(part) for part in parts if part) or default


def progress_bar(*, is_shown: bool = True) -> Progress:
    """Return a bar for long work: drawn on a terminal, silent elsewhere."""
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console(),
        transient=True,
        disable=not is_shown or not sys.stdout.isatty(),
    )


def print_json(value: object) -> None:
    """Print a value as JSON: keys as text, numbers that JSON has not (NaN, Infinity) as text too; characters
    that could steer a terminal are escaped."""
    text = json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False)
    click.echo(_CONTROLS.sub(lambda match: json.dumps(match.group())[1:-1], text))


def print_table(
    title: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], *, note: str = ""
) -> None:
    """Print a table; `columns` are names with their justification, the last column takes the room left."""
    table = Table(box=None)
    for number, (name, justify) in enumerate(columns):
        is_last = number == len(columns) - 1
        table.add_column(
            name,
            justify=justify,  # type: ignore[arg-type]
            header_style="dim",
            no_wrap=not is_last,
            overflow="fold" if is_last else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if title:
        click.secho(title, bold=True)
    console().print(table)
    if note:
        click.secho(note, dim=True)
    click.echo()


_ROWS_OF_TABLE = 1000
"""Of so many rows a table is laid out in a moment; more are printed as lines."""


def print_rows(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print the result of a query: as a table where it fits, else each row as lines of name and value."""
    heads = [one_line(name) for name in names]
    cells = [[one_line("" if value is None else str(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    note = f"{len(rows):,} row" + ("" if len(rows) == 1 else "s")
    is_narrow = sum(widths) + 2 * len(widths) <= console().width
    if is_narrow and len(rows) > _ROWS_OF_TABLE:
        for row in (heads, *cells):
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        click.echo(note)
        return
    if is_narrow:
        print_table("", [(head, "left") for head in heads], cells, note=note)
        return
    label = max(map(len, heads))
    for number, row in enumerate(cells, start=1):
        click.echo(f"-- row {number}")
        for head, cell in zip(heads, row, strict=True):
            click.echo(f"{head:>{label}}  {cell}")
    click.echo(note)


def _plain(value: object) -> Any:
    """Return a value as JSON has it."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    return str(value)


def _key(key: object) -> str:
    """Return a key as text; of those that JSON has other values for, as json.dumps writes them."""
    if isinstance(key, bool) or key is None:
        return json.dumps(key)
    return key.isoformat() if isinstance(key, datetime) else str(key)
