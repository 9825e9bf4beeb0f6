"""The whole job: load, build, test, publish, through plain dbt and through `mnemoduck run`."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from benchmarks.stream import Shape, generate

from mnemoduck import Memory
from mnemoduck.errors import LockedError
from mnemoduck.events import EVENT_TYPES, Event, new_event, parse_event
from mnemoduck.home import open_home
from mnemoduck.inbox import InboxWriter
from mnemoduck.pipeline.lock import RunLock
from tests.integration.workbench import PROJECT, SAMPLE_STREAM, SHARED_DATA, Workbench, checksums

FAILING_TEST = "-- A returned row means that the test was run.\nselect 1 as is_broken\n"


def write(home: Path, events: list[Event]) -> None:
    writer = InboxWriter(open_home(home))
    writer.append([event.to_line() for event in events])
    writer.close()


def with_recalls(events: list[Event]) -> list[Event]:
    """Add recalls of pairs of memories: days later, in the same moment, and before one of them was."""
    memories = [event for event in events if event.event_type == "memory"]
    pairs = list(zip(memories[::16], memories[8::16], strict=True))
    return events + [
        new_event(
            "recall",
            {"memory_ids": [str(event.event_id) for event in pair]},
            occurred_at=pair[0].occurred_at + timedelta(days=days),
            recorded_at=pair[0].occurred_at + timedelta(days=days),
        )
        for pair in pairs
        for days in (0, 3, 3, 5)
    ]


def with_episodes(events: list[Event]) -> list[Event]:
    """Add the episodes once more as Kim's: some are forgotten, all begin anew, some events come again."""
    kinds = ("episode_started", "step", "episode_completed")
    told = [event for event in events if event.event_type in kinds]
    kims = [
        new_event(
            event.event_type,
            event.payload,
            occurred_at=event.occurred_at,
            recorded_at=event.occurred_at,
            user_id="kim",
        )
        for event in told
    ]
    anew = [
        new_event(
            event.event_type, event.payload, occurred_at=event.occurred_at + timedelta(hours=1), user_id="kim"
        )
        for event in told
        if event.event_type != "step"
    ]
    forget = new_event(
        "forget", {"is_whole_scope": True}, recorded_at=datetime(2026, 3, 13, tzinfo=UTC), user_id="kim"
    )
    return [*events, forget, *kims, *anew, *kims[::3], *told[::5]]


def run(bench: Workbench, *options: str) -> None:
    """Build without testing, and so without publishing: for what is looked at in the warehouse."""
    done = bench.dbt("run", *options)
    assert done.code == 0, done.out


