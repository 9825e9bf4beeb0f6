"""Consolidation by the macros of the project: merging, gists, fates, and the past as it was."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoduck.project import render, variables

PROJECT = Path(__file__).resolve().parents[2]
START = datetime(2026, 1, 1)
GAP = timedelta(minutes=30)
NOTHING_DISTURBED = "select cast(null as uuid) as consolidated_id where false"

TEXTS = [  # what is said, and the consolidated memory that it belongs to
    ("I am allergic to hazelnuts.", 0),
    ("I'm allergic to hazelnuts! Please remember that.", 0),
    ("Remember: I am allergic to hazelnuts, badly.", 0),
    ("The flight leaves on Friday. It is early.", 1),
    ("The flight leaves on Friday at 6:20.", 1),
    ("Tea", 2),
]


@dataclass(frozen=True)
class Stream:
    """Sayings (text, session, moment, importance), recalls (sayings, moment) and orders to forget."""

    sayings: list[tuple[int, str, datetime, float]]
    recalls: list[tuple[list[int], datetime]] = field(default_factory=list)
    forgets: list[tuple[int, datetime]] = field(default_factory=list)

    def until(self, moment: datetime) -> Stream:
        """Return the events that had occurred by a moment, with the numbers that they have in the whole."""
        later = datetime.max
        return Stream(
            [
                (*saying[:2], saying[2] if saying[2] <= moment else later, saying[3])
                for saying in self.sayings
            ],
            [recall for recall in self.recalls if recall[1] <= moment],
            [order for order in self.forgets if order[1] <= moment],
        )


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A plain DuckDB, without any extension: published views have to do with that."""
    with duckdb.connect() as opened:
        opened.execute("set threads = 1")
        yield opened


def build(
    connection: duckdb.DuckDBPyConnection,
    stream: Stream,
    *,
    backwards: bool = False,
    with_facts: bool = True,
) -> None:
    """Make the tables that consolidated reads, as the models would."""
    connection.execute(
        "create or replace table members (consolidated_id uuid, memory_id uuid, user_id varchar, agent_id "
        "varchar, session_id varchar, content varchar, content_hash uuid, role varchar, memory_type varchar, "
        "tags varchar[], importance double, interference double, occurred_at timestamp, ready_at timestamp, "
        "forgotten_at timestamp, states_facts boolean, superseded_at timestamp, changed_batch_seq bigint);"
        "create or replace table recalls (event_id uuid, memory_id uuid, occurred_at timestamp, "
        "batch_seq bigint);"
        "create or replace table statements (group_key uuid, object_key uuid, memory_id uuid, ordinal int, "
        "valid_from timestamp, said_at timestamp, recorded_at timestamp, user_id varchar default 'u', "
        "agent_id varchar, subject varchar default 'u', subject_key varchar default 'u', "
        "predicate varchar default 'likes most', predicate_key varchar default 'likes most', object varchar, "
        "method varchar default 'caller', is_functional bool default true, is_listed bool default true, "
        "valid_to timestamp)"
    )
    rows = []
    orders: dict[int, datetime] = {}
    for number, ordered_at in stream.forgets:
        orders[number] = min(ordered_at, orders.get(number, ordered_at))
    for number, (text, session, said_at, importance) in enumerate(stream.sayings):
        if said_at == datetime.max:
            continue
        content, cluster = TEXTS[text]
        rows.append(
            [
                UUID(int=cluster + 1), UUID(int=100 + number), "u", None, session, content,
                UUID(int=10 + text), "user", "semantic" if importance > 0.5 else "episodic",
                [session, f"t{text}"], importance, importance / 3, said_at,
                session_end(stream, session, said_at) + GAP, orders.get(number), False, None, number,
            ]
        )  # fmt: skip
    recalled = [
        [UUID(int=1000 + event), UUID(int=100 + number), recalled_at, 100 + event]
        for event, (numbers, recalled_at) in enumerate(stream.recalls)
        for number in numbers
    ]
    for table, values in (("members", rows), ("recalls", recalled)):
        for value in reversed(values) if backwards else values:
            connection.execute(f"insert into {table} values ({', '.join('?' * len(value))})", value)
    # What a later saying states takes the place of what an earlier one has.
    for number, (text, _, said_at, _) in enumerate(stream.sayings):
        if with_facts and text % 2 == 0 and said_at != datetime.max:
            connection.execute(
                "insert into statements by name select $1::uuid as group_key, $2::uuid as object_key, "
                "$3::uuid as memory_id, 1 as ordinal, $4::timestamp as valid_from, $4::timestamp as said_at, "
                "$4::timestamp as recorded_at, $5 as object",
                [UUID(int=1), UUID(int=text), UUID(int=100 + number), said_at, str(text)],
            )
    connection.execute(
        f"create or replace table facts as {render(PROJECT, 'fact_intervals', 'statements')};"
        f"update members set states_facts = true, superseded_at = stated.superseded_at "
        f"from ({render(PROJECT, 'memories_that_state', 'facts')}) as stated "
        "where members.memory_id = stated.memory_id"
    )
    summary = render(PROJECT, "consolidation_summary", "members", "recalls")
    connection.execute(
        f"create or replace table consolidated as select *, uuid '{UUID(int=7)}' as run_id from ({summary})"
    )


