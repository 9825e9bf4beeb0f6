"""Purging without dbt: what is selected, rewritten and scrubbed, what a crash leaves, and what the search
can see.

The build from what is left is a stand-in here, which publishes a database with nothing in it but batches;
the real one is in tests/integration/test_forgetting.py.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.conftest import in_child
from tests.unit.llm_cache_rows import make_embedding, make_response

from mnemoduck.cli import main
from mnemoduck.errors import PipelineError, UsageError
from mnemoduck.event_ids import KnownEventIds
from mnemoduck.events import Event, EventType, new_event
from mnemoduck.forgetting import journal
from mnemoduck.forgetting import purge as purging
from mnemoduck.forgetting.material import PURGED
from mnemoduck.forgetting.passages import CHUNK, RUN, Needles, words_of
from mnemoduck.forgetting.purge import purge, verify_orders, verify_texts
from mnemoduck.forgetting.verification import find_free_blocks, search_home
from mnemoduck.home import Home
from mnemoduck.inbox import InboxWriter
from mnemoduck.llm.cache import LlmCache, open_cache
from mnemoduck.memory import Memory
from mnemoduck.pipeline.load import load_inbox, read_manifest
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.publish import publish
from mnemoduck.project import find_project
from mnemoduck.quarantine import Rejection, quarantine

MARCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "Zorblatta Quixwen hid the ledger of the mill under the seventh floorboard, said Vandermoot."
MARKERS = (
    b"zorblatta",
    b"quixwen",
    b"vandermoot",
    b"tagmarkerqq",
    b"metamarkerqq",
    b"factmarkerqq",
    b"floorboard",
)


@pytest.fixture(autouse=True)
def build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a build be the publication of a database that holds all payloads of raw/."""

    def run(home: Home, _project: Path, _lock: RunLock, **_: Any) -> None:
        batches = read_manifest(home)
        files = [str(home.raw / file.path) for batch in batches for file in batch.files]
        with duckdb.connect(str(home.warehouse)) as connection:
            connection.execute("create schema staging")
            connection.execute(
                f"create table staging.raw_batches as select {batches[-1].batch_seq} as batch_seq"
            )
            connection.execute("create table staging.stg_memories (memory_id uuid, content varchar)")
            if files:
                connection.execute(
                    "insert into staging.stg_memories select event_id::uuid, payload from read_parquet($1, "
                    "hive_partitioning = false) where event_type = 'memory'",
                    [files],
                )
        publish(home, f"{batches[-1].batch_seq:012d}", batches[-1].batch_seq)

    monkeypatch.setattr(purging, "_run", run)
    monkeypatch.setattr(purging, "_aged_months", lambda _home: {})


def append(home: Home, *events: Event) -> None:
    writer = InboxWriter(home)
    writer.append([event.to_line() for event in events])
    writer.close()


def make(
    kind: EventType, payload: dict[str, Any], user: str | None = "ada", minute: int = 0, **other: Any
) -> Event:
    moment = MARCH + timedelta(minutes=minute)
    return new_event(kind, payload, occurred_at=moment, recorded_at=moment, user_id=user, **other)


def secret(minute: int = 0, **other: Any) -> Event:
    payload = {
        "content": SECRET,
        "tags": ["tagmarkerqq"],
        "metadata": {"note": "metamarkerqq"},
        "facts": [{"subject": "Zorblatta", "predicate": "hides", "object": "factmarkerqq"}],
    }
    return make("memory", payload, minute=minute, **other)


def purge_ids(home: Home, *ids: UUID, **options: Any) -> purging.Purged:
    with Memory(home.path) as memory:
        order = memory.forget(ids)
    return purge(home, find_project(), [order], **options)


def payloads(home: Home) -> dict[UUID, dict[str, Any]]:
    files = [home.raw / file.path for batch in read_manifest(home) for file in batch.files]
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    return {UUID(row["event_id"]): json.loads(row["payload"]) for row in rows}


def _count_answers(cache: LlmCache) -> int:
    return sum(one.entries for one in cache.stats().templates)