def unpublished(bench: Workbench, sql: str) -> list[tuple[Any, ...]]:
    """Ask the warehouse, of which not everything was tested."""
    with duckdb.connect(str(bench.home / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def sample_events() -> list[Event]:
    return [parse_event(line) for line in SAMPLE_STREAM.read_bytes().splitlines()]


def lifelike_events(folder: Path) -> list[Event]:
    """Sessions with recalls, facts, forgets, repeated texts and late arrivals, more of each than in life."""
    shape = Shape(
        first_day=datetime(2026, 2, 20, tzinfo=UTC),
        last_day=datetime(2026, 3, 12, tzinfo=UTC),
        newest=0.1,
        late=0.1,
        exact_repeats=0.1,
        near_repeats=0.1,
        late_sessions=0.2,
        facts=0.3,
        recalls=0.3,
        forgets=0.05,
        whole_session_forgets=0.3,
    )
    stream = generate(200, folder, shape=shape)
    return [
        parse_event(line)
        for paths in stream.segments.values()
        for path in paths
        for line in path.read_bytes().splitlines()
    ]


def test_plain_dbt_build_loads_builds_tests_and_publishes(read_only_sample: Workbench) -> None:
    """The sample was built so: see the fixture `built_home`."""
    bench = read_only_sample
    assert "mnemoduck published" in bench.home.with_name("said").read_text()
    memories = sum(event.event_type == "memory" for event in sample_events())
    assert bench.query("select count(*) from staging.stg_memories") == [(memories,)]
    assert bench.query("select count(*) from short_term_memories") == [(memories,)]
    assert bench.query("select sum(support_count) from consolidated_memories") == [(memories,)]
    assert not list((bench.home / "inbox").rglob("*.jsonl")), "published segments are retired"


def test_a_second_build_with_nothing_new_changes_no_row_and_publishes_nothing(sample: Workbench) -> None:
    before, snapshot = checksums(sample.home / "warehouse.duckdb"), sample.snapshot()
    done = sample.dbt("build")
    assert done.code == 0, done.out
    assert "mnemoduck unchanged" in done.out
    assert checksums(sample.home / "warehouse.duckdb") == before
    assert sample.snapshot() == snapshot


def test_dbt_run_publishes_nothing_and_dbt_test_after_it_publishes(bench: Workbench) -> None:
    write(bench.home, sample_events())
    done = bench.dbt("run")
    assert done.code == 0, done.out
    assert "not published" in done.out
    assert not (bench.home / "published" / "CURRENT").exists()
    done = bench.dbt("test")
    assert done.code == 0, done.out
    assert "mnemoduck published" in done.out


def test_a_failing_test_leaves_readers_on_the_last_good_snapshot_and_says_so(
    sample: Workbench, project_copy: Callable[[], Path]
) -> None:
    good = sample.snapshot()
    with Memory(sample.home) as memory:
        memory.remember("The kiln in the studio is set to 1240 degrees", user_id="maya")
    project = project_copy()
    (project / "tests/data/assert_that_fails.sql").write_text(
        FAILING_TEST.replace("select 1", "select 1 from {{ ref('consolidated_memories') }} limit 1 --")
    )

    done = sample.mnemoduck("run", "--project", str(project))
    assert done.code == 1
    assert "assert_that_fails" in done.out
    assert "Not published: readers stay on the last good snapshot" in done.out
    assert sample.snapshot() == good
    with Memory(sample.home) as memory:
        found = memory.recall("kiln degrees", user_id="maya")
        assert [item.is_fresh for item in found] == [True], "what arrived since is still found"

    # Nothing new has arrived, but what was built is not published yet.
    done = sample.mnemoduck("run")
    assert done.code == 0, done.out
    assert "Published" in done.out
    with Memory(sample.home) as memory:
        assert [item.is_fresh for item in memory.recall("kiln degrees", user_id="maya")] == [False]


@pytest.mark.long
def test_the_order_and_batching_of_arrival_do_not_change_what_is_built(
    bench: Workbench, tmp_path: Path
) -> None:
    """Incremental equals full: in three batches, out of order, then rebuilt, then in one batch.

    Orders to forget and recalls arrive before what they name, and memories before and after others of
    their session. The rows are tested once, in the build of all of them: the others are compared with it.
    """
    events = with_episodes(with_recalls(sample_events()) + lifelike_events(tmp_path / "stream"))
    assert {event.event_type for event in events} == set(EVENT_TYPES)
    chunks = [events[1::3], events[::3], events[2::3]]
    for chunk in chunks:
        write(bench.home, list(reversed(chunk)))
        run(bench)
    incremental = checksums(bench.home / "warehouse.duckdb", with_bookkeeping=False)

    run(bench, "--full-refresh")
    refreshed = checksums(bench.home / "warehouse.duckdb", with_bookkeeping=False)

    at_once = Workbench(bench.home.with_name("at-once"))
    write(at_once.home, events)
    at_once.build()
    whole = checksums(at_once.home / "warehouse.duckdb", with_bookkeeping=False)
    for table in incremental.keys() - {"staging.raw_batches"}:
        assert incremental[table] == refreshed[table], table
        assert incremental[table] == whole[table], table
    forgotten = "select count(*), count(forgotten_at) from staging.episode_features where user_id = 'kim'"
    assert at_once.query(forgotten) == [(5, 2)]
    assert at_once.query("select count(*) from episodes where user_id = 'kim'") == [(3,)]
    assert at_once.query("select count(distinct episode_id) from episode_steps where user_id = 'kim'") == [
        (3,)
    ]


IN_PARTS = (
    "int_text_buckets",
    "memory_concepts",
    "int_association_versions",
    "int_concepts",
    "int_llm_prompts",
    "memory_features",
    "short_term_memories",
    "consolidated_memories",
    "session_gists",
)


def with_small_parts(project: Path) -> Path:
    """Make a copy of the project build in parts as if there were 50 kB of memory."""
    parts = project / "macros/pipeline/parts.sql"
    limit = "parse_formatted_bytes(current_setting('memory_limit'))"
    assert limit in parts.read_text("utf-8")
    parts.write_text(parts.read_text("utf-8").replace(limit, "50000"), "utf-8")
    return project


def tables_without_parts(bench: Workbench) -> list[str]:
    """Return which of IN_PARTS got no second part, of what dbt's log holds, and empty it."""
    log = Path(f"{bench.home}-logs", "dbt.log")
    said = log.read_text("utf-8")
    log.write_text("", "utf-8")
    return [table for table in IN_PARTS if not re.search(rf"insert into \S*{table}\S* by name", said)]


@pytest.mark.long
def test_what_is_built_in_parts_is_what_is_built_at_once(
    sample: Workbench, project_copy: Callable[[], Path]
) -> None:
    at_once = checksums(sample.home / "warehouse.duckdb", with_bookkeeping=False)
    project = with_small_parts(project_copy())
    done = sample.dbt("run", "--full-refresh", project=project, DBT_LOG_LEVEL_FILE="debug")
    assert done.code == 0, done.out
    assert tables_without_parts(sample) == []
    assert checksums(sample.home / "warehouse.duckdb", with_bookkeeping=False) == at_once


@pytest.mark.long
def test_what_increments_add_in_parts_is_what_is_built_at_once(
    bench: Workbench, project_copy: Callable[[], Path], tmp_path: Path
) -> None:
    """With memories before and after others of their session, orders to forget, recalls and episodes.

    The last increment also writes the versions of associations anew, without those that were replaced.
    """
    events = with_episodes(with_recalls(sample_events()) + lifelike_events(tmp_path / "stream"))
    project = with_small_parts(project_copy())
    replaced = "select count(*) filter (revision > 1) from staging.int_association_versions"
    for number in range(4):
        write(bench.home, events[number::4])
        variables = f"{{recall_tail_rows: {0 if number == 3 else 10**6}}}"
        done = bench.dbt("run", "--vars", variables, project=project, DBT_LOG_LEVEL_FILE="debug")
        assert done.code == 0, done.out
        assert tables_without_parts(bench) == []
        is_compacted = re.search(r"int_association_versions\S* was written anew", done.out) is not None
        assert is_compacted == (number == 3)
        assert (unpublished(bench, replaced) > [(0,)]) == (number in (1, 2)), "the last run left none behind"

    at_once = Workbench(bench.home.with_name("at-once"))
    write(at_once.home, events)
    run(at_once)
    built, whole = (
        checksums(one.home / "warehouse.duckdb", with_bookkeeping=False) for one in (bench, at_once)
    )
    assert {table for table in whole if built[table] != whole[table]} <= {"staging.raw_batches"}
    kept = "select * exclude (changed_batch_seq) from staging.int_association_versions order by all"
    assert unpublished(bench, kept) == unpublished(at_once, kept)


def test_the_steps_of_an_episode_come_back_exactly(bench: Workbench) -> None:
    """Awkward texts, of two users, and the development episodes where they are at hand."""
    texts = [
        "",
        " ",
        "none\0of\0it",
        "\N{LUGGAGE}é\r\n\t\"{}'",
        "null",
        "{}",
        "m\N{SNOWMAN}" * 300_000,
        "none",
    ]
    steps: list[tuple[Any, ...]] = [
        (user, "awkward", number, "tool", "find", {"n": text[:9]}, text, None)
        for user in ("ada", None)
        for number, text in enumerate([*texts, *texts])
    ]
    steps += [(None, "awkward", 99, "message", None, {}, None, text) for text in texts]
    steps += development_steps()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    named = dict.fromkeys((user, name) for user, name, *_ in steps)
    events = [
        new_event("episode_started", {"episode_id": name, "task": "t"}, occurred_at=start, user_id=user)
        for user, name in named
    ]
    for second, (user, name, step, kind, tool, args, observation, text) in enumerate(steps):
        payload = {"episode_id": name, "step": step, "step_type": kind, "tool": tool, "args": args}
        payload |= {"observation": observation, "text": text}
        given = {key: value for key, value in payload.items() if value is not None}
        events.append(new_event("step", given, occurred_at=start + timedelta(seconds=second), user_id=user))
    write(bench.home, events)
    run(bench, "--select", "+episode_steps")
    with duckdb.connect(str(bench.home / "warehouse.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "select user_id, episode_id, step, step_type, tool, args, observation, text from episode_steps "
            "order by occurred_at"
        ).fetchall()
    kept = [(*row[:5], json.loads(row[5]), *row[6:]) for row in rows]
    assert kept == steps


def development_steps() -> list[tuple[Any, ...]]:
    """Return the steps of the development episodes; none without ../shared/data."""
    path = SHARED_DATA / "agent_episodes_dev.jsonl.gz"
    if not path.exists():
        return []
    with gzip.open(path) as file:
        episodes = [json.loads(line) for line in file]
    return [
        (
            None,
            episode["episode_id"],
            step["step"],
            step["type"],
            step.get("tool"),
            step.get("args", {}),
            step.get("observation"),
            step.get("text"),
        )
        for episode in episodes
        for step in episode["steps"]
    ]


def test_a_damaged_warehouse_is_named_with_what_to_do_and_rebuilt_from_raw(sample: Workbench) -> None:
    before = checksums(sample.home / "warehouse.duckdb", with_bookkeeping=False)
    (sample.home / "warehouse.duckdb").write_bytes(b"not a database at all" * 1000)
    done = sample.mnemoduck("run")
    assert done.code == 1
    assert "warehouse.duckdb is damaged" in done.err
    assert "rebuilt from raw/" in done.err
    assert "Traceback" not in done.out + done.err
    plain = sample.dbt("build")
    assert plain.code != 0
    assert "warehouse.duckdb is damaged" in plain.out
    (sample.home / "warehouse.duckdb").unlink()
    sample.build()
    assert checksums(sample.home / "warehouse.duckdb", with_bookkeeping=False) == before


def test_of_two_runs_at_once_one_works_and_the_other_says_who_does(sample: Workbench) -> None:
    with Memory(sample.home) as memory:
        memory.remember("something new to build")
    first = sample.start("mnemoduck", "run")
    lock = sample.home / "run.lock"
    deadline = time.monotonic() + 30
    while str(first.pid) not in lock.read_text():
        assert time.monotonic() < deadline
    second = sample.mnemoduck("run")
    assert second.code == 75
    assert f"process {first.pid}" in second.err
    assert "since" in second.err
    plain = sample.dbt("build")
    assert plain.code != 0
    assert f"process {first.pid}" in plain.out
    out, _ = first.communicate(timeout=120)
    assert first.returncode == 0, out


@pytest.mark.long
def test_a_run_killed_at_any_instant_loses_nothing(sample: Workbench) -> None:
    """kill -9 of mnemoduck and its dbt, in each state in which a run can be; the next run finishes the work.

    One after the other, so that each run also finds what the one that was killed before it has left.
    """
    with Memory(sample.home) as memory:
        new = [memory.remember(f"unmistakable thought number {n}", user_id="kim") for n in range(50)]
    log = sample.home / "logs" / "dbt.log"
    states = [
        ("", "the lock is taken, dbt is not there yet: all is in the inbox"),
        ("START python table model staging.raw_batches", "raw/ is being written"),
        ("START sql monthly_partitioned model main.consolidated_memories", "half of the models are new"),
    ]
    for said, state in states:
        log.unlink(missing_ok=True)
        log.touch()
        with sample.start("mnemoduck", "run") as run:
            lock = sample.home / "run.lock"
            while str(run.pid) not in lock.read_text() or said not in log.read_text("utf-8", "replace"):
                assert run.poll() in (None, 75), state
                time.sleep(0.01)
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
            for pid in [run.pid, *map(int, children)]:
                _kill(pid)
        assert run.returncode == -signal.SIGKILL, state
        _wait_until_free(sample)
    sample.build()
    ids = {row[0] for row in sample.query("select memory_id from staging.stg_memories")}
    assert set(new) <= ids
    duplicates = sample.query("select memory_id from short_term_memories group by all having count(*) > 1")
    assert duplicates == []
    assert not list(sample.home.rglob("*.tmp"))
    assert not (sample.home / "raw" / ".staging").exists() or not any(
        (sample.home / "raw" / ".staging").iterdir()
    )


def _wait_until_free(bench: Workbench) -> None:
    """Wait for the killed dbt, which holds the lock until it is torn down."""
    lock, deadline = RunLock(open_home(bench.home)), time.monotonic() + 30
    while True:
        try:
            lock.acquire()
        except LockedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            lock.release()
            return


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_time_is_evaluated_at_read_and_never_written_into_rows(sample: Workbench) -> None:
    before = checksums(sample.home / "warehouse.duckdb")
    done = sample.mnemoduck("run", "--as-of", "2026-03-10T00:00:00Z")
    assert done.code == 0, done.out
    assert checksums(sample.home / "warehouse.duckdb") == before
    latest = sample.query("select max(occurred_at), max(as_of) from short_term")[0]
    assert latest[0] <= latest[1] == datetime(2026, 3, 10)
    assert sample.query("select count(*) from consolidated where consolidated_at > as_of") == [(0,)]
    assert sample.query("select count(*) from consolidated")[0][0] > 0


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"capacity_maximum": 12}, "capacity_maximum is 12"),
        ({"activation_decay": -0.5}, "activation_decay is -0.5"),
        ({"as_of": "yesterday"}, "as_of is yesterday"),
    ],
)
def test_a_variable_out_of_range_stops_the_run_with_a_sentence(
    sample: Workbench, variables: dict[str, object], sentence: str
) -> None:
    good = sample.snapshot()
    done = sample.dbt("build", "--vars", json.dumps(variables))
    assert done.code != 0
    assert sentence in done.out
    assert "Traceback" not in done.out
    assert sample.snapshot() == good


