"""The caches of recall: an answer from them is the answer that computing it would give."""

from __future__ import annotations

import copy
import gc
import itertools
import json
import os
import pickle
import shutil
import statistics
import tempfile
import threading
import timeit
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.conftest import StartPython, in_child, write_search_snapshot

from mnemoduck import Memory
from mnemoduck.errors import StorageError, UsageError
from mnemoduck.events import new_event
from mnemoduck.fresh import FreshReader
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import InboxWriter, retire_loaded, seal_open_segments
from mnemoduck.news import News
from mnemoduck.pipeline.load import load_inbox
from mnemoduck.project import find_project
from mnemoduck.recall import index, speakers
from mnemoduck.recall.cache import LOOK_SECONDS, RecallCache
from mnemoduck.recall.levels import Level, size_of
from mnemoduck.recall.query import Query, _vocabulary
from mnemoduck.recall.records import RecallRequest, Recollection, ScoreParts
from mnemoduck.recall.statistics import SAVE_SECONDS, StatisticsFile, read_statistics
from mnemoduck.scope import Scope
from mnemoduck.status import read_status
from mnemoduck.warehouse import SnapshotReader


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Process:
    """What a process of its own has: nothing but the files is shared. Answers with ids, newest last."""

    def __init__(self, home: Home, clock: Clock, **options: Any) -> None:
        self.news = News(home)
        self.writer = InboxWriter(home, max_segment_bytes=2000, news=self.news)
        self.fresh = FreshReader(home, SnapshotReader(home), find_project())
        self.cache = RecallCache(self.fresh, self.news, clock=clock, **options)
        self.computed = 0

    def recall(self, user_id: str | None = None, as_of: datetime | None = None) -> list[str]:
        request = RecallRequest("duck", Scope(user_id), as_of=as_of)
        return cast("list[str]", self.cache.answer(request, self.compute))

    def compute(self, request: RecallRequest) -> list[Recollection]:
        self.computed += 1
        return cast("list[Recollection]", self.look(request.scope.user_id))

    def look(self, user_id: str | None) -> list[str]:
        """What an answer depends on: the snapshot, the fresh memories of the user, the fresh orders."""
        snapshot, tables = self.fresh.get()
        query = f"select memory_id from {tables.memories} where $1 is null or user_id = $1 order by 1"
        ids = [str(row[0]) for row in snapshot.cursor().execute(query, [user_id]).fetchall()]
        orders = [
            str(event.event_id)
            for event, payload in tables.forgets
            if payload.memory_ids or user_id is None or event.user_id in (None, user_id)
        ]
        return [str(snapshot.path), *ids, *orders]

    def remember(self, user_id: str | None = None, **values: Any) -> UUID:
        event = new_event("memory", {"content": "duck"}, user_id=user_id, **values)
        self.writer.append([event.to_line()])
        return event.event_id

    def forget(self, user_id: str | None = None, memory_ids: tuple[UUID, ...] = ()) -> None:
        payload: dict[str, Any] = (
            {"memory_ids": [str(one) for one in memory_ids]} if memory_ids else {"is_whole_scope": True}
        )
        self.writer.append([new_event("forget", payload, user_id=user_id).to_line()])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def process(home: Home, clock: Clock) -> Process:
    return Process(home, clock)


# --- what is answered again ----------------------------------------------------------------------------


