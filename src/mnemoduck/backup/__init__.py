"""Backups of a home: consistent while it is used, incremental, and verified by restoring them.

A target is a folder. Each backup in it is a generation that names every file of the home by the digests of
its pieces; pieces are shared between generations, so a backup writes what is new (docs/backup.md).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from mnemoduck import __version__
from mnemoduck.backup.capture import read_home
from mnemoduck.backup.generation import Generation, StoredFile
from mnemoduck.backup.restoration import Restored, restore_generation
from mnemoduck.backup.store import BackupStore, create_store, open_store
from mnemoduck.backup.verification import Verified, verify_home
from mnemoduck.errors import StorageError, UsageError
from mnemoduck.home import Home, check_marker, resolve_home
from mnemoduck.sizes import format_bytes

__all__ = [
    "BackedUp",
    "Generation",
    "Restored",
    "Verified",
    "back_up",
    "list_backups",
    "newest_backup",
    "refresh_backup",
    "restore_backup",
    "verify_backup",
]

RUN_WAIT_SECONDS = 600.0
"""How long a backup waits for a run, should it come to that."""


@dataclass(frozen=True)
class BackedUp:
    """A backup that was made.

    Attributes:
        new_bytes: what it added to the target, and `freed_bytes` what was removed from there.
        removed: earlier generations that are gone.
        cleaned: whether what an interrupted backup had left was removed.
        not_freed: why pieces that no backup names are still there; None if none had to go, or all did.
        skipped: paths of the home that are in no backup, since they are no plain files.
    """

    generation_id: str
    generation: Generation
    new_bytes: int
    freed_bytes: int = 0
    removed: tuple[str, ...] = ()
    cleaned: bool = False
    not_freed: str | None = None
    skipped: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            **describe(self.generation_id, self.generation),
            "new_bytes": self.new_bytes,
            "freed_bytes": self.freed_bytes,
            "removed": list(self.removed),
            "cleaned": self.cleaned,
            "not_freed": self.not_freed,
            "skipped": list(self.skipped),
        }


def back_up(
    home: Home,
    target: Path,
    *,
    keep: int | None = None,
    with_snapshot: bool = True,
    wait_seconds: float = RUN_WAIT_SECONDS,
    is_locked: bool = False,
    on_file: Callable[[str], None] = lambda _: None,
) -> BackedUp:
    """Make a backup of a home, which may be written to, built and read meanwhile.

    This process must not have the home's cache of answers open: reading the file would take DuckDB's lock on
    it away.

    Args:
        keep: so many generations stay, this one included; None for all.
        with_snapshot: whether what is published is in it, and the months in archive/. Without it, a restored
            home is built anew from raw/.
        wait_seconds: how long to wait for a run, where the cache of answers cannot be read beside it.
        is_locked: the caller holds the run lock.
        on_file: called with the path of each file that is read.

    Raises:
        UsageError: the target cannot be one.
        LockedError: another backup is at work there; or a run, for longer than was to be waited.
        StorageError: the home cannot be read, or the target not be written. No generation was made.
    """
    return _back_up(home, target, keep, with_snapshot, wait_seconds, is_locked, on_file, is_only=False)


def refresh_backup(home: Home, target: Path, *, is_locked: bool = False) -> BackedUp:
    """Make a backup and remove every earlier one, with every byte in the target that this one does not name.

    That is for what was forgotten for good: whatever the home no longer holds is gone from the target too.
    Interrupted before the new generation is written, nothing has changed; after it, the next backup to the
    target does the rest before anything else.

    Args:
        is_locked: the caller holds the run lock.

    Raises:
        UsageError, LockedError, StorageError: as `back_up`.
    """
    return _back_up(home, target, None, True, RUN_WAIT_SECONDS, is_locked, lambda _: None, is_only=True)


def list_backups(target: Path) -> dict[str, Generation | str]:
    """Return the backups of a target, the oldest first; of one that cannot be read, why.

    Raises:
        UsageError: there is no such target.
    """
    store = open_store(target)
    found: dict[str, Generation | str] = {}
    with store.reading():
        for generation_id in store.ids():
            try:
                found[generation_id] = store.load(generation_id)[1]
            except StorageError as error:
                found[generation_id] = str(error)
    return found


def newest_backup(target: Path) -> tuple[str, Generation]:
    """Return the newest backup of a target.

    Raises:
        UsageError: there is none.
        StorageError: it cannot be read.
    """
    return open_store(target).load()


def restore_backup(
    target: Path,
    home: Path | None = None,
    generation_id: str | None = None,
    *,
    on_file: Callable[[str, int], None] = lambda _path, _size: None,
) -> Restored:
    """Restore a backup, the newest if none is named, to an empty or missing folder.

    Raises:
        UsageError: there is no such backup, or the folder is not empty.
        LockedError: a backup is at work in the target.
        StorageError: the backup is damaged, or the disk refuses; the folder is no home then.
    """
    store = open_store(target)
    with store.reading():
        chosen, generation = store.load(generation_id)
        return restore_generation(store, chosen, generation, Home(resolve_home(home)), on_file=on_file)


def verify_backup(
    target: Path,
    scratch: Path,
    generation_id: str | None = None,
    *,
    on_file: Callable[[str, int], None] = lambda _path, _size: None,
) -> Verified:
    """Restore a backup below `scratch`, and look whether it is what was backed up.

    Raises:
        UsageError: there is no such backup, or no room.
        StorageError: it is not what was backed up.
    """
    restored = restore_backup(target, scratch / "home", generation_id, on_file=on_file)
    return verify_home(Home(restored.home), restored.generation_id, restored.generation)


def describe(generation_id: str, generation: Generation) -> dict[str, Any]:
    """Return what there is to say of a generation, for JSON."""
    return {
        "generation": generation_id,
        **generation.model_dump(mode="json", exclude={"files", "events"}),
        "events": generation.events.rows,
        "events_checksum": generation.events.checksum,
        "files": len(generation.files),
        "bytes": generation.size,
    }


def _back_up(
    home: Home,
    target: Path,
    keep: int | None,
    with_snapshot: bool,
    wait_seconds: float,
    is_locked: bool,
    on_file: Callable[[str], None],
    *,
    is_only: bool,
) -> BackedUp:
    marker = _read_marker(home)
    _check_apart(home, target)
    store = create_store(target, marker.get("created_at"))
    with _told(store, target), store.changing() as was_unfinished:
        number, before = _before(store)
        began_at = datetime.now(UTC)
        captured = read_home(
            home,
            store,
            before,
            with_snapshot=with_snapshot,
            wait_seconds=wait_seconds,
            is_locked=is_locked,
            on_file=on_file,
        )
        generation = Generation(
            number=number,
            began_at=began_at,
            ended_at=datetime.now(UTC),
            mnemoduck_version=__version__,
            duckdb_version=duckdb.__version__,
            home_path=str(home.path),
            home_made_at=marker.get("created_at"),
            layout_version=marker["layout_version"],
            batch_seq=captured.batches[-1].batch_seq if captured.batches else 0,
            snapshot=captured.snapshot,
            snapshot_batch_seq=captured.snapshot_batch_seq,
            events=captured.events,
            waiting_events=captured.waiting_events,
            files=tuple(captured.files),
        )
        generation_id = store.commit(generation)
        freed, not_freed = 0, None
        removed = [one for one in store.ids() if one != generation_id]
        if is_only:
            freed = store.remove_all_but(generation_id)
        else:
            removed = removed[: max(0, len(removed) + 1 - keep)] if keep is not None else []
            store.remove_generations(removed)
            if removed or was_unfinished:
                try:
                    freed = store.remove_unnamed()
                except StorageError as error:  # the backup itself is made
                    not_freed = str(error)
    return BackedUp(
        generation_id=generation_id,
        generation=generation,
        new_bytes=store.new_bytes,
        freed_bytes=freed,
        removed=tuple(removed),
        cleaned=was_unfinished and not_freed is None,
        not_freed=not_freed,
        skipped=tuple(captured.skipped),
    )


def _before(store: BackupStore) -> tuple[int, tuple[StoredFile, ...]]:
    """Return the number of the next generation, and what the newest that can be read holds."""
    ids = store.ids()
    number = int(ids[-1].partition("-")[0]) + 1 if ids else 1
    for generation_id in reversed(ids):
        try:
            return number, store.load(generation_id)[1].files
        except StorageError:
            continue
    return number, ()


def _read_marker(home: Home) -> dict[str, Any]:
    """Return what the marker of a home says, of this or an earlier layout; of none that is in between."""
    check_marker(home, is_upgrade=True)
    marker: dict[str, Any] = json.loads(home.marker.read_text("utf-8"))
    if "upgrading" in marker:
        check_marker(home)
    made_at = marker.get("created_at")
    return {**marker, "created_at": None if made_at is None else str(made_at)}


def _check_apart(home: Home, target: Path) -> None:
    place, of_target = home.path.resolve(), target.resolve()
    if of_target == place or place in of_target.parents:
        raise UsageError(
            f"The backup folder {target} lies in the home. Name one outside, best on another disk."
        )
    if of_target in place.parents:
        raise UsageError(f"The home {home.path} lies in the backup folder {target}. Name another folder.")
    if target.exists() and not target.is_dir():
        raise UsageError(f"The backup folder {target} is a file. Name a folder.")


@contextmanager
def _told(store: BackupStore, target: Path) -> Iterator[None]:
    """Say what the target's disk refuses. What was written for nothing on a full one is taken back."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            written = store.new_bytes
            store.take_back()
            raise StorageError(
                f"The disk of the backup folder {target} is full: the backup had written "
                f"{format_bytes(written)}, which were removed again. Earlier backups are whole. Make room, "
                "keep fewer with --keep, or name another folder."
            ) from error
        raise StorageError(
            f"The backup could not be written to {target}: {error.strerror} ({error.filename}). Earlier "
            "backups are whole."
        ) from error
