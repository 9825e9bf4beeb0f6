"""What is searched for after a purge: the texts, words and hashes of what went, and of nothing that stays.

A purged memory says some things that are also said elsewhere: in memories that are kept, in the models of the
project, in the answer of a model to a prompt of somebody else. Those are no trace of it. So all that is
kept is searched first, and what is found there is not looked for; where a memory that is kept says a
passage of one that went, that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnemoduck.forgetting.passages import Match, Needles, says_little, words_of
from mnemoduck.forgetting.selection import replace_texts, strip, texts_of
from mnemoduck.home import Home
from mnemoduck.pipeline.load import ROWS_IN_MEMORY, Batch
from mnemoduck.project import find_expectations, render, variables

PURGED = "[purged]"
"""What stands in place of words that were taken out."""

SCOPE = ("user_id", "agent_id", "session_id")
READ = ["event_id", "event_type", *SCOPE, "payload"]


@dataclass
class Material:
    """What to search for, and what of the events that are kept has to do with it.

    Attributes:
        needles: what nothing that stays may hold.
        quotable: passages that no memory which is kept says: they are taken out of steps that quote them.
        removed: ids of events that go as a whole.
        stripped: ids of events of which only the words go.
        quoting: ids of events of other types than memory that quote what goes, and are of its users.
        also_said: ids of kept events that say a passage of what goes and stay as they are.
        input_hashes: of what models were asked about memories that go, and about no other.
    """

    needles: Needles
    quotable: Needles
    removed: set[str]
    stripped: set[str]
    users: set[str | None]
    quoting: set[str] = field(default_factory=set)
    also_said: dict[str, str] = field(default_factory=dict)
    input_hashes: set[str] = field(default_factory=set)


def gather(
    home: Home, project: Path, batches: list[Batch], removed: pa.Table, lengths: Iterable[int] = ()
) -> Material:
    """Return what to search for. Cost: all texts in raw/ are read once, and hashed once.

    Args:
        lengths: so many characters of a memory models were shown, as the cache of answers has it; the
            variable llm_input_characters says it for what comes.
    """
    rows = removed.select(["event_id", "event_type", "payload", "is_stripped", *SCOPE]).to_pylist()
    texts: set[str] = set()
    words: set[str] = set()
    for row in rows:
        for text in texts_of(row["event_type"], row["payload"], is_stripped=row["is_stripped"]):
            if not says_little(text):
                texts.add(text)
            words |= words_of(text)
    files = [home.raw / file.path for batch in batches for file in batch.files]
    memories = [row for row in rows if row["event_type"] == "memory"]
    characters = sorted({*lengths, variables(project)["llm_input_characters"]})
    content_hashes, input_hashes = _hashes(home, project, files, memories, characters)
    hashes = [form for one in content_hashes | input_hashes for form in _spell_hash(one)]
    material = Material(
        needles=Needles(sorted(texts), sorted(words), hashes),
        quotable=Needles(sorted(texts)),
        removed={row["event_id"] for row in rows if not row["is_stripped"]},
        stripped={row["event_id"] for row in rows if row["is_stripped"]},
        users={row["user_id"] for row in rows if not row["is_stripped"]},
        input_hashes=input_hashes,
    )
    _leave_out_scopes(material, rows)
    _leave_out_project(material, home, project)
    for leave_out in (_leave_out_memories, _leave_out_others):
        for path in files:
            for batch in pq.ParquetFile(path).iter_batches(ROWS_IN_MEMORY, columns=READ):
                rows_of = pa.Table.from_batches([batch])
                is_memory = pc.equal(rows_of.column("event_type"), "memory")
                leave_out(
                    material,
                    rows_of.filter(is_memory if leave_out is _leave_out_memories else pc.invert(is_memory)),
                )
    return material


def leave_out_words(material: Material, texts: Iterable[bytes]) -> None:
    """Do not look for words that stand in texts which stay, whatever says them."""
    for text in texts:
        material.needles.leave_out(_of_kind(material.needles.find(text), "word"))


def buffers_of(column: pa.ChunkedArray | pa.Array) -> Iterator[tuple[np.ndarray, memoryview]]:
    """Yield (where each text begins, and at last where the last ends; the bytes of all) of a column of
    texts."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for chunk in chunks:
        texts = chunk.cast(pa.large_binary())
        if not len(texts):
            continue
        _, offsets, data = texts.buffers()
        begins = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
        if data is not None and begins[-1] > begins[0]:
            yield begins - begins[0], memoryview(data)[begins[0] : begins[-1]]
        else:
            yield begins - begins[0], memoryview(b"")


def find_in_column(
    needles: Needles, column: pa.ChunkedArray | pa.Array, *, with_words: bool = True
) -> Iterator[tuple[int, Match]]:
    """Yield (number of the row, match) of what is found in a column of texts, each within one of them."""
    first = 0
    for begins, data in buffers_of(column):
        for match in needles.find(data, with_words=with_words):
            row = int(np.searchsorted(begins, match.start, side="right")) - 1
            if match.end <= begins[row + 1]:
                yield first + row, match
            elif match.kind == "passage":  # of two texts, one after the other: what is in each
                yield from _cut(needles, first, begins, data, match)
        first += len(begins) - 1


def _cut(
    needles: Needles, first: int, begins: np.ndarray, data: memoryview, match: Match
) -> Iterator[tuple[int, Match]]:
    row = int(np.searchsorted(begins, match.start, side="right")) - 1
    while row < len(begins) - 1 and begins[row] < match.end:
        for one in needles.find(data[begins[row] : begins[row + 1]], with_words=False):
            yield first + row, one
        row += 1


