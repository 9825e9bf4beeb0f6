"""Any number of processes remember at once, whatever the pipeline is doing; a killed one loses nothing
that was acknowledged."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from uuid import UUID

import pytest

from mnemoduck import Memory
from tests.integration.workbench import Workbench

WRITERS = 8
MEMORIES = 500

REMEMBER = """
import sys
from mnemoduck import Memory
name, count = sys.argv[1], int(sys.argv[2])
with Memory() as memory:
    for number in range(count):
        print(memory.remember(f"{name} remembers thing {number}", user_id=name), flush=True)
"""

REMEMBER_UNTIL_KILLED = """
import itertools
import sys
from mnemoduck import Memory
memory = Memory()
for number in itertools.count():
    content = f"before the end {sys.argv[1]}: {number} " + "x" * 2000
    print(memory.remember(content, user_id="doomed"), flush=True)
"""


def remember_from_many_processes(bench: Workbench, label: str) -> set[UUID]:
    writers = [bench.start_python(REMEMBER, f"{label}-{number}", str(MEMORIES)) for number in range(WRITERS)]
    acknowledged: list[UUID] = []
    for writer in writers:
        out, err = writer.communicate(timeout=300)
        assert writer.returncode == 0, err
        acknowledged.extend(map(UUID, out.split()))
    assert len(set(acknowledged)) == WRITERS * MEMORIES
    return set(acknowledged)


@pytest.mark.long
def test_eight_processes_remember_during_a_run_and_after_it_and_every_memory_is_there_once(
    sample: Workbench,
) -> None:
    with Memory(sample.home) as memory:
        memory.remember("something to build")
    run = sample.start("mnemoduck", "run")
    acknowledged = remember_from_many_processes(sample, "during")
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, out + err
    with Memory(sample.home) as memory:
        found = memory.recall(f"remembers thing {MEMORIES - 1}", user_id="during-7", limit=1)
        assert found[0].content == f"during-7 remembers thing {MEMORIES - 1}", "found before the next run"
    acknowledged |= remember_from_many_processes(sample, "after")
    sample.build()
    ids = [row[0] for row in sample.query("select memory_id from staging.stg_memories")]
    assert len(ids) == len(set(ids))
    assert acknowledged <= set(ids)
    counts = sample.query(
        "select count(*) from short_term_memories where user_id like 'during-%' or user_id like 'after-%'"
    )
    assert counts == [(2 * WRITERS * MEMORIES,)]
    assert not list((sample.home / "quarantine").iterdir())


@pytest.mark.long
def test_a_writer_killed_in_the_middle_loses_nothing_acknowledged(bench: Workbench) -> None:
    acknowledged: set[UUID] = set()
    for attempt in range(2):
        acknowledged |= remember_until_killed(bench, attempt)
        with Memory(bench.home) as memory:
            fresh = memory.recall("before the end", user_id="doomed", limit=10_000)
            assert acknowledged <= {item.memory_id for item in fresh}
    bench.build()
    ids = [row[0] for row in bench.query("select memory_id from short_term_memories")]
    assert acknowledged <= set(ids)
    assert len(ids) == len(set(ids))
    assert len(ids) - len(acknowledged) <= 2, "at most one of each was written and not yet acknowledged"


def remember_until_killed(bench: Workbench, attempt: int) -> set[UUID]:
    with bench.start_python(REMEMBER_UNTIL_KILLED, f"of writer {attempt}") as writer:
        assert writer.stdout is not None
        acknowledged = [UUID(writer.stdout.readline().strip()) for _ in range(200 + 50 * attempt)]
        time.sleep(random.Random(attempt).random() / 100)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [UUID(line.strip()) for line in writer.stdout if len(line.strip()) == 36]
    return set(acknowledged)


def test_a_torn_last_line_goes_to_quarantine_with_file_line_and_reason(bench: Workbench) -> None:
    memory = Memory(bench.home)
    kept = [memory.remember(f"whole thought {number}") for number in range(3)]
    segment = next((bench.home / "inbox").glob("*.open"))
    with segment.open("ab") as file:
        file.write(b'{"event_id": "0190')
    bench.build()
    assert {row[0] for row in bench.query("select memory_id from short_term_memories")} == set(kept)
    (quarantined,) = (bench.home / "quarantine").glob("*.jsonl")
    text = quarantined.read_text()
    assert '"line": 4' in text
    assert "torn last line" in text
    assert '{\\"event_id\\": \\"0190' in text
    assert segment.stem in text
    again = memory.remember("the living writer goes on")
    assert {item.memory_id for item in memory.recall("living writer")} == {again}
    memory.close()


def test_rows_that_are_no_events_are_quarantined_and_counted(bench: Workbench) -> None:
    """Another program may write segments as well; what it gets wrong is kept with the reason."""
    with Memory(bench.home) as memory:
        memory.remember("a good one")
    segment = bench.home / "inbox" / "20260101T000000000000Z-foreign.jsonl"
    segment.write_bytes(
        b'{"event_id": 1}\n\xff\xfe\n\x00\x00\n[]\n' + b'{"x": "' + b"y" * 5_000_000 + b'"}\n'
    )
    done = bench.mnemoduck("run")
    assert done.code == 0, done.out + done.err
    assert "5 lines quarantined" in done.out
    (quarantined,) = (bench.home / "quarantine").glob("*foreign*.jsonl")
    lines = quarantined.read_text().splitlines()
    assert [f'"line": {number}' in line for number, line in enumerate(lines, start=1)] == [True] * 5
    assert Path(quarantined).stat().st_size > 5_000_000, "nothing is lost"
    assert bench.query("select sum(quarantined_count), sum(memory_count) from staging.raw_batches") == [
        (5, 1)
    ]
