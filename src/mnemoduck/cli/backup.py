"""Commands that back a home up, restore it, and bring it to this release."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mnemoduck import home as homes
from mnemoduck.backup import (
    RUN_WAIT_SECONDS,
    BackedUp,
    Verified,
    back_up,
    describe,
    list_backups,
    restore_backup,
    verify_backup,
)
from mnemoduck.cli.options import home_option, json_option, wait_option
from mnemoduck.cli.output import (
    escape_controls,
    format_bytes,
    format_time,
    print_json,
    print_table,
    progress_bar,
)
from mnemoduck.errors import StorageError, UsageError
from mnemoduck.home import Home, open_home, resolve_home
from mnemoduck.migrations import upgrade_home
from mnemoduck.migrations.warehouse import find_outdated
from mnemoduck.settings import load_settings


class _Folder(click.Path):
    """A folder that is named: an empty name, of a variable that is not set, would be the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("its name is empty; say . for this folder.", param, ctx)
        return super().convert(value, param, ctx)


@click.command("backup")
@click.argument("target", required=False, type=_Folder())
@click.option("--list", "is_list", is_flag=True, help="List the backups in TARGET.")
@click.option(
    "--verify",
    "is_verify",
    is_flag=True,
    help="Restore one to a temporary folder, and read everything in it.",
)
@click.option("--generation", metavar="ID", help="Which backup to verify. Default: the newest.")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Remove all but the newest N backups.")
@click.option(
    "--without-snapshot", is_flag=True, help="Leave out what is built from raw/: a restored home builds it."
)
@wait_option(
    "Wait so long for a run, should the cache of answers not be readable beside it.", RUN_WAIT_SECONDS / 60
)
@home_option
@json_option
def backup_command(
    target: Path | None,
    is_list: bool,
    is_verify: bool,
    generation: str | None,
    keep: int | None,
    without_snapshot: bool,
    wait_minutes: float,
    home: Path | None,
    as_json: bool,
) -> None:
    """Back the home up to the folder TARGET, while it is used. Only what is new is written.

    TARGET is best on another disk. Default: the setting backup.target. Exit code 75: another backup is at
    work there.
    """
    if is_list and is_verify:
        raise UsageError("--list and --verify are two commands; say one of them.")
    if (is_list or is_verify) and (keep is not None or without_snapshot):
        raise UsageError("--keep and --without-snapshot are about making a backup, not about looking at one.")
    if generation is not None and not is_verify:
        raise UsageError("--generation goes with --verify; `mnemoduck restore` has it too.")
    place = _target(target, home)
    if is_list:
        _list(place, as_json)
    elif is_verify:
        _verify(place, generation, as_json)
    else:
        opened = Home(resolve_home(home))  # of an earlier layout too: it is backed up before it is upgraded
        if not opened.marker.exists():
            open_home(home, create=False)  # says what is there instead
        with progress_bar(is_shown=not as_json) as bar:
            task = bar.add_task("backup", total=None)
            done = back_up(
                opened,
                place,
                keep=keep,
                with_snapshot=not without_snapshot,
                wait_seconds=wait_minutes * 60,
                on_file=lambda path: bar.update(task, description=escape_controls(path)),
            )
        _say(done, as_json)


@click.command("restore")
@click.argument("target", type=_Folder())
@click.option("--generation", metavar="ID", help="Which backup: see `backup --list`. Default: the newest.")
@home_option
@json_option
def restore_command(target: Path, generation: str | None, home: Path | None, as_json: bool) -> None:
    """Make a home of a backup in the folder TARGET. The folder of the home has to be empty or missing.

    What was interrupted goes on when it is said again.
    """
    with _files_shown(is_shown=not as_json) as on_file:
        done = restore_backup(target.absolute(), home, generation, on_file=on_file)
    found = describe(done.generation_id, done.generation)
    if as_json:
        print_json({**found, "home": str(done.home), "kept": done.kept})
        return
    began = format_time(done.generation.began_at)
    click.echo(
        f"Restored {done.generation_id}, as it was at {began}, to {escape_controls(str(done.home))}: "
        f"{done.files:,} files, {format_bytes(done.bytes)}, {found['events']:,} events loaded and "
        f"{found['waiting_events']:,} waiting."
    )
    if found["snapshot"] is None:
        click.echo("Nothing is built in it yet. `mnemoduck run` builds it from raw/.")
    else:
        click.echo("`mnemoduck run` loads what waits, and makes its archived months found where it is now.")


