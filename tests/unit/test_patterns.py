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

from .pattern_layer import MODELS, Episode, PatternLayer

START = datetime(2026, 1, 1)
LATER = START + timedelta(days=400)
LAYER = PatternLayer(pattern_min_support=2, pattern_max_calls=10)

calls = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([None, None, None, "no such thing"])), max_size=12
)


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


@settings(max_examples=6, deadline=None)
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
    found = LAYER.shown()
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
    features["calls"] = {
        binned(
            len(episode.tools), [(0, "0"), (2, "1 to 2"), (5, "3 to 5"), (10, "6 to 10"), (20, "11 to 20")]
        )
    }
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
        tuple(whole[place] for place in places) == part
        and all(b - a <= 2 for a, b in itertools.pairwise(places))
        for places in itertools.combinations(range(len(whole)), len(part))
    )


# --- order and batches -----------------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(story=stories, data=st.data())
def test_any_order_and_batching_gives_what_a_full_refresh_gives(
    story: tuple[Episode, ...], data: st.DataObject
) -> None:
    LAYER.clear()
    order = data.draw(st.permutations(story))
    # Some are known at first as they were before their last steps came, or under another domain.
    first = [
        replace(
            one,
            tools=one.tools[:2],
            errors=one.errors[:2],
            domain=data.draw(st.sampled_from([one.domain, "early"])),
        )
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


@settings(max_examples=6, deadline=None)
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


def test_an_episode_whose_steps_come_late_leaves_the_patterns_that_it_no_longer_shows(
    layer: PatternLayer,
) -> None:
    early = Episode("e1", ("a", "b"), (None, None), True, START)
    other = Episode("e2", ("a", "b", "e"), (None,) * 3, False, START)
    layer.arrive([early, other])
    layer.build()
    counted = "select pattern, episode_count from int_pattern_periods where kind = 'tool_sequence'"
    assert layer.connection.execute(counted).fetchall() == [(["a", "b"], 2)]
    layer.arrive([replace(early, tools=("a", "c", "d", "b"), errors=(None,) * 4)])
    layer.build()
    now = ["ac", "acb", "acd", "acdb", "ad", "adb", "cb", "cd", "cdb", "db"]
    assert [row[3] for row in layer.shown() if row[2] == "tool_sequence" and row[4] == "e1"] == sorted(
        list(pattern) for pattern in now
    )
    assert layer.connection.execute(counted).fetchall() == []


def test_nothing_is_left_of_an_episode_that_is_forgotten(layer: PatternLayer) -> None:
    one = Episode("e1", ("a", "b"), (None, "no such thing"), True, START, user_id="ada")
    alike = replace(one, episode_id="e2")
    layer.arrive([one, alike])
    layer.build()
    assert layer.rows("int_pattern_periods")
    layer.arrive([replace(one, columns={"forgotten_at": LATER})])
    layer.build()
    assert layer.rows("int_pattern_periods") == []
    assert layer.rows("int_pattern_histories")
    layer.arrive([replace(alike, columns={"forgotten_at": LATER})])
    layer.build()
    assert layer.rows("int_pattern_histories") == []
    left = layer.connection.execute(
        "select distinct history_key, user_id, episode_id, task_key, domain, completed_at "
        "from int_pattern_episodes"
    ).fetchall()
    assert left == [(None, None, None, None, "", None)]


def test_of_a_long_episode_the_first_calls_are_mined_and_patterns_say_so(layer: PatternLayer) -> None:
    tools = tuple("ab" * 5 + "cd")
    layer.arrive(Episode(f"e{number}", tools, (None,) * 12, True, START) for number in range(2))
    layer.build()
    told = layer.patterns(LATER, "steps, cut_count", "kind in ('tool_sequence', 'decision')")
    assert told
    assert all(cut_count == 2 for _, cut_count in told)
    assert not {"c", "d", "$"} & {step for steps, _ in told for step in steps}


@pytest.mark.parametrize(
    "context", ["[1, 2]", "no json", "null", '{"a": {"b": 1}, "c": null, "d": [1]}', '"text"']
)
def test_circumstances_that_say_nothing_plain_have_no_features(layer: PatternLayer, context: str) -> None:
    layer.arrive([Episode("e1", (), (), True, START, context=context)])
    layer.build()
    found = [row[3][0] for row in layer.shown() if row[2] == "context"]
    assert found == ["calls", "failed calls", "repeated calls"]


# --- what is believed ------------------------------------------------------------------------------------


def test_users_and_domains_are_counted_apart(layer: PatternLayer) -> None:
    for user in (None, "ada"):
        for domain in ("", "retail"):
            layer.arrive(
                Episode(
                    f"{domain}{number}",
                    ("a", "b"),
                    (None, None),
                    user is None,
                    START,
                    user_id=user,
                    domain=domain,
                )
                for number in range(3)
            )
    layer.build()
    told = layer.patterns(
        LATER, "user_id, domain, support, success_rate", "pattern = 'a → b' and kind = 'tool_sequence'"
    )
    assert told == [
        ("ada", "", 3, 0.0),
        ("ada", "retail", 3, 0.0),
        (None, "", 3, 1.0),
        (None, "retail", 3, 1.0),
    ]


def test_a_decision_is_compared_with_the_other_choices_in_the_same_situation(layer: PatternLayer) -> None:
    good, bad = (("start", "right"), True), (("start", "wrong"), False)
    elsewhere = (("other", "right"), False)
    layer.arrive(
        Episode(f"e{number}", tools, (None, None), success, START)
        for number, (tools, success) in enumerate([good] * 6 + [bad] * 6 + [elsewhere] * 20)
    )
    layer.build()
    ((support, base_rate, p_value, confidence, low, high, examples),) = layer.patterns(
        START,
        "support, base_rate, p_value, confidence, confidence_low, confidence_high, examples",
        "pattern = 'start → right' and kind = 'decision'",
    )
    assert support == 6
    assert base_rate == pytest.approx((6 + 1) / (12 + 2))
    assert p_value == pytest.approx(2 / math.comb(12, 6))
    assert confidence == pytest.approx((2 + 6) / (4 + 6))
    assert (low, high) == pytest.approx((beta_quantile(0.025, 8, 2), beta_quantile(0.975, 8, 2)), abs=1e-4)
    assert examples == ["e5", "e4"]


def test_evidence_fades_with_each_period_and_feedback_counts_as_of_its_own(layer: PatternLayer) -> None:
    layer.arrive(Episode(f"e{number}", ("a", "b"), (None, None), number < 2, START) for number in range(4))
    layer.build()
    ((pattern_id, before),) = layer.patterns(
        START, "pattern_id, confidence", "pattern = 'a → b' and kind = 'tool_sequence'"
    )
    assert before == pytest.approx((4 * 0.5 + 2) / (4 + 4))

    sql = layer.macro("confidence_period", f"timestamp '{START}'")
    period = layer.connection.execute(f"select {sql}").fetchone()
    assert period is not None
    moment = datetime(1970, 1, 1) + timedelta(days=30 * (period[0] + 10), hours=1)
    for user, is_success in ((None, True), (None, True), ("eve", False)):
        layer.connection.execute(
            "insert into stg_feedback values (?, ?, ?, ?)", [pattern_id, user, is_success, moment]
        )
    ((support, feedback, confidence),) = layer.patterns(
        moment, "support, feedback_count, confidence", "pattern = 'a → b' and kind = 'tool_sequence'"
    )
    faded = 0.95**10
    base = (2 * faded + 1) / (4 * faded + 2)
    assert (support, feedback) == (4, 2)
    assert confidence == pytest.approx((4 * base + 2 * faded + 2) / (4 + 4 * faded + 2), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(a=st.floats(0.5, 2000), b=st.floats(0.5, 2000))
def test_the_interval_is_that_of_numeric_integration(a: float, b: float) -> None:
    low, high = LAYER.macro("beta_lower_bound", "a", "b"), LAYER.macro("beta_lower_bound", "b", "a")
    row = LAYER.connection.execute(
        f"select {low}, 1 - ({high}) from (select '{a!r}'::double as a, '{b!r}'::double as b)"
    ).fetchone()
    assert row is not None
    assert row == pytest.approx((beta_quantile(0.025, a, b), beta_quantile(0.975, a, b)), abs=1e-4)


def beta_quantile(share: float, a: float, b: float) -> float:
    """Return a quantile of Beta(a, b): its distribution function by the trapezoid rule on the logit."""
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    mode, width = math.log(a / b), math.sqrt(1 / a + 1 / b)
    lowest, highest = mode - 8 * width - 20 / a, mode + 8 * width + 20 / b
    count = 4000
    step = (highest - lowest) / count
    logits = [lowest + step * place for place in range(count + 1)]
    masses = [
        math.exp(a * t - (a + b) * (math.log1p(math.exp(-abs(t))) + max(t, 0)) - log_beta) * step
        for t in logits
    ]
    below = list(itertools.accumulate((one + other) / 2 for one, other in itertools.pairwise(masses)))
    place = next(place for place, mass in enumerate(below) if mass >= share)
    before = below[place - 1] if place else 0.0
    logit = logits[place] + step * (share - before) / (below[place] - before)
    return 1 / (1 + math.exp(-logit))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), total=st.integers(2, 60))
