"""What to do next: what was done in episodes like the one at hand, and whether it worked.

The next tool is predicted by a kernel (Nadaraya 1964, Watson 1964): each moment of each episode of the user
counts for the tool that was called next there, with the weight exp(likeness). The likeness of a moment is

* for each of the last 8 calls that is the same, at the same distance and failed or not alike,
  `suggest_call_weight`, halved from call to call (`suggest_call_decay`): the longest common end of both
  counts most, as in an n-gram of variable order, and a difference within costs no more than its own weight;
* `suggest_tools_weight` times the overlap of all calls so far, whatever their order (Jaccard 1901, of
  multisets);
* `suggest_task_weight` times the square root of the similarity of the tasks (BM25 of the one over that of the
  task itself).

A moment of an episode that did not succeed counts `suggest_failure_weight` of that.

The confidence of a step is that of patterns (docs/patterns.md), but each episode that took it counts as much
as it is alike: the likeness of its best moment as a share of the most that it could have.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from cachetools import LRUCache

from mnemoduck.asking import Asker
from mnemoduck.episodes.patterns import PatternReader
from mnemoduck.episodes.reading import CALLS_BACK, END, Experience, ExperienceReader, Flags, Numbers, Values
from mnemoduck.episodes.records import (
    Call,
    NextStep,
    Pattern,
    SimilarEpisode,
    Suggestion,
    SuggestionRequest,
)
from mnemoduck.episodes.writing import as_text
from mnemoduck.errors import InvalidEventError, UsageError
from mnemoduck.fresh import FreshTables
from mnemoduck.project import variables
from mnemoduck.reader import check_limit
from mnemoduck.recall.query import MAX_QUERY_CHARACTERS, read_terms
from mnemoduck.scope import Scope, check_unicode
from mnemoduck.warehouse import Snapshot

MAX_STEPS = 100_000
MAX_TOOL_CHARACTERS = 1_000

KNOWN_TASKS = 64
KNOWN_TASK_CHARACTERS = 10_000
"""The terms of so many tasks are kept, of those up to this length: at most some 10 MB."""

EVIDENCE = 3
"""So many episodes are named for a next step."""

_BEFORE_START = 0
_UNKNOWN = -1
_GRID = np.linspace(-20.0, 20.0, 4_001)


def read_calls(so_far: Iterable[str | Mapping[str, Any] | Call]) -> tuple[Call, ...]:
    """Return the calls of an episode so far, from names of tools or mappings as `log_step` takes them.

    A mapping has `tool`, and if it failed `error` (a text or true) or `is_error`; steps that are messages
    are passed over.

    Raises:
        UsageError: it is no list of such steps, or has more than 100,000.
    """
    if isinstance(so_far, str | bytes | Mapping) or not isinstance(so_far, Iterable):
        raise UsageError(
            f"so_far is a list of steps, each the name of a tool or a mapping with it; got {_show(so_far)}."
        )
    calls = []
    for number, step in enumerate(so_far):
        if number >= MAX_STEPS:
            raise UsageError(f"so_far has more than {MAX_STEPS:,} steps.")
        if isinstance(step, Call):
            calls.append(step)
        elif isinstance(step, str):
            calls.append(Call(_check_tool(step, number)))
        elif isinstance(step, Mapping):
            if step.get("tool") is None and ("role" in step or "text" in step):
                continue
            calls.append(_read_call(step, number))
        else:
            raise UsageError(
                f"Step {number} of so_far is {_show(step)}; it is the name of a tool, or a mapping with it."
            )
    return tuple(calls)


def check_request(request: SuggestionRequest) -> SuggestionRequest:
    """Return the request.

    Raises:
        UsageError: a part of it is of the wrong kind, or too long; says which.
    """
    check_unicode("The task", request.task)
    if len(request.task) > MAX_QUERY_CHARACTERS:
        raise UsageError(
            f"The task has {len(request.task):,} characters; at most {MAX_QUERY_CHARACTERS:,} are allowed."
        )
    if request.domain is not None:
        check_unicode("The domain", request.domain)
    Scope(request.user_id, request.agent_id)
    check_limit(request.limit)
    return request


class Suggester:
    """Answers what worked, of one home. Safe between threads."""

    def __init__(
        self, asker: Asker, patterns: PatternReader, episodes: ExperienceReader | None = None
    ) -> None:
        self._asker = asker
        self._patterns = patterns
        self._episodes = episodes or ExperienceReader(asker)
        self._mutex = threading.Lock()
        self._terms: LRUCache[str, list[int]] = LRUCache(KNOWN_TASKS)

    def suggest(self, request: SuggestionRequest) -> Suggestion:
        """Return what worked in episodes like the one at hand.

        Costs in proportion to the calls of the user's episodes, and one small statement for the arguments.

        Raises:
            UsageError: as_of is out of range in UTC.
            SnapshotError: the snapshot was built before there were episodes.
        """
        snapshot, likeness = self._compare(request)
        if likeness is None:
            return Suggestion(request.task, request.domain)
        domain = request.domain if request.domain is not None else likeness.domain()
        return Suggestion(
            task=request.task,
            domain=domain,
            next_steps=self._next_steps(snapshot, likeness, request.limit),
            finish_probability=likeness.probability(END),
            episodes=likeness.similar_episodes(request.limit),
            patterns=self._matching_patterns(snapshot, request, domain),
            episode_count=likeness.episode_count,
        )

    def rank_tools(
        self,
        request: SuggestionRequest,
        *,
        without_tasks: frozenset[str] = frozenset(),
        weights: Mapping[str, float] | None = None,
    ) -> list[tuple[str, float]]:
        """Return the tools of `suggest` with their probabilities and nothing else, as an evaluation needs it.

        Args:
            without_tasks: names of tasks whose episodes are left out, so that they have not been seen.
            weights: other values of variables `suggest_…`.
        """
        _, likeness = self._compare(request, without_tasks, weights or {})
        if likeness is None:
            return []
        return [
            (likeness.episodes.tools[tool], likeness.probability(tool))
            for tool in likeness.best_tools(request.limit)
        ]

    def episodes(self, user_id: str | None) -> Experience:
        """Return the completed episodes of a user in the last build, also the forgotten ones."""
        return self._episodes.read(self._asker.view()[0], user_id)

    def _compare(
        self,
        request: SuggestionRequest,
        without_tasks: frozenset[str] = frozenset(),
        weights: Mapping[str, float] | None = None,
    ) -> tuple[Snapshot, _Likeness | None]:
        """Return how like the episodes are that there are to learn from, None if there are none."""
        moment = _naive(request.as_of or datetime.now(UTC))
        snapshot, fresh = self._asker.view()
        episodes = self._episodes.read(snapshot, request.user_id)
        chosen = episodes.ended(
            moment, domain=request.domain, agent_id=request.agent_id, without_tasks=without_tasks
        )
        _leave_out_forgotten(
            episodes, chosen, fresh, request.user_id, None if request.as_of is None else moment
        )
        if not chosen.any():
            return snapshot, None
        values = {**variables(self._asker.project), **(weights or {})}
        return snapshot, _Likeness(episodes, chosen, request, self._read_task(request.task), moment, values)

    def _read_task(self, task: str) -> list[int]:
        """Return the terms of a task; those of the last are kept, since agents ask again at each step."""
        with self._mutex:
            if (known := self._terms.get(task)) is not None:
                return known
        (terms,) = read_terms(self._asker, [task])
        if len(task) <= KNOWN_TASK_CHARACTERS:
            with self._mutex:
                self._terms[task] = terms
        return terms

    def _next_steps(self, snapshot: Snapshot, likeness: _Likeness, limit: int) -> list[NextStep]:
        steps = [likeness.next_step(tool) for tool in likeness.best_tools(limit)]
        args = _read_args(snapshot, likeness.episodes, [step.call for step in steps])
        return [
            NextStep(
                tool=likeness.episodes.tools[step.tool],
                probability=likeness.probability(step.tool),
                confidence=step.confidence,
                confidence_low=step.low,
                confidence_high=step.high,
                support=step.support,
                episode_ids=[likeness.episodes.rows[one].episode_id for one in step.evidence],
                args=args.get(step.call),
            )
            for step in steps
        ]

    def _matching_patterns(
        self, snapshot: Snapshot, request: SuggestionRequest, domain: str | None
    ) -> list[Pattern]:
        known = self._patterns.actionable(snapshot, request.user_id, domain, request.as_of)
        if not known:
            return []
        last = request.so_far[-1] if request.so_far else None
        error_key = self._patterns.error_key(snapshot, last) if last else None
        tools = [call.tool for call in request.so_far]
        matched = [(match_pattern(one, tools, last, error_key), one) for one in known]
        matched.sort(key=lambda pair: (-pair[0], -pair[1].confidence_low, str(pair[1].pattern_id)))
        return [one for strength, one in matched if strength > 0][: request.limit]


@dataclass(frozen=True)
class _Step:
    """A tool that may be called next, and who did so: `call` is the episode and the place of the best."""

    tool: int
    confidence: float
    low: float
    high: float
    support: int
    evidence: list[int]
    call: tuple[int, int]


class _Likeness:
    """How like each moment of some episodes is to the one at hand, and what follows from that."""

    def __init__(
        self,
        episodes: Experience,
        chosen: Flags,
        request: SuggestionRequest,
        terms: Sequence[int],
        moment: datetime,
        weights: Mapping[str, Any],
    ) -> None:
        self.episodes = episodes
        self._chosen = chosen
        self.episode_count = int(chosen.sum())
        self._moments = np.flatnonzero(chosen[episodes.episode_of])
        self._episode_of = episodes.episode_of[self._moments]
        self._next_of = episodes.next_of[self._moments]
        self._steps = len(request.so_far)
        self._has_task = bool(terms)
        self._task_similarity = episodes.task_similarities(terms, chosen)

        numbers = [episodes.number(call.tool) for call in request.so_far]
        by_moment, self._in_common = episodes.steps_in_common(numbers)
        in_common = by_moment[self._moments]
        either = episodes.place_of[self._moments] + self._steps - in_common
        overlap = np.where(either > 0, in_common / np.maximum(either, 1), 1.0)

        call_weights = weights["suggest_call_weight"] * weights["suggest_call_decay"] ** np.arange(CALLS_BACK)
        same = episodes.history[:, self._moments] == _marks(request.so_far, numbers)[:, None]
        self._is_same_call = same[0]
        exponent = (
            call_weights @ same
            + weights["suggest_tools_weight"] * overlap
            + weights["suggest_task_weight"] * np.sqrt(self._task_similarity)[self._episode_of]
        )
        most = (
            float(call_weights.sum())
            + weights["suggest_tools_weight"]
            + weights["suggest_task_weight"] * self._has_task
        )
        self._alike: Values = exponent / most
        outcome = np.where(episodes.is_success, 1.0, weights["suggest_failure_weight"])
        self._weights: Values = np.exp(exponent - exponent.max()) * outcome[self._episode_of]
        self._scores = np.bincount(self._next_of, self._weights, minlength=len(episodes.tools))
        self._total = float(self._scores.sum())

        self._evidence = weights["confidence_decay"] ** episodes.ages(
            moment, weights["confidence_period_days"]
        )
        won = float(self._evidence[chosen & episodes.is_success].sum())
        rate = (won + 1) / (float(self._evidence[chosen].sum()) + 2)
        strength = weights["confidence_prior_weight"]
        self._prior = max(0.5, strength * rate), max(0.5, strength * (1 - rate))

    def probability(self, tool: int) -> float:
        return float(self._scores[tool]) / self._total if self._total else 0.0

    def best_tools(self, limit: int) -> list[int]:
        """Return the tools that most likely come next; names decide between equals."""
        order = np.lexsort((np.arange(len(self._scores)), -self._scores))
        return [int(tool) for tool in order if tool != END and self._scores[tool] > 0][:limit]

    def domain(self) -> str:
        """Return the domain of most of what is alike."""
        weights: Values = np.zeros(len(self.episodes))
        np.add.at(weights, self._episode_of, self._weights)
        return self.episodes.main_domain(weights)

    def next_step(self, tool: int) -> _Step:
        """Return who called a tool next and how that ended: each episode at its moment most alike."""
        places = np.flatnonzero(self._next_of == tool)
        order = np.lexsort((places, -self._alike[places], self._episode_of[places]))
        sorted_places = places[order]
        is_first = np.diff(self._episode_of[sorted_places], prepend=-1) != 0
        best = sorted_places[is_first]
        who = self._episode_of[best]
        alike = self._alike[best]
        won = self.episodes.is_success[who]
        evidence = alike * self._evidence[who]
        confidence, low, high = beta_interval(
            self._prior[0] + float(evidence[won].sum()), self._prior[1] + float(evidence[~won].sum())
        )
        ranked = np.lexsort((-who, -alike, ~won))[:EVIDENCE]
        first = int(best[ranked[0]])
        return _Step(
            tool=tool,
            confidence=confidence,
            low=low,
            high=high,
            support=len(np.unique(self._episode_of[places[self._is_same_call[places]]])),
            evidence=[int(who[one]) for one in ranked],
            call=(int(self._episode_of[first]), int(self.episodes.place_of[self._moments[first]])),
        )

    def similar_episodes(self, limit: int) -> list[SimilarEpisode]:
        """Return the episodes that are most alike as a whole: those that succeeded first among equals."""
        parts: list[Values] = []
        if self._has_task:
            parts.append(self._task_similarity)
        if self._steps:
            parts.append(self._in_common / self._steps)
        if not parts:
            return []
        similarity = np.where(self._chosen, sum(parts) / len(parts), 0.0)
        places = np.arange(len(similarity))
        order = np.lexsort((-places, ~self.episodes.is_success, -similarity))
        return [
            self._similar(int(place), float(similarity[place]))
            for place in order[:limit]
            if similarity[place] > 0
        ]

    def _similar(self, place: int, similarity: float) -> SimilarEpisode:
        episode = self.episodes.rows[place]
        return SimilarEpisode(
            episode_id=episode.episode_id,
            agent_id=episode.agent_id,
            domain=episode.domain,
            task_id=episode.task_id,
            task=episode.task,
            similarity=similarity,
            task_similarity=float(self._task_similarity[place]) if self._has_task else None,
            shared_steps=float(self._in_common[place] / self._steps) if self._steps else None,
            outcome=episode.outcome,
            is_success=episode.is_success,
            reward=episode.reward,
            tools=self.episodes.calls(place),
            completed_at=episode.completed_at.replace(tzinfo=UTC),
        )


def beta_interval(successes: float, failures: float) -> tuple[float, float, float]:
    """Return the mean of a Beta distribution and the ends of its central 95 % interval.

    Adds up the density of its logit, which is smooth, on 4,001 points within 20 of its standard deviations:
    right to 0.0001 for parameters from 0.5 to 100,000 (a test compares).
    """
    scale = np.sqrt(1 / successes + 1 / failures)
    logits = np.log(successes / failures) + scale * _GRID
    log_density = successes * logits - (successes + failures) * np.logaddexp(0, logits)
    density = np.exp(log_density - log_density.max())
    sums = np.cumsum(density) - density / 2
    low, high = np.interp([0.025, 0.975], sums / density.sum(), logits)
    return successes / (successes + failures), float(1 / (1 + np.exp(-low))), float(1 / (1 + np.exp(-high)))


def match_pattern(pattern: Pattern, tools: Sequence[str], last: Call | None, error_key: str | None) -> float:
    """Return how well a pattern answers what is at hand; 0 if it says nothing about what comes next.

    What recovered from the error that the last call ended with is best, then what continues the end of the
    calls: the more of them it takes up, the better. At the start, sequences are not known to begin.
    """
    steps = pattern.steps
    if pattern.kind == "error_recovery":
        is_of_error = last is not None and error_key is not None and steps[:2] == [last.tool, error_key]
        return 100.0 if is_of_error else 0.0
    if pattern.kind == "decision":
        begun = ["^", "began"] if last is None else [last.tool, "failed" if last.is_error else "worked"]
        return 1.0 if steps[:2] == begun else 0.0
    if pattern.kind == "tool_sequence" and tools:
        collapsed = [tool for place, tool in enumerate(tools) if place == 0 or tools[place - 1] != tool]
        for length in range(min(len(steps) - 1, len(collapsed)), 0, -1):
            if collapsed[-length:] == steps[:length]:
                return 1.0 + length
    return 0.0


def _marks(so_far: Sequence[Call], numbers: Sequence[int]) -> Numbers:
    """Return the marks of the last calls as `Experience.history` has them."""
    last = list(zip(so_far, numbers, strict=True))[::-1][:CALLS_BACK]
    marks = [_UNKNOWN if number < 0 else 2 * number + call.is_error for call, number in last]
    return np.array(marks + [_BEFORE_START] * (CALLS_BACK - len(marks)), dtype=np.int64)


def _read_args(
    snapshot: Snapshot, episodes: Experience, calls: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], Any]:
    """Return what some calls, each an episode and the place of the call in it, were called with."""
    rows = {call: episodes.row_number(*call) for call in calls}
    numbers = sorted({number for number in rows.values() if number is not None})
    if not numbers:
        return {}
    found = (
        snapshot.cursor()
        .execute(f"select rowid, args from staging.stg_steps where rowid in ({', '.join(map(str, numbers))})")
        .fetchall()
    )
    args = {number: json.loads(text or "null") for number, text in found}
    return {call: args.get(number) for call, number in rows.items() if number is not None}


def _leave_out_forgotten(
    episodes: Experience, chosen: Flags, fresh: FreshTables, user_id: str | None, as_of: datetime | None
) -> None:
    """Leave out what orders forget that are not in the snapshot yet, by the rules of its models."""
    for event, payload in fresh.forgets:
        ordered_at = event.recorded_at.replace(tzinfo=None)
        if not payload.is_whole_scope or (as_of is not None and ordered_at > as_of):
            continue
        if event.user_id is not None and event.user_id != user_id:
            continue
        before = payload.occurred_before.replace(tzinfo=None) if payload.occurred_before else None
        for place in np.flatnonzero(chosen):
            one = episodes.rows[place]
            chosen[place] = not (
                (one.recorded_at is None or ordered_at >= one.recorded_at)
                and event.agent_id in (None, one.agent_id)
                and event.session_id in (None, one.session_id)
                and (before is None or before > (one.started_at or one.completed_at))
            )


def _read_call(step: Mapping[str, Any], number: int) -> Call:
    error, observation = step.get("error"), step.get("observation")
    if error is not None and not isinstance(error, str | bool):
        raise UsageError(f"The error of step {number} of so_far is {_show(error)}; it is a text, or true.")
    return Call(
        _check_tool(step.get("tool"), number),
        is_error=bool(step.get("is_error")) or (error is not None and error is not False),
        error=error or None if isinstance(error, str) else None,
        observation=_read_observation(observation, number),
    )


def _read_observation(observation: object, number: int) -> str | None:
    """Return what a tool gave back as `log_step` keeps it: the patterns of errors are of such texts."""
    try:
        text = as_text(observation)
    except InvalidEventError as error:
        raise UsageError(
            f"The observation of step {number} of so_far is {_show(observation)}; it is a text, or what JSON "
            "can hold."
        ) from error
    check_unicode(f"The observation of step {number} of so_far", text or "")
    return text


def _check_tool(tool: object, number: int) -> str:
    if not isinstance(tool, str) or not tool or len(tool) > MAX_TOOL_CHARACTERS:
        raise UsageError(
            f"The tool of step {number} of so_far is {_show(tool)}; it is a text of 1 to "
            f"{MAX_TOOL_CHARACTERS:,} characters."
        )
    check_unicode(f"The tool of step {number} of so_far", tool)
    return tool


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _naive(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        raise UsageError(f"as_of is {moment}, which is out of range in UTC.") from error
