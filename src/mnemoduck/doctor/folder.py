"""Checks of the home as a folder: its layout, who may read it, its disk, what was left behind."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from mnemoduck.backup import newest_backup
from mnemoduck.doctor.verdict import Patient, Verdict, describe_age
from mnemoduck.errors import HomeError, StorageError, UsageError
from mnemoduck.home import LAYOUT_VERSION, RESTORING, check_marker
from mnemoduck.settings import load_settings
from mnemoduck.sizes import format_bytes

LEFTOVER_SECONDS = 3600
"""A temporary file that nobody has written to for so long is left over: the longest copy takes minutes."""

OLD_BACKUP_SECONDS = 7 * 86_400
"""Nobody makes backups, if the newest is older."""

ROOM = 3
"""So many copies of the warehouse are room enough: the next snapshot, and what the warehouse grows by."""


def check_home(patient: Patient) -> Verdict:
    """Whether the folder is a home of this layout, with all its folders."""
    home = patient.home
    if not home.marker.exists():
        if not home.path.exists():
            return Verdict("home", "fail", f"There is no home at {home.path}.", patient.command("init"))
        if home.path.is_dir() and not any(home.path.iterdir()):
            return Verdict("home", "fail", f"{home.path} is empty.", patient.command("init"))
        if (home.path / RESTORING).exists():
            return Verdict(
                "home",
                "fail",
                f"A backup is being restored to {home.path}, or that was interrupted: it is no home yet.",
                patient.command("restore TARGET"),
            )
        return Verdict(
            "home",
            "fail",
            f"{home.path} is no home: it has no home.json. If it is one that has lost it, make it again.",
            _restore_marker(patient) if home.path.is_dir() else None,
        )
    try:
        check_marker(home)
    except HomeError as error:
        if "`mnemoduck upgrade" in str(error):
            return Verdict("home", "fail", str(error), patient.command("upgrade"))
        is_other_version = "layout version" in str(error) and "knows version" in str(error)
        return Verdict("home", "fail", str(error), None if is_other_version else _restore_marker(patient))
    folders = (home.inbox, home.loaded, home.raw, home.quarantine, home.published, home.logs)
    missing = [str(folder.relative_to(home.path)) for folder in folders if not folder.is_dir()]
    if missing:
        return Verdict("home", "fail", f"Folders are missing: {', '.join(missing)}.", patient.command("init"))
    return Verdict("home", "ok", f"{home.path}, layout {LAYOUT_VERSION}.")


def _restore_marker(patient: Patient) -> str:
    return f"""echo '{{"layout_version": {LAYOUT_VERSION}}}' > {patient.quoted}/home.json"""


def check_permissions(patient: Patient) -> Verdict:
    """Whether nobody but its user reads the home, and its user may write everywhere in it."""
    open_to_others: list[Path] = []
    refused: list[Path] = []
    for path, mode in _walk(patient.home.path):
        if stat.S_IMODE(mode) & 0o077:
            open_to_others.append(path)
        wanted = os.R_OK | os.W_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)
        if not os.access(path, wanted):
            refused.append(path)
    if not open_to_others and not refused:
        return Verdict("permissions", "ok", "Folders are 0700 and files 0600: nobody else reads them.")
    says = []
    if open_to_others:
        says.append(f"others may use {len(open_to_others)} of its files, such as {open_to_others[0]}")
    if refused:
        says.append(f"this user may not read and write {len(refused)} of its files, such as {refused[0]}")
    text = " and ".join(says)
    return Verdict(
        "permissions",
        "fail",
        f"{text[0].upper()}{text[1:]}.",
        f"chmod -R u=rwX,go= {patient.quoted}",
    )


def check_disk(patient: Patient) -> Verdict:
    """Whether the disk has room for the next snapshot, which is a copy of the warehouse."""
    free = shutil.disk_usage(patient.home.path).free
    warehouse = patient.home.warehouse
    needed = warehouse.stat().st_size if warehouse.exists() else 0
    says = f"{format_bytes(free)} are free; the next snapshot takes {format_bytes(needed)}."
    if free >= ROOM * needed and free > 0:
        return Verdict("disk", "ok", says)
    return Verdict(
        "disk",
        "fail" if free <= needed else "warn",
        says,
        f"Make room on this disk: du -sh {patient.quoted}/* says what takes it in the home, "
        f"{patient.command('cache evict --older-than 90d')} and archived months give some back.",
    )


def check_backup(patient: Patient) -> Verdict:
    """Whether there is a backup of late, where `backup.target` says where backups go."""
    target = load_settings(patient.home).backup.target
    if target is None:
        return Verdict("backup", "skipped", "Where backups go is not known: backup.target is not set.")
    try:
        generation_id, generation = newest_backup(Path(target))
    except (UsageError, StorageError) as error:
        return Verdict("backup", "fail", str(error), patient.command("backup"))
    age = (patient.now - generation.began_at).total_seconds()
    says = f"The newest, {generation_id} in {target}, was made {describe_age(age)} ago."
    if age > OLD_BACKUP_SECONDS:
        return Verdict("backup", "warn", f"{says} Does something start it?", patient.command("backup"))
    return Verdict("backup", "ok", says)


def check_leftovers(patient: Patient) -> Verdict:
    """Whether temporary files of what was killed are still there, or damaged ones that were moved away."""
    found, total = 0, 0
    for path, mode in _walk(patient.home.path):
        is_temporary = path.suffix in {".tmp", ".damaged"} or path.parent == patient.home.raw / ".staging"
        if stat.S_ISREG(mode) and is_temporary:
            state = path.stat()
            if patient.now.timestamp() - state.st_mtime > LEFTOVER_SECONDS:
                found, total = found + 1, total + state.st_size
    if not found:
        return Verdict("leftovers", "ok", "No temporary file was left behind.")
    return Verdict(
        "leftovers",
        "warn",
        f"{found} temporary or damaged files ({format_bytes(total)}) were left behind.",
        f"find {patient.quoted} -type f \\( -name '*.tmp' -o -name '*.damaged' "
        f"-o -path '*/raw/.staging/*' \\) -mmin +{LEFTOVER_SECONDS // 60} -delete",
    )


def _walk(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield everything in a folder, itself first, with its mode; what goes meanwhile is passed over.

    A folder that may not be read is there, and what is in it is not.
    """
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        try:
            # The home itself may be named by a link; what is in it are files of its own.
            mode = path.stat().st_mode if path == folder else path.lstat().st_mode
            if stat.S_ISLNK(mode):
                continue
            yield path, mode
            if stat.S_ISDIR(mode):
                waiting += [Path(entry) for entry in os.scandir(path)]
        except (FileNotFoundError, PermissionError):
            continue
