"""The command that a scheduler starts: absolute paths and nothing of the user's environment."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mnemoduck.errors import UsageError
from mnemoduck.home import HOME_VARIABLE, Home
from mnemoduck.project import PROJECT_VARIABLE, find_project
from mnemoduck.schedule.times import WAIT_MINUTES


@dataclass(frozen=True)
class Scheduled:
    """What runs a rhythm of a home.

    Attributes:
        program: the interpreter and what it is told to run, or the script that was installed.
        project: the dbt project, if another one was asked for than the one that came along.
    """

    program: tuple[str, ...]
    home: Path
    project: Path | None = None

    def __post_init__(self) -> None:
        for path in (*self.program, str(self.home), str(self.project or "")):
            if any(ord(character) < 32 for character in path):
                raise UsageError(f"{path!r} cannot stand in a schedule: it holds a control character.")

    @property
    def environment(self) -> dict[str, str]:
        project = {PROJECT_VARIABLE: str(self.project)} if self.project else {}
        return {HOME_VARIABLE: str(self.home), **project}

    @property
    def log(self) -> Path:
        return Home(self.home).schedule_log

    def arguments(self, rhythm: str) -> tuple[str, ...]:
        minutes = WAIT_MINUTES[rhythm]
        waiting = ("--wait", str(minutes)) if minutes else ()
        return (*self.program, "run", "--rhythm", rhythm, *waiting, "--log")


def scheduled(home: Home, project: Path | None) -> Scheduled:
    """Return what runs this installation on a home.

    Raises:
        UsageError: the project is none, or a path cannot be written in a schedule.
    """
    asked = project or os.environ.get(PROJECT_VARIABLE)
    return Scheduled(_program(), home.path, find_project(asked) if asked else None)


def _program() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("mnemoduck")
    if script.is_file() and os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-c", "from mnemoduck.cli import main; main()")
