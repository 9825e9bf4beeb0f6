"""Homes to recall from: the generated stream in one scope or in a thousand, built and published.

A home here has what recall reads, and no more: the models of SELECTED are built by the real dbt, and the
snapshot is made by the project's own function. A run of all models would not publish anything else that
recall looks at, and takes four times as long.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.layers.measure import read_model_times
from benchmarks.stream import BASE, LIFELIKE, NEWEST, Shape, generate
from mnemoduck.home import HOME_VARIABLE, Home, open_home
from mnemoduck.inbox import OPEN_SUFFIX, SEALED_SUFFIX
from mnemoduck.pipeline.load import load_inbox, newest_batch
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.publish import publish

PROJECT = Path(__file__).resolve().parents[2]

ONE, MANY = "one scope", "1,000 scopes"
LAYOUTS = {ONE: 1, MANY: 1_000}
"""How many users the memories are divided between, in equal shares."""

RUN_OF_A_USER = 10
"""So many memories one after the other are one user's, then the next user's. A session of the stream is
cut by that: with 10,000 memories in 1,000 scopes each user has one such run."""

SELECTED = ("+path:models/retrieval", "+short_term_memories")
INDEX_MODELS = ("search_documents", "search_postings")
_OF_NEW_MEMORIES = ("raw_batches", "stg_events", "stg_memories", *INDEX_MODELS)

ADDED = 100
ADD_ROUNDS = 3

_USER = re.compile(rb'"user_id":"[^"]*"')
_IS_MEMORY = b'"event_type":"memory"'


@dataclass
class Corpus:
    """The stream of one size on disk: the base in segments, and so many memories that come later."""

    memories: int
    base: list[Path]
    newest: list[bytes]


def make_corpus(memories: int, folder: Path, seed: int) -> Corpus:
    """Generate the stream; at least ADDED * ADD_ROUNDS memories follow the base."""
    newest = max(LIFELIKE.newest, ADDED * ADD_ROUNDS / memories)
    stream = generate(memories, folder, seed, Shape(newest=newest))
    later = [
        line
        for path in stream.segments[NEWEST]
        for line in path.read_bytes().splitlines()
        if _IS_MEMORY in line
    ]
    return Corpus(memories, stream.segments[BASE], later[: ADDED * ADD_ROUNDS])


def user_name(number: int, users: int) -> str:
    """Return the user of the memory of a number."""
    return f"user-{number // RUN_OF_A_USER % users}"


def _lines(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            yield from file


def _divided(lines: Iterator[bytes], users: int, first: int) -> Iterator[bytes]:
    """Yield lines of events with the users of a layout. What is no memory belongs to the one before it."""
    number = first - 1
    for line in lines:
        if _IS_MEMORY in line:
            number += 1
        user = f'"user_id":"{user_name(max(number, 0), users)}"'.encode()
        yield _USER.sub(user, line, count=1)


def build_home(corpus: Corpus, layout: str, folder: Path) -> tuple[Home, dict[str, Any]]:
    """Return a published home of the corpus, and what making it took.

    Raises:
        RuntimeError: dbt failed, or what it built are not the memories of the corpus.
    """
    shutil.rmtree(folder, ignore_errors=True)
    home = open_home(folder)
    lines = _divided(_lines(corpus.base), LAYOUTS[layout], 0)
    found: dict[str, Any] = {"load_seconds": load_lines(home, "base", lines)}
    started = time.perf_counter()
    times = run_dbt(home, SELECTED)
    found["dbt_seconds"] = round(time.perf_counter() - started, 3)
    found["index_seconds"] = round(sum(times[name] for name in INDEX_MODELS), 3)
    started = time.perf_counter()
    publish_warehouse(home)
    found["publish_seconds"] = round(time.perf_counter() - started, 3)
    with duckdb.connect(str(home.warehouse), read_only=True) as connection:
        found["rows"] = _count(connection, "retrieval.search_documents")
        found["postings"] = _count(connection, "retrieval.search_postings")
        found["warehouse_bytes"] = home.warehouse.stat().st_size
        found["index_bytes"] = sum(_bytes_of(connection, f"retrieval.{table}") for table in INDEX_MODELS)
    if found["rows"] != corpus.memories:
        raise RuntimeError(f"of {corpus.memories:,} memories {found['rows']:,} are in the index")
    return home, found


def publish_warehouse(home: Home) -> None:
    """Publish what stands in the warehouse, as dbt's last hook does once all models are built and tested."""
    with RunLock(home):
        with duckdb.connect(str(home.warehouse)) as connection:
            connection.execute("force checkpoint")
        batch_seq = newest_batch(home)
        fingerprint = hashlib.sha256(f"benchmark {batch_seq}".encode()).hexdigest()[:12]
        publish(home, fingerprint, batch_seq)


