"""Where the concepts of a graph are drawn: forces in the plane, the same each time.

Fruchterman & Reingold (1991), Graph drawing by force-directed placement: what is connected attracts, all
repel each other, and it cools down. It begins on a spiral instead of at random.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ROUNDS = 400
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
_PULL_TO_CENTRE = 0.9
_REACH = 2.5
"""Nodes farther apart than so many ideal distances do not repel each other: unconnected parts stay near."""


def place_nodes(
    count: int, edges: Sequence[tuple[int, int, float]], shape: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return a place for each node within `shape` (width, height), one decimal.

    Args:
        edges: places of two nodes in the list and how strongly they attract, 0 to 1.
    """
    if count == 0:
        return []
    width, height = shape
    places = np.arange(count) + 0.5
    radius, angle = np.sqrt(places / count), places * _GOLDEN_ANGLE
    ratio = np.array([1.0, height / width])
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) * ratio
    attraction = np.zeros((count, count))
    for source, target, strength in edges:
        attraction[source, target] = attraction[target, source] = 0.4 + 0.6 * strength
    ideal = 1.6 * np.sqrt(ratio[1] / count)
    for heat in np.linspace(0.25, 0.004, _ROUNDS):
        between = points[:, None, :] - points[None, :, :]
        distance = np.maximum(np.sqrt((between**2).sum(axis=2)), 0.01)
        repulsion = np.where(distance < _REACH * ideal, ideal**2 / distance, 0.0)
        force = repulsion - attraction * distance**2 / ideal
        np.fill_diagonal(force, 0.0)
        moved = (between / distance[:, :, None] * force[:, :, None]).sum(axis=1)
        moved -= _PULL_TO_CENTRE * ideal * points / ratio
        length = np.maximum(np.sqrt((moved**2).sum(axis=1, keepdims=True)), 1e-9)
        points += moved / length * np.minimum(length, heat)
    low, high = points.min(axis=0), points.max(axis=0)
    spread = np.where(high - low > 1e-9, high - low, 1.0)
    scaled = (points - low) / spread if count > 1 else np.full((1, 2), 0.5)
    return [(round(float(x) * width, 1), round(float(y) * height, 1)) for x, y in scaled]
