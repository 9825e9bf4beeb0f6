"""A home with vectors, without a model: they are random, of length 1 and seeded, and so is a question's.

So a search costs what it costs with a model's vectors, but for making that of the question.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.vectors.drawn import DIMENSION, unit_vectors
from mnemoduck.embeddings import LocalVectors
from mnemoduck.home import Home, open_home
from mnemoduck.llm.settings import TemplateSettings
from mnemoduck.pipeline.publish import current_snapshot
from mnemoduck.project import find_project, render

_CHUNK = 50_000


def copy_with_vectors(home: Home, folder: Path, seed: int) -> tuple[Home, int]:
    """Return a home that has published a copy of another's snapshot, with a vector for each memory.

    And how many there are. Only what reads the snapshot works in it.

    Raises:
        RuntimeError: nothing was published, or the build did not say what vectors are made with.
    """
    source = current_snapshot(home)
    if source is None:
        raise RuntimeError(f"{home.path} has published nothing")
    copy = open_home(folder)
    path = copy.published / source.name
    shutil.copy(source, path)
    count = _fill(path, seed)
    copy.current.write_text(path.name + "\n")
    return copy, count


def _fill(path: Path, seed: int) -> int:
    random = np.random.default_rng(seed)
    with duckdb.connect(str(path)) as connection:
        connection.execute("set disabled_compression_methods = 'ALPRD'")  # as profiles.yml has it
        connection.execute(
            """
            create temp table documents as
            select
                memory_id, user_id, agent_id, occurred_at,
                row_number() over (order by user_id, agent_id, occurred_at, memory_id) - 1 as place
            from retrieval.search_documents
            """
        )
        row = connection.execute("select count(*) from documents").fetchone()
        assert row is not None
        for first in range(0, row[0], _CHUNK):
            vectors = unit_vectors(min(_CHUNK, row[0] - first), DIMENSION, random)
            made = pa.table(
                {
                    "place": np.arange(first, first + len(vectors)),
                    "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION),
                }
            )
            connection.register("made", made)
            connection.execute(
                f"""
                insert into retrieval.memory_embeddings by name
                select
                    documents.memory_id, documents.user_id, documents.agent_id, documents.occurred_at,
                    asked.settings_hash, asked.model, cast({DIMENSION} as integer) as dimension,
                    cast(made.vector as float[]) as vector,
                    {render(find_project(), "sign_bits", "cast(made.vector as float[])")} as sign_bits
                from documents
                inner join made on documents.place = made.place
                cross join (
                    select settings_hash, model from staging.llm_templates where template = 'embedding'
                ) as asked
                order by documents.place
                """
            )
        written = connection.execute("select count(*) from retrieval.memory_embeddings").fetchone()
        if written != row:
            raise RuntimeError(f"{written} vectors were written for {row} memories")
    return int(row[0])


class StandIn:
    """Makes of each text a vector that its characters determine, in no time."""

    def embed(self, _: TemplateSettings, texts: Sequence[str]) -> LocalVectors:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        vectors = [unit_vectors(1, DIMENSION, np.random.default_rng(seed))[0].tolist() for seed in seeds]
        return LocalVectors(vectors, prompt_tokens=0, latency_ms=0.0)


@contextmanager
def stand_in() -> Iterator[None]:
    """Have questions understood without asking a model, by whatever opens a home meanwhile."""
    with patch("mnemoduck.recall.vectors.make_embedder", lambda _settings, _host: StandIn()):
        yield
