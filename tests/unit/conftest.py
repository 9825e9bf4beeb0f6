"""Homes in temporary folders, and processes that really die. No dbt here: see tests/integration."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import duckdb
import pytest
from hypothesis import HealthCheck, settings

from mnemoduck.home import Home, open_home
from mnemoduck.memory import Memory
from mnemoduck.news import News
from mnemoduck.project import find_project, render

# The machine may be busy: what is tested is behaviour, never how long it takes.
settings.register_profile(
    "unit", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")

_snapshots = itertools.count()

StartPython = Callable[..., "subprocess.Popen[bytes]"]


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child and return its exit status; a child that hangs is ended by SIGALRM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: other threads may be running
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(20)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture
def impatient_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk where a test goes through hundreds of states: no power fails here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def memory(home: Home) -> Iterator[Memory]:
    with Memory(home.path) as opened:
        yield opened


@pytest.fixture
def start_python() -> Iterator[StartPython]:
    """Start `python -c code arguments…`; what is still alive at the end of the test is killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def write_snapshot(home: Home, batch_seq: int) -> Path:
    """Put a small snapshot in place, as a build with batches up to a number would."""
    path = home.published / f"20260101T00000{batch_seq}000000Z-{batch_seq:012x}.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema staging")
        connection.execute(f"create table staging.raw_batches as select {batch_seq}::bigint as batch_seq")
        connection.execute("create table notes as select i, 'note ' || i as text from range(10) t(i)")
    home.current.write_text(path.name + "\n")
    return path


@pytest.fixture
def make_snapshot(home: Home) -> Callable[[int], Path]:
    return functools.partial(write_snapshot, home)


@pytest.fixture
def search_snapshot(home: Home) -> Callable[..., Path]:
    return functools.partial(write_search_snapshot, home)


def write_search_snapshot(
    home: Home, batch_seq: int, memory_ids: Sequence[UUID], occurred_at: Sequence[datetime] = ()
) -> Path:
    """Put a snapshot in place that has the index of memories, as far as fresh tables ask for it."""
    project = find_project()
    path = home.published / f"20260101T000000{next(_snapshots):06d}Z-{batch_seq:012x}.duckdb"
    times = [
        moment.replace(tzinfo=None) for moment in occurred_at or [datetime(2026, 1, 1)] * len(memory_ids)
    ]
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema staging; create schema retrieval")
        connection.execute(f"create table staging.raw_batches as select {batch_seq}::bigint as batch_seq")
        connection.execute(
            "create table retrieval.search_documents "
            "(memory_id uuid, memory_key bigint, occurred_at timestamp)"
        )
        key = render(project, "short_key", "cast(memory_id as varchar)")
        for memory_id, moment in zip(memory_ids, times, strict=True):
            connection.execute(
                f"insert into retrieval.search_documents select memory_id, {key}, $2 "
                "from (select cast($1 as uuid) as memory_id)",
                [str(memory_id), moment],
            )
    home.current.write_text(path.name + "\n")
    News(home).announce()
    return path
