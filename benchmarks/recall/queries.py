"""Queries that have an answer: words of memories that are stored."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import duckdb

from mnemoduck.home import Home
from mnemoduck.project import find_project, render

FEWEST_WORDS, MOST_WORDS = 2, 6
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Question:
    """A query, its telling words (not stop words), and the user whose memory it was taken from."""

    text: str
    words: tuple[str, ...]
    user: str


def draw_questions(home: Home, count: int, seed: int, taken: frozenset[str] = frozenset()) -> list[Question]:
    """Return up to `count` different queries, the same ones for the same home and seed.

    Each is 2 to 6 words of one memory that is not forgotten, in their order: one of two of its telling
    words only, the other one with stop words as they come. At least one word tells, so that each has an
    answer in the scope of its user.

    Args:
        taken: texts of queries that are not to come again.
    """
    stop_words = frozenset(render(find_project(), "stop_words").split())
    with duckdb.connect(str(home.warehouse), read_only=True) as connection:
        rows = connection.execute(
            """
            select user_id, content, md5(memory_id::varchar || $seed) as draw
            from staging.stg_memories
            where memory_id not in (select memory_id from staging.int_forgotten_memories)
            order by draw
            limit $limit
            """,
            {"seed": str(seed), "limit": 2 * count + len(taken)},
        ).fetchall()
    questions: dict[str, Question] = {}
    for user, content, draw in rows:
        question = _question(str(content).lower(), user, draw, stop_words)
        if question is not None and question.text not in taken:
            questions.setdefault(question.text, question)
        if len(questions) == count:
            break
    return list(questions.values())


def _question(text: str, user: str, draw: str, stop_words: frozenset[str]) -> Question | None:
    words = list(dict.fromkeys(_WORD.findall(text)))
    dice = hashlib.sha256(draw.encode()).digest()
    if dice[0] % 2:
        words = [word for word in words if word not in stop_words]
    size = FEWEST_WORDS + dice[1] % (MOST_WORDS - FEWEST_WORDS + 1)
    start = dice[2] % max(1, len(words) - size + 1)
    chosen = words[start : start + size]
    telling = tuple(word for word in chosen if word not in stop_words)
    return Question(" ".join(chosen), telling, user) if len(chosen) >= FEWEST_WORDS and telling else None
