"""A file that is being imported: opened for bytes, unpacked if it is gzip, its progress known."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mnemoduck.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP_MAGIC = b"\x1f\x8b"

MAX_EXPANSION = 200
"""Unpacked bytes for each packed byte. Text shrinks 3 to 30 times, a zip bomb 1,000 times."""

FREE_EXPANSION_BYTES = 64 * 1024 * 1024
"""Unpacked bytes that are never counted as a bomb."""

BUFFER_BYTES = 1024 * 1024


class UnusableSourceError(UsageError):
    """A file cannot be imported as a whole; `reason` is the short form for the quarantine."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class Source:
    """One file. `line` is the place of the last record read from it: a line, row or item, from 1.

    `folder` is given for a file that was found in a folder; `trouble` if it is known beforehand that
    it cannot be read.
    """

    path: Path
    folder: Path | None = None
    size: int = 0
    trouble: str | None = None
    line: int = 0
    _position: Callable[[], int] = field(default=lambda: 0, repr=False)

    @property
    def name(self) -> str:
        """The path inside the folder, or the name of the file."""
        name = os.fspath(self.path.relative_to(self.folder)) if self.folder else self.path.name
        return os.fsencode(name).decode("utf-8", errors="replace")

    @property
    def bytes_done(self) -> int:
        return min(self._position(), self.size)

    def advance_to(self, fraction: float) -> None:
        """Report progress for a reader that does not go through `open`."""
        done = int(fraction * self.size)
        self._position = lambda: done

    @contextmanager
    def open(self) -> Iterator[io.BufferedIOBase]:
        """Open for reading bytes; gzip, known by its first two bytes, is unpacked on the way.

        Raises:
            UnusableSourceError: the file cannot be opened; while it is read: the packed data is
                damaged, or grows beyond what a text could.
        """
        if self.trouble:
            raise self.unusable(f"cannot be read ({self.trouble})")
        try:
            file = io.BufferedReader(io.FileIO(self.path), BUFFER_BYTES)
        except OSError as error:
            raise self.unusable(f"cannot be read ({error.strerror})") from error
        with file:
            self._position = file.tell
            try:
                if file.peek(2)[:2] == GZIP_MAGIC:
                    yield io.BufferedReader(_Unpacked(self, file), BUFFER_BYTES)
                else:
                    yield file
            finally:
                self.advance_to(1)

    def unusable(self, reason: str, advice: str = "") -> UnusableSourceError:
        """Return the error for a file of which nothing, or nothing more, can be read."""
        message = f"{show_path(self.path)} cannot be imported: {reason}."
        return UnusableSourceError(f"{message} {advice}".rstrip(), reason)


def show_path(path: Path) -> str:
    """Return a path for use in a sentence; a name with control characters in it is quoted."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


class _Unpacked(io.RawIOBase):
    def __init__(self, source: Source, file: IO[bytes]) -> None:
        self._source = source
        self._file = file
        self._gzip = gzip.GzipFile(fileobj=file, mode="rb")
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            data = self._gzip.read1(len(memoryview(buffer)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._source.unusable(
                "the gzip data is damaged",
                f"Fetch the file again ({error}); what was read before the damage is kept.",
            ) from error
        memoryview(buffer)[: len(data)] = data
        self._unpacked += len(data)
        packed = self._file.tell()
        if self._unpacked > FREE_EXPANSION_BYTES + MAX_EXPANSION * packed:
            raise self._source.unusable(
                "the gzip data grows suspiciously",
                f"{packed:,} packed bytes gave {self._unpacked:,}, more than {MAX_EXPANSION} times as "
                "many. If you trust the file, unpack it with gunzip first.",
            )
        return len(data)
