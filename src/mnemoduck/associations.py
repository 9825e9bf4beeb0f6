"""What comes to mind with a concept: spreading activation and paths, from the last build.

The definitions are the dbt macros of macros/memory/associations.sql; the snapshot offers them as table
macros, which this module asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from mnemoduck.errors import UsageError
from mnemoduck.reader import MAX_LIMIT
from mnemoduck.scope import Scope, check_unicode

MAX_DEPTH = 3
MAX_HOPS = 4

Ask = Callable[[str, Mapping[str, Any]], duckdb.DuckDBPyRelation]


@dataclass(frozen=True)
class Association:
    """A concept that was activated: its activation (the sum over all walks to it), and how it was reached.

    `hop` is the number of associations on the shortest way to it, `via` the concept before it there.
    """

    concept: str
    activation: float
    hop: int
    via: str
    user_id: str | None
    agent_id: str | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class AssociationPath:
    """The shortest way between two concepts: the concepts on it, and the weight of each association.

    `strength` is the product of the weights.
    """

    path: list[str]
    weights: list[float]
    hops: int
    strength: float
    user_id: str | None
    agent_id: str | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def spread_activation(
    ask: Ask,
    concepts: Sequence[str],
    scope: Scope,
    *,
    depth: int = MAX_DEPTH,
    limit: int = 10,
    as_of: datetime | None = None,
) -> list[Association]:
    """Return what concepts activate, most active first; empty where none of them is known.

    Raises:
        UsageError: no concept, a depth that is not 1 to 3, or a limit that is not 0 to 10,000.
    """
    if isinstance(concepts, str) or not concepts:
        raise UsageError("Name the concepts to begin with, as a list of at least one word.")
    for concept in concepts:
        check_unicode("A concept", concept)
    _check_range("The depth", depth, 1, MAX_DEPTH)
    _check_range("The limit", limit, 0, MAX_LIMIT)
    rows = ask(
        f"""
        select concept, activation, hop, via, user_id, agent_id
        from {_at("spread_activation", "$concepts", as_of)}
            for_user := $user_id, for_agent := $agent_id, depth := $depth, most := $limit
        )
        """,
        {"concepts": list(concepts), "depth": depth, "limit": limit, **_parameters(scope, as_of)},
    ).fetchall()
    return [Association(*row) for row in rows]


def association_paths(
    ask: Ask,
    start: str,
    goal: str,
    scope: Scope,
    *,
    max_hops: int = 4,
    as_of: datetime | None = None,
) -> list[AssociationPath]:
    """Return the shortest path from one concept to another, of several the strongest.

    Over the strongest associations of each concept. One for each user and agent of the scope that has one,
    the shortest first.

    Raises:
        UsageError: more hops than 4, or less than one.
    """
    for concept in (start, goal):
        check_unicode("A concept", concept)
    _check_range("The number of hops", max_hops, 1, MAX_HOPS)
    rows = ask(
        f"""
        select path, weights, hops, strength, user_id, agent_id
        from {_at("association_paths", "$start, $goal", as_of)}
            for_user := $user_id, for_agent := $agent_id, most_hops := $max_hops
        )
        """,
        {"start": start, "goal": goal, "max_hops": max_hops, **_parameters(scope, as_of)},
    ).fetchall()
    return sorted((AssociationPath(*row) for row in rows), key=lambda path: (path.hops, -path.strength))


def _at(macro: str, arguments: str, as_of: datetime | None) -> str:
    if as_of is None:
        return f"{macro}({arguments},"
    return f"{macro}_at({arguments}, $as_of,"


def _parameters(scope: Scope, as_of: datetime | None) -> dict[str, Any]:
    if scope.session_id is not None:
        raise UsageError("Associations are those of a user and agent, across sessions: name no session.")
    parameters: dict[str, Any] = {"user_id": scope.user_id, "agent_id": scope.agent_id}
    if as_of is not None:
        parameters["as_of"] = as_of.astimezone(UTC).replace(tzinfo=None)
    return parameters


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{what} must be a whole number from {low} to {high:,}; got {value!r}.")
