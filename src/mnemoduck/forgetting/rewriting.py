"""Taking events out of raw/: the files that hold them are written anew, and the manifest names the new ones.

The new files and the ids of what went are written aside and moved to names that the manifest does not know
yet, so they do not exist. The manifest is then replaced, atomically, which does all of it at once: until
then nothing was purged, from then on everything. Only then the old files go. Whatever a crash leaves, the
next load removes.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mnemoduck.events import EVENT_TYPES
from mnemoduck.forgetting.journal import purged_folder
from mnemoduck.forgetting.material import Material, redact
from mnemoduck.forgetting.selection import replace_texts, strip
from mnemoduck.home import Home, sync_file, sync_folder, write_atomically
from mnemoduck.pipeline.load import (
    RAW_SCHEMA,
    ROWS_IN_MEMORY,
    Batch,
    RawFile,
    open_parquet,
    remove_unknown_files,
    staging_folder,
)


def rewrite_raw(home: Home, batches: list[Batch], material: Material, *, is_committed: bool) -> Counter[str]:
    """Take events out of raw/, and words out of those that stay; return how many of each type went.

    Args:
        batches: the manifest as it is; it is changed as the new one is.
        is_committed: whether an interrupted purge has done so already: then this finds nothing to do, and
            does
            not number it again.

    Cost: files that hold such an event are written anew, and each is read once.
    """
    redacted = material.stripped | material.quoting
    removed = pa.array(sorted(material.removed), pa.string())
    changed = pa.array(sorted(redacted), pa.string())
    counts: Counter[str] = Counter()
    number = batches[-1].batch_seq + 1 if batches else 1
    is_changed = False
    for batch in batches:
        of_batch: Counter[str] = Counter()
        for file in list(batch.files):
            written = _rewrite_file(home, file, number, removed, changed, material, of_batch)
            if written is not file:
                is_changed = True
                place = batch.files.index(file)
                batch.files[place : place + 1] = [] if written is None else [written]
        counts += of_batch
        _count_down(batches, batch, of_batch)
    if is_committed and not is_changed:
        return counts
    batches.append(
        Batch(
            batch_seq=number,
            loaded_at=datetime.now(UTC).isoformat(),
            segments=[],
            files=[],
            purged=_write_ids(home, number, removed),
        )
    )
    write_atomically(home.manifest, "".join(batch.to_line() for batch in batches))
    remove_unknown_files(home, batches)
    return counts


def purged_ids(home: Home, batches: list[Batch]) -> set[UUID]:
    """Return the ids of all events that were ever purged: what has one of them is not taken in again."""
    return {
        UUID(text)
        for batch in batches
        if batch.purged is not None
        for text in pq.read_table(home.raw / batch.purged).column("event_id").to_pylist()
    }


def _rewrite_file(
    home: Home,
    file: RawFile,
    number: int,
    removed: pa.Array,
    changed: pa.Array,
    material: Material,
    counts: Counter[str],
) -> RawFile | None:
    """Return the file itself if there is nothing to do, None if nothing of it stays, else the one in its
    place."""
    path = home.raw / file.path
    ids = pq.read_table(path, columns=["event_id"]).column("event_id")
    if not pc.any(pc.is_in(ids, removed)).as_py() and not _has_words(path, ids, changed, material):
        return file
    aside = staging_folder(home) / f"purged-{file.path.replace('/', '-')}"
    aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    rows = 0
    with open_parquet(aside) as writer:
        for one in pq.ParquetFile(path).iter_batches(ROWS_IN_MEMORY):
            table = pa.Table.from_batches([one]).cast(RAW_SCHEMA)
            goes = pc.is_in(table.column("event_id"), removed)
            counts.update(table.filter(goes).column("event_type").to_pylist())
            table = _without_words(table.filter(pc.invert(goes)), changed, material)
            writer.write_table(table)
            rows += len(table)
    if not rows:
        aside.unlink()
        return None
    name = f"{Path(file.path).stem.partition('-x')[0]}-x{number:012d}.parquet"
    final = Path(file.path).with_name(name)
    sync_file(aside)
    aside.rename(home.raw / final)
    sync_folder((home.raw / final).parent)
    return RawFile(str(final), rows, file.tier)


def _has_words(path: Path, ids: pa.ChunkedArray, changed: pa.Array, material: Material) -> bool:
    """Tell whether a file has events from which words are still to be taken."""
    if not pc.any(pc.is_in(ids, changed)).as_py():
        return False
    for one in pq.ParquetFile(path).iter_batches(
        ROWS_IN_MEMORY, columns=["event_id", "event_type", "payload"]
    ):
        table = pa.Table.from_batches([one])
        if not _without_words(table, changed, material).equals(table):
            return True
    return False


def _without_words(table: pa.Table, changed: pa.Array, material: Material) -> pa.Table:
    concerned = pc.is_in(table.column("event_id"), changed).to_pylist()
    if not any(concerned):
        return table
    ids, types = table.column("event_id").to_pylist(), table.column("event_type").to_pylist()
    payloads = table.column("payload").to_pylist()
    redacted = redact(material.quotable)
    for row, is_concerned in enumerate(concerned):
        if is_concerned and ids[row] in material.stripped:
            payloads[row] = strip(types[row], payloads[row])
        elif is_concerned:
            payloads[row] = replace_texts(payloads[row], redacted)
    place = table.schema.get_field_index("payload")
    return table.set_column(place, table.schema.field(place), pa.array(payloads, pa.string()))


def _count_down(batches: list[Batch], batch: Batch, gone: Counter[str]) -> None:
    """Take what went out of the counts of the load that brought it.

    A merged file belongs to the newest load in it: what that did not bring itself is taken from those before.
    """
    left = Counter(gone)
    for one in reversed(batches[: batches.index(batch) + 1]):
        for kind in EVENT_TYPES:
            fewer = min(left[kind], one.event_counts.get(kind, 0))
            if fewer:
                left[kind] -= fewer
                one.event_counts[kind] -= fewer
                if not one.event_counts[kind]:
                    del one.event_counts[kind]


def _write_ids(home: Home, number: int, removed: pa.Array) -> str:
    path = purged_folder(home) / f"batch-{number:012d}.parquet"
    aside = staging_folder(home) / f"purged-ids-{number:012d}.parquet"
    aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pq.write_table(pa.table({"event_id": removed}), aside, compression="zstd")
    sync_file(aside)
    aside.rename(path)
    sync_folder(path.parent)
    return str(path.relative_to(home.raw))
