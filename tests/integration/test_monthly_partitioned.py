"""The materialization `monthly_partitioned`, by the real dbt, on small projects with this project's macros.

Their models read their rows from files that the tests change between runs. Starting dbt takes 3 to 4
seconds, so each run serves many checks: most tests look at copies of the warehouse in one `history`.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import random
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from mnemoduck import Memory
from mnemoduck.home import open_home
from tests.integration.workbench import PROJECT, Done, Workbench

AS_OF = "2026-03-15T12:00:00Z"
COLUMNS = {
    "id": "uuid",
    "user_name": "varchar",
    "slot": "integer",
    "happened_at": "timestamp",
    "note": "varchar",
    "is_deleted": "boolean",
}

Row = dict[str, Any]


class Project:
    """A dbt project with the macros, the variables and the profile of this one, and models of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "it's a project"  # a quote in a path must do no harm
        self.bench = Workbench(self.folder / "home")
        self.warehouse = self.bench.home / "warehouse.duckdb"
        (self.folder / "models").mkdir(parents=True)
        (self.folder / "rows").mkdir()
        shutil.copytree(PROJECT / "macros", self.folder / "macros")
        shutil.copy(PROJECT / "profiles.yml", self.folder)
        settings = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())
        for key in ("models", "on-run-start", "on-run-end"):
            del settings[key]
        (self.folder / "dbt_project.yml").write_text(yaml.safe_dump(settings))

    def model(self, name: str, sql: str, **config: Any) -> None:
        """Write a partitioned model, and the test of its bookkeeping beside it."""
        config = {"materialized": "monthly_partitioned", **config}
        arguments = ", ".join(f"{key}={value!r}" for key, value in config.items())
        models = self.folder / "models"
        (models / f"{name}.sql").write_text(f"{{{{ config({arguments}) }}}}\n{sql}")
        if config["materialized"] == "monthly_partitioned":
            properties = {"models": [{"name": name, "data_tests": ["partitions_are_sound"]}]}
            (models / f"{name}.yml").write_text(yaml.safe_dump(properties))

    def rows_model(self, name: str, select: str = "*", **config: Any) -> None:
        """A model of the rows that `write` gives it."""
        columns = ", ".join(f"'{column}': '{kind}'" for column, kind in COLUMNS.items())
        hashed = ", ".join(COLUMNS)
        self.model(
            name,
            f"select {select} from (select *, md5(cast(row({hashed}) as varchar)) as row_hash from "
            f"read_json('rows/{name}.json', format = 'array', columns = {{{columns}}})) -- a last comment",
            **config,
        )
        if not (self.folder / "rows" / f"{name}.json").exists():
            self.write(name, [])

    def write(self, name: str, rows: Iterable[Row]) -> None:
        (self.folder / "rows" / f"{name}.json").write_text(json.dumps(list(rows), default=str))

    def dbt(self, *arguments: str, **variables: Any) -> Done:
        texts = json.dumps({"as_of": AS_OF, **variables})
        return self.bench.dbt(*arguments, f"--vars={texts}", project=self.folder)

    def build(self, *arguments: str, **variables: Any) -> Done:
        done = self.dbt("build", "--threads=4", *arguments, **variables)
        assert done.code == 0, done.out
        return done

    def operate(self, operation: str, **arguments: Any) -> Done:
        return self.dbt("run-operation", operation, f"--args={json.dumps(arguments)}")


class Warehouse:
    """What a warehouse file holds, read with a plain client."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def one(self, sql: str) -> Any:
        return self.query(sql)[0][0]

    def plan(self, sql: str) -> tuple[str, int]:
        """How DuckDB ran a query, as JSON, and how many rows its scans looked at."""
        text = str(self.query(f"explain (analyze, format json) {sql}")[0][1])
        return text, int(json.loads(text)["cumulative_rows_scanned"])

    def rows(self, name: str, columns: str = "*") -> list[tuple[Any, ...]]:
        return sorted(self.query(f'select {columns} from "{name}"'), key=str)

    def months(self, name: str) -> dict[str, str]:
        """The state of each month."""
        return dict(
            self.query(f"select strftime(month, '%Y-%m'), state from {name}__months.catalog order by 1")
        )

    def tables(self, name: str) -> dict[str, tuple[Any, set[Any]]]:
        """For each table of a model, where its segments lie in the file, and its rows with their row ids.

        A table's oid would prove nothing across processes: DuckDB numbers them anew whenever it opens a file.
        """
        with duckdb.connect(str(self.path), read_only=True) as connection:
            names = connection.execute(
                "select table_name from duckdb_tables() where schema_name = $1", [f"{name}__months"]
            ).fetchall()
            found = {}
            for (table,) in names:
                storage = connection.execute(
                    "select bit_xor(hash(row_group_id, column_id, segment_id, start, count, block_id, "
                    f"block_offset)) from pragma_storage_info('{name}__months.{table}')"
                ).fetchone()
                rows = connection.execute(
                    f"select cast((rowid, t) as varchar) from {name}__months.{table} as t"
                ).fetchall()
                found[table] = (storage, {row for (row,) in rows})
        return found

    def everything(self) -> dict[str, Any]:
        """All tables with their rows, and all views: what a failed run must leave as it was."""
        found: dict[str, Any] = dict(
            self.query("select schema_name || '.' || view_name, sql from duckdb_views() where not internal")
        )
        for schema, table in self.query("select schema_name, table_name from duckdb_tables()"):
            found[f"{schema}.{table}"] = self.query(f'from "{schema}"."{table}" order by all')
        return found


def key_of(at: datetime, rng: random.Random) -> str:
    """A UUIDv7 of that time."""
    milliseconds = int(at.replace(tzinfo=UTC).timestamp() * 1000)
    low = 2 << 62 | rng.getrandbits(62)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | rng.getrandbits(12) << 64 | low))


def other_key(rng: random.Random) -> str:
    """A UUIDv4, which tells no month."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


