"""Upgrades: a home of an earlier release becomes one of this release, in named steps, in order.

Three things have a version of their own. The layout of the home is brought up to date here, when the user
asks for it. The cache of answers has its own migrations (`mnemoduck.llm.cache_migrations`), applied whenever
it is opened. The warehouse is not migrated but built anew from raw/ (`mnemoduck.migrations.warehouse`).

The steps change the home under the run lock. While one is at work, and after it died, the marker names the
layout that it leads to, and that it is not there yet: no release opens the home. What a step changes is kept
before (`Journal`), so a step that failed or died is undone as a whole, and made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mnemoduck import __version__
from mnemoduck import home as homes
from mnemoduck.errors import HomeError, MnemoduckError, StorageError
from mnemoduck.home import Home, write_atomically
from mnemoduck.migrations.journal import Journal
from mnemoduck.pipeline.lock import RunLock

__all__ = ["MIGRATIONS", "Journal", "Migration", "upgrade_home"]


@dataclass(frozen=True)
class Migration:
    """One step: what makes a home of layout `version - 1` one of layout `version`.

    `apply` tells the journal of each file before it makes, changes or removes it. It must leave the inbox as
    writers of the release before know it: one may have it open.
    """

    version: int
    name: str
    apply: Callable[[Home, Journal], None]


MIGRATIONS: tuple[Migration, ...] = ()
"""All steps from layout 1 to `mnemoduck.home.LAYOUT_VERSION`, in order. Steps that were released stay."""


def upgrade_home(
    home: Home, *, wait_seconds: float = 0, on_step: Callable[[Migration], None] = lambda _: None
) -> list[Migration]:
    """Bring the layout of a home up to date; return the steps that were made, none if it is.

    Each step is recorded in the marker with its name, its moment and the release that made it.

    Args:
        wait_seconds: how long to wait for a run that is at work.
        on_step: called with each step before it begins.

    Raises:
        HomeError: the marker cannot be read, or is of a later release.
        LockedError: a run is at work.
        StorageError: a step failed; the home is as the step before it left it.
    """
    _read_marker(home)
    with RunLock(home, wait_seconds):
        marker, journal = _read_marker(home), Journal(home)
        if "upgrading" in marker:
            marker = _undo(home, marker, journal)
        journal.remove()  # of a step that was made, or had not begun
        made = []
        for step in _steps_from(marker["layout_version"]):
            on_step(step)
            marker = _make(home, marker, step, journal)
            made.append(step)
    return made


def _steps_from(version: int) -> list[Migration]:
    steps = [step for step in MIGRATIONS if step.version > version]
    wanted = list(range(version + 1, homes.LAYOUT_VERSION + 1))
    if [step.version for step in steps] != wanted:
        raise HomeError(
            f"The home has layout version {version}, from which this mnemoduck knows no way to version "
            f"{homes.LAYOUT_VERSION}. Upgrade with the releases between first."
        )
    return steps


def _make(home: Home, marker: dict[str, Any], step: Migration, journal: Journal) -> dict[str, Any]:
    begun = {**marker, "layout_version": step.version, "upgrading": {"from": marker["layout_version"]}}
    journal.begin()
    _write_marker(home, begun)
    try:
        step.apply(home, journal)
    except (MnemoduckError, OSError) as error:
        _undo(home, begun, journal)
        journal.remove()
        raise StorageError(
            f"The upgrade to layout {step.version} ({step.name}) failed: {str(error).rstrip('.')}. What it "
            "had changed is as it was. Mend that and run `mnemoduck upgrade` again."
        ) from error
    done = {
        "version": step.version,
        "name": step.name,
        "applied_at": datetime.now(UTC).isoformat(),
        "by": __version__,
    }
    made = {**marker, "layout_version": step.version, "migrations": [*marker.get("migrations", []), done]}
    _write_marker(home, made)
    journal.remove()
    return made


def _undo(home: Home, marker: dict[str, Any], journal: Journal) -> dict[str, Any]:
    """Undo the step that the marker says is at work."""
    try:
        before = {**marker, "layout_version": int(marker["upgrading"]["from"])}
    except (TypeError, KeyError, ValueError) as error:
        raise HomeError(
            f"{home.marker} says of an upgrade what none says ({error}). Restore the home from a backup."
        ) from error
    del before["upgrading"]
    journal.roll_back()
    _write_marker(home, before)
    return before


def _read_marker(home: Home) -> dict[str, Any]:
    homes.check_marker(home, is_upgrade=True)
    marker: dict[str, Any] = json.loads(home.marker.read_text("utf-8"))
    return marker


def _write_marker(home: Home, marker: dict[str, Any]) -> None:
    write_atomically(home.marker, json.dumps(marker) + "\n")
