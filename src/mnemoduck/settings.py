"""How mnemoduck runs: a file in the home, environment variables over it, the command line over both.

What a memory is (decay, capacity, thresholds: the science) stays with the variables of dbt_project.yml. Here
is what may differ from machine to machine without changing what is remembered. Some settings are variables of
dbt too, and go before them; where nothing is set, the variable counts.

From the weakest: the default, the profile, the file `mnemoduck.toml`, the environment, the command line.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mnemoduck.errors import UsageError
from mnemoduck.home import Home
from mnemoduck.llm.settings import EMBEDDINGS_VARIABLE, MODE_VARIABLE

FILE_NAME = "mnemoduck.toml"
MAX_FILE_BYTES = 1024 * 1024
THREADS_VARIABLE = "MNEMODUCK_THREADS"
MEMORY_VARIABLE = "MNEMODUCK_MEMORY_LIMIT"
PROFILE_VARIABLE = "MNEMODUCK_PROFILE"

COMMAND_LINE = "command line"
ENVIRONMENT = "environment"
FILE = "file"
PROFILE = "profile"
DEFAULT = "default"

Values = dict[str, Any]
"""Settings by their keys, such as "run.threads"."""

_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([KMGT]?I?B)?", re.IGNORECASE | re.ASCII)


def parse_size(value: Any) -> Any:
    """Return the bytes of a size such as "64MB"; what is no text stays as it is.

    Raises:
        ValueError: it is no size.
    """
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or (match[2] or "B").upper() not in _BYTES:
        raise ValueError("no size")
    return round(float(match[1]) * _BYTES[(match[2] or "B").upper()])


def format_size(size: int) -> str:
    """Return the size as it can stand in the file: the largest unit that gives a whole number."""
    if size:
        for unit in ("GiB", "GB", "MiB", "MB", "KiB", "KB"):
            if size % _BYTES[unit.upper()] == 0:
                return f"{size // _BYTES[unit.upper()]}{unit}"
    return f"{size}B"


Size = Annotated[int, BeforeValidator(parse_size)]


def _setting(
    default: Any,
    says: str,
    takes: str,
    *,
    environment: str | None = None,
    variable: str | None = None,
    is_size: bool = False,
    **bounds: Any,
) -> Any:
    """Declare a setting.

    Args:
        takes: what it can be, after "it takes".
        environment: the name of its environment variable if that is not MNEMODUCK_<SECTION>_<NAME>.
        variable: of dbt_project.yml, which counts where nothing is set.
    """
    extra: dict[str, Any] = {
        "takes": takes,
        "environment": environment,
        "variable": variable,
        "is_size": is_size,
    }
    return Field(default, description=says, json_schema_extra=extra, **bounds)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSettings(_Section):
    """How the pipeline runs."""

    threads: int = _setting(
        2, "models that dbt builds at a time", "a whole number from 1 to 64",
        environment=THREADS_VARIABLE, ge=1, le=64,
    )  # fmt: skip
    memory_limit: Size | None = _setting(
        None, "how much DuckDB may hold in a run; the rest is spilled to disk. Else four fifths of all",
        "a size such as 4GB, of at least 100MB",
        environment=MEMORY_VARIABLE, variable="memory_limit", is_size=True, ge=10**8,
    )  # fmt: skip
    duckdb_threads: int | None = _setting(
        None, "threads of DuckDB in a run. Else one for each processor", "a whole number from 1 to 256",
        ge=1, le=256,
    )  # fmt: skip
    llm: Literal["auto", "off", "cached", "ollama"] | None = _setting(
        None, "who answers prompts", "auto, off, cached or ollama",
        environment=MODE_VARIABLE, variable="llm_mode",
    )  # fmt: skip
    embeddings: Literal["auto", "none", "ollama", "minilm"] | None = _setting(
        None, "who makes vectors", "auto, none, ollama or minilm",
        environment=EMBEDDINGS_VARIABLE, variable="embedding_provider",
    )  # fmt: skip


class WriteSettings(_Section):
    """How what happens is written to the inbox."""

    durable: bool = _setting(
        False, "whether a call that does not say returns when what it wrote is on disk (fsync)",
        "true or false",
    )  # fmt: skip
    episode_buffer_steps: int | None = _setting(
        None, "so many steps of episodes are kept in the process that logs them, then written",
        "a whole number from 1 to 10,000", variable="episode_buffer_steps", ge=1, le=10_000,
    )  # fmt: skip
    episode_buffer_ms: int | None = _setting(
        None, "no step is kept longer than so many milliseconds",
        "a whole number of milliseconds from 1 to 60,000", variable="episode_buffer_ms", ge=1, le=60_000,
    )  # fmt: skip


class IngestSettings(_Section):
    """What happens to what enters before it is written."""

    redaction: Literal["off", "report", "redact"] = _setting(
        "off",
        "what happens to secrets in what is remembered: nothing, they are counted, or replaced by marks",
        "off, report or redact",
    )  # fmt: skip
    redaction_kinds: str = _setting(
        "token,email,card,iban", "which secrets are looked for",
        "some of token, email, card and iban, with commas",
        pattern=r"^ *(token|email|card|iban)( *, *(token|email|card|iban))* *$",
    )  # fmt: skip


class RecallSettings(_Section):
    """How a process that recalls holds what it needs."""

    cache_bytes: Size = _setting(
        32 * 2**20, "memory of a process for answers that it gave; 0 for none",
        "a size such as 64MB, up to 1TB", is_size=True, ge=0, le=10**12,
    )  # fmt: skip
    cache_seconds: float = _setting(
        60.0, "how long such an answer is good for if nothing changes",
        "a number of seconds of at least 0", ge=0,
    )  # fmt: skip
    resident_bytes: Size = _setting(
        256 * 2**20, "memory of a process for what recall ranks by; 0 for none",
        "a size such as 64MB, up to 1TB", is_size=True, ge=0, le=10**12,
    )  # fmt: skip
    memory_limit: Size | None = _setting(
        None, "how much DuckDB may hold in a process that reads, where more fails. Else four fifths of all",
        "a size such as 500MB, of at least 250MB", is_size=True, ge=250 * 10**6,
    )  # fmt: skip
    duckdb_threads: int | None = _setting(
        None, "threads of DuckDB in a process that reads. Else one for each processor",
        "a whole number from 1 to 256", ge=1, le=256,
    )  # fmt: skip
    record: bool | None = _setting(
        None, "whether answers are recorded, so that what is recalled gets stronger", "true or false",
        variable="record_recalls",
    )  # fmt: skip
    query_sample_rate: float = _setting(
        0.0, "of the answers, the share whose time is written to the home", "a share from 0 (off) to 1 (all)",
        environment="MNEMODUCK_QUERY_SAMPLE_RATE", ge=0, le=1,
    )  # fmt: skip


class SqlSettings(_Section):
    """What a question in SQL may take."""

    timeout_seconds: float = _setting(
        300.0, "how long a question in SQL may take; 0 for any time", "a number of seconds of at least 0",
        ge=0, allow_inf_nan=False,
    )  # fmt: skip
    spill_limit: Size = _setting(
        10 * 10**9, "how much of it may be spilled to the home where memory does not hold it",
        "a size such as 10GB, up to 1000TB", is_size=True, ge=0, le=10**15,
    )  # fmt: skip


class ExpectationSettings(_Section):
    """What expectations may do in a run."""

    incoming: Literal["off", "warn", "fail"] = _setting(
        "off", "what expectations on events that wait may do to a run", "off, warn or fail",
    )  # fmt: skip
    published: Literal["off", "warn", "fail"] = _setting(
        "off", "what expectations on what is about to be published may do to a run", "off, warn or fail",
    )  # fmt: skip


class LlmSettings(_Section):
    """How models are asked in a run."""

    host: str | None = _setting(
        None, "URL of the Ollama server. Else OLLAMA_HOST, else the one on this machine", "a URL",
        variable="llm_host", min_length=1,
    )  # fmt: skip
    model: str | None = _setting(
        None, "the model that answers prompts", "the name of a model",
        environment="MNEMODUCK_LLM_MODEL", variable="llm_model", min_length=1,
    )  # fmt: skip
    embedding_model: str | None = _setting(
        None, "Ollama's model that makes vectors", "the name of a model",
        environment="MNEMODUCK_EMBEDDING_MODEL", variable="embedding_model", min_length=1,
    )  # fmt: skip
    timeout_seconds: float | None = _setting(
        None, "how long one call may take, with all its attempts", "a number of seconds above 0",
        variable="llm_timeout_seconds", gt=0,
    )  # fmt: skip
    attempts: int | None = _setting(
        None, "attempts of a call whose transport fails", "a whole number from 1 to 10",
        variable="llm_attempts", ge=1, le=10,
    )  # fmt: skip
    concurrency: int | None = _setting(
        None, "calls at a time", "a whole number from 1 to 64", variable="llm_concurrency", ge=1, le=64,
    )  # fmt: skip
    breaker_failures: int | None = _setting(
        None, "so many calls that fail in a row end the calls of a run", "a whole number from 1 to 100",
        variable="llm_breaker_failures", ge=1, le=100,
    )  # fmt: skip
    budget_calls: int | None = _setting(
        None, "calls of one run; what is left over is asked by the next", "a whole number of at least 0",
        variable="llm_budget_calls", ge=0,
    )  # fmt: skip
    budget_tokens: int | None = _setting(
        None, "tokens of one run, read and written", "a whole number of at least 0",
        variable="llm_budget_tokens", ge=0,
    )  # fmt: skip
    budget_seconds: float | None = _setting(
        None, "seconds of one run after which no call begins", "a number of seconds of at least 0",
        variable="llm_budget_seconds", ge=0,
    )  # fmt: skip
    commit_seconds: float | None = _setting(
        None, "answers are committed so often: what a kill can lose", "a number of seconds above 0",
        variable="llm_commit_seconds", gt=0,
    )  # fmt: skip
    embedding_batch: int | None = _setting(
        None, "texts of one call for vectors", "a whole number from 1 to 1,000",
        variable="embedding_batch", ge=1, le=1_000,
    )  # fmt: skip


class BackupSettings(_Section):
    """Where the home is backed up to."""

    target: str | None = _setting(
        None, "the folder that `mnemoduck backup` writes to where none is named, and doctor looks at",
        "an absolute path", pattern="^/", min_length=2,
    )  # fmt: skip


ProfileName = Literal["balanced", "high-throughput", "low-latency", "memory-constrained"]
PROFILE_NAMES: tuple[str, ...] = get_args(ProfileName)

PROFILES: Mapping[str, Values] = {
    "balanced": {},
    "high-throughput": {
        "write.episode_buffer_steps": 1_000,
        "write.episode_buffer_ms": 1_000,
    },
    "low-latency": {
        "recall.cache_bytes": 128 * 2**20,
    },
    "memory-constrained": {
        "run.threads": 1,
        "run.duckdb_threads": 1,
        "recall.duckdb_threads": 1,
        "recall.cache_bytes": 4 * 2**20,
    },
}
"""Bundles of values. Each is there for an effect that docs/profiles-benchmark.md shows measured."""


@dataclass(frozen=True)
class Setting:
    """What is known of one setting without its value.

    Attributes:
        key: as in `mnemoduck settings set KEY`.
        environment: the name of its environment variable.
        variable: of dbt_project.yml, which counts where nothing is set; None if there is none.
        takes: what it can be.
        says: what it does.
    """

    key: str
    environment: str
    variable: str | None
    takes: str
    says: str
    default: Any
    is_size: bool
    field: FieldInfo

    def read(self, value: Any, *, is_text: bool) -> Any:
        """Return the value that it stands for.

        Args:
            is_text: it is a text that stands for a value, as in the environment; else a value of its type.

        Raises:
            ValueError: it is none that the setting can have.
        """
        if is_text and isinstance(value, str):
            value = value.strip()
        checker = _checker(self.key)
        if is_text and not self.is_size:
            return checker.validate_strings(value)
        return checker.validate_python(value, strict=True)

    def show(self, value: Any) -> Any:
        """Return the value as the file has it."""
        return format_size(value) if self.is_size and isinstance(value, int) else value

    def to_text(self, value: Any) -> str:
        """Return the value as an environment variable has it."""
        return str(value).lower() if isinstance(value, bool) else str(self.show(value))


class Settings(BaseSettings):
    """All settings of one home, as they are in force. `load_settings` makes them."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    profile: ProfileName = _setting(
        "balanced", "a bundle of values, over which the file's own go", ", ".join(PROFILE_NAMES),
        environment=PROFILE_VARIABLE,
    )  # fmt: skip
    run: RunSettings = RunSettings()
    write: WriteSettings = WriteSettings()
    ingest: IngestSettings = IngestSettings()
    recall: RecallSettings = RecallSettings()
    sql: SqlSettings = SqlSettings()
    llm: LlmSettings = LlmSettings()
    expectations: ExpectationSettings = ExpectationSettings()
    backup: BackupSettings = BackupSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values come from, the first of them going before the others."""
        return tuple(InitSettingsSource(settings_cls, _nested(values)) for values in _layers.get())

    def get(self, key: str) -> Any:
        """Return the value of a key, such as "run.threads"; None where dbt's variable counts."""
        value: Any = self
        for name in key.split("."):
            value = getattr(value, name)
        return value

    def origin(self, key: str) -> str:
        """Return where the value of a key comes from: default, profile, file, environment or command line."""
        return self._origins.get(key, DEFAULT)

    def environment(self) -> dict[str, str]:
        """Return what is set, as the environment variables that a process needs to have the same settings."""
        return {
            setting.environment: setting.to_text(self.get(key))
            for key, setting in SETTINGS.items()
            if key in self._origins
        }


