"""Next-tool prediction: how often what an agent called next is among the first tools that `suggest` names.

Cross-validated over tasks (Stone 1974): all episodes of a task are in one of the parts, and each part is
predicted from the others. Tasks that are told in the same words count as one: what suggest compares are
words, so that such a task would have been seen. Every call of every episode is predicted once, from the task
and the calls before it. The home is built once: the episodes of the part that is predicted are left out as
they are counted.

Two baselines know the same episodes and the domain too: the tool that is called most, and the tool that
most often followed the last one (a bigram model; what never followed it is ranked by how often it is called).
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemoduck.episodes.reading import Experience
from mnemoduck.episodes.records import Call, SuggestionRequest
from mnemoduck.episodes.suggesting import Suggester
from mnemoduck.errors import UsageError
from mnemoduck.evaluation.measures import CONFIDENCE, RESAMPLES, SEED, Values, clustered_interval
from mnemoduck.evaluation.result import ALL, Figure

CUTS = {"top-1": 1, "top-3": 3}
FOLDS = 5
AGENT_ONLY = "calls of the agent itself"

SUGGEST = "suggest"
FREQUENT = "most frequent tool"
BIGRAM = "bigram"

_PROBABILITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

WAYS: Mapping[str, Mapping[str, float]] = {
    "without the task": {"suggest_task_weight": 0},
    "without the tools so far": {"suggest_tools_weight": 0},
    "only the last call": {"suggest_call_decay": 0},
    "only the last call, no task, no tools": {
        "suggest_call_decay": 0,
        "suggest_task_weight": 0,
        "suggest_tools_weight": 0,
    },
    "failures count in full": {"suggest_failure_weight": 1},
    "failures count nothing": {"suggest_failure_weight": 0},
    "call weight 3": {"suggest_call_weight": 3},
    "call weight 6": {"suggest_call_weight": 6},
    "tools weight 2": {"suggest_tools_weight": 2},
    "tools weight 5": {"suggest_tools_weight": 5},
    "task weight 2": {"suggest_task_weight": 2},
    "task weight 5": {"suggest_task_weight": 5},
}
"""Each part of suggest switched off, and its weights changed to both sides."""


@dataclass(frozen=True)
class Prediction:
    """One call that is predicted: which tool, in which episode, after which calls.

    `group` is that of its task, see `group_tasks`.
    """

    domain: str
    task: str
    group: str
    tool: str
    is_of_agent: bool
    so_far: tuple[Call, ...]


@dataclass(frozen=True)
class ToolVariant:
    """Suggest with other weights, and its differences from suggest as it is."""

    name: str
    weights: dict[str, float]
    measures: dict[str, dict[str, Figure]]
    differences: dict[str, Figure]


@dataclass(frozen=True)
class ToolEvaluation:
    """How well the next tool was predicted.

    `groups` counts the tasks, those that are told in the same words as one.
    `measures` has for each way to predict (suggest and the baselines) and each measure the figures: of all
    calls, of each domain, and of those the agent made itself; `differences` those of suggest from each
    baseline on the same calls. `calibration` has for ranges of the probability that suggest gave its first
    tool how many there were, the mean probability and how often it was right.
    """

    file: str
    episodes: int
    tasks: int
    groups: int
    calls: int
    folds: int
    measures: dict[str, dict[str, dict[str, Figure]]]
    differences: dict[str, dict[str, dict[str, Figure]]]
    calibration: list[dict[str, float]]
    milliseconds: dict[str, float]
    variants: list[ToolVariant] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "benchmark": "next tool",
            **asdict(self),
            "interval": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED, "drawn": "tasks"},
        }


def evaluate_next_tools(
    suggester: Suggester,
    *,
    file: str,
    user_id: str | None = None,
    folds: int = FOLDS,
    compare: bool = False,
    on_answer: Callable[[int, int], None] = lambda _done, _total: None,
) -> ToolEvaluation:
    """Predict every call of the user's episodes from the tasks in other parts, and count what was right.

    Args:
        suggester: of the home that the episodes are in.
        folds: parts of the tasks, 2 to 100.
        compare: also with each part of suggest switched off or changed.
        on_answer: called after each call with how many are predicted, of how many.

    Raises:
        UsageError: there are fewer tasks in different words than parts.
    """
    episodes = suggester.episodes(user_id)
    group_of = group_tasks((one.task_name, one.task) for one in episodes.rows)
    part_of = _parts(set(group_of.values()), folds)
    asked = _predictions(episodes, group_of)
    if len(part_of) < folds or not asked:
        raise UsageError(
            f"{file} has {len(part_of)} tasks in different words; {folds} parts of them need as many at "
            "least."
        )
    ways = WAYS if compare else {}
    total = len(asked) * (1 + len(ways))
    left_out = [
        frozenset(name for name, group in group_of.items() if part_of[group] == one) for one in range(folds)
    ]
    seconds: list[float] = []

    def predict(weights: Mapping[str, float], before: int) -> list[list[tuple[str, float]]]:
        ranked = []
        for number, one in enumerate(asked, start=1):
            request = SuggestionRequest(
                one.task, one.so_far, user_id, domain=one.domain, limit=max(CUTS.values())
            )
            started = time.perf_counter()
            ranked.append(
                suggester.rank_tools(request, without_tasks=left_out[part_of[one.group]], weights=weights)
            )
            seconds.append(time.perf_counter() - started)
            on_answer(before + number, total)
        return ranked

    by_suggest = predict({}, 0)
    milliseconds = _milliseconds(seconds)
    hits = {SUGGEST: _hits(asked, [[tool for tool, _ in row] for row in by_suggest])}
    for name, ranked in _baselines(episodes, asked, part_of, folds).items():
        hits[name] = _hits(asked, ranked)
    kinds = _kinds(asked)
    groups = _groups(asked)
    variants = []
    for number, (name, weights) in enumerate(ways.items(), start=1):
        ranked = [[tool for tool, _ in row] for row in predict(weights, number * len(asked))]
        found = _hits(asked, ranked)
        variants.append(
            ToolVariant(
                name,
                dict(weights),
                _figures(found, kinds, groups),
                {cut: _figure(found[cut] - hits[SUGGEST][cut], groups) for cut in CUTS},
            )
        )
    return ToolEvaluation(
        file=file,
        episodes=len(episodes),
        tasks=len(group_of),
        groups=len(part_of),
        calls=len(asked),
        folds=folds,
        measures={name: _figures(found, kinds, groups) for name, found in hits.items()},
        differences={
            name: _figures({cut: hits[SUGGEST][cut] - found[cut] for cut in CUTS}, kinds, groups)
            for name, found in hits.items()
            if name != SUGGEST
        },
        calibration=_calibration([row[0][1] if row else 0.0 for row in by_suggest], hits[SUGGEST]["top-1"]),
        milliseconds=milliseconds,
        variants=variants,
    )


def group_tasks(tasks: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the group of each task, a name and its words: those that share words are of one group.

    One task can be told in several words. A group is called by the first name in it.
    """
    told: dict[str, list[str]] = defaultdict(list)
    words: dict[str, list[str]] = defaultdict(list)
    for name, text in set(tasks):
        told[text].append(name)
        words[name].append(text)
    group_of: dict[str, str] = {}
    for first in sorted(words):
        waiting = [first]
        while waiting:
            if (name := waiting.pop()) not in group_of:
                group_of[name] = first
                waiting += [other for text in words[name] for other in told[text]]
    return group_of


