"""What features are read off the words of a memory, and how the answers of models are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mnemoduck.project import render
from mnemoduck.sentiment import SCORED_CHARACTERS, register_sentiment, score_sentiment

PROJECT = Path(__file__).resolve().parents[2]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
WORDS = """
    I We met Maya Keller in New York of von the Bank Lisbon. Der ist und Hund, Otter's Dr. Smith! call
"""
OPINIONS = """
    I never am not so very GOOD bad great but kind of least at without doubt the bomb no love hate, it :)
    😂 !!! cut the mustard uber isn't this BUT nor or sort just enough to die for without doubt VERY die, kiss
    death yeah right No NOT goodK K \u212aind :d ❤x 👍🏽, und der
"""
KEYS = "importance entities concepts facts summary name kind subject predicate object valid_from"
prose = st.lists(st.sampled_from([*WORDS.split(), "\n"]), max_size=40).map(" ".join)
# What could look like no name before it is normalised and rid of addresses, and what joins it to others.
ODD_WORDS = """
    I'm I’m2 I-X Mr.Fox E\u0301va \u212belk \u212aarl \u2126mega I\u0304x Éva \u0338 "Foo (Paris) `a.` a@b.
    www.x. Ünal https://x.y 'Bar D’Arc _Bar Жук AI St. U.S. iPhone é 3 2026-03-12 Mar. 1999 12.03.2026
