"""Where the model server is, and whether anybody is there: told without its client, slow to import."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import selectors
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mnemoduck.errors import UsageError

HOST_VARIABLE = "OLLAMA_HOST"
DEFAULT_PORT = 11434
LISTENING_SECONDS = 1.0


@dataclass(frozen=True)
class ServerState:
    """What a server said of itself.

    Attributes:
        models: digest by name, as the server spells it ("llama3.2:latest").
        reason: a sentence, why it cannot be used; None if it can.
    """

    is_up: bool
    version: str | None = None
    models: dict[str, str | None] = field(default_factory=dict)
    reason: str | None = None

    def find_model(self, model: str) -> str | None:
        """Return a model's name as the server spells it, None if it is not there."""
        names = [model] if ":" in model.rsplit("/", 1)[-1] else [model, f"{model}:latest"]
        return next((name for name in names if name in self.models), None)

    def digest(self, model: str) -> str | None:
        """Return the digest of a model's weights, None if it is not there or has none."""
        name = self.find_model(model)
        return None if name is None else self.models[name]


def server_url(host: str | None = None) -> str:
    """Return the URL of a server, without a slash at its end.

    `host` (else OLLAMA_HOST, else http://127.0.0.1:11434) has any form that Ollama's own clients take:
    "host", "host:port", ":port", "http://host", "[::1]:port", each with a path behind it. A user's name in
    it is left out, as they do.

    Raises:
        UsageError: it has no such form.
    """
    asked = (host or os.environ.get(HOST_VARIABLE) or "").strip()
    scheme, separator, rest = asked.partition("://")
    if not separator:
        scheme, rest, port = "http", asked, DEFAULT_PORT
    else:
        scheme = scheme.lower()
        port = {"http": 80, "https": 443}.get(scheme, 0)
    try:
        parts = urllib.parse.urlsplit(f"{scheme}://{rest}")
        name, port = parts.hostname or "127.0.0.1", parts.port or port
        if not port or " " in asked or not asked.isprintable():
            raise ValueError
        if ":" in name:
            ipaddress.IPv6Address(name)
            name = f"[{name}]"
    except ValueError:
        shown = asked.rpartition("@")[2]  # what is before may be a password
        raise UsageError(
            f"The model server's address {shown!r} cannot be used. It is a URL like http://127.0.0.1:11434, "
            f"given by the variable llm_host or {HOST_VARIABLE}."
        ) from None
    return f"{scheme}://{name}:{port}{parts.path.rstrip('/')}"


def find_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL; none for this machine itself."""
    parts = urllib.parse.urlsplit(url)
    name = parts.hostname or ""
    if name == "localhost" or name.endswith(".localhost") or urllib.request.proxy_bypass(name):
        return None
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(name)
        if address.is_loopback or address.is_unspecified:
            return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def is_listening(host: str | None = None) -> bool:
    """Return whether somebody accepts connections at the server's address, within a second.

    That covers its name being looked up and all the addresses that it has. A proxy is not used: where
    `find_proxy` finds one, this says nothing of the server.

    Raises:
        UsageError: it has no form of an address, see `server_url`.
    """
    parts = urllib.parse.urlsplit(server_url(host))
    assert parts.hostname is not None
    deadline = time.monotonic() + LISTENING_SECONDS
    addresses = _look_up(parts.hostname, parts.port or DEFAULT_PORT, LISTENING_SECONDS)
    return _accepts_any(addresses, deadline)


AddressInfo = tuple[int, int, int, str, Any]
"""An address as `socket.getaddrinfo` gives it."""


def _look_up(name: str, port: int, seconds: float) -> list[AddressInfo]:
    """Return the addresses of a name; none if there are none, or they do not come in time.

    Looking up cannot be given a time limit, so it goes on alone where it takes too long.
    """
    found: queue.SimpleQueue[list[AddressInfo]] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError):  # of no machine; of nothing that could be a machine's name
            found.put([])

    threading.Thread(target=look_up, daemon=True).start()
    try:
        return found.get(timeout=seconds)
    except queue.Empty:
        return []


def _accepts_any(addresses: Iterable[AddressInfo], deadline: float) -> bool:
    """Return whether one of the addresses accepts a connection before the deadline.

    All are tried at once: one that swallows what is sent to it must not use up the time of the next.
    """
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for family, kind, protocol, _, address in addresses:
            with contextlib.suppress(OSError):  # a family that this machine does not have
                connection = stack.enter_context(socket.socket(family, kind, protocol))
                connection.setblocking(False)
                connection.connect_ex(address)  # what fails at once is ready at once, and not connected
                selector.register(connection, selectors.EVENT_WRITE, connection)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            for key, _ in ready:
                if _is_connected(key.data):
                    return True
                selector.unregister(key.data)
            if not ready:
                return False
    return False


def _is_connected(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return False
    return True
