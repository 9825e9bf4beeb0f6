"""The doctor: what it finds in homes that were broken in one way, and that it touches nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pytest
from click.testing import CliRunner
from tests.unit.llm_cache_rows import make_embedding, make_response

from mnemoduck.backup import back_up
from mnemoduck.cli.doctor import doctor_command
from mnemoduck.doctor import CHECKS, Patient, Verdict, builds, examine, installation, intake
from mnemoduck.forgetting import journal
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import InboxWriter
from mnemoduck.llm.address import ServerState
from mnemoduck.llm.cache import open_cache
from mnemoduck.memory import Memory
from mnemoduck.pipeline.history import NodeRun, RunRecord, record_run
from mnemoduck.pipeline.load import load_inbox
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.quarantine import Rejection, quarantine
from mnemoduck.settings_file import write_settings

NOBODY = {"OLLAMA_HOST": "http://127.0.0.1:9"}


def check(home: Home, name: str, *, now: datetime | None = None, **environment: str) -> Verdict:
    patient = Patient(home, now or datetime.now(UTC), {**NOBODY, **environment})
    verdict = CHECKS[name](patient)
    assert verdict.name == name
    return verdict


def mend(verdict: Verdict) -> None:
    """Run the command that a verdict names, as a person would; ours are tested in tests/integration."""
    assert verdict.mend is not None
    subprocess.run(verdict.mend, shell=True, check=True, env={**os.environ, "PATH": os.environ["PATH"]})


def everything_in(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode, size and time of change of all that is in a folder."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        state = path.lstat()
        found[str(path)] = (state.st_mode, state.st_size, state.st_mtime_ns)
    return found


def remember(home: Home, *texts: str) -> None:
    with Memory(home.path) as memory:
        for text in texts:
            memory.remember(text)


def test_nothing_is_wrong_with_a_new_home_but_that_nothing_was_built(home: Home) -> None:
    verdicts = examine(Patient(home, environment=NOBODY))
    assert [verdict.name for verdict in verdicts] == list(CHECKS)
    found = {verdict.name: verdict.status for verdict in verdicts}
    assert found.pop("snapshot") == "warn"
    assert found.pop("archive") == found.pop("last run") == found.pop("backup") == "skipped"
    found.pop("versions")  # of the environment that the tests run in
    assert set(found.values()) == {"ok"}


def test_a_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    verdicts = {one.name: one for one in examine(Patient(Home(tmp_path / "it's gone"), environment=NOBODY))}
    assert verdicts["home"].status == "fail"
    assert verdicts["home"].mend == f"""mnemoduck init --home '{tmp_path}/it'"'"'s gone'"""
    assert {verdicts[name].status for name in ("disk", "inbox", "warehouse")} == {"skipped"}
    assert list(tmp_path.iterdir()) == []


def test_a_home_of_another_version_is_not_read_by_this_one(home: Home) -> None:
    home.marker.write_text('{"layout_version": 99}')
    home.manifest.write_text("of another form\n")
    verdicts = {one.name: one for one in examine(Patient(home, environment=NOBODY))}
    assert "layout version 99" in verdicts["home"].says
    assert verdicts["home"].mend is None, "only the other release helps"
    assert verdicts["raw files"].status == "skipped"
    assert verdicts["permissions"].status in {"ok", "fail"}


@pytest.mark.parametrize("text", ["{broken", "[]", "{}", None])
def test_a_marker_that_was_lost_or_damaged_is_made_again(home: Home, text: str | None) -> None:
    if text is None:
        home.marker.unlink()
    else:
        home.marker.write_text(text)
    broken = check(home, "home")
    assert broken.status == "fail"
    mend(broken)
    assert check(home, "home").status == "ok"
    open_home(home.path, create=False)


def test_files_that_others_may_read_are_told(home: Home) -> None:
    assert check(home, "permissions").status == "ok"
    home.inbox.chmod(0o755)
    path = home.inbox / "x.jsonl"
    path.write_text("{}\n")
    path.chmod(0o604)
    (home.path / "elsewhere").symlink_to("/etc")
    broken = check(home, "permissions")
    assert broken.status == "fail"
    assert "Others may use 2 of its files" in broken.says
    mend(broken)
    assert check(home, "permissions").status == "ok"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_home_that_is_named_by_a_link_is_looked_at_as_well(home: Home, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(home.path)
    home.path.chmod(0o777)
    (home.inbox / "x.jsonl").touch(0o600)
    (home.inbox / "x.jsonl").chmod(0o666)
    broken = check(Home(link), "permissions")
    assert broken.status == "fail"
    assert "Others may use 2 of its files" in broken.says


def test_a_disk_without_room_for_the_next_snapshot_is_told(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.warehouse.write_bytes(b"x" * 1000)
    for free, status in ((1000, "fail"), (1001, "warn"), (3000, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert check(home, "disk").status == status, free


def test_a_run_at_work_is_told_with_who_it_is_and_told_to_end_if_it_is_stuck(home: Home) -> None:
    assert check(home, "run lock").says == "No run is at work."
    with RunLock(home):
        at_work = check(home, "run lock")
        assert at_work.status == "ok"
        assert f"process {os.getpid()}" in at_work.says
        stuck = check(home, "run lock", now=datetime.now(UTC) + timedelta(hours=7))
    assert stuck.status == "warn"
    assert stuck.mend == f"kill {os.getpid()}"


def test_a_stuck_run_is_ended_by_what_the_doctor_says(home: Home) -> None:
    code = (
        "import sys, time; from pathlib import Path; from mnemoduck.home import Home\n"
        "from mnemoduck.pipeline.lock import RunLock\n"
        "RunLock(Home(Path(sys.argv[1]))).acquire(); print('locked', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(home.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        mend(check(home, "run lock", now=datetime.now(UTC) + timedelta(days=1)))
        process.wait(60)
    assert check(home, "run lock").says == "No run is at work."


def test_events_that_wait_too_long_are_told_with_since_when(
    home: Home, make_snapshot: Callable[[int], Path]
) -> None:
    make_snapshot(1)
    remember(home, "a", "b")
    fresh = check(home, "inbox")
    assert fresh.status == "ok"
    assert fresh.says.startswith("2 events wait for a run; the first came")
    late = check(home, "inbox", now=datetime.now(UTC) + timedelta(hours=5))
    assert late.status == "warn"
    assert "5 hours ago" in late.says
    assert late.mend == f"mnemoduck run --home {home.path}"


def test_segments_of_dead_writers_are_told_and_those_of_living_ones_are_not(home: Home) -> None:
    writer = InboxWriter(home)
    writer.append([b"{}\n"])
    assert check(home, "orphan segments").status == "ok"
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    orphan = home.inbox / f"20260101T000000000000Z-{dead.pid}-abcdef12.open"
    orphan.write_bytes(b'{}\n{"torn')
    (home.inbox / "put-here.open").write_bytes(b"{}\n")
    told = check(home, "orphan segments")
    assert told.status == "warn"
    assert "1 segments" in told.says
    assert orphan.name in told.says
    load_inbox(home)
    assert check(home, "orphan segments").status == "ok"
    assert check(home, "quarantine").says.startswith("4 lines could not be read")
    writer.close()


def test_a_purge_that_was_interrupted_is_told_unless_a_run_is_finishing_it(home: Home) -> None:
    assert check(home, "purge").status == "ok"
    journal.begin(home, journal.Order("2026-01-01T00:00:00+00:00"), journal.REMOVED_SCHEMA.empty_table())
    told = check(home, "purge")
    assert (told.status, told.mend) == ("fail", f"mnemoduck run --home {home.path}")
    with RunLock(home):
        assert check(home, "purge").status == "ok"
    journal.end(home)
    assert check(home, "purge").status == "ok"


def test_lines_in_quarantine_are_counted_until_they_are_put_away(home: Home) -> None:
    quarantine(home, "a", [Rejection(1, "why", b"x"), Rejection(2, "why", b"y")], keep_whole=True)
    told = check(home, "quarantine")
    assert (told.status, told.says[:8]) == ("warn", "2 lines ")
    mend(told)
    assert check(home, "quarantine").status == "ok"


def raw_files(home: Home) -> list[Path]:
    return sorted(home.raw.rglob("*.parquet"))


def test_raw_files_are_compared_with_the_manifest(home: Home, tmp_path: Path) -> None:
    remember(home, "a", "b")
    load_inbox(home)
    assert check(home, "raw files").says == "1 files hold what the manifest says."
    (path,) = raw_files(home)
    unknown = path.with_name("batch-000000000009-t0.parquet")
    shutil.copy(path, unknown)
    told = check(home, "raw files")
    assert (told.status, told.mend) == ("warn", f"mnemoduck run --home {home.path}")
    assert unknown.name in told.says
    with RunLock(home):
        assert check(home, "raw files").status == "ok", "a load may be about to name it"
    load_inbox(home)
    assert check(home, "raw files").status == "ok"

    path.rename(tmp_path / path.name)
    assert "1 of 1 raw files are missing" in check(home, "raw files").says
    path.write_bytes(b"PAR1")
    assert "cannot be read" in check(home, "raw files").says
    pa.parquet.write_table(pa.table({"a": [1]}), path)
    assert "holds 1 events and not 2" in check(home, "raw files").says
    (tmp_path / path.name).rename(path)
    assert check(home, "raw files").status == "ok"
    with home.manifest.open("ab") as file:
        file.write(b"no batch\n")
    damaged = check(home, "raw files")
    assert damaged.status == "fail"
    assert "damaged" in damaged.says


def test_a_warehouse_that_does_not_open_is_told_unless_a_run_has_it(home: Home) -> None:
    assert check(home, "warehouse").status == "ok"
    code = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); "
        "c.execute('pragma disable_checkpoint_on_shutdown'); "
        "c.execute('create table t as select 1'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(home.warehouse)], check=True)
    wal = home.warehouse.with_name("warehouse.duckdb.wal")
    before = wal.read_bytes()
    assert check(home, "warehouse").says == "It opens, with 1 tables."
    assert wal.read_bytes() == before, "what a crash has left is the next run's"
    for damage in (b"no database", b"\0" * 8 + b"DUCK" + b"\0" * 9000):
        home.warehouse.write_bytes(damage)
        broken = check(home, "warehouse")
        assert broken.status == "fail", damage
        assert f"mnemoduck run --home {home.path}" in (broken.mend or "")
    with RunLock(home):
        assert check(home, "warehouse").status == "skipped"


def test_a_program_that_has_a_file_open_is_named_and_the_file_is_not_called_damaged(home: Home) -> None:
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home.warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        held = check(home, "warehouse")
        assert held.status == "fail"
        assert "damaged" not in held.says
        assert held.mend == f"kill {process.pid}"
        mend(held)
        process.wait(60)
    assert check(home, "warehouse").status == "ok"


def test_no_run_starts_while_the_doctor_has_the_warehouse_open_and_none_is_refused(home: Home) -> None:
    with RunLock(home):
        pass
    patient = Patient(home)
    with patient.between_runs() as is_quiet:
        assert is_quiet
        assert check(home, "run lock").says == "No run is at work.", "the doctor is none"
        with patient.between_runs() as again:
            assert again
    with RunLock(home), patient.between_runs() as is_quiet:
        assert not is_quiet


def test_a_snapshot_that_is_missing_or_damaged_is_told(
    home: Home, make_snapshot: Callable[[int], Path]
) -> None:
    assert check(home, "snapshot").says == "Nothing has been published yet."
    path = make_snapshot(1)
    published_at = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert "published 3 days ago" in check(home, "snapshot", now=published_at + timedelta(days=3)).says
    path.write_bytes(b"\0" * 8 + b"DUCK" + b"\0" * 9000)
    damaged = check(home, "snapshot")
    assert damaged.status == "fail"
    assert damaged.mend == f"rm {path} && mnemoduck run --home {home.path}"
    path.unlink()
    missing = check(home, "snapshot")
    assert missing.status == "fail"
    assert f"CURRENT names '{path.name}'" in missing.says


def archive_a_month(home: Home, snapshot: Path) -> Path:
    """Let a snapshot say that a month is archived, in a file that this makes."""
    file = home.archive / "m" / "2026-01-abc.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a month")
    with duckdb.connect(str(snapshot)) as connection:
        connection.execute("create schema m__months")
        connection.execute(
            "create table m__months.catalog as select 'm/2026-01-abc.parquet' as archive_file, "
            "'cold' as state, 7 as archive_bytes, sha256('a month') as archive_sha256, "
            "'archive/m/2026-01-abc.parquet' as path"
        )
        connection.execute("update m__months.catalog set archive_file = path")
        connection.execute(f"create view seen as select '{file}' as file")
    return file


def test_an_archived_month_that_was_changed_or_lost_is_told(
    home: Home, make_snapshot: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = make_snapshot(1)
    assert check(home, "archive").says == "No month is archived."
    file = archive_a_month(home, snapshot)
    whole = check(home, "archive")
    assert whole.says == "The files of 1 archived months are as they were written."
    file.write_bytes(b"a mouth")
    changed = check(home, "archive")
    assert changed.status == "fail"
    assert "was changed since it was written" in changed.says
    assert changed.mend == f"mnemoduck run --full-refresh --home {home.path}"
    monkeypatch.setattr(builds, "HASHED_BYTES", 0)
    assert "only the size was compared" in check(home, "archive").says
    file.unlink()
    assert "is missing" in check(home, "archive").says
    assert check(home, "snapshot").status == "ok", "of that the check of the archive tells"


def test_a_snapshot_of_a_home_that_was_moved_is_told(
    home: Home, make_snapshot: Callable[[int], Path], tmp_path: Path
) -> None:
    archive_a_month(home, make_snapshot(1))
    home.path.rename(tmp_path / "moved")
    moved = check(Home(tmp_path / "moved"), "snapshot")
    assert moved.status == "fail"
    assert "was moved to" in moved.says


def test_answers_under_wrong_keys_are_found_in_the_newest_rows(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(home, "llm cache").status == "ok"
    with open_cache(home) as opened:
        opened.store_responses([make_response("a"), make_response("b")])
        opened.store_embeddings([make_embedding("a", [1.0, 2.0])])
    before = everything_in(home.path)
    assert check(home, "llm cache").says == "All 3 answers and vectors lie under the right keys."
    with open_cache(home) as opened:
        opened._cursor.execute("update responses set answer = 'no', response_seq = 1 where input = 'a'")
    wrong = check(home, "llm cache")
    assert wrong.status == "fail"
    assert "its answer is no JSON" in wrong.says
    assert wrong.mend == f"mnemoduck cache verify --home {home.path}"
    monkeypatch.setattr(builds, "VERIFIED_ROWS", 1)
    assert check(home, "llm cache").says == "The newest 2 of 3 answers and vectors lie under the right keys."
    with RunLock(home):
        assert check(home, "llm cache").status == "skipped"
    home.llm_cache.write_bytes(b"no" * 5000)
    damaged = check(home, "llm cache")
    assert damaged.status == "fail"
    mend(damaged)
    assert check(home, "llm cache").says == "No model has answered anything yet."
    assert before.keys() - everything_in(home.path).keys() == {str(home.llm_cache)}


def a_run(
    ended_at: datetime, outcome: str, rhythm: str | None = None, *, nodes: tuple[NodeRun, ...] = ()
) -> RunRecord:
    return RunRecord(
        run_id="r",
        command="run",
        outcome=outcome,
        started_at=ended_at,
        ended_at=ended_at,
        rhythm=rhythm,
        nodes=nodes,
    )


def test_a_run_that_failed_is_told_with_what_failed_until_a_good_one_comes(home: Home) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert check(home, "last run", now=now).status == "skipped"
    record_run(home, a_run(now - timedelta(hours=2), "published"))
    assert "2 hours ago" in check(home, "last run", now=now).says
    assert check(home, "last run", now=now + timedelta(days=3)).status == "warn"
    node = NodeRun(name="assert_it_holds", kind="test", status="fail", seconds=1, failures=3)
    record_run(home, a_run(now - timedelta(hours=1), "not published", "nightly", nodes=(node,)))
    record_run(home, a_run(now - timedelta(minutes=9), "published", "continuous"))
    record_run(home, a_run(now - timedelta(minutes=8), "skipped", "nightly"))
    failed = check(home, "last run", now=now)
    assert failed.status == "fail", "that another rhythm is well does not mend it"
    assert "The last run (nightly), 60 minutes ago, was not published: assert_it_holds." in failed.says
    record_run(home, a_run(now, "unchanged"))
    assert check(home, "last run", now=now).status == "ok", "a run of all models has built it"


def test_a_clock_that_went_back_and_events_from_the_future_are_told(
    home: Home, make_snapshot: Callable[[int], Path]
) -> None:
    assert check(home, "clock").status == "ok"
    event = {
        "event_id": "019cd789-ac90-7a53-a80d-1b07b2ee9c98",
        "event_type": "memory",
        "occurred_at": "2026-03-01T00:00:00+00:00",
        "recorded_at": "2099-03-01T00:00:00+00:00",
        "payload": {"content": "from the future"},
    }
    writer = InboxWriter(home)
    writer.append([json.dumps(event).encode() + b"\n"])
    for _ in ("in the inbox", "in raw/"):
        told = check(home, "clock")
        assert told.status == "warn"
        assert "newest event was recorded" in told.says
        load_inbox(home)
    behind = check(home, "clock", now=datetime.now(UTC) - timedelta(hours=3))
    assert behind.status == "fail"
    assert "3 hours behind what was written" in behind.says
    assert behind.mend == "sudo timedatectl set-ntp true"
    make_snapshot(1)
    before = datetime(2025, 12, 31, 23, 59, tzinfo=UTC)
    assert check(home, "clock", now=before).status == "fail"
    writer.close()


def test_temporary_files_that_nobody_writes_to_are_told_and_removed(home: Home) -> None:
    staging = home.raw / ".staging"
    staging.mkdir()
    left = [home.published / "x.tmp", home.path / "home.json.1-2.tmp", staging / "a.parquet"]
    left.append(home.path / "warehouse.duckdb.damaged")
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, (time.time() - 7200,) * 2)
    fresh = home.quarantine / "being-written.tmp"
    fresh.write_bytes(b"x")
    told = check(home, "leftovers")
    assert (told.status, told.says[:2]) == ("warn", "4 ")
    mend(told)
    assert check(home, "leftovers").status == "ok"
    assert fresh.exists()
    assert not any(path.exists() for path in left)


def test_no_model_server_is_no_fault_unless_one_was_asked_for(home: Home) -> None:
    assert check(home, "model server").status == "ok"
    assert check(home, "model server", MNEMODUCK_LLM="off").says.startswith("None is asked")
    wanted = check(home, "model server", MNEMODUCK_LLM="ollama")
    assert (wanted.status, wanted.mend) == ("warn", "ollama serve")


def test_a_model_that_the_server_has_not_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    state = ServerState(is_up=True, version="0.6", models={"llama3.2:latest": "d"})
    monkeypatch.setattr(installation, "probe_server", lambda _: state)
    assert check(home, "model server").status == "ok"
    missing = check(home, "model server", MNEMODUCK_LLM_MODEL="other model")
    assert (missing.status, missing.mend) == ("warn", "ollama pull 'other model'")


def test_what_is_installed_in_another_version_is_named_as_pip_takes_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["duckdb==1.5.5", "dbt-core<1.12,>=1.11", "no-such>=3", "torch; extra == 'minilm'"]
    installed = {"duckdb": "1.5.4", "dbt-core": "1.11.16", "dbt-duckdb": "1.11.1"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "requires", lambda _: wanted)
    monkeypatch.setattr(metadata, "version", version)
    broken = check(home, "versions")
    assert (broken.status, broken.mend) == ("fail", "pip install duckdb==1.5.5 'no-such>=3'")
    installed |= {"duckdb": "1.5.5", "no-such": "3.1"}
    assert check(home, "versions").status == "ok"


def test_a_check_that_fails_itself_is_a_verdict(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.current.mkdir(mode=0o700)

    def refuse(_: Home) -> int:
        raise PermissionError(13, "Permission denied", str(home.quarantine))

    monkeypatch.setattr(intake, "count_quarantined", refuse)
    verdicts = {one.name: one for one in examine(Patient(home, environment=NOBODY))}
    assert verdicts["snapshot"].status == "fail"
    assert verdicts["snapshot"].says.startswith("It cannot be told: ")
    assert verdicts["quarantine"].says == f"This user may not read {home.quarantine}."
    assert (verdicts["quarantine"].mend or "").startswith("sudo chown -R")
    assert verdicts["raw files"].status == verdicts["leftovers"].status == "ok"


def test_the_command_shows_a_table_and_what_mends_it_and_exits_with_1_on_a_failure(home: Home) -> None:
    path = home.inbox / "\x1b[31mred.open"
    path.write_bytes(b"{}\n")
    path.chmod(0o644)
    runner = CliRunner(env={**NOBODY, "COLUMNS": "200"})
    done = runner.invoke(doctor_command, ["--home", str(home.path)])
    assert done.exit_code == 1
    assert "\x1b[31mred" not in done.output
    assert "\\x1b[31mred" in done.output
    assert f"permissions: chmod -R u=rwX,go= {home.path}" in done.output
    path.chmod(0o600)
    done = runner.invoke(doctor_command, ["--home", str(home.path), "--json"])
    assert done.exit_code == 0
    found = json.loads(done.output)
    assert found["is_ok"] is True
    assert [one["name"] for one in found["verdicts"]] == list(CHECKS)


def test_the_doctor_writes_nothing(home: Home, make_snapshot: Callable[[int], Path]) -> None:
    remember(home, "a")
    load_inbox(home)
    remember(home, "b")
    with open_cache(home) as opened:
        opened.store_responses([make_response("a")])
    with duckdb.connect(str(home.warehouse)) as connection:
        connection.execute("create table t as select 1")
    with RunLock(home):
        pass
    archive_a_month(home, make_snapshot(1))
    before = everything_in(home.path)
    verdicts = examine(Patient(home, environment=NOBODY))
    assert everything_in(home.path) == before
    assert not [verdict for verdict in verdicts if verdict.says.startswith("It cannot be told")]


def test_the_page_on_monitoring_has_every_check() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z ]+) \| .* \| .* \|$", page.partition("## Doctor")[2], re.MULTILINE)
    assert rows[1:] == list(CHECKS), "in their order, below the heads of the columns"


def test_a_home_that_backups_are_set_for_is_told_when_there_are_none_or_only_old_ones(
    home: Home, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    write_settings(home, {"backup.target": str(target)})
    assert check(home, "backup").status == "fail"
    back_up(home, target)
    assert check(home, "backup").status == "ok"
    later = Patient(home, now=datetime.now(UTC) + timedelta(days=8), environment=NOBODY)
    told = {verdict.name: verdict for verdict in examine(later)}["backup"]
    assert told.status == "warn"
    assert "was made 8 days ago" in told.says


def test_a_folder_that_is_being_restored_to_is_no_home_that_has_lost_its_marker(tmp_path: Path) -> None:
    (tmp_path / "restoring.json").write_text("{}")
    told = check(Home(tmp_path), "home")
    assert told.status == "fail"
    assert told.mend == f"mnemoduck restore TARGET --home {tmp_path}"
