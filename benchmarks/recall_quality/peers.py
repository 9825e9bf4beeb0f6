"""What others find of the same turns with their defaults: rank-bm25, SQLite FTS5, Chroma and LanceDB.

Each searches the turns of the question's own conversation only. The vectors of Chroma and LanceDB are of
MiniLM, made beforehand (all-MiniLM-L6-v2 is Chroma's default); a peer that is not installed is left out.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recall_quality.conversations import Conversation, Corpus
from benchmarks.recall_quality.vectors import Vectors
from mnemoduck.evaluation import Question
from mnemoduck.evaluation.measures import Values, bootstrap_interval

COUNT = 50

Search = Callable[[Question], list[int]]


def measure_peers(corpora: dict[str, Corpus], vectors: Path | None) -> list[dict[str, Any]]:
    """Return what each peer that is installed finds in each corpus."""
    rows = []
    for name, package, settings, make in _PEERS:
        try:
            found = version(package) if package else sqlite3.sqlite_version
        except PackageNotFoundError:
            continue
        figures: dict[str, Any] = {}
        for corpus_name, corpus in corpora.items():
            known = Vectors(vectors, corpus_name) if vectors is not None else None
            values = [
                corpus.score(question, [conversation.turns[place] for place in search(question)])
                for conversation in corpus.conversations
                for search in [make(conversation, known)]
                if search is not None
                for question in conversation.questions
            ]
            if values:
                figures[corpus_name] = _figures(corpus, np.array(values))
        if figures:
            rows.append({"peer": name, "version": found, "settings": settings, "measures": figures})
    return rows


def _figures(corpus: Corpus, values: Values) -> dict[str, dict[str, Any]]:
    """Return each measure's average over the questions that have it, with its interval."""
    found = {}
    for measure, column in zip(corpus.asked.measures, values.T, strict=True):
        known = column[~np.isnan(column)]
        figures = (float(known.mean()), *bootstrap_interval(known))
        rounded = dict(zip(("value", "low", "high"), (round(one, 6) for one in figures), strict=True))
        found[measure.name] = {"questions": len(known), **rounded}
    return found


def _rank_bm25(conversation: Conversation, _: object) -> Search:
    from rank_bm25 import BM25Okapi  # type: ignore[import-not-found, unused-ignore]

    index = BM25Okapi([turn.text.lower().split() for turn in conversation.turns])

    def search(question: Question) -> list[int]:
        scores = index.get_scores(question.text.lower().split())
        return [int(place) for place in np.argsort(-scores, kind="stable")[:COUNT] if scores[place] > 0]

    return search


def _fts5(tokenizer: str) -> Callable[[Conversation, object], Search]:
    def make(conversation: Conversation, _: object) -> Search:
        database = sqlite3.connect(":memory:")
        database.execute(f"create virtual table turns using fts5(content, tokenize = '{tokenizer}')")
        database.executemany(
            "insert into turns(rowid, content) values (?, ?)",
            [(place, turn.text) for place, turn in enumerate(conversation.turns)],
        )

        def search(question: Question) -> list[int]:
            words = ["".join(letter if letter.isalnum() else " " for letter in question.text)]
            any_of = " or ".join(f'"{word}"' for word in words[0].split()).replace(" or ", " OR ")
            rows = database.execute(
                "select rowid from turns where turns match ? order by bm25(turns) limit ?", (any_of, COUNT)
            )
            return [row[0] for row in rows]

        return search

    return make


def _chroma(conversation: Conversation, vectors: Vectors | None) -> Search | None:
    import chromadb  # type: ignore[import-not-found, unused-ignore]

    given = vectors.of(conversation) if vectors is not None else None
    if given is None:
        return None
    client = chromadb.EphemeralClient(settings=chromadb.Settings(anonymized_telemetry=False))
    name = "".join(letter if letter.isalnum() else "-" for letter in f"turns-{conversation.user_id}")
    collection = client.get_or_create_collection(name)
    places = [str(place) for place in range(len(conversation.turns))]
    for start in range(0, len(places), 5000):
        part = slice(start, start + 5000)
        collection.add(ids=places[part], embeddings=given[0][part])
    by_question = {
        one.question_id: vector for one, vector in zip(conversation.questions, given[1], strict=True)
    }

    def search(question: Question) -> list[int]:
        answer = collection.query(query_embeddings=[by_question[question.question_id]], n_results=COUNT)
        return [int(place) for place in answer["ids"][0]]

    return search


def _lancedb(conversation: Conversation, vectors: Vectors | None) -> Search | None:
    import lancedb  # type: ignore[import-not-found, unused-ignore]

    given = vectors.of(conversation) if vectors is not None else None
    if given is None:
        return None
    table = lancedb.connect(tempfile.mkdtemp()).create_table(
        "turns", [{"place": place, "vector": vector} for place, vector in enumerate(given[0])]
    )
    by_question = {
        one.question_id: vector for one, vector in zip(conversation.questions, given[1], strict=True)
    }

    def search(question: Question) -> list[int]:
        rows = table.search(by_question[question.question_id]).limit(COUNT).to_list()
        return [row["place"] for row in rows]

    return search


_PEERS: tuple[tuple[str, str, str, Callable[[Any, Any], Search | None]], ...] = (
    ("rank-bm25", "rank-bm25", "BM25Okapi, words by blanks in small letters as in its README", _rank_bm25),
    ("SQLite FTS5", "", "unicode61, the default tokenizer; any of the words, bm25()", _fts5("unicode61")),
    ("SQLite FTS5, porter", "", "porter unicode61; any of the words, bm25()", _fts5("porter unicode61")),
    ("Chroma", "chromadb", "a collection of each conversation, MiniLM vectors, HNSW as it comes", _chroma),
    ("LanceDB", "lancedb", "a table of each conversation, MiniLM vectors, no index: exact", _lancedb),
)
