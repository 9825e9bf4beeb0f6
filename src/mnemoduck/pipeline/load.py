"""Loading: sealed inbox segments become raw Parquet, each exactly once.

A load is one batch with the next number. Its files are written aside, moved to their places and
then committed by one line in the manifest raw/batches.jsonl: a file that the manifest does not name
does not exist. What a crash leaves behind is therefore either uncommitted (its files are removed,
its segments loaded again) or committed (its segments only have to be moved out of the way).

Files are partitioned by the month of `recorded_at`, so that a batch touches one month as a rule,
however far back its events lie. Small files are merged in tiers (see `_compact`): an event is
rewritten O(log batches) times, and a month holds at most `COMPACT_AT` files of a tier.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise, repeat
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoduck.errors import InvalidEventError, StorageError
from mnemoduck.event_rows import ROW, Rows, read_rows
from mnemoduck.events import EVENT_TYPES
from mnemoduck.home import FILE_MODE, FOLDER_MODE, Home, sync_file, sync_folder, write_atomically
from mnemoduck.inbox import iterate_chunks, move_to_loaded, seal_open_segments, sealed_segments, write_all
from mnemoduck.quarantine import QuarantineFile, Rejection, remove_unfinished

RAW_SCHEMA = pa.schema(
    [
        ("batch_seq", pa.int64()),
        ("event_id", pa.string()),
        ("event_type", pa.string()),
        ("occurred_at", pa.timestamp("us")),
        ("recorded_at", pa.timestamp("us")),
        ("user_id", pa.string()),
        ("agent_id", pa.string()),
        ("session_id", pa.string()),
        ("payload", pa.string()),
        ("segment", pa.string()),
        ("line", pa.int64()),
    ]
)

REPEATED = ["batch_seq", "event_type", "user_id", "agent_id", "session_id", "segment"]
"""Columns whose values come again: to look for repeats in the others takes half of the time of writing."""

BATCH_SCHEMA = pa.schema(
    [
        ("batch_seq", pa.int64()),
        ("loaded_at", pa.timestamp("us")),
        ("segment_count", pa.int64()),
        ("event_count", pa.int64()),
        ("memory_count", pa.int64()),
        ("quarantined_count", pa.int64()),
        ("files", pa.list_(pa.string())),
    ]
)

ROWS_IN_MEMORY = 50_000
BYTES_IN_MEMORY = 64 * 1024 * 1024
"""A chunk of events is written when it has so many rows or so many bytes of lines."""

CHUNK_BYTES = 128 * 1024
"""How much of a segment is read at once: its rows are made while it is in the processor's cache."""

_RAW_PATH = re.compile(r"year=[0-9]{4}/month=[0-9]{2}/[\w.-]+\.parquet")
"""Paths of raw files, relative to raw/: the manifest names no others, so nothing else is read or merged."""

COMPACT_AT = 32

OPEN_FILES = 64
"""Months that are written at once; the times of imported events may lie in any of 1,560."""


@dataclass(frozen=True)
class RawFile:
    """A committed Parquet file, `path` relative to raw/; `tier` counts the merges behind it."""

    path: str
    rows: int
    tier: int = 0


