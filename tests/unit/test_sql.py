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

from mnemoduck.errors import NothingPublishedError, QueryError, SnapshotError, UsageError
from mnemoduck.home import Home, open_home
from mnemoduck.memory import Memory
from mnemoduck.statements import REFUSED_FUNCTIONS, TABLE_FUNCTIONS
from mnemoduck.warehouse import Snapshot

from .conftest import StartPython, write_snapshot


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """One for all questions: that none of them leaves a trace is part of what is tested."""
    home = open_home(tmp_path_factory.mktemp("published") / "home")
    path = write_snapshot(home, 1)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "create macro first_notes(most) as table select text as note from notes where i < most"
        )
    with Memory(home.path) as memory:
        tmp = home.path / "tmp"
        tmp.mkdir(exist_ok=True)
        (tmp / "spilled.csv").write_text("password\nhunter2\n")
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
    (folder / "link.csv").symlink_to(folder / "secret.csv")
    return folder


def contents_of(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


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
        ("select i from range(2) r(i), lateral (select r.i as j)", [(0,), (1,)]),
        ("select count(*) from query_table('notes')", [(10,)]),
        ("select max(note) from first_notes(3)", [("note 2",)]),
        ("select max(note) from snapshot.main.First_Notes(3)", [("note 2",)]),
        (
            "with recursive t as (select 1 i union all select i + 1 from t where i < 5) select sum(i) from t",
            [(15,)],
        ),
        ("pivot notes on i in (1, 2) using count(*) group by text order by text limit 1", [("note 0", 0, 0)]),
        ("select unnest([1, 2])", [(1,), (2,)]),
        ("select column_name from duckdb_columns() where table_name = 'notes'", [("i",), ("text",)]),
        ("select name from pragma_table_info('notes')", [("i",), ("text",)]),
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
        "-- why\nexplain(ANALYZE, format json) from notes",
        "explain ( format json , analyze ) select * from first_notes(3)",
        "explain analyze (select 1)",
        "explain (select ')')",
        "explain select 1 -- analyze",
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
    "call enable_logging()",
    "call checkpoint('snapshot')",
    "pragma enable_logging",
    "pragma enable_profiling = 'json'",
    "pragma profiling_output = '{outside}/stolen.json'",
    "pragma profile_output = '{outside}/stolen.json'",
    "pragma show_tables",
    "pragma import_database('{outside}')",
    "pragma copy_database('snapshot', 'memory')",
    "set profiling_output = '{outside}/stolen.json'",
    "set log_query_path = '{outside}/stolen.log'",
    "set enable_logging = true",
    "set logging_storage = 'file'",
    "set allowed_paths = ['{outside}']",
    "set allowed_directories = ['{outside}']",
    "set temp_directory = '{outside}'",
    "set home_directory = '{outside}'",
    "set extension_directory = '{outside}'",
    "set custom_extension_repository = '{outside}'",
    "set secret_directory = '{outside}'",
    "set memory_limit = '100TB'",
    "set max_temp_directory_size = '100TB'",
    "set python_enable_replacements = true",
    "set search_path = 'memory'",
    "set global enable_external_access = true",
    "set session lock_configuration = false",
    "reset all",
    "reset lock_configuration",
    "set variable password = 'hunter2'",
    "reset variable password",
    "attach '{outside}/secret.duckdb' (read_only)",
    "attach or replace '{outside}/secret.duckdb' as snapshot",
    "attach if not exists 'md:' as cloud",
    "attach 'http://localhost:1/x.duckdb' as remote",
    "attach 'dbname=postgres host=localhost' as pg (type postgres)",
    "attach '{outside}/secret.duckdb' as lite (type sqlite)",
    "attach '{outside}/new.duckdb' as new (encryption_key 'x')",
    "detach memory",
    "use snapshot.staging",
    "copy from database snapshot to memory",
    "copy notes to '{home}/tmp/stolen.csv'",
    "copy notes to '{home}/published/CURRENT'",
    "copy (select 1) to '{home}/tmp/stolen.csv' (use_tmp_file false)",
    "create or replace secret s (type http, bearer_token 'x')",
    "create persistent secret s (type s3)",
    "drop secret s",
    "create table memory.main.notes as select 1 as evil",
    "create temp macro lower(x) as 'evil'",
    "create macro memory.main.first_notes(most) as table select 'evil'",
    "create function snapshot.main.first_notes(most) as table select 'evil'",
    "create view memory.main.notes as select 1",
    "create index i on notes (i)",
    "create temp sequence s",
    "create trigger t",
    "update extensions",
    "analyze",
    "vacuum analyze notes",
    "deallocate p",
    "prepare p as drop table notes",
    "rollback",
    "begin; drop table notes; commit",
    "select 1; -- ; \ncheckpoint",
    "select 1;;; set threads = 1",
    "with gone as (delete from notes returning *) select * from gone",
    "with new as (insert into notes values (1, 'x') returning *) select * from new",
    "select * from (insert into notes values (1, 'x') returning *)",
    "select * into stolen from notes",
    "select 1; select 2",
    "select 1; drop table notes",
    "explain analyze create table memory.main.stolen as select 1",
    "explain analyze insert into notes values (1, 'x')",
    "explain analyze copy (select 1) to '{outside}/stolen.csv'",
    "explain (analyze) create table memory.main.stolen as select 1",
    "/* */ explain -- \n analyze create table memory.main.stolen as select 1",
    # DuckDB sees a comment within the brackets, and behind them what it executes.
    "explain (analyze /* ) select 1 -- */) create table memory.main.stolen as select 1",
    "explain (analyze /* ) select 1 -- */) copy (select 1) to '{home}/tmp/stolen.csv'",
    "explain (analyze /* ) select 1 -- */) attach ':memory:' as other",
    "explain analyze /* */ insert into notes values (1, 'x')",
    "explain (format json, analyze) drop table notes",
    "explain (analyze true) create table memory.main.stolen as select 1",
    "explain analyze select 1; drop table notes",
    "explain explain analyze create table memory.main.stolen as select 1",
    "explain analyze set threads = 1",
    "explain analyze attach ':memory:' as other",
    "explain analyze call enable_logging()",
    "explain analyze execute p",
    "explain analyze pragma enable_profiling",
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

EFFECTS = [
    "from enable_logging()",
    "from ENABLE_logging('QueryLog')",
    'from "enable_logging"()',
    "from system.main.enable_logging()",
    "from enable_logging('QueryLog', storage := 'file', storage_path := '{outside}/logs')",
    "from enable_logging('QueryLog', storage_path := '{home}/tmp/logs')",
    "from disable_logging()",
    "from truncate_duckdb_logs()",
    "from enable_profiling()",
    "from enable_profiling(format := 'json', save_location := '{outside}/stolen.json')",
    "from enable_profiling(format := 'json', save_location := '{home}/tmp/stolen.json')",
    "from disable_profiling()",
    "from checkpoint()",
    "from checkpoint('snapshot')",
    "from force_checkpoint('snapshot')",
    "explain analyze from enable_profiling()",
    "explain (analyze) select (select max(1) from enable_logging())",
    "describe (from enable_logging())",
    "summarize (from enable_logging())",
    "select exists (from enable_logging())",
    "select * from notes where i in (from enable_logging())",
    "with sly as materialized (from enable_logging()) from notes",
    "from notes union all by name from enable_logging()",
    "from notes, lateral (from enable_logging())",
    "from notes order by (select count(*) from enable_logging())",
    "from notes limit (select count(*) from enable_logging())",
    "from range((select count(*) from enable_logging()))",
    "from first_notes((select count(*) from enable_logging()))",
    "values ((select count(*) from enable_logging()))",
    "pivot (from enable_logging()) on i in (1)",
    "unpivot (from enable_logging()) on i",
    "select count(*) filter (where exists (from enable_logging())) from notes",
    "select sum(i) over (order by (select count(*) from enable_logging())) from notes",
    "select list_transform([1], lambda x: (select count(*) from enable_logging()))",
    "select case when true then (select count(*) from enable_logging()) end",
    "with recursive t as (select 1 as i union all select count(*) from enable_logging()) from t",
    "select * exclude (i) replace ((select count(*) from enable_logging()) as text) from notes",
    "select i from notes group by i having (select count(*) from enable_logging()) = 0",
    "select i from notes qualify (select count(*) from enable_logging()) = 0",
    "select distinct on ((select count(*) from enable_logging())) i from notes",
    "select * from notes join notes as n on (select count(*) from enable_logging()) = 0",
    "select columns(c -> (select count(*) from enable_logging()) = 0) from notes",
    "select write_log('hunter3')",
    "select system.main.write_log('hunter3')",
    "select 'hunter3'.write_log()",
    "select list_transform(['hunter3'], lambda x: write_log(x))",
    "select sleep_ms(60000)",
    "select pg_sleep(60)",
    "select nextval('s')",
    "from query('select 1')",
    "from query('from enable_logging()')",
    "from query('create table memory.main.stolen as select 1')",
    "from query_table('enable_logging()')",
    "from json_execute_serialized_sql(json_serialize_sql('from enable_logging()'))",
    "select json_execute_serialized_sql(json_serialize_sql('select 1'))",
]
"""What a SELECT can call that does more than read; some of it ends the process, once it is executed."""

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
    "select * from read_text('{home}/home.json')",
    "select * from read_blob('{home}/published/*')",
    "select * from read_csv('{home}/tmp/spilled.csv')",
    "select * from '{home}/tmp/spilled.csv'",
    "select * from '{home}/tmp/../tmp/spilled.csv'",
    "select * from glob('{home}/tmp/*')",
    "select * from '{outside}/link.csv'",
    "select * from 'secret.csv'",
    'select * from "{outside}/secret.csv"',
    "describe '{outside}/secret.csv'",
    "summarize '{outside}/secret.csv'",
    "explain analyze select * from '{outside}/secret.csv'",
    "select * from query_table(['{outside}/secret.csv'])",
    "select * from query_table('read_csv(''{outside}/secret.csv'')')",
    "select * from read_json_objects('{outside}/secret.json')",
    "select * from read_ndjson('{outside}/secret.json')",
    "select * from parquet_scan('{outside}/secret.parquet')",
    "select * from parquet_file_metadata('{outside}/secret.parquet')",
    "select * from parquet_kv_metadata('{outside}/secret.parquet')",
    "select * from parquet_full_metadata('{outside}/secret.parquet')",
    "select * from parquet_bloom_probe('{outside}/secret.parquet', 'password', 'hunter2')",
    "select * from duckdb_extensions()",
    "select * from duckdb_external_file_cache()",
    "select * from postgres_scan('host=localhost', 'public', 'x')",
    "select * from read_xlsx('{outside}/secret.xlsx')",
    "select * from st_read('{outside}/secret.json')",
    "select * from iceberg_scan('{outside}')",
    "select * from delta_scan('{outside}')",
    "select http_get('http://localhost:1')",
    "select * from seq_scan()",
    "select current_setting('nothing')",
]

