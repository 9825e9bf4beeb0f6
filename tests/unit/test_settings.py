"""Settings: the file, the environment over it, the command line over both; and what is wrong is said."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from dbt_common.exceptions import DbtRuntimeError
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck import Memory, dbt_plugin
from mnemoduck.cli import cli
from mnemoduck.dbt_plugin import Plugin
from mnemoduck.errors import UsageError
from mnemoduck.home import HOME_VARIABLE, Home
from mnemoduck.pipeline import run
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.settings import (
    PROFILE_NAMES,
    PROFILES,
    SETTINGS,
    Setting,
    format_size,
    load_settings,
    parse_size,
    parse_value,
    said_on_command_line,
    settings_file,
)
from mnemoduck.settings_file import write_settings

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "settings.md"

OTHERS: Mapping[str, tuple[Any, Any, Any]] = {
    "profile": ("low-latency", "high-throughput", "memory-constrained"),
    "run.threads": (3, 4, 5),
    "run.llm": ("off", "cached", "ollama"),
    "run.embeddings": ("none", "ollama", "minilm"),
    "llm.host": ("http://one", "http://two", "http://three"),
    "llm.model": ("one", "two", "three"),
    "llm.embedding_model": ("one", "two", "three"),
    "write.durable": (True, False, True),
    "recall.record": (False, True, False),
    "ingest.redaction": ("report", "redact", "off"),
    "ingest.redaction_kinds": ("token", "email, card", "iban"),
    "expectations.incoming": ("warn", "fail", "off"),
    "expectations.published": ("warn", "fail", "off"),
    "backup.target": ("/mnt/one", "/mnt/two", "/mnt/three"),
    "recall.query_sample_rate": (0.1, 0.2, 0.3),
}
"""Three values of a setting, where those of `_three` are none that it can have."""


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.environment, raising=False)


def _three(setting: Setting) -> tuple[Any, Any, Any]:
    if setting.key in OTHERS:
        return OTHERS[setting.key]
    return (300_000_000, 400_000_000, 500_000_000) if setting.is_size else (7, 8, 9)


@pytest.mark.parametrize("key", SETTINGS)
def test_the_command_line_goes_before_the_environment_before_the_file_before_the_default(
    key: str, home: Home
) -> None:
    setting = SETTINGS[key]
    in_file, in_environment, said = _three(setting)
    environment: dict[str, str] = {}

    def value_and_origin() -> tuple[Any, str]:
        settings = load_settings(home, environment=environment)
        return settings.get(key), settings.origin(key)

    assert value_and_origin() == (setting.default, "default")
    write_settings(home, {key: in_file})
    assert value_and_origin() == (in_file, "file")
    environment[setting.environment] = setting.to_text(in_environment)
    assert value_and_origin() == (in_environment, "environment")
    with said_on_command_line({key: parse_value(key, setting.to_text(said))}):
        assert value_and_origin() == (said, "command line")
    assert value_and_origin() == (in_environment, "environment")


@pytest.mark.parametrize("key", SETTINGS)
def test_a_process_that_gets_the_environment_of_settings_has_the_same_settings(key: str, home: Home) -> None:
    settings = load_settings(home, environment={}, overrides={key: _three(SETTINGS[key])[0]})
    again = load_settings(home, environment=settings.environment())
    assert again.model_dump() == settings.model_dump()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[run]\nthread = 3", r"run\.thread is no setting\. The nearest is run\.threads"),
        ("threads = 3", r"threads is no setting\. The nearest is run\.threads"),
        (
            "[recal]\ncache_bytes = 3",
            r"recal\.cache_bytes is no setting\. The nearest is recall\.cache_bytes",
        ),
        ("[run]\nthreads = '3'", r"run\.threads is '3'; it takes a whole number from 1 to 64"),
        ("[run]\nthreads = true", r"run\.threads is True; it takes a whole number"),
        ("[run]\nthreads = 0", r"run\.threads is 0; it takes a whole number from 1 to 64"),
        ("[run]\nthreads = 2.0", r"run\.threads is 2\.0; it takes"),
        ("[run]\nmemory_limit = 'lots'", r"run\.memory_limit is 'lots'; it takes a size such as 4GB"),
        (
            "[run]\nmemory_limit = '1MB'",
            r"run\.memory_limit is '1MB'; it takes a size such as 4GB, of at least",
        ),
        ("[write]\ndurable = 1", r"write\.durable is 1; it takes true or false"),
        ("[recall]\ncache_seconds = nan", r"recall\.cache_seconds is nan; it takes a number of seconds"),
        ("profile = 'fast'", r"profile is 'fast'; it takes balanced, high-throughput"),
        ("run = 3", "run is no setting"),
        ("x =", "is no TOML"),
    ],
)
def test_what_the_file_says_wrong_is_told_with_file_key_and_what_it_takes(
    text: str, says: str, home: Home
) -> None:
    settings_file(home).write_text(text)
    with pytest.raises(UsageError, match=says) as told:
        load_settings(home)
    assert str(settings_file(home)) in str(told.value)
    with pytest.raises(UsageError, match=says):
        Memory(home.path)


@pytest.mark.parametrize("text", ["four", "0", "65", "2.5", "nan"])
def test_what_the_environment_says_wrong_is_told_by_its_name(text: str, home: Home) -> None:
    with pytest.raises(UsageError, match=r"MNEMODUCK_THREADS: run\.threads is '.*'; it takes a whole number"):
        load_settings(home, environment={"MNEMODUCK_THREADS": text})


def test_an_empty_variable_says_nothing(home: Home) -> None:
    assert load_settings(home, environment={"MNEMODUCK_THREADS": " "}).origin("run.threads") == "default"


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_a_profile_sets_its_values_and_those_of_the_file_go_over_them(name: str, home: Home) -> None:
    settings_file(home).write_text(f'profile = "{name}"\n')
    settings = load_settings(home)
    assert {key: settings.get(key) for key in PROFILES[name]} == PROFILES[name]
    assert {settings.origin(key) for key in PROFILES[name]} <= {"profile"}
    for key, value in PROFILES[name].items():
        other = next(one for one in _three(SETTINGS[key]) if one != value)
        write_settings(home, {key: other})
        assert load_settings(home).get(key) == other
        assert load_settings(home).origin(key) == "file"


def test_values_of_profiles_are_values_that_settings_can_have_and_no_defaults() -> None:
    for values in PROFILES.values():
        for key, value in values.items():
            assert parse_value(key, SETTINGS[key].to_text(value)) == value
            assert value != SETTINGS[key].default
    assert len({json.dumps(values, sort_keys=True) for values in PROFILES.values()}) == len(PROFILES)


@given(st.integers(min_value=0, max_value=10**14))
def test_a_size_that_is_written_is_read_again(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_writing_keeps_comments_and_order(home: Home) -> None:
    text = '# ours\nprofile = "balanced"  # for now\n\n[recall]\n# more\ncache_bytes = "64MB"\n\n'
    settings_file(home).write_text(f"{text}[run]\nthreads = 2\n")
    write_settings(home, {"run.threads": 4, "recall.cache_bytes": None, "write.durable": True})
    assert settings_file(home).read_text() == (
        '# ours\nprofile = "balanced"  # for now\n\n[recall]\n# more\n\n[run]\nthreads = 4\n\n'
        "[write]\ndurable = true\n"
    )
    assert settings_file(home).stat().st_mode & 0o077 == 0


def test_a_file_that_is_wrong_is_not_written_over(home: Home) -> None:
    settings_file(home).write_text("[run]\nthread = 3\n")
    with pytest.raises(UsageError, match="thread is no setting"):
        write_settings(home, {"run.threads": 4})
    assert settings_file(home).read_text() == "[run]\nthread = 3\n"


# -- who reads them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [key for key in SETTINGS if key != "profile"])
def test_each_setting_is_read_by_something(key: str) -> None:
    """As `settings.run.threads`, or by the name of its environment variable, or its name's constant."""
    files = [
        path
        for path in (PROJECT / "src" / "mnemoduck").rglob("*.py")
        if path.name not in ("settings.py", "settings_file.py") and path.parent.name != "tuning"
    ]
    text = "\n".join(path.read_text() for path in files)
    names = {
        "run.llm": "environment, MODE_VARIABLE",
        "run.embeddings": "environment, EMBEDDINGS_VARIABLE",
    }
    by_attribute = re.search(
        rf"\b(settings|run|write|ingest|recall|expectations|llm)\.{key.rpartition('.')[2]}\b", text
    )
    assert by_attribute or f'"{SETTINGS[key].environment}"' in text or names.get(key, "?!") in text


