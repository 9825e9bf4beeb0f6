"""The performance suite, where the project's folder holds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from mnemoduck.cli.options import project_option
from mnemoduck.errors import UsageError
from mnemoduck.project import find_project

SCALES = ("10k", "100k", "1m", "10m")
DEFAULT_OUT = Path("target/benchmarks/suite/result.json")


@click.command("bench")
@click.option(
    "--scale",
    "scales",
    multiple=True,
    type=click.Choice(SCALES),
    default=("10k",),
    show_default=True,
    help="Memories in the stream; several may be given. 10k takes minutes, 10m hours and 60 GB of disk.",
)
@click.option(
    "--part", "parts", multiple=True, help="Only this part of the suite; may be given several times."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"The result, as JSON. Default: {DEFAULT_OUT} in the project's folder.",
)
@click.option(
    "--compare",
    "baseline",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Then compare with this result; a ratio 1.3 times worse is flagged, and the exit code is 1.",
)
@project_option
def bench_command(
    scales: tuple[str, ...],
    parts: tuple[str, ...],
    out: Path | None,
    baseline: Path | None,
    project: Path | None,
) -> None:
    """Measure builds, queries, threads, ingest and files on a generated stream.

    It works in homes of its own, below target/ of the project's folder. See docs/performance.md.
    """
    folder = find_project(project)
    if not (folder / "benchmarks" / "suite").is_dir():
        raise UsageError(
            f"The benchmarks are not in {folder}: they come with the source, not with the installed package. "
            "Clone the repository, and name its folder with --project."
        )
    result = str(out.absolute() if out else folder / DEFAULT_OUT)
    chosen = [word for scale in scales for word in ("--scale", scale)]
    chosen += [word for part in parts for word in ("--part", part)]
    if baseline:
        chosen += ["--compare", str(baseline.absolute())]
    sys.exit(_suite(folder, "run", *chosen, "--out", result))


def _suite(folder: Path, *arguments: str) -> int:
    """Call the suite in a process of its own, with the project's folder to import from."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.suite", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MNEMODUCK_PROJECT": str(folder)},
        check=False,
    ).returncode
