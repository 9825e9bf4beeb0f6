"""The router: it names the months that a question needs and no others, and answers as the view does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.partitions import Partitions, partitioned_models

from .months import Row, uuid7, write_months

TICK = timedelta(microseconds=1)
MARCH, APRIL, MAY = (datetime(2025, month, 1) for month in (3, 4, 5))
TABLE = "notes_by_month__months.m2025_{:02}"

TIMES = [
    datetime(2024, 12, 31, 23, 59, 59, 999999),
    datetime(2025, 1, 1),
    MARCH - TICK,
    MARCH,
    MARCH + timedelta(days=14),
    APRIL - TICK,
    APRIL,
    MAY + timedelta(hours=1),
]
ROWS: list[Row] = [(uuid7(at, number), at, f"note {number}") for number, at in enumerate(TIMES)]
STRAY: Row = (uuid7(APRIL), datetime(2025, 1, 9), "told of in April, happened in January")
OTHER: Row = (UUID(int=4 << 76 | 2 << 62), MARCH, "a key that tells nothing")
COLD = ("2024-12", "2025-01")


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as opened:
        yield opened


@pytest.fixture
def partitions(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> Partitions:
    write_months(
        connection,
        tmp_path,
        [*ROWS, STRAY, OTHER],
        cold=COLD,
        without_text=["2024-12"],
        dropped=["2024-11"],
    )
    return Partitions(connection, "notes_by_month", tmp_path)


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Partitions]]:
    home = tmp_path_factory.mktemp("shared")
    with duckdb.connect(":memory:") as connection:
        write_months(connection, home, [*ROWS, STRAY, OTHER], cold=COLD)
        yield connection, Partitions(connection, "notes_by_month", home)


def rows_in(connection: duckdb.DuckDBPyConnection, relation: str) -> list[Any]:
    return connection.execute(f"select * from {relation} order by happened_at, id").fetchall()


def tables_in(relation: str) -> list[str]:
    return re.findall(r"m20\d\d_\d\d", relation)


def test_the_rows_are_counted_by_the_catalog_without_what_was_dropped(partitions: Partitions) -> None:
    assert partitions.row_count == len([*ROWS, STRAY, OTHER])


# --- ranges of time ------------------------------------------------------------------------------------


def test_a_whole_month_is_the_bare_name_of_its_table(partitions: Partitions) -> None:
    assert partitions.between(MARCH, APRIL) == TABLE.format(3)


def test_a_month_is_named_only_if_its_first_or_last_microsecond_is_in_the_range(
    partitions: Partitions, connection: duckdb.DuckDBPyConnection
) -> None:
    assert tables_in(partitions.between(MARCH, APRIL + TICK)) == ["m2025_03", "m2025_04"]
    assert tables_in(partitions.between(APRIL - TICK, MAY)) == ["m2025_03", "m2025_04"]
    assert tables_in(partitions.between(APRIL, MAY)) == ["m2025_04"]
    only_the_last = rows_in(connection, partitions.between(APRIL - TICK, APRIL))
    assert [row[1] for row in only_the_last] == [APRIL - TICK]
    assert [row[1] for row in rows_in(connection, partitions.between(MARCH, MARCH + TICK))] == [MARCH, MARCH]


def test_only_months_that_are_cut_have_a_condition(partitions: Partitions) -> None:
    relation = partitions.between(MARCH + TICK, MAY + TICK)
    assert relation.count(" where ") == 2
    assert f"select * from {TABLE.format(4)} union all" in relation


@given(
    bounds=st.tuples(
        *[st.none() | st.sampled_from(TIMES) | st.datetimes(TIMES[0], MAY + timedelta(days=60))] * 2
    ),
    columns=st.none() | st.permutations(["id", "happened_at", "text"]),
)
def test_any_range_has_the_rows_that_the_view_has_in_it(
    shared: tuple[duckdb.DuckDBPyConnection, Partitions],
    bounds: tuple[datetime | None, datetime | None],
    columns: list[str] | None,
) -> None:
    connection, partitions = shared
    expected = connection.execute(
        f"select {', '.join(columns or ['*'])} from notes_by_month "
        "where ($1 is null or happened_at >= $1) and ($2 is null or happened_at < $2) "
        "order by happened_at, id",
        list(bounds),
    ).fetchall()
    assert rows_in(connection, partitions.between(*bounds, columns=columns)) == expected


def test_bounds_with_a_zone_are_taken_in_utc(partitions: Partitions) -> None:
    lisbon = timezone(timedelta(hours=1))
    begin = datetime(2025, 3, 1, 1, tzinfo=lisbon)
    assert partitions.between(begin, APRIL.replace(tzinfo=UTC)) == TABLE.format(3)


@pytest.mark.parametrize(
    "bounds",
    [
        (MAY, MARCH),
        (MARCH, MARCH),
        (datetime(2025, 2, 1), datetime(2025, 2, 2)),  # its month is there, and has no such row
        (datetime(2024, 6, 1), datetime(2024, 7, 1)),  # no month
        (datetime(2024, 11, 1), datetime(2024, 12, 1)),  # dropped
        (None, datetime(1, 1, 1)),
        (datetime(9999, 12, 31), None),
    ],
)
def test_where_nothing_is_there_is_a_relation_without_rows(
    partitions: Partitions,
    connection: duckdb.DuckDBPyConnection,
    bounds: tuple[datetime | None, datetime | None],
) -> None:
    relation = partitions.between(*bounds)
    assert rows_in(connection, relation) == []
    described = connection.execute(f"describe select * from {relation}").fetchall()
    assert [row[:2] for row in described] == [
        ("id", "UUID"),
        ("happened_at", "TIMESTAMP"),
        ("text", "VARCHAR"),
    ]


def test_an_archived_month_has_null_in_a_column_that_it_lacks(
    partitions: Partitions, connection: duckdb.DuckDBPyConnection
) -> None:
    (december,) = rows_in(connection, partitions.between(None, datetime(2025, 1, 1)))
    assert december == (ROWS[0][0], ROWS[0][1], None)
    assert len(rows_in(connection, partitions.between(datetime(2025, 1, 1), datetime(2025, 2, 1)))) == 2


def test_a_missing_archive_is_told_when_it_is_needed_and_only_then(
    partitions: Partitions, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    for file in tmp_path.glob("archive/*/*"):
        file.unlink()
    assert len(rows_in(connection, partitions.between(MARCH, APRIL))) == 4
    with pytest.raises(SnapshotError, match=r"archive of 2025-01 of notes_by_month is missing .*raw/"):
        partitions.between(datetime(2025, 1, 1))
    with pytest.raises(SnapshotError, match="2024-12"):
        partitions.find(ROWS[0][0])


# --- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [*ROWS[1:], STRAY, OTHER], ids=lambda row: str(row[2]))
def test_a_row_is_found_by_its_key(partitions: Partitions, row: Row) -> None:
    expected = dict(zip(("id", "happened_at", "text"), row, strict=True))
    assert partitions.find(row[0]) == expected
    assert partitions.find(str(row[0]).upper()) == expected
    assert partitions.fetch([(row[0], row[1])]) == [expected]


def test_a_key_that_is_not_there_is_not_found(partitions: Partitions) -> None:
    assert partitions.find(uuid4()) is None
    assert partitions.find(uuid7(MARCH, 99)) is None
    assert partitions.find(uuid7(datetime(2024, 11, 5))) is None, "of a month that was dropped"
    assert partitions.find(UUID(int=2**128 - 1 & ~(0xF << 76) | 7 << 76)) is None, "told of in the year 10889"


def test_a_lookup_names_one_month_and_uses_its_index(
    partitions: Partitions, connection: duckdb.DuckDBPyConnection
) -> None:
    asked: list[str] = []

    class Listening:
        def execute(self, query: str) -> duckdb.DuckDBPyConnection:
            asked.append(query)
            return connection.execute(query)

    listening: Any = Listening()
    assert partitions.on(listening).find(ROWS[4][0]) is not None
    (lookup,) = asked
    assert tables_in(lookup) == ["m2025_03"]
    asked.clear()
    assert partitions.on(listening).find(OTHER[0]) is not None
    assert [tables_in(query) for query in asked] == [[], ["m2025_03"]]
    connection.execute(
        f"insert into {TABLE.format(3)} select uuid(), happened_at, text from {TABLE.format(3)}, range(5000)"
    )
    (plan,) = connection.execute(f"explain analyze {lookup}").fetchall()
    assert "Index Scan" in plan[1]


@pytest.mark.parametrize("key", ["", "not a key", "' or true --", None, 7, (1, 2)])
def test_what_is_no_uuid_is_refused(partitions: Partitions, key: object) -> None:
    with pytest.raises(UsageError, match="id must be a UUID"):
        partitions.find(key)
    with pytest.raises(UsageError, match="id must be a UUID"):
        partitions.fetch([(key, MARCH)])


@pytest.mark.parametrize("key", ["a", "it's", "'; drop table x; --", "", "ä☃", '"'])
def test_keys_of_another_type_are_values_and_never_sql(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, key: str
) -> None:
    rows: list[Row] = [(key, MARCH, "this"), (key + "x", APRIL, "another")]
    write_months(connection, tmp_path, rows, key_type="varchar")
    partitions = Partitions(connection, "notes_by_month", tmp_path)
    assert partitions.find(key) == {"id": key, "happened_at": MARCH, "text": "this"}
    assert partitions.fetch([(key, MARCH)]) == [partitions.find(key)]
    assert partitions.find(key + "y") is None
    for bad in ("\0", "\ud800"):
        with pytest.raises(UsageError):
            partitions.find(bad)


def test_a_key_of_two_columns_is_a_tuple(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    write_months(connection, tmp_path, ROWS)
    schema = "notes_by_month__months"
    connection.execute(
        f'update {schema}.settings set settings = replace(settings, \'["id"]\', \'["id", "text"]\')'
    )
    connection.execute(
        f"create or replace table {schema}.key_months as "
        "select id, text, cast(date_trunc('month', happened_at) as date) as month from notes_by_month"
    )
    partitions = Partitions(connection, "notes_by_month", tmp_path)
    found = partitions.find((ROWS[4][0], "note 4"))
    assert found is not None
    assert found["happened_at"] == ROWS[4][1]
    assert partitions.find((ROWS[4][0], "note 5")) is None
    assert partitions.fetch([((ROWS[4][0], "note 4"), ROWS[4][1])]) == [found]
    with pytest.raises(UsageError, match=r"found by 2 values \(id, text\)"):
        partitions.find(ROWS[4][0])


def test_rows_are_fetched_in_the_order_that_was_asked_for(partitions: Partitions) -> None:
    wanted = [ROWS[6], ROWS[1], (uuid4(), MARCH, ""), STRAY, ROWS[4], (uuid4(), datetime(1990, 1, 1), "")]
    found = partitions.fetch([(key, at) for key, at, _ in wanted])
    assert [row["text"] for row in found] == ["note 6", "note 1", STRAY[2], "note 4"]
    assert partitions.fetch([]) == []
    relation = partitions.rows_at([(ROWS[6][0], ROWS[6][1])], columns=["text"])
    assert tables_in(relation) == ["m2025_04"]


# --- what there is ---------------------------------------------------------------------------------------


def test_months_are_listed_with_what_they_hold(partitions: Partitions, tmp_path: Path) -> None:
    months = {month.label: month for month in partitions.months()}
    assert list(months) == [
        "2024-11",
        "2024-12",
        "2025-01",
        "2025-02",
        "2025-03",
        "2025-04",
        "2025-05",
        "2026-12",
    ]
    assert months["2024-11"].state == "dropped"
    january = months["2025-01"]
    assert (january.month, january.state, january.rows) == (date(2025, 1, 1), "cold", 2)
    assert january.first_at == datetime(2025, 1, 1, tzinfo=UTC)
    assert january.file is not None
    assert january.bytes == (tmp_path / january.file).stat().st_size
    assert (months["2026-12"].rows, months["2026-12"].first_at, months["2026-12"].clustered_share) == (
        0,
        None,
        1.0,
    )
    assert months["2025-03"].last_at == (APRIL - TICK).replace(tzinfo=UTC)
    assert january.as_dict()["month"] == "2025-01"


def test_bytes_of_a_table_are_those_of_its_blocks_and_a_tail_shows(tmp_path: Path) -> None:
    path = tmp_path / "it's.duckdb"
    with duckdb.connect(str(path)) as connection:
        write_months(connection, tmp_path, [(uuid7(MARCH, n), MARCH, f"{n}" * 99) for n in range(500)])
        connection.execute("update notes_by_month__months.catalog set tail_rows = 125 where row_count > 0")
    with duckdb.connect(":memory:") as reader:
        reader.execute(f"attach '{str(path).replace(chr(39), chr(39) * 2)}' as snapshot (read_only)")
        reader.execute("use snapshot")
        (march, empty) = Partitions(reader, "notes_by_month", tmp_path).months()
        assert march.bytes >= 262_144
        assert march.bytes <= path.stat().st_size
        assert march.clustered_share == 0.75
        assert empty.bytes == 0
        assert partitioned_models(reader, "snapshot") == ["notes_by_month"]


def test_an_archive_that_is_not_as_it_was_shows_in_the_list(partitions: Partitions, tmp_path: Path) -> None:
    december, january = sorted(tmp_path.glob("archive/*/*"))
    december.unlink()
    whole = january.read_bytes()
    january.write_bytes(whole + b"x")
    states = {month.label: month.state for month in partitions.months()}
    assert (states["2024-12"], states["2025-01"]) == ("cold, file missing", "cold, file changed")
    january.write_bytes(b"x" * len(whole))
    os.utime(january, (0, 0))  # DuckDB keeps what it has read of a file until its time is another
    states = {month.label: month.state for month in partitions.months()}
    assert states["2025-01"] == "cold, file cannot be read"


def test_an_unknown_model_or_column_is_told_with_what_there_is(
    partitions: Partitions, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no partitioned model 'x'\. There are: notes_by_month"):
        Partitions(connection, "x", tmp_path)
    with pytest.raises(UsageError, match=r"has no column 'nope'\. It has: id, happened_at, text"):
        partitions.between(columns=["id", "nope"])
    with duckdb.connect(":memory:") as nothing, pytest.raises(UsageError, match="There are: none yet"):
        Partitions(nothing, "x", tmp_path)