a_global_frame = pd.DataFrame({"password": ["hunter2"]})


@pytest.mark.parametrize("statement", STATEMENTS + SELECTS + EFFECTS)
def test_there_is_no_way_out(
    published: Memory, outside: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside)
    a_frame = pd.DataFrame({"password": ["hunter2"]})
    files = contents_of(outside, published.home)
    with pytest.raises(QueryError) as refusal:
        published.sql(statement.replace("{outside}", str(outside)).replace("{home}", str(published.home)))
    assert refusal.value.exit_code == 2
    assert "hunter2" not in str(refusal.value).replace(statement, "")
    assert contents_of(outside, published.home) == files
    assert published.sql("select count(*) as n from notes")["n"].tolist() == [10]
    assert published.sql("show all tables")["name"].tolist() == ["notes", "raw_batches"]
    assert published.sql("select lower('A') as a")["a"].tolist() == ["a"]
    assert len(a_frame) == 1


def test_no_question_leaves_anything_for_the_next_one(published: Memory) -> None:
    """After all of the above: the instance that they share is as it was."""
    settings_now = dict(published.cursor_for("select name, value from duckdb_settings()").fetchall())
    assert (settings_now["enable_logging"], settings_now["enable_profiling"]) == ("0", None)
    for question in ("from duckdb_logs", "from duckdb_variables()", "from duckdb_temporary_files()"):
        assert published.cursor_for(question).fetchall() == []
    databases = "select distinct database_name from duckdb_databases() where not internal order by all"
    assert published.cursor_for(databases).fetchall() == [("memory",), ("snapshot",)]
    own = "select count(*) from duckdb_functions() where not internal and database_name <> 'snapshot'"
    assert published.cursor_for(own).fetchall() == [(0,)]


