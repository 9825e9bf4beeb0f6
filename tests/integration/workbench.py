"""The real thing: the real dbt and the real command line in subprocesses, on homes in tmp folders."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE_STREAM = PROJECT / "seeds" / "sample_stream.jsonl"
SAMPLE_END = "2026-03-15T18:30:00Z"
SHARED_DATA = PROJECT.parent / "shared" / "data"

TABLES = (
    "staging.raw_batches",
    "staging.stg_memories",
    "staging.stg_forgets",
    "staging.stg_recalls",
    "staging.int_text_buckets",
    "staging.int_texts",
    "staging.int_forgotten_memories",
    "retrieval.search_documents",
    "retrieval.search_postings",
    "retrieval.memory_embeddings",
    "main.memory_features",
    "main.short_term_memories",
    "main.consolidated_memories",
    "staging.int_fact_statements",
    "main.facts",
    "main.session_gists",
    "main.memory_concepts",
    "staging.int_concepts",
    "staging.int_associations",
)
BOOKKEEPING = ("batch_seq", "changed_batch_seq", "run_id", "segment", "line", "loaded_at", "files")
"""Columns that say how a row came to be, not what it says: they may differ between equal contents."""


@dataclass(frozen=True)
class Done:
    """A finished process."""

    code: int
    out: str
    err: str


class Workbench:
    """One home, and the commands that people use on it."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def mnemoduck(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Done:
        return self._run([str(_bin("mnemoduck")), *arguments], cwd or PROJECT, environment)

    def dbt(self, *arguments: str, project: Path = PROJECT, **environment: str) -> Done:
        artifacts = [f"--target-path={self.home}-target", f"--log-path={self.home}-logs"]
        return self._run([str(_bin("dbt")), *arguments, *artifacts], project, environment)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=self._environment(environment),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def start_python(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-c", code, *arguments)

    def build(self) -> None:
        done = self.mnemoduck("run")
        assert done.code == 0, done.out + done.err

    def snapshot(self) -> Path:
        return self.home / "published" / (self.home / "published" / "CURRENT").read_text().strip()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the published snapshot with a plain DuckDB client, nothing of ours loaded."""
        with duckdb.connect(str(self.snapshot()), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def _run(self, command: Sequence[str], cwd: Path, environment: dict[str, str]) -> Done:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def _environment(self, changes: dict[str, str]) -> dict[str, str]:
        return {
            **os.environ,
            "DBT_PARTIAL_PARSE_FILE_PATH": str(parsed_project()),
            "MNEMODUCK_HOME": str(self.home),
            "COLUMNS": "160",
            "NO_COLOR": "1",
            # Nobody answers there: a developer's own model server is none of the tests' business.
            "OLLAMA_HOST": "http://127.0.0.1:9",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **changes,
        }


@cache
def parsed_project() -> Path:
    """Return what dbt knows of the project once it is parsed. That takes five seconds: once for all homes.

    dbt looks what has changed since, so a changed copy of the project may use it as well.
    """
    folder = Path(tempfile.mkdtemp(prefix="mnemoduck-parsed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    parse = ["parse", f"--target-path={folder}", f"--log-path={folder}"]
    subprocess.run([str(_bin("dbt")), "-q", *parse], cwd=PROJECT, check=True)
    return folder / "partial_parse.msgpack"


def checksums(database: Path, *, with_bookkeeping: bool = True) -> dict[str, tuple[int, str]]:
    """Return for each table its number of rows and a checksum that ignores their order."""
    found = {}
    with duckdb.connect(str(database), read_only=True) as connection:
        for table in TABLES:
            columns = [row[0] for row in connection.execute(f"describe {table}").fetchall()]
            kept = [c for c in columns if with_bookkeeping or c not in BOOKKEEPING]
            texts = ", ".join(f"coalesce(cast({column} as varchar), '<null>')" for column in kept)
            row = connection.execute(
                f"select count(*), md5(coalesce(string_agg(line, chr(10) order by line), '')) "
                f"from (select concat_ws('|', {texts}) as line from {table})"
            ).fetchone()
            assert row is not None
            found[table] = (row[0], row[1])
    return found


def _bin(name: str) -> Path:
    return Path(sys.executable).parent / name
