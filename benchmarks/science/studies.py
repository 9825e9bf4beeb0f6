"""One study for each mechanism: a dictionary of figures, the same on every run.

Python computes what is compared with the macros (fits, exact sums, generated histories) and never what a
mechanism gives: that is asked of the macros.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks.science.literature import (
    CEPEDA_GAPS,
    CEPEDA_INTERVALS,
    EBBINGHAUS,
    REHEARSAL_BUFFER,
)
from benchmarks.science.mechanisms import DAY, Mechanisms, Said

Figures = dict[str, Any]

NOUNS: list[str] = re.findall(
    r"\w+",
    "anchor basket candle desert engine forest garden hammer island jacket "
    "kettle ladder market needle orange pepper quarry ribbon saddle temple",
)
"""Twenty words with nothing in common, the list that is learned."""

STUDIED_PARAMETERS = (
    "attention_", "capacity_", "priority_", "activation_", "retrieval_", "initial_", "stability_",
    "spacing_hours", "session_gap_minutes", "default_importance",
)  # fmt: skip
"""How the names of the parameters begin that the mechanisms studied here depend on."""


def run_studies(mechanisms: Mechanisms) -> Figures:
    """Return the figures of all studies, rounded to six digits."""
    studies: dict[str, Callable[[Mechanisms], Figures]] = {
        "forgetting": forgetting,
        "ebbinghaus": ebbinghaus,
        "relearning": relearning,
        "spacing": spacing,
        "serial_position": serial_position,
        "capacity": capacity,
        "tail": tail,
        "past": past,
    }
    figures = {name: study(mechanisms) for name, study in studies.items()}
    rounded = _rounded({"parameters": _parameters(mechanisms), **figures})
    assert isinstance(rounded, dict)
    return rounded


def _parameters(mechanisms: Mechanisms) -> Figures:
    """Return the parameters of the mechanisms that are studied here."""
    return {
        name: value
        for name, value in mechanisms.parameters.items()
        if name.startswith(STUDIED_PARAMETERS) and isinstance(value, int | float)
    }


# --- forgetting ----------------------------------------------------------------------------------------


def forgetting(mechanisms: Mechanisms) -> Figures:
    """Which of our curves is a power function of time, and with which exponent."""
    threshold_age = math.exp(-mechanisms.parameters["retrieval_threshold"] / _decay(mechanisms))
    seconds = np.geomspace(10, 3.2e7, 60).tolist()
    activation = mechanisms.activation([0.0], seconds)
    probability = mechanisms.retrieval_probabilities(activation)
    odds = [p / (1 - p) for p in probability]
    late = np.geomspace(10 * threshold_age, 1000 * threshold_age, 30).tolist()
    late_probability = mechanisms.retrieval_probabilities(mechanisms.activation([0.0], late))

    # Ten uses within a day, long afterwards.
    burst = [-DAY * number / 9 for number in range(10)]
    far = np.geomspace(100 * DAY, 3650 * DAY, 30).tolist()

    days = np.geomspace(1, 365, 60).tolist()
    one = mechanisms.retentions(
        [(0, mechanisms.parameters["initial_stability_days"], day * DAY) for day in days]
    )
    return {
        "odds_days": [second / DAY for second in seconds if second >= DAY],
        "odds": [value for value, second in zip(odds, seconds, strict=True) if second >= DAY],
        "activation_slope": _line(np.log(seconds), activation)["slope"],
        "log_odds": _line(np.log(seconds), np.log(odds)),
        "probability_as_power": _line(np.log(seconds), np.log(probability)),
        "late_probability_slope": _line(np.log(late), np.log(late_probability))["slope"],
        "threshold_age_days": threshold_age / DAY,
        "activation_slope_of_ten_uses": _line(np.log(far), mechanisms.activation(burst, far))["slope"],
        "days": days,
        "retention": one,
        "retention_as_exponential": _line(days, np.log(one)),
        "retention_as_power": _line(np.log(days), np.log(one)),
        "populations": [_population(mechanisms, share, days) for share in (0.5, 2**-0.5)],
    }


def _population(mechanisms: Mechanisms, share: float, days: list[float]) -> Figures:
    """Memories of which a share is reinforced once more, of these the same share again, and so on."""
    times = range(40)
    stabilities = mechanisms.stabilities([[DAY * use for use in range(count + 1)] for count in times])
    weights = np.array([(1 - share) * share**count for count in times])
    growth = mechanisms.parameters["stability_growth"]

    def curves(moments: list[float]) -> Any:
        asked = [(0.0, stability, day * DAY) for stability in stabilities for day in moments]
        return np.array(mechanisms.retentions(asked)).reshape(len(stabilities), len(moments))

    arithmetic = weights @ curves(days) / weights.sum()
    with np.errstate(divide="ignore"):
        exponents = np.log(curves([1.0]))[:, 0]  # of each memory, per day
    geometric = np.exp(np.outer(days, [weights @ exponents / weights.sum()]))[:, 0]
    first = mechanisms.parameters["initial_stability_days"]
    long_days = np.geomspace(2 * first, first * growth**11, 60).tolist()
    return {
        "share_reinforced_again": share,
        "predicted_slope": math.log(share) / math.log(growth),
        "slope_from_two_weeks_on": _line(np.log(long_days), np.log(weights @ curves(long_days)))["slope"],
        "retention": arithmetic.tolist(),
        "as_power": _line(np.log(days), np.log(arithmetic)),
        "as_exponential": _line(days, np.log(arithmetic)),
        "geometric_mean_as_exponential": _line(days, np.log(geometric)),
    }


# --- savings -------------------------------------------------------------------------------------------


def ebbinghaus(mechanisms: Mechanisms) -> Figures:
    """Our curves beside his savings, as they are and fitted."""
    names, delays, savings = zip(*EBBINGHAUS, strict=True)
    threshold = mechanisms.parameters["retrieval_threshold"]
    noise = mechanisms.parameters["activation_noise"]
    activation = mechanisms.activation([0.0], delays)
    stability = mechanisms.parameters["initial_stability_days"]

    def retained(days: float) -> list[float]:
        return mechanisms.retentions([(0.0, days, delay) for delay in delays])

    def recalled(fitted_threshold: float, fitted_noise: float) -> list[float]:
        # The macro has one noise; scaling its arguments is the same as another.
        scale = noise / fitted_noise
        return mechanisms.retrieval_probabilities([b * scale for b in activation], fitted_threshold * scale)

    fitted_stability = math.exp(_smallest(lambda log: _rmse(retained(math.exp(log)), savings), -5, 7))
    logit = _line(np.log(delays), [math.log(saved / (1 - saved)) for saved in savings])
    fitted_noise = -_decay(mechanisms) / logit["slope"]
    fitted_threshold = -logit["intercept"] * fitted_noise
    power = _line(np.log(delays), np.log(savings))
    curves = {
        "retention": (f"S = {stability:g} d, default", retained(stability)),
        "retention_fitted": (
            f"S = {fitted_stability:.2f} d, fitted",
            retained(fitted_stability),
        ),
        "retrieval_probability": (f"tau = {threshold:g}, s = {noise:g}, default", recalled(threshold, noise)),
        "retrieval_probability_fitted": (
            f"tau = {fitted_threshold:.2f}, s = {fitted_noise:.2f}, fitted",
            recalled(fitted_threshold, fitted_noise),
        ),
        "power_function_fitted": (
            f"{math.exp(power['intercept']):.2f} t^{power['slope']:.3f}, for comparison",
            [math.exp(power["intercept"]) * delay ** power["slope"] for delay in delays],
        ),
    }
    return {
        "delays": list(names),
        "seconds": list(delays),
        "savings": list(savings),
        "savings_as_power": power,
        "curves": {
            name: {"says": says, "values": values, "rmse": _rmse(values, savings)}
            for name, (says, values) in curves.items()
        },
        "fitted_stability_days": fitted_stability,
        "log_odds_slope": logit["slope"],
        "fitted_noise": fitted_noise,
        "fitted_threshold": fitted_threshold,
    }


LEARNED_WITH = 8
SECONDS_A_REPETITION = 6.0


def relearning(mechanisms: Mechanisms) -> Figures:
    """How many repetitions a memory of old spares, and how much stronger it is than a new one."""

    def repetitions(count: int, start: float) -> list[float]:
        return [start + SECONDS_A_REPETITION * number for number in range(count)]

    def learned(before: list[float], start: float) -> list[float]:
        """Activation after each number of repetitions, a repetition's time after the last."""
        cases = [
            ([*before, *repetitions(count, start)], start + SECONDS_A_REPETITION * count)
            for count in range(1, LEARNED_WITH + 1)
        ]
        return [value for value in mechanisms.activations(cases, kept=100) if value is not None]

    first = repetitions(LEARNED_WITH, 0.0)
    criterion = learned([], 0.0)[-1]
    delays = [*(delay for _, delay, _ in EBBINGHAUS), 90 * DAY, 365 * DAY]
    savings, gains, stabilities, strength, retention = [], [], [], [], []
    for delay in delays:
        start = first[-1] + delay
        needed = np.interp(criterion, learned(first, start), range(1, LEARNED_WITH + 1))
        savings.append(1 - float(needed) / LEARNED_WITH)
        hour_later = start + 3600
        old, new = mechanisms.activations([([0.0, start], hour_later), ([start], hour_later)])
        assert old is not None
        assert new is not None
        gains.append(old - new)
        stability = mechanisms.stabilities([[0.0, start], [start]])
        stabilities.append(stability)
        month_later = start + 30 * DAY
        asked = mechanisms.activations([([0.0, start], month_later), ([start], month_later)])
        strength.append(mechanisms.retrieval_probabilities([value for value in asked if value is not None]))
        retention.append(mechanisms.retentions([(start, days, month_later) for days in stability]))
    return {
        "delays": [*(name for name, _, _ in EBBINGHAUS), "90 d", "365 d"],
        "seconds": delays,
        "savings": savings,
        "savings_slope": _line(np.log(delays), np.log(savings))["slope"],
        "strength_before": mechanisms.retrieval_probabilities(mechanisms.activation([0.0], delays)),
        "activation_gain_after_an_hour": gains,
        "stability_days_old_and_new": stabilities,
        "strength_after_30_days_old_and_new": strength,
        "retention_after_30_days_old_and_new": retention,
    }


