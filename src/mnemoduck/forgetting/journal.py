"""The journal of a purge: what it takes out, kept until nothing of it is left, so that a crash loses no
order.

`purge/removed.parquet` holds the events that are taken out, as they stand in raw/, and `purge/order.json`,
written last, what was asked for. While there is an order.json the purge is not done: the next `mnemoduck
run`, or the next purge, does all of its steps again, each of which finds what is left to do. The journal
goes when the search after the purge has found nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoduck.errors import StorageError
from mnemoduck.home import FOLDER_MODE, Home, sync_file, sync_folder, write_atomically

REMOVED_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("event_type", pa.string()),
        ("user_id", pa.string()),
        ("agent_id", pa.string()),
        ("session_id", pa.string()),
        ("payload", pa.string()),
        ("is_stripped", pa.bool_()),
    ]
)
"""`is_stripped`: of these events only the words go; ids and time stay (see `selection`)."""


@dataclass
class Order:
    """What a purge was asked for and what it has to put back.

    Attributes:
        users: whose scope was forgotten as a whole, for lines that could not be read and name them.
        backups: folders of backups that are made anew.
        months: which months of which models were archived (cold) or dropped: they are so again afterwards.
    """

    asked_at: str
    users: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    months: dict[str, dict[str, str]] = field(default_factory=dict)
    is_committed: bool = False
    """Whether raw/ has been rewritten by this purge, under a number of its own."""


def is_pending(home: Home) -> bool:
    """Tell whether a purge was begun and not finished."""
    return _order(home).exists()


def begin(home: Home, order: Order, removed: pa.Table) -> None:
    """Keep what a purge takes out. When this returns, it survives a crash."""
    home.purge.mkdir(mode=FOLDER_MODE, exist_ok=True)
    path = _removed(home)
    pq.write_table(removed.cast(REMOVED_SCHEMA), path, compression="zstd")
    sync_file(path)
    save(home, order)
    sync_folder(home.path)


def save(home: Home, order: Order) -> None:
    write_atomically(_order(home), json.dumps(asdict(order)) + "\n")


def read(home: Home) -> tuple[Order, pa.Table]:
    """Return the purge that was begun.

    Raises:
        StorageError: its journal cannot be read.
    """
    try:
        order = Order(**json.loads(_order(home).read_text("utf-8")))
        return order, pq.read_table(_removed(home))
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise StorageError(
            f"The journal of an interrupted purge cannot be read: {home.purge} ({error}). Put it back from a "
            "backup, or move it away and ask for the purge again."
        ) from error


def end(home: Home) -> None:
    """Remove the journal: the purge is done. A crash in between leaves no order without its events."""
    _order(home).unlink(missing_ok=True)
    if home.purge.exists():
        sync_folder(home.purge)
        shutil.rmtree(home.purge)
        sync_folder(home.path)


def remove_unfinished(home: Home) -> None:
    """Remove a journal that was not yet begun when its process died."""
    if home.purge.exists() and not is_pending(home):
        shutil.rmtree(home.purge)


def purged_folder(home: Home) -> Path:
    """Return where the ids of purged events are kept, so that they are not imported again."""
    folder = home.raw / "purged"
    if not folder.exists():
        os.makedirs(folder, mode=FOLDER_MODE, exist_ok=True)
        sync_folder(home.raw)
    return folder


def _order(home: Home) -> Path:
    return home.purge / "order.json"


def _removed(home: Home) -> Path:
    return home.purge / "removed.parquet"
