"""The calls of a run: whatever fails, all else is answered and committed, within the limits."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.ollama_server import FAULTS, INJECTION, OllamaDouble, appraise, extract

from mnemoduck.errors import StorageError, UsageError
from mnemoduck.llm.calls import (
    INVALID_STREAK,
    Budget,
    Call,
    CallReport,
    Limits,
    Outcome,
    Prompt,
    ask_prompts,
)
from mnemoduck.llm.keys import ALGORITHM, prompt_hash, prompt_key
from mnemoduck.llm.records import Response
from mnemoduck.llm.server import OllamaServer
from mnemoduck.llm.settings import TemplateSettings

from .conftest import StartPython
from .test_llm_server import APPRAISAL, Waits, settings_of

EXTRACTION = settings_of("extraction")
QUIET = Limits(concurrency=1, breaker_failures=3)


@pytest.fixture
def double() -> Iterator[OllamaDouble]:
    with OllamaDouble() as started:
        yield started
    assert started.errors == []


@pytest.fixture
def server(double: OllamaDouble) -> Iterator[OllamaServer]:
    with OllamaServer(double.url, timeout_seconds=30, attempts=2, sleep=Waits()) as opened:
        yield opened


def prompt(text: str, settings: TemplateSettings = APPRAISAL) -> Prompt:
    tag = f"memory-{prompt_hash([text]).hex[:16]}"
    fenced = f"<{tag}>\n{text}\n</{tag}>" if settings.response_schema else text
    input_hash = prompt_hash([fenced])
    return Prompt(prompt_key(settings.settings_hash, input_hash), input_hash, fenced, settings)


def count(report: CallReport, outcome: Outcome) -> int:
    return sum(made.outcome == outcome for made in report.calls)


class Cache:
    """What was committed, and how."""

    def __init__(self) -> None:
        self.commits: list[list[Any]] = []
        self.threads: set[threading.Thread] = set()

    def __call__(self, rows: list[Any]) -> None:
        assert rows, "nothing is committed"
        self.commits.append(rows)
        self.threads.add(threading.current_thread())

    @property
    def rows(self) -> list[Any]:
        return list(itertools.chain.from_iterable(self.commits))

    def row(self, asked: Prompt) -> Any:
        [row] = [row for row in self.rows if row.key == asked.key]
        return row


@pytest.fixture
def cache() -> Cache:
    return Cache()


def call(report: CallReport, asked: Prompt) -> Call:
    [found] = [found for found in report.calls if found.key == asked.key]
    return found


# --- what is kept -------------------------------------------------------------------------------------


def test_an_answer_is_kept_with_everything_that_led_to_it(server: OllamaServer, cache: Cache) -> None:
    rating, notes = prompt("I decided to live in Lisbon today"), prompt("I live in Lisbon", EXTRACTION)
    report = ask_prompts([rating, notes], server, QUIET, cache)
    assert report.stopped_by is None
    assert report.call_count == 2
    row: Response = cache.row(rating)
    assert json.loads(row.answer or "") == appraise("I decided to live in Lisbon today")
    assert json.loads(cache.row(notes).answer) == extract("I live in Lisbon")
    assert row == Response(
        key=rating.key,
        algorithm=ALGORITHM,
        template="appraisal",
        template_version=1,
        settings_hash=APPRAISAL.settings_hash,
        instructions=APPRAISAL.instructions,
        input_characters=8000,
        input=rating.input,
        input_hash=rating.input_hash,
        model="llama3.2",
        model_digest=None,
        options='{"temperature":0}',
        response_schema=APPRAISAL.response_schema,
        response=json.dumps(appraise("I decided to live in Lisbon today")),
        answer=row.answer,
        error=None,
        prompt_tokens=row.prompt_tokens,
        answer_tokens=row.answer_tokens,
        latency_ms=row.latency_ms,
        created_at=row.created_at,
        last_used_at=row.created_at,
        use_count=0,
    )
    logged = call(report, rating)
    assert (logged.outcome, logged.error, logged.attempts) == ("answered", None, 1)
    assert (logged.prompt_tokens, logged.answer_tokens) == (row.prompt_tokens, row.answer_tokens)
    assert logged.started_at <= row.created_at
    assert logged.started_at.tzinfo is None
    assert 0 < row.latency_ms <= logged.latency_ms


def test_the_same_prompt_is_asked_once(double: OllamaDouble, server: OllamaServer, cache: Cache) -> None:
    prompts = [prompt(text) for text in ("one", "two", "one", "one", "two")]
    seen: list[tuple[int, int, int]] = []
    report = ask_prompts(prompts, server, QUIET, cache, lambda *state: seen.append(state))
    assert sorted(double.texts()) == ["one", "two"]
    assert len(report.calls) == len(cache.rows) == 2
    assert seen == [(1, 2, 0), (2, 2, 0)]


# --- what goes wrong ----------------------------------------------------------------------------------

ANSWERED = {"slow", "fence", "injection"}
INVALID = {
    "empty-answer": "The answer is empty; it has to be one JSON object.",
    "not-json": "The answer is no JSON object; it has to begin with { and end with }.",
    "cut-answer": "The answer was cut off after ",
    "truncated-json": "The answer is not valid JSON, or is cut off: EOF while parsing",
    "wrong-schema": "importance: Input should be less than or equal to 1. mood: Extra inputs",
    "long": "The answer is longer than 65,536 bytes; it has to be much shorter.",
    "long-line": "The answer is longer than 65,536 bytes; it has to be much shorter.",
    "surrogates": "The answer is no JSON object",
    "too-long-text": "The text is longer than the model can read.",
}
STOPPING = {
    "http-400": "refused the request (HTTP 400: invalid option provided).",
    "http-401": "wants to know who asks (HTTP 401: unauthorized). Give it a key with OLLAMA_API_KEY.",
    "model-missing": "has no model llama3.2. Get it with `ollama pull llama3.2`.",
    "not-ollama": "does not speak Ollama's protocol (HTTP 404). Is the address right?",
    "redirect": "sends elsewhere (HTTP 307). Name the place itself: the variable llm_host or OLLAMA_HOST.",
}
CHAT_FAULTS = [fault for fault in FAULTS if not fault.startswith("vector")]


@pytest.mark.parametrize("fault", CHAT_FAULTS)
def test_whatever_happens_to_one_prompt_the_others_are_answered(
    fault: str, double: OllamaDouble, cache: Cache
) -> None:
    before = [prompt(f"before {number}") for number in range(3)]
    bad = prompt(f"the bad one fault:{fault}")
    after = [prompt(f"after {number}") for number in range(3)]
    with OllamaServer(double.url, timeout_seconds=0.4, attempts=2, sleep=Waits()) as server:
        report = ask_prompts([*before, bad, *after], server, QUIET, cache)
    logged = call(report, bad)
    others = before if fault in STOPPING else before + after
    for other in others:
        assert call(report, other).outcome == "answered"
        assert cache.row(other).answer is not None
    if fault in ANSWERED:
        assert (logged.outcome, logged.error) == ("answered", None)
    elif fault in INVALID:
        assert logged.outcome == "invalid"
        assert str(logged.error).startswith(INVALID[fault])
        row = cache.row(bad)
        assert (row.error, row.answer) == (logged.error, None)
        assert logged.attempts == double.texts().count(f"the bad one fault:{fault}")
    else:
        assert logged.outcome == "failed"
        assert str(logged.error).startswith(f"The model server at {double.url} {STOPPING.get(fault, '')}")
        assert bad.key not in {row.key for row in cache.rows}, "it is pending"
    assert report.stopped_by == (logged.error if fault in STOPPING else None)
    assert len(report.calls) == len(others) + 1


def test_a_run_without_a_server_ends_soon_and_says_why(double: OllamaDouble, cache: Cache) -> None:
    double.stop()
    with OllamaServer(double.url, attempts=2, sleep=Waits()) as server:
        report = ask_prompts([prompt(str(number)) for number in range(50)], server, QUIET, cache)
    assert [made.outcome for made in report.calls] == ["failed"] * 3
    assert report.stopped_by == (
        "3 calls of the model in a row failed, so no more are made in this run. "
        f"The model server at {double.url} cannot be reached (asked 2 times). "
        "Start it with `ollama serve`, or name another with the variable llm_host or OLLAMA_HOST."
    )
    assert cache.commits == []


def test_what_was_answered_before_the_server_died_is_kept(
    double: OllamaDouble, server: OllamaServer, cache: Cache
) -> None:
    def stop(done: int, *_: int) -> None:
        if done == 5:
            double.stop()

    report = ask_prompts([prompt(str(number)) for number in range(50)], server, QUIET, cache, stop)
    assert count(report, "answered") == len(cache.rows) == 5
    assert count(report, "failed") == 3
    assert "cannot be reached" in str(report.stopped_by)


def test_the_breaker_counts_failures_in_a_row(
    double: OllamaDouble, server: OllamaServer, cache: Cache
) -> None:
    bad = [prompt(f"bad {number} fault:http-500") for number in range(5)]
    good = [prompt(f"good {number}") for number in range(5)]
    report = ask_prompts([bad[0], bad[1], good[0], bad[2], good[1], bad[3], bad[4]], server, QUIET, cache)
    assert report.stopped_by is None
    assert (count(report, "failed"), count(report, "answered")) == (5, 2)
    report = ask_prompts([*bad, *good], server, QUIET, cache)
    assert (count(report, "failed"), count(report, "answered")) == (3, 0)
    report = ask_prompts(bad, server, replace(QUIET, breaker_failures=1), cache)
    assert str(report.stopped_by).startswith("A call of the model failed, so no more are made in this run.")
    assert report.call_count == 1


def test_answers_that_cannot_be_used_do_not_open_the_breaker(server: OllamaServer, cache: Cache) -> None:
    prompts = [prompt(f"{number} fault:not-json") for number in range(6)]
    report = ask_prompts(prompts, server, QUIET, cache)
    assert report.stopped_by is None
    assert count(report, "invalid") == 6


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_model_that_answers_nonsense_is_not_asked_on_and_no_prompt_is_given_up(
    server: OllamaServer, cache: Cache, concurrency: int
) -> None:
    bad = [prompt(f"{number} fault:not-json") for number in range(30)]
    limits = replace(QUIET, concurrency=concurrency, commit_seconds=0)
    report = ask_prompts(bad, server, limits, cache)
    assert cache.rows == []
    assert count(report, "invalid") == 0
    assert INVALID_STREAK <= count(report, "failed") < INVALID_STREAK + concurrency
    assert str(report.stopped_by).startswith(
        f"{INVALID_STREAK} prompts in a row got no valid answer of the model llama3.2, so no more are asked "
        "in this run, and these are asked again."
    )
    assert "The answer is no JSON object" in str(report.calls[-1].error)


def test_invalid_answers_wait_for_a_valid_one_or_the_end_to_be_committed(
    server: OllamaServer, cache: Cache
) -> None:
    bad = [prompt(f"{number} fault:not-json") for number in range(2 * INVALID_STREAK - 2)]
    half = INVALID_STREAK - 1
    asked = [*bad[:half], prompt("a good one"), *bad[half:]]
    committed: list[int] = []
    limits = replace(QUIET, commit_seconds=0)
    report = ask_prompts(asked, server, limits, cache, lambda *_: committed.append(len(cache.rows)))
    assert report.stopped_by is None
    assert committed == [0] * (half + 1) + [half + 1] * half
    assert [row.key for row in cache.rows] == [one.key for one in asked]
    assert count(report, "invalid") == len(bad)


def test_a_text_that_is_too_long_says_nothing_against_the_model(server: OllamaServer, cache: Cache) -> None:
    asked = [prompt(f"{number} fault:too-long-text") for number in range(INVALID_STREAK + 2)]
    report = ask_prompts(asked, server, QUIET, cache)
    assert (report.stopped_by, count(report, "invalid"), len(cache.rows)) == (None, len(asked), len(asked))


def test_an_error_of_ours_gives_up_no_prompt(server: OllamaServer, cache: Cache) -> None:
    def fail(done: int, *_: int) -> None:
        if done == 3:
            raise ZeroDivisionError

    good, bad = prompt("good"), [prompt(f"{number} fault:not-json") for number in range(5)]
    with pytest.raises(ZeroDivisionError):
        ask_prompts([good, *bad], server, QUIET, cache, fail)
    assert [row.key for row in cache.rows] == [good.key]


def test_an_invalid_answer_is_asked_again_with_the_reason(
    double: OllamaDouble, server: OllamaServer, cache: Cache
) -> None:
    asked = prompt("hello fault:wrong-schema:1")
    report = ask_prompts([asked], server, QUIET, cache)
    assert json.loads(cache.row(asked).answer) == appraise("hello")
    assert cache.row(asked).error is None
    [first, second] = [body["messages"] for path, body in double.requests if path == "/api/chat"]
    assert second[:2] == first
    assert json.loads(second[2]["content"])["importance"] == 7
    assert "importance: Input should be less than or equal to 1." in second[3]["content"]
    logged = call(report, asked)
    assert (logged.outcome, logged.attempts, report.call_count) == ("answered", 2, 2)
    single = ask_prompts([prompt("hello")], server, QUIET, cache).calls[0]
    assert logged.prompt_tokens > 2 * single.prompt_tokens - 10
    assert cache.row(asked).prompt_tokens == logged.prompt_tokens


def test_attempts_are_counted(server: OllamaServer, cache: Cache) -> None:
    asked = prompt("hello fault:http-500:1")
    assert call(ask_prompts([asked], server, QUIET, cache), asked).attempts == 2


def test_what_a_model_says_stays_data(server: OllamaServer, cache: Cache) -> None:
    asked = prompt("I live in Lisbon fault:injection", EXTRACTION)
    ask_prompts([asked], server, QUIET, cache)
    answer = json.loads(cache.row(asked).answer)
    assert answer["concepts"] == [INJECTION]
    assert answer["facts"][0]["valid_from"] is None


# --- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_calls_are_made_at_once_than_allowed(
    concurrency: int, double: OllamaDouble, cache: Cache
) -> None:
    double.delay = 0.02
    prompts = [prompt(str(number)) for number in range(12)]
    with OllamaServer(double.url) as server:
        report = ask_prompts(prompts, server, replace(QUIET, concurrency=concurrency), cache)
    assert count(report, "answered") == 12
    assert double.peak == concurrency


def test_no_more_prompts_are_taken_than_are_asked_and_one(server: OllamaServer, cache: Cache) -> None:
    numbers = itertools.count()
    endless = (prompt(str(number)) for number in numbers)
    report = ask_prompts(endless, server, replace(QUIET, budget_calls=3), cache)
    assert report.stopped_by == (
        "The run's budget of 3 calls for the model is used up (llm_budget_calls); the next run goes on."
    )
    assert len(cache.rows) == report.call_count == 3
    assert next(numbers) == 4


def test_a_budget_that_is_just_enough_stops_nothing(server: OllamaServer, cache: Cache) -> None:
    prompts = [prompt("one"), prompt("two")]
    assert ask_prompts(prompts, server, replace(QUIET, budget_calls=2), cache).stopped_by is None
    report = ask_prompts(prompts, server, replace(QUIET, budget_calls=0), cache)
    assert "budget of 0 calls" in str(report.stopped_by)
    assert report.calls == []


def test_a_correction_is_a_call_and_without_one_left_the_prompt_is_pending(
    double: OllamaDouble, server: OllamaServer, cache: Cache
) -> None:
    asked = prompt("hello fault:wrong-schema")
    report = ask_prompts([asked], server, replace(QUIET, budget_calls=1), cache)
    logged = call(report, asked)
    assert logged.outcome == "failed"
    assert str(logged.error).startswith("The answer cannot be used: importance: Input should be less")
    assert "It was not asked again. The run's budget of 1 calls" in str(logged.error)
    assert cache.rows == []
    assert double.count("/api/chat") == 1


def test_a_budget_is_shared_by_those_who_are_given_it(server: OllamaServer, cache: Cache) -> None:
    limits = replace(QUIET, budget_calls=3)
    budget = Budget(limits)
    first = ask_prompts([prompt("one"), prompt("two")], server, limits, cache, budget=budget)
    second = ask_prompts([prompt("three"), prompt("four")], server, limits, cache, budget=budget)
    assert (first.call_count, second.call_count, budget.calls) == (2, 1, 3)
    assert first.stopped_by is None
    assert "budget of 3 calls" in str(second.stopped_by)


def test_each_call_has_its_latency(server: OllamaServer, cache: Cache) -> None:
    prompts = [prompt("one"), prompt("two fault:wrong-schema:1"), prompt("three fault:http-500")]
    report = ask_prompts(prompts, server, QUIET, cache)
    assert len(report.latencies_ms) == report.call_count == 4
    assert all(latency > 0 for latency in report.latencies_ms)
    assert sum(report.latencies_ms) <= sum(made.latency_ms for made in report.calls)


def test_tokens_are_bounded(server: OllamaServer, cache: Cache) -> None:
    prompts = [prompt(str(number)) for number in range(9)]
    whole = ask_prompts(prompts, server, QUIET, cache).calls
    spent = sum(made.prompt_tokens + made.answer_tokens for made in whole[:4])
    report = ask_prompts(prompts, server, replace(QUIET, budget_tokens=spent), cache)
    assert len(report.calls) == 4
    assert f"budget of {spent:,} tokens" in str(report.stopped_by)


def test_seconds_are_bounded(server: OllamaServer, cache: Cache) -> None:
    now = 0.0

    def advance(*_: int) -> None:
        nonlocal now
        now += 10

    prompts = [prompt(str(number)) for number in range(9)]
    limits = replace(QUIET, budget_seconds=40)
    report = ask_prompts(prompts, server, limits, cache, advance, monotonic=lambda: now)
    assert len(report.calls) == len(cache.rows) == 4
    assert "budget of 40 seconds" in str(report.stopped_by)


def test_limits_are_read_from_json() -> None:
    given = '{"concurrency": 3, "host": "example.com"}'
    assert Limits.from_json(given) == Limits(host="example.com", concurrency=3)
    assert Limits.from_json('{"host": null, "attempts": 7}') == Limits(attempts=7)
    for text in ('{"speed": 1}', "[]", "fast"):
        with pytest.raises(UsageError, match="JSON object of host, timeout_seconds, attempts"):
            Limits.from_json(text)


# --- commits ------------------------------------------------------------------------------------------


def test_answers_are_committed_every_few_seconds_by_the_thread_that_asks(
    server: OllamaServer, cache: Cache
) -> None:
    now = 0.0

    def advance(*_: int) -> None:
        nonlocal now
        now += 1

    prompts = [prompt(str(number)) for number in range(12)]
    ask_prompts(prompts, server, replace(QUIET, commit_seconds=5), cache, advance, monotonic=lambda: now)
    assert [len(rows) for rows in cache.commits] == [5, 5, 2]
    assert cache.threads == {threading.current_thread()}
    assert [row.key for row in cache.rows] == [one.key for one in prompts]


def test_answers_are_committed_while_a_call_takes_long(double: OllamaDouble) -> None:
    events: list[str] = []
    with OllamaServer(double.url, timeout_seconds=0.8) as server:
        ask_prompts(
            [prompt("one"), prompt("two fault:hang")],
            server,
            replace(QUIET, concurrency=2, commit_seconds=0.1),
            lambda rows: events.append(f"{len(rows)} committed"),
            lambda done, *_: events.append(f"{done} done"),
        )
    assert events == ["1 done", "1 committed", "2 done"]


def test_an_interrupt_loses_nothing_and_waits_for_nothing(double: OllamaDouble, cache: Cache) -> None:
    prompts = [prompt("one"), prompt("two"), prompt("three fault:hang"), prompt("four fault:hang")]

    def interrupt() -> None:
        while double.count("/api/chat") < 4:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    begun = time.monotonic()
    with OllamaServer(double.url, timeout_seconds=30) as server, pytest.raises(KeyboardInterrupt):
        ask_prompts(prompts, server, replace(QUIET, concurrency=2, commit_seconds=60), cache)
    assert time.monotonic() - begun < 10
    assert {row.key for row in cache.rows} == {prompts[0].key, prompts[1].key}


def test_an_error_of_ours_loses_nothing(double: OllamaDouble, server: OllamaServer, cache: Cache) -> None:
    def fail(done: int, *_: int) -> None:
        if done == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_prompts([prompt(str(number)) for number in range(9)], server, QUIET, cache, fail)
    assert len(cache.rows) == 3


def test_an_error_of_ours_loses_no_answer_that_came_meanwhile(double: OllamaDouble, cache: Cache) -> None:
    def fail(*_: int) -> None:
        while double.count("/api/chat") < 2 or double.is_busy:
            time.sleep(0.01)
        time.sleep(0.1)  # until the other thread has read its answer
        raise ZeroDivisionError

    limits = replace(QUIET, concurrency=2, commit_seconds=60)
    with OllamaServer(double.url) as server, pytest.raises(ZeroDivisionError):
        ask_prompts([prompt("one"), prompt("two")], server, limits, cache, fail)
    assert len(cache.rows) == 2


def test_prompts_that_cannot_be_read_lose_no_answers(server: OllamaServer, cache: Cache) -> None:
    def read() -> Iterator[Prompt]:
        yield from [prompt("one"), prompt("two")]
        raise StorageError("the disk is gone")

    with pytest.raises(StorageError, match="the disk is gone"):
        ask_prompts(read(), server, QUIET, cache)
    assert len(cache.rows) == 2


def test_a_commit_that_fails_is_tried_once_more_and_ends_the_calls(
    double: OllamaDouble, server: OllamaServer
) -> None:
    committed: list[Response] = []
    failures = iter([StorageError("the disk is full")])

    def commit(rows: list[Response]) -> None:
        for failure in failures:
            raise failure
        committed.extend(rows)

    prompts = [prompt(str(number)) for number in range(9)]
    with pytest.raises(StorageError, match="the disk is full"):
        ask_prompts(prompts, server, replace(QUIET, commit_seconds=0), commit)
    assert len(committed) == 1 <= double.count("/api/chat") < 9


COMMITTING = """
import json, os, sys
from pathlib import Path
from mnemoduck.llm.calls import Limits, Prompt, ask_prompts
from mnemoduck.llm.keys import prompt_hash, prompt_key
from mnemoduck.llm.server import OllamaServer
from mnemoduck.llm.settings import TemplateSettings

