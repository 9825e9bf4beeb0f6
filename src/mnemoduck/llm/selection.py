"""Which model answers: that follows from the variables, the environment and what the server has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from mnemoduck.errors import UsageError
from mnemoduck.llm.address import HOST_VARIABLE, ServerState, is_listening, server_url
from mnemoduck.llm.keys import canonical_json
from mnemoduck.llm.records import utc_now
from mnemoduck.llm.settings import (
    EMBEDDING,
    EMBEDDING_PROVIDERS,
    EMBEDDINGS_VARIABLE,
    LLM_MODES,
    MINILM,
    MODE_VARIABLE,
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
    """Ask the server at a URL what it has: see `OllamaServer.probe`."""
    if not is_listening(host):
        return ServerState(is_up=False, reason=f"nobody listens at {server_url(host)}")
    from mnemoduck.llm.server import OllamaServer  # its client takes long to import

    with OllamaServer(host) as server:
        return server.probe()


def select_models(
    request: str,
    cache: DigestMemory,
    probe: Callable[[str], ServerState],
    environment: Mapping[str, str] = os.environ,
) -> Selection:
    """Return what a run asks with. The environment goes before the variables: it is this run's.

    Args:
        request: JSON of the macro `llm_request`: templates, and the variables of dbt_project.yml.
        probe: asks the server at a URL what it has; it is called only where somebody is to be asked.

    Raises:
        UsageError: an environment variable has a value that is none of its words.
    """
    asked: dict[str, Any] = json.loads(request)
    mode = _word(asked["mode"], environment, MODE_VARIABLE, LLM_MODES)
    provider = _word(asked["embedding_provider"], environment, EMBEDDINGS_VARIABLE, EMBEDDING_PROVIDERS)
    # OLLAMA_HOST is for everything on this machine, so what was said to us goes before it.
    host = asked["host"] or environment.get(HOST_VARIABLE) or DEFAULT_HOST
    server = probe(host) if mode in {"auto", "ollama"} or provider == "ollama" else None
    chooser = _Chooser(cache, server, host)

    model = environment.get(MODEL_VARIABLE) or asked["model"] or DEFAULT_MODEL
    chat_mode, digest = chooser.choose(model, mode, "prompts")
    limits = canonical_json({"host": host, **asked["limits"]})
    settings = [
        TemplateSettings(
            template=template["template"],
            template_version=template["version"],
            mode=chat_mode,
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
    return Selection(settings, chooser.notices)


def _word(variable: str | None, environment: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    value = environment.get(name) or variable or "auto"
    if value not in words:
        raise UsageError(f"{name} is {value!r}; it takes {', '.join(words[:-1])} or {words[-1]}.")
    return value


class _Chooser:
    """Decides for each model whether the server answers, and remembers what to say of it."""

    def __init__(self, cache: DigestMemory, server: ServerState | None, host: str) -> None:
        self._cache = cache
        self._server = server
        self._host = host
        self.notices: list[str] = []

    def choose(self, model: str, wanted: str, what: str) -> tuple[Mode, str | None]:
        """Return who answers for `model`, and the digest of its weights."""
        if wanted == "off":
            return "off", None
        if wanted in {"auto", "ollama"} and self._server is not None:
            if self._server.is_up:
                if self._server.find_model(model) is not None:
                    digest = self._server.digest(model)
                    self._cache.note_model(model, digest, utc_now())
                    return "ollama", digest
                self._say(
                    f"{what} wait: {self._host} has no model {model!r}. Get it with `ollama pull {model}`."
                )
            elif wanted == "ollama":
                self._say(f"{what} wait: no Ollama server answers at {self._host} ({self._server.reason}).")
        return "cached", self._cache.last_digest(model)

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
        return "minilm", minilm_digest()
    except UsageError as error:
        chooser.notices.append(f"vectors wait: {error}")
        return chooser.choose(MINILM, "cached", "vectors")
