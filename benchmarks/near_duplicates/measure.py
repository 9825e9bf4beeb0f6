"""What is found against all pairs, what is merged against labels, and what it costs."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks.near_duplicates.layer import MODELS, TextLayer, macro
from benchmarks.near_duplicates.stream import CHANGES, KEEPS, Said, labelled, many
from mnemoduck.project import variables

START = datetime(2025, 1, 1)
PROJECT = Path(__file__).resolve().parents[2]


def locomo(data: Path) -> Iterator[Said]:
    """Yield the turns of the LoCoMo development conversations; user and role are one speaker."""
    for item in json.loads((data / "locomo_dev.json").read_text("utf-8")):
        for name, turns in item["conversation"].items():
            if name.startswith("session_") and isinstance(turns, list):
                for turn in turns:
                    yield Said(f"{item['sample_id']} {turn['speaker']}", turn["text"], 0, "")


def longmemeval(data: Path, questions: int) -> Iterator[Said]:
    """Yield the turns of the first questions' haystacks; each haystack is a user of its own."""
    with gzip.open(data / "longmemeval_s_dev.json.gz", "rt", encoding="utf-8") as file:
        items = json.load(file)
    for item in items[:questions]:
        for session in item["haystack_sessions"]:
            for turn in session:
                yield Said(f"{item['question_id']} {turn['role']}", turn["content"], 0, "")


def build(said: Iterable[Said], **parameters: float) -> TextLayer:
    """Build the layer over sayings that come a second after one another."""
    layer = TextLayer(**parameters)
    layer.connection.execute("set threads = 2")
    layer.add_table(_table(list(said), 0))
    layer.build()
    return layer


def against_all_pairs(layer: TextLayer) -> dict[str, Any]:
    """Compare what buckets find with all pairs of the same scope and guard.

    *Similar* pairs are those at or above the threshold, *repetitions* those of them that the whole rule
    merges.
    """
    connection = layer.connection
    threshold = variables(PROJECT)["near_duplicate_similarity"]
    words = macro("words", "content")
    connection.execute(
        f"""
        create or replace temp table contents as
        select texts.text_id, texts.user_id, first_seen_at, content,
            {macro("near_duplicate_guard", words, "content")} as guard,
            [hash(shingle) for shingle in {macro("shingles", words)}] as shingles
        from int_texts as texts inner join stg_memories on first_memory_id = memory_id
        where len({words}) > 0
        """
    )
    connection.execute(
        f"""
        create or replace temp table pairs as
        select later.text_id, earlier.text_id as earlier_text_id,
            len(list_intersect(earlier.shingles, later.shingles)) as shared
        from contents as earlier inner join contents as later
            on earlier.user_id = later.user_id and earlier.guard = later.guard
            and (earlier.first_seen_at, earlier.text_id) < (later.first_seen_at, later.text_id)
        where shared >= {threshold} * (len(earlier.shingles) + len(later.shingles) - shared)
        """
    )
    repetitions = _pairs(connection, f"({macro('near_duplicate_pairs', 'pairs', 'contents')})")
    similar = _pairs(connection, "pairs")
    met = _pairs(
        connection,
        "(select pairs.text_id, pairs.earlier_text_id from pairs "
        "inner join int_text_buckets as later on pairs.text_id = later.text_id "
        "inner join int_text_buckets as earlier on pairs.earlier_text_id = earlier.text_id "
        "where list_has_any(earlier.buckets, later.buckets))",
    )
    rows = layer.rows("text_id, parent_text_id, consolidated_id")
    found = {(text, parent) for text, parent, _ in rows if parent is not None}
    together = _together((text, root) for text, _, root in rows)
    exact = _together(_components(repetitions))
    repeating = {later for later, _ in repetitions}
    return {
        "texts": len(rows),
        "similar_pairs": len(similar),
        "similar_pairs_that_share_a_bucket": len(met),
        "repetitions": len(repetitions),
        "texts_that_repeat_an_earlier_one": len(repeating),
        "of_which_merged": len({text for text, _ in found} & repeating),
        "merged": len(found),
        "merged_that_are_repetitions": len(found & repetitions),
        "pairs_in_one_memory": len(together),
        "pairs_in_one_memory_by_all_pairs": len(exact),
        "pairs_in_both": len(together & exact),
    }


