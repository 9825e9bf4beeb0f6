"""Operates a home for a day: tells events, starts what cron would, lets things go wrong, and looks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.day import crontab
from benchmarks.day.stream import DAY, SLOT, SLOTS, Arrivals, arrivals
from benchmarks.day.witness import look
from mnemoduck import Memory
from mnemoduck.events import new_event
from mnemoduck.home import HOME_VARIABLE, open_home
from mnemoduck.inbox import InboxWriter
from mnemoduck.pipeline.history import read_runs
from mnemoduck.pipeline.lock import find_holder

PROJECT = Path(__file__).resolve().parents[2]
MARKER = "[not for publication]"
TEST = f"""-- Returns memories that somebody marked as not to be published, until they are forgotten.
select memory_id from {{{{ ref('stg_memories') }}}}
where
    contains(content, '{MARKER}')
    and memory_id not in (
        select forgotten.memory_id from {{{{ ref('int_forgotten_memories') }}}} as forgotten
    )
"""

NOON, FORGOTTEN = timedelta(hours=12), timedelta(hours=12, minutes=40)
DOWN, UP = timedelta(hours=14), timedelta(hours=16)
OVERLAP = timedelta(hours=10)
"""At ten somebody builds everything anew by hand, while cron's run is due."""


class Operation:
    """A home, its crontab, a model server and an agent that reads and writes all day."""

    def __init__(self, work: Path, tell: Callable[[str], None]) -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self._work = work
        self._tell = tell
        self._home = open_home(work / "home")
        self._project = _copied_project(work / "project")
        self._server = _Server(work / "port.txt")
        self._acknowledged: list[str] = []
        self._seen_runs: set[str] = set()

    def run(self, memories: int, seed: int) -> dict[str, Any]:
        """Build the history, live the day, and return what was seen, slot by slot."""
        stream = arrivals(memories, self._work / "stream", seed)
        with ExitStack() as stack:
            stack.callback(self._server.kill)
            self._server.start()
            writer = InboxWriter(self._home)
            stack.callback(writer.close)
            self._write(writer, stream.history)
            self._start(f"{_quoted(_MNEMODUCK)} run --llm off", DAY - SLOT).wait()
            lines = self._install()
            agent = stack.enter_context(Memory(self._home.path))
            slots = [self._live(slot, stream, writer, agent, lines) for slot in range(SLOTS)]
            self._start(f"{_quoted(_MNEMODUCK)} run", DAY + SLOTS * SLOT).wait()
            end = look(self._home.path, self._acknowledged, MARKER)
            report = self._report()
        return {
            "history": len(stream.history),
            "told": len(self._acknowledged),
            "late": stream.late,
            "crontab": [line.command.replace(str(self._work), "~") for line in lines],
            "slots": slots,
            "end": asdict(end),
            "log": self._log(),
            "report": report,
        }

    def _live(
        self, slot: int, stream: Arrivals, writer: InboxWriter, agent: Memory, lines: list[crontab.Line]
    ) -> dict[str, Any]:
        begins = DAY + slot * SLOT
        since = begins - DAY
        if since == DOWN:
            self._server.kill()
        elif since == UP:
            self._server.start()
        self._write(writer, stream.slots[slot])
        if since == NOON:
            self._marked = self._tell_marked(writer, begins)
        elif since == FORGOTTEN:
            self._write(writer, [_line("forget", {"memory_ids": [self._marked]}, begins)])
        is_found = self._says_and_finds(slot, writer, agent, begins)
        by_hand = self._overlap(begins) if since == OVERLAP else None
        started = []
        for minute in range(int(SLOT.total_seconds() // 60)):
            moment = begins + timedelta(minutes=minute)
            due = [line for line in lines if line.is_due(moment)]
            processes = [(line, self._start(line.command, moment, dict(line.environment))) for line in due]
            for line, process in processes:
                began = time.perf_counter()
                code = process.wait()
                started.append(
                    {
                        "at": moment.strftime("%H:%M"),
                        "command": line.command.replace(str(self._work), "~"),
                        "exit_code": code,
                        "seconds": round(time.perf_counter() - began, 2),
                    }
                )
        if by_hand is not None:
            by_hand.wait()
        runs = [run for run in read_runs(self._home) if run.run_id not in self._seen_runs]
        self._seen_runs.update(run.run_id for run in runs)
        sight = look(self._home.path, self._acknowledged, MARKER)
        found = {
            "at": begins.strftime("%H:%M"),
            "told": len(stream.slots[slot]),
            "is_found_at_once": is_found,
            "started": started,
            "runs": [
                {
                    "rhythm": run.rhythm,
                    "outcome": run.outcome,
                    "seconds": round(run.seconds, 2),
                    "events_loaded": run.events_loaded,
                    "failed": [node.name for node in run.nodes if node.status in ("fail", "error")],
                }
                for run in runs
            ],
            "waiting": self._waiting(),
            **asdict(sight),
        }
        outcomes = ", ".join(f"{run['rhythm']} {run['outcome']}" for run in found["runs"])
        self._tell(
            f"{found['at']}  {found['built_in']:,} memories built in, {found['waiting']} wait; {outcomes}"
        )
        return found

    def _write(self, writer: InboxWriter, lines: list[str]) -> None:
        """Tell events as an agent does: acknowledged when the writer returns."""
        for low in range(0, len(lines), 1000):
            chunk = lines[low : low + 1000]
            writer.append([line.encode() + b"\n" for line in chunk])
            self._acknowledged += [json.loads(line)["event_id"] for line in chunk]

    def _tell_marked(self, writer: InboxWriter, moment: datetime) -> str:
        line = _line("memory", {"content": f"The merger is signed on Friday. {MARKER}"}, moment)
        self._write(writer, [line])
        return str(json.loads(line)["event_id"])

    def _says_and_finds(self, slot: int, writer: InboxWriter, agent: Memory, moment: datetime) -> bool:
        """Say something and recall it at once, on an agent that has been there since midnight."""
        word = f"checkpoint{slot:03}"
        self._write(writer, [_line("memory", {"content": f"The word of this hour is {word}."}, moment)])
        found = agent.recall(word, user_id="agent-at-work", limit=1, record=False)
        return bool(found) and word in found[0].content

    def _overlap(self, moment: datetime) -> subprocess.Popen[bytes]:
        """Start a long run by hand and return when it holds the lock."""
        process = self._start(f"{_quoted(_MNEMODUCK)} run --full-refresh", moment)
        while find_holder(self._home) is None and process.poll() is None:
            time.sleep(0.05)
        return process

    def _install(self) -> list[crontab.Line]:
        """Return the crontab that a user's `mnemoduck schedule install` would write."""
        shown = subprocess.run(
            [_MNEMODUCK, "schedule", "install", "--dry-run"],
            env=self._environment({}),
            capture_output=True,
            text=True,
            check=True,
        )
        return crontab.parse(shown.stdout)

    def _start(
        self, command: str, moment: datetime, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command as cron does, at a moment of the accelerated clock."""
        clock = f"@{moment:%Y-%m-%d %H:%M:%S}"
        return subprocess.Popen(
            ["faketime", "-f", clock, "sh", "-c", command],
            cwd=self._work,
            env=self._environment(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _environment(self, changes: dict[str, str]) -> dict[str, str]:
        return {
            **os.environ,
            HOME_VARIABLE: str(self._home.path),
            "MNEMODUCK_PROJECT": str(self._project),
            "OLLAMA_HOST": self._server.url,
            "TZ": "UTC",
            **changes,
        }

    def _waiting(self) -> int:
        """Count the events that no run has loaded."""
        inbox = self._home.inbox
        return sum(
            path.read_bytes().count(b"\n")
            for pattern in ("*.jsonl", "*.open")
            for path in inbox.glob(pattern)
        )

    def _log(self) -> list[str]:
        log = self._home.logs / "schedule.log"
        return log.read_text("utf-8").splitlines() if log.exists() else []

    def _report(self) -> str | None:
        """Make the page that a user looks at when the day is over; return where it is."""
        page = self._work / "report.html"
        made = self._start(
            f"{_quoted(_MNEMODUCK)} report --out {_quoted(str(page))}", DAY + SLOTS * SLOT + SLOT
        ).wait()
        return str(page) if made == 0 and page.exists() else None


class _Server:
    """The model server: a process of its own, killed and started again at the same address."""

    def __init__(self, port_file: Path) -> None:
        self._port_file = port_file
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.ollama_server", "--port-file", str(self._port_file)]
        self._process = subprocess.Popen([*command, "--port", str(self._port)], cwd=PROJECT)
        while not self._port_file.exists():
            if self._process.poll() is not None:
                raise RuntimeError("the model server did not start")
            time.sleep(0.05)
        self._port = int(self._port_file.read_text())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_MNEMODUCK = str(Path(sys.executable).with_name("mnemoduck"))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _copied_project(folder: Path) -> Path:
    """Copy the dbt project and add the test that will fail: a user's own."""
    for name in ("models", "macros", "seeds", "tests/data"):
        shutil.copytree(PROJECT / name, folder / name)
    for name in ("dbt_project.yml", "profiles.yml", "selectors.yml"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / "tests" / "data" / "assert_nothing_marked_is_published.sql").write_text(TEST)
    return folder


def _line(event_type: Any, payload: dict[str, Any], moment: datetime) -> str:
    event = new_event(
        event_type, payload, occurred_at=moment, recorded_at=moment, user_id="agent-at-work", agent_id="otter"
    )
    return event.to_line().decode().rstrip("\n")
