"""The history of runs: one line for each in `runs/<year>-<month>.jsonl` of the home, published or not.

The warehouse cannot keep it, since a run that fails may leave no warehouse. The models `pipeline_runs` and
`model_runs` read these files, and so do `status`, `metrics`, `report`, `doctor` and `tune`, which also see
the run that has just ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mnemoduck.errors import StorageError
from mnemoduck.home import FILE_MODE, FOLDER_MODE, Home
from mnemoduck.inbox import write_all

PUBLISHED = "published"
UNCHANGED = "unchanged"
NOT_PUBLISHED = "not published"
SKIPPED = "skipped"
"""Another run was at work: nothing was started."""

OUTCOMES = (PUBLISHED, UNCHANGED, NOT_PUBLISHED, SKIPPED)


class NodeRun(BaseModel):
    """What a run did with one model or test.

    Attributes:
        kind: dbt's: model, seed, snapshot, test, unit_test or operation.
        status: dbt's: success, error, skipped, pass, warn, fail.
        seconds: what dbt took for it, compiling included.
        rows: how many rows the table holds afterwards; None for views and tests.
        failures: rows that a test found; None for models.
        message: what dbt said of an error, a failure or a warning; else None.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    status: str
    seconds: float
    rows: int | None = None
    failures: int | None = None
    message: str | None = None


class RunRecord(BaseModel):
    """One run of the pipeline, by `mnemoduck run` or by dbt itself.

    Attributes:
        run_id: dbt's invocation id; of a run that dbt was not started for, one of our own.
        command: what was asked for, as `run --rhythm hourly` or `build`.
        rhythm: continuous, hourly, nightly or weekly; None for all models.
        outcome: one of OUTCOMES.
        snapshot: what readers see since; None if it was not published.
        batch_seq: the newest load that it has seen.
        as_of: the moment that it was told to look from; None is its own.
        peak_memory_bytes: most that the process of dbt held (VmHWM).
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    command: str
    outcome: str
    started_at: AwareDatetime
    ended_at: AwareDatetime
    rhythm: str | None = None
    snapshot: str | None = None
    batch_seq: int = 0
    events_loaded: int = 0
    memories_loaded: int = 0
    lines_quarantined: int = 0
    as_of: AwareDatetime | None = None
    peak_memory_bytes: int | None = None
    load_seconds: float | None = None
    publish_seconds: float | None = None
    errors: tuple[str, ...] = ()
    nodes: tuple[NodeRun, ...] = ()

    @property
    def seconds(self) -> float:
        return (self.ended_at - self.started_at).total_seconds()


def record_run(home: Home, record: RunRecord) -> None:
    """Append a run to the file of the month in which it ended; whole, or not at all.

    Raises:
        StorageError: the disk refuses it.
    """
    path = home.runs / f"{record.ended_at:%Y-%m}.jsonl"
    line = record.model_dump_json(exclude_defaults=True).encode() + b"\n"
    try:
        home.runs.mkdir(mode=FOLDER_MODE, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        try:
            start = os.fstat(descriptor).st_size
            if start and os.pread(descriptor, 1, start - 1) != b"\n":
                line = b"\n" + line  # what a crash tore off stays a line of its own, which is passed over
            try:
                write_all(descriptor, line)
            except OSError:
                os.ftruncate(descriptor, start)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(f"The run could not be recorded in {path}: {error}.") from error


def forget_runs(home: Home, before: datetime) -> list[str]:
    """Remove the files of the months that ended before the month of a moment; return their months."""
    gone = [path for path in sorted(home.runs.glob("????-??.jsonl")) if path.stem < f"{before:%Y-%m}"]
    for path in gone:
        path.unlink()
    return [path.stem for path in gone]


def read_runs(home: Home, since: datetime | None = None) -> Iterator[RunRecord]:
    """Yield the runs that ended at `since` or later, in the order in which they were recorded.

    Costs a look at the months from `since` on. Lines that a crash has torn are passed over: they are of runs
    that nobody heard the end of.
    """
    for path in sorted(home.runs.glob("????-??.jsonl")):
        if since is not None and path.stem < f"{since:%Y-%m}":
            continue
        with path.open("rb") as file:
            for line in file:
                try:
                    record = RunRecord.model_validate_json(line)
                except ValidationError:
                    continue
                if since is None or record.ended_at >= since:
                    yield record
