"""Looks at a home from outside, with DuckDB and the files alone: what is lost, doubled, untested."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks.witness import count_events, snapshot_of, untested_models


@dataclass(frozen=True)
class Sight:
    """What a look found.

    Attributes:
        snapshot: name of the published snapshot.
        untested: models in it whose rows were not tested.
        built_in: memories that it holds.
        marked: memories in it that the test forbids.
        lost: acknowledged events that are neither in raw/ nor in the inbox.
        doubled: events that are there more than once.
    """

    snapshot: str
    untested: tuple[str, ...]
    built_in: int
    marked: int
    lost: int
    doubled: int


def look(home: Path, acknowledged: Iterable[str], marker: str) -> Sight:
    """Return what the home holds at this moment, while no run is at work.

    Args:
        acknowledged: ids of all events that were told so far.
        marker: what a forbidden memory's text holds.
    """
    snapshot = snapshot_of(home)
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        untested = untested_models(connection)
        row = connection.execute(
            """
            select
                count(*),
                count(*) filter (
                    contains(content, $marker)
                    and memory_id not in (select memory_id from staging.int_forgotten_memories)
                )
            from staging.stg_memories
            """,
            {"marker": marker},
        ).fetchone()
        assert row is not None
    copies = count_events(home)
    told = list(acknowledged)
    return Sight(
        snapshot=snapshot.stem,
        untested=tuple(untested),
        built_in=row[0],
        marked=row[1],
        lost=sum(copies[event_id] == 0 for event_id in told),
        doubled=sum(copies[event_id] > 1 for event_id in told),
    )
