"""Which model answers: that follows from the variables, the environment and what the server has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

from duckdb import DuckDBPyConnection

from mnemoduck.errors import UsageError
from mnemoduck.llm.address import HOST_VARIABLE, ServerState, find_proxy, is_listening, server_url
from mnemoduck.llm.keys import canonical_json
from mnemoduck.llm.records import utc_now
from mnemoduck.llm.settings import (
    EMBEDDING,
    EMBEDDING_PROVIDERS,
    EMBEDDINGS_VARIABLE,
    LLM_MODES,
    MINILM,
    MODE_VARIABLE,
    REFLECTION,
    Mode,
    TemplateSettings,
    embedding_options,
)

MODEL_VARIABLE = "MNEMODUCK_LLM_MODEL"
EMBEDDING_MODEL_VARIABLE = "MNEMODUCK_EMBEDDING_MODEL"

DEFAULT_MODEL = "llama3.2"
DEFAULT_HOST = "http://127.0.0.1:11434"
DEFAULT_EMBEDDING_MODEL = "nomic-embed-text"

OFF = UUID(int=0)
"""The settings_hash of what is off: rows that were made under another have to be looked at again."""

TEMPLATES = "staging.llm_templates"
"""The table of what is asked with, in the warehouse."""

_NONE_KNOWN: Mapping[str, str] = MappingProxyType({})
_LONG_AGO = datetime(1970, 1, 1)
"""When a digest was seen of which only a build tells: a server that has the model knows better."""


class DigestMemory(Protocol):
    """What the cache knows of models: the digest that was seen last."""

    def last_digest(self, model: str) -> str | None: ...
    def note_model(self, model: str, digest: str | None, seen_at: datetime) -> None: ...


@dataclass
class Selection:
    """What this run asks with, and what its user should hear."""

    settings: list[TemplateSettings]
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return canonical_json(
            [
                {
                    **asdict(settings),
                    "settings_hash": str(OFF if settings.mode == "off" else settings.settings_hash),
                }
                for settings in self.settings
            ]
        )


def probe_server(host: str) -> ServerState:
    """Ask the server at a URL what it has: see `OllamaServer.probe`.

    Raises:
        UsageError: the URL is none.
    """
    url = server_url(host)
    # Behind a proxy, only the proxy can tell.
    if find_proxy(url) is None and not is_listening(url):
        return ServerState(is_up=False, reason=f"nobody listens at {url}")
    from mnemoduck.llm.server import OllamaServer  # its client takes long to import

    try:
        server = OllamaServer(url)
    except Exception as error:  # a proxy or a name of a host that the client cannot use
        return ServerState(is_up=False, reason=f"its client cannot be set up ({type(error).__name__})")
    with server:
        return server.probe()


def select_models(
    request: str,
    cache: DigestMemory,
    probe: Callable[[str], ServerState],
    environment: Mapping[str, str] = os.environ,
    known_digests: Mapping[str, str] = _NONE_KNOWN,
) -> Selection:
    """Return what a run asks with. The environment goes before the variables: it is this run's.

    Args:
        request: JSON of the macro `llm_request`: templates, and the variables of dbt_project.yml.
        probe: asks the server at a URL what it has; it is called only where somebody is to be asked.
        known_digests: digest by model of the build before (see `read_digests`). The cache takes over what
            it does not know, so that the loss of its file does not make every prompt another question.

    Raises:
        UsageError: an environment variable of ours has a value that is none of its words, or the variable
            llm_host is no address. OLLAMA_HOST belongs to other programs too: if it is none, that is said.
    """
    asked: dict[str, Any] = json.loads(request)
    mode = _word(asked["mode"], environment, MODE_VARIABLE, LLM_MODES)
    provider = _word(asked["embedding_provider"], environment, EMBEDDINGS_VARIABLE, EMBEDDING_PROVIDERS)
    for known, known_digest in known_digests.items():
        if cache.last_digest(known) is None:
            cache.note_model(known, known_digest, _LONG_AGO)
    url, fault = _find_url(asked["host"], environment)
    notices: list[str] = []
    server: ServerState | None = None
    if mode in {"auto", "ollama"} or provider == "ollama":
        if fault is None:
            server = probe(url)
        else:
            notices.append(f"no model server is asked. {fault}")
    chooser = _Chooser(cache, server, url, notices)

    model = environment.get(MODEL_VARIABLE) or asked["model"] or DEFAULT_MODEL
    chat_mode, digest = chooser.choose(model, mode, "prompts")
    limits = canonical_json({"host": None if fault else url, **asked["limits"]})
    settings = [
        TemplateSettings(
            template=template["template"],
            template_version=template["version"],
            mode=chat_mode if asked["reflections"] or template["template"] != REFLECTION else "off",
            model=model,
            model_digest=digest,
            options=canonical_json(asked["options"]),
            response_schema=template["response_schema"],
            instructions=template["instructions"],
            input_characters=asked["input_characters"],
            limits=limits,
        )
        for template in asked["templates"]
    ]
    settings.append(_embedding_settings(asked, provider, chat_mode, chooser, limits, environment))
    return Selection(settings, notices)


def read_digests(connection: DuckDBPyConnection) -> dict[str, str]:
    """Return the digest of each model that the build before knew; none if there was no build.

    Args:
        connection: has the warehouse as its own database.
    """
    if not is_built(connection, TEMPLATES):
        return {}
    return dict(
        connection.execute(
            f"select model, max(model_digest) from {TEMPLATES} where model_digest is not null group by model"
        ).fetchall()
    )


def is_built(connection: DuckDBPyConnection, table: str) -> bool:
    """Return whether the warehouse has a table ("schema.name"): before the first build it has none."""
    found = connection.execute(
        "select 1 from duckdb_tables() where schema_name || '.' || table_name = $table and "
        "database_name = current_database()",
        {"table": table},
    ).fetchone()
    return found is not None


def _find_url(host: str | None, environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the server's URL, without a user's name and password, and why it cannot be used if so."""
    if host:
        return server_url(host), None
    # OLLAMA_HOST is for everything on this machine, so what was said to us goes before it.
    try:
        return server_url(environment.get(HOST_VARIABLE) or DEFAULT_HOST), None
    except UsageError as error:
        return DEFAULT_HOST, str(error)