"""
odd_prose = st.lists(
    st.sampled_from([*WORDS.split(), *ODD_WORDS.split(), " ", " ", " ", "\n", ". ", "\xa0", "\0", ", "]),
    max_size=30,
).map("".join)
answers = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda value: (
        st.lists(value, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS.split()),
            value,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("set threads = 1")
        register_sentiment(opened)
        for name, sql in {
            "names": render(PROJECT, "entity_names", "content"),
            "names_of_any_text": render(PROJECT, "names_in_words", "content"),
            "dates": render(PROJECT, "mentioned_dates", "content"),
            "dates_of_any_text": render(PROJECT, "dates_in_words", "content"),
            "sentiment": render(PROJECT, "sentiment_score", "content"),
            "entities_told": render(PROJECT, "answered_entities", "content"),
            "facts_told": render(PROJECT, "answered_facts", "content"),
            "concepts_told": render(PROJECT, "answered_texts", "content", "concepts", 3, 5),
            "importance_told": render(PROJECT, "answered_number", "content", "importance", 0, 1),
            "summary_told": render(PROJECT, "answered_text", "content", "summary", 5),
            "moment_told": render(PROJECT, "answered_moment", "content", "valid_from"),
            "valid": render(PROJECT, "valid_answer", "content"),
        }.items():
            opened.execute(f"create macro {name}(content) as {sql}")
        yield opened


def ask(connection: duckdb.DuckDBPyConnection, name: str, text: str | None) -> Any:
    row = connection.execute(f"select {name}($text)", {"text": text}).fetchone()
    assert row is not None
    return row[0]


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "I went to Paris with Maya Keller and the Bank of England.",
            ["Paris", "Maya Keller", "Bank of England"],
        ),
        ("Later Vincent van Gogh met Ludwig von der Tann.", ["Vincent van Gogh", "Ludwig von der Tann"]),
        ("We saw New York and O'Brien's pub in the UK", ["New York", "O'Brien", "UK"]),
        ("Yesterday Anna called Dr. Smith on Monday in January", ["Anna", "Dr. Smith"]),
        ("we use DuckDB and GPT-4", ["DuckDB", "GPT-4"]),
        ("Paris, Rome; so we like Paris", ["Paris", "Rome"]),
        ("I'm fine. I'd say OK, it's me", []),
        ("write to Me@Foo.com or see https://Foo.Bar/Baz and `SELECT Foo`", []),
        ("", []),
    ],
)
def test_names_are_runs_of_capitalised_words(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[str]
) -> None:
    assert ask(connection, "names", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lighthouses are great", []),
        ("Maya moved. She told Maya all.", ["Maya"]),
        ("Maya Keller moved", ["Maya Keller"]),
        ("so it was. Pottery is fun:\nLisbon", []),
    ],
)
def test_one_word_at_the_beginning_of_a_sentence_is_a_name_only_if_it_is_one_elsewhere(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[str]
) -> None:
    assert ask(connection, "names", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ich habe Anna Schmidt mit dem Hund im Haus gesehen und nicht die Katze", ["Anna Schmidt"]),
        ("WE ALL SAW THE LIGHTHOUSE KEEPER DANCE", []),
        ("The Keeper Of The Lighthouse: A Novel Of Islands", []),
    ],
)
def test_where_capitals_tell_little_they_are_not_believed(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[str]
) -> None:
    assert ask(connection, "names", text) == expected


@settings(max_examples=60, deadline=None)
@given(text=texts | prose)
def test_names_stand_in_the_text_each_once_and_at_most_twenty(
    connection: duckdb.DuckDBPyConnection, text: str
) -> None:
    names = ask(connection, "names", text)
    (normalised,) = connection.execute(
        "select nfc_normalize(replace($text, chr(0), ' '))", {"text": text}
    ).fetchall()[0]
    assert len(names) == len(set(names)) <= 20
    for name in names:
        assert all(word in normalised for word in name.split(" "))
        assert any(letter.isupper() or letter.istitle() for letter in name)


@settings(max_examples=10, deadline=None)
@given(column=st.lists(texts | prose | odd_prose, min_size=30, max_size=100))
@example(
    ['"Foo said so: Bar', "Dr. Fox", "so. `a.` Bar", "so. a@b. Bar", "\n\u212aarl. so \u212aarl, \u212bel"]
)
def test_what_is_passed_over_at_once_has_neither_names_nor_dates(
    connection: duckdb.DuckDBPyConnection, column: list[str]
) -> None:
    rows = connection.execute(
        "select text, names(text), names_of_any_text(text), dates(text), dates_of_any_text(text) "
        "from (select unnest($column::varchar[]) as text)",
        {"column": column},
    ).fetchall()
    assert len(rows) == len(column)
    for text, names, all_names, dates, all_dates in rows:
        assert (names, dates) == (all_names, all_dates), text


def test_of_a_long_text_only_the_beginning_counts(connection: duckdb.DuckDBPyConnection) -> None:
    text = "we saw " + "the sea and " * 200 + "then Lisbon on 2026-03-12, it was great"
    assert ask(connection, "names", text) == ask(connection, "dates", text) == []
    assert ask(connection, "sentiment", text) is None


# --- dates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-12T10:00 and 2026/3/9", ["2026-03-09", "2026-03-12"]),
        ("12 March 2026, the 12th of March 2026; March 13th, 2026 or Mar. 14, 2026", [12, 13, 14]),
        ("am 12. März 2026, 24.12.2023, 3. Mai 2025 und 1. Dez. 2024",
         ["2023-12-24", "2024-12-01", "2025-05-03", "2026-03-12"]),
        ("on 12\nMARCH\t2018", ["2018-03-12"]),
        ("25/12/2026, 12/26/2026 and 5/5/2026", ["2026-05-05", "2026-12-25", "2026-12-26"]),
        ("3/12/2026 may be either", []),
        ("2026-02-30, 31.04.2026 and 12 Marvellous 2026", []),
        ("tomorrow, on Friday, on 12 March, in March 2026", []),
        ("version 1.2.2026.4, 12026-03-12, 1.12.20265", []),
    ],
)  # fmt: skip
def test_dates_are_whole_and_leave_no_choice(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[Any]
) -> None:
    days = [date(2026, 3, day) if isinstance(day, int) else date.fromisoformat(day) for day in expected]
    assert ask(connection, "dates", text) == days


@settings(max_examples=100, deadline=None)
@given(
    days=st.lists(st.dates(date(1000, 1, 1), date(2999, 12, 31)), max_size=5),
    forms=st.lists(
        st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%-d %B %Y", "%B %-d, %Y", "%b %-d %Y", "%Y/%m/%d"]),
        min_size=5, max_size=5,
    ),
)  # fmt: skip
def test_a_date_is_found_in_each_form(
    connection: duckdb.DuckDBPyConnection, days: list[date], forms: list[str]
) -> None:
    text = " and ".join(day.strftime(form) for day, form in zip(days, forms, strict=False))
    assert ask(connection, "dates", text) == sorted(set(days))


@settings(max_examples=50, deadline=None)
@given(text=texts | st.text("0123456789-./ marchT,", max_size=60))
def test_no_text_breaks_the_search_for_dates(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    found = ask(connection, "dates", text)
    assert found == sorted(set(found))


# --- sentiment -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", None, "The table stands in the room", "Das war toll", "Ich habe die Katze und den Hund",
     "Je suis très content de ton gift", "Привет, как дела"],
)  # fmt: skip
def test_a_text_of_which_nothing_is_known_has_no_sentiment(
    connection: duckdb.DuckDBPyConnection, text: str | None
) -> None:
    assert score_sentiment(text) is None
    assert ask(connection, "sentiment", text) is None


VADER = SentimentIntensityAnalyzer()
parted = st.sampled_from([" ", " ", " ", "  ", "\n", "\xa0", "\x1c", ", ", "!"])
opinions = st.lists(st.sampled_from(OPINIONS.split()) | parted, max_size=60).map(" ".join) | st.lists(
    st.sampled_from(OPINIONS.split()) | parted, max_size=30
).map("".join)


@settings(max_examples=100, deadline=None)
@given(text=opinions | texts)
@example("but " + ":) no good " * 30)
@example("no good bad or good, this is so nice: kind of good, kind enough, never so bad but the least kind")
def test_sentiment_is_the_score_of_vader(text: str) -> None:
    """Rules are applied around the words of the lexicon only: that is all that VADER itself asks for."""
    score = score_sentiment(text)
    if score is not None:
        assert score == VADER.polarity_scores(text)["compound"]
        assert -1 <= score <= 1


@settings(max_examples=30, deadline=None)
@given(words=st.lists(st.sampled_from([*VADER.lexicon, *VADER.emojis, "but", "NOT", "so"]), max_size=30))
def test_words_of_the_lexicon_have_the_score_of_vader(words: list[str]) -> None:
    text = " ".join(["the"] * 30 + words)  # some words of the lexicon are Spanish as well
    assert (score_sentiment(text) or 0) == VADER.polarity_scores(text)["compound"]


@settings(max_examples=50, deadline=None)
@given(column=st.lists(st.none() | opinions | texts, min_size=1, max_size=20))
@example([" ", None, "x\x1cgood", "\xa0good", "\u212aind", " good", "(good)", ":)", "<3", "-"])
def test_a_column_has_the_scores_of_its_texts(
    connection: duckdb.DuckDBPyConnection, column: list[str | None]
) -> None:
    """What is looked over all at once leaves no text out that has a score."""
    rows = connection.execute(
        "select sentiment(text) from (select unnest($column::varchar[]) as text)", {"column": column}
    ).fetchall()
    assert [score for (score,) in rows] == [score_sentiment(text) for text in column]


def test_many_texts_are_scored_at_once_and_each_for_itself(connection: duckdb.DuckDBPyConnection) -> None:
    rows = connection.execute(
        "select sentiment(case n % 3 when 0 then 'I love it' when 1 then 'I hate it' end), n % 3 "
        "from range(5000) as numbers(n)"
    ).fetchall()
    assert set(rows) == {(0.6369, 0), (-0.5719, 1), (None, 2)}


@pytest.mark.parametrize("piece", ["no ", "😂", ":) ", "but 😂", "not very good, ", "!?", "a"])
def test_no_text_takes_long(piece: str) -> None:
    """Work is counted, not time: what is scored is bounded whatever there is of it."""
    longest = score_sentiment(piece * SCORED_CHARACTERS)
    assert score_sentiment(piece * SCORED_CHARACTERS * 50) == longest


# --- answers -------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(answer=answers)
def test_any_json_is_read_without_an_error_and_within_bounds(
    connection: duckdb.DuckDBPyConnection, answer: Any
) -> None:
    text = json.dumps(answer)
    importance = ask(connection, "importance_told", text if isinstance(answer, dict) else "{}")
    assert importance is None or 0 <= importance <= 1
    (found,) = connection.execute(
        "select {'names': entities_told(a), 'facts': facts_told(a), 'concepts': concepts_told(a), "
        "'summary': summary_told(a), 'moment': moment_told(a)} from (select valid($text) as a)",
        {"text": text},
    ).fetchall()[0]
    assert all(entity["name"] and entity["kind"] for entity in found["names"] or ())
    assert all(0 < len(concept) <= 5 for concept in found["concepts"] or ())
    assert len(found["concepts"] or ()) <= 3
    for fact in map(json.loads, found["facts"] or ()):
        assert all(fact[key].strip() for key in ("subject", "predicate", "object"))


@pytest.mark.parametrize("text", ["", "no JSON", "{", '{"a": }', None])
def test_what_is_no_json_is_no_answer(connection: duckdb.DuckDBPyConnection, text: str | None) -> None:
    assert ask(connection, "valid", text) is None
    assert ask(connection, "facts_told", text) is None


@given(
    moment=st.datetimes(datetime(1001, 1, 1), datetime(2998, 12, 31)).map(
        lambda at: at.replace(microsecond=0)
    ),
    hours=st.integers(-12, 14),
)
@settings(max_examples=50, deadline=None)
def test_a_moment_of_an_answer_is_in_utc(
    connection: duckdb.DuckDBPyConnection, moment: datetime, hours: int
) -> None:
    told = json.dumps({"valid_from": f"{moment.isoformat()}{hours:+03}:00"})
    assert ask(connection, "moment_told", told) == moment - timedelta(hours=hours)
    for plain in (moment.isoformat(), f"{moment.isoformat()}Z"):
        assert ask(connection, "moment_told", json.dumps({"valid_from": plain})) == moment


@pytest.mark.parametrize("text", ["infinity", "epoch", "2026", "soon", "2026-13-01", "0001-01-01", 5, None])
def test_what_is_no_moment_is_none(connection: duckdb.DuckDBPyConnection, text: Any) -> None:
    assert ask(connection, "moment_told", json.dumps({"valid_from": text})) is None
