"""Facts: their periods against an oracle, what was known when, and what `Memory.facts` gives.

The SQL under test is that of the project: the macro `fact_intervals` and the model facts_as_of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import Environment

from mnemoduck.errors import InvalidEventError, SnapshotError, UsageError
from mnemoduck.events import MemoryPayload, new_event
from mnemoduck.facts import FactRecord
from mnemoduck.home import Home
from mnemoduck.inbox import FreshEvents
from mnemoduck.memory import Memory
from mnemoduck.project import render

from .conftest import write_snapshot

PROJECT = Path(__file__).resolve().parents[2]
DAY_0 = datetime(2026, 1, 1)
NEVER = 10**6
ALL_TIME = range(-1, 16)

STATEMENTS = """
    create table int_fact_statements (
        statement_id uuid, memory_id uuid, ordinal integer, user_id varchar, agent_id varchar, group_key uuid,
        object_key uuid, prompt_key uuid,
        subject varchar, predicate varchar, object varchar, subject_key varchar, predicate_key varchar,
        method varchar, is_functional boolean, is_listed boolean, is_withdrawn boolean,
        valid_from timestamp, valid_to timestamp,
        said_at timestamp, recorded_at timestamp, forgotten_at timestamp,
        changed_batch_seq bigint
    )
"""


@dataclass(frozen=True)
class Statement:
    """A statement of one user; times are days. `user` and `predicate` name the group."""

    memory: int
    object: str
    valid_from: int
    valid_to: int | None = None
    recorded_at: int = 0
    said_at: int = 0
    forgotten_at: int | None = None
    is_functional: bool | None = None
    predicate: str = "lives in"
    user: str = "ada"
    ordinal: int = 1
    is_withdrawn: bool | None = False

    @property
    def is_listed(self) -> bool:
        return self.predicate == "lives in"


@dataclass
class Period:
    """A fact as the oracle has it."""

    object: str
    valid_from: int
    valid_to: int | None
    is_superseded: bool
    memories: list[int]
    recorded_at: int
    last_from: int


def known(statements: Sequence[Statement], system_day: int) -> list[Statement]:
    return [
        statement
        for statement in statements
        if statement.recorded_at <= system_day
        and (statement.forgotten_at is None or statement.forgotten_at > system_day)
    ]


def expected_periods(statements: Sequence[Statement]) -> dict[tuple[str, str], list[Period]]:
    """The oracle: tell the statements of each group to somebody who keeps a list, one after the other."""
    found: dict[tuple[str, str], list[Period]] = {}
    for user, predicate in {(s.user, s.predicate) for s in statements}:
        group = [s for s in statements if (s.user, s.predicate) == (user, predicate)]
        said = [s for s in group if s.is_functional is not None]
        last = max(said, key=lambda s: (s.recorded_at, s.memory, s.ordinal), default=None)
        is_functional = group[0].is_listed if last is None else bool(last.is_functional)
        lanes = [group] if is_functional else [[s for s in group if s.object == o] for o in objects(group)]
        found[user, predicate] = [period for lane in lanes for period in _tell(lane)]
    return found


def _tell(lane: Sequence[Statement]) -> list[Period]:
    periods: list[Period] = []
    for s in sorted(lane, key=lambda s: (s.valid_from, s.recorded_at, s.memory, s.ordinal)):
        last = periods[-1] if periods else None
        if last and last.object == s.object and (last.valid_to is None or last.valid_to >= s.valid_from):
            if s.valid_to is not None:
                last.valid_to = s.valid_to
            elif last.valid_to == s.valid_from:
                last.valid_to = None
            last.last_from = s.valid_from
            last.memories = sorted({*last.memories, s.memory})
            last.recorded_at = min(last.recorded_at, s.recorded_at)
            continue
        if last and (last.valid_to is None or last.valid_to >= s.valid_from):
            last.valid_to, last.is_superseded = s.valid_from, True
        periods.append(
            Period(s.object, s.valid_from, s.valid_to, False, [s.memory], s.recorded_at, s.valid_from)
        )
    return periods


def objects(statements: Sequence[Statement]) -> list[str]:
    return sorted({statement.object for statement in statements})


def at(day: int | None) -> datetime | None:
    return None if day is None else DAY_0 + timedelta(days=day)


def day(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - DAY_0).days


@cache
def render_model(name: str, *, is_incremental: bool = False) -> tuple[str, dict[str, Any]]:
    """Return the SQL of a model as dbt would compile it over the tables of a test, and its configuration."""
    settings: dict[str, Any] = {}
    macros = ("known_statements", "fact_key", "fact_intervals", "hash_key")
    text = (PROJECT / "models" / "consolidated" / f"{name}.sql").read_text("utf-8")
    sql = (
        Environment(extensions=["jinja2.ext.do"])
        .from_string(text)
        .render(
            config=lambda **given: settings.update(given) or "",
            ref=lambda model: model,
            this=name,
            is_incremental=lambda: is_incremental,
            invocation_id="00000000-0000-0000-0000-000000000000",
            **{macro: partial(_render_macro, macro) for macro in macros},
        )
    )
    return sql, settings


def _render_macro(name: str, *arguments: Any) -> str:
    hashable = (tuple(argument) if isinstance(argument, list) else argument for argument in arguments)
    return render(PROJECT, name, *hashable)


class Facts:
    """What the project says of the statements of a test."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("set threads = 1")
        self.connection.execute(STATEMENTS)
        sql, settings = render_model("facts_as_of")
        self.connection.execute(
            f"create macro facts_as_of({', '.join(settings['parameters'])}) as table ({sql})"
        )

    def tell(self, statements: Sequence[Statement], *, batch: int = 1) -> None:
        rows = [
            [
                *(_uuid("statement", s.memory, s.ordinal), UUID(int=s.memory), s.ordinal, s.user, None),
                *(_uuid("group", s.user, s.predicate), _uuid("object", s.object), None),
                *("Ada", s.predicate, s.object, "ada", s.predicate, "caller", s.is_functional, s.is_listed),
                s.is_withdrawn,
                *(at(s.valid_from), at(s.valid_to), at(s.said_at), at(s.recorded_at), at(s.forgotten_at)),
                batch,
            ]
            for s in statements
        ]
        if rows:
            places = ", ".join(f"({', '.join('?' * len(row))})" for row in rows)
            values = [value for row in rows for value in row]
            self.connection.execute(f"insert into int_fact_statements values {places}", values)

    def ask(self, world_day: int | None, system_day: int | None, scope: str = "") -> list[dict[str, Any]]:
        cursor = self.connection.execute(
            f"select * from facts_as_of($1, $2{scope})", [at(world_day), at(system_day)]
        )
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def forget_all(self) -> None:
        self.connection.execute("delete from int_fact_statements")


