"""Taking a cache to another machine: one Parquet file for each of its tables.

A row is left out if its key is not that of the prompt that it says it answers, or if its answer breaks the
schema of its template. So what is taken is under the question that it names, and has the form of an answer.
Nothing can tell whether it is the right one, or whether a model ever gave it: a file can still answer a
question wrongly, so import what you would trust to answer.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from mnemoduck.errors import StorageError, UsageError
from mnemoduck.home import FOLDER_MODE, create_file, sync_file, sync_folder
from mnemoduck.llm.cache_audit import SCHEMA_PROBLEM, answers_at_fault, faults_sql

TABLES = ("responses", "embeddings", "models", "runs")
_CHECKED = ("responses", "embeddings")
_GAP_PROBLEM = "it lacks what every row has"


@dataclass(frozen=True)
class Exported:
    """Files that were written, with how many rows each has."""

    rows: dict[Path, int]


@dataclass(frozen=True)
class Imported:
    """What became of the rows of a file for a table.

    Attributes:
        taken: new here, or an answer where there was a failure.
        known: there already, or twice in the file.
        refused: their key does not fit, their answer breaks its schema, or another rule is broken (see
            `mnemoduck.llm.cache_audit`).
        reasons: what was wrong with those that were refused, and with how many; a row may have several.
    """

    table: str
    taken: int
    known: int
    refused: int
    reasons: dict[str, int] = field(default_factory=dict)


def export(cursor: duckdb.DuckDBPyConnection, folder: Path) -> Exported:
    """Write the cache that is the cursor's default database to Parquet files of mode 0600 in a folder.

    Files of an earlier export are replaced, when all new ones are whole.

    Raises:
        UsageError: the folder cannot be made or written, or something else has the name of a file.
        StorageError: writing failed, and the folder has the files that it had.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {folder} cannot be made: {error.strerror}. Name another.") from error
    files = {table: folder / f"{table}.parquet" for table in TABLES}
    for file in files.values():
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise UsageError(
                f"{file} is no plain file, so it is not replaced. Move it, or name another folder."
            )
    counts: dict[Path, int] = {}
    with ExitStack() as stack:
        written: dict[Path, Path] = {}
        cursor.execute("begin")
        stack.callback(_roll_back, cursor)
        for table, file in files.items():
            temporary = folder / f".{table}.{os.getpid()}.tmp"
            stack.callback(temporary.unlink, missing_ok=True)
            try:
                with create_file(temporary):
                    pass  # made by us, so that it is private from the start
                row = cursor.execute(
                    f"copy {table} to {_literal(temporary)} "
                    "(format parquet, compression zstd, use_tmp_file false)"
                ).fetchone()
                sync_file(temporary)
            except PermissionError as error:
                raise UsageError(f"The folder {folder} cannot be written: {error.strerror}.") from error
            except (duckdb.IOException, OSError) as error:
                reason = str(error).splitlines()[0]
                raise StorageError(f"{file} could not be written: {reason}. Nothing was exported.") from error
            assert row is not None
            written[temporary] = file
            counts[file] = int(row[0])
        for temporary, file in written.items():
            os.replace(temporary, file)
        sync_folder(folder)
    return Exported(counts)


def import_(cursor: duckdb.DuckDBPyConnection, source: Path, next_seq: int) -> list[Imported]:
    """Take over what a folder or file of an export has and the cache does not, all of it or nothing.

    Args:
        next_seq: the `response_seq` of rows that are new here.

    Raises:
        UsageError: nothing there is an export, or a file is damaged or has other columns.
    """
    files = _find_files(cursor, source)
    cursor.execute("begin")
    try:
        done = []
        for table, file in files.items():
            try:
                done.append(_take(cursor, table, file, next_seq))
            except duckdb.Error as error:  # of many kinds when a Parquet file is damaged
                if isinstance(error, duckdb.OutOfMemoryException) or "space left" in str(error):
                    raise
                raise _damaged(file, error) from error
        cursor.execute(
            "delete from failures where key in (select key from responses) "
            "or key in (select key from embeddings)"
        )
        cursor.execute("commit")
    except BaseException:
        _roll_back(cursor)
        raise
    return done


def _find_files(cursor: duckdb.DuckDBPyConnection, source: Path) -> dict[str, Path]:
    if source.is_dir():
        files = {table: source / f"{table}.parquet" for table in TABLES}
        files = {table: file for table, file in files.items() if os.path.lexists(file)}
        if not files:
            names = ", ".join(f"{table}.parquet" for table in TABLES)
            raise UsageError(f"{source} holds no export: there is none of {names}.")
        for table, file in files.items():
            found = _columns_of_file(cursor, file)
            if found != (expected := _columns(cursor, table)):
                raise UsageError(f"{file} is no export of {table}: {_difference(found, expected)}.")
        return files
    found = _columns_of_file(cursor, source)
    for table in TABLES:
        if found == _columns(cursor, table):
            return {table: source}
    raise UsageError(
        f"{source} is no export of a cache: it has the columns {', '.join(found)}. "
        "`mnemoduck cache export FOLDER` writes what can be imported."
    )


