"""What results of benchmarks that tests make say they were measured on."""

from __future__ import annotations

from typing import Any

RUN: dict[str, Any] = {
    "measured_at": "2026-11-21T00:00:00",
    "commit": "abc",
    "processors": 2,
    "architecture": "x",
    "memory_gb": 24,
    "python": "3.11",
    "packages": {"duckdb": "1.5.5", "dbt-core": "1.11"},
}
"""As benchmarks.machine.describe_run tells it."""