def grep(home: Home) -> list[str]:
    """Return the files that hold a marker, as bytes or in a column: by other means than the search that
    is tested."""
    found = []
    for path in sorted(home.path.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        texts = [data]
        if data.startswith(b"PAR1"):
            texts += [str(pq.ParquetFile(path).read().to_pylist()).encode()]
        elif data[8:12] == b"DUCK":
            with duckdb.connect(str(path), read_only=True) as connection:
                tables = connection.execute("select schema_name, table_name from duckdb_tables()").fetchall()
                for schema, table in tables:
                    rows = connection.execute(f'select * from "{schema}"."{table}"').fetchall()
                    texts.append(repr(rows).encode())
        if any(marker in text.lower() for marker in MARKERS for text in texts):
            found.append(str(path.relative_to(home.path)))
    return found


# The search


@given(
    text=st.text(min_size=1, max_size=300),
    before=st.binary(max_size=50),
    after=st.binary(max_size=50),
    begin=st.integers(0, 300),
)
def test_any_forty_bytes_of_a_text_are_found_wherever_they_stand(
    text: str, before: bytes, after: bytes, begin: int
) -> None:
    data = text.encode("utf-8", "replace")
    part = data[begin : begin + RUN]
    # A block of a few signs, such as a line of dashes, is in any text.
    blocks = [data[place : place + 16] for place in range(0, max(len(data) - 15, 0), 16)]
    is_telling = bool(blocks) and all(len(set(block)) > 3 for block in blocks)
    if len(part) == RUN and is_telling:
        assert Needles([text]).find(before + part + after)


@pytest.mark.parametrize("tail", ["", "; and nobody else is to know of it, ever"])
@pytest.mark.parametrize("length", [10, 14, 16, 17, 23, 28, 32, 36, 47, 64, 90])
def test_of_many_texts_that_begin_alike_each_is_found(length: int, tail: str) -> None:
    alike = ("Please do remember that the password of this very old account " * 2)[:length]
    texts = [f"{alike}{number:06d}{tail}" for number in range(40)]
    needles = Needles(texts)
    for number, text in enumerate(texts):
        data = text.encode()
        runs = [data[begin : begin + RUN] for begin in range(max(len(data) - RUN, 0) + 1)]
        for run in runs:
            assert needles.find(b"\n" + run + b"\n"), (number, run)
        covered = {place for match in needles.find(data) for place in range(match.start, match.end)}
        assert covered == set(range(len(data)))
    needles.leave_out(needles.find(texts[0].encode()))
    assert not needles.find(texts[0].encode())


def test_of_many_words_that_begin_alike_each_is_found() -> None:
    words = [f"password{number:04d}" for number in range(200)]
    needles = Needles(words=words)
    assert all(needles.find(f"X{word.upper()}X".encode()) for word in words)
    assert not needles.find(b"password and passwords")


@pytest.mark.parametrize(
    "text",
    [
        "-------------------- pin 4711",
        "ha ha ha ha ha ha I did it",
        "00000000000000001234567",
        "1111-1111-1111-1111-2222",
        "!" * 16,
        "a" * 100,
        "-" * 48 + "pin 4711 ok",
        "pin 4711 ok " + "-" * 48,
        "-" * 30 + " pin 4711 " + "-" * 30,
    ],
)
def test_a_text_with_a_line_of_few_signs_is_found(text: str) -> None:
    assert Needles([text]).find(f"it says {text}, does it?".encode())


def test_a_line_of_few_signs_is_no_passage_of_a_text_that_says_more() -> None:
    needles = Needles(["The plan\n" + "-" * 60 + "\nis to dig a tunnel from the cellar to the bank."])
    assert not needles.find(b"=" * 50 + b"-" * 60 + b"=" * 50)


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET.encode(),
        json.dumps({"said": SECRET}).encode(),
        json.dumps(json.dumps({"said": SECRET})).encode(),
        SECRET.encode("utf-16-le"),
        SECRET.encode("utf-16-be"),
        base64.b64encode(b"." + SECRET.encode()),
        base64.b64encode(b".." + SECRET.encode()),
        base64.b64encode(SECRET.encode() + b"..."),
        SECRET.lower().encode(),
        SECRET[20:65].encode(),
    ],
)
def test_a_text_is_found_however_it_is_spelled(spelled: bytes) -> None:
    matches = Needles([SECRET]).find(os.urandom(31) + spelled + os.urandom(7))
    assert matches
    assert all(match.kind == "passage" for match in matches)


def test_less_than_forty_characters_of_a_longer_text_are_none_of_its_passages() -> None:
    assert not Needles([SECRET]).find(SECRET[5:40].encode())


