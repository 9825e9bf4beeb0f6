"""Sessions, goals and tasks, uses and interference: the macros of short-term memory, on random streams.

Sessions are parted by 30 minutes of silence and cut after an hour, so that short streams reach the cap. What
dbt makes of the same macros is in the unit tests beside the models, and in tests/integration.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoduck.extensions import load_extension
from mnemoduck.project import render

CHECKOUT = Path(__file__).resolve().parents[2]
START = datetime(2026, 3, 1, 6, 0)
GAP, CAP = timedelta(minutes=30), timedelta(hours=1)
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "scope", "role", "content", "metadata")]
    + [("occurred_at", pa.timestamp("us"))]
)
_FACTS = (
    "memory_id, stretch_started_at, activity_id, activity_position, activity_started_at, activity_ended_at"
)


@dataclass(frozen=True)
class Said:
    """A memory; `number` gives it an id that is in no order of time."""

    number: int
    scope: int
    occurred_at: datetime
    role: str | None = None
    content: str = ""
    goal: str | None = None
    task: str | None = None

    @property
    def memory_id(self) -> str:
        return f"00000000-0000-7000-8000-{self.number * 7919 % 100_000:012d}"

    @property
    def scope_key(self) -> str:
        return f"00000000-0000-7000-8000-{900_000 + self.scope:012d}"

    def as_row(self) -> dict[str, object]:
        named = {"goal": self.goal, "task": self.task}
        return {
            "id": self.memory_id,
            "scope": self.scope_key,
            "role": self.role,
            "content": self.content,
            "metadata": json.dumps({key: value for key, value in named.items() if value}),
            "occurred_at": self.occurred_at,
        }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with another length cap."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("memory", "cross_db"):
        shutil.copytree(CHECKOUT / "macros" / name, folder / "macros" / name)
    text = (CHECKOUT / "dbt_project.yml").read_text()
    changed = re.sub(r"session_max_hours: \d+", "session_max_hours: 1", text)
    assert changed != text
    (folder / "dbt_project.yml").write_text(changed)
    return folder


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        load_extension(opened, "fts")
        opened.execute("set threads = 1")
        yield opened


@st.composite
def streams(draw: st.DrawFn, scopes: int = 1, at_least: int = 1) -> list[Said]:
    """Memories in order of time, with silences about the gap and stretches about the cap."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 5, 20, 29, 30, 30, 30, 31, 300]),
                st.integers(1, scopes),
                st.sampled_from(["user", "assistant", "tool", None]),
                st.sampled_from(["garden plants", "plants need water", "water the garden", "?"]),
                st.sampled_from([None, None, None, "Move", "move ", "Rest"]),
                st.sampled_from([None, None, None, "pack", "book"]),
            ),
            min_size=at_least,
            max_size=45,
        )
    )
    said, moment = [], START
    for number, (minutes, scope, role, content, goal, task) in enumerate(steps, start=1):
        moment += timedelta(minutes=minutes)
        said.append(Said(number, scope, moment, role, content, goal, task))
    return said


def put(connection: duckdb.DuckDBPyConnection, table: str, said: Sequence[Said]) -> None:
    connection.register("given_rows", pa.Table.from_pylist([one.as_row() for one in said], schema=SCHEMA))
    connection.execute(
        f"create or replace table {table} as select cast(id as uuid) as memory_id, "
        "cast(scope as uuid) as scope_key, role, content, metadata, occurred_at, "
        "cast(null as timestamp) as known_stretch_started_at from given_rows"
    )
    connection.unregister("given_rows")


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def sessions(
    project: Path, connection: duckdb.DuckDBPyConnection, said: Sequence[Said]
) -> list[tuple[Any, ...]]:
    put(connection, "all_memories", said)
    query = render(project, "activity_sessions", "all_memories")
    return rows(connection, f"select {_FACTS} from ({query}) order by all")


# --- sessions ------------------------------------------------------------------------------------------


