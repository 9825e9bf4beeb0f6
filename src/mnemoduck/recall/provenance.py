"""Where memories come from, and what became of them: lines of the inbox, and consolidated memories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from mnemoduck.asking import MEMORIES, Asker, months, rows_at
from mnemoduck.disturbed import disturbed_ids
from mnemoduck.fresh import FreshTables
from mnemoduck.project import render
from mnemoduck.reader import LONG_TERM_COLUMNS, MEMBER_COLUMNS
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot

_CONSOLIDATED = "consolidated_memories"
_SAID = ("memory_id", "user_id", "agent_id", "role", "content_hash")
_STORED = ("memory_id", "segment", "line")

Places = Sequence[tuple[UUID, datetime]]


@dataclass(frozen=True)
class Origin:
    """What is stored about a published memory beside itself. The last three are None while it is part of no
    consolidated memory."""

    segment: str
    line: int
    consolidated_id: UUID | None
    fate: str | None
    fate_reason: str | None


class Provenance:
    """Reads the origins of memories of one home. Safe between threads."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def fates(self, places: Places, as_of: datetime | None = None) -> dict[UUID, str]:
        """Return the fates at a moment of the memories at some places that are consolidated by then."""
        origins = self.origins(places, as_of)
        return {key: origin.fate for key, origin in origins.items() if origin.fate is not None}

    def origins(self, places: Places, as_of: datetime | None = None) -> dict[UUID, Origin]:
        """Return the origins of the published ones among the memories at some places.

        Costs two statements. A memory leads to its text, by the hash of its words, that to the first text of
        the same consolidated memory, and this one tells the month of the consolidated memory.
        """
        if not places or self._asker.view()[0].path is None:
            return {}
        statement = self._origins_sql()

        def fill_in(snapshot: Snapshot, _: FreshTables, __: datetime) -> str:
            said = rows_at(snapshot, MEMORIES, _SAID, places) or ""
            stored = rows_at(snapshot, "stg_memories", _STORED, places) or ""
            return statement.replace("{said}", said).replace("{stored}", stored)

        rows = self._asker.ask("{memories}", {}, Scope(), None, fill_in)
        roots = {
            row["consolidated_id"]: row["first_seen_at"] for row in rows if row["consolidated_id"] is not None
        }
        fates = {row["consolidated_id"]: row for row in self._evaluate(roots, as_of)}
        found = {}
        for row in rows:
            fate: Mapping[str, Any] | None = fates.get(row["consolidated_id"])
            found[row["memory_id"]] = Origin(
                segment=row["segment"],
                line=row["line"],
                consolidated_id=fate["consolidated_id"] if fate else None,
                fate=fate["fate"] if fate else None,
                fate_reason=fate["fate_reason"] if fate else None,
            )
        return found

    def _origins_sql(self) -> str:
        text_id = render(self._asker.project, "hash_key", ("user_id", "agent_id", "role", "content_hash"))
        return f"""
            with
            said as materialized (select *, {text_id} as text_id from {{said}}),
            texts as materialized (
                select text_id, consolidated_id from staging.int_texts
                where text_id in (select said.text_id from said)
            ),
            roots as materialized (
                select text_id, first_seen_at from staging.int_texts
                where text_id in (select texts.consolidated_id from texts)
            )
            select said.memory_id, stored.segment, stored.line, texts.consolidated_id, roots.first_seen_at
            from said
            inner join {{stored}} as stored on said.memory_id = stored.memory_id
            left join texts on said.text_id = texts.text_id
            left join roots on texts.consolidated_id = roots.text_id
        """

    def _evaluate(
        self, roots: Mapping[UUID, datetime], as_of: datetime | None
    ) -> Iterable[Mapping[str, Any]]:
        if not roots:
            return []
        evaluated = render(
            self._asker.project,
            "consolidated_at",
            "{consolidated}",
            "{members}",
            "staging.stg_recalls",
            "main.facts",
            "$as_of",
            "{disturbed}",
        )

        def fill_in(snapshot: Snapshot, _: FreshTables, __: datetime) -> str:
            consolidated = rows_at(snapshot, _CONSOLIDATED, LONG_TERM_COLUMNS, list(roots.items())) or ""
            members = months(snapshot, MEMORIES, MEMBER_COLUMNS) or ""
            filled = evaluated.replace("{consolidated}", consolidated).replace("{members}", members)
            filled = filled.replace("{disturbed}", disturbed_ids(snapshot, self._asker.project))
            return f"select consolidated_id, fate, fate_reason from ({filled})"

        return self._asker.ask("{memories}", {}, Scope(), as_of, fill_in)
