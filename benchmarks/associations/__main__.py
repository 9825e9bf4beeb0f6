"""`python -m benchmarks.associations run` measures, `… report` makes docs/associations-benchmark.md of it."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import click
import duckdb

from benchmarks.associations.graph import build_graph
from benchmarks.machine import describe_run
from benchmarks.timing import time_call, witness

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"
GRAPHS = {"one scope": (1, 8000), "50 scopes": (50, 400)}
QUESTIONS = {
    "spread, depth 1": "from spread_activation(['c3'], for_user := 'user 0', depth := 1)",
    "spread, depth 2": "from spread_activation(['c3'], for_user := 'user 0', depth := 2)",
    "spread, depth 3": "from spread_activation(['c3'], for_user := 'user 0')",
    "spread, depth 3, three concepts": "from spread_activation(['c3', 'c9', 'c77'], for_user := 'user 0')",
    "path, 4 hops at most": "from association_paths('c3', 'c390', for_user := 'user 0')",
    "spread at a past moment": (
        "from spread_activation_at(['c3'], now()::timestamp - interval '30 days', for_user := 'user 0')"
    ),
}


@click.group()
def main() -> None:
    """Spreading activation and paths, in multiples of `select 1`."""


@main.command()
@click.option("--edges", default=100_000, show_default=True)
@click.option("--rounds", default=60, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/associations"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(edges: int, rounds: int, folder: Path, out: Path) -> None:
    """Build the graphs, ask each question, and write the result as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"run": describe_run(), "edges": edges, "answers": []}
    for graph, (scopes, concepts) in GRAPHS.items():
        path = folder / f"{scopes}.duckdb"
        build_graph(path, scopes=scopes, edges=edges, concepts=concepts)
        with duckdb.connect(str(path), read_only=True) as connection:
            for question, sql in QUESTIONS.items():
                timing = time_call(connection, lambda sql=sql: connection.execute(sql).fetchall(), rounds)  # type: ignore[misc]
                cpu = _cpu_ratio(connection, sql, rounds)
                entry = {
                    "graph": graph,
                    "question": question,
                    "answer_rows": len(connection.execute(sql).fetchall()),
                    "rows_scanned": witness(connection, sql).rows_scanned,
                    "cpu_ratio": cpu,
                    **timing.as_dict(),
                }
                result["answers"].append(entry)
                click.echo(f"{entry['ratio']:7.1f} x ({cpu:.1f} x in CPU time)  {graph}: {question}")
    out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page in docs/ from a result file."""
    found = json.loads(result.read_text("utf-8"))
    machine = found["run"]
    lines = [
        "# Associations, measured",
        "",
        f"{found['edges']:,} directed associations, in one scope of 8,000 concepts or over 50 scopes of 400;",
        "medians in multiples of `select 1` through the same Python client, in turns with it, as wall time",
        "and as CPU time on one thread, which other work on the machine disturbs less.",
        f"{machine['processors']} processors, DuckDB {machine['packages']['duckdb']}, "
        f"measured {machine['measured_at'][:10]}. A snapshot's reader has as many threads.",
        "",
        "| graph | question | x `select 1` | x in CPU time | ms | rows scanned |",
        "|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one['graph']} | {one['question']} | {one['ratio']:.1f} | {one['cpu_ratio']:.1f} | "
        f"{one['median_ms']:.1f} | {one['rows_scanned']:,} |"
        for one in found["answers"]
    ]
    lines += ["", "Made by `python -m benchmarks.associations run` and `… report`.", ""]
    (docs / "associations-benchmark.md").write_text("\n".join(lines), "utf-8")


def _cpu_ratio(connection: duckdb.DuckDBPyConnection, sql: str, rounds: int) -> float:
    """Return the median CPU time of a query over that of `select 1`, both on one thread."""
    connection.execute("set threads = 1")
    times: dict[str, list[float]] = {"select 1": [], sql: []}
    for _ in range(rounds):
        for query, taken in times.items():
            started = time.process_time()
            connection.execute(query).fetchall()
            taken.append(time.process_time() - started)
    connection.execute("reset threads")
    return round(statistics.median(times[sql]) / statistics.median(times["select 1"]), 4)


main()
