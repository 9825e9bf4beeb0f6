"""What could not be read: kept with file, line and reason, never silently dropped.

Each source has one file in the home's quarantine folder, a JSON object a line with `source`,
`line` (from 1), `reason`, `quarantined_at` and the rejected bytes: as `text` where they are UTF-8,
else as `base64`. Reading the same source again replaces its file, so nothing is counted twice.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mnemoduck.home import FILE_MODE, Home, sync_folder

EXCERPT_BYTES = 64 * 1024
"""How much of a rejected line of the user's own file is repeated; the file itself stays theirs."""


TEMPORARY_SUFFIX = ".tmp"

HELD_BYTES = 4 * 1024 * 1024
"""How much is held in memory before it is written."""


@dataclass(frozen=True)
class Rejection:
    """One line or record that was not accepted. `line` counts from 1; 0 stands for the whole file."""

    line: int
    reason: str
    raw: bytes = b""


class QuarantineFile:
    """Collects the rejections of one source; the file appears when it is closed, and only if needed.

    `keep_whole` stores rejected lines in full, for sources that will be deleted afterwards (inbox
    segments); otherwise the first 64 KiB, with `raw_bytes` telling the true length.
    """

    def __init__(self, home: Home, source: str, *, keep_whole: bool) -> None:
        self._descriptor: int | None = None
        self.path = home.quarantine / f"{file_name_for(source)}.jsonl"
        self.count = 0
        self._source = source
        self._keep_whole = keep_whole
        self._temporary = self.path.with_suffix(f".{os.getpid()}{TEMPORARY_SUFFIX}")
        self._lines: list[bytes] = []
        self._held_bytes = 0

    def add(self, rejection: Rejection) -> None:
        raw = rejection.raw if self._keep_whole else rejection.raw[:EXCERPT_BYTES]
        record: dict[str, object] = {
            "source": self._source,
            "line": rejection.line,
            "reason": rejection.reason,
            "quarantined_at": datetime.now(UTC).isoformat(),
            "raw_bytes": len(rejection.raw),
        }
        try:
            record["text"] = raw.decode("utf-8")
        except UnicodeDecodeError:
            record["base64"] = base64.b64encode(raw).decode("ascii")
        self._lines.append(json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n")
        self._held_bytes += len(self._lines[-1])
        self.count += 1
        if self._held_bytes >= HELD_BYTES:
            self._spill()

    def close(self) -> None:
        """Put the file in its place, durably; without rejections, remove an earlier one."""
        if self.count == 0:
            self.path.unlink(missing_ok=True)
            return
        self._spill()
        os.replace(self._temporary, self.path)
        self._let_go()
        sync_folder(self.path.parent)

    def __del__(self) -> None:
        self._let_go()  # whoever collected the rejections failed; what is left is removed by the next load

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _spill(self) -> None:
        if self._descriptor is None:
            self._descriptor = _create_locked(self._temporary)
        with open(self._descriptor, "ab", closefd=False) as file:
            file.writelines(self._lines)
            file.flush()
            os.fsync(file.fileno())
        self._lines.clear()
        self._held_bytes = 0


def _create_locked(path: Path) -> int:
    """Return the descriptor of a new file; its lock says, as long as we live, that somebody writes it."""
    while True:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, FILE_MODE)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # `remove_unfinished` came between


def remove_unfinished(home: Home) -> None:
    """Remove what those who died have left half written; what a living process writes is locked."""
    for path in home.quarantine.glob(f"*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)


def quarantine(home: Home, source: str, rejections: Iterable[Rejection], *, keep_whole: bool) -> int:
    """Write the rejections of one source and return how many there were."""
    file = QuarantineFile(home, source, keep_whole=keep_whole)
    for rejection in rejections:
        file.add(rejection)
    file.close()
    return file.count


def count_quarantined(home: Home) -> int:
    """Return the number of lines in quarantine (reads every file there)."""
    total = 0
    for path in sorted(home.quarantine.glob("*.jsonl")):
        # Without any rejection left, reading the source again has removed its file meanwhile.
        with contextlib.suppress(FileNotFoundError):
            total += count_lines(path)
    return total


def count_lines(path: Path) -> int:
    """Return the number of lines of one file in quarantine."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def file_name_for(source: str) -> str:
    """Return a safe file name for a source: its readable part and a hash that keeps paths apart."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).name)[:80].strip(".-") or "source"
    return f"{readable}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:12]}"
