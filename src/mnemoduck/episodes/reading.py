"""The episodes of a user, read from the snapshot once and kept as arrays to count in.

A moment is a place in an episode: before its first call, after each call. What was called next there is what
suggestions are made of. Episodes that have not ended, or not by the moment asked about, say nothing.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import duckdb
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from mnemoduck.asking import Asker
from mnemoduck.errors import SnapshotError
from mnemoduck.recall.query import MAX_QUERY_CHARACTERS, read_terms
from mnemoduck.warehouse import Snapshot

Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[np.float64]

CALLS_BACK = 8
"""So many calls before a moment are compared: with weights that halve, the ninth would add 0.2 %."""

STORE_BYTES = 64 * 1024 * 1024
"""Of the episodes that a process keeps; those of the user who was asked about longest ago make room."""

END = 0
"""The number of the end of an episode, where tools have theirs from 1 on."""

_ROW_BYTES = 1_500
"""What an episode takes in memory beside its steps and the text of its task: measured, rounded up."""

_SATURATION = 1.2
_LENGTH_WEIGHT = 0.75

# Calls are named by their rows in the staged steps, which a snapshot never moves: DuckDB finds a row by its
# number in a millisecond, and would look for an episode in all steps.
_STATEMENT = f"""
    with calls as (
        select episode_key, list(rowid order by step, occurred_at, event_id) as row_numbers
        from staging.stg_steps
        where user_id is not distinct from $user_id and step_type = 'tool'
        group by episode_key
    )

    select
        features.episode_key, features.episode_id, features.agent_id, features.session_id,
        features.domain, features.task_id,
        left(coalesce(features.task, ''), {MAX_QUERY_CHARACTERS}) as task,
        features.outcome, features.is_success, features.reward,
        features.started_at, features.completed_at, features.forgotten_at, staged.recorded_at,
        features.tools, features.tool_errors, features.requestors, coalesce(calls.row_numbers, [])
    from staging.episode_features as features
    left join staging.stg_episodes as staged on features.episode_key = staged.episode_key
    left join calls on features.episode_key = calls.episode_key
    where features.user_id is not distinct from $user_id and features.completed_at is not null
    order by features.completed_at, features.episode_key