def _collect() -> Iterator[Setting]:
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, _Section):
            for leaf, inner in section.model_fields.items():
                yield _describe(f"{name}.{leaf}", inner)
        else:
            yield _describe(name, field)


def _describe(key: str, field: FieldInfo) -> Setting:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    known: dict[str, Any] = dict(extra)
    return Setting(
        key=key,
        environment=known["environment"] or "MNEMODUCK_" + key.replace(".", "_").upper(),
        variable=known["variable"],
        takes=known["takes"],
        says=field.description or "",
        default=field.default,
        is_size=known["is_size"],
        field=field,
    )


SETTINGS: Mapping[str, Setting] = {setting.key: setting for setting in _collect()}
"""Every setting by its key, in the order in which they are shown."""

_checkers: dict[str, TypeAdapter[Any]] = {}


def _checker(key: str) -> TypeAdapter[Any]:
    if key not in _checkers:
        field = SETTINGS[key].field
        kind: Any = field.annotation
        for constraint in field.metadata:
            kind = Annotated[kind, constraint]
        _checkers[key] = TypeAdapter(kind)
    return _checkers[key]


_layers: ContextVar[tuple[Values, ...]] = ContextVar("layers", default=())
_said: ContextVar[Values | None] = ContextVar("said", default=None)


@contextmanager
def said_on_command_line(values: Mapping[str, Any]) -> Iterator[None]:
    """Let values go before all others wherever settings are loaded meanwhile."""
    token = _said.set({**(_said.get() or {}), **values})
    try:
        yield
    finally:
        _said.reset(token)


