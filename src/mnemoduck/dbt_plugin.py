"""What dbt-duckdb needs of us: the home, the run lock, the extensions, and the way to publish.

profiles.yml names this module as a plugin, so that a plain `dbt build` does the whole job. The home is
the folder that MNEMODUCK_HOME names, else that of the warehouse file that the profile names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError
from duckdb import DuckDBPyConnection

from mnemoduck.archive import archived_files, begin_archive, find_archive_fault, seal_archive
from mnemoduck.errors import MnemoduckError
from mnemoduck.extensions import load_extension
from mnemoduck.home import FILE_MODE, FOLDER_MODE, HOME_VARIABLE, Home, open_home
from mnemoduck.llm.cache import ALIAS as CACHE_ALIAS
from mnemoduck.llm.cache import LlmCache, attach_cache
from mnemoduck.llm.selection import Selection, probe_server, read_digests, select_models
from mnemoduck.pipeline.dbt_log import say
from mnemoduck.pipeline.load import newest_batch, note_answers
from mnemoduck.pipeline.lock import RunLock, is_held_by_parent
from mnemoduck.pipeline.publish import fingerprint_build, publish
from mnemoduck.sentiment import register_sentiment
from mnemoduck.warehouse import check_database_file

MEMORY_VARIABLE = "MNEMODUCK_MEMORY_LIMIT"
"""How much memory DuckDB may hold in a run, such as 4GB; goes before the variable memory_limit."""

PUBLISH_VARIABLE = "MNEMODUCK_PUBLISH"
"""`later` where one build is made of several commands, as by a scheduler with a task for each model: none of
them publishes, since after the load of new events, and before what is made from them, each model is one that
was built and tested. The last command, without it, does."""


class Plugin(BasePlugin):
    """Loaded by dbt-duckdb in the dbt process, once for each invocation."""

    _home: Home
    _lock: RunLock | None = None
    _selections: dict[str, Selection]
    _connection: DuckDBPyConnection

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        assert self.creds is not None
        self._selections = {}
        # The process is dbt's own. DuckDB makes its WAL files, and dbt its logs and artifacts, readable for
        # everybody otherwise.
        os.umask(0o777 & ~FOLDER_MODE)
        try:
            self._home = open_home(os.environ.get(HOME_VARIABLE) or Path(self.creds.path).parent)
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

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        os.chmod(self._home.warehouse, FILE_MODE)
        self._connection = conn
        load_extension(conn, "fts")  # for its function stem()
        try:
            attach_cache(conn, self._home.llm_cache)
        except MnemoduckError as error:
            raise DbtRuntimeError(str(error)) from error
        conn.create_function("mnemoduck_llm_settings", self._llm_settings, side_effects=True)
        conn.create_function("mnemoduck_note_answers", self._note_answers, side_effects=True)
        register_sentiment(conn)
        conn.create_function("mnemoduck_limit_memory", self._limit_memory, side_effects=True)
        conn.create_function("mnemoduck_publish", self._publish, side_effects=True)
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
        return publish(self._home, fingerprint, batch_seq)

    def _llm_settings(self, request: str) -> str:
        if request not in self._selections:
            with self._connection.cursor() as cursor, LlmCache(cursor, CACHE_ALIAS) as cache:
                selection = select_models(request, cache, probe_server, known_digests=read_digests(cursor))
            for notice in selection.notices:
                say(notice)
            self._selections[request] = selection
        return self._selections[request].to_json()

    def _limit_memory(self, asked: str) -> str:
        limit = os.environ.get(MEMORY_VARIABLE, "").strip() or asked.strip()
        if limit:
            with self._connection.cursor() as cursor:
                try:
                    cursor.execute("set global memory_limit = $1", [limit])
                except duckdb.Error as error:
                    raise ValueError(
                        f"The memory limit is {limit}; it takes a size such as 4GB. "
                        f"Change {MEMORY_VARIABLE}, or memory_limit in dbt_project.yml."
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
