"""Associations: Hebbian potentials, Oja's bound, spreading activation and paths, by the macros in DuckDB."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck.project import render, variables

PROJECT = Path(__file__).resolve().parents[2]
RATE = float(variables(PROJECT)["association_learning_rate"])
DECAY = float(variables(PROJECT)["association_decay"])
SPREAD = float(variables(PROJECT)["spreading_decay"])
DAY_0 = datetime(2026, 1, 1, 6)

OF_ANOTHER = 9
"""A concept of another user; the one before it is of another agent."""

Coactivation = tuple[int, int, int]
"""Two concepts (0 to 5) that were active together, and the hour since DAY_0."""

histories = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 24 * 60)).filter(
        lambda one: one[0] != one[1]
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("set threads = 1")
        opened.execute("create table happened (source_id bigint, target_id bigint, together_at timestamp)")
        opened.execute(f"""
            create view edges as
            select *, {render(PROJECT, "log_potential", "coactivations")} as log_potential
            from (
                select
                    source_id, target_id, max(together_at) as settled_at,
                    list_sort(list({{'together_at': together_at, 'ended_at': cast(null as timestamp)}}))
                        as coactivations
                from (from happened union all select target_id, source_id, together_at from happened)
                group by source_id, target_id
            )
        """)
        opened.execute(f"create view levels as {render(PROJECT, 'association_levels', 'edges')}")
        opened.execute(f"""
            create view concepts as
            select
                source_id as concept_id, if(source_id = {OF_ANOTHER}, 'v', 'u') as user_id,
                if(source_id = {OF_ANOTHER} - 1, 'a', null) as agent_id,
                ['c' || source_id] as forms, '00020c' || source_id as shortest,
                log_norm, neighbour_ids, neighbour_log_potentials
            from ({render(PROJECT, "outgoing_associations", "edges", "levels")})
        """)
        moment = "cast(at_time as timestamp)"
        decay = render(PROJECT, "log_decay", moment)
        opened.execute(
            "create macro weights_at(at_time, for_user := null, for_agent := null) as table "
            f"with known as ({render(PROJECT, 'concepts_at', 'concepts', 'edges', moment)}) "
            "select concept_id as source_id, unnest(neighbour_ids) as target_id, "
            f"{render(PROJECT, 'strongest_weights', 'known', decay)} as weight from known"
        )
        end = "timestamp '2026-03-02 06:00:00'"
        asked = {"at": moment, "now": None}
        for name, at in asked.items():
            spread = render(PROJECT, "spreading_activation", "concepts", "edges", end, at)
            paths = render(PROJECT, "shortest_association_paths", "concepts", "edges", end, at)
            opened.execute(
                f"create macro spread_{name}(concepts, at_time := null, for_user := null, for_agent := null, "
                f"depth := 3, most := 100) as table {spread}"
            )
            opened.execute(
                f"create macro paths_{name}(from_concept, to_concept, at_time := null, for_user := null, "
                f"for_agent := null, most_hops := 4) as table {paths}"
            )
        yield opened


def live(connection: duckdb.DuckDBPyConnection, history: list[Coactivation]) -> None:
    connection.execute("truncate happened")
    rows = [f"({one}, {other}, timestamp '{DAY_0 + timedelta(hours=hour)}')" for one, other, hour in history]
    if rows:
        connection.execute(f"insert into happened values {', '.join(rows)}")


def potentials(history: list[Coactivation], at: datetime) -> dict[tuple[int, int], float]:
    """The definition, in Python."""
    found: dict[tuple[int, int], float] = defaultdict(float)
    for one, other, hour in history:
        happened_at = DAY_0 + timedelta(hours=hour)
        if happened_at <= at:
            worth = RATE * DECAY ** (at.date() - happened_at.date()).days
            found[one, other] += worth
            found[other, one] += worth
    return found


def weights(history: list[Coactivation], at: datetime) -> dict[tuple[int, int], float]:
    known = potentials(history, at)
    norms: dict[int, float] = defaultdict(float)
    for (source, _), potential in known.items():
        norms[source] += potential**2
    return {pair: potential / max(1, math.sqrt(norms[pair[0]])) for pair, potential in known.items()}


def spread(
    connection: duckdb.DuckDBPyConnection, at: datetime, concept: int, depth: int = 1
) -> dict[int, tuple[float, int]]:
    rows = connection.execute(
        "select concept, activation, hop from spread_at([$concept], $at, depth := $depth)",
        {"concept": f"C{concept} ", "at": at, "depth": depth},
    ).fetchall()
    return {int(row[0][1:]): (row[1], row[2]) for row in rows}


def weights_in_sql(connection: duckdb.DuckDBPyConnection, at: datetime) -> dict[tuple[int, int], float]:
    rows = connection.execute("from weights_at($at)", {"at": at}).fetchall()
    return {(source, target): weight for source, target, weight in rows}


@pytest.mark.parametrize("kind", ["at", "now"])
def test_what_is_asked_of_a_user_never_leads_over_a_concept_of_another_one(
    connection: duckdb.DuckDBPyConnection, kind: str
) -> None:
    """Numbers of concepts tell scopes apart only nearly: an edge can lead astray."""
    live(connection, [(0, OF_ANOTHER, 1), (OF_ANOTHER, 1, 1), (1, 2, 1), (2, OF_ANOTHER - 1, 1)])

    def asked(call: str) -> list[tuple[object, ...]]:
        end = "timestamp '2026-03-01'"
        return connection.execute(f"from {call.replace('(', f'_{kind}(', 1)}, at_time := {end})").fetchall()

    def concepts(scope: str, *begin: str) -> set[object]:
        names = ", ".join(f"'{one}'" for one in begin)
        return {value for row in asked(f"spread([{names}]{scope}") for value in (row[0], row[3])}

    stray = f"c{OF_ANOTHER}"
    assert concepts("", "c0") == {"c0", "c1", "c2", stray}
    assert concepts(", for_user := 'u'", "c0") == set()
    assert concepts(", for_user := 'v'", "c0") == set()
    assert concepts(", for_user := 'v'", stray) == set()
    assert concepts(", for_user := 'u'", "c1", "c0") == {"c1", "c2", f"c{OF_ANOTHER - 1}"}
    assert concepts(", for_user := 'u', for_agent := 'a'", f"c{OF_ANOTHER - 1}") == set()
    assert [row[0] for row in asked("paths('c0', 'c2'")] == [["c0", stray, "c1", "c2"]]
    assert asked("paths('c0', 'c2', for_user := 'u'") == []
    assert [row[0] for row in asked("paths('c1', 'c2', for_user := 'u'")] == [["c1", "c2"]]
    assert asked("paths('c1', 'c2', for_agent := 'a'") == []


@settings(max_examples=20, deadline=None)
@given(history=histories, hour=st.integers(0, 24 * 90))
def test_weights_are_those_of_the_definition(
    connection: duckdb.DuckDBPyConnection, history: list[Coactivation], hour: int
) -> None:
    live(connection, history)
    at = DAY_0 + timedelta(hours=hour)
    assert weights_in_sql(connection, at) == pytest.approx(weights(history, at))


@settings(max_examples=20, deadline=None)
@given(history=histories, repeats=st.integers(1, 40), hour=st.integers(0, 24 * 90))
def test_the_squares_of_the_weights_out_of_a_concept_never_add_up_to_more_than_one(
    connection: duckdb.DuckDBPyConnection, history: list[Coactivation], repeats: int, hour: int
) -> None:
    live(connection, history * repeats)
    squares: dict[int, float] = defaultdict(float)
    for (source, _), weight in weights_in_sql(connection, DAY_0 + timedelta(hours=hour)).items():
        assert weight >= 0
        squares[source] += weight**2
    assert all(total <= 1 + 1e-9 for total in squares.values())


@settings(max_examples=10, deadline=None)
@given(history=histories, cycles=st.integers(1, 30))
def test_a_weight_that_is_not_bounded_falls_by_the_decay_in_each_cycle(
    connection: duckdb.DuckDBPyConnection, history: list[Coactivation], cycles: int
) -> None:
    live(connection, history[:5])  # too few to reach the bound
    at = DAY_0 + timedelta(days=60)
    before = weights_in_sql(connection, at)
    after = weights_in_sql(connection, at + timedelta(days=cycles))
    assert after == pytest.approx({pair: weight * DECAY**cycles for pair, weight in before.items()})


@settings(max_examples=10, deadline=None)
@given(history=histories, order=st.randoms(), hour=st.integers(0, 24 * 60))
def test_neither_the_order_of_arrival_nor_the_future_changes_what_was(
    connection: duckdb.DuckDBPyConnection, history: list[Coactivation], order: object, hour: int
) -> None:
    at = DAY_0 + timedelta(hours=hour)
    live(connection, [one for one in history if one[2] <= hour])
    before = weights_in_sql(connection, at), spread(connection, at, 0, depth=3)
    shuffled = list(history)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    live(connection, shuffled)
    assert weights_in_sql(connection, at) == before[0]
    after = spread(connection, at, 0, depth=3)
    assert {concept: found[1] for concept, found in after.items()} == {
        concept: found[1] for concept, found in before[1].items()
    }
    assert {concept: found[0] for concept, found in after.items()} == pytest.approx(
        {concept: found[0] for concept, found in before[1].items()}, rel=1e-12
    )


@settings(max_examples=8, deadline=None)
@given(history=histories)
def test_the_last_build_answers_what_its_moment_does(
    connection: duckdb.DuckDBPyConnection, history: list[Coactivation]
) -> None:
    live(connection, history)
    at = datetime(2026, 3, 2, 6)
    for name in ("spread_now(['c0', 'c1'])", "paths_now('c0', 'c3')"):
        now = connection.execute(f"from {name}").fetchall()
        then = connection.execute(
            f"from {name.replace('_now', '_at')[:-1]}, at_time := timestamp '{at}')"
        ).fetchall()
        assert len(now) == len(then)
        for one, other in zip(now, then, strict=True):
            numbers = [value for value in one if isinstance(value, float)]
            assert numbers == pytest.approx([value for value in other if isinstance(value, float)])


def walks(known: dict[tuple[int, int], float], start: int) -> list[tuple[int, int, float]]:
    """All walks of at most two hops: where they end, how many hops, and the product of the weights."""
    one_hop = [(target, 1, weight) for (source, target), weight in known.items() if source == start]
    two_hops = [
        (target, 2, strength * weight)
        for middle, _, strength in one_hop
        for (source, target), weight in known.items()
        if source == middle
    ]
    return [(start, 0, 1.0), *one_hop, *two_hops]


def fewest_hops(known: dict[tuple[int, int], float], start: int, goal: int) -> int | None:
    """Breadth first, not from both ends as the macro does it."""
    seen, front, hops = {start}, {start}, 0
    while front and goal not in seen:
        front = {target for source, target in known if source in front} - seen
        seen, hops = seen | front, hops + 1
    return hops if goal in seen else None


@settings(max_examples=25, deadline=None)
@given(history=histories, goal=st.integers(0, 5), most_hops=st.integers(1, 4))
def test_a_path_is_the_strongest_of_the_shortest(
    connection: duckdb.DuckDBPyConnection, history: list[Coactivation], goal: int, most_hops: int
) -> None:
    live(connection, history)
    known = weights(history, datetime(2026, 3, 2, 6))
    hops = fewest_hops(known, 0, goal)
    rows = connection.execute(
        "select path, weights, hops, strength from paths_now(' C0', $goal, most_hops := $most_hops)",
        {"goal": f"c{goal}", "most_hops": most_hops},
    ).fetchall()
    if hops is None or hops > most_hops or not any(0 in pair for pair in known):
        assert rows == []
        return
    ((path, path_weights, found_hops, strength),) = rows
    assert (path[0], path[-1], found_hops) == ("c0", f"c{goal}", hops)
    assert (len(path), len(path_weights)) == (hops + 1, hops)
    for one, other, weight in zip(path[:-1], path[1:], path_weights, strict=True):
        pair = int(one[1:]), int(other[1:])
        assert weight == pytest.approx(known[pair]) or weight == pytest.approx(known[pair[::-1]])
    assert strength == pytest.approx(math.prod(path_weights))
    assert strength == pytest.approx(
        max(
            forth * back
            for met, hops_forth, forth in walks(known, 0)
            for other, hops_back, back in walks(known, goal)
            if met == other and hops_forth + hops_back == hops
        )
    )


def test_paths_lead_over_four_hops_and_no_more(connection: duckdb.DuckDBPyConnection) -> None:
    live(connection, [(number, number + 1, 0) for number in range(5)])
    ((path, hops),) = connection.execute("select path, hops from paths_now('c0', 'c4')").fetchall()
    assert (path, hops) == (["c0", "c1", "c2", "c3", "c4"], 4)
    assert connection.execute("from paths_now('c0', 'c5', most_hops := 5)").fetchall() == []


def test_activation_spreads_over_the_strongest_associations_of_a_concept(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    """40 concepts around the first, the later ones stronger: the 8 weakest of them are out of its reach."""
    strongest = int(variables(PROJECT)["association_neighbours"])
    around = strongest + 8
    live(connection, [(0, number, 24 * number) for number in range(1, around + 1)])
    at = datetime(2026, 3, 2, 6)
    expected = set(range(around - strongest + 1, around + 1))
    assert set(spread(connection, at, 0)) == expected
    now = connection.execute("select concept from spread_now(['c0'], depth := 1)").fetchall()
    assert {int(concept[1:]) for (concept,) in now} == expected
    ((path,),) = connection.execute("select path from paths_now('c0', 'c1')").fetchall()
    assert path == ["c0", "c1"], "found from the other end"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from([None, -60.5, -3.0, -2.25, 0.0, 0.125, 7.0, 7.5, 900.0])
        ),
        max_size=150,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_strongest_are_those_of_a_list_of_all(out_of: list[tuple[int, float | None]]) -> None:
    most = int(variables(PROJECT)["association_neighbours"])
    # The first concept is a hub, so that there is more than is kept, and that many are equally strong.
    edges = [(source // 2, target, potential) for target, (source, potential) in enumerate(out_of)]
    with duckdb.connect() as opened:
        opened.execute("create table edges (source_id bigint, target_id bigint, log_potential double)")
        opened.executemany("insert into edges values (?, ?, ?)", [*edges, (5, 0, None)])
        opened.execute(f"create view levels as {render(PROJECT, 'association_levels', 'edges')}")
        found = opened.execute(render(PROJECT, "outgoing_associations", "edges", "levels")).fetchall()
    expected: dict[int, tuple[float | None, list[tuple[float, int]]]] = {5: (None, [])}
    for source in {source for source, _, _ in edges}:
        own = sorted((-one, target) for of, target, one in edges if of == source and one is not None)
        norm = (
            0.5 * math.log(sum(math.exp(2 * (own[0][0] - one)) for one, _ in own)) - own[0][0]
            if own
            else None
        )
        expected[source] = (norm, own[:most])
    assert {source for source, *_ in found} == set(expected)
    for source, norm, targets, potentials in found:
        expected_norm, strongest = expected[source]
        assert list(zip(potentials, targets, strict=True)) == [(-one, target) for one, target in strongest]
        assert norm == (None if expected_norm is None else pytest.approx(expected_norm, abs=1e-9))


def test_activation_is_the_sum_over_all_walks(connection: duckdb.DuckDBPyConnection) -> None:
    """0 - 1 - 3 and 0 - 2 - 3, each together once on the last day; each hop weighs RATE and halves."""
    live(connection, [(0, 1, 0), (1, 3, 0), (0, 2, 0), (2, 3, 0)])
    found = spread(connection, DAY_0, 0, depth=2)
    one_hop = RATE * SPREAD
    assert list(found[3]) == pytest.approx([2 * one_hop**2, 2])
    assert list(found[1]) == pytest.approx([one_hop, 1])
    assert 0 not in found, "what was asked for is not an answer"
    deeper = spread(connection, DAY_0, 0, depth=3)
    assert deeper[1][0] == pytest.approx(one_hop + 4 * one_hop**3), "0-1-0-1, 0-1-3-1, 0-2-0-1, 0-2-3-1"
    assert spread(connection, DAY_0, 0, depth=9) == deeper, "three hops at most"
