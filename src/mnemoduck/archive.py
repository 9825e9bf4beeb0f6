"""The files of archived months: archive/<model>/<month>-<digest>.parquet under the home.

A file is written under a temporary name, read back and compared by the macro `partitions_archive`, and
only then sealed here under a name that holds its digest; only then is the month's table dropped. So a
file of that name is whole, and another archive of the same month never writes over it while a
published snapshot still reads it. Files that nothing names any more are removed at the next publication.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import duckdb

from mnemoduck.home import FILE_MODE, FOLDER_MODE, Home, sync_file, sync_folder
from mnemoduck.partitions import months_schema, partitioned_models

_TEMPORARY_SUFFIX = ".tmp"


@dataclass(frozen=True)
class SealedArchive:
    """A finished file: its path relative to the home, its SHA-256 in hex digits, its size in bytes."""

    file: str
    sha256: str
    bytes: int


def begin_archive(home: Home, model: str, month: str) -> Path:
    """Return the temporary path to write a month to, with no file there."""
    folder = home.archive / model
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    path = folder / f"{month}{_TEMPORARY_SUFFIX}"
    path.unlink(missing_ok=True)
    return path


def seal_archive(home: Home, temporary: Path) -> SealedArchive:
    """Make a written file last, under its final name."""
    os.chmod(temporary, FILE_MODE)
    sync_file(temporary)
    sha256 = _digest(temporary)
    size = temporary.stat().st_size
    final = temporary.with_name(f"{temporary.name.removesuffix(_TEMPORARY_SUFFIX)}-{sha256[:12]}.parquet")
    os.replace(temporary, final)
    sync_folder(final.parent)
    sync_folder(home.archive)
    return SealedArchive(str(final.relative_to(home.path)), sha256, size)


def find_archive_fault(path: Path, sha256: str) -> str:
    """Return what is wrong with an archived file, as the end of a sentence; empty if nothing is."""
    try:
        found = _digest(path)
    except FileNotFoundError:
        return f"is missing: {path}"
    except OSError as error:
        return f"cannot be read: {path}: {error.strerror}"
    if found != sha256:
        return f"was changed since it was written: {path} has SHA-256 {found[:12]}…, not {sha256[:12]}…"
    return ""


def archived_files(connection: duckdb.DuckDBPyConnection, database: str) -> set[str]:
    """Return the archive files that the views of an attached database read, relative to its home."""
    files: set[str] = set()
    for model in partitioned_models(connection, database):
        rows = connection.execute(
            f'select archive_file from "{database}"."{months_schema(model)}".catalog '
            "where archive_file is not null"
        ).fetchall()
        files.update(file for (file,) in rows)
    return files


def remove_unused_archives(home: Home, used: Collection[str]) -> None:
    """Remove the files of archive/ but those in `used`, which are relative to the home."""
    for path in home.archive.glob("*/*.parquet"):
        if str(path.relative_to(home.path)) not in used:
            path.unlink(missing_ok=True)


def remove_unfinished_archives(home: Home) -> None:
    """Remove what interrupted archives have left. The caller holds the run lock, so none is at work."""
    for path in home.archive.glob(f"*/*{_TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
