"""What expectations look at, what comes of them, and what may be edited; Great Expectations is not run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.snapshot_files import write_snapshot

from mnemoduck import dbt_plugin
from mnemoduck.errors import ExpectationError, UsageError
from mnemoduck.events import Event, new_event
from mnemoduck.expectations import verdicts, waiting, worker
from mnemoduck.expectations.checkpoint import Request, check_incoming
from mnemoduck.expectations.suites import read_suite
from mnemoduck.expectations.verdicts import (
    Skipped,
    Unmet,
    Verdict,
    last_verdicts,
    read_verdicts,
    record_verdict,
)
from mnemoduck.expectations.worker import make_tables
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import InboxWriter
from mnemoduck.pipeline.load import load_inbox
from mnemoduck.pipeline.publish import publish
from mnemoduck.project import find_expectations, find_project
from mnemoduck.settings import load_settings

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PROJECT = find_project()


def remember(home: Home, *lines: Event | bytes) -> None:
    writer = InboxWriter(home)
    writer.append([line.to_line() if isinstance(line, Event) else line for line in lines])
    writer.close()


def memories(count: int, recorded_at: datetime = NOW, text: str = "the sea is {} today") -> list[Event]:
    return [
        new_event(
            "memory",
            {"content": text.format(number)},
            recorded_at=recorded_at,
            occurred_at=recorded_at,
            user_id="maya",
        )
        for number in range(count)
    ]


def incoming(home: Home, as_of: datetime = NOW) -> dict[str, pd.DataFrame]:
    request = Request(suite="incoming", severity="fail", home=home.path, project=PROJECT, as_of=as_of)
    return make_tables(request, home, read_suite(PROJECT, "incoming"))


def published(home: Home, candidate: Path, before: Path | None) -> dict[str, pd.DataFrame]:
    request = Request(
        suite="published",
        severity="fail",
        home=home.path,
        project=PROJECT,
        as_of=NOW,
        candidate=candidate,
        before=before,
    )
    return make_tables(request, home, read_suite(PROJECT, "published"))


def value(tables: dict[str, pd.DataFrame], table: str, column: str) -> float | None:
    """The only value of a column; None where there is none."""
    (found,) = tables[table][column]
    return None if pd.isna(found) else float(found)


def tree(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file under a folder: its bytes, its time and its number on the disk."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


LINES = st.lists(
    st.one_of(
        st.builds(lambda count: memories(1, text=f"text {count} {{}}")[0].to_line(), st.integers(0, 99)),
        st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"") + b"\n"),
    ),
    max_size=6,
)


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(LINES, st.booleans(), st.sampled_from([b"", b'{"event_id":"0', b"\xff\xfe"])), max_size=4
    )
)
def test_reading_what_waits_changes_no_byte_name_or_time_of_the_inbox(
    segments: list[tuple[list[bytes], bool, bytes]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(Path(folder) / "home")
        for number, (lines, is_open, torn) in enumerate(segments):
            name = f"20260320T120000{number:06d}Z-1-aaaa{'.open' if is_open else '.jsonl'}"
            (home.inbox / name).write_bytes(b"".join(lines) + torn)
        before = tree(home.path)
        tables = incoming(home)
        assert tree(home.path) == before
        said = [line for lines, _, _ in segments for line in lines]
        assert (value(tables, "lines", "quarantined_share") is None) == (not said)


def test_lines_that_are_no_events_are_a_share_of_what_waits(home: Home) -> None:
    remember(home, *memories(15), *[b"no event\n"] * 5)
    assert value(incoming(home), "lines", "quarantined_share") == 0.25


def test_a_torn_last_line_is_not_counted(home: Home) -> None:
    remember(home, *memories(4))
    with (home.inbox / "20260320T120000000000Z-1-aaaa.open").open("wb") as file:
        file.write(memories(1)[0].to_line()[:30])
    assert value(incoming(home), "lines", "quarantined_share") == 0


def test_what_a_load_has_read_but_not_yet_moved_away_does_not_wait(home: Home) -> None:
    remember(home, *memories(3))
    load_inbox(home)
    (segment,) = home.loaded.rglob("*.jsonl")
    os.rename(segment, home.inbox / segment.name)  # as if the load had died before it moved it
    assert value(incoming(home), "lines", "future_share") is None


def test_events_of_the_future_are_a_share_by_when_they_were_recorded(home: Home) -> None:
    far = new_event("memory", {"content": "next year"}, recorded_at=NOW, occurred_at=NOW + 300 * DAY)
    remember(home, *memories(9), far)
    tables = incoming(home)
    assert value(tables, "lines", "future_share") == pytest.approx(0.1)
    assert value(tables, "lines", "clock_ahead_share") == 0


def test_a_writer_whose_clock_is_ahead_is_seen(home: Home) -> None:
    remember(home, *memories(10, datetime(2090, 1, 1, tzinfo=UTC)))
    assert value(incoming(home), "lines", "clock_ahead_share") == 1


def test_a_run_that_looks_from_an_earlier_moment_takes_no_clock_for_ahead(home: Home) -> None:
    remember(home, *memories(10))
    assert value(incoming(home, NOW - 30 * DAY), "lines", "clock_ahead_share") == 0


def test_a_segment_that_a_run_loads_meanwhile_no_longer_waits(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(home, *memories(3))
    (segment,) = home.inbox.glob("*.jsonl")
    listed = [(segment, segment.stat().st_size)]
    monkeypatch.setattr(waiting, "_waiting_segments", lambda _home, _loaded: listed)
    load_inbox(home)
    assert value(incoming(home), "lines", "quarantined_share") is None


def test_an_event_that_was_loaded_before_is_a_repeat(home: Home) -> None:
    events = memories(10)
    remember(home, *events)
    load_inbox(home)
    remember(home, *events[:5], *memories(5))
    assert value(incoming(home), "lines", "repeated_event_share") == 0.5


def test_an_agent_that_remembers_the_same_again_and_again_is_seen(home: Home) -> None:
    remember(home, *memories(60, text="again"))
    assert value(incoming(home), "lines", "repeated_text_share") == pytest.approx(59 / 60)


def test_a_day_is_compared_with_the_days_before_however_often_they_were_loaded(home: Home) -> None:
    for days_ago in (5, 4, 3, 2):
        for hours in (0, 6):
            remember(home, *memories(20, NOW - days_ago * DAY + timedelta(hours=hours)))
            load_inbox(home)
    remember(home, *memories(1, NOW - timedelta(hours=3)))
    load_inbox(home)
    remember(home, *memories(1))
    assert value(incoming(home), "volume", "day_ratio") == pytest.approx(2 / 40)


def test_silence_is_measured_by_the_longest_one_before(home: Home) -> None:
    for days_ago in (6, 5, 3):
        remember(home, *memories(2, NOW - days_ago * DAY))
    load_inbox(home)
    assert value(incoming(home, NOW - 3 * DAY), "volume", "silence_ratio") == 0
    assert value(incoming(home, NOW + 3 * DAY), "volume", "silence_ratio") == pytest.approx(3)


def test_a_type_of_event_that_takes_over_is_seen(home: Home) -> None:
    remember(home, *memories(200))
    load_inbox(home)
    step = {"episode_id": "e", "step": 1, "tool": "search"}
    remember(home, *memories(10), *[new_event("step", step, recorded_at=NOW) for _ in range(90)])
    types = incoming(home)["types"].set_index("event_type")
    assert types.loc["step", "share_shift"] == pytest.approx(0.9)
    assert types.loc["memory", "share_shift"] == pytest.approx(0.9)


def test_the_distribution_of_lengths_is_compared_with_what_was_loaded(home: Home) -> None:
    remember(home, *memories(300))
    load_inbox(home)
    remember(home, *memories(300))
    assert incoming(home)["lengths"]["stability_part"].sum() < 0.05
    remember(home, *memories(300, text="a much longer text than there was before, " * 20 + "{}"))
    assert incoming(home)["lengths"]["stability_part"].sum() > 0.5


def test_of_a_large_inbox_every_line_is_counted_and_a_spread_sample_read(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(waiting, "SAMPLED_BYTES", 10_000)
    remember(home, *memories(1000), *[b"no event " * 40 + b"\n"] * 1000)
    with duckdb.connect() as connection:
        waiting.make_incoming_tables(connection, home)
        row = connection.execute("from inbox").fetchone()
        parsed = connection.execute("select count(*) from waiting").fetchone()
    assert row is not None
    assert parsed is not None
    _, lines, sampled, quarantined = row
    assert lines == 2000
    assert sampled < 400
    assert parsed[0] + quarantined == sampled
    assert parsed[0] > 0
    assert quarantined > 0


def test_without_history_there_is_nothing_to_compare(home: Home, tmp_path: Path) -> None:
    remember(home, *memories(300))
    tables = incoming(home)
    for table, column in (
        ("lines", "late_rise"),
        ("volume", "day_ratio"),
        ("types", "share_shift"),
        ("lengths", "stability_part"),
    ):
        assert tables[table][column].isna().all(), column
    tables = published(home, write_snapshot(tmp_path / "a.duckdb"), None)
    for table, column in (
        ("freshness", "hours_behind"),
        ("months", "kept_share"),
        ("users", "kept_share"),
        ("importance", "stability_part"),
        ("enrichment", "model_shift"),
        ("health", "forgotten_rise"),
    ):
        assert tables[table][column].isna().all(), column


def test_a_snapshot_like_the_one_before_differs_in_nothing(home: Home, tmp_path: Path) -> None:
    a, b = write_snapshot(tmp_path / "a.duckdb"), write_snapshot(tmp_path / "b.duckdb")
    tables = published(home, a, b)
    assert value(tables, "freshness", "hours_behind") == 0
    assert list(tables["months"]["kept_share"]) == [1]
    assert tables["importance"]["stability_part"].sum() == 0
    assert list(tables["enrichment"]["model_shift"]) == [0] * 6
    assert value(tables, "health", "forgotten_rise") == 0
    assert list(tables["working_memory"]["slots"]) == [5]


def test_lost_memories_are_told_by_month_and_by_user(home: Home, tmp_path: Path) -> None:
    before = write_snapshot(tmp_path / "before.duckdb", memories=1000, users=4)
    fewer = write_snapshot(tmp_path / "fewer.duckdb", memories=700, users=4)
    tables = published(home, fewer, before)
    months = tables["months"].set_index("month")["kept_share"]
    assert months["all"] == pytest.approx(0.7)
    assert months["2026-04"] < 0.5
    assert "2026-03" not in months
    users = tables["users"].set_index("user_id")["kept_share"]
    assert users["all users"] == 1
    assert users["u1"] == pytest.approx(0.7)
    assert value(tables, "freshness", "hours_behind") == pytest.approx(300)


def test_importance_that_drifts_is_told_of_all_and_of_new_memories(home: Home, tmp_path: Path) -> None:
    before = write_snapshot(tmp_path / "before.duckdb", memories=400)
    scored_anew = write_snapshot(tmp_path / "anew.duckdb", importance="0.95")
    assert published(home, scored_anew, before)["importance"]["stability_part"].sum() > 1
    arrived = "if(number < 400, ((number * 37) % 100) / 100, 0.95)"
    more = write_snapshot(tmp_path / "more.duckdb", memories=800, importance=arrived, loads=2)
    parts = published(home, more, before)["importance"]
    assert parts["new_stability_part"].sum() > 1
    assert parts["stability_part"].sum() < parts["new_stability_part"].sum()


def test_a_model_that_no_longer_answers_is_told_of_new_memories(home: Home, tmp_path: Path) -> None:
    before = write_snapshot(tmp_path / "before.duckdb", memories=400, method="'model'")
    more = write_snapshot(
        tmp_path / "more.duckdb", memories=500, method="if(number < 400, 'model', 'lexical')", loads=2
    )
    assert list(published(home, more, before)["enrichment"]["new_model_drop"]) == [1] * 6


def test_a_model_that_the_snapshot_before_has_otherwise_is_not_compared(home: Home, tmp_path: Path) -> None:
    now, before = write_snapshot(tmp_path / "now.duckdb"), write_snapshot(tmp_path / "before.duckdb")
    with duckdb.connect(str(before)) as connection:
        connection.execute("alter table memory_features drop column summary_method")
        connection.execute("drop table staging.raw_batches")
    tables = published(home, now, before)
    assert tables["enrichment"]["model_shift"].isna().all()
    assert value(tables, "freshness", "loads_behind") is None
    assert list(tables["months"]["kept_share"]) == [1]


def test_every_expectation_is_on_a_column_that_its_table_has(home: Home, tmp_path: Path) -> None:
    tables = {"incoming": incoming(home), "published": published(home, write_snapshot(tmp_path / "a"), None)}
    for name, of_suite in tables.items():
        suite = read_suite(PROJECT, name)
        assert set(of_suite) == {path.stem for path in (find_expectations(PROJECT) / name).glob("*.sql")}
        for table, expectations in suite.expectations.items():
            assert {one.column for one in expectations} <= set(of_suite[table].columns)


def edited(tmp_path: Path, suite: Any, **queries: str) -> Path:
    """A project whose incoming suite is another."""
    folder = find_expectations(tmp_path)
    (folder / "incoming").mkdir(parents=True)
    (folder / "incoming.json").write_text(suite if isinstance(suite, str) else json.dumps(suite))
    for table, sql in queries.items():
        (folder / "incoming" / f"{table}.sql").write_text(sql)
    return tmp_path


ON_LINES = {
    "type": "expect_column_max_to_be_between",
    "kwargs": {"column": "share", "max_value": 1},
    "meta": {"table": "lines"},
}


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ("{", "is no JSON"),
        ([], "is no object with a list `expectations`"),
        ({"expectations": []}, "has no expectations"),
        ({"expectations": [{"kwargs": {}}]}, "Expectation 1 of .* has no `type`"),
        ({"expectations": [{"type": "expect_x"}]}, "names no `table`"),
        ({"expectations": [{**ON_LINES, "meta": {"table": "../x"}}]}, "names no `table`"),
        ({"expectations": [ON_LINES]}, r"lines.sql of the table lines cannot be read"),
    ],
)
def test_a_suite_that_cannot_be_read_says_where_and_why(tmp_path: Path, suite: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_suite(edited(tmp_path, suite), "incoming")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select 1 as other", "is on the column share of lines, which has other"),
        ("select nothing as share", "The query incoming/lines.sql failed: Binder Error"),
        ("select range::varchar as what, 0 as share from range(2000)", "has 2,000 rows; it may have 1,000"),
    ],
)
def test_a_query_that_does_not_feed_its_expectations_says_so(
    home: Home, tmp_path: Path, sql: str, said: str
) -> None:
    project = edited(tmp_path, {"expectations": [ON_LINES]}, lines=sql)
    request = Request(suite="incoming", severity="fail", home=home.path, project=project, as_of=NOW)
    with pytest.raises(UsageError, match=said):
        worker.check(request)


def test_what_cannot_be_looked_at_is_skipped_and_not_passed(home: Home, tmp_path: Path) -> None:
    project = edited(tmp_path, {"expectations": [ON_LINES]}, lines="select 'x' as what, null as share")
    request = Request(suite="incoming", severity="fail", home=home.path, project=project, as_of=NOW)
    verdict = worker.check(request)
    assert (verdict.result, verdict.evaluated, len(verdict.skipped)) == ("skipped", 0, 1)
    assert not home.data_docs.exists()


def test_a_suite_that_cannot_run_is_an_error_that_stops_whatever_its_severity(
    home: Home, tmp_path: Path
) -> None:
    verdict = check_incoming(home, edited(tmp_path, "{"), "warn")
    assert verdict.stops
    assert verdict.result == "error"
    assert "is no JSON" in verdict.summary
    assert last_verdicts(home)["incoming"] == verdict


def unmet(severity: verdicts.Severity) -> Unmet:
    return Unmet(expectation="expect_x", table="t", column="c", severity=severity, message="c is 3.")


def at(moment: datetime, **fields: Any) -> Verdict:
    return Verdict(
        **{"suite": "incoming", "checked_at": moment, "severity": "fail", "evaluated": 1, **fields}
    )


@pytest.mark.parametrize(
    ("failed", "result", "stops"),
    [((), "passed", False), (("warn",), "warned", False), (("warn", "fail"), "failed", True)],
)
def test_only_an_expectation_that_may_fail_stops_a_run(
    failed: Sequence[verdicts.Severity], result: str, stops: bool
) -> None:
    verdict = at(NOW, failed=tuple(unmet(severity) for severity in failed))
    assert (verdict.result, verdict.stops, verdict.success) == (result, stops, not failed)


@pytest.mark.parametrize(
    ("of_suite", "of_expectation", "follows"),
    [("fail", "critical", "fail"), ("fail", "warning", "warn"), ("warn", "critical", "warn")],
)
def test_an_expectation_fails_only_if_it_is_critical_and_its_suite_may(
    home: Home, of_suite: verdicts.Severity, of_expectation: str, follows: str
) -> None:
    result = {
        "success": False,
        "expectation_config": {
            "type": "expect_column_max_to_be_between",
            "kwargs": {"column": "share"},
            "severity": of_expectation,
            "description": "At most 1 %",
        },
        "result": {"observed_value": 0.25},
    }
    request = Request(suite="incoming", severity=of_suite, home=home.path, project=PROJECT, as_of=NOW)
    (found,) = worker._read_result(result, "lines", "what", request)
    assert (found.severity, found.message) == (follows, "At most 1 %. share is 0.25.")


def test_an_expectation_that_raised_is_no_result(home: Home) -> None:
    result = {
        "success": False,
        "expectation_config": {"type": "expect_x", "kwargs": {}},
        "exception_info": {"('a', 'b')": {"raised_exception": True, "exception_message": "it broke"}},
        "result": {},
    }
    request = Request(suite="incoming", severity="warn", home=home.path, project=PROJECT, as_of=NOW)
    with pytest.raises(UsageError, match="could not be looked at: it broke"):
        worker._read_result(result, "lines", "what", request)


def test_results_are_told_in_their_order_and_without_what_a_crash_tore(home: Home) -> None:
    first, last = (
        at(NOW),
        at(NOW + DAY, skipped=(Skipped(expectation="e", table="t", column=None, reason="r"),)),
    )
    record_verdict(home, first)
    path = home.expectations / "results.jsonl"
    with path.open("ab") as file:
        file.write(b'{"suite": "inco')
    record_verdict(home, last)
    assert list(read_verdicts(home)) == [first, last]
    assert list(read_verdicts(home, since=NOW + DAY)) == [last]
    assert path.stat().st_mode & 0o077 == 0
    said = json.loads(path.read_text().splitlines()[-1])
    assert said["success"] is True
    assert said["failed"] == []


def test_the_results_of_a_year_are_kept_a_file_for_each_month(home: Home) -> None:
    for month in range(15):
        record_verdict(home, at(datetime(2026 + month // 12, month % 12 + 1, 3, tzinfo=UTC)))
    files = sorted(path.name for path in home.expectations.glob("*.jsonl"))
    assert files == [
        *(f"results-2026-{month:02d}.jsonl" for month in range(3, 13)),
        "results-2027-01.jsonl",
        "results-2027-02.jsonl",
        "results.jsonl",
    ]
    assert len(list(read_verdicts(home))) == 13


def test_only_the_results_of_the_newest_checks_are_kept(home: Home) -> None:
    folder = home.expectations / "validations" / "incoming_lines"
    for number in range(worker.KEPT_RESULTS + 5):
        (folder / f"20260320T{number:06d}" / "x").mkdir(parents=True)
    worker._forget_old_results(home)
    kept = sorted(path.name for path in folder.iterdir())
    assert len(kept) == worker.KEPT_RESULTS - 1  # and the one that comes now
    assert kept[-1] == f"20260320T{worker.KEPT_RESULTS + 4:06d}"


def test_a_snapshot_that_is_refused_leaves_readers_where_they_are(home: Home) -> None:
    write_snapshot(home.warehouse)
    publish(home, "aaaaaaaaaaaa", 1)
    current = home.current.read_text()
    seen = []

    def refuse(candidate: Path, before: Path | None) -> None:
        seen.append((candidate.suffix, candidate.exists(), before and before.name))
        raise ExpectationError("no")

    with pytest.raises(ExpectationError):
        publish(home, "bbbbbbbbbbbb", 1, refuse)
    assert seen == [(".tmp", True, current.strip())]
    assert home.current.read_text() == current
    assert [path.name for path in home.published.iterdir() if path.suffix != ".duckdb"] == ["CURRENT"]


@pytest.mark.parametrize(
    ("said", "asked", "is_raised"), [("off", 0, False), ("warn", 1, False), ("fail", 1, True)]
)
def test_publishing_asks_only_if_told_to_and_stops_only_if_that_may_fail(
    home: Home, monkeypatch: pytest.MonkeyPatch, said: str, asked: int, is_raised: bool
) -> None:
    questions: list[tuple[Path, Path | None]] = []
    notices: list[str] = []

    def answer(
        _home: Home, _project: Path, severity: verdicts.Severity, candidate: Path, before: Path | None
    ) -> Verdict:
        questions.append((candidate, before))
        return at(NOW, suite="published", failed=(unmet(severity),))

    monkeypatch.setenv("MNEMODUCK_EXPECTATIONS_PUBLISHED", said)
    monkeypatch.setattr(dbt_plugin, "check_published", answer)
    monkeypatch.setattr(dbt_plugin, "say", notices.append)
    plugin = object.__new__(dbt_plugin.Plugin)
    plugin._home = home
    plugin._settings = load_settings(home)
    if is_raised:
        with pytest.raises(ExpectationError, match=r"expectations on published failed: .*\nfail: c is 3\."):
            plugin._examine(home.warehouse, None)
    else:
        plugin._examine(home.warehouse, None)
    assert questions == [(home.warehouse, None)] * asked
    assert notices == (
        ["expectations on published warned: 1 looked at, 1 not met, 0 skipped", "warn: c is 3."]
        if said == "warn"
        else []
    )


def test_the_process_that_checks_speaks_to_no_other_machine() -> None:
    for event, arguments in (
        ("socket.connect", (None, ("192.0.2.1", 443))),
        ("socket.getaddrinfo", ("x", 443)),
    ):
        with pytest.raises(worker.NetworkRefusedError):
            worker._refuse_network(event, arguments)
    worker._refuse_network("socket.connect", (None, "/run/a.socket"))
    worker._refuse_network("open", ("file", "r", 0))


def test_a_name_of_a_user_is_a_text_in_pages_and_itself_in_sentences() -> None:
    """Great Expectations puts values into its pages as they are: a script in a user's id would run."""
    from mnemoduck.expectations.worker import _escape_texts, _observed

    name = "<script>PWNED()</script>\"'&"
    rows = pd.DataFrame({"user_id": [name, None], "kept_share": [0.1, 0.9]})
    escaped = _escape_texts(rows)
    assert not set(escaped["user_id"][0]) & set("<>\"'")
    assert escaped["kept_share"].tolist() == [0.1, 0.9]
    found = {"unexpected_index_list": [{"user_id": escaped["user_id"][0], "kept_share": 0.1}]}
    assert _observed(found, "kept_share", "user_id") == f"kept_share is 0.1 of {name}."
