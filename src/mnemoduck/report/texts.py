"""Texts, numbers and times as a page shows them.

What users wrote is data: it is cut, brought to one line and freed of what steers or hides text. That it
cannot become HTML is the affair of whoever puts it into the page (Jinja2's autoescape, ElementTree).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime

CUT = "…"
NONE = "-"
MAX_CHARACTERS = 160

_JOINERS = "\u200c\u200d"
"""Of the marks that are not seen these are part of words (Persian) and of emoji."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of controls, marks that reorder or hide text, surrogates, and what is not assigned."""

_MAX_MARKS = 4
"""How many combining marks in a row are kept: more of them paint over the lines above and below."""

_SECONDS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def shown(text: str | None, limit: int = MAX_CHARACTERS) -> str:
    """Return a text of somebody's on one line of at most `limit` characters, with nothing hidden in it."""
    line = " ".join((text or "")[: limit * 4].split())
    kept: list[str] = []
    marks = 0
    for character in line:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= _MAX_MARKS:
            kept.append(_spelled_out(character))
        if len(kept) > limit:
            break
    spelled = "".join(kept)
    if len(spelled) <= limit and len(text or "") <= limit * 4:
        return spelled
    return spelled[: limit - 1].rstrip(" " + _JOINERS) + CUT


def _spelled_out(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode()


def whose(parts: Iterable[str | None]) -> str:
    """Return who a memory belongs to, as `maya / otter`; "nobody" if nothing was said."""
    return " / ".join(shown(part, 32) for part in parts if part) or "nobody"


def count(value: float) -> str:
    """Return a whole number with separators, as 12,345."""
    return f"{value:,.0f}"


def counted(value: float, one: str, many: str | None = None) -> str:
    """Return a number with its noun, as `1 memory` or `2 memories`."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def share(value: float | None) -> str:
    return NONE if value is None else f"{value:.0%}"


def decimal(value: float | None, digits: int = 2) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def moment(value: datetime | None) -> str:
    """Return a time in UTC to the minute."""
    return NONE if value is None else f"{_utc(value):%Y-%m-%d %H:%M}"


def exact_moment(value: datetime) -> str:
    """Return a time in UTC as --as-of takes it."""
    return _utc(value).replace(tzinfo=None).isoformat() + "Z"


def duration(seconds: float) -> str:
    """Return a time span as people say it: `0.4 seconds`, `12 minutes`, `3 days`."""
    for name, size in _SECONDS:
        if seconds >= size * (1 if name == "minute" else 2):
            return counted(round(seconds / size), name)
    return f"{seconds:,.1f} seconds"


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value
