"""`python -m fuzz run` tries a million cases, `… one` tries a file again, `… report` makes the table in docs/."""

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
from fuzz.worker import ATHERIS_MISSING

FOLDER = Path(__file__).parent
RESULT = FOLDER / "results" / "last.json"
PAGE = FOLDER.parent / "docs" / "fuzzing.md"
CRASHES = Path("target/fuzz-crashes")
GENERATED_SHARE = 0.05
"""Of the cases where Atheris is there: one of hypothesis takes ten times as long, and is better aimed."""
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
    outcomes = _run_all(found, engines, cases=cases, end=begun + 60 * minutes, jobs=jobs, seed=seed)
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


def _run_all(
    found: list[tuple[str, Target]], engines: list[str], *, cases: int, end: float, jobs: int, seed: int
) -> list[Outcome]:
    """Return what became of each target; those that take longest are begun first."""
    whole = sum(target.weight for _, target in found)
    work = []
    for module, target in found:
        share = cases * target.weight / whole
        # What is left by rounding, and by the first cases of a corpus, is no reason to fall short.
        if engines == ["covered", "generated"]:
            work.append((module, target, "covered", int(share * (1 - GENERATED_SHARE)) + 200))
            work.append((module, target, "generated", int(share * GENERATED_SHARE) + 100))
        else:
            work.append((module, target, engines[0], int(share) + 100))
    work.sort(key=lambda one: one[1].weight)
    outcomes = []
    seconds_each = max(5.0, (end - time.monotonic()) * jobs / len(work) * 2)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            pool.submit(_run_one, module, target, engine, share, end, seconds_each, seed): target
            for module, target, engine, share in work
        }
        for done in as_completed(waiting):
            outcome = done.result()
            outcomes.append(outcome)
            click.echo(
                f"{outcome.target:20} {outcome.engine:10} {outcome.cases:>9,} cases "
                f"{outcome.seconds:6.1f} s  {len(outcome.crashes)} failed",
                err=True,
            )
    return sorted(outcomes, key=lambda one: (one.target, one.engine))


def _run_one(
    module: str, target: Target, engine: str, cases: int, end: float, seconds: float, seed: int
) -> Outcome:
    outcome = Outcome(target.name, engine)
    begun = time.monotonic()
    end = min(end, begun + seconds)
    for attempt in range(RESTARTS + 1):
        left = end - time.monotonic()
        if outcome.cases >= cases or left < 1:
            break
        with tempfile.TemporaryDirectory() as folder:
            scratch = scratch_folder()
            try:
                status, said = _work(
                    engine, module, target, cases - outcome.cases, left, seed + attempt, Path(folder), scratch
                )
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            outcome.cases += read_count(Path(folder) / "count")
            crashes = list(_keep_crashes(target, Path(folder), said))
        outcome.crashes += [crash for crash in crashes if crash not in outcome.crashes]
        if status == 0:
            break
        if not crashes:
            outcome.trouble = f"it ended with status {status}: {' '.join(said.split())[-400:]}"
            break
    outcome.seconds = time.monotonic() - begun
    return outcome


def _work(
    engine: str,
    module: str,
    target: Target,
    cases: int,
    seconds: float,
    seed: int,
    folder: Path,
    scratch: Path,
) -> tuple[int, str]:
    command = [sys.executable, "-m", "fuzz.worker", engine, module, target.name]
    options = [f"--cases={cases}", f"--seconds={seconds}", f"--seed={seed}", f"--folder={folder}"]
    environment = {**os.environ, "MNEMODUCK_FUZZ_FOLDER": str(scratch), "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, timeout=seconds + 120, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        return 1, f"it did not end in time: {(error.stderr or b'')[-2000:].decode(errors='replace')}"
    said = (done.stdout + done.stderr).decode(errors="replace")
    return (1 if done.returncode == ATHERIS_MISSING else done.returncode), said


def _keep_crashes(target: Target, folder: Path, said: str) -> Iterator[str]:
    """Yield the files with the cases that failed, kept beside what was said of them."""
    for path in sorted(folder.glob("*-*")):
        if path.suffix == ".txt" or path.name.startswith("slow-unit"):
            continue
        kept = CRASHES / target.name
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept / path.name)
        told = path.with_suffix(".txt")
        text = told.read_text() if told.exists() else said[-20_000:]
        (kept / f"{path.name}.txt").write_text(text)
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