def _parts(groups: Iterable[str], folds: int) -> dict[str, int]:
    """Return the part of each group of tasks: all are about equally large, and always the same."""
    ordered = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: place % folds for place, name in enumerate(ordered)}


def _predictions(episodes: Experience, group_of: Mapping[str, str]) -> list[Prediction]:
    asked = []
    for place, episode in enumerate(episodes.rows):
        tools = episodes.calls(place)
        calls = tuple(map(Call, tools, episodes.failures(place)))
        by_user = episodes.calls_by_user(place)
        asked += [
            Prediction(
                episode.domain,
                episode.task,
                group_of[episode.task_name],
                tool,
                not by_user[number],
                calls[:number],
            )
            for number, tool in enumerate(tools)
        ]
    return asked


def _baselines(
    episodes: Experience, asked: Sequence[Prediction], part_of: Mapping[str, int], folds: int
) -> dict[str, list[list[str]]]:
    """Return what the baselines name for each call, best first."""
    calls: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(folds)]
    follows: list[dict[tuple[str, str], Counter[str]]] = [defaultdict(Counter) for _ in range(folds)]
    for one in asked:
        last = one.so_far[-1].tool if one.so_far else ""
        for part in range(folds):
            if part != part_of[one.group]:
                calls[part][one.domain][one.tool] += 1
                follows[part][one.domain, last][one.tool] += 1

    def rank(one: Prediction, is_bigram: bool) -> list[str]:
        part = part_of[one.group]
        frequent = calls[part][one.domain]
        last = one.so_far[-1].tool if one.so_far else ""
        follow = follows[part][one.domain, last] if is_bigram else Counter[str]()
        return sorted(frequent, key=lambda tool: (-follow[tool], -frequent[tool], tool))[: max(CUTS.values())]

    return {
        FREQUENT: [rank(one, False) for one in asked],
        BIGRAM: [rank(one, True) for one in asked],
    }


def _hits(asked: Sequence[Prediction], ranked: Sequence[Sequence[str]]) -> dict[str, Values]:
    return {
        name: np.array([float(one.tool in tools[:cut]) for one, tools in zip(asked, ranked, strict=True)])
        for name, cut in CUTS.items()
    }


def _kinds(asked: Sequence[Prediction]) -> dict[str, NDArray[np.int64]]:
    kinds = {ALL: np.arange(len(asked))}
    for domain in sorted({one.domain for one in asked}):
        kinds[domain or "-"] = np.flatnonzero([one.domain == domain for one in asked])
    if not all(one.is_of_agent for one in asked):
        kinds[AGENT_ONLY] = np.flatnonzero([one.is_of_agent for one in asked])
    return kinds


def _groups(asked: Sequence[Prediction]) -> NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(sorted({one.group for one in asked}))}
    return np.array([numbers[one.group] for one in asked], dtype=np.int64)


def _figures(
    hits: Mapping[str, Values], kinds: Mapping[str, NDArray[np.int64]], groups: NDArray[np.int64]
) -> dict[str, dict[str, Figure]]:
    return {
        cut: {kind: _figure(values[places], groups[places]) for kind, places in kinds.items()}
        for cut, values in hits.items()
    }


def _figure(values: Values, groups: NDArray[np.int64]) -> Figure:
    low, high = clustered_interval(values, groups)
    return Figure(len(values), *(round(float(one), 6) for one in (values.mean(), low, high)))


def _calibration(probabilities: Sequence[float], hits: Values) -> list[dict[str, float]]:
    given = np.array(probabilities)
    rows = []
    for low, high in pairwise(_PROBABILITIES):
        inside = (given >= low) & ((given < high) | (high == 1.0))
        if inside.any():
            rows.append(
                {
                    "from": low,
                    "to": high,
                    "calls": int(inside.sum()),
                    "probability": round(float(given[inside].mean()), 6),
                    "right": round(float(hits[inside].mean()), 6),
                }
            )
    return rows


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}
