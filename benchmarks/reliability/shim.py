"""The preloaded library that ends or fails a command at an exact call: see shim.c."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
_COUNTER = struct.Struct("lll")

KILLS = ("kill", "torn")
FAULTS = ("enospc", "full", "eio", "dead")


class ShimError(Exception):
    """The library cannot be had here; says why."""


@dataclass(frozen=True)
class Call:
    """A counted call: its number from 1, its name in libc, its path, what it wrote to a log."""

    number: int
    name: str
    path: str
    text: str


@dataclass(frozen=True)
class Blow:
    """What is to happen, at which call between two marks; `at` 0 only counts."""

    action: str = "count"
    at: int = 0
    after: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended. `calls` were counted; `struck` is the call at which something happened, or 0."""

    code: int
    calls: int
    struck: int
    said: str


class Shim:
    """Compiles the library, and runs commands under it, one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = folder / "shim.so"
        folder.mkdir(parents=True, exist_ok=True)
        _compile(self._library)

    def run(
        self,
        command: Sequence[str],
        home: Path,
        blow: Blow,
        *,
        cwd: Path,
        environment: dict[str, str],
        trace: Path | None = None,
        seconds: float = 900,
    ) -> Ended:
        """Run a command and all that it starts, in a process group of its own.

        Raises:
            subprocess.TimeoutExpired: it does not end; it was killed.
        """
        counter = self._folder / "counter"
        counter.write_bytes(bytes(_COUNTER.size))
        said = {
            "LD_PRELOAD": str(self._library),
            "SHIM_ROOT": str(home),
            "SHIM_COUNTER": str(counter),
            "SHIM_ACTION": blow.action,
            "SHIM_AT": str(blow.at),
            "SHIM_FROM": blow.after or "",
            "SHIM_UNTIL": blow.until or "",
            "SHIM_TRACE": str(trace or ""),
        }
        output = self._folder / "said"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**environment, **said},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
                raise
        calls, struck, _ = _COUNTER.unpack(counter.read_bytes())
        return Ended(code, calls, struck, output.read_text("utf-8", "replace"))


def read_trace(trace: Path) -> list[Call]:
    """Return the calls that a run under the library wrote to a trace."""
    calls = []
    for line in trace.read_text("utf-8", "replace").splitlines():
        number, _, name, path, text = line.split("\t", 4)
        calls.append(Call(int(number), name, path, text))
    return sorted(calls, key=lambda call: call.number)


def _compile(library: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ShimError("There is no C compiler (cc): install one, such as Debian's package gcc.")
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ShimError(f"{SOURCE.name} cannot be compiled here: {done.stderr.strip()}")
