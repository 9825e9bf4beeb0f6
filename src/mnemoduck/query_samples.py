"""How long questions take: of the calls that `Memory` answers, every n-th is written to the home.

It is off unless the setting recall.query_sample_rate, or the argument of `Memory`, says which share of calls
is written. What was asked is never written, only what kind of question it was. The model `query_performance`
sums up the samples by kind and hour.

Costs: nothing when it is off, since nothing stands before the methods; else a count for each call and, of a
call that is written, one line appended to the file of its day.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import wraps
from itertools import count
from pathlib import Path
from typing import ParamSpec, TypeVar

from mnemoduck.home import FILE_MODE, FOLDER_MODE, Home
from mnemoduck.inbox import write_all
from mnemoduck.warehouse import ConnectionStatistics

KEPT_DAYS = 14
"""So many days have a file; the older go when the first sample of a day is written."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def sample_files(home: Home) -> list[Path]:
    """Return the files of samples, the earliest day first."""
    return sorted(home.query_samples.glob("????-??-??.jsonl"))


class QuerySampler:
    """Measures the calls of one `Memory`. Safe between threads, and across fork.

    Args:
        rate: 0 < rate <= 1; of each kind the call is written with which the share of them passes the next
            whole number, so at 0.1 the tenth, the twentieth: no chance is involved, and not the first, which
            opens the snapshot.
        connections: what the connections do at the moment.
    """

    def __init__(self, home: Home, rate: float, connections: Callable[[], ConnectionStatistics]) -> None:
        self._home = home
        self._rate = rate
        self._connections = connections
        self._waits = 0
        self._of_thread = threading.local()

    def measuring(self, kind: str, ask: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return `ask`, measured. A call that another one makes is a part of that, and none of its own."""
        calls = count(1)

        @wraps(ask)
        def measured(*arguments: _P.args, **options: _P.kwargs) -> _R:
            if getattr(self._of_thread, "is_asking", False):
                return ask(*arguments, **options)
            self._of_thread.is_asking = True
            try:
                number = next(calls)
                if int(number * self._rate) == int((number - 1) * self._rate):
                    return ask(*arguments, **options)
                return self._measure(kind, lambda: ask(*arguments, **options))
            finally:
                self._of_thread.is_asking = False

        return measured

    def _measure(self, kind: str, ask: Callable[[], _R]) -> _R:
        started_at, begun = datetime.now(UTC), time.perf_counter()
        error_kind = None
        try:
            return ask()
        except Exception as error:
            error_kind = type(error).__name__
            raise
        finally:
            milliseconds = (time.perf_counter() - begun) * 1000
            with contextlib.suppress(OSError):  # nothing depends on it, and the answer is there
                self._write(kind, started_at, milliseconds, error_kind)

    def _write(self, kind: str, started_at: datetime, milliseconds: float, error_kind: str | None) -> None:
        connections = self._connections()
        waits, self._waits = connections.waits - self._waits, connections.waits
        sample = {
            "kind": kind,
            "started_at": started_at.isoformat(),
            "milliseconds": round(milliseconds, 3),
            "is_error": error_kind is not None,
            "error_kind": error_kind,
            "rate": self._rate,
            "at_once": connections.in_use + 1,
            "waits": max(waits, 0),
        }
        self._home.query_samples.mkdir(mode=FOLDER_MODE, exist_ok=True)
        path = self._home.query_samples / f"{started_at:%Y-%m-%d}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
        try:
            is_first = os.fstat(descriptor).st_size == 0
            write_all(descriptor, json.dumps(sample).encode() + b"\n")
        finally:
            os.close(descriptor)
        if is_first:
            self._forget_before(started_at.date() - timedelta(days=KEPT_DAYS - 1))

    def _forget_before(self, first_kept: date) -> None:
        for path in sample_files(self._home):
            if path.stem < first_kept.isoformat():
                path.unlink(missing_ok=True)