def _columns(cursor: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Return the types of a table's columns, by name."""
    return {name: kind for name, kind, *_ in cursor.execute(f"describe {table}").fetchall()}


def _columns_of_file(cursor: duckdb.DuckDBPyConnection, file: Path) -> dict[str, str]:
    try:
        mode = file.lstat().st_mode
    except OSError as error:
        raise UsageError(f"{file} cannot be imported: {error.strerror}.") from error
    if stat.S_ISLNK(mode):
        raise UsageError(f"{file} is a symbolic link, which is not followed. Import the file that it names.")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{file} is no file. Import a Parquet file or the folder of an export.")
    if not os.access(file, os.R_OK):
        raise UsageError(f"{file} cannot be read: permission denied.")
    try:
        described = cursor.execute(f"describe from read_parquet({_literal(file)})").fetchall()
    except duckdb.Error as error:
        raise _damaged(file, error) from error
    return {name: kind for name, kind, *_ in described}


def _difference(found: dict[str, str], expected: dict[str, str]) -> str:
    parts = []
    if missing := expected.keys() - found.keys():
        parts.append(f"it lacks {', '.join(sorted(missing))}")
    if strange := found.keys() - expected.keys():
        parts.append(f"it has {', '.join(sorted(strange))} besides")
    parts += [
        f"{name} is {found[name]} where {kind} is expected"
        for name, kind in expected.items()
        if name in found and found[name] != kind
    ]
    return "; ".join(parts)


def _damaged(file: Path, error: Exception) -> UsageError:
    reason = str(error).splitlines()[0].rstrip(".")
    return UsageError(
        f"{file} is no Parquet file, or damaged ({reason}). Nothing was imported; export again."
    )


def _take(cursor: duckdb.DuckDBPyConnection, table: str, file: Path, next_seq: int) -> Imported:
    given = f"read_parquet({_literal(file)}, file_row_number = true)"
    described = cursor.execute(f"describe {table}").fetchall()
    gaps = " or ".join(f"{name} is null" for name, _, nullable, *_ in described if nullable == "NO")
    key = [name for name, _, _, kind, *_ in described if kind == "PRI"]
    faults = faults_sql(table, given, "file_row_number") if table in _CHECKED else "select null, null"
    broken = (
        [row for row, _ in answers_at_fault(cursor, given, "file_row_number")] if table == "responses" else []
    )
    cursor.execute(
        f"""
        create or replace temp table faults as
        select file_row_number, '{_GAP_PROBLEM}' as problem from {given} where {gaps}
        union
        select file_row_number, problem from ({faults}) as faults (file_row_number, problem)
        where file_row_number is not null
        """
    )
    cursor.execute(
        f"insert into faults select unnest(cast($rows as bigint[])), '{SCHEMA_PROBLEM}'", {"rows": broken}
    )
    cursor.execute("create or replace temp table refused_rows as select distinct file_row_number from faults")
    reasons = dict(
        cursor.execute("select problem, count(*) from faults group by problem order by problem").fetchall()
    )
    best = {"models": "seen_at desc", "runs": "ended_at desc"}.get(table, "error is not null")
    cursor.execute(
        f"""
        create or replace temp table chosen_rows as
        select file_row_number
        from {given}
        anti join refused_rows using (file_row_number)
        qualify row_number() over (partition by {", ".join(key)} order by {best}, file_row_number) = 1
        """
    )
    row = cursor.execute(
        f"select (select count(*) from {given}), (select count(*) from refused_rows)"
    ).fetchone()
    assert row is not None
    rows, refused = row
    sequence = f"replace (cast({next_seq} as bigint) as response_seq)" if table in _CHECKED else ""
    wins = {
        "models": "excluded.seen_at > models.seen_at",
        "runs": "false",
    }.get(table, f"{table}.error is not null and excluded.error is null")
    assignments = ", ".join(f"{name} = excluded.{name}" for name, *_ in described if name not in key)
    inserted = cursor.execute(
        f"""
        insert into {table} by name
        select * exclude (file_row_number) {sequence}
        from {given}
        semi join chosen_rows using (file_row_number)
        on conflict ({", ".join(key)}) do update set {assignments} where {wins}
        """
    ).fetchone()
    assert inserted is not None
    taken = int(inserted[0])
    cursor.execute("drop table faults")
    cursor.execute("drop table refused_rows")
    cursor.execute("drop table chosen_rows")
    return Imported(table, taken, rows - refused - taken, refused, reasons)


def _literal(path: Path) -> str:
    # DuckDB looks for a file of that very name before it takes * and ? for a pattern.
    return "'" + str(path.absolute()).replace("'", "''") + "'"


def _roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # an error may have ended the transaction already
        cursor.execute("rollback")
