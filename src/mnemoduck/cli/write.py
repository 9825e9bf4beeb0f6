"""Commands that bring memories in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

import click
from rich.progress import Progress as ProgressBar
from rich.progress import TaskID

from mnemoduck.cli.options import Moment, Whose, home_option, json_option, read_text, whose_options
from mnemoduck.cli.output import escape_controls, one_line, print_json, progress_bar
from mnemoduck.event_ids import KnownEventIds
from mnemoduck.home import open_home
from mnemoduck.importers import FORMATS, IngestSummary, NothingIngestedError, Progress, ingest
from mnemoduck.memory import Memory
from mnemoduck.redaction import describe_counts
from mnemoduck.scope import Scope

_durable_option = click.option(
    "--durable/--no-durable",
    default=None,
    help="Whether to return only when it also survives a loss of power. Default: the setting write.durable.",
)


@click.command("remember")
@click.argument("content")
@home_option
@whose_options
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
@_durable_option
def remember_command(
    content: str,
    home: Path | None,
    whose: Whose,
    role: str | None,
    memory_type: Literal["episodic", "semantic", "procedural"],
    tags: tuple[str, ...],
    importance: float | None,
    occurred_at: datetime | None,
    durable: bool | None,
) -> None:
    """Remember CONTENT and print its memory id; `-` reads it from standard input."""
    text = read_text(content)
    with Memory(home) as memory:
        memory_id = memory.remember(
            text,
            role=role,
            occurred_at=occurred_at,
            memory_type=memory_type,
            tags=tags,
            importance=importance,
            durable=durable,
            **whose,
        )
    click.echo(str(memory_id))


@click.command("reinforce")
@click.argument("memory_ids", nargs=-1, required=True, metavar="MEMORY_ID...")
@home_option
@whose_options
@click.option("--query", help="What was asked for; kept with the event.")
@click.option("--occurred-at", type=Moment(), help="When it was, ISO 8601 in UTC. Default: now.")
@_durable_option
def reinforce_command(
    memory_ids: tuple[str, ...],
    home: Path | None,
    whose: Whose,
    query: str | None,
    occurred_at: datetime | None,
    durable: bool | None,
) -> None:
    """Record that memories were used together. The next run makes them stronger, and associates them."""
    with Memory(home) as memory:
        event_id = memory.reinforce(
            memory_ids,
            query=query,
            occurred_at=occurred_at,
            durable=durable,
            **whose,
        )
    click.echo(str(event_id))


@click.command("ingest")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@home_option
@click.option("--format", "format_", metavar="NAME", help=f"Instead of detecting: {', '.join(FORMATS)}.")
@click.option("--user", "user_id", metavar="ID", help="The user of records that name none.")
@click.option("--agent", "agent_id", metavar="ID", help="The agent of records that name none.")
@click.option("--session", "session_id", metavar="ID", help="The session of records that name none.")
@json_option
def ingest_command(
    files: tuple[Path, ...],
    home: Path | None,
    format_: str | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    as_json: bool,
) -> None:
    """Import files, or a folder of Markdown notes. Ingesting the same file again adds nothing.

    Reads events and memories as JSONL, memories as CSV or Parquet, notes as Markdown, episodes of agents, and
    LoCoMo and LongMemEval in their own formats. What cannot be read goes to quarantine with file, line and
    reason.
    """
    defaults = Scope(user_id, agent_id, session_id)
    opened = open_home(home)
    try:
        with progress_bar(is_shown=not as_json) as bar:
            summary = ingest(
                opened,
                files,
                format=format_,
                defaults=defaults,
                known_event_ids=KnownEventIds(opened),
                on_progress=_show_on(bar),
            )
    except NothingIngestedError as error:
        if as_json:
            _print_ingest_json(error.summary)
        raise
    if as_json:
        _print_ingest_json(summary)
    else:
        _print_ingest_summary(summary)
    if summary.problems:
        sys.exit(2)


def _show_on(bar: ProgressBar) -> Callable[[Progress], None]:
    tasks: dict[Path, TaskID] = {}

    def show(progress: Progress) -> None:
        if progress.path not in tasks:
            tasks[progress.path] = bar.add_task(one_line(progress.path.name), total=progress.bytes_total)
        bar.update(
            tasks[progress.path],
            completed=progress.bytes_done,
            description=f"{one_line(progress.path.name)}: {progress.records:,} records",
        )

    return show


def _print_ingest_summary(summary: IngestSummary) -> None:
    for file in summary.files:
        click.echo(
            f"{one_line(str(file.path))} ({file.format}): {file.accepted:,} accepted, "
            f"{file.duplicated:,} duplicated, {file.quarantined:,} quarantined in {file.seconds:.1f} s"
        )
        for reason, count in file.reasons.most_common(10):
            click.echo(f"  {count:,} x {one_line(reason)}")
        for quarantine_file in file.quarantine_files[:5]:
            click.echo(f"  see {quarantine_file}")
        if file.problem:
            click.echo(f"  {escape_controls(file.problem)}")
    if len(summary.files) > 1:
        click.echo(
            f"In all: {summary.accepted:,} accepted, {summary.duplicated:,} duplicated, "
            f"{summary.quarantined:,} quarantined in {summary.seconds:.1f} s"
        )
    if summary.redactions:
        done = "Redacted" if summary.redaction == "redact" else "Found, and left as it is"
        click.echo(f"{done}: {describe_counts(summary.redactions)}.")
    if summary.accepted:
        click.echo(_say_what_comes(summary))


def _say_what_comes(summary: IngestSummary) -> str:
    if not summary.visible:
        return "They change nothing yet: `mnemoduck run` builds them in, and learns from episodes."
    if summary.visible < summary.accepted:
        return f"Recall knows {summary.visible:,} of them at once; `mnemoduck run` builds them all in."
    return "They are found by recall at once; `mnemoduck run` makes them permanent memory."


def _print_ingest_json(summary: IngestSummary) -> None:
    print_json(
        {
            "accepted": summary.accepted,
            "duplicated": summary.duplicated,
            "quarantined": summary.quarantined,
            "reasons": dict(summary.reasons),
            "redaction": summary.redaction,
            "redactions": dict(summary.redactions),
            "seconds": summary.seconds,
            "files": [{**vars(file), "reasons": dict(file.reasons)} for file in summary.files],
        }
    )