@click.command("upgrade")
@wait_option()
@home_option
@json_option
def upgrade_command(wait_minutes: float, home: Path | None, as_json: bool) -> None:
    """Bring a home of an earlier release to this one. Earlier releases cannot open it afterwards.

    End the agents that have it open, and back it up before. An upgrade that failed or was interrupted is
    undone; running it again makes it.
    """
    place = Home(resolve_home(home))
    if not place.marker.exists():
        open_home(home, create=False)  # says what is there instead
    made = upgrade_home(
        place,
        wait_seconds=wait_minutes * 60,
        on_step=lambda step: None if as_json else click.echo(f"Layout {step.version}: {step.name}."),
    )
    outdated = find_outdated(open_home(home, create=False))
    if as_json:
        steps = [{"version": step.version, "name": step.name} for step in made]
        print_json({"steps": steps, "layout_version": homes.LAYOUT_VERSION, "outdated": outdated})
        return
    if not made:
        click.echo(f"The home has layout {homes.LAYOUT_VERSION} already, which is the newest.")
    if outdated:
        click.echo(f"{outdated} The next run does it.")


def _target(target: Path | None, home: Path | None) -> Path:
    if target is not None:
        return target.absolute()
    named = load_settings(Home(resolve_home(home))).backup.target
    if named is None:
        raise UsageError(
            "Say where to: `mnemoduck backup TARGET`; or once for all, `mnemoduck settings set backup.target "
            "TARGET`."
        )
    return Path(named)


def _say(done: BackedUp, as_json: bool) -> None:
    if as_json:
        print_json(done.as_dict())
        return
    made = done.generation
    click.echo(
        f"Backed up {made.events.rows:,} events and {made.waiting_events:,} waiting as {done.generation_id}: "
        f"{len(made.files):,} files, {format_bytes(made.size)}, of which {format_bytes(done.new_bytes)} were "
        "new."
    )
    if done.removed:
        click.echo(f"Removed {len(done.removed)} earlier backups, {format_bytes(done.freed_bytes)}.")
    elif done.cleaned:
        click.echo(f"Removed what an interrupted backup had left, {format_bytes(done.freed_bytes)}.")
    if done.not_freed:
        click.echo(
            "The backup is made, but nothing was given back of what earlier ones had: "
            f"{escape_controls(done.not_freed)} `mnemoduck backup --list` shows which cannot be read; remove "
            "that one's file in generations/.",
            err=True,
        )
    for path in done.skipped:
        click.echo(f"Not in it, since it is no plain file or folder: {escape_controls(path)}", err=True)


def _list(target: Path, as_json: bool) -> None:
    found = list_backups(target)
    if as_json:
        print_json(
            [
                {"generation": name, "error": one} if isinstance(one, str) else describe(name, one)
                for name, one in found.items()
            ]
        )
        return
    print_table(
        "",
        [
            ("backup", "left"),
            ("began", "left"),
            ("events", "right"),
            ("waiting", "right"),
            ("files", "right"),
            ("size", "right"),
            ("built", "left"),
        ],
        [
            (name, "-", "-", "-", "-", "-", escape_controls(one))
            if isinstance(one, str)
            else (
                name,
                format_time(one.began_at),
                f"{one.events.rows:,}",
                f"{one.waiting_events:,}",
                f"{len(one.files):,}",
                format_bytes(one.size),
                "yes" if one.snapshot else "-",
            )
            for name, one in found.items()
        ],
        note=f"{len(found)} backups",
    )
    if any(isinstance(one, str) for one in found.values()):
        raise StorageError("Some of these backups cannot be read.")


def _verify(target: Path, generation: str | None, as_json: bool) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="mnemoduck-verify-") as scratch,
        _files_shown(is_shown=not as_json) as on_file,
    ):
        done = verify_backup(target, Path(scratch), generation, on_file=on_file)
    if as_json:
        print_json(_as_dict(done))
        return
    click.echo(
        f"{done.generation_id} is whole: {done.events.rows:,} events with the checksum "
        f"{done.events.checksum}, {done.waiting_events:,} waiting, {done.answers:,} answers of models, "
        f"{len(done.tables):,} tables with {sum(done.tables.values()):,} rows."
    )


def _as_dict(done: Verified) -> dict[str, object]:
    return {
        "generation": done.generation_id,
        "events": done.events.rows,
        "events_checksum": done.events.checksum,
        "waiting_events": done.waiting_events,
        "answers": done.answers,
        "tables": done.tables,
    }


@contextmanager
def _files_shown(*, is_shown: bool) -> Iterator[Callable[[str, int], None]]:
    with progress_bar(is_shown=is_shown) as bar:
        task = bar.add_task("restore", total=None)
        yield lambda path, _size: bar.update(task, description=escape_controls(path))