def test_the_p_value_is_the_sum_over_all_tables_as_improbable(data: st.DataObject, total: int) -> None:
    chosen, successes = (data.draw(st.integers(1, total - 1)) for _ in range(2))
    hits = data.draw(st.integers(max(0, chosen + successes - total), min(chosen, successes)))
    ways = {
        count: math.comb(successes, count) * math.comb(total - successes, chosen - count)
        for count in range(max(0, chosen + successes - total), min(chosen, successes) + 1)
    }
    expected = Fraction(sum(way for way in ways.values() if way <= ways[hits]), math.comb(total, chosen))
    assert p_value(hits, chosen, successes, total) == pytest.approx(float(expected), rel=1e-9)


def test_p_values_of_many_episodes_are_right_too() -> None:
    ways = {k: math.comb(1800, k) * math.comb(1200, 900 - k) for k in range(901)}
    for hits in (480, 535, 540, 600):
        expected = Fraction(sum(way for way in ways.values() if way <= ways[hits]), math.comb(3000, 900))
        assert p_value(hits, 900, 1800, 3000) == pytest.approx(float(expected), rel=1e-6)


def p_value(hits: int, chosen: int, successes: int, total: int) -> float:
    sql = LAYER.macro("fisher_p_value", "hits", "chosen", "successes", "total")
    row = LAYER.connection.execute(
        f"select {sql} from "
        f"(select {hits} as hits, {chosen} as chosen, {successes} as successes, {total} as total)"
    ).fetchone()
    assert row is not None
    return float(row[0])


