"""Concepts: what a text is about, by the macros of the project in DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck.extensions import load_extension
from mnemoduck.project import render, variables

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        load_extension(opened, "fts")
        conceived = render(PROJECT, "with_concepts", "(select content) as told", "content")
        found = render(PROJECT, "concept_mentions", "concept_forms", "concept_keys")
        opened.execute(
            "create macro mentions(content) as "
            f"(select list_transform({found}, lambda one: [one.concept, one.form]) from ({conceived}))"
        )
        yield opened


def mentions(connection: duckdb.DuckDBPyConnection, text: str) -> list[list[str]]:
    row = connection.execute("select mentions($text)", {"text": text}).fetchone()
    assert row is not None
    return list(row[0])


def forms(connection: duckdb.DuckDBPyConnection, text: str) -> list[str]:
    return [form for _, form in mentions(connection, text)]


def keys(connection: duckdb.DuckDBPyConnection, text: str) -> list[str]:
    return [key for key, _ in mentions(connection, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I really love the pottery!", ["pottery"]),
        ("We're going to be doing it again, aren't we? I can't, don't, won't and shouldn't.", []),
        ("Thanks so much, that is awesome, wow!", []),
        ("Tomorrow at 18:30 or on Monday 3 March 2026", []),
        ("She quickly finished a wonderful, famous and comfortable sofa", ["sofa"]),
        ("The family needs seeds for the forest", ["family", "seeds", "forest"]),
    ],
)
def test_only_noun_like_words_are_concepts(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[str]
) -> None:
    assert forms(connection, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my pottery class", ["pottery class", "pottery", "class"]),
        ("the physical therapy exercises", ["therapy exercises", "therapy", "exercises"]),
        ("a pottery, a class", ["pottery", "class"]),
        ("pottery - class", ["pottery", "class"]),
        ("an ice-cream", ["ice cream", "ice", "cream"]),
        ("the sister's boat", ["sister", "boat"]),
    ],
)
def test_words_side_by_side_are_a_key_phrase_as_well(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[str]
) -> None:
    assert forms(connection, text) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("We flew to New York with a bag", "New York"),
        ("I read all of Harry Potter in bed", "Harry Potter"),
        ("He watched Game of Thrones with a friend", "Game of Thrones"),
        ("We were in San Juan Capistrano with a tent", "San Juan Capistrano"),
        ("She gives to the Red Cross with a smile", "Red Cross"),
    ],
)
def test_a_name_of_several_words_is_one_concept(
    connection: duckdb.DuckDBPyConnection, text: str, name: str
) -> None:
    found = forms(connection, text)
    assert name in found
    assert not set(name.split()) & set(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hey Caroline! The shelter is closed.", ["shelter"]),
        ("Thanks, Caroline! The shelter is closed.", ["shelter"]),
        ("Caroline, the shelter is closed.", ["shelter"]),
        ("The shelter is closed, Caroline.", ["shelter"]),
        ("Caroline runs the shelter.", ["Caroline", "shelter"]),
        ("I went to the shelter with Caroline.", ["shelter", "Caroline"]),
    ],
)
def test_who_is_addressed_is_no_concept_and_who_is_spoken_of_is_one(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[str]
) -> None:
    assert forms(connection, text) == expected


def test_inflections_and_cases_have_one_key(connection: duckdb.DuckDBPyConnection) -> None:
    assert keys(connection, "Two dogs") == keys(connection, "the DOG") == ["dog"]
    assert keys(connection, "the support groups") == keys(connection, "a Support group")


def test_a_long_text_has_the_concepts_that_it_has_most_often(connection: duckdb.DuckDBPyConnection) -> None:
    most = int(variables(PROJECT)["concepts_per_memory"])
    text = ", ".join(f"thing{chr(97 + n)}ness" for n in range(26)) + ", turtle, turtle"
    found = keys(connection, text)
    assert len(found) == most
    assert found[0] == "turtl"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Мы едем в Москву и Петербург", "москву"),
        ("东京 大阪", "东京"),
        ("मुझे हिन्दी पसंद है", "हिन्दी"),
        ("Die Abmeldung liegt im roten Ordner", "abmeldung"),
    ],
)
def test_other_languages_have_concepts_too(
    connection: duckdb.DuckDBPyConnection, text: str, expected: str
) -> None:
    assert any(expected in key for key in keys(connection, text))


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_has_few_distinct_keys_in_lower_case(
    connection: duckdb.DuckDBPyConnection, text: str
) -> None:
    found = keys(connection, text.encode("utf-8", "ignore").decode())
    assert len(set(found)) == len(found) <= int(variables(PROJECT)["concepts_per_memory"])
    assert all(key and key == key.strip() for key in found)
