"""The user's crontab: a marked block for each home, and nothing else of it is touched.

A line of a crontab goes to /bin/sh after cron has taken `%` for the end of the line, unless a backslash is
before it (crontab(5)): so the shell's quotes come first, then the backslashes.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from mnemoduck.errors import PipelineError, UsageError
from mnemoduck.schedule.command import Scheduled
from mnemoduck.schedule.times import RHYTHMS, Times

_NO_CRONTAB = b"no crontab for"
"""What every cron says of a user who has none yet, with exit code 1."""


def block(what: Scheduled, times: Times) -> str:
    """Return the block of a home, its two marks included."""
    first, last = _marks(what.home)
    lines = [f"{times.cron(rhythm)} {_command(what, rhythm)}" for rhythm in RHYTHMS]
    return "\n".join([first, *lines, last]) + "\n"


def with_block(crontab: bytes, home: Path, text: str) -> bytes:
    """Return a crontab with the block of a home replaced in its place, or added at the end.

    Raises:
        UsageError: the block that is there has lost its end.
    """
    place = _find(crontab, home)
    if place is None:
        separator = b"" if not crontab or crontab.endswith(b"\n") else b"\n"
        return crontab + separator + text.encode()
    return crontab[: place.start] + text.encode() + crontab[place.stop :]


def without_block(crontab: bytes, home: Path) -> bytes:
    """Return a crontab without the block of a home, else byte for byte the same.

    Raises:
        UsageError: the block that is there has lost its end.
    """
    place = _find(crontab, home)
    return crontab if place is None else crontab[: place.start] + crontab[place.stop :]


def find_block(crontab: bytes, home: Path) -> str | None:
    """Return the block of a home as it stands in a crontab, None if there is none."""
    place = _find(crontab, home)
    return None if place is None else crontab[place.start : place.stop].decode(errors="backslashreplace")


def read_crontab() -> bytes:
    """Return the user's crontab; empty if there is none.

    Raises:
        UsageError: there is no cron on this machine.
        PipelineError: cron refuses, in its own words.
    """
    done = _crontab("-l")
    if done.returncode == 0:
        return done.stdout
    if _NO_CRONTAB in done.stderr:
        return b""
    raise PipelineError(f"`crontab -l` failed: {done.stderr.decode(errors='replace').strip()}")


def write_crontab(crontab: bytes) -> None:
    """Replace the user's crontab.

    Raises:
        UsageError: there is no cron on this machine.
        PipelineError: cron refuses, in its own words; then the crontab is as it was.
    """
    done = _crontab("-", given=crontab)
    if done.returncode != 0:
        raise PipelineError(f"`crontab -` failed: {done.stderr.decode(errors='replace').strip()}")


def _crontab(argument: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("crontab")
    if program is None:
        raise UsageError(
            "There is no `crontab` on this machine. Install cron (Debian: `apt-get install cron`), use "
            "`--systemd` instead, or have another scheduler start what `schedule install --dry-run` prints."
        )
    return subprocess.run([program, argument], input=given, capture_output=True, check=False)


def _command(what: Scheduled, rhythm: str) -> str:
    variables = [f"{name}={shlex.quote(value)}" for name, value in what.environment.items()]
    said = [">>", shlex.quote(str(what.log)), "2>&1"]
    return " ".join([*variables, shlex.join(what.arguments(rhythm)), *said]).replace("%", r"\%")


def _marks(home: Path) -> tuple[str, str]:
    return (
        f"# >>> mnemoduck {home} >>> by `mnemoduck schedule install`, which replaces what is up to the end",
        f"# <<< mnemoduck {home} <<<",
    )


def _find(crontab: bytes, home: Path) -> slice | None:
    first, last = (mark.encode() for mark in _marks(home))
    lines = crontab.splitlines(keepends=True)
    stripped = [line.rstrip(b"\r\n") for line in lines]
    if first not in stripped:
        return None
    begin = stripped.index(first)
    if last not in stripped[begin:]:
        raise UsageError(
            f"The block of {home} in your crontab has lost its last line ({last.decode()!r}). Mend it with "
            "`crontab -e`: nothing was changed."
        )
    end = stripped.index(last, begin) + 1
    return slice(sum(map(len, lines[:begin])), sum(map(len, lines[:end])))
