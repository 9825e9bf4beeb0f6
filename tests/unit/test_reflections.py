"""int_episode_reflections: in whatever order episodes arrive and change, it is what a full refresh makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from tests.integration.workbench import PROJECT

from mnemoduck.errors import NothingPublishedError, SnapshotError, UsageError
from mnemoduck.home import Home
from mnemoduck.memory import Memory
from mnemoduck.project import render

PARAMETERS = {
    "reflection_window": 3,
    "reflection_compared_episodes": 2,
    "reflection_max_characters": 200,
}
"""Small, so that few episodes fill the window."""
MACROS = (
    "words",
    "jaccard",
    "run_starts",
    "runs_as_text",
    "first_ones",
    "what_followed",
    "cut_text",
    "hash_key",
)
DATABASE = duckdb.connect(config={"threads": 1})


@dataclass(frozen=True)
class Ended:
    """An episode that has ended, as episode_features has it; `task` is None without its start."""

    minute: int = 0
    user_id: str | None = "ada"
    domain: str = "shop"
    task: str | None = "send back a kettle"
    outcome: str = "success"
    tools: tuple[str, ...] = ("find",)
    failed: frozenset[int] = frozenset()
    is_forgotten: bool = False


@cache
def rendered(is_incremental: bool) -> str:
    def macro(name: str) -> Any:
        return lambda *given: render(
            PROJECT, name, *(tuple(value) if isinstance(value, list) else value for value in given)
        )

    path = PROJECT / "models" / "procedural" / "int_episode_reflections.sql"
    return (
        Environment(autoescape=False)
        .from_string(path.read_text("utf-8"))
        .render(
            config=lambda **_: "",
            ref=lambda name: name,
            this="int_episode_reflections",
            is_incremental=lambda: is_incremental,
            parameter=PARAMETERS.__getitem__,
            **{name: macro(name) for name in MACROS},
        )
    )


class Reflections:
    """The model outside dbt, over tables in memory; a build does what dbt's merge does."""

    def __init__(self) -> None:
        self.batch_seq = 0
        DATABASE.execute("drop table if exists int_episode_reflections")
        DATABASE.execute(
            "create or replace table episode_features (episode_key uuid primary key, user_id varchar,"
            " agent_id varchar, episode_id varchar, task_key uuid, domain varchar, task varchar,"
            " outcome varchar, is_success boolean, tools varchar[], tool_errors boolean[],"
            " error_keys varchar[],"
            " tool_count integer, error_count integer, completed_at timestamp, forgotten_at timestamp,"
            " changed_batch_seq bigint)"
        )

    def arrive(self, episodes: Iterable[tuple[int, Ended]]) -> None:
        """One load: episodes by their numbers; a number that is known changes."""
        self.batch_seq += 1
        for number, ended in dict(episodes).items():
            failures = [place in ended.failed for place in range(len(ended.tools))]
            DATABASE.execute(
                "insert or replace into episode_features values (?, ?, 'bot', ?, md5(?)::uuid, ?, ?, ?, ?, ?,"
                " ?, ?, ?, ?, timestamp '2026-01-01' + to_minutes(?),"
                " if(?, timestamp '2026-02-01', null), ?)",
                [
                    UUID(int=number * 7919 % 1000),
                    ended.user_id,
                    f"e{number}",
                    ended.task or "",
                    ended.domain if ended.task else "",
                    ended.task,
                    ended.outcome,
                    ended.outcome == "success",
                    list(ended.tools),
                    failures,
                    ["no *" if failed else None for failed in failures],
                    len(ended.tools),
                    sum(failures),
                    ended.minute,
                    ended.is_forgotten,
                    self.batch_seq,
                ],
            )

    def build(self) -> int:
        """Build it, and return how many rows that wrote, changed or deleted."""
        if (
            DATABASE.execute("from duckdb_tables() where table_name = 'int_episode_reflections'").fetchall()
            == []
        ):
            DATABASE.execute(f"create table int_episode_reflections as {rendered(False)}")
            return len(self.rows())
        written = DATABASE.execute(
            f"merge into int_episode_reflections as t using ({rendered(True)}) as s"
            " on s.episode_key = t.episode_key"
            " when matched and s.row_hash is null then delete"
            " when matched and s.row_hash is distinct from t.row_hash then update by name"
            " when not matched then insert by name returning merge_action"
        ).fetchall()
        return len(written)

    def rows(self, relation: str = "int_episode_reflections") -> list[tuple[Any, ...]]:
        return DATABASE.execute(
            f"select * exclude (changed_batch_seq) from {relation} order by episode_key"
        ).fetchall()

    def full_refresh(self) -> list[tuple[Any, ...]]:
        return self.rows(f"({rendered(False)})")

    def compared(self) -> dict[str, list[str]]:
        return dict(
            DATABASE.execute("select episode_id, compared_episodes from int_episode_reflections").fetchall()
        )

    def looked_at(self) -> int:
        """Return how many rows the next build makes, written or not."""
        return len(DATABASE.execute(rendered(True)).fetchall())