def settings_file(home: Home) -> Path:
    return home.path / FILE_NAME


def load_settings(
    home: Home, *, environment: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Return the settings of a home.

    Args:
        environment: instead of that of this process.
        overrides: by key, what the caller was told; goes before all others. None is not told.

    Raises:
        UsageError: the file cannot be read, a key is no setting, or a value none that it can have; says
            which, where, what it takes, and which known key is meant.
    """
    path = settings_file(home)
    told = {**(_said.get() or {}), **{key: one for key, one in (overrides or {}).items() if one is not None}}
    layers = {
        COMMAND_LINE: {key: _checked(key, value, "", is_text=False) for key, value in told.items()},
        ENVIRONMENT: _read_environment(os.environ if environment is None else environment),
        FILE: read_file(path),
    }
    profile = next((values["profile"] for values in layers.values() if "profile" in values), "balanced")
    layers[PROFILE] = dict(PROFILES[profile])
    token = _layers.set(tuple(layers.values()))
    try:
        settings = Settings()
    finally:
        _layers.reset(token)
    for origin, values in reversed(layers.items()):
        settings._origins.update(dict.fromkeys(values, origin))
    return settings


def read_file(path: Path) -> Values:
    """Return what the file says, by key; nothing if there is no file.

    Raises:
        UsageError: see `load_settings`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes, so it is no file of settings.")
        document = tomllib.loads(data.decode("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}.") from error
    values: Values = {}
    for name, value in document.items():
        if isinstance(value, dict) and name not in SETTINGS:
            values |= {f"{name}.{leaf}": inner for leaf, inner in value.items()}
        else:
            values[name] = value
    return {key: _checked(key, value, f"{path}: ", is_text=False) for key, value in values.items()}


def parse_value(key: str, text: str) -> Any:
    """Return what a text of the command line means for a key.

    Raises:
        UsageError: the key is no setting, or the value none that it can have.
    """
    return _checked(key, text, "", is_text=True)


def find_setting(key: str, where: str = "") -> Setting:
    """Return the setting of a key.

    Raises:
        UsageError: there is none; names the nearest.
    """
    if key in SETTINGS:
        return SETTINGS[key]
    sections = [f"{known.split('.')[0]}.{key}" for known in SETTINGS]  # "threads" for "run.threads"
    candidates = [known for known in SETTINGS if known in sections] or difflib.get_close_matches(
        key, SETTINGS, 1, 0.0
    )
    raise UsageError(
        f"{where}{key} is no setting. The nearest is {candidates[0]}; `mnemoduck settings` shows them all."
    )


def _read_environment(environment: Mapping[str, str]) -> Values:
    return {
        key: _checked(key, environment[setting.environment], f"{setting.environment}: ", is_text=True)
        for key, setting in SETTINGS.items()
        if environment.get(setting.environment, "").strip()
    }


def _checked(key: str, value: Any, where: str, *, is_text: bool) -> Any:
    setting = find_setting(key, where)
    try:
        return setting.read(value, is_text=is_text)
    except (ValidationError, ValueError) as error:
        raise UsageError(f"{where}{key} is {value!r}; it takes {setting.takes}.") from error


def _nested(values: Values) -> Values:
    nested: Values = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return nested
