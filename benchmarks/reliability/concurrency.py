"""Writers, readers and build after build at once, on one home, and pipelines that come in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.machine import describe_run
from benchmarks.reliability.homes import (
    MNEMODUCK,
    PROJECT,
    Place,
    SetupError,
    act,
    environment,
    make_bases,
    run,
)
from benchmarks.witness import find_faults, snapshot_of
from mnemoduck import Memory

WRITES_PER_SECOND = 5
"""Of each writer, on average: more than agents do, and builds keep up on two processors."""

LOOK_SECONDS = 0.05
"""A reader waits so long between two looks."""


def measure(
    work: Path, seconds: float, writers: int, readers: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Let them all at one home for so long; return what was lost, what failed, how old the news was."""
    place = Place(work / "concurrency")
    place.take(make_bases(work / "bases", tell)["built"])
    shared = work / "told"
    subprocess.run(["rm", "-rf", str(shared)], check=True)
    shared.mkdir(parents=True)
    act("tell", place, "before the crowd")
    if run(place.home, "run").returncode != 0:  # so that readers begin on a build of now
        raise SetupError("the build before the crowd failed")
    before = len(place.acknowledged()["memory"])
    tell(f"{writers} writers, {readers} readers, {seconds:g} s")
    started = [
        *(_start("write", place, shared, number, seconds) for number in range(writers)),
        *(_start("read", place, shared, number, seconds) for number in range(readers)),
    ]
    builds, refusals = _build_meanwhile(place.home, seconds, tell)
    faults = []
    for process in started:
        _, said = process.communicate(timeout=600)
        if process.returncode != 0:
            faults.append(f"a process ended with {process.returncode}: {said.strip()[-500:]}")
    done = run(place.home, "run")
    if done.returncode != 0:
        faults.append(f"the last run failed: {(done.stdout + done.stderr)[-500:]}")
    acknowledged = place.acknowledged()
    faults += find_faults(place.home, acknowledged["memory"], acknowledged["forgotten"])
    written, read = list(_entries(shared, "write")), list(_entries(shared, "read"))
    return {
        "run": describe_run(),
        "seconds": seconds,
        "writers": writers,
        "readers": readers,
        "remembered": len(acknowledged["memory"]) - before,
        "remember_ms": _spread([1000 * entry["took"] for entry in written]),
        "builds": builds,
        "refusals": refusals,
        "looks": len(read),
        "reader_errors": [entry["error"] for entry in read if "error" in entry][:20],
        "unseen": sum(not entry.get("is_seen", True) for entry in read),
        "went_back": sum(entry.get("went_back", False) for entry in read),
        "age_of_news_ms": _spread([1000 * entry["age"] for entry in read if "age" in entry]),
        "age_of_snapshot_s": _spread([entry["snapshot_age"] for entry in read if "snapshot_age" in entry]),
        "recall_ms": _spread([1000 * entry["took"] for entry in read if "took" in entry]),
        "faults": faults,
    }


def is_kept(found: dict[str, Any]) -> bool:
    """Tell whether nothing was lost, doubled or unseen, no reader failed, and pipelines kept apart."""
    return not (
        found["faults"]
        or found["reader_errors"]
        or found["unseen"]
        or found["went_back"]
        or any(build["code"] for build in found["builds"])
        or found["age_of_snapshot_s"]["most"] > bound_on_age(found)
        or any(not one["is_said"] for one in found["refusals"])
    )


def bound_on_age(found: dict[str, Any]) -> float:
    """Return the seconds that the build that readers are on may be old where build follows build.

    It was complete at the end of its own build, when it was copied, and goes at the end of the next one.
    """
    return 2 * float(max(build["seconds"] for build in found["builds"]))


