"""The layouts that are compared, each in a database of its own, built from the same stream.

months    the materialization `monthly_partitioned`, built by the real dbt, read through its router
plain     one table in time order
indexed   the same table with an index on the key and the compound indexes that others recommend
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml

from benchmarks.partitions.stream import LAST_MOMENT, ONE_MONTH, Stream
from mnemoduck.home import HOME_VARIABLE

PROJECT = Path(__file__).resolve().parents[2]

COMPOUND_INDEXES = (
    ("user_id", "memory_type", "occurred_at"),
    ("memory_type", "occurred_at"),
)

_MODEL = """{{{{
    config(
        materialized='monthly_partitioned',
        unique_key='memory_id',
        partition_by='occurred_at',
        compound_index=['scope_key', 'memory_type', 'occurred_at'],
        indexes=[{{'columns': ['memory_id']}}],
        merge_update_columns=[
            'activity_id', 'activity_position', 'activity_started_at', 'activity_ended_at', 'forgotten_at',
            'changed_batch_seq', 'row_hash', 'run_id',
        ],
    )
}}}}

-- depends_on: {{{{ ref('few_memories') }}}}
select * from read_parquet('{{{{ env_var("BENCHMARK_SOURCE") }}}}')
"""

_FEW = """{{{{
    config(materialized='monthly_partitioned', unique_key='id', partition_by='occurred_at', row_hash='id')
}}}}

select cast(uuid() as varchar) as id, timestamp '2026-11-20' as occurred_at
"""
"""dbt compiles the macros of a materialization once in a process, for the model that uses it first. In the
project that is stg_memories; here this one, so that its 0.2 seconds are not counted as the other's work."""


@dataclass(frozen=True)
class BuildTime:
    """Seconds of the model's own time as dbt measured it, and of the first partitioned model before it."""

    seconds: float
    seconds_of_first_model: float


@dataclass
class MonthsLayout:
    """A home whose warehouse has one partitioned model `memories`, and the dbt project that builds it."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "home" / "warehouse.duckdb"

    def prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "models").mkdir(parents=True)
        (self.folder / "macros").symlink_to(PROJECT / "macros")
        shutil.copy(PROJECT / "profiles.yml", self.folder)
        project = yaml.safe_load((PROJECT / "dbt_project.yml").read_text("utf-8"))
        kept = {key: project[key] for key in ("name", "version", "config-version", "profile", "vars")}
        kept |= {"model-paths": ["models"], "macro-paths": ["macros"]}
        (self.folder / "dbt_project.yml").write_text(yaml.safe_dump(kept), "utf-8")
        (self.folder / "models" / "memories.sql").write_text(_MODEL.format(), "utf-8")
        (self.folder / "models" / "few_memories.sql").write_text(_FEW.format(), "utf-8")

    def build(self, source: str) -> BuildTime:
        """Run dbt on the rows of a source: all of them the first time, then those that may have changed."""
        self._dbt("run", source=source)
        results = json.loads((self.folder / "target" / "run_results.json").read_text("utf-8"))
        times = {
            result["unique_id"].split(".")[-1]: result["execution_time"] for result in results["results"]
        }
        return BuildTime(times["memories"], times["few_memories"])

    def operate(self, macro: str, **arguments: Any) -> float:
        """Run an operation and return the seconds that the database worked on it."""
        log = self.folder / "logs" / "dbt.log"
        log.unlink(missing_ok=True)
        self._dbt(
            "--log-format-file", "json", "--log-level-file", "debug",
            "run-operation", macro, "--args", json.dumps({"model": "memories", **arguments}),
        )  # fmt: skip
        events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        return sum(
            float(event["data"]["elapsed"]) for event in events if event["info"]["name"] == "SQLQueryStatus"
        )

    def connect(self) -> duckdb.DuckDBPyConnection:
        return connect(self.database)

    def _dbt(self, *arguments: str, source: str = "") -> None:
        """Run dbt. It parses the whole project anew when a variable changes, so the source is none."""
        variables = json.dumps({"as_of": LAST_MOMENT.isoformat()})
        done = subprocess.run(
            [sys.executable, "-c", "from dbt.cli.main import cli; cli()", *arguments, "--vars", variables],
            cwd=self.folder,
            env={**os.environ, HOME_VARIABLE: str(self.folder / "home"), "BENCHMARK_SOURCE": source},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"dbt {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def build_plain(path: Path, stream: Stream, *, indexed: bool) -> float:
    """Build the peer's database and return the seconds it took."""
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        started = time.perf_counter()
        connection.execute(
            f"create table memories as select * from read_parquet('{stream.all_rows}') order by occurred_at"
        )
        if indexed:
            connection.execute("create index by_id on memories (memory_id)")
            for number, columns in enumerate(COMPOUND_INDEXES):
                connection.execute(f"create index compound_{number} on memories ({', '.join(columns)})")
        connection.execute("checkpoint")
        return time.perf_counter() - started


def change_plain(path: Path, stream: Stream) -> float:
    """Apply the changed rows to a peer as a merge would, and return the seconds it took."""
    with duckdb.connect(str(path)) as connection:
        started = time.perf_counter()
        connection.execute(
            f"""
            merge into memories using (from read_parquet('{stream.changed_rows}')) as changed
            on memories.memory_id = changed.memory_id
            when matched and memories.row_hash is distinct from changed.row_hash then update set
                forgotten_at = changed.forgotten_at, changed_batch_seq = changed.changed_batch_seq,
                row_hash = changed.row_hash
            """
        )
        connection.execute("checkpoint")
        return time.perf_counter() - started


def delete_month_plain(path: Path) -> float:
    """Delete one month from a peer and return the seconds it took."""
    start, end = ONE_MONTH
    with duckdb.connect(str(path)) as connection:
        started = time.perf_counter()
        connection.execute("delete from memories where occurred_at >= $1 and occurred_at < $2", [start, end])
        connection.execute("checkpoint")
        return time.perf_counter() - started


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a database as mnemoduck's readers do: attached read-only to an instance in memory."""
    connection = duckdb.connect(":memory:")
    connection.execute(f"attach '{path}' as snapshot (read_only)")
    connection.execute("use snapshot")
    connection.execute("set late_materialization_max_rows = 0")
    return connection