def test_a_passage_across_two_pieces_of_a_large_file_is_found(home: Home) -> None:
    (home.logs / "large.log").write_bytes(b"." * (CHUNK - 4096 - 50) + SECRET.encode() + b"." * CHUNK)
    traces = search_home(home, Needles([SECRET])).traces
    assert [(trace.file, trace.where) for trace in traces] == [("logs/large.log", "bytes")]


def test_words_are_found_in_any_case_and_within_others() -> None:
    needles = Needles(words=["Äpfelchen", "quixwen"])
    assert len(needles.find("xQUIXWENx äpfelchen Äpfelchen".encode())) >= 3
    assert words_of("Ada's Quixwen-Mühle, 12") == {"quixwen", "mühle"}  # six bytes


def test_what_is_left_out_is_not_looked_for_and_the_rest_is() -> None:
    needles = Needles([SECRET], ["quixwen"])
    needles.leave_out(needles.find(SECRET[:45].encode()))
    assert not needles.find(SECRET[:45].encode())
    assert needles.find(SECRET[40:].encode())


def test_compressed_values_are_seen_in_parquet_and_in_databases(home: Home) -> None:
    nested = f"[struct_pack(a := '{SECRET}')]"
    rows = f"select '{SECRET}' || ' ' || range as said, {nested} as nested from range(5000)"
    with duckdb.connect(str(home.path / "other.duckdb")) as connection:
        connection.execute(f"create table said as {rows}")
        connection.execute(
            f"copy ({rows}) to '{home.path / 'other.parquet'}' (format parquet, compression zstd)"
        )
    where = {(trace.file, trace.where) for trace in search_home(home, Needles([SECRET])).traces}
    assert {("other.duckdb", "main.said.said"), ("other.duckdb", "main.said.nested")} <= where
    assert {("other.parquet", "said"), ("other.parquet", "nested")} <= where


def test_what_is_packed_and_not_looked_into_is_said(home: Home) -> None:
    (home.path / "notes.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    search = search_home(home, Needles([SECRET]))
    assert not search.is_clean
    assert "notes.zip" in search.unread[0]


def test_a_database_says_how_many_blocks_it_has_given_up(tmp_path: Path) -> None:
    path = tmp_path / "some.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "create table said as select range, md5(range::varchar) as said from range(200000)"
        )
        connection.execute("checkpoint")
        connection.execute("drop table said")
        connection.execute("checkpoint")
    assert find_free_blocks(path) > 0


# The purge


def test_nothing_of_a_memory_is_left_and_all_others_are_there(home: Home) -> None:
    gone, stays = secret(), make("memory", {"content": "Ada likes tea."}, minute=1)
    append(home, gone, stays)
    load_inbox(home)
    purging._run(home, find_project(), RunLock(home))
    assert grep(home)
    done = purge_ids(home, gone.event_id)
    assert (done.memories, done.events, done.is_ok) == (1, {"memory": 1}, True)
    assert done.search is not None
    assert done.search.columns > 0
    assert grep(home) == []
    assert payloads(home)[stays.event_id] == {"content": "Ada likes tea."}
    assert not home.purge.exists()
    assert len(list(home.published.glob("*.duckdb"))) == 1


def test_what_waits_in_the_inbox_goes_too(home: Home) -> None:
    gone = secret()
    append(home, gone)
    purge_ids(home, gone.event_id)
    assert grep(home) == []
    assert gone.event_id not in payloads(home)


def test_copies_of_a_memory_under_another_id_do_not_come_up_in_its_place(home: Home) -> None:
    gone, again, later = secret(), secret(), secret(minute=5)
    append(home, gone, again, gone, later)
    done = purge_ids(home, gone.event_id)
    assert done.events == {"memory": 3}
    assert set(payloads(home)) >= {later.event_id}
    assert list(done.also_said) == [str(later.event_id)]  # said again at another moment: another memory


