"""Measures one size: loads the stream into a home, and runs the real dbt after each thing that arrives.

Whatever models the project has are measured, by the folder that they lie in. dbt works with one thread,
so that the times of its models do not overlap and add up to that of the run; DuckDB uses all processors.
Events are loaded before dbt starts, by the same function that dbt calls: loading costs the same whatever
the layers do with what was loaded, and is reported beside them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.stream import BASE, LATE, NEWEST, Stream, generate
from mnemoduck.home import HOME_VARIABLE, Home, open_home
from mnemoduck.inbox import OPEN_SUFFIX, SEALED_SUFFIX
from mnemoduck.pipeline.load import load_inbox
from mnemoduck.pipeline.lock import RunLock

PROJECT = Path(__file__).resolve().parents[2]

FULL, NOTHING_NEW, NEWEST_PERCENT, LATE_PERCENT = "full", "nothing_new", "newest_1_percent", "late_1_percent"
STEPS = (FULL, NOTHING_NEW, NEWEST_PERCENT, LATE_PERCENT)
"""In the order in which they are taken, all on the same home."""

IDLE_RUNS = 3
"""Of runs with nothing new, the quickest counts."""

_ARRIVES = {FULL: BASE, NEWEST_PERCENT: NEWEST, LATE_PERCENT: LATE}


@dataclass(frozen=True)
class ModelTime:
    """Seconds that dbt took for a model, compiling it included; `layer` is the folder of models/.

    `relation` is what holds its rows, None if it is a view, which holds none.
    """

    name: str
    layer: str
    seconds: float
    relation: str | None = None


@dataclass(frozen=True)
class DbtRun:
    """One process: seconds from its start to its end, the most memory it held, and its models."""

    wall_seconds: float
    peak_mb: float
    run_id: str
    models: list[ModelTime]

    def as_dict(self) -> dict[str, Any]:
        return {
            "wall_seconds": round(self.wall_seconds, 3),
            "peak_mb": round(self.peak_mb),
            "models": [
                {"name": model.name, "layer": model.layer, "seconds": round(model.seconds, 4)}
                for model in self.models
            ],
        }


def measure(
    memories: int, folder: Path, *, seed: int = 1, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Return everything that was measured with `memories` memories, as plain data.

    Works in folders below `folder`, which are removed: 3 KB a memory are needed there.

    Raises:
        RuntimeError: dbt failed, or what it built are not the memories of the stream.
    """
    work = folder / f"work_{memories}"
    shutil.rmtree(work, ignore_errors=True)
    started = time.perf_counter()
    stream = generate(memories, work / "stream", seed)
    generated = time.perf_counter() - started
    tell(f"generated {sum(stream.event_counts.values()):,} events in {generated:.1f} s")
    home = open_home(work / "home")
    found: dict[str, Any] = {
        "rows": memories,
        "stream": {
            "seed": seed,
            "generate_seconds": round(generated, 3),
            "memories": stream.memory_counts,
            "events": stream.event_counts,
            "bytes": bytes_of_stream(stream),
        },
        **build_steps(home, stream, STEPS, tell),
    }
    shutil.rmtree(work)
    return found


