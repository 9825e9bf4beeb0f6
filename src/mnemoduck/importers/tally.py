"""Counting keys without a bound on how many there are, and with one on memory."""

from __future__ import annotations

import sqlite3

from mnemoduck.errors import StorageError

KEYS_IN_MEMORY = 1_000_000
"""About 120 MB; further keys go to a temporary file that has no name and dies with the process."""


class Tally:
    """Says of each key how often it came before."""

    def __init__(self, keys_in_memory: int = KEYS_IN_MEMORY) -> None:
        self._keys_in_memory = keys_in_memory
        self._counts: dict[bytes, int] = {}
        self._spilled: sqlite3.Connection | None = None

    def add(self, key: bytes) -> int:
        """Count the key and return how often it had been counted before.

        Raises:
            StorageError: the temporary file cannot be written.
        """
        count = self._counts.get(key, 0)
        if count or len(self._counts) < self._keys_in_memory:
            self._counts[key] = count + 1
            return count
        try:
            return self._add_spilled(key)
        except sqlite3.Error as error:
            raise StorageError(
                f"A temporary file that finds duplicates cannot be written ({error}). Free space in "
                "the temporary folder (TMPDIR), then ingest the files again: what is in already is "
                "not added twice."
            ) from error

    def _add_spilled(self, key: bytes) -> int:
        if self._spilled is None:
            self._spilled = sqlite3.connect("", isolation_level=None)
            for statement in (
                "pragma journal_mode = off",
                "pragma synchronous = off",
                "pragma cache_size = -65536",
                "create table tally (key blob primary key, count integer) without rowid",
                "begin",
            ):
                self._spilled.execute(statement)
        row = self._spilled.execute(
            "insert into tally values (?, 1) on conflict do update set count = count + 1 returning count",
            (key,),
        ).fetchone()
        return int(row[0]) - 1

    def close(self) -> None:
        self._counts.clear()
        if self._spilled:
            self._spilled.close()
            self._spilled = None
