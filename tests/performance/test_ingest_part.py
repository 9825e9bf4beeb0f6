"""The suite's part `ingest`: it counts what it times, and says whether the goals are met."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from benchmarks.suite.parts import find_parts, ingest
from benchmarks.suite.parts.ingest import BATCHED, EVENTS, JSONL, LOADED, PARQUET
from benchmarks.suite.work import Work
from benchmarks.suite.writers import write_from

from mnemoduck import Memory
from mnemoduck.home import open_home
from mnemoduck.inbox import FreshEvents


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    for name, value in {
        "ONE_BY_ONE": 20,
        "DURABLE": 5,
        "PROCESSES": 2,
        "PER_PROCESS": 5,
        "ROUNDS": 1,
    }.items():
        monkeypatch.setattr(ingest, name, value)
    monkeypatch.setattr(ingest, "write_from", _write_from_here)
    return Work("tiny", 300, tmp_path)


def _write_from_here(processes: int, home: Path, memories: list[dict[str, Any]]) -> float:
    with Memory(home) as memory:
        for fields in memories * processes:
            memory.remember(**fields)
    return 1.0


def test_each_way_in_is_measured_and_the_home_is_removed(work: Work) -> None:
    found = ingest.measure(work)
    assert set(found["in_bulk"]) == {BATCHED, EVENTS, JSONL, PARQUET, LOADED}
    assert found["in_bulk"][BATCHED]["events"] == 300
    assert found["in_bulk"][LOADED]["events"] == work.stream.event_counts["base"]
    ratios = ingest.ratios(found)
    assert len(ratios) == 8
    assert min(ratios.values()) > 0
    assert not list(work.folder.glob("ingest*"))
    page = "\n".join(ingest.report({"10k": {**found, "memories": 300}, "100k": {**found, "memories": 300}}))
    assert all(name in page for name in found["in_bulk"])


def test_a_goal_is_met_or_missed_by_what_was_measured_at_the_largest_scale() -> None:
    single = {"p50_us": 1.0, "p95_us": 1.0, "p99_us": 1.0, "p50_ratio": 2.0}
    way = {"per_second": 172_000.0, "ratio": 1.0}
    processes = {"per_second": 1.0, "alone_per_second": 1.0}
    found = {"buffered": single, "durable": single, "processes": processes, "in_bulk": {BATCHED: way}}
    better = deepcopy(found)
    better["durable"] = {**single, "p50_ratio": 1.99}
    better["in_bulk"] = {BATCHED: {**way, "per_second": 171_999.0}}
    goals = list(ingest.report({"10k": better, "1m": found}))[-2:]
    assert [line.split(" | ")[-1] for line in goals] == ["**missed** |", "met |"]
    goals = list(ingest.report({"10k": found, "1m": better}))[-2:]
    assert [line.split(" | ")[-1] for line in goals] == ["met |", "**missed** |"]


def test_what_was_acknowledged_and_is_not_there_is_no_result(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_time_processes", lambda *_: {})
    monkeypatch.setattr(ingest, "_remember", lambda home, memories: len(memories))
    with pytest.raises(RuntimeError, match="brought in: 0 events, where 300 were acknowledged"):
        ingest.measure(work)


def test_processes_remember_the_same_at_once(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    assert write_from(2, home.path, [{"content": "a"}, {"content": "b"}]) > 0
    events, _ = FreshEvents(home).read(0)
    assert sorted(str(event.payload["content"]) for event in events) == ["a", "a", "b", "b"]


def test_the_suite_finds_it() -> None:
    assert find_parts()["ingest"] is ingest