def test_orders_recalls_and_feedback_keep_their_ids_and_lose_their_words(home: Home) -> None:
    gone, stays = secret(), make("memory", {"content": "Ada likes tea."}, minute=1)
    ids = [str(gone.event_id), str(stays.event_id)]
    recall = make("recall", {"memory_ids": ids, "query": "where is the ledger of Quixwen"}, minute=2)
    feedback = make(
        "feedback", {"memory_id": ids[0], "outcome": "success", "note": "found Zorblatta"}, minute=3
    )
    other = make("recall", {"memory_ids": ids[1:], "query": "what does she drink"}, minute=4)
    append(home, gone, stays, recall, feedback, other)
    with Memory(home.path) as memory:
        order = memory.forget([gone.event_id], reason="Zorblatta asked for it")
    purge(home, find_project(), [order])
    said = payloads(home)
    assert said[recall.event_id] == {"memory_ids": ids}
    assert said[feedback.event_id] == {"memory_id": ids[0], "outcome": "success"}
    assert said[order] == {"memory_ids": ids[:1]}
    assert said[other.event_id]["query"] == "what does she drink"
    assert grep(home) == []


def test_steps_that_quote_a_memory_lose_the_passage_and_those_of_others_are_named(home: Home) -> None:
    gone = secret()
    step = {"episode_id": "run-1", "step": 0, "tool": "recall", "observation": f"Found: {SECRET} (1 hit)"}
    own, others = make("step", step, minute=1), make("step", step, user="bob", minute=2)
    append(home, gone, own, others)
    done = purge_ids(home, gone.event_id)
    said = payloads(home)
    assert said[own.event_id]["observation"] == f"Found: {PURGED} (1 hit)"
    assert said[own.event_id]["tool"] == "recall"
    assert said[others.event_id]["observation"] == step["observation"]
    assert done.also_said == {str(others.event_id): "step"}
    assert done.redacted == 1


def test_a_scope_loses_its_memories_its_episodes_and_what_was_asked(home: Home) -> None:
    gone = [
        secret(),
        make("episode_started", {"episode_id": "run-1", "task": "find quixwen"}, minute=1),
        make("step", {"episode_id": "run-1", "step": 0, "tool": "look", "observation": SECRET}, minute=2),
        make("episode_completed", {"episode_id": "run-1", "outcome": "success"}, minute=3),
    ]
    recall = make("recall", {"memory_ids": [str(gone[0].event_id)], "query": "vandermoot"}, minute=4)
    stays = [
        make("memory", {"content": "Bob likes tea."}, user="bob"),
        make("episode_started", {"episode_id": "run-1", "task": "find tea"}, user="bob"),
    ]
    append(home, *gone, recall, *stays)
    with Memory(home.path) as memory:
        order = memory.forget(user_id="ada")
    done = purge(home, find_project(), [order])
    assert (done.memories, done.episodes) == (1, 1)
    assert set(payloads(home)) == {recall.event_id, order, *(event.event_id for event in stays)}
    assert grep(home) == []


def test_before_a_date_is_what_happened_before_it(home: Home) -> None:
    early, late = secret(), make("memory", {"content": "Ada likes tea."}, minute=60)
    append(home, early, late)
    with Memory(home.path) as memory:
        order = memory.forget(before=MARCH + timedelta(minutes=30))
    purge(home, find_project(), [order])
    assert set(payloads(home)) == {late.event_id, order}


def test_without_orders_named_all_that_was_ever_forgotten_goes(home: Home) -> None:
    first, second = secret(), make("memory", {"content": "Ada likes tea."}, minute=1)
    append(home, first, second)
    with Memory(home.path) as memory:
        memory.forget([first.event_id])
        memory.forget([second.event_id])
    done = purge(home, find_project())
    assert done.memories == 2
    again = purge(home, find_project())
    assert (again.memories, again.search) == (0, None)


def test_what_was_purged_is_not_imported_again(home: Home) -> None:
    gone, stays = secret(), make("memory", {"content": "Ada likes tea."}, minute=1)
    append(home, gone, stays)
    purge_ids(home, gone.event_id)
    assert KnownEventIds(home)([gone.event_id, stays.event_id]) == {gone.event_id, stays.event_id}


def test_counts_of_loads_are_those_of_what_is_left(home: Home) -> None:
    gone = secret()
    append(home, gone, make("memory", {"content": "Ada likes tea."}, minute=1))
    load_inbox(home)
    purge_ids(home, gone.event_id)
    batches = read_manifest(home)
    assert sum(batch.event_counts.get("memory", 0) for batch in batches) == 1
    assert sum(file.rows for batch in batches for file in batch.files) == 2  # with the order
    assert batches[-1].purged is not None


