"""Bytes on disk: a memory by table, against the same memories as JSON lines, and vectors in fewer bits."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.layers.measure import size_of
from benchmarks.page import table
from benchmarks.stream import PARTS
from benchmarks.suite.parts import Found, FoundByScale
from benchmarks.suite.work import Work
from benchmarks.vectors.drawn import DIMENSION, Vectors, topics
from mnemoduck.home import Home
from mnemoduck.partitions import months_schema, partitioned_models
from mnemoduck.pipeline.publish import current_snapshot
from mnemoduck.project import find_project, render

NAME = "storage"
TITLE = "Size on disk"

SMALLER_AT_LEAST = 0.6
"""The goal for text without vectors, against raw JSONL."""

MOST_VECTORS = 100_000
QUESTIONS = 40
NEAREST = 10
SHOWN_TABLES = 12
_CHUNK = 20_000

_IS_MONTH = re.compile(r"m\d{4}_\d{2}")
_MEMORY = b'"event_type":"memory"'
_MEMORIES = "staging.stg_memories"
_TOLD_FIELDS = """
    memory_id, occurred_at, recorded_at, user_id, agent_id, session_id, content, role, memory_type, tags,
    metadata, importance
"""
_VECTORS_FLOAT = Path(__file__).resolve().parents[2] / "vectors" / "result.json"
_VECTORS_BITS = Path(__file__).resolve().parents[2] / "vectors" / "bits.json"

TEXT, TEXT_ZSTD = "the texts, one column", "the texts, one column, Zstandard"
TEXT_GZIP, LINES_GZIP = "the texts, gzip", "the memories' JSON lines, gzip"
FIELDS = "what was told of a memory, one table"
BUILT, RAW, WAREHOUSE = (
    "the model stg_memories, in months",
    "raw/, all events",
    "the warehouse: all models, indexes",
)
HOME = "the home: raw/, warehouse, published copy"


def measure(work: Work) -> Found:
    """Return bytes of the home by table, of its memories in several forms, and of vectors by type."""
    home = work.home
    found = {
        **measure_tables(home.warehouse),
        "forms": _measure_forms(work, home),
        "vectors": measure_vectors(
            min(work.memories, MOST_VECTORS), work.empty_folder("storage-vectors"), QUESTIONS
        ),
    }
    for name, form in found["forms"].items():
        work.tell(f"{name}: {form['bytes'] / form['of_bytes']:.2f} of the JSON lines")
    return found


def measure_tables(path: Path) -> dict[str, Any]:
    """Return the bytes of a database file by model, and what of it is in no table.

    A block that several tables lie in counts for each in equal parts. What the tables' blocks do not explain
    are indexes, the metadata of tables and columns, and free blocks.
    """
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = connection.execute(
            "select schema_name, table_name, estimated_size from duckdb_tables() "
            "where database_name = current_database() order by all"
        ).fetchall()
        owners: dict[int, list[str]] = {}
        rows: dict[str, int] = {}
        models = partitioned_models(connection)
        month_schemas = {months_schema(model): model for model in models}
        for schema, name, count in tables:
            model = month_schemas.get(schema, f"{schema}.{name}")
            if schema not in month_schemas or _IS_MONTH.fullmatch(name):
                rows[model] = rows.get(model, 0) + count
            blocks = connection.execute(
                "select distinct unnest(list_append(additional_block_ids, block_id)) "
                f"""from pragma_storage_info('"{schema}"."{name}"')"""
            ).fetchall()
            for (block,) in blocks:
                if block is not None and block >= 0:
                    owners.setdefault(block, []).append(model)
        size = connection.execute(
            "select block_size, total_blocks, free_blocks from pragma_database_size()"
        ).fetchone()
        indexes = connection.execute(
            "select count(*) from duckdb_indexes() where database_name = current_database()"
        ).fetchone()
    assert size is not None
    assert indexes is not None
    block_size, total, free = size
    held = dict.fromkeys(rows, 0.0)
    for models_of_block in owners.values():
        for model in models_of_block:
            held[model] = held.get(model, 0.0) + block_size / len(models_of_block)
    return {
        "file_bytes": path.stat().st_size,
        "tables": {
            model: {"rows": rows.get(model, 0), "bytes": round(taken)}
            for model, taken in sorted(held.items(), key=lambda item: -item[1])
            if taken
        },
        "free_bytes": free * block_size,
        "other_bytes": (total - free - len(owners)) * block_size,
        "indexes": indexes[0],
    }


def _measure_forms(work: Work, home: Home) -> dict[str, dict[str, Any]]:
    """Return the bytes of the same memories in several forms, each with those of their JSON lines."""
    folder = work.empty_folder("storage")
    folder.mkdir()
    with duckdb.connect(str(home.warehouse), read_only=True) as connection:
        packer = zlib.compressobj(wbits=31)
        memories = text_bytes = text_gzip_bytes = 0
        asked = connection.execute(f"select content from {_MEMORIES} order by occurred_at, memory_id")
        while rows := asked.fetchmany(_CHUNK):
            texts = "\n".join(content for (content,) in rows).encode()
            memories += len(rows)
            text_bytes += len(texts)
            text_gzip_bytes += len(packer.compress(texts))
        text_gzip_bytes += len(packer.flush())
        columns = [
            name
            for (name,) in connection.execute(
                "select column_name from duckdb_columns() where schema_name = 'staging' "
                "and table_name = 'stg_memories' and database_name = current_database()"
            ).fetchall()
        ]
    lines = _count_lines(_segments(work, memories))
    fields = ", ".join(name for name in _TOLD_FIELDS.replace(",", " ").split() if name in columns)
    tables = measure_tables(home.warehouse)["tables"]
    snapshot = current_snapshot(home)
    published = 0 if snapshot is None else snapshot.stat().st_size
    warehouse = home.warehouse.stat().st_size
    made = {
        TEXT: (_store(home, folder, "content"), text_bytes),
        TEXT_ZSTD: (_store(home, folder, "content", "zstd"), text_bytes),
        TEXT_GZIP: (text_gzip_bytes, text_bytes),
        LINES_GZIP: (lines["memory_gzip_bytes"], lines["memory_bytes"]),
        FIELDS: (_store(home, folder, fields), lines["memory_bytes"]),
        BUILT: (tables["stg_memories"]["bytes"], lines["memory_bytes"]),
        "all JSON lines, gzip": (lines["gzip_bytes"], lines["bytes"]),
        RAW: (size_of(home.raw), lines["bytes"]),
        WAREHOUSE: (warehouse, lines["bytes"]),
        HOME: (size_of(home.raw) + warehouse + published, lines["bytes"]),
    }
    return {
        name: {"bytes": taken, "of_bytes": of_bytes, "memories": memories}
        for name, (taken, of_bytes) in made.items()
    }


def _segments(work: Work, memories: int) -> list[Path]:
    """Return the segments of the stream that make up so many memories.

    Raises:
        RuntimeError: the home has other memories than the stream.
    """
    stream = work.stream
    segments: list[Path] = []
    counted = 0
    for part in PARTS:
        if counted < memories:
            counted += stream.memory_counts[part]
            segments += stream.segments[part]
    if counted != memories:
        raise RuntimeError(f"the home has {memories:,} memories, the parts of its stream {counted:,}")
    return segments


def _count_lines(segments: Iterable[Path]) -> dict[str, int]:
    """Return the bytes of JSON lines, and of them compressed by gzip: of all, and of memories alone."""
    found = dict.fromkeys(("bytes", "gzip_bytes", "memory_bytes", "memory_gzip_bytes"), 0)
    packers = {name: zlib.compressobj(wbits=31) for name in ("gzip_bytes", "memory_gzip_bytes")}
    for path in segments:
        lines = path.read_bytes().splitlines(keepends=True)
        for name, kept in (("", lines), ("memory_", [line for line in lines if _MEMORY in line])):
            packed = b"".join(kept)
            found[f"{name}bytes"] += len(packed)
            found[f"{name}gzip_bytes"] += len(packers[f"{name}gzip_bytes"].compress(packed))
    for name, packer in packers.items():
        found[name] += len(packer.flush())
    return found


def _store(home: Home, folder: Path, columns: str, compression: str = "") -> int:
    """Return the bytes of a database file that holds nothing but some columns of all memories.

    In small blocks, so that the last one does not count. By a compression that is named, which older versions
    of DuckDB cannot read, or by what DuckDB chooses.
    """
    path = folder / "form.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect() as connection:
        newest = ", storage_version 'latest'" if compression else ""
        connection.execute(f"attach '{_quoted(path)}' as form (block_size 16384{newest})")
        if compression:
            connection.execute(f"set force_compression = '{compression}'")
        connection.execute(f"attach '{_quoted(home.warehouse)}' as warehouse (read_only)")
        connection.execute("use warehouse")
        connection.execute(
            f"create table form.memories as select {columns} from {_MEMORIES} order by occurred_at, memory_id"
        )
        connection.execute("checkpoint form")
    taken = path.stat().st_size
    path.unlink()
    return taken


def measure_vectors(count: int, folder: Path, questions: int) -> dict[str, Any]:
    """Return bytes a vector of int8 and of one bit, and the share of the ten nearest that each finds alone.

    Of vectors in topics, against the exact search. Of floats the bytes are those of benchmarks/vectors, and
    so is what one bit finds if the best few hundred are compared exactly after that.
    """
    folder.mkdir(parents=True)
    vectors, asked = topics(count, questions)
    exact = _nearest(vectors @ asked.T)
    scaled = np.round(vectors / np.abs(vectors).max(axis=1, keepdims=True) * 127).astype(np.int8)
    whole = np.arange(count)
    eighths = pa.FixedSizeListArray.from_arrays(pa.array(scaled.ravel()), DIMENSION)
    floats = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION)
    sign_bits = render(find_project(), "sign_bits", "v::float[]")
    made = {
        "int8": (pa.table({"number": whole, "v": eighths}), "v::tinyint[]"),
        "one bit": (pa.table({"number": whole, "v": floats}), sign_bits),
    }
    found: dict[str, Any] = {"vectors": count, "dimension": DIMENSION, "questions": questions}
    for name, (given, expression) in made.items():
        path = folder / "vectors.duckdb"
        path.unlink(missing_ok=True)
        with duckdb.connect(str(path)) as connection:
            connection.execute("set disabled_compression_methods = 'ALPRD'")  # as profiles.yml has it
            connection.register("given", given)
            connection.execute(f"create table vectors as select {expression} as v from given order by number")
            connection.execute("force checkpoint")
        with duckdb.connect(str(path), read_only=True) as connection:
            if name == "int8":
                stored = connection.execute("select v from vectors order by rowid").to_arrow_table()["v"]
                wide = stored.combine_chunks().flatten().to_numpy().reshape(count, -1).astype(np.float32)
                near = _nearest((wide / np.linalg.norm(wide, axis=1, keepdims=True)) @ asked.T)
            else:
                near = [_nearest_by_bits(connection, question.tolist()) for question in asked]
        shares = [len(one & other) / NEAREST for one, other in zip(exact, near, strict=True)]
        found[name] = {"bytes": path.stat().st_size, "recall_at_10": round(float(np.mean(shares)), 4)}
        path.unlink()
    return found


def _nearest(scores: Vectors) -> list[set[int]]:
    """Return the rows of the NEAREST highest scores of each column."""
    best = np.argpartition(-scores, NEAREST, axis=0)[:NEAREST]
    return [set(map(int, column)) for column in best.T]


def _nearest_by_bits(connection: duckdb.DuckDBPyConnection, question: list[float]) -> set[int]:
    asked = render(find_project(), "sign_bits", "$question::float[]")
    rows = connection.execute(
        f"select rowid from vectors, (select {asked} as bits) as asked "
        f"order by bit_count(xor(v, asked.bits))::integer, rowid limit {NEAREST}",
        {"question": question},
    ).fetchall()
    return {row[0] for row in rows}


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def ratios(found: Found) -> dict[str, float]:
    """Bytes as shares: of the JSON lines, and of a vector of floats."""
    shares = {name: form["bytes"] / form["of_bytes"] for name, form in found["forms"].items()}
    vectors = found["vectors"]
    shares |= {
        f"a vector, {name}": vectors[name]["bytes"] / (4 * vectors["dimension"] * vectors["vectors"])
        for name in ("int8", "one bit")
    }
    return shares


def report(found_by_scale: FoundByScale) -> Iterator[str]:
    """Yield what a memory takes in each form, by table, and what vectors take and find."""
    scales = {f"{int(found['memories']):,} memories": found for found in found_by_scale.values()}
    yield (
        "Bytes of a memory on disk, and how much smaller that is than the same as JSON lines: of the texts "
        "against their bytes in UTF-8, of a memory against its line, of the rest against all lines, those of "
        f"recalls and orders to forget included. The goal is {SMALLER_AT_LEAST:.0%} smaller for text without "
        "vectors. Vectors and answers of a model are not among it. In the warehouse each table and each "
        "index has blocks of 256 KB of its own, and each month of four models is a table with an index: with "
        "few memories that is most of it."
    )
    yield ""
    forms = next(iter(scales.values()))["forms"]
    yield from table(
        ["", *scales],
        [[name, *(_show_form(found["forms"][name]) for found in scales.values())] for name in forms],
    )
    yield ""
    yield from (f"- {line}" for line in _verdicts(scales))
    yield ""
    yield "By table, bytes a memory in the warehouse; months of a model are added up:"
    yield ""
    largest = list(list(scales.values())[-1]["tables"])[:SHOWN_TABLES]
    rows = [[f"`{name}`", *(_show_table(found, name) for found in scales.values())] for name in largest]
    rows.append(["all other tables", *(_show_others(found, largest) for found in scales.values())])
    rows.append(
        [
            f"indexes ({list(scales.values())[-1]['indexes']:,}) and metadata",
            *(_per_memory(found, found["other_bytes"]) for found in scales.values()),
        ]
    )
    rows.append(["free blocks", *(_per_memory(found, found["free_bytes"]) for found in scales.values())])
    yield from table(["", *scales], rows)
    yield ""
    yield from _report_vectors([found["vectors"] for found in found_by_scale.values()])


def _verdicts(scales: dict[str, Found]) -> Iterator[str]:
    for name in (TEXT, FIELDS, RAW, WAREHOUSE):
        smaller = {scale: _smaller(found["forms"][name]) for scale, found in scales.items()}
        met = [scale for scale, share in smaller.items() if share >= SMALLER_AT_LEAST]
        missed = [scale for scale in scales if scale not in met]
        said = [f"met at {', '.join(met)}"] if met else []
        said += [f"missed at {', '.join(missed)}"] if missed else []
        yield f"{name}: {'; '.join(said)}."
    yield (
        "DuckDB compresses texts by FSST, a table of symbols for each segment, so that one row can be read "
        "by itself. Zstandard comes nearer to gzip; it has to be forced for all columns of a file, in a "
        "format that older versions cannot read. Short texts alone are the hardest: what repeats in a line, "
        "names and times and who spoke, is what a table saves most of."
    )
    yield (
        "The warehouse holds each text several times over, by design: as it was said, as consolidated, as "
        "words of an index, as concepts and their associations. What has to be kept is raw/, from which all "
        "else is built anew."
    )


def _smaller(form: dict[str, Any]) -> float:
    return 1 - float(form["bytes"]) / float(form["of_bytes"])


def _show_form(form: dict[str, Any]) -> str:
    smaller = _smaller(form)
    side = f"{smaller:.0%} smaller" if smaller >= 0 else f"{1 - smaller:.1f} x as large"
    taken, lines = (form[name] / form["memories"] for name in ("bytes", "of_bytes"))
    return f"{taken:,.0f} of {lines:,.0f}, {side}"


def _per_memory(found: Found, size: float) -> str:
    return f"{size / found['forms'][BUILT]['memories']:,.0f}"


def _show_table(found: Found, name: str) -> str:
    one = found["tables"].get(name)
    return "" if one is None else f"{_per_memory(found, one['bytes'])} ({one['rows']:,} rows)"


def _show_others(found: Found, shown: list[str]) -> str:
    return _per_memory(found, sum(one["bytes"] for name, one in found["tables"].items() if name not in shown))


def _report_vectors(measured: list[dict[str, Any]]) -> Iterator[str]:
    floats = json.loads(_VECTORS_FLOAT.read_text("utf-8"))
    (layout,) = [
        one for one in floats["layouts"] if one["type"] == "float[]" and one["found"] == ["Uncompressed"]
    ]
    yield (
        f"Vectors of {floats['dimension']} numbers, bytes each on disk, and the share of the ten nearest by "
        "the exact search that is found. Floats and the last row are from "
        "[vectors-benchmark.md](vectors-benchmark.md)."
    )
    yield ""
    counts = list({f"{one['vectors']:,} in topics": one for one in measured}.items())
    rows = [["float32", *(f"{layout['bytes'] / floats['rows']:,.0f}, 1.000" for _ in counts)]]
    rows += [
        [
            name,
            *(
                f"{one[name]['bytes'] / one['vectors']:,.0f}, {one[name]['recall_at_10']:.3f}"
                for _, one in counts
            ),
        ]
        for name in ("int8", "one bit")
    ]
    yield from table(["bytes, found", *(head for head, _ in counts)], rows)
    yield ""
    searches = json.loads(_VECTORS_BITS.read_text("utf-8"))["searches"]
    said = ", ".join(
        f"{one['recall_at_10']['400']:.3f} ({one['rows']:,}, {one['content']})" for one in searches
    )
    yield (
        "What is kept are floats and their signs: one bit alone is not enough to answer by, and finds "
        f"the ten nearest if the best 400 by it are compared exactly: {said}."
    )
