"""Ingest: what importers read goes to the inbox, each event once, and the rest to quarantine."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeAlias
from uuid import UUID

from mnemoduck.errors import InvalidEventError, StorageError, UnknownFormatError, UsageError
from mnemoduck.events import MAX_LINE_BYTES, Event
from mnemoduck.home import Home
from mnemoduck.importers.formats import FORMATS, detect_format, format_of_name
from mnemoduck.importers.markdown import SUFFIXES as MARKDOWN_SUFFIXES
from mnemoduck.importers.markdown import find_notes
from mnemoduck.importers.records import Line, Record, kind_of, printable
from mnemoduck.importers.source import Source, UnusableSourceError, show_path
from mnemoduck.importers.summary import FileSummary, IngestSummary, Progress
from mnemoduck.importers.tally import Tally
from mnemoduck.inbox import VISIBLE_EVENT_TYPES, InboxWriter
from mnemoduck.quarantine import QuarantineFile, Rejection
from mnemoduck.redaction import Redactor, redactor_of
from mnemoduck.scope import Scope
from mnemoduck.settings import load_settings

EVENTS_PER_QUESTION = 10_000
BYTES_PER_QUESTION = 16 * 1024 * 1024
"""How many events are held before `known_event_ids` is asked about them."""

LINES_PER_WRITE = 1_000
BYTES_PER_WRITE = 4 * 1024 * 1024

SECONDS_BETWEEN_REPORTS = 0.1
RECORDS_BETWEEN_REPORTS = 256

NO_DEFAULTS = Scope()

OnProgress: TypeAlias = Callable[[Progress], None]


class NothingIngestedError(UsageError):
    """Of all the files given, nothing could be used; `summary` says what became of each."""

    def __init__(self, message: str, summary: IngestSummary) -> None:
        super().__init__(message)
        self.summary = summary


def ingest(
    home: Home,
    paths: Sequence[Path],
    *,
    known_event_ids: Callable[[Sequence[UUID]], set[UUID]],
    format: str | None = None,
    defaults: Scope = NO_DEFAULTS,
    on_progress: OnProgress | None = None,
) -> IngestSummary:
    """Read files and folders, and append their events to the inbox, each event once.

    What is counted as accepted has been written durably. All paths are looked at before the first is
    read; a file that turns out to be unusable later is noted in the summary, and the next is read.

    Args:
        paths: files, or folders of Markdown notes.
        known_event_ids: returns those of the given ids that the home has already.
        format: one of FORMATS for all paths; default: detected for each.
        defaults: the scope of records that do not say theirs.
        on_progress: called about ten times a second, and at the end of each path.

    Raises:
        UsageError: a path does not exist or cannot be read, or a folder holds no notes; nothing was
            read.
        UnknownFormatError: the format of a file is not known; nothing was read.
        NothingIngestedError: not one record was accepted or known already.
        StorageError: the home cannot be written; what was accepted before stays.
    """
    if not paths:
        raise UsageError("No file was named. Name one or more files, or a folder of Markdown notes.")
    started_at = time.monotonic()
    redactor = redactor_of(home, load_settings(home))
    plans = [_plan(Path(path), format) for path in paths]
    summary = IngestSummary(redaction=redactor.mode if redactor else "off")
    with _Intake(home, known_event_ids, redactor) as intake:
        for plan in plans:
            summary.files.append(_ingest_path(home, plan, intake, defaults, on_progress))
    if redactor:
        summary.redactions.update(redactor.counts)
    summary.seconds = time.monotonic() - started_at
    if not any(file.accepted or file.duplicated for file in summary.files):
        raise NothingIngestedError(" ".join(map(_say_nothing_came, summary.files)), summary)
    return summary


@dataclass(frozen=True)
class _Plan:
    """What to read for a path, and how; `trouble` if it is known already that it cannot be read."""

    path: Path
    format: str
    sources: list[Source]
    trouble: UnusableSourceError | None = None


def _plan(path: Path, format: str | None) -> _Plan:
    """Return what to read for a path, and how.

    Raises:
        UsageError: it cannot be read, or nobody knows how.
    """
    if format is not None and format not in FORMATS:
        raise UnknownFormatError(f"There is no format {format!r}. The formats are {', '.join(FORMATS)}.")
    path = path.absolute()
    shown = show_path(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"There is no file or folder {shown}. Check the path.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{shown} cannot be read ({reason}). Check the path.") from None
    is_folder = stat.S_ISDIR(status.st_mode)
    if not is_folder and not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{shown} is neither a file nor a folder. Write its content to a file first.")
    if not os.access(path, os.R_OK | os.X_OK if is_folder else os.R_OK):
        raise UsageError(f"{shown} cannot be read (permission denied). Give this user read access to it.")
    if is_folder:
        return _plan_folder(path, format)
    source = Source(path, size=status.st_size)
    if status.st_size == 0:
        return _Plan(path, format or format_of_name(path) or "unknown", [])
    try:
        return _Plan(path, format or detect_format(path), [source])
    except UnusableSourceError as error:
        return _Plan(path, format_of_name(path) or "unknown", [source], trouble=error)


def _plan_folder(path: Path, format: str | None) -> _Plan:
    if format not in (None, "markdown"):
        raise UsageError(
            f"{show_path(path)} is a folder, and only Markdown notes are read from folders. For the "
            f"format {format}, name the files themselves."
        )
    notes = find_notes(path)
    if not notes:
        raise UsageError(
            f"There are no notes in the folder {show_path(path)}: no files named "
            f"{' or '.join(f'*{suffix}' for suffix in MARKDOWN_SUFFIXES)}. For other formats, name the "
            "files themselves."
        )
    return _Plan(path, "markdown", notes)


def _say_nothing_came(file: FileSummary) -> str:
    if file.problem:
        return file.problem
    reasons = ", ".join(f"{kind}: {count:,}" for kind, count in file.reasons.most_common(3))
    return (
        f"Nothing in {show_path(file.path)} could be used as {file.format} ({reasons}). What was refused "
        f"is in {', '.join(map(str, file.quarantine_files[:3]))}. Mend it, or name another format with "
        "--format."
    )


def _ingest_path(
    home: Home, plan: _Plan, intake: _Intake, defaults: Scope, on_progress: OnProgress | None
) -> FileSummary:
    started_at = time.monotonic()
    summary = FileSummary(plan.path, plan.format)
    reporter = _Reporter(plan, on_progress)
    for source in plan.sources:
        with _QuarantineShelf(home, source, summary, intake.redactor) as shelf:
            try:
                if plan.trouble:
                    raise plan.trouble
                for record in _guard_reading(source, FORMATS[plan.format](source, defaults)):
                    if isinstance(record, Rejection):
                        shelf.put(record)
                    else:
                        intake.put(record, source, shelf, summary)
                    reporter.count(source)
            except UnusableSourceError as error:
                shelf.put(Rejection(source.line, error.reason))
                if source.folder is None:
                    summary.problem = str(error)
        reporter.finish(source)
    if not plan.sources:  # an empty file: what was refused when it had something in it is gone
        _QuarantineShelf(home, Source(plan.path), summary).close()
    if not reporter.records and not summary.quarantined:
        summary.problem = f"There is nothing in {show_path(plan.path)}."
    summary.seconds = time.monotonic() - started_at
    return summary


def _guard_reading(source: Source, records: Iterator[Record]) -> Iterator[Record]:
    try:
        yield from records
    except OSError as error:
        raise StorageError(
            f"Reading {show_path(source.path)} failed near record {source.line:,} ({error.strerror}). What "
            "came before is kept; mend the disk, then ingest the file again."
        ) from error


class _Intake:
    """Appends events to the inbox, each once; on leaving, what it holds is written durably."""

    def __init__(
        self, home: Home, known_event_ids: Callable[[Sequence[UUID]], set[UUID]], redactor: Redactor | None
    ) -> None:
        self.redactor = redactor
        self._writer = InboxWriter(home, redactor=redactor)
        self._known_event_ids = known_event_ids
        self._seen = Tally()
        self._asking: list[tuple[Event | Line, bytes, FileSummary]] = []
        self._asking_bytes = 0
        self._writing: list[bytes] = []
        self._writing_bytes = 0

    def __enter__(self) -> _Intake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ask()
            self._write(durable=True)
        except Exception:  # of the two errors, the first one says what went wrong
            if error is None:
                raise
        finally:
            self._seen.close()
            self._writer.close()

    def put(self, event: Event | Line, source: Source, shelf: _QuarantineShelf, summary: FileSummary) -> None:
        """Take an event; one that the loader could not read back goes to the shelf."""
        try:
            line = event.to_line()
        except InvalidEventError as error:
            shelf.put(Rejection(source.line, f"the record is not Unicode ({error})"))
            return
        if len(line) > MAX_LINE_BYTES:
            reason = (
                f"the record is too long ({len(line):,} bytes as an event; the limit is {MAX_LINE_BYTES:,})"
            )
            shelf.put(Rejection(source.line, reason, line))
            return
        if self._seen.add(event.event_id.bytes):
            summary.duplicated += 1
            return
        self._asking.append((event, line, summary))
        self._asking_bytes += len(line)
        if len(self._asking) >= EVENTS_PER_QUESTION or self._asking_bytes >= BYTES_PER_QUESTION:
            self._ask()

    def _ask(self) -> None:
        """Find out which of the events held are new, and write those."""
        if not self._asking:
            return
        asking, self._asking, self._asking_bytes = self._asking, [], 0
        known = self._known_event_ids([event.event_id for event, _, _ in asking])
        for event, line, summary in asking:
            if known and event.event_id in known:
                summary.duplicated += 1
                continue
            # Written before the next line comes, so that the last write, the durable one, is never empty.
            if len(self._writing) >= LINES_PER_WRITE or self._writing_bytes >= BYTES_PER_WRITE:
                self._write(durable=False)
            self._writing.append(line)
            self._writing_bytes += len(line)
            summary.accepted += 1
            summary.visible += event.event_type in VISIBLE_EVENT_TYPES

    def _write(self, *, durable: bool) -> None:
        lines, self._writing, self._writing_bytes = self._writing, [], 0
        self._writer.append(lines, durable=durable)


class _QuarantineShelf:
    """The quarantine of one source. Its file is replaced on leaving, also when reading broke off."""

    def __init__(
        self, home: Home, source: Source, summary: FileSummary, redactor: Redactor | None = None
    ) -> None:
        self._redactor = redactor
        self._file = QuarantineFile(home, os.fspath(source.path), keep_whole=False)
        self._summary = summary

    def __enter__(self) -> _QuarantineShelf:
        return self

    def put(self, rejection: Rejection) -> None:
        reason, raw = printable(rejection.reason), rejection.raw
        if self._redactor:
            reason, raw = self._redactor.text(reason.encode()).decode(), self._redactor.text(raw)
        try:
            self._file.add(Rejection(rejection.line, reason, raw))
        except OSError as error:
            raise self._refused_by_disk(error) from error
        self._summary.count_rejection(kind_of(reason))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except StorageError:  # of the two errors, the first one says what went wrong
            if error is None:
                raise

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._refused_by_disk(error) from error
        if self._file.count:
            self._summary.quarantine_files.append(self._file.path)

    def _refused_by_disk(self, error: OSError) -> StorageError:
        return StorageError(
            f"Writing to {self._file.path.parent} failed ({error.strerror}). Free space or mend the disk, "
            "then ingest the files again: what is in already is not added twice."
        )


class _Reporter:
    """Tells how far one path has been read, now and then."""

    def __init__(self, plan: _Plan, on_progress: OnProgress | None) -> None:
        self.records = 0
        self._plan = plan
        self._on_progress = on_progress
        self._bytes_before = 0
        self._bytes_total = sum(source.size for source in plan.sources)
        self._reported_at = time.monotonic()

    def count(self, source: Source) -> None:
        self.records += 1
        if self.records % RECORDS_BETWEEN_REPORTS == 0 and self._on_progress:
            self._report(self._bytes_before + source.bytes_done)

    def finish(self, source: Source) -> None:
        self._bytes_before += source.size
        if self._on_progress:
            self._report(self._bytes_before, is_last=source is self._plan.sources[-1])

    def _report(self, bytes_done: int, *, is_last: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress and (is_last or now - self._reported_at >= SECONDS_BETWEEN_REPORTS):
            self._reported_at = now
            self._on_progress(Progress(self._plan.path, self.records, bytes_done, self._bytes_total))
