"""Handing the metrics out: over HTTP to Prometheus, or as a file to node_exporter's textfile collector."""

from __future__ import annotations

import re
import socket
import sys
import threading
from pathlib import Path
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app, write_to_textfile

from mnemoduck.errors import StorageError, UsageError
from mnemoduck.home import Home
from mnemoduck.metrics.collecting import home_registry

DEFAULT_HOST = "127.0.0.1"

MAX_CONNECTIONS = 8
"""So many are answered at once; Prometheus needs one. Others wait to be accepted."""

CONNECTION_SECONDS = 10.0
"""A client that says nothing, or takes nothing, for longer is let go."""


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


class _BoundedServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection, and so many of them: each reads the home and takes memory for that."""

    daemon_threads = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*arguments, **named)

    def process_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(CONNECTION_SECONDS)
        self._free.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was started, so none gives it back
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went, or was too slow: its connection is closed, and that is all."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Write no line for each scrape."""


class MetricsServer:
    """Serves the metrics of a home from `with` on, in a thread of its own; port 0 takes a free one.

    Raises:
        UsageError: the address is taken, or none of this machine.
    """

    def __init__(self, home: Home, host: str = DEFAULT_HOST, port: int = 0) -> None:
        try:
            family, *_, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            server = type("_Server", (_BoundedServer,), {"address_family": family})
            self._server: WSGIServer = make_server(
                str(address[0]), port, make_wsgi_app(home_registry(home)), server, _SilentHandler
            )
        except (OSError, socket.gaierror, OverflowError) as error:
            raise UsageError(
                f"The metrics cannot be served at {host}:{port} ({error}). Stop what serves there, or give "
                "--serve another address."
            ) from error
        self._host = host
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

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
