"""`python -m benchmarks.vectors run` measures, `… report` makes docs/vectors-benchmark.md of it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import click
import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.machine import describe_run
from benchmarks.page import table
from benchmarks.vectors.drawn import Vectors, topics, unit_vectors
from mnemoduck.project import find_project, render

RESULT = Path(__file__).with_name("result.json")
BITS = Path(__file__).with_name("bits.json")
DOCS = Path(__file__).resolve().parents[2] / "docs"
MEMORIES_OF_A_USER = 1000
NEAREST = 10
ROUNDS_BY_BITS = 4
"""How often each question is asked: only the fastest answers are of the search alone."""

TYPES = ("float[]", "float[n]")
COMPRESSIONS = {"as DuckDB compresses": "", "ALPRD disabled": "ALPRD"}
SCOPES = {"all": "", "one user": "where user_id = 7 % (select max(user_id) + 1 from vectors)"}
ORDERS = {
    "list_cosine_similarity": "list_cosine_similarity(vector, $query::float[])",
    "list_inner_product": "list_inner_product(vector, $query::float[])",
    "array_cosine_similarity": "array_cosine_similarity(vector::float[{n}], $query::float[{n}])",
    "array_inner_product": "array_inner_product(vector::float[{n}], $query::float[{n}])",
}
NUMBERS = {
    "logarithms, as of associations": "ln(1 + hash(i) % 1000 / 7)",
    "shares with two decimals, as importance": "round(hash(i) % 101 / 100, 2)",
    "numbers at random": "hash(i) / 18446744073709551616.0",
}


@click.group()
def main() -> None:
    """The nearest ten vectors of all and of one user's, and what else the setting changes."""


