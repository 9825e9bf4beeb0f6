"""Options that several commands share, and the home that they name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import click

from mnemoduck.errors import UsageError
from mnemoduck.events import MAX_CONTENT_BYTES, MAX_LINE_BYTES
from mnemoduck.home import open_home
from mnemoduck.memory import Memory
from mnemoduck.project import PROJECT_VARIABLE
from mnemoduck.reader import MAX_LIMIT

Command = TypeVar("Command", bound=Callable[..., Any])

_SCOPE = ("session", "agent", "user")
"""Last first, as decorators put options in front."""


class Moment(click.ParamType[datetime]):
    """A date or time in ISO 8601; without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(
                f"{value!r} is not a date or time; write it like 2026-03-15 or 2026-03-15T18:30:00Z.",
                param,
                ctx,
            )
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def home_option(command: Command) -> Command:
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        help="The home folder. Default: MNEMODUCK_HOME, else .mnemoduck here.",
    )(command)


def wait_option(
    for_what: str = "Wait so long for a run that is at work.", minutes: float = 0
) -> Callable[[Command], Command]:
    """Return the option `--wait MINUTES`, the argument `wait_minutes`.

    Args:
        minutes: where it is not given; 0 is not at all.
    """
    return click.option(
        "--wait",
        "wait_minutes",
        type=click.FloatRange(min=0),
        default=minutes,
        show_default=bool(minutes),
        metavar="MINUTES",
        help=for_what if minutes else f"{for_what} Default: not at all.",
    )


def project_option(command: Command) -> Command:
    return click.option(
        "--project",
        type=click.Path(path_type=Path),
        help=f"The folder of the dbt project. Default: {PROJECT_VARIABLE}, else the one that came along.",
    )(command)


class Whose(TypedDict):
    """Whose it is what is written, by the names that `Memory` gives the parts of a scope."""

    user_id: str | None
    agent_id: str | None
    session_id: str | None


def scope_options(command: Command) -> Command:
    """Let a command that reads be told of whose."""
    for name in _SCOPE:
        command = click.option(f"--{name}", f"{name}_id", metavar="ID", help=f"Only this {name}.")(command)
    return command


def whose_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command that writes be told whose it is what it writes; it gets that as one argument, `whose`."""

    @wraps(command)
    def with_whose(
        *arguments: Any, user_id: str | None, agent_id: str | None, session_id: str | None, **options: Any
    ) -> None:
        whose = Whose(user_id=user_id, agent_id=agent_id, session_id=session_id)
        command(*arguments, whose=whose, **options)

    for name in _SCOPE:
        with_whose = click.option(
            f"--{name}", f"{name}_id", metavar="ID", help=f"The {name} that it belongs to."
        )(with_whose)
    return with_whose


def as_of_option(command: Command) -> Command:
    return click.option(
        "--as-of", type=Moment(), help="The moment to look from, ISO 8601 in UTC. Default: now."
    )(command)


def limit_option(command: Command) -> Command:
    return click.option(
        "--limit", type=click.IntRange(0, MAX_LIMIT), default=10, show_default=True, help="At most so many."
    )(command)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


def read_text(value: str) -> str:
    """Return the text of an argument; `-` stands for standard input, of which no more is read than is taken.

    Raises:
        UsageError: standard input holds more than any event does.
    """
    if value != "-":
        return value
    data = sys.stdin.buffer.read(MAX_LINE_BYTES + 1)
    if len(data) > MAX_LINE_BYTES:
        raise UsageError(
            f"Standard input holds more than {MAX_LINE_BYTES:,} bytes, and a memory takes "
            f"{MAX_CONTENT_BYTES:,}. Split it, or keep the file elsewhere and remember where it is."
        )
    return data.decode("utf-8", errors="surrogateescape")


def existing(home: Path | None) -> Memory:
    """Open a home to read from; a mistyped path is an error, not a new home."""
    return Memory(open_home(home, create=False).path)