def test_a_file_of_which_nothing_stays_is_gone_and_the_next_load_goes_on(home: Home) -> None:
    gone = secret()
    append(home, gone)
    load_inbox(home)
    purge_ids(home, gone.event_id)
    append(home, make("memory", {"content": "Ada likes tea."}, minute=1))
    batches = load_inbox(home)
    assert [batch.batch_seq for batch in batches] == [
        1,
        2,
        3,
        4,
    ]  # the memory, the order, the purge, what came
    assert not batches[0].files


def test_the_cache_loses_prompts_answers_and_vectors_of_it_and_is_a_new_file(home: Home) -> None:
    gone = secret()
    append(home, gone)
    kept = make_response("Ada likes tea.")
    quoting = make_response("Something else.", response=f'{{"summary": "{SECRET[:60]}"}}')
    with open_cache(home) as cache:
        cache.store_responses([make_response(f"<memory>{SECRET}</memory>"), kept, quoting])
        cache.store_embeddings(
            [make_embedding(SECRET, [1.0, 0.0]), make_embedding("Ada likes tea.", [0.0, 1.0])]
        )
    done = purge_ids(home, gone.event_id)
    assert (done.answers, done.vectors) == (2, 1)
    assert grep(home) == []
    assert find_free_blocks(home.llm_cache) == 0
    assert oct(home.llm_cache.stat().st_mode)[-3:] == "600"
    with open_cache(home) as cache:
        assert _count_answers(cache) == 2  # an answer and a vector
        assert not cache.store_responses([kept])


def test_quarantine_and_records_lose_what_they_quote(home: Home) -> None:
    gone = secret()
    append(home, gone)
    line = gone.to_line()[:-9]
    quarantine(
        home, "segment", [Rejection(1, "torn", line), Rejection(2, "odd", b"\xff" + line)], keep_whole=True
    )
    quarantine(home, "other", [Rejection(1, "torn", b'{"content": "tea"')], keep_whole=True)
    home.runs.mkdir()
    (home.runs / "2026-03-01.jsonl").write_text(
        json.dumps({"run_id": "1", "errors": [f"at {SECRET}"]}) + "\n"
    )
    (home.logs / "dbt.log").write_text(SECRET)
    (home.path / "report.html").write_text(SECRET)
    (home.logs / "schedule.log").write_text(f"one\nsaid {SECRET}\nthree\n")
    done = purge_ids(home, gone.event_id)
    assert done.is_ok
    assert grep(home) == []
    assert json.loads((home.runs / "2026-03-01.jsonl").read_text()) == {
        "run_id": "1",
        "errors": [f"at {PURGED}"],
    }
    assert (home.logs / "schedule.log").read_text() == f"one\nsaid {PURGED}\nthree\n"
    records = [
        json.loads(one) for path in home.quarantine.glob("*.jsonl") for one in path.read_text().splitlines()
    ]
    assert sorted((one["line"], one["reason"], one.get("text")) for one in records) == [
        (1, "torn", PURGED),
        (1, "torn", '{"content": "tea"'),
        (2, "odd", PURGED),
    ]


def test_what_is_left_fails_the_purge_and_is_named(home: Home) -> None:
    gone = secret()
    append(home, gone)
    (home.path / "my-notes.txt").write_text(f"do not lose: {SECRET}")
    done = purge_ids(home, gone.event_id)
    assert not done.is_ok
    assert done.search is not None
    assert {trace.file for trace in done.search.traces} == {"my-notes.txt"}
    assert home.purge.exists()
    assert not purge(home, find_project()).is_ok  # it is still there, and still known
    (home.path / "my-notes.txt").unlink()
    again = purge(home, find_project())
    assert again.is_ok
    assert grep(home) == []
    assert not home.purge.exists()