def _start(what: str, place: Place, shared: Path, number: int, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            __name__,
            what,
            str(place.home),
            str(place.diary),
            str(shared),
            str(number),
            str(seconds),
        ],
        cwd=PROJECT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _build_meanwhile(
    home: Path, seconds: float, tell: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Build again and again; another pipeline is started during each, and has to say who is at work."""
    deadline = time.monotonic() + seconds
    builds, refusals = [], []
    while time.monotonic() < deadline:
        began = time.monotonic()
        command = [MNEMODUCK, "run", "--rhythm", "continuous", "--home", str(home)]
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(process.communicate)
            if said := _second_pipeline(home, process):
                refusals.append(said)
            answered = answer.result()[0]
        builds.append({"code": process.returncode, "seconds": round(time.monotonic() - began, 1)})
        lines = answered.strip().splitlines()
        tell(f"a build of {builds[-1]['seconds']:g} s: {lines[-1] if lines else ''}")
        if process.returncode:
            builds[-1]["said"] = answered[-500:]
    return builds, refusals


def _second_pipeline(home: Path, first: subprocess.Popen[str]) -> dict[str, Any] | None:
    """Start a second run as soon as the first has the lock; None if that ended before it could refuse."""
    while first.poll() is None and str(first.pid) not in (home / "run.lock").read_text():
        time.sleep(0.05)
    second = run(home, "run")
    if second.returncode == 0 or first.poll() is not None:
        return None
    is_said = second.returncode == 75 and f"process {first.pid}" in second.stderr and "since" in second.stderr
    return {
        "code": second.returncode,
        "is_said": is_said,
        "said": second.stderr.strip().replace(f"{home.parent}/", "")[:400],
    }


def _write(home: Path, diary: Path, shared: Path, number: int, seconds: float) -> None:
    """Remember for so long; after each memory, replace a file that says what was acknowledged last."""
    chance = random.Random(number)  # noqa: S311
    latest, taken = shared / f"latest-{number}", []
    deadline = time.monotonic() + seconds
    kept = os.open(diary, os.O_WRONLY | os.O_APPEND)
    with Memory(home) as memory:
        count = 0
        while time.monotonic() < deadline:
            word = f"w{number}x{count}"
            began = time.perf_counter()
            memory_id = memory.remember(
                f"{word} is what writer {number} says", user_id=f"writer-{number}", durable=count % 10 == 0
            )
            took = time.perf_counter() - began
            os.write(kept, json.dumps({"what": "memory", "id": str(memory_id)}).encode() + b"\n")
            if count % 10:
                taken.append({"took": took})
            partial = latest.with_suffix(".partial")
            partial.write_text(json.dumps({"word": word, "at": time.time()}))
            partial.rename(latest)
            count += 1
            time.sleep(chance.expovariate(WRITES_PER_SECOND))
    _keep(shared / f"write-{number}.jsonl", taken)


def _read(home: Path, diary: Path, shared: Path, number: int, seconds: float) -> None:
    """Look for so long for what any writer was acknowledged last; it has to be there at the first look."""
    chance = random.Random(1000 + number)  # noqa: S311
    looks, most = [], 0
    deadline = time.monotonic() + seconds
    with Memory(home) as memory:
        while time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            told = [path for path in shared.glob("latest-*") if path.name.removeprefix("latest-").isdigit()]
            if not told:
                continue
            writer = chance.choice(told)
            last = json.loads(writer.read_text())
            look: dict[str, Any] = {}
            try:
                began = time.perf_counter()
                hits = memory.recall(
                    last["word"],
                    user_id=f"writer-{writer.name.removeprefix('latest-')}",
                    limit=1,
                    record=False,
                )
                look["took"] = time.perf_counter() - began
                look["is_seen"] = bool(hits) and last["word"] in hits[0].content
                look["age"] = time.time() - last["at"]
                held = int(memory.sql("select count(*) as n from short_term_memories")["n"][0])
                look["went_back"], most = held < most, max(held, most)
                stamp = snapshot_of(home).name.partition("-")[0]
                published = datetime.strptime(stamp, "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)
                look["snapshot_age"] = time.time() - published.timestamp()
            except Exception as error:  # a reader has to live through everything; what it says is counted
                look["error"] = f"{type(error).__name__}: {error}"
            looks.append(look)
    _keep(shared / f"read-{number}.jsonl", looks)


def _keep(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def _entries(shared: Path, what: str) -> Iterator[dict[str, Any]]:
    for path in shared.glob(f"{what}-*.jsonl"):
        yield from map(json.loads, path.read_text().splitlines())


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        raise SetupError("nothing was measured")
    percentiles = quantiles(values, n=100) if len(values) > 1 else [values[0]] * 99
    spread = {"p50": percentiles[49], "p99": percentiles[98], "most": max(values)}
    return {name: float(f"{value:.3g}") for name, value in spread.items()}


def main() -> None:
    what, home, diary, shared, number, seconds = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    act = {"write": _write, "read": _read}[what]
    act(Path(home), Path(diary), Path(shared), int(number), float(seconds))


if __name__ == "__main__":
    main()
