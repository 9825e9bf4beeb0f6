"""Every format that can be imported, read through `ingest`."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnemoduck.errors import UnknownFormatError
from mnemoduck.events import MAX_CONTENT_BYTES, Event, new_event, parse_event
from mnemoduck.home import Home, open_home
from mnemoduck.importers import FORMATS, IngestSummary, NothingIngestedError, detect_format, ingest
from mnemoduck.scope import Scope

SHARED = Path(__file__).parents[3] / "shared" / "data"

HOSTILE = "'; drop table memories; -- {{ env_var('HOME') }} \x1b]0;owned\x07 \x00 \u202e 🦆 {% raw %}"


class Warehouse:
    """A home, and the two questions that these tests ask of it."""

    def __init__(self, path: Path) -> None:
        self.home: Home = open_home(path)

    def ingest(self, *paths: Path, format: str | None = None, defaults: Scope | None = None) -> IngestSummary:
        return ingest(
            self.home,
            paths,
            format=format,
            defaults=defaults or Scope(),
            known_event_ids=lambda ids: {event.event_id for event in self.events()}.intersection(ids),
        )

    def refuse(self, *paths: Path, format: str | None = None) -> IngestSummary:
        """Ingest what holds nothing usable."""
        with pytest.raises(NothingIngestedError) as caught:
            self.ingest(*paths, format=format)
        return caught.value.summary

    def events(self) -> list[Event]:
        """Return the events in the inbox, in the order in which they were written."""
        segments = sorted(self.home.inbox.glob("*.jsonl"))
        return [parse_event(line) for path in segments for line in path.read_bytes().split(b"\n")[:-1]]

    def contents(self) -> list[object]:
        return [event.payload["content"] for event in self.events()]

    def quarantine(self) -> list[dict[str, Any]]:
        paths = sorted(self.home.quarantine.glob("*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "home")


def write_jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_json(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path


def write_csv(path: Path, header: Sequence[str], *rows: Sequence[object]) -> Path:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([header, *rows])
    path.write_bytes(buffer.getvalue().encode("utf-8"))
    return path


def write_parquet(path: Path, columns: Mapping[str, object]) -> Path:
    pq.write_table(pa.table(dict(columns)), path)
    return path


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


FULL_RECORD = {
    "content": "Maya is allergic to hazelnuts",
    "occurred_at": "2026-03-15T18:30:00+02:00",
    "role": "user",
    "user_id": "maya",
    "agent_id": "otter",
    "session_id": "s1",
    "tags": ["health", "food"],
    "importance": 0.9,
    "memory_type": "semantic",
    "metadata": {"source": "chat"},
    "mood": "calm",
}


def assert_is_full_record(event: Event) -> None:
    assert event.event_type == "memory"
    assert event.occurred_at == moment("2026-03-15T16:30:00")
    assert (event.user_id, event.agent_id, event.session_id) == ("maya", "otter", "s1")
    assert event.payload == {
        "content": "Maya is allergic to hazelnuts",
        "role": "user",
        "tags": ["health", "food"],
        "importance": 0.9,
        "memory_type": "semantic",
        "metadata": {"source": "chat", "mood": "calm"},
    }


class TestJsonl:
    def test_every_field_of_the_schema_is_kept_and_unknown_ones_go_to_metadata(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        summary = warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", FULL_RECORD))
        assert (summary.files[0].format, summary.accepted) == ("jsonl", 1)
        assert_is_full_record(warehouse.events()[0])

    def test_content_alone_is_enough_and_its_time_is_that_of_the_import(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        before = datetime.now(UTC)
        warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", {"content": "ok"}, {"content": "then this"}))
        first, second = warehouse.events()
        assert before <= first.occurred_at < second.occurred_at <= datetime.now(UTC)
        assert first.payload == {"content": "ok"}
        assert (first.user_id, first.agent_id, first.session_id) == (None, None, None)

    def test_content_is_stored_exactly_whatever_it_says(self, warehouse: Warehouse, tmp_path: Path) -> None:
        contents = [HOSTILE, "  spaces and\r\nline ends \n", "[bold]rich[/bold] :duck:", "\u2028\ufeff"]
        warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", *({"content": text} for text in contents)))
        assert warehouse.contents() == contents

    @pytest.mark.parametrize("name", ["text", "message"])
    def test_content_may_be_called_otherwise(self, warehouse: Warehouse, tmp_path: Path, name: str) -> None:
        warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", {name: "ok", "timestamp": "2026-03-15"}))
        (event,) = warehouse.events()
        assert event.payload == {"content": "ok"}
        assert event.occurred_at == moment("2026-03-15")

    def test_another_name_of_content_is_metadata_beside_content(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", {"content": "a", "text": "b"}))
        assert warehouse.events()[0].payload == {"content": "a", "metadata": {"text": "b"}}

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("2026-03-15", "2026-03-15"),
            ("2026-03-15 18:30", "2026-03-15T18:30"),
            ("2026-03-15T18:30:00.123456Z", "2026-03-15T18:30:00.123456"),
            ("2026-03-15T18:30:00-05:30", "2026-03-16T00:00"),
            (" 20260315 ", "2026-03-15"),
            (1773599400, "2026-03-15T18:30"),
            (1773599400.5, "2026-03-15T18:30:00.500000"),
            (1773599400123, "2026-03-15T18:30:00.123000"),
            ("1773599400", "2026-03-15T18:30"),
            ("1612011112301", "2021-01-30T12:51:52.301000"),
            (0, "1970-01-01"),
        ],
    )
    def test_a_time_is_iso_8601_or_seconds_or_milliseconds(
        self, warehouse: Warehouse, tmp_path: Path, given: object, expected: str
    ) -> None:
        warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", {"content": "ok", "occurred_at": given}))
        assert warehouse.events()[0].occurred_at == moment(expected)

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ({"content": "x", "occurred_at": "yesterday"}, "occurred_at is not a date or time"),
            ({"content": "x", "occurred_at": True}, "occurred_at is not a date or time"),
            ({"content": "x", "occurred_at": " "}, "occurred_at is not a date or time"),
            ({"content": "x", "occurred_at": "1812-06-24"}, "occurred_at is out of range"),
            ({"content": "x", "occurred_at": "2100-01-01"}, "occurred_at is out of range"),
            ({"content": "x", "occurred_at": -1}, "occurred_at is out of range"),
            ({"content": "x", "occurred_at": 1e300}, "occurred_at is out of range"),
            ({"content": "x", "occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at is out of range"),
            ({"user_id": "maya"}, "content is missing"),
            ({"content": None}, "content is missing"),
            ({"content": " \n"}, "content is empty"),
            ({"content": 5}, "content is not a text"),
            ({"content": {"text": "x"}}, "content is not a text"),
            ({"content": "x" * (MAX_CONTENT_BYTES + 1)}, "content is too long"),
            ({"content": "x", "importance": 1.5}, "importance is not a number from 0 to 1"),
            ({"content": "x", "importance": "high"}, "importance is not a number from 0 to 1"),
            ({"content": "x", "importance": True}, "importance is not a number from 0 to 1"),
            ({"content": "x", "user_id": ["maya"]}, "user_id is not a text"),
            ({"content": "x", "user_id": "u" * 257}, "user_id: String should have at most 256 characters"),
            ({"content": "x", "role": "\t" * 257}, "role: String should have at most 256 characters"),
            ({"content": ""}, "content is empty"),
            ({"content": "x", "user_id": "a\x1bb"}, "user_id: control characters are not allowed in an id"),
            ({"content": "x", "tags": {"a": 1}}, "tags are not a list"),
            ({"content": "x", "tags": ["a", ["b"]]}, "tag is not a text"),
            ({"content": "x", "metadata": "none"}, "not valid JSON"),
            ({"content": "x", "metadata": [1]}, "metadata is not an object"),
            ({"content": "x", "a": 1, "metadata": {"a": 2}}, "a field is also given inside metadata"),
            (["content"], "the line is not a JSON object"),
            ("content", "the line is not a JSON object"),
        ],
    )
    def test_a_record_that_breaks_a_rule_is_refused_with_the_rule(
        self, warehouse: Warehouse, tmp_path: Path, record: object, reason: str
    ) -> None:
        path = write_jsonl(tmp_path / "m.jsonl", {"content": "good"}, record)
        summary = warehouse.ingest(path)
        assert (summary.accepted, summary.quarantined) == (1, 1)
        assert dict(summary.reasons) == {reason: 1}
        (refused,) = warehouse.quarantine()
        assert refused["source"] == str(path)
        assert refused["line"] == 2
        assert refused["reason"].startswith(reason)

    @pytest.mark.parametrize(
        "line",
        [
            b"{",
            b"content: x",
            b'{"content": "\xff"}',
            b'{"content": "a\x00b"}',
            b'{"content": "a", "score": NaN}',
            b'{"content": "\\ud800"}',
            b"[" * 500,
        ],
    )
    def test_a_line_that_is_not_json_is_kept_byte_for_byte_in_quarantine(
        self, warehouse: Warehouse, tmp_path: Path, line: bytes
    ) -> None:
        (tmp_path / "m.jsonl").write_bytes(b'{"content": "good"}\n\n' + line + b'\n{"content": "too"}')
        summary = warehouse.ingest(tmp_path / "m.jsonl")
        assert (summary.accepted, dict(summary.reasons)) == (2, {"not valid JSON": 1})
        (refused,) = warehouse.quarantine()
        assert refused["line"] == 3
        assert refused.get("text", "").encode() == line or "base64" in refused

    def test_what_the_loader_could_not_read_back_is_refused(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        deep: dict[str, Any] = {}
        for _ in range(150):
            deep = {"deeper": deep}
        path = write_jsonl(
            tmp_path / "m.jsonl",
            {"content": "good", "metadata": {"flat": True}},
            {"content": "\x01" * 900_000},  # six bytes each in JSON
            {"content": "x", "metadata": deep},
        )
        path.write_text(path.read_text() + '{"content": "x", "n": 1e999}\n')
        summary = warehouse.ingest(path, format="jsonl")
        assert warehouse.contents() == ["good"]
        assert [refused["line"] for refused in warehouse.quarantine()] == [2, 3, 4]
        assert summary.reasons.keys() == {
            "line is too long",
            "metadata is nested too deeply",
            "metadata holds a number that is not finite",
        }

    def test_a_line_of_50_mb_is_refused_with_its_length_and_the_next_is_read(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        path = tmp_path / "m.jsonl"
        path.write_bytes(b'{"content": "' + b"x" * 50_000_000 + b'"}\n{"content": "good"}\n')
        summary = warehouse.ingest(path)
        assert warehouse.contents() == ["good"]
        assert dict(summary.reasons) == {"line is too long": 1}
        (refused,) = warehouse.quarantine()
        assert "50,000,015 bytes" in refused["reason"]
        assert len(refused["text"]) < 100_000

    def test_an_empty_text_says_nothing(self, warehouse: Warehouse, tmp_path: Path) -> None:
        nothing = dict.fromkeys(set(FULL_RECORD) - {"content", "mood"}, "")
        path = write_jsonl(tmp_path / "m.jsonl", {"content": "x", **nothing})
        warehouse.ingest(path, defaults=Scope(user_id="maya"))
        (event,) = warehouse.events()
        assert (event.user_id, event.agent_id, event.payload) == ("maya", None, {"content": "x"})

    def test_ids_may_be_numbers_and_tags_a_text(self, warehouse: Warehouse, tmp_path: Path) -> None:
        warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", {"content": "x", "user_id": 42, "tags": "a, b;a"}))
        (event,) = warehouse.events()
        assert event.user_id == "42"
        assert event.payload["tags"] == ["a", "b"]

    def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "m.jsonl").write_bytes(b'\xef\xbb\xbf{"content": "a"}\r\n\r\n{"content": "b"}\r\n')
        summary = warehouse.ingest(tmp_path / "m.jsonl")
        assert summary.quarantined == 0
        assert warehouse.contents() == ["a", "b"]


class TestEvents:
    def test_events_are_kept_unchanged(self, warehouse: Warehouse, tmp_path: Path) -> None:
        events = [
            new_event("memory", {"content": HOSTILE, "metadata": {"none": None}}, user_id="maya"),
            new_event(
                "step", {"episode_id": "e", "step": 0, "tool": "search", "args": {"q": "x"}}, session_id="s"
            ),
        ]
        path = tmp_path / "events.jsonl"
        path.write_bytes(b"".join(event.to_line() for event in events))
        summary = warehouse.ingest(path, defaults=Scope(agent_id="otter"))
        assert summary.files[0].format == "events"
        assert warehouse.events() == events

    @pytest.mark.parametrize(
        "change",
        [
            {"event_type": "dream"},
            {"event_id": "first"},
            {"occurred_at": "1812-06-24T00:00:00Z"},
            {"occurred_at": "0001-01-01T00:00:00+14:00"},
            {"occurred_at": "9999-12-31T23:59:59-14:00"},
            {"payload": {}},
            {"surprise": 1},
        ],
    )
    def test_a_line_that_is_no_event_is_refused(
        self, warehouse: Warehouse, tmp_path: Path, change: dict[str, object]
    ) -> None:
        good = json.loads(new_event("memory", {"content": "good"}).to_line())
        summary = warehouse.ingest(write_jsonl(tmp_path / "events.jsonl", good, {**good, **change}))
        assert (summary.accepted, summary.quarantined) == (1, 1)
        assert warehouse.quarantine()[0]["line"] == 2

    def test_a_second_event_with_the_same_id_is_a_duplicate(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        good = json.loads(new_event("memory", {"content": "first"}).to_line())
        other = {**good, "payload": {"content": "second"}}
        summary = warehouse.ingest(write_jsonl(tmp_path / "events.jsonl", good, other))
        assert (summary.accepted, summary.duplicated) == (1, 1)
        assert warehouse.contents() == ["first"]


class TestJson:
    def test_a_list_of_objects_is_read_as_plain_memories(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = write_json(tmp_path / "m.json", [FULL_RECORD, 5, {"content": "ok"}])
        summary = warehouse.ingest(path)
        assert (summary.files[0].format, summary.accepted, summary.quarantined) == ("json", 2, 1)
        assert_is_full_record(warehouse.events()[0])
        assert warehouse.quarantine()[0]["line"] == 2

    def test_a_single_object_over_several_lines_is_one_memory(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        summary = warehouse.ingest(write_json(tmp_path / "m.json", FULL_RECORD))
        assert summary.files[0].format == "json"
        assert_is_full_record(warehouse.events()[0])

    def test_a_document_that_breaks_off_gives_nothing_and_says_where(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "m.json").write_text('[{"content": "a"},\n {"content": "b')
        summary = warehouse.refuse(tmp_path / "m.json")
        assert warehouse.events() == []
        assert "line 2" in summary.problems[0]
        assert warehouse.quarantine()[0]["line"] == 0


class TestCsv:
    def test_every_field_of_the_schema_is_kept_and_unknown_ones_go_to_metadata(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        record = {**FULL_RECORD, "tags": "health, food", "metadata": '{"source": "chat"}', "empty": ""}
        summary = warehouse.ingest(write_csv(tmp_path / "m.csv", list(record), list(record.values())))
        assert (summary.files[0].format, summary.accepted) == ("csv", 1)
        assert_is_full_record(warehouse.events()[0])

    @pytest.mark.parametrize("tags", ["health,food", "health; food;", '["health", "food"]'])
    def test_tags_are_a_list_or_separated(self, warehouse: Warehouse, tmp_path: Path, tags: str) -> None:
        warehouse.ingest(write_csv(tmp_path / "m.csv", ["content", "tags"], ["x", tags]))
        assert warehouse.events()[0].payload["tags"] == ["health", "food"]

    def test_fields_may_hold_newlines_quotes_and_commas(self, warehouse: Warehouse, tmp_path: Path) -> None:
        contents = ['a "quoted"\r\nword, and\nmore\n', "plain", " kept ", "x\u2028y\x0bz\x1b[0m"]
        warehouse.ingest(write_csv(tmp_path / "m.csv", ["content"], *([text] for text in contents)))
        assert warehouse.contents() == contents

    def test_numbers_in_ids_stay_as_they_are_written(self, warehouse: Warehouse, tmp_path: Path) -> None:
        warehouse.ingest(write_csv(tmp_path / "m.csv", ["user_id", "Content "], ["007", "x"]))
        assert warehouse.events()[0].user_id == "007"

    def test_blank_cells_mean_nothing_is_said(self, warehouse: Warehouse, tmp_path: Path) -> None:
        header = ["content", "text", "occurred_at", "user_id", "tags", "importance", "metadata", "more"]
        path = write_csv(tmp_path / "m.csv", header, ["x", *[""] * 7], ["", "y", *[""] * 6])
        summary = warehouse.ingest(path, defaults=Scope(user_id="maya"))
        (event,) = warehouse.events()
        assert (event.payload, event.user_id) == ({"content": "x"}, "maya")
        assert [refused["line"] for refused in warehouse.quarantine()] == [3]
        assert dict(summary.reasons) == {"content is missing": 1}

    def test_only_the_rows_that_are_not_utf_8_or_hold_nul_are_refused(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "m.csv").write_bytes(
            b'content,role\n"two\nlines",user\nlatin \xe9,user\nnul \x00,user\ngood,user\n'
        )
        summary = warehouse.ingest(tmp_path / "m.csv")
        assert warehouse.contents() == ["two\nlines", "good"]
        assert dict(summary.reasons) == {"the row is not valid UTF-8": 1, "the row holds NUL bytes": 1}
        assert [refused["line"] for refused in warehouse.quarantine()] == [4, 5]

    def test_a_row_with_too_few_or_too_many_fields_is_refused(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "m.csv").write_text("content,role\nfew\nall,user\nfar,too,many\n")
        summary = warehouse.ingest(tmp_path / "m.csv")
        assert warehouse.contents() == ["all"]
        assert dict(summary.reasons) == {"the row has not as many fields as the header": 2}

    def test_a_quote_that_is_never_closed_refuses_the_rest_and_no_row_is_misread(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "m.csv").write_text('content,user_id\ngood,maya\n"torn,jonas\nhello, world\n')
        summary = warehouse.ingest(tmp_path / "m.csv")
        assert warehouse.contents() == ["good"]
        assert dict(summary.reasons) == {"the quoting cannot be read": 1}
        (refused,) = warehouse.quarantine()
        assert (refused["line"], refused["text"]) == (3, '"torn,jonas\nhello, world\n')

    @pytest.mark.parametrize(
        "giant",
        [
            b"x" * 9_000_000 + b",user\n",
            b'"' + b'x\n""y"",\n' * 600_000 + b'",user\n',
        ],
        ids=["one line", "many lines in quotes"],
    )
    def test_a_giant_row_is_refused_with_its_length_and_the_next_is_read(
        self, warehouse: Warehouse, tmp_path: Path, giant: bytes
    ) -> None:
        (tmp_path / "m.csv").write_bytes(b"content,role\nfirst,user\n" + giant + b"last,user\nbad\n")
        summary = warehouse.ingest(tmp_path / "m.csv")
        assert warehouse.contents() == ["first", "last"]
        assert summary.reasons["row is too long"] == 1
        too_long, bad = warehouse.quarantine()
        assert f"{len(giant):,} bytes" in too_long["reason"]
        assert too_long["line"] == 3
        assert bad["line"] == 4 + giant.count(b"\n")

    @pytest.mark.parametrize(
        ("header", "phrase"),
        [
            (b"name;body\nx;y\n", "no column is named content"),
            (b"content,Content\nx,y\n", "two columns are named 'content'"),
            (b"con\xfftent\nx\n", "the header: the row is not valid UTF-8"),
        ],
    )
    def test_a_header_that_cannot_be_used_is_shown(
        self, warehouse: Warehouse, tmp_path: Path, header: bytes, phrase: str
    ) -> None:
        (tmp_path / "m.csv").write_bytes(header)
        summary = warehouse.refuse(tmp_path / "m.csv")
        assert phrase in summary.problems[0]

    def test_a_header_without_content_is_repeated_without_its_control_characters(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "m.csv").write_bytes(b"name,\x1b[31mbody\nx,y\n")
        (problem,) = warehouse.refuse(tmp_path / "m.csv").problems
        assert "'name', '\\x1b[31mbody'" in problem
        assert problem.isprintable()


class TestParquet:
    def test_every_field_of_the_schema_is_kept_and_unknown_ones_go_to_metadata(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        columns = {name: [value] for name, value in FULL_RECORD.items()}
        columns["occurred_at"] = [datetime(2026, 3, 15, 16, 30)]
        columns["importance"] = [Decimal("0.9")]
        columns["nothing"] = [None]
        summary = warehouse.ingest(write_parquet(tmp_path / "m.parquet", columns))
        assert (summary.files[0].format, summary.accepted) == ("parquet", 1)
        assert_is_full_record(warehouse.events()[0])

    @pytest.mark.parametrize(
        "times",
        [
            pa.array([datetime(2026, 3, 15, 18, 30)], pa.timestamp("ns")),
            pa.array([datetime(2026, 3, 15, 18, 30)], pa.timestamp("ms")),
            pa.array([datetime(2026, 3, 15, 18, 30, tzinfo=UTC)], pa.timestamp("us", "America/New_York")),
            pa.array([1773599400], pa.int64()),
            pa.array(["2026-03-15T18:30"], pa.large_string()),
        ],
        ids=str,
    )
    def test_times_may_have_any_type(self, warehouse: Warehouse, tmp_path: Path, times: Any) -> None:
        warehouse.ingest(write_parquet(tmp_path / "m.parquet", {"content": ["x"], "occurred_at": times}))
        assert warehouse.events()[0].occurred_at == moment("2026-03-15T18:30")

    def test_metadata_may_be_a_map_or_json_and_columns_of_any_type(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        columns = {
            "content": ["x", "y"],
            "metadata": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
            "day": [date(2026, 3, 15), None],
            "seconds": [timedelta(seconds=90), None],
            "price": [Decimal("1.50"), None],
            "bytes": [b"\xff", None],
            "score": [float("nan"), 0.5],
        }
        warehouse.ingest(write_parquet(tmp_path / "m.parquet", columns))
        first, second = warehouse.events()
        assert first.payload["metadata"] == {
            "a": 1,
            "day": "2026-03-15",
            "seconds": 90.0,
            "price": 1.5,
            "bytes": "/w==",
        }
        assert second.payload["metadata"] == {"score": 0.5}

    def test_ids_may_be_numbers_that_a_data_frame_made_floats(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        columns = {"content": ["x", "y", "z"], "user_id": [42.0, float("nan"), 1.5]}
        summary = warehouse.ingest(write_parquet(tmp_path / "m.parquet", columns))
        assert [event.user_id for event in warehouse.events()] == ["42", None]
        assert dict(summary.reasons) == {"user_id is not a text": 1}

    def test_only_the_rows_that_are_not_utf_8_are_refused(self, warehouse: Warehouse, tmp_path: Path) -> None:
        contents = pa.array([b"good", b"\xff", b"too"], pa.binary()).view(pa.string())
        summary = warehouse.ingest(write_parquet(tmp_path / "m.parquet", {"content": contents}))
        assert warehouse.contents() == ["good", "too"]
        assert dict(summary.reasons) == {"the row cannot be read": 1}
        assert warehouse.quarantine()[0]["line"] == 2

    def test_several_batches_of_rows_are_read_to_the_end(self, warehouse: Warehouse, tmp_path: Path) -> None:
        contents = [f"memory {number}" for number in range(5000)]
        warehouse.ingest(write_parquet(tmp_path / "m.parquet", {"content": contents}))
        assert warehouse.contents() == contents

    @pytest.mark.parametrize("data", [b"PAR1 and no more", b"PAR1" * 100, b"no parquet"])
    def test_a_damaged_file_is_refused(self, warehouse: Warehouse, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "m.parquet").write_bytes(data)
        (problem,) = warehouse.refuse(tmp_path / "m.parquet").problems
        assert "not a Parquet file, or a damaged one" in problem

    def test_a_file_without_content_is_refused(self, warehouse: Warehouse, tmp_path: Path) -> None:
        (problem,) = warehouse.refuse(write_parquet(tmp_path / "m.parquet", {"body": ["x"]})).problems
        assert "Its columns are 'body'" in problem


NOTE = """\
---
title: Allergies
date: 2026-03-15
tags: [health, food]
user_id: 007
importance: 0.9
rating: 5
---

