"""Phrases: which of the memories that have all words of a phrase have them one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from mnemoduck.asking import MEMORIES, Asker, at_places, months, with_fresh
from mnemoduck.fresh import FreshTables
from mnemoduck.project import render
from mnemoduck.recall.query import Phrase
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot

_COLUMNS = ("memory_id", "content", "occurred_at")
_MOST_PLACES = 1_000
"""Up to so many memories are found by their ids; for more, the months that they are in are read."""


def find_phrases(
    asker: Asker, phrases: Sequence[Phrase], candidates: Sequence[tuple[UUID, datetime, int]]
) -> list[int]:
    """Return the keys of the candidates in which each of the phrases stands: its words in their order, in any
    case and with any accents, and in no other form.

    Cost: the content of all candidates is read, which the index does not hold.
    """
    if not candidates:
        return []
    words = f"concat(' ', array_to_string({render(asker.project, 'search_words', 'content')}, ' '), ' ')"

    def fill_in(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
        if len(candidates) <= _MOST_PLACES:
            places = [(memory_id, occurred_at) for memory_id, occurred_at, _ in candidates]
            return at_places(_COLUMNS, snapshot, fresh, places)
        return with_fresh(_COLUMNS, months(snapshot, MEMORIES, _COLUMNS), fresh)

    rows = asker.ask(
        f"""
        with candidates as materialized (
            select memory_id, {words} as words from ({{memories}})
            where memory_id in (select cast(unnest($ids) as uuid))
        )
        select memory_id from candidates
        where list_bool_and(list_transform($phrases, lambda phrase: contains(words, phrase)))
        """,
        {
            "ids": [str(memory_id) for memory_id, _, _ in candidates],
            "phrases": [f" {' '.join(phrase.words)} " for phrase in phrases],
        },
        Scope(),
        None,
        fill_in,
    )
    found = {row["memory_id"] for row in rows}
    return [key for memory_id, _, key in candidates if memory_id in found]
