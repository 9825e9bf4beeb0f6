"""A generated stream of events: what agents and their users would have sent in three years.

It is made of shares and tables of quantiles, all of them below, and of nothing that depends on the
machine or on the version of a library: a draw is a hash (SplitMix64) of the seed, of what is drawn and
of the number of the memory. So the same number of memories and the same seed give the same bytes.

Users      sqrt(memories / 40) of them, since both grow: the users, and what each has said. Their shares
           fall as 1 / (rank + 3): of 158 users (at 1M) the busiest writes 6 %.
Sessions   2 to 60 turns, in waking hours, user and assistant in turns, one in nine of the assistant's a
           tool's. A session is about a topic of its user's; one in a hundred is interrupted for an hour.
Texts      5 to 40 words in sentences, of a vocabulary that follows Zipf's law; three in ten words are of
           the topic, which is what makes concepts meet.
Repeats    2 % say what the same user said before, word for word; 2 % almost: a word dropped, a word
           added, or other punctuation.
Arrival    1 % of the sessions are heard of late, by an hour to sixty days.
Facts      1 % of the memories state a fact (subject, predicate, object).
Recalls    2 % as many as memories: one to five neighbours, rather recent ones (age cubed).
Forgets    0.05 % as many: one to three memories by name, or one time in twenty a whole session.

A stream has three parts, each a percent or all of what was asked for:

base       memories of 36 months, with their recalls and forgets
newest     1 % more in the days that follow, with recalls and forgets
late       1 % more that were missed: runs of four turns in sessions of the base, all over the past,
           heard of after `newest`

Cost: 10 seconds for a million memories on two cores (430 MB of JSON lines), with 0.7 GB of memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.vocabulary import FUNCTION_WORDS, VOCABULARY, words

Numbers: TypeAlias = NDArray[np.int64]

BASE, NEWEST, LATE = "base", "newest", "late"
PARTS = (BASE, NEWEST, LATE)


@dataclass(frozen=True)
class Shape:
    """The time that the base lies in, and shares that a test may want to be higher than life has them."""

    first_day: datetime = datetime(2023, 1, 1, tzinfo=UTC)
    last_day: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    newest: float = 0.01
    late: float = 0.01
    exact_repeats: float = 0.02
    near_repeats: float = 0.02
    late_sessions: float = 0.01
    facts: float = 0.01
    recalls: float = 0.02
    forgets: float = 0.0005
    whole_session_forgets: float = 0.05
    """Of the forgets."""


LIFELIKE = Shape()

INTERRUPTED_SESSIONS = 0.01
TOPIC_WORDS = 0.3
TOOL_TURNS = 0.11
RATED = 0.1
"""Of the memories: their importance is the caller's."""

# Quantiles at equal distances, straight lines between them.
WORDS_IN_A_TEXT = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 27, 31, 36, 41)
TURNS_IN_A_SESSION = (2, 3, 4, 4, 5, 6, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 21, 25, 31, 42, 61)
SECONDS_BETWEEN_TURNS = (3, 5, 8, 11, 15, 20, 26, 33, 42, 55, 75, 100, 140, 200, 290, 420, 600)
HOURS_OF_DELAY = (1, 3, 8, 20, 48, 120, 300, 700, 1440)

TOPICS = 1_000
TOPICS_OF_A_USER = 8
WORDS_OF_A_TOPIC = 40
SENTENCE_WORDS = 14
AGENTS = 5
LATE_RUN = 4

PREDICATES = ("lives in", "works at", "likes", "owns", "prefers", "speaks", "plans", "is allergic to")

EVENTS_IN_A_SEGMENT = 100_000

_DAY = 86_400_000_000  # microseconds, as all times here
_SECOND = 1_000_000


@dataclass
class Stream:
    """Segments of JSON lines for each part, in the order in which they were heard of."""

    memories: int
    segments: dict[str, list[Path]] = field(default_factory=lambda: {part: [] for part in PARTS})
    memory_counts: dict[str, int] = field(default_factory=dict)
    event_counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))


