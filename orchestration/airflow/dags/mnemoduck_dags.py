"""The pipeline of mnemoduck as DAGs of Airflow, one for each rhythm; docs/airflow.md says how to install.

Each DAG has a task for each dbt model of its rhythm, rendered by Cosmos, which builds the model and tests it;
none of these publishes. The last task, `publish`, is `mnemoduck run`: in one process and under one lock it
builds what has arrived since, tests the whole, and lets readers see it if every test passed. So whatever
other runs do between the tasks, what is published was built and tested as a whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

# Before Cosmos is imported: what is in this memory is nobody else's business, and its digest of the project
# for versions of DAGs would read the whole checkout, .venv included, at each import.
os.environ.setdefault("AIRFLOW__COSMOS__ENABLE_TELEMETRY", "False")
os.environ.setdefault("AIRFLOW__COSMOS__ENABLE_DAG_VERSIONING", "False")

from airflow.configuration import AIRFLOW_HOME
from airflow.sdk import DAG, Asset, AssetAlias, task
from airflow.sdk.exceptions import AirflowException
from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, TestBehavior, TestIndirectSelection
from mnemoduck_warehouse import HELD_BACK, Warehouse, fail_for_good

POOL = "mnemoduck"
"""A pool of one slot, since the warehouse has one writer: `airflow pools set mnemoduck 1 "one writer"`."""

GRANULARITY_VARIABLE = "MNEMODUCK_AIRFLOW_TASKS"


@dataclass(frozen=True)
class Rhythm:
    """When a DAG runs, which tags of models and tests are left to slower ones, and how long it may take."""

    name: str
    schedule: str
    slower: tuple[str, ...]
    granularity: str
    timeout: timedelta


RHYTHMS = (
    Rhythm("continuous", "*/10 * * * *", ("hourly", "nightly", "weekly"), "one", timedelta(hours=1)),
    Rhythm("hourly", "5 * * * *", ("nightly", "weekly"), "models", timedelta(hours=3)),
    Rhythm("nightly", "15 3 * * *", ("weekly",), "models", timedelta(hours=12)),
    Rhythm("weekly", "15 4 * * 0", (), "models", timedelta(hours=24)),
)

WAREHOUSE = Warehouse.from_environment()
SNAPSHOT = Asset(name="mnemoduck_snapshot", uri=f"file://{WAREHOUSE.home / 'published' / 'CURRENT'}")
"""What readers see. DAGs that read it are scheduled on `Asset("mnemoduck_snapshot")`."""

SNAPSHOT_IF_PUBLISHED = AssetAlias("mnemoduck_snapshot_if_published")
"""An outlet that is updated only by a run which published: an asset would be by each that succeeds."""


def granularity(rhythm: Rhythm) -> str:
    """Return "models" (a task for each model) or "one" (one for all), as asked for, else as is usual."""
    asked = os.environ.get(GRANULARITY_VARIABLE) or rhythm.granularity
    if asked not in {"models", "one"}:
        raise AirflowException(f"{GRANULARITY_VARIABLE} is {asked!r}; it takes models or one.")
    return asked


def models_of(rhythm: Rhythm) -> DbtTaskGroup:
    """Render the models of a rhythm, each as a task that builds and tests it, in groups by layer."""
    return DbtTaskGroup(
        group_id="dbt",
        project_config=ProjectConfig(
            dbt_project_path=WAREHOUSE.project,
            manifest_path=WAREHOUSE.manifest(Path(AIRFLOW_HOME, "mnemoduck")),
            project_name="mnemoduck",
            env_vars={**WAREHOUSE.environment, **HELD_BACK},
            install_dbt_deps=False,
        ),
        profile_config=ProfileConfig(
            profile_name="mnemoduck",
            target_name="home",
            profiles_yml_filepath=WAREHOUSE.project / "profiles.yml",
        ),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.LOCAL,
            invocation_mode=InvocationMode.SUBPROCESS,
            dbt_executable_path=WAREHOUSE.programs / "dbt",
            # A test of several models runs with the last of them: before, some have rows that others lack.
            test_indirect_selection=TestIndirectSelection.BUILDABLE,
        ),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            invocation_mode=InvocationMode.SUBPROCESS,
            exclude=[f"tag:{tag}" for tag in (*rhythm.slower, "unit")],
            test_behavior=TestBehavior.BUILD,
            emit_datasets=False,
            group_nodes_by_folder=True,
            normalize_task_id=lambda node: node.name,
        ),
        operator_args={
            "dbt_cmd_flags": ["--exclude-resource-type", "unit_test"],
            "pre_execute": WAREHOUSE.wait_until_free,
            "callback": fail_for_good,
            "should_store_compiled_sql": False,
        },
    )


def dag_of(rhythm: Rhythm) -> DAG:
    with DAG(
        dag_id=f"mnemoduck_{rhythm.name}",
        description=f"Load, build, test and publish what is {rhythm.name}",
        doc_md=__doc__,
        schedule=rhythm.schedule,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        max_active_tasks=1,
        dagrun_timeout=rhythm.timeout,
        tags=["mnemoduck"],
        default_args={
            "pool": POOL,
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "execution_timeout": timedelta(hours=1),
            "on_failure_callback": WAREHOUSE.note_failure,
        },
    ) as dag:

        @task(
            outlets=[SNAPSHOT_IF_PUBLISHED],
            pre_execute=WAREHOUSE.wait_until_free,
            execution_timeout=rhythm.timeout,
        )
        def publish(*, outlet_events: Any = None) -> dict[str, Any]:
            summary = WAREHOUSE.run(["--rhythm", rhythm.name])
            if summary["outcome"] == "published":
                outlet_events[SNAPSHOT_IF_PUBLISHED].add(SNAPSHOT, extra={"snapshot": summary["snapshot"]})
            return {key: summary[key] for key in ("outcome", "snapshot", "events_loaded", "seconds")}

        published = publish()
        if granularity(rhythm) == "models":
            models_of(rhythm) >> published
    return dag


for one in RHYTHMS:
    globals()[f"mnemoduck_{one.name}"] = dag_of(one)