def session_end(stream: Stream, session: str, said_at: datetime) -> datetime:
    """Return when the activity session of a saying ends: before a silence of more than the gap."""
    moments = sorted(moment for _, of, moment, _ in stream.sayings if of == session and moment >= said_at)
    end = said_at
    for moment in moments:
        if moment == datetime.max or moment - end > GAP:
            break
        end = moment
    return end


def fetch(connection: duckdb.DuckDBPyConnection, query: str, **values: object) -> list[dict[str, Any]]:
    cursor = connection.execute(query, values)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def stored(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    return fetch(connection, "select * from consolidated order by consolidated_id")


def consolidated_as_of(connection: duckdb.DuckDBPyConnection, moment: datetime) -> list[dict[str, Any]]:
    query = render(
        PROJECT,
        "consolidated_at",
        "consolidated",
        "members",
        "recalls",
        "facts",
        "$moment",
        NOTHING_DISTURBED,
    )
    return fetch(connection, f"select * from ({query}) order by consolidated_id", moment=moment)


minutes = st.one_of(st.integers(0, 200), st.integers(0, 60 * 24 * 300))
moments = minutes.map(lambda minute: START + timedelta(minutes=minute))
streams = st.builds(
    Stream,
    st.lists(
        st.tuples(
            st.integers(0, len(TEXTS) - 1),
            st.sampled_from("ab"),
            moments,
            st.sampled_from([0.0, 0.5, 0.9, 1.0]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.lists(
        st.tuples(st.lists(st.integers(0, 7), min_size=1, max_size=3, unique=True), moments), max_size=4
    ),
    st.lists(st.tuples(st.integers(0, 7), moments), max_size=3),
)


# --- the past ------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(stream=streams, moment=moments)
@example(  # one saying in a session that goes on, one that time has taken, a recall and an order to come
    Stream(
        [
            (0, "a", START, 0.5),
            (1, "a", START + timedelta(minutes=25), 0.5),
            (2, "b", START + timedelta(days=90), 0.5),
            (3, "b", START, 0.5),
        ],
        [([0, 1], START + timedelta(days=1)), ([3], START + timedelta(days=200))],
        [(0, START + timedelta(days=2)), (3, START + timedelta(days=3))],
    ),
    START + timedelta(minutes=35),
)
def test_the_past_is_what_a_build_of_that_time_would_have_made(
    connection: duckdb.DuckDBPyConnection, stream: Stream, moment: datetime
) -> None:
    # A fact that was superseded by one that is forgotten later counts as one that never was.
    with_facts = not stream.forgets
    build(connection, stream, with_facts=with_facts)
    seen_later = consolidated_as_of(connection, moment)
    build(connection, stream.until(moment), with_facts=with_facts)
    seen_then = consolidated_as_of(connection, moment)
    assert seen_later == seen_then


@settings(max_examples=8, deadline=None)
@given(stream=streams)
def test_consolidating_again_or_in_another_order_changes_nothing(
    connection: duckdb.DuckDBPyConnection, stream: Stream
) -> None:
    build(connection, stream)
    before = stored(connection)
    anew = render(
        PROJECT,
        "consolidated_anew",
        "pretended",
        "members",
        "recalls",
        "facts",
        "$moment",
        NOTHING_DISTURBED,
    )
    again = fetch(
        connection,
        "with pretended as (select * replace (timestamp 'infinity' as settled_at) from consolidated) "
        f"select * from ({anew}) order by consolidated_id",
        moment=datetime(2100, 1, 1),
    )
    assert again == before
    build(connection, stream, backwards=True)
    assert stored(connection) == before


@settings(max_examples=8, deadline=None)
@given(stream=streams)
def test_every_memory_is_in_one_consolidated_memory_and_counts_once(
    connection: duckdb.DuckDBPyConnection, stream: Stream
) -> None:
    build(connection, stream)
    rows = stored(connection)
    members = [member for row in rows for member in row["memory_ids"]]
    assert sorted(members) == [UUID(int=100 + number) for number in range(len(stream.sayings))]
    for row in rows:
        assert row["support_count"] == len(row["memory_ids"])
        assert row["use_count"] == row["support_count"] + row["recall_count"]
        assert row["first_seen_at"] <= row["last_seen_at"] <= row["last_used_at"] <= row["settled_at"]


# --- between uses and after ----------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(stream=streams, hours=st.lists(st.integers(1, 24 * 400), min_size=2, max_size=5, unique=True))
def test_strength_and_retention_fall_until_the_next_use_and_the_fate_turns_once(
    connection: duckdb.DuckDBPyConnection, stream: Stream, hours: list[int]
) -> None:
    build(connection, stream)
    settled = max(row["settled_at"] for row in stored(connection))
    histories: dict[UUID, list[dict[str, Any]]] = {}
    for hour in sorted(hours):
        for row in consolidated_as_of(connection, settled + timedelta(hours=hour)):
            histories.setdefault(row["consolidated_id"], []).append(row)
    for history in histories.values():
        for earlier, later in itertools.pairwise(history):
            assert later["strength"] < earlier["strength"]
            assert later["activation"] < earlier["activation"]
            assert later["retention"] <= earlier["retention"]
            assert later["forgets_at"] == earlier["forgets_at"]
            assert (earlier["fate"], later["fate"]) in {
                *((fate, fate) for fate in ("retained", "reinforced", "superseded", "forgotten")),
                ("retained", "forgotten"),
                ("reinforced", "forgotten"),
            }


@settings(max_examples=12, deadline=None)
@given(stream=streams, moment=moments)
def test_a_fate_has_a_date_that_has_come_and_its_conditions(
    connection: duckdb.DuckDBPyConnection, stream: Stream, moment: datetime
) -> None:
    build(connection, stream)
    for row in consolidated_as_of(connection, moment):
        assert row["fate_at"] <= moment
        assert row["fate_reason"].endswith(".")
        is_by_order = row["forgotten_at"] is not None
        is_by_time = row["forgets_at"] is not None and row["forgets_at"] <= moment
        is_superseded = row["superseded_at"] is not None and row["last_seen_at"] <= row["superseded_at"]
        if is_superseded and not is_by_order:
            assert row["fate"] == "superseded"
        elif is_by_order or is_by_time:
            assert row["fate"] == "forgotten"
        else:
            assert row["fate"] == ("reinforced" if row["use_count"] > 1 else "retained")
        assert (row["forgets_at"] is None) == (row["importance"] == 1)


def test_a_recall_brings_back_what_time_has_taken_and_not_what_was_ordered_forgotten(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    a_year_later = START + timedelta(days=365)
    recall = [([0], a_year_later), ([1], a_year_later)]
    build(
        connection,
        Stream([(0, "a", START, 0.5), (3, "a", START, 0.5)], recall, [(1, START + timedelta(days=1))]),
    )

    def fates(moment: datetime) -> list[str]:
        return [row["fate"] for row in consolidated_as_of(connection, moment)]

    assert fates(START + timedelta(minutes=29)) == []
    assert fates(START + timedelta(minutes=30)) == ["retained", "retained"]
    assert fates(START + timedelta(days=59)) == ["retained", "forgotten"]
    assert fates(START + timedelta(days=60)) == ["forgotten", "forgotten"]
    assert fates(a_year_later) == ["reinforced", "forgotten"]


def test_a_single_mention_of_default_importance_lasts_about_two_months() -> None:
    """The reason for the defaults: 7 days / (1 - 0.5) * ln(1 / 0.01) = 64.5 days."""
    values = variables(PROJECT)
    assert values["default_importance"] == 0.5
    with duckdb.connect() as opened:
        forgets_at = render(
            PROJECT, "forgets_at", "$used", str(values["initial_stability_days"]), "0", "0.5e0"
        )
        row = opened.execute(f"select {forgets_at} - $used", {"used": START}).fetchone()
    assert row is not None
    assert timedelta(days=60) < row[0] < timedelta(days=70)


@settings(max_examples=25, deadline=None)
@given(stream=streams)
@example(Stream([(0, "a", START, 0.5), (3, "a", START, 0.9), (5, "b", START, 1.0)], [], [(1, START)]))
def test_what_was_said_once_is_summed_up_as_by_the_aggregates(
    connection: duckdb.DuckDBPyConnection, stream: Stream
) -> None:
    build(connection, stream)
    connection.execute(
        "update members set session_id = null, tags = null where content_hash = $1", [UUID(int=15)]
    )
    once = (
        "(select * exclude (said) "
        "from (select *, count(*) over (partition by consolidated_id) as said from members) "
        "where said = 1 and memory_id not in (select memory_id from recalls))"
    )
    again = f"(select * from members where memory_id not in (select memory_id from {once}))"
    parted = render(PROJECT, "consolidation_summary", again, "recalls", once)
    whole = render(PROJECT, "consolidation_summary", "members", "recalls")
    found, expected = (
        fetch(connection, f"select * from ({query}) order by consolidated_id") for query in (parted, whole)
    )
    assert [list(row.items()) for row in found] == [list(row.items()) for row in expected]


# --- gists ---------------------------------------------------------------------------------------------


def sentences(connection: duckdb.DuckDBPyConnection, text: str) -> list[str]:
    row = connection.execute(f"select {render(PROJECT, 'sentences', '$text')}", {"text": text}).fetchone()
    assert row is not None
    return list(row[0])


def gist(connection: duckdb.DuckDBPyConnection, texts: Sequence[str]) -> str | None:
    """Return the gist of texts, the one that was said last first."""
    connection.execute(
        "create or replace temp table texts as select 1 as group_id, unnest($texts) as content, "
        "generate_subscripts($texts, 1) as recency",
        {"texts": list(texts)},
    )
    rows = fetch(connection, render(PROJECT, "gists", "texts"))
    return rows[0]["gist"] if rows else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One thing", ["One thing"]),
        ("One. Two. Three", ["One.", "Two.", "Three"]),
        ("Really?! Yes! no?", ["Really?!", "Yes!", "no?"]),
        ("Wait... What… Now", ["Wait...", "What…", "Now"]),
        ("Dr. Smith saw Mrs. Jones in St. Pauli. They talked.",
         ["Dr. Smith saw Mrs. Jones in St. Pauli.", "They talked."]),
        ("Fruit, e.g. Apples, i.e. Food. Done.", ["Fruit, e.g. Apples, i.e. Food.", "Done."]),
        ("It costs 3.50 euros. See v1.2 at example.org.",
         ["It costs 3.50 euros.", "See v1.2 at example.org."]),
        ("J. R. R. Tolkien wrote it. I read it.", ["J. R. R. Tolkien wrote it.", "I read it."]),
        ("The U.S. Army is here. Fine.", ["The U.S. Army is here.", "Fine."]),
        ("So do I. Then we left.", ["So do I.", "Then we left."]),
        ("See No. 5 and Nr. 7. Then go.", ["See No. 5 and Nr. 7.", "Then go."]),
        ('He said "Stop." Then he left. "Why?" I asked.',
         ['He said "Stop."', "Then he left.", '"Why?"', "I asked."]),
        ('"Wow!" she said.', ['"Wow!" she said.']),
        ("(It was late.) We went home.", ["(It was late.)", "We went home."]),
        ("I was born in 1990. 30 people came.", ["I was born in 1990.", "30 people came."]),
        ("1. Pack\n2. Call\n\n- Sleep", ["1. Pack", "2. Call", "- Sleep"]),
        ("Am 25. März geht es los. Gut, z. B. Morgen.", ["Am 25. März geht es los.", "Gut, z. B. Morgen."]),
        ("Line one\r\nline two", ["Line one", "line two"]),
        ("今日は寒い。明日は？「はい！」そう。", ["今日は寒い。", "明日は？", "「はい！」", "そう。"]),
        ("Привет! Как дела? Хорошо.", ["Привет!", "Как дела?", "Хорошо."]),
        ("¿Qué tal? ¡Bien! «Vamos.» Ya.", ["¿Qué tal?", "¡Bien!", "«Vamos.»", "Ya."]),
        ("كيف حالك؟ بخير.", ["كيف حالك؟", "بخير."]),
        ("Great. 🎉 See you.", ["Great.", "🎉 See you."]),
        ("lower case. goes on", ["lower case. goes on"]),
        ("", []),
        (" \n ", []),
    ],
)  # fmt: skip
def test_a_text_is_split_into_its_sentences(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[str]
) -> None:
    assert sentences(connection, text) == expected
    if len(expected) > 1:
        can = render(PROJECT, "can_have_sentences", "$text")
        assert fetch(connection, f"select {can} as can", text=text) == [{"can": True}]


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("aB1. !?…\n\"')。Dr.é🎉\u00a0\x00\x1e\x1f"), max_size=60))
def test_splitting_loses_nothing_but_white_space(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    parts = sentences(connection, text)
    kept = re.sub(r"\s", "", text.replace("\x1e", " ").replace("\x1f", " "))
    assert re.sub(r"\s", "", "".join(parts)) == kept
    can = render(PROJECT, "can_have_sentences", "$text")
    assert len(parts) <= 1 or fetch(connection, f"select {can} as can", text=text) == [{"can": True}]


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("aB1. !?…\n\"'。é🎉\u00a0\u2003\x00\x1e\x1f"), max_size=12))
@example(text="A green bicycle.")
def test_a_text_that_is_taken_for_one_sentence_is_one(
    connection: duckdb.DuckDBPyConnection, text: str
) -> None:
    is_one = render(PROJECT, "is_one_sentence", "$text")
    one = fetch(connection, f"select {is_one} as one", text=text)[0]["one"]
    assert not one or sentences(connection, text) == ([text] if text else [])
    assert one or text != "A green bicycle."


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(st.sampled_from([
    "I packed the green bicycle.", "The bicycle is green!", "See you soon.", "Ok.", "Tea?", "ja", "🎉",
]), min_size=1, max_size=4).map(" ".join), min_size=1, max_size=4))  # fmt: skip
def test_a_gist_is_a_sentence_that_was_said(connection: duckdb.DuckDBPyConnection, texts: list[str]) -> None:
    said = {sentence for text in texts for sentence in sentences(connection, text)}
    found = gist(connection, texts)
    has_words = any(re.search(r"\w", text) for text in texts)
    assert (found in said) if has_words else (found is None)


def test_the_gist_is_what_the_most_of_the_texts_are_about(connection: duckdb.DuckDBPyConnection) -> None:
    assert (
        gist(
            connection,
            [
                "Hi there! Maya moves to Lisbon in April. Thanks a lot for listening today, friend.",
                "Maya moves to Lisbon. Good night.",
                "When in April does Maya move? She moves to Lisbon, I think.",
            ],
        )
        == "Maya moves to Lisbon in April."
    )


def test_a_gist_of_a_very_long_text_looks_at_its_beginning_only(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    text = "The kiln is hot. The kiln is very hot today. " + "And so on it went. " * 60_000
    assert len(text) > 2**20
    assert gist(connection, [text]) == "And so on it went."
    assert gist(connection, ["x" * 2**20]) == "x" * 20_000
    assert gist(connection, [f"Text number {number}." for number in range(30)]) == "Text number 0."
