"""`mnemoduck run`: the real dbt in a process of its own, under the home's lock, with a summary.

dbt runs as a subprocess because its in-process runner keeps the warehouse locked and has shown stale
data when it is invoked again. Its structured log is read line by line for progress.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, Field, ValidationError

from mnemoduck.errors import LockedError, PipelineError, StorageError, UsageError
from mnemoduck.expectations.checkpoint import check_incoming
from mnemoduck.home import FOLDER_MODE, HOME_VARIABLE, Home
from mnemoduck.llm.settings import EMBEDDINGS_VARIABLE, MODE_VARIABLE
from mnemoduck.migrations.warehouse import find_outdated
from mnemoduck.pipeline.history import (
    NOT_PUBLISHED,
    PUBLISHED,
    SKIPPED,
    UNCHANGED,
    NodeRun,
    RunRecord,
    is_recorded,
    record_run,
)
from mnemoduck.pipeline.load import count_loaded, newest_batch
from mnemoduck.pipeline.lock import INHERITED_VARIABLE, RunLock
from mnemoduck.pipeline.rhythm import choose_rhythm
from mnemoduck.settings import THREADS_VARIABLE, load_settings
from mnemoduck.warehouse import check_database_file

COMMAND_VARIABLE = "MNEMODUCK_RUN_COMMAND"
"""Tells the dbt of a run what `mnemoduck` was asked for, for its record."""

RHYTHM_VARIABLE = "MNEMODUCK_RUN_RHYTHM"
"""Tells it the rhythm, which is empty where all is built."""

PUBLISH_VARIABLE = "MNEMODUCK_PUBLISH"
"""`later` where one build is made of several commands, as by a scheduler with a task for each model: none of
them publishes, since after the load of new events, and before what is made from them, each model is one that
was built and tested. The last command, without it, does. A run is one, whatever it inherits."""

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

RAISED_PATTERN = re.compile(
    r"Python exception occurred while executing the UDF: \w+: (?P<said>.*?)\n\s*At:\n", re.DOTALL
)
"""How DuckDB tells what a function of ours has raised, before all that called it."""


@dataclass(frozen=True)
class NodeFailure:
    """A model or test that failed, with dbt's message."""

    name: str
    status: str
    message: str


@dataclass
class RunSummary:
    """What one run did. `outcome` is "published", "unchanged" or "not published"."""

    outcome: str = NOT_PUBLISHED
    run_id: str | None = None
    """dbt's invocation id; None if dbt has not begun."""
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
    nodes: list[NodeRun] = field(default_factory=list)
    """What dbt's log says of each model and test that has ended."""

    @property
    def is_ok(self) -> bool:
        return self.outcome != NOT_PUBLISHED and not self.failures and not self.errors


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
    lock: RunLock | None = None,
    environment: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress | CallProgress], None] = lambda _: None,
) -> RunSummary:
    """Load, build, test and publish once; return what happened, also if something failed.

    What a release built whose schema incremental models cannot follow is built anew, and a notice says so.

    Every run is recorded in the history, once: by the dbt of it when it ends, else here, if dbt was not
    started or did not come so far.

    Args:
        rhythm: one of RHYTHMS, to build the models of that rhythm only; None for all. Where that cannot be
            published (before the first complete build, or because a model of a slower rhythm failed when
            it was built last), everything is built, and a notice says so.
        wait_seconds: how long to wait for a run that is at work.
        llm: auto, off, cached or ollama, see the variable llm_mode.
        embeddings: auto, none, ollama or minilm, see the variable embedding_provider.
        lock: the home's lock, if the caller holds it, who has also loaded what waits.
        environment: further variables for dbt, which go before the settings.

    Raises:
        UsageError: a rhythm is asked for together with a full refresh, which is of everything.
        LockedError: another run holds the home; recorded as skipped.
        StorageError: the warehouse file is damaged.
        PipelineError: dbt could not be started.
    """
    if rhythm is not None and full_refresh:
        raise UsageError("A full refresh builds everything; leave out --rhythm, or --full-refresh.")
    asked = ["run", *(["--full-refresh"] if full_refresh else [])]
    asked += [f"--rhythm {rhythm}"] if rhythm else []
    asked += [f"--as-of {as_of.isoformat()}"] if as_of else []
    asked += [f"--{name} {value}" for name, value in (("llm", llm), ("embeddings", embeddings)) if value]
    command = " ".join(asked)
    chosen = {
        **_environment(llm, embeddings),
        COMMAND_VARIABLE: command,
        RHYTHM_VARIABLE: rhythm or "",
        PUBLISH_VARIABLE: "now",
        **(environment or {}),
    }
    summary = RunSummary()

    def build(selected: str | None, lock: RunLock) -> int | None:
        selection = ["--selector", selected] if selected else []
        options = [*(["--full-refresh"] if full_refresh or outdated else []), *_variables(as_of)]
        with start_dbt(
            ["build", *options, *selection], home, project, lock, threads=threads, environment=chosen
        ) as process:
            for line in process.stdout or ():
                _read_log_line(line, summary, on_progress)
        return process.returncode

    outdated: str | None = None
    with _recording(summary, home, command, rhythm, as_of):
        check_database_file(home.warehouse)
        with nullcontext(lock) if lock else RunLock(home, wait_seconds) as held:
            if lock is None:
                _finish_purge(home, project, held, summary)
            before = newest_batch(home)
            if lock is None and not _may_load(home, project, as_of, summary):
                return summary
            if outdated := find_outdated(home):
                rhythm = None
                summary.notices.append(outdated)
            selected, reason = choose_rhythm(home, rhythm) if rhythm else (None, None)
            if reason:
                summary.notices.append(reason)
            code = build(selected, held)
            if selected and summary.lacks and not summary.failures and not summary.errors:
                summary.notices.append(f"{summary.lacks} So everything is built.")
                summary.lacks = None
                code = build(None, held)
            loaded = count_loaded(home, before)
            summary.events_loaded, summary.memories_loaded = loaded.events, loaded.memories
            summary.lines_quarantined = loaded.lines_quarantined
            if not summary.is_ok and not summary.failures and not summary.errors:
                summary.errors.append(summary.lacks or _how_it_died(code, summary.remarks))
    return summary


