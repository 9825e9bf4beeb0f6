"""The rules of tuning: each looks at the evidence and proposes a setting, an action, or nothing.

A rule says what it saw, which gain it expects and where that figure comes from; with too little evidence it
says how much is missing. Whatever is proposed lies within bounds that the machine sets. Once it is applied
only evidence that came after it counts, so the same evidence never proposes twice; what was taken back since
it was worse is not proposed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any, Literal

from mnemoduck.pipeline.history import PUBLISHED, SKIPPED, RunRecord
from mnemoduck.settings import SETTINGS, format_size
from mnemoduck.tuning.evidence import Evidence
from mnemoduck.tuning.journal import TAKE_BACK

MIN_RUNS = 20
"""So many runs say something of the next ones: a tenth of them is then two, not an accident."""
MIN_LOOKUPS = 1_000
MIN_SAMPLES = 200
MIN_CALL_RUNS = 10

PROCESS_BYTES = 300 * 10**6
"""What a run holds beside DuckDB, for Python and dbt (docs/home.md)."""
NEAR_LIMIT = 0.9
LEAST_LIMIT = 500 * 10**6
EVICTED = 0.1
"""From this share of the misses on, evictions are what a cache is too small for."""
LARGEST_CACHE, LARGEST_RESIDENT, LARGEST_LIMIT = 1 / 16, 1 / 4, 4 / 5
"""Of the machine's memory: nothing larger is proposed."""
LEAST_CACHE = 4 * 2**20
BUSY = 0.7
LARGEST_CONCURRENCY = 8
LARGEST_CALLS = 100_000
SKIPPED_SHARE = 0.05
FULL_INTERVAL = 0.8
RHYTHMS_MINUTES = (5, 6, 10, 12, 15, 20, 30)
TAIL_SHARE = 0.1
CROWDED = 0.3

PROFILES_PAGE = "docs/profiles-benchmark.md"
HISTORY = "the history itself"

State = Literal["proposal", "action", "fine", "too little"]


@dataclass(frozen=True)
class Finding:
    """What one rule has to say.

    Attributes:
        state: `proposal` of a setting, `action` for its owner to take, `fine`, or `too little` evidence.
        saw: the figures.
        key, now, to: the setting, its value in force and the one that is proposed.
        gain: what to expect, and `source`: which measurement that follows from.
        command: what an action is taken with.
    """

    rule: str
    state: State
    saw: str
    key: str | None = None
    now: Any = None
    to: Any = None
    gain: str = ""
    source: str = ""
    command: str | None = None

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        if self.key is not None:
            found |= {"now": SETTINGS[self.key].show(self.now), "to": SETTINGS[self.key].show(self.to)}
        return found


def examine(evidence: Evidence) -> list[Finding]:
    """Return what every rule finds, in a fixed order."""
    return [_unless_tried(finding, evidence) for rule in RULES for finding in rule(evidence)]


def _unless_tried(finding: Finding, evidence: Evidence) -> Finding:
    """Return what a rule finds, but for a value that the journal says has been worse."""
    tried = [change for change in evidence.journal if change.key == finding.key and change.rule == TAKE_BACK]
    if finding.state != "proposal" or all(change.before != finding.to for change in tried):
        return finding
    shown = SETTINGS[str(finding.key)].show(finding.to)
    return replace(finding, state="fine", saw=f"{finding.saw}; {shown} was tried and was worse", to=None)