"""


@dataclass(frozen=True)
class Episode:
    """A completed episode, but for its steps: those are in the arrays."""

    episode_key: UUID
    episode_id: str
    agent_id: str | None
    session_id: str | None
    domain: str
    task_id: str | None
    task: str
    outcome: str
    is_success: bool
    reward: float | None
    started_at: datetime | None
    completed_at: datetime
    forgotten_at: datetime | None
    recorded_at: datetime | None

    @property
    def task_name(self) -> str:
        """What tells its task from others: the id of it, or its words where it has none."""
        return self.task if self.task_id is None else self.task_id


class TaskWords:
    """The words of tasks, as an index to rank them by BM25 (Robertson & Zaragoza 2009)."""

    def __init__(self, tasks: Sequence[Sequence[int]]) -> None:
        rows = [
            (term, place, count)
            for place, terms in enumerate(tasks)
            for term, count in Counter(terms).items()
        ]
        rows.sort()
        terms = np.array([row[0] for row in rows], dtype=np.int64)
        self._places = np.array([row[1] for row in rows], dtype=np.int64)
        self._counts = np.array([row[2] for row in rows], dtype=np.float64)
        self._terms, begins = np.unique(terms, return_index=True)
        self._ends = np.append(begins[1:], len(rows)).astype(np.int64)
        self._begins = begins.astype(np.int64)
        self._lengths = np.array([len(terms) for terms in tasks], dtype=np.float64)

    def similarities(self, asked: Sequence[int], among: Flags) -> Values:
        """Return how like each task is to one of the terms asked for: its BM25 over that of the task itself.

        Args:
            among: which tasks there are to compare with; the others are 0.

        Returns:
            0 to 1, one for each task.
        """
        scores = np.zeros(len(self._lengths))
        count = int(among.sum())
        if not count or not asked:
            return scores
        mean_length = max(float(self._lengths[among].mean()), 1.0)
        spread = _SATURATION * (1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * self._lengths / mean_length)
        own_spread = _SATURATION * (1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * len(asked) / mean_length)
        best = 0.0
        for term, times in sorted(Counter(asked).items()):
            places, counts = self._postings(term)
            known = int(among[places].sum())
            rarity = np.log(1 + (count - known + 0.5) / (known + 0.5))
            scores[places] += rarity * counts / (counts + spread[places])
            best += rarity * times / (times + own_spread)
        return np.where(among, np.minimum(scores / best, 1.0), 0.0)

    @property
    def bytes(self) -> int:
        arrays = (self._terms, self._begins, self._ends, self._places, self._counts, self._lengths)
        return sum(array.nbytes for array in arrays)

    def _postings(self, term: int) -> tuple[Numbers, Values]:
        place = int(np.searchsorted(self._terms, term))
        if place == len(self._terms) or self._terms[place] != term:
            return self._places[:0], self._counts[:0]
        found = slice(int(self._begins[place]), int(self._ends[place]))
        return self._places[found], self._counts[found]


class Experience:
    """The completed episodes of one user, in the order in which they ended.

    Attributes:
        tools: names of the tools by their numbers; 0 is the end.
        episode_of, place_of, next_of: of each moment its episode, its place in it, and what was next there.
        history: of each moment the marks of the last calls, the last first; 0 is before the first call.
    """

    def __init__(
        self,
        rows: Sequence[tuple[Episode, Sequence[str], Sequence[bool], Sequence[str | None], Sequence[int]]],
        terms: Mapping[str, Sequence[int]],
    ) -> None:
        self.rows = [row[0] for row in rows]
        names = sorted({tool for _, tools, *_ in rows for tool in tools})
        self.tools = ["", *names]
        self._numbers = {name: number for number, name in enumerate(names, start=1)}
        self._lengths = np.array([len(tools) for _, tools, *_ in rows], dtype=np.int64)
        self._begins = np.cumsum(self._lengths) - self._lengths
        self._called = np.array(
            [self._numbers[tool] for _, tools, *_ in rows for tool in tools], dtype=np.int64
        )
        self._failed = np.array([flag for _, _, flags, *_ in rows for flag in flags], dtype=bool)
        self._by_user = np.array([one == "user" for *_, asked, _ in rows for one in asked], dtype=bool)
        self._row_numbers = [np.array(numbers, dtype=np.int64) for *_, numbers in rows]
        self._times = self._count_times()
        self.episode_of = np.repeat(np.arange(len(rows)), self._lengths + 1)
        first_moments = np.cumsum(self._lengths + 1) - (self._lengths + 1)
        self.place_of = np.arange(len(self.episode_of)) - np.repeat(first_moments, self._lengths + 1)
        self.next_of = self._look_up(self._called, 0)
        marks = 2 * self._called + self._failed
        self.history = np.stack([self._look_up(marks, back) for back in range(-1, -CALLS_BACK - 1, -1)])

        self.is_success = np.array([episode.is_success for episode in self.rows], dtype=bool)
        self._completed = _moments([episode.completed_at for episode in self.rows])
        self._forgotten = _moments([episode.forgotten_at for episode in self.rows])
        self._domain_names, self._domain_of = np.unique(
            np.array([episode.domain for episode in self.rows], dtype=str), return_inverse=True
        )
        self._agents = np.array([episode.agent_id for episode in self.rows], dtype=object)
        self._tasks = {text: place for place, text in enumerate(dict.fromkeys(one.task for one in self.rows))}
        self._task_of = np.array([self._tasks[episode.task] for episode in self.rows], dtype=np.int64)
        self._words = TaskWords([terms[text] for text in self._tasks])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def bytes(self) -> int:
        """About how much memory they take."""
        arrays = (self._called, self._times, self.episode_of, self.place_of, self.next_of, self.history)
        texts = sum(sys.getsizeof(task) for task in self._tasks)
        rows = len(self.rows) * _ROW_BYTES + sum(numbers.nbytes for numbers in self._row_numbers)
        return sum(array.nbytes for array in arrays) + self._words.bytes + texts + rows

    def number(self, tool: str) -> int:
        """Return the number of a tool; -1 of one that was never called."""
        return self._numbers.get(tool, -1)

    def ended(
        self,
        moment: datetime,
        *,
        domain: str | None,
        agent_id: str | None,
        without_tasks: frozenset[str] = frozenset(),
    ) -> Flags:
        """Return which episodes had ended at a moment (UTC, without a zone), and were not forgotten by then.

        Args:
            without_tasks: names of tasks that are left out, as an evaluation needs it.
        """
        asked = np.datetime64(moment, "us")
        chosen: Flags = (self._completed <= asked) & (np.isnat(self._forgotten) | (self._forgotten > asked))
        if domain is not None:
            chosen &= (self._domain_names == domain)[self._domain_of]
        if agent_id is not None:
            chosen &= self._agents == agent_id
        if without_tasks:
            chosen &= np.array([episode.task_name not in without_tasks for episode in self.rows], dtype=bool)
        return chosen

    def ages(self, moment: datetime, period_days: float) -> Values:
        """Return how many periods, counted from 1970, lie between the end of each episode and a moment."""
        microseconds = period_days * 86_400e6
        now = np.datetime64(moment, "us").astype(np.int64)
        ended = self._completed.astype(np.int64)
        return np.asarray(np.floor(now / microseconds) - np.floor(ended / microseconds))

    def task_similarities(self, terms: Sequence[int], among: Flags) -> Values:
        """Return how like the task of each episode is to one of these terms: 0 to 1, 0 where not among."""
        tasks = np.zeros(len(self._tasks), dtype=bool)
        tasks[self._task_of[among]] = True
        return self._words.similarities(terms, tasks)[self._task_of]

    def steps_in_common(self, tools: Sequence[int]) -> tuple[Numbers, Numbers]:
        """Return how many of some calls had been made too, whatever their order: by each moment, by the end.

        A tool that was called twice is in common twice if it is among the calls twice.
        """
        counts = np.zeros(len(self.tools), dtype=np.int64)
        for tool in tools:
            if tool > END:
                counts[tool] += 1
        sums = np.concatenate([[0], np.cumsum(self._times <= counts[self._called])])
        begins = self._begins[self.episode_of]
        return (
            sums[begins + self.place_of] - sums[begins],
            sums[self._begins + self._lengths] - sums[self._begins],
        )

    def calls(self, episode: int) -> list[str]:
        """Return the tools that an episode called, in their order."""
        return [self.tools[tool] for tool in self._called[self._calls_of(episode)]]

    def failures(self, episode: int) -> list[bool]:
        """Return which of these calls failed."""
        return [bool(one) for one in self._failed[self._calls_of(episode)]]

    def calls_by_user(self, episode: int) -> list[bool]:
        """Return which of these calls were not the agent's but of the user whom it served."""
        return [bool(one) for one in self._by_user[self._calls_of(episode)]]

    def row_number(self, episode: int, place: int) -> int | None:
        """Return the number of the row of a call in the staged steps, None if it is not among them."""
        numbers = self._row_numbers[episode]
        return int(numbers[place]) if len(numbers) == self._lengths[episode] else None

    def main_domain(self, weights: Values) -> str:
        """Return the domain whose episodes weigh most; names decide between equals."""
        return str(self._domain_names[np.argmax(np.bincount(self._domain_of, weights))])

    def _calls_of(self, episode: int) -> slice:
        begin = int(self._begins[episode])
        return slice(begin, begin + int(self._lengths[episode]))

    def _count_times(self) -> Numbers:
        """Return for each call how often its episode had called the same tool by then, itself included."""
        calls = len(self._called)
        groups = np.repeat(np.arange(len(self.rows)), self._lengths) * len(self.tools) + self._called
        order = np.argsort(groups, kind="stable")
        places = np.arange(calls)
        is_first = np.diff(groups[order], prepend=-1) != 0
        times = np.empty(calls, dtype=np.int64)
        times[order] = places - np.maximum.accumulate(np.where(is_first, places, 0)) + 1
        return times

    def _look_up(self, calls: Numbers, ahead: int) -> Numbers:
        """Return of each moment a value of the call so many places ahead of it, 0 where there is none."""
        place = self.place_of + ahead
        is_there = (place >= 0) & (place < self._lengths[self.episode_of])
        at = np.where(is_there, self._begins[self.episode_of] + place, 0)
        return np.where(is_there, calls[at] if len(calls) else 0, 0)


