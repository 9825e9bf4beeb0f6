"""The benchmark of the layers: its stream is what it says it is, and its page says what was measured.

Nothing is timed here, and dbt is not started: the measurement itself is `make bench-layers`.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from benchmarks.layers.measure import STEPS, ModelTime, read_model_times
from benchmarks.layers.report import PAGE, PLOT, exponent, find_laggards, write_report
from benchmarks.stream import BASE, LATE, NEWEST, PARTS, generate
from benchmarks.vocabulary import FUNCTION_WORDS

from mnemoduck.events import Event, parse_event
from tests.performance.machine import RUN

PROJECT = Path(__file__).resolve().parents[2]
RESULT = PROJECT / "benchmarks" / "layers" / "result.json"
MEMORIES = 6000

Parts = dict[str, list[Event]]


def events_of(folder: Path, memories: int, seed: int = 1) -> Parts:
    stream = generate(memories, folder, seed)
    return {
        part: [parse_event(line) for path in stream.segments[part] for line in path.read_bytes().splitlines()]
        for part in PARTS
    }


def memories_of(events: list[Event]) -> list[Event]:
    return [event for event in events if event.event_type == "memory"]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return events_of(tmp_path_factory.mktemp("stream"), MEMORIES)


def test_a_stream_has_the_parts_and_the_shares_that_it_says(stream: Parts) -> None:
    counts = {part: Counter(event.event_type for event in events) for part, events in stream.items()}
    assert [counts[part]["memory"] for part in PARTS] == [MEMORIES, MEMORIES // 100, MEMORIES // 100]
    assert 0.015 < counts[BASE]["recall"] / MEMORIES < 0.025
    assert counts[BASE]["forget"] >= 1
    assert counts[NEWEST]["forget"] >= 1
    assert set(counts[LATE]) == {"memory"}
    base = memories_of(stream[BASE])
    assert 0.005 < sum("facts" in event.payload for event in base) / MEMORIES < 0.015
    assert {event.payload["role"] for event in base} == {"user", "assistant", "tool"}
    lengths = sorted(len(str(event.payload["content"]).split()) for event in base)
    assert lengths[0] >= 4, "5, one of them dropped"
    assert lengths[-1] <= 41, "40, and one added"
    assert 12 <= lengths[len(lengths) // 2] <= 16
    by_user = Counter(event.user_id for event in base)
    assert max(by_user.values()) > 3 * min(by_user.values())
    ids = [event.event_id for events in stream.values() for event in events]
    assert len(set(ids)) == len(ids)


def test_words_follow_zipf_and_new_ones_keep_coming(stream: Parts) -> None:
    texts = [str(event.payload["content"]) for event in memories_of(stream[BASE])]
    counts = Counter(re.findall(r"\w+", " ".join(texts).lower())).most_common()
    assert 2 < counts[0][1] / counts[9][1] < 6, "1 / (rank + 2.7): 12.7 / 3.7"
    early = set(re.findall(r"\w+", " ".join(texts[: MEMORIES // 2]).lower()))
    assert len(counts) > 1.15 * len(early)


def test_texts_are_repeated_exactly_and_nearly_by_their_own_user(stream: Parts) -> None:
    said: set[tuple[str | None, str]] = set()
    texts_with: dict[tuple[str | None, str], list[set[str]]] = {}
    exact = near = 0
    for event in memories_of(stream[BASE]):
        text = str(event.payload["content"])
        words = set(re.findall(r"\w+", text.lower()))
        telling = {(event.user_id, word) for word in words.difference(FUNCTION_WORDS)}
        others = [other for key in telling for other in texts_with.get(key, [])]
        if (event.user_id, text) in said:
            exact += 1
        elif any(len(words & other) / len(words | other) > 0.6 for other in others):
            near += 1
        said.add((event.user_id, text))
        for key in telling:
            texts_with.setdefault(key, []).append(words)
    assert 0.015 < exact / MEMORIES < 0.025
    assert 0.012 < near / MEMORIES < 0.025


def test_late_memories_lie_in_sessions_of_the_past_and_newest_ones_behind_it(stream: Parts) -> None:
    sessions = {event.session_id for event in memories_of(stream[BASE])}
    last = max(event.recorded_at for event in stream[NEWEST])
    end = max(event.occurred_at for event in stream[BASE])
    assert all(event.session_id in sessions and event.recorded_at > last for event in stream[LATE])
    assert len({event.occurred_at.date().replace(day=1) for event in stream[LATE]}) > 6
    assert all(event.occurred_at > end for event in memories_of(stream[NEWEST]))
    for events in stream.values():
        moments = {(event.session_id, event.occurred_at) for event in memories_of(events)}
        assert len(moments) == len(memories_of(events))
    assert all(event.recorded_at >= event.occurred_at for events in stream.values() for event in events)


def test_recalls_and_forgets_name_what_their_user_has_said(stream: Parts) -> None:
    known: dict[str, Event] = {}
    named = 0
    for part in PARTS:
        known |= {str(event.event_id): event for event in memories_of(stream[part])}
        for event in stream[part]:
            memory_ids = event.payload.get("memory_ids") or []
            assert isinstance(memory_ids, list)
            for memory_id in memory_ids:
                assert known[str(memory_id)].user_id == event.user_id
                named += 1
    assert named > MEMORIES / 100


def test_the_stream_is_the_one_that_results_were_measured_with(tmp_path: Path) -> None:
    """On every machine. Whoever changes it measures anew: figures of two streams cannot be compared."""
    digest = hashlib.sha256()
    for events in events_of(tmp_path, 300).values():
        for event in events:
            digest.update(f"{event.event_id} {event.occurred_at} {event.payload}\n".encode())
    assert digest.hexdigest()[:16] == "c2e9ad36f2cd9ddd"


def test_the_same_seed_is_the_same_stream_and_another_seed_another_one(tmp_path: Path) -> None:
    one = events_of(tmp_path / "one", 300)
    assert events_of(tmp_path / "again", 300) == one
    other = events_of(tmp_path / "other", 300, seed=2)
    assert {e.event_id for e in one[BASE]}.isdisjoint({e.event_id for e in other[BASE]})


def test_times_are_taken_from_what_dbt_writes_for_whatever_models_there_are(tmp_path: Path) -> None:
    kept = {"schema": "main", "alias": "b", "config": {"materialized": "incremental"}}
    seen = {"schema": "main", "alias": "a", "config": {"materialized": "view"}}
    model = {"resource_type": "model"}
    nodes = {
        "model.p.a": {"name": "a", "original_file_path": "models/dreams/a.sql", **seen, **model},
        "model.p.b": {"name": "b", "original_file_path": "models/dreams/deep/b.sql", **kept, **model},
    }
    results = [
        {"unique_id": "model.p.b", "execution_time": 1.5},
        {"unique_id": "model.p.a", "execution_time": 0.5},
        {"unique_id": "operation.p.p-on-run-end-0", "execution_time": 9.0},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"nodes": nodes}))
    (tmp_path / "run_results.json").write_text(json.dumps({"results": results}))
    assert read_model_times(tmp_path) == [
        ModelTime("b", "dreams", 1.5, '"main"."b"'),
        ModelTime("a", "dreams", 0.5),
    ]


def _size(rows: int, **seconds: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return a result of which each model took so many seconds: full, nothing new, newest, late."""
    run = dict(RUN)
    steps = {
        step: {
            "wall_seconds": 9.0,
            "peak_mb": 500,
            "warehouse_bytes": 10**6,
            "rows_written": {name: [rows // 50, rows] for name in seconds},
            "models": [
                {"name": name, "layer": f"{name}_layer", "seconds": times[place]}
                for name, times in seconds.items()
            ],
        }
        for place, step in enumerate(STEPS)
    }
    return {
        "rows": rows,
        "run": run,
        "stream": {"bytes": 10**6},
        "loads": {"full": {"events": rows, "seconds": 1.0}},
        "files": {"raw_bytes": 10**6, "warehouse_bytes": 10**6},
        "steps": steps,
    }


def test_a_model_that_does_not_follow_the_change_is_named() -> None:
    small = _size(1000, good=(0.2, 0.1, 0.1, 0.1), late=(0.2, 0.1, 0.1, 0.1), idle=(0.2, 0.1, 0.1, 0.1))
    large = _size(10**6, good=(20, 0.2, 1.1, 1.1), late=(20, 0.2, 0.5, 6.2), idle=(20, 2.0, 2.1, 2.1))
    found = list(find_laggards([small, large]))
    assert [sentence.split(":")[0] for sentence in found] == ["late_layer/late", "idle_layer/idle"]
    assert "1 % late takes 6.20 s, 31 % of the full build (20.00 s)" in found[0]
    assert "nothing new takes 2.00 s at 1,000,000 memories and 0.10 s at 1,000" in found[1]


def test_the_exponent_is_the_slope_between_two_sizes() -> None:
    assert exponent((10, 1.0), (1000, 100.0)) == pytest.approx(1.0)
    assert exponent((10, 1.0), (1000, 10_000.0)) == pytest.approx(2.0)
    assert exponent((10, 0.0), (1000, 1.0)) is None


def test_the_page_and_the_plot_are_made_of_the_result(tmp_path: Path) -> None:
    times = (1.0, 0.1, 0.2, 0.3)
    write_report({"sizes": [_size(1000, only=times), _size(10_000, only=(10.0, 0.1, 0.2, 0.9))]}, tmp_path)
    page = (tmp_path / PAGE).read_text()
    assert "| only_layer | 1.00 s | 10.00 s | 1.00 | 1,000 |" in page
    assert "| only_layer | 1 % late | 0.30 s, 30 % | 0.90 s, 9.0 % | 0.48 |" in page
    assert "- only_layer/only: 1 % late" in page
    assert "| only_layer/only | 10,000 | 200 (2.0 %) |" in page
    assert (tmp_path / PLOT).read_text().startswith("<?xml")


@pytest.mark.skipif(not RESULT.exists(), reason="not measured yet: make bench-layers, on a quiet machine")
def test_the_committed_page_is_made_of_the_committed_result(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.layers", "report", "--docs", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / PAGE).read_text() == (PROJECT / "docs" / PAGE).read_text()