def _word(variable: str | None, environment: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    value = environment.get(name) or variable or "auto"
    if value not in words:
        raise UsageError(f"{name} is {value!r}; it takes {', '.join(words[:-1])} or {words[-1]}.")
    return value


class _Chooser:
    """Decides for each model whether the server answers, and remembers what to say of it."""

    def __init__(self, cache: DigestMemory, server: ServerState | None, url: str, notices: list[str]) -> None:
        self._cache = cache
        self._server = server
        self._url = url
        self.notices = notices

    def choose(self, model: str, wanted: str, what: str) -> tuple[Mode, str | None]:
        """Return who answers for `model`, and the digest of its weights."""
        if wanted == "off":
            return "off", None
        if wanted in {"auto", "ollama"} and self._server is not None:
            if self._server.is_up:
                if self._server.find_model(model) is not None:
                    digest = self._server.digest(model)
                    self.note(model, digest)
                    return "ollama", digest
                self._say(
                    f"{what} wait: {self._url} has no model {model!r}. Get it with `ollama pull {model}`."
                )
            elif wanted == "ollama":
                self._say(f"{what} wait: no Ollama server answers at {self._url} ({self._server.reason}).")
        return "cached", self._cache.last_digest(model)

    def note(self, model: str, digest: str | None) -> None:
        """Remember the digest of a model that is there, for runs where it is not."""
        self._cache.note_model(model, digest, utc_now())

    def _say(self, notice: str) -> None:
        self.notices.append(notice)


def _embedding_settings(
    asked: dict[str, Any],
    provider: str,
    chat_mode: Mode,
    chooser: _Chooser,
    limits: str,
    environment: Mapping[str, str],
) -> TemplateSettings:
    mode: Mode
    digest: str | None
    model = environment.get(EMBEDDING_MODEL_VARIABLE) or asked["embedding_model"] or DEFAULT_EMBEDDING_MODEL
    if provider == "minilm":
        model = MINILM
        mode, digest = _choose_minilm(chooser)
    elif provider == "none":
        mode, digest = "off", None
    elif provider == "ollama" or chat_mode == "ollama":
        mode, digest = chooser.choose(model, "ollama", "vectors")
    else:
        mode, digest = chooser.choose(model, "cached", "vectors")
    dimension = asked["embedding_dimension"]
    return TemplateSettings(
        template=EMBEDDING,
        template_version=1,
        mode=mode,
        model=model,
        model_digest=digest,
        options=embedding_options(model, dimension),
        response_schema="",
        instructions="",
        input_characters=asked["input_characters"],
        limits=limits,
    )


def _choose_minilm(chooser: _Chooser) -> tuple[Mode, str | None]:
    from mnemoduck.embeddings import minilm_digest

    try:
        digest = minilm_digest()
    except UsageError as error:
        chooser.notices.append(f"vectors wait: {error}")
        return chooser.choose(MINILM, "cached", "vectors")
    chooser.note(MINILM, digest)
    return "minilm", digest
