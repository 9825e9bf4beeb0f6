"""Whether anything happened since one looked: 16 bytes in a file of the home, new with every piece of news.

A cached answer has to know at each use that nothing was remembered, forgotten or published since. To look
costs tens of microseconds; to read 16 bytes of a file that is kept open costs less than one. So whoever makes
something visible announces it, after it is visible and before it is acknowledged:

* a writer of the inbox, for events that change what readers see, while it holds its segment's lock; if the
  announcement fails, what it wrote is taken back and nothing was acknowledged;
* the publisher, after CURRENT names the new snapshot.

Each announcement overwrites all 16 bytes with random ones. A reader takes them first and looks afterwards:
what was announced before it took them is seen by that look, and what is announced later makes them differ.
Nobody counts, so no two writers can undo each other's step, and no value comes twice; what is torn from two
announcements at once differs from both. Reads and writes of one file by its descriptors are coherent between
processes by POSIX; a mapping would be faster by half a microsecond, and a process that reads one dies
(SIGBUS) when someone else cuts the file.

What does not announce itself (a file copied into the inbox by hand, another version of this package, a home
that was replaced while it was open) is found by looking from time to time; see `mnemoduck.recall.cache`.
"""

from __future__ import annotations

import contextlib
import os
import stat

from mnemoduck.errors import StorageError
from mnemoduck.home import FILE_MODE, Home

_LENGTH = 16


class News:
    """Reads and makes the announcements of one home. Safe between threads, processes and across fork."""

    def __init__(self, home: Home) -> None:
        self._path = home.news
        self._opened: _Descriptor | None = None

    def read(self) -> bytes:
        """Return what stands for all that was announced so far: it differs after every announcement.

        Raises:
            StorageError: the home is gone.
        """
        opened = self._opened or self._open()
        return os.pread(opened.number, _LENGTH, 0)

    def announce(self) -> None:
        """Tell every reader in every process that there is something to look for.

        Raises:
            OSError, StorageError: it could not be told; readers find it when they look of themselves.
        """
        while True:
            opened = self._opened or self._open()
            written = os.pwrite(opened.number, os.urandom(_LENGTH), 0)
            if written != _LENGTH:
                raise OSError(f"{self._path} takes only {written} of {_LENGTH} bytes")
            if os.fstat(opened.number).st_nlink:
                return
            self._open()  # the file was deleted, or with it the home: readers have another one

    def renew(self) -> None:
        """Open the file again if another one has its name by now."""
        opened = self._opened
        if opened is None:
            return
        with contextlib.suppress(FileNotFoundError):
            named = os.stat(self._path)
            mine = os.fstat(opened.number)
            if stat.S_ISREG(named.st_mode) and (named.st_ino, named.st_dev) == (mine.st_ino, mine.st_dev):
                return
        self._opened = None

    def _open(self) -> _Descriptor:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            opened = _Descriptor(os.open(self._path, flags, FILE_MODE))
        except FileNotFoundError as error:
            raise StorageError(f"The home {self._path.parent} was moved or deleted.") from error
        if os.fstat(opened.number).st_size < _LENGTH:
            os.pwrite(opened.number, os.urandom(_LENGTH), 0)
        self._opened = opened
        return opened


class _Descriptor:
    """A file descriptor that is closed when nobody holds it any more: another thread may be using it."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)