def _uuid(*parts: object) -> UUID:
    return uuid5(NAMESPACE_OID, repr(parts))


@pytest.fixture(scope="module")
def shared() -> Facts:
    return Facts()


@pytest.fixture
def facts(shared: Facts) -> Facts:
    shared.forget_all()
    return shared


days = st.integers(0, 12)
statements = st.lists(
    st.builds(
        lambda start, length, recorded, kept, **fields: Statement(
            memory=0,
            valid_from=start,
            valid_to=None if length is None else start + length,
            recorded_at=recorded,
            forgotten_at=None if kept is None else recorded + kept,
            **fields,
        ),
        st.integers(0, 8),
        st.one_of(st.none(), st.none(), st.integers(1, 5)),
        st.integers(0, 6),
        st.one_of(st.none(), st.none(), st.none(), st.integers(0, 5)),
        object=st.sampled_from("ABC"),
        said_at=st.integers(0, 8),
        is_functional=st.sampled_from([None, None, None, None, True, False]),
        predicate=st.sampled_from(["lives in", "lives in", "knows"]),
        user=st.sampled_from(["ada", "ada", "bob"]),
        ordinal=st.integers(1, 2),
    ),
    max_size=12,
).map(lambda found: [replace(one, memory=number) for number, one in enumerate(found)])


