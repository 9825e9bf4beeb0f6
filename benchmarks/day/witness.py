"""Looks at a home from outside, with DuckDB and the files alone: what is lost, doubled, untested."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb


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
    snapshot = home / "published" / (home / "published" / "CURRENT").read_text().strip()
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        untested = connection.execute(
            "select model from meta.model_audits where not is_audited order by model"
        ).fetchall()
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
    copies = Counter(_raw_ids(home))
    copies.update(_inbox_ids(home))
    told = list(acknowledged)
    return Sight(
        snapshot=snapshot.stem,
        untested=tuple(model for (model,) in untested),
        built_in=row[0],
        marked=row[1],
        lost=sum(copies[event_id] == 0 for event_id in told),
        doubled=sum(copies[event_id] > 1 for event_id in told),
    )


def _raw_ids(home: Path) -> list[str]:
    """Read the files that the manifest names; another one does not exist."""
    manifest = home / "raw" / "batches.jsonl"
    batches = [json.loads(line) for line in manifest.read_text().splitlines()] if manifest.exists() else []
    files = [str(home / "raw" / file["path"]) for batch in batches for file in batch["files"]]
    if not files:
        return []
    rows = duckdb.connect().execute("select event_id from read_parquet($files)", {"files": files}).fetchall()
    return [event_id for (event_id,) in rows]


def _inbox_ids(home: Path) -> list[str]:
    """Read what waits; segments in inbox/loaded are in raw/ already."""
    segments = [*(home / "inbox").glob("*.jsonl"), *(home / "inbox").glob("*.open")]
    return [json.loads(line)["event_id"] for path in segments for line in path.read_text().splitlines()]