def test_the_same_words_said_again_meanwhile_are_another_memory(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, again = secret(), secret(minute=7)
    append(home, gone)
    build = purging._run

    def run(*arguments: Any, **options: Any) -> None:
        build(*arguments, **options)
        append(home, again)

    monkeypatch.setattr(purging, "_run", run)
    done = purge_ids(home, gone.event_id)
    assert done.is_ok
    load_inbox(home)
    assert payloads(home)[again.event_id]["content"] == SECRET


def test_common_words_of_a_memory_are_no_trace_of_it(home: Home) -> None:
    gone = make(
        "memory", {"content": "Memory of the session: concepts, consolidated episodes and yesterday."}
    )
    append(home, gone, make("memory", {"content": "It was yesterday that she came."}, minute=1))
    assert purge_ids(home, gone.event_id).is_ok


# Crashes and others at work


@pytest.mark.parametrize("number", [3, 5, 6, 7, 8])
def test_a_purge_that_was_killed_is_finished_by_the_next(home: Home, number: int) -> None:
    gone, stays = secret(), make("memory", {"content": "Ada likes tea."}, minute=1)
    append(home, gone, stays)
    with open_cache(home) as cache:
        cache.store_responses([make_response(SECRET)])
    said: list[str] = []

    def die(step: str) -> None:
        said.append(step)
        if len(said) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    with Memory(home.path) as memory:
        order = memory.forget([gone.event_id])
    status = in_child(lambda: purge(home, find_project(), [order], on_step=die))
    assert status == -signal.SIGKILL
    assert set(payloads(home)) >= {stays.event_id, order}  # the manifest names what is there
    done = purge(home, find_project())
    assert done.is_ok
    assert grep(home) == []
    assert set(payloads(home)) == {stays.event_id, order}
    assert not home.purge.exists()
    assert not list(home.path.rglob("*.tmp"))
    with open_cache(home) as cache:
        assert _count_answers(cache) == 0


def test_a_purge_whose_manifest_was_replaced_is_finished_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = secret()
    append(home, gone, make("memory", {"content": "Ada likes tea."}, minute=1))

    def fail(*_: Any, **__: Any) -> None:
        raise PipelineError("no")

    build = purging._run
    monkeypatch.setattr(purging, "_run", fail)
    with pytest.raises(PipelineError):
        purge_ids(home, gone.event_id)
    numbers = [batch.batch_seq for batch in read_manifest(home)]
    assert journal.is_pending(home)
    monkeypatch.setattr(purging, "_run", build)
    assert purge(home, find_project()).is_ok
    assert [batch.batch_seq for batch in read_manifest(home)] == numbers


def test_a_purge_waits_for_no_run_and_says_that_one_is_at_work(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = secret()
    append(home, gone)
    monkeypatch.setattr(
        sys, "argv", ["mnemoduck", "forget", "--home", str(home.path), "--purge", "--yes", str(gone.event_id)]
    )
    with RunLock(home), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 75
    assert "Another run is at work" in capsys.readouterr().err
    with Memory(home.path) as memory:
        assert memory.recall("Zorblatta", user_id="ada") == []  # forgotten all the same


def test_the_lock_does_not_repeat_what_is_searched_for(home: Home) -> None:
    verify_texts(home, [SECRET])
    assert grep(home) == []


def test_what_was_verified_by_ids_is_told(home: Home) -> None:
    gone, stays = secret(), make("memory", {"content": "Ada likes tea."}, minute=1)
    append(home, gone, stays)
    purge_ids(home, gone.event_id)
    count, search = verify_orders(home, [])
    assert (count, search.is_clean) == (1, True)
    _, search = verify_orders(home, [stays.event_id])
    assert {trace.kind for trace in search.traces} == {"id"}
    assert len(search.traces) == 3  # raw, the warehouse, the snapshot


def test_a_text_that_is_too_short_to_be_searched_for_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="too short"):
        verify_texts(home, ["tea"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--verify", "--purge"], "--verify only searches"),
        (["--text", SECRET], "add --verify"),
        (["--backup", "there", "some-id"], "add --purge"),
        (["--purge"], "cannot be undone"),
        (["--verify"], "Nothing was ever purged"),
        (["--verify", "no-id"], "no id of a memory"),
        (["--purge", "--yes", "--backup", "there"], "no backup at there"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_anything_is_done(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["mnemoduck", "forget", "--home", str(home.path), *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(home.inbox.glob("*.open"))


def test_backups_that_are_named_are_made_anew(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Path, Path]] = []
    monkeypatch.setattr(purging, "check_backups", lambda _: None)
    monkeypatch.setattr(
        purging, "refresh_backup", lambda one, target, *, is_locked: asked.append((one.path, target))
    )
    gone = secret()
    append(home, gone)
    done = purge_ids(home, gone.event_id, backups=[tmp_path / "backup"])
    assert asked == [(home.path, tmp_path / "backup")]
    assert done.backups == [str(tmp_path / "backup")]
