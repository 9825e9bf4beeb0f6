"""Samples of how long questions take: off by default, every n-th where asked for, never what was asked."""

from __future__ import annotations

import json
import stat
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mnemoduck import Memory
from mnemoduck.errors import NothingPublishedError, UsageError
from mnemoduck.home import Home
from mnemoduck.query_samples import KEPT_DAYS, QuerySampler
from mnemoduck.warehouse import ConnectionStatistics

from .conftest import in_child


def samples(home: Home) -> list[dict[str, Any]]:
    files = sorted(home.query_samples.glob("*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_nothing_is_sampled_and_nothing_stands_before_the_methods_unless_it_is_asked_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNEMODUCK_QUERY_SAMPLE_RATE", raising=False)
    with Memory(home.path) as memory:
        memory.recall("tea")
        assert vars(memory).keys().isdisjoint({"recall", "get", "cursor_for"})
    assert not home.query_samples.exists()


def test_every_nth_call_of_a_kind_is_written_without_what_was_asked(home: Home) -> None:
    with Memory(home.path, query_sample_rate=0.25) as memory:
        memory_id = memory.remember("Maya drinks tea", user_id="maya")
        for _ in range(9):
            memory.recall("what does Maya drink, tea?", user_id="maya")
        for _ in range(4):
            memory.get(memory_id)

    found = samples(home)
    assert Counter(sample["kind"] for sample in found) == {"recall": 2, "get": 1}
    assert {sample["rate"] for sample in found} == {0.25}
    assert {sample["at_once"] for sample in found} == {1}
    assert all(sample["milliseconds"] >= 0 and not sample["is_error"] for sample in found)
    (file,) = home.query_samples.iterdir()
    assert "maya" not in file.read_text().lower()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("rate", "calls", "written"), [(1.0, 5, 5), (0.4, 10, 4), (0.01, 99, 0), (0.01, 100, 1)]
)
def test_the_share_of_calls_that_is_written_is_the_rate(
    rate: float, calls: int, written: int, home: Home
) -> None:
    sampler = QuerySampler(home, rate, ConnectionStatistics)
    ask = sampler.measuring("recall", lambda: None)
    for _ in range(calls):
        ask()
    assert len(samples(home)) == written


def test_a_question_that_fails_is_sampled_with_the_kind_of_its_error(home: Home) -> None:
    with (
        Memory(home.path, query_sample_rate=1) as memory,
        pytest.raises(NothingPublishedError),
    ):
        memory.sql("select 42")

    (sample,) = samples(home)
    assert (sample["kind"], sample["is_error"], sample["error_kind"]) == (
        "sql",
        True,
        "NothingPublishedError",
    )


def test_a_question_that_asks_others_is_one(home: Home) -> None:
    """A context is a recall, and `sql` asks `cursor_for`: see above."""
    with Memory(home.path, query_sample_rate=1) as memory:
        memory.context("tea")
    assert [sample["kind"] for sample in samples(home)] == ["recall"]


def test_waits_are_counted_once(home: Home) -> None:
    seen = iter([ConnectionStatistics(waits=3), ConnectionStatistics(waits=5, in_use=2)])
    ask = QuerySampler(home, 1, lambda: next(seen)).measuring("recall", lambda: None)
    ask()
    ask()
    assert [(sample["waits"], sample["at_once"]) for sample in samples(home)] == [(3, 1), (2, 3)]


def test_a_forked_process_samples_too(home: Home) -> None:
    with Memory(home.path, query_sample_rate=1) as memory:
        memory.recall("tea")
        assert in_child(lambda: memory.recall("coffee")) == 0
    assert len(samples(home)) == 2


def test_samples_are_kept_for_some_days(home: Home) -> None:
    home.query_samples.mkdir()
    today = datetime.now(UTC).date()
    for days in (KEPT_DAYS + 1, KEPT_DAYS + 30, KEPT_DAYS - 2):
        (home.query_samples / f"{today - timedelta(days=days)}.jsonl").touch()

    QuerySampler(home, 1, ConnectionStatistics).measuring("recall", lambda: None)()

    kept = [path.stem for path in sorted(home.query_samples.iterdir())]
    assert kept[0] == str(today - timedelta(days=KEPT_DAYS - 2))
    assert len(kept) == 2


def test_a_sample_that_cannot_be_written_costs_no_answer(home: Home) -> None:
    home.query_samples.write_text("a file where a folder is expected")
    assert QuerySampler(home, 1, ConnectionStatistics).measuring("recall", lambda: 42)() == 42


def test_a_rate_that_is_no_share_is_refused_with_what_it_takes(home: Home) -> None:
    with pytest.raises(UsageError, match="query_sample_rate"):
        Memory(home.path, query_sample_rate=1.5)


def test_the_rate_is_a_setting(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEMODUCK_QUERY_SAMPLE_RATE", "1")
    with Memory(home.path) as memory:
        memory.recall("tea")
    assert [sample["kind"] for sample in samples(home)] == ["recall"]
