"""Search by meaning, on snapshots made by hand, and its fusion with what was found by words."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoduck.asking import Asker
from mnemoduck.embeddings import LocalVectors
from mnemoduck.errors import ServerUnavailableError
from mnemoduck.fresh import FreshReader
from mnemoduck.home import Home, open_home
from mnemoduck.llm.settings import TemplateSettings, embedding_options
from mnemoduck.project import find_project, render, variables
from mnemoduck.recall.fusion import Similar, fuse
from mnemoduck.recall.query import read_query
from mnemoduck.recall.records import Candidate, ScoreParts
from mnemoduck.recall.vectors import RETRY_SECONDS, Meaning, MeaningSearch, nameless
from mnemoduck.scope import Scope
from mnemoduck.warehouse import SnapshotReader

MADA, BEN = Scope(user_id="mada"), Scope(user_id="ben")
MORNING = datetime(2026, 3, 2, 8)
OPTIONS = embedding_options("toy")
SETTINGS = TemplateSettings("embedding", 1, "cached", "toy", "digest", OPTIONS, "", "", 8000)

MEMORIES: list[tuple[str, str, str, list[float]]] = [
    ("mada", "Ada", "The kettle is red", [1.0, 0.0, 0.0]),
    ("mada", "Bo", "It whistles at noon", [0.8, 0.6, 0.0]),
    ("mada", "Bo", "Cats sleep", [0.0, 0.0, 1.0]),
    ("mada", "Ada", "Forgotten", [1.0, 0.0, 0.0]),
    ("ben", "Ada", "Another's kettle", [1.0, 0.0, 0.0]),
]
"""User, role, content and vector; the fourth was ordered forgotten an hour after all of them."""


def key(number: int) -> UUID:
    return UUID(int=number)


def publish(home: Home, vectors: Sequence[Sequence[float]], settings: TemplateSettings = SETTINGS) -> None:
    """Put a snapshot in place that holds what a search by meaning reads."""
    project = find_project()
    path = home.published / "20260101T000001000000Z-000000000001.duckdb"
    with duckdb.connect(str(path)) as connection:
        for schema in ("staging", "retrieval"):
            connection.execute(f"create schema {schema}")
        connection.execute("create table staging.raw_batches as select 1::bigint as batch_seq")
        connection.execute(
            "create table told as select unnest($rows, recursive := true)",
            {
                "rows": [
                    {
                        "memory_id": key(number),
                        "user_id": user,
                        "role": role,
                        "content": content,
                        "vector": vector,
                        "occurred_at": MORNING + timedelta(minutes=number),
                    }
                    for number, ((user, role, content, _), vector) in enumerate(
                        zip(MEMORIES, vectors, strict=True)
                    )
                ]
            },
        )
        connection.execute(
            f"""
            create table retrieval.search_documents as
            select
                memory_id, {render(project, "short_key", "memory_id::varchar")} as memory_key,
                {render(project, "search_user_key", "user_id")} as user_key, 0::bigint as session_key,
                user_id, null::varchar as agent_id, null::varchar as session_id,
                md5(content)::uuid as content_hash, role,
                'episodic' as memory_type, null::varchar[] as tags, 3 as term_count, false as is_question,
                occurred_at, occurred_at as recorded_at, 1::bigint as batch_seq
            from told
            """
        )
        connection.execute(
            f"""
            create table retrieval.memory_embeddings as
            select
                memory_id, user_id, $hash::uuid as settings_hash, len(vector)::integer as dimension,
                vector::float[] as vector, {render(project, "sign_bits", "vector")} as sign_bits
            from told
            """,
            {"hash": str(settings.settings_hash)},
        )
        connection.execute(
            f"""
            create table staging.int_forgotten_memories as
            select memory_id, {render(project, "short_key", "memory_id::varchar")} as memory_key,
                occurred_at + interval 1 hour as forgotten_at
            from told where content = 'Forgotten'
            """
        )
        connection.execute(
            """
            create table staging.llm_templates as
            select
                $template as template, $template_version as template_version, $mode as mode, $model as model,
                $model_digest as model_digest, $options as options, $response_schema as response_schema,
                $instructions as instructions, $input_characters as input_characters,
                '{"host": "http://127.0.0.1:1"}' as limits, $hash::uuid as settings_hash
            """,
            {
                **{name: value for name, value in vars(settings).items() if name != "limits"},
                "hash": str(settings.settings_hash),
            },
        )
    home.current.write_text(path.name + "\n")


class Toy:
    """Makes the vector that it was given of every text, and remembers what it was asked."""

    def __init__(self, vector: list[float]) -> None:
        self.vector = vector
        self.asked: list[str] = []
        self.is_away = False

    def embed(self, settings: TemplateSettings, texts: Sequence[str]) -> LocalVectors:
        self.asked.extend(texts)
        if self.is_away:
            raise ServerUnavailableError("nobody is there")
        return LocalVectors([self.vector for _ in texts], 1, 0.0)


class Desk:
    """A search by meaning over one snapshot, with a model and a clock of its own."""

    def __init__(self, asker: Asker, toy: Toy) -> None:
        self.asker, self.toy = asker, toy
        self.now = 0.0
        self.meanings = MeaningSearch(asker, lambda *_: toy, clock=lambda: self.now, environment={})

    def understand(self, text: str, scope: Scope = MADA, **weights: float) -> Meaning | None:
        query = read_query(self.asker, text)
        return self.meanings.understand(text, query, scope, tuple(weights.items()))

    def find(self, text: str, scope: Scope = MADA, **options: Any) -> list[tuple[int, float]]:
        meaning = self.understand(text, scope)
        assert meaning is not None
        found = self.meanings.search(
            meaning, read_query(self.asker, text), scope, limit=options.pop("limit", 10), **options
        )
        return [(one.memory_id.int, round(one.similarity, 3)) for one in found]


@pytest.fixture
def desk(home: Home) -> Iterator[Desk]:
    publish(home, [vector for *_, vector in MEMORIES])
    with contextlib.closing(SnapshotReader(home)) as reader:
        project = find_project()
        yield Desk(Asker(FreshReader(home, reader, project), project), Toy([1.0, 0.0, 0.0]))


# --- what is found -------------------------------------------------------------------------------------


def test_what_is_nearest_comes_first_of_the_scope_and_of_what_is_not_forgotten(desk: Desk) -> None:
    assert desk.find("teapot") == [(0, 1.0), (1, 0.8), (2, 0.0)]
    assert desk.find("teapot", BEN) == [(4, 1.0)]


def test_what_was_forgotten_later_or_happened_later_is_seen_as_of_then(desk: Desk) -> None:
    before = (MORNING + timedelta(minutes=30)).replace(tzinfo=UTC)
    assert [number for number, _ in desk.find("teapot", as_of=before)] == [3, 0, 1, 2]
    earlier = (MORNING + timedelta(seconds=90)).replace(tzinfo=UTC)
    assert [number for number, _ in desk.find("teapot", as_of=earlier)] == [0, 1]


def test_who_is_named_speaks_louder_and_is_no_part_of_the_question(desk: Desk) -> None:
    assert desk.find("What is Bo's teapot?") == [(1, 1.2), (0, 1.0), (2, 0.0)]
    assert desk.toy.asked == ["What is teapot?"]


def test_a_scope_of_more_vectors_is_searched_by_bits_with_the_same_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = desk.find("teapot")
    asked: list[str] = []
    original = desk.asker.ask

    def ask(statement: str, values: Any, scope: Scope, as_of: Any, memories: Any) -> list[dict[str, Any]]:
        def listen(*arguments: Any) -> str:
            asked.append(memories(*arguments))
            return asked[-1]

        return original(statement, values, scope, as_of, listen)

    monkeypatch.setattr(desk.asker, "ask", ask)
    monkeypatch.setitem(variables(desk.asker.project), "recall_exact_vectors", 2)
    assert desk.find("teapot") == exact
    assert any("bit_count" in sql for sql in asked)
    asked.clear()
    assert desk.find("teapot", BEN) == [(4, 1.0)]
    assert not any("bit_count" in sql for sql in asked), "one vector is no large scope"


# --- what can be missing -------------------------------------------------------------------------------


def test_a_model_that_is_away_is_said_once_and_asked_again_after_a_while(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.toy.is_away = True
    with caplog.at_level(logging.WARNING, "mnemoduck.recall"):
        assert desk.understand("teapot") is None
        assert desk.understand("kettle") is None
    assert caplog.messages == ["Recall goes on by words alone: nobody is there"]
    assert desk.toy.asked == ["teapot"], "the second question does not wait for it"
    assert desk.meanings.trouble == "nobody is there"
    desk.toy.is_away = False
    desk.now += RETRY_SECONDS
    assert desk.understand("kettle") is not None
    assert desk.meanings.trouble is None


def test_a_vector_of_another_dimension_is_not_compared(desk: Desk) -> None:
    desk.toy.vector = [1.0, 0.0]
    assert desk.understand("teapot") is None
    assert "vectors of 2 numbers now, where the stored ones have 3" in str(desk.meanings.trouble)


def test_vectors_of_another_model_than_that_of_the_question_are_not_searched(desk: Desk) -> None:
    other = Meaning("toy", UUID(int=7), (1.0, 0.0, 0.0))
    assert desk.meanings.search(other, read_query(desk.asker, "teapot"), MADA, limit=10) == []


def test_a_question_becomes_a_vector_once_and_only_where_it_counts(desk: Desk) -> None:
    assert desk.understand("teapot", recall_meaning_weight=0.0) is None
    assert desk.understand("...") is None
    assert desk.toy.asked == []
    for _ in range(2):
        assert desk.understand("teapot") == Meaning("toy", SETTINGS.settings_hash, (1.0, 0.0, 0.0))
    assert desk.toy.asked == ["teapot"]


def test_without_a_build_or_with_vectors_switched_off_nobody_is_asked(desk: Desk, tmp_path: Path) -> None:
    off = MeaningSearch(desk.asker, lambda *_: desk.toy, environment={"MNEMODUCK_EMBEDDINGS": "none"})
    assert off.understand("teapot", read_query(desk.asker, "teapot"), MADA) is None
    empty = open_home(tmp_path / "empty")
    with contextlib.closing(SnapshotReader(empty)) as reader:
        asker = Asker(FreshReader(empty, reader, desk.asker.project), desk.asker.project)
        fresh = MeaningSearch(asker, lambda *_: desk.toy, environment={})
        assert fresh.understand("teapot", read_query(asker, "teapot"), MADA) is None
    assert desk.toy.asked == []


@pytest.mark.parametrize(
    ("text", "roles", "expected"),
    [
        ("What did Caroline's sister say?", ["Caroline"], "What did sister say?"),
        ("What did CAROLINE say, Bo?", ["Caroline", "Bo"], "What did say,?"),
        ("Carolines", ["Caroline"], "Carolines"),
        ("Caroline?", ["Caroline"], "Caroline?"),
        ("Who is Anna (Lee)?", ["Anna (Lee)"], "Who is ( )?"),
        ("Nothing to leave out", [], "Nothing to leave out"),
    ],
)
def test_names_are_left_out_of_a_question_unless_it_is_nothing_else(
    text: str, roles: list[str], expected: str
) -> None:
    assert nameless(text, roles) == expected


# --- bits ----------------------------------------------------------------------------------------------


def search(
    connection: duckdb.DuckDBPyConnection, query: list[float], candidates: int, by_bits: bool
) -> list[int]:
    project = find_project()
    sql = render(
        project,
        "similar_memories",
        "vectors",
        "documents",
        "(select 0::bigint as memory_key where false)",
        "[]::varchar[]",
        "$query::float[]",
        render(project, "sign_bits", "$query::float[]") if by_bits else "",
        "[]::uuid[]",
        candidates,
    )
    rows = connection.execute(f"select memory_id from ({sql}) limit 10", {"query": query}).fetchall()
    return [row[0].int for row in rows]


def fill(connection: duckdb.DuckDBPyConnection, vectors: list[list[float]]) -> None:
    connection.execute(
        f"""
        create or replace table vectors as
        select *, {render(find_project(), "sign_bits", "vector")} as sign_bits
        from (select unnest($ids::uuid[]) as memory_id, unnest($vectors::float[][]) as vector)
        """,
        {"ids": [str(key(number)) for number in range(len(vectors))], "vectors": vectors},
    )
    connection.execute(
        """
        create or replace table documents as
        select memory_id, 1::bigint as memory_key, null::varchar as user_id, null::varchar as agent_id,
            memory_id as content_hash, now()::timestamp as occurred_at, null::varchar as role
        from vectors
        """
    )


numbers = st.floats(-1, 1, width=32, allow_subnormal=False)


@settings(max_examples=15)
@given(
    st.integers(1, 130).flatmap(
        lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=30)
    )
)
def test_where_all_are_candidates_bits_and_exact_search_agree_in_any_dimension(
    vectors: list[list[float]],
) -> None:
    with duckdb.connect() as connection:
        fill(connection, vectors)
        bits = connection.execute("select sign_bits::varchar from vectors order by memory_id").fetchall()
        assert [row[0] for row in bits] == ["".join("01"[x > 0] for x in vector) for vector in vectors]
        assert search(connection, vectors[0], 30, True) == search(connection, vectors[0], 30, False)


def test_the_ten_nearest_are_found_by_bits_nearly_always() -> None:
    # Texts come in topics: 2,000 of 40, in 384 dimensions, as near to each other as MiniLM's are.
    random = np.random.default_rng(6)
    topics = random.standard_normal((40, 384))
    made = topics[random.integers(0, 40, 2000)] + 1.2 * random.standard_normal((2000, 384))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    found = 0
    with duckdb.connect() as connection:
        fill(connection, made.astype(np.float32).tolist())
        for number in range(20):
            query = (made[number] + 0.04 * random.standard_normal(384)).tolist()
            exact, by_bits = (search(connection, query, 400, way) for way in (False, True))
            truth = [int(one) for one in np.argsort(-(made @ np.array(query)), kind="stable")[:10]]
            assert exact == truth
            found += len(set(exact) & set(by_bits))
    assert found / 200 >= 0.98


# --- fusion --------------------------------------------------------------------------------------------


def candidate(number: int, score: float) -> Candidate:
    parts = ScoreParts(words=score, context=0.0, session=0.0, speaker=1.0)
    return Candidate(key(number), MORNING, False, score, parts, ("t",), 1, (number,))


def similar(number: int, similarity: float, text: int | None = None) -> Similar:
    return Similar(key(number), MORNING, similarity, 1, (number if text is None else text,))


def test_what_both_have_found_adds_up_and_meaning_counts_in_proportion_to_the_best() -> None:
    by_words = [candidate(1, 10.0), candidate(2, 8.0)]
    by_meaning = [similar(2, 0.8), similar(3, 0.4), similar(1, -0.1)]
    found = fuse(by_words, by_meaning, weight=0.5, limit=10)
    assert [(one.memory_id.int, one.score) for one in found] == [(2, 13.0), (1, 10.0), (3, 2.5)]
    assert [one.parts.meaning for one in found] == [5.0, 0.0, 2.5]
    assert [one.memory_id.int for one in fuse(by_words, by_meaning, weight=0.5, limit=1)] == [2]


def test_a_text_that_words_have_found_is_not_found_again_under_another_id() -> None:
    found = fuse([candidate(1, 10.0)], [similar(5, 0.9, text=1)], weight=0.5, limit=10)
    assert [one.memory_id.int for one in found] == [1]


def test_where_words_find_nothing_similarities_are_the_scores() -> None:
    found = fuse([], [similar(1, 0.8), similar(2, 0.0)], weight=0.5, limit=10)
    assert [(one.memory_id.int, one.score) for one in found] == [(1, 0.8)]


@example(words={0: 1.0}, meanings={0: 1.0, 1: 1.175494351e-38}, weight=2.225073858507203e-309, limit=2)
@given(
    words=st.dictionaries(st.integers(0, 9), st.floats(0.1, 50), max_size=8),
    meanings=st.dictionaries(st.integers(0, 9), st.floats(-1, 1.5), max_size=8),
    weight=st.floats(0, 10),
    limit=st.integers(0, 12),
)
def test_a_fused_answer_is_sorted_unique_positive_and_the_sum_of_its_parts(
    words: dict[int, float], meanings: dict[int, float], weight: float, limit: int
) -> None:
    by_words = sorted((candidate(*one) for one in words.items()), key=lambda one: -one.score)
    by_meaning = sorted((similar(*one) for one in meanings.items()), key=lambda one: -one.similarity)
    found = fuse(by_words, by_meaning, weight=weight, limit=limit)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)
    assert len({one.memory_id for one in found}) == len(found) <= limit
    assert all(one.score == pytest.approx(one.parts.words + one.parts.meaning) for one in found)
    if weight == 0 or max(meanings.values(), default=0) <= 0:
        assert found == by_words[:limit]
