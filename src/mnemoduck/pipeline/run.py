"""`mnemoduck run`: the real dbt in a process of its own, under the home's lock, with a summary.

dbt runs as a subprocess because its in-process runner keeps the warehouse locked and has shown stale
data when it is invoked again. Its structured log is read line by line for progress.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnemoduck.errors import PipelineError, UsageError
from mnemoduck.home import FOLDER_MODE, HOME_VARIABLE, Home
from mnemoduck.llm.settings import EMBEDDINGS_VARIABLE, MODE_VARIABLE
from mnemoduck.pipeline.load import Batch, read_manifest
from mnemoduck.pipeline.lock import INHERITED_VARIABLE, RunLock
from mnemoduck.pipeline.rhythm import choose_rhythm
from mnemoduck.warehouse import check_database_file

SAYS = "mnemoduck "
"""How a line of dbt's log begins that a macro of ours has for the user."""

PUBLISHED_PREFIX = f"{SAYS}published: "
UNCHANGED_PREFIX = f"{SAYS}unchanged: "
NOT_PUBLISHED_PREFIX = f"{SAYS}not published: "
CALLS_PATTERN = re.compile(
    rf"{SAYS}asks (?P<model>.+): (?P<done>\d+) of (?P<total>\d+) (?P<what>prompts|vectors), "
    r"(?P<failed>\d+) failed"
)
"""How a line tells how far the calls of a model are, see mnemoduck.llm.enrichment."""


@dataclass(frozen=True)
class NodeFailure:
    """A model or test that failed, with dbt's message."""

    name: str
    status: str
    message: str


@dataclass
class RunSummary:
    """What one run did. `outcome` is "published", "unchanged" or "not published"."""

    outcome: str = "not published"
    snapshot: str | None = None
    events_loaded: int = 0
    memories_loaded: int = 0
    lines_quarantined: int = 0
    models: int = 0
    tests: int = 0
    skipped: int = 0
    failures: list[NodeFailure] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    """What the models have to say that is no failure: an archived month that came back, rows left out."""
    lacks: str | None = None
    """Why there is no snapshot, if nothing of this run failed: models that were not built and tested."""
    remarks: list[str] = field(default_factory=list)
    """Lines that are not of dbt's log: warnings of the interpreter, or how it died."""
    seconds: float = 0.0

    @property
    def is_ok(self) -> bool:
        return self.outcome != "not published" and not self.failures and not self.errors


@dataclass(frozen=True)
class Progress:
    """How far a run is: `done` of `total` nodes, `name` the one that was finished last."""

    done: int
    total: int
    name: str


@dataclass(frozen=True)
class CallProgress:
    """How far a model's calls are: `done` of `total` prompts or vectors (`what`), `failed` in vain."""

    model: str
    what: str
    done: int
    total: int
    failed: int


def run_pipeline(
    home: Home,
    project: Path,
    *,
    rhythm: str | None = None,
    wait_seconds: float = 0,
    full_refresh: bool = False,
    as_of: datetime | None = None,
    threads: int | None = None,
    llm: str | None = None,
    embeddings: str | None = None,
    on_progress: Callable[[Progress | CallProgress], None] = lambda _: None,
) -> RunSummary:
    """Load, build, test and publish once; return what happened, also if something failed.

    Args:
        rhythm: one of RHYTHMS, to build the models of that rhythm only; None for all. Where that cannot be
            published (before the first complete build, or because a model of a slower rhythm failed when
            it was built last), everything is built, and a notice says so.
        wait_seconds: how long to wait for a run that is at work.
        llm: auto, off, cached or ollama, see the variable llm_mode.
        embeddings: auto, none, ollama or minilm, see the variable embedding_provider.

    Raises:
        UsageError: a rhythm is asked for together with a full refresh, which is of everything.
        LockedError: another run holds the home.
        StorageError: the warehouse file is damaged.
        PipelineError: dbt could not be started.
    """
    if rhythm is not None and full_refresh:
        raise UsageError("A full refresh builds everything; leave out --rhythm, or --full-refresh.")
    check_database_file(home.warehouse)
    started = time.monotonic()
    with RunLock(home, wait_seconds) as lock:
        before = _last_batch(home)
        summary = RunSummary()
        arguments = ["build", *(["--full-refresh"] if full_refresh else []), *_variables(as_of)]
        chosen = _environment(llm, embeddings)

        def build(selected: str | None) -> None:
            selection = ["--selector", selected] if selected else []
            with start_dbt(
                [*arguments, *selection], home, project, lock, threads=threads, environment=chosen
            ) as process:
                for line in process.stdout or ():
                    _read_log_line(line, summary, on_progress)

        if rhythm is None:
            build(None)
        else:
            selected, reason = choose_rhythm(home, rhythm)
            if reason:
                summary.notices.append(reason)
            build(selected)
            if selected and summary.lacks and not summary.failures and not summary.errors:
                summary.notices.append(f"{summary.lacks} So everything is built.")
                summary.lacks = None
                build(None)
        _count_loaded(summary, read_manifest(home), before)
    summary.seconds = time.monotonic() - started
    if not summary.is_ok and not summary.failures and not summary.errors:
        summary.errors.append("; ".join(["dbt stopped without publishing", *summary.remarks[-3:]]))
    return summary


def _variables(as_of: datetime | None) -> list[str]:
    if as_of is None:
        return []
    moment = as_of.astimezone(UTC).replace(tzinfo=None)
    return ["--vars", json.dumps({"as_of": moment.isoformat()})]