def generate(memories: int, folder: Path, seed: int = 1, shape: Shape = LIFELIKE) -> Stream:
    """Write the stream of `memories` memories (at least 100) to a folder and return where it is.

    Segments are sealed segments of an inbox but for their names: `mnemoduck ingest` reads them, and so does
    the loader of a home that they are put into.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = _Plan.draw(memories, seed, shape)
    counts = {part: last - first for part, (first, last) in plan.parts.items()}
    stream = Stream(memories, memory_counts=counts)
    connection = duckdb.connect()
    for part in PARTS:
        for chunk, (low, high) in enumerate(_chunks(*plan.parts[part])):
            path = folder / f"{part}-{chunk:05}.jsonl"
            events = _events(plan, part, low, high)
            connection.register("memories", events["memory"])
            connection.register("recalls", events["recall"])
            connection.register("forgets", events["forget"])
            row = connection.execute(_WRITE.format(path=str(path).replace("'", "''"))).fetchone()
            assert row is not None
            stream.event_counts[part] += row[0]
            stream.segments[part].append(path)
    return stream


def _chunks(first: int, last: int) -> Iterator[tuple[int, int]]:
    for low in range(first, last, EVENTS_IN_A_SEGMENT):
        yield low, min(last, low + EVENTS_IN_A_SEGMENT)


_TIME = "strftime(make_timestamp({0}), '%Y-%m-%dT%H:%M:%S.%fZ') as {0}"
_ENVELOPE = f"""
    {_TIME.format("occurred_at")}, {_TIME.format("recorded_at")}, user_id, agent_id, session_id
"""
_WRITE = f"""
    copy (
        select * exclude (place) from (
            select
                event_id, 'memory' as event_type, {_ENVELOPE},
                cast(concat(
                    '{{{{"content":', to_json(content), ',"role":"', role, '"',
                    if(memory_type = 'episodic', '', concat(',"memory_type":"', memory_type, '"')),
                    ',"importance":' || importance,
                    if(fact_object is null, '', ',"facts":[' || to_json({{{{
                        'subject': user_id, 'predicate': fact_predicate, 'object': fact_object
                    }}}}) || ']'),
                    '}}}}'
                ) as json) as payload,
                place
            from memories
            union all
            select
                event_id, 'recall', {_ENVELOPE},
                to_json({{{{'memory_ids': memory_ids, 'query': query}}}}), place
            from recalls
            union all
            select
                event_id, 'forget', {_ENVELOPE},
                if(
                    is_whole_scope,
                    to_json({{{{'is_whole_scope': true, 'reason': 'asked to'}}}}),
                    to_json({{{{'memory_ids': memory_ids, 'reason': 'asked to'}}}})
                ),
                place
            from forgets
        )
        order by place, event_id
    ) to '{{path}}' (format json)
"""


class _Dice:
    """Draws that depend on the seed, on what is drawn and on a number, and on nothing else."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def bits(self, what: str, numbers: Numbers) -> NDArray[np.uint64]:
        """SplitMix64 (Steele, Lea & Flood 2014) of the numbers, from a state of its own for each purpose."""
        state = int.from_bytes(hashlib.sha256(f"{self._seed}:{what}".encode()).digest()[:8], "big")
        mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        return mixed

    def roll(self, what: str, numbers: Numbers) -> NDArray[np.float64]:
        """Uniform in [0, 1)."""
        return (self.bits(what, numbers) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def pick(self, what: str, numbers: Numbers, below: int | Numbers) -> Numbers:
        """Whole numbers from 0 to `below` - 1."""
        return (self.roll(what, numbers) * below).astype(np.int64)

    def quantile(self, what: str, numbers: Numbers, table: tuple[int, ...]) -> NDArray[np.float64]:
        place = self.roll(what, numbers) * (len(table) - 1)
        return np.interp(place, np.arange(len(table)), np.array(table, dtype=np.float64))


def _falling(count: int, shift: float) -> NDArray[np.float64]:
    """Cumulated shares of ranks whose frequency falls as 1 / (rank + shift)."""
    cumulated = np.cumsum(1.0 / (np.arange(1, count + 1) + shift))
    return np.asarray(cumulated / cumulated[-1])


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp()) * _SECOND


