"""Statements that users ask the snapshot: one SELECT each, of functions that only read.

The connection is locked down (see `mnemoduck.warehouse`), but DuckDB 1.5.5 has functions that a SELECT may
call and that do more than read, whatever is locked: `enable_logging` can end the process, `enable_profiling`
takes the name of a file, `query` executes text. So what a statement calls is looked up before it is executed:
table functions are those listed here and those of the snapshot, of all other functions some are refused.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from mnemoduck.errors import QueryError, UsageError
from mnemoduck.scope import check_unicode

TABLE_FUNCTIONS = frozenset(
    [
        *(
            "generate_series",
            "histogram",
            "histogram_values",
            "json_each",
            "json_tree",
            "query_table",
            "range",
        ),
        *("repeat", "repeat_row", "summary", "test_all_types", "test_vector_types", "unnest"),
        *("duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_dependencies"),
        *("duckdb_functions", "duckdb_indexes", "duckdb_keywords", "duckdb_memory", "duckdb_optimizers"),
        *("duckdb_schemas", "duckdb_sequences", "duckdb_settings", "duckdb_table_sample", "duckdb_tables"),
        *("duckdb_temporary_files", "duckdb_types", "duckdb_variables", "duckdb_views"),
        *("icu_calendar_names", "pg_timezone_names", "pragma_collations", "pragma_database_size"),
        *("pragma_metadata_info", "pragma_platform", "pragma_show", "pragma_storage_info"),
        *("pragma_table_info", "pragma_user_agent", "pragma_version"),
    ]
)
"""Table functions of DuckDB that only read what is in the instance, or make rows of their arguments."""

REFUSED_FUNCTIONS = frozenset(["currval", "nextval", "pg_sleep", "sleep_ms", "write_log"])
"""Other functions that write, or only wait."""

_SPACES = r"(?:[ \t\r\n]|--[^\n]*\n|/\*.*?\*/)*"
_OPTION = r"(?:analyze|format[ \t\r\n]+[a-z_]+)"
_EXPLAIN = re.compile(
    rf"{_SPACES}explain\b(?P<options>[ \t\r\n]+analyze\b"
    rf"|[ \t\r\n]*\([ \t\r\n]*{_OPTION}(?:[ \t\r\n]*,[ \t\r\n]*{_OPTION})*[ \t\r\n]*\))?",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
_INTERRUPT_AGAIN_SECONDS = 0.1


def check_statement(
    cursor: duckdb.DuckDBPyConnection, query: str, macros: Collection[str] = frozenset()
) -> str:
    """Return the text to execute for a query that is one SELECT, or explains one, and only reads.

    EXPLAIN ANALYZE executes what it explains. The text that is returned is put together of what was checked:
    whoever explains has no say in how the two are told apart.

    Args:
        cursor: of the locked-down connection: statements are told apart with files at hand.
        macros: names of the table functions that the snapshot has.

    Raises:
        QueryError: it is something else; says what.
    """
    try:
        check_unicode("The query", query)
        kinds = [statement.type for statement in cursor.extract_statements(query)]
        begin, select = "", query
        if kinds == [duckdb.StatementType.EXPLAIN] and (explain := _EXPLAIN.match(query)):
            begin, select = f"explain{explain['options'] or ''}\n", query[explain.end() :]
            kinds = [statement.type for statement in cursor.extract_statements(select)]
    except (duckdb.Error, UsageError) as error:
        raise QueryError(f"The query cannot be read: {error}") from error
    if kinds != [duckdb.StatementType.SELECT]:
        raise _not_a_select(", ".join(kind.name for kind in kinds) or "nothing")
    _check_calls(_parse(cursor, select), macros)
    return begin + select


@contextmanager
def interrupted_after(cursor: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[threading.Event]:
    """Interrupt what a cursor executes within the `with` block once it has taken so many seconds.

    The event tells that the time has passed. 0 means no bound.
    """
    has_passed, is_done = threading.Event(), threading.Event()
    if not seconds:
        yield has_passed
        return

    def watch() -> None:
        wait = seconds
        while not is_done.wait(wait):
            has_passed.set()
            cursor.interrupt()  # again and again: what a statement begins with forgets an interrupt before it
            wait = _INTERRUPT_AGAIN_SECONDS

    watcher = threading.Thread(target=watch, name="mnemoduck-sql-timeout", daemon=True)
    watcher.start()
    try:
        yield has_passed
    finally:
        is_done.set()
        watcher.join()


def _parse(cursor: duckdb.DuckDBPyConnection, select: str) -> Any:
    """Return the syntax tree of a SELECT."""
    try:
        row = cursor.execute("select json_serialize_sql($query)", {"query": select}).fetchone()
        tree = json.loads(row[0]) if row else {}
    except (duckdb.Error, RecursionError) as error:
        raise QueryError(f"The query cannot be read: {error}") from error
    if tree.get("error", True) or len(tree["statements"]) != 1:
        # PRAGMAs that DuckDB makes SELECTs of, such as `pragma show_tables`.
        raise _not_a_select("a statement that is only executed as one")
    return tree["statements"][0]


def _check_calls(tree: Any, macros: Collection[str]) -> None:
    """Raise QueryError for what does more than read tables of the snapshot."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        if not isinstance(node, dict):
            continue
        if node.get("type") == "TABLE_FUNCTION":
            call = node["function"]
            name = str(call.get("function_name")).lower()
            if name not in TABLE_FUNCTIONS and name not in macros:
                raise QueryError(
                    f"The query calls {name}(), which is none of the table functions that only read the "
                    "snapshot. Its own are in `select function_name from duckdb_functions() where "
                    "database_name = 'snapshot'`."
                )
            waiting.extend(value for key, value in node.items() if key != "function")
            waiting.extend(call.get("children") or ())
            continue
        if node.get("class") == "FUNCTION":
            name = str(node.get("function_name")).lower()
            if name in REFUSED_FUNCTIONS:
                raise QueryError(f"The query calls {name}(), which does something else than read.")
        if node.get("type") == "BASE_TABLE" and {"/", "\\"} & set(str(node.get("table_name"))):
            raise QueryError(
                f"The query names {node['table_name']!r}: files cannot be read, only tables can."
            )
        waiting.extend(node.values())


def _not_a_select(what: str) -> QueryError:
    return QueryError(
        f"The query must be one SELECT (or EXPLAIN, SHOW, DESCRIBE, SUMMARIZE); got {what}. The "
        "snapshot is read-only: memories are added with remember() and taken back with forget()."
    )
