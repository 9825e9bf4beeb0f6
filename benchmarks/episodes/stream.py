"""Generated episodes, with the lengths and the number of tools that the development episodes have.

An agent of a domain goes from tool to tool by a chain of likely successors, fails now and then, and succeeds
more often where it has checked first. The same seed gives the same episodes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.vocabulary import words
from mnemoduck.events import EventType, derived_event_id, new_event

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
MINUTES_BETWEEN = 10
USER = "benchmark"

_SHAPES = {"retail": (14, 7.7), "airline": (14, 8.4), "telecom": (36, 16.4)}
"""Tools, and the mean of calls in an episode: those of the development episodes (../shared/data)."""
_ATTEMPTS_AT_A_TASK = 4
_ERROR_SHARE = 0.02
_OBSERVATION_CHARACTERS = 400
_SUCCESSORS = (0.6, 0.25, 0.15)


@dataclass(frozen=True)
class Attempt:
    """An episode: calls of tools with whether each failed, and how it ended."""

    episode_id: str
    domain: str
    task_id: str
    task: str
    calls: list[tuple[str, bool]]
    is_success: bool
    started_at: datetime


class Episodes:
    """Draws episodes one after the other."""

    def __init__(self, seed: int = 1) -> None:
        self._seed = seed
        self._words = words()
        self._chains = {domain: self._chain(domain, tools) for domain, (tools, _) in _SHAPES.items()}

    def draw(self, first: int, count: int) -> Iterator[Attempt]:
        """Yield the episodes of the numbers from `first` on; which are drawn before makes no difference."""
        for number in range(first, first + count):
            chance = _chance(self._seed, number)
            domain = list(_SHAPES)[number % len(_SHAPES)]
            task = number // len(_SHAPES) // _ATTEMPTS_AT_A_TASK
            calls = self._calls(domain, chance)
            has_checked = any(tool.endswith("_check") for tool, _ in calls)
            yield Attempt(
                episode_id=f"episode-{self._seed}-{number}",
                domain=domain,
                task_id=f"{domain}:{task}",
                task=self.task_text(domain, task),
                calls=calls,
                is_success=chance.random() < (0.8 if has_checked else 0.55),
                started_at=FIRST + timedelta(minutes=MINUTES_BETWEEN * number),
            )

    def task_text(self, domain: str, task: int) -> str:
        """Return what a task says: the same words for each attempt at it."""
        chance = _chance(self._seed, domain, task)
        said = (self._words[int(chance.random() ** 3 * 3000)] for _ in range(24))
        return f"I need help with my {domain} order: {' '.join(said)}."

    def _chain(self, domain: str, tools: int) -> dict[str, list[str]]:
        chance = _chance(self._seed, domain)
        names = [f"{domain}_{'check' if number == 3 else f'tool_{number}'}" for number in range(tools)]
        return {name: chance.sample(names, len(_SUCCESSORS)) for name in names}

    def _calls(self, domain: str, chance: random.Random) -> list[tuple[str, bool]]:
        chain = self._chains[domain]
        length = max(2, round(chance.gauss(_SHAPES[domain][1], 3)))
        calls: list[tuple[str, bool]] = []
        tool = next(iter(chain))
        while len(calls) < length:
            has_failed = chance.random() < _ERROR_SHARE
            calls.append((tool, has_failed))
            if not has_failed or chance.random() < 0.3:
                (tool,) = chance.choices(chain[tool], _SUCCESSORS)
        return calls


def _chance(*seed: object) -> random.Random:
    return random.Random(" ".join(map(str, seed)))  # noqa: S311  (nothing is secret here)


def observation(number: int) -> str:
    """Return what a call gives back: a text of the usual length."""
    return f'{{"order_id": "#W{number:07}", "note": "'.ljust(_OBSERVATION_CHARACTERS - 2, "x") + '"}'


def lines_of(attempts: Iterator[Attempt]) -> Iterator[bytes]:
    """Yield the events of episodes as lines of the inbox: a message of the user, the calls, the end."""
    for attempt in attempts:
        episode = {"episode_id": attempt.episode_id}
        at = attempt.started_at
        last = len(attempt.calls) + 1

        def line(event_type: EventType, payload: dict[str, Any], second: int) -> bytes:
            occurred_at = at + timedelta(seconds=second)  # noqa: B023
            identity = (attempt.episode_id, event_type, second)  # noqa: B023
            return new_event(
                event_type,
                {**episode, **payload},  # noqa: B023
                occurred_at=occurred_at,
                recorded_at=occurred_at,
                user_id=USER,
                event_id=derived_event_id(occurred_at, *identity),
            ).to_line()

        yield line(
            "episode_started",
            {
                "task": attempt.task,
                "domain": attempt.domain,
                "task_id": attempt.task_id,
                "context": {"model": "small" if len(attempt.calls) % 2 else "large"},
            },
            0,
        )
        said = {"step": 0, "step_type": "message", "role": "user", "text": attempt.task}
        yield line("step", said, 0)
        for number, (tool, has_failed) in enumerate(attempt.calls, start=1):
            call: dict[str, Any] = {
                "step": number,
                "tool": tool,
                "args": {"order_id": f"#W{number:07}"},
                "observation": f"Error: {tool} is not allowed" if has_failed else observation(number),
                "is_error": has_failed,
            }
            yield line("step", call, number)
        outcome = "success" if attempt.is_success else "failure"
        yield line("episode_completed", {"outcome": outcome, "reward": float(attempt.is_success)}, last)
