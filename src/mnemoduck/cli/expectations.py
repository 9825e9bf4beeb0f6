"""The command that checks expectations by hand; runs check them where they are told to."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from mnemoduck.cli.options import Moment, home_option, json_option, project_option
from mnemoduck.cli.output import escape_controls, print_json
from mnemoduck.errors import NothingPublishedError
from mnemoduck.expectations.checkpoint import SUITES, SuiteName, check_incoming, check_published
from mnemoduck.expectations.verdicts import Severity, Verdict
from mnemoduck.home import Home, open_home
from mnemoduck.pipeline.publish import current_snapshot
from mnemoduck.project import find_project
from mnemoduck.settings import load_settings


@click.command("expect")
@click.argument("suite", type=click.Choice(SUITES))
@home_option
@project_option
@click.option(
    "--severity",
    type=click.Choice(("warn", "fail")),
    help="What an expectation may do that is not met: only be said, or fail if it is critical. "
    "Default: the setting expectations.incoming or .published, else fail.",
)
@click.option("--as-of", type=Moment(), help="The moment to look from (incoming only). Default: now.")
@json_option
def expect_command(
    suite: SuiteName,
    home: Path | None,
    project: Path | None,
    severity: Severity | None,
    as_of: datetime | None,
    as_json: bool,
) -> None:
    """Check expectations on the events that wait (incoming), or on the newest snapshot (published).

    Nothing is changed but the history of checks and the pages of Data Docs. published compares with the
    snapshot before, if it is still there. Exit codes: 0 met or only warned, 1 a critical expectation is not
    met, or the suite could not run.
    """
    opened, folder = open_home(home, create=False), find_project(project)
    chosen = severity or _severity_in_runs(opened, suite) or "fail"
    if suite == "incoming":
        verdict = check_incoming(opened, folder, chosen, as_of)
    else:
        verdict = check_published(opened, folder, chosen, *_snapshots(opened))
    if as_json:
        print_json(verdict.model_dump(mode="json"))
    else:
        _print_verdict(verdict, opened)
    if verdict.stops:
        sys.exit(1)


def _severity_in_runs(home: Home, suite: SuiteName) -> Severity | None:
    settings = load_settings(home).expectations
    severity = settings.incoming if suite == "incoming" else settings.published
    return None if severity == "off" else severity


def _snapshots(home: Home) -> tuple[Path, Path | None]:
    """Return the snapshot that readers are on and the one before it, if it was not deleted yet."""
    current = current_snapshot(home)
    if current is None:
        raise NothingPublishedError(
            f"Nothing has been published in {home.path} yet. Build it with `mnemoduck run`."
        )
    # By name the last of the others; after a clock was set back, it may come after the current one by name.
    others = [path for path in sorted(home.published.glob("*.duckdb")) if path != current]
    return current, others[-1] if others else None


def _print_verdict(verdict: Verdict, home: Home) -> None:
    for line in verdict.lines:
        click.echo(escape_controls(line[:1].upper() + line[1:]))
    waiting: dict[str, list[str]] = {}
    for skipped in verdict.skipped:
        waiting.setdefault(skipped.reason, []).append(
            f"{skipped.table}.{skipped.column or skipped.expectation}"
        )
    for reason, names in waiting.items():
        click.echo(escape_controls(f"Skipped for want of {reason}: {', '.join(names)}"))
    if verdict.docs:
        click.echo(f"{escape_controls(str(home.path / verdict.docs))} shows this and earlier checks.")
