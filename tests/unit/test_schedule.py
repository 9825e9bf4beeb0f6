"""The schedule: times, the block in a crontab, units of systemd, and the log of what ran."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck.cli import cli
from mnemoduck.errors import UsageError
from mnemoduck.home import Home, open_home
from mnemoduck.pipeline.history import RunRecord, record_run
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.rhythm import RHYTHMS
from mnemoduck.schedule import Times, crontab, systemd
from mnemoduck.schedule.command import Scheduled
from mnemoduck.schedule.log import KEPT_FILES, ScheduleLog, find_missed
from mnemoduck.schedule.times import EVERY_MINUTES, Clock, parse_day

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Scheduled(("/home/you/mnemoduck/.venv/bin/mnemoduck",), Path("/home/you/.mnemoduck"))
ODD = '/srv/it\'s 100% "odd" $HOME `date` \\ home'
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)

FAKE_CRONTAB = """#!/bin/sh
file="$FAKE_CRONTAB_FILE"
case "$1" in
-l) if [ -e "$file" ]; then cat "$file"; else echo "no crontab for $(id -un)" >&2; exit 1; fi ;;
-) cat > "$file" ;;
*) exit 2 ;;
esac
"""


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program named crontab, first on the PATH, keeps the user's crontab."""
    program = tmp_path / "bin" / "crontab"
    program.parent.mkdir()
    program.write_text(FAKE_CRONTAB)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CRONTAB_FILE", str(tmp_path / "crontab"))
    return tmp_path / "crontab"


@pytest.fixture
def schedule(tmp_path: Path) -> Callable[..., Result]:
    open_home(tmp_path / "home")

    def run(*arguments: str, home: str = "home") -> Result:
        return CliRunner().invoke(cli, ["schedule", *arguments, "--home", str(tmp_path / home)])

    return run


# --- times ---------------------------------------------------------------------------------------------


@given(
    every=st.sampled_from(EVERY_MINUTES),
    hourly=st.integers(0, 59),
    nightly=st.integers(0, 59),
    weekly=st.integers(0, 59),
)
def test_no_continuous_run_begins_with_an_hourly_one_and_gaps_are_even_if_they_can_be(
    every: int, hourly: int, nightly: int, weekly: int
) -> None:
    minutes = Times(every, hourly, Clock(3, nightly), Clock(4, weekly)).continuous_minutes
    assert hourly not in minutes
    if every > 3:  # there are more places to begin than other runs
        assert not {nightly, weekly} & set(minutes)
        assert len(minutes) == 60 // every
        assert {later - earlier for earlier, later in itertools.pairwise(minutes)} <= {every}


def test_by_default_runs_are_staggered() -> None:
    times = Times()
    assert times.cron("continuous") == "0,10,20,30,40,50 * * * *"
    assert [times.cron(rhythm) for rhythm in RHYTHMS[1:]] == ["5 * * * *", "15 3 * * *", "15 4 * * 0"]


def test_times_that_make_no_sense_are_refused_with_what_they_take() -> None:
    with pytest.raises(UsageError, match="--every is 7; an hour is divided by 1, 2, 3"):
        Times(every=7)
    with pytest.raises(UsageError, match="both 03:15"):
        Times(weekly=Clock(3, 15))
    with pytest.raises(UsageError, match="--nightly is '25:00'"):
        Clock.parse("25:00", "--nightly")
    with pytest.raises(UsageError, match="--weekly-day is 's'"):
        parse_day("s")
    assert parse_day("Wed") == 3


# --- the crontab ---------------------------------------------------------------------------------------


