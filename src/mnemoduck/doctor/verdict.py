"""What one check of a home found."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fcntl import LOCK_NB, LOCK_SH, flock
from typing import Literal

from mnemoduck.home import Home

Status = Literal["ok", "warn", "fail", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        status: ok; warn: it works, but somebody should know; fail: something is lost, or will be; skipped:
            it cannot be told now.
        says: what was found, as a sentence.
        mend: what to do about it, as a command to copy wherever there is one; None if there is nothing to do.
    """

    name: str
    status: Status
    says: str
    mend: str | None = None


@dataclass(frozen=True)
class Patient:
    """The home that is examined, from a moment on, in an environment."""

    home: Home
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def quoted(self) -> str:
        """The path of the home for a shell."""
        return shlex.quote(str(self.home.path))

    def command(self, words: str) -> str:
        """Return a command of ours on this home."""
        return f"mnemoduck {words} --home {self.quoted}"

    @contextmanager
    def between_runs(self) -> Iterator[bool]:
        """Keep runs from starting, for the moment that a look at their files takes; False if one is at work.

        Nothing is written: the lock is shared, and a run that begins waits for it for half a second.
        """
        try:
            descriptor = os.open(self.home.run_lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield True  # there was no run yet
            return
        try:
            try:
                flock(descriptor, LOCK_SH | LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


def describe_age(seconds: float) -> str:
    """Return a length of time in the unit that says most."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} seconds"
