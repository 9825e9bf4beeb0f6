"""Appending a line to a file of records of the home: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from mnemoduck.home import FILE_MODE
from mnemoduck.inbox import write_all


def append_line(path: Path, line: bytes, *, durable: bool = False) -> None:
    """Append a line, given without its newline, to a private file, which is made if it is missing.

    What a crash tore off before stays a line of its own, which readers pass over.

    Args:
        durable: wait until it is on disk.

    Raises:
        OSError: the disk refuses it; what had been written of the line has been taken back.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
    try:
        start = os.fstat(descriptor).st_size
        is_torn = start > 0 and os.pread(descriptor, 1, start - 1) != b"\n"
        try:
            write_all(descriptor, (b"\n" if is_torn else b"") + line + b"\n")
            if durable:
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, start)
            raise
    finally:
        os.close(descriptor)
