"""The index in a warehouse: recall without anything of ours, and a tail that is clustered anew."""

from __future__ import annotations

import duckdb

from mnemoduck import Memory
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