def test_memory_holds_as_much_as_the_file_says_and_its_arguments_go_before(home: Home) -> None:
    settings_file(home).write_text('[recall]\ncache_bytes = "10MB"\nresident_bytes = "20MB"\n')
    with Memory(home.path) as memory, Memory(home.path, cache_bytes=10**6) as other:
        for one in (memory, other):
            one.recall("anything")
        assert memory.cache_statistics()["results"].budget_bytes == 8 * 10**6
        assert memory.cache_statistics()["documents"].budget_bytes == 15 * 10**6
        assert other.cache_statistics()["results"].budget_bytes == 800_000


def test_readers_of_duckdb_have_the_threads_and_the_memory_of_the_file(home: Home) -> None:
    settings_file(home).write_text('[recall]\nduckdb_threads = 1\nmemory_limit = "300MB"\n')
    with Memory(home.path) as memory:
        cursor = memory._readers.snapshots.get().cursor()
        assert _in_force(cursor, "threads") == 1
        for reader in (memory._readers.snapshots, memory._readers.sql_snapshots):
            assert _in_force(reader.get().cursor(), "memory_limit") == "286.1 MiB"


def test_the_file_is_read_once_for_each_memory(home: Home) -> None:
    with Memory(home.path, record_recalls=False) as memory:
        settings_file(home).write_text("nonsense")
        memory.remember("a duck")
        assert [one.content for one in memory.recall("duck")] == ["a duck"]


