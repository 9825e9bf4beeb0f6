"""llm_cache.duckdb: what models have answered, kept apart from the warehouse because answers are money.

The pipeline attaches it to the warehouse's connection as `llm_cache`, so that models join it; the
commands of `mnemoduck cache` open it alone. DuckDB lets one process have it at a time, so both hold the
home's run lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias
from uuid import UUID

import duckdb
import pyarrow as pa

from mnemoduck.errors import StorageError
from mnemoduck.home import FILE_MODE, Home
from mnemoduck.llm.cache_audit import Verification, verify
from mnemoduck.llm.cache_eviction import Evicted, evict
from mnemoduck.llm.cache_migrations import MIGRATIONS, migrate
from mnemoduck.llm.cache_statistics import CacheStatistics, read_statistics
from mnemoduck.llm.cache_transfer import Exported, Imported, export, import_
from mnemoduck.llm.records import Embedding, Response, utc_now

__all__ = [
    "ALIAS",
    "MIGRATIONS",
    "PRIVATE_UMASK",
    "Embedding",
    "Kind",
    "LlmCache",
    "Response",
    "RunRecord",
    "attach_cache",
    "open_cache",
    "to_uuids",
    "wal_of",
]

ALIAS = "llm_cache"
"""Name of the cache among the databases of the pipeline's connection."""

PRIVATE_UMASK = 0o077
"""What a process that has the cache open is to set, so that files that DuckDB makes beside it are private."""

_KEYS_TO_LOOK_UP = 256
"""Up to so many keys are looked up in the index: of more, a join that reads all keys is as fast."""

Uses: TypeAlias = "duckdb.DuckDBPyRelation | pa.Table | Iterable[tuple[UUID, int]]"
"""Keys and how many prompts each has answered: a relation with columns `key` and `uses`, or pairs."""


Kind = Literal["prompts", "vectors"]
"""What a model was asked for. One model may be asked for both in a run."""


@dataclass(frozen=True)
class RunRecord:
    """A row of `runs`: what one run asked of one model, and what the cache spared it.

    Attributes:
        prompts: memories times templates; of them `distinct_prompts` differ. `hits` needed no call.
        pending: left over for the next run.
        calls: prompts asked; with repeats after faults they took `attempts`.
        tokens_saved, seconds_saved: what the hits had cost when they were asked.
        stopped_by: what ended the calls early; None if nothing did.
    """

    run_id: UUID
    model: str
    kind: Kind
    mode: str
    started_at: datetime
    ended_at: datetime
    prompts: int
    distinct_prompts: int
    hits: int
    misses: int
    failures: int
    pending: int
    calls: int
    attempts: int
    prompt_tokens: int
    answer_tokens: int
    tokens_saved: int
    seconds_spent: float
    seconds_saved: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    stopped_by: str | None


