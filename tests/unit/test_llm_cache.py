"""The cache of answers: what is paid for once stays, whatever happens to the process or its neighbours."""

from __future__ import annotations

import itertools
import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.conftest import StartPython, in_child
from tests.unit.llm_cache_rows import (
    APPRAISAL,
    ASKED_AT,
    make_embedding,
    make_failure,
    make_response,
    make_run,
)

from mnemoduck.errors import StorageError, UsageError
from mnemoduck.home import Home
from mnemoduck.llm import cache_migrations
from mnemoduck.llm.cache import LlmCache, Response, attach_cache, open_cache, wal_of
from mnemoduck.llm.cache_audit import SCHEMA_PROBLEM, Fault, hash_sql
from mnemoduck.llm.cache_migrations import MIGRATIONS, migrate
from mnemoduck.llm.keys import prompt_hash

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def attached(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    attach_cache(connection, path)
    return connection


@pytest.fixture(params=["attached", "alone"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LlmCache]:
    """A cache that is attached beside another database, or is the only one of its connection."""
    path = tmp_path / "llm_cache.duckdb"
    if request.param == "attached":
        connection = attached(path)
    else:
        connection = duckdb.connect(str(path))
        migrate(connection.cursor(), "cache", datetime(2026, 1, 1))
    with connection, LlmCache(connection, "llm_cache" if request.param == "attached" else None) as opened:
        yield opened


@contextmanager
def in_memory() -> Iterator[LlmCache]:
    """Give a cache without a file, where a test does not ask for one."""
    with duckdb.connect() as connection:
        migrate(connection.cursor(), "cache", datetime(2026, 1, 1))
        with LlmCache(connection, None) as opened:
            yield opened


@pytest.fixture
def quick() -> Iterator[LlmCache]:
    with in_memory() as opened:
        yield opened


def rows(cache: LlmCache, columns: str, table: str = "responses") -> list[Any]:
    return cache._cursor.execute(f"select {columns} from {table} order by all").fetchall()


def known(cache: LlmCache, keys: Iterable[UUID]) -> set[UUID]:
    """Return those of the keys that the cache has something for."""
    return {*keys} & {key for table in ("responses", "embeddings") for (key,) in rows(cache, "key", table)}


def test_an_answer_comes_out_as_it_went_in(cache: LlmCache) -> None:
    stored = make_response("Grüße\n\U0001f600", created_at=ASKED_AT.astimezone())
    assert cache.store_responses([stored]) == 1
    expected = replace(stored, created_at=ASKED_AT.replace(tzinfo=None), response_seq=cache.newest_seq())
    expected = replace(expected, last_used_at=expected.created_at)
    assert rows(cache, "*") == [astuple(expected)]
    vector = make_embedding("Grüße", [0.5, -2.0])
    assert cache.store_embeddings([vector]) == 1
    assert rows(cache, "vector, dimension, error", "embeddings") == [([0.5, -2.0], 2, None)]


def test_the_first_answer_stays_and_a_failure_gives_way(cache: LlmCache) -> None:
    good = make_response("one")
    assert cache.store_responses([good]) == 1
    assert cache.store_responses([replace(good, answer="{}"), make_failure("two")]) == 1
    assert cache.store_responses([make_failure("one"), make_failure("two", response="again")]) == 1
    assert rows(cache, "input, answer, response") == [
        ("one", good.answer, good.response),
        ("two", None, "again"),
    ]
    assert cache.store_responses([make_failure("two"), make_response("two"), make_failure("two")]) == 1
    assert rows(cache, "input, error") == [("one", None), ("two", None)]
    failed = replace(make_embedding("three", []), vector=None, dimension=None, error="too long")
    for vector in (failed, make_embedding("three", [1.0, 2.0]), make_embedding("three", [3.0, 4.0])):
        cache.store_embeddings([vector])
    assert rows(cache, "vector, error", "embeddings") == [([1.0, 2.0], None)]


def test_half_a_surrogate_in_a_response_is_kept_as_a_question_mark(quick: LlmCache) -> None:
    quick.store_responses([make_response("x", response="so \ud83d far")])
    assert rows(quick, "response") == [("so ? far",)]


def test_a_batch_is_stored_whole_or_not_at_all(cache: LlmCache) -> None:
    broken = make_response("b", model=None)
    with pytest.raises(StorageError, match="NOT NULL"):
        cache.store_responses([make_response("a"), broken])
    assert rows(cache, "*") == []
    assert cache.store_responses([make_response("a")]) == 1


def test_sequence_numbers_only_grow_even_if_the_clock_goes_back_or_the_file_is_deleted(
    tmp_path: Path,
) -> None:
    now = [ASKED_AT]
    path = tmp_path / "cache.duckdb"
    seen: list[int] = []

    def store(text: str, opened: LlmCache) -> None:
        if len(seen) % 2:
            opened.store_responses([make_response(text), make_response(text + "!")])
        else:
            opened.store_embeddings([make_embedding(text, [1.0])])
        seen.append(opened.newest_seq())

    with attached(path) as connection:
        opened = LlmCache(connection, clock=lambda: now[0])
        assert opened.newest_seq() == 0
        for text in "abc":
            store(text, opened)
        now[0] -= timedelta(days=1)
        store("d", opened)
        assert rows(opened, "count(distinct response_seq)") == [(2,)], "one for each transaction"
    path.unlink()
    now[0] = ASKED_AT + timedelta(seconds=1)
    with attached(path) as connection:
        opened = LlmCache(connection, clock=lambda: now[0])
        for text in "ab":
            store(text, opened)
    assert all(earlier < later for earlier, later in itertools.pairwise(seen))


def test_uses_are_added_up_for_both_tables(cache: LlmCache, tmp_path: Path) -> None:
    answer, vector, unused = make_response("a"), make_embedding("a", [1.0]), make_response("b")
    cache.store_responses([answer, unused])
    cache.store_embeddings([vector])
    later = ASKED_AT + timedelta(hours=1)
    cache.record_uses([(answer.key, 2), (vector.key, 5), (answer.key, 1), (UUID(int=9), 1)], later)
    with duckdb.connect() as other:
        other.execute("create table hits as select ?::uuid as key, 4::bigint as uses", [answer.key])
        cache.record_uses(other.table("hits"), ASKED_AT)
    cache.record_uses(pa.table({"key": [str(vector.key)], "uses": [1]}), ASKED_AT)
    cache.record_uses([], later)
    naive, naive_later = ASKED_AT.replace(tzinfo=None), later.replace(tzinfo=None)
    assert rows(cache, "input, use_count, last_used_at") == [("a", 7, naive_later), ("b", 0, naive)]
    assert rows(cache, "use_count, last_used_at", "embeddings") == [(6, naive_later)]


def test_the_last_digest_is_that_of_the_latest_sight(quick: LlmCache) -> None:
    assert quick.last_digest("m") is None
    quick.note_model("m", "new", ASKED_AT)
    quick.note_model("m", "old", ASKED_AT - timedelta(days=1))
    quick.note_model("other", None, ASKED_AT)
    assert (quick.last_digest("m"), quick.last_digest("other")) == ("new", None)


def test_statistics_count_by_model_and_template(cache: LlmCache) -> None:
    second = replace(APPRAISAL, template_version=2)
    cache.store_responses([make_response("añb"), make_response("añb", second), make_failure("c")])
    cache.store_embeddings([make_embedding("a", [1.0, 2.0])])
    cache.record_uses([(make_response("añb").key, 3)], ASKED_AT + timedelta(days=1))
    cache.record_runs([make_run(1), make_run(2, hits=10, started_at=ASKED_AT + timedelta(days=1))])
    cache.record_run(make_run(2, hits=9, started_at=ASKED_AT + timedelta(days=1)))
    cache.record_run(make_run(2, model="idle", hits=0, misses=0))
    found = cache.stats()
    assert (found.entries, found.failures) == (4, 1)
    appraisal, embedding = found.templates
    assert (appraisal.template, appraisal.versions, appraisal.entries, appraisal.failures) == (
        "appraisal",
        [1, 2],
        3,
        1,
    )
    error = make_failure("c").error or ""
    said, answer = make_response("c").response or "", make_response("c").answer or ""
    assert appraisal.bytes == 2 * len("añb".encode()) + 1 + 3 * len(said) + 2 * len(answer) + len(error)
    assert (appraisal.prompt_tokens, appraisal.answer_tokens, appraisal.uses) == (60, 21, 3)
    assert (embedding.template, embedding.bytes, embedding.uses) == ("embedding", 8, 0)
    assert [(one.model, one.runs, one.hit_rate) for one in found.models] == [
        ("idle", 1, None),
        ("llama3.2", 2, 17 / 21),
    ], "hits / (hits + misses), as in llm_cache_metrics"
    assert [(one.kind, one.hits, one.misses) for one in found.models] == [
        ("prompts", 0, 0),
        ("prompts", 17, 4),
    ]
    assert [(run.run_id.int, run.hits) for run in found.last_runs] == [(2, 9), (1, 8), (2, 0)]


def test_a_model_that_is_asked_for_both_has_two_rows_in_a_run(cache: LlmCache) -> None:
    cache.record_runs([make_run(1), make_run(1, kind="vectors", hits=4, misses=4)])
    cache.record_run(make_run(1, kind="vectors", hits=5, misses=5))
    assert rows(cache, "kind, hits", "runs") == [("prompts", 8), ("vectors", 5)]
    found = cache.stats()
    assert [(one.kind, one.hit_rate) for one in found.models] == [("prompts", 0.8), ("vectors", 0.5)]
    assert [run.kind for run in found.last_runs] == ["prompts", "vectors"]


def test_failures_are_counted_until_there_is_something_to_store(cache: LlmCache, tmp_path: Path) -> None:
    a, b, c = make_response("a"), make_response("b"), make_embedding("c", [1.0])
    later = ASKED_AT + timedelta(hours=1)
    naive, naive_later = ASKED_AT.replace(tzinfo=None), later.replace(tzinfo=None)
    cache.note_failures([], ASKED_AT)
    cache.note_failures([a.key, b.key, a.key], ASKED_AT)
    cache.note_failures([a.key, c.key], later)
    cache.note_failures(iter([a.key]), ASKED_AT)
    count = "failures, last_failed_at"
    assert rows(cache, count, "failures") == [(1, naive), (1, naive_later), (3, naive_later)]
    cache.store_responses([a, make_response("z")])
    assert {key for (key,) in rows(cache, "key", "failures")} == {b.key, c.key}
    cache.store_embeddings([c])
    assert rows(cache, "key", "failures") == [(b.key,)]
    cache.clear_failures([])
    cache.clear_failures([b.key, a.key])
    assert rows(cache, "key", "failures") == []
    cache.note_failures([b.key], ASKED_AT)
    with in_memory() as other:
        other.store_responses([b])
        cache.import_(exported(other, tmp_path / "export"))
    assert rows(cache, "key", "failures") == [], "an import brought its answer"


@given(parts=st.lists(texts | st.none(), min_size=1, max_size=4))
def test_hashes_are_the_same_in_sql_and_in_python(parts: list[str | None]) -> None:
    marks = [f"cast(${number + 1} as varchar)" for number in range(len(parts))]
    row = duckdb.execute(f"select {hash_sql(marks)}", parts).fetchone()
    assert row == (prompt_hash(parts),)


@settings(max_examples=15)
@given(
    text=texts,
    names=st.tuples(texts, texts, texts, texts, texts),
    digest=texts | st.none(),
    version=st.integers(1, 2**31 - 1),
)
def test_what_is_stored_as_settings_say_is_verified(
    text: str, names: tuple[str, str, str, str, str], digest: str | None, version: int
) -> None:
    template, model, options, schema, instructions = names
    settings = replace(
        APPRAISAL,
        template=template,
        model=model,
        options=options,
        response_schema=schema,
        instructions=instructions,
        model_digest=digest,
        template_version=version,
    )
    with in_memory() as opened:
        opened.store_responses([make_response(text, settings), make_response(text + "x", settings)])
        found = opened.verify()
    assert (found.responses, found.faults) == (2, [])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("input = 'something else'", "its input does not give its input_hash"),
        ("input_hash = gen_random_uuid()", "its settings_hash and input_hash do not give its key"),
        ("settings_hash = gen_random_uuid()", "its settings do not give its settings_hash"),
        ("instructions = 'Say yes.'", "its settings do not give its settings_hash"),
        ("template_version = 2", "its settings do not give its settings_hash"),
        ("model_digest = null", "its settings do not give its settings_hash"),
        ("response_schema = ''", "its settings do not give its settings_hash"),
        ("algorithm = 'md5'", "its algorithm is not sha256-1"),
        ("answer = '{\"importance\":'", "its answer is no JSON"),
        (
            "answer = '[]'",
            f"{SCHEMA_PROBLEM}: The answer is no JSON object; it has to begin with {{ and end with }}",
        ),
        (
            "answer = replace(answer, '0.5', '7')",
            f"{SCHEMA_PROBLEM}: importance: Input should be less than or equal to 1",
        ),
        (
            "answer = replace(answer, ',', ', ')",
            f"{SCHEMA_PROBLEM}: it is not in the form in which answers are kept",
        ),
        ("answer = null", "it has not either an answer or an error"),
        ("error = 'bad'", "it has not either an answer or an error"),
    ],
)
def test_verification_finds_what_was_changed(quick: LlmCache, change: str, problem: str) -> None:
    changed, untouched = make_response("a"), make_response("b")
    quick.store_responses([changed, untouched, make_failure("c")])
    assert quick.verify().faults == []
    quick._cursor.execute(f"update responses set {change} where input = 'a'")
    found = quick.verify()
    assert Fault("responses", changed.key, problem) in found.faults
    assert {fault.key for fault in found.faults} == {changed.key}
    assert found.fault_count == len(found.faults)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("dimension = 3", "its vector has not as many finite numbers as its dimension says"),
        ("vector = [1, null]", "its vector has not as many finite numbers as its dimension says"),
        ("vector = [1, 'nan'::float]", "its vector has not as many finite numbers as its dimension says"),
        ("vector = [1, 'inf'::float]", "its vector has not as many finite numbers as its dimension says"),
        ("dimension = null", "its vector has not as many finite numbers as its dimension says"),
        ("vector = null", "it has not either a vector or an error"),
        ("model = 'another'", "its settings do not give its settings_hash"),
        ("input_hash = gen_random_uuid()", "its settings_hash and input_hash do not give its key"),
    ],
)
def test_verification_finds_changed_vectors(quick: LlmCache, change: str, problem: str) -> None:
    changed = make_embedding("a", [1.0, 2.0])
    quick.store_embeddings([changed, make_embedding("b", [1.0])])
    assert quick.verify().faults == []
    quick._cursor.execute(f"update embeddings set {change} where key = ?", [changed.key])
    assert quick.verify().faults == [Fault("embeddings", changed.key, problem)]


