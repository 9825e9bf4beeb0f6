"""Reading a home that others write to, build and publish, as it was at one moment.

Nobody is kept waiting and no run lock is taken. What makes it consistent is the order:

1. the inbox first, then the snapshot, then the cache of answers, then the manifest of raw/. An event moves
   from the inbox to raw/, so what is not seen in the first is in the last; a segment that the manifest names
   by then is in raw/, and is not taken twice;
2. raw files, archived months and snapshots never change under their names. One that is gone when it is to be
   read was merged or pruned meanwhile: then what named it is read again;
3. of what is appended to, the whole lines that were there;
4. the cache is read as a crash would leave it, see `_CacheReader`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import duckdb

from mnemoduck.archive import archived_files
from mnemoduck.backup.generation import RowsSum, Stamp, StoredFile, check_path
from mnemoduck.backup.store import BackupStore, ShrunkError
from mnemoduck.errors import StorageError
from mnemoduck.home import RESTORING, Home
from mnemoduck.inbox import OPEN_SUFFIX, SEALED_SUFFIX, lock_patiently
from mnemoduck.pipeline.load import Batch, parse_manifest
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.publish import current_snapshot

ATTEMPTS = 20
"""Files that are gone when they are to be read are looked for again so often."""

CACHE_ATTEMPTS = 5
"""After so many checkpoints in the middle of reading the cache, the next run is waited for instead."""

RACY_NS = 2 * 10**9
"""A file that was changed so shortly before it was read is read again the next time: the clock of the file
system is coarse, and a change in the same tick would not show."""

_NAMED_HERE = {"inbox", "raw", "published", "archive"}
_REMADE = {
    "warehouse.duckdb", "tmp", "target", "data_docs", "report.html", "news", "run.lock", RESTORING,
    "purge",  # the journal of a purge, which holds what is being purged until nothing else does
}  # fmt: skip
"""What is made again by itself, or tells of the moment only."""

_SAMPLES = ("logs", "queries")
_PARTS_OF_CACHE = ("", ".wal", ".wal.checkpoint", ".wal.recovery")
_HEADERS = 3 * 4096
"""DuckDB's file begins with a header and two that take turns: a checkpoint ends by writing one of them."""


@dataclass
class Captured:
    """What was read. `skipped` are paths that are no plain files or folders, such as symbolic links."""

    files: list[StoredFile] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    snapshot: str | None = None
    snapshot_batch_seq: int = 0
    waiting_events: int = 0
    skipped: list[str] = field(default_factory=list)

    @property
    def events(self) -> RowsSum:
        total = RowsSum()
        for file in self.files:
            total += file.events or RowsSum()
        return total


def read_home(
    home: Home,
    store: BackupStore,
    before: tuple[StoredFile, ...] = (),
    *,
    with_snapshot: bool = True,
    wait_seconds: float = 0,
    is_locked: bool = False,
    on_file: Callable[[str], None] = lambda _: None,
) -> Captured:
    """Store what a home holds and return it; what is in it as it was `before` is not read again.

    Args:
        wait_seconds: how long to wait for a run if the cache of answers cannot be read beside it.
        is_locked: the caller holds the run lock.
        on_file: called with the path of each file that is read.

    Raises:
        StorageError: something cannot be read, or the manifest is damaged.
        LockedError: the cache could not be read beside a run, and that did not end in time.
        OSError: the target cannot be written.
    """
    return _Capture(home, store, before, on_file).run(with_snapshot, wait_seconds, is_locked)


