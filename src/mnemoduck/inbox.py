"""The inbox: where any number of processes append events without waiting for anyone.

Each writer appends to an open segment of its own (`<name>.open`). A segment is sealed by renaming
it to `<name>.jsonl`; only sealed segments are loaded. Whoever appends, seals or recovers holds an
exclusive `flock` on the segment for the few microseconds that this takes, which gives three
guarantees without any server:

* the pipeline may seal a segment whose writer is alive: the writer sees at its next append that the
  file has been renamed away, and starts another;
* a segment whose writer died is sealed by the same code, since the kernel released its lock; a torn
  last line (the writer died inside `write`) was never acknowledged and goes to quarantine;
* an event is acknowledged when `write` has returned: it is in the page cache and survives `kill -9`
  of every process of ours. With `durable=True` it is acknowledged after `fsync` and survives a loss
  of power.

Once loaded, segments move to `loaded/<batch>/` and stay there until a published snapshot contains
the batch, so that readers of the last good snapshot still find what arrived after it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mnemoduck.errors import InvalidEventError, StorageError
from mnemoduck.events import MAX_LINE_BYTES, Event, parse_event
from mnemoduck.home import FILE_MODE, FOLDER_MODE, Home, sync_folder
from mnemoduck.news import News
from mnemoduck.quarantine import Rejection, quarantine

if TYPE_CHECKING:
    from mnemoduck.redaction import Redactor

OPEN_SUFFIX = ".open"
SEALED_SUFFIX = ".jsonl"

MAX_SEGMENT_BYTES = 64 * 1024 * 1024
"""A writer seals its segment at this size, which bounds what one step of the loader reads."""

VISIBLE_EVENT_TYPES = frozenset({"memory", "forget"})
"""What readers see before the pipeline has run; all other events change nothing until they are built in."""

_BEGINNING = re.compile(rb'\{"event_id":"[0-9a-f-]{36}","event_type":"([a-z_]+)"')
"""How `Event.to_line` begins a line; group 1 is the type of the event."""

LOCK_PATIENCE = 0.5
"""Seconds that sealing waits for a writer that holds its lock (one that was stopped, say)."""


class InboxWriter:
    """Appends lines to a segment of its own. Safe to share between threads and across fork.

    Args:
        redactor: looks through all that is written; None where nobody asked for it.
    """

    def __init__(
        self,
        home: Home,
        *,
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        news: News | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._home = home
        self._redactor = redactor
        self._news = news or News(home)
        self._max_segment_bytes = max_segment_bytes
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._path = Path()
        self._pid = 0
        self._is_name_durable = False
        _writers.add(self)

    def append(self, lines: Sequence[bytes], *, durable: bool = False, is_news: bool = True) -> None:
        """Append whole lines (each with its newline); when this returns, they are acknowledged.

        Args:
            durable: wait until they are on disk.
            is_news: whether readers have to know before the next build, which they have not to of events
                of other types than `VISIBLE_EVENT_TYPES`.

        Raises:
            StorageError: the disk refused the write; none of the lines was acknowledged, and what
                had been written of them has been taken back.
            InvalidEventError: a line is longer than what is read back; nothing was written.
        """
        longest = max(map(len, lines), default=0)
        if longest > MAX_LINE_BYTES + 1:
            raise InvalidEventError(
                f"The event is too long: {longest - 1:,} bytes as a line; the limit is {MAX_LINE_BYTES:,}."
            )
        self.append_blocks([b"".join(lines)], durable=durable, is_news=is_news)

    def append_blocks(self, blocks: Sequence[bytes], *, durable: bool = False, is_news: bool = True) -> None:
        """Append blocks of whole lines as `append` does; all of them are acknowledged, or none.

        No line may be longer than MAX_LINE_BYTES.
        """
        if not any(blocks):
            return
        found: Mapping[str, int] = {}
        if self._redactor is not None:
            blocks, found = self._redactor.blocks(blocks)
        with self._mutex:
            try:
                size = self._append(blocks, durable=durable, is_news=is_news)
            except BaseException as error:
                self._abandon()
                if not isinstance(error, OSError):
                    raise
                raise StorageError(
                    f"The memory was not stored: writing to {self._home.inbox} failed "
                    f"({error.strerror}). Free space or mend the disk, then remember it again."
                ) from error
            if size >= self._max_segment_bytes:
                self._seal_own()
        if self._redactor is not None:
            self._redactor.add(found)

    def close(self) -> None:
        """Seal the segment, so that nothing of this writer is left for recovery."""
        with self._mutex:
            if self._descriptor is not None and self._pid == os.getpid():
                self._seal_own()
            self._abandon()
        if self._redactor is not None:
            self._redactor.close()

    def _append(self, blocks: Sequence[bytes], *, durable: bool, is_news: bool) -> int:
        descriptor = self._lock_own_segment()
        try:
            start = os.fstat(descriptor).st_size
            try:
                for block in blocks:
                    write_all(descriptor, block)
                if durable:
                    os.fsync(descriptor)
                    if not self._is_name_durable:
                        sync_folder(self._home.inbox)
                        self._is_name_durable = True
                if is_news:  # before it is acknowledged: see mnemoduck.news
                    self._news.announce()
            except BaseException:  # Ctrl-C too: the next line must not be glued to half of this one
                os.ftruncate(descriptor, start)
                with contextlib.suppress(OSError, StorageError):
                    self._news.announce()  # a reader may have seen what is taken back
                raise
            return start + sum(map(len, blocks))
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _lock_own_segment(self) -> int:
        """Return the locked descriptor of a segment that is still open under its own name."""
        while True:
            # A forked child shares its parent's file description, and with it the lock.
            if self._descriptor is None or self._pid != os.getpid():
                self._open_segment()
            descriptor = self._descriptor
            assert descriptor is not None
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_same_file(self._path, descriptor):
                return descriptor
            self._abandon()  # the pipeline has sealed it

    def _open_segment(self) -> None:
        self._abandon()
        self._news.renew()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        name = f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}{OPEN_SUFFIX}"
        self._path = self._home.inbox / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, FILE_MODE)
        self._pid = os.getpid()
        self._is_name_durable = False

    def _seal_own(self) -> None:
        """Rename the own segment; the name is free of risk because it holds our pid and a random part.

        What is in it was acknowledged: if the disk refuses, the segment stays open and is recovered.

        Nothing is synced here. What was acknowledged durably was synced then, file and name; a rename leaves
        one of the two names, and both are found. What else is in the segment may be cut off or be zeros after
        a loss of power, under either name, and goes to quarantine. To sync it would make each `mnemoduck
        remember` wait for the disk, for events of which nobody asked it.
        """
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if _is_same_file(self._path, self._descriptor):
                os.rename(self._path, self._path.with_suffix(SEALED_SUFFIX))
        self._abandon()

    def _abandon(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_writers: weakref.WeakSet[InboxWriter] = weakref.WeakSet()


def _renew_mutexes() -> None:
    """In a forked child: another thread of the parent may have held a mutex that nobody releases here."""
    for writer in _writers:
        writer._mutex = threading.Lock()


os.register_at_fork(after_in_child=_renew_mutexes)


@dataclass(frozen=True)
class SealReport:
    """What sealing found: `busy` segments are left open because their writers hold the lock."""

    sealed: list[Path] = field(default_factory=list)
    torn: list[Path] = field(default_factory=list)
    busy: list[Path] = field(default_factory=list)


def seal_open_segments(home: Home) -> SealReport:
    """Seal every open segment, of living and of dead writers; torn last lines go to quarantine.

    Raises:
        StorageError: the disk refused; what was not sealed waits, and is sealed by the next call.
    """
    try:
        return _seal_open_segments(home)
    except OSError as error:
        raise StorageError(
            f"The segments in {home.inbox} were not sealed: {error.strerror or error}. Nothing is lost: what "
            "was acknowledged waits for the next run. Free space or mend the disk, then run again."
        ) from error


def _seal_open_segments(home: Home) -> SealReport:
    report = SealReport()
    for path in sorted(home.inbox.glob(f"*{OPEN_SUFFIX}")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its writer sealed it just now
        try:
            if not lock_patiently(descriptor):
                report.busy.append(path)
            elif _is_same_file(path, descriptor):
                _seal_locked(home, path, descriptor, report)
        finally:
            os.close(descriptor)
    return report


def _seal_locked(home: Home, path: Path, descriptor: int, report: SealReport) -> None:
    size = os.fstat(descriptor).st_size
    whole = _end_of_last_line(descriptor, size)
    if whole < size:
        torn = os.pread(descriptor, size - whole, whole)
        line = _count_lines(descriptor, whole) + 1
        reason = "torn last line: the writer died before it was acknowledged"
        quarantine(home, f"{path.stem}.torn", [Rejection(line, reason, torn)], keep_whole=True)
        os.ftruncate(descriptor, whole)
        report.torn.append(path)
    if whole == 0:
        path.unlink()
        return
    os.fsync(descriptor)
    sealed = path.with_suffix(SEALED_SUFFIX)
    os.rename(path, sealed)
    report.sealed.append(sealed)


def sealed_segments(home: Home) -> list[Path]:
    """Return the sealed segments that wait to be loaded, oldest first."""
    return sorted(home.inbox.glob(f"*{SEALED_SUFFIX}"))


def loaded_folder(home: Home, batch_seq: int) -> Path:
    """Return where the segments of a loaded batch wait until it is published."""
    return home.loaded / f"{batch_seq:012d}"


def move_to_loaded(home: Home, segments: Iterable[Path], batch_seq: int) -> None:
    """Move loaded segments out of the loader's way; done again after a crash, it does the rest."""
    folder = loaded_folder(home, batch_seq)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    for segment in segments:
        with contextlib.suppress(FileNotFoundError):
            os.rename(segment, folder / segment.name)
    sync_folder(folder)
    sync_folder(home.inbox)


