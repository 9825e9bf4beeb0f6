"""What the runs of a home leave of themselves: in its files, in the models, and in what a user is told."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mnemoduck.home import open_home
from mnemoduck.pipeline.history import RunRecord, read_runs
from tests.integration.workbench import PROJECT, Done, Workbench, checksums

FAILING_TEST = """-- A returned row means that the test was run.
select unnest([1, 2]) as row_number from (select count(*) as steps from {{ ref('episode_steps') }}) as counted
"""


@dataclass(frozen=True)
class Lived:
    """A home that was built by dbt, and by a run in which a test failed, and by one in which none did.

    Nothing new came between them, so readers see what the first has published; the warehouse tells more.
    """

    bench: Workbench
    failed: Done
    mended: Done
    tables: list[Any]
    runs: list[RunRecord]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.bench.home / "warehouse.duckdb"), read_only=True) as warehouse:
            return warehouse.execute(query).fetchall()


@pytest.fixture(scope="module")
def lived(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = tmp_path_factory.mktemp("lived")
    shutil.copytree(built_home, folder / "home")
    bench = Workbench(folder / "home")
    project = copy_project(folder / "project")
    (project / "tests/data/assert_that_fails.sql").write_text(FAILING_TEST)
    before = checksums(bench.home / "warehouse.duckdb")

    failed = bench.mnemoduck("run", "--project", str(project))
    mended = bench.mnemoduck("run")

    after = checksums(bench.home / "warehouse.duckdb")
    return Lived(bench, failed, mended, [before, after], list(read_runs(open_home(bench.home))))


def copy_project(folder: Path) -> Path:
    folder.mkdir()
    for name in ("dbt_project.yml", "profiles.yml", "selectors.yml"):
        shutil.copy(PROJECT / name, folder)
    for name in ("models", "macros", "seeds", "tests/data"):
        shutil.copytree(PROJECT / name, folder / name)
    return folder


def test_each_run_is_recorded_once_whoever_started_it(lived: Lived) -> None:
    assert lived.failed.code == 1, lived.failed.out
    assert lived.mended.code == 0, lived.mended.out
    assert [(run.command.split(" --")[0], run.outcome) for run in lived.runs] == [
        ("dbt build", "published"),
        ("run", "not published"),
        ("run", "unchanged"),
    ]
    assert len({run.run_id for run in lived.runs}) == 3


def test_a_record_has_the_models_with_their_rows_and_the_tests_with_their_failures(lived: Lived) -> None:
    built, failed, _ = lived.runs
    rows = {node.name: node.rows for node in built.nodes if node.kind == "model"}
    for table in (
        "staging.stg_memories",
        "main.consolidated_memories",
        "main.facts",
        "staging.int_concepts",
    ):
        assert lived.ask(f"select count(*) from {table}") == [(rows[table.split(".")[1]],)], table
    assert rows["working_memory"] is None, "a view holds no rows"
    assert built.memories_loaded == rows["stg_memories"]
    assert built.snapshot is not None
    assert built.load_seconds is not None
    assert built.publish_seconds is not None
    nodes = {node.name: node for node in failed.nodes}
    assert (nodes["assert_that_fails"].status, nodes["assert_that_fails"].failures) == ("fail", 2)
    assert "Got 2 results" in (nodes["assert_that_fails"].message or "")
    assert failed.snapshot is None


def test_an_alert_is_said_in_the_summary_and_in_the_record_and_stops_nothing(lived: Lived) -> None:
    alert = "share of the runs in which something failed: 0.5, above 0.1 (alert_run_failures)"
    assert f"alert: {alert}" in lived.mended.out
    assert alert not in lived.failed.out, "it was not known yet"
    nodes = {node.name: node for node in lived.runs[-1].nodes}
    assert nodes["assert_no_alert_is_due"].status == "warn"
    assert alert in (nodes["assert_no_alert_is_due"].message or "")
    assert lived.ask("select is_due from alerts where alert = 'alert_run_failures'") == [(True,)]


def test_the_models_tell_of_the_runs_before_the_one_that_built_them(lived: Lived) -> None:
    built, failed, _ = lived.runs
    assert lived.ask(
        "select run_id, outcome, models, tests, failed, is_failed from pipeline_runs order by started_at"
    ) == [
        (run.run_id, run.outcome, models, len(run.nodes) - models, failures, failures > 0)
        for run, failures in ((built, 0), (failed, 1))
        for models in [sum(node.kind == "model" for node in run.nodes)]
    ]
    assert lived.ask(
        "select run_id, name, kind, status, seconds, rows, failures, message from model_runs order by all"
    ) == sorted(
        ((run.run_id, *node.model_dump().values()) for run in (built, failed) for node in run.nodes),
        key=lambda row: tuple((value is None, value) for value in row),
    )


def test_no_row_of_memory_is_rewritten_because_runs_are_told_of(lived: Lived) -> None:
    before, after = lived.tables
    assert after == before


def test_the_months_of_all_partitioned_models_are_in_the_inventory(lived: Lived) -> None:
    found = lived.ask(
        "select model, sum(rows), bool_and(state = 'table'), count(bytes) from partition_inventory "
        "group by model order by model"
    )
    assert found == [
        (model, lived.ask(f"select count(*) from {schema}.{model}")[0][0], True, 0)
        for model, schema in (
            ("consolidated_memories", "main"),
            ("session_gists", "main"),
            ("short_term_memories", "main"),
            ("stg_memories", "staging"),
        )
    ]


def test_the_health_of_memories_agrees_with_the_views_at_the_same_moment(lived: Lived) -> None:
    health = lived.ask(
        "select measured_at, junk_memories, forgotten_memories, working_memory_scopes, "
        "working_memory_mean_slots, consolidation_backlog, orphan_facts from memory_health"
    )
    (moment, junk, forgotten, minds, slots, backlog, orphans) = health[0]
    as_of = f"timestamp '{moment}'"
    assert lived.ask(
        "select count(*) filter (where fate = 'forgotten' or importance < 0.1), "
        f"count(*) filter (where fate = 'forgotten') from consolidated_as_of({as_of})"
    ) == [(junk, forgotten)]
    assert lived.ask(
        "select count(distinct scope_key) from short_term_memories "
        f"where occurred_at <= {as_of} and occurred_at > {as_of} - interval '30 minutes'"
    ) == [(minds,)]
    assert minds > 0
    assert 1 <= slots <= 9
    assert (backlog, orphans) == (0, 0)


def test_what_the_documentation_asks_is_answered(lived: Lived) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", (PROJECT / "docs/observability.md").read_text(), re.DOTALL)
    queries = [query for block in blocks for query in block.split(";") if query.strip()]
    assert len(queries) >= 5
    for query in queries[:3]:
        assert lived.ask(query), query
    for query in queries[3:]:
        lived.ask(query)
