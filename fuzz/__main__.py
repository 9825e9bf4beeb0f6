"""`python -m fuzz run` tries a million cases, `… one` tries one again, `… report` fills docs/fuzzing.md."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from fuzz.generated import read_count
from fuzz.target import Target, scratch_folder
from fuzz.targets import all_targets, find_target

FOLDER = Path(__file__).parent
RESULT = FOLDER / "results" / "last.json"
PAGE = FOLDER.parent / "docs" / "fuzzing.md"
CRASHES = Path("target/fuzz-crashes")
GENERATED_SHARE = 0.05
"""Of the cases where Atheris is there: one of hypothesis takes ten times as long, and is better aimed."""
MORE_CASES = 100
"""What is lost by rounding is no reason to fall short."""
RESTARTS = 5
"""libFuzzer ends with the first case that fails; so often it is begun again, for others."""
_BEGIN, _END = "<!-- the last run -->\n", "<!-- end of the last run -->\n"


@dataclass
class Outcome:
    """What became of a target with one engine."""

    target: str
    engine: str
    cases: int = 0
    seconds: float = 0.0
    crashes: list[str] = field(default_factory=list)
    """Files with the cases that failed."""
    trouble: str | None = None
    """Why it ended without having tried its cases, if not for want of time."""


@click.group()
def main() -> None:
    """Fuzz what reads the texts of others."""


@main.command()
@click.option("--cases", default=1_000_000, show_default=True, help="Of all targets together, at least.")
@click.option("--minutes", default=20.0, show_default=True, help="No longer than that.")
@click.option("--target", "names", multiple=True, help="Only these; by default all.")
@click.option(
    "--engine", type=click.Choice(["both", "generated", "covered"]), default="both", show_default=True
)
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="Processes at a time.")
@click.option("--seed", default=1, show_default=True, help="Another seed gives other cases.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("target/fuzz.json"), show_default=True)
def run(
    cases: int, minutes: float, names: tuple[str, ...], engine: str, jobs: int, seed: int, out: Path
) -> None:
    """Try cases of every target with both engines; the status is 1 if one failed."""
    found = [(module, one) for module, one in all_targets() if not names or one.name in names]
    if unknown := set(names) - {one.name for _, one in found}:
        raise click.UsageError(f"{min(unknown)!r} is no target. There are: {', '.join(_names())}.")
    has_atheris = engine != "generated" and _has_atheris()
    if engine != "generated" and not has_atheris:
        click.echo("Atheris is not installed for this Python: all cases are those of hypothesis.", err=True)
        if engine == "covered":
            sys.exit(2)
    engines = [name for name in ("covered", "generated") if engine in ("both", name)]
    if not has_atheris:
        engines = ["generated"]
    begun = time.monotonic()
    work = scratch_folder()
    try:
        end = begun + 60 * minutes
        outcomes = _run_all(found, engines, cases=cases, end=end, jobs=jobs, seed=seed, work=work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    result = {
        "ran_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "hypothesis": version("hypothesis"),
        "atheris": _version("atheris") if has_atheris else None,
        "processes": jobs,
        "seed": seed,
        "seconds": round(time.monotonic() - begun),
        "cases": sum(one.cases for one in outcomes),
        "crashes": sum(len(one.crashes) for one in outcomes),
        "targets": [
            {**asdict(one), "seconds": round(one.seconds, 1), "says": find.says}
            for one in outcomes
            for find in [next(target for _, target in found if target.name == one.target)]
        ],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    click.echo("\n".join(_table(result)))
    for one in outcomes:
        for crash in one.crashes:
            click.echo(f"{one.target} failed. Try it again: python -m fuzz one {one.target} {crash}")
        if one.trouble:
            click.echo(f"{one.target} ({one.engine}): {one.trouble}", err=True)
    is_short = result["cases"] < cases  # type: ignore[operator]
    if is_short:
        click.echo(f"Only {result['cases']:,} of {cases:,} cases were tried in the time given.", err=True)
    if result["crashes"] or any(one.trouble for one in outcomes):
        sys.exit(1)


@main.command()
@click.argument("name")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
def one(name: str, files: tuple[Path, ...]) -> None:
    """Try files again, or all of a target's corpus; the status is 1 if one failed."""
    try:
        target = find_target(name)
    except KeyError:
        raise click.UsageError(f"{name!r} is no target. There are: {', '.join(_names())}.") from None
    failed = 0
    for path in files or sorted(target.corpus.glob("*")):
        try:
            target.check(path.read_bytes()[: target.max_bytes])
        except Exception:
            failed += 1
            click.echo(f"{path}:\n{traceback.format_exc()}")
    click.echo(f"{failed} failed.")
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("result", type=click.Path(path_type=Path, exists=True), default=RESULT)
def report(result: Path) -> None:
    """Put the table of a result into docs/fuzzing.md."""
    told = json.loads(result.read_text("utf-8"))
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}{chr(10).join(_table(told))}\n{_END}{after}", "utf-8")


def _names() -> list[str]:
    return sorted(target.name for _, target in all_targets())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _has_atheris() -> bool:
    code = "import atheris; atheris.instrument_imports"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@dataclass
class _Job:
    """So many cases of one target with one engine, in a folder of its own."""

    module: str
    target: Target
    engine: str
    cases: int
    seconds: float
    folder: Path
    outcome: Outcome