class LlmCache:
    """The cache, on a connection that has its file open. For one thread at a time.

    It works through a cursor of its own: its transactions are its own too, and what it commits is seen by
    transactions of the connection that read the cache for the first time afterwards.

    Args:
        alias: what the cache is attached as; None if it is the connection's own database.
        clock: gives the present moment; without a time zone it is UTC.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        alias: str | None = ALIAS,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._cursor = connection.cursor()
        if alias is not None:
            self._cursor.execute(f'use "{alias}"')
        self._clock = clock
        self._schemas: dict[str, pa.Schema] = {}

    def close(self) -> None:
        """Give the cursor back; the connection stays open."""
        self._cursor.close()

    def __enter__(self) -> LlmCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def store_responses(self, responses: Iterable[Response]) -> int:
        """Keep responses, all of them or on an error none. Return how many were new.

        One that is there already stays, unless it is a failure: then the new one replaces it.

        Raises:
            StorageError: they could not be written.
        """
        return self._store("responses", responses)

    def store_embeddings(self, embeddings: Iterable[Embedding]) -> int:
        """Keep embeddings, in the same way as responses."""
        return self._store("embeddings", embeddings)

    def newest_seq(self) -> int:
        """Return the largest `response_seq`; 0 in an empty cache."""
        with self._failures_told():
            row = self._cursor.execute(
                "select greatest((select max(response_seq) from responses), "
                "(select max(response_seq) from embeddings), 0)"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def next_seq(self) -> int:
        """Return the `response_seq` of what is stored next; all of one transaction has the same.

        It is a number of microseconds since 1970, so that it is larger than all of a cache that was
        deleted, or the next number if the clock went back.
        """
        elapsed = _naive(self._clock()) - datetime(1970, 1, 1)
        return max(elapsed // timedelta(microseconds=1), self.newest_seq() + 1)

    def last_digest(self, model: str) -> str | None:
        """Return the digest that the model had when a server was last seen to have it."""
        with self._failures_told():
            row = self._cursor.execute("select model_digest from models where model = ?", [model]).fetchone()
        return row[0] if row else None

    def note_model(self, model: str, digest: str | None, seen_at: datetime) -> None:
        """Keep the digest of a model's weights, for runs without the server."""
        with self._transaction():
            self._cursor.execute(
                "insert into models values (?, ?, ?) on conflict (model) do update set "
                "model_digest = excluded.model_digest, seen_at = excluded.seen_at "
                "where excluded.seen_at >= models.seen_at",
                [model, digest, _naive(seen_at)],
            )

    def record_uses(self, uses: Uses, at: datetime) -> None:
        """Add to the use counts of keys, which were last used at a moment. Unknown keys are passed over."""
        if isinstance(uses, duckdb.DuckDBPyRelation):
            uses = uses.to_arrow_table()
        if not isinstance(uses, pa.Table):
            pairs = list(uses)
            uses = pa.table({"key": to_uuids(key for key, _ in pairs), "uses": [count for _, count in pairs]})
        with self._registered(uses), self._transaction():
            for table in ("responses", "embeddings"):
                self._cursor.execute(
                    f"""
                    update {table} set
                        use_count = use_count + used.uses,
                        last_used_at = greatest(last_used_at, $at)
                    from (select cast(key as uuid) as key, sum(uses) as uses from given group by all) as used
                    where {table}.key = used.key
                    """,
                    {"at": _naive(at)},
                )

    def note_failures(self, keys: Iterable[UUID], at: datetime) -> None:
        """Add one to the failures of each key: a call for it got no answer, so it is still to be asked.

        An answer that cannot be used is none of these: that is stored with its error.
        """
        given = sorted(set(keys))
        if not given:
            return
        with self._registered(pa.table({"key": to_uuids(given)})), self._transaction():
            self._cursor.execute(
                "insert into failures select key, 1, $at from given on conflict (key) do update set "
                "failures = failures.failures + 1, "
                "last_failed_at = greatest(failures.last_failed_at, excluded.last_failed_at)",
                {"at": _naive(at)},
            )

    def clear_failures(self, keys: Iterable[UUID]) -> None:
        """Forget how often calls for these keys failed. What is stored for a key does so too."""
        with self._transaction():
            self._clear_failures(set(keys))

    def record_run(self, run: RunRecord) -> None:
        """Keep what a run asked of a model; recorded again, the later record counts."""
        self.record_runs([run])

    def record_runs(self, runs: Iterable[RunRecord]) -> None:
        """Keep what a run asked of its models, in one transaction."""
        rows = [tuple(map(_naive_if_time, astuple(run))) for run in runs]
        marks = ", ".join("?" * len(fields(RunRecord)))
        with self._transaction():
            for row in rows:
                self._cursor.execute(f"insert or replace into runs values ({marks})", row)

    def stats(self) -> CacheStatistics:
        """Return what is in the cache and what it was good for."""
        with self._failures_told():
            return read_statistics(self._cursor)

    def verify(self) -> Verification:
        """Derive every hash and key again, and check what was kept under it."""
        with self._failures_told():
            return verify(self._cursor)

    def evict(
        self,
        max_age: timedelta | None = None,
        max_bytes: int | None = None,
        template: str | None = None,
        below_version: int | None = None,
        *,
        failures: bool = False,
        dry_run: bool = False,
    ) -> Evicted:
        """Remove what was not used for `max_age`, then what was used least lately beyond `max_bytes`.

        With a template it is about its entries only, with `failures` about prompts without a valid answer
        and texts without a vector only; without an age or a size about all of them.

        Raises:
            UsageError: there is nothing to go by.
            StorageError: the file cannot be read or written; nothing was removed.
        """
        unused_since = None
        if max_age is not None:
            try:
                unused_since = _naive(self._clock() - max_age)
            except OverflowError:
                unused_since = datetime.min
        with self._failures_told():
            return evict(
                self._cursor,
                unused_since=unused_since,
                max_bytes=max_bytes,
                template=template,
                below_version=below_version,
                failures=failures,
                dry_run=dry_run,
            )

    def export(self, folder: Path) -> Exported:
        """Write all tables to Parquet files in a folder. See `mnemoduck.llm.cache_transfer.export`."""
        with self._failures_told():
            return export(self._cursor, folder)

    def import_(self, source: Path) -> list[Imported]:
        """Take over what an export has. See `mnemoduck.llm.cache_transfer.import_`."""
        with self._failures_told():
            return import_(self._cursor, source, self.next_seq())

    def _store(self, table: str, rows: Iterable[Response] | Iterable[Embedding]) -> int:
        chosen: dict[UUID, Any] = {}
        for row in rows:
            if row.key not in chosen or chosen[row.key].error is not None:
                chosen[row.key] = row
        if not chosen:
            return 0
        with self._transaction():
            there = self._find(table, chosen)
            failures = [key for key, is_failure in there.items() if is_failure]
            if failures:
                with self._registered(pa.table({"key": to_uuids(failures)})):
                    self._cursor.execute(f"delete from {table} where key in (select key from given)")
            new = [row for row in chosen.values() if there.get(row.key, True)]
            if new:
                with self._registered(self._to_arrow(table, new)):
                    self._cursor.execute(
                        f"insert into {table} by name "
                        "select * replace (cast($seq as bigint) as response_seq) from given",
                        {"seq": self.next_seq()},
                    )
            self._clear_failures(chosen)
        return len(new)

    def _clear_failures(self, keys: Collection[UUID]) -> None:
        if keys and self._cursor.execute("select 1 from failures limit 1").fetchone():
            with self._registered(pa.table({"key": to_uuids(keys)})):
                self._cursor.execute("delete from failures where key in (select key from given)")

    def _find(self, table: str, keys: Collection[UUID]) -> dict[UUID, bool]:
        """Return which of the keys a table has, and whether what it has is a failure.

        DuckDB looks few keys up in the index if they stand in the statement; in a join, as in `on conflict`,
        it reads those of all rows.
        """
        select = f"select key, error is not null from {table}"
        if len(keys) <= _KEYS_TO_LOOK_UP:
            literals = ", ".join(f"'{key}'" for key in keys)
            return dict(self._cursor.execute(f"{select} where key in ({literals})").fetchall())
        with self._registered(pa.table({"key": to_uuids(keys)})):
            return dict(self._cursor.execute(f"{select} semi join given using (key)").fetchall())

    def _to_arrow(self, table: str, rows: Sequence[Any]) -> pa.Table:
        schema = self._schema(table)
        columns = []
        for field in schema:
            values = [getattr(row, field.name) for row in rows]
            if field.name == "last_used_at":
                values = [row.last_used_at or row.created_at for row in rows]
            columns.append(_to_column(values, field.type))
        return pa.table(columns, schema=schema)

    def _schema(self, table: str) -> pa.Schema:
        """Columns of a table as Arrow has them, read from the database once."""
        if table not in self._schemas:
            described = self._cursor.execute(f"describe {table}").fetchall()
            self._schemas[table] = pa.schema([(name, _ARROW_TYPES[kind]) for name, kind, *_ in described])
        return self._schemas[table]

    @contextmanager
    def _registered(self, given: pa.Table) -> Iterator[None]:
        """Have an Arrow table under the name `given`."""
        self._cursor.register("given", given)
        try:
            yield
        finally:
            self._cursor.unregister("given")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._failures_told():
            self._cursor.execute("begin")
            try:
                yield
                self._cursor.execute("commit")
            except BaseException:
                _roll_back(self._cursor)
                raise

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise StorageError(
                f"The cache of answers failed: {_first_line(error)}. If the disk is full, make room and run "
                "again. If the file is damaged, move llm_cache.duckdb and its .wal away: a new one is begun, "
                "and `mnemoduck cache import` takes an earlier export."
            ) from error


