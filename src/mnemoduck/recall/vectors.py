"""Search by meaning: the vector of the question against those of the memories in its scope.

Works where a build has left vectors in `retrieval.memory_embeddings`, and whoever made them can be asked for
the question's. Anything that is missing means an answer by words alone, never an error: it is logged once
for as long as it lasts, and `MeaningSearch.trouble` says it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import duckdb

from mnemoduck.asking import Asker
from mnemoduck.errors import ModelError, UsageError
from mnemoduck.fresh import FreshTables
from mnemoduck.llm.settings import EMBEDDINGS_VARIABLE, MINILM, TemplateSettings
from mnemoduck.project import render, variables
from mnemoduck.recall.filters import Filters
from mnemoduck.recall.fusion import Similar
from mnemoduck.recall.index import EQUALS, findable
from mnemoduck.recall.levels import Level
from mnemoduck.recall.query import Query
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot

if TYPE_CHECKING:
    from mnemoduck.embeddings import Embedder

_log = logging.getLogger("mnemoduck.recall")

VECTORS = "retrieval.memory_embeddings"
RETRY_SECONDS = 30.0
"""So long after a failure nobody is asked again: recall must not wait for a server at each question."""
TIMEOUT_SECONDS = 5.0
"""How long a server may take for the vector of a question; who asks is waiting."""
QUERY_VECTOR_BYTES = 1 << 20
NEAREST_AT_LEAST = 200
"""So many of the nearest are looked at, or twice as many as are asked for (measured: docs/vectors.md)."""

QueryVector: TypeAlias = tuple[float, ...]

MakeEmbedder: TypeAlias = "Callable[[TemplateSettings, str | None], Embedder]"
"""Opens who makes vectors under some settings; the other argument is the server's URL, if it is known."""


@dataclass(frozen=True)
class Meaning:
    """The vector of a question, and the name of the model that made it."""

    model: str
    settings_hash: UUID
    vector: tuple[float, ...]


@dataclass(frozen=True)
class _Source:
    """The vectors of one snapshot: what they were made with, how long they are, how many there are."""

    settings: TemplateSettings
    settings_hash: UUID
    host: str | None
    dimension: int
    count: int


