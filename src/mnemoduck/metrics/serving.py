"""Handing the metrics out: over HTTP to Prometheus, or as a file to node_exporter's textfile collector."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from types import TracebackType

from prometheus_client import start_http_server, write_to_textfile

from mnemoduck.errors import StorageError, UsageError
from mnemoduck.home import Home
from mnemoduck.metrics.collecting import home_registry

DEFAULT_HOST = "127.0.0.1"


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ":9464", "HOST:9464", "[::1]:9464" or "9464"; the host is this machine's own
    unless it is given, since whoever reaches the port reads the metrics.

    Raises:
        UsageError: it has no such form.
    """
    match = re.fullmatch(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]*):)?(?P<port>[0-9]{1,5})", text.strip())
    if match is None or int(match["port"]) > 65535:
        raise UsageError(f"{text!r} is no address to serve at; write it like :9464 or 0.0.0.0:9464.")
    return (match["host"] or DEFAULT_HOST).strip("[]"), int(match["port"])


class MetricsServer:
    """Serves the metrics of a home from `with` on, in a thread of its own; port 0 takes a free one.

    Raises:
        UsageError: the address is taken, or none of this machine.
    """

    def __init__(self, home: Home, host: str = DEFAULT_HOST, port: int = 0) -> None:
        try:
            self._server, self._thread = start_http_server(port, host, home_registry(home))
        except (OSError, socket.gaierror, OverflowError) as error:
            raise UsageError(
                f"The metrics cannot be served at {host}:{port} ({error}). Stop what serves there, or give "
                "--serve another address."
            ) from error
        self._host = host

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_port}/metrics"

    def wait(self) -> None:
        """Wait until the process is interrupted."""
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def write_textfile(home: Home, path: Path) -> None:
    """Replace a file with the metrics of a home; whoever reads it sees the old ones or the new ones.

    Everybody may read it, as the umask has it: node_exporter runs as another user.

    Raises:
        UsageError: its name does not end in .prom, which node_exporter would pass over.
        StorageError: it cannot be written.
    """
    if path.suffix != ".prom":
        raise UsageError(f"{path} does not end in .prom: node_exporter would not read it.")
    try:
        write_to_textfile(str(path), home_registry(home))
    except OSError as error:
        raise StorageError(f"The metrics could not be written to {path}: {error.strerror}.") from error