def test_install_twice_writes_one_block_and_remove_leaves_everything_else_byte_for_byte(
    schedule: Callable[..., Result], spool: Path, tmp_path: Path
) -> None:
    before = b'# my own\n\tMAILTO=""\n\n*/5 * * * * echo 100\\%  \xff\n'
    spool.write_bytes(before)
    assert schedule("install").exit_code == 0
    once = spool.read_bytes()
    assert once.startswith(before)
    assert schedule("install").exit_code == 0
    assert spool.read_bytes() == once
    assert schedule("install", home="other").exit_code == 0
    both = spool.read_bytes()
    assert schedule("install", "--every", "15").exit_code == 0
    assert b"1,16,31,46 * * * *" in spool.read_bytes()
    assert both.count(b"run --rhythm continuous") == 2
    shown = schedule("show")
    assert "1,16,31,46" in shown.output
    assert json.loads(schedule("show", "--json").output)["crontab"] == shown.output
    assert schedule("remove").exit_code == 0
    assert f"{tmp_path}/home " not in spool.read_text(errors="replace")
    assert schedule("remove", home="other").exit_code == 0
    assert spool.read_bytes() == before
    assert "Nothing is installed" in schedule("remove").output


def test_a_user_without_a_crontab_gets_one(schedule: Callable[..., Result], spool: Path) -> None:
    assert "Nothing is installed" in schedule("show").output
    dry = schedule("install", "--dry-run")
    assert not spool.exists()
    done = schedule("install", "--nightly", "2:30", "--weekly-day", "monday")
    assert done.exit_code == 0, done.output
    assert "every night at 02:30" in done.output
    assert "30 2 * * *" in spool.read_text()
    assert "15 4 * * 1" in spool.read_text()
    assert dry.output.count("\n") == spool.read_text().count("\n") == 6


