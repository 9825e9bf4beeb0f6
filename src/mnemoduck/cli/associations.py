"""`mnemoduck associations`: what comes to mind with a concept, and how two are connected."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from mnemoduck.associations import MAX_DEPTH
from mnemoduck.cli.options import as_of_option, home_option, json_option, limit_option
from mnemoduck.cli.output import format_scope, one_line, print_json, print_table
from mnemoduck.errors import UsageError
from mnemoduck.home import open_home
from mnemoduck.memory import Memory


@click.command("associations")
@click.argument("concepts", nargs=-1, required=True, metavar="CONCEPT...")
@home_option
@click.option("--user", "user_id", metavar="ID", help="Only this user.")
@click.option("--agent", "agent_id", metavar="ID", help="Only this agent.")
@click.option("--path-to", metavar="CONCEPT", help="Show the shortest path to this concept instead.")
@click.option(
    "--depth",
    type=click.IntRange(1, MAX_DEPTH),
    default=MAX_DEPTH,
    show_default=True,
    help="How many hops activation spreads.",
)
@limit_option
@as_of_option
@json_option
def associations_command(
    concepts: tuple[str, ...],
    home: Path | None,
    user_id: str | None,
    agent_id: str | None,
    path_to: str | None,
    depth: int,
    limit: int,
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """Show what comes to mind with CONCEPTs: the associations of the last build, most active first."""
    asked = one_line(", ".join(concepts))
    if path_to is not None and len(concepts) != 1:
        raise UsageError("A path begins at one concept; name one, or leave --path-to out.")
    with Memory(open_home(home, create=False).path) as memory:
        if path_to is not None:
            paths = memory.association_paths(
                concepts[0], path_to, user_id=user_id, agent_id=agent_id, as_of=as_of
            )
            if as_json:
                print_json(paths)
            elif not paths:
                click.echo(f"No path of associations leads from {asked} to {one_line(path_to)}.")
            for path in paths if not as_json else []:
                whose = format_scope(path.user_id, path.agent_id, default="no one")
                click.echo(f"{whose}: {one_line(' -> '.join(path.path))} (strength {path.strength:.2g})")
            return
        found = memory.associations(
            concepts, user_id=user_id, agent_id=agent_id, depth=depth, limit=limit, as_of=as_of
        )
    if as_json:
        print_json(found)
    elif not found:
        click.echo(f"Nothing is associated with {asked}.")
    else:
        print_table(
            f"What comes to mind with {asked}",
            [
                ("active", "right"),
                ("concept", "left"),
                ("hops", "right"),
                ("via", "left"),
                ("whose", "left"),
            ],
            [
                (
                    f"{item.activation / found[0].activation:.0%}",
                    one_line(item.concept),
                    str(item.hop),
                    one_line(item.via),
                    format_scope(item.user_id, item.agent_id),
                )
                for item in found
            ],
            note=f"active: relative to the first, whose activation is {found[0].activation:.2g}",
        )