url, path, settings = sys.argv[1], Path(sys.argv[2]), TemplateSettings(**json.loads(sys.argv[3]))
known = {json.loads(line)["key"] for line in path.read_text().splitlines()} if path.exists() else set()
prompts = []
for number in range(2000):
    input_hash = prompt_hash([str(number)])
    prompts.append(Prompt(prompt_key(settings.settings_hash, input_hash), input_hash, str(number), settings))
with path.open("a") as file, OllamaServer(url) as server:
    def commit(rows):
        lines = [json.dumps({"key": str(row.key), "answer": json.loads(row.answer)}) + "\\n" for row in rows]
        file.write("".join(lines))
        file.flush()
        os.fsync(file.fileno())

    limits = Limits(budget_calls=5000, concurrency=4, commit_seconds=0.05)
    report = ask_prompts((one for one in prompts if str(one.key) not in known), server, limits, commit)
answered = sum(call.outcome == "answered" for call in report.calls)
print(len(known), report.call_count, answered)
"""


def test_a_kill_in_the_middle_of_2000_calls_loses_only_what_was_not_committed(
    tmp_path: Path, start_python: StartPython
) -> None:
    path, port_file = tmp_path / "answers.jsonl", tmp_path / "port"
    double = subprocess.Popen(
        [sys.executable, "-m", "tests.ollama_server", "--port-file", str(port_file), "--piece", "400"],
        cwd=Path(__file__).parents[2],
    )
    try:
        wait_for(port_file.exists)
        url = f"http://127.0.0.1:{port_file.read_text()}"
        arguments = (url, path, json.dumps(asdict(APPRAISAL)))
        killed = start_python(COMMITTING, *arguments)
        wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 500)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        asked = count_at_rest(url)
        committed = path.read_text()
        assert committed.endswith("\n"), "a line is torn"
        before = {UUID(json.loads(line)["key"]) for line in committed.splitlines()}
        assert 500 <= len(before) <= asked < 2000
        rerun = start_python(COMMITTING, *arguments)
        output, errors = rerun.communicate(timeout=60)
        rest = 2000 - len(before)
        assert output.split() == [str(count).encode() for count in (len(before), rest, rest)], errors
        assert count_chats(url) - asked == rest
        lines = path.read_text().splitlines()
        assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 2000
    finally:
        double.kill()
        double.wait()


def wait_for(is_so: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < 30
        time.sleep(0.01)


def count_at_rest(url: str) -> int:
    """Return how many calls came, when no more of what was under way as their sender died comes in."""
    last, count = -1, count_chats(url)
    while count != last:
        time.sleep(0.3)
        last, count = count, count_chats(url)
    return count


def count_chats(url: str) -> int:
    with urllib.request.urlopen(f"{url}/counts") as response:
        counts: dict[str, int] = json.loads(response.read())
    return counts["/api/chat"]
