"""What waits to be built in: the events that no published snapshot has yet, counted without being read."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mnemoduck.home import Home
from mnemoduck.inbox import OPEN_SUFFIX, SEALED_SUFFIX

_STAMP = "%Y%m%dT%H%M%S%fZ"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Waiting:
    """Events that wait, a line each.

    Attributes:
        arrived: in the inbox, for a run to load them.
        loaded: in raw/, for a build that is published.
        oldest_at: when the first of them arrived, to the segment that it lies in; None if none waits.
    """

    arrived: int
    loaded: int
    oldest_at: datetime | None

    @property
    def total(self) -> int:
        return self.arrived + self.loaded


class WaitingEvents:
    """Counts the lines of segments; a look reads what was added since the last. For one thread at a time.

    When an event arrived is told by the name of its segment, which a writer opens for the event that it has:
    `recorded_at` of an import may be years ago.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._counted: dict[str, tuple[int, int]] = {}
        """By stem, which a segment keeps wherever it is moved: bytes that were read, lines in them."""

    def look(self, after_batch_seq: int) -> Waiting:
        """Return what waits, if the published snapshot has everything up to a batch."""
        arrived = _segments_in(self._home.inbox)
        loaded: dict[str, Path] = {}
        for folder in _folders_of_batches(self._home.loaded):
            segments = _segments_in(folder)
            for stem in segments:
                arrived.pop(stem, None)  # it was moved since the inbox was listed
            if int(folder.name) > after_batch_seq:
                loaded.update(segments)
        lines = {stem: self._count_lines(stem, path) for stem, path in {**arrived, **loaded}.items()}
        self._counted = {stem: seen for stem, seen in self._counted.items() if stem in lines}
        times = [
            arrived_at(path) for stem, path in {**arrived, **loaded}.items() if lines[stem] and path.exists()
        ]
        return Waiting(
            arrived=sum(lines[stem] for stem in arrived),
            loaded=sum(lines[stem] for stem in loaded),
            oldest_at=min(times, default=None),
        )

    def _count_lines(self, stem: str, path: Path) -> int:
        offset, lines = self._counted.get(stem, (0, 0))
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # else it is moved just now
            if os.fstat(file.fileno()).st_size < offset:  # a write that failed was taken back
                offset = lines = 0
            file.seek(offset)
            while data := file.read(_CHUNK_BYTES):
                offset += len(data)
                lines += data.count(b"\n")
        self._counted[stem] = (offset, lines)
        return lines


def arrived_at(segment: Path) -> datetime:
    """Return when a segment was begun: its name says so; of one that a person has put there, its file."""
    try:
        return datetime.strptime(segment.name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(segment.stat().st_mtime, UTC)


def _segments_in(folder: Path) -> dict[str, Path]:
    names = []
    with contextlib.suppress(FileNotFoundError):
        names = sorted(os.listdir(folder))
    # Sealed ones last: one that is sealed while its folder is listed may be seen under both names.
    return {
        name.removesuffix(suffix): folder / name
        for suffix in (OPEN_SUFFIX, SEALED_SUFFIX)
        for name in names
        if name.endswith(suffix) and not name.startswith(".")
    }


def _folders_of_batches(loaded: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(path for path in loaded.iterdir() if path.name.isdigit())
    return []
