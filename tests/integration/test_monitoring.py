"""A home that was really built, as Prometheus, Grafana and the doctor see it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import promql_parser
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mnemoduck import Memory
from mnemoduck.home import Home
from mnemoduck.metrics import METRICS, home_registry
from mnemoduck.pipeline.history import NodeRun, RunRecord, record_run
from mnemoduck.pipeline.lock import RunLock
from tests.integration.workbench import PROJECT, Workbench

ORCHESTRATION = PROJECT / "orchestration"
OF_PROMETHEUS = {"up": {"job", "instance"}}
"""What Prometheus itself makes of each target."""
OF_TARGETS = {"job", "instance"}
"""Labels that it adds to all that it scrapes."""

Labels = dict[str, dict[str, set[str]]]
"""By the name of a sample: its labels, and the values that they have."""


@pytest.fixture(scope="module")
def observed(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A copy of the built home in which everything that has a metric has happened; do not change it."""
    bench = Workbench(tmp_path_factory.mktemp("observed") / "home")
    shutil.copytree(built_home, bench.home)
    home = Home(bench.home)
    now = datetime.now(UTC)
    for number, outcome in enumerate(("published", "not published", "skipped", "unchanged")):
        ended_at = now - timedelta(minutes=10 * (4 - number))
        node = NodeRun(name="stg_memories", kind="model", status="success", seconds=0.5, rows=256)
        record_run(
            home,
            RunRecord(
                run_id=f"run-{number}",
                command="run",
                outcome=outcome,
                started_at=ended_at - timedelta(seconds=9),
                ended_at=ended_at,
                peak_memory_bytes=123_000_000,
                nodes=() if outcome == "skipped" else (node,),
            ),
        )
    (home.path / "expectations").mkdir(mode=0o700, exist_ok=True)
    result = {"suite": "incoming", "checked_at": now.isoformat(), "success": True, "severity": "error"}
    with (home.path / "expectations" / "results.jsonl").open("a") as file:
        file.write(json.dumps({**result, "evaluated": 9, "failed": [], "docs": None}) + "\n")
        os.fchmod(file.fileno(), 0o600)
    with Memory(home.path) as memory:
        memory.recall("flight to Lisbon", user_id="maya")
        memory.recall("flight to Lisbon", user_id="maya")
        memory.remember("hello", user_id="nobody else's 🧳 id", session_id="a session's")
    _have_observability(bench.snapshot())
    return bench


def _have_observability(snapshot: Path) -> None:
    """Let the snapshot tell of health and of sampled queries, whatever the sample stream has of these."""
    with duckdb.connect(str(snapshot)) as connection:
        for name in ("memory_health", "query_performance"):
            for kind in ("view", "table"):
                exists = f"select 1 from duckdb_{kind}s() where {kind}_name = $1 and schema_name = 'main'"
                if connection.execute(exists, [name]).fetchone():
                    connection.execute(f"drop {kind} main.{name}")
        connection.execute(
            "create table main.memory_health as select 0.1 as junk_share, 0.1 as duplicate_share, "
            "1 as orphan_facts, 1 as stale_scopes, 1 as working_memory_scopes, 7.5 as "
            "working_memory_mean_slots, 0.5 as working_memory_full_share, 3 as consolidation_backlog"
        )
        connection.execute(
            "create table main.query_performance as select 'recall' as kind, timestamp '2026-03-01' as hour, "
            "10 as calls, 1 as errors, 1.0 as p50_ms, 2.0 as p95_ms, 3.0 as p99_ms"
        )


def exposed(text: str) -> Labels:
    found: Labels = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = found.setdefault(one.name, {})
            for label, value in one.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.fixture(scope="module")
def exposition(observed: Workbench) -> Labels:
    home = Home(observed.home)
    with RunLock(home):
        return exposed(generate_latest(home_registry(home)).decode())


def test_a_built_home_has_every_metric_of_the_table_and_no_other(exposition: Labels) -> None:
    of_redaction = "mnemoduck_redactions_total"  # nothing was redacted here: test_redaction.py
    assert set(exposition) | {of_redaction} == {spec.name for spec in METRICS}
    for spec in METRICS:
        if spec.name != of_redaction:
            assert set(exposition[spec.name]) == set(spec.labels), spec.name
    assert exposition["mnemoduck_scrape_error"]["section"] >= {"memory", "llm", "runs", "inbox"}


