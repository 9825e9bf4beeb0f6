"""What is forgotten is gone: the real command line and the real build, on the sample stream.

The search that is tested here is not the one that judges: `traces` opens every file by plain means.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from mnemoduck import Memory
from mnemoduck.home import Home
from mnemoduck.inbox import InboxWriter
from mnemoduck.llm.cache import open_cache
from mnemoduck.pipeline.lock import RunLock
from tests.integration.workbench import SAMPLE_STREAM, TABLES, Workbench, checksums
from tests.unit.llm_cache_rows import make_embedding, make_response

MARKERS = (
    "zorblatta",
    "quixwen",
    "vandermoot",
    "tagmarkerqq",
    "metamarkerqq",
    "factmarkerqq",
    "taskmarkerqq",
)
SECRET = "Zorblatta Quixwen hid the ledger of the mill under the seventh floorboard, said Vandermoot."
GONE = ("01940000-0000-7000-8000-000000000001", "01940000-0000-7000-8000-000000000002")


def secrets() -> list[dict[str, Any]]:
    """Return two memories that are purged, one that stays in their session, and a recall that names both."""
    base = {"occurred_at": "2026-03-03T09:00:00Z", "recorded_at": "2026-03-03T09:00:00Z", "user_id": "maya"}
    base |= {"agent_id": "otter", "session_id": "mill"}
    said = {
        "role": "user",
        "content": SECRET,
        "tags": ["tagmarkerqq"],
        "metadata": {"note": "metamarkerqq"},
        "facts": [{"subject": "Zorblatta Quixwen", "predicate": "lives in", "object": "factmarkerqq"}],
    }
    tea = {**base, "event_id": "01940000-0000-7000-8000-000000000003", "event_type": "memory"}
    used = {**base, "event_id": "01940000-0000-7000-8000-000000000004", "event_type": "recall"}
    return [
        {**base, "event_id": GONE[0], "event_type": "memory", "payload": said},
        {
            **base,
            "event_id": GONE[1],
            "event_type": "memory",
            "occurred_at": "2026-03-03T09:01:00Z",
            "payload": {
                "role": "assistant",
                "content": "So Quixwen's ledger is in the mill, and Vandermoot knows.",
            },
        },
        {
            **tea,
            "occurred_at": "2026-03-03T09:02:00Z",
            "payload": {"role": "user", "content": "We had mint tea."},
        },
        {
            **used,
            "occurred_at": "2026-03-03T10:00:00Z",
            "payload": {"memory_ids": [GONE[0], tea["event_id"]], "query": "where is the ledger of quixwen"},
        },
    ]


def write(home: Path, events: Iterable[dict[str, Any]]) -> None:
    writer = InboxWriter(Home(home))
    writer.append([json.dumps(event).encode() + b"\n" for event in events])
    writer.close()


def traces(home: Path, markers: Collection[str] = MARKERS) -> list[str]:
    """Return each file, and each table of a database, in which a marker stands."""
    found = []
    for path in sorted(home.rglob("*")):
        if not path.is_file():
            continue
        name, data = str(path.relative_to(home)), path.read_bytes()
        texts = {name: data.lower()}
        if data.startswith(b"PAR1"):
            texts[f"{name}:"] = str(pq.ParquetFile(path).read().to_pylist()).lower().encode()
        elif data[8:12] == b"DUCK":
            with duckdb.connect(str(path), read_only=True) as connection:
                tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
                for schema, table in tables:
                    row = connection.execute(
                        f'select string_agg(lower(to_json(t)::varchar), \' \') from "{schema}"."{table}" as t'
                    ).fetchone()
                    texts[f"{name}:{schema}.{table}"] = ((row and row[0]) or "").encode()
        found += [
            where for where, text in texts.items() if any(marker.encode() in text for marker in markers)
        ]
    return found


class Reader(threading.Thread):
    """Recalls until it is told to stop, in this process; keeps what went wrong."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.errors: list[str] = []
        self.answers = 0
        self._home = home
        self._is_over = threading.Event()

    def run(self) -> None:
        with Memory(self._home) as memory:
            while not self._is_over.is_set():
                try:
                    found = memory.recall("the ledger in the mill", user_id="maya", limit=5)
                    if any(one.content == SECRET for one in found):
                        self.errors.append("it was recalled")
                    self.answers += 1
                except Exception as error:
                    self.errors.append(repr(error))
                time.sleep(0.05)

    def stop(self) -> None:
        self._is_over.set()
        self.join()