@dataclass(frozen=True)
class _Plan:
    """Who says what when: an array element for each memory, its number being its index."""

    dice: _Dice
    shape: Shape
    parts: dict[str, tuple[int, int]]
    user: Numbers
    agent: Numbers
    session: Numbers
    topic: Numbers
    turn: Numbers
    occurred_at: Numbers
    recorded_at: Numbers
    text: Numbers
    """The memory whose words are said: its own number, or that of an earlier memory of the user."""
    repeat: NDArray[np.int8]
    """0 for new words, 1 for the same words again, 2 for almost the same."""
    of_user: Numbers
    """The numbers of all memories, those of each user together and in their order."""
    first_of_user: Numbers
    place_of_user: Numbers
    """How many memories of the same user come before, in `of_user`."""

    @classmethod
    def draw(cls, memories: int, seed: int, shape: Shape) -> _Plan:
        dice = _Dice(seed)
        users = max(8, math.isqrt(memories // 40))
        new, late = max(1, round(memories * shape.newest)), max(1, round(memories * shape.late))
        parts = {
            BASE: (0, memories),
            NEWEST: (memories, memories + new),
            LATE: (memories + new, memories + new + late),
        }
        base_sessions, turns = _sessions(dice, 0, memories)
        sessions = base_sessions
        new_sessions, new_turns = _sessions(dice, sessions, new)
        first, last = _microseconds(shape.first_day), _microseconds(shape.last_day)

        # What is said in order: each session's turns, one after the other.
        turns = np.concatenate([turns, new_turns])
        numbers = np.arange(memories + new)
        session = np.repeat(np.arange(sessions + new_sessions), turns)
        starts = np.cumsum(turns) - turns
        turn = numbers - starts[session]
        gaps = (dice.quantile("gap", numbers, SECONDS_BETWEEN_TURNS) * _SECOND).astype(np.int64)
        every = np.arange(sessions + new_sessions)
        pause_turn = 1 + dice.pick("pause turn", every, 12)
        has_pause = dice.roll("pause", every) < INTERRUPTED_SESSIONS
        gaps += np.where(has_pause[session] & (turn == pause_turn[session]), 3_600 * _SECOND, 0)
        waited = np.cumsum(gaps)
        began = (every + dice.roll("start", every)) * ((last - first - _DAY) / sessions)
        began += np.where(every >= sessions, _DAY, 0)  # the last session of the base ends before `newest`
        day, rest = np.divmod(began.astype(np.int64), _DAY)
        began = first + day * _DAY + 7 * _DAY // 24 + rest * 16 // 24  # from 7 to 23 o'clock
        occurred = began[session] + waited - waited[starts[session]]
        is_base = numbers < memories
        delay = (dice.quantile("delay", every, HOURS_OF_DELAY) * 3_600 * _SECOND).astype(np.int64)
        delay = np.where(dice.roll("is late", every) < shape.late_sessions, delay, 0)
        ends = np.where(is_base, last, np.int64(0))
        ends[~is_base] = occurred[~is_base].max() + 60 * _SECOND
        prompt = occurred + 200_000 + dice.pick("latency", numbers, 2 * _SECOND)
        recorded = np.maximum(prompt, np.minimum(occurred + delay[session], ends))

        user = np.searchsorted(_falling(users, 3.0), dice.roll("user", every), side="right")
        topic_choice = user * TOPICS_OF_A_USER + dice.pick("topic", every, TOPICS_OF_A_USER)
        topic = dice.pick("topic of user", topic_choice, TOPICS)
        agent = (user + np.where(dice.roll("other agent", every) < 0.2, 1, 0)) % AGENTS

        # What was missed: runs of turns in sessions of the base.
        late_numbers = np.arange(late)
        run = late_numbers // LATE_RUN
        anchor = dice.pick("late", run, memories)
        late_session = session[anchor]
        late_occurred = occurred[anchor] + (1 + late_numbers % LATE_RUN) * 2 * _SECOND + 7
        late_recorded = recorded.max() + _SECOND + late_numbers * 1_000
        session = np.concatenate([session, late_session])
        turn = np.concatenate([turn, turn[anchor] + 1 + late_numbers % LATE_RUN])
        user, topic, agent = user[session], topic[session], agent[session]

        of_user = np.argsort(user, kind="stable")
        counts = np.bincount(user, minlength=users)
        first_of_user = np.cumsum(counts) - counts
        place = np.empty_like(of_user)
        place[of_user] = np.arange(len(of_user)) - first_of_user[user[of_user]]

        everything = np.arange(len(user))
        source = of_user[first_of_user[user] + dice.pick("source", everything, np.maximum(place, 1))]
        chance, exact = dice.roll("repeat", everything), shape.exact_repeats
        repeat = np.where(chance < exact, 1, np.where(chance < exact + shape.near_repeats, 2, 0))
        # Nothing to repeat at first; and what is repeated was new, so that it has been said.
        repeat = np.where((place == 0) | (repeat[source] != 0), 0, repeat).astype(np.int8)
        return cls(
            dice=dice,
            shape=shape,
            parts=parts,
            user=user,
            agent=agent,
            session=session,
            topic=topic,
            turn=turn,
            occurred_at=np.concatenate([occurred, late_occurred]),
            recorded_at=np.concatenate([recorded, late_recorded]),
            text=np.where(repeat > 0, source, everything),
            repeat=repeat,
            of_user=of_user,
            first_of_user=first_of_user,
            place_of_user=place,
        )

    def earlier(self, numbers: Numbers, back: Numbers) -> Numbers:
        """Return the memories that their user had so many memories before (at most the user's first)."""
        place = np.maximum(self.place_of_user[numbers] - back, 0)
        return np.asarray(self.of_user[self.first_of_user[self.user[numbers]] + place])


def _sessions(dice: _Dice, first_session: int, memories: int) -> tuple[int, Numbers]:
    """Return the turns of so many sessions as it takes; the last one breaks off."""
    numbers = np.arange(first_session, first_session + memories // TURNS_IN_A_SESSION[0] + 1)
    turns = dice.quantile("turns", numbers, TURNS_IN_A_SESSION).astype(np.int64)
    total = np.cumsum(turns)
    count = int(np.searchsorted(total, memories)) + 1
    turns = turns[:count]
    turns[-1] -= total[count - 1] - memories
    return count, turns


def _events(plan: _Plan, part: str, low: int, high: int) -> dict[str, pa.Table]:
    """Return the events of the memories from `low` to `high` as tables, one for each type."""
    numbers = np.arange(low, high)
    recalls = numbers[plan.dice.roll("recall", numbers) < plan.shape.recalls]
    forgets = numbers[plan.dice.roll("forget", numbers) < plan.shape.forgets]
    if part == LATE:
        recalls, forgets = recalls[:0], forgets[:0]
    elif low == plan.parts[part][0] and not len(forgets):
        forgets = numbers[-1:]
    return {
        "memory": _memories(plan, numbers),
        "recall": _recalls(plan, recalls),
        "forget": _forgets(plan, forgets),
    }


def _memories(plan: _Plan, numbers: Numbers) -> pa.Table:
    dice = plan.dice
    role = np.where(
        plan.turn[numbers] % 2 == 0,
        "user",
        np.where(dice.roll("tool", numbers) < TOOL_TURNS, "tool", "assistant"),
    )
    kind = np.array(["episodic"] * 17 + ["semantic"] * 2 + ["procedural"])[dice.pick("type", numbers, 20)]
    is_rated = dice.roll("rated", numbers) < RATED
    states = dice.roll("fact", numbers) < plan.shape.facts
    predicate = np.array(PREDICATES)[dice.pick("predicate", numbers, len(PREDICATES))]
    thing = _topic_words(dice, plan.topic[numbers], dice.pick("object", numbers, WORDS_OF_A_TOPIC))
    return _envelope(plan, numbers, "memory").append_column(
        "content", _texts(plan, numbers)
    ).append_column(
        "role", pa.array(role)
    ).append_column(
        "memory_type", pa.array(kind)
    ).append_column(
        "importance", pa.array(dice.pick("importance", numbers, 101) / 100, mask=~is_rated)
    ).append_column(
        "fact_predicate", pa.array(predicate)
    ).append_column(
        "fact_object", pc.if_else(pa.array(states), pa.array(words()).take(pa.array(thing)), None)
    )  # fmt: skip


def _recalls(plan: _Plan, numbers: Numbers) -> pa.Table:
    """Each turn that recalls something names memories that lie together, rather recent ones."""
    dice = plan.dice
    age = (plan.place_of_user[numbers] * dice.roll("age", numbers) ** 3).astype(np.int64)
    focus = plan.earlier(numbers, age)
    counts = 1 + dice.pick("recalled", numbers, 5)
    position = _positions(counts)
    around = np.repeat(focus, counts)
    named = plan.earlier(around, position * (1 + np.repeat(dice.pick("stride", numbers, 4), counts)))
    queries = _words(plan, focus, np.full(len(focus), 3))
    return (
        _envelope(plan, numbers, "recall")
        .append_column("memory_ids", _lists(_memory_ids(plan, named), counts))
        .append_column("query", _join(pa.array(words()).take(pa.array(queries)), np.full(len(focus), 3)))
    )


def _forgets(plan: _Plan, numbers: Numbers) -> pa.Table:
    dice = plan.dice
    counts = 1 + dice.pick("forgotten", numbers, 3)
    age = dice.pick("age of forgotten", numbers, plan.place_of_user[numbers] + 1)
    named = plan.earlier(np.repeat(plan.earlier(numbers, age), counts), _positions(counts))
    return (
        _envelope(plan, numbers, "forget")
        .append_column("memory_ids", _lists(_memory_ids(plan, named), counts))
        .append_column(
            "is_whole_scope", pa.array(dice.roll("whole", numbers) < plan.shape.whole_session_forgets)
        )
    )


def _envelope(plan: _Plan, numbers: Numbers, event_type: str) -> pa.Table:
    """Return the columns that all events have; those that are no memory happen just after one."""
    after = {"memory": 0, "recall": 50_000, "forget": 90_000}[event_type]
    recorded_at = plan.recorded_at[numbers] + after
    is_memory = event_type == "memory"
    event_ids = (
        _memory_ids(plan, numbers) if is_memory else _event_ids(plan.dice, event_type, numbers, recorded_at)
    )
    return pa.table(
        {
            "event_id": event_ids,
            "occurred_at": pa.array(plan.occurred_at[numbers] if is_memory else recorded_at),
            "recorded_at": pa.array(recorded_at),
            "user_id": _named("user", plan.user[numbers]),
            "agent_id": _named("agent", plan.agent[numbers]),
            "session_id": _named("session", plan.session[numbers]),
            "place": pa.array(numbers * 3 + ("memory", "recall", "forget").index(event_type)),
        }
    )


def _named(what: str, numbers: Numbers) -> Any:
    return pc.binary_join_element_wise(what, pc.cast(pa.array(numbers), pa.string()), "-")


def _memory_ids(plan: _Plan, numbers: Numbers) -> Any:
    return _event_ids(plan.dice, "memory", numbers, plan.recorded_at[numbers])


_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_PLACES = np.array([place for place in range(36) if place not in (8, 13, 18, 23)])


def _event_ids(dice: _Dice, event_type: str, numbers: Numbers, recorded_at: Numbers) -> Any:
    """Return UUIDs of version 7 (RFC 9562) as texts."""
    version, variant = np.uint64(0x7 << 12), np.uint64(0x2 << 62)
    high = (recorded_at // 1_000).astype(np.uint64) << np.uint64(16)
    high |= version | (dice.bits(f"{event_type} id a", numbers) & np.uint64(0xFFF))
    low = variant | (dice.bits(f"{event_type} id b", numbers) & np.uint64(2**62 - 1))
    octets = np.column_stack([high, low]).astype(">u8").view(np.uint8).reshape(-1, 16)
    text = np.full((len(numbers), 36), ord("-"), dtype=np.uint8)
    text[:, _PLACES[0::2]] = _HEX[octets >> 4]
    text[:, _PLACES[1::2]] = _HEX[octets & 15]
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(36), len(numbers), [None, pa.py_buffer(np.ascontiguousarray(text))]
    ).cast(pa.binary()).cast(pa.string())  # fmt: skip


def _positions(counts: Numbers) -> Numbers:
    """Return 0, 1, 2, … within each group of so many."""
    return np.asarray(np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts))


def _lists(values: Any, counts: Numbers) -> Any:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _join(values: Any, counts: Numbers) -> Any:
    return pc.binary_join(_lists(values, counts), " ")


_ZIPF = _falling(VOCABULARY, 2.7)
_ZIPF_OF_TOPIC = _falling(WORDS_OF_A_TOPIC, 2.0)


def _lengths(dice: _Dice, texts: Numbers) -> Numbers:
    return dice.quantile("words", texts, WORDS_IN_A_TEXT).astype(np.int64)


def _topic_words(dice: _Dice, topics: Numbers, ranks: Numbers) -> Numbers:
    """Return the word of a rank in a topic: a content word, neither too frequent nor too rare."""
    spread = dice.roll("word of topic", topics * WORDS_OF_A_TOPIC + ranks)
    span = VOCABULARY // 5 - len(FUNCTION_WORDS)
    return np.asarray(len(FUNCTION_WORDS) + (spread * span).astype(np.int64))


def _words(plan: _Plan, texts: Numbers, counts: Numbers, positions: Numbers | None = None) -> Numbers:
    """Return words (their ranks) of texts, all in one row: the first `counts` or those at `positions`."""
    positions = _positions(counts) if positions is None else positions
    owner = np.repeat(texts, counts)
    key = owner * 64 + positions
    common = np.searchsorted(_ZIPF, plan.dice.roll("word", key), side="right")
    ranks = np.searchsorted(_ZIPF_OF_TOPIC, plan.dice.roll("topic word", key), side="right")
    topical = _topic_words(plan.dice, plan.topic[owner], ranks)
    return np.where(plan.dice.roll("is topical", key) < TOPIC_WORDS, topical, common)


def _texts(plan: _Plan, numbers: Numbers) -> Any:
    """Return what the memories say.

    A word has one of five spellings: plain, with a capital, before a comma, before a full stop, and before an
    exclamation mark.
    """
    dice, sources, repeat = plan.dice, plan.text[numbers], plan.repeat[numbers]
    lengths = _lengths(dice, sources)
    change = np.where(repeat == 2, dice.pick("change", numbers, 3), -1)
    dropped, added, punctuated = change == 0, change == 1, change == 2
    at = 1 + dice.pick("changed word", numbers, lengths - 2)
    counts = lengths - dropped + added

    # Positions in the source's text; of an added word, one that no text reaches.
    each = _positions(counts)
    at_each = np.repeat(at, counts)
    positions = each + np.where(np.repeat(dropped, counts) & (each >= at_each), 1, 0)
    is_added = np.repeat(added, counts) & (each == at_each)
    positions -= np.where(np.repeat(added, counts) & (each > at_each), 1, 0)
    positions = np.where(is_added, 63, positions)
    ranks = _words(plan, sources, counts, positions)

    # Punctuation belongs to the source's words, so that a changed word leaves the rest as it was.
    key = np.repeat(sources, counts) * 64 + positions
    mark = dice.roll("mark", key)
    left = np.repeat(counts, counts) - each - 1
    ends = (left == 0) | ((mark < 1 / SENTENCE_WORDS) & (each > 1) & (left > 2))
    other = np.repeat(punctuated, counts)
    comma = ((mark > 0.94) | (other & (mark > 0.75))) & ~ends
    starts = np.concatenate([[True], ends[:-1]])
    spelling = np.where((left == 0) & other, 4, np.where(ends, 3, np.where(comma, 2, np.where(starts, 1, 0))))
    return _join(_spellings().take(pa.array(ranks * 5 + spelling)), counts)


def _spellings() -> Any:
    return pa.array(
        [text for word in words() for text in (word, word.capitalize(), f"{word},", f"{word}.", f"{word}!")]
    )
