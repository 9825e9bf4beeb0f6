"""The crontab that `mnemoduck schedule` writes, read as cron(8) reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

_HIGHEST = (59, 23, 31, 12, 7)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\s*=\s*(.*)")


@dataclass(frozen=True)
class Line:
    """A command and the five fields of when it starts: sets of minutes, hours, days, months, weekdays."""

    fields: tuple[frozenset[int], ...]
    command: str
    environment: tuple[tuple[str, str], ...]

    def is_due(self, moment: datetime) -> bool:
        minute, hour, day, month, weekday = self.fields
        return (
            moment.minute in minute
            and moment.hour in hour
            and moment.day in day
            and moment.month in month
            and bool({moment.isoweekday(), moment.isoweekday() % 7} & weekday)
        )


def parse(text: str) -> list[Line]:
    """Return the lines of a crontab that start something, each with the variables set above it."""
    lines, environment = [], []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if assignment := _ASSIGNMENT.fullmatch(stripped):
            environment.append((assignment[1], assignment[2].strip("\"'")))
            continue
        *fields, command = stripped.split(None, 5)
        sets = tuple(_values(text, highest) for text, highest in zip(fields, _HIGHEST, strict=True))
        lines.append(Line(sets, command.replace("\\%", "%"), tuple(environment)))
    return lines


def _values(text: str, highest: int) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low = 0 if span == "*" else int(first)
        high = highest if span == "*" or (step and not last) else int(last or first)
        values.update(range(low, high + 1, int(step or 1)))
    return frozenset(values)
