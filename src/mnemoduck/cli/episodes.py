"""Commands that log episodes step by step, show them, and say what has helped."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click

from mnemoduck.cli.options import (
    Moment,
    Whose,
    existing,
    home_option,
    json_option,
    limit_option,
    read_text,
    scope_options,
    whose_options,
)
from mnemoduck.cli.output import (
    escape_controls,
    format_scope,
    format_time,
    one_line,
    print_json,
    shorten,
)
from mnemoduck.episodes.stored import OPEN, OUTCOMES, StoredEpisode, StoredStep
from mnemoduck.errors import UsageError
from mnemoduck.memory import Memory

SHOWN_CHARACTERS = 300
"""Of an observation or a message in `show`; --json has it whole."""


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object; what is in it is checked with the event."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            read = json.loads(str(value))
        except (ValueError, RecursionError) as error:
            self.fail(f"{value!r} is not JSON ({error}).", param, ctx)
        if not isinstance(read, dict):
            self.fail(f"""{value!r} is no JSON object, such as '{{"city": "Lisbon"}}'.""", param, ctx)
        return read


_occurred_at = click.option(
    "--occurred-at", type=Moment(), help="When it was, ISO 8601 in UTC. Default: now."
)
_step = click.option(
    "--step",
    type=click.IntRange(0, 1_000_000),
    help="Its number in the episode, from 0. Default: 0, and equal numbers are in order of their time.",
)


@click.group("episode")
def episode_group() -> None:
    """Log what an agent does to carry out a task, step by step, and look at it.

    What is logged is on disk when a command returns, and part of what is shown and learned from after the
    next `mnemoduck run`. Give each command the user that the episode was started with.
    """


@episode_group.command("start")
@click.argument("task")
@home_option
@whose_options
@click.option(
    "--domain", metavar="NAME", help="The kind of tasks it belongs to: patterns are found within one."
)
@click.option("--task-id", metavar="ID", help="Episodes of the same are attempts at the same task.")
@click.option("--context", type=JsonObject(), help="What may matter for success, a JSON object.")
@click.option("--id", "episode_id", metavar="ID", help="The id of the episode. Default: a new one.")
@_occurred_at
def start_command(
    task: str,
    home: Path | None,
    whose: Whose,
    domain: str | None,
    task_id: str | None,
    context: dict[str, Any] | None,
    episode_id: str | None,
    occurred_at: datetime | None,
) -> None:
    """Begin an episode, an attempt at TASK, and print its id; `-` reads the task from standard input."""
    with Memory(home) as memory:
        started = memory.start_episode(
            read_text(task),
            domain=domain,
            task_id=task_id,
            context=context,
            episode_id=episode_id,
            occurred_at=occurred_at,
            durable=True,
            **whose,
        )
    click.echo(escape_controls(started))


@episode_group.command("step")
@click.argument("episode_id")
@click.argument("tool")
@home_option
@whose_options
@click.option("--args", "arguments", type=JsonObject(), help="What the tool was called with, a JSON object.")
@click.option("--observation", metavar="TEXT", help="What it gave back; `-` reads it from standard input.")
@click.option("--error", metavar="TEXT", help="Why it failed.")
@click.option("--failed", is_flag=True, help="It failed, and nobody knows why.")
@click.option("--latency-ms", type=click.FloatRange(0), help="How many milliseconds it took.")
@click.option("--requestor", metavar="NAME", help="Who called it. Default: the agent.")
@_step
@_occurred_at
def step_command(
    episode_id: str,
    tool: str,
    home: Path | None,
    whose: Whose,
    arguments: dict[str, Any] | None,
    observation: str | None,
    error: str | None,
    failed: bool,
    latency_ms: float | None,
    requestor: str | None,
    step: int | None,
    occurred_at: datetime | None,
) -> None:
    """Log a call of TOOL in an episode, and print the id of its event."""
    with Memory(home) as memory:
        event_id = memory.log_step(
            episode_id,
            tool,
            arguments,
            None if observation is None else read_text(observation),
            error=failed if error is None else error,
            latency_ms=latency_ms,
            requestor=requestor,
            step=step,
            occurred_at=occurred_at,
            durable=True,
            **whose,
        )
    click.echo(str(event_id))


@episode_group.command("message")
@click.argument("episode_id")
@click.argument("role")
@click.argument("text")
@home_option
@whose_options
@_step
@_occurred_at
def message_command(
    episode_id: str,
    role: str,
    text: str,
    home: Path | None,
    whose: Whose,
    step: int | None,
    occurred_at: datetime | None,
) -> None:
    """Log what ROLE (user, assistant…) said in an episode; `-` reads TEXT from standard input."""
    with Memory(home) as memory:
        event_id = memory.log_message(
            episode_id,
            role,
            read_text(text),
            step=step,
            occurred_at=occurred_at,
            durable=True,
            **whose,
        )
    click.echo(str(event_id))


@episode_group.command("complete")
@click.argument("episode_id")
@click.argument("outcome", type=click.Choice(OUTCOMES))
@home_option
@whose_options
@click.option("--reward", type=float, help="What it was worth, on a scale of your own.")
@_occurred_at
def complete_command(
    episode_id: str,
    outcome: Literal["success", "failure", "abandoned"],
    home: Path | None,
    whose: Whose,
    reward: float | None,
    occurred_at: datetime | None,
) -> None:
    """Say how an episode ended, and print the id of the event."""
    with Memory(home) as memory:
        event_id = memory.complete_episode(
            episode_id,
            outcome,
            reward=reward,
            occurred_at=occurred_at,
            durable=True,
            **whose,
        )
    click.echo(str(event_id))


@episode_group.command("list")
@home_option
@scope_options
@click.option("--domain", metavar="NAME", help="Only this kind of tasks.")
@click.option("--outcome", type=click.Choice([*OUTCOMES, OPEN]), help="Only what ended so, or has not ended.")
@limit_option
@json_option
def list_command(
    home: Path | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    domain: str | None,
    outcome: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the episodes of the last build, the latest first."""
    with existing(home) as memory:
        episodes = memory.episodes(
            user_id=user_id,
            agent_id=agent_id,
            session_id=session_id,
            domain=domain,
            outcome=outcome,
            limit=limit,
        )
    if as_json:
        print_json([_without_steps(episode) for episode in episodes])
    elif not episodes:
        click.echo("There is no such episode. What was logged is shown after the next `mnemoduck run`.")
    else:
        for episode in episodes:
            _print_episode(episode)


