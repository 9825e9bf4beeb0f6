"""Timing of queries as ratios to `select 1` through the same client, taken in turns with it.

The floor and the query alternate, so that a slow moment of the machine hits both. What counts is the
ratio of their medians; absolute times are given only beside it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

WARM_UP_ROUNDS = 5


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one query; `ratio` is its median over that of `select 1` in the same rounds."""

    median_ms: float
    p95_ms: float
    select_1_ms: float
    ratio: float
    rounds: int

    def as_dict(self) -> dict[str, Any]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def time_call(connection: duckdb.DuckDBPyConnection, call: Callable[[], object], rounds: int) -> Timing:
    """Time a call in turns with `select 1` on a connection."""
    own, floor = [], []
    for round_number in range(-WARM_UP_ROUNDS, rounds):
        started = time.perf_counter()
        connection.execute("select 1").fetchall()
        between = time.perf_counter()
        call()
        ended = time.perf_counter()
        if round_number >= 0:
            floor.append((between - started) * 1e3)
            own.append((ended - between) * 1e3)
    return describe_times(own, floor)


def describe_times(own: Sequence[float], floor: Sequence[float]) -> Timing:
    """Return the timing of milliseconds that were taken in turns with those of `select 1`."""
    median, floor_median = statistics.median(own), statistics.median(floor)
    return Timing(
        median_ms=median,
        p95_ms=statistics.quantiles(own, n=20)[-1],
        select_1_ms=floor_median,
        ratio=median / floor_median,
        rounds=len(own),
    )


@dataclass(frozen=True)
class Witness:
    """What EXPLAIN ANALYZE says that a query read: kinds of scans, and rows that they looked at."""

    sequential_scans: int
    index_scans: int
    rows_scanned: int


def witness(connection: duckdb.DuckDBPyConnection, sql: str) -> Witness:
    """Run EXPLAIN ANALYZE on a query and count its table scans."""
    row = connection.execute(f"explain (analyze, format json) {sql}").fetchone()
    assert row is not None
    found = {"sequential": 0, "index": 0, "rows": 0}

    def visit(node: dict[str, Any]) -> None:
        kind = str(node.get("extra_info", {}).get("Type", "")).lower()
        if "index scan" in kind:
            found["index"] += 1
            found["rows"] += int(node.get("operator_rows_scanned", 0))
        elif "sequential scan" in kind or "parquet" in node.get("operator_name", "").lower():
            found["sequential"] += 1
            found["rows"] += int(node.get("operator_rows_scanned", 0))
        for child in node.get("children", []):
            visit(child)

    visit(json.loads(row[1]))
    return Witness(found["sequential"], found["index"], found["rows"])
