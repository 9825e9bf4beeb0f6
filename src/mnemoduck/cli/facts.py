"""The command that shows facts, and what was known of them when."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from mnemoduck.cli.options import Moment, as_of_option, home_option, json_option
from mnemoduck.cli.output import format_scope, format_time, one_line, print_json, print_table
from mnemoduck.facts import FactRecord
from mnemoduck.home import open_home
from mnemoduck.memory import Memory


@click.command("facts")
@home_option
@click.option("--subject", metavar="TEXT", help="Only facts about this.")
@click.option("--predicate", metavar="TEXT", help="Only facts that say this, such as 'lives in'.")
@click.option("--agent", "agent_id", metavar="ID", help="Only this agent.")
@click.option("--user", "user_id", metavar="ID", help="Only this user.")
@as_of_option
@click.option("--known-at", type=Moment(), help="As it was known then, ISO 8601 in UTC. Default: now.")
@click.option("--history", is_flag=True, help="Every period of each fact, also those that are over.")
@json_option
def facts_command(
    home: Path | None,
    subject: str | None,
    predicate: str | None,
    agent_id: str | None,
    user_id: str | None,
    as_of: datetime | None,
    known_at: datetime | None,
    history: bool,
    as_json: bool,
) -> None:
    """Show the facts of the last build that hold now: what is said of whom, since when, and who told it."""
    with Memory(open_home(home, create=False).path) as memory:
        facts = memory.facts(
            subject=subject,
            predicate=predicate,
            user_id=user_id,
            agent_id=agent_id,
            as_of=as_of,
            known_at=known_at,
            history=history,
        )
    if as_json:
        print_json(facts)
        return
    if not facts:
        click.echo(
            "No such fact is known. Facts are given with remember(…, facts=[…]) and known after the next "
            "`mnemoduck run`."
        )
        return
    title = "History of facts" if history else f"Facts at {format_time(as_of) if as_of else 'this moment'}"
    if known_at:
        title += f", as known at {format_time(known_at)}"
    columns = {
        "from": [format_time(fact.valid_from) for fact in facts],
        "to": [format_time(fact.valid_to) for fact in facts],
        "known since": [format_time(fact.recorded_at) for fact in facts],
        "whose": [format_scope(fact.user_id, fact.agent_id) for fact in facts],
        "memory": [_source(fact) for fact in facts],
        "fact": [one_line(f"{fact.subject} {fact.predicate} {fact.object}") for fact in facts],
    }
    if not any(fact.valid_to for fact in facts):
        del columns["to"]
    if len(set(columns["whose"])) == 1:
        title += f" of {columns.pop('whose')[0]}"
    print_table(
        title,
        [(name, "left") for name in columns],
        zip(*columns.values(), strict=True),
        note=f"{len(facts):,} fact{'' if len(facts) == 1 else 's'}; --json has the whole ids",
    )


def _source(fact: FactRecord) -> str:
    """The end of an id tells memories apart; they begin with the time at which they were made."""
    more = f" +{fact.support_count - 1}" if fact.support_count > 1 else ""
    return f"…{str(fact.memory_ids[-1])[-6:]}{more}"
