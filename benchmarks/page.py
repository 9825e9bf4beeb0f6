"""What the pages of all benchmarks are made of: tables in Markdown, and plots that are the same each time."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "mnemoduck"  # the same result gives the same file
mpl.rcParams["svg.fonttype"] = "none"
import matplotlib.pyplot as plt  # noqa: E402  (after the backend was chosen)

__all__ = ["plt", "table"]


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
