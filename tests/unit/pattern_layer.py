"""The models of patterns in an in-memory DuckDB, built as dbt builds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from jinja2 import Environment, StrictUndefined

from mnemoduck.project import variables

PROJECT = Path(__file__).resolve().parents[2]
MODELS = ("int_pattern_episodes", "int_pattern_histories", "int_pattern_periods")


@dataclass(frozen=True)
class Episode:
    """What episode_features says of an episode, as far as patterns are made of it."""

    episode_id: str
    tools: tuple[str, ...]
    errors: tuple[str | None, ...]
    is_success: bool
    completed_at: datetime
    task: str = "task"
    user_id: str | None = None
    domain: str = ""
    context: str = "{}"
    repeated_call_count: int = 0
    columns: dict[str, Any] = field(default_factory=dict, compare=False)


class PatternLayer:
    """The models over a table of features that arrive in batches."""

    def __init__(self, **parameters: float) -> None:
        self.connection = duckdb.connect()
        self._parameters = tuple(sorted(parameters.items()))
        self.clear()

    def clear(self) -> None:
        """Forget all episodes and all that was built of them."""
        self._batches = 0
        for model in MODELS:
            self.connection.execute(f"drop table if exists {model}")
        self.connection.execute(
            "create or replace table episode_features (episode_key uuid primary key, user_id varchar, "
            "episode_id varchar, task_key uuid, domain varchar, context varchar, tool_count integer, "
            "error_count integer, repeated_call_count integer, is_success boolean, tools varchar[], "
            "tool_errors boolean[], error_keys varchar[], completed_at timestamp, forgotten_at timestamp, "
            "changed_batch_seq bigint)"
        )
        self.connection.execute(
            "create or replace table stg_feedback (pattern_id uuid, user_id varchar, is_success boolean, "
            "occurred_at timestamp)"
        )

    def arrive(self, episodes: Iterable[Episode]) -> None:
        """Let a batch of episodes arrive, new ones or ones that have changed; nothing is built yet."""
        self._batches += 1
        for one in episodes:
            said = asdict(one)
            self.connection.execute(
                "insert or replace into episode_features values ("
                "md5(concat($user_id, '/', $episode_id))::uuid, $user_id, $episode_id, md5($task)::uuid, "
                "$domain, $context, $calls, $failed, $repeated_call_count, $is_success, $tools, "
                "$tool_errors, $errors, $completed_at, $forgotten_at, $batch)",
                {
                    **{name: said[name] for name in ("user_id", "episode_id", "task", "domain", "context")},
                    **{name: said[name] for name in ("repeated_call_count", "is_success", "completed_at")},
                    "calls": len(one.tools),
                    "failed": sum(error is not None for error in one.errors),
                    "tools": list(one.tools),
                    "tool_errors": [error is not None for error in one.errors],
                    "errors": list(one.errors),
                    "forgotten_at": one.columns.get("forgotten_at"),
                    "batch": self._batches,
                },
            )

    def build(self, *, full_refresh: bool = False, models: Iterable[str] = MODELS) -> int:
        """Build the tables, incrementally where they exist. Return how many rows were written."""
        written = 0
        for model in models:
            known = self.connection.execute("from duckdb_tables() where table_name = ?", [model]).fetchone()
            if full_refresh or known is None:
                self.connection.execute(f"create or replace table {model} as {self.sql(model)}")
            else:
                self.connection.execute(f"create or replace temp table arrived as {self.sql(model, True)}")
                written += self._add(model)
        return written

    def _add(self, model: str) -> int:
        if model == "int_pattern_histories":
            counted = self.connection.execute(f"insert into {model} by name from arrived")
        elif model == "int_pattern_episodes":
            counted = self.connection.execute(
                f"merge into {model} as known using arrived on known.episode_key = arrived.episode_key "
                "when matched then update by name when not matched then insert by name"
            )
        else:
            self.connection.execute(
                f"delete from {model} as known using arrived "
                "where known.pattern_key = arrived.pattern_key and known.period = arrived.period"
            )
            counted = self.connection.execute(
                f"insert into {model} by name select * from arrived where episode_count > 0"
            )
        row = counted.fetchone()
        assert row is not None
        if model == "int_pattern_periods":
            self.connection.execute(self.macro("without_unshown_histories", MODELS[1], MODELS[0]))
        return int(row[0])

    def rows(self, model: str) -> list[tuple[Any, ...]]:
        """Return what the rows of a model say, in a fixed order."""
        columns = "columns(lambda name: name not in ('changed_batch_seq', 'left_histories'))"
        return self.connection.execute(f"select {columns} from {model} order by all").fetchall()

    def shown(self) -> list[tuple[Any, ...]]:
        """Return user, domain, kind, pattern and episode_id of what episodes show, comparisons aside."""
        spelled = self.macro("sequence_tools", "mined.found_at", "spelling.pattern")
        return self.connection.execute(
            "select user_id, domain, mined.kind, "
            f"case when mined.kind = 'tool_sequence' then {spelled} else mined.pattern end, episode_id "
            "from int_pattern_histories as mined "
            "inner join int_pattern_histories as spelling "
            "on mined.history_key = spelling.history_key and spelling.kind = 'history' "
            "inner join int_pattern_episodes as ended on mined.history_key = ended.history_key "
            "where mined.kind not in ('history', 'comparison') order by all"
        ).fetchall()

    def patterns(self, moment: datetime, columns: str = "*", where: str = "true") -> list[tuple[Any, ...]]:
        """Return the rows of patterns_as_of at a moment."""
        sql = self.macro("patterns_at", *MODELS[::-1], "stg_feedback", f"timestamp '{moment}'")
        return self.connection.execute(f"select {columns} from ({sql}) where {where} order by all").fetchall()

    def macro(self, name: str, *arguments: str) -> str:
        """Expand a macro of the project."""
        return str(getattr(_macros(self._parameters), name)(*arguments)).strip()

    def sql(self, model: str, is_incremental: bool = False) -> str:
        """Return what a model is compiled to."""
        return _model_sql(model, is_incremental, self._parameters)


@cache
def _model_sql(model: str, is_incremental: bool, parameters: tuple[tuple[str, float], ...]) -> str:
    (path,) = PROJECT.glob(f"models/*/{model}.sql")
    context = {
        **{name: value for name, value in vars(_macros(parameters)).items() if not name.startswith("_")},
        "config": lambda **_: "",
        "parameter": _values(parameters).__getitem__,
        "ref": lambda name: name,
        "this": model,
        "is_incremental": lambda: is_incremental,
    }
    return _environment().from_string(path.read_text("utf-8")).render(context)


@cache
def _macros(parameters: tuple[tuple[str, float], ...]) -> Any:
    names = ("cross_db/expressions", "memory/patterns", "memory/pattern_statistics")
    source = "\n".join((PROJECT / "macros" / f"{name}.sql").read_text("utf-8") for name in names)

    class Adapter:
        @staticmethod
        def dispatch(name: str, _package: str) -> Any:
            return getattr(module, f"duckdb__{name}")

    module: Any = (
        _environment()
        .from_string(source)
        .make_module(
            {
                "adapter": Adapter,
                "parameter": _values(parameters).__getitem__,
                "return": lambda value: value,
            }
        )
    )
    return module


def _values(parameters: tuple[tuple[str, float], ...]) -> dict[str, Any]:
    return {**variables(PROJECT), **dict(parameters)}


def _environment() -> Environment:
    return Environment(extensions=["jinja2.ext.do"], undefined=StrictUndefined, autoescape=False)
