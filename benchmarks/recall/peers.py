"""The peers: what each is given, what it is asked, and how long it takes.

`python -m benchmarks.recall.peers ENGINE FOLDER SECONDS` measures one of them in a process of its own and
writes FOLDER/ENGINE.json, so that one that fails, hangs or takes all memory stops nothing else. It needs
numpy and the peer: it can be run by the Python of an environment that has not got mnemoduck.

Each is used as its documentation begins: default settings, and the way to filter that it names. Vectors
are not what is compared, so all get the same ones, which cost nothing to make: a text is the sum of a
random direction for each of its words (seeded, 384 floats, length 1), so texts that share words are near.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

DIMENSION = 384
TOP = 10
FEWEST = 10
WARM_UP = 2
BATCH = 5_000
"""Chroma takes at most 5,461 at a time."""

Rows: TypeAlias = list[tuple[str, str]]
"""Users and texts."""
Matrix: TypeAlias = NDArray[np.float32]

_WORD = re.compile(r"[^\W_]+")


class Fts5:
    """SQLite's full-text index in a file: porter over unicode61, the best by bm25 of any of the words.

    With users, these are a second column of the index, and a query asks for the user as a term: filtering
    by a column that is not in the index would rank everybody's memories first.
    """

    def __init__(self, path: Path, with_users: bool) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._with_users = with_users
        self._connection = sqlite3.connect(path, check_same_thread=False)
        columns = "owner, content" if with_users else "content"
        self._connection.execute(
            f"create virtual table texts using fts5({columns}, tokenize = 'porter unicode61')"
        )
        if with_users:  # the owner tells nothing of how well a text matches
            self._connection.execute("insert into texts(texts, rank) values ('rank', 'bm25(0.0, 1.0)')")

    def add(self, rows: Rows) -> None:
        if self._with_users:
            values = [(user.replace("-", ""), text) for user, text in rows]
            self._connection.executemany("insert into texts values (?, ?)", values)
        else:
            self._connection.executemany("insert into texts values (?)", [(text,) for _, text in rows])

    def finish(self) -> None:
        self._connection.commit()

    def search(self, words: Sequence[str], user: str | None) -> list[Any]:
        match = " OR ".join(f'"{word}"' for word in words)
        if self._with_users:
            match = f"content : ({match})"
        if user is not None:
            match = f"owner : {user.replace('-', '')} AND {match}"
        return self._connection.execute(
            f"select rowid, content from texts where texts match ? order by rank limit {TOP}", [match]
        ).fetchall()

    @property
    def bytes(self) -> int:
        return self._path.stat().st_size

    def close(self) -> None:
        self._connection.close()


class Chroma:
    """PersistentClient, one collection with its default settings (HNSW, l2), users as metadata."""

    package = "chromadb"
    needs_vectors = True

    def __init__(self, folder: Path) -> None:
        chromadb = importlib.import_module("chromadb")
        settings = chromadb.config.Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(str(folder), settings=settings)
        self._collection = self._client.create_collection("memories", embedding_function=None)
        self._count = 0

    def add(self, rows: Rows, matrix: Matrix) -> None:
        ids = [str(self._count + place) for place in range(len(rows))]
        self._collection.add(
            ids=ids,
            embeddings=matrix,
            documents=[text for _, text in rows],
            metadatas=[{"user_id": user} for user, _ in rows],
        )
        self._count += len(rows)

    def finish(self) -> None:
        pass

    def search(self, text: str, vector: Matrix, user: str | None) -> int:
        found = self._collection.query(
            query_embeddings=vector,
            n_results=TOP,
            where=None if user is None else {"user_id": user},
        )
        return len(found["ids"][0])


class _Lance:
    package = "lancedb"
    needs_vectors = False

    def __init__(self, folder: Path) -> None:
        self._database = importlib.import_module("lancedb").connect(str(folder))
        self._arrow = importlib.import_module("pyarrow")
        self._table: Any = None

    def add(self, rows: Rows, matrix: Matrix) -> None:
        columns = {"user_id": [user for user, _ in rows], "text": [text for _, text in rows]}
        if self.needs_vectors:
            values = self._arrow.array(matrix.reshape(-1))
            columns["vector"] = self._arrow.FixedSizeListArray.from_arrays(values, DIMENSION)
        data = self._arrow.table(columns)
        if self._table is None:
            self._table = self._database.create_table("memories", data)
        else:
            self._table.add(data)

    def _answer(self, query: Any, user: str | None) -> int:
        query = query.limit(TOP)
        if user is not None:
            query = query.where(f"user_id = '{user}'", prefilter=True)
        return len(query.to_list())


class LanceVectors(_Lance):
    """A table of vectors as it is created: no index, each search reads all vectors, exactly."""

    needs_vectors = True

    def finish(self) -> None:
        pass

    def search(self, text: str, vector: Matrix, user: str | None) -> int:
        return self._answer(self._table.search(vector[0]).select(["text"]), user)


class LanceWords(_Lance):
    """A full-text index as by default (BM25, English stems, without stop words), and an index of users."""

    def finish(self) -> None:
        self._table.create_fts_index("text")
        self._table.create_scalar_index("user_id")

    def search(self, text: str, vector: Matrix, user: str | None) -> int:
        return self._answer(self._table.search(text, query_type="fts").select(["text"]), user)


class RankBm25:
    """BM25Okapi in Python's memory: words in small letters, no stems; a user's texts by their numbers."""

    package = "rank-bm25"
    needs_vectors = False

    def __init__(self, folder: Path) -> None:
        self._module = importlib.import_module("rank_bm25")
        self._texts: list[str] = []
        self._of_user: dict[str, list[int]] = {}

    def add(self, rows: Rows, matrix: Matrix) -> None:
        for user, text in rows:
            self._of_user.setdefault(user, []).append(len(self._texts))
            self._texts.append(text)

    def finish(self) -> None:
        self._index = self._module.BM25Okapi([_WORD.findall(text.lower()) for text in self._texts])

    def search(self, text: str, vector: Matrix, user: str | None) -> int:
        asked = _WORD.findall(text.lower())
        if user is None:
            return len(self._index.get_top_n(asked, self._texts, n=TOP))
        numbers = self._of_user[user]
        scores = np.asarray(self._index.get_batch_scores(asked, numbers))
        best = np.argsort(-scores)[:TOP]
        return len([self._texts[numbers[place]] for place in best])


ENGINES: dict[str, Any] = {
    "Chroma": Chroma,
    "LanceDB vectors": LanceVectors,
    "LanceDB full text": LanceWords,
    "rank-bm25": RankBm25,
}


_directions: dict[str, Matrix] = {}


def vectors(texts: Sequence[str]) -> Matrix:
    """Return a row of length 1 for each text: the sum of its words' directions."""
    matrix = np.zeros((len(texts), DIMENSION), dtype=np.float32)
    for row, text in enumerate(texts):
        words = _WORD.findall(text.lower())
        if words:
            matrix[row] = np.sum([_direction(word) for word in words], axis=0)
    return np.asarray(matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9), np.float32)