@episode_group.command("show")
@click.argument("episode_id")
@home_option
@click.option("--user", "user_id", metavar="ID", help="Whose episode, where several have one of this id.")
@json_option
def show_episode_command(episode_id: str, home: Path | None, user_id: str | None, as_json: bool) -> None:
    """Show an episode of the last build with all its steps."""
    with existing(home) as memory:
        episode = memory.get_episode(episode_id, user_id=user_id)
    if episode is None:
        raise UsageError(
            f"There is no episode {one_line(episode_id)!r} in the last build. What was logged is shown after "
            "the next `mnemoduck run`."
        )
    if as_json:
        print_json(episode)
        return
    reward = "" if episode.reward is None else f", reward {episode.reward:g}"
    lines = {
        "episode": episode.episode_id,
        "whose": format_scope(episode.user_id, episode.agent_id, episode.session_id),
        "domain": episode.domain or "-",
        "task": episode.task or "-",
        "context": json.dumps(episode.context, ensure_ascii=False) if episode.context else "-",
        "began": format_time(episode.started_at),
        "ended": f"{format_time(episode.completed_at)}, {episode.outcome or OPEN}{reward}",
    }
    for name, text in lines.items():
        click.echo(f"{name:>10}  {one_line(text)}")
    click.echo()
    for step in episode.steps or []:
        _print_step(step)


@click.command("feedback")
@click.argument("kind", type=click.Choice(["pattern", "memory"]))
@click.argument("id_", metavar="ID")
@click.argument("outcome", type=click.Choice(["success", "failure"]))
@home_option
@whose_options
@click.option("--note", help="Kept with it.")
@_occurred_at
def feedback_command(
    kind: Literal["pattern", "memory"],
    id_: str,
    outcome: Literal["success", "failure"],
    home: Path | None,
    whose: Whose,
    note: str | None,
    occurred_at: datetime | None,
) -> None:
    """Say whether a pattern, or a memory, has helped, and print the id of the event.

    A pattern is judged by the user whose it is, as `mnemoduck patterns` tells: what others say of it is kept
    and does not count.
    """
    with Memory(home) as memory:
        event_id = memory.feedback(
            outcome,
            pattern_id=id_ if kind == "pattern" else None,
            memory_id=id_ if kind == "memory" else None,
            note=note,
            occurred_at=occurred_at,
            durable=True,
            **whose,
        )
        is_known = kind != "pattern" or memory.has_pattern(id_, user_id=whose["user_id"])
    click.echo(str(event_id))
    if not is_known:
        click.echo(
            f"Warning: the last build has no pattern {shorten(id_, 60)} of "
            + (f"the user {shorten(whose['user_id'], 60)}" if whose["user_id"] else "no user")
            + ". What was said is kept, and counts if there is one: `mnemoduck patterns --json` has the ids, "
            "and --user says whose it is.",
            err=True,
        )


def _without_steps(episode: StoredEpisode) -> dict[str, Any]:
    return {name: value for name, value in episode.as_dict().items() if name != "steps"}


def _beginning(text: str, characters: int) -> str:
    line = one_line(text)
    return line if len(line) <= characters else f"{line[:characters]}…"


def _print_episode(episode: StoredEpisode) -> None:
    """Print an episode in two lines: what came of it, then whose it is and what was to be done."""
    failed = f", {episode.error_count:,} failed" if episode.error_count else ""
    click.echo(
        f"{format_time(episode.started_at)}  {episode.outcome or OPEN:<9}  {one_line(episode.episode_id)}: "
        f"{episode.tool_count:,} call{'' if episode.tool_count == 1 else 's'}{failed}"
    )
    whose = format_scope(one_line(episode.domain) or None, episode.user_id, episode.agent_id)
    click.echo(f"    {whose}: {_beginning(episode.task or '-', 100)}")


def _print_step(step: StoredStep) -> None:
    if step.step_type == "message":
        click.echo(f"{step.place:>3}. {one_line(step.role or 'message')}: {_shown(step.text)}")
        return
    by = f" (by {one_line(step.requestor)})" if step.requestor else ""
    took = "" if step.latency_ms is None else f" in {step.latency_ms:g} ms"
    arguments = _beginning(json.dumps(step.args, ensure_ascii=False), SHOWN_CHARACTERS) if step.args else ""
    click.echo(f"{step.place:>3}. {one_line(step.tool or '')}({arguments}){by}{took}")
    if step.is_error:
        click.echo(f"     failed: {_shown(step.error or step.observation)}")
    elif step.observation is not None:
        click.echo(f"     -> {_shown(step.observation)}")


def _shown(text: str | None) -> str:
    return _beginning(text, SHOWN_CHARACTERS) if text else "-"