# --- spacing -------------------------------------------------------------------------------------------


def spacing(mechanisms: Mechanisms) -> Figures:
    """Two uses a gap apart, tested an interval after the second; and three uses."""
    return {
        "gaps": list(CEPEDA_GAPS),
        "intervals": [
            {"interval": interval, **_tested(mechanisms, [[0.0, gap] for gap in CEPEDA_GAPS], interval)}
            for interval in (1 / 24, *CEPEDA_INTERVALS)
        ],
        # Tested at a fixed time after the first use, so that spaced uses are also later ones.
        "fixed_total": _tested(mechanisms, [[0.0, gap] for gap in CEPEDA_GAPS if gap < 35], None, 35.0),
        "three_uses": {
            name: _tested(mechanisms, [uses], 35.0)
            for name, uses in {
                "massed": [0.0, 0.001, 0.002],
                "massed, then spaced": [0.0, 0.001, 7.0],
                "each week": [0.0, 7.0, 14.0],
                "expanding": [0.0, 1.0, 14.0],
            }.items()
        },
    }


def _tested(
    mechanisms: Mechanisms, histories: list[list[float]], interval: float | None, total: float = 0.0
) -> Figures:
    uses = [[DAY * use for use in history] for history in histories]
    moments = [(history[-1] + DAY * interval if interval is not None else DAY * total) for history in uses]
    stability = mechanisms.stabilities(uses)
    activation = mechanisms.activations(list(zip(uses, moments, strict=True)))
    return {
        "stability_days": stability,
        "retention": mechanisms.retentions(
            [(history[-1], days, at) for history, days, at in zip(uses, stability, moments, strict=True)]
        ),
        "activation": activation,
        "strength": mechanisms.retrieval_probabilities([value for value in activation if value is not None]),
    }


