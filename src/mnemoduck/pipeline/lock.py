"""One pipeline at a time: an exclusive `flock` on the home's run.lock.

The kernel releases the lock when its last holder dies, so there are no stale locks; what the file
says is only for people. `mnemoduck run` hands the locked descriptor to the dbt process that it
starts, so that the lock lasts as long as either of them lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import tenacity

from mnemoduck.errors import LockedError
from mnemoduck.home import FILE_MODE, Home
from mnemoduck.inbox import lock_patiently

INHERITED_VARIABLE = "MNEMODUCK_RUN_LOCK_FD"
"""Set for a child process that inherits the locked descriptor of its parent."""


_MAX_HOLDER_BYTES = 64 * 1024
LOOK_AGAIN_SECONDS = 1.0
"""Who waits for the lock tries to take it so often."""


class RunLock:
    """Holds the run lock of a home from `acquire` until `release` or the end of the process.

    Args:
        wait_seconds: how long `acquire` waits for a run that is at work.
        command: what is said to who asks; None is the command line of the process.
    """

    def __init__(self, home: Home, wait_seconds: float = 0, command: str | None = None) -> None:
        self._command = command
        self._path = home.run_lock
        self._wait_seconds = wait_seconds
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        assert self._descriptor is not None, "the lock is not held"
        return self._descriptor

    def acquire(self) -> None:
        """Take the lock, or say who holds it.

        Raises:
            LockedError: another pipeline is running; names its process and its start.
        """
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(LockedError),
            stop=tenacity.stop_after_delay(self._wait_seconds),
            wait=tenacity.wait_fixed(LOOK_AGAIN_SECONDS),
            reraise=True,
        )(self._acquire)

    def _acquire(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        if not lock_patiently(descriptor):  # `find_holder` of another process takes it for an instant
            os.close(descriptor)
            raise LockedError(
                f"Another run is at work in {self._path.parent}: {describe_holder(self._path)}. "
                "Nothing was started; wait for it to finish, or stop that process."
            )
        holder = {
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": self._command or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
        }
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # a full disk: it is the lock that counts, not what it says of us
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def is_held_by_parent() -> bool:
    """Tell whether this process was started by one that holds the lock and handed it over."""
    return INHERITED_VARIABLE in os.environ


def describe_holder(lock_file: Path) -> str:
    """Return who wrote the lock file last, as a phrase."""
    try:
        holder = _read_holder(lock_file)
        return f"process {holder['pid']} (`{holder['command']}`) since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "a process that has not said who it is"


def _read_holder(lock_file: Path) -> Any:
    """Return what the file says; who holds the lock writes a line of some hundred bytes."""
    with lock_file.open("rb") as file:
        return json.loads(file.read(_MAX_HOLDER_BYTES))


def held_since(lock_file: Path) -> datetime | None:
    """Return when who wrote the lock file last took the lock; None if that is not said."""
    try:
        return datetime.fromisoformat(_read_holder(lock_file)["since"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def find_holder(home: Home) -> str | None:
    """Return who holds the lock at this moment, or None if nobody does."""
    try:
        descriptor = os.open(home.run_lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two who ask at once do not take each other for a run.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return describe_holder(home.run_lock)
    finally:
        os.close(descriptor)