def build_steps(
    home: Home, stream: Stream, steps: Sequence[str], tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Load and build an empty home by some of STEPS, in that order, and return what each took.

    Raises:
        RuntimeError: dbt failed, or what it built are not the memories of the stream.
    """
    _run_dbt(home, ["parse"])  # what the files of the project say is remembered from now on
    found: dict[str, Any] = {"loads": {}, "steps": {}}
    for step in steps:
        part = _ARRIVES.get(step)
        if part is not None:
            found["loads"][step] = _load(home, stream, part)
            tell(f"{step}: loaded {found['loads'][step]['events']:,} events")
        run = _run_dbt(home, ["run"])
        written = _rows_written(home, run)
        if step == NOTHING_NEW:  # the floor that the others are compared with
            again = [_run_dbt(home, ["run"]) for _ in range(IDLE_RUNS - 1)]
            run = min([run, *again], key=lambda run: sum(model.seconds for model in run.models))
        found["steps"][step] = {
            **run.as_dict(),
            "rows_written": written,
            "warehouse_bytes": _warehouse_bytes(home),
        }
        tell(f"{step}: {run.wall_seconds:.1f} s, at most {run.peak_mb:,.0f} MB")
    found["files"] = {"raw_bytes": size_of(home.raw), "warehouse_bytes": _warehouse_bytes(home)}
    _check_all_were_built(home, stream, [_ARRIVES[step] for step in steps if step in _ARRIVES])
    return found


def bytes_of_stream(stream: Stream) -> int:
    """Return the size of a stream as JSON lines."""
    return sum(path.stat().st_size for paths in stream.segments.values() for path in paths)


def _load(home: Home, stream: Stream, part: str) -> dict[str, Any]:
    """Place a part of the stream in the inbox as a writer would, sealed, and load it into raw/."""
    for path in stream.segments[part]:
        segment = home.inbox / path.with_suffix(OPEN_SUFFIX).name
        shutil.copy(path, segment)
        segment.rename(segment.with_suffix(SEALED_SUFFIX))
    started = time.perf_counter()
    with RunLock(home):
        batch = load_inbox(home)[-1]
    seconds = time.perf_counter() - started
    events = sum(batch.event_counts.values())
    if batch.quarantined_count or events != stream.event_counts[part]:
        raise RuntimeError(f"of the {stream.event_counts[part]:,} events of {part}, {events:,} were loaded")
    return {"events": events, "seconds": round(seconds, 3)}


def _run_dbt(home: Home, arguments: Sequence[str]) -> DbtRun:
    started = time.perf_counter()
    command = [
        *(sys.executable, "-c", "from dbt.cli.main import cli; cli()"),
        *arguments,
        *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)),
        *("--target-path", str(home.target), "--log-path", str(home.logs)),
    ]
    log = home.path / "dbt.out"
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={
                **os.environ,
                HOME_VARIABLE: str(home.path),
                "MNEMODUCK_THREADS": "1",
                "MNEMODUCK_LLM": "cached",  # a model server of whoever measures is not to be waited for
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, peak_mb(process.pid))
            time.sleep(0.02)
    wall = time.perf_counter() - started
    if process.returncode != 0:
        raise RuntimeError(f"dbt {' '.join(arguments)} failed:\n{log.read_text()}")
    if "run" not in arguments:
        return DbtRun(wall, peak, "", [])
    metadata = json.loads((home.target / "run_results.json").read_text("utf-8"))["metadata"]
    return DbtRun(wall, peak, metadata["invocation_id"], read_model_times(home.target))


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has held so far, by Linux; 0 where nobody says."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kilobytes[0]) / 1024 if kilobytes else 0.0


def read_model_times(target: Path) -> list[ModelTime]:
    """Return how long each model took in dbt's last run, in the order in which they were finished."""
    nodes = json.loads((target / "manifest.json").read_text("utf-8"))["nodes"]
    results = json.loads((target / "run_results.json").read_text("utf-8"))["results"]
    return [
        ModelTime(
            name=node["name"],
            layer=Path(node["original_file_path"]).parts[1],
            seconds=result["execution_time"],
            relation=None
            if node["config"]["materialized"] == "view"
            else f'"{node["schema"]}"."{node["alias"]}"',
        )
        for result in results
        if (node := nodes.get(result["unique_id"])) and node["resource_type"] == "model"
    ]


def _rows_written(home: Home, run: DbtRun) -> dict[str, list[int]]:
    """Return for each model whose rows name the run that wrote them: rows of this run, and all rows."""
    found = {}
    with duckdb.connect(str(home.warehouse), read_only=True) as connection:
        naming = {
            f'"{schema}"."{table}"'
            for schema, table in connection.execute(
                "select schema_name, table_name from duckdb_columns() "
                "where column_name = 'run_id' and database_name = current_database()"
            ).fetchall()
        }
        for model in run.models:
            if model.relation in naming:
                row = connection.execute(
                    "select count(*) filter (where cast(run_id as varchar) = $1), count(*) "
                    f"from {model.relation}",
                    [run.run_id],
                ).fetchone()
                assert row is not None
                found[model.name] = list(row)
    return found


def _check_all_were_built(home: Home, stream: Stream, parts: Sequence[str]) -> None:
    with duckdb.connect(str(home.warehouse), read_only=True) as connection:
        row = connection.execute("select count(*) from staging.stg_memories").fetchone()
    expected = sum(stream.memory_counts[part] for part in parts)
    if row != (expected,):
        raise RuntimeError(f"the stream has {expected:,} memories, staging {row}: the times say nothing")


def _warehouse_bytes(home: Home) -> int:
    files = (home.warehouse, home.warehouse.with_name(f"{home.warehouse.name}.wal"))
    return sum(path.stat().st_size for path in files if path.exists())


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