def test_what_a_built_home_holds_is_what_its_status_says(observed: Workbench) -> None:
    status = json.loads(observed.mnemoduck_here("status", "--json").out)
    found = {
        (one["name"], *one["labels"].values()): one["value"]
        for one in json.loads(observed.mnemoduck_here("metrics", "--json").out)
    }
    assert found["mnemoduck_memories",] == status["memories"] == 256
    assert found["mnemoduck_memories_consolidated",] == status["consolidated_memories"]
    assert found["mnemoduck_memories_forgotten",] == status["forgotten_memories"] > 0
    assert found["mnemoduck_events_waiting", "arrived"] == status["waiting_events"] > 0
    assert found["mnemoduck_storage_bytes", "warehouse"] == status["bytes"]["warehouse"]
    hits = status["recall_cache"]["results"]["hits"]
    assert found["mnemoduck_recall_cache_hits_total", "results"] == hits == 1
    assert all(value == 0 for name, value in found.items() if name[0] == "mnemoduck_scrape_error")
    text = observed.mnemoduck_here("metrics").out
    assert "nobody else" not in text
    assert "a session" not in text


def _dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ORCHESTRATION / "grafana" / "mnemoduck.json").read_text("utf-8"))
    return found


def _panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in _dashboard()["panels"] if panel["type"] != "row")


def _alerts() -> Iterator[dict[str, Any]]:
    document = yaml.safe_load((ORCHESTRATION / "grafana" / "alerts.yml").read_text("utf-8"))
    for group in document["groups"]:
        yield from group["rules"]


class _Selectors:
    """Finds in a query the metrics with what it asks of their labels, and the labels it groups by."""

    def __init__(self, query: str) -> None:
        self.metrics: list[tuple[str, list[tuple[str, str, bool]]]] = []
        self.grouped: set[str] = set()
        self._visit(promql_parser.parse(query))

    def _visit(self, node: Any) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            matchers = [
                (one.name, one.value, one.op == promql_parser.MatchOp.Equal) for one in node.matchers.matchers
            ]
            assert node.name is not None, "each selector names its metric"
            self.metrics.append((node.name, matchers))
        elif isinstance(node, promql_parser.BinaryExpr):
            self._visit(node.lhs)
            self._visit(node.rhs)
            if node.modifier is not None and node.modifier.matching is not None:
                self.grouped |= set(node.modifier.matching.labels)
        elif isinstance(node, promql_parser.AggregateExpr):
            self._visit(node.expr)
            if node.modifier is not None:
                self.grouped |= set(node.modifier.labels)
        elif isinstance(node, promql_parser.Call):
            for argument in node.args:
                self._visit(argument)
        elif isinstance(node, promql_parser.ParenExpr | promql_parser.UnaryExpr | promql_parser.SubqueryExpr):
            self._visit(node.expr)
        else:
            assert isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral), node


def assert_is_answered(query: str, exposition: Labels, legend: str = "") -> None:
    """Check each metric and label of a query against what there is."""
    found = _Selectors(query)
    assert found.metrics, query
    known = {**{name: set(labels) for name, labels in exposition.items()}, **OF_PROMETHEUS}
    labels = set(OF_TARGETS)
    for name, matchers in found.metrics:
        assert name in known, f"{query}: there is no metric {name}"
        labels |= known[name]
        for label, value, is_equal in matchers:
            assert label in known[name] | OF_TARGETS, f"{query}: {name} has no label {label}"
            if is_equal and label in exposition.get(name, {}):
                assert value in exposition[name][label], f"{query}: {label} of {name} is never {value!r}"
    assert found.grouped <= labels, query
    assert set(re.findall(r"{{ *(\w+) *}}", legend)) <= (found.grouped or labels), f"{query}: {legend}"


def test_each_query_of_the_dashboard_asks_for_what_there_is(exposition: Labels) -> None:
    queries = 0
    for panel in _panels():
        assert panel["description"].endswith("."), panel["title"]
        for target in panel["targets"]:
            query = target["expr"].replace("$instance", ".*")
            assert '{instance=~".*"' in query, "it is of the homes that are chosen"
            assert_is_answered(query, exposition, target["legendFormat"])
            queries += 1
    assert queries >= 40
    (instances,) = (one for one in _dashboard()["templating"]["list"] if one["name"] == "instance")
    (asked,) = re.findall(r"label_values\((\w+), instance\)", instances["definition"])
    assert asked in exposition


def test_the_dashboard_shows_every_metric(exposition: Labels) -> None:
    text = " ".join(target["expr"] for panel in _panels() for target in panel["targets"])
    shown = {name for name, _ in _Selectors(" + ".join(re.findall(r"mnemoduck_\w+", text))).metrics}
    of_alerts = {name for rule in _alerts() for name, _ in _Selectors(rule["expr"]).metrics}
    unseen = set(exposition) - shown - of_alerts
    assert unseen <= {
        "mnemoduck_runs_duration_seconds_total",
        "mnemoduck_runs_events_loaded_total",
        "mnemoduck_last_run_timestamp_seconds",
        "mnemoduck_llm_attempts_total",
        "mnemoduck_partition_rows",
        "mnemoduck_expectations_evaluated",
        "mnemoduck_expectations_failed",
        "mnemoduck_expectations_checked_timestamp_seconds",
        "mnemoduck_scrape_duration_seconds",
    }


def test_the_dashboard_is_of_a_form_that_grafana_takes() -> None:
    dashboard = _dashboard()
    assert dashboard["uid"] == "mnemoduck"
    assert dashboard["schemaVersion"] >= 36, "since then a datasource is named by type and uid"
    (datasource,) = (one for one in dashboard["templating"]["list"] if one["type"] == "datasource")
    assert datasource["query"] == "prometheus"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    expected = ["Is it running", "What waits", "Memory", "Recall", "Model costs", "Caches", "Storage"]
    assert rows == expected
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        for part in (panel, *panel.get("targets", ())):
            if panel["type"] != "row":
                assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_each_alert_asks_for_what_there_is_and_says_what_to_do(exposition: Labels) -> None:
    page = (PROJECT / "docs" / "monitoring.md").read_text("utf-8")
    names = []
    for rule in _alerts():
        names.append(rule["alert"])
        used = " ".join(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        legend = " ".join(f"{{{{{label}}}}}" for label in used.split())
        assert_is_answered(rule["expr"], exposition, legend)
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["mend"].startswith("mnemoduck ")
        assert f"`{rule['alert']}`" in page
    assert len(set(names)) == len(names) >= 8


def test_the_scrape_configuration_finds_the_alerts_and_names_the_job_that_they_ask_for() -> None:
    folder = ORCHESTRATION / "prometheus"
    config = yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))
    assert [(folder / name).resolve() for name in config["rule_files"]] == [
        (ORCHESTRATION / "grafana" / "alerts.yml").resolve()
    ]
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    asked = {
        value
        for rule in _alerts()
        for _, matchers in _Selectors(rule["expr"]).metrics
        for label, value, _ in matchers
        if label == "job"
    }
    assert asked == jobs == {"mnemoduck"}


def test_metrics_are_served_until_interrupted_while_a_run_has_the_warehouse(observed: Workbench) -> None:
    process = observed.start("mnemoduck", "metrics", "--serve", "127.0.0.1:0")
    try:
        assert process.stdout is not None
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+/metrics", process.stdout.readline())
        with RunLock(Home(observed.home)), duckdb.connect(str(Home(observed.home).warehouse)) as warehouse:
            warehouse.execute("begin")
            with urllib.request.urlopen(url, timeout=300) as answer:
                text = answer.read().decode()
        assert "mnemoduck_run_lock_held 1.0" in text.splitlines()
        assert "mnemoduck_memories 256.0" in text.splitlines()
        assert not re.search(r'mnemoduck_scrape_error\{section="\w+"\} 1', text)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, ""), out
    finally:
        process.kill()
        process.communicate()


def test_metrics_are_written_for_node_exporter_and_options_that_exclude_each_other_are_told(
    observed: Workbench, tmp_path: Path
) -> None:
    done = observed.mnemoduck_here("metrics", "--textfile", str(tmp_path / "m.prom"))
    assert (done.code, done.out) == (0, "")
    assert "mnemoduck_memories 256.0" in (tmp_path / "m.prom").read_text().splitlines()
    both = observed.mnemoduck_here("metrics", "--textfile", str(tmp_path / "m.prom"), "--serve", ":0")
    assert both.code == 2
    assert "exclude each other" in both.err


def verdicts(bench: Workbench) -> dict[str, dict[str, Any]]:
    done = bench.mnemoduck_here("doctor", "--json")
    found = {one["name"]: one for one in json.loads(done.out)["verdicts"]}
    assert done.code == (1 if any(one["status"] == "fail" for one in found.values()) else 0)
    del found["versions"]  # of the environment that the tests run in
    return found


def broken(bench: Workbench) -> dict[str, str]:
    return {name: one["status"] for name, one in verdicts(bench).items() if one["status"] in {"warn", "fail"}}


def test_a_built_home_is_well_also_while_a_run_is_at_work(observed: Workbench) -> None:
    assert broken(observed) == {}
    with RunLock(Home(observed.home)), duckdb.connect(str(Home(observed.home).warehouse)):
        found = verdicts(observed)
    assert {one["status"] for one in found.values()} == {"ok", "skipped"}
    skipped = {name for name, one in found.items() if one["status"] == "skipped"}
    assert skipped == {"warehouse", "llm cache", "backup"}, "there is no target of backups"


@pytest.mark.long
def test_what_the_doctor_names_mends_a_home_that_was_broken_in_many_ways(sample: Workbench) -> None:
    home = Home(sample.home)
    record = RunRecord(
        run_id="r",
        command="run",
        outcome="published",
        snapshot="20260101T000000000000Z-0123456789ab",
        started_at=datetime.now(UTC),
        ended_at=datetime.now(UTC),
    )
    record_run(home, record)
    assert broken(sample) == {}
    sample.snapshot().unlink()
    home.warehouse.write_bytes(b"no database")
    (raw,) = home.raw.rglob("*.parquet")
    shutil.copy(raw, raw.with_name("batch-000000000099-t0.parquet"))
    raw.with_name("batch-000000000099-t0.parquet").chmod(0o600)
    with subprocess.Popen(["true"]) as dead:
        pass
    orphan = home.inbox / f"20260101T000000000000Z-{dead.pid}-abcdef12.open"
    event = {"event_id": "019cd789-ac90-7a53-a80d-1b07b2ee9c97", "event_type": "memory"}
    event |= {"occurred_at": "2026-03-16T00:00:00+00:00", "recorded_at": "2026-03-16T00:00:00+00:00"}
    orphan.write_text(json.dumps(event | {"payload": {"content": "An orphan was taken in"}}) + '\n{"torn')
    orphan.chmod(0o640)
    left = home.published / "CURRENT.1-2.tmp"
    left.write_text("x")
    os.utime(left, (0, 0))
    left.chmod(0o600)
    shutil.rmtree(home.logs)
    # A home whose layout is not whole is mended first.
    assert broken(sample)["home"] == "fail"
    _mend(sample, verdicts(sample)["home"]["mend"])
    found = broken(sample)
    assert found == {
        "permissions": "fail",
        "inbox": "warn",
        "orphan segments": "warn",
        "raw files": "warn",
        "warehouse": "fail",
        "snapshot": "fail",
        "leftovers": "warn",
    }
    told = verdicts(sample)
    for name in ("permissions", "leftovers", "warehouse"):
        _mend(sample, told[name]["mend"])
    # The run that mends the warehouse is the one that all the others ask for.
    assert {told[name]["mend"] for name in ("inbox", "orphan segments", "raw files", "snapshot")} == {
        told["warehouse"]["mend"].rpartition(" && ")[2]
    }
    assert broken(sample) == {"quarantine": "warn"}, "the line that was torn"
    _mend(sample, verdicts(sample)["quarantine"]["mend"])
    (home.path / "warehouse.duckdb.damaged").unlink()
    assert broken(sample) == {}
    assert sample.query("select content from staging.stg_memories where content like 'An orphan%'")


def _mend(bench: Workbench, command: str) -> None:
    """Run a command that the doctor names, in a shell."""
    done = subprocess.run(
        command, shell=True, env=bench._environment({}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
