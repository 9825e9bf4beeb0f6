"""The DAGs in the real Airflow: on a metadata database, on homes with the sample stream, with the real dbt.

Run by `make test-airflow`, whose environment has Airflow and no mnemoduck: that is asked by its command line.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3]
DAGS = PROJECT / "orchestration" / "airflow" / "dags"
PROGRAMS = PROJECT / ".venv" / "bin"
RHYTHMS = ["continuous", "hourly", "nightly", "weekly"]
FAILING_TEST = "select memory_id from {{ ref('stg_memories') }} limit 2\n"


class Airflow:
    """An Airflow of its own: a folder with its database, and what its commands are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self, home: Path, changes: dict[str, str]) -> dict[str, str]:
        return {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("AIRFLOW", "MNEMODUCK"))
            },
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",  # dbt parses; the machine may be busy
            "AIRFLOW__COSMOS__CACHE_DIR": str(self.folder / "cosmos"),
            "MNEMODUCK_HOME": str(home),
            "MNEMODUCK_PROGRAMS": str(PROGRAMS),
            "MNEMODUCK_LLM": "off",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **changes,
        }

    def run(self, *arguments: str, home: Path, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("airflow")), *arguments],
            env=self.environment(home, changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def start(self, *arguments: str, home: Path, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("airflow")), *arguments],
            env=self.environment(home, changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "airflow.db") as connection:
            return connection.execute(sql, values).fetchall()

    def newest_run(self, dag: str) -> tuple[str, str]:
        """Return the id and the state of the newest run of a DAG."""
        [(run, state)] = self.ask(
            "select run_id, state from dag_run where dag_id = ? order by id desc limit 1", dag
        )
        return run, state

    def tasks(self, dag: str) -> dict[str, tuple[str, int]]:
        """Return state and number of tries of each task of the newest run."""
        rows = self.ask(
            "select task_id, state, try_number from task_instance where dag_id = ? and run_id = ?",
            dag,
            self.newest_run(dag)[0],
        )
        return {task: (state, tries) for task, state, tries in rows}

    def snapshots_announced(self) -> list[str]:
        rows = self.ask(
            "select e.extra from asset_event e join asset a on a.id = e.asset_id "
            "where a.name = 'mnemoduck_snapshot' order by e.id"
        )
        return [json.loads(extra)["snapshot"] for (extra,) in rows]


