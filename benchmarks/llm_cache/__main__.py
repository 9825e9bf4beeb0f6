"""`python -m benchmarks.llm_cache run` measures, `… report` makes docs/llm-cache-benchmark.md of it."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import duckdb

from benchmarks.llm_cache.corpus import SETTINGS, build_corpus
from benchmarks.llm_cache.joins import make_twins, time_joins
from benchmarks.machine import describe_run
from benchmarks.page import table
from benchmarks.timing import time_call, witness
from mnemoduck.llm.cache import LlmCache, Response
from mnemoduck.llm.keys import ALGORITHM, prompt_hash, prompt_key

RESULT = Path(__file__).with_name("result.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"
BATCH = 64


@click.group()
def main() -> None:
    """What the cache of answers costs."""


@main.command()
@click.option("--responses", default=1_000_000, show_default=True)
@click.option(
    "--rounds", default=7, show_default=True, help="Of each join; lookups are timed 40 times as often."
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/llm_cache"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(responses: int, rounds: int, folder: Path, out: Path) -> None:
    """Build a cache, measure it, and write the result as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "llm_cache.duckdb"
    result: dict[str, Any] = {"run": describe_run(), "responses": responses}
    started = time.perf_counter()
    connection = build_corpus(path, responses)
    click.echo(f"built in {time.perf_counter() - started:.0f} s")
    try:
        with LlmCache(connection) as cache:
            result["size"] = _measure_size(connection, path, responses)
            result["lookup"] = _measure_lookup(connection, 40 * rounds)
            result["joins"] = _measure_joins(connection, folder, rounds)
            result["verify_seconds"] = _seconds(lambda: _verify(cache, responses))
            result["steps"] = _measure_steps(connection, cache, rounds)
    finally:
        connection.close()
    path.unlink()
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    click.echo(f"done in {time.perf_counter() - started:.0f} s")


def _measure_size(connection: duckdb.DuckDBPyConnection, path: Path, responses: int) -> dict[str, Any]:
    row = connection.execute(
        "select avg(strlen(input)), avg(strlen(answer)), avg(strlen(response)) from llm_cache.responses"
    ).fetchone()
    assert row is not None
    return {
        "file_bytes_per_response": round(path.stat().st_size / responses, 1),
        "input_bytes": round(row[0], 1),
        "answer_bytes": round(row[1], 1),
        "response_bytes": round(row[2], 1),
    }


def _measure_lookup(connection: duckdb.DuckDBPyConnection, rounds: int) -> dict[str, Any]:
    """Time how one answer is found by its key, of another prompt each time."""
    keys = connection.execute(
        "select key from llm_cache.responses using sample 1000 rows (reservoir, 1)"
    ).fetchall()
    asked = [str(key) for (key,) in keys]
    sql = "select answer, error from llm_cache.responses where key = ?"
    turn = iter(range(10**9))

    def look_up() -> None:
        found = connection.execute(sql, [asked[next(turn) % len(asked)]]).fetchall()
        assert len(found) == 1

    timing = time_call(connection, look_up, rounds)
    read = witness(connection, sql.replace("?", f"'{asked[0]}'"))
    found = {**timing.as_dict(), "index_scans": read.index_scans, "sequential_scans": read.sequential_scans}
    click.echo(f"{found['ratio']:7.1f} x select 1  lookup by key, {read.index_scans} index scan")
    return {**found, "rows_scanned": read.rows_scanned}


def _measure_joins(connection: duckdb.DuckDBPyConnection, folder: Path, rounds: int) -> list[dict[str, Any]]:
    twins = folder / "twins.duckdb"
    make_twins(connection, twins)
    found = time_joins(connection, rounds)
    connection.execute("detach twins")
    twins.unlink()
    for one in found:
        click.echo(
            f"{one['ratio']:7.2f} x integer  {one['payload']}: {one['key']}, {one['median_ms']:.0f} ms"
        )
    return found


