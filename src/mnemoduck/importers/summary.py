"""What an import tells: while it runs, and at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

MAX_KINDS = 100
OTHER_KINDS = "other reasons"


@dataclass(frozen=True)
class Progress:
    """How far the reading of a path has come: records so far, and bytes of the packed file."""

    path: Path
    records: int
    bytes_done: int
    bytes_total: int


@dataclass
class FileSummary:
    """What became of the records of one given path: a file, or a folder of notes.

    Every record is counted once: accepted, duplicated (an event with its id was there already) or
    quarantined. `reasons` says why, `problem` is a sentence about the file as a whole. `visible` are those
    of the accepted that recall knows at once: memories, and orders to forget.
    """

    path: Path
    format: str
    accepted: int = 0
    visible: int = 0
    duplicated: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    quarantine_files: list[Path] = field(default_factory=list)
    problem: str | None = None
    seconds: float = 0.0

    @property
    def records(self) -> int:
        return self.accepted + self.duplicated + self.quarantined

    def count_rejection(self, kind: str) -> None:
        self.quarantined += 1
        if kind not in self.reasons and len(self.reasons) >= MAX_KINDS:
            kind = OTHER_KINDS
        self.reasons[kind] += 1


@dataclass
class IngestSummary:
    """What became of all the files of one import, in the order in which they were given.

    `redactions` are the secrets found in what was accepted, by kind; `redaction` says what was done with
    them.
    """

    files: list[FileSummary] = field(default_factory=list)
    redaction: str = "off"
    redactions: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def accepted(self) -> int:
        return sum(file.accepted for file in self.files)

    @property
    def visible(self) -> int:
        return sum(file.visible for file in self.files)

    @property
    def duplicated(self) -> int:
        return sum(file.duplicated for file in self.files)

    @property
    def quarantined(self) -> int:
        return sum(file.quarantined for file in self.files)

    @property
    def reasons(self) -> Counter[str]:
        return sum((file.reasons for file in self.files), Counter())

    @property
    def problems(self) -> list[str]:
        """Sentences about files that could not be used, or not to their end."""
        return [file.problem for file in self.files if file.problem]