def test_a_parameter_of_stored_rows_takes_a_full_refresh(sample: Workbench) -> None:
    changed = ("--vars", json.dumps({"session_gap_minutes": 60}))
    done = sample.dbt("build", *changed)
    assert done.code != 0
    assert "session_gap_minutes was 30" in done.out
    assert "--full-refresh" in done.out
    activities = "select count(distinct activity_id) from short_term_memories"
    before = sample.query(activities)
    done = sample.dbt("build", "--full-refresh", *changed)
    assert done.code == 0, done.out
    assert sample.query(activities) < before, "longer silences are within a session now"
    check = ("run", "--select", "stg_forgets")  # whatever is built, the parameters are checked before it
    assert sample.dbt(*check, *changed).code == 0
    assert sample.dbt(*check).code != 0, "the old value is another one now"


def test_the_unit_tests_of_the_sql_pass(sample: Workbench) -> None:
    """With those of the rows, on what was built before: it counts as tested, and nothing is new in it."""
    done = sample.dbt("test", "--select", "*")
    assert done.code == 0, done.out
    counted = re.findall(r"(\d+) unit tests?", done.out)
    assert counted, done.out
    assert int(counted[-1]) >= 55
    assert "mnemoduck unchanged" in done.out


def test_any_duckdb_client_can_read_a_snapshot_under_another_name(
    read_only_sample: Workbench, tmp_path: Path
) -> None:
    copy = tmp_path / "renamed.duckdb"
    shutil.copy(read_only_sample.snapshot(), copy)
    with duckdb.connect() as connection:
        connection.execute(f"attach '{copy}' as other (read_only)")
        rows = connection.execute("select count(*) from other.short_term").fetchone()
        assert rows is not None
        assert rows[0] > 0
        connection.execute("use other")
        slots = connection.execute(
            "select slot from working_memory_of(timestamp '2026-03-15 18:30:00', for_user := 'maya')"
        ).fetchall()
        assert 5 <= len(slots) <= 9


