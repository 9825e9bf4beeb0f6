"""Maintenance: what a home needs now and then and no run every ten minutes should pay for.

Each step is on its own: one that fails is told, and the others go on. A step with nothing to do says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from mnemoduck.errors import MnemoduckError, PipelineError, UsageError
from mnemoduck.home import Home
from mnemoduck.llm.cache import open_cache
from mnemoduck.partitions import Month, Partitions, partitioned_models
from mnemoduck.pipeline.load import compact_past_months
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.operation import run_operation
from mnemoduck.pipeline.rhythm import NIGHTLY, WEEKLY
from mnemoduck.pipeline.run import run_pipeline
from mnemoduck.project import variables
from mnemoduck.warehouse import SnapshotReader

LEAST_AGE_MONTHS = 2
"""The current and the previous month are those that run after run writes to and reads."""


@dataclass(frozen=True)
class Step:
    """What a step of the maintenance did, or why it failed."""

    name: str
    said: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class _Place:
    """Where a step works: on which home, by which project, and how long it waits for a run."""

    home: Home
    project: Path
    wait_seconds: float
    now: datetime

    def variable(self, name: str) -> float:
        return float(variables(self.project)[name])

    def operate(self, macro: str, **arguments: object) -> list[str]:
        return run_operation(self.home, self.project, macro, arguments, wait_seconds=self.wait_seconds)


def maintain(
    home: Home,
    project: Path,
    rhythm: str,
    *,
    wait_seconds: float = 0,
    now: datetime | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
) -> list[Step]:
    """Do what is due in a rhythm, after its build; return what each step did (nightly and weekly).

    Args:
        wait_seconds: how long each step waits for a run that is at work.
        on_step: called with each step as soon as it is done.
    """
    place = _Place(home, project, wait_seconds, now or datetime.now(UTC))
    done = []
    for name, work in _due(place, rhythm):
        try:
            step = Step(name, tuple(work()))
        except (MnemoduckError, OSError) as error:
            step = Step(name, error=str(error))
        done.append(step)
        on_step(step)
    return done


def _due(place: _Place, rhythm: str) -> list[tuple[str, Callable[[], list[str]]]]:
    if rhythm not in (NIGHTLY, WEEKLY):
        return []
    nightly: list[tuple[str, Callable[[], list[str]]]] = [
        ("cache of answers", partial(_bound_cache, place)),
    ]
    if rhythm == NIGHTLY:
        return nightly
    return [
        ("raw files", partial(_compact_raw, place)),
        ("months", partial(_recluster_months, place)),
        ("search index", partial(place.operate, "recluster_index")),
        ("archive", partial(_archive_months, place)),
        ("retention", partial(_drop_months, place)),
        *nightly,
    ]


def _bound_cache(place: _Place) -> list[str]:
    bound = round(place.variable("llm_cache_gigabytes") * 1e9)
    if not bound or not place.home.llm_cache.exists():
        return ["not bounded" if not bound else "there is none"]
    if (
        place.home.llm_cache.stat().st_size <= bound
    ):  # compressed: what it holds may be more, and has room yet
        return [f"its file is within {bound / 1e9:g} GB"]
    with RunLock(place.home, place.wait_seconds), open_cache(place.home) as cache:
        done = cache.evict(max_bytes=bound)
    return [f"{done.responses:,} answers and {done.embeddings:,} vectors evicted, {done.kept:,} kept"]


def _compact_raw(place: _Place) -> list[str]:
    with RunLock(place.home, place.wait_seconds):
        merged = compact_past_months(place.home, place.now)
    return [f"merged {files} files of {month}: {rows:,} events" for month, files, rows in merged] or [
        "every month that is over is one file"
    ]


def _recluster_months(place: _Place) -> list[str]:
    said = []
    for model, months in _published_months(place.home).items():
        if any(month.state == "hot" and month.clustered_share < 1 for month in months):
            said += place.operate("partitions_recluster", model=model)
    return said or ["every month is clustered already"]


def _archive_months(place: _Place) -> list[str]:
    return _age_months(place, "archive_after_months", "partitions_archive", ("hot",))


def _drop_months(place: _Place) -> list[str]:
    said = _age_months(place, "retention_months", "partitions_drop", ("hot", "cold"), yes=True)
    if any(line.startswith("dropped") for line in said):
        summary = run_pipeline(place.home, place.project, wait_seconds=place.wait_seconds)
        if not summary.is_ok:
            raise PipelineError(
                f"{'; '.join(said)}; but the build after that failed. Look at `mnemoduck run`."
            )
    return said


def _age_months(
    place: _Place, variable: str, macro: str, states: tuple[str, ...], **arguments: object
) -> list[str]:
    age = place.variable(variable)
    if not age:
        return ["not asked for"]
    if age < LEAST_AGE_MONTHS or age != int(age):
        raise UsageError(
            f"The variable {variable} is {age:g}; it takes a whole number of months, 0 or at least "
            f"{LEAST_AGE_MONTHS}. Change it in dbt_project.yml."
        )
    before = f"{_months_before(place.now, int(age)):%Y-%m}"
    said = []
    for model, months in _published_months(place.home).items():
        if any(month.label < before and month.state in states for month in months):
            said += place.operate(macro, model=model, before=before, **arguments)
    return said or [f"no month is older than {before}"]


def _published_months(home: Home) -> dict[str, list[Month]]:
    reader = SnapshotReader(home)
    try:
        cursor = reader.get_published().cursor()
        return {
            model: Partitions(cursor, model, home.path).months()
            for model in partitioned_models(cursor, "snapshot")
        }
    finally:
        reader.close()


def _months_before(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    return moment.replace(year=year, month=month + 1, day=1)
