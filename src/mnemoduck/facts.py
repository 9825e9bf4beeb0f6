"""Facts: what holds in the world from when to when, and since when it is known.

What is known now is the published table `facts`; what was known earlier is computed from the statements
by the table function `facts_as_of` of the same snapshot, whose rules are the macro `fact_intervals`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.project import render
from mnemoduck.scope import Scope, check_unicode
from mnemoduck.warehouse import SnapshotReader, rows_of


@dataclass(frozen=True)
class FactRecord:
    """A fact in one period of the world: from `valid_from` until `valid_to` (exclusive), None while open.

    `recorded_at` is since when it is known, `superseded_by` the fact that took over at `valid_to`, and
    `memory_ids` are the `support_count` memories that state it. Of a functional predicate a subject has one
    value at a time. A period that is empty was never valid: another fact corrected it.
    """

    fact_id: UUID
    user_id: str | None
    agent_id: str | None
    subject: str
    predicate: str
    object: str
    is_functional: bool
    method: str
    valid_from: datetime
    valid_to: datetime | None
    recorded_at: datetime
    last_said_at: datetime
    superseded_by: UUID | None
    support_count: int
    memory_ids: list[UUID]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_COLUMNS = ", ".join(FactRecord.__dataclass_fields__)
_TIMES = ("valid_from", "valid_to", "recorded_at", "last_said_at")


class FactReader:
    """Answers questions about the facts of one home, as they were published last."""

    def __init__(self, snapshots: SnapshotReader, project: Path) -> None:
        self._snapshots = snapshots
        self._project = project

    def read(
        self,
        scope: Scope,
        *,
        subject: str | None = None,
        predicate: str | None = None,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        history: bool = False,
    ) -> list[FactRecord]:
        """Return facts as `Memory.facts` describes.

        Raises:
            UsageError: a time is out of range in UTC, or a text is not Unicode.
            SnapshotError: the snapshot has no facts: it was built before they were known.
        """
        for name, text in (("subject", subject), ("predicate", predicate)):
            check_unicode(name, text or "")
        snapshot = self._snapshots.get()
        if snapshot.path is None:
            return []
        values = {
            "user_id": scope.user_id,
            "agent_id": scope.agent_id,
            "subject": subject,
            "predicate": predicate,
            "history": history,
            "as_of": _naive(as_of or datetime.now(UTC)),
        }
        source = "main.facts"
        if known_at is not None:
            source = "main.facts_as_of(null, $known_at, $user_id, $agent_id, $subject)"
            values["known_at"] = _naive(known_at)
        subject_key = render(self._project, "fact_key", "cast($subject as varchar)")
        predicate_key = render(self._project, "predicate_key", "cast($predicate as varchar)")
        cursor = snapshot.cursor()
        try:
            cursor.execute(
                f"""
                select {_COLUMNS} from {source}
                where
                    ($user_id is null or user_id = $user_id)
                    and ($agent_id is null or agent_id = $agent_id)
                    and ($subject is null or subject_key = {subject_key})
                    and ($predicate is null or predicate_key = {predicate_key})
                    and ($history or (valid_from <= $as_of and (valid_to is null or valid_to > $as_of)))
                order by user_id, agent_id, subject_key, predicate_key, valid_from, recorded_at, fact_id
                """,
                values,
            )
        except duckdb.CatalogException as error:
            raise SnapshotError(
                f"The published snapshot {snapshot.path} has no facts yet. Build them with `mnemoduck run`."
            ) from error
        return [_to_fact(row) for row in rows_of(cursor)]


def _to_fact(row: dict[str, Any]) -> FactRecord:
    for name in _TIMES:
        if row[name] is not None:
            row[name] = row[name].replace(tzinfo=UTC)
    return FactRecord(**row)


def _naive(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise UsageError(f"The time {moment} is out of range in UTC.") from error
