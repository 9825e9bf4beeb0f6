"""What a benchmark asks: questions, where their answers are, and how it counts what was found."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mnemoduck.errors import UsageError
from mnemoduck.importers.documents import read_document
from mnemoduck.importers.source import Source, show_path


@dataclass(frozen=True)
class Question:
    """A question to the memories of one user, and where the answer is.

    `evidence` holds for each unit of the benchmark (turns, sessions) those that have the answer, by the names
    that the unit's function gives to a memory; `as_of` is the moment at which it is asked.
    """

    question_id: str
    user_id: str
    text: str
    kind: str
    as_of: datetime
    evidence: Mapping[str, frozenset[Hashable]]


@dataclass(frozen=True)
class Measure:
    """One figure of a benchmark: of what is found in the first `first` units, by `count`."""

    name: str
    unit: str
    first: int
    count: Callable[[frozenset[Hashable], Sequence[Hashable], int], float]


@dataclass(frozen=True)
class QuestionSet:
    """The questions of one file.

    Attributes:
        title: name of the benchmark.
        format: the importer that reads the same file.
        units: for each unit, what names the one that a memory is, by the metadata of the importer.
        limit: how many memories are recalled for a question at first; more, until there are enough units.
        skipped: how many questions are not asked, by reason.
        notes: sentences about the file that a reader of the figures should know.
    """

    title: str
    format: str
    units: Mapping[str, Callable[[Mapping[str, Any]], Hashable]]
    measures: tuple[Measure, ...]
    limit: int
    kinds: tuple[str, ...]
    questions: tuple[Question, ...]
    skipped: Mapping[str, int]
    notes: tuple[str, ...] = field(default=())

    def first(self, count: int | None) -> QuestionSet:
        """Return at most so many of the questions, taken evenly from the whole file."""
        asked = self.questions
        if count is None or count >= len(asked):
            return self
        return replace(self, questions=tuple(asked[i * len(asked) // count] for i in range(count)))


class NotOfTheFormatError(UsageError):
    """A file does not hold what the benchmark's official format says."""


def read_items(path: Path, title: str) -> list[dict[str, Any]]:
    """Return the items of a benchmark's file, a JSON list of objects, also packed with gzip.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        NotOfTheFormatError: it is no JSON list of objects.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {show_path(path)}. Check the path.")
    items = read_document(Source(path, size=path.stat().st_size))
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise refuse(path, title, "it is not a list of JSON objects")
    return items


def refuse(path: Path, title: str, reason: str) -> NotOfTheFormatError:
    """Return the error for a file that is not of the format."""
    return NotOfTheFormatError(
        f"{show_path(path)} is not {title} in its official format: {reason}. See docs/recall-quality.md."
    )