def mnemoduck(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(PROGRAMS / "mnemoduck"), *arguments],
        env={
            **os.environ,
            "MNEMODUCK_HOME": str(home),
            "MNEMODUCK_PROJECT": str(PROJECT),
            "MNEMODUCK_LLM": "off",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def current(home: Path) -> str:
    return (home / "published" / "CURRENT").read_text("utf-8").strip()


def recalls(home: Path, text: str) -> bool:
    return text in mnemoduck(home, "recall", text, "--no-record", "--json")


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    folder = tmp_path_factory.mktemp("airflow")
    airflow = Airflow(folder)
    for arguments in (["db", "migrate"], ["pools", "set", "mnemoduck", "1", "the warehouse has one writer"]):
        done = airflow.run(*arguments, home=folder / "none")
        assert done.returncode == 0, done.stdout
    return airflow


@pytest.fixture(scope="session")
def published_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the sample stream, published by `mnemoduck run`; do not change it."""
    home = tmp_path_factory.mktemp("published") / "home"
    mnemoduck(home, "ingest", str(PROJECT / "seeds" / "sample_stream.jsonl"))
    mnemoduck(home, "run")
    return home


@pytest.fixture
def home(published_home: Path, tmp_path: Path) -> Path:
    """A copy of the published home, in whose inbox there is news."""
    copy = tmp_path / "home"
    shutil.copytree(published_home, copy)
    mnemoduck(copy, "remember", "The ferry to Porto Santo leaves at nine", "--user", "maya")
    return copy


@pytest.fixture
def broken_project(tmp_path: Path) -> Path:
    """The dbt project with one more test, which fails."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("dbt_project.yml", "profiles.yml", "selectors.yml"):
        shutil.copy(PROJECT / name, project / name)
    for name in ("macros", "models", "seeds", "tests/data"):
        shutil.copytree(PROJECT / name, project / name)
    (project / "tests" / "data" / "assert_nothing_ever_happened.sql").write_text(FAILING_TEST)
    return project


def import_dags(airflow: Airflow, home: Path, **changes: str) -> dict[str, Any]:
    """Import the DAGs as the DAG processor does, in a process of its own; return what they are like."""
    code = """
import json, sys
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(sys.argv[1], bundle_name="dags-folder", bundle_path=sys.argv[1])
print(json.dumps({
    "errors": list(bag.import_errors.values()),
    "warnings": [str(warnings) for warnings in bag.captured_warnings.values()],
    "dags": {dag.dag_id: {
        "tasks": {task.task_id: {
            "pool": task.pool, "retries": task.retries, "timeout": task.execution_timeout is not None,
            "tells": bool(task.on_failure_callback), "before": sorted(task.upstream_task_ids),
        } for task in dag.tasks},
        "catchup": dag.catchup, "active_runs": dag.max_active_runs, "active_tasks": dag.max_active_tasks,
        "timeout": dag.dagrun_timeout is not None, "schedule": str(dag.schedule),
    } for dag in bag.dags.values()},
}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(DAGS)],
        env=airflow.environment(home, changes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="session")
def imported(airflow: Airflow, published_home: Path) -> dict[str, Any]:
    return import_dags(airflow, published_home)


def test_the_dags_import_without_error_or_warning(imported: dict[str, Any]) -> None:
    assert imported["errors"] == []
    assert imported["warnings"] == []
    assert sorted(imported["dags"]) == sorted(f"mnemoduck_{rhythm}" for rhythm in RHYTHMS)


def test_the_weekly_dag_has_a_task_for_each_model_after_those_that_it_reads(
    imported: dict[str, Any], airflow: Airflow
) -> None:
    manifest = json.loads(next((airflow.folder / "mnemoduck").glob("manifest-*.json")).read_text("utf-8"))
    models = {name: node for name, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    tasks = {
        name.rpartition(".")[2]: task for name, task in imported["dags"]["mnemoduck_weekly"]["tasks"].items()
    }
    assert sorted(tasks) == sorted([*(node["name"] for node in models.values()), "publish"])
    for node in models.values():
        read = {models[parent]["name"] for parent in node["depends_on"]["nodes"] if parent in models}
        assert {before.rpartition(".")[2] for before in tasks[node["name"]]["before"]} == read


def test_a_faster_rhythm_has_no_task_that_a_slower_one_lacks(imported: dict[str, Any]) -> None:
    hourly, nightly, weekly = (
        set(imported["dags"][f"mnemoduck_{rhythm}"]["tasks"]) for rhythm in ("hourly", "nightly", "weekly")
    )
    assert {"publish"} < hourly <= nightly <= weekly


def test_the_continuous_dag_is_one_task(imported: dict[str, Any]) -> None:
    assert list(imported["dags"]["mnemoduck_continuous"]["tasks"]) == ["publish"]


def test_every_task_waits_for_the_one_writer_is_tried_again_ends_in_time_and_tells_of_failure(
    imported: dict[str, Any],
) -> None:
    for dag in imported["dags"].values():
        assert (dag["catchup"], dag["active_runs"], dag["active_tasks"], dag["timeout"]) == (
            False,
            1,
            1,
            True,
        )
        for task in dag["tasks"].values():
            assert task["pool"] == "mnemoduck"
            assert task["retries"] >= 1
            assert task["timeout"]
            assert task["tells"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MNEMODUCK_HOME": ""}, "MNEMODUCK_HOME is not set"),
        ({"MNEMODUCK_PROJECT": "/nowhere"}, "MNEMODUCK_PROJECT"),
        ({"MNEMODUCK_PROGRAMS": "/nowhere"}, "MNEMODUCK_PROGRAMS"),
        ({"MNEMODUCK_AIRFLOW_TASKS": "some"}, "it takes models or one"),
    ],
)
def test_what_is_missing_is_an_import_error_that_says_what_to_set(
    airflow: Airflow, published_home: Path, changes: dict[str, str], said: str
) -> None:
    [error] = import_dags(airflow, published_home, **changes)["errors"]
    assert said in error


def test_the_hourly_dag_builds_each_model_by_a_task_and_publishes_at_the_end(
    airflow: Airflow, home: Path
) -> None:
    before = current(home)
    done = airflow.run("dags", "test", "mnemoduck_hourly", home=home)
    assert done.returncode == 0, done.stdout[-20000:]
    assert airflow.newest_run("mnemoduck_hourly")[1] == "success"
    tasks = airflow.tasks("mnemoduck_hourly")
    assert len(tasks) > 20
    assert {state for state, _ in tasks.values()} == {"success"}
    assert current(home) != before
    assert airflow.snapshots_announced()[-1] == current(home).removesuffix(".duckdb")
    assert recalls(home, "The ferry to Porto Santo leaves at nine")
    assert "not published: a later command will" in done.stdout
    assert not list((home / "inbox").rglob("*.jsonl")), "what is published has left the inbox"
    assert not (home / "logs" / "airflow.jsonl").exists()


def test_a_failing_test_fails_the_dag_at_once_and_readers_stay_where_they_are(
    airflow: Airflow, home: Path, broken_project: Path
) -> None:
    before, announced = current(home), airflow.snapshots_announced()
    done = airflow.run("dags", "test", "mnemoduck_hourly", home=home, MNEMODUCK_PROJECT=str(broken_project))
    assert airflow.newest_run("mnemoduck_hourly")[1] == "failed", done.stdout[-20000:]
    tasks = airflow.tasks("mnemoduck_hourly")
    assert tasks["dbt.models.staging.raw_batches"] == ("success", 1)
    assert tasks["dbt.models.staging.stg_memories"] == ("failed", 1), "tried once: it fails again"
    assert tasks["dbt.models.enrichment.memory_features"][0] == "upstream_failed"
    assert tasks["publish"][0] == "upstream_failed"
    assert current(home) == before
    assert airflow.snapshots_announced() == announced
    assert recalls(home, "The ferry to Porto Santo leaves at nine"), (
        "loaded, not published, and read from the inbox"
    )
    [line] = (home / "logs" / "airflow.jsonl").read_text("utf-8").splitlines()
    failure = json.loads(line)
    assert failure["task"] == "dbt.models.staging.stg_memories"
    assert "assert_nothing_ever_happened" in failure["error"]
    assert failure["readers_see"] == before


def test_a_failing_test_fails_the_single_task_too_and_nothing_is_published(
    airflow: Airflow, home: Path, broken_project: Path
) -> None:
    before = current(home)
    airflow.run("dags", "test", "mnemoduck_continuous", home=home, MNEMODUCK_PROJECT=str(broken_project))
    assert airflow.tasks("mnemoduck_continuous") == {"publish": ("failed", 1)}
    assert current(home) == before
    [line] = (home / "logs" / "airflow.jsonl").read_text("utf-8").splitlines()
    assert "assert_nothing_ever_happened" in json.loads(line)["error"]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A warehouse whose `mnemoduck run` is what a test makes of it."""
    monkeypatch.syspath_prepend(str(DAGS))
    from mnemoduck_warehouse import Warehouse

    def make(script: str) -> Warehouse:
        program = tmp_path / "mnemoduck"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        return Warehouse(home=tmp_path, project=PROJECT, programs=tmp_path)

    return make


def said(outcome: str, failures: list[Any], maintenance: list[Any]) -> str:
    return json.dumps({"outcome": outcome, "failures": failures, "errors": [], "maintenance": maintenance})


FAILURE = {"name": "assert_x", "status": "fail", "message": "Got 2 results"}


@pytest.mark.parametrize(
    ("script", "is_tried_again", "message"),
    [
        ("echo 'Another run is at work' >&2; exit 75", True, "Not now: Another run is at work"),
        ("echo 'No such option' >&2; exit 2", True, "ended with 2: No such option"),
        (f"echo '{said('not published', [FAILURE], [])}'; exit 1", False, "assert_x (fail): Got 2 results"),
        (f"echo '{said('not published', [], [])}'; exit 1", True, "Nothing was published"),
        (
            f"echo '{said('published', [], [{'name': 'archive', 'error': 'disk full'}])}'; exit 1",
            True,
            "archive: disk full",
        ),
    ],
)
def test_a_run_that_another_try_may_mend_is_tried_again_and_a_failed_test_is_not(
    fake: Any, script: str, is_tried_again: bool, message: str
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    with pytest.raises(AirflowException) as raised:
        fake(script).run([])
    assert isinstance(raised.value, AirflowFailException) is not is_tried_again
    assert message in str(raised.value)


def test_a_task_that_is_stopped_stops_what_it_has_started(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        """What Airflow raises in a task while it waits, as for a timeout."""

    children: list[int] = []

    def stop(_: Any) -> None:
        children.append(os.pidfd_open(int((tmp_path / "child").read_text())))
        raise Stopped

    os.mkfifo(tmp_path / "child")
    monkeypatch.setattr(subprocess.Popen, "communicate", stop)
    with pytest.raises(Stopped):
        fake(f"sleep 600 & echo $! > {tmp_path}/child; wait").run([])
    [child] = children
    assert select.select([child], [], [], 60)[0], "what it has started goes on without the task"


@pytest.fixture
def other_run(home: Path) -> int:
    """The run lock of the home, held by somebody else as long as the descriptor is open."""
    descriptor = os.open(home / "run.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b'{"pid": 4711, "command": "mnemoduck run"}', 0)
    return descriptor


def test_a_task_waits_for_the_run_of_another_scheduler_and_then_publishes(
    airflow: Airflow, home: Path, other_run: int
) -> None:
    before = current(home)
    process = airflow.start("dags", "test", "mnemoduck_continuous", home=home)
    assert process.stdout is not None
    said = next(line for line in process.stdout if "Another run is at work" in line)
    assert "4711" in said
    assert current(home) == before
    os.close(other_run)
    rest = process.stdout.read()
    assert process.wait() == 0, rest
    assert airflow.tasks("mnemoduck_continuous") == {"publish": ("success", 1)}
    assert current(home) != before


def test_a_run_with_nothing_new_succeeds_and_announces_nothing(
    airflow: Airflow, published_home: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(published_home, home)
    before, announced = current(home), airflow.snapshots_announced()
    done = airflow.run("dags", "test", "mnemoduck_continuous", home=home)
    assert done.returncode == 0, done.stdout[-20000:]
    assert current(home) == before
    assert airflow.snapshots_announced() == announced
