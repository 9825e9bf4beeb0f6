"""Which events a home already has, so that importing the same source again adds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import duckdb
import pyarrow as pa

from mnemoduck.errors import StorageError
from mnemoduck.home import Home
from mnemoduck.inbox import FreshEvents
from mnemoduck.pipeline.load import read_manifest


class KnownEventIds:
    """The ids of every event in raw/ and in the inbox, and of what was purged, at the moment of creation.

    Holds 16 bytes an event; each question costs one pass over them, so ask in batches of thousands.
    """

    def __init__(self, home: Home) -> None:
        self._connection = duckdb.connect(":memory:")
        batches = read_manifest(home)
        while True:
            try:
                self._read_files([str(home.raw / file.path) for batch in batches for file in batch.files])
                break
            except duckdb.Error as error:
                # A run that is at work may have merged files since the manifest was read.
                stale, batches = batches, read_manifest(home)
                if batches == stale:
                    raise StorageError(f"A file of {home.raw} cannot be read: {error}") from error
        fresh, _ = FreshEvents(home).read(batches[-1].batch_seq if batches else 0)
        self._fresh = {event.event_id for event in fresh}
        self._add_purged([str(home.raw / batch.purged) for batch in batches if batch.purged is not None])

    def _read_files(self, files: list[str]) -> None:
        self._connection.execute("create or replace table known (event_id uuid)")
        if files:
            self._connection.execute(
                "insert into known select cast(event_id as uuid) from read_parquet(?)", [files]
            )

    def _add_purged(self, files: list[str]) -> None:
        """What was purged counts as known: nobody wants it back with the next import of its file."""
        if files:
            self._connection.execute(
                "insert into known select cast(event_id as uuid) from read_parquet(?)", [files]
            )

    def __call__(self, event_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of the ids that the home has."""
        asked = pa.table({"event_id": [str(event_id) for event_id in event_ids]})
        cursor = self._connection.cursor()
        cursor.register("asked", asked)
        rows = cursor.execute(
            "select event_id from known semi join (select cast(event_id as uuid) as event_id from asked) "
            "using (event_id)"
        ).fetchall()
        return {row[0] for row in rows} | self._fresh.intersection(event_ids)
