"""Unicode's normal forms in time in proportion to the text.

To sort a run of combining marks takes the square of its length, in Python as in DuckDB. Joiners part long
runs, as the Stream-Safe Text Format of Unicode's annex 15 says; the macro `composed_text` is the same in SQL.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Literal

LONGEST_RUN = 30
_JOINER = "\u034f"
_SHORT = 1024
"""In so few characters no run is long enough to matter."""


def compose(text: str, form: Literal["NFC", "NFD"] = "NFC") -> str:
    """Return a text in a normal form; if it is long, with a joiner after each 30 combining marks in a row."""
    if text.isascii():
        return text
    return unicodedata.normalize(form, text if len(text) <= _SHORT else "".join(_parted(text)))


def _parted(text: str) -> Iterator[str]:
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        yield character
        if run == LONGEST_RUN:
            yield _JOINER
            run = 0