@dataclass
class Batch:
    """One committed load, or the arrival of answers from models.

    Attributes:
        segments: names of the inbox segments that it was read from.
        answers: what stood in the cache of answers and what was asked with, of an arrival; else None.
        purged: of a purge the file with the ids of the events that it took out, relative to raw/; else None.
    """

    batch_seq: int
    loaded_at: str
    segments: list[str]
    files: list[RawFile]
    event_counts: dict[str, int] = field(default_factory=dict)
    quarantined_count: int = 0
    answers: str | None = None
    purged: str | None = None

    def to_line(self) -> str:
        values = asdict(self)
        if self.purged is None:
            del values["purged"]  # lines of other batches are as earlier versions know them
        return json.dumps(values, separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Batch:
        values = json.loads(line)
        values["files"] = [RawFile(**file) for file in values["files"]]
        for file in values["files"]:
            if not _RAW_PATH.fullmatch(file.path):
                raise ValueError(f"{file.path!r:.100} is no path of a raw file")
        return cls(**values)


def load_inbox(home: Home) -> list[Batch]:
    """Seal and load what waits in the inbox; return every committed batch, oldest first.

    The caller holds the run lock. Cost: linear in the events that wait, and in the number of
    batches and files so far (kept small by merging).

    Raises:
        StorageError: the disk refused; what was not loaded waits, and the next load begins anew.
    """
    try:
        return _load(home)
    except OSError as error:
        raise StorageError(
            f"The inbox of {home.path} was not loaded whole: {error.strerror or error}. Nothing is lost: "
            "what was acknowledged waits for the next run. Free space or mend the disk, then run again."
        ) from error


def _load(home: Home) -> list[Batch]:
    batches = read_manifest(home)
    _cut_torn_line(home)
    _finish_interrupted(home, batches)
    seal_open_segments(home)
    segments = sealed_segments(home)
    if segments:
        batch = _write_batch(home, segments, batches[-1].batch_seq + 1 if batches else 1)
        _append_to_manifest(home, batch)
        move_to_loaded(home, segments, batch.batch_seq)
        batches.append(batch)
        if _compact(home, batches):
            remove_unknown_files(home, batches)
    return batches


def note_answers(home: Home, newest_answer: int, asked_with: str) -> int:
    """Number the arrival of answers among the loads, unless it was noted last; return the newest number.

    What a model says of an old memory is news as an event is: models that take what arrived after the last
    load they saw take it too.

    Args:
        newest_answer: `response_seq` of the newest in the cache; 0 if there is none, which is no arrival
            unless there have been some.
        asked_with: stands for what is asked with: another question can have other answers.
    """
    answers = f"{newest_answer} {asked_with}"
    batches = read_manifest(home)
    noted = next((batch.answers for batch in reversed(batches) if batch.answers is not None), None)
    newest = batches[-1].batch_seq if batches else 0
    if answers == noted or (noted is None and not newest_answer):
        return newest
    batch = Batch(
        batch_seq=newest + 1,
        loaded_at=datetime.now(UTC).isoformat(),
        segments=[],
        files=[],
        answers=answers,
    )
    _cut_torn_line(home)  # no load has come by since the crash
    _append_to_manifest(home, batch)
    return batch.batch_seq


def compact_past_months(home: Home, now: datetime) -> list[tuple[str, int, int]]:
    """Merge the files of each month that is over into one; return month, files and rows of each that was.

    The caller holds the run lock. Of a month nothing arrives any more once it is over, so each event is
    rewritten once by this. What a crash leaves is what `load_inbox` removes.

    Raises:
        StorageError: the disk refused; the files are as they were.
    """
    try:
        return _compact_past_months(home, now)
    except OSError as error:
        raise StorageError(
            f"The files of past months in {home.raw} were not merged: {error.strerror or error}. They are as "
            "they were. Free space or mend the disk; the next weekly maintenance tries again."
        ) from error


def _compact_past_months(home: Home, now: datetime) -> list[tuple[str, int, int]]:
    batches = read_manifest(home)
    this_month = f"year={now:%Y}/month={now:%m}"
    members = {
        month: files
        for month, files in _files_by_month(batches).items()
        if month < this_month and len(files) > 1
    }
    for month, files in members.items():
        _merge(home, month, files)
    if members:
        write_atomically(home.manifest, "".join(batch.to_line() for batch in batches))
        remove_unknown_files(home, batches)
    return [(month, len(files), sum(file.rows for _, file in files)) for month, files in members.items()]


def newest_batch(home: Home) -> int:
    """Return the number of the newest load or arrival of answers, 0 before the first."""
    batches = read_manifest(home)
    return batches[-1].batch_seq if batches else 0


@dataclass(frozen=True)
class Loaded:
    """What batches have brought."""

    events: int = 0
    memories: int = 0
    lines_quarantined: int = 0


def count_loaded(home: Home, after: int) -> Loaded:
    """Return what the batches with numbers above `after` have brought.

    Raises:
        StorageError: the manifest cannot be read.
    """
    batches = [batch for batch in read_manifest(home) if batch.batch_seq > after]
    return Loaded(
        events=sum(sum(batch.event_counts.values()) for batch in batches),
        memories=sum(batch.event_counts.get("memory", 0) for batch in batches),
        lines_quarantined=sum(batch.quarantined_count for batch in batches),
    )


def read_manifest(home: Home) -> list[Batch]:
    """Return the committed batches, oldest first; a torn last line was not committed.

    Raises:
        StorageError: a line in the middle cannot be read, or a batch is there twice or out of order.
    """
    try:
        data = home.manifest.read_bytes()
    except FileNotFoundError:
        return []
    return parse_manifest(data, home.manifest)


def parse_manifest(data: bytes, path: Path) -> list[Batch]:
    """Return the batches of a manifest that was read from `path`, as `read_manifest` does."""
    whole = data.rfind(b"\n") + 1
    try:
        batches = [Batch.from_line(line.decode()) for line in data[:whole].splitlines()]
        for earlier, later in pairwise(batches):
            if later.batch_seq <= earlier.batch_seq:  # its files would be read twice
                raise ValueError(f"batch {later.batch_seq} follows batch {earlier.batch_seq}")
        return batches
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StorageError(
            f"The manifest {path} is damaged ({error}). Restore it from a backup: without "
            "it, nobody knows which raw files are whole."
        ) from error


def to_table(batches: Iterable[Batch]) -> pa.Table:
    """Return the batches as rows for the model `raw_batches`; file paths are relative to raw/."""
    return pa.Table.from_pylist(
        [
            {
                "batch_seq": batch.batch_seq,
                "loaded_at": datetime.fromisoformat(batch.loaded_at).replace(tzinfo=None),
                "segment_count": len(batch.segments),
                "event_count": sum(batch.event_counts.values()),
                "memory_count": batch.event_counts.get("memory", 0),
                "quarantined_count": batch.quarantined_count,
                "files": [file.path for file in batch.files],
            }
            for batch in batches
        ],
        schema=BATCH_SCHEMA,
    )


def _cut_torn_line(home: Home) -> None:
    if home.manifest.exists():
        data = home.manifest.read_bytes()
        os.truncate(home.manifest, data.rfind(b"\n") + 1)


def _finish_interrupted(home: Home, batches: list[Batch]) -> None:
    # Answers may have arrived since, which are batches too. Older loads were finished before the newest.
    last = next((batch for batch in reversed(batches) if batch.segments), None)
    if last is not None:
        left = [home.inbox / name for name in last.segments if (home.inbox / name).exists()]
        if left:
            move_to_loaded(home, left, last.batch_seq)
    shutil.rmtree(staging_folder(home), ignore_errors=True)
    for path in home.raw.glob(f"{home.manifest.name}.*.tmp"):
        path.unlink(missing_ok=True)
    remove_unfinished(home)
    remove_unknown_files(home, batches)


def remove_unknown_files(home: Home, batches: list[Batch]) -> None:
    known = {file.path for batch in batches for file in batch.files}
    known |= {batch.purged for batch in batches if batch.purged is not None}
    for path in home.raw.rglob("*.parquet"):
        if str(path.relative_to(home.raw)) not in known:
            path.unlink()


def _write_batch(home: Home, segments: list[Path], batch_seq: int) -> Batch:
    counts: Counter[str] = Counter()
    quarantined = 0
    rows = _Rows()
    with _MonthlyWriter(home, batch_seq) as writer:
        for segment in segments:
            rejected = QuarantineFile(home, segment.stem, keep_whole=True)
            for first_line, data in iterate_chunks(segment, chunk_bytes=CHUNK_BYTES):

                def reject(number: int, error: InvalidEventError, line: bytes) -> None:
                    rejected.add(Rejection(first_line + number, str(error), line))  # noqa: B023

                rows.add(read_rows(data, reject), segment.stem, first_line, len(data))
                if len(rows) >= ROWS_IN_MEMORY or rows.size >= BYTES_IN_MEMORY:
                    counts.update(writer.write(rows))
                    rows = _Rows()
            rejected.close()
            quarantined += rejected.count
        counts.update(writer.write(rows))
    return Batch(
        batch_seq=batch_seq,
        loaded_at=datetime.now(UTC).isoformat(),
        segments=[segment.name for segment in segments],
        files=writer.put_in_place(),
        event_counts={name: counts[name] for name in EVENT_TYPES if counts[name]},
        quarantined_count=quarantined,
    )


class _Rows:
    """Rows of several segments, each with the segment and line it stood on; `size` is in bytes of lines."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in (*ROW, "segment", "line")}
        self.size = 0

    def add(self, rows: Rows, segment: str, first_line: int, size: int) -> None:
        for name, column in rows.columns.items():
            self.columns[name] += column
        self.columns["segment"] += repeat(segment, len(rows))
        self.columns["line"] += (first_line + line for line in rows.lines)
        self.size += size

    def __len__(self) -> int:
        return len(self.columns["line"])

    def to_table(self, batch_seq: int) -> pa.Table:
        columns = {name: pa.array(column) for name, column in self.columns.items()}
        columns["batch_seq"] = pa.repeat(batch_seq, len(self))
        return pa.table({field.name: columns[field.name].cast(field.type) for field in RAW_SCHEMA})


class _MonthlyWriter:
    """Writes events to one Parquet file for each month of `recorded_at`, aside, then in place.

    A month that comes again after OPEN_FILES others gets another file, a further part of the batch.
    """

    def __init__(self, home: Home, batch_seq: int) -> None:
        self._home = home
        self._batch_seq = batch_seq
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._parts: Counter[str] = Counter()
        self._rows: Counter[tuple[str, int]] = Counter()

    def write(self, rows: _Rows) -> Counter[str]:
        """Append the rows, each to its month; return counts by type."""
        table = rows.to_table(self._batch_seq)
        by_month: dict[str, list[int]] = {}
        for number, recorded_at in enumerate(rows.columns["recorded_at"]):
            by_month.setdefault(recorded_at[:7], []).append(number)
        for year_month, numbers in by_month.items():
            year, _, month = year_month.partition("-")
            place = f"year={year}/month={month}"
            members = table if len(numbers) == len(table) else table.take(numbers)
            self._writer_of(place).write_table(members)
            self._rows[place, self._parts[place]] += len(numbers)
        return Counter(rows.columns["event_type"])

    def __enter__(self) -> _MonthlyWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_all()

    def put_in_place(self) -> list[RawFile]:
        """Move the closed files to where the manifest will name them."""
        files = []
        for (month, part), rows in sorted(self._rows.items()):
            path = f"{month}/{_file_name(self._batch_seq, tier=0, part=part)}"
            _put_in_place(self._aside(month, part), self._home.raw / path)
            files.append(RawFile(path, rows))
        return files

    def _writer_of(self, month: str) -> pq.ParquetWriter:
        if month not in self._writers:
            if len(self._writers) >= OPEN_FILES:
                self._close_all()
            self._parts[month] += 1
            path = self._aside(month, self._parts[month])
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._writers[month] = open_parquet(path)
        return self._writers[month]

    def _close_all(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()

    def _aside(self, month: str, part: int) -> Path:
        return staging_folder(self._home) / f"{month.replace('/', '-')}-{part}.parquet"


def _compact(home: Home, batches: list[Batch]) -> bool:
    """Merge files of one month and tier as soon as there are COMPACT_AT; return whether any were.

    A merged file is named by the newest batch in it, which keeps the manifest's order. The manifest
    is replaced atomically; until then the merged file is unknown and counts for nothing.
    """
    by_place: dict[tuple[str, int], list[tuple[Batch, RawFile]]] = {}
    for batch in batches:
        for file in batch.files:
            place = (str(Path(file.path).parent), file.tier)
            by_place.setdefault(place, []).append((batch, file))
    is_merged = False
    for (month, _), members in by_place.items():
        if len(members) < COMPACT_AT:
            continue
        _merge(home, month, members)
        is_merged = True
    if is_merged:
        write_atomically(home.manifest, "".join(batch.to_line() for batch in batches))
    return is_merged


def _files_by_month(batches: list[Batch]) -> dict[str, list[tuple[Batch, RawFile]]]:
    by_month: dict[str, list[tuple[Batch, RawFile]]] = {}
    for batch in batches:
        for file in batch.files:
            by_month.setdefault(str(Path(file.path).parent), []).append((batch, file))
    return by_month


def _merge(home: Home, month: str, members: list[tuple[Batch, RawFile]]) -> None:
    """Write the files of a month as one of the next tier, which belongs to the newest batch in it."""
    newest = members[-1][0]
    tier = max(file.tier for _, file in members) + 1
    path = f"{month}/{_file_name(newest.batch_seq, tier)}"
    aside = staging_folder(home) / f"{month.replace('/', '-')}-merged.parquet"
    aside.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with open_parquet(aside) as writer:
        for _, file in members:
            for rows in pq.ParquetFile(home.raw / file.path).iter_batches(ROWS_IN_MEMORY):
                writer.write_table(pa.Table.from_batches([rows], schema=RAW_SCHEMA))
    _put_in_place(aside, home.raw / path)
    for batch, file in members:
        batch.files.remove(file)
    newest.files.append(RawFile(path, sum(file.rows for _, file in members), tier))


def open_parquet(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, RAW_SCHEMA, compression="zstd", use_dictionary=REPEATED)


def _append_to_manifest(home: Home, batch: Batch) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(home.manifest, flags, FILE_MODE)
    try:
        start = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, batch.to_line().encode())
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, start)
            raise
    finally:
        os.close(descriptor)
    sync_folder(home.raw)


def _put_in_place(aside: Path, path: Path) -> None:
    for folder in (path.parent.parent, path.parent):  # the year, the month
        if not folder.exists():
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            sync_folder(folder.parent)
    sync_file(aside)
    os.replace(aside, path)
    sync_folder(path.parent)


def _file_name(batch_seq: int, tier: int, part: int = 1) -> str:
    suffix = f"-p{part}" if part > 1 else ""
    return f"batch-{batch_seq:012d}-t{tier}{suffix}.parquet"


def staging_folder(home: Home) -> Path:
    return home.raw / ".staging"
