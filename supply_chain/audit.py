"""Checks of what is installed: what needs no network, and known vulnerabilities where that can be asked."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.markers import Marker
from packaging.utils import canonicalize_name

from supply_chain.lock import Pinned, read_lock

SECONDS = 600

ALLOWED = (
    *("Apache", "Artistic", "BSD", "CC0", "CNRI", "HPND", "ISC", "MIT", "MPL", "PSF", "Unlicense", "Zlib"),
    *("Historical Permission Notice", "Mozilla Public License", "Python Software Foundation"),
)
"""Words of licences that let mnemoduck be used under its own."""


@dataclass
class Findings:
    """What a check found; each is a sentence. `unchecked` could not be looked at."""

    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    checked: int = 0


def check_vulnerabilities(lock: Path, program: str) -> Findings:
    """Ask pip-audit for known vulnerabilities of all that a lock file pins.

    A package that its service does not know is not one without vulnerabilities: it counts as unchecked.
    """
    pinned = read_lock(lock)
    found = Findings()
    command = [program, "--disable-pip", "--require-hashes", "--requirement", str(lock), "--format", "json"]
    command += ["--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        audited = json.loads(done.stdout)["dependencies"]
    except FileNotFoundError:
        found.unchecked = [f"pip-audit is not installed ({program})."]
        return found
    except subprocess.TimeoutExpired:
        found.unchecked = [f"pip-audit did not end within {SECONDS} seconds."]
        return found
    except (ValueError, KeyError, TypeError):
        said = " ".join(done.stderr.split())[-300:]
        found.unchecked = [f"The list of known vulnerabilities could not be reached: {said}"]
        return found
    answered = {str(canonicalize_name(one["name"])): one for one in audited}
    for package in pinned:
        one = answered.get(package.name)
        if one is None or "skip_reason" in one:
            reason = "pip-audit does not name it" if one is None else one["skip_reason"]
            found.unchecked.append(f"{package.name} {package.version}: {reason}.")
            continue
        found.checked += 1
        for known in one.get("vulns", []):
            mended = ", ".join(known.get("fix_versions", [])) or "no version"
            found.faults.append(f"{package.name} {package.version}: {known['id']}, mended in {mended}.")
    return found


def check_versions(pinned: list[Pinned], installed: dict[str, Distribution]) -> Findings:
    """Check that what is installed of a lock file has the version that it pins."""
    found = Findings()
    for one in pinned:
        if one.marker is not None and not Marker(one.marker).evaluate():
            continue  # for another Python or system
        distribution = installed.get(one.name)
        if distribution is None:
            if one.marker is None:
                found.faults.append(f"{one.name} {one.version} is not installed. Run make setup.")
            continue
        found.checked += 1
        if distribution.version != one.version:
            found.faults.append(
                f"{one.name} is {distribution.version}; the lock file pins {one.version}. Run make setup."
            )
    return found


def check_files(installed: dict[str, Distribution]) -> Findings:
    """Check every installed file against the hash that its package's RECORD has of it.

    A file that several packages bring (dbt/__init__.py) is that of the one that was installed last.
    """
    found = Findings()
    wrong: dict[Path, str] = {}
    sound: set[Path] = set()
    for name, distribution in sorted(installed.items()):
        record = distribution.read_text("RECORD")
        if record is None:
            found.unchecked.append(f"{name} has no RECORD.")
            continue
        for row in csv.reader(record.splitlines()):
            if len(row) < 2 or not row[1]:
                continue  # RECORD itself, and compiled files
            algorithm, _, digest = row[1].partition("=")
            path = Path(str(distribution.locate_file(row[0])))
            try:
                actual = hashlib.new(algorithm, path.read_bytes()).digest()
            except FileNotFoundError:
                found.faults.append(f"{name}: the file {row[0]} is gone.")
                continue
            except (OSError, ValueError) as error:
                found.unchecked.append(f"{name}: the file {row[0]} cannot be checked ({error}).")
                continue
            found.checked += 1
            if base64.urlsafe_b64encode(actual).rstrip(b"=").decode() == digest:
                sound.add(path)
            else:
                wrong[path] = f"{name}: the file {row[0]} is not the one that was installed."
    found.faults += [said for path, said in wrong.items() if path not in sound]
    return found


def check_licences(pinned: list[Pinned], installed: dict[str, Distribution]) -> Findings:
    """Check that each package's licence is one of those that are allowed."""
    found = Findings()
    for one in pinned:
        distribution = installed.get(one.name)
        if distribution is None:
            continue
        licence = licence_of(distribution)
        if licence is None:
            found.unchecked.append(f"{one.name} {one.version} does not say its licence.")
            continue
        found.checked += 1
        if not any(word.lower() in licence.lower() for word in ALLOWED):
            found.faults.append(
                f"{one.name} {one.version} has the licence {licence}: decide whether it may be."
            )
    return found


def licence_of(distribution: Distribution) -> str | None:
    """Return what a package says of its licence, on one line; None if it says nothing."""
    metadata = distribution.metadata
    expression = metadata["License-Expression"]
    if expression:
        try:
            return str(canonicalize_license_expression(expression))
        except InvalidLicenseExpression:
            return str(expression)
    named = [
        one.rpartition("::")[2].strip()
        for one in metadata.get_all("Classifier") or []
        if one.startswith("License ::") and not one.endswith("OSI Approved")
    ]
    if named:
        return ", ".join(named)
    said = " ".join((metadata["License"] or "").split())
    return None if said in ("", "UNKNOWN") else said[:100]


def installed_packages() -> dict[str, Distribution]:
    """Return what is installed in this Python, by canonical name."""
    return {
        str(canonicalize_name(one.metadata["Name"])): one for one in distributions() if one.metadata["Name"]
    }


def check_consistency() -> Findings:
    """Let pip check that what is installed fits together."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    faults = [] if done.returncode == 0 else done.stdout.splitlines() + done.stderr.splitlines()
    return Findings(faults=faults, checked=1)