def test_without_cron_nothing_is_done_and_it_says_what_to_do(
    schedule: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    refused = schedule("install")
    assert isinstance(refused.exception, UsageError)
    assert "Install cron" in str(refused.exception)
    assert schedule("install", "--dry-run").exit_code == 0


def test_a_block_that_lost_its_end_is_left_alone(tmp_path: Path) -> None:
    torn = crontab.block(EXAMPLE, Times()).encode().rpartition(b"# <<<")[0]
    with pytest.raises(UsageError, match="has lost its last line"):
        crontab.with_block(torn, EXAMPLE.home, "new\n")


def test_a_line_of_the_crontab_runs_what_was_asked_for_whatever_the_paths_hold(tmp_path: Path) -> None:
    home = tmp_path / ODD.strip("/")
    program = home / "mnemo duck%"
    (home / "logs").mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s|" "$MNEMODUCK_HOME" "$@"\n')
    program.chmod(0o755)
    block = crontab.block(Scheduled((str(program),), home), Times())
    line = next(line for line in block.splitlines() if "--rhythm nightly" in line)
    command = line.split(" ", 5)[5]
    # What cron does: an unescaped % ends the command, a backslash before it goes.
    assert "%" not in command.replace(r"\%", "")
    subprocess.run(
        ["/bin/sh", "-c", command.replace(r"\%", "%")],
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    said = (home / "logs" / "schedule.log").read_text()
    assert said == f"{home}|run|--rhythm|nightly|--wait|15|--log|"


def test_a_path_that_would_break_the_line_is_refused() -> None:
    with pytest.raises(UsageError, match="control character"):
        Scheduled(("/bin/mnemoduck",), Path("/srv/two\nlines"))


def test_cron_itself_takes_the_block(tmp_path: Path) -> None:
    program = shutil.which("crontab", path="/usr/bin:/bin:/usr/local/bin")
    if program is None:
        pytest.skip("There is no cron here.")
    table = tmp_path / "table"
    table.write_text(crontab.block(Scheduled(("/bin/mnemo duck",), Path(ODD)), Times(every=5)))
    done = subprocess.run([program, "-n", str(table)], capture_output=True, text=True, check=False)
    if "invalid option" in done.stderr:
        pytest.skip("This cron cannot check a table without installing it.")
    assert done.returncode == 0, done.stderr


# --- systemd -------------------------------------------------------------------------------------------


def test_units_are_written_shown_and_removed(schedule: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "units"
    units = ["--systemd", "--to", str(folder)]
    dry = schedule("install", *units, "--dry-run")
    assert not folder.exists()
    done = schedule("install", *units)
    assert done.exit_code == 0, done.output
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert len(written) == 8
    assert all(text in dry.output for text in written.values())
    assert json.loads(schedule("show", *units, "--json").output) == written
    schedule("install", *units, home="other")
    assert schedule("remove", *units).exit_code == 0
    assert not written.keys() & {path.name for path in folder.iterdir()}
    assert len(list(folder.iterdir())) == 8


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("There is no systemd here.")
    home = tmp_path / "it's 100% $odd"
    home.mkdir()
    runner = home / "mnemo duck"
    runner.write_text("#!/bin/sh\n")
    runner.chmod(0o755)
    made = systemd.units(Scheduled((str(runner),), home), Times())
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in made]
    done = subprocess.run(
        [program, "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "mnemoduck" not in done.stderr
    for rhythm in RHYTHMS:
        calendar = [program, "calendar", Times().calendar(rhythm)]
        assert subprocess.run(calendar, capture_output=True, check=False).returncode == 0


def test_where_the_manager_cannot_be_reached_the_units_are_there_and_it_says_what_to_run(
    schedule: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", "/nonexistent")
    done = schedule("install", "--systemd")
    assert "systemctl --user daemon-reload" in str(done.exception)
    assert len(list((tmp_path / "config" / "systemd" / "user").iterdir())) == 8


# --- what is in the repository -------------------------------------------------------------------------


def test_the_examples_in_orchestration_are_what_the_command_writes() -> None:
    assert (ROOT / "orchestration" / "cron" / "crontab").read_text() == crontab.block(EXAMPLE, Times())
    folder = ROOT / "orchestration" / "systemd"
    there = {path.name: path.read_text() for path in folder.glob("mnemoduck-*")}
    assert there == systemd.units(EXAMPLE, Times())


# --- runs that meet ------------------------------------------------------------------------------------


def test_a_run_that_meets_another_is_skipped_with_one_line_in_the_log(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemoduck.inbox.LOCK_PATIENCE", 0.0)
    with RunLock(home):
        done = CliRunner().invoke(
            cli, ["run", "--rhythm", "continuous", "--log", "--home", str(home.path), "--project", str(ROOT)]
        )
    assert (done.exit_code, done.output) == (75, "")
    (line,) = home.schedule_log.read_text().splitlines()
    assert f"continuous: Error: Another run is at work in {home.path}: process {os.getpid()}" in line


# --- the log -------------------------------------------------------------------------------------------


def test_the_log_is_private_and_bounded_and_each_line_has_its_time(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemoduck.schedule.log.MAX_BYTES", 200)
    for number in range(100):
        log = ScheduleLog(home, "hourly")
        log.say(f"run {number}\nsecond line")
        log.close()
    files = sorted(home.logs.glob("schedule.log*"))
    assert len(files) == KEPT_FILES + 1
    assert all(path.stat().st_size <= 200 for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    last = home.schedule_log.read_text().splitlines()[-1]
    datetime.strptime(last.split()[0], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert last.endswith("hourly: second line")


def test_missed_runs_are_those_since_the_last_one_that_did_as_much(home: Home) -> None:
    def ran(rhythm: str | None, hours_ago: float, outcome: str = "published") -> None:
        ended = NOW - timedelta(hours=hours_ago)
        record_run(
            home,
            RunRecord(
                run_id="1", command="run", outcome=outcome, started_at=ended, ended_at=ended, rhythm=rhythm
            ),
        )

    assert find_missed(home, "hourly", NOW) is None  # nothing has ever run: nothing was missed
    ran("nightly", 30)
    ran("continuous", 3)
    ran("hourly", 0.5, "skipped")
    assert find_missed(home, "continuous", NOW) == timedelta(hours=3)
    assert find_missed(home, "hourly", NOW) == timedelta(hours=30)
    assert find_missed(home, "nightly", NOW) is None
    ran(None, 0.2)
    assert find_missed(home, "continuous", NOW) is None
    assert find_missed(home, "weekly", NOW) is None
