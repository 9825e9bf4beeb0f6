"""The history of runs: one line for each in `runs/<date>.jsonl` of the home, published or not.

The warehouse cannot keep it, since a run that fails may leave no warehouse. The models `pipeline_runs` and
`model_runs` read these files, and so do `status`, `metrics`, `report`, `doctor` and `tune`, which also see
the run that has just ended.

A run writes some 10 kB, a day of runs every ten minutes 1.5 MB: a file for each day, so that who wants the
last hours reads little, and what is older than `run_history_days` goes as whole files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mnemoduck.appending import append_line
from mnemoduck.errors import StorageError
from mnemoduck.home import FOLDER_MODE, Home

PUBLISHED = "published"
UNCHANGED = "unchanged"
NOT_PUBLISHED = "not published"
SKIPPED = "skipped"
"""Another run was at work: nothing was started."""

OUTCOMES = (PUBLISHED, UNCHANGED, NOT_PUBLISHED, SKIPPED)

DAY_PATTERN = "????-??-??.jsonl"
"""Files that are named by a day, 2026-03-31.jsonl."""


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
        command: what was asked for: `run` and its options of mnemoduck, `dbt build` and its options of dbt.
        rhythm: continuous, hourly, nightly or weekly; None for all models.
        outcome: one of OUTCOMES.
        snapshot: what readers see since; None if it was not published.
        started_at, ended_at: by the clock of the machine, whatever `as_of` says.
        batch_seq: the newest load that it has seen.
        as_of: the moment that it was told to look from; None is its own.
        peak_memory_bytes: most that the process of dbt held (VmHWM); None where the system does not tell.
        load_seconds: what the model raw_batches took, which loads what waits.
        publish_seconds: what checkpoint and copy took; None if it did not come to that.
        errors: what went wrong outside of models and tests.
        nodes: in the order in which they ended.
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
    """Append a run to the file of the day on which it ended (UTC); whole, or not at all.

    Raises:
        StorageError: the disk refuses it.
    """
    path = home.runs / f"{record.ended_at:%Y-%m-%d}.jsonl"
    try:
        home.runs.mkdir(mode=FOLDER_MODE, exist_ok=True)
        append_line(path, record.model_dump_json(exclude_defaults=True).encode())
    except OSError as error:
        raise StorageError(f"The run could not be recorded in {path}: {error}.") from error


def read_runs(home: Home, since: datetime | None = None) -> Iterator[RunRecord]:
    """Yield the runs that ended at `since` or later, in the order in which they were recorded.

    Costs a look at the days from `since` on. Lines that a crash has torn are passed over: they are of runs
    that nobody heard the end of.
    """
    for path in run_files(home, since and since.astimezone(UTC).date()):
        with path.open("rb") as file:
            for line in file:
                try:
                    record = RunRecord.model_validate_json(line)
                except ValidationError:
                    continue
                if since is None or record.ended_at >= since:
                    yield record


def run_files(home: Home, since: date | None = None) -> list[Path]:
    """Return the files of the days from `since` on, the earliest first."""
    files = sorted(home.runs.glob(DAY_PATTERN))
    return [path for path in files if since is None or path.stem >= since.isoformat()]


def is_recorded(home: Home, run_id: str, since: datetime) -> bool:
    """Tell whether a run that ended at `since` or later was recorded; costs a look at those days."""
    field = f'"run_id":"{run_id}"'.encode()
    return any(field in path.read_bytes() for path in run_files(home, since.astimezone(UTC).date()))


def forget_runs(home: Home, days: float, keep: Callable[[Home, Path], None]) -> None:
    """Remove the files of days that ended more than `days` before the newest.

    Args:
        keep: called with each file before it goes, for what is to outlive it.
    """
    files = run_files(home)
    for path in files[:-1]:
        if date.fromisoformat(path.stem) < date.fromisoformat(files[-1].stem) - timedelta(days=days + 1):
            keep(home, path)
            path.unlink(missing_ok=True)
