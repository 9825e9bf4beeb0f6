"""Reading what a user may edit: orchestration/expectations/<suite>.json, and the queries that feed it.

A suite is as Great Expectations writes it. Beside what it knows, each expectation says in its `meta` on which
`table` it is, and may say what it `needs` where there may be nothing to compare with. A table is the query in
<suite>/<table>.sql; its first column names its rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoduck.errors import UsageError
from mnemoduck.project import find_expectations


@dataclass(frozen=True)
class Expected:
    """One expectation: its table, what it needs, and its configuration in the words of Great Expectations."""

    table: str
    needs: str
    configuration: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.configuration["type"])

    @property
    def column(self) -> str | None:
        column = self.configuration.get("kwargs", {}).get("column")
        return None if column is None else str(column)


@dataclass(frozen=True)
class Suite:
    """A suite: expectations by table in the order of the file, and the query of each table."""

    name: str
    expectations: dict[str, list[Expected]]
    queries: dict[str, str]


def read_suite(project: Path, name: str) -> Suite:
    """Return a suite with its queries.

    Raises:
        UsageError: a file is missing, is no JSON, or says what cannot be.
    """
    folder = find_expectations(project)
    path = folder / f"{name}.json"
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"The suite {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The suite {path} is no JSON: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("expectations"), list):
        raise UsageError(f"The suite {path} is no object with a list `expectations`.")
    expectations: dict[str, list[Expected]] = {}
    for number, configuration in enumerate(document["expectations"], 1):
        expected = _read_expectation(configuration, f"Expectation {number} of {path}")
        expectations.setdefault(expected.table, []).append(expected)
    if not expectations:
        raise UsageError(f"The suite {path} has no expectations. Turn it off instead, if that is meant.")
    return Suite(name, expectations, {table: _read_query(folder / name, table) for table in expectations})


def _read_expectation(configuration: Any, where: str) -> Expected:
    if not isinstance(configuration, dict) or not isinstance(configuration.get("type"), str):
        raise UsageError(f"{where} has no `type`.")
    meta = configuration.get("meta")
    if not isinstance(meta, dict):
        meta = {}
    table = meta.get("table")
    if not isinstance(table, str) or not table.isidentifier():
        raise UsageError(f"{where} ({configuration['type']}) names no `table` in its `meta`.")
    needs = str(meta.get("needs", "") or "rows in this table")
    return Expected(table, needs, configuration)


def _read_query(folder: Path, table: str) -> str:
    path = folder / f"{table}.sql"
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UsageError(
            f"The query {path} of the table {table} cannot be read: {error.strerror}."
        ) from error
