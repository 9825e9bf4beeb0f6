"""What dbt-duckdb needs of us: the home, the run lock, the extensions, and the way to publish.

profiles.yml names this module as a plugin, so that a plain `dbt build` does the whole job. The home is
the folder that MNEMODUCK_HOME names, else that of the warehouse file that the profile names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError
from duckdb import DuckDBPyConnection

from mnemoduck import __version__
from mnemoduck.archive import archived_files, begin_archive, find_archive_fault, seal_archive
from mnemoduck.errors import ExpectationError, MnemoduckError
from mnemoduck.expectations.checkpoint import check_published
from mnemoduck.extensions import load_extension
from mnemoduck.home import FILE_MODE, FOLDER_MODE, HOME_VARIABLE, Home, open_home
from mnemoduck.llm.cache import ALIAS as CACHE_ALIAS
from mnemoduck.llm.cache import LlmCache, attach_cache
from mnemoduck.llm.selection import Selection, probe_server, read_digests, select_models
from mnemoduck.migrations.warehouse import SCHEMA_VERSION
from mnemoduck.pipeline.dbt_log import say
from mnemoduck.pipeline.history import (
    NOT_PUBLISHED,
    PUBLISHED,
    UNCHANGED,
    NodeRun,
    RunRecord,
    forget_runs,
    record_run,
    run_files,
)
from mnemoduck.pipeline.load import count_loaded, newest_batch, note_answers
from mnemoduck.pipeline.lock import RunLock, is_held_by_parent
from mnemoduck.pipeline.publish import fingerprint_build, publish
from mnemoduck.pipeline.run import COMMAND_VARIABLE, PUBLISH_VARIABLE, RHYTHM_VARIABLE
from mnemoduck.pipeline.tally import keep_counts
from mnemoduck.query_samples import sample_files
from mnemoduck.sentiment import register_sentiment
from mnemoduck.settings import SETTINGS, Settings, load_settings
from mnemoduck.warehouse import check_database_file

LOG_BYTES = 10**9
"""DuckDB writes its log (WAL) into the tables when it is so long: for most runs at their end, when a
snapshot is published, and not after each model."""

LOG_PARTS_OF_MEMORY = 32
"""Of a limited memory the log is at most such a part. What was updated is held in memory until the log is
written into the tables, and takes eight times as much there (two numbers each of a tenth of 10,000,000 rows:
a log of 32 MB, and 256 MB)."""


class Plugin(BasePlugin):
    """Loaded by dbt-duckdb in the dbt process, once for each invocation."""

    _home: Home
    _settings: Settings
    _lock: RunLock | None = None
    _selections: dict[str, Selection]
    _connection: DuckDBPyConnection
    _newest_batch_before: int | None = None
    _ended: dict[str, Any] | None = None
    """What the macro note_run says of the run, until it is recorded."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        assert self.creds is not None
        self._selections = {}
        # The process is dbt's own. DuckDB makes its WAL files, and dbt its logs and artifacts, readable for
        # everybody otherwise.
        os.umask(0o777 & ~FOLDER_MODE)
        try:
            self._home = open_home(os.environ.get(HOME_VARIABLE) or Path(self.creds.path).parent)
            self._settings = load_settings(self._home, overrides=_said_to_dbt())
            check_database_file(self._home.warehouse)
        except MnemoduckError as error:
            raise DbtRuntimeError(str(error)) from error
        self.creds.path = str(self._home.warehouse)

    def update_connection_config(self, creds: Any, config: dict[str, Any]) -> None:
        """Take the run lock before DuckDB takes its own, which would not say who holds it."""
        if self._lock is None and not is_held_by_parent():
            lock = RunLock(self._home)
            try:
                lock.acquire()
            except MnemoduckError as error:
                raise DbtRuntimeError(str(error)) from error
            self._lock = lock
        if self._newest_batch_before is None:
            with contextlib.suppress(MnemoduckError):  # a damaged manifest; the model that reads it says so
                self._newest_batch_before = newest_batch(self._home)

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        os.chmod(self._home.warehouse, FILE_MODE)
        self._connection = conn
        conn.execute(f"set global wal_autocheckpoint = '{LOG_BYTES}B'")
        if self._settings.run.duckdb_threads is not None:
            conn.execute(f"set global threads = {self._settings.run.duckdb_threads}")
        load_extension(conn, "fts")  # for its function stem()
        try:
            attach_cache(conn, self._home.llm_cache)
        except MnemoduckError as error:
            raise DbtRuntimeError(str(error)) from error
        conn.create_function("mnemoduck_llm_settings", self._llm_settings, side_effects=True)
        conn.create_function("mnemoduck_note_answers", self._note_answers, side_effects=True)
        register_sentiment(conn)
        conn.create_function("mnemoduck_limit_memory", self._limit_memory, side_effects=True)
        conn.create_function("mnemoduck_newest_batch", self._newest_batch, side_effects=True)
        conn.create_function("mnemoduck_publish", self._publish, side_effects=True)
        conn.create_function("mnemoduck_note_run", self._note_run, side_effects=True)
        conn.create_function("mnemoduck_schema_version", self._schema_version, side_effects=True)
        conn.create_function("mnemoduck_release", self._release, side_effects=True)
        conn.create_function("mnemoduck_record_run", self._record_run, side_effects=True)
        conn.create_function("mnemoduck_run_files", self._run_files, side_effects=True)
        conn.create_function("mnemoduck_sample_files", self._sample_files, side_effects=True)
        conn.create_function("mnemoduck_begin_archive", self._begin_archive, side_effects=True)
        conn.create_function("mnemoduck_seal_archive", self._seal_archive, side_effects=True)
        conn.create_function("mnemoduck_check_archive", self._check_archive, side_effects=True)

    def _publish(self, settings: str, batch_seq: int) -> str:
        when = os.environ.get(PUBLISH_VARIABLE, "").strip()
        if when == "later":
            return f"not published: a later command will ({PUBLISH_VARIABLE}=later)."
        if when not in {"", "now"}:
            raise ValueError(f"{PUBLISH_VARIABLE} is {when!r}; it takes now or later.")
        with self._connection.cursor() as cursor:
            archives = archived_files(cursor, self._home.warehouse.stem)
            cursor.execute(f"checkpoint {CACHE_ALIAS}")
        fingerprint = fingerprint_build(
            Path.cwd(),  # dbt works in the project
            settings,
            newest_batch(self._home),
            self._home.path if archives else None,
        )
        try:
            return publish(self._home, fingerprint, batch_seq, self._examine)
        except MnemoduckError as error:  # it ends the hook, so nobody comes to record the run after it
            self._record(f"{NOT_PUBLISHED}: {error}", None, str(error))
            raise

    def _note_run(self, told: str) -> bool:
        self._ended = json.loads(told)
        return True

    def _record_run(self, said: str, publish_seconds: float) -> bool:
        return self._record(said, publish_seconds)

    def _record(self, said: str, publish_seconds: float | None, *errors: str) -> bool:
        """Record the run that was noted. What keeps it from being recorded is said, and does not fail it."""
        if self._ended is None:
            return False
        outcome, _, snapshot = said.partition(": ")
        told, self._ended = self._ended, None
        nodes = tuple(NodeRun(**node) for node in told["nodes"])
        if os.environ.get(PUBLISH_VARIABLE, "").strip() == "later" and not any(map(_has_failed, nodes)):
            return False  # one of many commands of a run, which its last one records
        try:
            loaded = count_loaded(self._home, self._newest_batch_before or 0)
            record = RunRecord(
                run_id=told["run_id"],
                command=os.environ.get(COMMAND_VARIABLE) or _command(told["command"]),
                rhythm=os.environ.get(RHYTHM_VARIABLE) or None,
                outcome=outcome,
                started_at=told["started_at"],
                ended_at=datetime.now(UTC),
                snapshot=snapshot if outcome in (PUBLISHED, UNCHANGED) else None,
                batch_seq=newest_batch(self._home),
                events_loaded=loaded.events,
                memories_loaded=loaded.memories,
                lines_quarantined=loaded.lines_quarantined,
                as_of=_moment(told["as_of"]),
                peak_memory_bytes=_peak_memory_bytes(),
                load_seconds=next((node.seconds for node in nodes if node.name == "raw_batches"), None),
                publish_seconds=publish_seconds if outcome in (PUBLISHED, UNCHANGED) else None,
                errors=errors,
                nodes=nodes,
            )
            record_run(self._home, record)
            forget_runs(self._home, told["kept_days"], keep_counts)
        except (MnemoduckError, OSError) as error:
            say(str(error))
            return False
        return True

    def _schema_version(self) -> int:
        return SCHEMA_VERSION

    def _release(self) -> str:
        return __version__

    def _run_files(self, newest_run_ended_at: str) -> list[str]:
        """Return the files of the history in which runs can be that ended after the newest that is known."""
        since = None
        if newest_run_ended_at:  # a day of slack: records of two processes are not written in their order
            since = date.fromisoformat(newest_run_ended_at[:10]) - timedelta(days=1)
        return [str(path) for path in run_files(self._home, since)]

    def _sample_files(self) -> list[str]:
        return [str(path) for path in sample_files(self._home)]

    def _examine(self, candidate: Path, before: Path | None) -> None:
        """Check expectations on what is about to be published, if they are on."""
        severity = self._settings.expectations.published
        if severity == "off":
            return
        verdict = check_published(self._home, Path.cwd(), severity, candidate, before)
        if verdict.stops:
            raise ExpectationError("\n".join(verdict.lines))
        for line in verdict.lines:
            say(line)

    def _newest_batch(self) -> int:
        return newest_batch(self._home)

    def _llm_settings(self, request: str) -> str:
        if request not in self._selections:
            with self._connection.cursor() as cursor, LlmCache(cursor, CACHE_ALIAS) as cache:
                selection = select_models(
                    _with_settings(request, self._settings),
                    cache,
                    probe_server,
                    {**os.environ, **self._settings.environment()},
                    known_digests=read_digests(cursor),
                )
            for notice in selection.notices:
                say(notice)
            self._selections[request] = selection
        return self._selections[request].to_json()

    def _limit_memory(self, asked: str) -> str:
        limit = asked.strip()
        if self._settings.run.memory_limit is not None:
            limit = f"{self._settings.run.memory_limit}B"
        if limit:
            with self._connection.cursor() as cursor:
                try:
                    cursor.execute("set global memory_limit = $1", [limit])
                    row = cursor.execute(
                        "select parse_formatted_bytes(current_setting('memory_limit'))"
                    ).fetchone()
                    assert row is not None
                    log_bytes = min(LOG_BYTES, row[0] // LOG_PARTS_OF_MEMORY)
                    cursor.execute(f"set global wal_autocheckpoint = '{log_bytes}B'")
                except duckdb.Error as error:
                    raise ValueError(
                        f"The memory limit is {limit}; it takes a size such as 4GB. "
                        "Change memory_limit in dbt_project.yml."
                    ) from error
        return limit

    def _note_answers(self, newest_answer: int, asked_with: str) -> int:
        return note_answers(self._home, newest_answer, asked_with)

    def _begin_archive(self, model: str, month: str) -> str:
        return str(begin_archive(self._home, model, month))

    def _seal_archive(self, temporary: str) -> list[str]:
        sealed = seal_archive(self._home, Path(temporary))
        return [sealed.file, sealed.sha256, str(sealed.bytes)]

    def _check_archive(self, path: str, sha256: str) -> str:
        return find_archive_fault(Path(path), sha256)


def _has_failed(node: NodeRun) -> bool:
    return node.status not in {"success", "pass", "warn", "skipped", "no-op"}


def _command(invocation: str) -> str:
    """Return what dbt was asked for: its name, and what follows, as far as it is of use years later."""
    return re.sub(r"^\S*dbt\b", "dbt", invocation)[:500]


def _moment(text: str) -> datetime | None:
    """Return the variable as_of, which the macro of that name has checked; None for now."""
    if text.strip().lower() in {"", "now", "none", "null"}:
        return None
    moment = datetime.fromisoformat(text.strip())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _peak_memory_bytes() -> int | None:
    """Return VmHWM of this process (proc(5)); what getrusage tells is also that of who started it."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _said_to_dbt() -> dict[str, Any]:
    """Return what `dbt --vars` says of what is a setting: that is a command line too."""
    said = getattr(get_flags(), "VARS", None) or {}
    return {key: said.get(one.variable) for key, one in SETTINGS.items() if one.variable is not None}


def _with_settings(request: str, settings: Settings) -> str:
    """Return what models are to be asked with, where a setting goes before the variable of dbt."""
    asked: dict[str, Any] = json.loads(request)
    llm = settings.llm
    asked["host"] = llm.host or asked["host"]
    chosen = {
        "timeout_seconds": llm.timeout_seconds,
        "attempts": llm.attempts,
        "breaker_failures": llm.breaker_failures,
        "concurrency": llm.concurrency,
        "budget_calls": llm.budget_calls,
        "budget_tokens": llm.budget_tokens,
        "budget_seconds": llm.budget_seconds,
        "commit_seconds": llm.commit_seconds,
        "embedding_batch": llm.embedding_batch,
    }
    asked["limits"] |= {name: limit for name, limit in chosen.items() if limit is not None}
    return json.dumps(asked)
