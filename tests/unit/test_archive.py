"""Files of archived months: whole or not there, never written over, removed when nobody reads them."""

from __future__ import annotations

import hashlib
import shutil
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from mnemoduck.archive import begin_archive, find_archive_fault, seal_archive
from mnemoduck.errors import QueryError
from mnemoduck.home import Home, open_home
from mnemoduck.memory import Memory
from mnemoduck.pipeline.publish import fingerprint_build, publish
from mnemoduck.warehouse import Snapshot

from .conftest import write_snapshot
from .months import uuid7, write_months

MARCH = datetime(2025, 3, 1)


def archive(home: Home, content: bytes = b"rows") -> Path:
    temporary = begin_archive(home, "notes", "2025-03")
    temporary.write_bytes(content)
    return home.path / seal_archive(home, temporary).file


def archives(home: Home) -> list[str]:
    return sorted(path.name for path in home.archive.glob("*/*"))


def test_a_sealed_archive_is_named_by_its_content_and_private(home: Home) -> None:
    temporary = begin_archive(home, "notes", "2025-03")
    temporary.write_bytes(b"rows")
    temporary.chmod(0o644)
    sealed = seal_archive(home, temporary)
    digest = hashlib.sha256(b"rows").hexdigest()
    assert sealed.file == f"archive/notes/2025-03-{digest[:12]}.parquet"
    assert (sealed.sha256, sealed.bytes) == (digest, 4)
    assert (home.path / sealed.file).stat().st_mode & 0o777 == 0o600
    assert (home.archive / "notes").stat().st_mode & 0o777 == 0o700


def test_an_interrupted_archive_is_begun_again_with_nothing_in_its_way(home: Home) -> None:
    begin_archive(home, "notes", "2025-03").write_bytes(b"half")
    assert not begin_archive(home, "notes", "2025-03").exists()
    first, again, other = archive(home), archive(home), archive(home, b"other rows")
    assert first == again, "the same rows are the same file"
    assert other.read_bytes() == b"other rows"
    assert first.read_bytes() == b"rows", "a file that a snapshot may read is never written over"


def test_a_file_that_is_missing_changed_or_unreadable_is_told(home: Home) -> None:
    path = archive(home)
    sha256 = hashlib.sha256(b"rows").hexdigest()
    assert find_archive_fault(path, sha256) == ""
    path.write_bytes(b"r0ws")
    assert f"was changed since it was written: {path}" in find_archive_fault(path, sha256)
    path.unlink()
    assert find_archive_fault(path, sha256) == f"is missing: {path}"
    path.mkdir()
    assert find_archive_fault(path, sha256) == f"cannot be read: {path}: Is a directory"


# --- publishing ------------------------------------------------------------------------------------------


def build(home: Home, *, is_cold: bool) -> None:
    """Make the warehouse what a checkpointed build with the month in a table or in a file would leave."""
    home.warehouse.unlink(missing_ok=True)
    with duckdb.connect(str(home.warehouse)) as connection:
        connection.execute("create schema staging")
        connection.execute("create table staging.raw_batches as select 1::bigint as batch_seq")
        rows = [(uuid7(MARCH), MARCH, "a note")]
        write_months(connection, home.path, rows, cold=["2025-03"] if is_cold else [])


def test_an_archive_is_removed_when_no_kept_snapshot_reads_it_any_more(home: Home) -> None:
    build(home, is_cold=True)
    publish(home, "1" * 12, 1)
    archive(home, b"sealed before a crash, and named by nobody")
    (home.archive / "notes" / "2025-04.tmp").write_bytes(b"half")
    assert len(archives(home)) == 3
    publish(home, "1" * 12, 1)
    assert archives(home) == ["2025-03-0123456789ab.parquet"], "also when nothing was published"
    build(home, is_cold=False)
    publish(home, "2" * 12, 1)
    assert archives(home) == ["2025-03-0123456789ab.parquet"], "the snapshot before reads it"
    publish(home, "3" * 12, 1)
    assert archives(home) == []


