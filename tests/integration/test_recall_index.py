"""The index in a warehouse: recall without anything of ours, and a tail that is clustered anew."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import duckdb

from mnemoduck import Memory
from mnemoduck.home import open_home
from mnemoduck.llm.cache import open_cache
from mnemoduck.llm.keys import ALGORITHM, prompt_hash, prompt_key
from mnemoduck.llm.records import Embedding
from mnemoduck.llm.settings import EMBEDDING, MINILM, TemplateSettings, embedding_options
from tests.integration.workbench import Workbench

INDEX = ("raw_batches", "stg_events", "stg_memories", "search_documents", "search_postings")
ORDERS = {
    "search_documents": "user_key, session_key, occurred_at, memory_id",
    "search_postings": "user_key, term_key, session_key, memory_key",
}


def test_a_plain_client_recalls_as_the_package_does_by_words(read_only_sample: Workbench) -> None:
    by_words_alone = {"recall_time_weight": 0.0, "recall_prior_weight": 0.0}
    with Memory(read_only_sample.home, record_recalls=False) as memory:
        for question in ("when is the flight to Lisbon", "What did I say about Hamburg", "went", "the", "?"):
            found = [
                (item.content, item.score, item.matched_terms, item.support_count)
                for item in memory.recall(question, user_id="maya", limit=5, weights=by_words_alone)
            ]
            assert found == read_only_sample.query(
                "select content, score, matched_terms, support_count "
                f"from recall('{question}', for_user := 'maya', most := 5) order by rank"
            )
        assert memory.recall("flight Lisbon", user_id="maya"), "else the above compares nothing"


def test_answers_are_the_same_whether_documents_stay_in_the_process_or_not(
    read_only_sample: Workbench,
) -> None:
    by_words_alone = {"recall_time_weight": 0.0, "recall_prior_weight": 0.0}
    answers = []
    for resident_bytes in (0, 2_000, 1 << 28):
        with Memory(read_only_sample.home, record_recalls=False, resident_bytes=resident_bytes) as memory:
            answers.append(
                [
                    memory.recall(question, user_id=user, weights=by_words_alone, limit=limit)
                    for question in ("when is the flight to Lisbon", "What did I say about Hamburg", "went")
                    for user in ("maya", None, "nobody")
                    for limit in (2, 10, 500)
                ]
            )
            kept = memory.cache_statistics()["documents"].bytes
        assert (kept > 2_000) == (resident_bytes > 2_000)
    assert answers[0][0], "else the above compares nothing"
    assert answers[0] == answers[1] == answers[2]


def _layout(bench: Workbench) -> dict[str, tuple[object, ...]]:
    """Return for each table its rows, whether they lie in its order, missing comments, and what is noted."""
    found: dict[str, tuple[object, ...]] = {}
    with duckdb.connect(str(bench.home / "warehouse.duckdb"), read_only=True) as connection:
        for table, order in ORDERS.items():
            rows = connection.execute(f"select * from retrieval.{table} order by rowid").fetchall()
            sorted_rows = connection.execute(f"select * from retrieval.{table} order by {order}").fetchall()
            comments = connection.execute(
                f"select count(*) from duckdb_columns() where table_name = '{table}' and comment is null"
            ).fetchall()
            noted = connection.execute(
                f"select row_count, tail_rows from meta.index_layout where relation = 'retrieval.{table}'"
            ).fetchone()
            found[table] = (sorted(map(repr, rows)), rows == sorted_rows, comments, noted)
    return found


def test_a_small_load_lies_in_a_tail_and_a_tail_that_is_too_long_is_clustered_anew(sample: Workbench) -> None:
    with Memory(sample.home) as memory:
        for number in range(60):  # more than a tenth of the documents, and of the postings
            content = " ".join(f"duck{number}x{place}" for place in range(20))
            memory.remember(content, user_id="maya", session_id=f"s{number % 3}")
    assert sample.dbt("run", "--select", *INDEX).code == 0
    before = _layout(sample)
    for _ in range(2):
        done = sample.dbt("run", "--select", *INDEX[-2:], "--vars", "{recall_tail_rows: 0}")
        assert done.code == 0, done.out
        after = _layout(sample)
        for table, (rows, is_in_order, comments, noted) in after.items():
            assert not before[table][1], "the small load lay behind"
            assert rows == before[table][0]
            assert is_in_order
            assert comments == [(0,)]
            assert noted == (len(before[table][0]), 0)  # type: ignore[arg-type]
    assert "written anew" not in done.out, "nothing arrived, so nothing is rewritten"


def _remember_vectors(bench: Workbench, texts: list[str]) -> None:
    """Lay a vector of each text into the cache, as if MiniLM had been asked before."""
    settings = TemplateSettings(
        EMBEDDING, 1, "cached", MINILM, None, embedding_options(MINILM), "", "", input_characters=8000
    )
    moment = datetime(2026, 3, 1)
    with open_cache(open_home(bench.home)) as cache:
        cache.store_embeddings(
            Embedding(
                key=prompt_key(settings.settings_hash, prompt_hash([text])),
                algorithm=ALGORITHM,
                template=EMBEDDING,
                template_version=1,
                settings_hash=settings.settings_hash,
                input_characters=8000,
                input_hash=prompt_hash([text]),
                model=MINILM,
                model_digest=None,
                options=settings.options,
                dimension=2,
                vector=[0.6, 0.8],
                error=None,
                prompt_tokens=1,
                latency_ms=1.0,
                created_at=moment,
            )
            for text in texts
        )


def _ask_warehouse(bench: Workbench, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(bench.home / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_vectors_that_were_waiting_are_clustered_anew_though_their_load_is_known(sample: Workbench) -> None:
    texts = [
        row[0]
        for row in _ask_warehouse(sample, "select distinct content from staging.stg_memories order by 1")
    ]
    vectors = ("--select", "llm_templates", "int_llm_prompts", "llm_calls", "memory_embeddings")
    for place, arriving in enumerate((texts[::2], texts[1::2])):
        _remember_vectors(sample, arriving)
        done = sample.dbt(
            "run", *vectors, "--vars", f"{{recall_tail_rows: {0 if place else 1000}}}",
            MNEMODUCK_EMBEDDINGS="minilm",
        )  # fmt: skip
        assert done.code == 0, done.out
        assert ("retrieval.memory_embeddings was written anew" in done.out) == bool(place)
    rows = "select user_id, agent_id, occurred_at, memory_id from retrieval.memory_embeddings order by "
    assert len(_ask_warehouse(sample, rows + "rowid")) > len(texts) / 2
    assert _ask_warehouse(sample, rows + "rowid") == _ask_warehouse(sample, rows + "all")
