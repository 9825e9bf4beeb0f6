"""The command that reads the history and proposes settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mnemoduck.cli.options import home_option, json_option
from mnemoduck.cli.output import escape_controls, format_time, print_json
from mnemoduck.home import Home, open_home
from mnemoduck.settings import SETTINGS
from mnemoduck.settings_file import write_settings
from mnemoduck.tuning.comparison import Comparison, compare_changes
from mnemoduck.tuning.evidence import Evidence, gather
from mnemoduck.tuning.journal import TAKE_BACK, Change, write_change
from mnemoduck.tuning.rules import Finding, examine


@click.command("tune")
@click.option("--apply", "is_applied", is_flag=True, help="Write what is proposed to mnemoduck.toml.")
@home_option
@json_option
def tune_command(is_applied: bool, home: Path | None, as_json: bool) -> None:
    """Propose settings by what runs, caches and questions of this home were like, with the evidence.

    What was applied is compared with what was before it, and taken back (with --apply) if it is worse.
    """
    opened = open_home(home, create=False)
    evidence = gather(opened)
    comparisons = compare_changes(evidence)
    worse = [one for one in comparisons if one.verdict == "worse"]
    back = {one.change.key for one in worse}
    findings = [one for one in examine(evidence) if one.key not in back]
    applied = _apply(opened, evidence, findings, worse) if is_applied else []
    if as_json:
        print_json(
            {
                "findings": [one.as_dict() for one in findings],
                "changes": [one.as_dict() for one in comparisons],
                "applied": [one.model_dump(mode="json", exclude={"counts"}) for one in applied],
            }
        )
        return
    for comparison in comparisons:
        _print_comparison(comparison)
    for finding in findings:
        _print_finding(finding)
    for change in applied:
        click.echo(escape_controls(f"Written: {change.key} = {_show(change.key, change.after)}"))
    if not is_applied and (worse or any(one.state == "proposal" for one in findings)):
        click.echo("Nothing was changed; --apply writes what is proposed to mnemoduck.toml.")


def _apply(
    home: Home, evidence: Evidence, findings: Sequence[Finding], worse: Sequence[Comparison]
) -> list[Change]:
    """Write what is proposed, first to the journal, so that no change is without its reason."""
    now = datetime.now(UTC)
    changes = [
        Change(
            applied_at=now,
            key=one.change.key,
            before=one.change.after,
            after=one.change.before,
            rule=TAKE_BACK,
            saw=f"{one.measure}: {one.before:.3g} before, {one.after:.3g} after",
            counts=evidence.counts,
        )
        for one in worse
    ] + [
        Change(
            applied_at=now,
            key=one.key,
            before=evidence.file.get(one.key),
            after=one.to,
            rule=one.rule,
            saw=one.saw,
            counts=evidence.counts,
        )
        for one in findings
        if one.state == "proposal" and one.key is not None
    ]
    for change in changes:
        write_change(home, change)
    if changes:
        write_settings(home, {change.key: change.after for change in changes})
    return changes


def _print_finding(one: Finding) -> None:
    saw = escape_controls(one.saw)
    if one.state in ("fine", "too little"):
        click.echo(f"{one.rule}: {'fine' if one.state == 'fine' else 'too little is known'}. {saw}.")
        return
    click.echo(f"{one.rule}: {saw}.")
    if one.key is not None:
        click.echo(f"    proposed  {one.key} = {_show(one.key, one.to)}, now {_show(one.key, one.now)}")
    else:
        click.echo(f"    proposed  {one.command}")
    click.echo(f"    expected  {one.gain} (by {one.source})")


def _print_comparison(one: Comparison) -> None:
    change = one.change
    when = format_time(change.applied_at)
    head = f"{change.key} = {_show(change.key, change.after)} since {when}: {one.verdict}."
    click.echo(escape_controls(head))
    if one.before is not None and one.after is not None and one.chance is not None:
        ratio = "" if one.ratio is None else f", {one.ratio:.2f} times"
        click.echo(
            f"    {one.measure}: {one.before:.3g} before, {one.after:.3g} after{ratio}; by chance alone in "
            f"{one.chance:.1%} of cases ({one.note})"
        )
    elif one.note:
        click.echo(f"    {one.note}.")
    if one.verdict == "worse":
        click.echo(f"    proposed  take it back: {change.key} = {_show(change.key, change.before)}")


def _show(key: str, value: Any) -> str:
    return "as without it" if value is None else SETTINGS[key].to_text(value)