ENDED = st.builds(
    Ended,
    minute=st.integers(0, 6),
    domain=st.sampled_from(["shop", "bank"]),
    task=st.sampled_from([None, "send back a kettle", "send back a lamp", "find a lamp"]),
    outcome=st.sampled_from(["success", "success", "failure", "abandoned"]),
    tools=st.lists(st.sampled_from(["find", "look", "pay"]), max_size=4).map(tuple),
    failed=st.frozensets(st.integers(0, 3), max_size=2),
    is_forgotten=st.sampled_from([False, False, True]),
)
LOADS = st.lists(
    st.lists(st.tuples(st.integers(1, 12), ENDED), min_size=1, max_size=8), min_size=3, max_size=5
)


@settings(deadline=None, max_examples=10)
@given(loads=LOADS)
def test_in_any_order_of_arrival_reflections_are_those_of_a_full_refresh(
    loads: list[list[tuple[int, Ended]]],
) -> None:
    reflections = Reflections()
    for load in loads:
        # An episode is its user's own, so that never changes.
        reflections.arrive(
            (number, replace(ended, user_id="ada" if number % 3 else None)) for number, ended in load
        )
        reflections.build()
        assert reflections.rows() == reflections.full_refresh()
        assert reflections.build() == 0, "a second build with nothing new rewrites no row"


def test_a_late_success_is_noticed_by_those_that_it_is_compared_with_and_by_no_others() -> None:
    reflections = Reflections()
    reflections.arrive((n, Ended(minute=n, task=f"task {n}")) for n in range(2, 40))
    reflections.build()
    assert reflections.compared()["e39"] == ["e38", "e37"]
    reflections.arrive([(1, Ended(minute=1, task="task 1"))])
    assert reflections.looked_at() == 1 + PARAMETERS["reflection_window"]
    assert reflections.build() == 1 + PARAMETERS["reflection_compared_episodes"]
    assert reflections.compared()["e2"] == ["e1"]


def test_a_late_attempt_at_a_task_is_noticed_by_later_attempts_however_many_successes_lie_between() -> None:
    reflections = Reflections()
    reflections.arrive((n, Ended(minute=n, task=f"task {n}")) for n in range(2, 40))
    reflections.arrive([(40, Ended(minute=40, task="task 1", outcome="failure"))])
    reflections.build()
    assert reflections.compared()["e40"] == ["e39", "e38"]
    reflections.arrive([(1, Ended(minute=1, task="task 1"))])
    reflections.build()
    assert reflections.compared()["e40"] == ["e1"]


