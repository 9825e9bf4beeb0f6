"""The mechanisms of memory against the literature: what docs/science.md says, held with tolerances.

The macros are rendered and run in DuckDB (benchmarks/science/mechanisms.py). Python gives the stories, and
here and there an independent count or sum.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.science.__main__ import DOCS, RESULT
from benchmarks.science.mechanisms import DAY, Mechanisms, Said
from benchmarks.science.report import PAGE, PARAMETERS, PLOT, write_report
from benchmarks.science.studies import STUDIED_PARAMETERS, run_studies
from hypothesis import example, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def mechanisms() -> Mechanisms:
    return Mechanisms(Path(__file__).resolve().parents[2])


@pytest.fixture(scope="module")
def result(mechanisms: Mechanisms) -> dict[str, Any]:
    return run_studies(mechanisms)


# --- the page ------------------------------------------------------------------------------------------


def test_the_committed_result_is_what_the_macros_give(result: dict[str, Any]) -> None:
    committed = dict(leaves(json.loads(RESULT.read_text())))
    found = dict(leaves(result))
    assert found.keys() == committed.keys()
    for path, value in found.items():
        expected = pytest.approx(committed[path], rel=1e-4, abs=1e-6) if is_number(value) else committed[path]
        assert value == expected, (
            f"{path}: run `python -m benchmarks.science run` and `… report`, and read both"
        )


def test_the_committed_page_is_made_of_the_committed_result(tmp_path: Path) -> None:
    write_report(json.loads(RESULT.read_text()), tmp_path)
    assert (tmp_path / PAGE).read_text() == (DOCS / PAGE).read_text()
    for folder in (tmp_path, DOCS):
        plot = (folder / PLOT).read_text()
        assert plot.startswith("<?xml")
        assert "Ebbinghaus" in plot
        assert len(plot) < 200_000


def test_the_page_names_every_parameter_of_memory(mechanisms: Mechanisms) -> None:
    studied = {name for name in mechanisms.parameters if name.startswith(STUDIED_PARAMETERS)}
    assert {name for name, _, _ in PARAMETERS} == studied


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from leaves(part, f"{path}/{key}")
    else:
        yield path, value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- forgetting (Anderson & Schooler 1991; Wixted & Ebbesen 1991; Anderson & Tweney 1997) -----------------


def test_the_odds_of_retrieval_are_a_power_function_of_time(result: dict[str, Any]) -> None:
    found, parameters = result["forgetting"], result["parameters"]
    decay, noise = parameters["activation_decay"], parameters["activation_noise"]
    assert found["activation_slope"] == pytest.approx(-decay, abs=1e-4)
    assert found["activation_slope_of_ten_uses"] == pytest.approx(-decay, abs=0.005)
    assert found["log_odds"]["slope"] == pytest.approx(-decay / noise, abs=1e-3)
    assert found["log_odds"]["r2"] > 0.9999


def test_the_probability_of_retrieval_is_a_power_function_only_long_after_the_threshold(
    result: dict[str, Any],
) -> None:
    found, parameters = result["forgetting"], result["parameters"]
    assert found["probability_as_power"]["r2"] < 0.6
    slope = -parameters["activation_decay"] / parameters["activation_noise"]
    assert found["late_probability_slope"] == pytest.approx(slope, rel=0.02)


def test_retention_of_one_memory_is_exponential_and_no_power_function(result: dict[str, Any]) -> None:
    found = result["forgetting"]
    assert found["retention_as_exponential"]["r2"] > 0.9999
    rate = found["retention_as_exponential"]["slope"]
    assert rate == pytest.approx(-1 / result["parameters"]["initial_stability_days"], rel=1e-3)
    assert found["retention_as_power"]["r2"] < 0.75


@pytest.mark.parametrize("number", [0, 1])
def test_mean_retention_of_unequally_reinforced_memories_looks_like_a_power_function(
    result: dict[str, Any], number: int
) -> None:
    one = result["forgetting"]["populations"][number]
    assert one["slope_from_two_weeks_on"] == pytest.approx(one["predicted_slope"], abs=0.02)
    assert one["as_power"]["r2"] > 0.95
    assert one["as_power"]["r2"] > one["as_exponential"]["r2"] + 0.1
    assert one["geometric_mean_as_exponential"]["r2"] > 0.9999


# --- savings (Ebbinghaus 1885) -----------------------------------------------------------------------------


def test_a_logistic_of_activation_can_follow_ebbinghaus_and_an_exponential_cannot(
    result: dict[str, Any],
) -> None:
    curves = result["ebbinghaus"]["curves"]
    assert curves["retrieval_probability_fitted"]["rmse"] < 0.03
    assert curves["power_function_fitted"]["rmse"] < 0.03
    assert curves["retention_fitted"]["rmse"] > 0.2
    assert result["ebbinghaus"]["savings_as_power"]["slope"] == pytest.approx(-0.126, abs=0.01)


def test_our_defaults_remember_more_than_ebbinghaus_did_up_to_six_days(result: dict[str, Any]) -> None:
    found = result["ebbinghaus"]
    for curve in ("retention", "retrieval_probability"):
        pairs = zip(found["curves"][curve]["values"][:-1], found["savings"][:-1], strict=True)
        assert all(ours > savings for ours, savings in pairs)
        assert found["curves"][curve]["rmse"] > 0.4, "the page says that the defaults do not fit"


def test_what_was_forgotten_and_is_used_again_is_stronger_than_what_is_new_the_less_the_longer_ago(
    result: dict[str, Any],
) -> None:
    found = result["relearning"]
    assert min(found["strength_before"]) < 0.1 < 0.9 < max(found["strength_before"])
    for falling in (found["savings"], found["activation_gain_after_an_hour"]):
        assert all(0 < later < sooner < 1 for sooner, later in itertools.pairwise(falling))
    assert found["savings_slope"] == pytest.approx(-result["parameters"]["activation_decay"], abs=0.01)
    assert all(old > new for old, new in found["strength_after_30_days_old_and_new"])
    for delay, (old, new) in zip(found["seconds"], found["stability_days_old_and_new"], strict=True):
        assert old == (2 * new if delay >= DAY else new)
    for old, new in found["retention_after_30_days_old_and_new"]:
        assert old >= new


# --- spacing (Cepeda et al. 2006, 2008; Pavlik & Anderson 2005) ------------------------------------------


def test_after_a_long_interval_spaced_uses_are_retained_better_than_massed_ones(
    result: dict[str, Any],
) -> None:
    intervals = result["spacing"]["intervals"]
    advantages = []
    for one in intervals:
        massed, spaced = one["retention"][0], one["retention"][1:]
        assert min(spaced) > massed
        advantages.append(min(spaced) / massed)
    assert advantages == sorted(advantages), "the longer the interval the greater the advantage"
    assert advantages[1] == pytest.approx(math.exp(0.5), rel=1e-3)  # e^(-7/14) / e^(-7/7)
    three = {name: one["retention"][0] for name, one in result["spacing"]["three_uses"].items()}
    assert three["massed"] < three["massed, then spaced"] < three["each week"]


def test_there_is_no_best_gap_and_strength_does_not_know_of_spacing(result: dict[str, Any]) -> None:
    """Two findings that we do not reproduce: the page says so, and must change if this does."""
    for one in result["spacing"]["intervals"]:
        assert len(set(one["retention"][1:])) == 1
        activation = one["activation"]
        assert all(wider < narrower for narrower, wider in itertools.pairwise(activation))
    later = result["spacing"]["fixed_total"]["activation"]
    assert all(wider > narrower for narrower, wider in itertools.pairwise(later)), "recency"


# --- serial position (Murdock 1962; Glanzer & Cunitz 1966; Rundus 1971) ----------------------------------


def condition(result: dict[str, Any], pace: float, rehearsed: bool, filler: str) -> dict[str, Any]:
    (found,) = (
        one
        for one in result["serial_position"]["conditions"]
        if (one["pace"], one["rehearsed"], one["filler"], one["spread"]) == (pace, rehearsed, filler, 0.05)
    )
    return dict(found)


@pytest.mark.parametrize("pace", [1.0, 2.0, 5.0])
def test_the_last_words_of_a_list_are_in_mind_and_the_first_are_not(
    result: dict[str, Any], pace: float
) -> None:
    found = condition(result, pace, False, "none")
    assert found["last"] > found["middle"] + 0.15
    assert found["first"] < found["middle"]


def test_rehearsal_as_rundus_heard_it_brings_the_first_words_back(result: dict[str, Any]) -> None:
    rehearsals = result["serial_position"]["rehearsals"]
    assert 10 < rehearsals[0] < 13
    assert sum(rehearsals[:3]) / 3 > 1.8 * sum(rehearsals[5:12]) / 7
    found = condition(result, 5.0, True, "none")
    assert found["first"] > found["middle"] + 0.05
    assert found["last"] > found["middle"] + 0.02


def test_counting_after_the_list_takes_the_last_words_away_and_leaves_the_first(
    result: dict[str, Any],
) -> None:
    found, before = condition(result, 5.0, True, "spoken"), condition(result, 5.0, True, "none")
    assert found["first"] > found["middle"] + 0.05
    assert found["last"] < found["middle"] < before["last"]
    assert condition(result, 2.0, False, "spoken")["words_held"] == 0, "not rehearsed: displaced"


def test_silence_after_the_list_takes_nothing_away(result: dict[str, Any]) -> None:
    """Not as in a store that only decays; the page says so."""
    found = condition(result, 2.0, False, "silent")
    assert found["last"] >= condition(result, 2.0, False, "none")["last"]


# --- capacity (Miller 1956) ------------------------------------------------------------------------------


def test_what_belongs_together_makes_room_from_5_to_9(result: dict[str, Any]) -> None:
    held = [one["held"] for one in result["capacity"]["held_of_20"]]
    assert held[0] == 5
    assert held[-1] == 9
    assert held == sorted(held)
    assert set(held) == {5, 6, 7, 8, 9}
    assert result["capacity"]["most"] == 9
    assert result["capacity"]["fewest_below_promise"] == 0


WORDS = [
    "acorn",
    "birch",
    "cedar",
    "Cedar ",
    "dahlia",
    "elder",
    "ferns",
    "gorse",
    "hazel",
    "ivies",
    "owl",
    "🦆",
]
NOW = 0.0
share = st.none() | st.sampled_from([0.0, 0.5, 1.0])
said = st.builds(
    Said,
    mind=st.sampled_from(["maya", "jonas", ""]),
    content=st.one_of(st.sampled_from(WORDS), st.sampled_from(WORDS).map("garden {}".format)),
    at=st.sampled_from([1.0, 0.0, -1.0, -2.0, -299.0, -300.0, -301.0, -1799.0, -1800.0, -1801.0]),
    importance=st.sampled_from([0.0, 0.5, 1.0]),
    urgency=share,
    emotional_salience=share,
    forgotten_at=st.none() | st.sampled_from([-1.0, 0.0, 1.0]),
)


# Two of the twelve are the same words: the first five are four memories, the first six are five.
GARDEN = [Said("maya", f"garden {word}", 0.0, 1.0) for word in WORDS]


@settings(max_examples=30)
@given(stream=st.lists(said, min_size=1, max_size=60))
@example([replace(one, at=-299.0 if number < 5 else -301.0) for number, one in enumerate(GARDEN)])
@example([replace(one, at=-299.0 if number < 6 else -301.0) for number, one in enumerate(GARDEN)])
@example(GARDEN[:4] * 3)
def test_no_mind_holds_more_than_9_nor_less_than_5_or_all_there_is(
    mechanisms: Mechanisms, stream: list[Said]
) -> None:
    for mind, slots in mechanisms.working_memory(stream, NOW).items():
        latest: dict[str, float] = {}
        for one in stream:
            is_known = one.mind == mind and -1800 < one.at <= NOW
            if is_known and (one.forgotten_at is None or one.forgotten_at > NOW):
                words = one.content.strip().lower()
                latest[words] = max(one.at, latest.get(words, one.at))
        attended = {words for words, at in latest.items() if at > -300}
        candidates = attended if len(attended) >= 5 else set(latest)

        assert min(5, len(candidates)) <= len(slots) <= 9
        assert [slot.slot for slot in slots] == list(range(1, len(slots) + 1))
        assert all(slot.capacity == slots[0].capacity for slot in slots)
        if slots:
            assert 5 <= slots[0].capacity <= 9
            assert len(slots) == min(len(candidates), slots[0].capacity)
        held = [slot.content.strip().lower() for slot in slots]
        assert len(set(held)) == len(held)
        assert set(held) <= candidates
        priorities = [slot.priority for slot in slots]
        assert priorities == sorted(priorities, reverse=True)


after = st.sampled_from([0.001, 1.0, 300.0, 1800.0, 1e6])


@settings(max_examples=30)
@given(
    stream=st.lists(st.tuples(said, st.none() | after), min_size=1, max_size=30),
    later=st.lists(st.tuples(said, after), max_size=20),
)
def test_what_is_in_mind_at_a_moment_does_not_depend_on_what_comes_after_it(
    mechanisms: Mechanisms, stream: list[tuple[Said, float | None]], later: list[tuple[Said, float]]
) -> None:
    then = [replace(one, at=min(one.at, NOW), forgotten_at=None) for one, _ in stream]
    forgotten = [replace(one, forgotten_at=moment) for one, (_, moment) in zip(then, stream, strict=True)]
    since = [replace(one, at=moment) for one, moment in later]
    found = mechanisms.working_memory([*forgotten, *since], NOW)
    assert {one.mind: found[one.mind] for one in then} == mechanisms.working_memory(then, NOW)


# --- strength over time, and the tail of older uses (Petrov 2006) ------------------------------------------

seconds = st.integers(0, 10**8).map(float) | st.integers(0, 100).map(float)
history = st.lists(seconds, min_size=1, max_size=40)


@settings(max_examples=30)
@given(ages=history, waits=st.lists(seconds, min_size=2, max_size=8, unique=True))
def test_strength_falls_between_uses(mechanisms: Mechanisms, ages: list[float], waits: list[float]) -> None:
    uses = sorted(-age for age in ages)
    moments = sorted(uses[-1] + wait for wait in waits)
    activation = mechanisms.activation(uses, moments)
    (stability,) = mechanisms.stabilities([uses])
    retention = mechanisms.retentions([(uses[-1], stability, at) for at in moments])
    probability = mechanisms.retrieval_probabilities(activation)
    for earlier in range(len(moments) - 1):
        if moments[earlier] > uses[-1]:  # ages count as a second at least
            assert activation[earlier + 1] < activation[earlier]
        assert activation[earlier + 1] <= activation[earlier]
        assert retention[earlier + 1] <= retention[earlier]
        assert probability[earlier + 1] <= probability[earlier]


@settings(max_examples=30)
@given(ages=history, pause=seconds, waits=st.lists(seconds, min_size=1, max_size=8))
def test_a_use_makes_stronger_at_once_and_for_ever(
    mechanisms: Mechanisms, ages: list[float], pause: float, waits: list[float]
) -> None:
    """Also where it moves another use from those that are kept into the tail."""
    uses = sorted(-age for age in ages)
    used = [*uses, uses[-1] + pause]
    moments = [used[-1], *(used[-1] + wait for wait in waits)]
    activation, without = mechanisms.activation(used, moments), mechanisms.activation(uses, moments)
    assert all(more > less for more, less in zip(activation, without, strict=True))
    stability, stability_without = mechanisms.stabilities([used, uses])
    assert stability >= stability_without
    retention = mechanisms.retentions([(used[-1], stability, at) for at in moments])
    retention_without = mechanisms.retentions([(uses[-1], stability_without, at) for at in moments])
    assert retention[0] == 1
    assert all(more >= less for more, less in zip(retention, retention_without, strict=True))


@given(ages=history, kept=st.integers(1, 40))
def test_the_tail_errs_by_no_more_than_the_page_says(
    mechanisms: Mechanisms, ages: list[float], kept: int
) -> None:
    uses = [-age for age in ages]
    exact = math.log(math.fsum(max(1.0, age) ** -0.5 for age in ages))
    (approximate,) = mechanisms.activations([(uses, NOW)], kept=kept)
    assert approximate is not None
    if len(uses) <= kept:
        assert approximate == pytest.approx(exact, abs=1e-9)
    else:
        assert -math.log(len(uses) / kept) - 1e-9 <= approximate - exact <= math.log(2) + 1e-9


def test_the_tail_is_near_for_steady_use_and_far_off_for_use_in_clusters(result: dict[str, Any]) -> None:
    kinds = {one["kind"]: one["lengths"] for one in result["tail"]["kinds"]}
    assert all(each["median"] < 0.02 for each in kinds["at any time in a year"])
    assert kinds["mostly of late"][-1]["median"] > 2, "the page says how far, and what would help"
    assert max(abs(error) for error in result["tail"]["remedy"].values()) < 0.6


@settings(max_examples=30)
@given(ages=st.lists(seconds, min_size=1, max_size=5), later=st.lists(st.floats(1, 1e8), max_size=5))
def test_activation_at_a_moment_does_not_depend_on_later_uses_while_all_are_kept(
    mechanisms: Mechanisms, ages: list[float], later: list[float]
) -> None:
    uses = [-age for age in ages]
    then, now = mechanisms.activations([(uses, NOW), ([*uses, *later], NOW)])
    assert now == pytest.approx(then, abs=1e-12)
