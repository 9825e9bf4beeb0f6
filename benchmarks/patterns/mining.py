"""The models and macros of patterns as they are, rendered outside dbt and run over episodes of a built home.

Nothing here mines or believes anything itself: which patterns an episode has is said by the model
`int_pattern_occurrences`, what is believed of a pattern by the macro `patterns_at`, both of this project.
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

OCCURRENCES = Path("models") / "procedural" / "int_pattern_occurrences.sql"

FEATURES = """
    select * from staging.episode_features
    where completed_at is not null and forgotten_at is null
"""


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
        self.connection.execute(f"create or replace temp table seen as select * from occurrences {condition}")
        self.connection.execute(
            f"create or replace temp table periods as {self._render('counted_patterns', 'seen')}"
        )
        moment = f"timestamp '{self.moment.isoformat(sep=' ')}'"
        believed = self._render("patterns_at", "periods", "seen", "feedback", moment)
        self.connection.execute(f"create or replace temp table learned as {believed}")

    def ask(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query, each by the names of its columns."""
        cursor = self.connection.execute(query, values)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _mine(self, name: str, features: pa.Table) -> None:
        self.connection.register("rows", features)
        self.connection.execute(f"create table {name}_features as select * from rows")
        sql = _render_model(self.project, OCCURRENCES, {"episode_features": f"{name}_features"})
        self.connection.execute(f"create table {name} as {sql}")

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

    def _render(self, macro: str, *arguments: Any) -> str:
        return render(self.project, macro, *arguments)


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
