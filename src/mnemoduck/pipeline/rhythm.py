"""The rhythms of the pipeline: which models a run builds, as tags and selectors of dbt say.

Each rhythm builds what the ones before it do. What a slower one builds lags meanwhile, see docs/schedule.md.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from mnemoduck.home import Home
from mnemoduck.pipeline.publish import current_snapshot

CONTINUOUS = "continuous"
HOURLY = "hourly"
NIGHTLY = "nightly"
WEEKLY = "weekly"

RHYTHMS = (CONTINUOUS, HOURLY, NIGHTLY, WEEKLY)

_ORDER_TO_FORGET = re.compile(rb'"event_type": ?"forget"')


def choose_rhythm(home: Home, asked: str) -> tuple[str | None, str | None]:
    """Return the rhythm that a run has to have, None being all, and why if it is not the one asked for."""
    if current_snapshot(home) is None or not home.warehouse.exists():
        return None, "There is no complete build yet, so everything is built."
    if asked in (CONTINUOUS, HOURLY) and _waits_to_be_forgotten(home):
        return NIGHTLY, "An order to forget has arrived, so what is built at night is built now."
    return asked, None


def _waits_to_be_forgotten(home: Home) -> bool:
    """Tell whether an order to forget waits in the inbox. What is counted at night (concepts, associations,
    patterns) should not go on counting what is to be forgotten.

    Cost: one pass over the bytes that the run is about to load.
    """
    return any(_ORDER_TO_FORGET.search(data) for data in _waiting(home))


def _waiting(home: Home) -> Iterator[mmap.mmap]:
    for path in (*home.inbox.glob("*.jsonl"), *home.inbox.glob("*.open")):
        yield from _map(path)


def _map(path: Path) -> Iterator[mmap.mmap]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except (FileNotFoundError, ValueError):  # sealed under another name meanwhile; empty
        return