def add_memories(home: Home, corpus: Corpus, layout: str) -> dict[str, Any]:
    """Add ADDED memories a few times; return seconds of the models that each run took, in their order."""
    rounds = []
    for number in range(ADD_ROUNDS):
        lines = iter(corpus.newest[number * ADDED : (number + 1) * ADDED])
        first = corpus.memories + number * ADDED
        load_lines(
            home, f"added-{number}", (line + b"\n" for line in _divided(lines, LAYOUTS[layout], first))
        )
        rounds.append(run_dbt(home, _OF_NEW_MEMORIES))
    with duckdb.connect(str(home.warehouse), read_only=True) as connection:
        rows = _count(connection, "retrieval.search_documents")
    if rows != corpus.memories + ADDED * ADD_ROUNDS:
        raise RuntimeError(f"{rows:,} memories are in the index after {ADDED * ADD_ROUNDS} were added")
    return {
        "memories": ADDED,
        "rounds": [
            {
                "index_seconds": round(sum(times[name] for name in INDEX_MODELS), 4),
                "all_seconds": round(sum(times.values()), 4),
            }
            for times in rounds
        ],
    }


def load_lines(home: Home, name: str, lines: Iterator[bytes]) -> float:
    """Place lines in the inbox as a writer would, sealed, load them into raw/ and return the seconds."""
    segment = home.inbox / f"{name}{OPEN_SUFFIX}"
    with segment.open("wb") as file:
        file.writelines(lines)
    segment.rename(segment.with_suffix(SEALED_SUFFIX))
    started = time.perf_counter()
    with RunLock(home):
        batch = load_inbox(home)[-1]
    if batch.quarantined_count:
        raise RuntimeError(f"{batch.quarantined_count:,} events were not accepted")
    return round(time.perf_counter() - started, 3)


def run_dbt(home: Home, selected: Sequence[str]) -> dict[str, float]:
    """Build models; return the seconds of each."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from dbt.cli.main import cli; cli()", "run", "--select", *selected),
            *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
            *("--target-path", str(home.target), "--log-path", str(home.logs)),
        ],
        cwd=PROJECT,
        env={**os.environ, HOME_VARIABLE: str(home.path), "MNEMODUCK_THREADS": "1", "MNEMODUCK_LLM": "off"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"dbt run failed:\n{done.stdout}{done.stderr}")
    return {model.name: model.seconds for model in read_model_times(home.target)}


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"select count(*) from {table}").fetchone()
    assert row is not None
    return int(row[0])


def _bytes_of(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """Return the size of the blocks that a table lies in."""
    row = connection.execute(
        "select count(distinct block_id) filter (where block_id >= 0)"
        " * (select any_value(block_size) from pragma_database_size())"
        f" from pragma_storage_info('{table}')"
    ).fetchone()
    assert row is not None
    return int(row[0])


def texts_of(home: Home) -> Iterator[list[tuple[str, str]]]:
    """Yield user and text of all memories of a home, in chunks, in the order in which they were said."""
    with duckdb.connect(str(home.warehouse), read_only=True) as connection:
        rows = connection.execute(
            "select user_id, content from staging.stg_memories order by occurred_at, memory_id"
        )
        while chunk := rows.fetchmany(20_000):
            yield [(str(user), str(text)) for user, text in chunk]


def write_texts(home: Home, path: Path) -> None:
    """Write user and text of all memories as lines of JSON, for a peer in a process of its own."""
    with path.open("w", encoding="utf-8") as file:
        for chunk in texts_of(home):
            file.writelines(json.dumps(row) + "\n" for row in chunk)
