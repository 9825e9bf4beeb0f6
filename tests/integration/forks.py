"""Processes of dbt and of `mnemoduck` that need not import dbt, which takes two seconds of each.

A server imports what they all need, once in each test worker, and forks for each command: a process of its
own all the same, with its own memory, files, environment and end. `mnemoduck` asks the server for its dbt as
well. What is to be killed, and one build of the sample, is started in the usual way: see workbench.py.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import duckdb
from sqlparse.engine import grouping

PROJECT = Path(__file__).resolve().parents[2]
IMPORTED = (
    "daff",
    "dbt.adapters.duckdb.environments.local",
    "dbt.cli.main",
    "dbt.task.build",
    "mnemoduck.cli",
    "mnemoduck.dbt_plugin",
    "pandas",
    "pyarrow.dataset",
    "vaderSentiment.vaderSentiment",
)
START_OF_DBT = (sys.executable, "-c", "from dbt.cli.main import cli; cli()")
SERVER_VARIABLE = "MNEMODUCK_TESTS_FORKS"


class Fork:
    """A process that the server has forked, as `mnemoduck` uses one of `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        files: Mapping[int, int],
        umask: int = -1,
    ) -> None:
        """Start `dbt` or `mnemoduck`; `files` says which of our files is which of its."""
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(os.environ.get(SERVER_VARIABLE) or str(start_server()))
        request = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "env": dict(env),
            "files": list(files),
            "umask": umask,
        }
        socket.send_fds(self._connection, [b"."], list(files.values()))
        self._connection.sendall(json.dumps(request).encode())
        self._connection.shutdown(socket.SHUT_WR)
        self._answer = self._connection.makefile()
        self.pid = int(self._answer.readline())

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = int(self._answer.readline())
            self._answer.close()
            self._connection.close()
        return self.returncode

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


def run(arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    """Run `dbt` or `mnemoduck` to its end; return its exit code, its output and its errors."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as none:
        files = {0: none.fileno(), 1: out.fileno(), 2: err.fileno()}
        process = Fork(arguments, cwd=cwd, env={**env, SERVER_VARIABLE: str(start_server())}, files=files)
        try:
            code = process.wait(timeout=600)
        except TimeoutError:
            process.terminate()
            raise
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


@cache
def start_server() -> Path:
    """Start the server of this process, which ends with it; return its address."""
    address = Path(tempfile.mkdtemp(prefix="mnemoduck-")) / "forks"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(16)
    reader, writer = os.pipe()  # nobody writes: it is closed when this process ends
    command = [sys.executable, "-m", "tests.integration.forks", str(listener.fileno())]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    server = subprocess.Popen(command, cwd=PROJECT, env=env, stdin=reader, pass_fds=[listener.fileno()])
    os.close(reader)
    listener.close()

    def end() -> None:
        os.close(writer)
        server.wait()

    atexit.register(end)
    return address


def _serve(listener: socket.socket) -> dict[str, Any]:
    """Fork for each request; return it, in the process that is to carry it out."""
    for module in IMPORTED:
        importlib.import_module(module)
    duckdb.close()  # the connection that its import opens has a thread, and threads do not survive a fork
    grouping.group = _group_a_little
    gc.collect()
    gc.freeze()
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    while True:
        events = [key.fileobj for key, _ in selector.select()]
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        if 0 in events:
            address = Path(listener.getsockname())
            address.unlink()
            address.parent.rmdir()
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.wait()
            sys.exit()
        connection, _ = listener.accept()
        if os.fork() == 0:
            break
        connection.close()
    selector.close()
    listener.close()
    _, received, _, _ = socket.recv_fds(connection, 1, 16)
    text = b""
    while piece := connection.recv(1 << 16):
        text += piece
    request: dict[str, Any] = json.loads(text)
    process = os.fork()
    if process:
        for file in received:
            os.close(file)
        connection.sendall(f"{process}\n".encode())
        _, status = os.waitpid(process, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    connection.close()
    above = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 100) for file in received]
    for file in received:
        os.close(file)
    for file, number in zip(above, request["files"], strict=True):
        os.dup2(file, number)
        os.close(file)
    return request


def _group_a_little(statement: Any) -> Any:
    """Take a third of the time of `sqlparse.engine.grouping.group`, which dbt needs before each unit test.

    It looks only at the first word of the tree that it has made of the whole SQL. SQL that is too long for
    that is refused as it is there.
    """
    grouping.group_comments(statement)
    grouping.group_brackets(statement)  # type: ignore[no-untyped-call]
    return statement


def _become(request: dict[str, Any]) -> None:
    """Be the process that was asked for."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["umask"] >= 0:
        os.umask(request["umask"])
    name, *arguments = request["arguments"]
    sys.argv = [name, *arguments]
    sys.modules["__main__"].__package__ = None  # else what is said about usage names this module
    if name == "dbt":
        importlib.import_module("dbt.cli.main").cli()
    else:
        started_by = importlib.import_module("mnemoduck.pipeline.run")
        started_by.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": _fork_dbt})  # type: ignore[attr-defined]
        importlib.import_module("mnemoduck.cli").main()


def _fork_dbt(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    text: bool,
    errors: str,
    pass_fds: Sequence[int],
    umask: int,
) -> Fork:
    """Start the dbt of `mnemoduck`, with what that gives to `subprocess.Popen`."""
    assert tuple(command[:3]) == START_OF_DBT
    assert (stdin, stdout, stderr, text) == (subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT, True)
    reader, writer = os.pipe()
    with Path(os.devnull).open() as none:
        files = {0: none.fileno(), 1: writer, 2: writer, **{file: file for file in pass_fds}}
        process = Fork(["dbt", *command[3:]], cwd=cwd, env=env, files=files, umask=umask)
    os.close(writer)
    process.stdout = os.fdopen(reader, errors=errors)
    return process


if __name__ == "__main__":
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