def test_durable_by_the_file_waits_for_the_disk(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    settings_file(home).write_text("[write]\ndurable = true\n")
    with Memory(home.path) as memory:
        before = len(synced)
        memory.remember("a duck", durable=False)
        assert len(synced) == before
        memory.remember("another duck")
        assert len(synced) > before


def test_steps_are_buffered_as_the_file_says(home: Home) -> None:
    settings_file(home).write_text("[write]\nepisode_buffer_steps = 3\nepisode_buffer_ms = 60000\n")
    with Memory(home.path) as memory:
        episode = memory.start_episode("a task")
        waiting = []
        for _ in range(4):
            memory.log_step(episode, "look")
            waiting.append(memory._episodes.waiting)
    assert waiting == [1, 2, 0, 1]


def test_dbt_that_we_start_gets_what_was_said_on_the_command_line(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead = tmp_path / "python"
    instead.write_text("#!/bin/sh\necho $MNEMODUCK_THREADS $MNEMODUCK_MEMORY_LIMIT $MNEMODUCK_PROFILE\n")
    instead.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(instead))
    settings_file(home).write_text('profile = "memory-constrained"\n[run]\nthreads = 3\n')
    values = {"run.memory_limit": 2 * 10**9}
    with (
        said_on_command_line(values),
        RunLock(home) as lock,
        run.start_dbt(["build"], home, tmp_path, lock) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.read().split() == ["3", "2GB", "memory-constrained"]


# -- plain dbt ---------------------------------------------------------------------------------------------


@pytest.fixture
def plug_in(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Do what dbt does with the plugin, told `--vars`; give the plugin and its connection."""
    monkeypatch.setenv(HOME_VARIABLE, str(home.path))
    umask = os.umask(0o077)  # the plugin sets that of its process
    opened: list[duckdb.DuckDBPyConnection] = []

    def start(**variables: Any) -> tuple[Plugin, duckdb.DuckDBPyConnection]:
        monkeypatch.setattr(dbt_plugin, "get_flags", lambda: SimpleNamespace(VARS=variables))
        plugin = Plugin("mnemoduck", {}, credentials=SimpleNamespace(path=str(home.warehouse)))
        opened.append(duckdb.connect(str(home.warehouse)))
        plugin.configure_connection(opened[-1])
        return plugin, opened[-1]

    yield start
    os.umask(umask)
    for connection in opened:
        connection.close()


def _in_force(connection: duckdb.DuckDBPyConnection, name: str) -> Any:
    row = connection.execute("select current_setting($1)", [name]).fetchone()
    assert row is not None
    return row[0]


def test_a_plain_dbt_build_keeps_to_the_memory_and_threads_of_the_file(plug_in: Any, home: Home) -> None:
    settings_file(home).write_text('[run]\nmemory_limit = "512MB"\nduckdb_threads = 1\n')
    _, connection = plug_in()
    connection.execute("select mnemoduck_limit_memory('1GB')")
    assert _in_force(connection, "memory_limit") == "488.2 MiB"
    assert _in_force(connection, "threads") == 1


def test_what_dbt_is_told_by_vars_goes_before_the_file_and_the_environment(
    plug_in: Any, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file(home).write_text('[run]\nmemory_limit = "512MB"\n')
    monkeypatch.setenv("MNEMODUCK_MEMORY_LIMIT", "700MB")
    _, connection = plug_in(memory_limit="1GB")
    connection.execute("select mnemoduck_limit_memory('1GB')")
    assert _in_force(connection, "memory_limit") == "953.6 MiB"


def test_models_are_asked_as_the_file_says(plug_in: Any, home: Home) -> None:
    settings_file(home).write_text(
        '[run]\nllm = "cached"\nembeddings = "none"\n'
        '[llm]\nhost = "http://models:1"\nmodel = "phi"\nconcurrency = 7\nbudget_calls = 5\n'
    )
    plugin, _ = plug_in()
    request = json.dumps(
        {
            "mode": None, "embedding_provider": None, "host": None, "model": None, "options": {},
            "reflections": True, "input_characters": 100, "embedding_model": None,
            "embedding_dimension": None, "limits": {"concurrency": 2, "attempts": 4},
            "templates": [
                {"template": "t", "version": 1, "response_schema": "{}", "instructions": "say"}
            ],
        }
    )  # fmt: skip
    chat, embedding = json.loads(plugin._llm_settings(request))
    assert (chat["mode"], chat["model"], embedding["mode"]) == ("cached", "phi", "off")
    limits = json.loads(chat["limits"])
    assert limits == {"host": "http://models:1", "concurrency": 7, "attempts": 4, "budget_calls": 5}


def test_a_file_that_is_wrong_stops_dbt_with_a_sentence(plug_in: Any, home: Home) -> None:
    settings_file(home).write_text("[run]\nthread = 3\n")
    with pytest.raises(DbtRuntimeError, match=r"The nearest is run\.threads"):
        plug_in()


# -- the command -----------------------------------------------------------------------------------------


def _call(home: Home, *arguments: str) -> str:
    done = CliRunner().invoke(cli, [*arguments, "--home", str(home.path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_shows_each_value_with_where_it_comes_from(home: Home) -> None:
    settings_file(home).write_text('profile = "low-latency"\n')
    done = CliRunner().invoke(
        cli,
        ["--set", "run.threads=5", "settings", "--json", "--home", str(home.path)],
        env={"MNEMODUCK_RECALL_RECORD": "false"},
        catch_exceptions=False,
    )
    shown = {one["key"]: (one["value"], one["from"]) for one in json.loads(done.output)}
    assert list(shown) == list(SETTINGS)
    assert shown["profile"] == ("low-latency", "file")
    assert shown["run.threads"] == (5, "command line")
    assert shown["recall.record"] == (False, "environment")
    assert shown["llm.concurrency"] == (2, "dbt_project.yml")
    assert shown["write.durable"] == (False, "default")
    key = next(iter(PROFILES["low-latency"]))
    assert shown[key][1] == "profile"


def test_a_setting_is_set_and_unset_and_a_profile_chosen_by_commands(home: Home) -> None:
    assert "run.threads is 4 (file)." in _call(home, "settings", "set", "run.threads", "4")
    assert "profile is memory-constrained (file)." in _call(home, "settings", "profile", "memory-constrained")
    assert load_settings(home).origin("run.threads") == "file"
    assert "(profile)" in _call(home, "settings", "unset", "run.threads")
    with pytest.raises(UsageError, match="it takes a whole number"):
        _call(home, "settings", "set", "run.threads", "many")


# -- the page ----------------------------------------------------------------------------------------------


def test_the_page_has_each_setting_as_the_code_has_it() -> None:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| (.*?) \| `(MNEMODUCK_[A-Z_]+)` \| (.*?) \| (.*?) \|$", PAGE.read_text(), re.M
    )
    shown = {key: (default, name, takes, says) for key, default, name, takes, says in rows}
    for key, setting in SETTINGS.items():
        default = f"variable `{setting.variable}`" if setting.variable else "-"
        if setting.default is not None:
            default = f"`{setting.to_text(setting.default)}`"
        assert shown.pop(key) == (default, setting.environment, setting.takes, setting.says), key
    assert not shown


def test_the_page_tells_what_profiles_set() -> None:
    text = PAGE.read_text()
    for name, values in PROFILES.items():
        assert f"`{name}`" in text
        for key, value in values.items():
            assert f"`{key} = {SETTINGS[key].to_text(value)}`" in text, (name, key)