def memory_of_runs(evidence: Evidence) -> Iterable[Finding]:
    """Runs that come near their limit get more of it, those far below it less."""
    rule, key = "memory of runs", "run.memory_limit"
    runs = [run for run in evidence.runs_since(key) if run.outcome != SKIPPED]
    limit, machine = evidence.settings.run.memory_limit, evidence.machine.memory_bytes
    largest = _down_to(machine * LARGEST_LIMIT, 10**8)
    failed = [run for run in runs if _ran_out_of_memory(run)]
    peaks = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    if failed and limit is not None and 2 * limit <= largest:
        saw = f"{len(failed)} of {len(runs)} runs ran out of memory at a limit of {format_size(limit)}"
        gain = "runs that failed for want of memory succeed"
        yield Finding(rule, "proposal", saw, key, limit, 2 * limit, gain, HISTORY)
        return
    if len(peaks) < MIN_RUNS:
        yield _too_little(rule, key, len(peaks), MIN_RUNS, "runs that say what they held")
        return
    highest = max(peaks)
    duckdb = max(highest - PROCESS_BYTES, 0)
    saw = f"of {len(peaks)} runs the largest held {_megabytes(highest)}"
    if limit is None:
        if highest > machine * LARGEST_LIMIT * 0.75:
            gain = f"at least {_megabytes(highest - machine // 2)} of it are left to other programs"
            to = _down_to(machine / 2, 10**8)
            saw += f" of the machine's {_megabytes(machine)}, without a limit"
            yield Finding(rule, "proposal", saw, key, None, to, gain, HISTORY)
        else:
            yield Finding(rule, "fine", f"{saw} of the machine's {_megabytes(machine)}", key)
        return
    saw += f", {_megabytes(PROCESS_BYTES)} of it for Python and dbt; the limit is {format_size(limit)}"
    if duckdb >= NEAR_LIMIT * limit and 2 * limit <= largest:
        gain = "what is spilled to disk now stays in memory: how much faster that is, the next runs tell"
        yield Finding(rule, "proposal", saw, key, limit, 2 * limit, gain, PROFILES_PAGE)
        return
    less = max(LEAST_LIMIT, _up_to(1.5 * duckdb, 10**8))
    if less <= limit / 2:
        gain = f"{_megabytes(limit - less)} can be promised to other programs; runs are as fast as before"
        yield Finding(rule, "proposal", saw, key, limit, less, gain, HISTORY)
        return
    yield Finding(rule, "fine", saw, key, limit)


def threads_of_runs(evidence: Evidence) -> Iterable[Finding]:
    """Where all threads of dbt are busy and processors are left, one more is tried; never more than those."""
    rule, key = "threads of runs", "run.threads"
    threads, processors = evidence.settings.run.threads, evidence.machine.processors
    runs = [run for run in evidence.runs_since(key) if run.outcome == PUBLISHED and run.nodes]
    if len(runs) < MIN_RUNS:
        yield _too_little(rule, key, len(runs), MIN_RUNS, "published runs with their models")
        return
    seconds = [run.seconds for run in runs]
    busy = median(
        sum(node.seconds for node in run.nodes) / (max(run.seconds, 1e-9) * threads) for run in runs
    )
    saw = (
        f"{len(runs)} runs of {median(seconds):.1f} s (median), whose {threads} threads were busy "
        f"{busy:.0%} of the time, on {processors} processors"
    )
    if threads > processors:
        gain = "models do not wait for each other's processors; the time of a run stays about the same"
        yield Finding(rule, "proposal", saw, key, threads, processors, gain, PROFILES_PAGE)
    elif busy >= BUSY and threads < processors:
        most = median(seconds) * busy * (1 - threads / (threads + 1))
        gain = f"at most {most:.1f} s of a run, if its models do not wait for each other"
        yield Finding(rule, "proposal", saw, key, threads, threads + 1, gain, HISTORY)
    else:
        yield Finding(rule, "fine", saw, key, threads)


def cache_of_answers(evidence: Evidence) -> Iterable[Finding]:
    """Answers that make room for others ask for more memory; a cache that is mostly empty for less."""
    return _cache(evidence, "cache of answers", "recall.cache_bytes", "results", 0.8, LARGEST_CACHE)


def documents_in_memory(evidence: Evidence) -> Iterable[Finding]:
    """The same for what recall ranks by."""
    return _cache(
        evidence, "documents in memory", "recall.resident_bytes", "documents", 0.75, LARGEST_RESIDENT
    )