def test_each_function_of_duckdb_that_may_do_more_than_read_is_known() -> None:
    """Another version of DuckDB has others: whoever takes it has to look at them."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            """
            select lower(function_name), function_type, stability = 'VOLATILE' or has_side_effects
            from duckdb_functions()
            """
        ).fetchall()
    tables = {name for name, kind, _ in rows if kind in ("table", "table_macro")}
    assert tables >= TABLE_FUNCTIONS
    volatile = {
        name for name, kind, has_effects in rows if kind not in ("table", "table_macro") and has_effects
    }
    harmless = {
        *("current_connection_id", "current_query", "current_query_id", "current_transaction_id"),
        *("error", "gen_random_uuid", "random", "setseed", "stats", "uuid", "uuidv4", "uuidv7"),
    }
    assert volatile - harmless == REFUSED_FUNCTIONS - {"pg_sleep"}


@pytest.mark.parametrize("depth", [50, 900, 100_000])
def test_however_deep_a_query_is_nested_it_is_answered_or_refused(published: Memory, depth: int) -> None:
    for query in (
        f"select {'(' * depth}1{')' * depth}",
        f"select {'-' * 0}{'abs(' * depth}1{')' * depth}",
        f"select * from {'(from ' * depth}notes{')' * depth}",
        f"select {' + '.join(['1'] * depth)}",
    ):
        with contextlib.suppress(QueryError):
            published.cursor_for(query).fetchall()


# --- what a question may take --------------------------------------------------------------------------

ENDLESS = [
    "select count(*) from range(1000000000000) r(i) where i % 7 = 3",
    "with recursive t as (select 1 as i union all select i from t) select count(*) from t",
    "with recursive t as (select 1 as i union select i + 1 from t) select count(*) from t",
    "select count(*) from range(1000000) a, range(1000000) b where a.range % 3 = b.range % 5",
]


@pytest.mark.parametrize("query", [*ENDLESS, *(f"explain analyze {query}" for query in ENDLESS[:2])])
def test_a_query_that_does_not_end_is_interrupted(published: Memory, query: str) -> None:
    with pytest.raises(QueryError, match=r"took longer than 0\.2 s.*--timeout.*sql\.timeout_seconds"):
        published.sql(query, timeout=0.2)
    assert published.sql("select 1 as one", timeout=60)["one"].tolist() == [1]


def test_the_bound_is_a_setting_and_0_is_none(home: Home) -> None:
    write_snapshot(home, 1)
    (home.path / "mnemoduck.toml").write_text("[sql]\ntimeout_seconds = 0.1\nspill_limit = '1MB'\n")
    with Memory(home.path) as memory:
        with pytest.raises(QueryError, match=r"took longer than 0\.1 s"):
            memory.sql(ENDLESS[0])
        assert memory.sql("select count(*) as n from range(100000)", timeout=0)["n"].tolist() == [100_000]
        setting = "select current_setting('max_temp_directory_size') as size"
        assert memory.sql(setting, timeout=9)["size"].tolist() == ["976.5 KiB"]


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", True, 10**12])
def test_a_timeout_that_is_none_is_told(published: Memory, timeout: Any) -> None:
    with pytest.raises(UsageError, match="timeout is"):
        published.sql("select 1", timeout=timeout)


INTERRUPTED = """
import os, signal, sys, threading
from mnemoduck import Memory