def retire_loaded(home: Home, published_batch_seq: int) -> int:
    """Delete the segments of batches that the published snapshot contains; return how many."""
    retired = 0
    for folder in _loaded_folders(home):
        if int(folder.name) <= published_batch_seq:
            for segment in list(folder.iterdir()):
                segment.unlink(missing_ok=True)
                retired += 1
            folder.rmdir()
    return retired


@dataclass(frozen=True)
class Arrived:
    """An event and its place in the inbox; places are ordered as staging orders what one batch loads."""

    segment: str
    line: int
    event: Event

    @property
    def place(self) -> tuple[str, int]:
        return self.segment, self.line


@dataclass
class Advance:
    """What has changed since the last look. `is_reduced`: something that was there is gone.

    What was there is gone when its batch is published, or when a write that failed was taken back; then
    `added` may hold events that were there before.
    """

    added: list[Arrived] = field(default_factory=list)
    is_reduced: bool = False


class FreshEvents:
    """The events that arrived after a batch: read from the inbox, each byte once per process.

    A segment keeps its stem through sealing and loading, so what was read of it while it was open
    is not read again. Not shared between threads without a lock of the caller's.

    Args:
        event_types: keep events of these types only; None keeps all.

    Cost of a look: one listing of each folder, and one stat of each segment that is open.
    """

    def __init__(self, home: Home, event_types: frozenset[str] | None = None) -> None:
        self._home = home
        self._event_types = event_types
        self._offsets: dict[str, int] = {}
        self._arrived: dict[str, list[Arrived]] = {}
        self._whole: set[str] = set()
        """Sealed and read to the end: nobody writes to them any more."""

    def read(self, after_batch_seq: int) -> tuple[list[Event], bool]:
        """Return the fresh events, oldest segment first, and whether they changed since the last call.

        Lines that are no events are left out here; the loader quarantines and counts them.
        """
        advance = self.advance(after_batch_seq)
        return [one.event for one in self.arrived()], bool(advance.added) or advance.is_reduced

    def arrived(self) -> list[Arrived]:
        """Return the fresh events as of the last look, oldest segment first."""
        return [one for stem in sorted(self._arrived) for one in self._arrived[stem]]

    def advance(self, after_batch_seq: int) -> Advance:
        """Look, and return what has changed since the last look."""
        advance = Advance()
        while True:
            try:
                segments = self._list(after_batch_seq)
                advance.is_reduced |= self._forget_all_but(segments)
                for stem, path in segments.items():
                    if stem not in self._whole:
                        self._read_new_lines(stem, path, advance)
            except FileNotFoundError as error:
                if not self._home.loaded.is_dir():
                    raise StorageError(f"The home {self._home.path} was moved or deleted.") from error
                continue  # sealed, moved or deleted between listing and reading: list again
            return advance

    def _list(self, after_batch_seq: int) -> dict[str, str]:
        found: dict[str, str] = {}
        # In the order in which a segment moves, so that one that moves meanwhile is seen at least once.
        for suffix in (OPEN_SUFFIX, SEALED_SUFFIX):
            found.update(_segments_in(str(self._home.inbox), suffix))
        loaded = str(self._home.loaded)
        for name in sorted(name for name in os.listdir(loaded) if name.isdigit()):
            segments = _segments_in(f"{loaded}/{name}", SEALED_SUFFIX)
            if int(name) > after_batch_seq:
                found.update(segments)
            else:
                for stem in segments:
                    found.pop(stem, None)
        return dict(sorted(found.items()))

    def _forget_all_but(self, segments: dict[str, str]) -> bool:
        gone = [stem for stem in self._offsets if stem not in segments]
        for stem in gone:
            self._forget(stem)
        return bool(gone)

    def _forget(self, stem: str) -> None:
        self._offsets.pop(stem, None)
        self._arrived.pop(stem, None)
        self._whole.discard(stem)

    def _read_new_lines(self, stem: str, path: str, advance: Advance) -> None:
        offset = self._offsets.get(stem, 0)
        size = os.stat(path).st_size
        if size < offset:  # a write that failed was taken back
            self._forget(stem)
            advance.is_reduced = True
            offset = 0
        if size > offset:
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read()
            end = data.rfind(b"\n") + 1
            self._keep(stem, data[:end], advance)
            offset += end
        self._offsets[stem] = offset
        if path.endswith(SEALED_SUFFIX) and offset >= size:
            self._whole.add(stem)

    def _keep(self, stem: str, lines: bytes, advance: Advance) -> None:
        kept = self._arrived.setdefault(stem, [])
        for line in lines.split(b"\n"):
            if self._is_of_other_type(line):
                continue
            with contextlib.suppress(InvalidEventError):
                event = parse_event(line)
                if self._event_types is None or event.event_type in self._event_types:
                    one = Arrived(stem, len(kept), event)
                    kept.append(one)
                    advance.added.append(one)

    def _is_of_other_type(self, line: bytes) -> bool:
        """Return whether a line that our writers wrote is surely of a type that is not kept.

        To parse it takes eight times as long as all the rest, and agents log many steps for each memory.
        """
        if self._event_types is None:
            return False
        begins = _BEGINNING.match(line)
        return begins is not None and begins[1].decode("ascii") not in self._event_types