def described(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(
        (
            row["user_id"], row["predicate"], row["object"], day(row["valid_from"]),
            NEVER if row["valid_to"] is None else day(row["valid_to"]), row["superseded_by"] is not None,
            [memory.int for memory in row["memory_ids"]], day(row["recorded_at"]),
        )
        for row in rows
    )  # fmt: skip


def expected(known_then: Sequence[Statement]) -> list[tuple[Any, ...]]:
    return sorted(
        (
            user, predicate, period.object, period.valid_from,
            NEVER if period.valid_to is None else period.valid_to, period.is_superseded, period.memories,
            period.recorded_at,
        )
        for (user, predicate), periods in expected_periods(known_then).items()
        for period in periods
    )  # fmt: skip


# --- periods -------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(told=statements, system_day=days, shuffle=st.randoms())
def test_the_facts_are_those_of_the_oracle_at_each_system_time_whatever_the_order_of_arrival(
    shared: Facts, told: list[Statement], system_day: int, shuffle: Random
) -> None:
    shared.forget_all()
    arrived = list(told)
    shuffle.shuffle(arrived)
    shared.tell(arrived)
    assert described(shared.ask(None, system_day)) == expected(known(told, system_day))
    assert described(shared.ask(None, None)) == expected([s for s in told if s.forgotten_at is None])


@settings(max_examples=20)
@given(told=statements, world_day=days, system_day=days)
def test_of_a_functional_predicate_at_most_one_value_is_valid_at_any_moment_of_both_times(
    shared: Facts, told: list[Statement], world_day: int, system_day: int
) -> None:
    shared.forget_all()
    shared.tell(told)
    history, valid = shared.ask(None, system_day), shared.ask(world_day, system_day)
    assert described(valid) == [row for row in described(history) if row[3] <= world_day < row[4]], (
        "a moment of the world is a cut through history"
    )
    for user, predicate in {(row["user_id"], row["predicate"]) for row in valid if row["is_functional"]}:
        assert len([r for r in valid if (r["user_id"], r["predicate"]) == (user, predicate)]) == 1


@settings(max_examples=20)
@given(told=statements)
def test_periods_do_not_overlap_and_a_superseded_one_ends_where_the_next_begins(
    shared: Facts, told: list[Statement]
) -> None:
    shared.forget_all()
    shared.tell(told)
    rows = shared.ask(None, 12)
    by_id = {row["fact_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    for row in rows:
        assert row["valid_to"] is None or row["valid_from"] <= row["valid_to"]
        if row["superseded_by"] is not None:
            successor = by_id[row["superseded_by"]]
            assert successor["group_key"] == row["group_key"]
            assert successor["object"] != row["object"]
            assert successor["valid_from"] == row["valid_to"]
        else:
            assert row["valid_to"] is None or row["valid_from"] < row["valid_to"]
        for other in rows:
            if other is not row and other["group_key"] == row["group_key"]:
                if not row["is_functional"] and other["object"] != row["object"]:
                    continue
                ends = [one["valid_to"] or datetime.max for one in (row, other)]
                assert ends[0] <= other["valid_from"] or ends[1] <= row["valid_from"]


@settings(max_examples=20)
@given(told=statements, system_day=days)
def test_what_was_known_then_does_not_change_when_more_is_told_or_forgotten_later(
    shared: Facts, told: list[Statement], system_day: int
) -> None:
    earlier = [
        s if s.forgotten_at is not None and s.forgotten_at <= system_day else replace(s, forgotten_at=None)
        for s in told
        if s.recorded_at <= system_day
    ]
    answers = []
    for stream in (earlier, told):
        shared.forget_all()
        shared.tell(stream)
        answers.append(sorted(shared.ask(None, system_day), key=lambda row: row["fact_id"]))
    assert answers[0] == answers[1]


@settings(max_examples=25)
@example(  # A2 is told before B, which lies between A1 and A2: A1 is superseded when B is told.
    told=[
        Statement(0, "A", 1, said_at=1),
        Statement(1, "B", 3, said_at=8),
        Statement(2, "A", 5, said_at=5),
    ]
)
@example(  # C counts before B, which comes before it.
    told=[
        Statement(0, "A", 1, said_at=1),
        Statement(1, "B", 3, said_at=8),
        Statement(2, "C", 5, said_at=5),
    ]
)
@given(told=statements)
def test_a_memory_counts_as_superseded_exactly_when_the_history_until_then_says_so(
    shared: Facts, told: list[Statement]
) -> None:
    told = [
        replace(s, valid_to=None, forgotten_at=None, is_functional=None, predicate="lives in") for s in told
    ]
    shared.forget_all()
    shared.tell(told)
    query = render(PROJECT, "fact_intervals", "int_fact_statements")
    superseded_at = {
        memory.int: NEVER if moment is None else (moment - DAY_0).days
        for moment, memory in shared.connection.execute(
            f"select superseded_at, unnest(memory_ids) from ({query})"
        ).fetchall()
    }
    for today in ALL_TIME:
        for periods in expected_periods([s for s in told if s.said_at <= today]).values():
            for period in periods:
                is_superseded = period.is_superseded and (period.valid_to or 0) <= today
                says_so = {superseded_at[memory] <= today for memory in period.memories}
                assert says_so == {is_superseded}


@settings(max_examples=20)
@given(told=statements, cuts=st.tuples(st.integers(0, 12), st.integers(0, 12)))
def test_facts_built_in_batches_are_those_built_at_once_and_what_is_not_new_is_not_written(
    shared: Facts, told: list[Statement], cuts: tuple[int, int]
) -> None:
    """The merge of the model facts, carried out as its configuration says; orders to forget come last."""
    shared.forget_all()
    run = shared.connection.execute
    run(f"create or replace table facts as {render_model('facts')[0]}")
    remembered = [replace(s, forgotten_at=None) for s in told]
    first, second = sorted(cuts)
    shared.tell(remembered[:first], batch=1)
    merge(shared)
    shared.tell(remembered[first:second], batch=2)
    merge(shared)
    shared.tell(remembered[second:], batch=3)
    for s in told:
        if s.forgotten_at is not None:
            run(
                "update int_fact_statements set forgotten_at = ?, changed_batch_seq = 3 where memory_id = ?",
                [at(s.forgotten_at), UUID(int=s.memory)],
            )
    merge(shared)
    run(f"create or replace temp table at_once as {render_model('facts')[0]}")
    left, right = (f"select * exclude (changed_batch_seq) from {name}" for name in ("facts", "at_once"))
    assert run(f"({left} except all {right}) union all ({right} except all {left})").fetchall() == []
    assert merge(shared) == []


def merge(facts: Facts) -> list[tuple[Any, ...]]:
    """Carry out the merge of the model facts and return what was written."""
    sql, settings = render_model("facts", is_incremental=True)
    delete, update = settings["merge_clauses"]["when_matched"]
    assert (delete["action"], update["action"], update["mode"]) == ("delete", "update", "by_name")
    return facts.connection.execute(
        f"""
        merge into facts as DBT_INTERNAL_DEST using ({sql}) as DBT_INTERNAL_SOURCE
            on DBT_INTERNAL_SOURCE.fact_id = DBT_INTERNAL_DEST.fact_id
        when matched and {delete["condition"]} then delete
        when matched and {update["condition"]} then update by name
        when not matched then insert by name
        returning merge_action, fact_id
        """
    ).fetchall()


# --- the table function --------------------------------------------------------------------------------


def test_times_may_be_subqueries_and_a_subject_is_found_in_any_spelling(facts: Facts) -> None:
    facts.tell([Statement(1, "Rome", 1), Statement(2, "Oslo", 5, user="bob")])
    moment = "(select max(valid_from) from int_fact_statements)"
    count = f"select list(object order by object) from facts_as_of({moment}, {{}})"
    ask = facts.connection.execute
    assert ask(count.format("(select max(recorded_at) from int_fact_statements)")).fetchone() == (
        ["Oslo", "Rome"],
    )
    assert ask(count.format("null, for_user := 'bob'")).fetchone() == (["Oslo"],)
    assert ask(count.format("null, for_subject := ' ADA '")).fetchone() == (["Oslo", "Rome"],)
    assert ask(count.format("null, for_subject := 'Bea'")).fetchone() == (None,)
    assert ask(count.format("null, for_agent := 'x'")).fetchone() == (None,)


def test_what_was_withdrawn_was_never_so_and_rows_from_before_there_were_such_count(facts: Facts) -> None:
    facts.tell([Statement(1, "Rome", 1, is_withdrawn=None), Statement(2, "Oslo", 5, is_withdrawn=True)])
    (period,) = facts.ask(None, None)
    assert (period["object"], period["valid_to"]) == ("Rome", None)
    assert [period["object"] for period in facts.ask(6, 6)] == ["Rome"]


@pytest.mark.parametrize(
    ("predicate", "is_functional"),
    [
        ("Lives_in", True), ("lives-in", True), (" is  married to", True), ("has her birthday on", True),
        ("name", True), ("is called", True), ("works at", True), ("job title", True), ("e-mail", False),
        ("email address is", True), ("has a phone number", True), ("favourite tea is", True),
        ("favorite_colour", True), ("status", True), ("owner", True), ("located in", True),
        ("knows", False), ("likes", False), ("is allergic to", False), ("lived in", False), ("is", False),
        ("renames", False), ("is a friend of", False), ("has visited the capital", False),
    ],
)  # fmt: skip
def test_the_usual_predicates_with_one_value_are_told_from_those_with_many(
    facts: Facts, predicate: str, is_functional: bool
) -> None:
    key = render(PROJECT, "predicate_key", "$1::varchar")
    query = f"select {render(PROJECT, 'is_functional_predicate', 'key')} from (select {key} as key)"
    assert facts.connection.execute(query, [predicate]).fetchone() == (is_functional,)


# --- what is refused -----------------------------------------------------------------------------------

LONDON = {"subject": "Ada", "predicate": "lives in", "object": "London"}


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [
        ({**LONDON, "subject": " "}, "facts.0.subject: String should have at least 1 character"),
        ({**LONDON, "object": ""}, "facts.0.object: String should have at least 1 character"),
        ({**LONDON, "object": 5}, "facts.0.object: Input should be a valid string"),
        ({**LONDON, "predicate": "_-"}, "facts.0.predicate: must have a letter"),
        ({**LONDON, "valid_from": "soon"}, "facts.0.valid_from: Input should be a valid datetime"),
        ({**LONDON, "valid_to": "1815-12-10"}, "facts.0.valid_to: .* out of range"),
        ({**LONDON, "is_functional": "maybe"}, "facts.0.is_functional: Input should be a valid boolean"),
        (
            {**LONDON, "valid_from": "2026-02-01", "valid_to": "2026-02-01"},
            "facts.0: valid_to is 2026-02-01.*; it must be later than valid_from",
        ),
        ({**LONDON, "valid_to": "2026-03-01"}, "facts.0: valid_to is 2026-03-01.* give its valid_from"),
    ],
)
def test_a_fact_that_cannot_be_is_refused_with_the_reason(fact: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidEventError, match=sentence):
        new_event("memory", {"content": "x", "facts": [fact]}, occurred_at=datetime(2026, 3, 1, tzinfo=UTC))


def test_a_fact_is_stored_in_one_spelling_with_what_else_the_caller_says(memory: Memory) -> None:
    berlin = timezone(timedelta(hours=2))
    fact = {
        **LONDON, "object": " London ", "valid_from": datetime(2026, 1, 1, 1, tzinfo=berlin),
        "valid_to": None, "is_functional": "yes", "source": "passport",
    }  # fmt: skip
    memory.remember("Ada lives in London", facts=[fact])
    (event,), _ = FreshEvents(Home(memory.home)).read(0)
    assert event.payload["facts"] == [
        {**LONDON, "valid_from": "2025-12-31T23:00:00Z", "is_functional": True, "source": "passport"}
    ]


# --- Memory.facts --------------------------------------------------------------------------------------


@pytest.fixture
def published(home: Home, memory: Memory) -> Memory:
    """A snapshot: Ada moved on day 5, which was heard of on day 7, and knows two people."""
    told = Facts()
    told.tell(
        [
            Statement(1, "Rome", 1, recorded_at=1),
            Statement(2, "Oslo", 5, recorded_at=7),
            Statement(3, "Bob", 1, predicate="knows", recorded_at=1),
            Statement(4, "Eve", 3, predicate="knows", recorded_at=3, user="bob"),
        ]
    )
    path = write_snapshot(home, 1)
    rows = told.connection.execute("select * from int_fact_statements").to_arrow_table()
    with duckdb.connect(str(path)) as connection:
        connection.register("rows", rows)
        connection.execute(STATEMENTS + "; insert into int_fact_statements select * from rows")
        sql, settings = render_model("facts_as_of")
        connection.execute(f"create macro facts_as_of({', '.join(settings['parameters'])}) as table ({sql})")
        connection.execute(f"create table facts as {render_model('facts')[0]}")
    return memory


def objects_of(facts: Sequence[FactRecord]) -> list[str]:
    return [fact.object for fact in facts]


def test_facts_are_those_that_hold_now_or_at_a_moment_as_known_now_or_then(published: Memory) -> None:
    assert objects_of(published.facts()) == ["Bob", "Oslo", "Eve"]
    assert objects_of(published.facts(user_id="ada", predicate="Lives_In")) == ["Oslo"]
    assert objects_of(published.facts(predicate="lives in", as_of=at(4))) == ["Rome"]
    assert objects_of(published.facts(predicate="lives in", known_at=at(6))) == ["Rome"]
    assert objects_of(published.facts(predicate="lives in", as_of=at(0))) == []
    assert objects_of(published.facts(known_at=at(0))) == []
    assert published.facts(subject="Bea") == []


def test_history_shows_what_is_over_and_what_took_over(published: Memory) -> None:
    rome, oslo = published.facts(subject="ADA", predicate="lives in", history=True)
    assert (rome.object, oslo.object) == ("Rome", "Oslo")
    assert rome.superseded_by == oslo.fact_id
    assert rome.valid_to == oslo.valid_from == datetime(2026, 1, 6, tzinfo=UTC)
    assert (oslo.valid_to, oslo.recorded_at) == (None, datetime(2026, 1, 8, tzinfo=UTC))
    assert (oslo.memory_ids, oslo.support_count, oslo.is_functional) == ([UUID(int=2)], 1, True)
    (rome_then,) = published.facts(predicate="lives in", history=True, known_at=at(6))
    assert rome_then == replace(rome, valid_to=None, superseded_by=None)


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "facts.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    (event,), _ = FreshEvents(Home(tmp_path / "my-agent-home")).read(0)
    (fact,) = MemoryPayload.model_validate(event.payload).facts
    assert fact.valid_from == datetime(2026, 4, 1, tzinfo=UTC)


def test_before_the_first_build_there_are_no_facts_and_an_older_build_says_what_to_do(
    home: Home, memory: Memory
) -> None:
    assert memory.facts() == []
    write_snapshot(home, 1)
    with pytest.raises(SnapshotError, match="mnemoduck run"):
        memory.facts()
    with pytest.raises(UsageError, match="subject"):
        memory.facts(subject="\ud800")
