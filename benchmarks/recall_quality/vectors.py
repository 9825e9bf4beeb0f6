"""MiniLM's vectors of the turns: made beforehand, and laid into the cache of a home as a build would.

To embed the 15,000 turns of the LongMemEval file takes the model most of an hour, and Chroma and LanceDB
search the same vectors. Questions are embedded by the model itself, as they are asked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.recall_quality.conversations import Conversation, Corpus
from mnemoduck.embeddings import minilm_digest, unit_vector
from mnemoduck.errors import UsageError
from mnemoduck.home import Home
from mnemoduck.llm.cache import open_cache
from mnemoduck.llm.keys import ALGORITHM, prompt_hash, prompt_key
from mnemoduck.llm.records import Embedding
from mnemoduck.llm.settings import EMBEDDING, MINILM, TemplateSettings, embedding_options
from mnemoduck.project import find_project, render, variables


class Vectors:
    """Arrays `ids` and `vectors` of turns, `question_ids` and `questions`, of one corpus."""

    def __init__(self, folder: Path, corpus: str) -> None:
        file = np.load(folder / f"{corpus}.npz")
        owners = [str(name).rsplit("/", 1)[0] for name in file["ids"]]
        self.turns: dict[str, Any] = {}
        for owner in dict.fromkeys(owners):
            self.turns[owner] = file["vectors"][[one == owner for one in owners]]
        self.questions = dict(zip(map(str, file["question_ids"]), file["questions"], strict=True))
        self._corpus = corpus

    def of(self, conversation: Conversation) -> tuple[Any, list[Any]] | None:
        """Return the vectors of the turns and the questions; None if not all are there."""
        turns = self.turns.get(conversation.user_id)
        if turns is None or len(turns) != len(conversation.turns):
            return None
        places = [
            f"{conversation.user_id}/{place}" if self._corpus == "locomo" else conversation.user_id
            for place in range(len(conversation.questions))
        ]
        return (turns, [self.questions[place] for place in places]) if places[-1] in self.questions else None


def has_minilm() -> bool:
    """Return whether the extra `minilm` is installed."""
    try:
        minilm_digest()
    except UsageError:
        return False
    return True


def fill_cache(home: Home, corpus: Corpus, vectors: Vectors) -> int:
    """Lay the vectors of all turns into the cache of a home; return how many texts have one there.

    The next build with embeddings of `minilm` finds them under their keys, and asks for none of them.
    """
    characters = int(variables(find_project())["llm_input_characters"])
    settings = TemplateSettings(
        template=EMBEDDING,
        template_version=1,
        mode="minilm",
        model=MINILM,
        model_digest=minilm_digest(),
        options=embedding_options(MINILM),
        response_schema="",
        instructions="",
        input_characters=characters,
        limits="",
    )
    texts: list[str] = []
    numbers: list[Any] = []
    for conversation in corpus.conversations:
        known = vectors.of(conversation)
        if known is not None:
            texts += [turn.text for turn in conversation.turns]
            numbers += list(known[0])
    by_text = dict(zip(_as_asked(texts, characters), numbers, strict=True))
    now = datetime.now(UTC).replace(tzinfo=None)
    with open_cache(home) as cache:
        return cache.store_embeddings(
            Embedding(
                key=prompt_key(settings.settings_hash, prompt_hash([text])),
                algorithm=ALGORITHM,
                template=settings.template,
                template_version=settings.template_version,
                settings_hash=settings.settings_hash,
                input_characters=characters,
                input_hash=prompt_hash([text]),
                model=settings.model,
                model_digest=settings.model_digest,
                options=settings.options,
                dimension=len(vector),
                vector=unit_vector(vector.tolist()),
                error=None,
                prompt_tokens=0,
                latency_ms=0.0,
                created_at=now,
            )
            for text, vector in by_text.items()
        )


def _as_asked(texts: list[str], characters: int) -> list[str]:
    """Return texts as the model reads them."""
    given = pa.table({"place": list(range(len(texts))), "content": texts})
    with duckdb.connect() as connection:
        connection.register("given", given)
        rows = connection.execute(
            f"select {render(find_project(), 'prompt_text', 'content', characters)} from given order by place"
        ).fetchall()
    return [row[0] for row in rows]
