"""Writers that are really killed, and a disk that is really full."""

from __future__ import annotations

import json
import os
import random
import select
import signal
from collections import defaultdict
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from mnemoduck.events import new_event, parse_event
from mnemoduck.home import Home
from mnemoduck.inbox import InboxWriter, seal_open_segments, sealed_segments
from mnemoduck.pipeline.load import load_inbox

from .conftest import StartPython

WRITE_UNTIL_KILLED = """
import itertools, os, sys
from pathlib import Path
from mnemoduck.events import new_event
from mnemoduck.home import open_home
from mnemoduck.inbox import InboxWriter

name, lines_at_once, size = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
writer = InboxWriter(open_home(Path(sys.argv[1])), max_segment_bytes=20_000_000)
line = new_event("memory", {"content": "NUMBER " + "x" * size}, user_id=name).to_line()
numbers = itertools.count()
while True:  # as much of the time as can be in `write`
    batch = [b"%08d" % next(numbers) for _ in range(lines_at_once)]
    writer.append([line.replace(b"NUMBER", number) for number in batch])
    os.write(1, batch[-1] + b"\\n")  # acknowledged
"""

# Small lines; many at once; and so much at once that a kill falls into the write as a rule.
KINDS = {"small": (1, 10), "many": (50, 100), "long": (20, 100_000), "longer": (3, 1_000_000)}


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_of_writers_at_any_instant_loses_nothing_and_doubles_nothing(
    home: Home, start_python: StartPython, seed: int
) -> None:
    chance = random.Random(seed)
    writers = {name: start_python(WRITE_UNTIL_KILLED, home.path, name, *kind) for name, kind in KINDS.items()}
    pipes = {process.stdout.fileno(): name for name, process in writers.items() if process.stdout}
    told: dict[str, bytes] = defaultdict(bytes)
    alive = list(KINDS)
    # One after the other dies after a number of acknowledgements, its own or of the others.
    patience = chance.randint(0, 20)
    while alive:
        for descriptor in select.select(list(pipes), [], [], 30)[0]:
            received = os.read(descriptor, chance.randint(1, 90))
            told[pipes[descriptor]] += received
            patience -= received.count(b"\n")
            if patience < 0 and told[alive[-1]]:
                doomed = alive.pop()
                os.kill(writers[doomed].pid, signal.SIGKILL)
                patience = chance.randint(0, 20)
            if not alive:
                break
        seal_open_segments(home)
    for name, process in writers.items():
        out, err = process.communicate(timeout=30)
        told[name] += out
        assert process.returncode == -signal.SIGKILL, err.decode()

    assert seal_open_segments(home).busy == []
    found: dict[str, list[int]] = defaultdict(list)
    for segment in sealed_segments(home):
        for line in segment.read_bytes().splitlines():
            event = parse_event(line)
            found[str(event.user_id)].append(int(str(event.payload["content"]).split()[0]))
    for name, (lines_at_once, _) in KINDS.items():
        acknowledged = int(told[name][: told[name].rindex(b"\n")].split()[-1])
        # What was acknowledged is there once, in order; of the last append at most a beginning.
        assert found[name] == list(range(len(found[name])))
        assert acknowledged < len(found[name]) <= acknowledged + 1 + lines_at_once
    torn = [json.loads(file.read_bytes()) for file in home.quarantine.glob("*.jsonl")]
    assert len(torn) <= len(writers)
    assert all(entry["reason"].startswith("torn last line") for entry in torn)


WRITE_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from mnemoduck.errors import StorageError
from mnemoduck.events import new_event
from mnemoduck.home import open_home
from mnemoduck.inbox import InboxWriter

def lines(first, count):
    contents = [f"{number} " + "x" * 300 for number in range(first, first + count)]
    return [new_event("memory", {"content": content}).to_line() for content in contents]

writer = InboxWriter(open_home(Path(sys.argv[1])))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
acknowledged, refused = 0, 0
for _ in range(5):  # the fourth does not fit; in another segment, the next ones do
    try:
        writer.append(lines(acknowledged, 5), durable=True)
        acknowledged += 5
    except StorageError as error:
        refused += 1
        sentence = str(error)
try:
    writer.append(lines(1000, 50))
except StorageError:
    refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
writer.append(lines(acknowledged, 5))
print(acknowledged + 5, refused, sentence)
"""


def test_a_full_disk_is_told_and_leaves_nothing_half_written(home: Home, start_python: StartPython) -> None:
    process = start_python(WRITE_ON_A_FULL_DISK, home.path)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err.decode()
    acknowledged, refused, sentence = out.decode().split(" ", 2)
    assert refused == "2"
    assert "The memory was not stored" in sentence
    assert "File too large" in sentence
    seal_open_segments(home)
    numbers = [
        int(str(parse_event(line).payload["content"]).split()[0])
        for segment in sealed_segments(home)
        for line in segment.read_bytes().splitlines()
    ]
    assert numbers == list(range(int(acknowledged)))
    assert list(home.quarantine.iterdir()) == []


LOST_TAILS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda tail: b"",
    "torn": lambda tail: tail[: len(tail) // 2],
    "zeros": lambda tail: bytes(len(tail)),
    "zeros between": lambda tail: tail[:40] + bytes(4096) + tail[-40:],
    "noise": lambda tail: random.Random(1).randbytes(len(tail)),
}


@pytest.mark.parametrize("suffix", [".open", ".jsonl"])
@pytest.mark.parametrize("lost", list(LOST_TAILS))
def test_after_a_loss_of_power_what_was_durable_is_loaded_once_whatever_became_of_the_rest(
    home: Home, suffix: str, lost: str
) -> None:
    """Sealing syncs nothing: the disk may have the rename or not, and of what was not durable a part."""
    durable, other = ([new_event("memory", {"content": f"{kind} {n}"}) for n in range(3)] for kind in "ab")
    writer = InboxWriter(home)
    writer.append([event.to_line() for event in durable], durable=True)
    writer.append([event.to_line() for event in other])
    writer.close()
    (segment,) = sealed_segments(home)
    head = sum(len(event.to_line()) for event in durable)
    data = segment.read_bytes()
    segment.write_bytes(data[:head] + LOST_TAILS[lost](data[head:]))
    segment.rename(segment.with_suffix(suffix))

    batches = load_inbox(home)
    loaded = pq.read_table(home.raw / batches[0].files[0].path, partitioning=None).to_pylist()
    ids = [row["event_id"] for row in loaded]
    assert ids[:3] == [str(event.event_id) for event in durable]
    assert set(ids[3:]) <= {str(event.event_id) for event in other}
    assert len(ids) == len(set(ids))
    assert any(home.quarantine.iterdir()) == (lost != "none"), (
        "what is left of the rest is kept, with a reason"
    )
    assert load_inbox(home) == batches
    assert list(home.inbox.glob("*.*")) == []
