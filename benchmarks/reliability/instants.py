"""Instants: a command is ended, or its disk fails it, at an exact call of libc; then a run has to mend it."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from benchmarks.reliability.homes import (
    MNEMODUCK,
    NOBODY,
    PROJECT,
    Place,
    SetupError,
    act,
    environment,
    make_bases,
    run,
    run_command,
    wait_until_free,
)
from benchmarks.reliability.phases import Phase, all_phases
from benchmarks.reliability.shim import Blow, Call, Ended, Shim, read_trace
from benchmarks.witness import checksums, find_faults, find_half_purged, find_lost, find_unpurged
from mnemoduck import Memory

SHARE_OF_LOGS = 0.2
"""Of the instants, so many are between two statements, where nothing but a log is written."""


REBUILT = "rebuilt"
"""Phase of the comparison of a home that lived through blows with one that is built from nothing."""


@dataclass
class Instant:
    """One blow and what came of it.

    Attributes:
        attempt: of its phase, from 0; with the seed it decides the instant.
        call, path: what was struck, `at` which of the `of` calls of the phase; the path below the home.
        is_struck: it came to that; else the command had ended before.
        code: of the command; -9 if it was killed.
        said: the last line of a command that failed and was not killed.
        faults: sentences of the witness, right after the blow and after the run that mends.
    """

    phase: str
    part: str
    attempt: int
    seed: int
    action: str
    at: int
    of: int
    call: str
    path: str
    is_struck: bool = False
    code: int | None = None
    said: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class Attack:
    """Carries out instants with several workers on homes of their own, and writes each outcome at once."""

    def __init__(
        self,
        work: Path,
        out: Path,
        seed: int,
        actions: Sequence[str],
        workers: int,
        tell: Callable[[str], None],
    ) -> None:
        self._work, self._out, self._seed, self._actions, self._workers = work, out, seed, actions, workers
        self._tell = tell
        self._mutex = threading.Lock()
        self._tracing = threading.Lock()
        self._calls: dict[str, list[Call]] = {}
        self._host = NOBODY
        self._bases: dict[str, Place] = {}
        self.faults: list[str] = []

    def carry_out(self, instants: int, names: Sequence[str], seconds: float | None) -> int:
        """Carry out so many instants, round by round over the phases, without those that the result has.

        Args:
            names: of phases or parts; none for all.
            seconds: begin nothing after so long.

        Returns:
            How many were carried out now.
        """
        phases = [one for one in all_phases() if not names or one.name in names or one.part in names]
        if not phases:
            raise SetupError(f"There is no phase {', '.join(names)}.")
        deadline = None if seconds is None else time.monotonic() + seconds
        self._work.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise SetupError(
                f"Another attack is at work in {self._work}; name another folder with --work."
            ) from error
        self._bases = make_bases(self._work / "bases", self._tell)
        plan = self._plan(phases, instants)
        done = [0] * self._workers
        with ExitStack() as stack:
            if any(phase.asks_models for phase in phases):
                self._host = stack.enter_context(_ModelServer(self._work / "port"))
            labourers = [_Labourer(self, number) for number in range(self._workers)]
            workers = [
                threading.Thread(target=self._labour, args=(number, labourer, plan, deadline, done))
                for number, labourer in enumerate(labourers)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        return sum(done)

    def _plan(self, phases: Sequence[Phase], instants: int) -> list[tuple[Phase, list[int]]]:
        """Return batches of attempts, round by round, without those that were carried out before."""
        known = {(one["phase"], one["attempt"], one["seed"]) for one in read_instants(self._out)}
        per_phase = [
            [
                (phase, list(range(first, min(first + phase.crashes, instants))))
                for first in range(0, instants, phase.crashes)
            ]
            for phase in phases
        ]
        rounds = [batch for batches in zip_longest(*per_phase) for batch in batches if batch is not None]
        plan, planned = [], 0
        for phase, numbers in rounds:
            if planned >= instants:
                break
            numbers = numbers[: instants - planned]
            planned += len(numbers)
            left = [number for number in numbers if (phase.name, number, self._seed) not in known]
            if left:
                plan.append((phase, left))
        return plan

    def _labour(
        self,
        worker: int,
        labourer: _Labourer,
        plan: list[tuple[Phase, list[int]]],
        deadline: float | None,
        done: list[int],
    ) -> None:
        while deadline is None or time.monotonic() < deadline:
            with self._mutex:
                if not plan:
                    break
                phase, attempts = plan.pop(0)
            try:
                found = labourer.strike(phase, attempts)
            except Exception as error:  # it ends the worker otherwise, and nobody would say so
                with self._mutex:
                    self.faults.append(f"{phase.name} {attempts}: {error}")
                    self._tell(f"{phase.name} {attempts} FAILED: {error}")
                labourer.forget_homes()
                continue
            done[worker] += len(found)
            self._write(found)
        if deadline is None or time.monotonic() < deadline:
            try:
                self._write(labourer.compare_with_rebuilt())
            except Exception as error:
                with self._mutex:
                    self.faults.append(f"{REBUILT}: {error}")

    def _write(self, instants: Sequence[Instant]) -> None:
        with self._mutex, self._out.open("a", encoding="utf-8") as file:
            for one in instants:
                file.write(json.dumps(asdict(one)) + "\n")
                self.faults += [f"{one.phase} {one.attempt}: {fault}" for fault in one.faults]
                outcome = "; ".join(one.faults) or "kept"
                reached = "" if one.is_struck else ", not reached"
                self._tell(
                    f"{one.part}: {one.phase} {one.attempt}: {one.action} at {one.at} of {one.of} "
                    f"({one.call} {one.path[-60:]}){reached}, {one.seconds:.0f} s: {outcome}"
                )

    def calls_of(self, phase: Phase, shim: Shim, place: Place) -> list[Call]:
        """Return the calls of a phase, numbered within it, from a traced run of its command."""
        source = phase.source or phase.name
        with self._tracing:
            if source not in self._calls:
                trace = self._work / "traces" / f"{source}.trace"
                trace.parent.mkdir(parents=True, exist_ok=True)
                if not trace.exists():
                    self._trace(phase, shim, place, trace)
                self._calls[source] = read_trace(trace)
            calls = self._calls[source]
        return list(_within(calls, phase))

    def _trace(self, phase: Phase, shim: Shim, place: Place, trace: Path) -> None:
        place.take(self._bases[phase.base])
        for name in phase.arrange:
            act(name, place, "trace0")
        partial = trace.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        ended = shim.run(
            phase.command(place, "trace0"),
            place.struck,
            Blow(),
            cwd=PROJECT,
            environment=self.environment(phase),
            trace=partial,
        )
        if ended.code != 0:
            raise SetupError(f"{phase.name} fails in peace: {ended.said[-500:]}")
        partial.rename(trace)

    def environment(self, phase: Phase) -> dict[str, str]:
        return environment(self._host if phase.asks_models else NOBODY, MNEMODUCK_THREADS=str(phase.threads))

    def choose(self, phase: Phase, attempt: int, calls: Sequence[Call]) -> tuple[Blow, Call]:
        """Return the blow of an attempt, the same for the same seed and calls."""
        chance = random.Random(f"{self._seed} {phase.name} {attempt}")  # noqa: S311
        action = chance.choice(self._actions)
        takes_space = action in ("enospc", "full")
        eligible = [call for call in calls if not takes_space or call.name in _TAKE_SPACE]
        places = {call.number: place for place, call in enumerate(eligible, 1)}
        data = [call for call in eligible if not _is_log(call.path)]
        others = [call for call in eligible if _is_log(call.path)]
        is_fault = action not in ("kill", "torn")
        pool = others if others and not is_fault and chance.random() < SHARE_OF_LOGS else data or others
        if action == "torn":
            pool = [call for call in pool if call.name in _WRITES] or pool
        if not pool:
            raise SetupError(f"{phase.name} makes no call that {action} could strike")
        # Of calls that repeat, as a long file is written, no more than of others.
        groups: dict[tuple[str, str], list[Call]] = {}
        for call in pool:
            groups.setdefault((call.name, _kind_of(call.path)), []).append(call)
        call = chance.choice(groups[chance.choice(sorted(groups))])
        if action == "torn" and call.name not in _WRITES:
            action = "kill"
        return Blow(action, places[call.number], phase.after, phase.until), call

    @property
    def work(self) -> Path:
        return self._work

    @property
    def bases(self) -> dict[str, Place]:
        return self._bases

    @property
    def seed(self) -> int:
        return self._seed


class _Labourer:
    """A worker: one attempt after the other, on a home for each base that lives through them all."""

    def __init__(self, attack: Attack, number: int) -> None:
        self._attack = attack
        self._number = number
        self._folder = attack.work / f"worker-{number}"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._shim = Shim(self._folder / "shim")
        self._living: dict[str, Place] = {}

    def strike(self, phase: Phase, attempts: Sequence[int]) -> list[Instant]:
        """Carry out a batch of attempts and the run that has to mend them; return what came of each."""
        calls = self._attack.calls_of(phase, self._shim, Place(self._folder / "traced"))
        place = self._place(phase)
        found = []
        for attempt in attempts:
            for name in phase.arrange:
                act(name, place, f"{phase.name}-{attempt}")
            found.append(self._blow(phase, attempt, calls, place))
        began = time.monotonic()
        faults = self._mend(place, phase, str(attempts[-1]))
        for one in found:
            one.faults += faults
            one.seconds += (time.monotonic() - began) / len(found)
        if faults:  # it stays there, to be looked at
            kept = self._attack.work / "faulty" / f"{phase.name}-{attempts[0]}".replace(" ", "-")
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(exist_ok=True)
            shutil.move(place.folder, kept)
            self.forget_homes()
        return found

    def forget_homes(self) -> None:
        """Begin the next attempt with a copy of its base."""
        self._living.clear()

    def _place(self, phase: Phase) -> Place:
        if phase.is_fresh:
            place = Place(self._folder / "fresh")
            place.take(self._attack.bases[phase.base])
            return place
        if phase.base not in self._living:
            place = Place(self._folder / phase.base)
            place.take(self._attack.bases[phase.base])
            self._living[phase.base] = place
        return self._living[phase.base]

    def _blow(self, phase: Phase, attempt: int, calls: Sequence[Call], place: Place) -> Instant:
        blow, call = self._attack.choose(phase, attempt, calls)
        one = Instant(
            phase.name,
            phase.part,
            attempt,
            self._attack.seed,
            blow.action,
            blow.at,
            len(calls),
            call.name,
            call.path.partition("/struck/")[2],
        )
        began = time.monotonic()
        ended = self._shim.run(
            phase.command(place, str(attempt)),
            place.struck,
            blow,
            cwd=PROJECT,
            environment=self._attack.environment(phase),
        )
        wait_until_free(place.home)
        one.is_struck, one.code = ended.struck > 0, ended.code
        if ended.code not in (0, -9):
            one.said = _last_line(ended.said).replace(f"{place.struck}/", "")
            one.faults += _unclear(ended)
        acknowledged = place.acknowledged()
        faults = find_lost(place.home, acknowledged["memory"])
        if phase.purges:
            kept = set(acknowledged["memory"]) - set(acknowledged["forgotten"])
            faults = find_lost(place.home, kept) + find_half_purged(place.home, acknowledged["forgotten"])
        one.faults += [f"after the blow {fault}" for fault in faults]
        one.faults += _recalled_though_forgotten(place)
        one.seconds = time.monotonic() - began
        return one

    def _mend(self, place: Place, phase: Phase, number: str) -> list[str]:
        """Return what is wrong after the run that has to mend all, and after the checks of the phase."""
        commands = [[MNEMODUCK, "run", "--home", str(place.home)]]
        commands += [check(place, number) for check in phase.checks]
        faults = []
        for command in commands:
            done = run_command(command)
            if done.returncode != 0:
                said = (done.stdout + done.stderr).strip()[-600:]
                faults.append(f"{' '.join(command[1:3])} ends with {done.returncode}: {said}")
        acknowledged = place.acknowledged()
        memories, forgotten = acknowledged["memory"], acknowledged["forgotten"]
        if phase.purges:
            faults += find_unpurged(place.home, forgotten)
            memories, forgotten = sorted(set(memories) - set(forgotten)), []
        faults += find_faults(place.home, memories, forgotten)
        return faults + _lost_answers(place.home, acknowledged["answer"])

    def compare_with_rebuilt(self) -> list[Instant]:
        """Return how each home that lived through blows differs from one that is built anew from raw/."""
        found = []
        for base, place in self._living.items():
            began = time.monotonic()
            one = Instant(
                REBUILT, REBUILT, self._number, self._attack.seed, "compare", 0, 0, "", base, code=0
            )
            before = checksums(place.home)
            done = run(place.home, "run", "--full-refresh")
            if done.returncode != 0:
                one.faults.append(f"{base} cannot be built anew: {done.stdout[-500:]}")
            after = checksums(place.home)
            one.faults += [f"{table} differs" for table in before if before[table] != after.get(table)]
            one.is_struck, one.seconds = True, time.monotonic() - began
            found.append(one)
        return found


_WRITES = frozenset(["write", "pwrite", "pwrite64", "copy_file_range"])
_TAKE_SPACE = frozenset(
    [
        "write",
        "pwrite",
        "pwrite64",
        "writev",
        "copy_file_range",
        "mkdir",
        "mkdirat",
        "link",
        "open",
        "open64",
        "openat",
        "openat64",
    ]
)


def _within(calls: Sequence[Call], phase: Phase) -> Iterator[Call]:
    is_within = phase.after is None
    number = 0
    after, until = (mark and mark.replace("\n", " ") for mark in (phase.after, phase.until))
    for call in calls:
        if not is_within and after and (after in call.path or after in call.text):
            is_within = True
        if is_within and until and (until in call.path or until in call.text):
            return
        if is_within:
            number += 1
            yield Call(number, call.name, call.path, call.text)


def _is_log(path: str) -> bool:
    below = path.partition("/struck/home/")[2]
    return below.startswith(("logs/", "target/"))


def _kind_of(path: str) -> str:
    """Return a path without what differs from file to file: its folder and its suffix."""
    return f"{Path(path).parent.name.rstrip('0123456789')}/*{Path(path).suffix}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _unclear(ended: Ended) -> list[str]:
    """Return the last line of what a command said, unless it is an error of ours or without a traceback."""
    last = _last_line(ended.said)
    is_told = last.startswith("mnemoduck.errors.") or "Traceback (most recent call last)" not in ended.said
    return [] if is_told and last else [f"it is not said clearly: {last!r}"]


def _recalled_though_forgotten(place: Place) -> list[str]:
    """Return which memories are recalled right after the blow, though to forget them was acknowledged."""
    forgotten = {UUID(one) for one in place.acknowledged()["forgotten"]}
    if not forgotten:
        return []
    with Memory(place.home) as memory:
        seen = {hit.memory_id for hit in memory.recall("secret", user_id="kim", limit=1000, record=False)}
    return [f"{one} is recalled though it is forgotten" for one in seen & forgotten]


def _lost_answers(home: Path, answers: Sequence[str]) -> list[str]:
    if not answers:
        return []
    with duckdb.connect(str(home / "llm_cache.duckdb"), read_only=True) as connection:
        kept = {str(key) for (key,) in connection.execute("select key from responses").fetchall()}
    return [f"the answer {key} is lost" for key in answers if key not in kept]


def read_instants(out: Path) -> list[dict[str, Any]]:
    """Return the outcomes in a result file; a torn last line is none."""
    if not out.exists():
        return []
    data = out.read_text("utf-8")
    return [json.loads(line) for line in data[: data.rfind("\n") + 1].splitlines()]


class _ModelServer:
    """The stand-in for Ollama that the tests use, as long as the context lasts."""

    def __init__(self, port_file: Path) -> None:
        self._port_file = port_file
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> str:
        self._port_file.parent.mkdir(parents=True, exist_ok=True)
        self._port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.ollama_server", "--port-file", str(self._port_file)]
        self._process = subprocess.Popen(command, cwd=PROJECT, env=environment())
        while not self._port_file.exists():
            if self._process.poll() is not None:
                raise SetupError("the model server did not start")
            time.sleep(0.05)
        return f"http://127.0.0.1:{int(self._port_file.read_text())}"

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
