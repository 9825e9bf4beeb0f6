"""Rhythms: what a run builds, what lags meanwhile, and that it catches up exactly."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mnemoduck.events import new_event
from tests.integration.workbench import SAMPLE_STREAM, Workbench, checksums

END = "2026-03-15T18:30:00Z"
LONG_TERM = "select count(*), md5(string_agg(consolidated_id::varchar, ',')) from consolidated_memories"


def times(hour: int, minute: int) -> dict[str, Any]:
    """Return when something happened, and was heard of, on the last day of the sample stream."""
    moment = datetime(2026, 3, 15, hour, minute, tzinfo=UTC)
    return {"occurred_at": moment, "recorded_at": moment}


def ingest(bench: Workbench, name: str, lines: list[str]) -> None:
    file = bench.home.parent / f"{name}.jsonl"
    file.write_text("".join(lines), "utf-8")
    done = bench.mnemoduck_here("ingest", str(file))
    assert done.code == 0, done.err


def test_what_is_forgotten_between_two_nights_is_not_shown_and_what_arrives_is_found_and_catches_up(
    sample: Workbench,
) -> None:
    strongest = json.loads(sample.mnemoduck_here("long-term", "--json", "--as-of", END).out)[0]
    whose: dict[str, Any] = {name: strongest[name] for name in ("user_id", "agent_id")}
    events = [
        new_event("forget", {"memory_ids": strongest["memory_ids"]}, **whose, **times(18, 0)),
        new_event("memory", {"content": "The ferry to Barreiro leaves at six."}, **whose, **times(18, 29)),
    ]
    new_id = str(events[1].event_id)
    ingest(sample, "arrived", [event.to_line().decode() for event in events])
    nightly = sample.query(LONG_TERM)
    # A snapshot that has loaded what its models have not seen would take it from readers.
    done = sample.dbt("build", "--select", "raw_batches")
    assert "mnemoduck not published" in done.out, done.out
    assert new_id in sample.mnemoduck_here("recall", "ferry Barreiro", "--json", "--no-record").out
    done = sample.dbt("build", "--selector", "continuous")
    assert "mnemoduck published" in done.out, done.out

    # Of the night before, but for what was forgotten.
    assert sample.query(LONG_TERM) == nightly
    left = json.loads(sample.mnemoduck_here("long-term", "--json", "--limit", "1000", "--as-of", END).out)
    assert len(left) > 100
    assert strongest["consolidated_id"] not in [row["consolidated_id"] for row in left]
    assert sample.query(
        f"select fate_reason from consolidated_as_of('{END}') "
        f"where consolidated_id = '{strongest['consolidated_id']}'"
    ) == [("All of it was ordered forgotten.",)]
    assert sample.mnemoduck_here("show", strongest["memory_ids"][0]).code != 0
    # The inbox is empty: all that there is of the new memory is in the snapshot, once.
    assert not list((sample.home / "inbox").glob("*.*"))
    found = json.loads(sample.mnemoduck_here("recall", "ferry Barreiro", "--json", "--no-record").out)
    assert [row["memory_id"] for row in found].count(new_id) == 1
    mind = json.loads(
        sample.mnemoduck_here("working-memory", "--user", whose["user_id"], "--json", "--as-of", END).out
    )
    assert [slot["memory_id"] for slot in mind].count(new_id) == 1

    # Nothing arrives before the night, and yet there is something to publish.
    done = sample.dbt("build", "--selector", "nightly")
    assert "mnemoduck published" in done.out, done.out
    assert sample.query(f"select count(*) from consolidated_memories where memory_ids = ['{new_id}']") == [
        (1,)
    ]


@pytest.mark.long
def test_continuous_runs_and_then_a_night_build_what_one_build_would(
    bench: Workbench, built_home: Path
) -> None:
    lines = SAMPLE_STREAM.read_text("utf-8").splitlines(keepends=True)
    ingest(bench, "first", lines[: len(lines) // 2])
    done = bench.mnemoduck("run", "--rhythm", "continuous")
    assert done.code == 0, done.out + done.err
    assert "There is no complete build yet, so everything is built." in done.out
    # Late data first; then the rest, in which things are forgotten, with some of what is known already.
    rest = lines[len(lines) // 2 :]
    for number, part in enumerate((rest[1::2], rest[0::2] + rest[1:20:2] + lines[:20])):
        ingest(bench, f"part-{number}", part)
        done = bench.dbt("build", "--selector", "continuous")
        assert "mnemoduck published" in done.out, done.out
    done = bench.mnemoduck("run", "--rhythm", "nightly")
    assert done.code == 0, done.out + done.err
    assert "Published" in done.out
    assert "Maintenance, cache of answers:" in done.out
    caught_up = checksums(bench.snapshot(), with_bookkeeping=False)
    at_once = checksums(Workbench(built_home).snapshot(), with_bookkeeping=False)
    assert caught_up.pop("staging.raw_batches")[0] == 3 * at_once.pop("staging.raw_batches")[0] == 3
    assert caught_up == at_once