@contextmanager
def _recording(
    summary: RunSummary, home: Home, command: str, rhythm: str | None, as_of: datetime | None
) -> Iterator[None]:
    """Say how long what is done in the context took, and record it unless its dbt has."""
    started, started_at = time.monotonic(), datetime.now(UTC)
    try:
        yield
    except UsageError:
        raise  # what cannot be done as it was asked for is no run
    except BaseException as error:
        outcome = SKIPPED if isinstance(error, LockedError) else NOT_PUBLISHED
        _record(
            summary, home, command, rhythm, as_of, started_at, outcome, str(error) or type(error).__name__
        )
        raise
    summary.seconds = time.monotonic() - started
    _record(summary, home, command, rhythm, as_of, started_at, summary.outcome, *summary.errors)


def _record(
    summary: RunSummary,
    home: Home,
    command: str,
    rhythm: str | None,
    as_of: datetime | None,
    started_at: datetime,
    outcome: str,
    *errors: str,
) -> None:
    try:
        if summary.run_id is not None and is_recorded(home, summary.run_id, started_at):
            return
        messages = {failure.name: failure.message for failure in summary.failures}
        newest = 0
        with contextlib.suppress(StorageError):  # the manifest is damaged, which the run has said
            newest = newest_batch(home)
        record_run(
            home,
            RunRecord(
                run_id=summary.run_id or str(uuid4()),
                command=command,
                rhythm=rhythm,
                outcome=outcome,
                started_at=started_at,
                ended_at=datetime.now(UTC),
                snapshot=summary.snapshot,
                batch_seq=newest,
                events_loaded=summary.events_loaded,
                memories_loaded=summary.memories_loaded,
                lines_quarantined=summary.lines_quarantined,
                as_of=as_of,
                errors=errors,
                nodes=tuple(
                    node.model_copy(update={"message": messages.get(node.name)}) for node in summary.nodes
                ),
            ),
        )
    except (StorageError, OSError) as error:
        summary.notices.append(str(error))


def _how_it_died(code: int | None, remarks: Sequence[str]) -> str:
    """Return a sentence about a dbt that has neither published nor said why not."""
    said = ["dbt stopped without publishing"]
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            said.append(f"it was ended by {signal.Signals(-code).name}")
    if code == -signal.SIGKILL:
        said.append("if nobody did that, the machine was out of memory (docs/home.md tells how to limit it)")
    return "; ".join([*said, *remarks[-3:]])


def _finish_purge(home: Home, project: Path, lock: RunLock, summary: RunSummary) -> None:
    """Do what is left of a purge that was interrupted; what it has not got out of the home is said as an
    error."""
    from mnemoduck.forgetting.purge import finish

    done = finish(home, project, lock)
    if done is not None and done.is_ok:
        summary.notices.append("A purge that had been interrupted was finished: nothing of it is left.")
    elif done is not None and done.search is not None:
        traces = [str(trace) for trace in done.search.traces] + list(done.search.unread)
        summary.errors.append(f"A purge is not done, something is left: {'; '.join(traces[:5])}")


