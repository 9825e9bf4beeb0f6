"""What was tuned: a line in `tune.jsonl` of the home for each change of `mnemoduck tune --apply`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mnemoduck.appending import append_line
from mnemoduck.errors import StorageError
from mnemoduck.home import Home
from mnemoduck.recall.statistics import Counts


class Change(BaseModel):
    """One setting that was changed.

    Attributes:
        key: of the setting.
        before: what the file said; None if it said nothing.
        after: what it says since; None if it says nothing since.
        rule: which rule proposed it, or `take back`.
        saw: the evidence, in a sentence.
        counts: of recall's caches at that moment: what is counted since is of the new setting.
    """

    model_config = ConfigDict(frozen=True)

    applied_at: AwareDatetime
    key: str
    before: Any
    after: Any
    rule: str
    saw: str
    counts: Counts = {}


TAKE_BACK = "take back"


def journal_file(home: Home) -> Path:
    return home.path / "tune.jsonl"


def read_journal(home: Home) -> list[Change]:
    """Return the changes in their order; a line that a crash has torn is passed over."""
    try:
        lines = journal_file(home).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Change.model_validate_json(line))
        except ValidationError:
            continue
    return found


def last_changes(journal: list[Change]) -> Mapping[str, Change]:
    """Return the last change of each key."""
    return {change.key: change for change in journal}


def changed_at(journal: list[Change], key: str) -> datetime | None:
    change = last_changes(journal).get(key)
    return None if change is None else change.applied_at


def write_change(home: Home, change: Change) -> None:
    """Append a change.

    Raises:
        StorageError: the disk refuses it.
    """
    path = journal_file(home)
    try:
        append_line(path, change.model_dump_json().encode(), durable=True)
    except OSError as error:
        raise StorageError(f"The change could not be written to {path}: {error}.") from error
