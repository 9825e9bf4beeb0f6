"""Checks of what comes in: the inbox, the quarantine, raw files, and the clock that dates them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoduck.doctor.verdict import Patient, Verdict, describe_age
from mnemoduck.errors import InvalidEventError, StorageError
from mnemoduck.events import parse_event
from mnemoduck.inbox import OPEN_SUFFIX, sealed_segments
from mnemoduck.pipeline.load import RawFile, read_manifest
from mnemoduck.pipeline.publish import current_snapshot, published_at
from mnemoduck.quarantine import count_quarantined
from mnemoduck.waiting import WaitingEvents, arrived_at
from mnemoduck.warehouse import Snapshot

WAITING_SECONDS = 3600
"""Events that wait for longer say that no run comes: six of the ten-minute rhythm have missed them."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""Clocks of machines that are kept right differ by less."""

FOOTERS = 500
"""Of so many raw files, the newest, the ends are read."""

_TAIL_BYTES = 64 * 1024


def check_inbox(patient: Patient) -> Verdict:
    """How much waits for a run, and for how long."""
    batch_seq = 0
    path = current_snapshot(patient.home)
    if path is not None:
        snapshot = Snapshot(path, patient.home)
        batch_seq = snapshot.batch_seq
        snapshot.close()
    waiting = WaitingEvents(patient.home).look(batch_seq)
    if waiting.oldest_at is None:
        return Verdict("inbox", "ok", "No event waits.")
    age = (patient.now - waiting.oldest_at).total_seconds()
    says = f"{waiting.arrived:,} events wait for a run"
    if waiting.loaded:
        says += f", and {waiting.loaded:,} are loaded, but not published"
    says += f"; the first came {describe_age(age)} ago."
    if age <= WAITING_SECONDS:
        return Verdict("inbox", "ok", says)
    return Verdict("inbox", "warn", says, patient.command("run"))


def check_orphans(patient: Patient) -> Verdict:
    """Whether writers died without closing their segments. Their events are safe: the next run has them."""
    orphans = [
        path
        for path in sorted(patient.home.inbox.glob(f"*{OPEN_SUFFIX}"))
        if (pid := _writer_of(path)) is not None and not _is_alive(pid)
    ]
    if not orphans:
        return Verdict("orphan segments", "ok", "No writer has died.")
    return Verdict(
        "orphan segments",
        "warn",
        f"{len(orphans)} segments are of writers that died, such as {orphans[0].name}. The next run takes "
        "them in; a last line that is torn goes to quarantine.",
        patient.command("run"),
    )


def _writer_of(segment: Path) -> int | None:
    """Return the process that a segment's name tells of, None if it tells of none."""
    parts = segment.stem.split("-")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def check_quarantine(patient: Patient) -> Verdict:
    """Whether something could not be read."""
    lines = count_quarantined(patient.home)
    if not lines:
        return Verdict("quarantine", "ok", "Everything that came could be read.")
    return Verdict(
        "quarantine",
        "warn",
        f"{lines:,} lines could not be read; {patient.home.quarantine} has each with its reason. Mend the "
        "source and ingest it again. What is of no use any more may go.",
        f"rm {patient.quoted}/quarantine/*.jsonl",
    )