def against_labels(layer: TextLayer, said: list[Said]) -> dict[str, Any]:
    """Compare what is merged with what says the same: pairs of sayings, and each kind of edit."""
    rows = layer.connection.execute(
        "select consolidated_id from stg_memories as memories inner join int_texts as texts "
        "on memories.user_id = texts.user_id and memories.content_hash = texts.content_hash "
        "order by memory_id"
    ).fetchall()
    memories = [row[0] for row in rows]
    merged = _together(enumerate(memories))
    same = _together(enumerate(entry.meaning for entry in said))
    edits: dict[str, Counter[str]] = {name: Counter() for name in (*KEEPS, *CHANGES)}
    first = 0
    for number, entry in enumerate(said):
        if entry.edit == "first":
            first = number
        else:
            edits[entry.edit].update(said=1, merged=int(memories[number] == memories[first]))
    return {
        "sayings": len(said),
        "pairs_merged": len(merged),
        "pairs_that_say_the_same": len(same),
        "pairs_in_both": len(merged & same),
        "edits": {
            name: {**counts, "keeps_meaning": name in KEEPS} for name, counts in edits.items() if counts
        },
    }


def drift(layer: TextLayer, threshold: float) -> dict[str, Any]:
    """Return how many merged texts lie below the threshold from the first of their memory."""
    words = macro("words", "content")
    row = layer.connection.execute(
        f"""
        with contents as (
            select text_id, parent_text_id, consolidated_id, {macro("shingles", words)} as shingles
            from int_texts inner join stg_memories on first_memory_id = memory_id
        )
        select count(*), count(*) filter (where member.parent_text_id <> member.consolidated_id),
            count(*) filter (
                where shared < {threshold} * (len(member.shingles) + len(root.shingles) - shared)
            ),
            (select count(*) from int_texts where repeated_text_id is not null and parent_text_id is null)
        from contents as member inner join contents as root on member.consolidated_id = root.text_id,
            lateral (select len(list_intersect(member.shingles, root.shingles)) as shared) as overlap
        where member.parent_text_id is not null
        """
    ).fetchone()
    assert row is not None
    return {
        "merged": row[0],
        "not_into_the_first": row[1],
        "below_the_threshold_from_the_first": row[2],
        "not_merged_because_of_drift": row[3],
    }