def _segments_in(folder: str, suffix: str) -> dict[str, str]:
    """Return the paths of the segments in a folder by their stems; none if the folder is gone."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return {}
    return {
        name[: -len(suffix)]: f"{folder}/{name}"
        for name in names
        if name.endswith(suffix) and not name.startswith(".")
    }


def iterate_chunks(path: Path, *, chunk_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line from 1, whole lines of about so many bytes) of a segment."""
    number = 1
    with path.open("rb") as file:
        while data := file.read(chunk_bytes):
            if not data.endswith(b"\n"):
                data += file.readline()
            yield number, data
            number += data.count(b"\n")


def _loaded_folders(home: Home) -> list[Path]:
    return sorted(path for path in home.loaded.iterdir() if path.is_dir() and path.name.isdigit())


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        view = view[written:]


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        at_path = os.stat(path)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (at_path.st_ino, at_path.st_dev) == (mine.st_ino, mine.st_dev)


def lock_patiently(descriptor: int) -> bool:
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)


def _end_of_last_line(descriptor: int, size: int, step: int = 64 * 1024) -> int:
    """Return the offset behind the last newline, 0 if there is none."""
    end = size
    while end > 0:
        start = max(0, end - step)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _count_lines(descriptor: int, end: int, step: int = 1 << 20) -> int:
    return sum(
        os.pread(descriptor, min(step, end - start), start).count(b"\n") for start in range(0, end, step)
    )
