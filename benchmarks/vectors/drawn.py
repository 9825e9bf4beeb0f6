"""Vectors that nobody had to make: at random, or in topics as those of texts come."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]

DIMENSION = 384


def unit_vectors(rows: int, dimension: int, random: np.random.Generator) -> Vectors:
    """Return so many random vectors of length 1."""
    numbers = random.standard_normal((rows, dimension), dtype=np.float32)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True).astype(np.float32)
    unit: Vectors = numbers / lengths
    return unit


def topics(rows: int, questions: int) -> tuple[Vectors, Vectors]:
    """Return vectors that come in topics as texts do, 50 to a topic, and questions near some of them."""
    random = np.random.default_rng(6)
    centres = random.standard_normal((max(1, rows // 50), DIMENSION), dtype=np.float32)
    vectors = centres[random.integers(0, len(centres), rows)]
    vectors = vectors + 1.2 * random.standard_normal((rows, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = vectors[:questions] + 0.04 * random.standard_normal((questions, DIMENSION), dtype=np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return vectors.astype(np.float32), asked.astype(np.float32)
