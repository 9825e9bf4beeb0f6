"""Commands that read: a memory, working memory, long-term memory, SQL, status. Recall has its own module."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from mnemoduck.cli.options import (
    as_of_option,
    existing,
    home_option,
    json_option,
    limit_option,
    scope_options,
)
from mnemoduck.cli.output import (
    escape_controls,
    format_bytes,
    format_scope,
    format_time,
    one_line,
    print_json,
    print_rows,
    print_table,
    with_role,
)
from mnemoduck.errors import UsageError
from mnemoduck.home import open_home
from mnemoduck.redaction import describe_counts
from mnemoduck.status import read_status


@click.command("show")
@click.argument("memory_id")
@home_option
@json_option
def show_command(memory_id: str, home: Path | None, as_json: bool) -> None:
    """Show one memory by its id, as it was remembered."""
    with existing(home) as memory:
        found = memory.get(memory_id)
    if found is None:
        raise UsageError(f"There is no memory {one_line(memory_id)}, or it was forgotten.")
    if as_json:
        print_json(found)
        return
    lines = {
        "memory": str(found.memory_id) + (" (new)" if found.is_fresh else ""),
        "whose": format_scope(found.user_id, found.agent_id, found.session_id),
        "when": f"{format_time(found.occurred_at)}, recorded {format_time(found.recorded_at)}",
        "type": found.memory_type,
        "tags": ", ".join(found.tags) or "-",
        "important": f"{found.importance:.2f}",
        "metadata": json.dumps(found.metadata, ensure_ascii=False) if found.metadata else "-",
    }
    for name, text in lines.items():
        click.echo(f"{name:>10}  {one_line(text)}")
    click.echo()
    click.echo(escape_controls(f"{found.role}: {found.content}" if found.role else found.content))


@click.command("working-memory")
@home_option
@scope_options
@as_of_option
@json_option
def working_memory_command(
    home: Path | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """Show what is in mind: 5 to 9 memories of the last minutes, the most pressing first."""
    with existing(home) as memory:
        slots = memory.working_memory(user_id=user_id, agent_id=agent_id, session_id=session_id, as_of=as_of)
    if as_json:
        print_json(slots)
    elif not slots:
        click.echo(
            "Nothing is in mind: nothing was remembered in the last minutes before "
            f"{format_time(as_of) if as_of else 'now'}. Look from another moment with --as-of."
        )
    else:
        print_table(
            f"Working memory of {format_scope(user_id, agent_id, session_id, default='everyone')}"
            f" at {format_time(as_of) if as_of else 'this moment'}",
            [
                ("slot", "right"),
                ("priority", "right"),
                ("active", "right"),
                ("important", "right"),
                ("when", "left"),
                ("memory", "left"),
            ],
            [
                (
                    str(slot.slot),
                    f"{slot.priority:.2f}",
                    f"{slot.activation_term:.2f}",
                    f"{slot.importance_term:.2f}",
                    slot.occurred_at.strftime("%H:%M:%S"),
                    with_role(slot.role, slot.content),
                )
                for slot in slots
            ],
            note=f"capacity {slots[0].capacity} of 5 to 9 (coherence {slots[0].coherence:.2f})",
        )


@click.command("long-term")
@home_option
@scope_options
@limit_option
@as_of_option
@json_option
def long_term_command(
    home: Path | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    limit: int,
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """Show the strongest consolidated memories of the last build, each by its gist.

    What is forgotten or superseded is left out; the table consolidated has it, with its fate.
    """
    with existing(home) as memory:
        memories = memory.long_term(
            user_id=user_id, agent_id=agent_id, session_id=session_id, limit=limit, as_of=as_of
        )
    if as_json:
        print_json(memories)
    elif not memories:
        click.echo(
            "Nothing is in long-term memory at this moment. It has not been consolidated yet, or it is "
            "forgotten by now: build it with `mnemoduck run`, or look from another moment with --as-of."
        )
    else:
        has_recalls = any(item.recall_count for item in memories)
        print_table(
            f"Strongest long-term memories at {format_time(as_of) if as_of else 'this moment'}",
            [
                ("strength", "right"),
                ("retained", "right"),
                ("seen", "right"),
                *([("recalled", "right")] if has_recalls else []),
                ("last", "left"),
                ("whose", "left"),
                ("memory", "left"),
            ],
            [
                (
                    f"{item.strength:.2f}",
                    f"{item.retention:.0%}",
                    f"{item.support_count}x",
                    *([f"{item.recall_count}x"] if has_recalls else []),
                    format_time(item.last_used_at),
                    format_scope(item.user_id, item.agent_id),
                    with_role(item.role, min(item.content, item.gist, key=len)),
                )
                for item in memories
            ],
        )


@click.command("sql")
@click.argument("query")
@home_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Interrupt it after so long, 0 for never. Default: the setting sql.timeout_seconds, 300.",
)
@json_option
def sql_command(query: str, home: Path | None, timeout: float | None, as_json: bool) -> None:
    """Run one SELECT on the published snapshot, read-only.

    It sees what all users remember. Tables to begin with: working_memory, short_term, consolidated. `show
    tables` lists the rest of them, `describe consolidated` the columns of one.
    """
    with existing(home) as memory:
        cursor = memory.cursor_for(query, timeout=timeout)
        names = [column[0] for column in cursor.description or ()]
        rows = cursor.fetchall()
    if as_json:
        keys = _numbered(names)
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        print_rows(names, rows)


def _numbered(names: Sequence[str]) -> list[str]:
    """Return names of columns, with a number where one is there already: a, a_1, as in a DataFrame."""
    found: list[str] = []
    for name in names:
        other, number = name, 0
        while other in found:
            number += 1
            other = f"{name}_{number}"
        found.append(other)
    return found


@click.command("status")
@home_option
@json_option
def status_command(home: Path | None, as_json: bool) -> None:
    """Say what the home holds, what waits, and whether a run is at work."""
    status = read_status(open_home(home, create=False))
    if as_json:
        print_json(status)
        return
    published = (
        f"{status.snapshot} of {format_time(status.published_at)}" if status.snapshot else "nothing yet"
    )
    lines = {
        "home": status.home,
        "published": published,
        "memories": f"{status.memories:,}, of which {status.forgotten_memories:,} forgotten",
        "long-term": f"{status.consolidated_memories:,} consolidated memories",
        "in mind": f"{status.working_memory_slots:,} slots over all scopes",
        "waiting": f"{status.waiting_events:,} events for the next run",
        "quarantine": f"{status.quarantined_lines:,} lines",
        "redacted": _describe_redactions(status.redactions),
        "run": status.running or "none at work",
        "recall cache": _describe_cache(status.recall_cache),
        "expectations": _describe_verdicts(status.expectations, status.data_docs),
        "disk": ", ".join(f"{name} {format_bytes(size)}" for name, size in status.bytes.items()),
    }
    for name, text in lines.items():
        click.echo(f"{name:>12}  {one_line(text)}")


def _describe_redactions(redactions: dict[str, dict[str, int]]) -> str:
    """Return how many secrets were replaced, and how many were only counted."""
    said = [
        *([describe_counts(counts)] if (counts := redactions.get("redact")) else []),
        *([f"{describe_counts(counts)} only reported"] if (counts := redactions.get("report")) else []),
    ]
    return "; ".join(said) or "nothing"


def _describe_verdicts(verdicts: dict[str, dict[str, Any]], docs: str | None) -> str:
    """Return what came of the last check of each suite, and where that is to be read."""
    said = [
        f"{suite} {verdict['result']} ({format_time(datetime.fromisoformat(verdict['checked_at']))})"
        for suite, verdict in verdicts.items()
    ]
    return "; ".join([*said, *([docs] if docs else [])]) or "not checked yet"


def _describe_cache(levels: dict[str, dict[str, Any]]) -> str:
    """Return how often each level had what was looked for."""
    rates = [
        f"{name} {level['hit_rate']:.1%} of {level['hits'] + level['misses']:,}"
        for name, level in levels.items()
        if level["hit_rate"] is not None
    ]
    return ", ".join(rates) or "not used yet"
