"""Checking what a cache holds, or what a file brings for it: keys are derived again, answers read again.

A row of the cache says what was asked, so whether its key is that of its prompt, and whether its answer is
one to such a prompt, can be found out without any model. Whether the answer is right cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import duckdb

from mnemoduck.errors import InvalidAnswerError
from mnemoduck.llm.answers import KNOWN_VERSIONS, parse_answer
from mnemoduck.llm.keys import ALGORITHM

SHOWN_FAULTS = 1000
"""So many faults are told one by one; the others are counted."""

SCHEMA_PROBLEM = "its answer breaks the schema of its template"
_ROWS_AT_ONCE = 4096


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


def answers_at_fault(
    cursor: duckdb.DuckDBPyConnection, relation: str, identity: str = "key"
) -> Iterator[tuple[Any, str]]:
    """Yield the identity of each response whose answer breaks its template's schema, and why in few words.

    Only answers to templates of versions that are known here can be told; of others and of what is no JSON
    `faults_sql` says what can be said. An answer that is not plain (see `mnemoduck.llm.answers`) breaks the
    schema too: what is kept was made plain before.

    Args:
        identity: one column of the relation. The cursor cannot be used for anything else meanwhile.
    """
    known = " or ".join(
        f"(template = '{template}' and template_version in ({', '.join(map(str, sorted(versions)))}))"
        for template, versions in KNOWN_VERSIONS.items()
    )
    cursor.execute(
        f"select {identity}, template, answer from {relation} "
        f"where answer is not null and json_valid(answer) and ({known})"
    )
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        for row, template, answer in rows:
            try:
                if parse_answer(template, answer) != answer:
                    yield row, "it is not in the form in which answers are kept"
            except InvalidAnswerError as error:
                yield row, error.reason.rstrip(".")


def verify(cursor: duckdb.DuckDBPyConnection) -> Verification:
    """Check every row of the cache that is the cursor's default database."""
    counts: dict[str, int] = {}
    faults: list[Fault] = []
    fault_count = 0
    for table in _RULES:
        counts[table] = _number(cursor, f"select count(*) from {table}")
        broken = list(answers_at_fault(cursor, table)) if table == "responses" else []
        cursor.execute(f"create or replace temp table found_faults as {faults_sql(table, table)}")
        for begin in range(0, len(broken), _ROWS_AT_ONCE):
            part = broken[begin : begin + _ROWS_AT_ONCE]
            cursor.execute(
                "insert into found_faults select unnest($keys), unnest($problems)",
                {
                    "keys": [key for key, _ in part],
                    "problems": [f"{SCHEMA_PROBLEM}: {reason}" for _, reason in part],
                },
            )
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
