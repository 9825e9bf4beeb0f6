"""The history of runs: every run that ended is found again, whatever a crash left in the file."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mnemoduck.home import Home, open_home
from mnemoduck.pipeline.history import NodeRun, RunRecord, forget_runs, is_recorded, read_runs, record_run

START = datetime(2026, 3, 31, 23, 50, tzinfo=UTC)


def a_run(number: int) -> RunRecord:
    started_at = START + timedelta(minutes=10 * number)
    return RunRecord(
        run_id=f"run-{number}",
        command="run",
        outcome="published",
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=12.5),
        nodes=(NodeRun(name="stg_memories", kind="model", status="success", seconds=0.25, rows=3),),
    )


def test_runs_are_read_as_they_were_recorded_in_a_private_file_for_each_day(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    runs = [a_run(number) for number in range(3)]

    for run in runs:
        record_run(home, run)

    assert list(read_runs(home)) == runs
    assert runs[0].seconds == 12.5
    assert [path.name for path in sorted(home.runs.iterdir())] == ["2026-03-31.jsonl", "2026-04-01.jsonl"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.runs.iterdir()} == {0o600}


def test_runs_are_read_from_a_moment_on(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    runs = [a_run(number) for number in range(3)]
    for run in runs:
        record_run(home, run)

    assert list(read_runs(home, since=runs[1].ended_at)) == runs[1:]


def test_a_line_torn_by_a_crash_costs_no_other_run(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    record_run(home, a_run(1))
    with (home.runs / "2026-04-01.jsonl").open("ab") as file:
        file.write(b'{"run_id": "torn", "comm')

    record_run(home, a_run(2))

    assert list(read_runs(home)) == [a_run(1), a_run(2)]


def test_a_home_without_runs_has_none(tmp_path: Path) -> None:
    assert list(read_runs(Home(tmp_path))) == []


def test_a_run_is_known_to_be_recorded_by_its_id(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    record_run(home, a_run(0))
    record_run(home, a_run(1))

    assert is_recorded(home, "run-0", a_run(0).started_at)
    assert is_recorded(home, "run-1", a_run(0).started_at), "it ended on the next day"
    assert not is_recorded(home, "run-2", a_run(0).started_at)
    assert not is_recorded(home, "run-0", a_run(1).ended_at), "what ended before is not looked for"


def test_runs_of_long_ago_are_forgotten_by_whole_days_counted_from_the_newest(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    days = [a_run(144 * day) for day in range(6)]
    for run in days:
        record_run(home, run)

    before: list[str] = []
    forget_runs(home, 3, lambda _, path: before.append(path.stem))

    kept = list(read_runs(home))
    assert kept == days[1:]
    assert [run for run in days if run.ended_at >= days[-1].ended_at - timedelta(days=3)] == kept[1:]
    assert before == [days[0].ended_at.date().isoformat()], "whoever counts them has seen what goes"
