"""What came of checking a suite, and the history of it: `expectations/results.jsonl` of the home.

The file holds the checks of the current month (UTC), a JSON object a line; those of earlier months are in
`results-<year>-<month>.jsonl` beside it, of which KEPT_MONTHS are kept.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, computed_field

from mnemoduck.appending import append_line
from mnemoduck.errors import StorageError
from mnemoduck.home import FOLDER_MODE, Home

KEPT_MONTHS = 12

Severity = Literal["warn", "fail"]
Result = Literal["passed", "warned", "failed", "skipped", "error"]


class Unmet(BaseModel):
    """An expectation that was not met; `severity` is what follows from that, by itself and by its suite's."""

    model_config = ConfigDict(frozen=True)

    expectation: str
    table: str
    column: str | None
    severity: Severity
    message: str


class Skipped(BaseModel):
    """An expectation that could not be looked at, for want of what `reason` names."""

    model_config = ConfigDict(frozen=True)

    expectation: str
    table: str
    column: str | None
    reason: str


class Verdict(BaseModel):
    """One check of a suite.

    Attributes:
        severity: what the worst expectation of the suite may do: warn, or fail and so stop the run.
        evaluated: how many expectations were looked at.
        docs: the page of Data Docs that lists all checks, relative to the home; None if there is none.
        error: why the suite could not run; then nothing was looked at, and the run stops.
        seconds: the process that checks, from its start to its end.
    """

    model_config = ConfigDict(frozen=True)

    suite: str
    checked_at: AwareDatetime
    severity: Severity
    evaluated: int = 0
    failed: tuple[Unmet, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    docs: str | None = None
    error: str | None = None
    seconds: float = 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def success(self) -> bool:
        """Whether every expectation that was looked at is met, and they could be looked at."""
        return not self.failed and self.error is None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def result(self) -> Result:
        if self.error is not None:
            return "error"
        if any(one.severity == "fail" for one in self.failed):
            return "failed"
        if self.failed:
            return "warned"
        return "passed" if self.evaluated else "skipped"

    @property
    def stops(self) -> bool:
        """Whether nothing may be built, or published, upon it."""
        return self.result in {"failed", "error"}

    @property
    def summary(self) -> str:
        """One line: what came of it, and how much was looked at."""
        if self.error is not None:
            return f"expectations on {self.suite} could not run: {self.error}"
        looked_at = f"{self.evaluated} looked at, {len(self.failed)} not met, {len(self.skipped)} skipped"
        return f"expectations on {self.suite} {self.result}: {looked_at}"

    @property
    def lines(self) -> list[str]:
        """What a run has to say of it: the summary, and a line for each expectation that was not met."""
        return [self.summary, *(f"{one.severity}: {one.message}" for one in self.failed)]


def record_verdict(home: Home, verdict: Verdict) -> None:
    """Append a verdict to the results; those of an earlier month are first put aside.

    Raises:
        StorageError: the disk refuses it.
    """
    path = home.expectations / "results.jsonl"
    try:
        home.expectations.mkdir(mode=FOLDER_MODE, exist_ok=True)
        _put_aside(path, f"{verdict.checked_at.astimezone(UTC):%Y-%m}")
        append_line(path, verdict.model_dump_json().encode())
    except OSError as error:
        raise StorageError(f"The results of expectations could not be written to {path}: {error}.") from error


def read_verdicts(home: Home, since: datetime | None = None) -> Iterator[Verdict]:
    """Yield the checks since a moment, of the months that are kept, in the order in which they were made."""
    for path in [
        *sorted(home.expectations.glob("results-????-??.jsonl")),
        home.expectations / "results.jsonl",
    ]:
        for verdict in _read(path):
            if since is None or verdict.checked_at >= since:
                yield verdict


def last_verdicts(home: Home) -> dict[str, Verdict]:
    """Return the newest check of each suite that was checked in the months that are kept."""
    return {verdict.suite: verdict for verdict in read_verdicts(home)}


def _read(path: Path) -> Iterator[Verdict]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                yield Verdict.model_validate_json(line)
            except ValidationError:
                continue  # torn by a crash: nobody heard of it


def _put_aside(path: Path, month: str) -> None:
    """Rename the results if they are of an earlier month than `month`, and delete what is too old."""
    newest = deque(_read(path), maxlen=1)
    if not newest:
        return
    of = f"{newest[0].checked_at.astimezone(UTC):%Y-%m}"
    if of < month:
        os.replace(path, path.with_name(f"results-{of}.jsonl"))
        for old in sorted(path.parent.glob("results-????-??.jsonl"))[:-KEPT_MONTHS]:
            old.unlink(missing_ok=True)