def _cache(
    evidence: Evidence, rule: str, key: str, level: str, share: float, largest: float
) -> Iterable[Finding]:
    """`share` of the bytes of the setting are the level's, see mnemoduck.recall.cache."""
    now: int = evidence.settings.get(key)
    counts = evidence.counts_since(key, level)
    lookups = counts["hits"] + counts["misses"]
    if not now:
        yield Finding(rule, "fine", "it is turned off", key, now)
        return
    if lookups < MIN_LOOKUPS:
        yield _too_little(rule, key, lookups, MIN_LOOKUPS, "look-ups")
        return
    saw = (
        f"{lookups:,} look-ups, {counts['hits'] / lookups:.0%} of them found; {counts['evictions']:,} "
        f"entries made room for others, with {format_size(now)}"
    )
    to = _down_to(min(2 * now, evidence.machine.memory_bytes * largest), 2**20)
    if counts["evictions"] >= EVICTED * max(counts["misses"], 1) and to > now:
        gain = f"at most {min(counts['evictions'], counts['misses']) / lookups:.0%} more are found"
        yield Finding(rule, "proposal", saw, key, now, to, gain, f"{HISTORY}, {PROFILES_PAGE}")
        return
    held = evidence.most_bytes.get(level)
    less = None if held is None else max(LEAST_CACHE, _up_to(2 * held / share, 2**20))
    if not counts["evictions"] and held is not None and less is not None and less <= now / 2:
        saw += f"; it never held more than {_megabytes(held)}"
        gain = f"{_megabytes(now - less)} a process can be promised to other programs; as many are found"
        yield Finding(rule, "proposal", saw, key, now, less, gain, HISTORY)
        return
    yield Finding(rule, "fine", saw, key, now)


def readers_at_once(evidence: Evidence) -> Iterable[Finding]:
    """A process that answers many questions at once gives each one thread of DuckDB."""
    rule, key = "questions at once", "recall.duckdb_threads"
    since = [change.applied_at for change in evidence.journal if change.key == key]
    samples = [one for one in evidence.samples if not since or one.started_at > since[-1]]
    if len(samples) < MIN_SAMPLES:
        yield _too_little(rule, key, len(samples), MIN_SAMPLES, "sampled questions (queries are not sampled)")
        return
    crowded = [one for one in samples if one.at_once > evidence.machine.processors]
    share = len(crowded) / len(samples)
    saw = (
        f"{len(samples):,} sampled questions, {median(one.milliseconds for one in samples):.1f} ms (median); "
        f"{share:.0%} came while more were answered than there are processors"
    )
    now = evidence.settings.recall.duckdb_threads
    if share >= CROWDED and now is None and evidence.machine.processors > 1:
        gain = "what the profile low-latency gains with eight threads of readers"
        yield Finding(rule, "proposal", saw, key, now, 1, gain, PROFILES_PAGE)
    else:
        yield Finding(rule, "fine", saw, key, now)