def settings(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield for several bands and rows what share of similar pairs meets, and what comparing costs."""
    said = list(labelled(count, seed))
    for bands, rows in ((8, 3), (12, 3), (16, 3), (20, 3), (10, 4), (16, 4), (24, 4), (10, 2)):
        layer = build(said, minhash_bands=bands, minhash_rows=rows)
        exact = against_all_pairs(layer)
        candidates = layer.connection.execute(
            "with placed as (select text_id, unnest(buckets) as bucket from int_text_buckets) "
            "select count(*) from (select distinct one.text_id, other.text_id from placed as one inner join "
            "(select bucket, min(text_id) as text_id from placed group by bucket) as other using (bucket) "
            "where one.text_id <> other.text_id)"
        ).fetchone()
        assert candidates is not None
        yield {
            "bands": bands,
            "rows": rows,
            "similar_pairs": exact["similar_pairs"],
            "similar_pairs_that_share_a_bucket": exact["similar_pairs_that_share_a_bucket"],
            "texts_that_repeat_an_earlier_one": exact["texts_that_repeat_an_earlier_one"],
            "of_which_merged": exact["of_which_merged"],
            "comparisons_per_text": round(candidates[0] / exact["texts"], 2),
        }


def costs(count: int, seed: int) -> dict[str, Any]:
    """Return seconds of a full build, of one per cent new and of nothing new, and bytes of the buckets."""
    said = list(many(count, seed))
    old = count - count // 100
    layer = TextLayer()
    layer.connection.execute("set threads = 2")
    layer.add_table(_table(said[:old], 0))
    full = _timed_build(layer)
    layer.add_table(_table(said[old:], old))
    new = _timed_build(layer)
    nothing = _timed_build(layer)
    with tempfile.TemporaryDirectory() as folder:
        layer.connection.execute(f"attach '{folder}/stored.duckdb' as stored")
        sizes: dict[str, int] = {}
        for model in MODELS:
            layer.connection.execute(f"create table stored.{model} as select * from {model}")
            layer.connection.execute("checkpoint stored")
            sizes[model] = Path(folder, "stored.duckdb").stat().st_size - sum(sizes.values())
        layer.connection.execute("detach stored")
    texts = len(layer.connection.execute("select 1 from int_texts").fetchall())
    return {
        "sayings": count,
        "texts": texts,
        "full_seconds": full,
        "one_percent_new_seconds": new,
        "nothing_new_seconds": nothing,
        "bytes_per_text": {model: round(size / texts) for model, size in sizes.items()},
    }


def template(count: int) -> dict[str, Any]:
    """Return seconds for texts of one user that are nearly alike and differ in one word, as from a form."""
    layer = TextLayer()
    layer.connection.execute("set threads = 2")
    said = [
        Said("user", f"The nightly backup of the customer database to host{number:x} finished well", 0, "")
        for number in range(count)
    ] + [
        Said("user", f"The monthly invoice for {_spelled(number)} was sent to the accountants", 0, "")
        for number in range(count)
    ]
    layer.add_table(_table(said, 0))
    seconds = _timed_build(layer)
    row = layer.connection.execute("select count(*), count(parent_text_id) from int_texts").fetchone()
    assert row is not None
    return {"texts": row[0], "merged": row[1], "full_seconds": seconds}


def _spelled(number: int) -> str:
    return "".join("bcdfghjklm"[int(digit)] + "a" for digit in str(number))


def _timed_build(layer: TextLayer) -> dict[str, float]:
    """Return seconds of each model and of both, and the processor time, which does not grow under load."""
    started, processor_started = time.perf_counter(), time.process_time()
    seconds = layer.build_timed()
    return {
        **seconds,
        "both": round(time.perf_counter() - started, 3),
        "processor": round(time.process_time() - processor_started, 3),
    }


def _table(said: list[Said], start: int) -> pa.Table:
    count = len(said)
    return pa.table(
        {
            "memory_id": [str(uuid.UUID(int=start + number)) for number in range(count)],
            "user_id": [entry.user_id for entry in said],
            "agent_id": pa.nulls(count, pa.string()),
            "role": pa.nulls(count, pa.string()),
            "content": [entry.content for entry in said],
            "occurred_at": [START + timedelta(seconds=start + number) for number in range(count)],
        }
    )


def _pairs(connection: duckdb.DuckDBPyConnection, source: str) -> set[tuple[Any, Any]]:
    return set(connection.execute(f"select text_id, earlier_text_id from {source}").fetchall())


def _components(pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield each text of the pairs with the name of the group that pairs connect it to."""
    parent: dict[Any, Any] = {}

    def root(text: Any) -> Any:
        while parent.setdefault(text, text) != text:
            text = parent[text]
        return text

    for later, earlier in pairs:
        parent[root(later)] = root(earlier)
    for text in list(parent):
        yield text, root(text)


def _together(grouped: Iterable[tuple[Any, Any]]) -> set[frozenset[Any]]:
    """Return the pairs of texts that are in one group."""
    groups: dict[Any, list[Any]] = {}
    for text, group in grouped:
        groups.setdefault(group, []).append(text)
    return {frozenset(pair) for members in groups.values() for pair in combinations(members, 2)}