with Memory(sys.argv[1]) as memory:
    memory.sql("select $1 as x", [1])  # what is imported at first use is imported
    try:
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        memory.sql(sys.argv[2], timeout=60)
    except KeyboardInterrupt:
        print("interrupted")
    print(memory.sql("select 42 as answer")["answer"][0])
"""


def test_ctrl_c_ends_a_query_as_it_ends_all_else(home: Home, start_python: StartPython) -> None:
    write_snapshot(home, 1)
    out, err = start_python(INTERRUPTED, home.path, ENDLESS[0]).communicate(timeout=120)
    assert (out, err) == (b"interrupted\n42\n", b"")


def test_what_is_spilled_is_bounded(home: Home) -> None:
    path = write_snapshot(home, 1)
    large = (
        "with t as materialized "
        "(select hash(i)::varchar || hash(i + 1)::varchar as x from range(500000) r(i)) "
        "select count(*) from t a join t b using (x)"
    )
    for limit in (1_000_000_000, 1_000_000):
        snapshot = Snapshot(path, home, threads=1, memory_limit=20_000_000, spill_limit=limit)
        is_enough = limit > 10**6
        refused = pytest.raises(duckdb.OutOfMemoryException, match="max_temp_directory_size")
        with contextlib.nullcontext() if is_enough else refused:
            assert snapshot.cursor().execute(large).fetchall() == [(500_000,)]
        snapshot.close()


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
