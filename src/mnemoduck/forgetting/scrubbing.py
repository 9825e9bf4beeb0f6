"""Everything in a home that is neither raw/ nor made from it: what may quote a memory is removed or
rewritten.

- What can be made again goes whole: the report, dbt's log and artifacts, logs of expectations, pages and
  results of Great Expectations, what was spilled, what was damaged and moved away, temporary files.
- Records stay, without the passages that they quote: the history of runs, samples, results of expectations,
  the journal of tuning, logs of the schedule and of Airflow, quarantine.
- Of the cache of answers go the prompts about what was purged with their answers, and the vectors of it;
  what is left is copied to a new file, because DuckDB leaves what was deleted in free blocks.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from mnemoduck.errors import StorageError
from mnemoduck.forgetting.material import PURGED, Material, find_in_column, redact
from mnemoduck.forgetting.passages import Needles
from mnemoduck.home import FILE_MODE, Home, create_file, sync_file, sync_folder
from mnemoduck.llm.cache import ALIAS, attach_cache, open_cache, wal_of

SPILLED_AGE = timedelta(hours=1)
"""What was spilled and not written to for so long belongs to no question that is still asked."""

RECORDS = (
    "runs/*.jsonl",
    "logs/queries/*.jsonl",
    "logs/airflow.jsonl",
    "logs/schedule.log*",
    "expectations/*.jsonl",
    "tune.jsonl",
)

MADE_AGAIN = (
    "report.html",
    "data_docs",
    "expectations/validations",
    "target",
    "warehouse.duckdb.tmp",
    "llm_cache.duckdb.tmp",
    "upgrade",
    "raw/.staging",
)

LOGS = ("logs/dbt.log*", "logs/expectations-*.log", "logs/*.tmp")

_TEXTS = (
    "instructions",
    "input",
    "response",
    "answer",
    "error",
    "response_schema",
    "options",
    "model",
    "template",
)


def remove_made_again(home: Home) -> list[str]:
    """Remove what can be made again and may quote anything; return what there was, relative to the home."""
    gone = []
    for name in MADE_AGAIN:
        path = home.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            gone.append(name)
        elif path.exists():
            path.unlink()
            gone.append(name)
    for pattern in LOGS:
        for path in sorted(home.path.glob(pattern)):
            path.unlink(missing_ok=True)
            gone.append(str(path.relative_to(home.path)))
    for path in _leftovers(home):
        path.unlink(missing_ok=True)
        gone.append(str(path.relative_to(home.path)))
    return gone


def _leftovers(home: Home) -> Iterator[Path]:
    """Yield temporary and damaged files, and what readers have spilled that are no longer there.

    The caller holds the run lock, so none of a run is in use; `write_atomically` of others takes no second.
    """
    old = (datetime.now(UTC) - SPILLED_AGE).timestamp()
    for path in sorted(home.path.rglob("*")):
        if not path.is_file() or path.is_symlink() or home.purge in path.parents:
            continue
        is_leftover = path.suffix in {".tmp", ".damaged"} and path.stat().st_mtime < old
        is_unpublished = path.suffix == ".tmp" and path.parent == home.published
        is_spilled = home.path / "tmp" in path.parents and path.stat().st_mtime < old
        if path.suffix == ".damaged" or is_leftover or is_unpublished or is_spilled:
            yield path


def scrub_records(home: Home, needles: Needles) -> list[str]:
    """Take what is quoted out of records; return which files were changed, relative to the home."""
    redacted = redact(needles)

    def scrub(line: bytes) -> bytes:
        try:
            value = json.loads(line)
        except ValueError:
            text = line.decode("utf-8", "surrogateescape")
            return (
                redacted(text).encode("utf-8", "surrogateescape")
                if needles.find(line, with_words=False)
                else line
            )
        cleaned = _clean(value, redacted)
        return (
            line
            if cleaned == value
            else json.dumps(cleaned, ensure_ascii=False, separators=(",", ":")).encode()
        )

    paths = [path for pattern in RECORDS for path in sorted(home.path.glob(pattern))]
    return [str(path.relative_to(home.path)) for path in paths if _rewrite_lines(path, scrub)]


def scrub_quarantine(home: Home, material: Material, users: list[str]) -> list[str]:
    """Take out of quarantine what quotes a purged memory, or names a user all of whose memories were purged.

    Source, line and reason stay; what stood there is replaced.
    """
    named = [
        json.dumps(user, ensure_ascii=ascii_only).encode() for user in users for ascii_only in (True, False)
    ]

    def is_of_it(raw: bytes) -> bool:
        return bool(material.needles.find(raw)) or any(name in raw for name in named)

    def scrub(line: bytes) -> bytes:
        try:
            record = json.loads(line)
            raw = (
                base64.b64decode(record["base64"])
                if "base64" in record
                else str(record.get("text", "")).encode()
            )
            reason = str(record.get("reason", "")).encode()
        except (ValueError, TypeError, KeyError, AttributeError):
            return b"" if is_of_it(line) else line
        if not is_of_it(raw) and not is_of_it(reason):
            return line
        kept = {name: value for name, value in record.items() if name not in ("text", "base64")}
        kept["reason"] = redact(material.needles)(str(record.get("reason", "")))
        return json.dumps({**kept, "text": PURGED}, ensure_ascii=True).encode("ascii")

    paths = sorted(home.quarantine.glob("*.jsonl"))
    return [str(path.relative_to(home.path)) for path in paths if _rewrite_lines(path, scrub)]


def cached_lengths(home: Home) -> set[int]:
    """Return how many characters of a memory models were shown, by what the cache of answers holds."""
    if not home.llm_cache.exists():
        return set()
    with open_cache(home):
        pass  # its tables are up to date now
    with _Cache(home) as connection:
        rows = connection.execute(
            f"select distinct input_characters from {ALIAS}.responses "
            f"union select distinct input_characters from {ALIAS}.embeddings"
        ).fetchall()
    return {int(row[0]) for row in rows}


def scrub_cache(home: Home, material: Material) -> tuple[int, int]:
    """Remove answers and vectors of what was purged; return how many of each. The file is written anew.

    Words that are also in what stays (a model has said them of something else) are not looked for any more.
    """
    if not home.llm_cache.exists():
        return 0, 0
    with _Cache(home) as connection:
        gone = _quoting_answers(connection, material.needles)
        connection.register(
            "hashes", pa.table({"hash": pa.array(sorted(material.input_hashes), pa.string())})
        )
        connection.register("gone", pa.table({"key": pa.array(gone, pa.string())}))
        of_hash = "input_hash in (select cast(hash as uuid) from hashes)"
        answers = _count(
            connection,
            f"delete from {ALIAS}.responses where {of_hash} or key in (select cast(key as uuid) from gone)",
        )
        vectors = _count(connection, f"delete from {ALIAS}.embeddings where {of_hash}")
        connection.execute(f"delete from {ALIAS}.failures")  # keys of prompts that are asked again soon
        for batch in _answers(connection):
            for name in batch.schema.names:
                if name != "key":
                    matches = [
                        m for _, m in find_in_column(material.needles, batch.column(name)) if m.kind == "word"
                    ]
                    material.needles.leave_out(matches)
        _write_anew(connection, home)
    return answers, vectors


def _quoting_answers(connection: duckdb.DuckDBPyConnection, needles: Needles) -> list[str]:
    """Return the keys of answers whose prompt, answer or error quotes what was purged."""
    gone: set[str] = set()
    for batch in _answers(connection):
        keys = batch.column("key").to_pylist()
        for name in ("input", "response", "answer", "error"):
            gone |= {
                keys[row]
                for row, match in find_in_column(needles, batch.column(name))
                if match.kind != "word"
            }
    return sorted(gone)


def _answers(connection: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    names = ", ".join(_TEXTS)
    reader = connection.execute(
        f"select key::varchar as key, {names} from {ALIAS}.responses"
    ).to_arrow_reader(20_000)
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _count(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0


class _Cache:
    """The cache of a home, attached to a DuckDB in memory; its files are private."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        self._umask = os.umask(0o077)
        try:
            self._connection = duckdb.connect(
                ":memory:", config={"temp_directory": str(self._home.path / "tmp")}
            )
            attach_cache(self._connection, self._home.llm_cache)
        except BaseException:
            os.umask(self._umask)
            raise
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        os.umask(self._umask)


