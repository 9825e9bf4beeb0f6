"""Commands for the schedule of a home: install, show, remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mnemoduck.cli.options import home_option, json_option, project_option
from mnemoduck.cli.output import escape_controls, print_json
from mnemoduck.home import open_home
from mnemoduck.schedule import crontab, systemd
from mnemoduck.schedule.command import scheduled
from mnemoduck.schedule.times import RHYTHMS, Clock, Times, parse_day

_systemd_options = (
    click.option("--systemd", "by_systemd", is_flag=True, help="Units of systemd instead of the crontab."),
    click.option(
        "--to",
        "folder",
        type=click.Path(path_type=Path),
        help="With --systemd: the folder of the units. Default: ~/.config/systemd/user, and timers start.",
    ),
)


def _with_systemd(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_systemd_options):
        command = option(command)
    return command


@click.group("schedule")
def schedule_group() -> None:
    """Run the pipeline by itself: install, show, remove.

    Four rhythms, each of which builds what the ones before it do: continuous (every ten minutes), hourly,
    nightly and weekly. A run that meets another one is skipped, and logs/schedule.log says so.
    """


@schedule_group.command("install")
@home_option
@project_option
@click.option("--every", type=int, default=10, show_default=True, help="Minutes between two continuous runs.")
@click.option(
    "--hourly-minute", type=click.IntRange(0, 59), default=5, show_default=True, help="Minute of hourly runs."
)
@click.option(
    "--nightly", default="03:15", show_default=True, metavar="HH:MM", help="When nightly runs begin."
)
@click.option("--weekly", default="04:15", show_default=True, metavar="HH:MM", help="When weekly runs begin.")
@click.option("--weekly-day", default="sunday", show_default=True, help="The day of weekly runs.")
@_with_systemd
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
def install_command(
    home: Path | None,
    project: Path | None,
    every: int,
    hourly_minute: int,
    nightly: str,
    weekly: str,
    weekly_day: str,
    by_systemd: bool,
    folder: Path | None,
    dry_run: bool,
) -> None:
    """Write the block of this home into your crontab, and nothing else of it; again to change it.

    Times are those of the machine's time zone.
    """
    _check_folder(by_systemd, folder)
    opened = open_home(home)
    what = scheduled(opened, project)
    times = Times(
        every,
        hourly_minute,
        Clock.parse(nightly, "--nightly"),
        Clock.parse(weekly, "--weekly"),
        parse_day(weekly_day),
    )
    if by_systemd:
        place = (folder or systemd.default_folder()).expanduser().absolute()
        made = systemd.units(what, times)
        if dry_run:
            for name, text in made.items():
                click.echo(f"# {place / name}\n{text}")
            return
        systemd.write_units(place, made)
        click.echo(f"Wrote {len(made)} units to {place}.")
        if folder is None:
            systemd.start_timers(opened.path)
    else:
        text = crontab.block(what, times)
        if dry_run:
            click.echo(text, nl=False)
            return
        before = crontab.read_crontab()
        after = crontab.with_block(before, opened.path, text)
        if after != before:
            crontab.write_crontab(after)
    for rhythm in RHYTHMS:
        click.echo(f"{rhythm:>10}  {times.describe(rhythm)}")
    click.echo(f"What they say is in {opened.schedule_log}.")


@schedule_group.command("show")
@home_option
@_with_systemd
@json_option
def show_command(home: Path | None, by_systemd: bool, folder: Path | None, as_json: bool) -> None:
    """Show what is installed for this home."""
    _check_folder(by_systemd, folder)
    opened = open_home(home, create=False)
    if by_systemd:
        place = (folder or systemd.default_folder()).expanduser().absolute()
        found = {path.name: path.read_text("utf-8") for path in systemd.find_units(place, opened.path)}
    else:
        block = crontab.find_block(crontab.read_crontab(), opened.path)
        found = {} if block is None else {"crontab": block}
    if as_json:
        print_json(found)
    elif not found:
        click.echo("Nothing is installed. `mnemoduck schedule install` does it.")
    for name, text in {} if as_json else found.items():
        click.echo(escape_controls(f"# {name}\n{text}" if by_systemd else text), nl=by_systemd)


@schedule_group.command("remove")
@home_option
@_with_systemd
@click.option("--dry-run", is_flag=True, help="Print what would go, and leave it.")
def remove_command(home: Path | None, by_systemd: bool, folder: Path | None, dry_run: bool) -> None:
    """Take the block of this home out of your crontab, and nothing else."""
    _check_folder(by_systemd, folder)
    opened = open_home(home, create=False)
    if by_systemd:
        place = (folder or systemd.default_folder()).expanduser().absolute()
        paths = systemd.find_units(place, opened.path)
        if paths and folder is None and not dry_run:
            systemd.stop_timers(opened.path)
        for path in paths:
            click.echo(f"{'would remove' if dry_run else 'removed'} {path}")
            if not dry_run:
                path.unlink()
        if not paths:
            click.echo("Nothing is installed.")
        return
    before = crontab.read_crontab()
    block = crontab.find_block(before, opened.path)
    if block is None:
        click.echo("Nothing is installed.")
        return
    if dry_run:
        click.echo(escape_controls(block), nl=False)
        return
    crontab.write_crontab(crontab.without_block(before, opened.path))
    click.echo("Removed. Nothing runs by itself in this home any more.")


def _check_folder(by_systemd: bool, folder: Path | None) -> None:
    if folder is not None and not by_systemd:
        raise click.UsageError("--to is the folder of units; say --systemd as well.")