def test_many_faults_are_counted_and_the_first_told(quick: LlmCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemoduck.llm.cache_audit.SHOWN_FAULTS", 3)
    quick.store_responses([make_response(str(number), answer="no") for number in range(10)])
    quick.store_embeddings([make_embedding("a", [1.0], dimension=2)])
    found = quick.verify()
    assert (found.fault_count, len(found.faults)) == (11, 3)
    assert "its answer is no JSON" in str(found.faults[0])


def test_eviction_by_age_counts_from_the_last_use(cache: LlmCache) -> None:
    cache._clock = lambda: ASKED_AT + timedelta(days=100)
    used, unused, vector = make_response("used"), make_response("unused"), make_embedding("v", [1.0])
    cache.store_responses([used, unused])
    cache.store_embeddings([vector])
    cache.record_uses([(used.key, 1)], ASKED_AT + timedelta(days=50))
    assert cache.evict(timedelta(days=101)).responses == 0
    counted = cache.evict(timedelta(days=90), dry_run=True)
    assert (counted.responses, counted.embeddings, counted.kept) == (1, 1, 1)
    assert known(cache, [unused.key, vector.key]) == {unused.key, vector.key}
    assert cache.evict(timedelta(days=90)) == counted
    assert known(cache, [used.key, unused.key, vector.key]) == {used.key}
    assert cache.evict(timedelta.max).responses == 0


def test_failures_can_be_evicted_so_that_they_are_asked_again(cache: LlmCache) -> None:
    second = replace(APPRAISAL, template_version=2)
    cache.store_responses([make_response("a"), make_failure("b"), make_failure("c", last_used_at=ASKED_AT)])
    cache.store_responses([replace(make_response("d", second), answer=None, error="no")])
    cache.store_embeddings([make_embedding("a", [1.0])])
    cache.store_embeddings([replace(make_embedding("e", []), vector=None, dimension=None, error="too long")])
    assert cache.evict(template="extraction", failures=True).kept == 6
    assert cache.evict(template="appraisal", below_version=2, failures=True, dry_run=True).responses == 2
    assert cache.evict(template="embedding", failures=True).embeddings == 1
    done = cache.evict(failures=True)
    assert (done.responses, done.embeddings, done.kept) == (3, 0, 2)
    assert rows(cache, "input, error") == [("a", None)]
    assert rows(cache, "error", "embeddings") == [(None,)]


@settings(max_examples=20)
@given(ages=st.lists(st.integers(0, 5), min_size=1, max_size=12), percent=st.integers(0, 110))
def test_eviction_by_size_keeps_the_last_used_that_fit(ages: list[int], percent: int) -> None:
    with in_memory() as opened:
        stored = [
            make_response(f"{number}" * (number + 1), last_used_at=ASKED_AT - timedelta(days=age))
            for number, age in enumerate(ages)
        ]
        opened.store_responses(stored)
        most = opened.stats().bytes * percent // 100
        done = opened.evict(max_bytes=most)
        left = known(opened, [one.key for one in stored])
        assert done.kept_bytes == opened.stats().bytes <= most
        assert (done.kept, done.responses) == (len(left), len(stored) - len(left))
    gone = [one for one in stored if one.key not in left]
    kept = [one for one in stored if one.key in left]
    last_used: Callable[[Response], datetime] = lambda one: one.last_used_at or ASKED_AT  # noqa: E731
    if gone and kept:
        assert max(map(last_used, gone)) <= min(map(last_used, kept))
    if gone:
        next_one = max(gone, key=lambda one: (last_used(one), -one.key.int))
        size = sum(len(text or "") for text in (next_one.input, next_one.response, next_one.answer))
        assert done.kept_bytes + size > most, "the next one would not have fitted"


def test_eviction_by_template_leaves_the_others(cache: LlmCache) -> None:
    versions = [replace(APPRAISAL, template_version=number) for number in (1, 2, 3)]
    cache.store_responses([make_response("a", settings) for settings in versions])
    cache.store_responses([make_response("a", replace(APPRAISAL, template="extraction"))])
    assert cache.evict(template="appraisal", below_version=3).responses == 2
    assert rows(cache, "template, template_version") == [("appraisal", 3), ("extraction", 1)]
    assert cache.evict(template="appraisal", max_bytes=10**6).responses == 0
    assert cache.evict(template="appraisal").responses == 1
    assert rows(cache, "template") == [("extraction",)]
    for nothing_to_go_by in ({}, {"below_version": 2}, {"max_bytes": -1}):
        with pytest.raises(UsageError):
            cache.evict(**nothing_to_go_by)  # type: ignore[arg-type]


def test_room_of_what_was_evicted_is_used_again_and_keys_stay_unique(tmp_path: Path) -> None:
    path = tmp_path / "cache.duckdb"
    noise = os.urandom(400_000).hex()
    stored = [make_response(f"{number} {noise[number * 400 : (number + 1) * 400]}") for number in range(2000)]
    with attached(path) as connection:
        opened = LlmCache(connection)
        sizes = []
        for _ in range(4):
            opened.store_responses(stored)
            connection.execute("checkpoint llm_cache")
            sizes.append(path.stat().st_size)
            assert opened.evict(max_bytes=20_000).responses > 1900
        # Four rounds without reuse would be four times the first. Freed blocks come back a checkpoint later
        # and in an order of DuckDB's own, so the file levels off at 1.3 to 1.6 times the first, not at once.
        assert max(sizes) <= 2 * sizes[0], f"not as much again each time: {sizes}"
        with pytest.raises(duckdb.ConstraintException):
            connection.execute("insert into llm_cache.responses from llm_cache.responses limit 1")


@pytest.mark.parametrize("is_wal_kept", [True, False], ids=["in the log", "after a checkpoint"])
def test_what_was_stored_before_a_kill_is_there(
    tmp_path: Path, start_python: StartPython, is_wal_kept: bool
) -> None:
    path = tmp_path / "cache.duckdb"
    process = start_python(
        """
import sys
from pathlib import Path
import duckdb
from mnemoduck.llm.cache import LlmCache, attach_cache
from tests.unit.llm_cache_rows import make_response
connection = duckdb.connect()
attach_cache(connection, Path(sys.argv[1]))
cache = LlmCache(connection)
for batch in range(3):
    cache.store_responses([make_response(f"{batch} {number}") for number in range(64)])
    if batch == 1 and sys.argv[2] == "False":
        connection.execute("checkpoint llm_cache")
cache._cursor.execute("begin")
cache._cursor.execute("delete from responses")
print("stored", flush=True)
sys.stdin.read()
""",
        path,
        is_wal_kept,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"stored\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with attached(path) as connection:
        opened = LlmCache(connection)
        assert opened.verify().responses == 3 * 64
        assert opened.verify().fault_count == 0


def test_the_file_is_private(home: Home) -> None:
    with open_cache(home) as opened:
        opened.store_responses([make_response("a")])
    assert stat.S_IMODE(home.llm_cache.stat().st_mode) == 0o600


@pytest.mark.parametrize("before", [None, 0o644], ids=["made by us", "there before"])
def test_what_a_kill_leaves_beside_the_file_is_private_too(home: Home, before: int | None) -> None:
    wal = wal_of(home.llm_cache)

    def store_and_die(text: str) -> None:
        os.umask(0o022)
        with open_cache(home) as opened:
            opened.store_responses([make_response(text)])
            os._exit(7)

    assert in_child(lambda: store_and_die("a")) == 7
    assert stat.S_IMODE(wal.stat().st_mode) == 0o600
    if before is not None:
        wal.chmod(before)
        assert in_child(lambda: store_and_die("b")) == 7
        assert stat.S_IMODE(wal.stat().st_mode) == 0o600
    umask = os.umask(0o022)
    try:
        with open_cache(home) as opened:
            assert opened.stats().entries == (1 if before is None else 2)
        assert os.umask(0o022) == 0o022, "put back"
    finally:
        os.umask(umask)


def test_migrations_are_applied_once_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache.duckdb"
    with attached(path) as connection:
        LlmCache(connection).store_responses([make_response("a")])
    later = {**MIGRATIONS, "0002-notes": "create table notes (text varchar)"}
    monkeypatch.setattr(cache_migrations, "MIGRATIONS", later)
    for _ in range(2):
        with attached(path) as connection:
            opened = LlmCache(connection)
            assert [name for (name,) in rows(opened, "name", "migrations")] == sorted(later)
            assert rows(opened, "count(*)") == [(1,)]
    monkeypatch.setattr(
        cache_migrations, "MIGRATIONS", {**later, "0003-broken": "create table a (b varchar); x"}
    )
    with duckdb.connect() as connection:
        with pytest.raises(StorageError, match="cannot be opened"):
            attach_cache(connection, path)
        connection.execute(f"attach '{path}' as again")
        assert connection.execute("select count(*) from again.migrations").fetchone() == (2,)
    monkeypatch.setattr(cache_migrations, "MIGRATIONS", MIGRATIONS)
    with duckdb.connect() as connection, pytest.raises(StorageError, match=r"later mnemoduck.*0002-notes"):
        attach_cache(connection, path)


def _damage_header(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def _damage_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[12288:] = Random(7).randbytes(len(content) - 12288)
    path.write_bytes(content)


def _make_another(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table responses_of_another (a integer)")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_damage_header, "not a valid DuckDB database"),
        (_damage_inside, "cannot be opened"),
        (_make_another, "holds other tables"),
        (lambda path: path.write_bytes(b""), "not a valid DuckDB database"),
    ],
    ids=["no database", "bytes inside", "another database", "empty"],
)
def test_a_file_that_is_no_cache_is_told_and_left_alone(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "cache.duckdb"
    with attached(path) as connection:
        LlmCache(connection).store_responses([make_response("a")])
    damage(path)
    content = path.read_bytes()
    with duckdb.connect() as connection:
        with pytest.raises(StorageError, match=said) as told:
            attach_cache(connection, path)
        assert str(path) in str(told.value)
        assert "run again" in str(told.value)
        assert connection.execute(
            "select count(*) from duckdb_databases() where path is not null"
        ).fetchone() == (0,)
    assert path.read_bytes() == content


def test_a_cache_that_is_open_elsewhere_is_told(tmp_path: Path, start_python: StartPython) -> None:
    path = tmp_path / "cache.duckdb"
    process = start_python(
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()", path
    )
    assert process.stdout is not None
    process.stdout.readline()
    with duckdb.connect() as connection, pytest.raises(StorageError, match="open in another process"):
        attach_cache(connection, path)


@settings(max_examples=10)
@given(
    answers=st.lists(st.tuples(texts, texts | st.none()), max_size=6),
    vectors=st.dictionaries(texts, st.lists(st.floats(width=32, min_value=-9, max_value=9), min_size=1)),
)
def test_an_export_imported_elsewhere_is_the_same_cache(
    tmp_path_factory: pytest.TempPathFactory, answers: list[tuple[str, str | None]], vectors: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("export") / "a[b]*"
    with in_memory() as first, in_memory() as second:
        first.store_responses(
            [make_failure(text, response=said) if said else make_response(text) for text, said in answers]
        )
        first.store_embeddings([make_embedding(text, vector) for text, vector in vectors.items()])
        first.note_model("m", None, ASKED_AT)
        first.record_run(make_run(1))
        exported = first.export(folder)
        assert sum(exported.rows.values()) == first.stats().entries + 2
        assert {stat.S_IMODE(file.stat().st_mode) for file in exported.rows} == {0o600}
        assert sorted(folder.iterdir()) == sorted(exported.rows)
        taken = second.import_(folder)
        assert [one.taken for one in taken] == [
            exported.rows[folder / f"{one.table}.parquet"] for one in taken
        ]
        for table in ("responses", "embeddings"):
            columns = "* exclude (response_seq)"
            assert rows(first, columns, table) == rows(second, columns, table)
        assert rows(first, "*", "runs") == rows(second, "*", "runs")
        newest = second.newest_seq()
        again = second.import_(folder)
        assert [(one.taken, one.known, one.refused) for one in again] == [(0, one.taken, 0) for one in taken]
        assert second.newest_seq() == newest


def exported(cache: LlmCache, folder: Path) -> Path:
    cache.export(folder)
    return folder / "responses.parquet"


def rewrite(file: Path, columns: str, joined: str = "") -> None:
    """Replace an exported file by what SQL makes of it."""
    aside = file.with_suffix(".aside")
    duckdb.execute(f"copy (select {columns} from '{file}' {joined}) to '{aside}' (format parquet)")
    aside.replace(file)


def test_an_import_keeps_what_is_there_and_answers_failures(tmp_path: Path, quick: LlmCache) -> None:
    with in_memory() as other:
        other.store_responses([make_response("a"), make_response("b"), make_failure("c"), make_failure("d")])
        file = exported(other, tmp_path / "export")
    quick.store_responses(
        [make_response("a", answer="{}"), make_failure("b"), make_response("c", answer="[]")]
    )
    before = quick.newest_seq()
    (done,) = quick.import_(file)
    assert (done.table, done.taken, done.known, done.refused) == ("responses", 2, 2, 0)
    assert rows(quick, "input, answer, response_seq > " + str(before)) == [
        ("a", "{}", False),
        ("b", make_response("b").answer, True),
        ("c", "[]", False),
        ("d", None, True),
    ]


@pytest.mark.parametrize(
    "forgery",
    [
        "replace (case when input = 'a' then 'z' else input end as input)",
        "replace (case when input = 'a' then gen_random_uuid() else key end as key)",
        "replace (case when input = 'a' then null else key end as key)",
        "replace (case when input = 'a' then null else model end as model)",
        "replace (case when input = 'a' then 'not JSON' else answer end as answer)",
        "replace (case when input = 'a' then '{}' else answer end as answer)",
        "replace (case when input = 'a' then replace(answer, '0.5', '0.9e9') else answer end as answer)",
        "replace (case when input = 'a' then replace(answer, '0.5', '0.50') else answer end as answer)",
        "replace (case when input = 'a' then 'Obey.' else instructions end as instructions)",
        "replace (case when input = 'a' then null else use_count end as use_count)",
    ],
)
def test_rows_that_are_not_what_they_say_are_left_out(tmp_path: Path, quick: LlmCache, forgery: str) -> None:
    with in_memory() as other:
        other.store_responses([make_response("a"), make_response("b")])
        file = exported(other, tmp_path / "export")
    rewrite(file, f"* {forgery}")
    (done,) = quick.import_(file)
    assert (done.taken, done.known, done.refused) == (1, 0, 1)
    assert done.reasons
    assert set(done.reasons.values()) == {1}
    assert rows(quick, "input") == [("b",)]
    assert quick.verify().fault_count == 0


def test_an_answer_whose_schema_is_not_known_here_is_taken_if_it_is_json(
    tmp_path: Path, quick: LlmCache
) -> None:
    later, other_template = replace(APPRAISAL, template_version=99), replace(APPRAISAL, template="mood")
    with in_memory() as other:
        other.store_responses(
            [make_response("a", known, answer='{"mood":1}') for known in (APPRAISAL, later, other_template)]
        )
        other.store_responses([make_response("b", later, answer="{")])
        file = exported(other, tmp_path / "export")
    (done,) = quick.import_(file)
    assert (done.taken, done.refused) == (2, 2)
    assert done.reasons == {"its answer is no JSON": 1, SCHEMA_PROBLEM: 1}
    assert quick.verify().fault_count == 0


def test_a_key_that_is_twice_in_a_file_is_taken_once(tmp_path: Path, quick: LlmCache) -> None:
    with in_memory() as other:
        other.store_responses([make_response("a")])
        file = exported(other, tmp_path / "export")
    rewrite(
        file,
        "* exclude (n) replace (if(n = 0, 'bad', error) as error, if(n = 0, null, answer) as answer)",
        "cross join range(3) as copies (n)",
    )
    (done,) = quick.import_(file)
    assert (done.taken, done.known, done.refused) == (1, 2, 0)
    assert rows(quick, "error, answer is not null") == [(None, True)]


def _missing(file: Path) -> Path:
    return file.parent / "nowhere"


def _empty_folder(file: Path) -> Path:
    (file.parent / "empty").mkdir()
    return file.parent / "empty"


def _no_parquet(file: Path) -> Path:
    file.write_text("key,answer\n1,2\n")
    return file


def _cut_off(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[:-100])
    return file.parent


def _scrambled(file: Path) -> Path:
    content = bytearray(file.read_bytes())
    middle = len(content) // 8
    content[4:middle] = Random(7).randbytes(middle - 4)
    file.write_bytes(content)
    return file.parent


def _column_missing(file: Path) -> Path:
    rewrite(file, "* exclude (settings_hash)")
    return file.parent


def _column_of_another_type(file: Path) -> Path:
    rewrite(file, "* replace (cast(key as varchar) as key)")
    return file.parent


def _other_table(file: Path) -> Path:
    rewrite(file, "1 as a, 2 as b")
    return file


def _link(file: Path) -> Path:
    file.rename(file.with_name("real"))
    file.symlink_to("real")
    return file.parent


def _folder_in_place_of_a_file(file: Path) -> Path:
    file.unlink()
    file.mkdir()
    return file.parent


def _pipe(file: Path) -> Path:
    file.unlink()
    os.mkfifo(file)
    return file


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing, "No such file"),
        (_empty_folder, "holds no export"),
        (_no_parquet, "no Parquet file, or damaged"),
        (_cut_off, "no Parquet file, or damaged"),
        (_scrambled, "no Parquet file, or damaged"),
        (_column_missing, "it lacks settings_hash"),
        (_column_of_another_type, "key is VARCHAR where UUID is expected"),
        (_other_table, "it has the columns a, b"),
        (_link, "symbolic link"),
        (_folder_in_place_of_a_file, "is no file"),
        (_pipe, "is no file"),
    ],
)
def test_what_cannot_be_imported_is_told_and_nothing_is_taken(
    tmp_path: Path, quick: LlmCache, spoil: Callable[[Path], Path], said: str
) -> None:
    with in_memory() as other:
        other.store_responses([make_response(f"{number} {os.urandom(40).hex()}") for number in range(50)])
        other.store_embeddings([make_embedding("a", [1.0])])
        file = exported(other, tmp_path / "export")
    with pytest.raises(UsageError, match=said):
        quick.import_(spoil(file))
    assert quick.stats().entries == 0
    assert quick.store_responses([make_response("a")]) == 1, "the cache works on"


def test_an_export_replaces_files_but_nothing_else(tmp_path: Path, cache: LlmCache) -> None:
    cache.store_responses([make_response("a")])
    folder = tmp_path / "export"
    file = exported(cache, folder)
    cache.store_responses([make_response("b")])
    assert cache.export(folder).rows[file] == 2
    target = tmp_path / "precious"
    target.write_text("mine")
    file.unlink()
    file.symlink_to(target)
    with pytest.raises(UsageError, match="no plain file"):
        cache.export(folder)
    assert target.read_text() == "mine"
    with pytest.raises(UsageError, match="cannot be made"):
        cache.export(target)
    file.unlink()
    with pytest.raises(UsageError, match="cannot be made"):
        cache.export(target / "below")
    assert sorted(path.name for path in folder.iterdir()) == [
        "embeddings.parquet",
        "models.parquet",
        "runs.parquet",
    ]
    assert cache.store_responses([make_response("c")]) == 1, "the cache works on"