def _direction(word: str) -> Matrix:
    if word not in _directions:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        _directions[word] = np.random.default_rng(seed).standard_normal(DIMENSION, dtype=np.float32)
    return _directions[word]


def measure_peer(engine: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Fill an engine with FOLDER/texts.jsonl, ask FOLDER/questions.json, and return what both took.

    Making the vectors is not counted.
    """
    peer_class = ENGINES[engine]
    found: dict[str, Any] = {"version": version(peer_class.package)}
    store = folder / engine.replace(" ", "_")
    held_before = _bytes_held()
    questions = json.loads((folder / "questions.json").read_text("utf-8"))
    peer = peer_class(store)
    ingest, count = 0.0, 0
    for rows in _chunks(folder / "texts.jsonl"):
        matrix = vectors([text for _, text in rows] if peer.needs_vectors else [])
        started = time.perf_counter()
        peer.add(rows, matrix)
        ingest += time.perf_counter() - started
        count += len(rows)
    started = time.perf_counter()
    peer.finish()
    ingest += time.perf_counter() - started
    found |= {
        "rows": count,
        "ingest_seconds": round(ingest, 3),
        "disk_bytes": sum(path.stat().st_size for path in store.rglob("*") if path.is_file()),
        "memory_bytes": _bytes_held() - held_before,
        "whole": _time(peer, questions, seconds, of_user=False),
        "one_user": _time(peer, questions, seconds, of_user=True),
    }
    return found


def _time(peer: Any, questions: list[dict[str, Any]], seconds: float, *, of_user: bool) -> dict[str, Any]:
    milliseconds: list[float] = []
    errors = 0
    deadline = time.perf_counter() + seconds
    for number, question in enumerate(questions):
        if number >= FEWEST + WARM_UP and time.perf_counter() > deadline:
            break
        vector = vectors([question["text"]])
        started = time.perf_counter()
        answers = peer.search(question["text"], vector, question["user"] if of_user else None)
        if number >= WARM_UP:
            milliseconds.append((time.perf_counter() - started) * 1e3)
            errors += answers == 0
    p50, p99 = (round(float(value), 4) for value in np.percentile(milliseconds, [50, 99]))
    return {"calls": len(milliseconds), "unanswered": errors, "p50_ms": p50, "p99_ms": p99}


def _chunks(path: Path) -> Iterator[Rows]:
    rows: Rows = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            user, text = json.loads(line)
            rows.append((user, text))
            if len(rows) == BATCH:
                yield rows
                rows = []
    if rows:
        yield rows


def _bytes_held() -> int:
    """Return the memory that this process holds, by Linux; 0 where nobody says."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


if __name__ == "__main__":
    name, place, at_most = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    result = measure_peer(name, place, at_most)
    (place / f"{name}.json").write_text(json.dumps(result) + "\n", "utf-8")
