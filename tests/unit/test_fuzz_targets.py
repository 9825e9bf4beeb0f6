"""What fuzzing has found stays mended: first cases of each target, those that failed, and a few new ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fuzz import target as scratch_place
from fuzz.target import CHEAP, CORPUS, Target
from fuzz.targets import all_targets, find_target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnemoduck.cli.output import escape_controls
from mnemoduck.errors import InvalidAnswerError
from mnemoduck.event_rows import read_rows
from mnemoduck.llm.answers import parse_answer
from mnemoduck.llm.server import _retry_after
from mnemoduck.recall.times import parse_times
from mnemoduck.sentiment import score_sentiment

TARGETS = {target.name: target for _, target in all_targets()}
_QUICK = [name for name, target in TARGETS.items() if target.weight == CHEAP]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient_disk: None) -> None:
    monkeypatch.setattr(scratch_place, "_folder", tmp_path)


def test_each_target_has_first_cases_and_each_folder_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(target.seeds() for target in TARGETS.values())
    assert len(TARGETS) == len(list(all_targets()))


@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"words"}))  # its readers outlive the folder
def test_the_first_cases_of_a_target_hold(name: str) -> None:
    for path in sorted(TARGETS[name].corpus.glob("*")):
        TARGETS[name].check(path.read_bytes())


@pytest.mark.parametrize("name", _QUICK)
def test_a_few_new_cases_of_a_target_hold(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(target.strategy())
    def check(data: bytes) -> None:
        target.check(data[: target.max_bytes])

    check()


@given(st.data())
def test_a_case_that_fails_is_told(data: st.DataObject) -> None:
    def fail(_: bytes) -> None:
        raise KeyError("x")

    broken = Target("events", "nothing", fail)
    with pytest.raises(KeyError):
        broken.check(data.draw(broken.strategy()))


# --- what was found, made small ----------------------------------------


def changed(target: str, seed: str, change: Callable[[Any], None]) -> bytes:
    document = json.loads((CORPUS / target / seed).read_text("utf-8"))
    change(document[0])
    return json.dumps(document).encode()


_LATE = [{"role": "user", "content": "x", "speaker": "a", "text": "x", "dia_id": "D"}] * 70


@pytest.mark.parametrize(
    ("target", "seed", "change"),
    [
        ("questions", "locomo", lambda one: one["qa"][0].update(category=[1])),
        ("questions", "locomo", lambda one: one["conversation"]["session_1"][0].update(dia_id={"a": 1})),
        (
            "questions",
            "locomo",
            lambda one: one["conversation"].update(
                session_1_date_time="11:59 pm on 31 december, 9999", session_1=_LATE
            ),
        ),
        (
            "import_locomo",
            "locomo",
            lambda one: one["conversation"].update(
                session_1_date_time="11:59 pm on 31 december, 9999", session_1=_LATE
            ),
        ),
        ("questions", "longmemeval", lambda one: one.update(haystack_sessions=[["x"]])),
        (
            "questions",
            "longmemeval",
            lambda one: one.update(haystack_dates=["9999/12/31 23:59"], haystack_sessions=[_LATE]),
        ),
        (
            "import_longmemeval",
            "longmemeval",
            lambda one: one.update(haystack_dates=["9999/12/31 23:59"], haystack_sessions=[_LATE]),
        ),
    ],
)
def test_an_evaluation_set_of_wrong_types_or_times_is_refused(
    target: str, seed: str, change: Callable[[Any], None]
) -> None:
    find_target(target).check(changed(target, seed, change))


@pytest.mark.parametrize("value", ["0x" + "f" * 5000, "0b" + "1" * 20_000, "1" + ":1" * 3000])
def test_a_number_of_thousands_of_digits_in_front_matter_is_refused(value: str) -> None:
    find_target("import_markdown").check(f"---\na: {value}\n---\ntext".encode())


@pytest.mark.parametrize(
    "line",
    [
        b'{"rhythms":1}',
        b'{"file":"x","rhythms":{"hourly":5}}',
        b'{"suite":1}',
        b'{"suite":"a","success":true}',
        b'{"suite":"a","success":true,"evaluated":1e400,"failed":[],"checked_at":"2026-03-01T12:00:00Z"}',
        b'{"kind":"recall","started_at":"2026-03-01T12:00:00Z","milliseconds":1,"at_once":1e400}',
    ],
)
def test_a_record_that_is_none_stops_no_reader(line: bytes) -> None:
    find_target("records").check(line + b"\n")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("9" * 400, 10**9), ("9" * 5000, None), ("-5", 0), ("NaN", None), ("", None), ("3", 3)],
    ids=["400 digits", "5000 digits", "negative", "NaN", "nothing", "3"],
)
def test_a_server_can_ask_to_wait_any_number_of_seconds(header: str, seconds: float | None) -> None:
    assert _retry_after(header) == seconds


# --- no text takes the square of its length ----------------------------------------

_HEAD = (
    b'{"event_id":"00000000-0000-0000-0000-000000000001","event_type":"memory",'
    b'"occurred_at":"2026-03-01T12:00:00Z","recorded_at":"2026-03-01T12:00:00Z","payload":{"content":"x'
)
_AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


def _answer(text: str) -> None:
    with pytest.raises(InvalidAnswerError):
        parse_answer("appraisal", text)


def _rows(data: bytes) -> None:
    read_rows(data, lambda _number, _error, _line: None)


_GROWING: dict[str, tuple[int, Callable[[int], Any]]] = {
    "a fence and blanks": (6000, lambda size: _answer("```" + " " * size + "x")),
    "a fence and lines": (6000, lambda size: _answer("```\n" + "\n" * size + "x")),
    "fences": (6000, lambda size: _answer("```\n" + " ``` " * (size // 5) + "x")),
    "thoughts": (6000, lambda size: _answer("<think>" * (size // 7))),
    "on on on": (1000, lambda size: parse_times("on " * (size // 3), _AS_OF)),
    "the last the last": (1000, lambda size: parse_times("the last " * (size // 9), _AS_OF)),
    "between": (1000, lambda size: parse_times("between 1 may and " * (size // 18), _AS_OF)),
    "counts": (1000, lambda size: parse_times("a couple of " * (size // 12), _AS_OF)),
    "content": (20_000, lambda size: _rows(_HEAD + b"a" * size)),
    "escapes": (20_000, lambda size: _rows(_HEAD + rb"\n" * (size // 2))),
    "metadata": (20_000, lambda size: _rows(_HEAD + b'","metadata":{' + b'"a":{"b":[1,2]},' * (size // 16))),
    "blanks": (20_000, lambda size: _rows(_HEAD[:-1] + b" " * size + b'"')),
    "tags": (20_000, lambda size: _rows(_HEAD + b'","tags":["' + b" " * size)),
    "controls": (20_000, lambda size: escape_controls("\x1b" * size)),
    "feelings": (20_000, lambda size: score_sentiment("not very good " * (size // 14))),
    "marks": (20_000, lambda size: score_sentiment("good" + "!" * size)),
}


@pytest.mark.parametrize("name", _GROWING)
def test_a_text_ten_times_as_long_takes_no_hundred_times_as_long(name: str) -> None:
    size, read = _GROWING[name]
    shortest = min(_seconds(read, size) for _ in range(3))
    longest = min(_seconds(read, 10 * size) for _ in range(2))
    # What takes less than a fifth of a millisecond is measured by what is around it.
    assert longest < 50 * max(shortest, 0.0002)


def _seconds(read: Callable[[int], Any], size: int) -> float:
    begun = time.process_time()
    read(size)
    return time.process_time() - begun