class CachedAnswersAreThoseOfNow(RuleBasedStateMachine):
    """Two processes remember, forget and recall; a third one loads and publishes. The clock stands still,
    so only what is announced is ever looked for."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", lambda _: None)
        self.home = open_home(Path(self.folder) / "home")
        self.processes = [Process(self.home, Clock()) for _ in range(2)]
        self.remembered: list[UUID] = []

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    @rule(who=st.integers(0, 1), user_id=st.sampled_from(["a", "b", None]))
    def remember(self, who: int, user_id: str | None) -> None:
        self.remembered.append(self.processes[who].remember(user_id))

    @rule(who=st.integers(0, 1), user_id=st.sampled_from(["a", "b"]))
    def forget_of_a_user(self, who: int, user_id: str) -> None:
        self.processes[who].forget(user_id)

    @rule(who=st.integers(0, 1))
    def forget_by_ids(self, who: int) -> None:
        self.processes[who].forget(memory_ids=(UUID(int=7),))

    @rule()
    def seal_and_load(self) -> None:
        seal_open_segments(self.home)
        load_inbox(self.home)

    @rule()
    def publish(self) -> None:
        batches = load_inbox(self.home)
        newest = batches[-1].batch_seq if batches else 0
        write_search_snapshot(self.home, newest, self.remembered)
        retire_loaded(self.home, newest)

    @invariant()
    def each_process_answers_as_if_it_had_no_cache(self) -> None:
        for process, user_id in itertools.product(self.processes, ("a", None)):
            assert process.recall(user_id) == process.look(user_id)


TestCachedAnswersAreThoseOfNow = CachedAnswersAreThoseOfNow.TestCase
TestCachedAnswersAreThoseOfNow.settings = settings(max_examples=4, stateful_step_count=7, deadline=None)


def test_only_what_concerns_a_question_makes_it_be_computed_again(process: Process) -> None:
    def computes(user_id: str | None) -> bool:
        before = process.computed
        process.recall(user_id)
        return process.computed > before

    assert [computes("a"), computes("b"), computes(None)] == [True, True, True]
    assert [computes("a"), computes("b"), computes(None)] == [False, False, False]
    process.remember("a")
    assert [computes("a"), computes("b"), computes(None)] == [True, False, True]
    process.forget("b")
    assert [computes("a"), computes("b"), computes(None)] == [False, True, True]
    process.forget(memory_ids=(UUID(int=1),))
    assert [computes("a"), computes("b"), computes(None)] == [True, True, True]
    process.writer.append([new_event("recall", {"memory_ids": [str(UUID(int=1))]}, user_id="a").to_line()])
    assert [computes("a"), computes("b"), computes(None)] == [False, False, False], "a use is no news"
    level = process.cache.statistics["results"]
    assert (level.hits, level.misses) == (3 + 1 + 1 + 3, 3 + 2 + 2 + 3)


def test_what_happens_while_an_answer_is_computed_is_not_missed_later(process: Process) -> None:
    request = RecallRequest("duck", Scope("a"))

    def compute(_: RecallRequest) -> list[Recollection]:
        found = process.look("a")
        process.remember("a")  # too late for this answer
        process.fresh.get()  # and another thread has already looked
        return cast("list[Recollection]", found)

    first = cast("list[str]", process.cache.answer(request, compute))
    assert process.recall("a") == process.look("a") != first


def test_what_was_not_announced_is_found_when_a_reader_looks_of_itself(
    home: Home, process: Process, clock: Clock
) -> None:
    before = process.recall()
    (home.inbox / "by-hand.jsonl").write_bytes(new_event("memory", {"content": "duck"}).to_line())
    assert process.recall() == before
    clock.now += LOOK_SECONDS
    assert len(process.recall()) == len(before) + 1


def test_another_home_in_the_same_place_is_noticed(home: Home, process: Process, clock: Clock) -> None:
    process.remember()
    process.recall()
    home.path.rename(home.path.with_name("moved"))
    clock.now += LOOK_SECONDS
    with pytest.raises(StorageError, match="moved or deleted"):
        process.recall()
    open_home(home.path)
    other = Process(home, clock)
    assert len(process.recall()) == 1
    other.remember()
    assert len(process.recall()) == 2


def test_writers_whose_file_of_news_was_deleted_tell_of_it_in_the_new_one(home: Home, clock: Clock) -> None:
    writing, reading = Process(home, clock), Process(home, clock)
    writing.remember()
    home.news.unlink()
    assert len(reading.recall()) == 2
    writing.remember()
    assert len(reading.recall()) == 3


def test_a_write_that_cannot_be_announced_is_taken_back(
    home: Home, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.remember()
    with monkeypatch.context() as patch:
        patch.setattr(process.news, "announce", lambda: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(StorageError, match="was not stored"):
            process.remember()
    assert len(process.look(None)) == 2


def test_announcements_are_seen_whoever_makes_them_at_once(home: Home) -> None:
    """Each reading after an announcement differs from any before it."""
    news, seen = News(home), set()
    for number in range(50):
        (News(home) if number % 2 else news).announce()
        seen.add(news.read())
    assert len(seen) == 50
    assert home.news.stat().st_mode & 0o777 == 0o600
    assert in_child(news.announce) == 0
    assert news.read() not in seen


def test_an_answer_is_good_for_some_seconds(home: Home, clock: Clock) -> None:
    process = Process(home, clock, seconds=30)
    process.recall()
    clock.now += 29.9
    process.recall()
    assert process.computed == 1
    clock.now += 0.2
    process.recall()
    assert process.computed == 2


def test_an_answer_of_now_expires_when_a_memory_of_the_future_happens(process: Process, clock: Clock) -> None:
    process.remember("b", occurred_at=datetime.now(UTC) + timedelta(seconds=20))
    past = datetime(2026, 1, 1, tzinfo=UTC)
    for as_of in (None, past):
        process.recall("a", as_of)
    clock.now += 21
    process.recall("a", past)
    assert process.computed == 2, "an answer as of a moment does not depend on now"
    process.recall("a")
    assert process.computed == 3


def test_without_a_budget_nothing_is_kept(home: Home, clock: Clock) -> None:
    process = Process(home, clock, budget_bytes=0)
    process.recall()
    process.recall()
    assert process.computed == 2


def test_threads_share_a_cache_while_memories_arrive(process: Process) -> None:
    errors: list[BaseException] = []
    is_done = threading.Event()

    def read() -> None:
        try:
            while not is_done.is_set():
                process.recall("a")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 8):
            process.remember("a")
            assert len(process.recall("a")) == number + 1
    finally:
        is_done.set()
        for thread in threads:
            thread.join()
    assert errors == []


# --- through the public interface ------------------------------------------------------------------------


def test_recall_reads_what_another_process_wrote_a_moment_ago(
    memory: Memory, start_python: StartPython
) -> None:
    memory.remember("a duck", user_id="u")
    assert len(memory.recall("duck", user_id="u")) == 1
    assert len(memory.recall("duck", user_id="u")) == 1
    code = "import sys; from mnemoduck import Memory; Memory(sys.argv[1]).remember('two ducks', user_id='u')"
    assert start_python(code, memory.home).wait() == 0
    found = memory.recall("duck", user_id="u")
    assert {item.content for item in found} == {"a duck", "two ducks"}
    assert memory.cache_statistics()["results"].hits == 1
    assert memory.cache_statistics()["queries"].hits == 1, "the query is read once"
    memory.forget([found[0].memory_id])
    assert [item.memory_id for item in memory.recall("duck", user_id="u")] == [found[1].memory_id]


def test_a_child_has_caches_of_its_own(memory: Memory) -> None:
    memory.remember("a duck")
    memory.recall("duck")
    memory.recall("duck")

    def look() -> None:
        assert memory.cache_statistics()["results"].hits == 0
        assert len(memory.recall("duck")) == 1
        memory.remember("two ducks")
        assert len(memory.recall("duck")) == 2

    assert in_child(look) == 0
    assert len(memory.recall("duck")) == 2


def test_a_child_waits_for_no_thread_of_its_parent(memory: Memory) -> None:
    """What all homes of a process share is locked while another thread looks something up."""
    memory.remember("a duck", user_id="u", role="Maya")
    assert len(memory.recall("duck", user_id="u")) == 1

    def look() -> None:
        assert len(memory.recall("ducks", user_id="u")) == 1

    with index._mutex, speakers._mutex, _vocabulary(find_project())._mutex:
        assert in_child(look) == 0


def test_what_is_returned_cannot_change_what_is_returned_next(memory: Memory) -> None:
    memory.remember("a duck", tags=["bird"], metadata={"seen": {"where": ["pond"]}})
    changes: list[Callable[[Recollection], object]] = [
        lambda item: item.tags.append("x"),
        lambda item: item.matched_terms.clear(),
        lambda item: item.metadata.update(a=1),
        lambda item: item.metadata["seen"]["where"].__setitem__(0, "x"),
        lambda item: item.metadata.pop("seen"),
    ]
    for _ in range(2):  # computed, then cached
        found = memory.recall("duck")
        for change in changes:
            with pytest.raises(TypeError, match="cannot be changed"):
                change(found[0])
        found.clear()
    (item,) = memory.recall("duck")
    plain = item.as_dict()
    plain["metadata"]["seen"]["where"].append("lake")
    copied = copy.deepcopy(item)
    copied.metadata["seen"]["where"].append("sea")
    assert json.loads(json.dumps(item.metadata)) == {"seen": {"where": ["pond"]}}
    assert pickle.loads(pickle.dumps(item)) == item == memory.recall("duck")[0]


def test_a_limit_that_is_no_number_is_refused_also_if_its_equal_is_cached(memory: Memory) -> None:
    memory.remember("a duck")
    memory.recall("duck", limit=1)
    with pytest.raises(UsageError, match="The limit is True"):
        memory.recall("duck", limit=True)


@pytest.mark.parametrize(
    "options",
    [{"cache_bytes": -1}, {"resident_bytes": -1}, {"cache_seconds": -1.0}, {"cache_seconds": float("nan")}],
)
def test_less_than_no_cache_is_refused(home: Home, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"it takes a (size|number of seconds)"):
        Memory(home.path, **options)


def test_a_cached_recall_is_a_twentieth_of_the_smallest_query(memory: Memory) -> None:
    """100,000 a second where `select 1` takes 0.2 ms. Medians of interleaved runs: the machine is busy."""
    memory.remember_many([new_event("memory", {"content": f"duck {n}"}, user_id="u") for n in range(12)])
    assert len(memory.recall("duck", user_id="u")) == 10
    cursor = memory._readers.snapshots.get().cursor()
    cached, smallest = [], []
    for _ in range(15):
        cached.append(timeit.timeit(lambda: memory.recall("duck", user_id="u"), number=200) / 200)
        smallest.append(timeit.timeit(lambda: cursor.execute("select 1").fetchall(), number=20) / 20)
    assert statistics.median(cached) < statistics.median(smallest) / 20


# --- memory pressure ---------------------------------------------------------------------------------------


def level_of(entries: int, monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None) -> Level[str]:
    """A level in which every entry takes one part in a hundred, or as many as its value says."""
    monkeypatch.setattr("mnemoduck.recall.levels._ENTRY_BYTES", 0)
    monkeypatch.setattr("mnemoduck.recall.levels.size_of", lambda pair: int(pair[1].split()[0]))
    level: Level[str] = Level(100, clock=clock or Clock())
    for number in range(entries):
        level.put(number, "1")
    return level


def used(level: Level[str]) -> int:
    return level.statistics.bytes


def test_from_80_percent_on_each_new_entry_removes_the_one_that_was_used_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    level = level_of(79, monkeypatch)
    for key in [0, 1, 1, 2]:
        level.get(key)
    assert used(level) == 79
    for number in range(77):
        level.put(f"new {number}", "1")
    assert used(level) == 80
    assert level.statistics.evictions == 76
    assert [key for key in range(79) if level.get(key)] == [0, 1, 2], "used once or twice; the rest never"
    assert level.get("new 76"), "what is new is not what was used least"


def test_of_entries_used_equally_often_the_one_used_longest_ago_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    level = level_of(80, monkeypatch)
    for key in [*range(1, 80), 0]:
        level.get(key)
    level.put("new", "1")
    assert [key for key in range(80) if not level.get(key)] == [1]


def test_at_95_percent_it_is_relieved_down_to_70(monkeypatch: pytest.MonkeyPatch) -> None:
    level = level_of(74, monkeypatch)
    level.put("just below", "10")
    assert used(level) == 84 - 1, "one entry made room"
    level.put("just above", "12")
    assert used(level) == 70
    assert level.get("just above")


def test_what_has_expired_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    level = level_of(0, monkeypatch, clock)
    for number in range(40):
        level.keep(("short", number), "1", clock.now + 1)
        level.get(("short", number))
    for number in range(39):
        level.keep(("long", number), "1", clock.now + 100)
    clock.now += 2
    level.keep("new", "1", clock.now + 100)
    level.keep("newer", "1", clock.now + 100)
    assert used(level) == 41
    assert level.statistics.evictions == 0


def test_what_takes_an_eighth_of_the_budget_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    level = level_of(10, monkeypatch)
    level.put("large", "13")
    assert level.get("large") is None
    assert used(level) == 10


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(0, 3))))
def test_a_level_is_never_over_its_budget_and_counts_what_it_holds(
    operations: list[tuple[int, int, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        level = level_of(0, patch)
        for key, size, uses in operations:
            level.put(key, f"{size} {key}")
            assert used(level) < 95
            for _ in range(uses):
                assert level.get(key) == f"{size} {key}"
        found = [level.get(key) for key in range(31)]
        assert used(level) == sum(int(value.split()[0]) for value in found if value)
        assert level.statistics.entries == sum(1 for value in found if value)


def make_recollection(number: int) -> Recollection:
    return Recollection(
        memory_id=UUID(int=number + 2**100),
        user_id=f"user {number}",
        agent_id=None,
        session_id=f"session {number}",
        content=f"what was said as number {number} " * 5,
        role="user",
        memory_type="episodic",
        tags=[f"tag {number}"],
        metadata={"line": number + 1000, "nested": {"a": [f"b {number}"]}},
        importance=0.5 + number,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        recorded_at=datetime(2026, 2, 1, tzinfo=UTC) + timedelta(seconds=number),
        is_fresh=False,
        score=1.5 + number,
        parts=ScoreParts(
            words=1.0 + number, context=0.25 + number, session=0.5 + number, speaker=1.0 + number
        ),
        matched_terms=[f"term {number}"],
        found_by=["words"],
        support_count=1,
    )


def test_the_bytes_are_those_that_python_takes() -> None:
    def put_result(level: Level[Any], number: int) -> None:
        request = RecallRequest(f"query {number}", Scope(f"user {number}"))
        level.put(request, [make_recollection(number * 10 + one) for one in range(10)])

    def put_query(level: Level[Any], number: int) -> None:
        terms = {number * 100 + 2**60 + one: f"term {number} {one}" for one in range(8)}
        words = {f"word {number} {key}": key for key in terms}
        level.put(f"query of words {number}", Query(terms=terms, names=sorted(words), words=words))

    def put_vector(level: Level[Any], number: int) -> None:
        level.put(("model", f"text {number}"), [float(number + one) for one in range(384)])

    for put, count in ((put_result, 30), (put_query, 300), (put_vector, 30)):
        put(Level(1 << 30), 0)  # what is made once
        gc.collect()
        tracemalloc.start()
        try:
            level: Level[Any] = Level(1 << 30)
            for number in range(count):
                put(level, number)
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert 0.75 < level.statistics.bytes / taken < 1.25


def test_an_object_is_counted_once() -> None:
    text = "x" * 1000
    assert size_of([text, text]) < 1000 + 300


# --- statistics of all processes -----------------------------------------------------------------------


def test_counts_of_processes_add_up(home: Home) -> None:
    for _ in range(2):
        with Memory(home.path) as memory:
            memory.remember("a duck")
            for _ in range(4):
                memory.recall("duck")
    counted = read_statistics(home)["results"]
    assert (counted["hits"], counted["misses"]) == (6, 2)
    assert counted["hit_rate"] == 0.75
    assert read_status(home).recall_cache["results"] == counted
    assert home.recall_statistics.stat().st_mode & 0o777 == 0o600


def test_counts_are_added_every_few_seconds_of_use_and_each_once(home: Home, clock: Clock) -> None:
    process = Process(home, clock, statistics_file=StatisticsFile(home, clock))

    def stored() -> tuple[int, int]:
        level = read_statistics(home).get("results", {"hits": 0, "misses": 0})
        return level["hits"], level["misses"]

    process.recall()
    process.recall()
    assert stored() == (0, 0)
    clock.now += SAVE_SECONDS
    process.recall()
    assert stored() == (1, 1), "what was counted before it looked"
    clock.now += SAVE_SECONDS
    process.recall()
    assert stored() == (2, 1)
    process.cache.close()
    process.cache.close()
    assert stored() == (3, 1)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"levels": {"results": 1}}', '{"levels": {"results": {"hits": "x"}}}']
)
def test_a_damaged_file_of_counts_is_begun_again(home: Home, text: str) -> None:
    home.recall_statistics.write_text(text)
    assert read_statistics(home) == {}
    with Memory(home.path) as memory:
        memory.recall("duck")
    assert read_statistics(home)["results"]["misses"] == 1


def test_counts_that_cannot_be_written_disturb_nobody(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Callable[..., None]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mnemoduck.recall.statistics.create_file", refuse)
    with Memory(home.path) as memory:
        memory.recall("duck")
    assert read_statistics(home) == {}