@main.command()
@click.option("--rows", default=100_000, show_default=True, help="Vectors; 1,000 for each user.")
@click.option("--dimension", default=384, show_default=True)
@click.option("--rounds", default=25, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/vectors"))
@click.option("--out", type=click.Path(path_type=Path), default=RESULT, show_default=True)
def run(rows: int, dimension: int, rounds: int, folder: Path, out: Path) -> None:
    """Store the vectors in each way, time each way to search them, and write the result as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = unit_vectors(rows, dimension, np.random.default_rng(1))
    result: dict[str, Any] = {
        "run": describe_run(),
        "rows": rows,
        "dimension": dimension,
        "layouts": [],
        "scans": [],
        "doubles": [],
    }
    with ExitStack() as opened:
        searches: list[tuple[dict[str, str], duckdb.DuckDBPyConnection, str]] = []
        for number, (vector_type, (compression, disabled)) in enumerate(product(TYPES, COMPRESSIONS.items())):
            path = folder / f"vectors_{number}.duckdb"
            layout = {"type": vector_type, "compression": compression}
            result["layouts"].append(layout | _store(path, vectors, vector_type, dimension, disabled))
            connection = opened.enter_context(duckdb.connect(str(path), read_only=True))
            for (scope, where), (order, expression) in product(SCOPES.items(), ORDERS.items()):
                expression = expression.format(n=dimension)
                sql = f"select memory_id from vectors {where} order by {expression} desc limit {NEAREST}"
                searches.append((layout | {"scope": scope, "order": order}, connection, sql))
        result["scans"] = _time_in_turns(searches, vectors[7 % rows].tolist(), rounds)
    for content, expression in NUMBERS.items():
        sizes = {
            name: _bytes_of_doubles(folder / "doubles.duckdb", expression, 10 * rows, disabled)
            for name, disabled in COMPRESSIONS.items()
        }
        result["doubles"].append({"content": content, "rows": 10 * rows, "bytes": sizes})
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


@main.command()
@click.option(
    "--rows", default=[20_000, 100_000], show_default=True, multiple=True, help="Vectors of one user."
)
@click.option(
    "--real", type=click.Path(path_type=Path, exists=True), help="An .npz of `vectors`, `questions`."
)
@click.option("--candidates", default=[100, 200, 400, 800], show_default=True, multiple=True)
@click.option("--questions", default=40, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("target/benchmarks/vectors"))
@click.option("--out", type=click.Path(path_type=Path), default=BITS, show_default=True)
def bits(
    rows: Sequence[int], real: Path | None, candidates: Sequence[int], questions: int, folder: Path, out: Path
) -> None:
    """Search one large scope exactly and by bits: how many of the ten nearest are found, and how fast."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [("in topics", *topics(count, questions)) for count in rows]
    if real is not None:
        file = np.load(real)
        picked = np.random.default_rng(1).permutation(len(file["questions"]))[:questions]
        made.insert(0, ("MiniLM's, of conversations", file["vectors"], file["questions"][picked]))
    searches = []
    for content, vectors, asked in made:
        path = folder / "bits.duckdb"
        _store_with_bits(path, vectors)
        with duckdb.connect(str(path), read_only=True) as connection:
            connection.execute("set threads = 1")
            searches.append(
                {
                    "content": content,
                    "rows": len(vectors),
                    "questions": len(asked),
                    **_compare(connection, asked.tolist(), candidates),
                }
            )
    out.write_text(json.dumps({"run": describe_run(), "searches": searches}, indent=1) + "\n", "utf-8")


@main.command()
@click.option("--result", type=click.Path(path_type=Path, exists=True), default=RESULT, show_default=True)
@click.option("--docs", type=click.Path(path_type=Path, exists=True), default=DOCS, show_default=True)
def report(result: Path, docs: Path) -> None:
    """Make the page in docs/ from a result file."""
    found = json.loads(result.read_text("utf-8"))
    machine = found["run"]
    lines = [
        "# Vectors, measured",
        "",
        f"{found['rows']:,} vectors of {found['dimension']} floats and of length 1, clustered by user, "
        f"{MEMORIES_OF_A_USER:,} for each;",
        f"the {NEAREST} nearest to a query, exactly, from files opened read-only. The fastest of many",
        f"rounds, in milliseconds; `n` is the dimension. {machine['processors']} processors, "
        f"DuckDB {machine['packages']['duckdb']},",
        f"measured {machine['measured_at'][:10]}. Why they are stored as they are: "
        "[the decision](decisions/0014-vectors.md).",
        "",
        "## What is stored",
        "",
        *table(
            ["type", "setting", "compression", "MB"],
            [
                [one["type"], one["compression"], ", ".join(one["found"]), f"{one['bytes'] / 1e6:.0f}"]
                for one in found["layouts"]
            ],
        ),
        "",
        "## Searches",
        "",
        *table(
            ["searched", "order by", *(f"{t}, {c}" for t, c in product(TYPES, COMPRESSIONS))],
            [
                [scope, order, *_times(found["scans"], scope, order)]
                for scope, order in product(SCOPES, ORDERS)
            ],
        ),
        "",
        "`list_…` of a `float[n]` and `array_…` of a `float[]` include the cast, which is where they differ.",
        "",
        "## What the setting costs columns of doubles",
        "",
        *table(
            ["content", *(f"{name}, MB" for name in COMPRESSIONS)],
            [
                [one["content"], *(f"{one['bytes'][name] / 1e6:.1f}" for name in COMPRESSIONS)]
                for one in found["doubles"]
            ],
        ),
        "",
        *_bits_section(),
        "Made by `python -m benchmarks.vectors run`, `… bits` and `… report`.",
        "",
    ]
    (docs / "vectors-benchmark.md").write_text("\n".join(lines), "utf-8")


def _store_with_bits(path: Path, vectors: Vectors) -> None:
    """Store vectors and their signs as memory_embeddings has them, and documents of one user."""
    arrays = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    given = pa.table({"number": np.arange(len(vectors)), "v": arrays})
    with _connect(path, "ALPRD") as connection:
        connection.register("given", given)
        connection.execute(
            f"""
            create table vectors as
            select
                md5(number::varchar)::uuid as memory_id,
                v::float[] as vector,
                {render(find_project(), "sign_bits", "v::float[]")} as sign_bits
            from given order by number
            """
        )
        connection.execute(
            """
            create table documents as
            select
                memory_id, hash(memory_id) as memory_key, 'u' as user_id, null::varchar as agent_id,
                memory_id as content_hash, null::varchar as role, timestamp '2026-01-01' as occurred_at
            from vectors
            """
        )
        connection.execute("force checkpoint")


def _compare(
    connection: duckdb.DuckDBPyConnection, asked: list[list[float]], candidates: Sequence[int]
) -> dict[str, Any]:
    """Return times and, of the ten nearest, the share that is found by bits; searches take turns."""
    ways = {"exact": _search_sql(200, by_bits=False)}
    ways |= {str(count): _search_sql(count, by_bits=True) for count in candidates}
    times: dict[str, list[float]] = {way: [] for way in ways}
    shares: dict[str, list[float]] = {way: [] for way in ways}
    for query in ROUNDS_BY_BITS * asked:
        nearest: set[Any] = set()
        for way, sql in ways.items():
            started = time.perf_counter()
            found = {row[0] for row in connection.execute(sql, {"query": query}).fetchall()}
            times[way].append((time.perf_counter() - started) * 1e3)
            nearest = nearest or found
            shares[way].append(len(found & nearest) / NEAREST)
    return {
        "fastest_ms": {way: round(min(taken), 3) for way, taken in times.items()},
        "recall_at_10": {way: round(statistics.mean(found), 4) for way, found in shares.items()},
    }


def _search_sql(candidates: int, *, by_bits: bool) -> str:
    project = find_project()
    sql = render(
        project,
        "similar_memories",
        "vectors",
        "documents",
        "(select 0::ubigint as memory_key where false)",
        "[]::varchar[]",
        "$query::float[]",
        render(project, "sign_bits", "$query::float[]") if by_bits else "",
        "[]::uuid[]",
        candidates,
    )
    return f"select memory_id from ({sql}) limit {NEAREST}"


def _bits_section() -> list[str]:
    found = json.loads(BITS.read_text("utf-8"))
    ways = list(found["searches"][0]["fastest_ms"])
    return [
        "## One large scope: exactly, and by bits first",
        "",
        "The ten nearest as recall finds them, on one thread: exactly, and by the signs",
        "of the numbers first, with the vectors of so many candidates compared after that. The time as a",
        "multiple of that of the exact search (the fastest of each, asked in turns), and the share of the",
        f"ten that is found; measured {found['run']['measured_at'][:10]}.",
        "",
        *table(
            ["vectors", "number", *(way if way == "exact" else f"{way} candidates" for way in ways)],
            [
                [
                    one["content"],
                    f"{one['rows']:,}",
                    *(
                        f"{one['fastest_ms'][way] / one['fastest_ms']['exact']:.2f}, "
                        f"{one['recall_at_10'][way]:.3f}"
                        for way in ways
                    ),
                ]
                for one in found["searches"]
            ],
        ),
        "",
    ]


def _connect(path: Path, disabled: str) -> duckdb.DuckDBPyConnection:
    """Open a new file with the setting of profiles.yml, or without it."""
    path.unlink(missing_ok=True)
    connection = duckdb.connect(str(path))
    if disabled:
        connection.execute(f"set disabled_compression_methods = '{disabled}'")
    return connection


def _store(
    path: Path,
    vectors: Vectors,
    vector_type: str,
    dimension: int,
    disabled: str,
) -> dict[str, Any]:
    rows = len(vectors)
    arrays = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension)
    ids = np.arange(rows)
    given = pa.table({"memory_id": ids, "user_id": ids // MEMORIES_OF_A_USER, "v": arrays})
    with _connect(path, disabled) as connection:
        connection.register("given", given)
        connection.execute(
            "create table vectors as "
            f"select memory_id, user_id, v::{vector_type.replace('n', str(dimension))} as vector "
            "from given order by user_id"
        )
        connection.execute("force checkpoint")
        found = connection.execute(
            "select distinct compression from pragma_storage_info('vectors') "
            "where column_name = 'vector' and segment_type = 'FLOAT' order by 1"
        ).fetchall()
    return {"found": [row[0] for row in found], "bytes": path.stat().st_size}


def _time_in_turns(
    searches: list[tuple[dict[str, str], duckdb.DuckDBPyConnection, str]], query: list[float], rounds: int
) -> list[dict[str, Any]]:
    """Return the searches with their times; each round asks all of them, so a slow moment hits all.

    The fastest one is what counts: what else the machine does only ever adds.
    """
    times: list[list[float]] = [[] for _ in searches]
    for round_number in range(-1, rounds):
        for place, (_, connection, sql) in enumerate(searches):
            started = time.perf_counter()
            connection.execute(sql, {"query": query}).fetchall()
            if round_number >= 0:
                times[place].append((time.perf_counter() - started) * 1e3)
    return [
        {**search, "fastest_ms": round(min(taken), 4), "median_ms": round(statistics.median(taken), 4)}
        for (search, _, _), taken in zip(searches, times, strict=True)
    ]


def _bytes_of_doubles(path: Path, expression: str, rows: int, disabled: str) -> int:
    with _connect(path, disabled) as connection:
        connection.execute(
            f"create table numbers as select ({expression})::double as number from range({rows}) as t(i)"
        )
        connection.execute("force checkpoint")
    return path.stat().st_size


def _times(scans: list[dict[str, Any]], scope: str, order: str) -> list[str]:
    times = {
        (one["type"], one["compression"]): one
        for one in scans
        if (one["scope"], one["order"]) == (scope, order)
    }
    return [f"{times[layout]['fastest_ms']:.1f}" for layout in product(TYPES, COMPRESSIONS)]


main()
