"""Backups of real homes: restored ones are the same, go on the same, and those of earlier releases too."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mnemoduck.migrations.warehouse import SCHEMA_VERSION
from tests.fixtures.make_home import unpack
from tests.fixtures.warehouse_schema import PAGE, read_schema
from tests.integration.workbench import PROJECT, SAMPLE_STREAM, TABLES, Workbench, checksums

RELEASES = sorted((PROJECT / "tests" / "fixtures" / "homes").glob("*.tar.xz"))

WRITE = """
import itertools, os, sys, time
from mnemoduck import Memory

with Memory(sys.argv[1]) as memory:
    for number in itertools.count():
        memory.remember(f"note {number}", user_id="writer")
        print(number, flush=True)
        time.sleep(0.02)
"""


def back_up(bench: Workbench, target: Path, *options: str) -> dict[str, Any]:
    done = bench.mnemoduck_here("backup", str(target), "--json", *options)
    assert done.code == 0, done.out + done.err
    told: dict[str, Any] = json.loads(done.out)
    return told


def restore(target: Path, home: Path, *options: str) -> Workbench:
    bench = Workbench(home)
    done = bench.mnemoduck_here("restore", str(target), "--home", str(home), *options)
    assert done.code == 0, done.out + done.err
    return bench


def events_of(bench: Workbench) -> tuple[int, str]:
    """Return how many events are in raw/ of a home, and a checksum over all that they say."""
    files = [str(path) for path in (bench.home / "raw").rglob("*.parquet")]
    row = duckdb.execute(
        "select count(*), md5(string_agg(event_id || event_type || occurred_at || recorded_at || payload, "
        "' ' order by event_id)) from read_parquet($1, hive_partitioning = false)",
        [files],
    ).fetchone()
    assert row is not None
    return row


def answers_of(bench: Workbench) -> dict[str, tuple[int, str]]:
    """Return for each table of the cache of answers how many rows it has, and a checksum over them."""
    found = {}
    with duckdb.connect(str(bench.home / "llm_cache.duckdb"), read_only=True) as cache:
        for table in ("responses", "embeddings", "models", "runs", "failures"):
            row = cache.execute(
                f"select count(*), md5(coalesce(string_agg(line, ' ' order by line), '')) "
                f"from (select cast(one as varchar) as line from {table} as one)"
            ).fetchone()
            assert row is not None
            found[table] = row
    return found


LATER = "2027-01-01T00:00:00Z"
"""After the fixtures were made, whatever the clock of this machine says."""


def answers_to(bench: Workbench, question: str, as_of: str = LATER) -> list[tuple[Any, ...]]:
    done = bench.mnemoduck_here("recall", question, "--user", "maya", "--as-of", as_of, "--json")
    assert done.code == 0, done.out + done.err
    return [(one["memory_id"], one["content"]) for one in json.loads(done.out)]


def test_a_restored_home_has_the_same_events_answers_and_tables_and_recalls_the_same(
    sample: Workbench, tmp_path: Path
) -> None:
    done = sample.mnemoduck_here("remember", "The ferry leaves at eight.", "--user", "maya")
    assert done.code == 0, done.err
    told = back_up(sample, tmp_path / "target")
    assert (told["events"], told["waiting_events"]) == (294, 1)
    restored = restore(tmp_path / "target", tmp_path / "restored")
    assert checksums(restored.snapshot()) == checksums(sample.snapshot())
    assert checksums(restored.home / "warehouse.duckdb") == checksums(sample.snapshot())
    assert events_of(restored) == events_of(sample)
    assert answers_of(restored) == answers_of(sample)
    for question in ("when does the ferry leave", "flight to Lisbon"):
        assert answers_to(restored, question) == answers_to(sample, question) != []
    verdicts = json.loads(restored.mnemoduck_here("doctor", "--json").out)["verdicts"]
    assert [one for one in verdicts if one["status"] == "fail" and one["name"] != "versions"] == []
    verified = json.loads(sample.mnemoduck_here("backup", str(tmp_path / "target"), "--verify", "--json").out)
    assert verified["events_checksum"] == told["events_checksum"]
    assert sum(verified["tables"].values()) > 5000


@pytest.mark.long
def test_restored_homes_go_on_to_the_same_tables_with_and_without_what_was_built(
    sample: Workbench, tmp_path: Path
) -> None:
    more = tmp_path / "more.jsonl"
    lines = SAMPLE_STREAM.read_bytes().splitlines()[:20]
    more.write_bytes(
        b"".join(re.sub(rb'"event_id": ?"(.)', b'"event_id":"0', line) + b"\n" for line in lines)
    )
    done = sample.mnemoduck_here("ingest", str(more))
    assert done.code == 0, done.err
    whole = back_up(sample, tmp_path / "target")
    small = back_up(sample, tmp_path / "target", "--without-snapshot")
    assert small["new_bytes"] == 0
    restored = restore(tmp_path / "target", tmp_path / "one", "--generation", whole["generation"])
    rebuilt = restore(tmp_path / "target", tmp_path / "two", "--generation", small["generation"])
    for bench in (sample, restored, rebuilt):
        bench.build()
    expected = checksums(sample.snapshot(), with_bookkeeping=False)
    assert checksums(restored.snapshot(), with_bookkeeping=False) == expected
    assert checksums(rebuilt.snapshot(), with_bookkeeping=False) == expected
    assert events_of(restored) == events_of(rebuilt) == events_of(sample)
    later = back_up(sample, tmp_path / "target")
    assert later["new_bytes"] < whole["bytes"], "pieces that were there are not written again"


@pytest.mark.long
def test_backups_beside_a_run_and_a_writer_have_all_that_was_acknowledged_once(
    sample: Workbench, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    writer = sample.start_python(WRITE, str(sample.home))
    run = sample.start("mnemoduck", "run")
    assert writer.stdout is not None
    backups: list[tuple[int, str]] = []
    try:
        while run.poll() is None or len(backups) < 2:
            known = int(writer.stdout.readline())
            backups.append((known, back_up(sample, target)["generation"]))
    finally:
        writer.kill()
        writer.communicate()
        out, err = run.communicate()
    assert run.returncode == 0, out + err
    for number, (known, generation) in enumerate({backups[0], backups[len(backups) // 2], backups[-1]}):
        restored = restore(target, tmp_path / f"restored-{number}", "--generation", generation)
        texts: list[str] = []
        for path in (restored.home / "inbox").glob("*.jsonl"):
            texts += [json.loads(line)["payload"]["content"] for line in path.read_text().splitlines()]
        files = [str(path) for path in (restored.home / "raw").rglob("*.parquet")]
        texts += [
            content
            for (content,) in duckdb.execute(
                "select payload ->> 'content' from read_parquet($1, hive_partitioning = false) "
                "where user_id = 'writer'",
                [files],
            ).fetchall()
        ]
        found = Counter(int(text.split()[1]) for text in texts if text.startswith("note "))
        assert set(found.values()) <= {1}
        assert set(range(known + 1)) <= set(found)
        assert len(answers_of(restored)) == 5
        done = restored.mnemoduck_here("status")
        assert done.code == 0, done.err


def unpacked(release: Path, home: Path) -> Workbench:
    unpack(release, home)
    return Workbench(home)


def test_there_is_a_home_of_each_release() -> None:
    assert [path.name for path in RELEASES] == ["0.1.0.tar.xz"]


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_a_home_of_an_earlier_release_is_upgraded_read_and_backed_up(release: Path, tmp_path: Path) -> None:
    bench = unpacked(release, tmp_path / "home")
    done = bench.mnemoduck_here("upgrade")
    assert done.code == 0, done.out + done.err
    found = answers_to(bench, "when does the ferry to Almada leave")
    assert any("Almada" in content for _, content in found), "what waited is recalled"
    assert answers_to(bench, "when is the flight to Lisbon") != []
    assert answers_of(bench)["responses"][0] > 0
    told = back_up(bench, tmp_path / "target")
    assert (told["events"], told["waiting_events"]) == (294, 2)
    restored = restore(tmp_path / "target", tmp_path / "restored")
    assert checksums(restored.snapshot()) == checksums(bench.snapshot())


@pytest.mark.long
@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_a_home_of_an_earlier_release_goes_on_to_what_a_fresh_build_of_its_events_is(
    release: Path, tmp_path: Path
) -> None:
    upgraded, fresh = (unpacked(release, tmp_path / name) for name in ("upgraded", "fresh"))
    (fresh.home / "warehouse.duckdb").unlink()
    for path in (fresh.home / "published").iterdir():
        path.unlink()
    for bench in (upgraded, fresh):
        done = bench.mnemoduck_here("upgrade")
        assert done.code == 0, done.out + done.err
        done = bench.mnemoduck("run", "--llm", "cached", "--embeddings", "auto")
        assert done.code == 0, done.out + done.err
        assert "Loaded 2 events (2 memories), 0 lines quarantined." in done.out
    expected = checksums(fresh.snapshot(), with_bookkeeping=False)
    assert checksums(upgraded.snapshot(), with_bookkeeping=False) == expected
    assert expected["staging.stg_memories"][0] == 258
    assert expected["retrieval.memory_embeddings"][0] > 0
    assert set(expected) == set(TABLES)
    assert answers_of(upgraded)["responses"][0] == answers_of(fresh)["responses"][0] > 0


def say_schema(bench: Workbench, version: int) -> None:
    for path in (bench.home / "warehouse.duckdb", bench.snapshot()):
        with duckdb.connect(str(path)) as connection:
            connection.execute("update meta.schema_version set version = $1", [version])


@pytest.mark.long
def test_what_another_release_built_is_built_anew_by_a_run_and_not_mixed_by_dbt(
    sample: Workbench, project_copy: Callable[[], Path]
) -> None:
    before = checksums(sample.snapshot(), with_bookkeeping=False)
    say_schema(sample, SCHEMA_VERSION + 1)
    done = sample.mnemoduck("run")
    assert (done.code, "built by a later mnemoduck" in done.err) == (1, True), done.err
    done = sample.dbt("build")
    assert done.code != 0
    assert "built by a later mnemoduck" in done.out
    say_schema(sample, SCHEMA_VERSION - 1)
    done = sample.mnemoduck_here("recall", "anything")
    assert (done.code, "built by an earlier release" in done.err) == (1, True), done.err
    done = sample.dbt("build")
    assert done.code != 0
    assert "Build everything anew with --full-refresh" in done.out
    done = sample.mnemoduck("run", "--rhythm", "continuous")
    assert done.code == 0, done.out + done.err
    assert "so everything is built anew from raw/" in done.out
    assert sample.query("select max(version) from meta.schema_version") == [(SCHEMA_VERSION,)]
    assert checksums(sample.snapshot(), with_bookkeeping=False) == before
    done = sample.mnemoduck("run")
    assert (done.code, "built anew" in done.out) == (0, False), done.out


def test_tables_are_those_of_the_schema_version_that_they_say(read_only_sample: Workbench) -> None:
    known = json.loads(PAGE.read_text())
    assert read_only_sample.query("select max(version) from meta.schema_version") == [(SCHEMA_VERSION,)]
    assert (known["schema_version"], known["tables"]) == (
        SCHEMA_VERSION,
        read_schema(read_only_sample.snapshot()),
    ), (
        "Tables that are kept over runs have other columns than this schema version. If incremental builds "
        "follow, as with a column that may be empty in rows that are there, write the page anew: python -m "
        "tests.fixtures.warehouse_schema SNAPSHOT. If not, raise SCHEMA_VERSION in "
        "src/mnemoduck/migrations/warehouse.py first."
    )
