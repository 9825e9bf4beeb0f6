"""The project's own ways to write models (macros/pipeline), in a project that has nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import duckdb

from tests.integration.forks import PROJECT, run

STRATEGIES = ("append", "merge", "replace")

MODEL = """
{{{{ config(materialized='incremental', incremental_strategy='{strategy}', unique_key=['id']) }}}}
{{{{ config(kept_when='id <> 4') }}}}
select
    cast(n as integer) as id
    {{{{ '' if var('lacks_text', false) else ", '" ~ var('text', 'old') ~ "' as text" }}}}
from range({{{{ var('low') }}}}, {{{{ var('high') }}}}) as numbers (n)
"""
VIEW = """
{{ config(materialized='view') }}
select id {{ '' if var('lacks_text', false) else ", upper(text) as text" }} from {{ ref('merge') }}
"""


class SmallProject:
    """A model of each strategy and a view, with contracts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "models").mkdir()
        (folder / "macros").mkdir()
        for name in ("incremental.sql", "view.sql"):
            shutil.copy(PROJECT / "macros" / "pipeline" / name, folder / "macros")
        for strategy in STRATEGIES:
            (folder / "models" / f"{strategy}.sql").write_text(MODEL.format(strategy=strategy))
        (folder / "models" / "shown.sql").write_text(VIEW)
        self.describe("what was said")
        project = {
            "name": "mnemoduck",
            "version": "1.0.0",
            "config-version": 2,
            "profile": "small",
            "flags": {"send_anonymous_usage_stats": False},
            "models": {
                "+on_schema_change": "append_new_columns",
                "+persist_docs": {"relation": True, "columns": True},
                "+contract": {"enforced": True},
            },
        }
        output = {"type": "duckdb", "path": "small.duckdb", "threads": 1}
        profiles = {"small": {"target": "dev", "outputs": {"dev": output}}}
        (folder / "dbt_project.yml").write_text(json.dumps(project))
        (folder / "profiles.yml").write_text(json.dumps(profiles))

    def describe(self, text: str) -> None:
        columns = [
            {"name": "id", "data_type": "integer", "description": "the number"},
            {"name": "text", "data_type": "varchar", "description": text},
        ]
        models = [{"name": name, "description": text, "columns": columns} for name in (*STRATEGIES, "shown")]
        (self.folder / "models" / "models.yml").write_text(json.dumps({"models": models}))

    def run(self, *arguments: str, **variables: Any) -> tuple[int, str, str]:
        """Run dbt; return its exit code, what it said, and the SQL that it ran."""
        log = self.folder / "logs" / "dbt.log"
        log.unlink(missing_ok=True)
        command = ["dbt", "run", "--vars", json.dumps(variables), *arguments]
        code, out, err = run(command, cwd=self.folder, env=dict(os.environ))
        return code, out + err, log.read_text().lower()

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "small.duckdb"), read_only=True) as connection:
            return connection.execute(f"select id, text from {table} order by all").fetchall()

    def comments(self, table: str) -> set[str | None]:
        with duckdb.connect(str(self.folder / "small.duckdb"), read_only=True) as connection:
            rows = connection.execute(
                """
                select comment from duckdb_columns() where table_name = $1 and column_name = 'text'
                union all select comment from duckdb_tables() where table_name = $1
                union all select comment from duckdb_views() where view_name = $1
                """,
                [table],
            )
            return {row[0] for row in rows.fetchall()}


def test_rows_are_added_without_asking_and_what_is_not_as_described_is_left_to_dbt(tmp_path: Path) -> None:
    project = SmallProject(tmp_path)
    code, said, sql = project.run(low=0, high=3)
    assert code == 0, said
    old = [(0, "old"), (1, "old"), (2, "old")]
    assert {table: project.rows(table) for table in STRATEGIES} == dict.fromkeys(STRATEGIES, old)

    code, said, sql = project.run(low=2, high=5, text="new")
    assert code == 0, said
    assert "merge into" in sql
    assert "__dbt_tmp" in sql
    new = [(2, "new"), (3, "new"), (4, "new")]
    assert project.rows("append") == sorted(old + new)
    assert project.rows("merge") == [*old[:2], *new]
    assert project.rows("replace") == [*old[:2], *new[:2]]  # 4 is not kept
    assert project.rows("shown") == [(number, text.upper()) for number, text in [*old[:2], *new]]

    before = {table: project.rows(table) for table in STRATEGIES}
    code, said, sql = project.run(low=0, high=0)
    assert code == 0, said
    assert "__dbt_tmp" in sql  # what arrived was looked at, and then left
    assert "merge into" not in sql
    assert "alter table" not in sql
    assert {table: project.rows(table) for table in STRATEGIES} == before

    project.describe("what was said by whom")
    code, said, _ = project.run(low=0, high=0)
    assert code == 0, said
    for table in (*STRATEGIES, "shown"):
        assert project.comments(table) == {"what was said by whom"}

    # A column that the query lacks is an error, and nothing is written.
    code, said, _ = project.run(low=7, high=8, lacks_text=True)
    assert code == 1
    for table in ("merge", "replace"):
        assert f"The query of {table} gives other columns than its .yml says" in " ".join(said.split())
    assert 'Referenced column "text" not found' in " ".join(said.split())
    assert {table: project.rows(table) for table in STRATEGIES} == before

    # Nor does a view change that breaks its contract.
    shown = project.rows("shown")
    code, said, _ = project.run("--select", "shown", low=0, high=0, lacks_text=True)
    assert (code, "contract" in said) == (1, True)
    assert project.rows("shown") == shown
