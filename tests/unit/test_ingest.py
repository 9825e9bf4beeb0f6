"""Ingest: every record is counted once, nothing is added twice, and bad input is told in a sentence."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.test_episode_importer import an_episode
from tests.unit.test_importers import (
    Warehouse,
    locomo_sample,
    longmemeval_question,
    write_csv,
    write_json,
    write_jsonl,
    write_parquet,
)

from mnemoduck.errors import MnemoduckError, StorageError, UnknownFormatError, UsageError
from mnemoduck.events import new_event
from mnemoduck.importers import FORMATS, IngestSummary, NothingIngestedError, Progress, ingest
from mnemoduck.importers.tally import Tally
from mnemoduck.inbox import InboxWriter
from mnemoduck.scope import Scope


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "home")


@pytest.fixture
def permissions_count(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    probe.touch(mode=0)
    if os.access(probe, os.R_OK):
        pytest.skip("this user (root?) may read everything")
    probe.unlink()


def write_one_of_each(folder: Path) -> list[Path]:
    folder.mkdir()
    records = [{"content": "ok"}, {"content": "ok"}, {"content": "dated", "occurred_at": "2026-03-15"}]
    (folder / "notes").mkdir()
    (folder / "notes" / "a.md").write_text("# Trip\nto Lisbon")
    (folder / "events.jsonl").write_bytes(new_event("memory", {"content": "an event"}).to_line())
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(b'{"content": "packed"}\n'))
    return [
        folder / "notes",
        folder / "events.jsonl",
        folder / "packed.jsonl.gz",
        write_jsonl(folder / "a.jsonl", *records),
        write_json(folder / "b.json", [{"content": "in a list"}]),
        write_csv(folder / "c.csv", ["content"], ["in a row"], ["in a row"]),
        write_parquet(folder / "d.parquet", {"content": ["in a column"]}),
        write_json(folder / "e.json", [locomo_sample()]),
        write_json(folder / "f.json", [longmemeval_question()]),
        write_jsonl(folder / "g.jsonl", an_episode()),
    ]


class TestOnce:
    def test_the_same_files_again_add_nothing_also_copied_and_renamed(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        paths = write_one_of_each(tmp_path / "files")
        first = warehouse.ingest(*paths)
        assert {file.format for file in first.files} == set(FORMATS)
        assert (first.accepted, first.duplicated, first.quarantined) == (24, 0, 0)
        events = warehouse.events()

        (tmp_path / "files").rename(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "a.jsonl").rename(tmp_path / "elsewhere" / "renamed.jsonl")
        again = warehouse.ingest(
            *(path for path in sorted((tmp_path / "elsewhere").iterdir()) if path.name != "home")
        )
        assert (again.accepted, again.duplicated, again.quarantined) == (0, 24, 0)
        assert warehouse.events() == events

    def test_a_file_given_twice_is_taken_once(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "m.jsonl", {"content": "ok"})
        summary = warehouse.ingest(path, path)
        assert [(file.accepted, file.duplicated) for file in summary.files] == [(1, 0), (0, 1)]

    def test_a_file_that_grew_adds_only_what_is_new(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "m.jsonl", {"content": "ok"})
        warehouse.ingest(path)
        summary = warehouse.ingest(write_jsonl(path, {"content": "ok"}, {"content": "ok"}))
        assert (summary.accepted, summary.duplicated) == (1, 1)

    def test_the_same_file_for_two_users_is_two_sets_of_memories(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        path = write_jsonl(tmp_path / "m.jsonl", {"content": "ok"}, {"content": "ok", "user_id": "ada"})
        warehouse.ingest(path, defaults=Scope(user_id="maya", agent_id="otter"))
        summary = warehouse.ingest(path, defaults=Scope(user_id="jonas", agent_id="otter"))
        assert (summary.accepted, summary.duplicated) == (1, 1)
        assert [event.user_id for event in warehouse.events()] == ["maya", "ada", "jonas"]

    def test_known_ids_are_asked_for_in_batches(
        self, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mnemoduck.importers.intake.EVENTS_PER_QUESTION", 10)
        monkeypatch.setattr("mnemoduck.importers.intake.LINES_PER_WRITE", 4)
        asked: list[int] = []

        def know_none(event_ids: Sequence[UUID]) -> set[UUID]:
            asked.append(len(event_ids))
            return set()

        path = write_jsonl(tmp_path / "m.jsonl", *({"content": f"memory {n}"} for n in range(25)))
        ingest(warehouse.home, [path], known_event_ids=know_none)
        assert asked == [10, 10, 5]
        assert warehouse.contents() == [f"memory {n}" for n in range(25)]


class TestSummary:
    def test_it_says_what_became_of_every_record(self, warehouse: Warehouse, tmp_path: Path) -> None:
        good = {"content": "good", "occurred_at": "2026-03-15"}
        path = write_jsonl(tmp_path / "m.jsonl", good, good, {"content": ""}, {}, {})
        summary = warehouse.ingest(path)
        (file,) = summary.files
        assert (file.path, file.format, file.problem) == (path, "jsonl", None)
        assert (file.accepted, file.duplicated, file.quarantined, file.records) == (1, 1, 3, 5)
        assert dict(file.reasons) == {"content is missing": 2, "content is empty": 1}
        assert file.quarantine_files == sorted(warehouse.home.quarantine.iterdir())
        assert summary.reasons == file.reasons

    def test_a_mended_file_leaves_nothing_in_quarantine(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "m.jsonl", {"content": "a"}, {})
        warehouse.ingest(path)
        assert len(warehouse.quarantine()) == 1
        warehouse.ingest(write_jsonl(path, {"content": "a"}, {"content": "b"}))
        assert list(warehouse.home.quarantine.iterdir()) == []

    def test_an_emptied_file_leaves_nothing_in_quarantine(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "m.jsonl", {"content": "a"}, {})
        warehouse.ingest(path)
        path.write_bytes(b"")
        warehouse.refuse(path)
        assert list(warehouse.home.quarantine.iterdir()) == []

    def test_reasons_do_not_grow_without_bound(self, warehouse: Warehouse, tmp_path: Path) -> None:
        event = json.loads(new_event("memory", {"content": "good"}).to_line())
        bad = [{**event, f"surprise {number}": 1} for number in range(300)]
        summary = warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", event, *bad))
        assert len(summary.reasons) == 101
        assert summary.reasons["other reasons"] == 200

    def test_reasons_cannot_steer_a_terminal(self, warehouse: Warehouse, tmp_path: Path) -> None:
        event = json.loads(new_event("memory", {"content": "good"}).to_line())
        path = write_jsonl(tmp_path / "m.jsonl", event, {**event, "\x1b[31m\u202e": 1})
        (reason,) = warehouse.ingest(path).reasons
        assert reason == "\\x1b[31m\\u202e: Extra inputs are not permitted"

    def test_progress_ends_with_every_byte_of_every_path(self, warehouse: Warehouse, tmp_path: Path) -> None:
        paths = write_one_of_each(tmp_path / "files")
        reports: list[Progress] = []
        ingest(warehouse.home, paths, known_event_ids=lambda ids: set(), on_progress=reports.append)
        last = {report.path: report for report in reports}
        assert list(last) == paths
        for path, report in last.items():
            size = (path / "a.md" if path.is_dir() else path).stat().st_size
            assert report.bytes_done == report.bytes_total == size
            assert report.records > 0

    @pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "csv", "parquet"])
    def test_progress_is_shown_while_a_file_is_read(
        self, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
    ) -> None:
        monkeypatch.setattr("mnemoduck.importers.intake.SECONDS_BETWEEN_REPORTS", 0.0)
        path = tmp_path / f"m.{suffix}"
        contents = [f"{number} {'x' * 1000}" for number in range(3000)]
        if suffix == "parquet":
            write_parquet(path, {"content": contents})
        elif suffix == "csv":
            write_csv(path, ["content"], *([content] for content in contents))
        else:
            write_jsonl(path, *({"content": content + os.urandom(500).hex()} for content in contents))
        if suffix.endswith("gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
        reports: list[Progress] = []
        ingest(warehouse.home, [path], known_event_ids=lambda ids: set(), on_progress=reports.append)
        done = [report.bytes_done for report in reports]
        assert done == sorted(done)
        assert done[0] < done[len(done) // 2] < done[-1] == path.stat().st_size


class TestBadInput:
    def test_no_file_is_a_mistake(self, warehouse: Warehouse) -> None:
        with pytest.raises(UsageError, match="No file was named"):
            warehouse.ingest()

    def test_a_path_that_is_not_there_is_named_and_nothing_is_read(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        good = write_jsonl(tmp_path / "m.jsonl", {"content": "ok"})
        for missing in (tmp_path / "missing.jsonl", good / "below a file", Path("x" * 5000), Path("a\0b")):
            with pytest.raises(UsageError) as caught:
                warehouse.ingest(good, missing)
            assert caught.value.exit_code == 2
            assert "Check the path" in str(caught.value)
            assert str(caught.value).isprintable()
        assert warehouse.events() == []

    @pytest.mark.usefixtures("permissions_count")
    def test_a_file_or_folder_without_permission_is_named(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "m.jsonl", {"content": "ok"})
        path.chmod(0)
        folder = tmp_path / "notes"
        folder.mkdir(mode=0)
        for unreadable in (path, folder):
            with pytest.raises(UsageError, match="permission denied"):
                warehouse.ingest(unreadable)

    @pytest.mark.usefixtures("permissions_count")
    def test_an_unreadable_part_of_a_folder_is_quarantined_and_the_rest_read(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        folder = tmp_path / "notes"
        (folder / "closed").mkdir(parents=True)
        (folder / "a.md").write_text("readable")
        (folder / "b.md").write_text("unreadable")
        (folder / "b.md").chmod(0)
        (folder / "closed").chmod(0)
        summary = warehouse.ingest(folder)
        (folder / "closed").chmod(0o700)
        assert warehouse.contents() == ["readable"]
        assert dict(summary.reasons) == {"cannot be read": 2}
        refused = {record["source"] for record in warehouse.quarantine()}
        assert refused == {str(folder / "b.md"), str(folder / "closed")}

    def test_what_is_neither_file_nor_folder_is_not_waited_for(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / "pipe.jsonl")
        with pytest.raises(UsageError, match="neither a file nor a folder"):
            warehouse.ingest(tmp_path / "pipe.jsonl")

    def test_a_folder_without_notes_is_a_mistake(self, warehouse: Warehouse, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match="There are no notes"):
            warehouse.ingest(tmp_path / "empty")
        with pytest.raises(UsageError, match="only Markdown notes are read from folders"):
            warehouse.ingest(tmp_path, format="jsonl")

    def test_an_unknown_format_is_a_mistake_and_nothing_is_read(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        good = write_jsonl(tmp_path / "m.jsonl", {"content": "ok"})
        (tmp_path / "a.txt").write_text("Dear diary")
        with pytest.raises(UnknownFormatError, match="--format"):
            warehouse.ingest(good, tmp_path / "a.txt")
        with pytest.raises(UnknownFormatError, match="The formats are"):
            warehouse.ingest(good, format="xml")
        assert warehouse.events() == []

    def test_a_format_can_be_forced(self, warehouse: Warehouse, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("content\nDear diary\n")
        warehouse.ingest(tmp_path / "a.txt", format="csv")
        assert warehouse.contents() == ["Dear diary"]

    @pytest.mark.parametrize("name", ["m.jsonl", "m.json", "m.csv", "m.parquet", "m.md", "m", "m.jsonl.gz"])
    def test_an_empty_file_alone_is_a_mistake(self, warehouse: Warehouse, tmp_path: Path, name: str) -> None:
        (tmp_path / name).touch()
        summary = warehouse.refuse(tmp_path / name)
        assert summary.problems == [f"There is nothing in {tmp_path / name}."]
        assert warehouse.quarantine() == []

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("m.jsonl", b"\n \n"),
            ("m.json", b"\xef\xbb\xbf \n"),
            ("m.json", b"[]"),
            ("m.csv", b"content,role\n\n"),
            ("m.jsonl.gz", gzip.compress(b"", mtime=0)),  # a time would give each worker another test id
        ],
    )
    def test_an_empty_file_among_others_is_told_in_the_summary(
        self, warehouse: Warehouse, tmp_path: Path, name: str, data: bytes
    ) -> None:
        (tmp_path / name).write_bytes(data)
        good = write_jsonl(tmp_path / "good.jsonl", {"content": "ok"})
        summary = warehouse.ingest(tmp_path / name, good)
        assert summary.accepted == 1
        assert summary.problems == [f"There is nothing in {tmp_path / name}."]

    def test_a_file_of_which_everything_is_refused_is_a_mistake(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        path = write_jsonl(tmp_path / "m.jsonl", {"body": "x"}, {"body": "y"})
        with pytest.raises(NothingIngestedError) as caught:
            warehouse.ingest(path)
        assert caught.value.exit_code == 2
        assert "content is missing: 2" in str(caught.value)
        assert str(warehouse.home.quarantine) in str(caught.value)

    def test_an_unusable_file_among_others_is_quarantined_and_the_next_is_read(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        bad = write_csv(tmp_path / "bad.csv", ["body"], ["x"])
        summary = warehouse.ingest(bad, write_jsonl(tmp_path / "m.jsonl", {"content": "ok"}))
        assert (summary.accepted, summary.quarantined) == (1, 1)
        assert "no column is named content" in summary.problems[0]
        (refused,) = warehouse.quarantine()
        assert (refused["source"], refused["reason"]) == (str(bad), "no column is named content")

    def test_what_was_read_of_damaged_gzip_data_is_kept(self, warehouse: Warehouse, tmp_path: Path) -> None:
        lines = b"".join(b'{"content": "%s"}\n' % os.urandom(60).hex().encode() for _ in range(40_000))
        packed = gzip.compress(lines, compresslevel=1)
        (tmp_path / "m.jsonl.gz").write_bytes(packed[: len(packed) // 2])
        summary = warehouse.ingest(tmp_path / "m.jsonl.gz")
        assert 0 < summary.accepted < 40_000
        assert dict(summary.reasons) == {"the gzip data is damaged": 1}
        assert "Fetch the file again" in summary.problems[0]

    @pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
    def test_a_gzip_file_that_is_none_is_refused(
        self, warehouse: Warehouse, tmp_path: Path, suffix: str
    ) -> None:
        path = tmp_path / f"m.{suffix}.gz"
        path.write_bytes(b"\x1f\x8b\x08 and then nonsense")
        assert "the gzip data is damaged" in warehouse.refuse(path).problems[0]

    def test_a_zip_bomb_is_refused_before_it_unfolds(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl.gz"
        path.write_bytes(gzip.compress(b"x" * 2**20) * 2000)
        (problem,) = warehouse.refuse(path, format="jsonl").problems
        assert "the gzip data grows suspiciously" in problem
        assert "gunzip" in problem

    def test_a_document_over_the_limit_is_refused(
        self, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mnemoduck.importers.documents.MAX_DOCUMENT_BYTES", 2**20)
        path = write_json(tmp_path / "m.json", [{"content": "x" * 2**20}])
        assert "larger than 1 MiB" in warehouse.refuse(path).problems[0]

    def test_a_name_with_control_characters_is_quoted(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = tmp_path / "\x1b[31m\udcff.jsonl"
        path.touch()
        (problem,) = warehouse.refuse(path).problems
        assert problem.isprintable()

    def test_what_was_accepted_stays_when_the_reading_of_a_later_file_fails(
        self, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = write_jsonl(tmp_path / "a.jsonl", {"content": "a"})
        second = write_jsonl(tmp_path / "b.jsonl", {"content": "b"})

        def fail(source: Any, defaults: Scope) -> Iterator[Any]:
            yield new_event("memory", {"content": "c"})
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("mnemoduck.importers.intake.FORMATS", {**FORMATS, "events": fail})
        second.write_bytes(new_event("memory", {"content": "b"}).to_line())
        with pytest.raises(StorageError, match="Input/output error") as caught:
            warehouse.ingest(first, second)
        assert caught.value.exit_code == 1
        assert warehouse.contents() == ["a", "c"]

    def test_a_full_disk_is_told_as_ours(
        self, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: InboxWriter, lines: Sequence[bytes], *, durable: bool = False) -> None:
            raise StorageError("No space left on device")

        monkeypatch.setattr(InboxWriter, "append", refuse)
        with pytest.raises(StorageError, match="No space left"):
            warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", {"content": "ok"}))

    def test_the_inbox_holds_only_sealed_segments_afterwards(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", {"content": "ok"}))
        files = [path for path in warehouse.home.inbox.iterdir() if path.is_file()]
        assert [path.suffix for path in files] == [".jsonl"]


# ---------------------------------------------------------------------------------------------------
# Whatever the bytes
# ---------------------------------------------------------------------------------------------------

TEXT = st.text(min_size=1).filter(lambda text: not text.isspace())
JUNK = st.binary(max_size=200) | st.text(alphabet='{}[]",:\\\n\r\0 -#a1', max_size=200).map(str.encode)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | FLOATS | st.text()
JSON = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
FIELD_NAMES = st.sampled_from(
    [
        "content",
        "text",
        "role",
        "user_id",
        "tags",
        "importance",
        "occurred_at",
        "metadata",
        "memory_type",
        "x",
    ]
)
RECORDS = st.lists(
    st.dictionaries(FIELD_NAMES, JSON | TEXT, max_size=6)
    | st.fixed_dictionaries({"content": TEXT, "occurred_at": st.just("2026-03-15")}),
    max_size=5,
)

# Hundreds of homes, each of which waits for the disk several times, unless there is none to wait for.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
QUICK = settings(max_examples=30, deadline=None)


@contextmanager
def fresh_warehouse() -> Iterator[tuple[Warehouse, Path]]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Warehouse(Path(folder, "home")), Path(folder)


def ingest_bytes(
    data: bytes, format: str, *, name: str = "file", warehouse: Warehouse | None = None
) -> IngestSummary:
    """Ingest the bytes twice; check what holds for every file, and return the first summary."""
    with fresh_warehouse() as (home, folder):
        path = folder / name
        path.write_bytes(data)
        warehouse = warehouse or home
        first = try_ingest(warehouse, path, format)
        events, refused = warehouse.events(), warehouse.quarantine()
        assert len(events) == first.accepted
        assert len(refused) == first.quarantined == sum(first.reasons.values())
        assert all(str(path) == record["source"] and record["reason"] for record in refused)
        again = try_ingest(warehouse, path, format)
        assert warehouse.events() == events
        assert (again.accepted, again.duplicated) == (0, first.accepted + first.duplicated)
        assert again.reasons == first.reasons
        return first


def try_ingest(warehouse: Warehouse, path: Path, format: str) -> IngestSummary:
    try:
        return warehouse.ingest(path, format=format)
    except NothingIngestedError as error:
        return error.summary


def records(summary: IngestSummary) -> int:
    return summary.accepted + summary.duplicated + summary.quarantined


def count_lines(data: bytes) -> int:
    return sum(1 for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line and not line.isspace())


class TestWhateverTheBytes:
    @QUICK
    @given(records_=RECORDS, junk=st.lists(JUNK, max_size=3), format=st.sampled_from(["jsonl", "events"]))
    def test_every_line_of_jsonl_is_counted_once(
        self, records_: list[object], junk: list[bytes], format: str
    ) -> None:
        data = b"\n".join([*(json.dumps(record).encode() for record in records_), *junk])
        assume(not data.startswith(b"\x1f\x8b"))  # gzip
        assert records(ingest_bytes(data, format)) == count_lines(data)

    @QUICK
    @given(rows=st.lists(JUNK, max_size=4), header=st.sampled_from([b"content\n", b"Content,role\r\n", b""]))
    def test_any_csv_is_read_or_refused(self, rows: list[bytes], header: bytes) -> None:
        ingest_bytes(header + b"\n".join(rows), "csv")

    @QUICK
    @given(rows=st.lists(st.tuples(st.text(), st.text()), max_size=5))
    def test_every_row_of_well_formed_csv_is_counted_once(self, rows: list[tuple[str, str]]) -> None:
        buffer = io.StringIO()
        csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("content", "role"), *rows])
        summary = ingest_bytes(buffer.getvalue().encode(), "csv")
        assert records(summary) == len(rows)
        refused = sum("\0" in a + b or not a or a.isspace() or len(b) > 256 for a, b in rows)
        assert summary.quarantined == refused

    @QUICK
    @given(items=RECORDS)
    def test_every_item_of_a_json_list_is_counted_once(self, items: list[object]) -> None:
        assert records(ingest_bytes(json.dumps(items).encode(), "json")) == len(items)

    @QUICK
    @given(data=JUNK, format=st.sampled_from(sorted(FORMATS)))
    def test_any_bytes_in_any_format_are_read_or_refused(self, data: bytes, format: str) -> None:
        ingest_bytes(data, format)

    @QUICK
    @given(data=JUNK, packed=st.booleans(), name=st.sampled_from(["f", "f.json", "f.jsonl", "f.csv", "f.md"]))
    def test_any_bytes_are_detected_or_refused(self, data: bytes, packed: bool, name: str) -> None:
        with fresh_warehouse() as (warehouse, folder):
            (folder / name).write_bytes(gzip.compress(data)[: len(data) + 15] if packed else data)
            problem = None
            try:
                warehouse.ingest(folder / name)
            except MnemoduckError as error:
                problem = error
            assert problem is None or (problem.exit_code == 2 and str(problem).isprintable())

    @QUICK
    @given(front=st.text(alphabet="abc:-[]{}&*!#|>%@`'\"\n 1.", max_size=80), body=st.text(max_size=80))
    def test_any_note_is_read_or_refused(self, front: str, body: str) -> None:
        summary = ingest_bytes(f"---\n{front}\n---\n{body}".encode(), "markdown", name="n.md")
        assert records(summary) >= 1

    @QUICK
    @given(
        document=JSON
        | st.fixed_dictionaries({"sample_id": JSON, "conversation": st.dictionaries(
            st.sampled_from(["session_1", "session_2", "session_1_date_time"]), JSON)})
        | st.fixed_dictionaries({"question_id": TEXT}, optional={
            "haystack_sessions": JSON | st.lists(st.lists(JSON, max_size=2), max_size=2),
            "haystack_session_ids": JSON | st.lists(JSON, max_size=2),
            "haystack_dates": JSON | st.lists(JSON, max_size=2)}),
        format=st.sampled_from(["locomo", "longmemeval"]),
    )  # fmt: skip
    def test_any_document_is_read_or_refused_as_a_benchmark(self, document: object, format: str) -> None:
        ingest_bytes(json.dumps([document]).encode(), format)

    @QUICK
    @given(
        columns=st.fixed_dictionaries(
            {"content": st.lists(st.none() | st.text(), min_size=3, max_size=3)},
            optional={
                "occurred_at": st.lists(st.none() | st.integers(-(2**52), 2**52), min_size=3, max_size=3),
                "importance": st.lists(st.none() | st.floats(), min_size=3, max_size=3),
                "user_id": st.lists(st.none() | st.integers(0, 2**40), min_size=3, max_size=3),
                "tags": st.lists(st.none() | st.lists(st.text(), max_size=2), min_size=3, max_size=3),
                "more": st.lists(st.none() | st.floats(), min_size=3, max_size=3),
            },
        ),
        unit=st.sampled_from(["s", "ms", "us", "ns", None]),
    )  # fmt: skip
    def test_every_row_of_parquet_is_counted_once(self, columns: dict[str, Any], unit: str | None) -> None:
        if unit and "occurred_at" in columns:
            columns["occurred_at"] = pa.array(columns["occurred_at"], pa.timestamp(unit))
        columns["content"] = pa.array(columns["content"], pa.string())
        with fresh_warehouse() as (_, folder):
            data = write_parquet(folder / "f.parquet", columns).read_bytes()
        assert records(ingest_bytes(data, "parquet", name="f.parquet")) == 3

    @QUICK
    @given(
        contents=st.lists(TEXT, min_size=1, max_size=4),
        format=st.sampled_from(["jsonl", "json", "csv", "parquet"]),
    )
    def test_content_is_returned_exactly(self, contents: list[str], format: str) -> None:
        if format == "csv":
            contents = [content.replace("\0", "?") for content in contents]
        with fresh_warehouse() as (warehouse, folder):
            path = folder / f"f.{format}"
            if format == "jsonl":
                write_jsonl(path, *({"content": content} for content in contents))
            elif format == "json":
                write_json(path, [{"content": content} for content in contents])
            elif format == "csv":
                write_csv(path, ["content", "x"], *([content, 1] for content in contents))
            else:
                write_parquet(path, {"content": contents})
            summary = warehouse.ingest(path)
            assert summary.accepted == len(contents)
            assert warehouse.contents() == contents

    @QUICK
    @given(content=TEXT)
    def test_a_note_is_returned_exactly_but_for_blank_lines_around_it(self, content: str) -> None:
        lines = content.split("\n")
        if "\0" in content or not lines[0].strip() or not lines[-1].strip() or content.endswith("\r"):
            return
        with fresh_warehouse() as (warehouse, folder):
            (folder / "n.md").write_bytes(f"---\ntags: [a]\n---\n \n\n{content}\n\t\n".encode())
            warehouse.ingest(folder / "n.md")
            assert "\n".join(map(str, warehouse.contents())) == content

    @given(keys=st.lists(st.binary(max_size=1)), in_memory=st.integers(0, 3))
    def test_a_tally_counts_right_in_memory_and_beyond(self, keys: list[bytes], in_memory: int) -> None:
        tally = Tally(keys_in_memory=in_memory)
        counts: Counter[bytes] = Counter()
        for key in keys:
            assert tally.add(key) == counts[key]
            counts[key] += 1
        tally.close()
