"""`mnemoduck report`: one page that shows the home at a glance."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from mnemoduck.cli.options import as_of_option, home_option, json_option, scope_options
from mnemoduck.cli.output import escape_controls, format_bytes, print_json
from mnemoduck.errors import StorageError, UsageError
from mnemoduck.home import open_home, write_atomically
from mnemoduck.report import read_report
from mnemoduck.report.page import render_page
from mnemoduck.scope import Scope

FILE_NAME = "report.html"


@click.command("report")
@home_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help=f"The file to write, in a folder that exists. Default: {FILE_NAME} in the home.",
)
@scope_options
@as_of_option
@json_option
def report_command(
    home: Path | None,
    out: Path | None,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """Write one HTML page that shows the published snapshot at a glance; open it in any browser.

    What is in mind, what is remembered and forgotten, what it is associated with, how the runs went and what
    needs a look. The page is one file for you alone (mode 0600), loads nothing from anywhere, and is the same
    each time for the same snapshot and moment. With --json the data of the page is printed instead.
    """
    opened = open_home(home, create=False)
    path = (out or opened.path / FILE_NAME).expanduser().absolute()
    if not as_json:
        _check(path)
    moment = as_of or datetime.now(UTC).replace(microsecond=0)
    report = read_report(opened, Scope(user_id, agent_id, session_id), moment)
    if as_json:
        print_json(report)
        return
    page = render_page(report, path.parent)
    try:
        write_atomically(path, page)
    except OSError as error:
        raise StorageError(f"The page could not be written to {path}: {error.strerror or error}.") from error
    click.echo(escape_controls(f"Wrote {path} ({format_bytes(len(page.encode()))})."))


def _check(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(
            f"There is no folder {path.parent} to write {path.name} in. Make it, or name another."
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name the file to write, such as --out {path / FILE_NAME}.")