def attach_cache(connection: duckdb.DuckDBPyConnection, path: Path, *, alias: str = ALIAS) -> None:
    """Attach the cache at `path` to a connection, made first if it is missing, its tables up to date.

    The file is private from then on. DuckDB makes its .wal anew after each checkpoint, with the mode that
    the process gives to files: set PRIVATE_UMASK for as long as the cache is attached.

    Raises:
        StorageError: the file is damaged, something else, of a later mnemoduck, or open in another
            process; the connection is as it was.
    """
    quoted = str(path).replace("'", "''")
    try:
        connection.execute(f"attach '{quoted}' as \"{alias}\" (type duckdb)")
    except duckdb.Error as error:
        raise StorageError(_describe_fault(path, error)) from error
    try:
        os.chmod(path, FILE_MODE)
        with connection.cursor() as cursor:
            cursor.execute(f'use "{alias}"')
            migrate(cursor, str(path), utc_now())
        wal = wal_of(path)
        if wal.exists():
            os.chmod(wal, FILE_MODE)
    except (duckdb.Error, OSError, StorageError) as error:
        connection.execute(f'detach "{alias}"')
        if isinstance(error, StorageError):
            raise
        raise StorageError(_describe_fault(path, error)) from error


@contextmanager
def open_cache(home: Home) -> Iterator[LlmCache]:
    """Give the cache of a home. It takes no lock: callers hold the home's run lock.

    Meanwhile all files that the process makes are private, since DuckDB makes some beside the cache.

    Raises:
        StorageError: the file cannot be opened, see `attach_cache`.
    """
    umask = os.umask(PRIVATE_UMASK)
    try:
        connection = duckdb.connect(":memory:", config={"temp_directory": str(home.path / "tmp")})
        try:
            attach_cache(connection, home.llm_cache)
            with LlmCache(connection) as cache:
                yield cache
        finally:
            connection.close()
    finally:
        os.umask(umask)


