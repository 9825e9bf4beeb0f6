"""What an answer must be, beside matching: its type, tags, metadata, time, importance, strength and fate.

What the index knows (types, tags, times) is a condition of the ranking; the rest is judged on the memories
that ranking gives, as many of them as it takes (see `mnemoduck.recall.selection`): answers are exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, get_args

from mnemoduck.errors import UsageError
from mnemoduck.events import MemoryType
from mnemoduck.recall.times import TimeRange
from mnemoduck.scope import check_unicode

MEMORY_TYPES: tuple[str, ...] = get_args(MemoryType)
FATES = ("retained", "reinforced", "superseded", "forgotten")
MAX_VALUES = 1000


@dataclass(frozen=True)
class Filters:
    """Conditions that all must hold. Made by `make_filters`, which checks them; hashable.

    `memory_types`: one of these. `tags`: all of these. `metadata`: pairs of a dotted path and the JSON of the
    value there. `since`, `until`: since <= occurred_at < until. `ranges`: it happened in one of these.
    `min_strength`: the probability of retrieval at the moment that is asked about. `fates`: one of these.
    """

    memory_types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    ranges: tuple[TimeRange, ...] = ()
    min_strength: float | None = None
    min_importance: float | None = None
    fates: tuple[str, ...] = ()

    @property
    def judges_rows(self) -> bool:
        """Whether memories have to be read before it is known that they pass."""
        return bool(self.metadata or self.fates) or (self.min_strength, self.min_importance) != (None, None)

    @property
    def needs_signals(self) -> bool:
        return self.min_strength is not None

    def in_index(self) -> tuple[str, dict[str, Any]]:
        """Return the condition on columns of search_documents, "" if there is none, and its values."""
        conditions = []
        values: dict[str, Any] = {}
        if self.memory_types:
            conditions.append("list_contains($filter_types, memory_type)")
            values["filter_types"] = list(self.memory_types)
        if self.tags:
            conditions.append("list_has_all(tags, $filter_tags)")
            values["filter_tags"] = list(self.tags)
        spans: list[tuple[TimeRange, ...]] = [self.ranges] if self.ranges else []
        if self.since or self.until:
            spans.append((TimeRange("", self.since, self.until),))
        for place, ranges in enumerate(spans):
            either = []
            for number, one in enumerate(ranges):
                bounds = []
                for name, sign, bound in (("since", ">=", one.since), ("until", "<", one.until)):
                    if bound is not None:
                        key = f"filter_{name}_{place}_{number}"
                        bounds.append(f"occurred_at {sign} ${key}")
                        values[key] = bound.replace(tzinfo=None)
                either.append(f"({' and '.join(bounds) or 'true'})")
            conditions.append(f"({' or '.join(either)})")
        return " and ".join(conditions), values

    def within(self, ranges: Sequence[TimeRange]) -> Filters:
        return replace(self, ranges=tuple(ranges))

    def match_metadata(self, metadata: Mapping[str, Any]) -> bool:
        """Whether each path leads to its value; a number is a number however it is written."""
        return all(
            any(_is_same(found, json.loads(wanted)) for found in _at_path(metadata, path))
            for path, wanted in self.metadata
        )


def make_filters(
    *,
    memory_type: str | Sequence[str] | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    min_strength: float | None = None,
    min_importance: float | None = None,
    fates: str | Sequence[str] | None = None,
) -> Filters:
    """Return checked filters.

    Raises:
        UsageError: says which value cannot be a condition, and what can.
    """
    begin, end = _in_utc("since", since), _in_utc("until", until)
    if begin is not None and end is not None and begin >= end:
        raise UsageError(
            f"No time lies between since ({begin.isoformat()}) and until ({end.isoformat()}): since is "
            "included, until is not."
        )
    return Filters(
        memory_types=_of_these("memory_type", memory_type, MEMORY_TYPES),
        tags=_tags(tags),
        metadata=_metadata(metadata),
        since=begin,
        until=end,
        min_strength=_share("min_strength", min_strength),
        min_importance=_share("min_importance", min_importance),
        fates=_of_these("fate", fates, FATES),
    )


def _of_these(name: str, values: str | Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    if values is None:
        return ()
    asked = [values] if isinstance(values, str) else list(values)
    for value in asked:
        if value not in known:
            raise UsageError(f"{name} takes {', '.join(known)}; got {value!r}.")
    return tuple(sorted(set(asked)))


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise UsageError(f"tags takes a list of texts; got the text {tags!r}. Write [{tags!r}].")
    asked = []
    for tag in tags:
        check_unicode("A tag", tag)
        if not tag.strip():
            raise UsageError("A tag must be a text that is not empty.")
        asked.append(tag.strip())  # as they are remembered
    if len(asked) > MAX_VALUES:
        raise UsageError(
            f"{len(asked):,} tags are too many to filter by; at most {MAX_VALUES:,} are allowed."
        )
    return tuple(sorted(set(asked)))


def _metadata(metadata: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    pairs = []
    for path, value in (metadata or {}).items():
        check_unicode("A key of metadata", path)
        if not path:
            raise UsageError("A key of metadata must not be empty.")
        is_number = isinstance(value, int | float) and not (
            isinstance(value, float) and not math.isfinite(value)
        )
        if not (value is None or isinstance(value, str | bool) or is_number):
            raise UsageError(
                f"metadata {path!r} is compared with a text, a number, true, false or null; got {value!r}."
            )
        if isinstance(value, str):
            check_unicode(f"metadata {path!r}", value)
        pairs.append((path, json.dumps(value)))
    return tuple(sorted(pairs))


def _share(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"{name} takes a number from 0 to 1; got {value!r}.")
    return float(value)


def _in_utc(name: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise UsageError(f"{name} takes a datetime; got {moment!r}.")
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise UsageError(f"{name} is {moment}, which is out of range in UTC.") from error


def _at_path(data: Any, path: str) -> Iterator[Any]:
    """Yield what lies at a dotted path. A key may have dots itself, so each way to part it counts."""
    if not isinstance(data, Mapping):
        return
    if path in data:
        yield data[path]
    for place, character in enumerate(path):
        if character == "." and path[:place] in data:
            yield from _at_path(data[path[:place]], path[place + 1 :])


def _is_same(found: Any, wanted: Any) -> bool:
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)