def check_raw(patient: Patient) -> Verdict:
    """Whether raw/ is what the manifest says: all files that it names, whole, and no others."""
    home = patient.home
    try:
        batches = read_manifest(home)
    except StorageError as error:
        return Verdict("raw files", "fail", str(error), f"cp BACKUP/raw/batches.jsonl {patient.quoted}/raw/")
    named = [file for batch in batches for file in batch.files]
    missing = [file.path for file in named if not (home.raw / file.path).is_file()]
    if missing:
        return Verdict(
            "raw files",
            "fail",
            f"{len(missing)} of {len(named)} raw files are missing, such as {missing[0]}: a full build has "
            "nothing to read there. Put them back from a backup.",
            f"cp -R BACKUP/raw/. {patient.quoted}/raw/",
        )
    for file in named[-FOOTERS:]:
        fault = _fault_of(home.raw / file.path, file)
        if fault:
            return Verdict(
                "raw files",
                "fail",
                f"{file.path} {fault}. Put it back from a backup.",
                f"cp BACKUP/raw/{file.path} {patient.quoted}/raw/{file.path}",
            )
    known = {file.path for file in named} | {batch.purged for batch in batches if batch.purged}
    found = {str(path.relative_to(home.raw)) for path in home.raw.rglob("*.parquet")}
    unknown = sorted(path for path in found - known if not path.startswith(".staging"))
    with patient.between_runs() as is_quiet:
        if unknown and is_quiet:  # else a load may be about to name them
            return Verdict(
                "raw files",
                "warn",
                f"{len(unknown)} raw files are not in the manifest, such as {unknown[0]}: a load was "
                "interrupted. They count for nothing, and the next run removes them.",
                patient.command("run"),
            )
    return Verdict("raw files", "ok", f"{len(named)} files hold what the manifest says.")


def _fault_of(path: Path, file: RawFile) -> str:
    try:
        rows = pq.read_metadata(path).num_rows
    except FileNotFoundError:
        return ""  # merged into another this moment, which the manifest names by now
    except (OSError, pa.ArrowException):
        return "cannot be read"
    return "" if rows == file.rows else f"holds {rows:,} events and not {file.rows:,}"


def check_clock(patient: Patient) -> Verdict:
    """Whether this machine's clock is behind what it wrote earlier, or events are dated ahead of it."""
    latest = patient.now + CLOCK_TOLERANCE
    own = max(_own_times(patient), default=None)
    if own is not None and own > latest:
        age = (own - patient.now).total_seconds()
        return Verdict(
            "clock",
            "fail",
            f"The clock is {describe_age(age)} behind what was written in this home before: it went back. "
            "Until it has caught up, what is newer counts as the future.",
            "sudo timedatectl set-ntp true",
        )
    recorded = max(_recorded_times(patient), default=None)
    if recorded is not None and recorded > latest:
        age = (recorded - patient.now).total_seconds()
        return Verdict(
            "clock",
            "warn",
            f"The newest event was recorded {describe_age(age)} from now: the clock of who wrote it is "
            "ahead, or this one is behind.",
            "sudo timedatectl set-ntp true",
        )
    newest = "" if recorded is None else f" and recorded, the newest on {recorded:%Y-%m-%d at %H:%M}"
    return Verdict("clock", "ok", f"{patient.now:%Y-%m-%d %H:%M} UTC is after all that was written{newest}.")


def _own_times(patient: Patient) -> Iterator[datetime]:
    """Yield when this machine did what it did last, by its own clock."""
    batches = read_manifest(patient.home)
    yield from (datetime.fromisoformat(batch.loaded_at) for batch in batches[-FOOTERS:])
    for path in patient.home.published.glob("*.duckdb"):
        yield published_at(path)
    for path in (*sealed_segments(patient.home), *patient.home.inbox.glob(f"*{OPEN_SUFFIX}")):
        yield arrived_at(path)


def _recorded_times(patient: Patient) -> Iterator[datetime]:
    """Yield the newest `recorded_at` of raw files, by their ends, and that of the last event of segments."""
    files = [file for batch in read_manifest(patient.home) for file in batch.files]
    for file in files[-FOOTERS:]:
        metadata = pq.read_metadata(patient.home.raw / file.path)
        column = metadata.schema.names.index("recorded_at")
        for group in range(metadata.num_row_groups):
            statistics = metadata.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max:
                yield statistics.max.replace(tzinfo=UTC)
    for path in (*sealed_segments(patient.home), *patient.home.inbox.glob(f"*{OPEN_SUFFIX}")):
        event_time = _last_recorded(path)
        if event_time is not None:
            yield event_time


def _last_recorded(segment: Path) -> datetime | None:
    with segment.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return parse_event(line).recorded_at
        except InvalidEventError:
            continue
    return None
