"""The command that shows what is to be learned from an episode."""

from __future__ import annotations

from pathlib import Path

import click

from mnemoduck.cli.options import existing, home_option, json_option
from mnemoduck.cli.output import escape_controls, format_scope, format_time, one_line, print_json


@click.command("reflect")
@click.argument("episode_id")
@home_option
@click.option(
    "--user", "user_id", metavar="ID", help="Whose episode it is, if several users have one of the id."
)
@json_option
def reflect_command(episode_id: str, home: Path | None, user_id: str | None, as_json: bool) -> None:
    """Show what was tried in an episode, where it failed, and what earlier successes did instead."""
    with existing(home) as memory:
        reflection = memory.reflect(episode_id, user_id=user_id)
    if as_json:
        print_json(reflection)
        return
    lines = {
        "episode": reflection.episode_id,
        "whose": format_scope(reflection.user_id, reflection.agent_id),
        "domain": reflection.domain or "-",
        "ended": f"{format_time(reflection.completed_at)}, {reflection.outcome}",
        "task": reflection.task or "-",
        "told by": reflection.model or reflection.method,
    }
    for name, text in lines.items():
        click.echo(f"{name:>10}  {one_line(text)}")
    click.echo()
    for line in reflection.text.split("\n"):
        click.echo(escape_controls(line))
    if reflection.compared_episodes:
        click.echo()
        click.echo(f"Compared with {one_line(', '.join(reflection.compared_episodes))}")
