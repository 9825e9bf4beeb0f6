"""Which model a run asks: from variables, the environment and what the server has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import duckdb
import pytest

from mnemoduck import embeddings
from mnemoduck.errors import UsageError
from mnemoduck.home import Home
from mnemoduck.llm.address import ServerState
from mnemoduck.llm.cache import open_cache
from mnemoduck.llm.selection import DigestMemory, Selection, read_digests, select_models
from mnemoduck.llm.settings import MINILM

UP = ServerState(
    is_up=True, version="0.5", models={"llama3.2:latest": "sha-llama", "nomic-embed-text:latest": "sha-nomic"}
)
DOWN = ServerState(is_up=False, reason="it refused the connection")


class Digests:
    """Remembers digests as the cache does."""

    def __init__(self, **known: str) -> None:
        self.known: dict[str, str | None] = dict(known)

    def last_digest(self, model: str) -> str | None:
        return self.known.get(model)

    def note_model(self, model: str, digest: str | None, seen_at: datetime) -> None:
        self.known[model] = digest


def select(
    state: ServerState,
    digests: DigestMemory | None = None,
    environment: Mapping[str, str] | None = None,
    known_digests: Mapping[str, str] | None = None,
    **variables: Any,
) -> Selection:
    def probe(host: str) -> ServerState:
        assert "unusable" not in host
        return state

    request = {
        "templates": [
            {"template": "appraisal", "version": 1, "instructions": "judge", "response_schema": "{}"},
        ],
        "mode": None,
        "reflections": True,
        "host": None,
        "model": None,
        "options": {"temperature": 0},
        "input_characters": 8000,
        "embedding_provider": None,
        "embedding_model": None,
        "embedding_dimension": None,
        "limits": {"budget_calls": 10},
        **variables,
    }
    return select_models(
        json.dumps(request), digests or Digests(), probe, environment or {}, known_digests or {}
    )


def modes(selection: Selection) -> dict[str, str]:
    return {settings.template: settings.mode for settings in selection.settings}


def test_a_server_that_has_the_models_is_asked() -> None:
    digests = Digests()
    selection = select(UP, digests)
    assert modes(selection) == {"appraisal": "ollama", "embedding": "ollama"}
    assert [settings.model_digest for settings in selection.settings] == ["sha-llama", "sha-nomic"]
    assert digests.known == {"llama3.2": "sha-llama", "nomic-embed-text": "sha-nomic"}
    assert selection.notices == []


def test_of_episodes_models_are_asked_unless_the_variable_says_no() -> None:
    templates = [
        {"template": name, "version": 1, "instructions": "judge", "response_schema": "{}"}
        for name in ("appraisal", "reflection")
    ]
    assert modes(select(UP, templates=templates))["reflection"] == "ollama"
    asked = modes(select(UP, templates=templates, reflections=False))
    assert (asked["appraisal"], asked["reflection"]) == ("ollama", "off")


def test_without_a_server_what_is_cached_is_used_and_nothing_is_said() -> None:
    selection = select(DOWN, Digests(**{"llama3.2": "sha-seen"}))
    assert modes(selection) == {"appraisal": "cached", "embedding": "cached"}
    assert selection.settings[0].model_digest == "sha-seen", "so that its answers are found"
    assert selection.notices == []


def test_a_server_that_was_asked_for_and_is_away_is_said() -> None:
    selection = select(DOWN, mode="ollama", host="http://10.0.0.1:1")
    assert modes(selection) == {"appraisal": "cached", "embedding": "cached"}
    assert "no Ollama server answers at http://10.0.0.1:1" in selection.notices[0]
    assert "it refused the connection" in selection.notices[0]


def test_a_model_that_the_server_does_not_have_can_be_pulled() -> None:
    selection = select(ServerState(is_up=True), model="mistral")
    assert modes(selection)["appraisal"] == "cached"
    assert "`ollama pull mistral`" in selection.notices[0]


def test_what_is_off_asks_nobody_and_counts_as_another_question() -> None:
    def refuse(_: str) -> ServerState:
        raise AssertionError("nobody is to be asked")

    request = json.loads(json.dumps({"mode": "off", "embedding_provider": "none"}))
    selection = select_models(
        json.dumps(
            {
                "templates": [{"template": "a", "version": 1, "instructions": "", "response_schema": "{}"}],
                "reflections": True,
                "host": None,
                "model": None,
                "options": {},
                "input_characters": 8000,
                "embedding_model": None,
                "embedding_dimension": None,
                "limits": {},
                **request,
            }
        ),
        Digests(),
        refuse,
        {},
    )
    assert modes(selection) == {"a": "off", "embedding": "off"}
    rows = json.loads(selection.to_json())
    assert {row["settings_hash"] for row in rows} == {"00000000-0000-0000-0000-000000000000"}


def test_the_environment_goes_before_a_variable_and_that_before_the_default() -> None:
    environment = {
        "MNEMODUCK_LLM": "off",
        "MNEMODUCK_LLM_MODEL": "mistral",
        "MNEMODUCK_EMBEDDINGS": "none",
        "MNEMODUCK_EMBEDDING_MODEL": "bge-m3",
    }
    variables: dict[str, Any] = {"mode": "ollama", "model": "llama3.2", "embedding_provider": "ollama"}
    by_environment = select(UP, environment=environment, **variables)
    assert modes(by_environment) == {"appraisal": "off", "embedding": "off"}
    assert [settings.model for settings in by_environment.settings] == ["mistral", "bge-m3"]
    by_variable = select(UP, embedding_model="nomic-embed-text:latest", **variables)
    assert modes(by_variable) == {"appraisal": "ollama", "embedding": "ollama"}


def test_the_servers_address_is_the_variables_else_that_of_ollamas_own_clients() -> None:
    environment = {"OLLAMA_HOST": "http://elsewhere:11434"}
    for selection, host in [
        (select(UP, environment=environment, host="http://here:1"), "http://here:1"),
        (select(UP, environment=environment), "http://elsewhere:11434"),
        (select(UP), "http://127.0.0.1:11434"),
    ]:
        assert json.loads(selection.settings[0].limits)["host"] == host


UNUSABLE = [
    "http://unusable:port",
    "ftp://unusable",
    "un usable",
    "http://[unusable",
    "\udcffunusable",
    "unusable\0",
]


@pytest.mark.parametrize("host", UNUSABLE)
@pytest.mark.parametrize("mode", ["auto", "ollama"])
def test_an_address_of_other_programs_that_is_none_ends_no_run(host: str, mode: str) -> None:
    selection = select(UP, Digests(**{"llama3.2": "sha"}), {"OLLAMA_HOST": host}, mode=mode)
    assert modes(selection) == {"appraisal": "cached", "embedding": "cached"}
    assert selection.settings[0].model_digest == "sha"
    [notice] = selection.notices
    assert notice.startswith("no model server is asked. The model server's address")
    assert "OLLAMA_HOST" in notice
    (notice + selection.to_json()).encode()
    assert json.loads(selection.settings[0].limits)["host"] is None
    assert select(UP, environment={"OLLAMA_HOST": host}, mode="cached").notices == [], "nobody is to be asked"


@pytest.mark.parametrize("host", UNUSABLE)
def test_an_address_that_we_were_told_and_is_none_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        select(UP, host=host)


@pytest.mark.parametrize("address", ["http://ada:s3cret@localhost:1", "ada:s3cret@unusable host"])
@pytest.mark.parametrize("state", [UP, DOWN, ServerState(is_up=True)])
def test_a_password_in_the_address_is_neither_stored_nor_said(address: str, state: ServerState) -> None:
    selections = [select(state, environment={"OLLAMA_HOST": address}, mode="ollama")]
    if "unusable" in address:
        with pytest.raises(UsageError) as refusal:
            select(state, host=address)
        assert "s3cret" not in str(refusal.value)
    else:
        selections.append(select(state, host=address, mode="ollama"))
    for selection in selections:
        assert "s3cret" not in selection.to_json()
        assert not [notice for notice in selection.notices if "s3cret" in notice or "ada" in notice]


@pytest.mark.parametrize(("name", "value"), [("MNEMODUCK_LLM", "openai"), ("MNEMODUCK_EMBEDDINGS", "yes")])
def test_an_environment_variable_that_is_no_mode_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is '{value}'; it takes auto, "):
        select(DOWN, environment={name: value})


def test_vectors_can_be_made_without_prompts_being_asked() -> None:
    assert modes(select(UP, mode="off", embedding_provider="ollama")) == {
        "appraisal": "off",
        "embedding": "ollama",
    }
    assert modes(select(UP, mode="cached"))["embedding"] == "cached", "auto: only where prompts are asked"


def test_a_shorter_vector_is_another_question() -> None:
    whole, short = (select(UP, embedding_dimension=dimension).settings[-1] for dimension in (None, 256))
    assert json.loads(short.options)["dimensions"] == 256
    assert whole.settings_hash != short.settings_hash


# --- digests -----------------------------------------------------------------------------------------


def test_a_digest_that_the_cache_has_lost_is_that_of_the_build_before() -> None:
    digests = Digests(**{"nomic-embed-text": "sha-newer"})
    known = {"llama3.2": "sha-seen", "nomic-embed-text": "sha-older"}
    selection = select(DOWN, digests, known_digests=known)
    assert [settings.model_digest for settings in selection.settings] == ["sha-seen", "sha-newer"]
    assert select(DOWN, digests).settings == selection.settings, "the cache has taken it over"


def test_a_digest_survives_a_run_that_asks_nobody_and_gives_way_to_what_a_server_says(home: Home) -> None:
    """A build without models has no digest to tell to the next one."""
    with open_cache(home) as cache:
        off = select(DOWN, cache, known_digests={"llama3.2": "sha-seen"}, mode="off")
        assert off.settings[0].model_digest is None
        assert cache.last_digest("llama3.2") == "sha-seen"
        select(UP, cache, known_digests={"llama3.2": "sha-seen"})
        assert cache.last_digest("llama3.2") == "sha-llama"


def test_the_digests_of_the_build_before_are_read_from_its_table() -> None:
    with duckdb.connect() as connection:
        assert read_digests(connection) == {}
        connection.execute("attach ':memory:' as other; create schema other.staging; create schema staging")
        connection.execute("create table other.staging.llm_templates (model varchar, model_digest varchar)")
        assert read_digests(connection) == {}, "a table of another database is none of the build's"
        connection.execute(
            "create table staging.llm_templates as from (values ('appraisal', 'llama', 'sha-1'), "
            "('extraction', 'llama', 'sha-1'), ('embedding', 'nomic', null)) t(template, model, model_digest)"
        )
        assert read_digests(connection) == {"llama": "sha-1"}


def test_vectors_of_minilm_are_found_where_its_package_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = Digests()
    monkeypatch.setattr(embeddings, "minilm_digest", lambda: "sha-minilm")
    there = select(DOWN, digests, embedding_provider="minilm").settings[-1]
    assert (there.mode, there.model, there.model_digest) == ("minilm", MINILM, "sha-minilm")

    def refuse() -> str:
        raise UsageError("it is not installed")

    monkeypatch.setattr(embeddings, "minilm_digest", refuse)
    selection = select(DOWN, digests, embedding_provider="minilm")
    away = selection.settings[-1]
    assert (away.mode, away.model_digest) == ("cached", "sha-minilm")
    assert away.settings_hash == there.settings_hash
    assert selection.notices == ["vectors wait: it is not installed"]
