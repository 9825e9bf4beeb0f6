"""The question: its words as terms of the index, what stands in quotes, and what else it says."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cachetools import LRUCache

from mnemoduck.asking import Asker
from mnemoduck.errors import UsageError
from mnemoduck.project import render
from mnemoduck.scope import Scope, check_unicode

MAX_QUERY_CHARACTERS = 100_000
KNOWN_PIECES = 50_000
"""So many pieces of questions are kept with their terms: some 20 MB in one process."""

_LONGEST_KNOWN_PIECE = 60
_QUOTED = re.compile('"([^"]*)"')
_ASCII_WORD = re.compile("[a-z0-9]+")
"""What the macro `search_words` finds in small letters of ASCII, where nothing has accents or other forms."""


@dataclass(frozen=True)
class Phrase:
    """Words that must stand in an answer one after the other, with the numbers of their terms."""

    words: tuple[str, ...]
    term_keys: frozenset[int]


@dataclass(frozen=True)
class Query:
    """A question that was read: its terms by their numbers, the names that may be roles, its phrases.

    `words` are those of the question that the terms stand for.
    """

    terms: dict[int, str]
    names: list[str]
    words: dict[str, int]
    phrases: tuple[Phrase, ...] = ()

    def without(self, names: frozenset[str]) -> Query:
        """Return the question without terms that are only names; one of nothing else is taken at its words.

        What stands in quotes is searched for, a name or not.
        """
        quoted = {key for phrase in self.phrases for key in phrase.term_keys}
        kept = quoted.union(key for word, key in self.words.items() if word not in names)
        if not kept:
            return self
        return replace(self, terms={key: term for key, term in self.terms.items() if key in kept})


@dataclass(frozen=True)
class _Word:
    word: str
    term: str
    term_key: int


def check_query(query: str) -> None:
    """Raise UsageError if the query is no text, or longer than 100,000 characters."""
    check_unicode("The query", query)
    if len(query) > MAX_QUERY_CHARACTERS:
        raise UsageError(
            f"The query has {len(query):,} characters; at most {MAX_QUERY_CHARACTERS:,} are allowed."
        )


def read_query(asker: Asker, query: str) -> Query:
    """Return the terms of a question: of its words, but for those that every question is made of.

    A question of nothing else is taken at its words. What stands between two quotation marks is a phrase, and
    its words count too; a mark without its other is a character like any other.
    """
    project = asker.project
    words_of = _vocabulary(project).read(asker, query.split())
    words = [word for piece in query.split() for word in words_of[piece]]
    phrases = _read_phrases(asker, query)
    quoted = {key for phrase in phrases for key in phrase.term_keys}
    stop_words = _stop_words(project)
    telling = [one for one in words if one.word not in stop_words or one.term_key in quoted] or words
    said = {one.word for one in words}
    spoken = [role for role, names in _spoken_roles(project) if not said.isdisjoint(names)]
    return Query(
        terms={one.term_key: one.term for one in sorted(telling, key=lambda one: one.term)},
        names=sorted({one.word for one in telling}.union(spoken)),
        words={one.word: one.term_key for one in telling},
        phrases=phrases,
    )


def read_terms(asker: Asker, texts: Sequence[str]) -> list[list[int]]:
    """Return the numbers of the terms of each text in their order, but for those that every text is made of.

    A text of nothing else is taken at its words. Whatever the number of texts, SQL is asked at most twice.
    """
    project = asker.project
    stop_words = _stop_words(project)
    words_of = _vocabulary(project).read(asker, [piece for text in texts for piece in text.split()])
    read = []
    for text in texts:
        words = [word for piece in text.split() for word in words_of[piece]]
        read.append([one.term_key for one in words if one.word not in stop_words])
        if not read[-1]:
            read[-1] = [one.term_key for one in words]
    return read


def _read_phrases(asker: Asker, query: str) -> tuple[Phrase, ...]:
    phrases = []
    for text in dict.fromkeys(_QUOTED.findall(query)):
        words_of = _vocabulary(asker.project).read(asker, text.split())
        words = [word for piece in text.split() for word in words_of[piece]]
        if words:
            phrases.append(Phrase(tuple(one.word for one in words), frozenset(one.term_key for one in words)))
    return tuple(phrases)


class _Vocabulary:
    """The words of pieces of text between blanks, with their terms, as the macros of the project tell them.

    SQL is asked for a piece once, as long as it is among the last that were used. Safe between threads.
    """

    def __init__(self) -> None:
        self._known: LRUCache[str, tuple[_Word, ...]] = LRUCache(KNOWN_PIECES)
        self._mutex = threading.Lock()

    def read(self, asker: Asker, pieces: Iterable[str]) -> dict[str, tuple[_Word, ...]]:
        """Return the words of each piece, in their order; none, if it has no letter or digit."""
        found = {}
        unknown = []
        with self._mutex:
            for piece in dict.fromkeys(pieces):
                if piece in self._known:
                    found[piece] = self._known[piece]
                else:
                    unknown.append(piece)
        if unknown:
            learnt = self._ask(asker, unknown)
            found.update(learnt)
            with self._mutex:
                self._known.update(
                    {piece: words for piece, words in learnt.items() if len(piece) <= _LONGEST_KNOWN_PIECE}
                )
        return found

    @staticmethod
    def _ask(asker: Asker, pieces: list[str]) -> dict[str, tuple[_Word, ...]]:
        words_of = {piece: _ASCII_WORD.findall(piece.lower()) for piece in pieces if piece.isascii()}
        others = [piece for piece in pieces if piece not in words_of]
        if others:
            words_of.update(_ask_words(asker, others))
        words = sorted({word for found in words_of.values() for word in found})
        terms = {word: _Word(word, term, key) for word, term, key in _ask_terms(asker, words)}
        return {piece: tuple(terms[word] for word in words_of[piece]) for piece in pieces}


def _ask_words(asker: Asker, pieces: list[str]) -> dict[str, list[str]]:
    """Return the words of each piece, as the macro tells them apart.

    DuckDB takes 7 ms to make ready for all letters there are, so `_ASCII_WORD` tells ASCII apart.
    """
    words = render(asker.project, "search_words", "piece")
    statement = f"select piece, {words} as words from (select unnest($pieces) as piece)"
    rows = asker.ask("{memories}", {"pieces": pieces}, Scope(), None, lambda *_: statement)
    return {row["piece"]: row["words"] for row in rows}


def _ask_terms(asker: Asker, words: list[str]) -> list[tuple[str, str, int]]:
    """Return each word with its term and the number of that: what the macro `search_terms` gives.

    That macro joins a list of all irregular forms, which takes DuckDB 2 ms to plan.
    """
    if not words:
        return []
    project = asker.project
    bases = _irregular_forms(project)
    regular = {word: bases.get(word, word) for word in words}
    stem = render(project, "stemmed", "regular")
    statement = f"""
        select regular, {stem} as term, {render(project, "short_key", stem)} as term_key
        from (select unnest($regular::varchar[]) as regular)
    """
    asked = {"regular": sorted(set(regular.values()))}
    rows = asker.ask("{memories}", asked, Scope(), None, lambda *_: statement)
    terms = {row["regular"]: (row["term"], row["term_key"]) for row in rows}
    return [(word, *terms[base]) for word, base in regular.items()]


@cache
def _irregular_forms(project: Path) -> dict[str, str]:
    """Return the first form of each group by its other forms."""
    groups = [group.split() for group in render(project, "irregular_forms").split(";")]
    return {form: base for base, *forms in groups for form in forms}


@cache
def _vocabulary(_project: Path) -> _Vocabulary:
    return _Vocabulary()


# In a forked child: another thread of the parent may have held its mutex, which nobody releases here.
os.register_at_fork(after_in_child=_vocabulary.cache_clear)


@cache
def _stop_words(project: Path) -> frozenset[str]:
    return frozenset(render(project, "stop_words").split())


@cache
def _spoken_roles(project: Path) -> tuple[tuple[str, frozenset[str]], ...]:
    groups = [group.split() for group in render(project, "spoken_roles").split(";")]
    return tuple((role, frozenset(names)) for role, *names in groups)
