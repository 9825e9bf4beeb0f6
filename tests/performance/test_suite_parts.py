"""Parts of the performance suite: what they count is what is there, and what they say follows from it.

Nothing is held to seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from benchmarks.stream import generate
from benchmarks.suite import handling, seed_rows
from benchmarks.suite.hot import WrongAnswerError
from benchmarks.suite.load import Times, describe
from benchmarks.suite.parts import claims, concurrency, storage
from benchmarks.suite.seed_rows import (
    SETTINGS,
    THREADS,
    TOP_BY_ACTIVATION,
    SeedQuery,
    make_seed_rows,
    seed_queries,
    time_worst_of_threads,
)
from benchmarks.suite.work import Work
from benchmarks.vectors.drawn import topics

from mnemoduck.home import Home, open_home

ROWS = 4_000


@pytest.fixture(scope="module")
def seed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seed")
    path = folder / "seed.duckdb"
    make_seed_rows(generate(ROWS, folder / "stream", 1), path, 1, ROWS)
    return path


def test_the_seed_s_queries_return_what_was_counted_without_them(seed_file: Path) -> None:
    queries = seed_queries(seed_file)
    with duckdb.connect(str(seed_file), read_only=True, config=SETTINGS) as connection:
        for query in queries.values():
            query.ask(connection)
        (held,) = connection.execute(
            "select count(*) = 4000 and min(last_accessed_at - created_at) >= interval 0 seconds "
            "and bool_and(len(concepts) <= 4) and max(last_accessed_at) <= timestamp '2026-01-01' "
            "from memories"
        ).fetchone() or (False,)
        assert held
        wrong = SeedQuery(queries[TOP_BY_ACTIVATION].sql.replace("limit 7", "limit 6"), 7)
        with pytest.raises(RuntimeError, match="6 rows of None memories, not 7"):
            wrong.ask(connection)


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(tmp_path: Path) -> None:
    stream = generate(200, tmp_path / "stream", 1)
    rows = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.duckdb"
        make_seed_rows(stream, path, seed, 200)
        with duckdb.connect(str(path), read_only=True) as connection:
            rows.append(connection.execute("from memories order by memory_id").fetchall())
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]
    with pytest.raises(RuntimeError, match="rows were written, not 300"):
        make_seed_rows(stream, tmp_path / "d.duckdb", 1, 300)


def test_of_threads_that_begin_at_once_the_slowest_counts(seed_file: Path) -> None:
    with duckdb.connect(str(seed_file), read_only=True) as connection:
        asked = list(seed_queries(seed_file).values())
        timing = time_worst_of_threads(connection, asked, 3)
        assert timing.rounds == 3
        assert timing.ratio == pytest.approx(timing.median_ms / timing.select_1_ms)
        with pytest.raises(duckdb.CatalogException):
            time_worst_of_threads(connection, [SeedQuery("from nothing", 1)], 1)
    assert THREADS == 8


def test_each_query_of_the_seed_has_a_claim_and_each_claim_says_what_it_rests_on(seed_file: Path) -> None:
    assert set(seed_queries(seed_file)) <= set(claims.CLAIMS)
    assert all(claim.ms > 0 and claim.rests_on for claim in claims.CLAIMS.values())


def test_what_is_stored_through_mnemoduck_is_there_afterwards(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    work = Work("10k", 10_000, tmp_path, rounds=20)
    claims._measure_storing(work, found.__setitem__)
    assert {name: timing["rows"] for name, timing in found.items()} == {
        claims.STORE: 1,
        claims.STORE_DURABLE: 1,
        claims.STORE_BATCH: 100,
    }


def _timing(median: float, p95: float) -> dict[str, Any]:
    return {"median_ms": median, "p95_ms": p95, "ratio": median / 0.2, "select_1_ms": 0.2, "rows": 7}


def test_the_table_of_claims_says_which_are_missed_and_by_how_much() -> None:
    def found(top: float) -> dict[str, Any]:
        return {
            "memories": 10_000,
            "claims": {
                TOP_BY_ACTIVATION: _timing(top, top),
                claims.RETRIEVE: _timing(1.0, 9.0),
                claims.STORE_DURABLE: _timing(99.0, 99.0),
            },
            "first_recall_ms": 80.0,
            "vectors": 10_000,
        }

    page = "\n".join(claims.report({"10k": found(0.5), "1m": {**found(1.24), "memories": 1_000_000}}))
    assert (
        "| top 7 by activation | 0.62 ms | 0.50 ms, 0.50 ms, 2.5 x | 1.24 ms, 1.24 ms, 6.2 x | no |" in page
    )
    assert (
        "| retrieve by key | 5 ms | 1.00 ms, 9.00 ms, 5.0 x | 1.00 ms, 9.00 ms, 5.0 x | median only |" in page
    )
    assert "| store single, durable |  | 99.00 ms" in page, "nothing was claimed of it"
    (missed,) = [line for line in page.splitlines() if line.startswith("- ")]
    assert missed.startswith(
        "- top 7 by activation at 1,000,000 memories (1.24 ms, 2.0 times the claim): texts and lists"
    )
    assert "All are met by the median." in "\n".join(claims.report({"10k": found(0.5)}))
    assert claims.ratios(found(0.5)) == {TOP_BY_ACTIVATION: 2.5, claims.RETRIEVE: 5.0}


def test_each_block_of_a_file_counts_for_the_models_that_lie_in_it(tmp_path: Path) -> None:
    path = tmp_path / "home.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            """
            create schema told__months;
            create table told__months.catalog (month date);
            create table told__months.access as select i from range(1000) as numbers (i);
            create table told__months.m2025_12 as select hash(i) as h from range(200000) as numbers (i);
            create table told__months.m2026_01 as select hash(i) as h from range(100000) as numbers (i);
            create table other as select hash(i) as h from range(100000) as numbers (i);
            create index other_h on other (h);
            """
        )
    found = storage.measure_tables(path)
    assert found["tables"]["told"]["rows"] == 300_000, "what repeats them is not counted"
    assert found["tables"]["main.other"]["rows"] == 100_000
    told, other = (found["tables"][name]["bytes"] for name in ("told", "main.other"))
    assert 2 < told / other < 4
    assert found["indexes"] == 1
    assert found["other_bytes"] > 100_000 * 8, "the index has at least its keys"
    counted = told + other + found["free_bytes"] + found["other_bytes"]
    assert found["file_bytes"] - counted == pytest.approx(3 * 4096), "the header of the file"


def test_lines_of_memories_are_told_from_the_others(tmp_path: Path) -> None:
    stream = generate(300, tmp_path / "stream", 1)
    segments = [path for paths in stream.segments.values() for path in paths]
    found = storage._count_lines(segments)
    assert found["bytes"] == sum(path.stat().st_size for path in segments)
    assert 0 < found["memory_gzip_bytes"] < found["gzip_bytes"] < found["memory_bytes"] < found["bytes"]


def test_a_home_of_other_memories_than_the_stream_is_not_compared_with_it(tmp_path: Path) -> None:
    work = Work("10k", 300, tmp_path)
    counts = work.stream.memory_counts
    assert len(storage._segments(work, counts["base"])) == 1
    assert len(storage._segments(work, sum(counts.values()))) == 3
    with pytest.raises(RuntimeError, match="301 memories"):
        storage._segments(work, 301)


def test_fewer_bits_find_fewer_of_the_nearest_and_take_less(tmp_path: Path) -> None:
    found = storage.measure_vectors(600, tmp_path / "vectors", 5)
    assert found["one bit"]["bytes"] < found["int8"]["bytes"] < 600 * 384 * 4
    assert 0.2 < found["one bit"]["recall_at_10"] <= found["int8"]["recall_at_10"] <= 1
    vectors, asked = topics(600, 5)
    scores = vectors @ asked.T
    best = [set(np.argsort(-scores[:, place])[:10].tolist()) for place in range(5)]
    assert storage._nearest(scores) == best


def test_the_page_of_sizes_says_where_the_goal_is_missed() -> None:
    form = {"bytes": 100, "of_bytes": 400, "memories": 1}
    names = [
        *(storage.TEXT, storage.TEXT_ZSTD, storage.TEXT_GZIP, storage.LINES_GZIP, storage.FIELDS),
        *(storage.BUILT, storage.RAW, storage.WAREHOUSE, storage.HOME),
    ]
    forms: dict[str, Any] = dict.fromkeys(names, form)
    forms[storage.WAREHOUSE] = {**form, "bytes": 1_000}
    found = {
        "memories": 10_000,
        "forms": forms,
        "tables": {"told": {"rows": 5, "bytes": 300}},
        "file_bytes": 900,
        "free_bytes": 100,
        "other_bytes": 500,
        "indexes": 2,
        "vectors": {
            "vectors": 1_000,
            "dimension": 384,
            "int8": {"bytes": 400_000, "recall_at_10": 0.99},
            "one bit": {"bytes": 52_000, "recall_at_10": 0.7},
        },
    }
    page = "\n".join(storage.report({"10k": found}))
    assert f"| {storage.TEXT} | 100 of 400, 75% smaller |" in page
    assert f"| {storage.WAREHOUSE} | 1,000 of 400, 2.5 x as large |" in page
    assert f"- {storage.RAW}: met at 10,000 memories." in page
    assert f"- {storage.WAREHOUSE}: missed at 10,000 memories." in page
    assert "| `told` | 300 (5 rows) |" in page
    assert "| int8 | 400, 0.990 |" in page
    assert storage.ratios(found)[storage.WAREHOUSE] == 2.5


def test_the_month_of_the_claims_is_the_last_of_the_stream(seed_file: Path) -> None:
    with duckdb.connect(str(seed_file), read_only=True) as connection:
        row = connection.execute("select strftime(max(created_at), '%Y-%m-01') from memories").fetchone()
    assert row == (seed_rows.MONTH[0],)


@pytest.fixture
def published(tmp_path: Path) -> Home:
    """A home that has published a hundred memories of two months, and nothing else."""
    home = open_home(tmp_path / "home")
    path = home.published / "1-1.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            """
            create schema short_term_memories__months;
            use short_term_memories__months;
            create table settings as
            select '{"unique_key": ["memory_id"], "time": "occurred_at"}' as settings;
            """
        )
        for month in ("2025_12", "2026_01"):
            connection.execute(
                f"""
                create table m{month} as
                select
                    md5('{month}' || i)::uuid as memory_id, 'episodic' as memory_type, 0.5 as importance,
                    strptime('{month}', '%Y_%m') + to_hours(i) as occurred_at
                from range(50) as numbers (i)
                """
            )
        connection.execute(
            """
            create table catalog as
            select
                strptime(right(table_name, 7), '%Y_%m')::date as month, 'hot' as state, 50 as row_count,
                0 as tail_rows, null::varchar as archive_file, null::bigint as archive_bytes
            from duckdb_tables() where table_name like 'm20%';
            create view main.short_term_memories as
            from short_term_memories__months.m2025_12 union all from short_term_memories__months.m2026_01;
            """
        )
    home.current.write_text(path.name + "\n")
    return home


def test_each_way_to_give_connections_is_asked_the_same_and_finds_what_is_there(published: Home) -> None:
    found = handling.compare_handling(published, threads=2, calls=5)
    assert list(found) == [
        handling.KEPT,
        *("a pool of 1", "a pool of 2"),
        *(handling.FRESH_CURSOR, handling.FRESH_CONNECTION),
    ]
    for name, load in found.items():
        assert load["calls"] == 10
        assert load["errors"] == 0 or name == handling.FRESH_CONNECTION
    by_setting = handling.compare_duckdb_threads(published, (1, 2), threads=1, calls=5)
    assert {setting: load["errors"] for setting, load in by_setting.items()} == {"1": 0, "2": 0}


def test_what_a_way_does_not_find_is_an_error(published: Home) -> None:
    statements = handling.Statements(published)
    statement, expected = statements._asked[0]
    statements._asked = [(statement, expected + 1)]
    with handling._attached(statements.path) as base, pytest.raises(WrongAnswerError, match="1 rows, not 2"):
        statements.calls(handling.Kept(base))(0)


def _load(errors: int = 0) -> dict[str, Any]:
    return {
        **describe(Times([2.0, 4.0, 9.0], errors, "it broke", 0.5), Times([1.0], seconds=1.0)),
        "threads": 8,
    }


def test_errors_of_readers_are_no_result_and_of_other_ways_they_are_shown() -> None:
    found: dict[str, Any] = {
        "memories": 10_000,
        "threads": {"8": _load()},
        "processes": _load(),
        "handling": {"8": {handling.KEPT: _load(), handling.FRESH_CONNECTION: _load(errors=3)}},
        "duckdb_threads": {"8": {"1": _load()}},
        "connections": {"recall": {"open": 9, "in_use": 0, "most_in_use": 5, "made": 12, "waits": 1_234}},
    }
    concurrency._check(found)
    page = "\n".join(concurrency.report({"10k": found}))
    assert "| 10,000 | 8 threads | 4.0 ms | 4.0 | 8.5 ms | 8.9 ms | 9.0 ms | 6 | 0 |" in page
    assert "| 10,000 | recall | 9 | 5 | 12 | 1,234 |" in page
    assert f"| 10,000 | {handling.FRESH_CONNECTION} | 6; 4.0, 8.9; 3 errors |" in page
    assert concurrency.ratios(found)["8 threads, throughput"] == pytest.approx(1 / 6, abs=1e-3)
    with pytest.raises(RuntimeError, match="it broke"):
        concurrency._check({**found, "threads": {"8": _load(errors=1)}})