def test_a_purged_memory_is_in_no_file_while_readers_read_and_what_others_say_is_there(
    sample: Workbench,
) -> None:
    write(sample.home, secrets())
    sample.build()
    home = Home(sample.home)
    with open_cache(home) as cache:
        cache.store_responses([make_response(f"<memory>{SECRET}</memory>"), make_response("Mint tea.")])
        cache.store_embeddings([make_embedding(SECRET, [1.0, 0.0])])
    (home.quarantine / "torn.jsonl").write_text(
        json.dumps({"source": "a", "line": 1, "reason": "b", "text": SECRET})
    )
    (sample.home / "report.html").write_text(SECRET)
    before = sample.query("select count(*) from staging.stg_memories")[0][0]
    assert len({where.split(":")[0].split("/")[0] for where in traces(sample.home)}) >= 5  # it is everywhere
    with Memory(sample.home) as memory:
        memory.forget(GONE)
    reader = Reader(sample.home)
    reader.start()
    try:
        done = sample.mnemoduck("forget", "--purge", "--yes", "--json")
    finally:
        reader.stop()
    assert done.code == 0, done.out + done.err
    told = json.loads(done.out)
    assert (told["answers"], told["vectors"], told["is_ok"]) == (1, 1, True)
    assert told["memories"] >= 2  # some of the sample were ordered forgotten, too
    assert reader.errors == []
    assert reader.answers > 0
    assert traces(sample.home) == []
    assert sample.query("select count(*) from staging.stg_memories")[0][0] == before - told["memories"]
    assert sample.query("select goal, task from short_term where content = 'We had mint tea.'") == [
        ("We had mint tea.", "We had mint tea.")
    ]
    assert len(list(home.published.glob("*.duckdb"))) == 1
    said = sample.mnemoduck_here("forget", "--verify", "--text", SECRET, "--text", "Zorblatta")
    assert said.code == 0, said.out + said.err
    assert "nothing is left" in said.out
    assert sample.mnemoduck_here("forget", "--verify").code == 0
    assert (
        "nothing is left" not in sample.mnemoduck_here("forget", "--verify", "--text", "We had mint tea.").out
    )
    known = [event for event in secrets() if event["event_id"] in GONE]
    stream = sample.home.parent / "again.jsonl"
    stream.write_text("".join(json.dumps(event) + "\n" for event in known))
    assert "0 accepted, 2 duplicated" in sample.mnemoduck_here("ingest", str(stream)).out


@pytest.mark.long
def test_a_purged_home_is_as_one_that_never_heard_of_it(bench: Workbench, tmp_path: Path) -> None:
    write(bench.home, [])
    assert bench.mnemoduck("ingest", str(SAMPLE_STREAM)).code == 0
    write(bench.home, secrets())
    bench.build()
    done = bench.mnemoduck("forget", "--purge", "--yes", *GONE)
    assert done.code == 0, done.out + done.err
    other = Workbench(tmp_path / "other")
    assert other.mnemoduck("ingest", str(SAMPLE_STREAM)).code == 0
    stays = [event for event in secrets() if event["event_id"] not in GONE]
    stays[-1]["payload"].pop("query")
    write(other.home, stays)
    other.build()
    found = checksums(bench.snapshot(), with_bookkeeping=False)
    expected = checksums(other.snapshot(), with_bookkeeping=False)
    orders = {"staging.raw_batches", "staging.stg_forgets"}  # the order is what the other never heard
    assert {table for table in TABLES if found[table] != expected[table]} <= orders


@pytest.mark.long
def test_archived_months_are_archived_again_without_what_was_purged(sample: Workbench) -> None:
    write(
        sample.home,
        [
            {**event, "occurred_at": event["occurred_at"].replace("2026", "2024")}
            for event in secrets()
            if event["event_type"] == "memory"
        ],
    )
    sample.build()
    done = sample.mnemoduck("partitions", "archive", "stg_memories", "2024-03")
    assert done.code == 0, done.out + done.err
    assert any(where.startswith("archive/") for where in traces(sample.home))
    done = sample.mnemoduck("forget", "--purge", "--yes", *GONE)
    assert done.code == 0, done.out + done.err
    assert traces(sample.home) == []
    catalog = '"stg_memories__months".catalog'
    assert sample.query(f"select state from {catalog} where month = date '2024-03-01'") == [("cold",)]
    assert len(list((sample.home / "archive").rglob("*.parquet"))) == 1


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_a_purge_that_was_killed_at_any_moment_is_finished_by_the_next_run(
    sample: Workbench, seed: int
) -> None:
    write(sample.home, secrets())
    with open_cache(Home(sample.home)) as cache:
        cache.store_responses([make_response(f"<memory>{SECRET}</memory>")])
    process = sample.start("mnemoduck", "forget", "--purge", "--yes", *GONE)
    _wait_for(sample.home / "purge" / "order.json", process)
    time.sleep(random.Random(seed).uniform(0, 8))
    for child in _family(process.pid):
        os.kill(child, signal.SIGKILL)
    process.communicate()
    sample.build()
    if (sample.home / "purge").exists():  # it was killed before it had begun
        pytest.fail("the next run has not finished the purge")
    done = sample.mnemoduck("forget", "--purge", "--yes")
    assert done.code == 0, done.out + done.err
    assert traces(sample.home) == []
    assert sample.query("select count(*) from staging.stg_memories where session_id = 'mill'") == [(1,)]


@pytest.mark.long
def test_a_run_and_a_purge_at_once_are_one_after_the_other(sample: Workbench) -> None:
    write(sample.home, secrets())
    with RunLock(Home(sample.home)):
        done = sample.mnemoduck("forget", "--purge", "--yes", *GONE)
    assert done.code == 75, done.out + done.err
    assert "Another run is at work" in done.err
    assert not (sample.home / "purge").exists()


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _family(pid: int) -> list[int]:
    """Return a process and all that it started, the oldest last."""
    tasks = Path(f"/proc/{pid}/task")
    children = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    return [one for child in children for one in _family(child)] + [pid]