class _Capture:
    def __init__(
        self, home: Home, store: BackupStore, before: tuple[StoredFile, ...], on_file: Callable[[str], None]
    ) -> None:
        self._home = home
        self._store = store
        self._before = {file.path: file for file in before}
        self._on_file = on_file
        self._done = Captured()

    def run(self, with_snapshot: bool, wait_seconds: float, is_locked: bool) -> Captured:
        segments = self._read_inbox()
        if with_snapshot:
            self._read_snapshot()
        self._read_cache(wait_seconds, is_locked)
        self._read_raw()
        self._put_segments(segments)
        self._read_others()
        self._done.files.sort(key=lambda file: file.path)
        return self._done

    def _read_inbox(self) -> dict[str, tuple[StoredFile, int]]:
        """Return the segments by their stems, as far as they were written, with the lines of each."""
        found: dict[str, tuple[StoredFile, int]] = {}
        for _ in range(ATTEMPTS):
            is_complete = True
            for stem, path in self._list_segments().items():
                if stem in found:
                    continue
                try:
                    found[stem] = self._read_segment(stem, path)
                except (FileNotFoundError, ShrunkError):  # sealed, moved; or deleted: then it is in raw/
                    is_complete = False
            if is_complete:
                return found
        raise StorageError(f"The segments of {self._home.inbox} moved on faster than they could be read.")

    def _list_segments(self) -> dict[str, Path]:
        # In the order in which a segment moves, so that one that moves meanwhile is seen at least once.
        found: dict[str, Path] = {}
        for pattern in (f"*{OPEN_SUFFIX}", f"*{SEALED_SUFFIX}", f"loaded/*/*{SEALED_SUFFIX}"):
            found.update((path.stem, path) for path in sorted(self._home.inbox.glob(pattern)))
        return found

    def _read_segment(self, stem: str, path: Path) -> tuple[StoredFile, int]:
        self._on_file(f"inbox/{stem}")
        with _opened(path) as file:
            # What a writer has begun and the disk refused is taken back under this lock.
            is_quiet = path.suffix == SEALED_SUFFIX or lock_patiently(file.fileno())
            size = os.fstat(file.fileno()).st_size
            if is_quiet:
                fcntl.flock(file.fileno(), fcntl.LOCK_UN)
            size, lines = _whole_lines(file, size)
            written = self._store.write(file, size)
        return (
            StoredFile(path=_checked(f"inbox/{stem}{SEALED_SUFFIX}"), **vars(written)),
            lines,
        )

    def _put_segments(self, segments: dict[str, tuple[StoredFile, int]]) -> None:
        """Keep what is not in raw/, and what is there but not in the snapshot, for readers of that."""
        loaded = {Path(name).stem: batch.batch_seq for batch in self._done.batches for name in batch.segments}
        for stem, (file, lines) in segments.items():
            batch_seq = loaded.get(stem)
            if file.size == 0 or (batch_seq is not None and self._done.snapshot is None):
                continue
            if batch_seq is None:
                self._done.waiting_events += lines
                self._done.files.append(file)
            elif batch_seq > self._done.snapshot_batch_seq:
                path = f"inbox/loaded/{batch_seq:012d}/{stem}{SEALED_SUFFIX}"
                self._done.files.append(file.model_copy(update={"path": path}))

    def _read_snapshot(self) -> None:
        for _ in range(ATTEMPTS):
            snapshot = current_snapshot(self._home)
            if snapshot is None:
                return
            try:
                batch_seq, archives = _look_into(snapshot)
                relative = snapshot.relative_to(self._home.path).as_posix()
                files = [self._store_file(snapshot, relative)]
                files += [self._store_file(self._home.path / name, name) for name in sorted(archives)]
                files.append(self._store_text("published/CURRENT", f"{snapshot.name}\n".encode()))
            except FileNotFoundError as error:
                if snapshot.exists():
                    raise StorageError(
                        f"The archive of a month is missing: {error.filename}. `mnemoduck doctor` says what "
                        "to do about it; a backup without it would restore a home that cannot be read."
                    ) from error
                continue  # another one was published, and this one pruned
            self._done.files += files
            self._done.snapshot, self._done.snapshot_batch_seq = snapshot.name, batch_seq
            return
        raise StorageError(
            f"Snapshots in {self._home.published} came and went faster than they could be read."
        )

    def _read_cache(self, wait_seconds: float, is_locked: bool) -> None:
        if not self._home.llm_cache.exists():
            return
        reader = _CacheReader(self._home.llm_cache, self._store_file)
        for number in range(CACHE_ATTEMPTS):
            if (files := reader.read()) is not None:
                self._done.files += files
                return
            time.sleep(0.1 * 2**number)
        if is_locked:
            self._done.files += reader.read_quiet()
            return
        with RunLock(self._home, wait_seconds):
            self._done.files += reader.read_quiet()

    def _read_raw(self) -> None:
        known: dict[str, StoredFile] = {}
        for _ in range(ATTEMPTS):
            try:
                text = self._home.manifest.read_bytes()
            except FileNotFoundError:
                return
            text = text[: text.rfind(b"\n") + 1]
            batches = parse_manifest(text, self._home.manifest)
            named = {f"raw/{file.path}" for batch in batches for file in batch.files}
            try:
                for path in sorted(named - known.keys()):
                    known[path] = self._store_raw(path)
            except FileNotFoundError as error:
                missing = error.filename
                if self._home.manifest.read_bytes().startswith(text):
                    raise StorageError(
                        f"A raw file is missing that the manifest names: {missing}. Put it back from an "
                        "earlier backup; `mnemoduck doctor` looks for more."
                    ) from error
                continue  # it was merged into another one
            self._done.batches = batches
            self._done.files += [known[path] for path in sorted(named)]
            self._done.files.append(self._store_text("raw/batches.jsonl", text))
            return
        raise StorageError(f"The files of {self._home.raw} were merged faster than they could be read.")

    def _store_raw(self, path: str) -> StoredFile:
        file = self._store_file(self._home.path / path, path)
        if file.events is not None:
            return file
        source = self._home.path / path
        try:
            return file.model_copy(update={"events": sum_events([source])})
        except StorageError as error:
            if not source.exists():  # merged into another one since it was stored
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source)) from error
            raise

    def _read_others(self) -> None:
        """Take whatever else is in the home: what a later release keeps there is not forgotten here."""
        taken = {file.path for file in self._done.files}
        for path in _walk(self._home.path, self._done.skipped):
            relative = path.relative_to(self._home.path)
            if _is_remade(relative) or relative.as_posix() in taken:
                continue
            with suppress(FileNotFoundError):  # removed meanwhile, as what is temporary is
                self._done.files.append(self._store_file(path, relative.as_posix()))

    def _store_text(self, path: str, text: bytes) -> StoredFile:
        return StoredFile(path=path, **vars(self._store.write(BytesIO(text), len(text))))

    def _store_file(self, source: Path, path: str) -> StoredFile:
        """Store a file, or find it among those of before.

        Raises:
            FileNotFoundError: it is not there any more.
            StorageError: it is not readable.
        """
        known = self._before.get(path)
        for _ in range(ATTEMPTS):
            with _opened(source) as file:
                stamp = _stamp(os.fstat(file.fileno()))
                if known is not None and known.stamp == stamp and self._store.has_all(known):
                    return known
                self._on_file(path)
                size, read_at = stamp.size, time.time_ns()
                if source.suffix == ".jsonl" and stamp.mtime_ns > read_at - RACY_NS:
                    size, _lines = _whole_lines(file, size)  # somebody may be in the middle of a line
                try:
                    written = self._store.write(file, size)
                except ShrunkError:
                    continue
                after = _stamp(os.fstat(file.fileno()))
            is_same = after == stamp
            if not is_same and source.suffix not in {".jsonl", ".duckdb"} and ".duckdb." not in source.name:
                continue
            is_racy = stamp.mtime_ns > read_at - RACY_NS or stamp.ctime_ns > read_at - RACY_NS
            is_kept = is_same and not is_racy and size == stamp.size
            return StoredFile(path=_checked(path), stamp=stamp if is_kept else None, **vars(written))
        raise StorageError(f"{source} was written to faster than it could be read.")


