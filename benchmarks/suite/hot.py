"""The questions that are asked all the time, each with the number of rows that it must find.

They are put as the package puts them: through `Memory`, or through the router to the months of a model on
a cursor of the published snapshot. Each is asked in a few variants, of other users, moments and words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.llm_cache.corpus import build_corpus
from benchmarks.recall.measure import counted_scans
from benchmarks.recall.queries import Question, draw_questions
from benchmarks.timing import witness
from mnemoduck import Memory
from mnemoduck.home import Home
from mnemoduck.warehouse import SnapshotReader

WORKING_MEMORY = "working memory"
MONTH = "a month by type"
LOOKUP = "a memory by its id"
CONSOLIDATION = "consolidation batch"
CACHED_ANSWER = "a cached answer by its key"
DAILY = "two-level daily aggregation"
THOUSAND_ROWS = "1,000 rows"
RANGE = "a week of a user"
RECALL = "recall"
CACHED_RECALL = "recall, asked before"
MIXED = "mixed load"

MODEL = "short_term_memories"
VARIANTS = 8
BATCH = 1_000
TOP = 10
_ANSWER = "select answer, error from llm_cache.responses where key ="
_COLUMNS = ("memory_id", "user_id", "session_id", "content", "memory_type", "importance", "occurred_at")


class WrongAnswerError(Exception):
    """A question found other rows than there are."""


@dataclass(frozen=True)
class HotQuery:
    """A question: `ask` takes the number of a variant and returns how many rows that found.

    `is_floor` says that what is expected is the least: what was remembered since may answer as well.
    """

    name: str
    ask: Callable[[int], int]
    expected: Sequence[int]
    is_floor: bool = False

    def __call__(self, number: int) -> None:
        """Ask a variant and check what it found.

        Raises:
            WrongAnswerError: it did not find what is there.
        """
        variant = number % len(self.expected)
        found, expected = self.ask(variant), self.expected[variant]
        if found < expected or (found != expected and not self.is_floor):
            raise WrongAnswerError(f"{self.name}, variant {variant}: {found:,} rows, not {expected:,}")


class HotQueries:
    """All of them on one home. Safe between threads.

    Args:
        home: built and published, with at least five months.
        answers: a cache of a model's answers as `make_answers` makes it; None leaves its lookup out.

    Raises:
        ValueError: the home has too little for a question.
    """

    def __init__(self, home: Home, answers: Path | None = None, seed: int = 1) -> None:
        self.reader = SnapshotReader(home)
        self.memory = Memory(home.path, record_recalls=False)
        self.uncached = Memory(home.path, record_recalls=False, cache_bytes=0)
        self._answers = None if answers is None else duckdb.connect()
        questions = draw_questions(home, VARIANTS, seed)
        self._draw(seed)
        made = [
            self._working_memory(),
            self._month(),
            self._lookup(),
            self._consolidation(),
            self._daily(),
            self._thousand_rows(),
            self._range(),
            _recall(RECALL, self.uncached, questions),
            _recall(CACHED_RECALL, self.memory, questions),
        ]
        if self._answers is not None and answers is not None:
            made.append(self._cached_answer(self._answers, answers))
        self.queries = {query.name: query for query in made}
        self._in_turn = list(self.queries.values())

    def close(self) -> None:
        """Close all connections."""
        self.memory.close()
        self.uncached.close()
        self.reader.close()
        if self._answers is not None:
            self._answers.close()

    def floor(self, _: int) -> None:
        """Ask `select 1` as the questions are asked."""
        self._fetch("select 1")

    def scans(self, name: str) -> list[dict[str, int]]:
        """Return for each variant how many rows of which tables it reads, by EXPLAIN ANALYZE."""
        if name == CACHED_ANSWER:
            assert self._answers is not None
            key = self._answers.execute("select min(key) from llm_cache.responses").fetchall()[0][0]
            return [{"responses": witness(self._answers, f"{_ANSWER} '{key}'").rows_scanned}]
        query, found = self.queries[name], []
        for variant in range(len(query.expected)):
            rows: dict[str, int] = {}
            with counted_scans(rows):
                query(variant)
            found.append(rows)
        return found

    def mixed(self, number: int) -> None:
        """Ask one question after the other, each time the next variant."""
        self._in_turn[number % len(self._in_turn)](number // len(self._in_turn))

    def _fetch(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.reader.get_published().thread_cursor().execute(statement, values).fetchall()

    def _between(self, begin: datetime | None, end: datetime | None, *columns: str) -> str:
        partitions = self.reader.get_published().partitions(MODEL)
        if partitions is None:
            raise ValueError(f"{MODEL} is not kept in months")
        return partitions.between(begin, end, columns=columns or None)

    def _draw(self, seed: int) -> None:
        """Choose the months, and memories that are not forgotten: the same for the same home and seed."""
        months = self._fetch(
            f"select date_trunc('month', occurred_at) as month, count(*) from {MODEL} "
            "group by month order by month"
        )
        if len(months) < 5:
            raise ValueError(f"the home has memories of {len(months)} months, and the questions need 5")
        self.months = [(month, next_month, count) for (month, count), (next_month, _) in pairwise(months)]
        self.month_rows = {month: count for month, _, count in self.months}
        self.row_count = sum(count for _, count in months)
        self.drawn = self._fetch(
            f"""
            select memory_id, user_id, occurred_at from {MODEL}
            where forgotten_at is null and occurred_at < $1
            order by md5(memory_id::varchar || $2) limit {VARIANTS}
            """,
            [self.months[-1][1] - timedelta(days=7), str(seed)],
        )

    def _working_memory(self) -> HotQuery:
        """Of the user at the moment after each of the drawn memories."""

        def ask(variant: int) -> int:
            _, user, moment = self.drawn[variant]
            as_of = moment.replace(tzinfo=UTC) + timedelta(seconds=1)
            return len(self.memory.working_memory(user_id=user, as_of=as_of))

        expected = [ask(variant) for variant in range(VARIANTS)]
        if not all(1 <= slots <= 9 for slots in expected):
            raise WrongAnswerError(f"working memory has {expected} slots, and none has none or more than 9")
        return HotQuery(WORKING_MEMORY, ask, expected)

    def _month(self) -> HotQuery:
        months = self.months[-3:]

        def ask(variant: int) -> int:
            begin, end, _ = months[variant]
            rows = self._fetch(
                f"select memory_type, count(*), avg(importance) from {self._between(begin, end)} group by all"
            )
            return int(sum(count for _, count, _ in rows))

        return HotQuery(MONTH, ask, [count for _, _, count in months])

    def _lookup(self) -> HotQuery:
        def ask(variant: int) -> int:
            memory_id = self.drawn[variant][0]
            found = self.memory.get(memory_id)
            return int(found is not None and found.memory_id == memory_id)

        return HotQuery(LOOKUP, ask, [1] * VARIANTS)

    def _consolidation(self) -> HotQuery:
        """Aggregate a batch of a thousand memories of each of the last three months."""
        columns = ("user_id", "memory_type", "importance", "occurred_at")
        months = self.months[-3:]

        def ask(_: int) -> int:
            batches = " union all ".join(
                f"(select * from {self._between(begin, end, *columns)} limit {BATCH})"
                for begin, end, _ in months
            )
            rows = self._fetch(
                "select user_id, memory_type, count(*), avg(importance), max(occurred_at) "
                f"from ({batches}) group by all"
            )
            return int(sum(row[2] for row in rows))

        return HotQuery(CONSOLIDATION, ask, [sum(min(BATCH, count) for _, _, count in months)])

    def _daily(self) -> HotQuery:
        months = self.months[-3:]

        def ask(variant: int) -> int:
            begin, end, _ = months[variant]
            rows = self._fetch(
                f"""
                with daily as (
                    select
                        date_trunc('day', occurred_at) as day, memory_type, count(*) as said,
                        count(distinct user_id) as users, avg(importance) as importance
                    from {self._between(begin, end)}
                    group by all
                )
                select memory_type, sum(said), max(said), avg(users), avg(importance)
                from daily group by memory_type
                """
            )
            return int(sum(row[1] for row in rows))

        return HotQuery(DAILY, ask, [count for _, _, count in months])

    def _thousand_rows(self) -> HotQuery:
        """Fetch them of as many of the last months as have so many."""
        end, rows, newest_first = self.months[-1][1], 0, iter(reversed(self.months))
        while rows < BATCH:
            begin, _, count = next(newest_first)
            rows += count

        def ask(_: int) -> int:
            return len(self._fetch(f"select * from {self._between(begin, end, *_COLUMNS)} limit {BATCH}"))

        return HotQuery(THOUSAND_ROWS, ask, [min(rows, BATCH)])

    def _range(self) -> HotQuery:
        """Return the newest hundred of a week of a user, from the day of each of the drawn memories."""

        def week(variant: int) -> tuple[str, datetime, datetime]:
            _, user, moment = self.drawn[variant]
            begin = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            return user, begin, begin + timedelta(days=7)

        def ask(variant: int) -> int:
            user, begin, end = week(variant)
            return len(
                self._fetch(
                    f"select * from {self._between(begin, end, *_COLUMNS)} where user_id = $1 "
                    "order by occurred_at desc limit 100",
                    [user],
                )
            )

        said = [
            self._fetch(
                f"select count(*) from {MODEL} where user_id = $1 and occurred_at >= $2 and occurred_at < $3",
                week(variant),
            )[0][0]
            for variant in range(VARIANTS)
        ]
        return HotQuery(RANGE, ask, [min(100, count) for count in said])

    def _cached_answer(self, connection: duckdb.DuckDBPyConnection, path: Path) -> HotQuery:
        quoted = str(path).replace("'", "''")
        connection.execute(f"attach '{quoted}' as llm_cache (read_only)")
        keys = connection.execute(
            f"select key from llm_cache.responses order by key limit {VARIANTS}"
        ).fetchall()

        of_thread = threading.local()

        def ask(variant: int) -> int:
            if not hasattr(of_thread, "cursor"):
                of_thread.cursor = connection.cursor()
            return len(of_thread.cursor.execute(f"{_ANSWER} $1", keys[variant]).fetchall())

        return HotQuery(CACHED_ANSWER, ask, [1] * len(keys))


def _recall(name: str, memory: Memory, questions: Sequence[Question]) -> HotQuery:
    def ask(variant: int) -> int:
        question = questions[variant]
        return len(memory.recall(question.text, user_id=question.user, limit=TOP, record=False))

    expected = [ask(variant) for variant in range(len(questions))]
    if not expected or 0 in expected:
        raise WrongAnswerError(f"{name}: of {len(expected)} questions some have no answer")
    return HotQuery(name, ask, expected, is_floor=True)


def make_answers(path: Path, count: int) -> Path:
    """Write a cache of so many answers of a model and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    build_corpus(path, count).close()
    return path


@contextmanager
def hot_queries(home: Home, answers: Path | None = None, seed: int = 1) -> Iterator[HotQueries]:
    """Give the questions to a home, and close what they have opened."""
    made = HotQueries(home, answers, seed)
    try:
        yield made
    finally:
        made.close()