def _environment(llm: str | None, embeddings: str | None) -> dict[str, str]:
    """Return what says who answers. As variables, dbt would read the whole project anew when they change."""
    said = {MODE_VARIABLE: llm, EMBEDDINGS_VARIABLE: embeddings}
    return {name: value for name, value in said.items() if value is not None}


@contextmanager
def start_dbt(
    arguments: Sequence[str],
    home: Home,
    project: Path,
    lock: RunLock,
    *,
    threads: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Start dbt in the project, on a home whose lock is held; it writes its log to stdout as JSON lines.

    It has ended when the context is left.

    Args:
        environment: variables of it beside those of this process.

    Raises:
        UsageError: the number of threads is not at least 1.
        PipelineError: dbt could not be started.
    """
    all_variables = {
        "DBT_WRITE_JSON": "false",  # artifacts take a second of each run; who wants them sets it to true
        **os.environ,
        **(environment or {}),
        HOME_VARIABLE: str(home.path),
        INHERITED_VARIABLE: str(lock.descriptor),
    }
    if threads is not None:
        if threads < 1:
            raise UsageError(f"--threads is {threads}; it takes a whole number of at least 1.")
        all_variables["MNEMODUCK_THREADS"] = str(threads)
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--log-format", "json"),
                *arguments,
                *("--project-dir", str(project), "--profiles-dir", str(project)),
                *("--target-path", str(home.target), "--log-path", str(home.logs)),
            ],
            cwd=project,
            env=all_variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[lock.descriptor],
            umask=0o777 & ~FOLDER_MODE,  # dbt begins its log before it loads our plugin
        )
    except OSError as error:
        raise PipelineError(f"dbt could not be started: {error}.") from error
    assert process.stdout is not None
    try:
        yield process
    except BaseException:
        process.terminate()
        raise
    finally:
        process.stdout.close()
        process.wait()


def _read_log_line(
    line: str, summary: RunSummary, on_progress: Callable[[Progress | CallProgress], None]
) -> None:
    try:
        entry: dict[str, Any] = json.loads(line)
        name, data, message = entry["info"]["name"], entry.get("data", {}), entry["info"]["msg"]
        level = entry["info"]["level"]
    except (ValueError, KeyError, TypeError):
        if line.strip():
            summary.remarks.append(line.strip())
        return
    if name in {"LogModelResult", "LogTestResult", "LogSeedResult", "LogSnapshotResult"}:
        _read_node_result(name, data, message, summary)
        on_progress(Progress(data.get("index", 0), data.get("total", 0), data["node_info"]["node_name"]))
    elif name == "SkippingDetails":
        summary.skipped += 1
    elif calls := CALLS_PATTERN.fullmatch(message):
        on_progress(
            CallProgress(
                model=calls["model"],
                what=calls["what"],
                done=int(calls["done"]),
                total=int(calls["total"]),
                failed=int(calls["failed"]),
            )
        )
    elif message.startswith(PUBLISHED_PREFIX):
        summary.outcome, summary.snapshot = "published", message.removeprefix(PUBLISHED_PREFIX)
    elif message.startswith(UNCHANGED_PREFIX):
        summary.outcome, summary.snapshot = "unchanged", message.removeprefix(UNCHANGED_PREFIX)
    elif message.startswith(NOT_PUBLISHED_PREFIX):
        _, _, missing = message.partition("Not built and tested: ")
        summary.lacks = f"Not built and tested: {missing}"
    elif name == "JinjaLogInfo" and message.startswith(SAYS):
        summary.notices.append(message.removeprefix(SAYS))
    elif level == "error" and name not in {"EndOfRunSummary", "LogHookEndLine", "MainStackTrace"}:
        _attach_message(summary, data, message)


def _read_node_result(name: str, data: dict[str, Any], message: str, summary: RunSummary) -> None:
    status = data["node_info"].get("node_status", "")
    if name == "LogTestResult":
        summary.tests += 1
    else:
        summary.models += 1
    if status in {"error", "fail", "runtime error"}:
        summary.failures.append(NodeFailure(data["node_info"]["node_name"], status, message.strip()))


def _attach_message(summary: RunSummary, data: dict[str, Any], message: str) -> None:
    text = without_traceback(message)
    name = data.get("node_info", {}).get("node_name")
    for index, failure in enumerate(summary.failures):
        if failure.name == name and text:
            summary.failures[index] = NodeFailure(failure.name, failure.status, text)
            return
    if text:
        summary.errors.append(text)


def without_traceback(message: str) -> str:
    """Return dbt's message without the macros that called each other, and with the error at the end of a
    traceback in its place; the log has it whole."""
    before, marker, trace = message.strip().partition("Traceback (most recent call last):")
    lines = [line for line in before.splitlines() if not line.strip().startswith(("> in ", "> called by "))]
    text = "\n".join(lines).rstrip()
    return f"{text} {trace.strip().splitlines()[-1].strip()}" if marker and trace.strip() else text


def _last_batch(home: Home) -> int:
    batches = read_manifest(home)
    return batches[-1].batch_seq if batches else 0


def _count_loaded(summary: RunSummary, batches: list[Batch], before: int) -> None:
    for batch in batches:
        if batch.batch_seq > before:
            summary.events_loaded += sum(batch.event_counts.values())
            summary.memories_loaded += batch.event_counts.get("memory", 0)
            summary.lines_quarantined += batch.quarantined_count
