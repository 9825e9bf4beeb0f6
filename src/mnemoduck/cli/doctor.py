"""The command that says what is wrong with a home."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mnemoduck.cli.options import home_option, json_option
from mnemoduck.cli.output import one_line, print_json, print_table
from mnemoduck.home import Home, resolve_home


@click.command("doctor")
@home_option
@json_option
def doctor_command(home: Path | None, as_json: bool) -> None:
    """Say what is wrong with the home, and the command that mends it. Exit code 1 on a failure.

    Nothing is written, and a run that is at work is not disturbed.
    """
    from mnemoduck.doctor import Patient, examine

    patient = Patient(Home(resolve_home(home)))
    verdicts = examine(patient)
    is_ok = all(verdict.status != "fail" for verdict in verdicts)
    if as_json:
        print_json({"home": str(patient.home.path), "is_ok": is_ok, "verdicts": verdicts})
    else:
        print_table(
            "",
            [("", "left"), ("check", "left"), ("says", "left")],
            [(verdict.status, verdict.name, one_line(verdict.says)) for verdict in verdicts],
        )
        to_mend = [verdict for verdict in verdicts if verdict.mend is not None]
        if to_mend:
            click.secho("To mend", bold=True)
        for verdict in to_mend:
            click.echo(f"  {verdict.name}: {one_line(verdict.mend or '')}")
    if not is_ok:
        sys.exit(1)
