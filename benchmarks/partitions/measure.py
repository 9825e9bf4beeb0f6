"""Measures one size: builds every layout, asks every question, changes 1 %, archives and drops."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.partitions import questions
from benchmarks.partitions.layouts import (
    COMPOUND_INDEXES,
    MonthsLayout,
    build_plain,
    change_plain,
    connect,
    delete_month_plain,
)
from benchmarks.partitions.questions import Question
from benchmarks.partitions.stream import ONE_MONTH, Stream, generate
from benchmarks.timing import time_call, witness


def measure(rows: int, folder: Path, rounds: int) -> dict[str, Any]:
    """Return everything that was measured with `rows` rows, as plain data."""
    stream = generate(rows, folder / f"stream_{rows}")
    work = folder / f"work_{rows}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    months = MonthsLayout(work / "months")
    peers = {"plain": work / "plain.duckdb", "indexed": work / "indexed.duckdb"}

    months.prepare()
    builds: dict[str, Any] = {"months": asdict(months.build(stream.all_rows))}
    for name, path in peers.items():
        builds[name] = {"seconds": build_plain(path, stream, indexed=name == "indexed")}
    for name, path in {"months": months.database, **peers}.items():
        builds[name]["bytes"] = path.stat().st_size

    return {
        "rows": rows,
        "compound_indexes": [list(columns) for columns in COMPOUND_INDEXES],
        "builds": builds,
        "questions": _ask(months, peers, stream, rounds),
        "changes": _change(months, peers, stream, builds),
        "life_cycle": _live(months, peers),
    }


def _ask(months: MonthsLayout, peers: dict[str, Path], stream: Stream, rounds: int) -> list[dict[str, Any]]:
    asked = []
    with months.connect() as connection:
        own = questions.Months(connection, stream, months.database.parent).questions()
        asked += [_time(connection, "months", question, rounds) for question in own]
    for name, path in peers.items():
        with connect(path) as connection:
            theirs = questions.plain_questions(connection, stream)
            asked += [_time(connection, name, question, rounds) for question in theirs]
    only = peers["plain"].with_name("only_month.duckdb")
    with duckdb.connect(str(only)) as connection:
        start, end = ONE_MONTH
        connection.execute(
            f"create table only_month as select * from read_parquet('{stream.all_rows}') "
            f"where occurred_at >= '{start}' and occurred_at < '{end}' order by occurred_at"
        )
    with connect(only) as connection:
        asked.append(_time(connection, "only", questions.only_that_month(connection), rounds))
    _check_answers_agree(asked)
    return asked


def _time(
    connection: duckdb.DuckDBPyConnection, layout: str, question: Question, rounds: int
) -> dict[str, Any]:
    rows = question.ask()
    assert rows, f"{question.name} by {question.way} has no answer: nothing would be measured"
    timing = time_call(connection, question.ask, rounds)
    return {
        "question": question.name,
        "layout": layout,
        "way": question.way,
        "answer_rows": len(rows),
        "answer": _digest(rows),
        **timing.as_dict(),
        "witness": asdict(witness(connection, question.sql)) if question.sql else None,
    }


def _digest(rows: list[tuple[object, ...]]) -> str:
    """Return what tells an answer from another; sums of floats may differ in the last digits."""
    plain = [[round(value, 9) if isinstance(value, float) else str(value) for value in row] for row in rows]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]


def _check_answers_agree(asked: list[dict[str, Any]]) -> None:
    """A layout that answers something else would be fast for nothing."""
    for name in {entry["question"] for entry in asked}:
        answers = {
            f"{entry['layout']} by {entry['way']}": entry["answer"]
            for entry in asked
            if entry["question"] == name
        }
        assert len(set(answers.values())) == 1, f"the answers to {name!r} differ: {answers}"


def _change(
    months: MonthsLayout, peers: dict[str, Path], stream: Stream, builds: dict[str, Any]
) -> dict[str, Any]:
    """Change 1 % of the rows, spread over all months; then add 1 % on the last day."""
    full = builds["months"]["seconds"]
    _remember_rows(months)
    found: dict[str, Any] = {
        "changed_1_percent": {
            "months": _build_again(months, stream.changed_rows, full) | _count_untouched(months)
        }
    }
    for name, path in peers.items():
        found["changed_1_percent"][name] = {"seconds": change_plain(path, stream)}
    found["new_1_percent_on_last_day"] = {"months": _build_again(months, stream.new_rows, full)}
    found["nothing_new"] = {"months": _build_again(months, stream.new_rows, full)}
    return found


def _build_again(months: MonthsLayout, source: str, full_seconds: float) -> dict[str, Any]:
    time = months.build(source)
    return {**asdict(time), "share_of_full_build": time.seconds / full_seconds}


def _month_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        "select table_name from duckdb_tables() where database_name = current_database() "
        "and schema_name = 'memories__months' and regexp_matches(table_name, '^m[0-9]{4}_[0-9]{2}$') "
        "order by table_name"
    ).fetchall()
    return [f"memories__months.{name}" for (name,) in rows]


def _rows_with_place(connection: duckdb.DuckDBPyConnection) -> str:
    return " union all ".join(
        f"select '{table}' as place, rowid as row_id, memory_id, hash(t) as content from {table} as t"
        for table in _month_tables(connection)
    )


def _remember_rows(months: MonthsLayout) -> None:
    with months.connect() as connection:
        connection.execute(
            f"copy ({_rows_with_place(connection)}) to '{months.folder / 'before.parquet'}' (format parquet)"
        )


def _count_untouched(months: MonthsLayout) -> dict[str, int]:
    """Count the rows that the run left in their place with every column as it was, and the others."""
    with months.connect() as connection:
        row = connection.execute(
            f"""
            select
                count(*) filter (where after.memory_id is null),
                count(*) filter (where before.content is distinct from after.content),
                count(*) filter (where before.content = after.content),
                count(*) filter (
                    where before.content = after.content
                    and before.place = after.place and before.row_id = after.row_id
                )
            from '{months.folder / "before.parquet"}' as before
            left join ({_rows_with_place(connection)}) as after using (memory_id)
            """
        ).fetchone()
    assert row is not None
    assert row[0] == 0, f"{row[0]} rows are gone"
    return {"changed_rows": row[1], "unchanged_rows": row[2], "untouched_rows": row[3]}


def _live(months: MonthsLayout, peers: dict[str, Path]) -> dict[str, Any]:
    """Archive one month, all past months, restore one and drop one; peers delete one month."""
    found: dict[str, Any] = {
        "archive_one": months.operate("partitions_archive", months=["2025-03"]),
        "restore_one": months.operate("partitions_restore", months=["2025-03"]),
        "drop_one": months.operate("partitions_drop", months=["2025-03"], yes=True),
        "archive_ten": months.operate("partitions_archive", before="2024-10"),
    }
    for name, path in peers.items():
        found[f"delete_one_{name}"] = delete_month_plain(path)
    return found
