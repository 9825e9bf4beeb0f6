"""Result files: what was measured, by scale and part; and whether one is worse than another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.suite.work import SCALES
from mnemoduck.home import write_atomically

FORMAT = 1
WORSE_AT = 1.3
"""A ratio that grew to more than so many times of the baseline's is flagged."""

Result = dict[str, Any]


class ResultError(Exception):
    """A result file cannot be used; the message says what to do."""


def new_result(seed: int) -> Result:
    """Return a result without anything in it."""
    return {"format": FORMAT, "seed": seed, "scales": {}}


def read_result(path: Path) -> Result:
    """Return the content of a result file.

    Raises:
        ResultError: there is none, it is damaged, or another version of the suite has written it.
    """
    making = "Measure with `mnemoduck bench --out FILE`."
    try:
        result = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ResultError(f"There is no result at {path}. {making}") from error
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} cannot be read as a result ({error}). {making}") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT or "scales" not in result:
        raise ResultError(f"{path} is no result of this version of the suite. {making}")
    return result


def write_result(path: Path, result: Result) -> None:
    """Write a result so that no reader sees half of it, the smallest scale first."""
    places = {scale: place for place, scale in enumerate(SCALES)}
    scales = sorted(result["scales"].items(), key=lambda named: places.get(named[0], len(places)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({**result, "scales": dict(scales)}, indent=1) + "\n")


def keep(result: Result, scale: str, memories: int, part: str, found: Result) -> None:
    """Put what a part found at a scale in place of what it had found there before."""
    of_scale = result["scales"].setdefault(scale, {"memories": memories, "parts": {}})
    of_scale["parts"][part] = found


def found_by_scale(result: Result, part: str) -> dict[str, Any]:
    """Return what a part found, by scale, each with its number of `memories`."""
    return {
        scale: {**of_scale["parts"][part]["found"], "memories": of_scale["memories"]}
        for scale, of_scale in result["scales"].items()
        if part in of_scale["parts"]
    }


@dataclass(frozen=True)
class Change:
    """A ratio of the baseline and of a result; `now` is None if only the rest of the part was measured."""

    scale: str
    part: str
    ratio: str
    before: float
    now: float | None

    @property
    def factor(self) -> float | None:
        if self.now is None:
            return None
        return self.now / self.before if self.before else float("inf" if self.now else 1)

    @property
    def is_worse(self) -> bool:
        """Whether it is flagged: what is no longer measured may hide that it became worse."""
        return self.factor is None or self.factor > WORSE_AT

    def __str__(self) -> str:
        name = f"{self.scale} {self.part}: {self.ratio}"
        if self.now is None or self.factor is None:
            return f"{name}: {self.before:.4g} in the baseline, not measured now"
        return f"{name}: {self.before:.4g} -> {self.now:.4g} ({self.factor:.2f}x)"


def compare(baseline: Result, result: Result) -> list[Change]:
    """Return each ratio of the baseline whose part was measured at its scale in the result as well.

    Raises:
        ResultError: the two have nothing in common, or are of different streams.
    """
    if baseline["seed"] != result["seed"]:
        raise ResultError(
            f"The baseline is of seed {baseline['seed']}, the result of seed {result['seed']}: they are of "
            f"different streams. Measure with --seed {baseline['seed']}."
        )
    changes = list(_changes(baseline, result))
    if not changes:
        raise ResultError(
            "The result and the baseline have no part at the same scale in common. The baseline has: "
            + "; ".join(
                f"{scale} ({', '.join(of_scale['parts'])})" for scale, of_scale in baseline["scales"].items()
            )
        )
    return changes


def _changes(baseline: Result, result: Result) -> Iterator[Change]:
    for scale, of_scale in baseline["scales"].items():
        now_of_scale = result["scales"].get(scale, {"parts": {}})["parts"]
        for part, before in of_scale["parts"].items():
            if part in now_of_scale:
                now = now_of_scale[part]["ratios"]
                for ratio, value in before["ratios"].items():
                    yield Change(scale, part, ratio, value, now.get(ratio))