# --- serial position -----------------------------------------------------------------------------------

LISTS = 100
FILLER_SECONDS = 30.0
SPREADS = (0.0, 0.02, 0.1, 0.25)


def serial_position(mechanisms: Mechanisms) -> Figures:
    """Which words of a list are in mind after it, averaged over lists whose words differ in importance."""
    fillers = ("none", "silent", "spoken")
    asked = [
        (1.0, False, "none", 0.05),
        *((2.0, False, filler, 0.05) for filler in fillers),
        (5.0, False, "none", 0.05),
        *((5.0, True, filler, 0.05) for filler in fillers),
        *((2.0, False, "none", spread) for spread in SPREADS),
    ]
    conditions: list[Figures] = [
        {"pace": pace, "rehearsed": rehearsed, "filler": filler, "spread": spread}
        for pace, rehearsed, filler, spread in asked
    ]
    return {
        "lists": LISTS,
        "worth_of_age": _worth_of_age(mechanisms),
        "rehearsals": [
            fmean(counts) for counts in zip(*(_rehearsals(number) for number in range(LISTS)), strict=True)
        ],
        "conditions": [{**one, **_recalled(mechanisms, **one)} for one in conditions],
    }


def _recalled(mechanisms: Mechanisms, pace: float, rehearsed: bool, filler: str, spread: float) -> Figures:
    said = [
        one
        for number in range(LISTS)
        for one in _list(number, pace=pace, rehearsed=rehearsed, filler=filler, spread=spread)
    ]
    end = pace * len(NOUNS) + (0.0 if filler == "none" else FILLER_SECONDS)
    minds = mechanisms.working_memory(said, end)
    held = [{slot.content for slot in slots} for slots in minds.values()]
    shares = [
        fmean(_word(number, position) in held[number] for number in range(LISTS))
        for position in range(len(NOUNS))
    ]
    return {
        "held": shares,
        "first": fmean(shares[:3]),
        "middle": fmean(shares[5:12]),
        "last": fmean(shares[-5:]),
        "words_held": sum(shares),
    }


