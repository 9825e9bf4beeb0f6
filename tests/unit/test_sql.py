"""`Memory.sql`: any question to the snapshot, and no way out of it."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck.errors import NothingPublishedError, QueryError, SnapshotError
from mnemoduck.home import Home, open_home
from mnemoduck.memory import Memory

from .conftest import write_snapshot


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """One for all questions: that none of them leaves a trace is part of what is tested."""
    home = open_home(tmp_path_factory.mktemp("published") / "home")
    write_snapshot(home, 1)
    with Memory(home.path) as memory:
        yield memory


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a query must not reach."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.csv").write_text("password\nhunter2\n")
    (folder / "secret.json").write_text('[{"password": "hunter2"}]')
    (folder / "schema.sql").write_text("hunter2 is the password")
    (folder / "load.sql").write_text("")
    pd.DataFrame({"password": ["hunter2"]}).to_parquet(folder / "secret.parquet")
    with duckdb.connect(str(folder / "secret.duckdb")) as connection:
        connection.execute("create table secret as select 'hunter2' as password")
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- questions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select count(*) from notes", [(10,)]),
        ("select text from notes where i = 3;", [("note 3",)]),
        ("from notes select max(i)", [(9,)]),
        ("with n as (select * from notes) select min(i) from n", [(0,)]),
        ("values (1), (2)", [(1,), (2,)]),
        ("-- a comment\nselect /* another */ 1 -- and one more", [(1,)]),
        ("select ';' || 'insert into notes'", [(";insert into notes",)]),
        ("show tables", [("notes",)]),
        ("select column_name from (describe notes)", [("i",), ("text",)]),
        ("select count(*) from (summarize notes)", [(2,)]),
        ("select count(*) from notes where false", [(0,)]),
    ],
)
def test_a_select_is_answered(published: Memory, query: str, rows: list[tuple[object, ...]]) -> None:
    assert list(published.sql(query).itertuples(index=False, name=None)) == rows
    assert published.cursor_for(query).fetchall() == rows


@pytest.mark.parametrize(
    "query",
    [
        "explain select * from notes",
        "EXPLAIN ANALYZE select * from notes",
        "/* why */ explain (format json) from notes",
    ],
)
def test_a_plan_is_shown(published: Memory, query: str) -> None:
    assert published.sql(query).shape == (1, 2)


def test_parameters_are_values_and_never_text_of_the_query(published: Memory) -> None:
    evil = "'; drop table notes; --\0{{ x }}\u202e"
    assert published.sql("select ? as x", [evil])["x"].tolist() == [evil]
    assert published.sql("select $a || $b as x", {"a": evil, "b": "!"})["x"].tolist() == [evil + "!"]
    assert published.sql("select count(*) as n from notes where text = $1", [evil])["n"].tolist() == [0]


def test_the_answer_is_of_the_newest_snapshot(memory: Memory, home: Home) -> None:
    question = "select max(batch_seq) as newest from staging.raw_batches"
    for batch_seq in (1, 2):
        write_snapshot(home, batch_seq)
        assert memory.sql(question)["newest"].tolist() == [batch_seq]


# --- ways out ------------------------------------------------------------------------------------------

STATEMENTS = [
    "attach '{outside}/secret.duckdb' as secret",
    "attach ':memory:' as other",
    "detach snapshot",
    "use memory",
    "copy notes to '{outside}/stolen.csv'",
    "copy (select 1) to '{outside}/stolen.csv'",
    "copy notes from '{outside}/secret.csv'",
    "export database '{outside}/stolen'",
    "import database '{outside}'",
    "install httpfs",
    "load fts",
    "load '{outside}/evil.duckdb_extension'",
    "force install fts from 'http://localhost:1'",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "reset enable_external_access",
    "set threads = 1",
    "set schema = 'staging'",
    "pragma enable_profiling",
    "pragma memory_limit = '1GB'",
    "create table stolen as select 1",
    "create temp table stolen as select 1",
    "create or replace temp view notes as select 1",
    "create macro stolen() as 1",
    "create type mood as enum ('a')",
    "create sequence s",
    "create schema s",
    "create secret s (type s3)",
    "insert into notes values (1, 'x')",
    "update notes set i = 1",
    "delete from notes",
    "merge into notes using notes as n on true when matched then delete",
    "truncate notes",
    "drop table notes",
    "alter table notes add column x int",
    "comment on table notes is 'x'",
    "begin",
    "commit",
    "vacuum",
    "checkpoint",
    "force checkpoint",
    "prepare p as select 1",
    "execute p",
    "call pragma_version()",
    "select 1; select 2",
    "select 1; drop table notes",
    "explain analyze create table memory.main.stolen as select 1",
    "explain analyze insert into notes values (1, 'x')",
    "explain analyze copy (select 1) to '{outside}/stolen.csv'",
    "explain (analyze) create table memory.main.stolen as select 1",
    "/* */ explain -- \n analyze create table memory.main.stolen as select 1",
    "",
    "   \n\t",
    "-- only a comment",
    ";;",
    "selec 1",
    "select",
    "select 'unterminated",
    "\0",
    "select '\ud800'",
    "{{ ref('notes') }}",
]

SELECTS = [
    "select * from '{outside}/secret.csv'",
    "select * from '{outside}/secret.parquet'",
    "select * from '{outside}/secret.json'",
    "select * from read_csv('{outside}/secret.csv')",
    "select * from read_csv_auto('{outside}/*.csv')",
    "select * from read_text('{outside}/secret.csv')",
    "select * from read_blob('{outside}/secret.csv')",
    "select * from read_json('{outside}/secret.json')",
    "select * from read_parquet('{outside}/secret.parquet')",
    "select * from parquet_metadata('{outside}/secret.parquet')",
    "select * from parquet_schema('{outside}/secret.parquet')",
    "select * from sniff_csv('{outside}/secret.csv')",
    "select * from read_duckdb('{outside}/secret.duckdb')",
    "select * from sqlite_scan('{outside}/secret.duckdb', 'secret')",
    "select * from glob('{outside}/*')",
    "select * from 'http://localhost:1/x.csv'",
    "select * from query('attach ''{outside}/secret.duckdb''')",
    "select * from query_table('{outside}/secret.csv')",
    "explain analyze select * from read_text('{outside}/secret.csv')",
    "select getenv('HOME')",
    "select * from duckdb_secrets()",
    "select * from which_secret('s3://bucket', 's3')",
    "select * from a_frame",
    "select * from a_global_frame",
    "select * from pandas_scan(1)",
    "select * from python_map_function(1)",
    "select * from arrow_scan(1, 2, 3)",
]

a_global_frame = pd.DataFrame({"password": ["hunter2"]})


@pytest.mark.parametrize("statement", STATEMENTS + SELECTS)
def test_there_is_no_way_out(published: Memory, outside: Path, statement: str) -> None:
    a_frame = pd.DataFrame({"password": ["hunter2"]})
    files = contents_of(outside)
    with pytest.raises(QueryError) as refusal:
        published.sql(statement.replace("{outside}", str(outside)))
    assert refusal.value.exit_code == 2
    assert "hunter2" not in str(refusal.value)
    assert contents_of(outside) == files
    assert published.sql("select count(*) as n from notes")["n"].tolist() == [10]
    assert published.sql("show all tables")["name"].tolist() == ["notes", "raw_batches"]
    assert len(a_frame) == 1


def test_settings_stay_as_they_are(published: Memory) -> None:
    settings_now = published.sql("select name, value from duckdb_settings()").set_index("name")["value"]
    assert settings_now["enable_external_access"] == "false"
    assert settings_now["lock_configuration"] == "true"
    assert settings_now["autoinstall_known_extensions"] == "false"


def test_what_does_not_fit_into_memory_is_spilled_inside_the_home(published: Memory) -> None:
    (folder,) = published.sql("select current_setting('temp_directory') as folder")["folder"].tolist()
    assert Path(folder).parent == published.home


# --- errors are ours -----------------------------------------------------------------------------------


class Strange:
    """No database knows what to do with this."""


@pytest.mark.parametrize(
    "parameters",
    [
        5,
        "text",
        Strange(),
        [Strange()],
        [1, 2],
        [],
        None,
        {"a": 1},
        ["\ud800"],
        [10**100],
        [[Strange()]],
    ],
)
def test_parameters_that_do_not_fit_are_told(published: Memory, parameters: Any) -> None:
    with pytest.raises(QueryError, match="The query failed"):
        published.sql("select $1 as x", parameters)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("select * from nope", "Table with name nope does not exist"),
        ("select nope from notes", '"nope" not found'),
        ("select cast('x' as int)", "Could not convert string 'x'"),
        ("select error('boom')", "boom"),
        ("select case when i = 1999999 then error('boom') else i end from range(2000000) t(i)", "boom"),
        ("select nope(1)", "Function with name nope does not exist"),
        ("select (select i from notes)", "More than one row returned"),
    ],
)
def test_a_query_that_fails_says_why_also_if_it_fails_in_its_last_row(
    published: Memory, query: str, sentence: str
) -> None:
    for ask in (published.sql, published.cursor_for):
        with pytest.raises(QueryError, match=f"(?s)The query failed: .*{sentence}"):
            ask(query)


@pytest.mark.parametrize("query", ["select 1::bignum as x", "select '-infinity'::date as x"])
def test_what_a_dataframe_cannot_hold_is_told_and_is_to_be_had_as_rows(published: Memory, query: str) -> None:
    with pytest.raises(QueryError, match="does not fit into a DataFrame"):
        published.sql(query)
    assert len(published.cursor_for(query).fetchall()) == 1


@given(
    query=st.text() | st.text(alphabet="select()*,.'\";-/ \n0x{}[]$?:", max_size=30).map("select ".__add__)
)
@settings(max_examples=40)
def test_any_text_is_answered_or_refused_in_our_words(published: Memory, query: str) -> None:
    with contextlib.suppress(QueryError):
        published.cursor_for(query).fetchall()
    assert published.sql("show all tables")["name"].tolist() == ["notes", "raw_batches"]


def test_before_the_first_publication_the_answer_is_a_sentence(memory: Memory) -> None:
    memory.remember("not built yet")
    with pytest.raises(NothingPublishedError, match="Build it with `mnemoduck run`"):
        memory.sql("select 1")


def test_a_damaged_snapshot_is_told(memory: Memory, home: Home) -> None:
    write_snapshot(home, 1).write_bytes(b"damaged" * 1000)
    with pytest.raises(SnapshotError, match="Delete that file"):
        memory.sql("select 1")


def test_types_of_the_snapshot_come_as_python_knows_them(published: Memory) -> None:
    (row,) = published.cursor_for(
        "select 1::bigint, 1.5::double, 'a', true, null, [1, 2], {'a': 1}, "
        "timestamp '2026-01-01 00:00:00.000001'"
    ).fetchall()
    moment = datetime.datetime(2026, 1, 1, 0, 0, 0, 1)
    assert row == (1, 1.5, "a", True, None, [1, 2], {"a": 1}, moment)
    assert json.dumps(row[:7])