def test_of_a_long_episode_the_comparison_is_still_told() -> None:
    tools = tuple(f"tool_{number}_{'x' * 250}" for number in range(50))
    reflections = Reflections()
    reflections.arrive([(1, Ended(minute=1, tools=("find",)))])
    reflections.arrive([(2, Ended(minute=2, outcome="failure", tools=tools, failed=frozenset(range(50))))])
    reflections.build()
    (text,) = DATABASE.execute(
        "select reflection from int_episode_reflections where episode_id = 'e2'"
    ).fetchall()[0]
    assert len(text) <= PARAMETERS["reflection_max_characters"]
    assert "Compared with the one earlier success at this task." in text


# --- Memory.reflect ------------------------------------------------------------------------------------


@pytest.fixture
def published(memory: Memory, make_snapshot: Callable[[int], Path]) -> Memory:
    """A snapshot: Ada's e1 and e2 at the same task, nobody's e1, and Eve's e2."""
    reflections = Reflections()
    reflections.arrive([(1, Ended(1)), (2, Ended(2, outcome="failure", tools=("look",)))])
    reflections.build()
    with duckdb.connect(str(make_snapshot(1))) as connection:
        for name, query in (
            (
                "episode_reflections",
                "select *, 'rules' as method, reflection as rules_reflection, null::varchar as lesson,"
                " null::varchar as model from int_episode_reflections",
            ),
            ("episodes", "select episode_key, task from episode_features"),
        ):
            connection.register("rows", DATABASE.execute(query).to_arrow_table())
            connection.execute(f"create table {name} as select * from rows")
        connection.execute(
            "insert into episode_reflections by name select * replace (null as user_id)"
            " from episode_reflections where episode_id = 'e1' union all by name"
            " select * replace ('eve' as user_id) from episode_reflections where episode_id = 'e2'"
        )
    return memory


def test_a_reflection_is_read_with_the_task_and_what_others_did(published: Memory) -> None:
    reflection = published.reflect("e2", user_id="ada")
    assert (reflection.task, reflection.outcome, reflection.method) == (
        "send back a kettle",
        "failure",
        "rules",
    )
    assert reflection.compared_episodes == ["e1"]
    assert (reflection.missing_tools, reflection.extra_tools) == (["find"], ["look"])
    assert reflection.text.startswith("Failed after 1 call, which worked.\nTried: look\n")
    assert reflection.completed_at == datetime(2026, 1, 1, 0, 2, tzinfo=UTC)


def test_what_a_model_says_goes_before_what_rules_say_and_both_are_told(
    published: Memory, home: Home
) -> None:
    snapshot = home.published / (home.published / "CURRENT").read_text().strip()
    with duckdb.connect(str(snapshot)) as connection:
        connection.execute(
            "update episode_reflections set reflection = 'It was looked up.', method = 'model',"
            " model = 'llama', lesson = 'Find it.' where episode_id = 'e2'"
        )
    reflection = published.reflect("e2", user_id="ada")
    assert (reflection.text, reflection.method, reflection.model) == ("It was looked up.", "model", "llama")
    assert reflection.lesson == "Find it."
    assert reflection.rules_text.startswith("Failed after 1 call, which worked.")


def test_of_several_users_one_is_named_and_no_user_means_nobody(published: Memory) -> None:
    with pytest.raises(UsageError, match=r"2 users have an episode 'e2': 'ada', 'eve'\. Say whose"):
        published.reflect("e2")
    with pytest.raises(UsageError, match="user_id must be a text that is not empty"):
        published.reflect("e2", user_id="")
    assert published.reflect("e1").user_id is None
    assert published.reflect("e1", user_id="ada").user_id == "ada"
    with pytest.raises(UsageError, match="no reflection on the episode 'e2' of the user 'bo'"):
        published.reflect("e2", user_id="bo")


def test_before_there_are_reflections_it_says_what_to_do(
    memory: Memory, make_snapshot: Callable[[int], Path]
) -> None:
    with pytest.raises(NothingPublishedError, match="mnemoduck run"):
        memory.reflect("e1")
    make_snapshot(1)
    with pytest.raises(SnapshotError, match="no reflections yet"):
        memory.reflect("e1")
