"""`python -m supply_chain sbom` writes the bill of materials, `… audit` checks what is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from supply_chain.audit import (
    Findings,
    check_consistency,
    check_files,
    check_licences,
    check_versions,
    check_vulnerabilities,
    installed_packages,
)
from supply_chain.lock import LOCK, read_lock
from supply_chain.sbom import SBOM, write_sbom

SHOWN = 10


@click.group()
def main() -> None:
    """Look after what mnemoduck is made of."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=SBOM, show_default=False)
def sbom(out: Path) -> None:
    """Write the bill of materials from requirements.lock."""
    click.echo(f"{write_sbom(out)} packages are in {out}.")


@main.command()
@click.option("--offline", is_flag=True, help="Only what needs no network.")
@click.option("--pip-audit", "program", default="pip-audit", show_default=True, help="Where pip-audit is.")
def audit(offline: bool, program: str) -> None:
    """Check versions, files and licences, and known vulnerabilities.

    The status is 1 if there is a fault, and 2 if there is none but not all could be looked at.
    """
    pinned, installed = read_lock(LOCK), installed_packages()
    checks: dict[str, Callable[[], Findings]] = {
        "versions are those of the lock file": lambda: check_versions(pinned, installed),
        "packages fit together": check_consistency,
        "files are those that were installed": lambda: check_files(installed),
        "licences are allowed": lambda: check_licences(pinned, installed),
    }
    if not offline:
        checks["packages have no known vulnerability"] = lambda: check_vulnerabilities(LOCK, program)
    faults, unchecked = 0, 0
    for name, check in checks.items():
        found = check()
        faults += len(found.faults)
        unchecked += len(found.unchecked)
        click.echo(
            f"{name}: {found.checked:,} looked at, {len(found.faults):,} at fault, "
            f"{len(found.unchecked):,} not looked at"
        )
        for sentences in (found.faults, found.unchecked):
            for said in sentences[:SHOWN]:
                click.echo(f"  {said}")
            if (rest := len(sentences) - SHOWN) > 0:
                click.echo(f"  and {rest:,} more")
    if faults:
        sys.exit(1)
    if unchecked:
        click.echo(
            "Not everything could be looked at, so this is no clean bill. Where the service of known "
            "vulnerabilities cannot be reached, run it again where it can; --offline leaves it out.",
            err=True,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
