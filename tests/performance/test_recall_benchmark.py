"""The benchmark of recall: its queries have answers, its harness times what it says, its page is its result.

Nothing is held to seconds: the measurement itself is `make bench-recall`, on a quiet machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.recall.__main__ import measure_apart
from benchmarks.recall.homes import (
    ADD_ROUNDS,
    ADDED,
    LAYOUTS,
    MANY,
    ONE,
    make_corpus,
    user_name,
)
from benchmarks.recall.measure import Latencies, ask_fts5, measure_recall, measure_scans
from benchmarks.recall.peers import DIMENSION, Fts5, measure_peer, vectors
from benchmarks.recall.queries import Question
from benchmarks.recall.report import (
    CACHED_AT_LEAST,
    FTS5_SHARE_AT_MOST,
    GROWTH_AT_MOST,
    PAGE,
    PLOT,
    adding_seconds,
    count_errors,
    find_better_peers,
    growth_of_scopes,
    share_of_fts5,
    slowest_cached,
    write_report,
)

from mnemoduck import Memory
from mnemoduck.home import open_home

PROJECT = Path(__file__).resolve().parents[2]
RESULT = PROJECT / "benchmarks" / "recall" / "result.json"
needs_result = pytest.mark.skipif(
    not RESULT.exists(), reason="not measured yet: make bench-recall, on a quiet machine"
)


def test_each_of_a_thousand_users_has_the_same_share() -> None:
    shares: dict[str, int] = {}
    for number in range(20_000):
        user = user_name(number, LAYOUTS[MANY])
        shares[user] = shares.get(user, 0) + 1
    assert set(shares.values()) == {20}
    assert len(shares) == 1000
    assert {user_name(number, LAYOUTS[ONE]) for number in range(100)} == {"user-0"}


def test_enough_memories_follow_the_base_to_be_added(tmp_path: Path) -> None:
    corpus = make_corpus(1000, tmp_path, seed=1)
    assert len(corpus.newest) == ADDED * ADD_ROUNDS
    assert all(json.loads(line)["event_type"] == "memory" for line in corpus.newest)


def test_texts_that_share_words_have_near_vectors() -> None:
    matrix = vectors(["a flight to Lisbon", "the flight to lisbon!", "hazelnuts make me ill"])
    assert matrix.shape == (3, DIMENSION)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)
    near, far = matrix[0] @ matrix[1], matrix[0] @ matrix[2]
    assert near > 0.6 > 0.3 > far


@pytest.mark.parametrize("with_users", [False, True])
def test_fts5_is_asked_for_any_of_the_words_in_a_scope_by_their_stems(
    tmp_path: Path, with_users: bool
) -> None:
    index = Fts5(tmp_path / "index.sqlite", with_users)
    index.add([("user-1", "Flights to Lisbon"), ("user-2", "a flight to Porto"), ("user-12", "no answer")])
    index.finish()
    assert [row[0] for row in index.search(["flight", "lisbon"], None)] == [1, 2]
    if with_users:
        assert [row[0] for row in index.search(["flight", "lisbon"], "user-2")] == [2]
        assert index.search(["flight"], "user-12") == []
    index.close()


def test_a_call_that_fails_and_one_without_an_answer_are_errors() -> None:
    def fail(_: Question) -> int:
        raise ValueError

    question = Question("", (), "")
    latencies = Latencies()
    for ask in (fail, lambda _: 0, lambda _: 3):
        latencies.time(ask, question)
    found = latencies.as_dict(select_1_ms=1.0)
    assert (found["calls"], found["errors"]) == (3, 2)
    assert found["p50_ms"] <= found["p99_ms"]


def test_a_peer_is_filled_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Everything:
        package = "numpy"
        needs_vectors = True

        def __init__(self, folder: Path) -> None:
            folder.mkdir()
            self._folder = folder
            self.rows: list[tuple[str, str]] = []

        def add(self, rows: list[tuple[str, str]], matrix: Any) -> None:
            assert matrix.shape == (len(rows), DIMENSION)
            self.rows += rows

        def finish(self) -> None:
            (self._folder / "store").write_bytes(b"12345")

        def search(self, _text: str, _vector: Any, user: str | None) -> int:
            return sum(user in (None, owner) for owner, _ in self.rows)

    monkeypatch.setitem(sys.modules["benchmarks.recall.peers"].ENGINES, "everything", Everything)
    rows = [("user-1", "one"), ("user-2", "two")]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [{"text": "one", "user": "user-1"}, {"text": "two", "user": "user-3"}] * 3
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    found = measure_peer("everything", tmp_path, seconds=1)
    assert (found["rows"], found["disk_bytes"]) == (2, 5)
    assert (found["whole"]["calls"], found["whole"]["unanswered"]) == (4, 0)
    assert (found["one_user"]["calls"], found["one_user"]["unanswered"]) == (4, 2)


def test_recall_is_timed_cold_and_cached_by_one_thread_and_by_eight(tmp_path: Path) -> None:
    """Of what was not built yet, so that dbt need not be started."""
    index = Fts5(tmp_path / "index.sqlite", with_users=True)
    with Memory(tmp_path / "home") as memory:
        for number in range(30):
            memory.remember(f"flight {number} to Lisbon", user_id="user-1")
        index.add([("user-1", f"flight {number} to Lisbon") for number in range(30)])
    index.finish()
    asked = [Question(f"flight {number}", ("flight", str(number)), "user-1") for number in range(29)]
    nobody = Question("flight", ("flight",), "user-2")
    home = open_home(tmp_path / "home")
    found = measure_recall(home, [*asked, nobody], ask_fts5(index, is_shared=True), seconds=0.1)
    index.close()
    for kind in ("lexical", "cold", "cold_threads", "cached", "cached_threads", "fts5", "fts5_as_asked"):
        assert found[kind]["calls"] > 0
        assert found[kind]["p50_ratio"] > 0
        assert found[kind]["errors"] == (kind == "cold_threads"), "nobody has no answer, and is asked last"
    scans = measure_scans(home, asked[:2])
    assert sum(scans["rows_scanned"].values()) > 0


def test_a_peer_that_is_not_there_is_skipped_with_the_reason(tmp_path: Path) -> None:
    missing = measure_apart("Chroma", tmp_path, 0.1, str(tmp_path / "no-python"))
    assert "could not be started" in missing["skipped"]


def _size(rows: int, one: float, many: float, fts5: float, cached: float) -> dict[str, Any]:
    """Return a result of a size with so many milliseconds in one scope, in many, and of FTS5."""

    def layout(milliseconds: float) -> dict[str, Any]:
        def times(p50: float, rate: float) -> dict[str, Any]:
            return {
                "calls": 50,
                "errors": 0,
                "p50_ms": p50,
                "p99_ms": 2 * p50,
                "p50_ratio": p50 / 0.1,
                "p99_ratio": p50 / 0.05,
                "calls_per_second": rate,
            }

        recall = {
            "first_ms": 99.0,
            "lexical": times(milliseconds / 2, 2e3 / milliseconds),
            "cold": times(milliseconds, 1e3 / milliseconds),
            "cold_threads": times(milliseconds, 1e3 / milliseconds),
            "cached": times(1e3 / cached, cached),
            "cached_threads": times(8e3 / cached, cached),
            "fts5": times(fts5, 1e3 / fts5),
            "fts5_as_asked": times(10 * fts5, 1e2 / fts5),
        }
        build = {
            "rows": rows,
            "postings": 12 * rows,
            "load_seconds": 1.0,
            "dbt_seconds": 7.0,
            "index_seconds": 1.0,
            "publish_seconds": 2.0,
            "warehouse_bytes": 4000 * rows,
            "index_bytes": 400 * rows,
        }
        counts = {"retrieval.search_postings": rows // 10}
        return {
            "build": build,
            "recall": recall,
            "fts5_build": {"rows": rows, "seconds": 5.0, "bytes": 100 * rows},
            "scans": {"questions": 1, "rows_scanned": counts, "most_rows_scanned": counts},
            "adding": {"memories": 100, "rounds": [{"index_seconds": s} for s in (0.4, 0.2, 0.3)]},
        }

    run = {
        "measured_at": "2026-11-21T00:00:00",
        "commit": "abc",
        "processors": 2,
        "architecture": "x",
        "memory_gb": 24,
        "python": "3.11",
        "sqlite": "3.45",
        "packages": {"duckdb": "1.5.5"},
    }
    peer = {
        "version": "1.2",
        "rows": rows,
        "ingest_seconds": 100.0,
        "disk_bytes": 9000 * rows,
        "memory_bytes": 0,
        "whole": {"calls": 9, "unanswered": 0, "p50_ms": 2 * one, "p99_ms": 3 * one},
        "one_user": {"calls": 9, "unanswered": 1, "p50_ms": many / 2, "p99_ms": many},
    }
    return {
        "rows": rows,
        "run": run,
        "failures": [],
        "layouts": {ONE: layout(one), MANY: layout(many)},
        "peers": {"Chroma": peer, "rank-bm25": {"skipped": "not installed"}},
    }


def test_the_page_says_what_was_asked_for_and_where_a_peer_is_better(tmp_path: Path) -> None:
    sizes = [_size(10_000, 5.0, 4.0, 1.0, 2e5), _size(1_000_000, 40.0, 6.0, 100.0, 5e4)]
    assert growth_of_scopes(sizes) == pytest.approx(1.5)
    assert share_of_fts5(sizes[1]) == pytest.approx(0.2)
    assert slowest_cached(sizes) == 5e4
    assert adding_seconds(sizes[1], ONE) == 0.3
    write_report({"sizes": sizes}, tmp_path)
    page = (tmp_path / PAGE).read_text()
    assert "| 1,000 scopes: p50 at 1,000,000 over p50 at 10,000 | at most 2 | 1.50 | met |" in page
    goal = (
        "| one scope: p50 by words alone at 1,000,000 over that of FTS5, given {} | at most 0.5 | {} | met |"
    )
    assert goal.format("its telling words", "0.20") in page
    assert goal.format("all its words", "0.02") in page
    assert (
        "| cached recalls a second, one thread, the fewest | at least 100,000 | 50,000 | **missed** |" in page
    )
    assert (
        "At 1,000,000 memories **Chroma** is better at a query in one scope of 1,000 (p50): 3.0 against"
        in page
    )
    better = list(find_better_peers(sizes[1]))
    assert ["Chroma" in sentence for sentence in better] == [False, True]
    assert "ingest" not in better[1]
    assert "disk: 100 against 4,000 MB" in better[0]
    assert "rank-bm25: not installed" in page
    assert "Chroma at 10,000 in one scope: 1 of 9" in page
    assert (tmp_path / PLOT).read_text().startswith("<?xml")


@needs_result
def test_the_committed_page_is_made_of_the_committed_result(tmp_path: Path) -> None:
    _benchmark("report", "--docs", str(tmp_path))
    assert (tmp_path / PAGE).read_text() == (PROJECT / "docs" / PAGE).read_text()


@needs_result
def test_the_committed_result_has_what_was_asked_for() -> None:
    """But for half of FTS5's time, which is missed, and said so on the page and in decision 18."""
    sizes = json.loads(RESULT.read_text())["sizes"]
    assert count_errors(sizes) == 0
    growth, cached = growth_of_scopes(sizes), slowest_cached(sizes)
    assert growth is not None
    assert growth <= GROWTH_AT_MOST
    assert cached is not None
    assert cached >= CACHED_AT_LEAST
    share = share_of_fts5(sizes[-1])
    assert share is not None
    if share > FTS5_SHARE_AT_MOST:
        assert f"| {share:.2f} | **missed** |" in (PROJECT / "docs" / PAGE).read_text()


def _benchmark(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.recall", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