def _worth_of_age(mechanisms: Mechanisms) -> Figures:
    """How much more important something must be to come before what was said a second ago."""
    ages = [10.0, 40.0, 100.0, 299.0]
    said = [Said(str(age), "anchor", -age, 0.0) for age in [1.0, *ages]]
    priority = {mind: slots[0].priority for mind, slots in mechanisms.working_memory(said, 0.0).items()}
    weight = mechanisms.parameters["priority_weight_importance"]
    return {f"{age:g}": (priority["1.0"] - priority[str(age)]) / weight for age in ages}


def _word(number: int, position: int) -> str:
    """Each list has the words in an order of its own, so that no word is always early."""
    return NOUNS[(position + 7 * number) % len(NOUNS)]


def _list(number: int, *, pace: float, rehearsed: bool, filler: str, spread: float) -> Iterator[Said]:
    mind = f"{number:04}"
    order = _shuffled(len(NOUNS), f"importance {number // len(NOUNS)}")

    def importance(position: int) -> float:
        # Turned by one from list to list: each position has each importance equally often.
        return 0.5 + spread * (2 * order[(position + number) % len(NOUNS)] / (len(NOUNS) - 1) - 1)

    for position, rehearsals in enumerate(_schedule(number) if rehearsed else [[p] for p in range(20)]):
        for count, spoken in enumerate(rehearsals):
            at = pace * (position + count / max(1, len(rehearsals)))
            yield Said(mind, _word(number, spoken), at, importance(spoken))
    if filler == "spoken":  # counting backwards by threes, every two seconds
        end = pace * len(NOUNS)
        for count in range(int(FILLER_SECONDS / 2)):
            yield Said(mind, str(900 - 3 * count), end + 2 * count)


