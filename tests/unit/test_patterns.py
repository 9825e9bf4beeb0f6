"""Patterns of episodes against a miner that tries everything, and their statistics against plain sums."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pattern_layer import MODELS, Episode, PatternLayer

START = datetime(2026, 1, 1)
LATER = START + timedelta(days=400)
LAYER = PatternLayer(pattern_min_support=2, pattern_max_calls=10)

calls = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, None, None, "no such thing"])), max_size=12)


@st.composite
def episodes(draw: st.DrawFn, number: int) -> Episode:
    made = draw(calls)
    return Episode(
        episode_id=f"e{number}",
        tools=tuple(tool for tool, _ in made),
        errors=tuple(error for _, error in made),
        is_success=draw(st.booleans()),
        completed_at=START + timedelta(days=draw(st.integers(0, 90)), minutes=number),
        task=draw(st.sampled_from(["one", "two", "three"])),
        user_id=draw(st.sampled_from([None, "ada"])),
        domain=draw(st.sampled_from(["", "retail"])),
        context=draw(st.sampled_from(["{}", '{"model": "small", "nested": {"a": 1}, "tries": 2}'])),
    )


stories = st.integers(1, 9).flatmap(lambda count: st.tuples(*(episodes(number) for number in range(count))))


@pytest.fixture
def layer() -> PatternLayer:
    LAYER.clear()
    return LAYER


# --- what is mined ---------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(story=stories)
def test_patterns_are_those_of_a_miner_that_tries_everything(story: tuple[Episode, ...]) -> None:
    LAYER.clear()
    LAYER.arrive(story)
    LAYER.build()
    expected = {
        (one.user_id, one.domain, kind, pattern, one.episode_id)
        for one in story
        for kind, pattern in mined(one, most_calls=10)
    }
    found = LAYER.connection.execute(
        "select user_id, domain, kind, pattern, episode_id from int_pattern_occurrences where kind <> 'comparison'"
    ).fetchall()
    assert len(found) == len(expected)
    assert {(*row[:3], tuple(row[3]), row[4]) for row in found} == expected

    shown: dict[tuple[Any, ...], list[Episode]] = defaultdict(list)
    for user, domain, kind, pattern, name in expected:
        shown[user, domain, kind, pattern].append(next(one for one in story if one.episode_id == name))
    frequent = {key: len(who) for key, who in shown.items() if len(who) >= 2}
    closed = {
        (*key, support, sum(one.is_success for one in shown[key]), len({one.task for one in shown[key]}))
        for key, support in frequent.items()
        if not any(
            key[:3] == other[:3] and support == count and is_contained(key[3], other[3])
            for other, count in frequent.items()
            if key[2] == "tool_sequence"
        )
    }
    told = LAYER.patterns(LATER, "user_id, domain, kind, steps, support, success_count, task_count")
    assert {(*row[:3], tuple(row[3]), *row[4:]) for row in told} == closed
    assert len(told) == len(closed)


def mined(episode: Episode, *, most_calls: int) -> set[tuple[str, tuple[str, ...]]]:
    """Return the patterns of an episode, by going through all of its calls in plain loops."""
    tools, errors = episode.tools[:most_calls], episode.errors[:most_calls]
    is_cut = len(episode.tools) > most_calls
    found: set[tuple[str, tuple[str, ...]]] = set()
    runs = [tool for tool, _ in itertools.groupby(tools)]
    for length in range(2, 7):
        for places in itertools.combinations(range(len(runs)), length):
            sequence = tuple(runs[place] for place in places)
            if all(b - a <= 2 for a, b in itertools.pairwise(places)) and all(
                a != b for a, b in itertools.pairwise(sequence)
            ):
                found.add(("tool_sequence", sequence))
    for place in range(len(tools) + 1):
        if place == len(tools) and is_cut:
            continue
        chosen = tools[place] if place < len(tools) else "$"
        before = tools[place - 1] if place else "^"
        state = "began" if not place else "worked" if errors[place - 1] is None else "failed"
        found.add(("decision", (before, state, chosen)))
    for place, error in enumerate(errors):
        if error is not None:
            worked = [tool for tool, other in zip(tools, errors, strict=True) if other is None]
            after = [tool for tool, other in zip(tools[place:], errors[place:], strict=True) if other is None]
            assert set(after) <= set(worked)
            later = "worked later" if tools[place] in after else "never worked"
            found.add(("error_recovery", (tools[place], error, after[0] if after else "$", later)))
    features = {"uses": set(tools), "first tool": set(tools[:1]), "last tool": set(tools[-1:])}
    failed = sum(error is not None for error in episode.errors)
    features["calls"] = {binned(len(episode.tools), [(0, "0"), (2, "1 to 2"), (5, "3 to 5"), (10, "6 to 10"), (20, "11 to 20")])}
    features["failed calls"] = {binned(failed, [(0, "0"), (1, "1"), (3, "2 to 3"), (99, "over 3")])}
    features["repeated calls"] = {"0"}
    if episode.context != "{}":
        features |= {"context.model": {"small"}, "context.tries": {"2"}}
    return found | {("context", (name, value)) for name, values in features.items() for value in values}


def binned(count: int, bins: list[tuple[int, str]]) -> str:
    return next(name for most, name in bins if count <= most)


def is_contained(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    """Return whether a sequence is what is left of a longer one, with at most one left out between two."""
    return len(part) < len(whole) and any(
        tuple(whole[place] for place in places) == part and all(b - a <= 2 for a, b in itertools.pairwise(places))
        for places in itertools.combinations(range(len(whole)), len(part))
    )


# --- order and batches -----------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(story=stories, data=st.data())
def test_any_order_and_batching_gives_what_a_full_refresh_gives(story: tuple[Episode, ...], data: st.DataObject) -> None:
    LAYER.clear()
    order = data.draw(st.permutations(story))
    # Some are known at first as they were before their last steps came, or under another domain.
    first = [
        replace(one, tools=one.tools[:2], errors=one.errors[:2], domain=data.draw(st.sampled_from([one.domain, "early"])))
        for one in order
        if data.draw(st.booleans())
    ]
    forgotten = data.draw(st.sampled_from([None, order[0]]))
    batches = [first, order[: len(order) // 2], order[len(order) // 2 :]]
    if forgotten is not None:
        batches.append([replace(forgotten, columns={"forgotten_at": LATER})])
    for batch in batches:
        LAYER.arrive(batch)
        if data.draw(st.booleans()):
            LAYER.build()
    LAYER.build()
    built = [LAYER.rows(model) for model in MODELS]
    told = LAYER.patterns(LATER)
    assert LAYER.build() == 0
    LAYER.build(full_refresh=True)
    assert built == [LAYER.rows(model) for model in MODELS]
    assert told == LAYER.patterns(LATER)


@settings(max_examples=8, deadline=None)
@given(story=stories, day=st.integers(0, 95))
def test_the_past_is_the_same_whatever_came_later(story: tuple[Episode, ...], day: int) -> None:
    moment = START + timedelta(days=day)
    LAYER.clear()
    LAYER.arrive(story)
    LAYER.build()
    with_a_future = LAYER.patterns(moment)
    LAYER.clear()
    LAYER.arrive(one for one in story if one.completed_at <= moment)
    LAYER.build()
    assert with_a_future == LAYER.patterns(moment)
