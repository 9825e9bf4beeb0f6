"""The commands that show what was learnt from episodes: patterns, and what to do next."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click

from mnemoduck.cli.options import as_of_option, existing, home_option, json_option, limit_option
from mnemoduck.cli.output import format_scope, one_line, print_json, print_table
from mnemoduck.episodes.patterns import KINDS
from mnemoduck.episodes.records import NextStep, Pattern, SimilarEpisode
from mnemoduck.reader import MAX_LIMIT

_LONGEST_ARGS = 60


@click.command("patterns")
@home_option
@click.option("--user", "user_id", metavar="ID", help="Only this user.")
@click.option("--domain", metavar="NAME", help="Only this domain.")
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind.")
@click.option(
    "--actionable", is_flag=True, help="Only those that surely go with success, as far as was seen."
)
@limit_option
@json_option
def patterns_command(
    home: Path | None,
    user_id: str | None,
    domain: str | None,
    kind: str | None,
    actionable: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Show patterns of the last build: what agents do again and again, and how that goes with success."""
    with existing(home) as memory:
        found = memory.patterns(
            user_id=user_id, domain=domain, kind=kind, actionable=actionable or None, limit=limit
        )
    if as_json:
        print_json(found)
    elif not found:
        click.echo(
            "There is no such pattern. Patterns are mined from episodes that have ended, by `mnemoduck run`."
        )
    else:
        _print_patterns(f"{len(found):,} pattern{'' if len(found) == 1 else 's'}", found)


@click.command("suggest")
@click.argument("task")
@home_option
@click.option(
    "--so-far",
    "so_far",
    multiple=True,
    metavar="TOOL",
    help='A call that was made, first to last; for each one an option. Ends in "!" if it failed.',
)
@click.option("--user", "user_id", metavar="ID", help="Whose episodes. Default: those of no user.")
@click.option("--agent", "agent_id", metavar="ID", help="Only episodes of this agent.")
@click.option("--domain", metavar="NAME", help="Only episodes of this domain.")
@click.option(
    "--limit",
    type=click.IntRange(0, MAX_LIMIT),
    default=5,
    show_default=True,
    help="At most so many of each.",
)
@as_of_option
@json_option
def suggest_command(
    task: str,
    home: Path | None,
    so_far: tuple[str, ...],
    user_id: str | None,
    agent_id: str | None,
    domain: str | None,
    limit: int,
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """Show what worked in episodes like TASK: next steps, similar episodes, and patterns."""
    steps = [
        {"tool": one.removesuffix("!"), "error": one.endswith("!") or None} if one != "!" else {"tool": one}
        for one in so_far
    ]
    with existing(home) as memory:
        suggestion = memory.suggest(
            task, steps, user_id=user_id, agent_id=agent_id, domain=domain, limit=limit, as_of=as_of
        )
    if as_json:
        print_json(suggestion)
        return
    if not suggestion.episode_count:
        click.echo(
            "There is no episode to learn from. Episodes count when they have ended, after the next "
            "`mnemoduck run`; name the user whose they are with --user"
            + (", and look at --domain and --agent." if domain is not None or agent_id else ".")
        )
        return
    if suggestion.next_steps:
        _print_steps(suggestion.next_steps, suggestion.finish_probability)
    if suggestion.episodes:
        _print_episodes(suggestion.episodes)
    if suggestion.patterns:
        _print_patterns("Patterns that begin like this", suggestion.patterns)
    click.echo(
        f"Learnt from {suggestion.episode_count:,} "
        f"episode{'' if suggestion.episode_count == 1 else 's'}"
        + (f" of {one_line(domain)}." if domain else ".")
    )


def _print_steps(steps: list[NextStep], finish_probability: float) -> None:
    print_table(
        "Next steps",
        [
            ("likely", "right"),
            ("success", "right"),
            ("95 % interval", "left"),
            ("episodes", "right"),
            ("tool", "left"),
            ("for example with", "left"),
        ],
        [
            [
                f"{one.probability:.0%}",
                f"{one.confidence:.0%}",
                _interval(one.confidence_low, one.confidence_high),
                f"{one.support:,}",
                one_line(one.tool),
                _show_args(one.args),
            ]
            for one in steps
        ],
        note=f"to end here: {finish_probability:.0%}",
    )


def _print_episodes(episodes: list[SimilarEpisode]) -> None:
    """Print each in two lines: ids and tasks are too long to stand side by side."""
    click.secho("Similar episodes", bold=True)
    for one in episodes:
        calls = "1 call" if len(one.tools) == 1 else f"{len(one.tools):,} calls"
        click.echo(f"{one.similarity:>5.0%}  {one.outcome:<9}  {one_line(one.episode_id)}: {calls}")
        click.echo(f"       {_shorten(one_line(one.task), 100)}")
    click.echo()


def _print_patterns(title: str, patterns: list[Pattern]) -> None:
    columns = {
        "kind": [one.kind for one in patterns],
        "success": [f"{one.confidence:.0%}" for one in patterns],
        "95 % interval": [_interval(one.confidence_low, one.confidence_high) for one in patterns],
        "base": [f"{one.base_rate:.0%}" for one in patterns],
        "episodes": [f"{one.support:,}" for one in patterns],
        "whose": [format_scope(one.user_id, one.domain) for one in patterns],
        "pattern": [("* " if one.is_actionable else "") + one_line(one.pattern) for one in patterns],
    }
    if len(set(columns["whose"])) == 1:
        whose = columns.pop("whose")[0]
        title += "" if whose == "-" else f" of {whose}"
    numbers = {"success", "base", "episodes"}
    print_table(
        title,
        [(name, "right" if name in numbers else "left") for name in columns],
        zip(*columns.values(), strict=True),
        note="*: surely goes with success; --json has ids, examples and tests",
    )


def _interval(low: float, high: float) -> str:
    return f"{low:.0%} to {high:.0%}"


def _show_args(args: object) -> str:
    return _shorten(one_line(json.dumps(args, ensure_ascii=False)), _LONGEST_ARGS) if args else "-"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