def _schedule(number: int) -> list[list[int]]:
    """Return what is said in the time of each word: four words, those in the rehearsal buffer in turn.

    A new word takes the place of one of them once the buffer is full (Atkinson & Shiffrin 1968); which
    one differs from list to list.
    """
    buffer: list[int] = []
    schedule = []
    for position in range(len(NOUNS)):
        if len(buffer) == REHEARSAL_BUFFER:
            del buffer[_digest(f"displaced {number} {position}") % REHEARSAL_BUFFER]
        buffer.append(position)
        spoken = buffer[::-1]
        schedule.append([spoken[turn % len(spoken)] for turn in range(REHEARSAL_BUFFER)])
    return schedule


def _rehearsals(number: int) -> list[int]:
    spoken = [word for words in _schedule(number) for word in words]
    return [spoken.count(position) for position in range(len(NOUNS))]


# --- capacity ------------------------------------------------------------------------------------------


def capacity(mechanisms: Mechanisms) -> Figures:
    """How much minds hold of 1 to 20 candidates of which none to all belong together."""
    minds = {
        (candidates, related): [
            Said(f"{candidates:02} {related:02}", f"{NOUNS[i]} {'river' if i < related else ''}", -float(i))
            for i in range(candidates)
        ]
        for candidates in range(1, len(NOUNS) + 1)
        for related in range(candidates + 1)
    }
    slots = mechanisms.working_memory([one for said in minds.values() for one in said], 1.0)
    found = [
        {
            "candidates": candidates,
            "related": related,
            "held": len(slots[f"{candidates:02} {related:02}"]),
            "coherence": slots[f"{candidates:02} {related:02}"][0].coherence,
        }
        for candidates, related in minds
    ]
    enough = [one for one in found if one["candidates"] == len(NOUNS)]
    counts = [one["held"] for one in found if one["candidates"] >= 9]
    return {
        "minds": len(found),
        "most": max(one["held"] for one in found),
        "fewest_below_promise": sum(one["held"] < min(5, one["candidates"]) for one in found),
        "held_of_20": [{key: one[key] for key in ("related", "held", "coherence")} for one in enough],
        "distribution": {str(size): counts.count(size) for size in range(5, 10)},
    }


# --- the tail of older uses ----------------------------------------------------------------------------

YEAR = 365 * DAY
HISTORIES = 30
LENGTHS = (12, 30, 100, 300, 1000)


def tail(mechanisms: Mechanisms) -> Figures:
    """The activation from the last k uses and the first, against that from all of them."""
    kept = int(mechanisms.parameters["activation_recent_uses"])
    lengths: dict[str, list[dict[str, float]]] = {}
    remedied: list[float] = []
    for kind, ages in _HISTORIES.items():
        by_length: list[dict[str, float]] = []
        for length in LENGTHS:
            random = np.random.Generator(np.random.PCG64(_digest(f"{kind} {length}") % 2**32))
            cases = [([-age for age in ages(random, length)], 0.0) for _ in range(HISTORIES)]
            errors = _errors(mechanisms, cases)
            remedied += [_error_in_octaves(uses, kept, _decay(mechanisms)) for uses, _ in cases]
            by_length.append(
                {
                    "uses": length,
                    "median": median(map(abs, errors)),
                    "lowest": min(errors),
                    "highest": max(errors),
                }
            )
        lengths[kind] = by_length
    every = [one for by_length in lengths.values() for one in by_length]
    random = np.random.Generator(np.random.PCG64(1))
    late = [([-age for age in _mostly_of_late(random, 1000)], 0.0) for _ in range(HISTORIES)]
    return {
        "kept": kept,
        "by_kept": [
            {"kept": more, "median": median(map(abs, _errors(mechanisms, late, more)))}
            for more in (1, 10, 30, 100)
        ],
        "kinds": [{"kind": kind, "lengths": by_length} for kind, by_length in lengths.items()],
        "lowest": min(one["lowest"] for one in every),
        "highest": max(one["highest"] for one in every),
        "remedy": {"lowest": min(remedied), "highest": max(remedied)},
        "bound_above": -math.log(1 - _decay(mechanisms)),
        "bound_below_at_1000": -math.log(max(LENGTHS) / kept),
    }