class _CacheReader:
    """Reads llm_cache.duckdb and what DuckDB keeps beside it, while a run may have it open.

    Between two checkpoints DuckDB only appends to the .wal and writes to blocks of the file that nothing on
    disk refers to but that .wal: at any moment the two are what a crash would leave, which it recovers from.
    So the .wal is read first and the file after it, and if no checkpoint ended meanwhile (the headers of the
    file are as before, and the .wal is the same file), both belong together.
    """

    def __init__(self, path: Path, store_file: Callable[[Path, str], StoredFile]) -> None:
        self._path = path
        self._store_file = store_file

    def read(self) -> list[StoredFile] | None:
        """Return what was stored, the file of the cache last; None if a checkpoint came between."""
        before = self._state()
        if before is None:
            return None
        try:
            files = [
                self._store_file(path, path.name)
                for path in (self._beside(".wal"), self._path)
                if path.exists()
            ]
        except FileNotFoundError:
            return None
        has_wal = len(files) > 1
        after = self._state()
        if after is None or after[0] != before[0] or (has_wal and after[1] != before[1]):
            return None
        return files if has_wal == (before[1] is not None) else None

    def read_quiet(self) -> list[StoredFile]:
        """Return what was stored while nobody has the cache open, whatever a crash has left beside it."""
        paths = [self._beside(suffix) for suffix in _PARTS_OF_CACHE]
        return [self._store_file(path, path.name) for path in paths if path.exists()]

    def _state(self) -> tuple[tuple[int, bytes], int | None] | None:
        """Return the file and its headers, and which .wal there is; None while a checkpoint is at work."""
        if any(self._beside(suffix).exists() for suffix in _PARTS_OF_CACHE[2:]):
            return None
        try:
            with self._path.open("rb") as file:
                headers = (os.fstat(file.fileno()).st_ino, file.read(_HEADERS))
        except FileNotFoundError:
            return None
        try:
            return headers, self._beside(".wal").stat().st_ino
        except FileNotFoundError:
            return headers, None

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)