def _may_load(home: Home, project: Path, as_of: datetime | None, summary: RunSummary) -> bool:
    """Check expectations on what waits in the inbox, if they are on; say what came of it in the summary."""
    severity = load_settings(home).expectations.incoming
    if severity == "off":
        return True
    verdict = check_incoming(home, project, severity, as_of)
    if verdict.stops:
        summary.errors += [*verdict.lines, "Nothing was loaded or built: the events wait in the inbox."]
    else:
        summary.notices += verdict.lines
    return not verdict.stops


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
        UsageError: a setting of the home is none that it can be.
        PipelineError: dbt could not be started.
    """
    settings = load_settings(home, overrides={"run.threads": threads})
    all_variables = {
        "DBT_WRITE_JSON": "false",  # artifacts take a second of each run; who wants them sets it to true
        **os.environ,
        **settings.environment(),  # what was said on our command line, dbt does not know
        THREADS_VARIABLE: str(settings.run.threads),
        **(environment or {}),
        HOME_VARIABLE: str(home.path),
        INHERITED_VARIABLE: str(lock.descriptor),
    }
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


_RESULTS = frozenset(["LogModelResult", "LogTestResult", "LogSeedResult", "LogSnapshotResult"])


class _NodeInfo(BaseModel):
    node_name: str
    node_status: str = ""
    resource_type: str = "model"


class _NodeResult(BaseModel):
    """What dbt's log says in `data` when a node has ended, as far as we read it."""

    node_info: _NodeInfo
    execution_time: float = 0.0
    num_failures: int | None = None
    index: int = 0
    total: int = 0


class _Info(BaseModel):
    name: str
    msg: str
    level: str
    invocation_id: str | None = None


class _LogLine(BaseModel):
    info: _Info
    data: dict[str, Any] = Field(default_factory=dict)


def _read_log_line(
    line: str, summary: RunSummary, on_progress: Callable[[Progress | CallProgress], None]
) -> None:
    """Take what a line of dbt's log says into the summary; a line of another shape is a remark."""
    try:
        entry = _LogLine.model_validate_json(line)
        result = _NodeResult.model_validate(entry.data) if entry.info.name in _RESULTS else None
    except ValidationError:
        if line.strip():
            summary.remarks.append(line.strip())
        return
    name, message = entry.info.name, entry.info.msg
    summary.run_id = entry.info.invocation_id or summary.run_id
    if result is not None:
        _add_node_result(name, result, message, summary)
        on_progress(Progress(result.index, result.total, result.node_info.node_name))
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
        summary.outcome, summary.snapshot = PUBLISHED, message.removeprefix(PUBLISHED_PREFIX)
    elif message.startswith(UNCHANGED_PREFIX):
        summary.outcome, summary.snapshot = UNCHANGED, message.removeprefix(UNCHANGED_PREFIX)
    elif message.startswith(NOT_PUBLISHED_PREFIX):
        _, _, missing = message.partition("Not built and tested: ")
        summary.lacks = f"Not built and tested: {missing}"
    elif name == "JinjaLogInfo" and message.startswith(SAYS):
        summary.notices.append(message.removeprefix(SAYS))
    elif entry.info.level == "error" and name not in {"EndOfRunSummary", "LogHookEndLine", "MainStackTrace"}:
        _attach_message(summary, entry.data, message)


def _add_node_result(name: str, result: _NodeResult, message: str, summary: RunSummary) -> None:
    node = result.node_info
    summary.nodes.append(
        NodeRun(
            name=node.node_name,
            kind=node.resource_type,
            status=node.node_status,
            seconds=result.execution_time,
            failures=result.num_failures if name == "LogTestResult" else None,
        )
    )
    if name == "LogTestResult":
        summary.tests += 1
    else:
        summary.models += 1
    if node.node_status in {"error", "fail", "runtime error"}:
        summary.failures.append(NodeFailure(node.node_name, node.node_status, message.strip()))


def _attach_message(summary: RunSummary, data: dict[str, Any], message: str) -> None:
    text = without_traceback(message)
    node = data.get("node_info")
    name = node.get("node_name") if isinstance(node, dict) else None
    for index, failure in enumerate(summary.failures):
        if failure.name == name and text:
            summary.failures[index] = NodeFailure(failure.name, failure.status, text)
            return
    if text:
        summary.errors.append(text)


def without_traceback(message: str) -> str:
    """Return dbt's message without the macros that called each other, and with the error at the end of a
    traceback in its place; of what a function of ours raised, only what it says. The log has it whole."""
    if raised := RAISED_PATTERN.search(message):
        return "\n".join(line.strip() for line in raised["said"].strip().splitlines())
    before, marker, trace = message.strip().partition("Traceback (most recent call last):")
    lines = [line for line in before.splitlines() if not line.strip().startswith(("> in ", "> called by "))]
    text = "\n".join(lines).rstrip()
    return f"{text} {trace.strip().splitlines()[-1].strip()}" if marker and trace.strip() else text