def _errors(
    mechanisms: Mechanisms, cases: list[tuple[list[float], float]], kept: int | None = None
) -> list[float]:
    exact = mechanisms.activations(cases, kept=max(len(uses) for uses, _ in cases))
    approximate = mechanisms.activations(cases, kept=kept)
    return [a - e for a, e in zip(approximate, exact, strict=True) if a is not None and e is not None]


def _error_in_octaves(uses: list[float], kept: int, decay: float) -> float:
    """Return the error of what we might do: keep the 2k-th, 4k-th… last use too, and spread between them."""
    ages = sorted(max(1.0, -use) for use in uses)
    total, low = math.fsum(age**-decay for age in ages[:kept]), kept
    while low < len(ages):
        high = min(2 * low, len(ages))
        young, old = ages[low - 1], ages[high - 1]
        spread = (
            (old ** (1 - decay) - young ** (1 - decay)) / ((1 - decay) * (old - young)) if old > young else 0
        )
        total += (high - low) * (spread or old**-decay)
        low = high
    return math.log(total) - math.log(math.fsum(age**-decay for age in ages))


def _mostly_of_late(random: np.random.Generator, length: int) -> list[float]:
    """Ages spread evenly over orders of magnitude: as many of the last minute as of the last hour's rest."""
    return [float(age) for age in YEAR ** random.random(length)]


def _bursts(random: np.random.Generator, length: int) -> list[float]:
    starts = random.random(3) * YEAR
    return [float(starts[use % 3] + random.random() * 3600 + 1) for use in range(length)]


_HISTORIES: dict[str, Callable[[np.random.Generator, int], list[float]]] = {
    "at any time in a year": lambda random, length: (1 + random.random(length) * YEAR).tolist(),
    "mostly of late": _mostly_of_late,
    "in three bursts of an hour": _bursts,
    "a year ago, and ten times today": lambda random, length: [
        *(YEAR - random.random(length - 10) * 3600).tolist(),
        *(1 + random.random(10) * DAY).tolist(),
    ],
    "once a year ago, else today": lambda random, length: [
        YEAR,
        *(3600 + random.random(length - 1) * 3600).tolist(),
    ],
}


def past(mechanisms: Mechanisms) -> Figures:
    """The activation at a moment that later uses have followed, against what it was then.

    A use an hour over 40 hours; the state is that of the last.
    """
    uses = [3600.0 * hour for hour in range(40)]
    moments = [3600.0 * hour + 1800 for hour in (5, 15, 25, 31, 35, 39)]
    now = mechanisms.activations([(uses, at) for at in moments])
    then = mechanisms.activations([([use for use in uses if use <= at], at) for at in moments])
    return {
        "later_uses": [sum(use > at for use in uses) for at in moments],
        "difference": [a - b for a, b in zip(now, then, strict=True) if a is not None and b is not None],
    }


# --- arithmetic ----------------------------------------------------------------------------------------


def _decay(mechanisms: Mechanisms) -> float:
    return float(mechanisms.parameters["activation_decay"])


def _line(x: Sequence[float] | Any, y: Sequence[float] | Any) -> dict[str, float]:
    """Return the line of least squares through points, and the share of the variance it explains."""
    across, up = np.asarray(x, float), np.asarray(y, float)
    slope, intercept = np.polyfit(across, up, 1)
    left = up - (intercept + slope * across)
    return {
        "slope": float(slope),
        "intercept": float(intercept),
        "r2": 1 - float(left @ left) / float(((up - up.mean()) ** 2).sum()),
    }


def _rmse(values: Sequence[float], expected: Sequence[float]) -> float:
    return math.sqrt(fmean((a - b) ** 2 for a, b in zip(values, expected, strict=True)))


def _smallest(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one valley is smallest, by golden section."""
    golden = (math.sqrt(5) - 1) / 2
    while high - low > 1e-6:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if function(left) < function(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _shuffled(size: int, salt: str) -> list[int]:
    return sorted(range(size), key=lambda number: _digest(f"{salt} {number}"))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value
