"""How a figure grows with the number of memories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.suite.parts import Found


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Return k of y = c * x^k, fitted to (x, y) by least squares of the logarithms; None below two points.

    Points without a positive y say nothing and are left out.
    """
    usable = [(x, y) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in usable}) < 2:
        return None
    logs = np.log(np.array(usable))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def memories_of(found_by_scale: Mapping[str, Found]) -> list[int]:
    """Return the number of memories of each scale."""
    return [int(found["memories"]) for found in found_by_scale.values()]


def format_exponent(points: Sequence[tuple[float, float]]) -> str:
    """Return the fitted exponent as a page shows it, empty where there is none."""
    found = exponent(points)
    return "" if found is None else f"{found:.2f}"