def test_sql_and_python_agree_on_working_memory(read_only_sample: Workbench) -> None:
    """The table function in the snapshot and the Python API expand the same definition."""
    for user in ("maya", "jonas"):
        with Memory(read_only_sample.home) as memory:
            slots = memory.working_memory(user_id=user, as_of=datetime(2026, 3, 15, 18, 30, tzinfo=UTC))
        rows = read_only_sample.query(
            "select slot, memory_id, priority, capacity from working_memory_of("
            f"timestamp '2026-03-15 18:30:00', for_user := '{user}') order by slot"
        )
        assert [(s.slot, s.memory_id, s.priority, s.capacity) for s in slots] == rows
        assert 5 <= len(slots) <= 9


def test_a_memory_is_ranked_the_same_before_and_after_it_is_built(bench: Workbench) -> None:
    # That a memory has helped is a use of it, which counts once it is built.
    write(bench.home, [event for event in sample_events() if event.event_type != "feedback"])
    with Memory(bench.home) as memory:
        before = memory.recall("flight to Lisbon", user_id="maya", limit=20, record=False)
        assert before
        assert all(item.is_fresh for item in before)
        bench.build()
        after = memory.recall("flight to Lisbon", user_id="maya", limit=20, record=False)
    assert not any(item.is_fresh for item in after)
    assert [item.memory_id for item in after] == [item.memory_id for item in before]
    assert [item.score for item in after] == pytest.approx([item.score for item in before])


