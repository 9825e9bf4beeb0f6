"""Tuning: rules on histories that are made up, what they never propose, and whether a change has helped."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck.cli import cli
from mnemoduck.home import Home, open_home
from mnemoduck.pipeline.history import NodeRun, RunRecord, record_run
from mnemoduck.recall.levels import LevelStatistics
from mnemoduck.recall.statistics import StatisticsFile, read_most_bytes
from mnemoduck.settings import SETTINGS, Values, load_settings, parse_value
from mnemoduck.settings_file import write_settings
from mnemoduck.tuning.comparison import MIN_AFTER, compare_changes, rank_test
from mnemoduck.tuning.evidence import Evidence, Machine, ModelCalls, Sample, Tail, gather
from mnemoduck.tuning.journal import Change, journal_file, read_journal, write_change
from mnemoduck.tuning.rules import MIN_RUNS, Finding, examine

START = datetime(2026, 3, 1, tzinfo=UTC)
MACHINE = Machine(processors=4, memory_bytes=16 * 10**9)


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.environment, raising=False)


def a_run(number: int, seconds: float = 60.0, **told: Any) -> RunRecord:
    """One of a row of runs, ten minutes apart."""
    started_at = START + timedelta(minutes=10 * number)
    ended_at = started_at + timedelta(seconds=seconds)
    told = {"outcome": "published", **told}
    return RunRecord(run_id=f"run-{number}", command="run", started_at=started_at, ended_at=ended_at, **told)


def known(home: Home, values: Values | None = None, **told: Any) -> Evidence:
    """Return evidence of a home whose file says `values`."""
    write_settings(home, values or {})
    return Evidence(settings=load_settings(home), machine=MACHINE, file=values or {}, **told)


def found(evidence: Evidence, rule: str) -> Finding:
    (finding,) = (one for one in examine(evidence) if one.rule == rule)
    return finding


def results(hits: int, misses: int, evictions: int) -> dict[str, dict[str, int]]:
    return {"results": {"hits": hits, "misses": misses, "evictions": evictions}}


# -- the rules ---------------------------------------------------------------------------------------------


def test_without_a_history_each_rule_says_how_much_is_missing(home: Home) -> None:
    findings = examine(known(home))
    assert {one.state for one in findings} == {"too little"}
    assert "20 more are needed" in found(known(home), "memory of runs").saw
    assert "1,000 more are needed" in found(known(home), "cache of answers").saw


def test_runs_near_their_limit_get_twice_as_much(home: Home) -> None:
    runs = [a_run(number, peak_memory_bytes=1_250_000_000) for number in range(MIN_RUNS)]
    finding = found(known(home, {"run.memory_limit": 10**9}, runs=runs), "memory of runs")
    assert (finding.state, finding.now, finding.to) == ("proposal", 10**9, 2 * 10**9)
    assert "1,250 MB" in finding.saw


def test_one_run_fewer_is_too_little(home: Home) -> None:
    runs = [a_run(number, peak_memory_bytes=1_250_000_000) for number in range(MIN_RUNS - 1)]
    finding = found(known(home, {"run.memory_limit": 10**9}, runs=runs), "memory of runs")
    assert (finding.state, finding.saw) == (
        "too little",
        "19 runs that say what they held, 1 more are needed",
    )


def test_one_run_that_ran_out_of_memory_is_enough(home: Home) -> None:
    failed = NodeRun(
        name="facts", kind="model", status="error", seconds=1.0, message="Out of Memory Error: failed"
    )
    runs = [a_run(0, outcome="not published", nodes=(failed,))]
    finding = found(known(home, {"run.memory_limit": 10**9}, runs=runs), "memory of runs")
    assert (finding.state, finding.to) == ("proposal", 2 * 10**9)
    assert "1 of 1 runs ran out of memory" in finding.saw


def test_runs_far_below_their_limit_give_memory_back(home: Home) -> None:
    runs = [a_run(number, peak_memory_bytes=700_000_000) for number in range(MIN_RUNS)]
    finding = found(known(home, {"run.memory_limit": 4 * 10**9}, runs=runs), "memory of runs")
    assert (finding.state, finding.to) == ("proposal", 600_000_000)


def test_runs_without_a_limit_get_one_where_the_machine_is_nearly_full(home: Home) -> None:
    fine = [a_run(number, peak_memory_bytes=4 * 10**9) for number in range(MIN_RUNS)]
    assert found(known(home, runs=fine), "memory of runs").state == "fine"
    full = [a_run(number, peak_memory_bytes=12 * 10**9) for number in range(MIN_RUNS)]
    assert found(known(home, runs=full), "memory of runs").to == 8 * 10**9


@pytest.mark.parametrize(
    ("threads", "seconds_of_models", "to"), [(2, 100.0, 3), (2, 60.0, None), (4, 230.0, None), (8, 60.0, 4)]
)
def test_threads_follow_how_busy_they_are_and_never_pass_the_processors(
    threads: int, seconds_of_models: float, to: int | None, home: Home
) -> None:
    nodes = (NodeRun(name="facts", kind="model", status="success", seconds=seconds_of_models),)
    runs = [a_run(number, nodes=nodes) for number in range(MIN_RUNS)]
    finding = found(known(home, {"run.threads": threads}, runs=runs), "threads of runs")
    assert (finding.state, finding.to) == ("proposal" if to else "fine", to)


def test_answers_that_make_room_for_others_ask_for_a_larger_cache(home: Home) -> None:
    finding = found(known(home, counts=results(600, 400, 300)), "cache of answers")
    assert (finding.state, finding.to) == ("proposal", 64 * 2**20)
    assert "60% of them found" in finding.saw
    assert finding.gain == "at most 30% more are found"
    assert found(known(home, counts=results(600, 400, 39)), "cache of answers").state == "fine"


def test_a_cache_that_is_mostly_empty_gives_memory_back(home: Home) -> None:
    evidence = known(home, counts=results(600, 400, 0), most_bytes={"results": 3 * 2**20})
    finding = found(evidence, "cache of answers")
    assert (finding.state, finding.to) == ("proposal", 8 * 2**20)
    unseen = replace(evidence, most_bytes={})
    assert found(unseen, "cache of answers").state == "fine"


def test_documents_that_make_room_for_others_ask_for_more_memory(home: Home) -> None:
    counts = {"documents": {"hits": 600, "misses": 400, "evictions": 300}}
    finding = found(known(home, counts=counts), "documents in memory")
    assert (finding.key, finding.to) == ("recall.resident_bytes", 512 * 2**20)


def test_runs_that_overlap_ask_for_a_slower_rhythm(home: Home) -> None:
    runs = [a_run(n, 60.0, outcome="skipped" if n % 10 == 0 else "published") for n in range(MIN_RUNS)]
    finding = found(known(home, runs=runs), "rhythm of runs")
    assert (finding.state, finding.command) == ("action", "mnemoduck schedule install --every 15")
    assert "2 were skipped" in finding.saw
    long = [a_run(number, 550.0) for number in range(MIN_RUNS)]
    assert found(known(home, runs=long), "rhythm of runs").state == "action"
    short = [a_run(number, 100.0) for number in range(MIN_RUNS)]
    assert found(known(home, runs=short), "rhythm of runs").state == "fine"


def test_many_questions_at_once_get_one_thread_each(home: Home) -> None:
    crowd = [Sample("recall", START, 5.0, 8 if n % 2 else 1) for n in range(200)]
    finding = found(known(home, samples=crowd), "questions at once")
    assert (finding.key, finding.to) == ("recall.duckdb_threads", 1)
    alone = [Sample("recall", START, 5.0, 1) for _ in range(200)]
    assert found(known(home, samples=alone), "questions at once").state == "fine"


def test_prompts_that_wait_ask_for_more_calls_and_calls_that_fail_for_fewer(home: Home) -> None:
    stopped = "The run's budget of 480 seconds for the model is used up (llm_budget_seconds); the next run …"
    calls = [ModelCalls(START, 100, 80, 0, 20, stopped) for _ in range(10)]
    variables = {"llm_concurrency": 2, "llm_budget_calls": 1000}
    finding = found(known(home, calls=calls, variables=variables), "calls of models")
    assert (finding.key, finding.now, finding.to) == ("llm.concurrency", 2, 4)
    stopped = (
        "The run's budget of 1,000 calls for the model is used up (llm_budget_calls); the next run goes on."
    )
    calls = [ModelCalls(START, 1200, 1000, 0, 200, stopped) for _ in range(10)]
    finding = found(known(home, calls=calls, variables=variables), "calls of models")
    assert (finding.key, finding.to) == ("llm.budget_calls", 2000)
    calls = [ModelCalls(START, 100, 80, 20, 20, None) for _ in range(10)]
    finding = found(known(home, calls=calls, variables=variables), "calls of models")
    assert (finding.key, finding.to) == ("llm.concurrency", 1)


def test_a_long_tail_is_clustered_now_by_a_command(home: Home) -> None:
    tails = [Tail("short_term_memories", 10_000, 5_000), Tail("consolidated_memories", 10_000, 900)]
    finding = found(known(home, tails=tails), "tails of months")
    assert finding.command == "mnemoduck partitions recluster short_term_memories"
    assert "5,000 of the 10,000 rows" in finding.saw


# -- what holds of all of them -------------------------------------------------------------------------

sizes = st.integers(min_value=0, max_value=10**11)
few = st.integers(min_value=0, max_value=5_000)


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    peak, busy, seconds = draw(sizes), draw(st.floats(0, 500)), draw(st.floats(0.1, 1_000))
    outcome = draw(st.sampled_from(["published", "not published", "skipped"]))
    errors = ("Out of Memory Error",) if draw(st.booleans()) else ()
    nodes = (NodeRun(name="facts", kind="model", status="success", seconds=busy),)
    levels = {
        name: {"hits": draw(few), "misses": draw(few), "evictions": draw(few)}
        for name in ("results", "documents")
    }
    return {
        "runs": [
            a_run(n, seconds, peak_memory_bytes=peak, outcome=outcome, errors=errors, nodes=nodes)
            for n in range(draw(st.integers(0, 40)))
        ],
        "counts": levels,
        "most_bytes": {name: draw(sizes) for name in levels},
        "samples": [Sample("recall", START, 1.0, draw(st.integers(1, 20)))] * draw(st.integers(0, 300)),
        "calls": [
            ModelCalls(
                START,
                100,
                draw(few),
                draw(few),
                draw(few),
                draw(st.sampled_from([None, "(llm_budget_seconds)"])),
            )
        ]
        * draw(st.integers(0, 15)),
    }


values_of_files = st.fixed_dictionaries(
    {},
    optional={
        "run.threads": st.integers(1, 64),
        "run.memory_limit": st.integers(10**8, 10**11),
        "recall.cache_bytes": st.integers(0, 10**11),
        "recall.resident_bytes": st.integers(0, 10**11),
        "llm.concurrency": st.integers(1, 64),
    },
)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("tuning") / "home")


@settings(max_examples=60)
@given(histories(), values_of_files)
def test_what_is_proposed_is_possible_within_the_machine_and_proposed_only_once(
    shared_home: Home, history: dict[str, Any], values: Values
) -> None:
    home = shared_home
    home.path.joinpath("mnemoduck.toml").unlink(missing_ok=True)
    evidence = known(home, values, variables={"llm_concurrency": 2, "llm_budget_calls": 1000}, **history)
    proposals = [one for one in examine(evidence) if one.state == "proposal"]
    for one in proposals:
        assert one.key is not None
        assert parse_value(one.key, SETTINGS[one.key].to_text(one.to)) == one.to != one.now
        assert one.saw
        assert one.gain
        assert one.source
        if SETTINGS[one.key].is_size:
            assert one.to <= max(MACHINE.memory_bytes * 0.8, 0 if one.now is None else one.now / 2)
    applied_at = START + timedelta(days=30)
    journal = [
        Change(
            applied_at=applied_at,
            key=str(one.key),
            before=values.get(str(one.key)),
            after=one.to,
            rule=one.rule,
            saw=one.saw,
            counts=evidence.counts,
        )
        for one in proposals
    ]
    changed = {**values, **{str(one.key): one.to for one in proposals}}
    again = known(home, changed, variables=evidence.variables, journal=journal, **history)
    keys = {one.key for one in proposals}
    assert not [one for one in examine(again) if one.state == "proposal" and one.key in keys]


# -- whether a change has helped ---------------------------------------------------------------------------


def test_the_rank_test_is_that_of_counting_all_orders() -> None:
    for n, m in [(1, 1), (2, 3), (4, 3)]:
        for after in itertools.combinations(range(n + m), m):
            before = [place for place in range(n + m) if place not in after]
            assert rank_test(before, after) == pytest.approx(_by_counting(before, list(after)))


def test_equal_values_are_never_surer_than_different_ones() -> None:
    assert rank_test([1.0] * 10, [1.0] * 10) == 1.0
    assert rank_test([1, 2, 3, 4], [4, 5, 6, 7]) >= rank_test([1, 2, 3, 4], [5, 6, 7, 8])


def _by_counting(before: Sequence[float], after: Sequence[float]) -> float:
    def larger(ones: Sequence[float], others: Sequence[float]) -> int:
        return sum(other > one for one in ones for other in others)

    whole = [*before, *after]
    least = min(larger(before, after), larger(after, before))
    counted = 0
    for chosen in itertools.combinations(range(len(whole)), len(after)):
        others = [whole[place] for place in chosen]
        ones = [whole[place] for place in range(len(whole)) if place not in chosen]
        counted += larger(ones, others) <= least
    return min(1.0, 2 * counted / math.comb(len(whole), len(after)))


def a_change(key: str, before: Any, after: Any, counts: Any = None, number: int = 100) -> Change:
    """Made between run `number` - 1 and run `number`."""
    applied_at = START + timedelta(minutes=10 * number - 1)
    return Change(
        applied_at=applied_at,
        key=key,
        before=before,
        after=after,
        rule="a rule",
        saw="-",
        counts=counts or {},
    )


@pytest.mark.parametrize(
    ("after", "verdict"),
    [(30.0, "helped"), (90.0, "worse"), (60.0, "no difference"), (61.0, "no difference")],
)
def test_runs_after_a_change_are_compared_with_those_before_it(
    after: float, verdict: str, home: Home
) -> None:
    runs = [a_run(n, 60.0 + n % 5 / 10) for n in range(80, 100)]
    runs += [a_run(n, after + n % 5 / 10) for n in range(100, 120)]
    change = a_change("run.threads", 2, 3)
    (compared,) = compare_changes(known(home, {"run.threads": 3}, runs=runs, journal=[change]))
    assert compared.verdict == verdict
    assert compared.before == pytest.approx(60.2)
    assert compared.after == pytest.approx(after + 0.2)


def test_too_few_runs_say_nothing_and_how_many_are_needed(home: Home) -> None:
    runs = [a_run(n) for n in range(90, 100)] + [a_run(n, 10.0) for n in range(100, 100 + MIN_AFTER - 1)]
    change = a_change("run.threads", 2, 3)
    (compared,) = compare_changes(known(home, {"run.threads": 3}, runs=runs, journal=[change]))
    assert (compared.verdict, compared.note) == ("too little", "1 more after it are needed")


def test_runs_of_other_rhythms_and_those_after_the_next_change_do_not_count(home: Home) -> None:
    runs = [a_run(n) for n in range(80, 100)]
    runs += [a_run(n, 10.0, rhythm="nightly") for n in range(100, 110)]
    runs += [a_run(n, 61.0) for n in range(110, 130)] + [a_run(n, 5.0) for n in range(130, 150)]
    journal = [a_change("run.threads", 2, 3), a_change("run.memory_limit", None, 10**9, number=130)]
    file = {"run.threads": 3, "run.memory_limit": 10**9}
    threads, memory = compare_changes(known(home, file, runs=runs, journal=journal))
    assert (threads.verdict, threads.after) == ("no difference", 61.0)
    assert (memory.verdict, memory.before, memory.after) == ("helped", 61.0, 5.0)


@pytest.mark.parametrize(
    ("since", "verdict"),
    [((900, 100), "helped"), ((300, 700), "worse"), ((610, 390), "no difference"), ((90, 10), "too little")],
)
def test_a_cache_is_compared_by_what_it_finds(since: tuple[int, int], verdict: str, home: Home) -> None:
    was = results(600, 400, 300)
    now = results(600 + since[0], 400 + since[1], 300)
    change = a_change("recall.cache_bytes", None, 64 * 2**20, was)
    evidence = known(home, {"recall.cache_bytes": 64 * 2**20}, counts=now, journal=[change])
    (compared,) = compare_changes(evidence)
    assert compared.verdict == verdict


def test_a_change_that_somebody_has_changed_since_is_not_judged(home: Home) -> None:
    runs = [a_run(n) for n in range(80, 120)]
    evidence = known(home, {"run.threads": 4}, runs=runs, journal=[a_change("run.threads", 2, 3)])
    (compared,) = compare_changes(evidence)
    assert (compared.verdict, compared.note) == ("too little", "the file says something else by now")


# -- a home, and the command -------------------------------------------------------------------------------


def _tune(home: Home, *arguments: str) -> Any:
    done = CliRunner().invoke(
        cli, ["tune", "--json", *arguments, "--home", str(home.path)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_what_is_proposed_is_written_with_its_reason_and_proposed_no_second_time(home: Home) -> None:
    write_settings(home, {"run.memory_limit": 10**9})
    for number in range(MIN_RUNS):
        record_run(home, a_run(number, 100.0, peak_memory_bytes=1_250_000_000))
    told = _tune(home)
    (proposal,) = (one for one in told["findings"] if one["state"] == "proposal")
    assert (proposal["key"], proposal["now"], proposal["to"]) == ("run.memory_limit", "1GB", "2GB")
    assert not journal_file(home).exists()
    _tune(home, "--apply")
    assert load_settings(home).run.memory_limit == 2 * 10**9
    (change,) = read_journal(home)
    assert (change.key, change.before, change.after) == ("run.memory_limit", 10**9, 2 * 10**9)
    assert change.saw in proposal["saw"]
    assert journal_file(home).stat().st_mode & 0o077 == 0
    assert _tune(home, "--apply")["applied"] == []
    assert read_journal(home) == [change]


def test_a_change_that_is_worse_is_taken_back_and_not_proposed_again(home: Home) -> None:
    nodes = (NodeRun(name="facts", kind="model", status="success", seconds=110.0),)
    for number in range(80, 100):
        record_run(home, a_run(number, nodes=nodes))
    write_settings(home, {"run.threads": 3})
    write_change(home, a_change("run.threads", None, 3))
    for number in range(100, 130):
        record_run(home, a_run(number, 90.0, nodes=nodes))
    (applied,) = _tune(home, "--apply")["applied"]
    assert (applied["key"], applied["before"], applied["after"]) == ("run.threads", 3, None)
    assert load_settings(home).origin("run.threads") == "default"
    now = datetime.now(UTC)
    for number in range(MIN_RUNS):
        later = a_run(number, nodes=nodes)
        shift = now - later.started_at + timedelta(minutes=number + 1)
        record_run(
            home,
            later.model_copy(
                update={"started_at": later.started_at + shift, "ended_at": later.ended_at + shift}
            ),
        )
    evidence = gather(home, MACHINE)
    finding = found(evidence, "threads of runs")
    assert finding.state == "fine"
    assert "3 was tried and was worse" in finding.saw


def test_evidence_is_read_from_what_processes_leave_in_the_home(home: Home) -> None:
    level = LevelStatistics(hits=5, misses=3, evictions=1, entries=2, bytes=700, budget_bytes=1000)
    file = StatisticsFile(home)
    file.add({"results": level}, at_once=True)
    file.add({"results": replace(level, hits=6, bytes=500)}, at_once=True)
    folder = home.logs / "queries"
    folder.mkdir()
    sample = {"kind": "recall", "started_at": START.isoformat(), "milliseconds": 2.5, "at_once": 3}
    (folder / "2026-03-01.jsonl").write_text(json.dumps(sample) + '\n{"kind": "rec\n')
    with journal_file(home).open("w") as journal:
        journal.write('{"applied_at": "2026')
    evidence = gather(home)
    assert evidence.counts == {"results": {"hits": 6, "misses": 3, "evictions": 1}}
    assert read_most_bytes(home) == {"results": 700}
    assert evidence.samples == [Sample("recall", START, 2.5, 3)]
    assert evidence.journal == []


def test_the_text_of_the_command_tells_evidence_proposal_and_gain(home: Home, tmp_path: Path) -> None:
    write_settings(home, {"run.memory_limit": 10**9})
    for number in range(MIN_RUNS):
        record_run(home, a_run(number, 100.0, peak_memory_bytes=1_250_000_000))
    done = CliRunner().invoke(cli, ["tune", "--home", str(home.path)], catch_exceptions=False)
    assert "of 20 runs the largest held 1,250 MB" in done.output
    assert "proposed  run.memory_limit = 2GB, now 1GB" in done.output
    assert "expected  " in done.output
    assert "--apply writes what is proposed" in done.output