# What is refused -------------------------------------------------------------------------------------------

BROKEN_CONFIGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no_cluster": (
        {"compound_index": ["user_name", "colour"]},
        "*",
        "The config compound_index of the model "
        "no_cluster names the column colour, which the model does not have. It has: id, user_name",
    ),
    "no_index": (
        {"indexes": [{"columns": ["colour"]}]},
        "*",
        "The config indexes of the model no_index names",
    ),
    "no_update": (
        {"merge_update_columns": "colour"},
        "*",
        "The config merge_update_columns of the model no_update names",
    ),
    "no_time": (
        {"partition_by": "colour"},
        "*",
        "The config partition_by of the model no_time names the column colour",
    ),
    "no_key": (
        {"unique_key": ["id", "colour"]},
        "*",
        "The config unique_key of the model no_key names the column colour",
    ),
    "no_hash": (
        {"row_hash": "colour"},
        "*",
        "The config row_hash of the model no_hash names the column colour",
    ),
    "no_mark": ({"deleted_column": "colour"}, "*", "The config deleted_column of the model no_mark names"),
    "never_same": (
        {"merge_update_columns": ["note"]},
        "*",
        "The merge_update_columns of the model never_same leave out row_hash",
    ),
    "of_date": (
        {},
        "* replace (cast(happened_at as date) as happened_at)",
        "is partitioned by happened_at, which is DATE; "
        "months are made of a TIMESTAMP in UTC. Cast it in the model.",
    ),
    "of_zone": (
        {},
        "* replace (cast(happened_at as timestamptz) as happened_at)",
        "is partitioned by happened_at, which is TIMESTAMP WITH TIME ZONE",
    ),
    "of_text": (
        {},
        "* replace (cast(happened_at as varchar) as happened_at)",
        "happened_at, which is VARCHAR",
    ),
    "of_list": (
        {"partition_by": {"field": "happened_at", "granularity": "month"}},
        "*",
        "it takes the name of one TIMESTAMP",
    ),
    "of_text_mark": (
        {"deleted_column": "note"},
        "*",
        "The deleted_column of the model of_text_mark is note, which is VARCHAR; it takes a BOOLEAN",
    ),
    "myth": (
        {"indexes": [{"columns": ["user_name", "happened_at"]}]},
        "*",
        "asks for an index on (user_name, happened_at). "
        "DuckDB never reads through an index of several columns",
    ),
    "odd_index": ({"indexes": ["id"]}, "*", "an index is written like {columns: [memory_id]}"),
    "own_name": (
        {},
        "*, 1 as Row_Id",
        "has a column row_id, a name that the materialization needs for itself",
    ),
}
GOOD_ROW = {
    "id": "00000000-0000-4000-8000-000000000001",
    "user_name": "x",
    "slot": 1,
    "happened_at": "2026-01-01",
    "note": "as it was",
    "is_deleted": None,
}
CHANGED_ROW = {**GOOD_ROW, "note": "changed"}
OTHER_ROW = {**GOOD_ROW, "id": "00000000-0000-4000-8000-000000000002"}
BROKEN_ROWS: dict[str, tuple[dict[str, Any], list[Row], str]] = {
    "timeless": (
        {},
        [CHANGED_ROW, {**OTHER_ROW, "happened_at": None}],
        "cannot be partitioned: 1 rows have no happened_at, so "
        "they belong to no month. Nothing was changed; mend the rows in the model, or leave them out there.",
    ),
    "ancient": (
        {},
        [CHANGED_ROW, {**OTHER_ROW, "happened_at": "1969-12-31 23:59:59"}],
        "1 rows are earlier than 1970-01, the "
        "first month there is; the earliest has happened_at 1969-12-31 23:59:59",
    ),
    "distant": (
        {},
        [CHANGED_ROW, {**OTHER_ROW, "happened_at": "2100-01-01"}],
        "1 rows are later than 2099-12, the last month "
        "there is; the latest has happened_at 2100-01-01 00:00:00",
    ),
    "endless": (
        {},
        [CHANGED_ROW, {**OTHER_ROW, "happened_at": "infinity"}],
        "the latest has happened_at infinity",
    ),
    "beginningless": (
        {},
        [CHANGED_ROW, {**OTHER_ROW, "happened_at": "-infinity"}],
        "the earliest has happened_at -infinity",
    ),
    "repeated": (
        {},
        [CHANGED_ROW, GOOD_ROW],
        "1 rows repeat the id of another; it must identify a row",
    ),
    "nameless": (
        {"unique_key": ["user_name", "slot"]},
        [CHANGED_ROW, {**OTHER_ROW, "slot": None}],
        "1 rows have no user_name, slot, which must identify a row",
    ),
    "guarded_slot": (
        {"indexes": [{"columns": ["slot"], "unique": True}]},
        [CHANGED_ROW, OTHER_ROW],
        'UNIQUE constraint violation: duplicate key "1"',
    ),
    "hooked": (
        {"post_hook": "select error('the hook is broken')"},
        [CHANGED_ROW, OTHER_ROW],
        "the hook is broken",
    ),
    "reclustered": (
        {"compound_index": ["user_name"]},
        [CHANGED_ROW],
        "The months of reclustered were built with another "
        'config: compound_index was [] and is ["user_name"]. Build them anew with --full-refresh',
    ),
}


