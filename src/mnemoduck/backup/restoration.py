"""Making a home of a backup.

The home's marker comes last: until every file is in its place, read back against its digest and synced, the
folder is no home, and all commands refuse it. What was interrupted is gone on with by restoring the same
backup to the same folder again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnemoduck.backup.generation import Generation, StoredFile
from mnemoduck.backup.store import BackupStore
from mnemoduck.errors import HomeError, LockedError, StorageError, UsageError
from mnemoduck.home import (
    FILE_MODE,
    FOLDER_MODE,
    LAYOUT_VERSION,
    RESTORING,
    Home,
    sync_folder,
    write_atomically,
)
from mnemoduck.sizes import format_bytes

MARKER_NAME = "home.json"
WAREHOUSE_NAME = "warehouse.duckdb"

_ASIDE = ".restored-part"


@dataclass(frozen=True)
class Restored:
    """What was restored. `kept` files were there from an attempt before."""

    generation_id: str
    generation: Generation
    home: Path
    files: int
    bytes: int
    kept: int


def restore_generation(
    store: BackupStore,
    generation_id: str,
    generation: Generation,
    home: Home,
    *,
    on_file: Callable[[str, int], None] = lambda _path, _size: None,
) -> Restored:
    """Write a generation to an empty or missing folder, which is a home afterwards.

    Args:
        on_file: called with the path and the size of each file that is in its place.

    Raises:
        UsageError: the folder holds something, or lies in the backup; or its disk has no room.
        StorageError: the backup is damaged, or the disk refuses; the folder is no home.
        LockedError: somebody else restores to it at this moment.
    """
    if generation.layout_version > LAYOUT_VERSION:
        raise UsageError(
            f"The backup {generation_id} is of a home of layout version {generation.layout_version}; this "
            f"mnemoduck knows version {LAYOUT_VERSION}. Use the release that made it "
            f"({generation.mnemoduck_version})."
        )
    if missing := store.find_missing(generation):
        raise StorageError(
            f"The backup {generation_id} is damaged: pieces of {len(missing)} files are missing, such as "
            f"those of {missing[0]}. Restore another generation."
        )
    files = _files_to_write(generation)
    marker = _marker_of(store, generation_id, generation)
    _check_place(store, home)
    try:
        home.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _check_is_ours(home, generation_id)
        _check_room(home, sum(file.size for file in files))
        return _restore(store, generation_id, generation, files, home, marker, on_file)
    except OSError as error:
        raise StorageError(
            f"The backup could not be restored to {home.path}: {error.strerror} ({error.filename}). Once "
            "that is mended, the same command goes on where it stopped."
        ) from error


def _files_to_write(generation: Generation) -> list[StoredFile]:
    """The marker is made last; the warehouse is what its last complete build was copied to."""
    for file in generation.files:
        if file.path.startswith((f"{MARKER_NAME}.", RESTORING)) or file.path.endswith(_ASIDE):
            raise StorageError(
                f"The backup names a file that no home has: {file.path}. Nothing was restored."
            )
    files = [file for file in generation.files if file.path != MARKER_NAME]
    if generation.snapshot is not None:
        snapshot = generation.file(f"published/{generation.snapshot}")
        if snapshot is not None and generation.file(WAREHOUSE_NAME) is None:
            files.append(snapshot.model_copy(update={"path": WAREHOUSE_NAME}))
    return files


def _marker_of(store: BackupStore, generation_id: str, generation: Generation) -> dict[str, Any]:
    stored = generation.file(MARKER_NAME)
    if stored is None:
        raise StorageError(f"The backup {generation_id} holds no {MARKER_NAME}. Restore another generation.")
    try:
        marker = json.loads(b"".join(store.read(stored)))
        if not isinstance(marker, dict) or marker["layout_version"] != generation.layout_version:
            raise ValueError("it is of another layout than the backup says")
    except (ValueError, KeyError) as error:
        raise StorageError(
            f"The backup {generation_id} has a damaged {MARKER_NAME} ({error}). Restore another generation."
        ) from error
    restored = {"backup": generation_id, "restored_at": datetime.now(UTC).isoformat()}
    return {**marker, "restored_from": restored}


def _check_place(store: BackupStore, home: Home) -> None:
    place, target = home.path.resolve(), store.path.resolve()
    if place == target or target in place.parents or place in target.parents:
        raise UsageError(f"{home.path} and the backup {store.path} lie in each other. Name another folder.")
    if home.path.exists() and not home.path.is_dir():
        raise HomeError(f"{home.path} is a file. Name an empty or new folder with --home.")


def _check_is_ours(home: Home, generation_id: str) -> None:
    """Raise unless the folder is empty, or what an attempt to restore the same generation has left."""
    if home.marker.exists():
        raise HomeError(
            f"{home.path} is a home already, and nothing in it is written over. Name an empty or new folder "
            "with --home."
        )
    strangers = sorted(entry.name for entry in os.scandir(home.path))
    if not strangers:
        return
    try:
        begun = json.loads((home.path / RESTORING).read_text("utf-8"))["restored_from"]["backup"]
    except FileNotFoundError as error:
        only_ours = all(name.startswith(f"{RESTORING}.") for name in strangers)
        if only_ours:  # it was killed before it began
            return
        raise HomeError(
            f"{home.path} holds other files (such as {strangers[0]!r}). Name an empty or new folder with "
            "--home."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise HomeError(
            f"{home.path / RESTORING} cannot be read ({error}). Empty the folder first."
        ) from error
    if begun != generation_id:
        raise HomeError(
            f"In {home.path} the restore of another backup ({begun}) was interrupted. Go on with that by "
            f"--generation {begun}, or empty the folder first."
        )


def _check_room(home: Home, needed: int) -> None:
    free = shutil.disk_usage(home.path).free
    there = sum(path.stat().st_size for path in home.path.rglob("*") if path.is_file())
    if needed - there > free:
        raise UsageError(
            f"The backup takes {format_bytes(needed)}, and the disk of {home.path} has {format_bytes(free)} "
            "left. Make room, or name a folder on another disk with --home."
        )


def _restore(
    store: BackupStore,
    generation_id: str,
    generation: Generation,
    files: list[StoredFile],
    home: Home,
    marker: dict[str, Any],
    on_file: Callable[[str, int], None],
) -> Restored:
    restoring = home.path / RESTORING
    if not restoring.exists():
        write_atomically(restoring, json.dumps(marker) + "\n")
    descriptor = os.open(restoring, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"Somebody else restores to {home.path} at this moment.") from error
        kept = 0
        for file in files:
            kept += _put(store, file, home.path)
            on_file(file.path, file.size)
        for folder in sorted({path.parent for path in home.path.rglob("*")} | {home.path}, reverse=True):
            sync_folder(folder)
        _remove_leftovers(home, files)
        os.rename(restoring, home.marker)
        sync_folder(home.path)
    finally:
        os.close(descriptor)
    return Restored(
        generation_id, generation, home.path, len(files) + 1, sum(file.size for file in files), kept
    )


def _put(store: BackupStore, file: StoredFile, folder: Path) -> bool:
    """Write a file below a folder; return whether it was there already."""
    path = folder
    for part in file.path.split("/")[:-1]:
        path /= part
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        if path.is_symlink():
            raise StorageError(f"{path} is a symbolic link, where a folder of the home goes.")
    final = folder / file.path
    if final.is_file() and not final.is_symlink() and _digest(final) == file.sha256:
        return True
    aside = final.with_name(final.name + _ASIDE)
    aside.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(aside, flags, FILE_MODE), "wb") as target:
        for data in store.read(file):
            target.write(data)
        target.flush()
        os.fsync(target.fileno())
    os.replace(aside, final)
    return False


def _remove_leftovers(home: Home, files: list[StoredFile]) -> None:
    """Remove what an attempt that was killed had begun."""
    named = {file.path for file in files} | {RESTORING}
    for path in home.path.rglob("*"):
        if path.is_file() and path.relative_to(home.path).as_posix() not in named:
            path.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
