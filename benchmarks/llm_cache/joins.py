"""The join of prompts with their answers, by keys of different kinds."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import duckdb

KEYS = {
    "integer, dense": "cast(row_number() over () - 1 as bigint)",
    "integer, scattered": "cast(hash(key) >> 1 as bigint)",
    "blob of 16 bytes": "unhex(replace(cast(key as varchar), '-', ''))",
    "text of 64 hex digits": "sha256(cast(key as varchar))",
}
"""What a cache could have been keyed by, besides its UUID. The first is what the others are compared with."""
UUID_KEY = "UUID, as the cache has"
PAYLOADS = {
    "a number": "sum(answers.response_seq)",
    "the answer": "sum(answers.response_seq), sum(strlen(answers.answer))",
}
_COLUMNS = {name: f"key_{number}" for number, name in enumerate(KEYS)}


def make_twins(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Attach a file `twins`: a table for each other kind of key, and prompts with keys of all kinds.

    Prompts come in an order of their own. None has an index: a hash join reads none.
    """
    for file in (path, path.with_name(path.name + ".wal")):
        file.unlink(missing_ok=True)
    connection.execute(f"attach '{path}' as twins")
    derived = ", ".join(f"{sql} as {_COLUMNS[name]}" for name, sql in KEYS.items())
    connection.execute(f"create table twins.keys as select key, {derived} from llm_cache.responses")
    for column in _COLUMNS.values():
        connection.execute(
            f"create table twins.by_{column} as "
            f"select keys.{column} as key, answer, response_seq from llm_cache.responses "
            "positional join twins.keys"
        )
    connection.execute(
        "create table twins.prompts as select row_number() over () as memory_id, * "
        "from twins.keys order by hash(key)"
    )
    connection.execute("drop table twins.keys")
    connection.execute("checkpoint twins")


def time_joins(connection: duckdb.DuckDBPyConnection, rounds: int) -> list[dict[str, Any]]:
    """Time each join in turns; return their medians and the ratios to the first, for each payload."""
    sides = {name: (column, f"twins.by_{column}") for name, column in _COLUMNS.items()}
    sides[UUID_KEY] = ("key", "llm_cache.main.responses")
    row = connection.execute("select count(*) from twins.prompts").fetchone()
    assert row is not None
    found = []
    for payload, columns in PAYLOADS.items():
        times: dict[str, list[float]] = {name: [] for name in sides}
        for round_number in range(-1, rounds):
            for name, (column, answers) in sides.items():
                started = time.perf_counter()
                joined = connection.execute(
                    f"select count(*), sum(prompts.memory_id), {columns} from twins.prompts "
                    f"inner join {answers} as answers on prompts.{column} = answers.key"
                ).fetchone()
                if round_number >= 0:
                    times[name].append((time.perf_counter() - started) * 1e3)
                assert joined is not None
                assert joined[0] == row[0], (name, joined)
        floor = statistics.median(next(iter(times.values())))
        found += [
            {
                "payload": payload,
                "key": name,
                "median_ms": round(statistics.median(taken), 2),
                "ratio": round(statistics.median(taken) / floor, 4),
                "rounds": rounds,
            }
            for name, taken in times.items()
        ]
    return found