@settings(max_examples=30, deadline=None)
@given(
    tested=st.lists(
        st.tuples(
            st.sampled_from("xy"),
            st.one_of(st.none(), st.sampled_from([0.001, 0.01, 0.04, 0.5, 1.0]), st.floats(0, 1)),
        ),
        max_size=20,
    )
)
def test_q_values_are_those_of_the_step_up_procedure(tested: list[tuple[str, float | None]]) -> None:
    rows = ", ".join(
        f"('{family}', '{p!r}'::double)" if p is not None else f"('{family}', null)" for family, p in tested
    )
    values = (
        f"(values {rows}) as tested (family, p)"
        if rows
        else "(select 'x' as family, 1.0::double as p where false)"
    )
    sql = LAYER.macro("benjamini_hochberg", f"(select * from {values})", "p", "family")
    found = LAYER.connection.execute(f"select family, p, q_value from ({sql})").fetchall()
    assert len(found) == len(tested)
    for family in "xy":
        ordered = sorted(p for name, p in tested if name == family and p is not None)
        for _, p, q in (row for row in found if row[0] == family):
            if p is None:
                assert q is None
            else:
                expected = min(
                    other * len(ordered) / rank for rank, other in enumerate(ordered, start=1) if other >= p
                )
                assert q == pytest.approx(min(1, expected))


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 3000))
def test_tasks_are_counted_and_where_they_are_many_estimated(count: int) -> None:
    row = LAYER.connection.execute(
        f"select {LAYER.macro('task_count', 'keys')}, len({LAYER.macro('merged_task_keys', 'keys')}) "
        f"from (select list({LAYER.macro('task_number', 'md5(i::varchar)::uuid')}) as keys "
        f"from range({count}) as numbers (i))"
    ).fetchone()
    assert row is not None
    assert row[1] == min(count, 256)
    assert row[0] == (count if count < 256 else pytest.approx(count, rel=0.25))