class MeaningSearch:
    """Searches one home by meaning. Safe between threads.

    Args:
        open_embedder: opens who makes vectors; the default is the one whose model the table names.
        query_vectors: where the vectors of questions are kept.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        asker: Asker,
        open_embedder: MakeEmbedder | None = None,
        query_vectors: Level[QueryVector] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._asker = asker
        self._open_embedder = open_embedder or make_embedder
        self._query_vectors = query_vectors or Level(QUERY_VECTOR_BYTES)
        self._clock = clock
        self._environment = environment
        self._mutex = threading.Lock()
        self._asking = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._source: _Source | None = None
        self._embedder: tuple[TemplateSettings, Embedder] | None = None
        self._failed_at: float | None = None
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why questions are answered without vectors though there are some; None if they are not."""
        return self._trouble

    def understand(
        self, text: str, query: Query, scope: Scope, weights: tuple[tuple[str, float], ...] = ()
    ) -> Meaning | None:
        """Return the vector of a question; None where there are no vectors, or nobody makes one.

        Who is named in it is left out before it becomes a vector: whose memories count more is what names
        say, and beside them a short question says little else.
        """
        if weight(self._asker, weights) <= 0 or self._environment.get(EMBEDDINGS_VARIABLE) == "none":
            return None
        snapshot, _ = self._asker.view()
        source = self._find_source(snapshot)
        if source is None or not query.terms:
            return None
        settings, asked = source.settings, nameless(text, self._roles(query, scope))
        try:
            vector = self._query_vectors.get_or_make(
                (settings, asked), lambda: tuple(self._embed(source, asked))
            )
            if len(vector) != source.dimension:
                raise ModelError(
                    f"the model {settings.model} gives vectors of {len(vector):,} numbers now, where the "
                    f"stored ones have {source.dimension:,}. `mnemoduck run` makes them anew"
                )
        except (ModelError, UsageError) as error:
            self._note(str(error))
            return None
        return Meaning(settings.model, source.settings_hash, vector)

    def search(
        self,
        meaning: Meaning,
        query: Query,
        scope: Scope,
        *,
        limit: int,
        known: Sequence[UUID] = (),
        as_of: datetime | None = None,
        weights: tuple[tuple[str, float], ...] = (),
        filters: Filters = Filters(),  # noqa: B008 - immutable
    ) -> list[Similar]:
        """Return the memories of the scope nearest in meaning, and the known ones, most similar first.

        Args:
            known: memories that were found otherwise, whose similarity is asked for too.
        """
        settings = variables(self._asker.project)
        condition_of_filters, values = filters.in_index()
        nearest = max(NEAREST_AT_LEAST, 2 * limit)

        def fill_in(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
            source = self._find_source(snapshot)
            if source is None or source.settings_hash != meaning.settings_hash:
                # A snapshot with vectors of another model was published a moment ago.
                return f"(select *, 0.0 as similarity, 0 as support_count from {fresh.documents} where false)"
            documents, left_out = findable(
                self._asker, snapshot, fresh, scope, condition_of_filters, is_about_now=as_of is None
            )
            condition = "true" if scope.user_id is None else "user_id = $user_id"
            is_small = self._count(snapshot, source, scope) <= settings["recall_exact_vectors"]
            sql = render(
                self._asker.project,
                "similar_memories",
                f"{VECTORS}",
                documents,
                left_out,
                "$names",
                "$meaning::float[]",
                "" if is_small else render(self._asker.project, "sign_bits", "$meaning::float[]"),
                "$known::uuid[]",
                nearest if is_small else max(nearest, settings["recall_rescored_vectors"]),
                weights,
                condition,
            )
            return f"({sql})"

        rows = self._asker.ask(
            f"select *, {EQUALS} as equals from {{memories}} "
            "order by similarity desc, occurred_at desc, memory_id desc",
            {
                "meaning": list(meaning.vector),
                "names": query.names,
                "known": [str(one) for one in known],
                **values,
            },
            scope,
            as_of,
            fill_in,
        )
        return [
            Similar(
                memory_id=row["memory_id"],
                occurred_at=row["occurred_at"],
                similarity=row["similarity"],
                support_count=row["support_count"],
                equals=row["equals"],
            )
            for row in rows
        ]

    def close(self) -> None:
        """Close the connections to whoever makes vectors; the next question opens new ones."""
        with self._asking:
            self._close_embedder()

    def _roles(self, query: Query, scope: Scope) -> list[str]:
        """Return the roles of the scope whose names have a word in common with the question."""
        condition = f"list_has_any({render(self._asker.project, 'search_words', 'role')}, $names)"

        def fill_in(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
            return findable(self._asker, snapshot, fresh, scope, "", is_about_now=True)[0]

        rows = self._asker.ask(
            "select role from (select distinct role from {memories} as documents where role is not null) "
            f"where {condition} order by role",
            {"names": query.names},
            scope,
            None,
            fill_in,
        )
        return [row["role"] for row in rows]

    def _find_source(self, snapshot: Snapshot) -> _Source | None:
        with self._mutex:
            if self._snapshot is not snapshot:
                self._source = _read_source(snapshot)
                self._snapshot = snapshot
                self._failed_at = None
            return self._source

    def _count(self, snapshot: Snapshot, source: _Source, scope: Scope) -> int:
        if scope.user_id is None or source.count <= variables(self._asker.project)["recall_exact_vectors"]:
            return source.count
        row = (
            snapshot.cursor()
            .execute(f"select count(*) from {VECTORS} where user_id = $user_id", {"user_id": scope.user_id})
            .fetchone()
        )
        assert row is not None
        return int(row[0])

    def _embed(self, source: _Source, text: str) -> list[float]:
        from mnemoduck.embeddings import embed_query  # it takes long to import, and few homes have vectors

        # One question at a time: an embedder is closed only when no call is under way.
        with self._asking:
            if self._failed_at is not None and self._clock() - self._failed_at < RETRY_SECONDS:
                raise ModelError(self._trouble or "the model failed a moment ago")
            try:
                if self._embedder is None or self._embedder[0] != source.settings:
                    self._close_embedder()
                    self._embedder = (source.settings, self._open_embedder(source.settings, source.host))
                vector = embed_query(self._embedder[1], source.settings, text)
            except (ModelError, UsageError):
                self._failed_at = self._clock()
                self._close_embedder()
                raise
            self._failed_at = self._trouble = None
        return vector

    def _close_embedder(self) -> None:
        opened, self._embedder = self._embedder, None
        close = getattr(opened[1], "close", None) if opened else None  # a model in this process has none
        if close is not None:
            close()

    def _note(self, reason: str) -> None:
        if reason != self._trouble:
            _log.warning("Recall goes on by words alone: %s", reason)
        self._trouble = reason


def make_embedder(settings: TemplateSettings, host: str | None) -> Embedder:
    """Return who makes vectors under some settings, if it has the very weights that made the stored ones.

    Raises:
        UsageError: the extra is not installed, or an address is none.
        ModelError: the server is away, has no such model, or has other weights under its name.
    """
    from mnemoduck.embeddings import MiniLmEmbedder, minilm_digest

    if settings.model == MINILM:
        digest = minilm_digest()
        if digest != settings.model_digest:
            raise ModelError(_other_weights(settings))
        return MiniLmEmbedder()
    from mnemoduck.llm.server import OllamaServer  # its client takes long to import

    server = OllamaServer(host, timeout_seconds=TIMEOUT_SECONDS, attempts=1)
    try:
        state = server.probe()
        if not state.is_up:
            raise ModelError(f"no Ollama server answers at {server.url} ({state.reason})")
        if state.find_model(settings.model) is None:
            raise ModelError(
                f"{server.url} has no model {settings.model!r}. Get it with `ollama pull {settings.model}`"
            )
        if settings.model_digest not in (None, state.digest(settings.model)):
            raise ModelError(_other_weights(settings))
    except ModelError:
        server.close()
        raise
    return server


def weight(asker: Asker, weights: tuple[tuple[str, float], ...] = ()) -> float:
    """Return how much meaning counts: the variable `recall_meaning_weight`, or what is asked for instead."""
    default = variables(asker.project)["recall_meaning_weight"]
    return float(dict(weights).get("recall_meaning_weight", default))


def nameless(text: str, roles: Sequence[str]) -> str:
    """Return a question without the names in some roles, and what they own is theirs no more.

    A question of nothing but names stays as it is.
    """
    names = {name for role in roles for name in re.findall(r"[^\W_]+", unicodedata.normalize("NFC", role))}
    if not names:
        return text
    either = "|".join(map(re.escape, sorted(names)))
    shorter = re.sub(rf"(?<!\w)(?:{either})(?!\w)(?:['\u2019]s\b)?", " ", text, flags=re.IGNORECASE)
    shorter = re.sub(r"\s+([?!.,;:])", r"\1", " ".join(shorter.split()))
    return shorter if re.search(r"\w", shorter) else text


def _other_weights(settings: TemplateSettings) -> str:
    return (
        f"the model {settings.model} has other weights now than those that made the stored vectors. "
        "`mnemoduck run` makes them anew"
    )


def _read_source(snapshot: Snapshot) -> _Source | None:
    """Return what the vectors of a snapshot were made with; None if it has none, or cannot say."""
    if snapshot.path is None:
        return None
    try:
        row: tuple[Any, ...] | None = (
            snapshot.cursor()
            .execute(
                f"""
            select
                t.template, t.template_version, t.mode, t.model, t.model_digest, t.options,
                t.response_schema, t.instructions, t.input_characters,
                t.settings_hash, t.limits ->> 'host', v.dimension, v.vectors
            from staging.llm_templates as t
            inner join (
                select settings_hash, dimension, count(*) as vectors from {VECTORS} group by all
            ) as v on t.settings_hash = v.settings_hash
            where t.template = 'embedding'
            """
            )
            .fetchone()
        )
    except (duckdb.CatalogException, duckdb.BinderException):
        return None  # it was built before there were vectors
    if row is None:
        return None
    return _Source(TemplateSettings(*row[:9]), *row[9:])
