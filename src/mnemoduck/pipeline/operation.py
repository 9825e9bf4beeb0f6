"""The life-cycle operations of macros/partitions, through the real dbt, under the home's lock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mnemoduck.errors import PipelineError, UsageError
from mnemoduck.home import Home
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.run import SAYS, start_dbt, without_traceback
from mnemoduck.warehouse import check_database_file

_REFUSED = "Compilation Error"
"""What a macro raises itself, before it touches anything."""


def run_operation(
    home: Home,
    project: Path,
    macro: str,
    arguments: Mapping[str, Any],
    *,
    wait_seconds: float = 0,
    lock: RunLock | None = None,
    on_say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Execute a macro as `dbt run-operation` does; return what it says, line by line.

    Args:
        wait_seconds: how long to wait for a run that is at work.
        lock: the home's lock, if the caller holds it.
        on_say: called with each line as soon as it was said.

    Raises:
        UsageError: the macro refuses what it was asked for, in its own words.
        LockedError: another run holds the home.
        StorageError: the warehouse file is damaged.
        PipelineError: dbt could not be started, or failed.
    """
    check_database_file(home.warehouse)
    said: list[str] = []
    errors: list[str] = []
    remarks: list[str] = []
    command = ["run-operation", macro, "--args", json.dumps(dict(arguments))]
    with (
        nullcontext(lock) if lock else RunLock(home, wait_seconds) as held,
        start_dbt(command, home, project, held) as process,
    ):
        for line in process.stdout or ():
            try:
                info = json.loads(line)["info"]
                name, level, message = info["name"], info["level"], info["msg"]
            except (ValueError, KeyError, TypeError, RecursionError):
                remarks.append(line.strip())
                continue
            if name == "JinjaLogInfo" and message.startswith(SAYS):
                said.append(message.removeprefix(SAYS))
                on_say(said[-1])
            elif level == "error" and name != "MainStackTrace":
                errors.append(message)
    if errors:
        sentence = _sentence(errors[0])
        raise UsageError(sentence) if _REFUSED in errors[0] else PipelineError(f"dbt failed: {sentence}")
    if process.returncode != 0:
        raise PipelineError("; ".join([f"dbt stopped in the middle of {macro}", *filter(None, remarks[-3:])]))
    return said


def _sentence(message: str) -> str:
    """Return what an error of dbt says, on one line."""
    _, _, text = without_traceback(message).partition(" Error")
    return " ".join(line.strip() for line in text.splitlines()[1:] if line.strip())
