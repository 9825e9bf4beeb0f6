"""The models and macros of patterns as they are, rendered outside dbt and run over episodes of a built home.

Nothing here mines or believes anything itself: which patterns an episode has is said by the models
`int_pattern_episodes` and `int_pattern_histories`, how often they were there by `int_pattern_periods`, and
what is believed of a pattern by the macro `patterns_at`, all of this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from jinja2 import Environment

from mnemoduck.project import find_project, render, variables

MODELS = Path("models") / "procedural"

FEATURES = """
    select * from staging.episode_features
    where completed_at is not null and forgotten_at is null
"""

_REFS = {
    "features": "episode_features",
    "episodes": "int_pattern_episodes",
    "histories": "int_pattern_histories",
}

_OCCURRENCES = """
    select
        episodes.episode_key, episodes.task_key, episodes.domain, episodes.is_success, episodes.completed_at,
        mined.kind, mined.pattern_key, spelled.pattern_id, spelled.pattern
    from {episodes} as episodes
    inner join {histories} as mined on episodes.history_key = mined.history_key
    left join (select distinct pattern_key, pattern_id, pattern from spelled) as spelled
        on mined.pattern_key = spelled.pattern_key
    where mined.kind <> 'history'
"""
"""Which pattern each episode has. One that too few have has no id, and is not spelled out."""


class Mining:
    """The episodes of a snapshot, whole and cut after half of their calls, and the patterns in both."""

    def __init__(self, snapshot: Path, project: Path | None = None) -> None:
        self.project = find_project(project)
        self.parameters = variables(self.project)
        self.connection = duckdb.connect(config={"threads": 2})
        with duckdb.connect(str(snapshot), read_only=True) as published:
            features = published.execute(FEATURES).to_arrow_table()
        self._mine("occurrences", features)
        self._mine("begun", self._first_halves(features))
        self.connection.execute(
            "create table feedback (pattern_id uuid, user_id varchar, is_success boolean, occurred_at "
            "timestamp)"
        )
        last = self._scalar("select max(completed_at) from occurrences_features")
        self.moment: datetime = last + timedelta(days=1)

    def learn(self, task_keys: Sequence[str] | None = None) -> None:
        """Make the table `learned`: what is believed after the episodes of these tasks, by default of all."""
        condition = ""
        if task_keys is not None:
            self.connection.register("tasks", pa.table({"task_key": pa.array(task_keys, pa.string())}))
            condition = "where cast(task_key as varchar) in (select task_key from tasks)"
        self.connection.execute(
            f"create or replace temp table seen as select * from occurrences_episodes {condition}"
        )
        self._build("int_pattern_periods", "periods", episodes="seen", histories="occurrences_histories")
        moment = f"timestamp '{self.moment.isoformat(sep=' ')}'"
        believed = render(
            self.project, "patterns_at", "periods", "occurrences_histories", "seen", "feedback", moment
        )
        self.connection.execute(f"create or replace temp table learned as {believed}")

    def ask(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query, each by the names of its columns."""
        cursor = self.connection.execute(query, values)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _mine(self, name: str, features: pa.Table) -> None:
        self.connection.register("rows", features)
        self.connection.execute(f"create table {name}_features as select * from rows")
        self._build("int_pattern_episodes", f"{name}_episodes", features=f"{name}_features")
        tables = {"episodes": f"{name}_episodes", "histories": f"{name}_histories"}
        self._build(
            "int_pattern_histories",
            tables["histories"],
            features=f"{name}_features",
            episodes=tables["episodes"],
        )
        if (
            name == "occurrences"
        ):  # of the whole episodes: there is no pattern in their halves that is not there
            self._build("int_pattern_periods", "spelled", **tables)
        self.connection.execute(f"create table {name} as {_OCCURRENCES.format(**tables)}")

    def _build(self, model: str, table: str, **relations: str) -> None:
        """Make a table as a full refresh of a model makes it; `relations` stand for what it refers to."""
        refs = {_REFS[name]: relation for name, relation in relations.items()}
        sql = _render_model(self.project, MODELS / f"{model}.sql", refs)
        self.connection.execute(f"create or replace temp table {table} as {sql}")

    def _first_halves(self, features: pa.Table) -> pa.Table:
        """Return the episodes as they were after half of their calls (rounded up)."""
        self.connection.register("rows", features)
        return self.connection.execute(
            """
            with halves as (select *, cast(ceil(tool_count / 2) as integer) as half from rows)
            select
                * exclude (half) replace (
                    tools[:half] as tools, tool_errors[:half] as tool_errors,
                    error_keys[:half] as error_keys, requestors[:half] as requestors, half as tool_count,
                    cast(coalesce(list_sum(tool_errors[:half]::integer[]), 0) as integer) as error_count
                )
            from halves
            """
        ).to_arrow_table()

    def _scalar(self, query: str) -> Any:
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def _render_model(project: Path, path: Path, relations: dict[str, str]) -> str:
    """Return the SQL of a model as a full refresh runs it; `relations` stand for what it refers to."""

    def macro(name: str) -> Callable[..., str]:
        return lambda *given: render(
            project, name, *(tuple(value) if isinstance(value, list) else value for value in given)
        )

    defined = "".join(file.read_text("utf-8") for file in sorted(project.glob("macros/*/*.sql")))
    macros = {name: macro(name) for name in re.findall(r"macro ([a-z0-9_]+)\(", defined)}
    context: dict[str, Any] = {
        **macros,
        "config": lambda **_: "",
        "ref": relations.__getitem__,
        "is_incremental": lambda: False,
        "parameter": variables(project).__getitem__,
    }
    environment = Environment(autoescape=False, extensions=["jinja2.ext.do"])  # noqa: S701
    return environment.from_string((project / path).read_text("utf-8")).render(context)
