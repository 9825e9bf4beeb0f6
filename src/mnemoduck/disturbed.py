"""Which long-term memories a snapshot holds as they were last night, and not as they are.

What arrives is consolidated at night, but what is ordered forgotten, or superseded by a later fact, counts
with the next run of any rhythm: such a memory is made anew when it is read, as the view `consolidated` does.
"""

from __future__ import annotations

from pathlib import Path
from weakref import WeakKeyDictionary

from mnemoduck.asking import months
from mnemoduck.project import render
from mnemoduck.warehouse import Snapshot

_COLUMNS = ("consolidated_id", "memory_ids", "changed_batch_seq")
_NONE = "select cast(null as uuid) as consolidated_id where false"
_known: WeakKeyDictionary[Snapshot, str] = WeakKeyDictionary()


def disturbed_ids(snapshot: Snapshot, project: Path) -> str:
    """Return a query for their consolidated ids, read once of each snapshot: as a rule there are none."""
    if snapshot not in _known:
        _known[snapshot] = _read(snapshot, project)
    return _known[snapshot]


def _read(snapshot: Snapshot, project: Path) -> str:
    consolidated = months(snapshot, "consolidated_memories", _COLUMNS)
    if consolidated is None:
        return _NONE
    query = render(
        project, "disturbed_consolidations", consolidated, "staging.int_forgotten_memories", "main.facts"
    )
    ids = [row[0] for row in snapshot.cursor().execute(query).fetchall()]
    if not ids:
        return _NONE
    literals = ", ".join(f"'{consolidated_id}'" for consolidated_id in sorted(ids))
    return f"select unnest(cast([{literals}] as uuid[])) as consolidated_id"
