"""A generated stream of memories over 36 months, as Parquet with the columns of short_term_memories.

Everything follows from the row's number by hashing, so the same number of rows is the same stream on
every machine. Users are unequal (the 1 % busiest write about a sixth of all), texts are 12 words of a
vocabulary of 20,000, and the last half hour is busy (a working memory that is asked for is not empty).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

FIRST_MONTH = "2023-12-01"
LAST_MOMENT = datetime(2026, 11, 21, 12, 0)
MONTHS = 36
ONE_MONTH = (datetime(2025, 3, 1), datetime(2025, 4, 1))
"""The month that queries for one month ask for, in the middle of the 36."""

_ROWS_AT_ONCE = 1_000_000
_BUSY_ROWS = 60
"""Rows of the last half hour at least."""

_ROWS = """
    select
        cast(
            printf(
                '%08x-%04x-7%03x-8%s-%s',
                epoch_ms(occurred_at) >> 16, epoch_ms(occurred_at) & 65535, number % 4096,
                substr(digest, 1, 3), substr(digest, 4, 12)
            ) as uuid
        ) as memory_id,
        'user_' || user_number as user_id,
        'agent_' || (user_number % 5) as agent_id,
        'session_' || user_number || '_' || (number // 20) as session_id,
        cast(md5('user_' || user_number) as uuid) as scope_key,
        cast(md5('activity' || (number // 10)) as uuid) as activity_id,
        array_to_string(
            list_transform(range(12), lambda word: 'word' || (hash(number * 31 + word) % 20000)), ' '
        ) as content,
        cast(digest as uuid) as content_hash,
        'user' as role,
        ['episodic', 'episodic', 'episodic', 'semantic', 'procedural'][1 + (number * 7) % 5] as memory_type,
        ['a', 'b'] as tags,
        '{{}}' as metadata,
        'caller' as importance_method,
        (hash(number + 7) % 1000) / 1000.0::double as importance,
        cast(null as double) as urgency,
        cast(null as double) as emotional_salience,
        cast(number % 10 as integer) as activity_position,
        occurred_at,
        occurred_at as recorded_at,
        occurred_at as activity_started_at,
        occurred_at as activity_ended_at,
        cast(null as timestamp) as forgotten_at,
        1::bigint as batch_seq,
        1::bigint as changed_batch_seq,
        cast(md5('row' || number) as uuid) as row_hash,
        cast(md5('run') as uuid) as run_id
    from (
        select
            number,
            md5(cast(number as varchar)) as digest,
            cast(pow(hash(number) / 18446744073709551615.0, 2.5) * {users} as integer) as user_number,
            case
                when number >= {rows}
                    then timestamp '{last}' - to_microseconds(cast(hash(number) % 86400000000 as bigint))
                when number >= {rows} - {busy}
                    then timestamp '{last}' - to_seconds(({rows} - number) * 1700.0 / {busy})
                else timestamp '{first}' + to_microseconds(cast(
                    number * (date_diff('second', timestamp '{first}', timestamp '{last}') * 1e6 / {rows})
                    as bigint
                ))
            end as occurred_at
        from range({low}, {high}) as numbers (number)
    )
"""


@dataclass(frozen=True)
class Stream:
    """Parquet files: all rows, 1 % of them changed, and 1 % more that are new on the last day."""

    rows: int
    all_rows: str
    changed_rows: str
    new_rows: str
    user_id: str
    """A user of middling activity."""


def generate(rows: int, folder: Path) -> Stream:
    """Write the stream of `rows` rows to a folder and return where it is; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    users = max(20, rows // 1000)
    for low in range(0, rows, _ROWS_AT_ONCE):
        path = folder / f"all_{low // _ROWS_AT_ONCE:04}.parquet"
        if not path.exists():
            _write(connection, _select(rows, users, low, min(rows, low + _ROWS_AT_ONCE)), path)
    everything = f"{folder}/all_*.parquet"
    changed, new = folder / "changed.parquet", folder / "new.parquet"
    if not changed.exists():
        # As a later order to forget would: columns that can change, and with them the hash.
        _write(
            connection,
            f"select * replace (timestamp '{LAST_MOMENT}' as forgotten_at, 2::bigint as changed_batch_seq, "
            f"cast(md5('changed' || memory_id) as uuid) as row_hash) from '{everything}' "
            "where hash(memory_id) % 100 = 0",
            changed,
        )
    if not new.exists():
        _write(connection, _select(rows, users, rows, rows + rows // 100), new)
    return Stream(rows, everything, str(changed), str(new), f"user_{users // 5}")


def _select(rows: int, users: int, low: int, high: int) -> str:
    busy = max(_BUSY_ROWS, rows // 36 // 30 // 48)
    return _ROWS.format(
        rows=rows, users=users, low=low, high=high, busy=busy, first=FIRST_MONTH, last=LAST_MOMENT
    )


def _write(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    connection.execute(f"copy ({query}) to '{temporary}' (format parquet, compression zstd)")
    temporary.rename(path)
