"""The command that recalls: filters, explanations, a context block within a budget."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click

from mnemoduck.cli.options import (
    Moment,
    as_of_option,
    existing,
    home_option,
    json_option,
    limit_option,
    scope_options,
)
from mnemoduck.cli.output import (
    escape_controls,
    format_scope,
    format_time,
    one_line,
    print_json,
    print_table,
    shorten,
    with_role,
)
from mnemoduck.recall import Recollection
from mnemoduck.recall.filters import FATES, MEMORY_TYPES
from mnemoduck.recall.recording import RecallNotRecordedWarning
from mnemoduck.recall.records import TIME_MODES

_PART_NAMES = {
    "words": "own words",
    "context": "neighbours",
    "session": "session",
    "meaning": "meaning",
    "time": "time",
    "prior": "how well held",
}


class MetadataValue(click.ParamType[tuple[str, Any]]):
    """KEY=VALUE; the value is JSON if it can be read as a text, number, true, false or null, else a text."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        key, sign, text = str(value).partition("=")
        if not sign or not key:
            self.fail(f"{value!r} is not KEY=VALUE, such as source=diary or page=3.", param, ctx)
        try:
            read = json.loads(text)
        except (ValueError, RecursionError):
            read = text
        if isinstance(read, float) and not math.isfinite(read):  # NaN and Infinity are words: no JSON
            read = text
        return key, text if isinstance(read, dict | list) else read


@click.command("recall")
@click.argument("query")
@home_option
@scope_options
@limit_option
@as_of_option
@click.option(
    "--type", "memory_types", type=click.Choice(MEMORY_TYPES), multiple=True, help="Only this type, or these."
)
@click.option("--tag", "tags", multiple=True, help="Only what has this tag; repeat for all of several.")
@click.option(
    "--metadata", type=MetadataValue(), multiple=True, help="Only what has this value, such as source.page=3."
)
@click.option("--since", type=Moment(), help="Only what happened at this time or later.")
@click.option("--until", type=Moment(), help="Only what happened before this time.")
@click.option(
    "--min-strength",
    type=click.FloatRange(0, 1),
    help="Only what is retrieved with at least this probability.",
)
@click.option("--min-importance", type=click.FloatRange(0, 1), help="Only what is at least so important.")
@click.option(
    "--fate", "fates", type=click.Choice(FATES), multiple=True, help="Only what has this fate, or these."
)
@click.option(
    "--times",
    type=click.Choice(TIME_MODES),
    default="boost",
    show_default=True,
    help="What a time in the query does to memories: lift those of it, leave out all others, nothing.",
)
@click.option(
    "--diversity",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="From 0, off, to 1: how little results may repeat.",
)
@click.option("--explain", is_flag=True, help="Say how each result came to be.")
@click.option(
    "--budget",
    type=click.IntRange(1, 1_000_000),
    help="Print a block for a prompt of at most so many tokens.",
)
@click.option("--no-record", is_flag=True, help="Do not record what is recalled; recorded, it gets stronger.")
@json_option
def recall_command(
    query: str,
    home: Path | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    limit: int,
    as_of: datetime | None,
    memory_types: tuple[str, ...],
    tags: tuple[str, ...],
    metadata: tuple[tuple[str, Any], ...],
    since: datetime | None,
    until: datetime | None,
    min_strength: float | None,
    min_importance: float | None,
    fates: tuple[str, ...],
    times: Literal["boost", "filter", "off"],
    diversity: float,
    explain: bool,
    budget: int | None,
    no_record: bool,
    as_json: bool,
) -> None:
    """Find the memories that answer QUERY best, what arrived a moment ago included."""
    arguments: dict[str, Any] = {
        "user_id": user_id,
        "agent_id": agent_id,
        "session_id": session_id,
        "as_of": as_of,
        "memory_type": memory_types or None,
        "tags": tags,
        "metadata": dict(metadata),
        "since": since,
        "until": until,
        "min_strength": min_strength,
        "min_importance": min_importance,
        "fates": fates or None,
        "times": times,
        "diversity": diversity,
        "explain": explain,
        "record": False if no_record else None,
    }
    with _warnings_as_sentences(), existing(home) as memory:
        if budget is not None:
            is_limited = click.get_current_context().get_parameter_source("limit") is not (
                click.core.ParameterSource.DEFAULT
            )
            if is_limited:
                arguments["limit"] = limit
            block = memory.context_block(query, budget=budget, **arguments)
            if as_json:
                print_json(block)
            else:
                click.echo(block.text, nl=False)
                if not block.text:
                    click.echo(
                        "Nothing in memory matches, or the budget is too small for any of it.", err=True
                    )
            return
        found = memory.recall(query, limit=limit, **arguments)
    if as_json:
        print_json(found)
    elif not found:
        click.echo("Nothing in memory matches.")
    elif explain:
        _print_explained(query, found)
    else:
        print_table(
            f'Recall: "{shorten(query)}"',
            [("score", "right"), ("when", "left"), ("whose", "left"), ("seen", "right"), ("memory", "left")],
            [
                (
                    f"{item.score:.2f}",
                    format_time(item.occurred_at),
                    format_scope(item.user_id, item.agent_id),
                    f"{item.support_count}x" + (" new" if item.is_fresh else ""),
                    with_role(item.role, item.content),
                )
                for item in found
            ],
        )


def _print_explained(query: str, found: Sequence[Recollection]) -> None:
    click.secho(f'Recall: "{shorten(query)}"', bold=True)
    first = found[0].explanation
    if first is not None:
        for line in (*(f"time {text}" for text in first.times), *first.notes):
            click.echo(f"  {one_line(line)}")
    for number, item in enumerate(found, start=1):
        click.echo()
        click.echo(f"{number}. {with_role(item.role, item.content)}")
        for name, text in _explained(item):
            click.echo(f"{name:>12}  {one_line(text)}")


def _explained(item: Recollection) -> Iterator[tuple[str, str]]:
    parts = [(name, getattr(item.parts, key)) for key, name in _PART_NAMES.items()]
    made_of = " + ".join(f"{value:.2f} {name}" for name, value in parts if value) or "nothing"
    speaker = f" (who said it is named: x {item.parts.speaker:g})" if item.parts.speaker != 1 else ""
    yield "score", f"{item.score:.2f} = {made_of}{speaker}"
    yield (
        "found by",
        ", ".join(item.found_by) + (f": {', '.join(item.matched_terms)}" if item.matched_terms else ""),
    )
    yield "whose", f"{format_scope(item.user_id, item.agent_id, item.session_id)}, {item.memory_type}"
    yield "when", f"{format_time(item.occurred_at)}, recorded {format_time(item.recorded_at)}"
    why = item.explanation
    if why is None:
        return
    place = f"{why.segment}, line {why.line}" if why.segment else "the inbox, not built yet"
    yield "source", f"event {why.event_id} in {place}"
    yield (
        "held",
        f"strength {why.strength:.2f}, retained {why.retention:.0%}, important {item.importance:.2f}",
    )
    if why.is_consolidated:
        yield "became", f"{why.fate}: {why.fate_reason} Consolidated as {why.consolidated_id}."
    else:
        yield "became", "not consolidated yet"


@contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """Say on standard error that a recall was not recorded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RecallNotRecordedWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, RecallNotRecordedWarning):
            click.echo(f"Warning: {escape_controls(str(warning.message))}", err=True)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
