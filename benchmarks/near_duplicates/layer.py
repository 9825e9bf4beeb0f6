"""The models int_text_buckets and int_texts in an in-memory DuckDB, built as dbt builds them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
from jinja2 import Environment, StrictUndefined

from mnemoduck.project import variables

PROJECT = Path(__file__).resolve().parents[2]
MODELS = ("int_text_buckets", "int_texts")

Saying = tuple[UUID, str | None, str | None, str | None, str, datetime]
"""A memory: id, user, agent, role, content, and when it was said (UTC)."""


class TextLayer:
    """The two models over a table of memories that arrive in batches."""

    def __init__(self, **parameters: float) -> None:
        self.connection = duckdb.connect()
        self._parameters = tuple(sorted(parameters.items()))
        self._batches = 0
        self.connection.execute(
            "create table stg_memories (batch_seq bigint, memory_id uuid, user_id varchar, agent_id varchar, "
            "role varchar, content varchar, occurred_at timestamp, content_hash uuid)"
        )

    def add(self, sayings: Iterable[Saying]) -> None:
        """Let a batch of memories arrive; nothing is built yet."""
        columns = ["memory_id", "user_id", "agent_id", "role", "content", "occurred_at"]
        rows = [dict(zip(columns, (str(saying[0]), *saying[1:]), strict=True)) for saying in sayings]
        types = [(name, pa.string()) for name in columns[:-1]] + [(columns[-1], pa.timestamp("us"))]
        self.add_table(pa.Table.from_pylist(rows, schema=pa.schema(types)))

    def add_table(self, arrived: pa.Table) -> None:
        """Let a batch arrive as a table with the columns of a saying."""
        self._batches += 1
        content_hash = macro("hash_key", [macro("normalised_text", "content")])
        self.connection.register("arrived", arrived)
        self.connection.execute(
            f"insert into stg_memories select {self._batches}, memory_id, user_id, agent_id, role, content, "
            f"occurred_at, {content_hash} from arrived"
        )
        self.connection.unregister("arrived")

    def build(self, *, full_refresh: bool = False) -> dict[str, int]:
        """Build both models, incrementally where they exist. Return how many rows each one wrote."""
        return {model: written for model, (written, _) in self._build(full_refresh=full_refresh).items()}

    def _build(self, *, full_refresh: bool) -> dict[str, tuple[int, float]]:
        done = {}
        for model in MODELS:
            started = time.perf_counter()
            exists = self.connection.execute(
                "select count(*) from duckdb_tables() where table_name = ?", [model]
            ).fetchone() != (0,)
            if not exists or full_refresh:
                sql = _model_sql(model, False, self._parameters)
                self.connection.execute(f"create or replace table {model} as {sql}")
                row = self.connection.execute(f"select count(*) from {model}").fetchone()
            else:
                sql = _model_sql(model, True, self._parameters)
                update = "and source.row_hash is distinct from target.row_hash" if model == MODELS[0] else ""
                self.connection.execute(f"create or replace temp table source as {sql}")
                row = self.connection.execute(
                    f"merge into {model} as target using source on target.text_id = source.text_id "
                    f"when matched {update} then update when not matched then insert"
                ).fetchone()
            assert row is not None
            done[model] = (int(row[0]), time.perf_counter() - started)
        return done

    def build_timed(self) -> dict[str, float]:
        """Build both models and return the seconds of each."""
        return {model: round(seconds, 3) for model, (_, seconds) in self._build(full_refresh=False).items()}

    def rows(self, columns: str = "* exclude (changed_batch_seq)") -> list[tuple[Any, ...]]:
        """Return the rows of int_texts in the order of text_id."""
        return self.connection.execute(f"select {columns} from int_texts order by text_id").fetchall()


def macro(name: str, *arguments: Any, **parameters: float) -> str:
    """Expand a macro of the project with some parameters changed."""
    return str(getattr(_macros(tuple(sorted(parameters.items()))), name)(*arguments)).strip()


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
        "part_key": lambda hashed: hashed,  # no hook begins a part here: all is one
        "in_part": lambda _: "true",
    }
    return _environment().from_string(path.read_text("utf-8")).render(context)


@cache
def _macros(parameters: tuple[tuple[str, float], ...]) -> Any:
    source = "\n".join(
        (PROJECT / "macros" / path).read_text("utf-8")
        for path in ("cross_db/expressions.sql", "memory/near_duplicates.sql")
    )
    module: Any = (
        _environment()
        .from_string(source)
        .make_module(
            {
                "return": lambda value: value,
                "adapter": SimpleNamespace(dispatch=lambda name, _: getattr(module, f"duckdb__{name}")),
                "parameter": _values(parameters).__getitem__,
            }
        )
    )
    return module


def _values(parameters: tuple[tuple[str, float], ...]) -> dict[str, Any]:
    return {**variables(PROJECT), **dict(parameters)}


@cache
def _environment() -> Environment:
    return Environment(  # its output is SQL of our own, not HTML
        extensions=["jinja2.ext.do"],
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
    )
