"""The real thing: the real dbt and the real command line in subprocesses, on homes in tmp folders."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pytest
import yaml

from mnemoduck.cli import main
from tests.integration import forks

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
    "staging.stg_steps",
    "staging.stg_observations",
    "staging.stg_episodes",
    "staging.stg_feedback",
    "staging.episode_features",
    "staging.int_episode_reflections",
    "main.episode_reflections",
    "staging.int_pattern_episodes",
    "staging.int_pattern_histories",
    "staging.int_pattern_periods",
    # Those in models/observability tell of runs: each build has more to tell than the one before.
)
PARSED = "partial_parse.msgpack"
PARSED_VARIABLE = "DBT_PARTIAL_PARSE_FILE_PATH"
OF_DEVELOPERS = frozenset({"PYTHONUNBUFFERED"})
"""Variables that are set where tests run, not where people use the commands, and that change what they do."""
SHARED_VARIABLE = "MNEMODUCK_TESTS_SHARED"
BOOKKEEPING = (
    "batch_seq",
    "changed_batch_seq",
    "run_id",
    "segment",
    "line",
    "loaded_at",
    "files",
    "left_histories",
)
"""Columns that say how a row came to be, not what it says: they may differ between equal contents."""


@dataclass(frozen=True)
class Done:
    """A finished process."""

    code: int
    out: str
    err: str


class Workbench:
    """One home, and the commands that people use on it."""

    def __init__(self, home: Path, *, forks: bool = True) -> None:
        self.home = home
        self.forks = forks

    def mnemoduck(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Done:
        return self._run(["mnemoduck", *arguments], cwd or PROJECT, environment)

    def mnemoduck_here(self, *arguments: str) -> Done:
        """Call what `mnemoduck` does in this process: a new one takes a second to begin."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self._environment({})),
            mock.patch.object(sys, "argv", ["mnemoduck", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            contextlib.chdir(PROJECT),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, out.getvalue(), err.getvalue())

    def dbt(self, *arguments: str, project: Path = PROJECT, **environment: str) -> Done:
        artifacts = [f"--target-path={self.home}-target", f"--log-path={self.home}-logs"]
        parsed, written = self._parsed(project, arguments), Path(f"{self.home}-target", PARSED)
        written.unlink(missing_ok=True)  # dbt writes it if it had to parse anything
        command = ["dbt", *arguments, *artifacts]
        done = self._run(command, project, {PARSED_VARIABLE: str(parsed), **environment})
        if written.exists():
            self._keep(written, project, arguments)
        return done

    def start_dbt(
        self, *arguments: str, project: Path = PROJECT, **environment: str
    ) -> subprocess.Popen[str]:
        """Start dbt as `dbt` does, without waiting for it."""
        artifacts = [f"--target-path={self.home}-target", f"--log-path={self.home}-logs"]
        environment = {PARSED_VARIABLE: str(self._parsed(project, arguments)), **environment}
        return self.start(str(_bin("dbt")), *arguments, *artifacts, cwd=project, **environment)

    def start(self, *command: str, cwd: Path = PROJECT, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=cwd,
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

    def _parsed(self, project: Path, arguments: Sequence[str]) -> Path:
        """Return what dbt knows of a project with such variables: of this home, else of any of this kind."""
        kind = _kind(project, arguments)
        known = [Path(f"{self.home}-parsed", kind), shared_folder() / kind, parsed_project()]
        return next(path for path in known if path.exists())

    def _keep(self, written: Path, project: Path, arguments: Sequence[str]) -> None:
        kind = _kind(project, arguments)
        own, shared = Path(f"{self.home}-parsed", kind), shared_folder() / kind
        own.parent.mkdir(exist_ok=True)
        shutil.copy(written, own)
        if not shared.exists():
            with tempfile.NamedTemporaryFile(dir=shared.parent, delete=False) as file:
                file.write(written.read_bytes())
            os.replace(file.name, shared)

    def _run(self, command: Sequence[str], cwd: Path, environment: dict[str, str]) -> Done:
        """Run what was installed, or a fork of what has imported it: see forks.py."""
        if self.forks:
            # What dbt says is on its output; its log holds every statement, which takes it a second.
            environment = {"DBT_LOG_LEVEL_FILE": "none", **environment}
            return Done(*forks.run(command, cwd=cwd, env=self._environment(environment)))
        done = subprocess.run(
            [str(_bin(command[0])), *command[1:]],
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
            **{name: value for name, value in os.environ.items() if name not in OF_DEVELOPERS},
            PARSED_VARIABLE: str(parsed_project()),
            "DBT_WRITE_JSON": "false",  # nothing reads dbt's artifacts here, and they take it a second
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

    def parse(folder: Path) -> None:
        artifacts = [f"--target-path={folder}", f"--log-path={folder}"]
        subprocess.run([str(_bin("dbt")), "-q", "parse", *artifacts], cwd=PROJECT, check=True)
        shutil.copy(folder / PARSED, shared_folder() / _kind(PROJECT, ()))

    return made_once("parsed", parse) / PARSED


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that is made once in a run of the tests, by whichever of its workers comes first.

    Nobody may change what is in it.
    """
    folder = shared_folder() / name
    with (shared_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = folder / ".ready"
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder


def shared_folder() -> Path:
    """Return a folder that all workers of this run of the tests share: see conftest.py."""
    return Path(os.environ[SHARED_VARIABLE])


def _kind(project: Path, arguments: Sequence[str]) -> str:
    """Return a name for what dbt must know alike to use it again: the settings, the variables, the target.

    With other ones it parses the whole project anew; other models and macros are a matter of those alone.
    """
    words = list(arguments)
    texts = [word.partition("=")[2] for word in words if word.startswith("--vars=")]
    texts += [words[place + 1] for place, word in enumerate(words) if word == "--vars"]
    variables = [yaml.safe_load(text) for text in texts]
    known = (project / "dbt_project.yml").read_bytes() + json.dumps(variables, sort_keys=True).encode()
    return f"{hashlib.sha256(known).hexdigest()[:16]}.msgpack"


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