def _leave_out_scopes(material: Material, rows: list[dict[str, str]]) -> None:
    """Names of users, agents and sessions stay in the orders that forget them."""
    names = {row[part] for row in rows for part in SCOPE if row[part]}
    leave_out_words(material, [name.encode("utf-8", "replace") for name in sorted(names)])


def _leave_out_project(material: Material, home: Home, project: Path) -> None:
    package = Path(__file__).resolve().parents[1]
    suffixes = {".sql", ".yml", ".csv", ".py", ".html", ".json"}
    folders = [project / name for name in ("models", "macros", "seeds", "tests/data")]
    paths = [
        path
        for folder in (*folders, find_expectations(project), package)
        for path in sorted(folder.rglob("*"))
        if path.suffix in suffixes and path.is_file() and path.stat().st_size < 4 * 1024 * 1024
    ]
    paths += [
        path
        for path in (project / "dbt_project.yml", home.marker, home.path / "mnemoduck.toml")
        if path.exists()
    ]
    leave_out_words(material, (path.read_bytes() for path in paths))
    leave_out_words(material, [str(home.path).encode(), str(project).encode()])


def _leave_out_memories(material: Material, rows: pa.Table) -> None:
    """Note what memories that are kept say of what goes, and do not look for it."""
    kept = _kept(material, rows)
    ids, payloads = kept.column("event_id").to_pylist(), kept.column("payload")
    material.quotable.leave_out([match for _, match in find_in_column(material.quotable, payloads)])
    _leave_out(material, kept, ids, payloads)


def _leave_out_others(material: Material, rows: pa.Table) -> None:
    """Note which steps quote what goes, and what others say of it, as they will be when the quotes are
    gone."""
    kept = _kept(material, rows)
    ids, users = kept.column("event_id").to_pylist(), kept.column("user_id").to_pylist()
    types, payloads = kept.column("event_type").to_pylist(), kept.column("payload").to_pylist()
    for row, event_id in enumerate(ids):
        if event_id in material.stripped:
            payloads[row] = strip(types[row], payloads[row])
    quoting = {
        row
        for row, _ in find_in_column(
            material.quotable, pa.array(payloads, pa.large_string()), with_words=False
        )
        if users[row] is None or None in material.users or users[row] in material.users
    }
    redacted = redact(material.quotable)
    for row in quoting:
        without = replace_texts(payloads[row], redacted)
        if without != payloads[row]:
            payloads[row] = without
            material.quoting.add(ids[row])
    _leave_out(material, kept, ids, pa.array(payloads, pa.large_string()))


def _kept(material: Material, rows: pa.Table) -> pa.Table:
    return rows.filter(
        pa.array([one not in material.removed for one in rows.column("event_id").to_pylist()], pa.bool_())
    )


def _leave_out(
    material: Material, kept: pa.Table, ids: list[str], payloads: pa.ChunkedArray | pa.Array
) -> None:
    gone: list[Match] = []
    for row, match in find_in_column(material.needles, payloads):
        gone.append(match)
        if match.kind == "passage":
            material.also_said[ids[row]] = kept.column("event_type")[row].as_py()
    material.needles.leave_out(gone)
    for part in SCOPE:
        names = kept.column(part).unique().drop_null()
        material.needles.leave_out([match for _, match in find_in_column(material.needles, names)])


def redact(needles: Needles) -> Callable[[str], str]:
    """Return what puts PURGED in the place of each passage that a text quotes."""

    def redacted(text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        kept, end = [], 0
        for match in needles.find(data, with_words=False):
            if match.end > end:
                kept += [data[end : max(match.start, end)], PURGED.encode() if match.start >= end else b""]
                end = match.end
        return text if not kept else b"".join([*kept, data[end:]]).decode("utf-8", "replace")

    return redacted


def _of_kind(matches: Iterable[Match], kind: str) -> list[Match]:
    return [match for match in matches if match.kind == kind]


def _hashes(
    home: Home, project: Path, files: list[Path], memories: list[dict[str, str]], lengths: list[int]
) -> tuple[set[str], set[str]]:
    """Return hashes of contents, and of what models are shown of them, that no memory which is kept has
    too."""
    connection = duckdb.connect(":memory:", config={"temp_directory": str(home.path / "tmp")})
    try:
        gone = pa.table(
            {
                "event_id": [row["event_id"] for row in memories],
                "payload": [row["payload"] for row in memories],
            },
            schema=pa.schema([("event_id", pa.string()), ("payload", pa.string())]),
        )
        connection.register("gone", gone)
        quoted = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        nothing = "(select '' as event_id, '' as payload, '' as event_type where false)"
        source = f"read_parquet([{quoted}], hive_partitioning = false)" if files else nothing
        kept = f"(from {source} where event_type = 'memory' and event_id not in (select event_id from gone))"
        content, role = "(payload ->> '$.content')", "(payload ->> '$.role')"
        by_content = render(project, "hash_key", (render(project, "normalised_text", content),))
        shown = [render(project, "prompt_text", content, characters) for characters in lengths]
        by_input = [
            render(project, "prompt_hash", (form,))
            for text in shown
            for form in (text, render(project, "fenced_text", text, role))
        ]
        found = []
        for forms in ([by_content], by_input):
            one: set[str] = set()
            for form in forms:
                rows = connection.execute(
                    f"select {form}::varchar from gone except select {form}::varchar from {kept} as kept"
                ).fetchall()
                one |= {value for (value,) in rows if value}
            found.append(one)
        return found[0], found[1]
    finally:
        connection.close()


def _spell_hash(text: str) -> list[bytes]:
    """Return a UUID as texts and databases hold it: DuckDB keeps 128 bits with the sign bit flipped."""
    digits = text.replace("-", "")
    value = int(digits, 16)
    flipped = value ^ (1 << 127)
    return [text.encode(), digits.encode(), value.to_bytes(16, "big"), flipped.to_bytes(16, "little")]