def test_what_cannot_be_partitioned_is_refused_with_a_sentence_before_anything_is_touched(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path)
    usual = {"unique_key": "id", "partition_by": "happened_at"}
    for name, (config, _, _) in BROKEN_ROWS.items():
        later = {"post_hook": config.get("post_hook"), "compound_index": config.get("compound_index")}
        project.rows_model(name, **{**usual, **{k: v for k, v in config.items() if k not in later}})
        project.write(name, [GOOD_ROW])
    project.build()
    warehouse = Warehouse(project.warehouse)
    before = warehouse.everything()

    for name, (config, rows, _) in BROKEN_ROWS.items():
        project.rows_model(name, **{**usual, **config})
        project.write(name, rows)
    for name, (config, select, _) in BROKEN_CONFIGS.items():
        project.rows_model(name, select, **{**usual, **config})
        project.write(name, [GOOD_ROW])
    done = project.dbt("build", "--threads=4")
    said = " ".join(done.out.split())
    assert f"ERROR={len(BROKEN_CONFIGS) + len(BROKEN_ROWS)} " in said, said
    for name, (_, _, sentence) in {**BROKEN_CONFIGS, **BROKEN_ROWS}.items():
        assert sentence in said, (name, said)
    assert "Traceback" not in said
    assert warehouse.everything() == before


# How it is read --------------------------------------------------------------------------------------------

LARGE = """
select
    cast(
        concat_ws(
            '-', stamp[:8], stamp[9:], '7' || digest[:3], '8' || digest[4:6], digest[7:18]
        ) as uuid
    ) as id,
    cast(md5('user ' || (n * 7919) % 400) as uuid) as user_id,
    cast(if(n % 3 = 0, 'semantic', 'episodic') as enum ('episodic', 'semantic')) as kind,
    happened_at,
    'version {version} of ' || n as note,
    cast(md5('{version}') as uuid) as row_hash
from (
    select n, happened_at, printf('%012x', epoch_ms(happened_at)) as stamp, md5(cast(n as varchar)) as digest
    from (
        select n, timestamp '2026-01-01' + to_milliseconds(n * 6000) as happened_at from range({rows}) as r(n)
        union all
        select {rows} + n, timestamp '2025-05-01' + to_milliseconds(n * 2000000) from range(10000) as r(n)
    )
)
"""
"""Rows in January 2026, by default 400,000, of 400 users; and 10,000 in the eight months before it."""


def large_model(project: Project, version: int, rows: int = 400_000, **config: Any) -> None:
    project.model(
        "large",
        LARGE.replace("{version}", str(version)).replace("{rows}", str(rows)),
        unique_key="id",
        partition_by="happened_at",
        compound_index=["user_id", "kind"],
        indexes=[{"columns": ["id"]}],
        **config,
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("large"))
    large_model(project, 1)
    project.build()
    return project


def test_each_access_path_is_what_the_documentation_says(large: Project, tmp_path: Path) -> None:
    """A lookup by id, a range of time, one user's rows; and the index of several columns, which is a myth."""
    warehouse = Warehouse(large.warehouse)
    month = "large__months.m2026_01"
    key = warehouse.one(f"select id from {month} limit 1 offset 200000")

    plan, scanned = warehouse.plan(f"select * from {month} where id = '{key}'")
    assert "Index Scan" in plan
    assert scanned == 1
    plan, scanned = warehouse.plan(f"select * from {month} where id = '{key}' and kind = 'episodic'")
    assert "Index Scan" not in plan, "an ART serves a predicate that stands alone"
    assert scanned > 1000

    in_range = "happened_at >= '2025-08-01' and happened_at < '2025-10-01'"
    plan, scanned = warehouse.plan(f"select sum(len(note)) from large where {in_range}")
    assert plan.count("large__months.m") == 2, "DuckDB takes the other months out of the plan"
    assert scanned == warehouse.one(f"select count(*) from large where {in_range}")

    user = warehouse.one(f"select user_id from {month} limit 1 offset 300000")
    of_user = f"where user_id = '{user}' and kind = 'semantic'"
    total = warehouse.one(f"select count(*) from {month}")
    assert warehouse.plan(f"select sum(len(note)) from {month} {of_user}")[1] < total / 2
    assert warehouse.plan(f"select max(happened_at) from large__months.access {of_user}")[1] < total / 2

    shutil.copy(warehouse.path, tmp_path / "myth.duckdb")
    with duckdb.connect(str(tmp_path / "myth.duckdb")) as connection:
        connection.execute(f"create table plain as from {month} order by happened_at")
        connection.execute("create index several on plain (user_id, kind)")
    plan, scanned = Warehouse(tmp_path / "myth.duckdb").plan(f"select sum(len(note)) from plain {of_user}")
    assert "Index Scan" not in plan
    assert scanned == total, "in order of time every user is everywhere, and the index is not used"


# What is interrupted ---------------------------------------------------------------------------------------


def kill_when(project: Project, condition: Callable[[], bool], *command: str) -> None:
    """Start dbt and kill it, as a power cut would, as soon as the condition holds."""
    variables = f"--vars={json.dumps({'as_of': AS_OF})}"
    run = project.bench.start_dbt(*command, variables, project=project.folder)
    with run:
        while not condition():
            assert run.poll() is None, run.communicate()
            time.sleep(0.005)
        run.kill()
    assert run.returncode == -signal.SIGKILL


