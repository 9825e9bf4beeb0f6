"""Patterns, as they are published: what agents do again and again, and how well it goes with success."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
from cachetools import TTLCache

from mnemoduck.episodes.records import Call, Pattern
from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.project import render
from mnemoduck.reader import check_limit
from mnemoduck.scope import Scope, check_unicode
from mnemoduck.warehouse import Snapshot, rows_of

KINDS = ("tool_sequence", "decision", "error_recovery", "context")

KEPT_LISTS = 256
KEPT_SECONDS = 60.0
"""What a snapshot says of patterns changes with time only as confidence fades, within days."""

_COLUMNS = ", ".join(field.name for field in fields(Pattern))
_TIMES = ("first_seen_at", "last_seen_at")


class PatternReader:
    """Reads the patterns of one home. Safe between threads."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._mutex = threading.Lock()
        self._kept: TTLCache[tuple[Hashable, ...], list[Pattern]] = TTLCache(KEPT_LISTS, KEPT_SECONDS)

    def read(
        self,
        snapshot: Snapshot,
        scope: Scope,
        *,
        domain: str | None = None,
        kind: str | None = None,
        is_actionable: bool | None = None,
        limit: int = 100,
    ) -> list[Pattern]:
        """Return patterns as `Memory.patterns` describes; the same answer is kept for a minute.

        Raises:
            UsageError: the kind is unknown, the limit is not between 0 and 10,000, or a text is not Unicode.
            SnapshotError: the snapshot was built before there were patterns.
        """
        check_limit(limit)
        if kind is not None and kind not in KINDS:
            raise UsageError(f"The kind of pattern is {kind!r}; there are {', '.join(KINDS)}.")
        if is_actionable not in (None, True, False):
            raise UsageError(f"actionable is {is_actionable!r}; it is True, False, or None for all.")
        if domain is not None:
            check_unicode("The domain", domain)
        if snapshot.path is None:
            return []
        asked = {"user_id": scope.user_id, "domain": domain, "kind": kind, "is_actionable": is_actionable}
        said = {name: value for name, value in asked.items() if value is not None}
        condition = " and ".join(f"{name} = ${name}" for name in said) or "true"
        try:
            return self._keep(
                (snapshot.path, *asked.values(), limit),
                lambda: _select(snapshot, condition, {**said, "limit": limit}),
            )
        except duckdb.CatalogException as error:
            raise SnapshotError(
                f"The published snapshot {snapshot.path} has no patterns. Build them with `mnemoduck run`."
            ) from error

    def has(self, snapshot: Snapshot, pattern_id: UUID, user_id: str | None) -> bool:
        """Return whether a snapshot has a pattern of exactly this user; one without patterns has none."""
        if snapshot.path is None:
            return False
        try:
            row = (
                snapshot.cursor()
                .execute(
                    "select true from main.patterns "
                    "where pattern_id = cast($id as uuid) and user_id is not distinct from $user_id limit 1",
                    {"id": str(pattern_id), "user_id": user_id},
                )
                .fetchone()
            )
        except duckdb.CatalogException:
            return False
        return row is not None

    def actionable(
        self, snapshot: Snapshot, user_id: str | None, domain: str | None, as_of: datetime | None = None
    ) -> list[Pattern]:
        """Return the actionable patterns of exactly this user and domain, those of now kept for a minute.

        A snapshot without patterns has none.
        """
        if snapshot.path is None:
            return []

        def select() -> list[Pattern]:
            try:
                return _select(
                    snapshot,
                    """
                        user_id is not distinct from $user_id
                        and ($domain is null or domain = $domain)
                        and is_actionable
                    """,
                    {"user_id": user_id, "domain": domain, "limit": 10_000},
                    as_of,
                )
            except duckdb.CatalogException:
                return []

        return select() if as_of is not None else self._keep((snapshot.path, user_id, domain), select)

    def _keep(self, key: tuple[Hashable, ...], select: Callable[[], list[Pattern]]) -> list[Pattern]:
        """Return what was selected under the key within the last minute, else what is selected now."""
        with self._mutex:
            known = self._kept.get(key)
        if known is None:
            known = select()
            with self._mutex:
                self._kept[key] = known
        return list(known)

    def error_key(self, snapshot: Snapshot, call: Call) -> str | None:
        """Return what the error of a call says, by the macro that patterns of errors are made with."""
        if not call.is_error:
            return None
        key = render(
            self._project, "error_key", "true", "cast($error as varchar)", "cast($observation as varchar)"
        )
        row = (
            snapshot.cursor()
            .execute(f"select {key}", {"error": call.error, "observation": call.observation})
            .fetchone()
        )
        return None if row is None else str(row[0])


def _select(
    snapshot: Snapshot, condition: str, values: dict[str, Any], as_of: datetime | None = None
) -> list[Pattern]:
    source = "main.patterns"
    if as_of is not None:
        source = "main.patterns_as_of($as_of)"
        values["as_of"] = as_of.astimezone(UTC).replace(tzinfo=None)
    cursor = snapshot.cursor()
    cursor.execute(
        f"""
        select {_COLUMNS} from {source}
        where {condition}
        order by is_actionable desc, confidence_low desc, support desc, pattern_id
        limit $limit
        """,
        values,
    )
    return [_to_pattern(row) for row in rows_of(cursor)]


def _to_pattern(row: dict[str, Any]) -> Pattern:
    for name in _TIMES:
        row[name] = row[name].replace(tzinfo=UTC)
    return Pattern(**row)