def test_a_late_memory_joins_two_sessions_and_leaves_the_others_alone(bench: Workbench) -> None:
    start = datetime(2026, 5, 1, 9, 0, tzinfo=UTC)

    def at(minutes: int, content: str) -> Event:
        return new_event(
            "memory", {"content": content}, user_id="u", occurred_at=start + timedelta(minutes=minutes)
        )

    def sessions() -> dict[str, object]:
        run(bench, "--select", "+short_term_memories")
        with duckdb.connect(str(bench.home / "warehouse.duckdb"), read_only=True) as connection:
            return dict(connection.execute("select content, activity_id from short_term_memories").fetchall())

    write(bench.home, [at(0, "one"), at(50, "two"), at(300, "three")])
    first = sessions()
    assert len(set(first.values())) == 3
    write(bench.home, [at(25, "in between")])
    second = sessions()
    assert second["one"] == second["in between"] == second["two"] == first["one"]
    assert second["three"] == first["three"]


def test_forgetting_takes_effect_at_once_and_a_recall_reinforces_with_the_next_run(
    sample: Workbench,
) -> None:
    with Memory(sample.home) as memory:
        found = memory.recall("hazelnuts allergic", user_id="maya", limit=1)[0]
        memory.forget([found.memory_id], reason="asked to")
        gone = memory.recall("hazelnuts allergic", user_id="maya", limit=100)
        assert found.memory_id not in {item.memory_id for item in gone}
        assert len(gone) > 10
        unrecorded = memory.recall("farewell party", user_id="maya", limit=1, record=False)
        (before,) = memory.recall("flight to Lisbon", user_id="maya", limit=1, explain=True)
    sample.build()
    with Memory(sample.home, record_recalls=False) as memory:
        counts = memory.sql("select memory_id, recall_count from short_term_memories where recall_count > 0")
        recalled = dict(zip(counts["memory_id"].astype(str), counts["recall_count"], strict=True))
        for item in gone[:10]:
            assert recalled[str(item.memory_id)] >= 1, "the first ten count as used"
        assert recalled[str(before.memory_id)] >= 1
        assert str(unrecorded[0].memory_id) not in recalled
        (after,) = memory.recall("flight to Lisbon", user_id="maya", limit=1, explain=True)
        assert before.explanation is not None
        assert after.explanation is not None
        assert after.memory_id == before.memory_id
        assert after.explanation.strength > before.explanation.strength
        assert after.explanation.fate == "reinforced"
        assert after.parts.prior > before.parts.prior
        (past,) = memory.recall(
            "flight to Lisbon", user_id="maya", limit=1, explain=True, as_of=datetime(2026, 3, 15, tzinfo=UTC)
        )
        assert past.explanation is not None
        assert past.explanation.fate == "retained", "the past does not know of it"
        gone = memory.recall("hazelnuts allergic", user_id="maya", limit=100)
        assert found.memory_id not in {item.memory_id for item in gone}
        rows = memory.sql(
            "select is_forgotten from short_term where memory_id = $memory_id",
            {"memory_id": found.memory_id},
        )
        assert rows["is_forgotten"].tolist() == [True], "forgotten is a fate, not a deletion"


@pytest.mark.long
@pytest.mark.skipif(not (SHARED_DATA / "locomo_dev.json").exists(), reason="../shared/data is not here")
def test_locomo_goes_in_whole_and_a_second_build_changes_nothing(bench: Workbench) -> None:
    done = bench.mnemoduck("ingest", str(SHARED_DATA / "locomo_dev.json"))
    assert done.code == 0, done.out + done.err
    assert "2,760" in done.out
    assert bench.dbt("build").code == 0
    assert bench.query("select count(*) from short_term_memories") == [(2760,)]
    before = checksums(bench.home / "warehouse.duckdb")
    again = bench.mnemoduck("ingest", str(SHARED_DATA / "locomo_dev.json"))
    assert again.code == 0, again.out
    run(bench)
    assert checksums(bench.home / "warehouse.duckdb") == before


def test_the_project_travels_with_the_package(tmp_path: Path) -> None:
    """A wheel holds the dbt project, so that `mnemoduck run` works from any folder."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    for name in ("dbt_project.yml", "profiles.yml", "selectors.yml"):
        assert f"mnemoduck/project/{name}" in names
    assert "mnemoduck/project/models/staging/stg_memories.sql" in names
    assert "mnemoduck/project/macros/memory/working_memory.sql" in names
