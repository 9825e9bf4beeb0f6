"""The question: its words as terms of the index, and what else it says."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mnemoduck.asking import Asker
from mnemoduck.errors import UsageError
from mnemoduck.project import render
from mnemoduck.scope import Scope, check_unicode

MAX_QUERY_CHARACTERS = 100_000


@dataclass(frozen=True)
class Query:
    """A question that was read: its terms by their numbers, and the names that may be roles.

    `words` are those of the question that the terms stand for.
    """

    terms: dict[int, str]
    names: list[str]
    words: dict[str, int]

    def without(self, names: frozenset[str]) -> Query:
        """Return the question without terms that are only names; one of nothing else is taken at its words."""
        kept = {term for word, term in self.words.items() if word not in names}
        if not kept:
            return self
        return replace(self, terms={key: term for key, term in self.terms.items() if key in kept})


def check_query(query: str) -> None:
    """Raise UsageError if the query is no text, or longer than 100,000 characters."""
    check_unicode("The query", query)
    if len(query) > MAX_QUERY_CHARACTERS:
        raise UsageError(
            f"The query has {len(query):,} characters; at most {MAX_QUERY_CHARACTERS:,} are allowed."
        )


def read_query(asker: Asker, query: str) -> Query:
    """Return the terms of a question: of its words, but for those that every question is made of.

    A question of nothing else is taken at its words.
    """
    project = asker.project
    statement = f"""
        with told_apart as materialized (
            select distinct unnest({render(project, "search_words", "$query")}) as word
        )
        select * from ({render(project, "search_terms", "told_apart")})
        order by term
    """
    rows = asker.ask("{memories}", {"query": query}, Scope(), None, lambda *_: statement)
    stop_words = frozenset(render(project, "stop_words").split())
    words = {row["word"] for row in rows}
    telling = [row for row in rows if row["word"] not in stop_words] or rows
    groups = (group.split() for group in render(project, "spoken_roles").split(";"))
    spoken = [role for role, *names in groups if words.intersection(names)]
    return Query(
        terms={row["term_key"]: row["term"] for row in telling},
        names=sorted({row["word"] for row in telling}.union(spoken)),
        words={row["word"]: row["term_key"] for row in telling},
    )