def _run_all(
    found: list[tuple[str, Target]],
    engines: list[str],
    *,
    cases: int,
    end: float,
    jobs: int,
    seed: int,
    work: Path,
) -> list[Outcome]:
    """Return what became of each target with each engine."""
    whole = sum(target.weight for _, target in found)
    # A target that is slow today must not take the time of the others; what it leaves is theirs.
    seconds = max(5.0, (end - time.monotonic()) * jobs / (len(found) * len(engines)) * 2)
    planned = []
    for module, target in found:
        for engine in engines:
            share = cases * target.weight / whole
            if len(engines) == 2:
                share *= GENERATED_SHARE if engine == "generated" else 1 - GENERATED_SHARE
            folder = work / f"{target.name}-{engine}"
            outcome = Outcome(target.name, engine)
            planned.append(_Job(module, target, engine, int(share) + MORE_CASES, seconds, folder, outcome))
    groups: dict[tuple[str, str], list[_Job]] = {}
    for job in planned:
        groups.setdefault((job.engine, job.module), []).append(job)
    order = sorted(groups.values(), key=lambda group: -sum(job.target.weight for job in group))
    with ThreadPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(_run_group, group, end, seed) for group in order]):
            for outcome in done.result():
                click.echo(
                    f"{outcome.target:20} {outcome.engine:10} {outcome.cases:>9,} cases "
                    f"{outcome.seconds:6.1f} s  {len(outcome.crashes)} failed",
                    err=True,
                )
    return sorted((job.outcome for job in planned), key=lambda one: (one.target, one.engine))


def _run_group(group: list[_Job], end: float, seed: int) -> list[Outcome]:
    """Try the cases of targets of one module; a target that failed is begun again, for other failures."""
    for attempt in range(RESTARTS + 1):
        waiting = [job for job in group if _is_open(job)]
        left = end - time.monotonic()
        if not waiting or left < 1:
            break
        plan = []
        for job in waiting:
            shutil.rmtree(job.folder, ignore_errors=True)
            job.folder.mkdir(parents=True)
            plan.append(
                {
                    "name": job.target.name,
                    "cases": job.cases - job.outcome.cases,
                    "seconds": max(1.0, min(job.seconds - job.outcome.seconds, left)),
                    "seed": seed + attempt,
                    "folder": str(job.folder),
                }
            )
        begun = time.monotonic()
        said = _work(group[0].engine, group[0].module, plan, left)
        for job in waiting:
            _note(job, said)
            job.outcome.seconds += (time.monotonic() - begun) / len(waiting)
    return [job.outcome for job in group]


def _is_open(job: _Job) -> bool:
    """Return whether there are cases and time left, and what failed may not be all."""
    is_new = job.outcome.cases == 0 and job.outcome.trouble is None
    has_failed = bool(job.outcome.crashes) and job.engine == "covered" and job.outcome.trouble is None
    return (is_new or has_failed) and job.outcome.cases < job.cases and job.outcome.seconds < job.seconds


def _work(engine: str, module: str, plan: list[dict[str, Any]], seconds: float) -> str:
    """Let a worker carry out a plan; return what it said."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(plan, file)
        file.flush()
        command = [sys.executable, "-m", "fuzz.worker", engine, module, file.name]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=seconds + 120, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            return "it did not end in time"
    return f"status {done.returncode}: " + (done.stdout + done.stderr).decode(errors="replace")


def _note(job: _Job, said: str) -> None:
    """Add to the outcome what a worker left in a target's folder."""
    outcome, log, status = job.outcome, job.folder / "log", job.folder / "status"
    outcome.cases += read_count(job.folder / "count")
    told = log.read_text("utf-8", errors="replace") if log.exists() else said
    crashes = list(_keep_crashes(job.target, job.folder, told))
    outcome.crashes += [crash for crash in crashes if crash not in outcome.crashes]
    if (not status.exists() or status.read_text() != "0") and not crashes:
        ended = status.read_text() if status.exists() else "none"
        outcome.trouble = f"it ended with status {ended}: {' '.join(told.split())[-400:]}"


def _keep_crashes(target: Target, folder: Path, said: str) -> Iterator[str]:
    """Yield the files with the cases that failed, kept beside what was said of them."""
    for path in sorted(folder.glob("*-*")):
        if path.suffix == ".txt" or path.name.startswith("slow-unit") or not path.is_file():
            continue
        kept = CRASHES / target.name
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept / path.name)
        told = path.with_suffix(".txt")
        text = told.read_text("utf-8") if told.exists() else said[-20_000:]
        (kept / f"{path.name}.txt").write_text(text, "utf-8")
        yield str(kept / path.name)


def _table(result: dict[str, Any]) -> Iterator[str]:
    engines = f"hypothesis {result['hypothesis']}"
    if result["atheris"]:
        engines += f" and Atheris {result['atheris']}"
    yield (
        f"{result['cases']:,} cases in {result['seconds']:,} seconds with {result['processes']} processes "
        f"({result['ran_at'][:10]}, Python {result['python']}, {engines}, seed {result['seed']}); "
        f"{result['crashes']} failed."
    )
    yield ""
    yield "| target | what holds | by coverage | generated | seconds | failed |"
    yield "|---|---|---:|---:|---:|---:|"
    rows: dict[str, list[dict[str, Any]]] = {}
    for one in result["targets"]:
        rows.setdefault(one["target"], []).append(one)
    for name, of in sorted(rows.items()):
        counts = {one["engine"]: one["cases"] for one in of}
        yield (
            f"| {name} | {of[0]['says']} | {counts.get('covered', 0):,} | {counts.get('generated', 0):,} | "
            f"{sum(one['seconds'] for one in of):,.0f} | {sum(len(one['crashes']) for one in of)} |"
        )


if __name__ == "__main__":
    main()
