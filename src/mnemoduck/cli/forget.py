"""The command that takes memories back: hidden at once, and with --purge gone from every file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from uuid import UUID

import click

from mnemoduck.cli.options import Moment, home_option, json_option, project_option, scope_options, wait_option
from mnemoduck.cli.output import escape_controls, print_json
from mnemoduck.errors import UsageError
from mnemoduck.forgetting.purge import Purged, check_backups, purge, verify_orders, verify_texts
from mnemoduck.forgetting.verification import Search
from mnemoduck.home import Home, open_home
from mnemoduck.memory import Memory
from mnemoduck.project import find_project
from mnemoduck.sizes import format_bytes

_SHOWN = 20
"""So many places are said; --json says all."""

_LOOKED_UP = 1000
"""Of so many memories that are named it is said which are not known."""


@click.command("forget")
@click.argument("memory_ids", nargs=-1, metavar="[MEMORY_ID]...")
@home_option
@scope_options
@click.option("--before", type=Moment(), help="Only what happened before this moment.")
@click.option("--reason", help="Kept with the order.")
@click.option("--yes", is_flag=True, help="Do not ask before a whole scope is forgotten, or anything purged.")
@click.option(
    "--purge",
    "is_purge",
    is_flag=True,
    help="Take it out of every file, for good; of no memories and no scope: all that was ever forgotten.",
)
@click.option(
    "--backup",
    "backups",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="TARGET",
    help="With --purge: a backup of this home that is made anew without it. May be given several times.",
)
@click.option(
    "--verify", "is_verify", is_flag=True, help="Search every byte for what was purged; change nothing."
)
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="With --verify: search for this text, several times for several; `-` reads standard input.",
)
@wait_option("With --purge or --verify: wait so long for a run that is at work.")
@project_option
@json_option
def forget_command(
    memory_ids: tuple[str, ...],
    home: Path | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    before: datetime | None,
    reason: str | None,
    yes: bool,
    is_purge: bool,
    backups: tuple[Path, ...],
    is_verify: bool,
    texts: tuple[str, ...],
    wait_minutes: float,
    project: Path | None,
    as_json: bool,
) -> None:
    """Forget memories by id, or everything of a scope. It takes effect at once.

    Without --purge nothing is deleted. With it, files are written anew without what was forgotten, the
    warehouse is built anew, and every byte of the home is searched for what may be left. With --verify only
    that is done.

    Exit codes: 0 done and nothing left, 1 something is left, or the build failed, 75 a run is at work.
    """
    is_scope = any((user_id, agent_id, session_id, before))
    _check(is_purge, is_verify, is_scope, backups, texts, reason)
    if is_verify:
        _verify(open_home(home, create=False), memory_ids, texts, wait_minutes, as_json)
        return
    folder = find_project(project) if is_purge else None
    if is_purge:
        check_backups(backups)
    opened = open_home(home, create=not is_purge)
    _confirm(memory_ids, user_id, agent_id, session_id, before, yes, is_purge)
    order_id = None
    unknown: list[str] = []
    if memory_ids or is_scope or not is_purge:
        with Memory(opened.path) as memory:
            unknown = _unknown(memory, memory_ids, user_id)
            order_id = memory.forget(
                memory_ids,
                user_id=user_id,
                agent_id=agent_id,
                session_id=session_id,
                before=before,
                reason=reason,
            )
    if folder is None:
        _say_order(order_id, memory_ids, unknown, as_json)
        return
    done = purge(
        opened,
        folder,
        None if order_id is None else [order_id],
        backups=backups,
        wait_seconds=wait_minutes * 60,
        on_step=lambda step: None if as_json else click.echo(f"{step[0].upper()}{step[1:]} ..."),
    )
    if as_json:
        print_json({"order": order_id and str(order_id), **asdict(done), "is_ok": done.is_ok})
    else:
        _print_purged(done)
    if not done.is_ok:
        sys.exit(1)


def _check(
    is_purge: bool,
    is_verify: bool,
    is_scope: bool,
    backups: Sequence[Path],
    texts: Sequence[str],
    reason: str | None,
) -> None:
    if is_verify and (is_purge or is_scope or reason):
        raise UsageError("--verify only searches: leave out --purge, the scope, --before and --reason.")
    if texts and not is_verify:
        raise UsageError("--text says what to search for; add --verify.")
    if backups and not is_purge:
        raise UsageError("--backup says which backups to purge; add --purge.")


def _confirm(
    memory_ids: Sequence[str],
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    before: datetime | None,
    yes: bool,
    is_purge: bool,
) -> None:
    is_scope = not memory_ids and any((user_id, agent_id, session_id, before))
    if yes or not (is_purge or is_scope):
        return
    if not sys.stdin.isatty():
        what = "A purge cannot be undone, and" if is_purge else "Forgetting a whole scope"
        raise UsageError(f"{what} asks first; add --yes where nobody can answer.")
    if memory_ids:
        what = f"{len(memory_ids)} memories"
    elif is_scope:
        what = (
            f"everything with user={user_id or 'any'}, agent={agent_id or 'any'}, "
            f"session={session_id or 'any'}, before={before or 'now'}"
        )
    else:
        what = "all that was ever ordered forgotten"
    click.confirm(f"Purge {what}? It cannot be undone." if is_purge else f"Forget {what}?", abort=True)


def _unknown(memory: Memory, memory_ids: Sequence[str], user_id: str | None) -> list[str]:
    """Return which of the memories that are named cannot be seen; of very many it is not asked."""
    if len(memory_ids) > _LOOKED_UP:
        return []
    with suppress(UsageError):  # one is no id: the order refuses it
        return [one for one in memory_ids if memory.get(one, user_id=user_id) is None]
    return []


def _say_order(
    order_id: UUID | None, memory_ids: Sequence[str], unknown: Sequence[str], as_json: bool
) -> None:
    if as_json:
        print_json({"order": str(order_id), "unknown": unknown})
        return
    seen = len(memory_ids) - len(unknown)
    what = f"{seen} memor{'y' if seen == 1 else 'ies'}" if memory_ids else "the scope"
    click.echo(f"Forgot {what}; the order is {escape_controls(str(order_id))}.")
    for one in unknown[:_SHOWN]:
        click.echo(f"Not known here, or not to this user, or forgotten before: {escape_controls(one)}")
    if len(unknown) > _SHOWN:
        click.echo(f"... and {len(unknown) - _SHOWN} more.")
    if unknown:
        click.echo("The order names them all the same.")


def _verify(
    home: Home, memory_ids: Sequence[str], texts: Sequence[str], wait_minutes: float, as_json: bool
) -> None:
    if texts and memory_ids:
        raise UsageError("Search either for --text or for memory ids, not both.")
    if texts:
        read = [sys.stdin.read().rstrip("\n") if text == "-" else text for text in texts]
        search, what = verify_texts(home, read, wait_seconds=wait_minutes * 60), f"{len(texts)} texts"
    else:
        count, search = verify_orders(home, _to_ids(memory_ids), wait_seconds=wait_minutes * 60)
        what = f"{count:,} ids of purged events"
        if not count:
            raise UsageError("Nothing was ever purged here; name what to search for with --text.")
    if as_json:
        print_json({**asdict(search), "is_clean": search.is_clean})
    else:
        _print_search(search, what)
    if not search.is_clean:
        sys.exit(1)


def _to_ids(memory_ids: Sequence[str]) -> list[UUID]:
    ids = []
    for text in memory_ids:
        try:
            ids.append(UUID(text))
        except ValueError as error:
            raise UsageError(
                f"{text!r} is no id of a memory; give ids as `remember` and `recall` print them."
            ) from error
    return ids


def _print_purged(done: Purged) -> None:
    for unknown in done.unknown[:_SHOWN]:
        click.echo(f"There is no memory {unknown} (any more), or not of that user: it was not purged now.")
    if done.search is None:
        click.echo("Nothing that was ordered forgotten is left to purge.")
        return
    events = ", ".join(f"{count:,} of {kind}" for kind, count in sorted(done.events.items()))
    click.echo(
        f"Purged {done.memories:,} memories and {done.episodes:,} episodes: events {events or 'none'}."
    )
    click.echo(
        f"Words were taken out of {done.stripped + done.redacted:,} events that stay; {done.answers:,} "
        f"answers and {done.vectors:,} vectors went from the cache; {len(done.removed)} files were removed, "
        f"{len(done.changed)} rewritten."
    )
    if done.snapshot:
        click.echo(f"Published {done.snapshot}; every older snapshot is gone.")
    for target in done.backups:
        click.echo(f"The backup {escape_controls(target)} was made anew.")
    if done.also_said:
        click.echo(f"{len(done.also_said):,} events that are kept say a passage of it too:")
        for event_id, kind in list(done.also_said.items())[:_SHOWN]:
            how = (
                f"mnemoduck forget --purge {event_id}"
                if kind == "memory"
                else "forget its user or its session"
            )
            click.echo(f"  {kind} {event_id}: {how}")
    _print_search(done.search, "what was purged")


def _print_search(search: Search, what: str) -> None:
    click.echo(
        f"Searched {search.files:,} files ({format_bytes(search.bytes)}) and {search.values:,} values of "
        f"{search.columns:,} columns for {what}: "
        + ("nothing is left." if search.is_clean else f"{len(search.traces)} places.")
    )
    for trace in search.traces[:_SHOWN]:
        click.echo(f"  {escape_controls(str(trace))}")
    for fault in search.unread[:_SHOWN]:
        click.echo(f"  not read: {escape_controls(fault)}")
