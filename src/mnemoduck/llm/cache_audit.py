"""Checking what a cache holds, or what a file brings for it: keys are derived again, in SQL.

A row of the cache says what it is the answer to, so whether it is can be found out without any model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import duckdb

from mnemoduck.llm.keys import ALGORITHM

SHOWN_FAULTS = 1000
"""So many faults are told one by one; the others are counted."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one row, as a sentence."""

    table: str
    key: UUID
    problem: str

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.problem}."


@dataclass(frozen=True)
class Verification:
    """What was found wrong: `faults` has the first of `fault_count`."""

    responses: int
    embeddings: int
    fault_count: int
    faults: list[Fault]


def hash_sql(parts: Iterable[str]) -> str:
    """Return SQL for `mnemoduck.llm.keys.prompt_hash` of texts that are given as SQL expressions."""
    tagged = " || ".join(f"coalesce(length({part}) || ':' || {part}, '-')" for part in parts)
    return f"cast(left(sha256({tagged}), 32) as uuid)"


_KEY = hash_sql([f"'{ALGORITHM}'", "cast(settings_hash as varchar)", "cast(input_hash as varchar)"])
_SETTINGS = {
    "responses": (
        "template",
        "template_version",
        "instructions",
        "input_characters",
        "model",
        "model_digest",
        "options",
        "response_schema",
    ),
    "embeddings": ("template", "template_version", "input_characters", "model", "model_digest", "options"),
}
_IS_OF_KNOWN_ALGORITHM = f"algorithm is not distinct from '{ALGORITHM}'"

_RULES = {
    "responses": {
        f"its algorithm is not {ALGORITHM}": _IS_OF_KNOWN_ALGORITHM,
        "its input does not give its input_hash": f"input_hash is not distinct from {hash_sql(['input'])}",
        "its settings_hash and input_hash do not give its key": f"key is not distinct from {_KEY}",
        "it has not either an answer or an error": "(answer is null) <> (error is null)",
        "its answer is no JSON": "answer is null or json_valid(answer)",
    },
    "embeddings": {
        f"its algorithm is not {ALGORITHM}": _IS_OF_KNOWN_ALGORITHM,
        "its settings_hash and input_hash do not give its key": f"key is not distinct from {_KEY}",
        "it has not either a vector or an error": "(vector is null) <> (error is null)",
        "its vector has not as many finite numbers as its dimension says": (
            "vector is null or (list_count(vector) > 0 and list_count(vector) = len(vector) "
            "and len(vector) is not distinct from dimension and isfinite(list_sum(vector)))"
        ),
    },
}
"""What is wrong with a row of a table unless a condition holds."""
_SETTINGS_PROBLEM = "its settings do not give its settings_hash"


def faults_sql(table: str, relation: str, identity: str = "key") -> str:
    """Return SQL that gives `identity` and `problem` for everything that is wrong with rows for a table.

    Args:
        relation: what to read the rows from, as SQL; it is read several times.
        identity: columns of the relation that tell its rows apart.

    Settings are hashed once for each that there are, for their instructions are long and few. (After a mere
    `distinct` DuckDB would hash those of all rows, and drop doubles then.)
    """
    columns = _SETTINGS[table]
    names = ", ".join(columns)
    broken = " union all ".join(
        f"select {identity}, '{problem}' as problem from {relation} where not coalesce({condition}, false)"
        for problem, condition in _RULES[table].items()
    )
    same = " and ".join(f"given.{name} is not distinct from wrong.{name}" for name in columns)
    given = ", ".join(f"given.{column.strip()}" for column in identity.split(","))
    return f"""
        with settings as (
            select {names}, {_settings_hash_sql(table)} as derived, list(distinct settings_hash) as hashes
            from {relation}
            group by {names}
        ),
        wrong as (
            select
                {names},
                unnest(list_filter(hashes, lambda one: one is distinct from derived)) as settings_hash
            from settings
        )
        {broken}
        union all
        select {given}, '{_SETTINGS_PROBLEM}'
        from {relation} as given
        semi join wrong on given.settings_hash is not distinct from wrong.settings_hash and {same}
    """


def verify(cursor: duckdb.DuckDBPyConnection) -> Verification:
    """Check every row of the cache that is the cursor's default database."""
    counts: dict[str, int] = {}
    faults: list[Fault] = []
    fault_count = 0
    for table in _RULES:
        counts[table] = _number(cursor, f"select count(*) from {table}")
        cursor.execute(f"create or replace temp table found_faults as {faults_sql(table, table)}")
        fault_count += _number(cursor, "select count(*) from found_faults")
        shown = cursor.execute(
            "select key, problem from found_faults order by key, problem limit ?",
            [SHOWN_FAULTS - len(faults)],
        ).fetchall()
        faults += [Fault(table, key, problem) for key, problem in shown]
    cursor.execute("drop table found_faults")
    return Verification(counts["responses"], counts["embeddings"], fault_count, faults)


def _settings_hash_sql(table: str) -> str:
    """Return SQL for `TemplateSettings.settings_hash`; an embedding has no instructions and no schema."""
    texts = {name: name for name in _SETTINGS[table]}
    for number in ("template_version", "input_characters"):
        texts[number] = f"cast({number} as varchar)"
    return hash_sql(
        [
            f"'{ALGORITHM}'",
            texts["template"],
            texts["template_version"],
            texts.get("instructions", "''"),
            texts["input_characters"],
            texts["model"],
            texts["model_digest"],
            texts["options"],
            texts.get("response_schema", "''"),
        ]
    )


def _number(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = cursor.execute(sql).fetchone()
    assert row is not None
    return int(row[0])
