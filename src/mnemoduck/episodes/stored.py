"""Episodes as they were published last: what `mnemoduck episode list` and `show` read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import duckdb

from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.reader import check_limit
from mnemoduck.scope import SCOPE_CONDITION, Scope, check_unicode
from mnemoduck.warehouse import Snapshot, SnapshotReader, rows_of

OUTCOMES = ("success", "failure", "abandoned")
OPEN = "open"
"""Stands for the outcome of what has not ended, where one is asked for."""


@dataclass(frozen=True)
class StoredStep:
    """A step: a call of a tool, or a message. `place` is its number in the order of the episode, from 1.

    `step` is the number that it was logged with. `latency_ms` is in milliseconds.
    """

    place: int
    step: int
    step_type: str
    tool: str | None
    args: dict[str, Any]
    observation: str | None
    is_error: bool
    error: str | None
    requestor: str | None
    role: str | None
    text: str | None
    latency_ms: float | None
    occurred_at: datetime


@dataclass(frozen=True)
class StoredEpisode:
    """An episode; `outcome` and `completed_at` are None while it has not ended, `steps` if not asked for.

    `tools` are those of its calls, in their order.
    """

    episode_id: str
    user_id: str | None
    agent_id: str | None
    session_id: str | None
    domain: str
    task_id: str | None
    task: str | None
    context: dict[str, Any]
    outcome: str | None
    reward: float | None
    step_count: int
    tool_count: int
    error_count: int
    tools: list[str]
    started_at: datetime | None
    completed_at: datetime | None
    steps: list[StoredStep] | None = field(default=None)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_EPISODE_COLUMNS = ", ".join(name for name in StoredEpisode.__dataclass_fields__ if name != "steps")
_STEP_COLUMNS = ", ".join(StoredStep.__dataclass_fields__)


class EpisodeReader:
    """Answers questions about the episodes of one home, as they were published last."""

    def __init__(self, snapshots: SnapshotReader) -> None:
        self._snapshots = snapshots

    def find(
        self, scope: Scope, *, domain: str | None = None, outcome: str | None = None, limit: int = 10
    ) -> list[StoredEpisode]:
        """Return episodes without their steps as `Memory.episodes` describes.

        Raises:
            UsageError: the outcome or the limit is none.
            SnapshotError: the snapshot was built before episodes were known.
        """
        check_limit(limit)
        check_unicode("domain", domain or "")
        if outcome not in (None, OPEN, *OUTCOMES):
            raise UsageError(f"The outcome is {outcome!r}; it takes one of {', '.join((*OUTCOMES, OPEN))}.")
        rows = self._ask(
            f"""
            select {_EPISODE_COLUMNS} from main.episodes
            where
                {SCOPE_CONDITION}
                and ($domain is null or domain = $domain)
                and ($outcome is null or coalesce(outcome, '{OPEN}') = $outcome)
            order by coalesce(started_at, completed_at) desc, episode_id, user_id
            limit $limit
            """,
            {**scope.as_dict(), "domain": domain, "outcome": outcome, "limit": limit},
        )
        return [_to_episode(row) for row in rows]

    def get(self, episode_id: str, user_id: str | None = None) -> StoredEpisode | None:
        """Return an episode with its steps, None if there is none.

        Raises:
            UsageError: no user is given, and several have such an episode, but not nobody.
            SnapshotError: the snapshot was built before episodes were known.
        """
        check_unicode("episode_id", episode_id)
        rows = self._ask(
            f"""
            select {_EPISODE_COLUMNS}, episode_key from main.episodes
            where episode_id = $episode_id and ($user_id is null or user_id = $user_id)
            order by user_id
            """,
            {"episode_id": episode_id, **Scope(user_id).as_dict()},
        )
        row = the_one(rows, episode_id)
        if row is None:
            return None
        key = row.pop("episode_key")
        steps = self._ask(
            f"select {_STEP_COLUMNS} from main.episode_steps where episode_key = $key order by place",
            {"key": key},
        )
        return replace(_to_episode(row), steps=[_to_step(step) for step in steps])

    def _ask(self, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        snapshot: Snapshot = self._snapshots.get()
        if snapshot.path is None:
            return []
        used = {name: value for name, value in values.items() if f"${name}" in statement}
        cursor = snapshot.cursor()
        try:
            cursor.execute(statement, used)
        except duckdb.CatalogException as error:
            raise SnapshotError(
                f"The published snapshot {snapshot.path} knows no episodes. Build them with `mnemoduck run`."
            ) from error
        return rows_of(cursor)


def the_one(rows: Sequence[dict[str, Any]], episode_id: str) -> dict[str, Any] | None:
    """Return which of the episodes of an id is meant, one a user; None if there is none.

    Where no user is given and several have one it is that of nobody, which no user can be given for.

    Raises:
        UsageError: several users have such an episode, and each can be given.
    """
    meant = rows if len(rows) <= 1 else [row for row in rows if row["user_id"] is None]
    if rows and not meant:
        users = ", ".join(repr(row["user_id"]) for row in rows[:10]) + (", …" if len(rows) > 10 else "")
        raise UsageError(
            f"{len(rows):,} users have an episode {episode_id!r}: {users}. Say whose with user_id (--user)."
        )
    return meant[0] if meant else None


def _to_episode(row: dict[str, Any]) -> StoredEpisode:
    moments = {name: _aware(row[name]) for name in ("started_at", "completed_at")}
    return StoredEpisode(**{**row, **moments, "context": json.loads(row["context"])})


def _to_step(row: dict[str, Any]) -> StoredStep:
    return StoredStep(**{**row, "occurred_at": _aware(row["occurred_at"]), "args": json.loads(row["args"])})


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
