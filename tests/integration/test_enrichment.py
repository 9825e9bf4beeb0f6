"""Enrichment through the real dbt, against a server that speaks Ollama's protocol, faults included."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mnemoduck import Memory
from tests.integration.workbench import Done, Workbench, checksums
from tests.ollama_server import DIGEST, OllamaDouble

WARM = {
    "llm_attempts": 2,
    "llm_timeout_seconds": 2,
    "llm_breaker_failures": 50,
    "llm_concurrency": 8,
    "llm_commit_seconds": 0.2,
    "embedding_provider": "none",
}
"""Variables of a run that is not to wait long."""


@pytest.fixture
def server() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        double.retry_after = "0"
        yield double
    assert not double.errors


def remember(bench: Workbench, contents: list[str], day: str = "2026-03-02") -> None:
    """Write memories a minute apart, each in a session of its own."""
    file = bench.home.parent / f"memories-{day}.jsonl"
    lines = [
        {
            "content": content,
            "role": "user",
            "user_id": "ada",
            "session_id": f"s{number}",
            "occurred_at": f"{day}T{8 + number // 60:02d}:{number % 60:02d}:00Z",
        }
        for number, content in enumerate(contents)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = bench.mnemoduck("ingest", str(file))
    assert done.code == 0, done.out + done.err


def act(bench: Workbench, task: str, user_id: str) -> str:
    """Log an episode that failed: one call, with an error."""
    with Memory(bench.home) as memory:
        episode_id = memory.start_episode(task, domain="kitchen", user_id=user_id)
        memory.log_step(episode_id, "boil", {"litres": 1}, error="no water", user_id=user_id)
        memory.complete_episode(episode_id, "failure", user_id=user_id)
    return episode_id


def build(bench: Workbench, server: OllamaDouble, *options: str, **variables: Any) -> Done:
    """Run plain `dbt build` with a model server."""
    chosen = json.dumps({**WARM, **variables})
    done = bench.dbt("build", "--vars", chosen, *options, OLLAMA_HOST=server.url)
    assert done.code == 0, done.out + done.err
    return done


def metrics(bench: Workbench) -> dict[str, Any]:
    """Return the newest row of llm_cache_metrics of the model that answers prompts."""
    with duckdb.connect(str(bench.snapshot()), read_only=True) as connection:
        cursor = connection.execute(
            "select * from llm_cache_metrics where model = 'llama3.2' order by started_at desc limit 1"
        )
        names = [column[0] for column in cursor.description or ()]
        row = cursor.fetchone()
    assert row is not None
    return dict(zip(names, row, strict=True))


def outcomes(bench: Workbench) -> dict[str, Counter[str]]:
    """Return for each fault that was asked for what became of its prompts in the last run.

    The call log is read in the warehouse: a run that brought no answer publishes nothing.
    """
    found: dict[str, Counter[str]] = {}
    with duckdb.connect(str(bench.home / "warehouse.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            """
            select m.content, c.outcome
            from staging.llm_calls as c
            inner join staging.int_llm_prompts as p using (prompt_key)
            inner join staging.stg_memories as m on p.subject_id = m.memory_id
            """
        ).fetchall()
    for content, outcome in rows:
        fault = content.split("fault:")[1].split()[0] if "fault:" in content else "none"
        found.setdefault(fault, Counter())[outcome] += 1
    return found


@pytest.mark.long
def test_a_run_meets_every_fault_and_everything_else_is_done(bench: Workbench, server: OllamaDouble) -> None:
    helped = ["http-500:1", "http-429:1", "reset:1", "wrong-schema:1", "fence", "slow", "injection"]
    never_valid = ["wrong-schema", "truncated-json", "long", "empty-answer"]
    away = ["reset", "http-500", "cut-body", "empty-body", "hang"]
    faults = helped + never_valid + away
    good = [f"Ada prefers tea number {number}." for number in range(6)]
    remember(bench, good + [f"Ada tells of fault:{fault} in the kitchen." for fault in faults])

    done = build(bench, server)

    found = outcomes(bench)
    assert {fault: dict(found[fault]) for fault in helped} == {fault: {"answered": 2} for fault in helped}
    assert {fault: dict(found[fault]) for fault in never_valid} == {f: {"invalid": 2} for f in never_valid}
    assert {fault: dict(found[fault]) for fault in away} == {fault: {"failed": 2} for fault in away}
    assert dict(found["none"]) == {"answered": 12}
    assert "8 got no valid answer and are not asked again; 10 wait" in done.out
    assert bench.query("select count(*) from memory_features")[0][0] == len(good) + len(faults)
    by_model = "select count(*) from memory_features where importance_method = 'model'"
    assert bench.query(by_model)[0][0] == len(good) + len(helped)
    row = metrics(bench)
    assert (row["misses"], row["failures"], row["pending"]) == (26, 8, 10)
    reasons = dict(bench.query("select outcome, min(error) from staging.llm_calls group by outcome"))
    assert reasons["answered"] is None
    assert reasons["failed"].startswith("The model server at ")

    # What is not asked again: answers, and what was invalid twice. What waited is asked again.
    asked = server.count("/api/chat")
    again = build(bench, server)
    assert set(outcomes(bench)) == set(away)
    assert server.count("/api/chat") - asked <= len(away) * 2 * WARM["llm_attempts"]  # type: ignore[operator]
    assert "10 wait" in again.out


@pytest.mark.long
def test_each_distinct_prompt_is_paid_for_once_ever(
    bench: Workbench, server: OllamaDouble, project_copy: Callable[[], Path]
) -> None:
    texts = [f"Task {number}: water the plants in room {number}." for number in range(40)]
    remember(bench, texts * 5)
    build(bench, server)
    row = metrics(bench)
    assert (row["prompts"], row["distinct_prompts"], row["calls"]) == (400, 80, 80)
    assert row["hit_rate"] >= 0.8
    assert row["token_hit_rate"] == pytest.approx(0.8)
    assert server.count("/api/chat") == 80

    # The same memories again, on another day: all hits. Of three episodes two went alike, which is one call;
    # about the third the model says twice what cannot be used, so that rules word it.
    remember(bench, texts, day="2026-03-09")
    for task, user_id in (("make tea", "ada"), ("make tea", "bo"), ("try fault:wrong-schema tea", "cy")):
        act(bench, task, user_id)
    build(bench, server)
    row = metrics(bench)
    assert (row["prompts"], row["calls"], row["pending"]) == (83, 3, 0)
    assert (row["hits"], row["misses"], row["failures"]) == (81, 1, 1)
    assert server.count("/api/chat") == 83
    reflections = "select user_id, method, lesson, model from episode_reflections order by user_id"
    by_model = ("model", "Look for another way.", "llama3.2")
    assert bench.query(reflections) == [("ada", *by_model), ("bo", *by_model), ("cy", "rules", None, None)]
    told = "reflection = 'It ended in failure.' || chr(10) || 'Failed: boil {\"litres\":1} failed: no water'"
    assert bench.query(
        f"select count(*) from episode_reflections where {told} || chr(10) || 'Lesson: ' || lesson"
    ) == [(2,)]

    # The warehouse deleted, nobody to ask: everything comes from the cache, and is the same.
    # (The arrival of the last answers was numbered after that build had listed the loads.)
    before = checksums(bench.snapshot(), with_bookkeeping=False)
    del before["staging.raw_batches"]
    for file in [bench.home / "warehouse.duckdb", *(bench.home / "published").iterdir()]:
        file.unlink()
    done = bench.mnemoduck("run", "--llm", "cached", "--embeddings", "none")
    assert done.code == 0, done.out + done.err
    assert before.items() <= checksums(bench.snapshot(), with_bookkeeping=False).items()
    assert metrics(bench)["hit_rate"] == 1.0

    # One template changed: only its prompts are asked again, and until they are, its old answers count, even
    # if the cache was emptied meanwhile: what is in the warehouse is not paid for again.
    evicted = bench.mnemoduck("cache", "evict", "--older-than", "0d")
    assert evicted.code == 0, evicted.out + evicted.err
    with duckdb.connect(str(bench.home / "llm_cache.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from responses").fetchone() == (0,)
    project = project_copy()
    assert bench.mnemoduck("forget", "--user", "bo", "--yes").code == 0
    template = project / "macros" / "llm" / "extraction.sql"
    template.write_text(template.read_text().replace("'version': 1", "'version': 2"))
    variables = json.dumps({**WARM, "llm_host": server.url, "llm_budget_calls": 10})
    done = bench.dbt("build", "--vars", variables, project=project)
    assert done.code == 0, done.out + done.err
    schemas = {json.dumps(body["format"]) for path, body in server.requests[-10:] if path == "/api/chat"}
    assert len(schemas) == 1
    assert "entities" in schemas.pop()
    row = metrics(bench)
    assert (row["calls"], row["pending"]) == (10, 31), "what failed is asked again too, after memories"
    assert "budget" in row["stopped_by"]
    assert bench.query(
        "select template_version, is_current, count(*) from staging.int_llm_answers "
        "where template = 'extraction' group by all order by all"
    ) == [(1, False, 180), (2, True, 60)]
    assert bench.query("select count(*) from memory_features where summary_method is null") == [(0,)]
    assert bench.query(reflections) == [("ada", *by_model), ("cy", "rules", None, None)]
    assert bench.query(
        "select count(*), count(answer) from staging.int_llm_answers where template = 'reflection'"
    ) == [(2, 1)], "of what was forgotten no answer is left"


@pytest.mark.long
def test_a_kill_in_the_middle_of_the_calls_loses_no_answer_that_was_committed(
    bench: Workbench, server: OllamaDouble
) -> None:
    remember(bench, [f"Note {number}: the meeting is moved to room {number}." for number in range(300)])
    server.delay = 0.05  # 8 at a time: some 30 answers between two commits
    process = bench.start_dbt("build", "--vars", json.dumps(WARM), OLLAMA_HOST=server.url)
    deadline = time.monotonic() + 300
    while server.count("/api/chat") < 250:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"asked {server.count('/api/chat')} prompts"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    with duckdb.connect(str(bench.home / "llm_cache.duckdb"), read_only=False) as connection:
        row = connection.execute(
            "select count(*), count(distinct key), count(answer) from responses"
        ).fetchone()
    assert row is not None
    kept = row[0]
    assert row == (kept, kept, kept)
    asked = server.count("/api/chat")
    assert asked - 100 <= kept <= asked, "what was asked within the last moments may be lost"
    server.delay = 0
    build(bench, server)
    assert server.count("/api/chat") - asked == 600 - kept
    assert metrics(bench)["pending"] == 0


@pytest.mark.long
def test_without_the_model_or_when_the_server_dies_the_run_completes(
    bench: Workbench, server: OllamaDouble, caplog: pytest.LogCaptureFixture
) -> None:
    remember(bench, [f"Ada decided on plan {number}." for number in range(20)])
    episode_id = act(bench, "make tea", "ada")
    models, server.models = server.models, {}
    done = bench.mnemoduck("run", "--llm", "ollama", OLLAMA_HOST=server.url)
    assert done.code == 0, done.out + done.err
    assert "has no model 'llama3.2'. Get it with `ollama pull llama3.2`" in done.out
    assert bench.query(
        "select count(*), count(sentiment_method), count(importance) from memory_features"
    ) == [(20, 0, 0)]
    with Memory(bench.home) as memory:
        reflection = memory.reflect(episode_id)
    assert (reflection.method, reflection.model) == ("rules", None)
    assert reflection.text == reflection.rules_text

    # It has the model now, and dies on the way: what was answered counts, the rest waits.
    server.models = models
    remember(bench, ["Ada loves the fault:http-503 of the old kettle."], day="2026-03-03")
    server.faults["*"] = "http-503"
    done = build(bench, server, llm_breaker_failures=3)
    row = metrics(bench)
    assert row["pending"] == 43
    assert row["stopped_by"] is not None
    assert row["stopped_by"] in done.out
    assert row["calls"] < 20, "the breaker ends the calls"

    server.faults.clear()
    done = bench.mnemoduck("run", "--embeddings", "ollama", OLLAMA_HOST=server.url)
    assert done.code == 0, done.out + done.err
    assert "llama3.2 answered 41 prompts; 2 wait" in done.out
    assert bench.query("select count(*) from memory_features where importance_method = 'model'") == [(20,)]
    assert bench.query(
        "select count(*), min(dimension), any_value(model) from retrieval.memory_embeddings"
    ) == [(20, 32, "nomic-embed-text")]

    done = bench.mnemoduck_here("reflect", episode_id)
    assert "told by  llama3.2" in done.out
    assert "Lesson: Look for another way." in done.out

    # Recall asks the same model for the question's vector, and goes on without it when it is away.
    with Memory(bench.home) as memory:
        found = memory.recall("which plans are there?", user_id="ada", limit=20)
        assert {item.embedding_model for item in found} == {"nomic-embed-text"}
        assert any(item.parts.meaning > 0 for item in found)
        assert server.requests[-1][1]["input"] == ["search_query: which plans are there?"]
        server.models["nomic-embed-text:latest"] = DIGEST
    with Memory(bench.home) as memory, caplog.at_level(logging.WARNING, "mnemoduck.recall"):
        assert {item.embedding_model for item in memory.recall("plan", user_id="ada")} == {None}
    assert "has other weights now than those that made the stored vectors" in caplog.text
    server.stop()
    with Memory(bench.home) as memory, caplog.at_level(logging.WARNING, "mnemoduck.recall"):
        by_words = memory.recall("plan", user_id="ada")
        assert by_words
        assert all(item.embedding_model is None and item.parts.meaning == 0 for item in by_words)
    assert "Recall goes on by words alone: no Ollama server answers" in caplog.text
