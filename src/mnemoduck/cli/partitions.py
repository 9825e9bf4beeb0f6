"""Commands for the life of months: list, archive, restore, recluster, drop."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from mnemoduck.cli.options import home_option, json_option, project_option
from mnemoduck.cli.output import (
    escape_controls,
    format_bytes,
    one_line,
    print_json,
    print_table,
)
from mnemoduck.errors import PipelineError, UsageError
from mnemoduck.home import open_home
from mnemoduck.partitions import Month, Partitions, partitioned_models
from mnemoduck.pipeline.operation import run_operation
from mnemoduck.pipeline.run import run_pipeline
from mnemoduck.project import find_project
from mnemoduck.warehouse import SnapshotReader


class MonthName(click.ParamType[str]):
    """A calendar month, such as 2026-03."""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text):
            self.fail(f"{text!r} is no month; a month is written like 2026-03.", param, ctx)
        return text


_months = click.argument("months", nargs=-1, type=MonthName(), metavar="[MONTH]...")
_before = click.option("--before", type=MonthName(), help="All months earlier than this one.")


@click.group("partitions")
def partitions_group() -> None:
    """Look after the monthly partitions of a model: list, archive, restore, recluster, drop.

    A month is hot (a table) or cold (a Parquet file under archive/, still in every view). What was
    interrupted can be run again.
    """


@partitions_group.command("list")
@click.argument("model", required=False)
@home_option
@json_option
def list_command(model: str | None, home: Path | None, as_json: bool) -> None:
    """List the months of MODEL, or of every partitioned model, as they were published last."""
    with _published(home) as (cursor, folder):
        names = [model] if model else partitioned_models(cursor)
        found = {name: Partitions(cursor, name, folder).months() for name in names}
    if as_json:
        print_json({name: [month.as_dict() for month in months] for name, months in found.items()})
        return
    if not found:
        click.echo("No model of the last build is partitioned. Build them anew with `mnemoduck run`.")
    for name, months in found.items():
        print_table(
            f"Months of {one_line(name)}",
            [
                ("month", "left"),
                ("rows", "right"),
                ("about", "right"),
                ("first", "left"),
                ("last", "left"),
                ("clustered", "right"),
                ("state", "left"),
            ],
            [
                (
                    month.label,
                    f"{month.rows:,}",
                    format_bytes(month.bytes),
                    _day(month.first_at),
                    _day(month.last_at),
                    f"{month.clustered_share:.0%}",
                    month.state,
                )
                for month in months
            ],
            note=f"{sum(month.rows for month in months):,} rows in {len(months)} months",
        )


@partitions_group.command("archive")
@click.argument("model")
@_months
@_before
@home_option
@project_option
def archive_command(
    model: str, months: tuple[str, ...], before: str | None, home: Path | None, project: Path | None
) -> None:
    """Write months of MODEL to Parquet under archive/, verify them, and drop their tables.

    They stay in every view. The current and the previous month cannot be archived.
    """
    _operate("archive", home, project, {"model": model, **_which(months, before)})


@partitions_group.command("restore")
@click.argument("model")
@_months
@_before
@home_option
@project_option
def restore_command(
    model: str, months: tuple[str, ...], before: str | None, home: Path | None, project: Path | None
) -> None:
    """Make tables of archived months of MODEL again."""
    _operate("restore", home, project, {"model": model, **_which(months, before)})


@partitions_group.command("recluster")
@click.argument("model")
@_months
@home_option
@project_option
def recluster_command(model: str, months: tuple[str, ...], home: Path | None, project: Path | None) -> None:
    """Write months of MODEL anew in the order of their access path. Default: all that have a tail."""
    _operate("recluster", home, project, {"model": model, **({"months": months} if months else {})})


@partitions_group.command("drop")
@click.argument("model")
@_months
@_before
@home_option
@project_option
@click.option("--yes", is_flag=True, help="Do not ask before the months are dropped.")
def drop_command(
    model: str,
    months: tuple[str, ...],
    before: str | None,
    home: Path | None,
    project: Path | None,
    yes: bool,
) -> None:
    """Drop months of MODEL for good, then run the pipeline, which tests and publishes what is left.

    Their events stay in raw/: `mnemoduck run --full-refresh` brings all months back.
    """
    _which(months, before)
    with _published(home) as (cursor, folder):
        known = Partitions(cursor, model, folder).months()
    chosen = _choose(model, known, months, before)
    if not chosen:
        click.echo(f"No month of {model} is earlier than {before} and left to drop.")
        return
    loss = _describe_loss(model, chosen)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{loss} Dropping asks first; add --yes where nobody can answer.")
        click.confirm(f"{loss} Drop them?", abort=True)
    labels = [month.label for month in chosen]
    _operate("drop", home, project, {"model": model, "months": labels, "yes": True})
    summary = run_pipeline(open_home(home), find_project(project))
    for problem in [*(f"{failure.name}: {failure.message}" for failure in summary.failures), *summary.errors]:
        click.echo(escape_controls(problem))
    if not summary.is_ok:
        raise PipelineError(
            "The months were dropped, but the run after it failed: readers stay on the last good snapshot, "
            "which still has them. Mend what failed and run `mnemoduck run`."
        )
    click.echo(f"{summary.outcome}: {summary.snapshot}")


def _day(moment: datetime | None) -> str:
    """The month stands beside it."""
    return f"{moment:%d %H:%M}" if moment else "-"


def _choose(model: str, known: Sequence[Month], months: Sequence[str], before: str | None) -> list[Month]:
    """Return the months to drop: those named, or all earlier than one that were not dropped yet."""
    if before is not None:
        return [month for month in known if month.label < before and month.state != "dropped"]
    by_label = {month.label: month for month in known}
    for label in months:
        if label not in by_label:
            raise UsageError(f"{model} has no month {label}. It has: {', '.join(by_label)}.")
    return [by_label[label] for label in dict.fromkeys(months)]


def _describe_loss(model: str, chosen: Sequence[Month]) -> str:
    labels = [month.label for month in chosen]
    what = labels[0] if len(labels) == 1 else f"{len(labels)} months ({', '.join(labels)})"
    rows, size = sum(month.rows for month in chosen), format_bytes(sum(month.bytes for month in chosen))
    return (
        f"This drops {what} of {model}: {rows:,} rows, about {size}, are gone from every table and view, and "
        "from archive/ when no snapshot reads it any more. The events stay in raw/, and `mnemoduck run "
        "--full-refresh` brings all months back."
    )


def _which(months: Sequence[str], before: str | None) -> dict[str, Any]:
    if bool(months) == (before is not None):
        raise UsageError("Say which months: either their names, such as 2026-03, or --before and a month.")
    return {"before": before} if before is not None else {"months": list(months)}


def _operate(verb: str, home: Path | None, project: Path | None, arguments: dict[str, Any]) -> None:
    run_operation(
        open_home(home, create=False),
        find_project(project),
        f"partitions_{verb}",
        arguments,
        on_say=lambda line: click.echo(escape_controls(line)),
    )


@contextmanager
def _published(home: Path | None) -> Iterator[tuple[Any, Path]]:
    """Give a cursor on the newest snapshot, and the folder of the home."""
    opened = open_home(home, create=False)
    reader = SnapshotReader(opened)
    try:
        yield reader.get_published().cursor(), opened.path
    finally:
        reader.close()
