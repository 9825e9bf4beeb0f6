"""Where the model server is, and whether anybody is there: told without its client, slow to import."""

from __future__ import annotations

import ipaddress
import os
import socket
import urllib.parse
from dataclasses import dataclass, field

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
        if not port or any(character.isspace() for character in asked):
            raise ValueError
        if ":" in name:
            ipaddress.IPv6Address(name)
            name = f"[{name}]"
    except ValueError:
        raise UsageError(
            f"The model server's address {asked!r} cannot be used. It is a URL like http://127.0.0.1:11434, "
            f"given by the variable llm_host or {HOST_VARIABLE}."
        ) from None
    return f"{scheme}://{name}:{port}{parts.path.rstrip('/')}"


def is_listening(host: str | None = None) -> bool:
    """Return whether somebody accepts connections at the server's address, within a second.

    Raises:
        UsageError: it has no form of an address, see `server_url`.
    """
    parts = urllib.parse.urlsplit(server_url(host))
    assert parts.hostname is not None
    try:
        with socket.create_connection((parts.hostname, parts.port or DEFAULT_PORT), LISTENING_SECONDS):
            return True
    except OSError:
        return False
