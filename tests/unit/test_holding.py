"""How well a memory is held: Python computes what the macros define."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck.holding import signals_of
from mnemoduck.project import find_project, render, variables

PROJECT = find_project()
START = datetime(2026, 1, 1)
ages = st.integers(-(10**12), 10**15)  # microseconds


@pytest.fixture(scope="module")
def cursor() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@given(
    first=ages,
    later=st.lists(st.integers(0, 10**15), max_size=12),
    older=st.integers(0, 1000),
    spaced=st.one_of(st.integers(0, 30), st.integers(1000, 5000)),
)
def test_signals_are_those_of_the_macros(
    cursor: duckdb.DuckDBPyConnection, first: int, later: list[int], older: int, spaced: int
) -> None:
    as_of = START + timedelta(days=20_000)
    first_at = as_of - timedelta(microseconds=first)
    uses = sorted((first_at + timedelta(microseconds=one) for one in later), reverse=True) or [first_at]
    activation = render(PROJECT, "activation", "uses", "first_at", "recent", "as_of")
    threshold = variables(PROJECT)["retrieval_threshold"]
    stability = render(PROJECT, "stability_days", "spaced")
    row = cursor.execute(
        f"select activation, {render(PROJECT, 'retrieval_probability', 'activation', threshold)}, "
        f"{render(PROJECT, 'retention', 'recent[1]', stability, 'as_of')} "
        f"from (select *, {activation} as activation from (select $uses as uses, $first as first_at, "
        "$recent::timestamp[] as recent, $as_of as as_of, $spaced as spaced))",
        {"uses": len(uses) + older, "first": first_at, "recent": uses, "as_of": as_of, "spaced": spaced},
    ).fetchone()
    assert row is not None
    found = signals_of(PROJECT, len(uses) + older, spaced, first_at, uses, as_of)
    if found is None:
        assert row[0] is None
    else:
        ours = (found.activation, found.strength, found.retention)
        assert all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in zip(ours, row, strict=True))


def test_a_memory_that_was_used_very_often_is_retained() -> None:
    """Its stability doubles with each pause, and is more than a number can say some time."""
    used_at = START + timedelta(days=1)
    found = signals_of(PROJECT, 3000, 2000, START, [used_at], used_at + timedelta(days=30))
    assert found is not None
    assert found.retention == 1.0


def test_without_noise_what_is_below_the_threshold_is_never_retrieved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {**variables(PROJECT), "activation_noise": 0.001}
    monkeypatch.setattr("mnemoduck.holding.variables", lambda _: values)
    found = signals_of(PROJECT, 1, 0, START, [START], START + timedelta(days=3000))
    assert found is not None
    assert found.strength == 0.0