def _measure_steps(
    connection: duckdb.DuckDBPyConnection, cache: LlmCache, rounds: int
) -> list[dict[str, Any]]:
    """Time what a run does with the cache besides the join."""
    keys = [key for (key,) in connection.execute("select key from llm_cache.responses").fetchall()]
    now = datetime.now(UTC)
    spread = keys[:: max(1, len(keys) // 100_000)][:100_000]
    few = spread[:: max(1, len(spread) // 1000)][:1000]
    batches = iter([[_response(number * BATCH + i) for i in range(BATCH)] for number in range(20 * rounds)])
    steps: dict[str, tuple[Callable[[], object], int]] = {
        f"store {BATCH} responses": (lambda: cache.store_responses(next(batches)), 20 * rounds),
        "record uses of 1,000 keys": (lambda: cache.record_uses([(key, 1) for key in few], now), rounds),
        "record uses of 100,000 keys": (lambda: cache.record_uses([(key, 1) for key in spread], now), rounds),
        "stats": (cache.stats, rounds),
        "evict to half the size": (lambda: cache.evict(max_bytes=cache.stats().bytes // 2), 1),
    }
    found = []
    for name, (step, count) in steps.items():
        times = sorted(_seconds(step) * 1e3 for _ in range(count))
        entry = {
            "step": name,
            "median_ms": round(statistics.median(times), 2),
            "worst_ms": round(times[-1], 2),
            "rounds": count,
        }
        click.echo(f"{entry['median_ms']:10.1f} ms (worst {entry['worst_ms']:.1f})  {name}")
        found.append(entry)
    return found


def _verify(cache: LlmCache, responses: int) -> None:
    found = cache.verify()
    assert (found.responses, found.fault_count) == (responses, 0), found.faults[:3]
    click.echo(f"verified {found.responses:,} responses")


def _response(number: int) -> Response:
    text = f"user: a new memory, number {number}, of which nothing is known " + "and so on " * 50
    input_hash = prompt_hash([text])
    settings_hash: UUID = SETTINGS.settings_hash
    return replace(_TEMPLATE, key=prompt_key(settings_hash, input_hash), input=text, input_hash=input_hash)


_TEMPLATE = Response(
    key=UUID(int=0),
    algorithm=ALGORITHM,
    template=SETTINGS.template,
    template_version=SETTINGS.template_version,
    settings_hash=SETTINGS.settings_hash,
    instructions=SETTINGS.instructions,
    input_characters=SETTINGS.input_characters,
    input="",
    input_hash=UUID(int=0),
    model=SETTINGS.model,
    model_digest=SETTINGS.model_digest,
    options=SETTINGS.options,
    response_schema=SETTINGS.response_schema,
    response='{"summary":""}' * 20,
    answer='{"concepts":[],"entities":[],"facts":[],"summary":""}',
    error=None,
    prompt_tokens=150,
    answer_tokens=60,
    latency_ms=1000.0,
    created_at=datetime.now(UTC),
)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return round(time.perf_counter() - started, 4)


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page in docs/ from a result file."""
    page = "\n".join(make_page(json.loads(result.read_text("utf-8"))))
    (docs / "llm-cache-benchmark.md").write_text(page, "utf-8")


def make_page(found: dict[str, Any]) -> list[str]:
    """Return the lines of the page about a result."""
    machine, size, lookup = found["run"], found["size"], found["lookup"]
    return [
        "# The cache of answers, measured",
        "",
        f"{found['responses']:,} responses. An input has {size['input_bytes']:.0f} bytes on average,",
        f"an answer {size['answer_bytes']:.0f}, and so has the response as it came.",
        f"{machine['processors']} processors, DuckDB {machine['packages']['duckdb']}, "
        f"measured {machine['measured_at'][:10]}.",
        "",
        "## Finding one answer",
        "",
        f"By its key, through the same Python client as `select 1`: {lookup['ratio']:.1f} times `select 1` "
        f"({lookup['median_ms']:.2f} ms",
        f"against {lookup['select_1_ms']:.2f} ms; medians of {lookup['rounds']} rounds in turns). EXPLAIN "
        f"ANALYZE says: {lookup['index_scans']} index scan,",
        f"{lookup['sequential_scans']} sequential scans, {lookup['rows_scanned']:,} rows looked at.",
        "",
        "## Joining all prompts",
        "",
        f"{found['responses']:,} prompts with as many answers, by different kinds of keys: medians of rounds",
        "in turns, in multiples of the same join on a dense integer, for which DuckDB needs no hash table up",
        "to a million keys. A scattered integer is what any hash join has. The UUID is the cache itself, the",
        "others are tables of the same rows in the same order.",
        "",
        *table(
            ["what is read", "key", "ms", "x integer"],
            [
                [one["payload"], one["key"], f"{one['median_ms']:.0f}", f"{one['ratio']:.2f}"]
                for one in found["joins"]
            ],
        ),
        "",
        "## Everything else",
        "",
        *table(
            ["step", "median ms", "worst ms", "rounds"],
            [
                [one["step"], f"{one['median_ms']:,.1f}", f"{one['worst_ms']:,.1f}", str(one["rounds"])]
                for one in found["steps"]
            ],
        ),
        "",
        f"`mnemoduck cache verify` derives all keys anew in {found['verify_seconds']:.1f} s. The file takes "
        f"{size['file_bytes_per_response']:,.0f} bytes",
        "for a response, its index included.",
        "",
        "Made by `python -m benchmarks.llm_cache run` and `… report`.",
        "",
    ]


if __name__ == "__main__":
    main()
