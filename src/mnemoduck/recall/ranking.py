"""Ranking by words: reads what matches and ranks it; the formula is in `mnemoduck.recall.scoring`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np

from mnemoduck.asking import Asker, View
from mnemoduck.fresh import FreshTables
from mnemoduck.project import variables
from mnemoduck.recall.documents import Booleans, Documents, DocumentStore, Integers
from mnemoduck.recall.filters import Filters
from mnemoduck.recall.index import (
    DOCUMENT_COLUMNS,
    POSTING_COLUMNS,
    left_out,
    of_documents,
    of_known_user,
    of_user,
    span,
    with_fresh,
)
from mnemoduck.recall.phrases import find_phrases
from mnemoduck.recall.postings import PostingStore
from mnemoduck.recall.query import Phrase, Query
from mnemoduck.recall.records import Candidate, ScoreParts
from mnemoduck.recall.scoring import Answers, Matches, choose_sessions, match, score, terms_of
from mnemoduck.recall.speakers import role_words
from mnemoduck.scope import Scope
from mnemoduck.warehouse import Snapshot

_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class _Found:
    """What matches a query in one state of the home; `matches` None if nothing does."""

    snapshot: Snapshot
    fresh: FreshTables
    fresh_count: int
    not_found: Integers
    matches: Matches | None


class Ranking:
    """Ranks the memories of a scope by the terms of a query. For one request, used by one thread.

    What matches is read once, however often it is asked for more of the best.
    """

    def __init__(
        self,
        asker: Asker,
        documents: DocumentStore,
        postings: PostingStore,
        query: Query,
        scope: Scope,
        *,
        as_of: datetime | None = None,
        weights: tuple[tuple[str, float], ...] = (),
        filters: Filters = Filters(),  # noqa: B008 - immutable
    ) -> None:
        self._asker = asker
        self._documents = documents
        self._postings = postings
        self._query = query
        self._scope = scope
        self._as_of = as_of
        self._weights = {**variables(asker.project), **dict(weights)}
        self._filters = filters
        self._term_keys = np.array(sorted(query.terms), np.int64)
        self._only: Integers | None = None
        self._found: _Found | None = None

    def best(self, limit: int) -> list[Candidate]:
        """Return the memories that match best, best first, at most so many.

        Equal texts of one user and agent are one answer: the one that matches best, of equals the last.

        Cost: the postings of the terms, the documents of some sessions, and see `DocumentStore`; the
        statistics are those of the user.
        """
        if not self._query.terms or not limit:
            return []
        if self._query.phrases and self._only is None:
            phrases = self._query.phrases
            candidates = _phrase_candidates(self._asker, phrases, self._scope)
            self._only = np.array(sorted(find_phrases(self._asker, phrases, candidates)), np.int64)
        if self._only is not None and not len(self._only):
            return []
        return self._asker.look(lambda view: self._rank(view, limit), self._scope, self._as_of)

    def _rank(self, view: View, limit: int) -> list[Candidate]:
        found = self._found
        state = (view.snapshot, view.fresh, view.fresh.memory_count)
        if found is None or state != (found.snapshot, found.fresh, found.fresh_count):
            found = self._found = self._match(view)
        if found.matches is None:
            return []
        matches = found.matches
        count = max(int(self._weights["recall_sessions"]), limit)
        while True:
            sessions = choose_sessions(matches, count, self._only)
            if not len(sessions):
                return []
            documents = self._documents.of_sessions(view, matches.session_key[sessions])
            answers = score(
                matches,
                sessions,
                documents,
                found.not_found,
                self._only,
                self._named(view, documents),
                self._weights,
                int(self._weights["session_gap_minutes"] * 60_000_000),
                limit,
            )
            # Equal texts are one answer, and weights may be 0: the sessions that were looked into may hold
            # too few.
            if len(answers.score) >= limit or len(sessions) < count:
                return self._candidates(matches, answers)
            count *= 8

    def _named(self, view: View, documents: Documents) -> Booleans:
        """Return for each role whether the query names it: of those in which something is said, and none."""
        is_named = np.zeros(len(documents.roles) + 1, np.bool_)
        used = np.flatnonzero(np.bincount(documents.role + 1, minlength=len(is_named))[1:])
        words = role_words(self._asker, view, [documents.roles[place] for place in used])
        is_named[used] = [not one.isdisjoint(self._query.names) for one in words]
        return is_named

    def _match(self, view: View) -> _Found:
        user = of_documents(of_known_user(self._asker, view), view.scope)
        condition, values = self._filters.in_index()
        documents = with_fresh("documents", DOCUMENT_COLUMNS, view.snapshot, view.fresh, user)
        hidden = left_out(
            view.snapshot,
            view.fresh,
            documents,
            self._scope,
            condition,
            is_about_now=self._as_of is None,
        )
        not_found = span(view.snapshot).forgotten_by(view.moment)
        if hidden:
            keys = view.columns(f"select memory_key from {hidden}", values)["memory_key"]
            not_found = np.union1d(not_found, keys)
        hits = self._postings.read(view, self._term_keys)
        matches = None
        if len(hits.term):
            document_count, term_count = self._documents.measure(view)
            matches = match(
                hits,
                not_found,
                document_count,
                term_count / document_count,
                self._weights,
            )
        return _Found(view.snapshot, view.fresh, view.fresh.memory_count, not_found, matches)

    def _candidates(self, matches: Matches, answers: Answers) -> list[Candidate]:
        documents = answers.documents
        terms = [self._query.terms[key] for key in self._term_keys.tolist()]
        found = terms_of(matches, documents.memory_key)
        rows = zip(
            documents.memory_key.tolist(),
            documents.id_high.tolist(),
            documents.id_low.tolist(),
            documents.occurred_at.tolist(),
            documents.is_fresh.tolist(),
            documents.equals.tolist(),
            answers.score.tolist(),
            answers.words.tolist(),
            answers.context.tolist(),
            answers.session.tolist(),
            answers.speaker.tolist(),
            answers.support_count.tolist(),
            strict=True,
        )
        return [
            Candidate(
                memory_id=UUID(int=(high << 64) | low),
                occurred_at=_EPOCH + timedelta(microseconds=occurred_at),
                is_fresh=is_fresh,
                score=total,
                parts=ScoreParts(words=words, context=context, session=session, speaker=speaker),
                matched_terms=tuple(sorted(terms[place] for place in found.get(key, ()))),
                support_count=support_count,
                equals=equals,
            )
            for (
                key,
                high,
                low,
                occurred_at,
                is_fresh,
                equals,
                total,
                words,
                context,
                session,
                speaker,
                support_count,
            ) in rows
        ]


def _phrase_candidates(
    asker: Asker, phrases: Sequence[Phrase], scope: Scope
) -> list[tuple[UUID, datetime, int]]:
    """Return id, time and key of the memories of the user that have all terms of all phrases."""
    keys = sorted({key for phrase in phrases for key in phrase.term_keys})

    def fill_in(snapshot: Snapshot, fresh: FreshTables, _: datetime) -> str:
        condition = of_user(asker.project, scope)
        of_user_only = of_documents(condition, scope)
        documents = with_fresh("documents", DOCUMENT_COLUMNS, snapshot, fresh, of_user_only)
        in_terms = f"{condition} and term_key in ({', '.join(map(str, keys))})"
        postings = with_fresh("postings", POSTING_COLUMNS, snapshot, fresh, in_terms)
        return f"""
            select memory_id, occurred_at, memory_key from {documents} as documents
            where memory_key in (
                select memory_key from {postings} group by memory_key having count(*) = {len(keys)}
            )
        """

    rows = asker.ask("{memories}", {}, scope, None, fill_in)
    return [(row["memory_id"], row["occurred_at"], row["memory_key"]) for row in rows]
