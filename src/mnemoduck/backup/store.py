"""The folder that backups are kept in: pieces by their digest, and a JSON file for each generation.

    mnemoduck-backup.json      marks the folder, and says of which home it holds backups
    objects/ab/ab12…           a piece of a file, named by its SHA-256
    generations/000012-….json  what one backup holds: written last, so a backup is whole or not there
    lock                       held by `flock` by who writes; says who and since when
    unfinished                 there while somebody writes: what it left is cleaned by the next
    tmp/                       what is being written

Everything is synced before the generation that names it, and nothing is removed before the generations that
named it are gone.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from mnemoduck.backup.generation import (
    PIECE_BYTES,
    Generation,
    StoredFile,
    id_of,
    is_id,
    read_generation,
)
from mnemoduck.errors import LockedError, StorageError, UsageError
from mnemoduck.home import FILE_MODE, FOLDER_MODE, create_file, sync_folder, write_atomically
from mnemoduck.pipeline.lock import describe_holder

MARKER = "mnemoduck-backup.json"


class ShrunkError(OSError):
    """A file got shorter while it was read."""


@dataclass(frozen=True)
class Written:
    """What a file came to in the store."""

    size: int
    sha256: str
    pieces: tuple[str, ...]


class BackupStore:
    """One target of backups. Creating the object touches nothing: see `create_store` and `open_store`.

    `new_bytes` counts what was written of pieces that were not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.new_bytes = 0
        self._new_pieces: list[Path] = []
        self._changed_folders: set[Path] = set()

    @property
    def marker(self) -> Path:
        return self.path / MARKER

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def generations(self) -> Path:
        return self.path / "generations"

    @property
    def temporary(self) -> Path:
        return self.path / "tmp"

    @property
    def unfinished(self) -> Path:
        return self.path / "unfinished"

    def piece_path(self, digest: str) -> Path:
        return self.objects / digest[:2] / digest

    def ids(self) -> list[str]:
        """Return the names of the generations, the oldest first."""
        names = [path.stem for path in self.generations.glob("*.json") if is_id(path.stem)]
        return sorted(names, key=lambda name: (int(name.partition("-")[0]), name))

    def load(self, generation_id: str | None = None) -> tuple[str, Generation]:
        """Return a generation with its name; without a name the newest.

        Raises:
            UsageError: there is none of that name.
            StorageError: it cannot be read.
        """
        ids = self.ids()
        if not ids:
            raise UsageError(f"{self.path} holds no backup yet: the first one was not finished.")
        chosen = ids[-1] if generation_id is None else generation_id
        if chosen not in ids:
            raise UsageError(
                f"{self.path} has no backup {chosen!r}. It has: {', '.join(ids[-5:])}. "
                f"`mnemoduck backup {self.path} --list` lists them all."
            )
        try:
            text = _read(self.generations / f"{chosen}.json").decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"The backup {chosen} cannot be read: {error}.") from error
        return chosen, read_generation(chosen, text)

    def write(self, file: BinaryIO, size: int) -> Written:
        """Store the first `size` bytes of an open file, as far as they are not there.

        Raises:
            ShrunkError: the file ended before.
            OSError: the target cannot be written.
        """
        whole = hashlib.sha256()
        pieces = []
        left = size
        while left > 0:
            data = _read_exactly(file, min(PIECE_BYTES, left))
            whole.update(data)
            pieces.append(self._write_piece(data))
            left -= len(data)
        return Written(size, whole.hexdigest(), tuple(pieces))

    def read(self, file: StoredFile) -> Iterator[bytes]:
        """Yield the pieces of a file, each checked against its digest.

        Raises:
            StorageError: a piece is missing or damaged.
        """
        whole = hashlib.sha256()
        for digest in file.pieces:
            path = self.piece_path(digest)
            try:
                data = _read(path)
            except OSError as error:
                raise StorageError(f"The backup is damaged: {_describe_loss(path, file, error)}.") from error
            if hashlib.sha256(data).hexdigest() != digest:
                raise StorageError(
                    f"The backup is damaged: {path}, a piece of {file.path}, is not what was written. "
                    "Restore another generation; the next backup writes it anew once it is removed."
                )
            whole.update(data)
            yield data
        if whole.hexdigest() != file.sha256:
            raise StorageError(f"The backup is damaged: the pieces of {file.path} are not those of the file.")

    def find_missing(self, generation: Generation) -> list[str]:
        """Return the files of a generation of which a piece is missing or of another size."""
        missing = []
        for file in generation.files:
            for number, digest in enumerate(file.pieces):
                if not self._has_piece(digest, file.piece_size(number)):
                    missing.append(file.path)
                    break
        return missing

    def has_all(self, file: StoredFile) -> bool:
        return all(
            self._has_piece(digest, file.piece_size(number)) for number, digest in enumerate(file.pieces)
        )

    def commit(self, generation: Generation) -> str:
        """Make the pieces durable, then the generation that names them; return its name."""
        for folder in sorted(self._changed_folders):
            sync_folder(folder)
        sync_folder(self.objects)
        text = generation.to_text()
        generation_id = id_of(generation.number, text)
        aside = self.temporary / f"{generation_id}.json"
        with create_file(aside) as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self.generations / f"{generation_id}.json")
        sync_folder(self.generations)
        self._new_pieces.clear()
        return generation_id

    def take_back(self) -> None:
        """Remove the pieces that were written since the last commit: a full disk is not left full."""
        for path in self._new_pieces:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        self._new_pieces.clear()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def remove_generations(self, ids: list[str]) -> None:
        """Remove generations; their pieces stay until `remove_unnamed`."""
        for generation_id in ids:
            (self.generations / f"{generation_id}.json").unlink(missing_ok=True)
        if ids:
            sync_folder(self.generations)

    def remove_unnamed(self) -> int:
        """Remove the pieces that no generation names; return how many bytes that gave back.

        Raises:
            StorageError: a generation cannot be read, so nobody knows what it names: nothing is removed.
        """
        named: set[str] = set()
        for generation_id in self.ids():
            named |= self.load(generation_id)[1].pieces
        freed = 0
        for path in self.objects.glob("*/*"):
            if path.name not in named:
                freed += path.lstat().st_size
                path.unlink()
        for folder in self.objects.iterdir():
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        sync_folder(self.objects)
        return freed

    @contextmanager
    def changing(self) -> Iterator[bool]:
        """Hold the target alone; gives whether somebody before left something unfinished.

        Raises:
            LockedError: another backup is at work there.
            UsageError: the target cannot be written.
        """
        with self._lock():
            was_unfinished = self.unfinished.exists()
            self._finish_removal()
            shutil.rmtree(self.temporary, ignore_errors=True)
            for path in self.path.glob("*.tmp"):
                path.unlink(missing_ok=True)
            self.temporary.mkdir(mode=FOLDER_MODE, exist_ok=True)
            if not was_unfinished:
                write_atomically(self.unfinished, "{}\n")
            yield was_unfinished
            shutil.rmtree(self.temporary, ignore_errors=True)
            self.unfinished.unlink(missing_ok=True)

    def remove_all_but(self, generation_id: str) -> int:
        """Remove every other generation, whatever is in it, and every piece that this one does not name.

        A crash in the middle is finished by whoever changes the target next.
        """
        write_atomically(self.unfinished, json.dumps({"only": generation_id}) + "\n")
        for path in self.generations.iterdir():
            if path.stem != generation_id:
                path.unlink()
        sync_folder(self.generations)
        return self.remove_unnamed()

    def _finish_removal(self) -> None:
        try:
            only = json.loads(self.unfinished.read_text("utf-8")).get("only")
        except (FileNotFoundError, ValueError, AttributeError):
            return
        if isinstance(only, str) and only in self.ids():
            self.remove_all_but(only)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            raise UsageError(f"The backup folder {self.path} cannot be written: {error.strerror}.") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockedError(
                    f"Another backup or restore is at work in {self.path}: {describe_holder(path)}. Nothing "
                    "was started; wait for it to finish."
                ) from error
            holder = {
                "pid": os.getpid(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
            }
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep generations from being removed meanwhile; works on a target that cannot be written too.

        Raises:
            LockedError: a backup is at work there.
        """
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            yield  # a copy of a target may lack it
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise LockedError(
                f"A backup is at work in {self.path}: {describe_holder(self.path / 'lock')}. Wait for it to "
                "finish."
            ) from error
        try:
            yield
        finally:
            os.close(descriptor)

    def _has_piece(self, digest: str, size: int) -> bool:
        try:
            state = self.piece_path(digest).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return state.st_size == size

    def _write_piece(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if self._has_piece(digest, len(data)):
            return digest
        path = self.piece_path(digest)
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        aside = self.temporary / digest
        with create_file(aside) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        self._new_pieces.append(path)
        self._changed_folders.add(path.parent)
        self.new_bytes += len(data)
        return digest


def create_store(path: Path, home_made_at: str | None) -> BackupStore:
    """Return the target at `path` for backups of one home, made first if it is missing.

    Raises:
        UsageError: it is a file, holds other things, belongs to another home, or cannot be written.
    """
    store = BackupStore(path)
    try:
        if not store.marker.exists():
            _claim(store, home_made_at)
        marker = _read_marker(store)
        for folder in (store.objects, store.generations, store.temporary):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"The backup folder {path} cannot be used: {error.filename} is a file.") from error
    except OSError as error:
        raise UsageError(
            f"The backup folder {path} cannot be used: {error.strerror} ({error.filename}). Name another."
        ) from error
    of = marker.get("home_made_at")
    if of is not None and home_made_at is not None and of != home_made_at:
        raise UsageError(
            f"{path} holds backups of another home (made at {of}; this one at {home_made_at}). Name a folder "
            "for each home."
        )
    return store


def open_store(path: Path) -> BackupStore:
    """Return the target at `path` to read from.

    Raises:
        UsageError: there is none.
    """
    store = BackupStore(path)
    try:
        if not store.marker.exists():
            raise UsageError(f"There is no backup at {path}: it has no {MARKER}.")
        _read_marker(store)
    except OSError as error:
        raise UsageError(f"The backup at {path} cannot be read: {error.strerror}.") from error
    return store


def _claim(store: BackupStore, home_made_at: str | None) -> None:
    store.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    strangers = sorted(entry.name for entry in os.scandir(store.path) if not entry.name.startswith(MARKER))
    if strangers and strangers != ["lost+found"]:  # of the top of a file system
        raise UsageError(
            f"{store.path} holds other things (such as {strangers[0]!r}) and no backup. Name an empty or new "
            "folder."
        )
    text = json.dumps({"created_at": datetime.now(UTC).isoformat(), "home_made_at": home_made_at})
    write_atomically(store.marker, text + "\n")


def _read_marker(store: BackupStore) -> dict[str, object]:
    try:
        marker = json.loads(_read(store.marker))
    except ValueError as error:
        raise UsageError(f"{store.marker} cannot be read ({error}). Put it back as it was.") from error
    if not isinstance(marker, dict):
        raise UsageError(f"{store.marker} is not what marks a backup.")
    return marker


def _read(path: Path) -> bytes:
    """Return the content of a plain file: what is a symbolic link is not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    parts = []
    while size > 0:
        part = file.read(size)
        if not part:
            raise ShrunkError(errno.EIO, "the file ended before its time")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _describe_loss(path: Path, file: StoredFile, error: OSError) -> str:
    return f"{path}, a piece of {file.path}, cannot be read ({error.strerror})"