@pytest.mark.long
def test_a_killed_run_leaves_the_model_as_it_was_and_the_next_one_is_right(tmp_path: Path) -> None:
    """Killed when the first month is about to be written, and when all is written and nothing committed."""
    project, rows = Project(tmp_path), 50_000
    large_model(project, 1, rows)
    project.build()
    warehouse = Warehouse(project.warehouse)
    content = "select count(*), bit_xor(hash(t)) from large as t"
    before, catalog = warehouse.query(content), warehouse.query("from large__months.catalog order by all")

    log, marker = Path(f"{project.bench.home}-logs") / "dbt.log", tmp_path / "written.csv"
    log.unlink(missing_ok=True)
    large_model(project, 2, rows)
    writes = "create or replace temporary table large__updates"
    kill_when(project, lambda: log.exists() and writes in log.read_text(), "build")
    assert warehouse.query(content) == before

    endless = "select count(*) from range(cast(1e12 as bigint))"
    large_model(project, 2, rows, post_hook=[f"copy (select 1) to '{marker}'", endless])
    for arguments in (["build"], ["build", "--full-refresh"]):
        marker.unlink(missing_ok=True)
        kill_when(project, marker.exists, *arguments)
        assert warehouse.query(content) == before
        assert warehouse.query("from large__months.catalog order by all") == catalog
        assert warehouse.one("select count(*) from large_between(null, null)") == before[0][0]

    large_model(project, 2, rows)
    project.build()
    assert warehouse.query("select count(*), count(distinct note), min(note[:10]) from large") == [
        (rows + 10_000, rows + 10_000, "version 2 ")
    ]


def test_a_month_can_be_archived_and_restored_whatever_interferes(large: Project, tmp_path: Path) -> None:
    warehouse = Warehouse(large.warehouse)
    content = "select count(*), bit_xor(hash(t)), any_value(typeof(kind)) from large as t"
    before = warehouse.query(content)
    archive = large.bench.home / "archive" / "large"

    def refused(sentence: str, operation: str, **arguments: Any) -> None:
        state = warehouse.query("from large__months.catalog order by all")
        done = large.operate(operation, **arguments)
        assert done.code != 0
        assert sentence in " ".join(done.out.split()), done.out
        assert "Traceback" not in done.out
        assert warehouse.query("from large__months.catalog order by all") == state

    # What is killed while it writes its file can be run again; of the first try nothing is left.
    arguments = {"model": "large", "months": ["2025-05", "2026-01"]}
    kill_when(
        large,
        lambda: any(archive.glob("2026-01*.tmp")),
        "run-operation",
        "partitions_archive",
        f"--args={json.dumps(arguments)}",
    )
    assert warehouse.query(content) == before
    assert list(archive.glob("2026-01*.tmp"))
    done = large.operate("partitions_archive", **arguments)
    assert done.code == 0, done.out
    assert "archived 2026-01 of large: 400000 rows" in done.out
    assert "2025-05 of large is archived already" in done.out
    assert not list(archive.glob("*.tmp"))
    assert warehouse.query(content) == before, "of the same types, too: Parquet knows no enum"
    assert warehouse.query("select table_name from duckdb_tables() where table_name = 'm2026_01'") == []

    refused("There is no partitioned model small. There are: large.", "partitions_list", model="small")
    refused(
        "2026-03 of large is in use: only months before 2026-02",
        "partitions_archive",
        model="large",
        months="2026-03",
    )
    refused(
        "large has no month 2019-01. It has 2025-05 to 2026-06",
        "partitions_drop",
        model="large",
        months=["2019-01"],
    )

    (file,) = archive.glob("2026-01*.parquet")
    shutil.copy(file, tmp_path / "whole")
    with file.open("r+b") as opened:
        opened.seek(1000)
        opened.write(b"changed")
    refused(
        "The archive of 2026-01 of large was changed since it was written", "partitions_restore", **arguments
    )
    file.unlink()
    done = large.dbt("build")
    assert done.code != 0
    assert "The archive of 2026-01 of large is missing" in " ".join(done.out.split())
    shutil.copy(tmp_path / "whole", file)

    # A home that has moved finds its archives.
    moved = large.bench.home.with_name("moved")
    large.bench.home.rename(moved)
    try:
        elsewhere = Workbench(moved)
        done = elsewhere.dbt("build", f"--vars={json.dumps({'as_of': AS_OF})}", project=large.folder)
        assert done.code == 0, done.out
        assert Warehouse(moved / "warehouse.duckdb").query(content) == before
    finally:
        moved.rename(large.bench.home)
    done = large.operate("partitions_restore", **arguments)
    assert done.code == 0, done.out
    assert set(warehouse.months("large").values()) == {"hot"}
    assert warehouse.query(content) == before


# The models of this project --------------------------------------------------------------------------------


@pytest.mark.long
def test_memories_of_dropped_months_are_missing_by_order_and_a_full_refresh_brings_them_back(
    sample: Workbench,
) -> None:
    """Some words were said in the month that goes and after it; some more arrive for it when it has gone."""
    said = "select content, support_count from consolidated where user_id = 'kim' order by content"

    def at(month: int, words: str) -> None:
        with Memory(sample.home) as memory:
            memory.remember(words, user_id="kim", occurred_at=datetime(2026, month, 7, tzinfo=UTC))

    def drop(model: str) -> None:
        arguments = json.dumps({"model": model, "before": "2026-03", "yes": True})
        done = sample.dbt("run-operation", "partitions_drop", f"--args={arguments}")
        assert done.code == 0, done.out
        assert f"dropped 2026-01 of {model}" in done.out

    for month in (1, 5):
        at(month, "said again")
        at(month, "said twice")
    at(1, "spring is far")
    at(6, "summer is near")
    done = sample.dbt("run")
    assert done.code == 0, done.out

    drop("short_term_memories")
    at(7, "said again")
    at(1, "too late")
    sample.build()
    assert sample.query(said) == [
        ("said again", 2),
        ("said twice", 2),
        ("spring is far", 1),
        ("summer is near", 1),
    ]
    drop("consolidated_memories")
    warehouse = sample.home / "warehouse.duckdb"
    shutil.copy(warehouse, sample.home.with_name("whole.duckdb"))
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("delete from consolidated_memories__months.m2026_06")
    members = "assert_every_memory_is_in_one_consolidated_memory"
    months = "the_months_of_consolidated_memories_are_sound"
    done = sample.dbt("test", "--select", members, months)
    assert f"FAIL 1 {members}" in done.out, "what nobody dropped is missed, and nothing else is"
    assert f"FAIL 2 {months}" in done.out, "the month has too few rows, and access too many"
    shutil.copy(sample.home.with_name("whole.duckdb"), warehouse)

    drop("stg_memories")
    sample.build()
    assert sample.query(said) == [("said again", 2), ("summer is near", 1)]
    done = sample.mnemoduck("run", "--full-refresh")
    assert done.code == 0, done.out
    assert sample.query(said) == [
        ("said again", 3),
        ("said twice", 2),
        ("spring is far", 1),
        ("summer is near", 1),
        ("too late", 1),
    ]


