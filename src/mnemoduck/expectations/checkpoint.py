"""Checking a suite: in a process of its own, which Great Expectations fills and leaves again.

To import it takes seconds of a processor and 240 MB, and it must neither hold the warehouse nor outlive the
question. This side is light: it starts the process, reads its verdict and records it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ValidationError

from mnemoduck.expectations.verdicts import Severity, Verdict, record_verdict
from mnemoduck.home import Home, create_file

SuiteName = Literal["incoming", "published"]
SUITES: tuple[SuiteName, ...] = get_args(SuiteName)

_PATIENCE = 1800
"""Seconds after which a check counts as hung: ten times of what the slowest measured one took."""


class Request(BaseModel):
    """What the process is asked for.

    Attributes:
        candidate: the snapshot to check; `before` is the one to compare it with, None if there is none.
        as_of: the moment to look from.
    """

    suite: SuiteName
    severity: Severity
    home: Path
    project: Path
    as_of: datetime
    candidate: Path | None = None
    before: Path | None = None


def check_incoming(home: Home, project: Path, severity: Severity, as_of: datetime | None = None) -> Verdict:
    """Check the events that wait in the inbox; nothing there is moved, sealed or changed."""
    return _check(
        Request(
            suite="incoming",
            severity=severity,
            home=home.path,
            project=project,
            as_of=as_of or datetime.now(UTC),
        ),
        home,
    )


def check_published(
    home: Home, project: Path, severity: Severity, candidate: Path, before: Path | None
) -> Verdict:
    """Check a snapshot, whether published or about to be, against another that was published before."""
    return _check(
        Request(
            suite="published",
            severity=severity,
            home=home.path,
            project=project,
            as_of=datetime.now(UTC),
            candidate=candidate,
            before=before,
        ),
        home,
    )


def _check(request: Request, home: Home) -> Verdict:
    started = time.monotonic()
    verdict = _ask(request, home.logs / f"expectations-{request.suite}.log")
    verdict = verdict.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    record_verdict(home, verdict)
    return verdict


def _ask(request: Request, log: Path) -> Verdict:
    """Return the verdict of the process; whatever keeps it from one is a verdict too, an error."""
    failed = Verdict(suite=request.suite, severity=request.severity, checked_at=datetime.now(UTC), error="")
    with create_file(log) as messages:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "mnemoduck.expectations.worker"],
                input=request.model_dump_json().encode(),
                stdout=subprocess.PIPE,
                stderr=messages,
                timeout=_PATIENCE,
                env=_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return failed.model_copy(
                update={"error": f"it took longer than {_PATIENCE} s. The log is {log}."}
            )
        except OSError as error:
            return failed.model_copy(update={"error": f"its process could not be started: {error}."})
    try:
        return Verdict.model_validate_json(done.stdout)
    except ValidationError:
        reason = _last_line(log) or f"it ended with code {done.returncode} and said nothing"
        return failed.model_copy(update={"error": f"{reason} (The log is {log}.)"})


def _environment() -> dict[str, str]:
    """Return the environment of the process: without what would make Great Expectations speak to a server."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GX_CLOUD", "GE_CLOUD"))
    }
    return {**kept, "GX_ANALYTICS_ENABLED": "false", "PYTHONSAFEPATH": "1"}


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