def test_nothing_is_removed_while_it_is_not_known_what_a_snapshot_reads(home: Home) -> None:
    build(home, is_cold=True)
    publish(home, "1" * 12, 1)
    (kept,) = home.published.glob("*.duckdb")
    build(home, is_cold=False)
    kept.write_bytes(b"damaged" * 1000)
    publish(home, "2" * 12, 1)
    assert archives(home) == ["2025-03-0123456789ab.parquet"]
    publish(home, "3" * 12, 1)
    assert archives(home) == [], "the damaged one is gone by now"


def test_a_build_whose_views_name_files_is_another_where_the_home_is_another(tmp_path: Path) -> None:
    def fingerprint(home: str | None) -> str:
        return fingerprint_build(tmp_path, "{}", 1, Path(home) if home else None)

    assert len({fingerprint(None), fingerprint("/a"), fingerprint("/b")}) == 3
    assert fingerprint("/a") == fingerprint("/a")


# --- reading ---------------------------------------------------------------------------------------------


@pytest.fixture
def cold_home(home: Home) -> Home:
    path = write_snapshot(home, 1)
    with duckdb.connect(str(path)) as connection:
        rows = [(uuid7(MARCH), MARCH, "a note")]
        write_months(connection, home.path, rows, cold=["2025-03"])
    return home


def test_sql_reads_the_archived_months_of_the_snapshot_and_no_other_file(cold_home: Home) -> None:
    (named,) = cold_home.archive.glob("*/*")
    other = named.with_name("2025-04-0123456789ab.parquet")
    shutil.copy(named, other)
    before = {path: path.stat().st_mtime_ns for path in (named, other)}
    with Memory(cold_home.path) as memory:
        assert memory.sql("select text from notes_by_month")["text"].tolist() == ["a note"]
        for query in (
            f"select * from read_parquet('{other}')",
            f"select * from read_parquet('{named.parent}/*.parquet')",
            f"select * from read_parquet(['{named}', '{other}'])",
            f"select * from glob('{named.parent}/*')",
            f"select * from read_text('{cold_home.marker}')",
            f"select * from read_parquet('{named}/../{other.name}')",
            f"copy (select 1) to '{named}'",
            f"explain analyze copy (select 1) to '{named}'",
        ):
            with pytest.raises(QueryError):
                memory.sql(query)
    assert {path: path.stat().st_mtime_ns for path in (named, other)} == before
    assert len(archives(cold_home)) == 2


def test_a_missing_archive_and_a_moved_home_are_told_with_what_to_do(cold_home: Home, tmp_path: Path) -> None:
    cold_home.path.rename(tmp_path / "moved")
    moved = open_home(tmp_path / "moved")
    question = "select * from notes_by_month"
    with Memory(moved.path) as memory:
        with pytest.raises(QueryError, match=r"The home was moved to .*/moved.* `mnemoduck run`"):
            memory.sql(question)
        (file,) = moved.archive.glob("*/*")
        file.unlink()
        with pytest.raises(QueryError, match=r"archive of a month is missing: .*--full-refresh"):
            memory.sql(question)
        with pytest.raises(QueryError, match=r"Permission Error(?s:.*)archive of a month is missing"):
            memory.sql("select * from 'passwd.csv'")
        with pytest.raises(QueryError, match="calls read_text") as refusal:
            memory.sql("select * from read_text('/etc/passwd')")
        assert "root:" not in str(refusal.value)


def test_a_snapshot_reads_a_catalog_once_for_all_threads(cold_home: Home) -> None:
    (path,) = cold_home.published.glob("*.duckdb")
    snapshot = Snapshot(path, cold_home)
    partitions = snapshot.partitions("notes_by_month")
    assert partitions is not None
    assert snapshot.partitions("notes_by_month") is partitions
    assert partitions.on(snapshot.cursor()).find(uuid7(MARCH)) is not None
    assert snapshot.partitions("notes") is None
    assert snapshot.find_archive_fault() == ""
    (value,) = (
        snapshot.cursor().execute("select current_setting('late_materialization_max_rows')").fetchone() or ()
    )
    assert int(value) == 0
    snapshot.close()