# Maya

No hazelnuts.
"""


class TestMarkdown:
    def test_front_matter_is_honoured_and_other_keys_go_to_metadata(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        folder = tmp_path / "notes"
        (folder / "people").mkdir(parents=True)
        (folder / "people" / "maya.md").write_text(NOTE)
        summary = warehouse.ingest(folder)
        assert (summary.files[0].format, summary.accepted) == ("markdown", 1)
        (event,) = warehouse.events()
        assert event.occurred_at == moment("2026-03-15")
        assert event.user_id == "007"
        assert event.payload == {
            "content": "# Maya\n\nNo hazelnuts.",
            "memory_type": "semantic",
            "tags": ["health", "food"],
            "importance": 0.9,
            "metadata": {"path": "people/maya.md", "title": "Allergies", "rating": 5},
        }

    @pytest.mark.parametrize("key", ["occurred_at", "date", "created"])
    def test_the_time_of_a_note_has_several_names(
        self, warehouse: Warehouse, tmp_path: Path, key: str
    ) -> None:
        (tmp_path / "n.md").write_text(f"---\n{key}: 2026-03-15T18:30:00Z\n---\nx")
        warehouse.ingest(tmp_path / "n.md")
        assert warehouse.events()[0].occurred_at == moment("2026-03-15T18:30")

    def test_the_title_is_the_first_heading_or_else_the_name_of_the_file(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "a.md").write_text("```\n# not this\n```\n# The Tide Clerk #\n")
        (tmp_path / "b.md").write_text("no heading")
        warehouse.ingest(tmp_path / "a.md", tmp_path / "b.md")
        titles = [event.payload["metadata"] for event in warehouse.events()]
        assert titles == [{"path": "a.md", "title": "The Tide Clerk"}, {"path": "b.md", "title": "b"}]

    def test_a_note_with_several_sections_is_a_memory_each(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "n.md").write_text(
            "# Trip\n\n## Flight\n11:20\n\n```\n## not a heading\n```\n\n### Seat\n12A\n\n## Hotel ##\nnone\n"
        )
        warehouse.ingest(tmp_path / "n.md")
        assert warehouse.contents() == [
            "## Flight\n11:20\n\n```\n## not a heading\n```\n\n### Seat\n12A",
            "## Hotel ##\nnone",
        ]
        assert [event.payload["metadata"] for event in warehouse.events()] == [
            {"path": "n.md", "section": "Flight", "title": "Trip"},
            {"path": "n.md", "section": "Hotel", "title": "Trip"},
        ]

    def test_what_stands_above_the_sections_is_a_memory_too(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "n.md").write_text("# Trip\nin March\n## Flight\n11:20\n## Hotel\nnone")
        warehouse.ingest(tmp_path / "n.md")
        assert warehouse.contents() == ["# Trip\nin March", "## Flight\n11:20", "## Hotel\nnone"]

    def test_a_section_over_the_limit_is_refused_and_the_others_are_kept(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "n.md").write_text("## a\nx\n## b\n" + "x" * MAX_CONTENT_BYTES + "\n")
        summary = warehouse.ingest(tmp_path / "n.md")
        assert warehouse.contents() == ["## a\nx"]
        assert dict(summary.reasons) == {"the section is too long": 1}
        assert warehouse.quarantine()[0]["line"] == 3

    @pytest.mark.parametrize(
        ("note", "reason", "line"),
        [
            ("---\nrating: 5\ntags: [a\n---\nx", "the front matter cannot be read", 3),
            ("---\na: b: c\n---\nx", "the front matter cannot be read", 2),
            ("---\na: !!timestamp never\n---\nx", "the front matter cannot be read", 1),
            ("---\na: !!python/name:os.system\n---\nx", "the front matter cannot be read", 2),
            ("---\na: " + "[" * 500 + "\n---\nx", "the front matter cannot be read", 1),
            ("---\n- a list\n---\nx", "the front matter is not a mapping of keys to values", 1),
            (f"---\na: &a [{'1,' * 200}]\nb: [{'*a,' * 200}]\n---\nx", "the front matter is too large", 1),
            ("---\na: 1\n---\n\n", "the note is empty", 1),
            ("---\ndate: soon\n---\nx", "occurred_at is not a date or time", 4),
            ("---\na: .nan\n---\nx", "metadata holds a number that is not finite", 4),
            ('---\na: "\\ud800"\n---\nx', "the record is not Unicode", 4),
            ("---\nuser_id: [a]\n---\nx", "user_id is not a text", 4),
            ("", "the note is empty", 0),
            ("a\x00b", "the note holds NUL bytes", 0),
            (b"\xff\xfe", "the note is not valid UTF-8", 0),
        ],
    )  # fmt: skip
    def test_a_note_that_cannot_be_read_is_refused_and_the_others_are_kept(
        self, warehouse: Warehouse, tmp_path: Path, note: str | bytes, reason: str, line: int
    ) -> None:
        folder = tmp_path / "notes"
        folder.mkdir()
        (folder / "bad.md").write_bytes(note if isinstance(note, bytes) else note.encode())
        (folder / "good.md").write_text("good")
        summary = warehouse.ingest(folder)
        assert warehouse.contents() == ["good"]
        assert dict(summary.reasons) == {reason: 1}
        (refused,) = warehouse.quarantine()
        assert (refused["source"], refused["line"]) == (str(folder / "bad.md"), line)

    def test_hidden_files_links_and_other_files_are_left_out(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        (tmp_path / "secret.md").write_text("secret")
        folder = tmp_path / "notes"
        (folder / ".hidden").mkdir(parents=True)
        (folder / ".hidden" / "a.md").write_text("hidden")
        (folder / ".b.md").write_text("hidden")
        (folder / "c.txt").write_text("no note")
        (folder / "link.md").symlink_to(tmp_path / "secret.md")
        (folder / "up").symlink_to(tmp_path)
        (folder / "d.MD").write_text("a note")
        warehouse.ingest(folder)
        assert warehouse.contents() == ["a note"]

    def test_a_rule_at_the_top_is_no_front_matter(self, warehouse: Warehouse, tmp_path: Path) -> None:
        (tmp_path / "n.md").write_bytes(b"---\r\nno end\r\n\r\n")
        warehouse.ingest(tmp_path / "n.md")
        assert warehouse.contents() == ["---\r\nno end"]

    def test_keys_with_the_names_of_ours_are_kept_apart(self, warehouse: Warehouse, tmp_path: Path) -> None:
        (tmp_path / "n.md").write_text("---\npath: /a\ncontent: b\ntext: c\n---\nx")
        warehouse.ingest(tmp_path / "n.md")
        assert warehouse.events()[0].payload["metadata"] == {
            "path": "n.md",
            "title": "n",
            "text": "c",
            "front_matter": {"path": "/a", "content": "b"},
        }

    def test_a_note_that_is_moved_or_renamed_is_the_same_memory(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / f"{name}.md").write_text("# Trip\nto Lisbon")
        assert warehouse.ingest(tmp_path / "one").accepted == 1
        assert warehouse.ingest(tmp_path / "two").duplicated == 1


def locomo_sample() -> dict[str, Any]:
    return {
        "qa": [{"question": "q", "answer": "a", "evidence": ["D1:1"], "category": 1}],
        "conversation": {
            "speaker_a": "Caroline",
            "speaker_b": "Melanie",
            "session_2_date_time": "12:05 am on 25 December, 2023",
            "session_2": [{"speaker": "Caroline", "dia_id": "D2:1", "text": "Merry Christmas"}],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Caroline", "dia_id": "D1:1", "text": " Hey Mel! "},
                {"speaker": "Melanie", "dia_id": "D1:2", "text": "See", "blip_caption": "duck", "query": "?"},
                {"speaker": "Melanie", "dia_id": "D1:3", "text": "", "blip_caption": "a pond"},
            ],
            "session_3_date_time": "1:56 pm on 8 May, 2024",
        },
        "sample_id": "conv-1",
    }  # fmt: skip


def with_caption(turn: dict[str, str]) -> str:
    image = f"[shared an image: {turn['blip_caption']}]" if "blip_caption" in turn else ""
    return " ".join(part for part in (turn["text"], image) if part)


class TestLocomo:
    def test_every_turn_is_a_memory_in_order_with_its_place(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        summary = warehouse.ingest(write_json(tmp_path / "l.json", [locomo_sample()]))
        assert (summary.files[0].format, summary.accepted) == ("locomo", 4)
        events = warehouse.events()
        assert [event.payload["content"] for event in events] == [
            " Hey Mel! ",
            "See [shared an image: duck]",
            "[shared an image: a pond]",
            "Merry Christmas",
        ]
        assert [event.occurred_at for event in events] == [
            moment("2023-05-08T13:56:00"),
            moment("2023-05-08T13:56:01"),
            moment("2023-05-08T13:56:02"),
            moment("2023-12-25T00:05:00"),
        ]
        second = events[1]
        assert (second.user_id, second.agent_id, second.session_id) == ("conv-1", None, "session_1")
        assert second.payload["role"] == "Melanie"
        assert second.payload["metadata"] == {
            "sample_id": "conv-1",
            "session": 1,
            "turn": 1,
            "dia_id": "D1:2",
            "speaker": "Melanie",
            "blip_caption": "duck",
            "query": "?",
        }

    def test_a_session_without_a_date_is_refused_turn_by_turn(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        sample = locomo_sample()
        del sample["conversation"]["session_1_date_time"]
        summary = warehouse.ingest(write_json(tmp_path / "l.json", sample))
        assert (summary.files[0].format, summary.accepted, summary.quarantined) == ("locomo", 1, 3)
        assert summary.reasons.keys() == {"the session has no date of the form 1:56 pm on 8 May, 2023"}

    def test_an_unknown_date_or_turn_is_refused_and_the_rest_kept(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        sample = locomo_sample()
        sample["conversation"]["session_2_date_time"] = "1:00 pm on 31 February, 2023"
        sample["conversation"]["session_1"][0] = {"dia_id": "D1:1"}
        summary = warehouse.ingest(write_json(tmp_path / "l.json", [sample, {"conversation": {}}]))
        assert dict(summary.reasons) == {
            "the turn has no speaker": 1,
            "the date of the session is not in the calendar": 1,
            "the sample has no sample_id": 1,
        }
        assert [refused["line"] for refused in warehouse.quarantine()] == [1, 4, 5]

    def test_the_real_file_is_accepted_whole(self, warehouse: Warehouse) -> None:
        path = SHARED / "locomo_dev.json"
        if not path.exists():
            pytest.skip("the LoCoMo file is not part of the project (CC BY-NC 4.0)")
        summary = warehouse.ingest(path)
        assert summary.files[0].format == "locomo"
        assert (summary.accepted, summary.duplicated, summary.quarantined) == (2760, 0, 0)
        turns = [
            (sample["sample_id"], turn["dia_id"], with_caption(turn))
            for sample in json.loads(path.read_bytes())
            for key, session in sample["conversation"].items()
            if isinstance(session, list)
            for turn in session
        ]
        stored = [
            (event.user_id, event.payload["metadata"]["dia_id"], event.payload["content"])  # type: ignore[index,call-overload]
            for event in warehouse.events()
        ]
        assert sorted(stored) == sorted(turns)
        assert warehouse.ingest(path).duplicated == 2760


def longmemeval_question(question_id: str = "q1") -> dict[str, Any]:
    return {
        "question_id": question_id,
        "question": "Which breed?",
        "haystack_dates": ["2023/04/24 (Mon) 05:03", "2023/04/25 (Tue) 23:59"],
        "haystack_session_ids": ["s1", "s2"],
        "haystack_sessions": [
            [
                {"role": "user", "content": "I have a beagle.", "has_answer": True},
                {"role": "assistant", "content": "Lovely!"},
            ],
            [{"role": "user", "content": "Hello again", "has_answer": False}],
        ],
        "answer_session_ids": ["s1"],
    }


class TestLongMemEval:
    def test_every_turn_of_every_haystack_is_a_memory_of_its_question(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        questions = [longmemeval_question("q1"), longmemeval_question("q2")]
        summary = warehouse.ingest(write_json(tmp_path / "l.json", questions))
        assert (summary.files[0].format, summary.accepted) == ("longmemeval", 6)
        first, second, third = warehouse.events()[:3]
        assert [event.user_id for event in warehouse.events()] == ["q1"] * 3 + ["q2"] * 3
        assert (first.agent_id, first.session_id, third.session_id) == (None, "s1", "s2")
        assert first.payload == {
            "content": "I have a beagle.",
            "role": "user",
            "metadata": {"question_id": "q1", "session_id": "s1", "turn": 0, "has_answer": True},
        }
        assert first.occurred_at == moment("2023-04-24T05:03:00")
        assert second.occurred_at == moment("2023-04-24T05:03:01")

    def test_what_does_not_fit_is_refused_and_the_rest_kept(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        short, undated, broken = (longmemeval_question(name) for name in ("short", "undated", "broken"))
        short["haystack_dates"].pop()
        undated["haystack_dates"][1] = "April"
        broken["haystack_sessions"][0] = [{"role": "user"}, "turn"]
        summary = warehouse.ingest(write_json(tmp_path / "l.json", [short, undated, broken]))
        assert summary.accepted == 3
        assert dict(summary.reasons) == {
            "haystack_sessions, haystack_session_ids and haystack_dates do not match": 1,
            "the session has no date like 2023/04/24": 1,
            "the turn has no content": 1,
            "the turn is not a JSON object": 1,
        }

    def test_the_real_file_is_accepted_whole(self, warehouse: Warehouse) -> None:
        path = SHARED / "longmemeval_s_dev.json.gz"
        if not path.exists():
            pytest.skip("the LongMemEval file is not part of the project")
        summary = warehouse.ingest(path)
        assert summary.files[0].format == "longmemeval"
        with gzip.open(path) as file:
            questions = json.load(file)
        turns = [
            (question["question_id"], session_id, turn["content"])
            for question in questions
            for session_id, session in zip(
                question["haystack_session_ids"], question["haystack_sessions"], strict=True
            )
            for turn in session
        ]
        assert (summary.accepted, summary.duplicated, summary.quarantined) == (len(turns), 0, 0)
        stored = [(event.user_id, event.session_id, event.payload["content"]) for event in warehouse.events()]
        assert stored == turns


class TestIdentity:
    def test_the_same_memory_has_the_same_id_in_every_plain_format(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        record = {"content": "ok", "occurred_at": "2026-03-15T18:30:00Z", "tags": ["b"], "user_id": "7"}
        paths = [
            write_jsonl(tmp_path / "a.jsonl", record),
            write_json(tmp_path / "b.json", [record]),
            write_csv(tmp_path / "c.csv", list(record), ["ok", "2026-03-15T19:30:00+01:00", "b", "7"]),
            write_parquet(tmp_path / "d.parquet", {name: [value] for name, value in record.items()}),
        ]
        summary = warehouse.ingest(*paths)
        assert (summary.accepted, summary.duplicated) == (1, 3)

    def test_equal_records_are_one_memory_if_they_say_when_and_several_if_not(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        dated = {"content": "ok", "occurred_at": "2026-03-15"}
        summary = warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", dated, dated, *[{"content": "ok"}] * 3))
        assert (summary.accepted, summary.duplicated) == (4, 1)

    @pytest.mark.parametrize(
        "change",
        [
            {"content": "OK"},
            {"role": "assistant"},
            {"user_id": "jonas"},
            {"agent_id": "otter"},
            {"session_id": "s2"},
            {"occurred_at": "2026-03-15T18:30:01"},
            {"tags": ["b", "a"]},
            {"metadata": {"k": 2}},
            {"more": 1},
        ],
    )
    def test_a_difference_in_what_it_is_makes_another_memory(
        self, warehouse: Warehouse, tmp_path: Path, change: dict[str, object]
    ) -> None:
        record = {"content": "ok", "occurred_at": "2026-03-15", "tags": ["a", "b"], "metadata": {"k": 1}}
        summary = warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", record, record | change))
        assert summary.accepted == 2

    def test_the_order_of_keys_makes_no_other_memory(self, warehouse: Warehouse, tmp_path: Path) -> None:
        records = [
            {"content": "ok", "occurred_at": "2026-03-15", "metadata": {"a": {"x": 1, "y": 2}, "b": 3}},
            {"b": 3, "metadata": {"a": {"y": 2, "x": 1}}, "occurred_at": "2026-03-15", "content": "ok"},
        ]
        assert warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", *records)).duplicated == 1

    def test_ids_are_version_7_and_begin_with_the_time(self, warehouse: Warehouse, tmp_path: Path) -> None:
        warehouse.ingest(write_jsonl(tmp_path / "m.jsonl", {"content": "a", "occurred_at": 1773599400}))
        event_id: UUID = warehouse.events()[0].event_id
        assert event_id.version == 7
        assert event_id.int >> 80 == 1773599400_000


class TestDetection:
    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("a.jsonl", '{"content": "x"}', "jsonl"),
            ("a.ndjson", '{"content": "x"}\n{"content": "y"}', "jsonl"),
            ("a.json", '{"content": "x"}\n{"content": "y"}', "jsonl"),
            ("a.log", '\n\n{"content": "x"}', "jsonl"),
            ("a.jsonl", 'garbage\n{"event_id": 1, "event_type": 2}', "events"),
            ("a.jsonl", "garbage", "jsonl"),
            ("a.jsonl", "[garbage]", "jsonl"),
            ("a.json", "garbage", "json"),
            ("a.json", '[{"content": "x"}]', "json"),
            ("a.json", '[{"content": "x', "json"),
            ("a.data", '{\n"content": "x"\n}', "json"),
            ("a.json", json.dumps(locomo_sample()), "locomo"),
            ("a", json.dumps([locomo_sample()], indent=2), "locomo"),
            ("a.json", json.dumps([{"x": "é" * 100, **longmemeval_question()}]), "longmemeval"),
            ("a.json", '{\n "haystack_sessions": [[]]', "longmemeval"),
            ("a.CSV", "anything", "csv"),
            ("a.md", "anything", "markdown"),
            ("a.bin", "PAR1", "parquet"),
        ],
    )
    def test_a_format_is_told_by_name_and_content(
        self, tmp_path: Path, name: str, text: str, expected: str
    ) -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert detect_format(tmp_path / name) == expected
        if expected not in ("parquet", "markdown"):
            packed = tmp_path / f"{name}.gz"
            packed.write_bytes(gzip.compress(text.encode()))
            assert detect_format(packed) == expected

    def test_a_cut_inside_a_character_does_not_confuse(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = json.dumps([{**longmemeval_question(), "note": "é" * 1000}], ensure_ascii=False)
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        for size in (len(text.encode()) - 100, len(text.encode()) - 101):
            monkeypatch.setattr("mnemoduck.importers.formats.HEAD_BYTES", size)
            assert detect_format(tmp_path / "a.json") == "longmemeval"

    def test_an_unknown_format_names_the_known_ones(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("Dear diary")
        with pytest.raises(UnknownFormatError) as caught:
            detect_format(tmp_path / "a.txt")
        assert "--format" in str(caught.value)
        assert all(name in str(caught.value) for name in FORMATS)


def test_a_small_parquet_file_that_stands_for_gigabytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.parquet"
    text = pa.array(["x" * MAX_CONTENT_BYTES])
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), text)
    pq.write_table(pa.table({"content": texts}), file, compression="zstd")
    assert file.stat().st_size < 2_000
    home = open_home(tmp_path / "home")
    with pytest.raises(NothingIngestedError, match="grows suspiciously"):
        ingest(home, [file], known_event_ids=lambda ids: set())
    assert sum(path.stat().st_size for path in home.inbox.rglob("*")) < 1_000_000
