"""Checks of what is built: lock, warehouse, snapshot, archived months, the cache, the last run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from mnemoduck.archive import find_archive_fault
from mnemoduck.doctor.verdict import Patient, Verdict, describe_age
from mnemoduck.errors import SnapshotError, StorageError
from mnemoduck.forgetting.journal import is_pending
from mnemoduck.llm.cache_audit import Verification, verify
from mnemoduck.partitions import months_schema, partitioned_models
from mnemoduck.pipeline.history import NOT_PUBLISHED
from mnemoduck.pipeline.lock import find_holder, held_since
from mnemoduck.pipeline.publish import current_snapshot, published_at
from mnemoduck.pipeline.tally import ALL_MODELS, RunTally
from mnemoduck.warehouse import Snapshot, check_database_file

LONG_RUN_SECONDS = 6 * 3600
"""A run that takes longer is stuck: a full build of a million memories takes minutes."""

SILENT_SECONDS = 24 * 3600
"""Without a good run for so long, nobody runs the pipeline."""

HASHED_BYTES = 1_000_000_000
"""So much of the archive is read to compare its hashes; of the rest the sizes are compared."""

VERIFIED_ROWS = 5000
"""So many answers and vectors of the cache are derived again, the newest."""


def check_lock(patient: Patient) -> Verdict:
    """Whether a run is at work, and whose."""
    holder = find_holder(patient.home)
    if holder is None:
        return Verdict("run lock", "ok", "No run is at work.")
    since = held_since(patient.home.run_lock)
    age = 0.0 if since is None else (patient.now - since).total_seconds()
    if age <= LONG_RUN_SECONDS:
        return Verdict("run lock", "ok", f"A run is at work: {holder}, {describe_age(age)} ago.")
    return Verdict(
        "run lock",
        "warn",
        f"A run has been at work for {describe_age(age)}: {holder}. If it does nothing any more, end it; "
        "the lock goes with it.",
        f"kill {_pid_of_holder(patient)}",
    )


def _pid_of_holder(patient: Patient) -> int:
    return int(json.loads(patient.home.run_lock.read_text("utf-8"))["pid"])


def check_warehouse(patient: Patient) -> Verdict:
    """Whether the warehouse opens. While a run is at work it is the run's alone."""
    path = patient.home.warehouse
    quoted = shlex.quote(str(path))
    if not path.exists():
        return Verdict("warehouse", "ok", "There is none yet; a run builds it from raw/.")
    with patient.between_runs() as is_quiet:
        if not is_quiet:
            return Verdict("warehouse", "skipped", "A run has it open.")
        try:
            check_database_file(path)
            with _opened(path) as connection:
                tables = _number(connection, "select count(*) from duckdb_tables()")
        except (duckdb.Error, StorageError) as error:
            if (held := _held_elsewhere("warehouse", path, error)) is not None:
                return held
            return Verdict(
                "warehouse",
                "fail",
                f"{path.name} is damaged ({_first_line(error)}). Move it away: the next run builds it anew "
                "from raw/, and nothing is lost.",
                f"mv {quoted} {quoted}.damaged && rm -f {quoted}.wal && {patient.command('run')}",
            )
    return Verdict("warehouse", "ok", f"It opens, with {tables} tables.")


def _held_elsewhere(name: str, path: Path, error: Exception) -> Verdict | None:
    """Return what to say of a file that another program has open; None if that is not the fault."""
    if "Could not set lock" not in str(error):
        return None
    said = re.search(r"held in (?P<program>.*?) \(PID (?P<pid>\d+)\)", str(error))
    who = f"{said['program']}, process {said['pid']}," if said else "Another process"
    return Verdict(
        name,
        "fail",
        f"{who} has {path.name} open, and is no run: no run can open it meanwhile. End that program; for "
        "looking, `mnemoduck sql` and the published snapshot are there.",
        f"kill {said['pid']}" if said else f"fuser -v {shlex.quote(str(path))}",
    )


def check_snapshot(patient: Patient) -> Verdict:
    """Whether readers have a snapshot that opens, and of when it is."""
    home = patient.home
    path = current_snapshot(home)
    if path is None:
        if home.current.exists():
            return Verdict(
                "snapshot",
                "fail",
                f"CURRENT names {home.current.read_text('utf-8', 'replace').strip()!r}, which is not there: "
                "readers have nothing.",
                patient.command("run"),
            )
        return Verdict("snapshot", "warn", "Nothing has been published yet.", patient.command("run"))
    try:
        snapshot = Snapshot(path, home)
    except (SnapshotError, FileNotFoundError) as error:
        mend = f"rm {shlex.quote(str(path))} && {patient.command('run')}"
        return Verdict("snapshot", "fail", str(error), mend)
    try:
        fault = snapshot.find_archive_fault()
    finally:
        snapshot.close()
    if "was moved to" in fault:  # of files that are missing the check of the archive tells
        return Verdict("snapshot", "fail", fault, patient.command("run"))
    age = (patient.now - published_at(path)).total_seconds()
    return Verdict(
        "snapshot",
        "ok",
        f"{path.stem} opens; it was published {describe_age(age)} ago, and is the newest that differed.",
    )


@dataclass(frozen=True)
class _Archived:
    """A file of an archived month, as a catalog of the snapshot has it."""

    file: str
    bytes: int
    sha256: str


