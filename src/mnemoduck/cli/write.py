"""Commands that bring memories in and take them back."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Literal

import click

from mnemoduck.cli.options import Moment, home_option, scope_options
from mnemoduck.cli.output import escape_controls
from mnemoduck.errors import UsageError
from mnemoduck.memory import Memory


@click.command("remember")
@click.argument("content")
@home_option
@scope_options
@click.option("--role", help="Who said it, such as user or assistant.")
@click.option(
    "--type",
    "memory_type",
    type=click.Choice(["episodic", "semantic", "procedural"]),
    default="episodic",
    show_default=True,
    help="The kind of memory.",
)
@click.option("--tag", "tags", multiple=True, help="A tag; may be given several times.")
@click.option("--importance", type=click.FloatRange(0, 1), help="From 0 to 1.")
@click.option("--occurred-at", type=Moment(), help="When it happened, ISO 8601 in UTC. Default: now.")
@click.option("--durable", is_flag=True, help="Return only when it also survives a loss of power.")
def remember_command(
    content: str,
    home: Path | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    role: str | None,
    memory_type: Literal["episodic", "semantic", "procedural"],
    tags: tuple[str, ...],
    importance: float | None,
    occurred_at: datetime | None,
    durable: bool,
) -> None:
    """Remember CONTENT and print its memory id; `-` reads it from standard input."""
    text = sys.stdin.buffer.read().decode("utf-8", errors="surrogateescape") if content == "-" else content
    with Memory(home) as memory:
        memory_id = memory.remember(
            text,
            role=role,
            user_id=user_id,
            agent_id=agent_id,
            session_id=session_id,
            occurred_at=occurred_at,
            memory_type=memory_type,
            tags=tags,
            importance=importance,
            durable=durable,
        )
    click.echo(str(memory_id))


@click.command("forget")
@click.argument("memory_ids", nargs=-1, metavar="[MEMORY_ID]...")
@home_option
@scope_options
@click.option("--before", type=Moment(), help="Only what happened before this moment.")
@click.option("--reason", help="Kept with the order.")
@click.option("--yes", is_flag=True, help="Do not ask before a whole scope is forgotten.")
def forget_command(
    memory_ids: tuple[str, ...],
    home: Path | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    before: datetime | None,
    reason: str | None,
    yes: bool,
) -> None:
    """Forget memories by id, or everything of a scope. Takes effect at once; nothing is deleted."""
    if not memory_ids and not yes and any((user_id, agent_id, session_id, before)):
        if not sys.stdin.isatty():
            raise UsageError("Forgetting a whole scope asks first; add --yes where nobody can answer.")
        click.confirm(
            f"Forget everything with user={user_id or 'any'}, agent={agent_id or 'any'}, "
            f"session={session_id or 'any'}, before={before or 'now'}?",
            abort=True,
        )
    with Memory(home) as memory:
        order_id = memory.forget(
            memory_ids,
            user_id=user_id,
            agent_id=agent_id,
            session_id=session_id,
            before=before,
            reason=reason,
        )
    what = f"{len(memory_ids)} memories" if memory_ids else "the scope"
    click.echo(f"Forgot {what}; the order is {escape_controls(str(order_id))}.")


@click.command("ingest")
def ingest_command() -> None:
    """Import files."""
