"""Standard output and error of a process whose reader may go before the command has said everything."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Descriptor(io.FileIO):
    """An open file descriptor; what nobody reads any more goes nowhere, and who writes goes on."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # processes that are begun from now on write there, too
            os.close(nowhere)
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """Let no write to standard output or error fail because its reader (head, a pager) has seen enough.

    So a command comes to its end, and its exit code tells of the command; it would else end where it was,
    with exit code 1. All is written, also where PYTHONUNBUFFERED takes the buffer away that writes the
    rest of what a pipe has taken in part. A character that the encoding has not is escaped.
    """
    sys.stdout = _outliving(sys.stdout, 1)
    sys.stderr = _outliving(sys.stderr, 2)


def _outliving(stream: TextIO | None, descriptor: int) -> TextIO:
    """Return such a stream, or the same one where it is none of the process: a test's, or a notebook's."""
    if stream is None:  # closed before the process began (`>&-`)
        return open(os.devnull, "w")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")
    try:
        if stream.fileno() != descriptor:
            return stream
    except io.UnsupportedOperation:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )
