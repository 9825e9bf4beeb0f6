"""Files of the home that crashes tear and people edit: history, journal, results, counts, manifest, lock."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from fuzz.target import MEDIUM, Target, may_refuse, scratch_home
from mnemoduck.expectations.verdicts import last_verdicts
from mnemoduck.metrics.collecting import HomeCollector
from mnemoduck.pipeline.history import read_runs
from mnemoduck.pipeline.load import read_manifest, to_table
from mnemoduck.pipeline.lock import describe_holder, held_since
from mnemoduck.pipeline.run import RunSummary, _read_log_line
from mnemoduck.pipeline.tally import RunTally, keep_counts
from mnemoduck.quarantine import count_quarantined
from mnemoduck.recall.statistics import read_counts, read_most_bytes, read_statistics
from mnemoduck.report.operation import _read_verdicts
from mnemoduck.tuning.evidence import _read_samples
from mnemoduck.tuning.journal import last_changes, read_journal

_DAY = "2026-03-01.jsonl"


def check_records(data: bytes) -> None:
    """Each file of the home that is made of records is these bytes: none of them stops a reader."""
    home = scratch_home("records")
    for path in (home.runs / _DAY, home.logs / "queries" / _DAY, home.expectations / "results.jsonl"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (home.runs / "removed.counts").write_bytes(data)
    (home.path / "tune.jsonl").write_bytes(data)
    (home.quarantine / "x.jsonl").write_bytes(data)
    home.recall_statistics.parent.mkdir(exist_ok=True)
    home.recall_statistics.write_bytes(data)
    home.run_lock.write_bytes(data)
    runs = list(read_runs(home))
    assert len(runs) <= data.count(b"\n") + 1
    rhythms = RunTally(home).look()
    assert all(sum(counted.outcomes.values()) >= 0 for counted in rhythms.values())
    kept = home.runs / "2026-02-01.jsonl"
    kept.write_bytes(data)
    keep_counts(home, kept)
    kept.unlink()
    last_changes(read_journal(home))
    last_verdicts(home)
    _read_verdicts(home, datetime(2026, 3, 1, tzinfo=UTC))
    _read_samples(home)
    read_counts(home)
    read_most_bytes(home)
    read_statistics(home)
    assert describe_holder(home.run_lock)
    held_since(home.run_lock)
    assert count_quarantined(home) == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    assert list(HomeCollector(home).collect())  # a section that cannot be read is told as such


def check_manifest(data: bytes) -> None:
    home = scratch_home("manifest")
    home.manifest.write_bytes(data)
    with may_refuse():
        batches = read_manifest(home)
        assert len(to_table(batches)) == len(batches)
        numbers = [batch.batch_seq for batch in batches]
        assert numbers == sorted(set(numbers))


def check_log(data: bytes) -> None:
    """A line of dbt's log."""
    summary = RunSummary()
    _read_log_line(data.decode("utf-8", "replace"), summary, lambda _: None)
    assert isinstance(summary.remarks, list)


_FIELDS = (
    b'"run_id":"', b'"started_at":"2026-03-01T12:00:00Z"', b'"ended_at":"2026-03-01T12:00:00Z"',
    b'"rhythm":', b"NaN",
    b'"nodes":[', b'"outcome":"', b'"suite":', b'"success":true', b'"checked_at":"2026-03-01T12:00:00Z"',
    b'"failed":',
    b'"evaluated":', b'"key":"', b'"levels":{', b'"hits":', b'"milliseconds":', b'"at_once":', b'"pid":',
    b'"since":',
    b'"kind":', b'"file":"', b'"rhythms":{', b'"outcomes":{', b'"counts":{', b'"events_loaded":',
    b'"seconds":', b"\n",
    b"1e400", b"0001-01-01T00:00:00+14:00",
)  # fmt: skip
_record = st.lists(
    st.builds(
        lambda name, value: name.partition(b":")[0] + b":" + value,
        st.sampled_from([field for field in _FIELDS if b":" in field and field.startswith(b'"')]),
        st.sampled_from(
            [b"1", b"NaN", b"1e400", b"null", b'"x"', b"{}", b"[]", b"true", b'"2026-03-01"', b'{"a":5}',
            b"[1]", b"-5",
             b'"9999-12-31T23:59:59-14:00"', b'"2026-03-01T12:00:00"']
        ),
    ), max_size=6,
).map(lambda fields: b"{" + b",".join(fields) + b"}\n")  # fmt: skip
_MANIFEST = (
    b'{"batch_seq":1,', b'"loaded_at":"2026-03-01T12:00:00+00:00"', b'"segments":["a"]', b'"files":[',
    b'"path":"x"',
    b'"rows":1', b'"tier":0', b'"event_counts":{"memory":1}', b'"quarantined_count":0', b'"answers":"1 a"',
    b"}\n",
    b'"../../x"',
)  # fmt: skip
_LOG = (
    b'{"info":{"name":"LogModelResult","msg":"x","level":"info"},"data":{',
    b'"node_info":{',
    b'"status":"error"',
    b'"execution_time":',
    b'"resource_type":"model"',
    b'"LogTestResult"',
    b'"num_failures":',
    b'"description":',
)

TARGETS = (
    Target("records", "what is no record is passed over, and stops no reader", check_records, _FIELDS,
    _record,
           weight=MEDIUM),
    Target("manifest", "batches in their order, or a sentence", check_manifest, _MANIFEST, weight=MEDIUM),
    Target("dbt_log", "a line of dbt's log never stops a run", check_log, _LOG),
)  # fmt: skip