def _write_anew(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    """Copy what is left of the cache to a file that has never held anything else, and let it take its
    place."""
    path = home.llm_cache
    fresh = path.with_name(f"{path.name}.purged.tmp")
    fresh.unlink(missing_ok=True)
    wal_of(fresh).unlink(missing_ok=True)
    quoted = str(fresh).replace("'", "''")
    try:
        connection.execute(f"attach '{quoted}' as fresh (type duckdb)")
        connection.execute(f'copy from database "{ALIAS}" to fresh')
        connection.execute("force checkpoint fresh")
        connection.execute("detach fresh")
        connection.execute(f"force checkpoint {ALIAS}")
        connection.execute(f'detach "{ALIAS}"')
    except duckdb.Error as error:
        raise StorageError(
            f"The cache of answers could not be written anew: {str(error).splitlines()[0]}. Make room on "
            "the disk and purge again."
        ) from error
    sync_file(fresh)
    os.replace(fresh, path)
    wal_of(path).unlink(missing_ok=True)
    wal_of(fresh).unlink(missing_ok=True)
    sync_folder(path.parent)


def _rewrite_lines(path: Path, scrub: Callable[[bytes], bytes]) -> bool:
    """Replace the lines of a file, atomically, if any becomes another; return whether."""
    lines = path.read_bytes().split(b"\n")
    cleaned = [scrub(line) if line else line for line in lines]
    if cleaned == lines:
        return False
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with create_file(temporary) as file:
        file.write(b"\n".join(cleaned))
        file.flush()
        os.fsync(file.fileno())
    os.chmod(temporary, FILE_MODE)
    os.replace(temporary, path)
    sync_folder(path.parent)
    return True


def _clean(value: Any, redacted: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [_clean(one, redacted) for one in value]
    if isinstance(value, dict):
        return {key: _clean(one, redacted) for key, one in value.items()}
    return value
