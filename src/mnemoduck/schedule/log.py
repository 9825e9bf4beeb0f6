"""logs/schedule.log: what runs said that a schedule started, each line with its time, bounded."""

from __future__ import annotations

import logging
import os
import time
from datetime import datetime, timedelta
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler

from mnemoduck.home import FILE_MODE, Home
from mnemoduck.pipeline.history import PUBLISHED, UNCHANGED, read_runs
from mnemoduck.pipeline.rhythm import CONTINUOUS, HOURLY, NIGHTLY, RHYTHMS, WEEKLY

MAX_BYTES = 1_000_000
KEPT_FILES = 5
"""A run writes some 300 bytes: six times a megabyte is a third of a year at one every ten minutes."""

EXPECTED = {
    CONTINUOUS: timedelta(hours=1),
    HOURLY: timedelta(hours=2),
    NIGHTLY: timedelta(days=1, hours=12),
    WEEKLY: timedelta(days=8),
}
"""After so long without a run that does what a rhythm does, some were missed."""

LOOK_BACK = timedelta(days=62)


class ScheduleLog:
    """Writes what a run says to the log of a home. Close it at the end."""

    def __init__(self, home: Home, rhythm: str | None) -> None:
        self._handler = _PrivateHandler(
            home.schedule_log, maxBytes=MAX_BYTES, backupCount=KEPT_FILES, encoding="utf-8", delay=True
        )
        formatter = logging.Formatter(f"%(asctime)s {rhythm or 'run'}: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        self._handler.setFormatter(formatter)

    def say(self, text: str) -> None:
        for line in text.splitlines():
            self._handler.handle(logging.LogRecord("mnemoduck", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        self._handler.close()


class _PrivateHandler(RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, FILE_MODE)

        return open(self.baseFilename, "a", encoding=self.encoding, opener=private)


def find_missed(home: Home, rhythm: str, now: datetime) -> timedelta | None:
    """Return how long ago the last run ended that did what a rhythm does, if some were missed since.

    A machine that was off, or a run that took very long: what was missed is not made up for, it is said.
    """
    as_much = {None, *RHYTHMS[RHYTHMS.index(rhythm) :]}
    ends = [
        run.ended_at
        for run in read_runs(home, now - LOOK_BACK)
        if run.rhythm in as_much and run.outcome in (PUBLISHED, UNCHANGED)
    ]
    gap = now - max(ends) if ends else None
    return gap if gap is not None and gap > EXPECTED[rhythm] else None
