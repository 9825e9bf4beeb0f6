"""Metrics of a home: what Prometheus is told, what it is not, and what a scrape leaves alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import stat
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from mnemoduck.errors import StorageError, UsageError
from mnemoduck.home import Home
from mnemoduck.inbox import InboxWriter, seal_open_segments
from mnemoduck.memory import Memory
from mnemoduck.metrics import (
    METRICS,
    MetricsServer,
    collecting,
    home_registry,
    parse_address,
    serving,
    write_textfile,
)
from mnemoduck.pipeline.history import NodeRun, RunRecord, record_run
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.tally import RunTally, keep_counts
from mnemoduck.quarantine import Rejection, quarantine
from mnemoduck.waiting import WaitingEvents, arrived_at
from mnemoduck.warehouse import Snapshot

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"
START = datetime(2026, 3, 31, 23, 0, tzinfo=UTC)
HOSTILE = 'needle"} 1\\ é'

Values = dict[tuple[str, ...], float]


def read(registry: CollectorRegistry) -> dict[str, Values]:
    """Return the values of each sample by its labels, in the order of their names, of a parsed exposition."""
    found: dict[str, Values] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for one in family.samples:
            key = tuple(value for _, value in sorted(one.labels.items()))
            found.setdefault(one.name.removeprefix("mnemoduck_"), {})[key] = one.value
    return found


def scrape(home: Home) -> dict[str, Values]:
    return read(home_registry(home))


def a_run(number: int, outcome: str = "published", **more: object) -> RunRecord:
    started_at = START + timedelta(minutes=10 * number)
    return RunRecord.model_validate(
        {
            "run_id": f"run-{number}",
            "command": "run",
            "outcome": outcome,
            "started_at": started_at,
            "ended_at": started_at + timedelta(seconds=12.5),
            **more,
        }
    )


def a_model(name: str, seconds: float, rows: int | None = None, status: str = "success") -> NodeRun:
    return NodeRun(name=name, kind="model", status=status, seconds=seconds, rows=rows)


def test_of_a_new_home_only_what_is_known_is_told(home: Home) -> None:
    found = scrape(home)
    assert found["events_waiting"] == {("arrived",): 0, ("loaded",): 0}
    assert found["run_lock_held"] == {(): 0}
    assert found["quarantined_lines"] == {(): 0}
    assert found["storage_bytes"][("inbox",)] == 0
    unknown = ("memories", "runs_total", "snapshot_size_bytes", "recall_cache_hits_total", "last_run_outcome")
    assert not {*unknown, "run_lock_acquired_timestamp_seconds", "expectations_passed"} & set(found)
    assert ("archive",) not in found["storage_bytes"]
    assert set(found["scrape_error"].values()) == {0}


def test_what_waits_is_counted_wherever_it_waits_and_dated_by_when_it_came(
    home: Home, make_snapshot: Callable[[int], Path]
) -> None:
    make_snapshot(1)
    registry = home_registry(home)
    with Memory(home.path) as memory:
        for number in range(3):
            memory.remember(f"note {number}", occurred_at=datetime(2020, 1, 1, tzinfo=UTC))
    begun = min(arrived_at(path) for path in home.inbox.glob("*.jsonl"))
    found = read(registry)
    assert found["events_waiting"] == {("arrived",): 3, ("loaded",): 0}
    assert found["events_waiting_oldest_timestamp_seconds"][()] == pytest.approx(begun.timestamp())
    for batch in (1, 2):  # what the snapshot has is in it; what it has not waits to be published
        folder = home.loaded / f"{batch:012d}"
        folder.mkdir()
        (folder / f"20260101T000000000000Z-1-{batch}.jsonl").write_bytes(b"{}\n" * 5)
    found = read(registry)
    assert found["events_waiting"] == {("arrived",): 3, ("loaded",): 5}
    oldest = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert found["events_waiting_oldest_timestamp_seconds"][()] == oldest


def test_a_segment_is_counted_on_while_it_grows_is_sealed_moved_and_taken_back(home: Home) -> None:
    waiting = WaitingEvents(home)
    writer = InboxWriter(home)
    writer.append([b"{}\n", b"{}\n"])
    assert waiting.look(0).arrived == 2
    writer.append([b"{}\n"])
    assert waiting.look(0).arrived == 3
    (path,) = seal_open_segments(home).sealed
    assert waiting.look(0).arrived == 3
    folder = home.loaded / "000000000001"
    folder.mkdir()
    path.rename(folder / path.name)
    assert (waiting.look(0).arrived, waiting.look(0).loaded, waiting.look(1).total) == (0, 3, 0)
    os.truncate(folder / path.name, 3)
    assert waiting.look(0).loaded == 1
    writer.close()


def test_runs_are_counted_over_the_whole_history_and_the_last_of_each_rhythm_is_told(home: Home) -> None:
    record_run(home, a_run(0, events_loaded=5, nodes=(a_model("a", 1.0, 7), a_model("b", 2.0, 8))))
    record_run(home, a_run(1, "not published", rhythm="hourly", errors=("no",), peak_memory_bytes=99))
    nodes = (a_model("a", 3.0, 9), a_model("c", 0.0, status="skipped"))
    record_run(home, a_run(2, "unchanged", rhythm="hourly", nodes=nodes))  # in April: another file
    record_run(home, a_run(12, "skipped", rhythm="hourly"))
    found = scrape(home)
    runs = {key: count for key, count in found["runs_total"].items() if count}
    assert runs == {
        ("published", "all"): 1,
        ("not published", "hourly"): 1,
        ("unchanged", "hourly"): 1,
        ("skipped", "hourly"): 1,
    }
    assert found["runs_total"][("skipped", "all")] == 0
    assert found["runs_events_loaded_total"][("all",)] == 5
    assert found["last_run_timestamp_seconds"][("hourly",)] == a_run(12).ended_at.timestamp()
    assert found["last_good_run_timestamp_seconds"][("hourly",)] == a_run(2).ended_at.timestamp()
    assert found["last_run_outcome"][("skipped", "hourly")] == 1
    assert sum(found["last_run_outcome"].values()) == 2
    assert found["last_run_duration_seconds"] == {("all",): 12.5, ("hourly",): 12.5}
    assert found["last_run_nodes"][("hourly", "skipped")] == 1
    assert found["model_duration_seconds"] == {("a",): 3.0, ("b",): 2.0}
    assert found["model_rows"] == {("a",): 9, ("b",): 8}
    assert "last_run_peak_memory_bytes" not in found, "the last run of that rhythm does not say"


def test_a_tally_that_is_kept_agrees_with_a_new_one_whatever_a_crash_has_torn(home: Home) -> None:
    kept = RunTally(home)
    for number in range(8):
        message = 'it said ,"nodes":[ and more'
        node = NodeRun(name="t", kind="test", status="fail", seconds=1, message=message)
        record_run(home, a_run(number, errors=(message,), nodes=(node,)))
        if number == 3:
            with next(home.runs.iterdir()).open("ab") as file:
                file.write(b'{"run_id": "torn", "comm')
        assert kept.look() == RunTally(home).look()
    (runs,) = kept.look().values()
    assert runs.outcomes == {"published": 8}
    detailed = runs.read_nodes()
    assert detailed is not None
    assert detailed.nodes[0].message == message
    before, latest = sorted(home.runs.iterdir())
    for path in (before, latest, before):  # a crash may come before a file goes
        keep_counts(home, path)
        assert kept.look()["all"] == runs
    before.unlink()
    for tally in (kept, RunTally(home)):
        assert tally.look()["all"] == runs, "a count never falls, and the last run is still known"
    latest.unlink()
    assert kept.look()["all"].outcomes == {"published": 8}
    assert kept.look()["all"].last is None


def test_the_lock_is_told_with_since_when_and_is_not_taken(home: Home) -> None:
    registry = home_registry(home)
    with RunLock(home):
        found = read(registry)
        assert found["run_lock_held"] == {(): 1}
        since = json.loads(home.run_lock.read_text())["since"]
        expected = datetime.fromisoformat(since).timestamp()
        assert found["run_lock_acquired_timestamp_seconds"] == {(): expected}
    assert read(registry)["run_lock_held"] == {(): 0}


def test_a_snapshot_is_read_once_and_never_kept_open(
    home: Home, make_snapshot: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_snapshot(1)
    opened: list[Path | None] = []

    class Counted(Snapshot):
        def __init__(self, path: Path | None, home: Home) -> None:
            opened.append(path)
            super().__init__(path, home)

    monkeypatch.setattr(collecting, "Snapshot", Counted)
    registry = home_registry(home)
    first = read(registry)
    again = read(registry)
    assert again["snapshot_size_bytes"] == first["snapshot_size_bytes"]
    assert again["scrape_error"] == first["scrape_error"]
    assert len(opened) == 1
    assert not [path for path in open_files() if path.startswith(str(home.published))]
    make_snapshot(2)
    read(registry)
    assert len(opened) == 2


def open_files() -> list[str]:
    """Return the paths of what this process has open."""
    paths = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            paths.append(os.readlink(f"/proc/self/fd/{name}"))
    return paths


def fill_snapshot(path: Path, statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(statements)


def test_memories_months_health_queries_and_models_are_read_of_the_snapshot(
    home: Home, make_snapshot: Callable[[int], Path]
) -> None:
    fill_snapshot(
        make_snapshot(1),
        """
        create schema stg_memories__months;
        create table stg_memories__months.catalog as
            select *, null::varchar as archive_file
            from (values ('hot', 5), ('hot', 6), ('cold', 7), ('dropped', 9)) t(state, row_count);
        create table memory_health as select 0.25 as junk_share, null as orphan_facts, 3 as unheard_of;
        create table query_performance as select * from (values
            ('recall', timestamp '2026-03-01', 10, 1, 5.0, 6.0, 7.0),
            ('recall', timestamp '2026-03-02', 20, 2, 50.0, 60.0, null)
        ) t(kind, hour_at, calls, errors, p50_ms, p95_ms, p99_ms);
        create table llm_cache_metrics as select * from (values
            ('m"\x1b', 'prompts', timestamp '2026-03-01', 1, 2, 3, 4, 5, 6, 7, 8, 9, 0.5, 1.5),
            ('m"\x1b', 'prompts', timestamp '2026-03-02', 1, 2, 3, 4, 5, 6, 7, 1, 9, 0.5, 1.5)
        ) t(model, kind, started_at, calls, attempts, failures, hits, misses, prompt_tokens, answer_tokens,
            pending, tokens_saved, seconds_spent, seconds_saved);
        """,
    )
    found = scrape(home)
    assert found["memories"] == {(): 18}
    assert found["partitions"] == {
        ("stg_memories", "cold"): 1,
        ("stg_memories", "dropped"): 1,
        ("stg_memories", "hot"): 2,
    }
    assert found["partition_rows"][("stg_memories", "dropped")] == 0
    assert found["memory_junk_ratio"] == {(): 0.25}
    assert "facts_orphaned" not in found, "it is not known"
    assert "memory_duplicate_ratio" not in found
    assert found["queries_sampled"] == {("recall",): 20}
    assert found["query_duration_seconds"] == {("recall", "0.5"): 0.05, ("recall", "0.95"): 0.06}
    assert found["llm_calls_total"] == {("prompts", 'm"\ufffd'): 2}
    assert found["llm_tokens_total"] == {
        ("answer", "prompts", 'm"\ufffd'): 14,
        ("prompt", "prompts", 'm"\ufffd'): 12,
    }
    assert found["llm_pending"] == {("prompts", 'm"\ufffd'): 1}
    assert found["llm_saved_seconds_total"] == {("prompts", 'm"\ufffd'): 3}


def test_the_last_verdict_of_each_suite_is_told_of_a_file_however_long(home: Home) -> None:
    folder = home.path / "expectations"
    folder.mkdir()
    results = [
        {
            "suite": f"s{number % 2}",
            "checked_at": f"2026-03-01T00:{number % 60:02}:00+00:00",
            "success": False,
        }
        | {"severity": "warn", "evaluated": number, "failed": ["x" * 500], "docs": None}
        for number in range(999)
    ]
    results.append({**results[0], "checked_at": "2026-03-02T00:00:00", "success": True, "failed": []})
    text = "".join(json.dumps(result) + "\n" for result in results) + '{"suite": "torn'
    (folder / "results.jsonl").write_text(text)
    assert len(text) > 2 * collecting.EXPECTATIONS_TAIL_BYTES
    found = scrape(home)
    assert found["expectations_passed"] == {("s0",): 1, ("s1",): 0}
    assert found["expectations_failed"] == {("s0",): 0, ("s1",): 1}
    assert found["expectations_evaluated"][("s1",)] == 997
    moment = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    assert found["expectations_checked_timestamp_seconds"][("s0",)] == moment


def test_what_cannot_be_read_is_told_and_the_rest_is_there(
    home: Home, make_snapshot: Callable[[int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    make_snapshot(1).write_bytes(b"no database" * 1000)
    (home.path / "expectations").mkdir()
    (home.path / "expectations" / "results.jsonl").write_text('{"suite": "s", "success": true}\n')
    quarantine(home, "somewhere", [Rejection(1, "why", b"\x00")], keep_whole=True)
    found = scrape(home)
    broken = {section for (section,), value in found["scrape_error"].items() if value}
    assert broken == {"expectations", "memory", "partitions", "health", "llm", "queries"}
    assert found["quarantined_lines"] == {(): 1}
    assert found["events_waiting"] == {("arrived",): 0}, "of the loaded ones nobody knows which it has"
    assert "memories" not in found
    assert "'evaluated'" in caplog.text


def test_a_scrape_of_a_home_that_is_gone_says_so(home: Home, tmp_path: Path) -> None:
    registry = home_registry(home)
    home.path.rename(tmp_path / "elsewhere")
    found = read(registry)
    assert found["scrape_error"][("disk",)] == 1
    assert found["build_info"]


def test_whose_memories_they_are_is_in_no_label(home: Home) -> None:
    with Memory(home.path) as memory:
        for number in range(20):
            memory.remember("hello", user_id=f"{HOSTILE}{number}", agent_id=HOSTILE, session_id=HOSTILE)
    text = generate_latest(home_registry(home)).decode()
    assert scrape(home)["events_waiting"][("arrived",)] == 20
    assert "needle" not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert not {"user", "user_id", "agent", "agent_id", "session_id"} & {
        label for spec in METRICS for label in spec.labels
    }


def test_each_metric_follows_the_conventions_of_prometheus() -> None:
    names = [spec.name for spec in METRICS]
    assert len(set(names)) == len(names)
    for spec in METRICS:
        assert re.fullmatch(r"mnemoduck(_[a-z]+)+", spec.name), spec.name
        assert spec.name.endswith("_total") == (spec.kind == "counter"), spec.name
        assert spec.name.endswith("_info") == (spec.kind == "info"), spec.name
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent|age)(_|$)", spec.name), spec.name
        assert not spec.help[0].islower(), spec.name
        assert not spec.help.endswith("."), spec.name


def test_the_page_on_monitoring_has_every_metric_as_it_is() -> None:
    rows = re.findall(r"^\| `(mnemoduck_\w+)` \| (\w+) \|(.*?)\| (.*) \|$", PAGE.read_text("utf-8"), re.M)
    documented = [
        (name, kind, tuple(label.strip("` ") for label in labels.split(",") if label.strip()), help)
        for name, kind, labels, help in rows
    ]
    assert documented == [(spec.name, spec.kind, spec.labels, spec.help) for spec in METRICS]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9464", ("127.0.0.1", 9464)),
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("metrics.local:80", ("metrics.local", 80)),
    ],
)
def test_addresses_are_read_as_they_are_written(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":", "host", ":65536", "a:b", "::1:80", "http://x:80", ": 80", "a b:80"]
)
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="no address to serve at"):
        parse_address(text)


@pytest.fixture
def server(home: Home) -> Iterator[MetricsServer]:
    with MetricsServer(home) as server:
        yield server


def test_each_scrape_over_http_is_fresh(home: Home, server: MetricsServer) -> None:
    def arrived() -> float:
        with urllib.request.urlopen(server.url, timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            families = text_string_to_metric_families(answer.read().decode())
        (family,) = (family for family in families if family.name == "mnemoduck_events_waiting")
        return next(one.value for one in family.samples if one.labels["stage"] == "arrived")

    request = urllib.request.Request(server.url, headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=60) as answer:  # what Prometheus asks for first
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        families = openmetrics.text_string_to_metric_families(answer.read().decode())  # type: ignore[no-untyped-call]
        names = {family.name for family in families}
        assert {"mnemoduck_build", "mnemoduck_events_waiting"} <= names
    assert arrived() == 0
    with Memory(home.path) as memory:
        memory.remember("hello")
        assert arrived() == 1


@pytest.mark.parametrize(
    "path",
    ["/", "/home.json", "/../home.json", "/%2e%2e/home.json", "//etc/passwd", "/metrics?f=home.json"],
)
def test_no_path_reads_a_file_and_no_answer_names_a_user(
    home: Home, server: MetricsServer, path: str
) -> None:
    with Memory(home.path) as memory:
        memory.remember("a hidden duck", user_id="hidden user", session_id="hidden session")
    connection = http.client.HTTPConnection(server.url.split("/")[2], timeout=60)
    connection.request("GET", path, headers={"Host": "rebound.example", "Origin": "http://rebound.example"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert text.startswith("# HELP mnemoduck_")
    assert "layout_version" not in text
    assert "hidden" not in text
    assert "Access-Control-Allow-Origin" not in answer.headers
    for method in ("POST", "PUT", "DELETE"):
        connection.request(method, path)
        assert connection.getresponse().status in (405, 501)
        connection.close()


def test_clients_that_say_nothing_keep_nobody_waiting_for_long(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(serving, "CONNECTION_SECONDS", 0.3)
    with MetricsServer(home) as server, contextlib.ExitStack() as silent:
        host, _, port = server.url.split("/")[2].partition(":")
        threads = threading.active_count()
        for _ in range(6):
            silent.enter_context(socket.create_connection((host, int(port))))
        time.sleep(0.1)
        assert threading.active_count() <= threads + 2
        with urllib.request.urlopen(server.url, timeout=60) as answer:
            assert answer.status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_an_address_that_is_taken_is_told(home: Home, server: MetricsServer) -> None:
    port = int(server.url.split(":")[2].split("/")[0])
    with pytest.raises(UsageError, match=f"cannot be served at 127.0.0.1:{port}"):
        MetricsServer(home, port=port)


def test_a_textfile_is_replaced_whole_and_everybody_may_read_it(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "mnemoduck.prom"
    path.write_text("old")
    before = os.umask(0o022)
    try:
        write_textfile(home, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    names = {family.name for family in text_string_to_metric_families(path.read_text())}
    assert "mnemoduck_events_waiting" in names
    assert list(tmp_path.glob("mnemoduck.prom*")) == [path]
    with pytest.raises(UsageError, match=r"does not end in \.prom"):
        write_textfile(home, tmp_path / "metrics.txt")
    with pytest.raises(StorageError, match="could not be written"):
        write_textfile(home, tmp_path / "nowhere" / "metrics.prom")
