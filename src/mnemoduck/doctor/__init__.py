"""`mnemoduck doctor`: what is wrong with a home, and the command that mends it.

Nothing is written, no run is kept waiting for longer than it takes to open a file, and a home that is
broken, of another version or at work gets its verdicts as well.
"""

from __future__ import annotations

from collections.abc import Callable

from mnemoduck.doctor import builds, folder, installation, intake
from mnemoduck.doctor.verdict import Patient, Status, Verdict

__all__ = ["CHECKS", "Patient", "Status", "Verdict", "examine"]

Check = Callable[[Patient], Verdict]

_BEFORE: dict[str, Check] = {
    "versions": installation.check_versions,
    "home": folder.check_home,
}

_OF_ANY_FOLDER: dict[str, Check] = {
    "permissions": folder.check_permissions,
    "disk": folder.check_disk,
    "run lock": builds.check_lock,
}

_OF_OUR_LAYOUT: dict[str, Check] = {
    "inbox": intake.check_inbox,
    "orphan segments": intake.check_orphans,
    "quarantine": intake.check_quarantine,
    "raw files": intake.check_raw,
    "warehouse": builds.check_warehouse,
    "snapshot": builds.check_snapshot,
    "archive": builds.check_archive,
    "llm cache": builds.check_cache,
    "purge": builds.check_purge,
    "last run": builds.check_last_run,
    "backup": folder.check_backup,
    "clock": intake.check_clock,
    "leftovers": folder.check_leftovers,
}

_AFTER: dict[str, Check] = {"model server": installation.check_model_server}

CHECKS = {**_BEFORE, **_OF_ANY_FOLDER, **_OF_OUR_LAYOUT, **_AFTER}
"""Every check by its name, in the order in which they are made."""


def examine(patient: Patient) -> list[Verdict]:
    """Return a verdict for each check."""
    verdicts = [_make(name, check, patient) for name, check in _BEFORE.items()]
    is_layout_known = verdicts[-1].status != "fail"
    is_there = patient.home.path.is_dir()
    for name, check in _OF_ANY_FOLDER.items():
        verdicts.append(_make(name, check, patient) if is_there else _skip(name, "there is no home"))
    for name, check in _OF_OUR_LAYOUT.items():
        verdicts.append(
            _make(name, check, patient) if is_layout_known else _skip(name, "its layout is not known")
        )
    verdicts += [_make(name, check, patient) for name, check in _AFTER.items()]
    return verdicts


def _make(name: str, check: Check, patient: Patient) -> Verdict:
    """Make a check; what keeps it from being made is a verdict too."""
    try:
        return check(patient)
    except PermissionError as error:
        return Verdict(
            name,
            "fail",
            f"This user may not read {error.filename}.",
            f"sudo chown -R $(id -u) {patient.quoted} && chmod -R u+rwX {patient.quoted}",
        )
    except Exception as error:
        reason = str(error) or type(error).__name__
        return Verdict(name, "fail", f"It cannot be told: {reason}")


def _skip(name: str, reason: str) -> Verdict:
    return Verdict(name, "skipped", f"Not looked at: {reason}.")
