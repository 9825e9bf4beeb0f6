"""What arrives: a history of two months, and a Sunday in slots of ten minutes, by when it was heard of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.stream import BASE, Shape, generate

DAY = datetime(2026, 3, 1, tzinfo=UTC)
"""A Sunday, on which the weekly maintenance comes as well."""

SLOT = timedelta(minutes=10)
SLOTS = 144
SHAPE = Shape(
    first_day=datetime(2026, 1, 1, tzinfo=UTC), last_day=DAY + timedelta(days=1), late_sessions=0.05
)


@dataclass
class Arrivals:
    """Lines of JSON, each an event.

    Attributes:
        history: what was heard of before the day.
        slots: what is heard of in each ten minutes of the day.
        late: how many of those happened more than an hour before.
    """

    history: list[str] = field(default_factory=list)
    slots: list[list[str]] = field(default_factory=lambda: [[] for _ in range(SLOTS)])
    late: int = 0


def arrivals(memories: int, folder: Path, seed: int) -> Arrivals:
    """Return what arrives of a generated stream of so many memories, but what would come after the day."""
    found = Arrivals()
    for path in generate(memories, folder, seed, SHAPE).segments[BASE]:
        for line in path.read_text("utf-8").splitlines():
            event: dict[str, Any] = json.loads(line)
            recorded_at = datetime.fromisoformat(event["recorded_at"])
            if recorded_at < DAY:
                found.history.append(line)
            elif recorded_at < DAY + SLOTS * SLOT:
                found.slots[(recorded_at - DAY) // SLOT].append(line)
                late_by = recorded_at - datetime.fromisoformat(event["occurred_at"])
                found.late += late_by > timedelta(hours=1)
    return found