class ExperienceReader:
    """Gives the episodes of users, read once for each snapshot. Safe between threads."""

    def __init__(self, asker: Asker, *, store_bytes: int = STORE_BYTES) -> None:
        self._asker = asker
        self._mutex = threading.Lock()
        self._kept: LRUCache[tuple[Path, str | None], Experience] = LRUCache(
            store_bytes, getsizeof=lambda episodes: episodes.bytes
        )

    def read(self, snapshot: Snapshot, user_id: str | None) -> Experience:
        """Return the completed episodes of a user, also the forgotten ones.

        Costs one statement, and in proportion to the steps of this user, once for each snapshot; those of
        an older snapshot are let go of.

        Raises:
            SnapshotError: the snapshot was built before there were episodes.
        """
        if snapshot.path is None:
            return Experience([], {})
        key = (snapshot.path, user_id)
        with self._mutex:
            if (known := self._kept.get(key)) is not None:
                return known
        episodes = self._read(snapshot, user_id)
        with self._mutex:
            for old in [one for one in self._kept if one[0] != snapshot.path]:
                del self._kept[old]
            if episodes.bytes <= self._kept.maxsize:
                self._kept[key] = episodes
        return episodes

    def _read(self, snapshot: Snapshot, user_id: str | None) -> Experience:
        try:
            found = snapshot.cursor().execute(_STATEMENT, {"user_id": user_id}).fetchall()
        except duckdb.CatalogException as error:
            raise SnapshotError(
                f"The published snapshot {snapshot.path} has no episodes. Build them with `mnemoduck run`."
            ) from error
        rows = [(Episode(*row[:-4]), *row[-4:]) for row in found]
        tasks = list(dict.fromkeys(row[0].task for row in rows))
        terms = dict(zip(tasks, read_terms(self._asker, tasks), strict=True))
        return Experience(rows, terms)


def _moments(moments: Sequence[datetime | None]) -> NDArray[np.datetime64]:
    return np.array(moments, dtype="datetime64[us]")
