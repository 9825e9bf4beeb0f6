"""Publishing: write, audit, publish. Readers only ever see builds whose tests passed.

At the end of every dbt command the macro `publish_if_audited` decides whether each model was built
and tested; if so, it checkpoints the warehouse and calls `publish`, which copies the file under a
new name and then lets CURRENT name the copy. The copy is made by another process, because closing
any descriptor of the warehouse in this one would drop DuckDB's lock on it (POSIX record locks).

Cost: one sequential copy of the warehouse file, or next to nothing where the file system shares
blocks (`cp --reflink=auto`); see docs/decisions/0003-publish-by-copy.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from mnemoduck import __version__
from mnemoduck.archive import archived_files, remove_unfinished_archives, remove_unused_archives
from mnemoduck.errors import StorageError
from mnemoduck.home import Home, sync_file, sync_folder, write_atomically
from mnemoduck.inbox import retire_loaded
from mnemoduck.news import News

_STAMP = "%Y%m%dT%H%M%S%fZ"

KEPT_SNAPSHOTS = 2
"""The current snapshot and the one before it, for readers that are about to open it."""


def publish(
    home: Home,
    fingerprint: str,
    batch_seq: int,
    examine: Callable[[Path, Path | None], None] = lambda _candidate, _before: None,
) -> str:
    """Publish the checkpointed warehouse and return its name; unchanged content is not copied again.

    Args:
        fingerprint: stands for the content: two builds with the same one have the same rows.
        batch_seq: the newest batch in it; the inbox segments up to it are retired.
        examine: called with the copy before anybody reads it, and with the snapshot that readers are on, if
            any; what it raises keeps the copy from being published.

    Raises:
        StorageError: the copy could not be made or does not open; CURRENT is left as it was.
    """
    current = current_snapshot(home)
    if current is not None and current.stem.endswith(f"-{fingerprint}"):
        retire_loaded(home, batch_seq)
        _remove_leftovers(home)  # of a publication that died after CURRENT named it
        _prune(home, current, None)
        _clean_archive(home)
        return f"unchanged: {current.stem}"
    stamp = datetime.now(UTC).strftime(_STAMP)
    snapshot = home.published / f"{stamp}-{fingerprint}.duckdb"
    temporary = snapshot.with_suffix(".tmp")
    _remove_leftovers(home)
    _copy(home.warehouse, temporary)
    _check(temporary, batch_seq)
    try:
        examine(temporary, current)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, snapshot)
    sync_folder(home.published)
    write_atomically(home.current, snapshot.name + "\n")
    with contextlib.suppress(OSError, StorageError):  # readers look of themselves now and then
        News(home).announce()
    retire_loaded(home, batch_seq)
    _prune(home, snapshot, current)
    _clean_archive(home)
    return f"published: {snapshot.stem}"


def fingerprint_build(project: Path, settings: str, batch_seq: int, files_in: Path | None = None) -> str:
    """Return 12 hex digits that stand for a build's content: its events, its code and its settings.

    Args:
        files_in: the home, if views name files in it: elsewhere they are other views.
    """
    place = f"{files_in}\n" if files_in else ""
    digest = hashlib.sha256(f"{__version__}\n{batch_seq}\n{settings}\n{place}".encode())
    for folder in ("models", "macros", "seeds"):
        for path in sorted((project / folder).rglob("*.*")):
            if path.suffix in {".sql", ".py", ".yml", ".csv"}:
                digest.update(str(path.relative_to(project)).encode() + b"\0")
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def current_snapshot(home: Home) -> Path | None:
    """Return the path of the snapshot that CURRENT names, None before the first publication."""
    name = _read_current(home)
    while name is not None:
        path = home.published / Path(name).name
        if path.suffix == ".duckdb" and path.exists():
            return path
        # Pruned since CURRENT was read, if that names another by now; else it was damaged or deleted.
        missing, name = name, _read_current(home)
        if name == missing:
            return None
    return None


def published_at(snapshot: Path) -> datetime:
    """Return when a snapshot was published: its name says so; of one that was renamed, its file."""
    try:
        return datetime.strptime(snapshot.name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(snapshot.stat().st_mtime, UTC)


def _read_current(home: Home) -> str | None:
    try:
        return os.fsdecode(home.current.read_bytes().strip())
    except FileNotFoundError:
        return None


def _copy(source: Path, target: Path) -> None:
    write_ahead_log = source.with_name(source.name + ".wal")
    if write_ahead_log.exists() and write_ahead_log.stat().st_size > 0:
        raise StorageError(f"{source} was not checkpointed: {write_ahead_log} is not empty.")
    sharing_blocks = ["--reflink=auto"] if platform.system() == "Linux" else []
    done = subprocess.run(
        ["cp", *sharing_blocks, "--", str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        raise StorageError(f"The snapshot could not be written: {done.stderr.strip()}.")
    sync_file(target)


def _check(snapshot: Path, batch_seq: int) -> None:
    try:
        with duckdb.connect(str(snapshot), read_only=True) as connection:
            row = connection.execute("select coalesce(max(batch_seq), 0) from staging.raw_batches").fetchone()
    except duckdb.Error as error:
        snapshot.unlink(missing_ok=True)
        raise StorageError(f"The copy of the warehouse does not open: {error}") from error
    if row is None or row[0] != batch_seq:
        snapshot.unlink(missing_ok=True)
        raise StorageError(f"The copy of the warehouse ends at another batch than {batch_seq}.")


def _remove_leftovers(home: Home) -> None:
    for path in home.published.glob("*.tmp"):
        path.unlink(missing_ok=True)


def _prune(home: Home, newest: Path, before: Path | None) -> None:
    """Remove all snapshots but the newest and the one before it, which readers may be about to open.

    Names say by the clock of the machine when a snapshot was made, and a clock can be set back: so which one
    was before is what CURRENT has named. Only where that is not known the names decide.
    """
    others = sorted((path for path in home.published.glob("*.duckdb") if path != newest), reverse=True)
    keep = [before] if before is not None else others[: KEPT_SNAPSHOTS - 1]
    for path in others:
        if path not in keep:
            path.unlink(missing_ok=True)


def _clean_archive(home: Home) -> None:
    """Remove the archived months that no kept snapshot reads.

    What the warehouse names is in the newest snapshot, which is a copy of it or has its fingerprint; so
    this comes last, and after a crash before it the next publication does it.
    """
    remove_unfinished_archives(home)
    used: set[str] = set()
    for snapshot in home.published.glob("*.duckdb"):
        try:
            with duckdb.connect(":memory:") as connection:
                quoted = str(snapshot).replace("'", "''")
                connection.execute(f"attach '{quoted}' as snapshot (read_only)")
                used |= archived_files(connection, "snapshot")
        except duckdb.Error:
            return  # what a damaged snapshot reads is not known; it is pruned one day
    remove_unused_archives(home, used)
