"""What arrives: a history of two months, and a Sunday in slots of ten minutes, by when it was heard of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.stream import BASE, LATE, Shape, generate

DAY = datetime(2026, 3, 1, tzinfo=UTC)
"""A Sunday, on which the weekly maintenance comes as well."""

SLOT = timedelta(minutes=10)
SLOTS = 144
SHAPE = Shape(
    # The base ends a day before its last one.
    first_day=datetime(2026, 1, 1, tzinfo=UTC),
    last_day=DAY + timedelta(days=2),
)


@dataclass
class Arrivals:
    """Lines of JSON, each an event.

    Attributes:
        history: what was heard of before the day.
        slots: what is heard of in each ten minutes of the day.
        late: how many of those happened on days before.
    """

    history: list[str] = field(default_factory=list)
    slots: list[list[str]] = field(default_factory=lambda: [[] for _ in range(SLOTS)])
    late: int = 0


def arrivals(memories: int, folder: Path, seed: int) -> Arrivals:
    """Return what arrives of a generated stream of so many memories, but what would come after the day.

    What the stream has missed in two months is heard of in the course of the day, a session at a time.
    """
    found = Arrivals()
    stream = generate(memories, folder, seed, SHAPE)
    for event in _events(stream.segments[BASE]):
        recorded_at = datetime.fromisoformat(event["recorded_at"])
        if recorded_at < DAY:
            found.history.append(json.dumps(event))
        elif recorded_at < DAY + SLOTS * SLOT:
            found.slots[(recorded_at - DAY) // SLOT].append(json.dumps(event))
    missed: dict[str, list[dict[str, Any]]] = {}
    for event in _events(stream.segments[LATE]):
        missed.setdefault(event["session_id"], []).append(event)
    for number, events in enumerate(missed.values()):
        slot = number * SLOTS // len(missed)
        heard_at = (DAY + slot * SLOT).isoformat()
        found.slots[slot] += [json.dumps({**event, "recorded_at": heard_at}) for event in events]
        found.late += len(events)
    return found


def _events(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for line in path.read_text("utf-8").splitlines():
            yield json.loads(line)