def wal_of(path: Path) -> Path:
    """Return the file beside a database in which DuckDB keeps what is not in it yet."""
    return path.with_name(path.name + ".wal")


def _describe_fault(path: Path, error: Exception) -> str:
    reason = _first_line(error)
    if "Could not set lock" in reason:
        return f"The cache of answers {path} is open in another process ({reason}). Wait for it to end."
    return (
        f"The cache of answers {path} cannot be opened ({reason}). Put it back from a backup, or move it and "
        f"{path.name}.wal away and run again: models are then asked anew, but for what `mnemoduck cache "
        "import` takes from an earlier export."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # a commit that failed has ended the transaction already
        cursor.execute("rollback")


_UUIDS = pa.binary(16)
_ARROW_TYPES: dict[str, pa.DataType] = {
    "UUID": pa.uuid(),
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "FLOAT[]": pa.list_(pa.float32()),
    "TIMESTAMP": pa.timestamp("us"),
}


def to_uuids(keys: Iterable[UUID]) -> pa.Array:
    """Return a column of UUIDs."""
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array([key.bytes for key in keys], _UUIDS))


def _to_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.uuid():
        return to_uuids(values)
    if kind == pa.timestamp("us"):
        return pa.array([_naive(value) for value in values], kind)
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        # What a model said may hold half of a pair of surrogates, which no file can.
        return pa.array([value and value.encode("utf-8", "replace").decode() for value in values], kind)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _naive_if_time(value: Any) -> Any:
    return _naive(value) if isinstance(value, datetime) else value