def check_archive(patient: Patient) -> Verdict:
    """Whether the files of archived months are there and as they were written."""
    path = current_snapshot(patient.home)
    if path is None:
        return Verdict("archive", "skipped", "Nothing has been published that could name archived months.")
    with _opened(path) as connection:
        archived = [
            _Archived(*row)
            for model in partitioned_models(connection)
            for row in connection.execute(
                f'select archive_file, archive_bytes, archive_sha256 from "{months_schema(model)}".catalog '
                "where archive_file is not null order by archive_file"
            ).fetchall()
        ]
    if not archived:
        return Verdict("archive", "ok", "No month is archived.")
    faults, hashed = [], 0
    for one in archived:
        file = patient.home.path / one.file
        if file.is_file() and file.stat().st_size == one.bytes and hashed + one.bytes > HASHED_BYTES:
            continue
        hashed += one.bytes
        if fault := find_archive_fault(file, one.sha256):
            faults.append(f"the archive {fault}")
    if not faults:
        is_all = hashed == sum(one.bytes for one in archived)
        compared = "as they were written" if is_all else "there; of some only the size was compared"
        return Verdict("archive", "ok", f"The files of {len(archived)} archived months are {compared}.")
    return Verdict(
        "archive",
        "fail",
        f"Of {len(archived)} archived months {len(faults)} cannot be read: {faults[0]}. Put it back from a "
        "backup, or build every month from raw/.",
        patient.command("run --full-refresh"),
    )


def check_cache(patient: Patient) -> Verdict:
    """Whether answers of models lie under the keys of their prompts, as `mnemoduck cache verify` tells.

    The newest rows are read into memory, so that no run waits while they are checked.
    """
    path = patient.home.llm_cache
    if not path.exists():
        return Verdict("llm cache", "ok", "No model has answered anything yet.")
    with duckdb.connect(":memory:", config={"temp_directory": ""}) as memory:
        with patient.between_runs() as is_quiet:
            if not is_quiet:
                return Verdict("llm cache", "skipped", "A run has it open.")
            try:
                total = _read_newest(memory, path)
            except duckdb.Error as error:
                if (held := _held_elsewhere("llm cache", path, error)) is not None:
                    return held
                quoted = shlex.quote(str(path))
                return Verdict(
                    "llm cache",
                    "fail",
                    f"{path.name} cannot be read ({_first_line(error)}). Put it back from a backup, or move "
                    "it away: models are asked anew.",
                    f"mv {quoted} {quoted}.damaged && rm -f {quoted}.wal",
                )
        found: Verification = verify(memory)
    checked = found.responses + found.embeddings
    if found.fault_count:
        return Verdict(
            "llm cache",
            "fail",
            f"{found.fault_count:,} faults in {checked:,} of its {total:,} rows, such as {found.faults[0]}",
            patient.command("cache verify"),
        )
    which = "All" if checked == total else f"The newest {checked:,} of"
    return Verdict("llm cache", "ok", f"{which} {total:,} answers and vectors lie under the right keys.")


def _read_newest(memory: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Copy the newest answers and vectors of a cache into memory; return how many it has in all."""
    quoted = str(path).replace("'", "''")
    memory.execute(f"attach '{quoted}' as cache (read_only)")
    total = 0
    for table in ("responses", "embeddings"):
        total += _number(memory, f"select count(*) from cache.{table}")
        memory.execute(
            f"create table {table} as select * from cache.{table} "
            f"order by response_seq desc, key limit {VERIFIED_ROWS}"
        )
    memory.execute("detach cache")
    return total


def check_purge(patient: Patient) -> Verdict:
    """Whether a purge was begun and not finished: until then what it takes out may be somewhere still."""
    if not is_pending(patient.home):
        return Verdict("purge", "ok", "No purge is unfinished.")
    with patient.between_runs() as is_quiet:
        if not is_quiet:
            return Verdict("purge", "ok", "A purge is at work, or the run that finishes it.")
    return Verdict(
        "purge",
        "fail",
        "A purge was interrupted: what was to be taken out for good may be left in files. The next run "
        "finishes it; `dbt build` alone does not.",
        patient.command("run"),
    )


def check_last_run(patient: Patient) -> Verdict:
    """Whether runs end well, and when the last did."""
    rhythms = RunTally(patient.home).look()
    good = [runs.last_good_at for runs in rhythms.values() if runs.last_good_at is not None]
    all_good_at = rhythms[ALL_MODELS].last_good_at if ALL_MODELS in rhythms else None
    failed = []
    for rhythm, runs in sorted(rhythms.items()):
        last = runs.last_started
        if last is None or last.outcome != NOT_PUBLISHED:
            continue
        if all_good_at is None or all_good_at < last.ended_at:
            failed.append((last.ended_at, rhythm, runs))
    if failed:
        ended_at, rhythm, runs = max(failed, key=lambda one: one[0])
        detailed = runs.read_nodes()
        is_same = detailed is not None and detailed.ended_at == ended_at
        nodes = [
            node.name
            for node in (detailed.nodes if detailed is not None and is_same else ())
            if node.status in {"error", "fail", "runtime error"}
        ]
        assert runs.last_started is not None
        what = ", ".join(nodes) or "; ".join(runs.last_started.errors) or "it did not say what"
        age = (patient.now - ended_at).total_seconds()
        return Verdict(
            "last run",
            "fail",
            f"The last run ({rhythm}), {describe_age(age)} ago, was not published: {what}. "
            f"{patient.home.logs / 'dbt.log'} has the rest.",
            patient.command("run"),
        )
    if not good:
        return Verdict("last run", "skipped", "No good run is recorded yet.", patient.command("run"))
    age = (patient.now - max(good)).total_seconds()
    says = f"The last good run ended {describe_age(age)} ago."
    if age > SILENT_SECONDS:
        return Verdict("last run", "warn", f"{says} Does something start it?", patient.command("run"))
    return Verdict("last run", "ok", says)


@contextmanager
def _opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database read-only, as the default one of a connection."""
    with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
        quoted = str(path).replace("'", "''")
        connection.execute(f"attach '{quoted}' as looked_at (read_only)")
        connection.execute("use looked_at")
        yield connection


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