# One history, looked at from many sides --------------------------------------------------------------------

KEYS: dict[str, tuple[str, ...]] = {
    "thoughts": ("id",),
    "notes": ("user_name", "slot"),
    "Labels": ("user_name", "slot"),
    "guarded": ("id",),
    "steady": ("id",),
}


@dataclass
class History:
    """Copies of a warehouse after each step, what dbt said then, and what each model should hold."""

    folder: Path
    said: dict[str, str] = field(default_factory=dict)
    expected: dict[str, dict[str, list[Row]]] = field(default_factory=dict)

    def after(self, step: str) -> Warehouse:
        return Warehouse(self.folder / f"{step}.duckdb")


class Storyteller:
    """Writes changes at random, and keeps what must come of them."""

    def __init__(self, project: Project, history: History) -> None:
        self.project, self.history = project, history
        self.rng = random.Random(20260315)
        self.slots = 0
        self.state: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in KEYS}
        self.dropped: dict[str, set[str]] = {name: set() for name in KEYS}

    def write(self, name: str, rows: list[Row]) -> None:
        self.project.write(name, rows)
        for row in rows:
            key = tuple(row[column] for column in KEYS[name])
            if row["is_deleted"] or f"{row['happened_at']:%Y-%m}" in self.dropped[name]:
                self.state[name].pop(key, None)
            else:
                self.state[name][key] = row

    def drop(self, name: str, months: Iterable[str]) -> None:
        self.dropped[name].update(months)
        self.state[name] = {
            key: row for key, row in self.state[name].items() if f"{row['happened_at']:%Y-%m}" not in months
        }

    def moment(self) -> datetime:
        """A moment from 2025-09 to 2026-03."""
        return datetime(2025, 9, 1) + timedelta(seconds=self.rng.randrange(195 * 86400))

    def row(self, at: datetime | None = None) -> Row:
        at = at or self.moment()
        told = at if self.rng.random() < 0.7 else self.moment()
        self.slots += 1
        return {
            "id": key_of(told, self.rng) if self.rng.random() < 0.8 else other_key(self.rng),
            "user_name": self.rng.choice("abc"),
            "slot": self.slots,
            "happened_at": at,
            "note": self.rng.choice(["plain", "it's quoted", None, "ü"]),
            "is_deleted": None,
        }

    def changes(self, name: str, new: int) -> list[Row]:
        """New rows, changed rows of every kind, and rows to delete, one of which does not exist."""
        rows = [self.row() for _ in range(new)]
        old = [dict(row) for row in self.state[name].values()]
        self.rng.shuffle(old)
        for row, kind in zip(old, ["note", "month", "minute", "delete", "delete", "user"] * 2, strict=False):
            if kind == "note":
                row["note"] = f"changed after {self.slots}"
            elif kind == "month":
                row["happened_at"] = self.moment()
            elif kind == "minute":
                row["happened_at"] = row["happened_at"] + timedelta(seconds=1)
            elif kind == "delete":
                row["is_deleted"] = True
                row["happened_at"] = self.rng.choice([row["happened_at"], None])
            elif "user_name" not in KEYS[name]:
                row["user_name"] = self.rng.choice("abc")
            rows.append(row)
        for one, two in zip(old[12:16:2], old[13:16:2], strict=True) if KEYS[name] == ("id",) else ():
            one["slot"], two["slot"] = two["slot"], one["slot"]
            rows += [one, two]
        rows.append({**self.row(), "is_deleted": True})
        self.rng.shuffle(rows)
        return rows

    def step(self, name: str, done: Done) -> None:
        shutil.copy(self.project.warehouse, self.history.folder / f"{name}.duckdb")
        self.history.said[name] = done.out
        self.history.expected[name] = {
            model: [dict(row) for row in rows.values()] for model, rows in self.state.items()
        }


