"""What a home holds at this moment, for people and for scripts."""

from __future__ import annotations

import stat
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnemoduck.expectations.verdicts import last_verdicts
from mnemoduck.home import Home
from mnemoduck.pipeline.lock import find_holder
from mnemoduck.quarantine import count_quarantined
from mnemoduck.recall.statistics import read_statistics
from mnemoduck.redaction import read_redactions
from mnemoduck.waiting import WaitingEvents
from mnemoduck.warehouse import Snapshot, SnapshotReader

_COUNTS = """
    select
        (select count(*) from staging.int_forgotten_memories),
        (select count(*) from working_memory),
        (select max(ended_at) from meta.runs)
"""


@dataclass(frozen=True)
class Status:
    """Counts are of the published snapshot but `waiting_events`, which it does not contain yet.

    `recall_cache` has the hits, misses, evictions and hit_rate of each level, of all processes so far.
    `redactions` has how many secrets were found in what was written so far, by mode (redact, report) and
    kind.
    `expectations` has the newest verdict of each suite that was checked; `data_docs` is their page.
    """

    home: str
    snapshot: str | None
    published_at: datetime | None
    memories: int
    consolidated_memories: int
    forgotten_memories: int
    working_memory_slots: int
    waiting_events: int
    quarantined_lines: int
    running: str | None
    recall_cache: dict[str, dict[str, Any]]
    bytes: dict[str, int]
    expectations: dict[str, dict[str, Any]]
    data_docs: str | None
    redactions: dict[str, dict[str, int]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_status(home: Home) -> Status:
    """Return the state of the home; costs a look at each event that waits and each line in quarantine."""
    reader = SnapshotReader(home)
    try:
        snapshot = reader.get()
        waiting = WaitingEvents(home).look(snapshot.batch_seq)
        memories = consolidated_memories = forgotten_memories = working_memory_slots = 0
        published_at = None
        if snapshot.path is not None:
            memories = _count_rows(snapshot, "staging", "stg_memories")
            consolidated_memories = _count_rows(snapshot, "main", "consolidated_memories")
            row = snapshot.cursor().execute(_COUNTS).fetchone()
            assert row is not None
            forgotten_memories, working_memory_slots = row[0], row[1]
            published_at = row[2].replace(tzinfo=UTC) if row[2] else None
    finally:
        reader.close()
    return Status(
        home=str(home.path),
        snapshot=snapshot.path.name if snapshot.path else None,
        published_at=published_at,
        memories=memories,
        consolidated_memories=consolidated_memories,
        forgotten_memories=forgotten_memories,
        working_memory_slots=working_memory_slots,
        waiting_events=waiting.total,
        quarantined_lines=count_quarantined(home),
        running=find_holder(home),
        recall_cache=read_statistics(home),
        bytes={
            name: sum(_size_of(file) for file in path.rglob("*"))
            for name, path in (
                ("inbox", home.inbox),
                ("raw", home.raw),
                ("archive", home.archive),
                ("published", home.published),
            )
        }
        | {"warehouse": _size_of(home.warehouse)},
        expectations={
            suite: verdict.model_dump(mode="json") for suite, verdict in sorted(last_verdicts(home).items())
        },
        data_docs=str(index) if (index := home.data_docs / "index.html").exists() else None,
        redactions=read_redactions(home),
    )


def _count_rows(snapshot: Snapshot, schema: str, model: str) -> int:
    """Count by the catalog of the months, which is there also where the file of an archived one is not."""
    partitions = snapshot.partitions(model)
    if partitions is not None:
        return partitions.row_count
    row = snapshot.cursor().execute(f"select count(*) from {schema}.{model}").fetchone()
    return row[0] if row else 0


def _size_of(path: Path) -> int:
    """Return the size of a file, 0 of a folder or of what has been moved away since it was listed."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
