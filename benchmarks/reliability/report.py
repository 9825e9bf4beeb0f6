"""Makes docs/reliability.md of the committed results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.page import table
from benchmarks.reliability.concurrency import bound_on_age, is_kept
from benchmarks.reliability.instants import REBUILT, read_instants

PARTS = (
    "remember",
    "forget",
    "seal",
    "load",
    "compact",
    "cache commit",
    "models",
    "tests",
    "publish",
    "archive",
    "restore",
    "purge",
    "backup",
    "any instant of a run",
)
ACTIONS = {
    "kill": "killed before a call",
    "torn": "killed after half of a write",
    "enospc": "one call finds no space",
    "full": "no space from a call on",
    "eio": "one call fails",
    "dead": "every call fails from one on",
}


def write_report(results: Path, docs: Path) -> None:
    """Write the page into the folder of the documentation, from what the results say and nothing else."""
    (docs / "reliability.md").write_text("\n".join(_page(results)) + "\n", "utf-8")


def _page(results: Path) -> Iterator[str]:
    crash, faults = (read_instants(results / f"{name}.jsonl") for name in ("crash", "faults"))
    crowd, clocks, disk = (_read(results / f"{name}.json") for name in ("concurrency", "clocks", "full_disk"))
    yield "# Reliability"
    yield ""
    yield (
        "What is promised, how it is tested, and what the last full run has shown. Made by `python -m "
        "benchmarks.reliability report` from the results beside the code; `make soak` makes these "
        "anew, which takes hours; what the results have already is not done again: remove them first."
    )
    yield ""
    yield "## The promises"
    yield ""
    yield from table(
        ["promise", "how it is tested", "last run"], list(_promises(crash, faults, crowd, clocks, disk))
    )
    yield ""
    yield from _method()
    yield from _instants("Killed at any instant", "crash", crash)
    yield from _instants("A disk that is full or broken", "faults", faults)
    yield from _full_disk(disk)
    yield from _crowd(crowd)
    yield from _clocks(clocks)
    yield from _limits()


def _promises(
    crash: Sequence[dict[str, Any]],
    faults: Sequence[dict[str, Any]],
    crowd: dict[str, Any] | None,
    clocks: dict[str, Any] | None,
    disk: dict[str, Any] | None,
) -> Iterator[list[str]]:
    struck = f"{_kept(_struck(crash))}; {_kept(_struck(faults), 'faults of the disk')}"
    if crowd is None:
        remembered = seen = "not run yet"
    else:
        remembered = (
            f"{crowd['writers']} writers, {crowd['remembered']:,} memories in {crowd['seconds']:g} s beside "
            f"{len(crowd['builds'])} builds: {len(crowd['faults'])} faults; `remember()` took "
            f"{crowd['remember_ms']['p50']:g} ms (p50), {crowd['remember_ms']['p99']:g} ms (p99)"
        )
        seen = (
            f"{crowd['readers']} readers, {crowd['looks']:,} looks: {len(crowd['reader_errors'])} errors, "
            f"{crowd['unseen']} times the newest was not seen, {crowd['went_back']} times a build was older "
            "than the one before"
        )
    yield [
        "1. `remember()` never blocks and never loses an acknowledged memory",
        "the instants, the full disk, the crowd and the clocks below; `tests/unit/test_inbox_crashes.py`",
        f"{struck}; {remembered}",
    ]
    yield [
        "2. `recall()` never sees a half-built or untested state, and sees what was written",
        "the crowd below; each snapshot after each instant; `docs/day.md`; `tests/unit/test_publish.py`",
        seen,
    ]
    yield [
        "3. The same input gives the same output",
        "what was built through all blows is compared with a build from nothing; time zones below; "
        "`tests/integration/test_pipeline.py`",
        _kept([one for one in [*crash, *faults] if one["phase"] == REBUILT], "homes compared")
        + f"; {_clocks_kept(clocks)}",
    ]
    yield [
        "4. A run costs in proportion to what changed",
        "[performance](performance.md): ratios, gated by `make bench`",
        "see there",
    ]
    yield [
        "5. Offline it works; a model server that dies is made up for",
        "the phase `answers` below; `tests/integration/test_enrichment.py`; [a day](day.md), on which the "
        "server is away for two hours",
        _kept([one for one in crash if one["phase"] == "answers"]),
    ]
    yield [
        "6. Forgetting is provable",
        "the phases `forget` and `purge` below: what was acknowledged as forgotten is not recalled right "
        "after the blow; [forgetting](forgetting.md)",
        _kept([one for one in [*crash, *faults] if one["part"] in ("forget", "purge")], "instants of it"),
    ]
    yield [
        "7. Every derived row says where it came from",
        "tests of the models, in each run: a run that breaks one publishes nothing",
        "each of the runs below",
    ]


def _method() -> Iterator[str]:
    yield "## How it is done"
    yield ""
    yield (
        "A command (`mnemoduck run`, an archive, a process that remembers) is started with a preloaded "
        "library, [shim.c](../benchmarks/reliability/shim.c). It counts the calls of libc by which the "
        "command and all that it starts change a file: open, write, fsync, rename, unlink, truncate, "
        "mkdir, copy. A first run in peace says which calls a phase makes; a phase is a part of a command, "
        "such as one model of dbt, by what the log says. Then one of them is drawn, kinds of calls and of "
        "files with the same chance, and at that call the whole process group gets SIGKILL, before the "
        "call or after half of what was to be written; or the call fails. This is exact, and the same seed "
        "draws the same instants."
    )
    yield ""
    yield (
        "Right after the blow, a witness that imports nothing of the package "
        "([witness.py](../benchmarks/witness.py)) looks for every id that was acknowledged: it has to be "
        "there once, in `raw/` or in the inbox. Then `mnemoduck run` has to end well, and the witness "
        "looks again: each memory once in the snapshot and in what is made of it; every model tested; "
        "every block of every table readable; no temporary file, segment, write-ahead log, table of dbt, "
        "raw file or archived month without a name, or lock left. Phases without dbt are struck five "
        "times, archives twice, before that run; all others each time. Homes live on from one blow to the "
        "next."
    )
    yield ""
    yield (
        "A purge that was struck has taken all out or nothing, as far as `raw/` and the inbox say. The run "
        "that mends it finishes it; another `forget --purge` takes out what was not begun, and then "
        "`forget --verify` has to find no byte of it. A backup that was struck is begun again at the same "
        "target, and then `backup --verify` has to restore it and read all of it."
    )
    yield ""


def _struck(instants: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in instants if one["phase"] != REBUILT]


def _instants(title: str, name: str, found: Sequence[dict[str, Any]]) -> Iterator[str]:
    instants = _struck(found)
    yield f"## {title}"
    yield ""
    yield f"`python -m benchmarks.reliability {name}`: {_kept(instants)}."
    yield ""
    if not instants:
        return
    rows = []
    for part in PARTS:
        members = [one for one in instants if one["part"] == part]
        if not members:
            continue
        phases = {one["phase"] for one in members}
        actions = Counter(one["action"] for one in members if one["is_struck"])
        rows.append(
            [
                f"{part} ({len(phases)})" if len(phases) > 1 else part,
                str(len(members)),
                ", ".join(f"{actions[action]} {action}" for action in ACTIONS if actions[action]),
                str(sum(not one["is_struck"] for one in members)),
                str(sum(bool(one["faults"]) for one in members)),
            ]
        )
    yield from table(["phase", "instants", "what happened", "not reached", "faults"], rows)
    yield ""
    yield (
        ", ".join(
            f"`{action}`: {meaning}"
            for action, meaning in ACTIONS.items()
            if any(one["action"] == action for one in instants)
        )
        + "."
    )
    yield ""
    yield "<details><summary>Each instant</summary>"
    yield ""
    yield from table(
        ["phase", "seed", "what", "at call", "which", "outcome"],
        [
            [
                f"{one['phase']} {one['attempt']}",
                str(one["seed"]),
                one["action"],
                f"{one['at']} of {one['of']}",
                f"{one['call']} `{_shortened(one['path'])}`",
                "; ".join(one["faults"]) or ("kept" if one["is_struck"] else "kept, not reached"),
            ]
            for one in instants
        ],
    )
    yield ""
    yield "</details>"
    yield ""


def _full_disk(found: dict[str, Any] | None) -> Iterator[str]:
    yield "## A file system that is really full"
    yield ""
    if found is None:
        yield "Not run yet: `python -m benchmarks.reliability full-disk`."
        yield ""
        return
    yield (
        "`python -m benchmarks.reliability full-disk`: a home on a small file system in memory, filled "
        "before each step. What a step says, and what the witness says once there is space again:"
    )
    yield ""
    yield from table(
        ["step", "exit", "said", "outcome"],
        [
            [step["name"], str(step["code"]), _cell(step["said"]), _cell("; ".join(step["faults"])) or "kept"]
            for step in found["outcomes"]
        ],
    )
    yield ""


def _crowd(found: dict[str, Any] | None) -> Iterator[str]:
    yield "## Many at once"
    yield ""
    if found is None:
        yield "Not run yet: `python -m benchmarks.reliability concurrency`."
        yield ""
        return
    builds = [build["seconds"] for build in found["builds"]]
    yield (
        f"`python -m benchmarks.reliability concurrency`: {found['writers']} writers, {found['readers']} "
        f"readers and build after build for {found['seconds']:g} s, on {found['run']['processors']} "
        f"processors: {'kept' if is_kept(found) else '**broken**'}."
    )
    yield ""
    yield from table(
        ["", "p50", "p99", "most"],
        [
            [name, *(f"{found[key][which]:g} {unit}" for which in ("p50", "p99", "most"))]
            for name, key, unit in (
                ("`remember()`", "remember_ms", "ms"),
                ("`recall()` of what any process was acknowledged last", "recall_ms", "ms"),
                ("age of that when it is answered", "age_of_news_ms", "ms"),
                ("age of the build that readers are on", "age_of_snapshot_s", "s"),
            )
        ],
    )
    yield ""
    refused = found["refusals"]
    yield (
        f"{found['remembered']:,} memories were remembered, and {found['looks']:,} looks found the newest "
        f"one of a writer but {found['unseen']} times; {len(found['reader_errors'])} reads failed. What "
        "readers see of the inbox is as old as their look; the build that they are on is at most as old as "
        f"two builds take ({bound_on_age(found):g} s here, which is checked); {len(builds)} of them took "
        f"{min(builds):g} to {max(builds):g} s."
    )
    yield ""
    if refused:
        yield (
            f"A second pipeline was started during {len(refused)} builds; "
            f"{sum(one['is_said'] for one in refused)} times it ended with exit code 75 and said who was at "
            "work:"
        )
        yield ""
        yield "```"
        yield refused[0]["said"]
        yield "```"
        yield ""


def _clocks(found: dict[str, Any] | None) -> Iterator[str]:
    yield "## Clocks that lie"
    yield ""
    if found is None:
        yield "Not run yet: `python -m benchmarks.reliability clocks`."
        yield ""
        return
    yield "`python -m benchmarks.reliability clocks` (needs Debian's faketime):"
    yield ""
    yield from table(
        ["clocks", "told", "recalled at once", "recalled at last", "outcome"],
        [
            [
                one["name"],
                str(one["told"]),
                str(one["found_at_once"]),
                str(one["found_at_last"]),
                _cell("; ".join(one["faults"])) or "kept",
            ]
            for one in found["outcomes"]
        ],
    )
    yield ""


def _limits() -> Iterator[str]:
    yield "## What clocks do change"
    yield ""
    yield (
        "- A memory has happened when its writer's clock says. A reader whose clock is behind does not "
        "recall it until its own clock says so too; nor does the same process, once its clock was set "
        "back. Nothing is lost: it is found at that moment."
    )
    yield (
        "- An order to forget a whole user, agent or session covers what was recorded by then, by the "
        "clocks of who recorded it. Within the time by which two clocks differ it can miss what was told "
        "just before it, by the one that is ahead, or cover what was told just after it, by the one that "
        "is behind. An order that names memories is exact. Keep clocks in step (NTP) where several "
        "machines write to one home."
    )
    yield (
        "- The history of runs is kept for so many days before its newest entry: a run with a clock years "
        "ahead makes the older ones go."
    )
    yield ""
    yield "## What is not tested here"
    yield ""
    yield (
        "- A loss of power: SIGKILL keeps what the kernel holds. What was not synced then is simulated for "
        "the inbox (`tests/unit/test_inbox_crashes.py`), and by `torn` writes; a disk that lies about its "
        "syncs is nobody's promise."
    )
    yield "- Network file systems: `flock` and rename have to work there as on a local one."


def _kept(instants: Sequence[dict[str, Any]], what: str = "instants") -> str:
    if not instants:
        return f"{what}: not run yet"
    broken = sum(bool(one["faults"]) for one in instants)
    return f"{len(instants)} {what}, {f'**{broken} with faults**' if broken else 'all kept'}"


def _clocks_kept(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not run yet"
    kept = sum(not one["faults"] for one in found["outcomes"])
    return f"{kept} of {len(found['outcomes'])} scenarios with clocks kept"


def _shortened(path: str) -> str:
    return path if len(path) <= 70 else f"{path[:30]}…{path[-38:]}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