def rows_of(month: int, count: int, rng: random.Random, first_slot: int = 0) -> list[Row]:
    """Rows spread over a month; 2026 is 1 to 3, 2025 is what comes before: 0 is its December."""
    begin = datetime(2025 + (month + 11) // 12, (month - 1) % 12 + 1, 1)
    moments = [begin + timedelta(hours=3.3 * n) for n in range(count)]
    return [
        {
            "id": key_of(at, rng),
            "user_name": "xyz"[n % 3],
            "slot": first_slot + n,
            "happened_at": at,
            "note": "as it was",
            "is_deleted": None,
        }
        for n, at in enumerate(moments)
    ]


def tell_history(folder: Path) -> History:
    history = History(folder)
    project = Project(folder)
    teller = Storyteller(project, history)
    usual = {
        "partition_by": "happened_at",
        "deleted_column": "is_deleted",
        "on_schema_change": "append_new_columns",
    }
    tail = {"partition_tail_rows": 25}

    project.rows_model(
        "thoughts",
        unique_key="id",
        compound_index=["user_name", "happened_at"],
        indexes=[{"columns": ["id"]}],
        **usual,
    )
    project.rows_model(
        "notes",
        unique_key=["user_name", "slot"],
        compound_index="user_name",
        indexes=[{"columns": ["user_name", "slot"], "unique": True}],
        merge_update_columns=["id", "HAPPENED_AT", "note", "is_deleted", "row_hash"],
        **usual,
    )
    # A text as key, names that are words of SQL, capitals that the config does not write.
    project.rows_model(
        "Labels",
        'user_name || slot as "Order", happened_at as "At", note as "Group", id, slot, '
        'is_deleted, row_hash as "Digest"',
        unique_key="order",
        row_hash="digest",
        indexes=[{"columns": "order"}],
        **{**usual, "partition_by": "at"},
    )
    project.rows_model(
        "guarded",
        unique_key="id",
        compound_index=["user_name"],
        indexes=[{"columns": ["slot"], "unique": True}, {"columns": ["id"]}],
        **usual,
    )
    project.rows_model(
        "steady", unique_key="id", compound_index=["user_name"], indexes=[{"columns": ["id"]}], **usual
    )
    small = rows_of(1, 3, random.Random(1)) + rows_of(2, 3, random.Random(2), 3)
    for name, policy in [
        ("appending", "append_new_columns"),
        ("syncing", "sync_all_columns"),
        ("ignoring", "ignore"),
        ("failing", "fail"),
        ("retyped", "append_new_columns"),
    ]:
        project.rows_model(
            name,
            unique_key="id",
            partition_by="happened_at",
            compound_index=["user_name"],
            indexes=[{"columns": ["slot"], "unique": True}],
            on_schema_change=policy,
        )
        project.write(name, small)
    project.model(
        "routed",
        "select id from {{ partitions_between(ref('steady'), \"date '2026-01-01'\", "
        "\"timestamp '2026-03-01'\") }}",
        materialized="view",
    )
    project.model(
        "routed_table",
        "select id from {{ partitions_between(ref('steady'), \"timestamp '2026-01-15'\") }}",
        materialized="table",
    )
    project.model("newest", "select id from {{ recent_partitions(ref('steady')) }}", materialized="view")

    # Two of the models were plain tables before.
    open_home(project.bench.home)
    with duckdb.connect(str(project.warehouse)) as connection:
        connection.execute(
            "create table thoughts (id uuid, old integer); create table steady as select 1 as id"
        )

    months = {month: rows_of(month, 200, random.Random(month), 1000 * month) for month in (-1, 0, 1, 2, 3)}
    for name in KEYS:
        teller.write(
            name,
            [row for rows in months.values() for row in rows]
            if name == "steady"
            else [*(teller.row() for _ in range(40)), {**teller.row(), "is_deleted": True}],
        )
    teller.step("first", project.build(**tail))
    teller.step("again", project.build(**tail))

    for name in KEYS.keys() - {"steady"}:
        teller.write(name, teller.changes(name, 10))
    january = months[1]
    more = rows_of(1, 30, random.Random(7), 9000)
    deleted = {**months[2][100], "is_deleted": True}
    moved = {**months[0][50], "happened_at": datetime(2026, 2, 3)}
    teller.write(
        "steady",
        [
            {**january[10], "note": "another"},
            {**january[20], "happened_at": january[20]["happened_at"] + timedelta(minutes=1)},
            {**january[30], "user_name": "y" if january[30]["user_name"] == "x" else "x"},
            january[40],  # arrives as it was
            moved,
            {**teller.row(datetime(2025, 11, 5)), "id": other_key(teller.rng)},
            deleted,
            {**teller.row(), "is_deleted": True},
            *more[:15],
        ],
    )
    teller.step("changed", project.build(**tail))

    for name in KEYS.keys() - {"steady"}:
        teller.write(name, teller.changes(name, 5))
    teller.write("steady", [months[0][50], months[2][100], *more[15:]])
    teller.step("changed again", project.build(**tail))

    done = project.operate("partitions_archive", model="thoughts", months=["2025-10", "2025-11", "2025-12"])
    assert done.code == 0, done.out
    teller.step("archived", done)

    # A new column, and rows for one of the archived months: one new, one changed.
    known = next(
        row for row in teller.state["thoughts"].values() if f"{row['happened_at']:%Y-%m}" == "2025-10"
    )
    teller.write(
        "thoughts",
        [{**known, "note": "changed in the archive"}, {**teller.row(datetime(2025, 10, 20)), "note": "late"}],
    )
    project.rows_model(
        "thoughts",
        "*, upper(note) as Loud",
        unique_key="id",
        compound_index=["user_name", "happened_at"],
        indexes=[{"columns": ["id"]}],
        **usual,
    )
    changed = [{**small[0], "note": "changed"}, *small[1:]]
    for name, select in [
        ("appending", "* exclude (is_deleted), upper(note) as loud"),
        ("ignoring", "*, 1 as loud"),
        ("syncing", "* exclude (is_deleted), upper(note) as loud"),
        ("failing", "*, 1 as loud"),
        ("retyped", "* replace (cast(slot as varchar) as slot)"),
    ]:
        text = (project.folder / "models" / f"{name}.sql").read_text()
        (project.folder / "models" / f"{name}.sql").write_text(
            text.replace("select *", f"select {select}", 1)
        )
        project.write(name, changed)
    done = project.dbt("build", "--threads=4", **tail)
    assert "Completed with 2 errors" in done.out, done.out
    teller.step("late", done)
    for name in ("failing", "retyped"):
        for file in (project.folder / "models").glob(f"{name}.*"):
            file.unlink()

    done = project.operate("partitions_restore", model="thoughts", months=["2025-11"])
    assert done.code == 0, done.out
    teller.step("restored", done)

    teller.drop("thoughts", ["2025-09", "2025-12"])
    done = project.operate("partitions_drop", model="thoughts", before="2025-10", months=None, yes=False)
    teller.history.said["asked"] = done.out
    done = project.operate("partitions_drop", model="thoughts", months=["2025-09", "2025-12"], yes=True)
    assert done.code == 0, done.out
    teller.step("dropped", done)

    teller.write(
        "thoughts",
        [
            teller.row(datetime(2025, 12, 20)),
            teller.row(datetime(2025, 9, 20)),
            {**next(iter(teller.state["thoughts"].values())), "happened_at": datetime(2025, 12, 1)},
            teller.row(datetime(2025, 10, 20)),
        ],
    )
    teller.step("refused", project.build(**tail))

    teller.dropped["thoughts"].clear()
    for name in KEYS:
        rows = [*teller.state[name].values(), *(teller.row(datetime(2025, 12, day + 1)) for day in range(5))]
        teller.write(name, rows)
    teller.step("refreshed", project.build("--full-refresh", **tail))
    return history


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Told once, by whichever test worker comes first."""
    base = tmp_path_factory.getbasetemp()

    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "history"
    with (base.parent / "history.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = folder / "history.pickle"
        if not told.exists():
            shutil.rmtree(folder, ignore_errors=True)
            told.write_bytes(pickle.dumps(tell_history(folder)))
        found: History = pickle.loads(told.read_bytes())
        return found


def test_what_is_stored_is_what_arrived_after_every_step(history: History) -> None:
    """Late rows, rows that move between months and back, deletions and returns, keys of every kind.

    The bookkeeping is tested in every build, by partitions_are_sound.
    """
    columns = "id, user_name, slot, happened_at, note"
    of_labels = 'id, "Order"[1], slot, "At", "Group"'
    for step, expected in history.expected.items():
        for name, rows in expected.items():
            stored = history.after(step).rows(name, of_labels if name == "Labels" else columns)
            wanted = [
                (uuid.UUID(r["id"]), r["user_name"], r["slot"], r["happened_at"], r["note"]) for r in rows
            ]
            assert stored == sorted(wanted, key=str), (step, name)


def test_a_second_build_with_the_same_rows_writes_nothing(history: History) -> None:
    for name in [*KEYS, "appending", "syncing"]:
        assert history.after("again").tables(name) == history.after("first").tables(name), name


def test_a_run_writes_the_rows_that_changed_and_no_others(history: History) -> None:
    before, after = history.after("again").tables("steady"), history.after("changed").tables("steady")
    assert before.keys() == after.keys()
    same = {table for table in before if before[table] == after[table]}
    assert same == {"m2026_03", "m2026_04", "m2026_05", "m2026_06"}
    kept = {table: len(before[table][1] & after[table][1]) for table in before.keys() - same}
    assert kept["m2025_11"] == 200, "a late row was added"
    assert kept["m2025_12"] == 199, "a row has left"
    assert kept["m2026_01"] == 197, "one was updated, one has another time, one is another user's"
    assert kept["m2026_02"] == 199, "one was deleted, one has come"
    assert len(after["m2026_01"][1]) == 215
    assert len(after["access"][1]) == 1000 + 15, "one has come and one has gone"
    key_months = "select month from steady__months.key_months order by month"
    exceptions = history.after("changed").query(key_months)
    assert exceptions == [(datetime(2025, 11, 1).date(),), (datetime(2026, 2, 1).date(),)]
    assert history.after("changed again").query(key_months) == exceptions[:1]


def test_rows_are_clustered_and_a_tail_that_has_grown_too_long_is_clustered_again(history: History) -> None:
    """Clustered but for the newest day of the month, which comes last."""
    month = "steady__months.m2026_01"
    place = f"(happened_at >= (select max(happened_at) - interval 1 day from {month}), user_name, id)"
    in_order = f"select list({place} order by rowid) = list({place} order by {place}) from {month}"
    tail = "select tail_rows from steady__months.catalog where month = '2026-01-01'"
    access = "select access_tail_rows from steady__months.settings"
    found = {
        step: (history.after(step).one(tail), history.after(step).one(in_order))
        for step in ("first", "changed", "changed again")
    }
    assert found == {"first": (0, True), "changed": (17, False), "changed again": (0, True)}
    assert [history.after(step).one(access) for step in found] == [0, 19, 36], "a tenth of the rows is more"


def test_months_are_there_before_they_are_needed_and_views_name_the_right_ones(history: History) -> None:
    warehouse = history.after("first")
    months = [f"{2025 + (m + 8) // 12}-{(m + 8) % 12 + 1:02d}" for m in range(10)]
    assert warehouse.months("thoughts") == dict.fromkeys(months, "hot")
    assert warehouse.months("appending") == dict.fromkeys(months[4:], "hot")
    assert warehouse.query("select * from steady_recent order by id") == warehouse.query(
        "select * from steady where happened_at >= '2026-02-01' order by id"
    )
    views = dict(warehouse.query("select view_name, sql from duckdb_views() where not internal"))
    assert "m2026_02" in views["steady_recent"]
    assert "m2026_03" in views["steady_recent"]
    assert "m2026_01" not in views["steady_recent"]
    assert "m2026_04" not in views["steady_recent"]
    assert warehouse.rows("newest") == warehouse.rows("steady_recent", "id")
    assert warehouse.rows("routed") == sorted(
        warehouse.query(
            "select id from steady where happened_at >= '2026-01-01' and happened_at < '2026-03-01'"
        ),
        key=str,
    )
    assert warehouse.rows("routed_table") == sorted(
        warehouse.query("select id from steady where happened_at >= '2026-01-15'"), key=str
    )


RANGES: list[tuple[str | None, str | None, int]] = [
    ("2025-12-01", "2026-02-01", 2),
    ("2025-12-31 23:59:59.999999", "2026-01-01 00:00:00.000001", 2),
    ("2026-01-10", "2026-01-11", 1),
    ("2026-01-11", "2026-01-10", 1),
    (None, "2025-11-01", 0),
    (None, "2025-11-01 00:00:00.000001", 1),
    ("2026-03-01", None, 4),
    (None, None, 8),
    ("2030-01-01", "2031-01-01", 0),
    ("1970-01-01", "1970-02-01", 0),
    ("-infinity", "infinity", 8),
]
"""Bounds, and how many of the months from 2025-11 to 2026-06 they touch."""


def test_a_range_of_time_names_only_its_months(history: History) -> None:
    warehouse = history.after("changed")
    for first, last, months in RANGES:
        begin, end = ("null" if bound is None else f"timestamp '{bound}'" for bound in (first, last))
        conditions = f"({begin} is null or happened_at >= {begin}) and ({end} is null or happened_at < {end})"
        between = f"steady_between({begin}, {end})"
        wanted = warehouse.query(f"select * from steady where {conditions} order by id")
        assert warehouse.query(f"select * from {between} order by id") == wanted, between
        plan = str(warehouse.query(f"explain (format json) select note from {between}"))
        # What DuckDB removes from a plan leaves an EMPTY_RESULT; so does a range without months.
        named = plan.count("steady__months.m20") + plan.count("EMPTY_RESULT")
        assert named == max(months, 1), between
        assert months > 0 or not wanted, between


def test_a_model_that_was_a_plain_table_becomes_partitioned(history: History) -> None:
    first = history.after("first")
    assert (
        first.query("select table_name from duckdb_tables() where table_name in ('thoughts', 'steady')") == []
    )


def test_columns_follow_on_schema_change(history: History) -> None:
    before, late = history.after("archived"), history.after("late")
    columns = {
        name: [row[0] for row in late.query(f"describe {name}")]
        for name in ("thoughts", "appending", "syncing", "ignoring", "failing", "retyped")
    }
    assert columns["thoughts"] == [*COLUMNS, "row_hash", "Loud"]
    assert columns["appending"] == [*COLUMNS, "row_hash", "loud"]
    assert columns["syncing"] == [*(c for c in COLUMNS if c != "is_deleted"), "row_hash", "loud"]
    assert columns["ignoring"] == columns["failing"] == columns["retyped"] == [*COLUMNS, "row_hash"]
    louds = [(0, "CHANGED"), *((slot, None) for slot in range(1, 6))]
    assert late.rows("appending", "slot, loud") == late.rows("syncing", "slot, loud") == louds
    assert late.rows("ignoring", "slot, note")[0] == (0, "changed")
    # A unique index is there again after its month was written anew.
    indexes = "select index_name from duckdb_indexes() where schema_name = 'syncing__months' order by 1"
    assert late.query(indexes) == before.query(indexes) != []
    # The archived months lack the column; so does every row that was not written since.
    loud = late.query("select id, upper(note), loud from thoughts where loud is not null")
    assert len(loud) == 2
    assert all(text == expected for _, text, expected in loud)
    said = " ".join(history.said["late"].split())
    assert "The columns of the model failing have changed (new: loud; gone: none)" in said
    assert "The column slot of the model retyped is VARCHAR and was INTEGER" in said
    for name in ("failing", "retyped"):
        assert late.tables(name) == before.tables(name)


def test_an_archived_month_stays_in_the_view_and_comes_back_as_it_was(history: History) -> None:
    before, archived, late, restored = map(history.after, ("changed again", "archived", "late", "restored"))
    assert archived.rows("thoughts") == before.rows("thoughts")
    states = archived.months("thoughts")
    assert [month for month, state in states.items() if state == "cold"] == ["2025-10", "2025-11", "2025-12"]
    assert not {"m2025_10", "m2025_11", "m2025_12"} & archived.tables("thoughts").keys()
    between = "select count(*) from {}(timestamp '2025-10-20', timestamp '2025-11-20')".format(
        "thoughts_between"
    )
    assert archived.one(between) == before.one(between) > 0

    # A changed row and a late one brought one month back, which was said; the others stayed.
    assert [month for month, state in late.months("thoughts").items() if state == "cold"] == [
        "2025-11",
        "2025-12",
    ]
    assert (
        "Rows of 2025-10, an archived month of thoughts, have changed: it is restored" in history.said["late"]
    )
    assert restored.months("thoughts")["2025-11"] == "hot"
    content = "select list(t order by id) from (select * from {}) as t"
    columns = ", ".join([*COLUMNS, "row_hash"])
    month = f"(select {columns} from thoughts__months.m2025_11)"
    assert restored.one(content.format(month)) == before.one(content.format(month))
    index = "select count(*) from duckdb_indexes() where schema_name = 'thoughts__months' and table_name = "
    assert restored.one(index + "'m2025_11'") == 1


def test_a_dropped_month_is_gone_and_its_rows_do_not_come_back_one_by_one(history: History) -> None:
    """Its rows are what `history.expected` leaves out: see the first test."""
    assert "nothing dropped: it would take" in history.said["asked"]
    dropped, refused, refreshed = map(history.after, ("dropped", "refused", "refreshed"))
    for warehouse in (dropped, refused):
        states = warehouse.months("thoughts")
        assert [month for month, state in states.items() if state == "dropped"] == ["2025-09", "2025-12"]
        assert (
            warehouse.one(
                "select count(*) from duckdb_tables() where schema_name = 'thoughts__months' "
                "and table_name in ('m2025_09', 'm2025_12')"
            )
            == 0
        )
    assert "1 rows of 2025-09 were left out of thoughts: that month was dropped" in history.said["refused"]
    assert "2 rows of 2025-12 were left out of thoughts" in history.said["refused"]
    assert set(refreshed.months("thoughts").values()) == {"hot"}
    assert (
        refreshed.one("select count(*) from thoughts where happened_at between '2025-12-01' and '2025-12-31'")
        >= 5
    )