def calls_of_models(evidence: Evidence) -> Iterable[Finding]:
    """Prompts that wait for the next run ask for more at a time; calls that fail for fewer."""
    rule, key = "calls of models", "llm.concurrency"
    changes = [change.applied_at for change in evidence.journal if change.key.startswith("llm.")]
    runs = [run for run in evidence.calls if run.calls and (not changes or run.started_at > changes[-1])]
    if len(runs) < MIN_CALL_RUNS:
        yield _too_little(rule, key, len(runs), MIN_CALL_RUNS, "runs in which a model was asked")
        return
    now = int(evidence.value(key))
    calls, failures = sum(run.calls for run in runs), sum(run.failures for run in runs)
    by_seconds = [run for run in runs if run.pending and "llm_budget_seconds" in (run.stopped_by or "")]
    by_calls = [run for run in runs if run.pending and "llm_budget_calls" in (run.stopped_by or "")]
    saw = (
        f"{len(runs)} runs with {calls:,} calls, {failures / calls:.0%} of them failed; "
        f"{len(by_seconds)} were stopped by their seconds and {len(by_calls)} by their number of calls"
    )
    if failures >= calls / 10 and now > 1:
        gain = f"fewer of the {failures:,} calls that failed, if the server was asked too much at once"
        yield Finding(rule, "proposal", saw, key, now, now // 2, gain, HISTORY)
    elif len(by_seconds) >= len(runs) / 2 and now < LARGEST_CONCURRENCY:
        waiting = median(run.pending for run in by_seconds)
        to = min(2 * now, LARGEST_CONCURRENCY)
        gain = (
            f"up to {to / now:.1f} times the calls of a run, where {waiting:,.0f} prompts were left (median)"
        )
        yield Finding(rule, "proposal", saw, key, now, to, gain, HISTORY)
    elif len(by_calls) >= len(runs) / 2 and int(evidence.value("llm.budget_calls")) < LARGEST_CALLS:
        budget = int(evidence.value("llm.budget_calls"))
        to = min(2 * budget, LARGEST_CALLS)
        gain = f"up to {to - budget:,} more prompts answered by a run"
        yield Finding(rule, "proposal", saw, "llm.budget_calls", budget, to, gain, HISTORY)
    else:
        yield Finding(rule, "fine", saw, key, now)


def rhythm_of_runs(evidence: Evidence) -> Iterable[Finding]:
    """Runs that overlap, or fill the time to the next one, come too often."""
    rule = "rhythm of runs"
    runs = [run for run in evidence.runs if run.rhythm in (None, "continuous")][-20 * MIN_RUNS :]
    if len(runs) < MIN_RUNS:
        yield _too_little(rule, None, len(runs), MIN_RUNS, "runs")
        return
    starts = sorted(run.started_at for run in runs)
    interval = median((after - before).total_seconds() for before, after in pairwise(starts))
    worked = sorted(run.seconds for run in runs if run.outcome != SKIPPED)
    skipped = len(runs) - len(worked)
    long = worked[int(0.9 * (len(worked) - 1))] if worked else 0.0
    saw = (
        f"{len(runs)} runs, one every {interval / 60:.0f} minutes (median); nine in ten took at most "
        f"{long:.0f} s; {skipped} were skipped because another was at work"
    )
    is_crowded = skipped >= SKIPPED_SHARE * len(runs) or long >= FULL_INTERVAL * interval
    minutes = next((one for one in RHYTHMS_MINUTES if one * 60 * FULL_INTERVAL > max(long, interval)), None)
    if is_crowded and interval > 0 and minutes is not None:
        gain = (
            f"nine in ten runs end before the next begins; what arrives is built in every {minutes} minutes"
        )
        command = f"mnemoduck schedule install --every {minutes}"
        yield Finding(rule, "action", saw, gain=gain, source=HISTORY, command=command)
    else:
        yield Finding(rule, "fine", saw)


def tails_of_months(evidence: Evidence) -> Iterable[Finding]:
    """Rows that lie behind those in order are read by every question that could pass over them."""
    rule = "tails of months"
    if not evidence.tails:
        yield Finding(rule, "too little", "nothing with months has been published yet")
        return
    least = int(evidence.variables.get("partition_tail_rows", 2_000))
    long = [one for one in evidence.tails if one.tail_rows > max(least, TAIL_SHARE * one.rows)]
    for one in long:
        saw = f"{one.tail_rows:,} of the {one.rows:,} rows of {one.model} are behind those in order"
        gain = "questions about one user read the rows of that user, and no tail beside them"
        command = f"mnemoduck partitions recluster {one.model}"
        yield Finding(rule, "action", saw, gain=gain, source="docs/partitions-benchmark.md", command=command)
    if not long:
        rows, behind = sum(one.rows for one in evidence.tails), sum(one.tail_rows for one in evidence.tails)
        yield Finding(rule, "fine", f"{behind:,} of {rows:,} rows in months are behind those in order")


RULES: Sequence[Callable[[Evidence], Iterable[Finding]]] = (
    memory_of_runs,
    threads_of_runs,
    rhythm_of_runs,
    cache_of_answers,
    documents_in_memory,
    readers_at_once,
    calls_of_models,
    tails_of_months,
)


def _too_little(rule: str, key: str | None, have: int, need: int, what: str) -> Finding:
    return Finding(rule, "too little", f"{have:,} {what}, {need - have:,} more are needed", key)


def _ran_out_of_memory(run: RunRecord) -> bool:
    texts = [*run.errors, *(node.message or "" for node in run.nodes)]
    return any("out of memory" in text.lower() for text in texts)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def _up_to(size: float, step: int) -> int:
    return -int(-size // step) * step


def _down_to(size: float, step: int) -> int:
    return int(size // step) * step