def expected_sessions(said: Sequence[Said]) -> set[tuple[str, datetime, str]]:
    """The rule in words: a silence longer than the gap begins a stretch, the cap cuts it."""
    found = set()
    for scope in {one.scope for one in said}:
        begun, last = START, None
        names: dict[tuple[datetime, int], str] = {}
        for one in sorted(
            (one for one in said if one.scope == scope), key=lambda one: (one.occurred_at, one.memory_id)
        ):
            if last is None or one.occurred_at - last > GAP:
                begun = one.occurred_at
            last = one.occurred_at
            name = names.setdefault((begun, (last - begun) // CAP), one.memory_id)
            found.add((one.memory_id, begun, name))
    return found


@settings(max_examples=40, deadline=None)
@given(said=streams(scopes=2))
def test_sessions_are_parted_by_silence_or_by_the_cap(
    project: Path, connection: duckdb.DuckDBPyConnection, said: list[Said]
) -> None:
    built = sessions(project, connection, said)
    assert {(str(row[0]), row[1], str(row[2])) for row in built} == expected_sessions(said)
    for _, stretch, _, _, started, ended in built:
        assert stretch <= started <= ended < started + CAP


@settings(max_examples=30, deadline=None)
@given(said=streams(at_least=15), data=st.data())
def test_sessions_do_not_depend_on_the_order_of_arrival(
    project: Path, connection: duckdb.DuckDBPyConnection, said: list[Said], data: st.DataObject
) -> None:
    """Memories arrive in batches in any order; each time, only what they can change is made anew."""
    arriving = data.draw(st.permutations(said))
    size = data.draw(st.integers(1, len(said)))
    put(connection, "memories", [])
    connection.execute(
        "create or replace table known as select memory_id, scope_key, memory_id as activity_id, "
        "1 as activity_position, occurred_at as stretch_started_at, occurred_at as activity_started_at, "
        "occurred_at as activity_ended_at from memories"
    )
    affected = render(project, "affected_memories", "known", "arrived")
    query = render(project, "activity_sessions", "in_play")
    for begin in range(0, len(arriving), size):
        put(connection, "arrived", arriving[begin : begin + size])
        connection.execute("insert into memories select * from arrived")
        connection.execute(
            "create or replace table in_play as select memories.* replace ("
            "known.stretch_started_at as known_stretch_started_at) "
            f"from memories left join known using (memory_id) where memory_id in ({affected})"
        )
        connection.execute(f"create or replace table made as {query}")
        connection.execute("delete from known where memory_id in (select memory_id from made)")
        connection.execute("insert into known by name select * exclude (occurred_at) from made")
    built = rows(connection, f"select {_FACTS} from known order by all")
    assert built == sessions(project, connection, said)


def test_activity_that_never_ends_is_read_again_by_its_last_session_only(
    project: Path,
    connection: duckdb.DuckDBPyConnection,
) -> None:
    said = [Said(number, 1, START + timedelta(minutes=20 * number)) for number in range(100)]
    sessions(project, connection, said[:-1])
    made = render(project, "activity_sessions", "all_memories")
    connection.execute(f"create or replace table known as {made}")
    put(connection, "arrived", said[-1:])
    affected = render(project, "affected_memories", "known", "arrived")
    assert len(rows(connection, affected)) <= 2 * CAP / timedelta(minutes=20)


# --- what a memory is among the others -----------------------------------------------------------------


def placed(
    project: Path, connection: duckdb.DuckDBPyConnection, said: Sequence[Said]
) -> list[tuple[Any, ...]]:
    """All that follows from the place of a memory in its session, except when the session ended."""
    sessions(project, connection, said)
    made = render(project, "activity_sessions", "all_memories")
    connection.execute(
        f"create or replace table placed as select made.*, role, content, metadata from ({made}) as made "
        "inner join all_memories using (memory_id)"
    )
    interfered = render(project, "interference_of", "placed", "mentions")
    conceived = render(project, "with_concepts", "placed", "content")
    concepts = render(project, "concept_terms", "concept_keys")
    connection.execute(
        "create or replace table mentions as select memory_id, hash(concept) as concept_id "
        f"from (select memory_id, unnest({concepts}) as concept from ({conceived}))"
    )
    return rows(
        connection,
        "select placed.memory_id, placed.activity_id, placed.activity_position, placed.stretch_started_at, "
        "organised.* exclude (memory_id), attended, coalesce(interference, 0) as interference from placed "
        f"inner join ({render(project, 'goals_and_tasks', 'placed')}) as organised using (memory_id) "
        f"inner join ({render(project, 'attended_with', 'placed')}) as attended using (memory_id) "
        f"left join ({interfered}) as interfered using (memory_id) "
        "order by placed.occurred_at, placed.memory_id",
    )


@settings(max_examples=30, deadline=None)
@given(said=streams(), data=st.data())
def test_what_comes_later_changes_nothing_of_what_was_there(
    project: Path, connection: duckdb.DuckDBPyConnection, said: list[Said], data: st.DataObject
) -> None:
    then = data.draw(st.sampled_from(said)).occurred_at
    before = placed(project, connection, [one for one in said if one.occurred_at <= then])
    assert placed(project, connection, said)[: len(before)] == before


@settings(max_examples=30, deadline=None)
@given(said=streams(scopes=2))
def test_every_memory_is_in_one_task_of_one_goal_and_numbers_have_no_gaps(
    project: Path, connection: duckdb.DuckDBPyConnection, said: list[Said]
) -> None:
    columns = "activity_id, goal_id, task_id, task_number, action_number, hierarchy_level, hierarchy_method"
    placed(project, connection, said)
    organised = render(project, "goals_and_tasks", "placed")
    found = rows(
        connection,
        f"select memory_id, {columns}, role, metadata, placed.scope_key from ({organised}) as organised "
        "inner join placed using (memory_id) order by placed.activity_id, activity_position",
    )
    assert len(found) == len(said)
    actions: dict[Any, list[int]] = {}
    tasks: dict[Any, list[int]] = {}
    for memory_id, activity, goal, task, number, action, level, method, _, metadata, scope in found:
        actions.setdefault((activity, task), []).append(action)
        if number not in tasks.setdefault(activity, []):
            tasks[activity].append(number)
        assert (memory_id == task) == (action == 0) == (level != "action")
        named = json.loads(metadata)
        assert method == "caller" or (not named and goal == activity)
        if named.get("goal"):
            same = [
                row[2] for row in found if row[10] == scope and "ove" in json.loads(row[9]).get("goal", "")
            ]
            assert goal != activity
            assert ("ove" not in named["goal"]) or set(same) == {goal}, "one goal across sessions"
    for numbers in actions.values():
        assert numbers == list(range(len(numbers)))
    for numbers in tasks.values():
        assert numbers == list(range(1, len(numbers) + 1))


@settings(max_examples=20, deadline=None)
@given(said=streams())
def test_attention_holds_earlier_memories_of_the_session_and_nine_at_most(
    project: Path, connection: duckdb.DuckDBPyConnection, said: list[Said]
) -> None:
    found = placed(project, connection, said)
    moments = {one.memory_id: one.occurred_at for one in said}
    for index, row in enumerate(found):
        earlier = [
            other
            for other in found[:index]
            if other[1] == row[1] and moments[str(row[0])] - moments[str(other[0])] < timedelta(minutes=5)
        ]
        assert row[-2] == min(9, len(earlier))


def test_interference_grows_with_what_the_memories_before_share(
    project: Path,
    connection: duckdb.DuckDBPyConnection,
) -> None:
    contents = ["garden, plants", "garden, plants", "garden, fence", "?", "garden, plants", "lighthouse"]
    said = [
        Said(number, 1, START + timedelta(minutes=number), content=content)
        for number, content in enumerate(contents)
    ]
    other_session = Said(99, 1, START + timedelta(hours=5), content="garden, plants")
    found = [row[-1] for row in placed(project, connection, [*said, other_session])]
    # garden and plants have fans of 1, 1; 2, 2; garden 3 and fence 1; none; 4 and 3; 1; and 1, 1 elsewhere.
    assert found == pytest.approx([0, 1 / 2, 1 / 3, 0, (3 / 4 + 2 / 3) / 2, 0, 0], abs=1e-11)


# --- uses ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    recalls=st.lists(st.tuples(st.integers(-3, 15), st.integers(1, 5)), max_size=15),
)
def test_uses_are_the_occurrence_and_each_recall_since(
    project: Path, connection: duckdb.DuckDBPyConnection, recalls: list[tuple[int, int]]
) -> None:
    """Recalls are (twelve hours after the memory, how many were recalled together)."""
    memory = Said(1, 1, START)
    put(connection, "memories", [memory, Said(2, 1, START)])
    connection.execute(
        "create or replace table recalls (memory_id uuid, occurred_at timestamp, recalled_together integer)"
    )
    moments = [START + timedelta(hours=12 * when) for when, _ in recalls]
    for moment, (_, together) in zip(moments, recalls, strict=True):
        connection.execute("insert into recalls values (?, ?, ?)", [memory.memory_id, moment, together])
    query = render(project, "recalls_of", "memories", "recalls")
    times = render(project, "use_times", "memories.occurred_at", "recalled.recall_times")
    (found, other) = rows(
        connection,
        f"select recalled_with, use_times, {render(project, 'spaced_uses', 'use_times')}, "
        f"{render(project, 'recent_uses', 'use_times')} from (select memories.memory_id, recalled_with, "
        f"{times} as use_times from memories left join ({query}) as recalled using (memory_id)) "
        f"order by memory_id <> '{memory.memory_id}'",
    )
    uses = [START, *sorted(moment for moment in moments if moment >= START)]
    assert found[1] == uses
    assert found[2] == sum(
        later - earlier >= timedelta(hours=24) for earlier, later in itertools.pairwise(uses)
    )
    assert found[3] == uses[::-1][:10]
    assert (found[0] or 0) == sum(together - 1 for when, together in recalls if when >= 0)
    assert other == (None, [START], 0, [START])


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("Book the flight to Lisbon. Then the van.", "Book the flight to Lisbon."),
        ("OK. Book the flight!\nThen the van.", "OK. Book the flight!"),
        ("no stop  at\nall", "no stop at all"),
        ("Version 1.2.3 is out, see the notes", "Version 1.2.3 is out, see the notes"),
        ("x" * 200, "x" * 119 + "…"),
        ("?", "?"),
        (" \t", ""),
    ],
)
def test_a_goal_or_task_that_nobody_named_is_called_by_its_first_sentence(
    project: Path, connection: duckdb.DuckDBPyConnection, content: str, name: str
) -> None:
    found = connection.execute(f"select {render(project, 'brief', '$content')}", {"content": content})
    assert found.fetchone() == (name,)