def sum_events(files: list[Path]) -> RowsSum:
    """Return how many events raw files hold, and a sum over them that does not depend on their order.

    Raises:
        StorageError: a file cannot be read.
    """
    if not files:
        return RowsSum()
    with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
        try:
            row = connection.execute(
                """
                with hashed as (
                    select to_json(event) as line
                    from (select * from read_parquet($files, hive_partitioning = false)) as event
                )
                select count(*), sum(md5_number_upper(line)), sum(md5_number_lower(line)) from hashed
                """,
                {"files": [str(file) for file in files]},
            ).fetchone()
        except duckdb.Error as error:
            names = ", ".join(map(str, files[:3]))
            raise StorageError(f"Raw files cannot be read ({names}): {_first_line(error)}.") from error
    assert row is not None
    upper, lower = (int(total or 0) % 2**64 for total in row[1:])
    return RowsSum(rows=row[0], checksum=f"{upper:016x}{lower:016x}")


def _look_into(snapshot: Path) -> tuple[int, set[str]]:
    """Return the newest load in a snapshot and the archived months that it reads, relative to the home."""
    quoted = str(snapshot).replace("'", "''")
    try:
        with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
            connection.execute(f"attach '{quoted}' as snapshot (read_only)")
            row = connection.execute(
                "select coalesce(max(batch_seq), 0) from snapshot.staging.raw_batches"
            ).fetchone()
            assert row is not None
            return int(row[0]), archived_files(connection, "snapshot")
    except duckdb.Error as error:
        if not snapshot.exists():
            raise FileNotFoundError(str(snapshot)) from error
        raise StorageError(
            f"The published snapshot {snapshot} cannot be opened ({_first_line(error)}). Delete that file "
            "and run `mnemoduck run`: it is made again from the warehouse."
        ) from error


def _walk(folder: Path, skipped: list[str]) -> Iterator[Path]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        with suppress(FileNotFoundError), os.scandir(here) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                path = Path(entry.path)
                if _is_remade(path.relative_to(folder)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif entry.is_file(follow_symlinks=False) and entry.name.isprintable():
                    yield path
                else:
                    skipped.append(str(path))


def _is_remade(path: Path) -> bool:
    """Tell whether something of the home needs no copy, or is taken by rules of its own."""
    parts = path.parts
    if parts[0] == "logs":
        return parts[:2] not in {("logs",), _SAMPLES}
    is_of_database = any(part.startswith(("warehouse.duckdb", "llm_cache.duckdb")) for part in parts[:1])
    is_temporary = path.suffix == ".tmp" or parts[0] in _REMADE | _NAMED_HERE
    return is_of_database or is_temporary or parts[0] == "upgrade"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a plain file to read; a symbolic link is none.

    Raises:
        FileNotFoundError: it is not there.
        StorageError: it may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StorageError(f"{path} is no plain file.")
        yield file


def _stamp(state: os.stat_result) -> Stamp:
    return Stamp(
        size=state.st_size, mtime_ns=state.st_mtime_ns, ctime_ns=state.st_ctime_ns, inode=state.st_ino
    )


def _whole_lines(file: BinaryIO, size: int, step: int = 1 << 20) -> tuple[int, int]:
    """Return how many of the first `size` bytes are whole lines, and how many lines; go back to the start."""
    end = lines = at = 0
    while at < size:
        data = file.read(min(step, size - at))
        if not data:
            break
        lines += data.count(b"\n")
        if (last := data.rfind(b"\n")) >= 0:
            end = at + last + 1
        at += len(data)
    file.seek(0)
    return end, lines


def _checked(path: str) -> str:
    try:
        return check_path(path)
    except ValueError as error:
        raise StorageError(f"The home has a file that no backup can name: {error}. Rename it.") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
