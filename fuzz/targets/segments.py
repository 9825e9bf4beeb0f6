"""Segments of the inbox that a crash has left: whole lines are kept, a torn one goes to quarantine."""

from __future__ import annotations

import base64
import json

import pyarrow.parquet as pq
from hypothesis import strategies as st

from fuzz.event_lines import lines
from fuzz.target import DEAR, MEDIUM, Target, emptied, scratch_home
from fuzz.targets.events import in_bulk
from mnemoduck.event_rows import ROW
from mnemoduck.home import Home
from mnemoduck.inbox import FreshEvents, seal_open_segments, sealed_segments
from mnemoduck.pipeline.load import load_inbox, read_manifest

_NAME = "20260301T120000000000Z-1-00000000"


def _orphan(home: Home, data: bytes) -> None:
    for folder in (home.inbox, home.quarantine, home.raw):
        emptied(folder)
    home.loaded.mkdir(exist_ok=True)
    (home.inbox / f"{_NAME}.open").write_bytes(data)


def _quarantined(home: Home) -> list[bytes]:
    found = []
    for path in sorted(home.quarantine.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            said = json.loads(line)
            found.append(said["text"].encode() if "text" in said else base64.b64decode(said["base64"]))
    return found


def check_sealing(data: bytes) -> None:
    home = scratch_home("segments")
    _orphan(home, data)
    fresh = FreshEvents(home)
    before, _ = fresh.read(0)
    report = seal_open_segments(home)
    sealed = b"".join(path.read_bytes() for path in sealed_segments(home))
    torn = _quarantined(home)
    assert sealed + b"".join(torn) == data
    assert sealed == data[: data.rfind(b"\n") + 1]
    assert bool(torn) == bool(report.torn) == (not data.endswith(b"\n") and bool(data))
    after, _ = fresh.read(0)
    assert after == before
    assert FreshEvents(home).read(0)[0] == before
    rows, _ = in_bulk(sealed)
    assert [str(event.event_id) for event in before] == [row[0] for _, row in rows]


def check_loading(data: bytes) -> None:
    home = scratch_home("loading")
    _orphan(home, data)
    whole = data[: data.rfind(b"\n") + 1]
    rows, refused = in_bulk(whole)
    load_inbox(home)
    files = [home.raw / file.path for batch in read_manifest(home) for file in batch.files]
    stored = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    stored.sort(key=lambda row: row["line"])
    for row in stored:
        for name in ("occurred_at", "recorded_at"):
            row[name] = row[name].isoformat()
    assert [(row["line"] - 1, tuple(row[name] for name in ROW)) for row in stored] == rows
    torn = [data[len(whole) :]] if len(whole) < len(data) else []
    assert sorted(_quarantined(home)) == sorted([*(line for _, _, line in refused), *torn])


_CASES = st.tuples(st.lists(lines(), max_size=4).map(b"".join), st.integers(0, 30)).map(
    lambda pair: pair[0][: len(pair[0]) - pair[1]]
)
_TOKENS = (b"\n", b"\r\n", b"\n\n", b"{}", b'{"event_id":"', b'"event_type":"memory"', b"\xff\n")

TARGETS = (
    Target("sealing", "what was written is sealed or in quarantine, to the byte", check_sealing, _TOKENS,
    _CASES,
           weight=MEDIUM),
    Target("loading", "each whole line is in raw/ once or in quarantine", check_loading, _TOKENS, _CASES,
           weight=DEAR),
)  # fmt: skip
