"""The SQL of the index in a plain DuckDB: stems without an extension, and recall as a table function."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from benchmarks import vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck import Memory
from mnemoduck.extensions import load_extension
from mnemoduck.project import find_project, render
from mnemoduck.recall.query import _ASCII_WORD, _ask_terms

PROJECT = find_project()
ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = [
    "ational", "tional", "ization", "iveness", "fulness", "ousness", "biliti", "ation", "alism",
    "aliti", "iviti", "ousli", "entli", "enci", "anci", "abli", "izer", "ator",
    "alli", "eli", "icate", "iciti", "ical", "alize", "ative", "ful", "ness",
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism",
    "ate", "iti", "ous", "ive", "ize", "ion", "sion", "al", "er",
    "ic", "ou", "e", "l", "ll", "s", "ss", "sses", "ies",
    "eed", "ed", "ing", "y",
]  # fmt: skip
BY_WORDS_ALONE = {"recall_time_weight": 0.0, "recall_prior_weight": 0.0}
"""What the table function tells: memories' times and strengths add to the score in Python only."""

words = st.builds(
    lambda stem, suffixes: stem + "".join(suffixes),
    st.text("aeiouywxbdlnstéж1", min_size=0, max_size=6),
    st.lists(st.sampled_from(SUFFIXES), max_size=3),
)


@pytest.fixture(scope="module")
def stemmer() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        load_extension(connection, "fts")
        yield connection


def differences(connection: duckdb.DuckDBPyConnection, texts: list[str]) -> list[tuple[str, str, str]]:
    return connection.execute(
        f"""
        with words as materialized (select distinct unnest($texts) as word)
        select word, stem, stem(word, 'porter') from ({render(PROJECT, "porter_stems", "words")})
        where stem is distinct from stem(word, 'porter')
        """,
        {"texts": texts},
    ).fetchall()


def test_stems_in_sql_are_those_of_the_extension_for_every_word_of_the_texts_at_hand(
    stemmer: duckdb.DuckDBPyConnection,
) -> None:
    files = [ROOT / "seeds" / "sample_stream.jsonl", Path(vocabulary.__file__), ROOT / "README.md"]
    files += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT.parent / "shared" / "data").glob("*.json"))
    found = {word for file in files for word in re.findall(r"[^\W_]+", file.read_text("utf-8").lower())}
    assert len(found) > 3_000
    assert differences(stemmer, sorted(found)) == []


@settings(max_examples=20)
@given(texts=st.lists(words, min_size=1, max_size=200))
def test_stems_in_sql_are_those_of_the_extension_for_any_word(
    stemmer: duckdb.DuckDBPyConnection, texts: list[str]
) -> None:
    assert differences(stemmer, texts) == []


@settings(max_examples=20)
@given(
    texts=st.lists(
        st.one_of(words.filter(bool), st.sampled_from(["went", "kids", "grandmas", "saw"])), max_size=50
    )
)
def test_terms_of_a_question_are_those_of_the_index(
    tmp_path_factory: pytest.TempPathFactory, stemmer: duckdb.DuckDBPyConnection, texts: list[str]
) -> None:
    with Memory(tmp_path_factory.mktemp("terms") / "home") as memory:
        found = _ask_terms(memory._readers.asker, texts)
    macro = render(PROJECT, "search_terms", "told_apart")
    assert (
        sorted(set(found))
        == stemmer.execute(
            f"with told_apart as materialized (select distinct unnest($texts::varchar[]) as word) "
            f"select distinct word, term, term_key from ({macro}) order by all",
            {"texts": texts},
        ).fetchall()
    )


@settings(max_examples=3)
@given(
    turns=st.lists(
        st.tuples(
            st.sampled_from(["duck pond", "Where is the pond?", "It went to the café", "goose", "ducks!"]),
            st.sampled_from(["user", "assistant", "Dr. Goose", "ponds", None]),
            st.sampled_from(["s", "t", None]),
            st.integers(0, 50),
        ),
        min_size=1,
        max_size=20,
    ),
)
def test_the_table_function_ranks_as_recall_does(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, str | None, str | None, int]]
) -> None:
    """On the tables of what is fresh, which have the columns of the published ones."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    with Memory(tmp_path_factory.mktemp("recall") / "home") as memory:
        for content, role, session, minute in turns:
            moment = start + timedelta(minutes=minute)
            memory.remember(content, user_id="u", role=role, session_id=session, occurred_at=moment)
        memory.remember("duck", user_id="other")
        snapshot, fresh = memory._readers.asker.view()
        cursor = snapshot.cursor()
        cursor.execute("create table memory.main.nothing (memory_key bigint, forgotten_at timestamp)")
        sql = render(
            PROJECT,
            "recalled",
            fresh.documents,
            fresh.postings,
            "memory.main.nothing",
            fresh.memories,
            render(PROJECT, "now_utc"),
        )
        cursor.execute(
            "create function memory.main.recall(question, for_user := null, for_agent := null, "
            f"for_session := null, most := 10, at_time := null) as table ({sql})"
        )
        questions = (
            "where did the duck go", "what did I say about ponds", "Did Goose see the pond or ponds?",
            "goose", "CAFE", "user ponds", "the", "zebra", "",
        )  # fmt: skip
        for question in questions:
            for session in (None, "s"):
                rows = cursor.execute(
                    "select memory_id, score, words_score, context_score, session_score, matched_terms, "
                    "support_count from memory.main.recall($question, for_user := 'u', "
                    "for_session := $session, most := 7) order by rank",
                    {"question": question, "session": session},
                ).fetchall()
                assert rows == [
                    (
                        item.memory_id, item.score, item.parts.words, item.parts.context, item.parts.session,
                        item.matched_terms, item.support_count,
                    )
                    for item in memory.recall(
                        question, user_id="u", session_id=session, limit=7, weights=BY_WORDS_ALONE
                    )
                ]  # fmt: skip


@settings(max_examples=50)
@given(text=st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_are_told_apart_in_python_as_in_sql(text: str) -> None:
    words = render(find_project(), "search_words", "$text")
    row = duckdb.execute(f"select {words}", {"text": text}).fetchone()
    assert row is not None
    assert _ASCII_WORD.findall(text.lower()) == row[0]
