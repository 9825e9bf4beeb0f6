"""One process that tries the cases of a module's targets: `python -m fuzz.worker ENGINE MODULE PLAN`.

The engine `generated` is hypothesis, `covered` is Atheris (libFuzzer): it changes cases at random, and keeps
those that reach code that none reached before.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from fuzz.generated import MEMORY_BYTES, SECONDS_PER_CASE, CaseCounter
from fuzz.generated import run as run_generated
from fuzz.target import Target
from fuzz.targets import targets_of

ATHERIS_MISSING = 3
"""Exit status where Atheris is not installed."""
GRACE_SECONDS = 60
"""How much longer than it should a target may take before it is ended."""


@click.command()
@click.argument("engine", type=click.Choice(["generated", "covered"]))
@click.argument("module")
@click.argument("plan", type=click.Path(path_type=Path, exists=True))
def main(engine: str, module: str, plan: Path) -> None:
    """Try cases of targets of one module, each in a child: to import what they need takes seconds.

    PLAN is JSON: for each target its `name`, `cases`, `seconds`,
    `seed` and `folder`. The folder gets the count
    of cases, those that failed, the `log`, and the `status` of the child.
    """
    logging.getLogger("mnemoduck").setLevel(logging.CRITICAL)  # thousands of odd files are told of otherwise
    jobs: list[dict[str, Any]] = json.loads(plan.read_text("utf-8"))
    if engine == "generated":
        targets = {target.name: target for target in targets_of(module)}
    else:
        try:
            import atheris
        except ImportError:
            sys.exit(ATHERIS_MISSING)
        # Its hooks of regular expressions and texts fail with patterns of libraries: they stay off.
        with atheris.instrument_imports(include=["mnemoduck"]):
            targets = {target.name: target for target in targets_of(module)}
    run = run_generated if engine == "generated" else _run_covered
    for job in jobs:
        name, folder = job.pop("name"), Path(job.pop("folder"))
        end = time.monotonic() + job["seconds"] + GRACE_SECONDS
        pid = os.fork()
        if pid == 0:
            _begin_child(folder)
            run(targets[name], folder=folder, **job)
            os._exit(0)
        status = _wait(pid, end)
        (folder / "status").write_text(str(status))


def _begin_child(folder: Path) -> None:
    descriptor = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # libFuzzer counts the time from here, not from the import.
    os.environ["MNEMODUCK_FUZZ_FOLDER"] = str(folder / "scratch")
    (folder / "scratch").mkdir(exist_ok=True)


def _wait(pid: int, end: float) -> int:
    """Return the exit status of a child; one that takes too long is killed."""
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run_covered(target: Target, *, cases: int, seconds: float, seed: int, folder: Path) -> None:
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed_data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed_data)
    for data in target.seeds():  # what is done once, such as reading the project, is no case that takes long
        target.check(data[: target.max_bytes])
    dictionary = folder / "dictionary"
    dictionary.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens if token))
    counter = CaseCounter(folder / "count")

    end = time.monotonic() + seconds

    def attempt(data: bytes) -> None:
        counter.add()
        target.check(data)
        if counter.count >= cases or time.monotonic() > end:
            os._exit(0)  # at libFuzzer's own exit, threads of libraries that came through the fork abort

    atheris.Setup(
        [
            "fuzz",
            str(corpus),
            f"-max_len={target.max_bytes}",
            f"-timeout={SECONDS_PER_CASE}",
            f"-rss_limit_mb={MEMORY_BYTES // 1024**2}",
            f"-seed={seed % 2**31 + 1}",
            f"-artifact_prefix={folder}/",
            f"-dict={dictionary}",
        ],
        attempt,
    )
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(
        chr(byte) if 32 < byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in token
    )


if __name__ == "__main__":
    main()
