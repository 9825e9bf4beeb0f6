"""What worked in episodes like this one is suggested: from the right episodes, and better than by habit."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck.cli import cli
from mnemoduck.episodes.reading import CALLS_BACK, Episode, Experience, ExperienceReader, TaskWords
from mnemoduck.episodes.records import Call, Pattern
from mnemoduck.episodes.suggesting import beta_interval, match_pattern, read_calls
from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.evaluation.episodes import (
    AGENT_ONLY,
    BIGRAM,
    FREQUENT,
    SUGGEST,
    evaluate_next_tools,
    group_tasks,
)
from mnemoduck.evaluation.measures import bootstrap_interval, clustered_interval
from mnemoduck.home import Home
from mnemoduck.memory import Memory
from mnemoduck.news import News
from mnemoduck.project import find_project, render

DEV_EPISODES = Path(__file__).parents[3] / "shared" / "data" / "agent_episodes_dev.jsonl.gz"

NOON = datetime(2026, 3, 1, 12)
_TABLES = {
    "staging.episode_features": {
        "episode_key": "uuid", "user_id": "varchar", "agent_id": "varchar", "session_id": "varchar",
        "episode_id": "varchar", "domain": "varchar", "task_id": "varchar", "task": "varchar",
        "outcome": "varchar", "is_success": "boolean", "reward": "double", "tools": "varchar[]",
        "tool_errors": "boolean[]", "requestors": "varchar[]", "started_at": "timestamp",
        "completed_at": "timestamp", "forgotten_at": "timestamp",
    },
    "staging.stg_episodes": {"episode_key": "uuid", "recorded_at": "timestamp"},
    "staging.stg_steps": {
        "event_id": "uuid", "episode_key": "uuid", "user_id": "varchar", "step_type": "varchar",
        "args": "varchar", "step": "integer", "occurred_at": "timestamp",
    },
}  # fmt: skip
_numbers = itertools.count()


def episode(
    episode_id: str,
    task: str,
    calls: Sequence[str],
    *,
    outcome: str | None = "success",
    user_id: str | None = "maya",
    domain: str = "shop",
    completed_at: datetime | None = NOON,
    requestors: Sequence[str | None] | None = None,
    args: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return an episode as a test says it: a call that ends in "!" failed."""
    return {
        "episode_id": episode_id,
        "user_id": user_id,
        "agent_id": "clerk",
        "session_id": None,
        "domain": domain,
        "task_id": None,
        "task": task,
        "outcome": outcome,
        "is_success": outcome == "success",
        "reward": None,
        "tools": [call.removesuffix("!") for call in calls],
        "tool_errors": [call.endswith("!") for call in calls],
        "requestors": list(requestors or ["assistant"] * len(calls)),
        "started_at": NOON - timedelta(hours=1),
        "completed_at": completed_at,
        "forgotten_at": None,
        "args": list(args),
        **more,
    }


def publish(home: Home, episodes: Iterable[Mapping[str, Any]], batch_seq: int = 0) -> Path:
    """Put a snapshot in place that has the episodes, as far as suggestions ask for them."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
    for number, one in enumerate(episodes):
        key = str(UUID(int=number))
        rows["staging.episode_features"].append({"episode_key": key, **one})
        rows["staging.stg_episodes"].append({"episode_key": key, "recorded_at": NOON})
        rows["staging.stg_steps"] += [
            {
                "event_id": str(UUID(int=step)), "episode_key": key, "step_type": "tool",
                "user_id": one["user_id"],
                "args": json.dumps(args), "step": step, "occurred_at": NOON,
            }
            for step, args in enumerate(one["args"])
        ]  # fmt: skip
    path = home.published / f"20260101T000000{next(_numbers):06d}Z-{batch_seq:012x}.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema staging; create schema retrieval")
        connection.execute(f"create table staging.raw_batches as select {batch_seq}::bigint as batch_seq")
        connection.execute(
            "create table retrieval.search_documents "
            "(memory_id uuid, memory_key bigint, occurred_at timestamp)"
        )
        for name, columns in _TABLES.items():
            file = home.path / "rows.json"
            file.write_text("\n".join(json.dumps(row, default=str) for row in rows[name]))
            connection.execute(
                f"create table {name} as "
                "select * from read_json($1, format = 'newline_delimited', columns = $2)",
                [str(file), columns],
            )
            file.unlink()
    home.current.write_text(path.name + "\n")
    News(home).announce()
    return path


SHOP = [
    episode(
        "tent", "Cancel my order of a tent", ["find_user", "get_order", "cancel_order"],
        args=[{"name": "Raj"}, {"order": 7}, {"order": 7, "why": "rain"}],
    ),
    episode("boots", "Cancel the boots that I ordered", ["find_user", "get_order", "cancel_order"]),
    episode("lamp", "Return a broken lamp", ["find_user", "get_order", "return_items"]),
    episode("sofa", "Return my sofa", ["find_user", "get_order", "call_human"], outcome="failure"),
]  # fmt: skip


def test_the_next_step_is_what_followed_in_episodes_alike(home: Home, memory: Memory) -> None:
    publish(home, SHOP)
    suggestion = memory.suggest("Please cancel my tent", ["find_user", "get_order"], user_id="maya")
    first = suggestion.next_steps[0]
    assert (first.tool, first.support) == ("cancel_order", 2)
    assert first.episode_ids == ["tent", "boots"]
    assert first.args == {"order": 7, "why": "rain"}, "those of the best episode, at that step"
    other = memory.suggest("I want to return a lamp", ["find_user", "get_order"], user_id="maya")
    assert other.next_steps[0].tool == "return_items", "the task decides between equal histories"
    assert suggestion.episode_count == 4
    assert suggestion.domain == "shop"
    assert memory.suggest("Cancel", user_id="maya").next_steps[0].tool == "find_user"


def test_a_step_that_failed_is_less_sure_and_less_likely(home: Home, memory: Memory) -> None:
    publish(
        home,
        [
            *[episode(f"good {n}", "Mend it", ["look", "mend"]) for n in range(4)],
            *[episode(f"bad {n}", "Mend it", ["look", "kick"], outcome="abandoned") for n in range(4)],
        ],
    )
    steps = {one.tool: one for one in memory.suggest("Mend it", ["look"], user_id="maya").next_steps}
    assert steps["mend"].probability == pytest.approx(2 * steps["kick"].probability)
    assert steps["kick"].confidence_high < steps["mend"].confidence
    assert steps["mend"].confidence_low < steps["mend"].confidence < steps["mend"].confidence_high


def test_whether_the_last_call_failed_tells_what_comes_next(home: Home, memory: Memory) -> None:
    publish(
        home,
        [
            *[episode(f"a{n}", "Pay", ["charge_card", "send_receipt"]) for n in range(3)],
            *[episode(f"b{n}", "Pay", ["charge_card!", "ask_other_card"]) for n in range(3)],
        ],
    )

    def ask(step: str | dict[str, Any]) -> str:
        return memory.suggest("Pay", [step], user_id="maya").next_steps[0].tool

    assert ask("charge_card") == "send_receipt"
    for failed in ({"tool": "charge_card", "error": "declined"}, {"tool": "charge_card", "is_error": True}):
        assert ask(failed) == "ask_other_card"


def test_an_episode_that_ended_here_makes_it_likely_to_finish(home: Home, memory: Memory) -> None:
    publish(home, SHOP)
    done = memory.suggest("Cancel my tent", ["find_user", "get_order", "cancel_order"], user_id="maya")
    begun = memory.suggest("Cancel my tent", ["find_user"], user_id="maya")
    assert done.finish_probability > 0.9
    assert begun.finish_probability < 0.1
    for one in (done, begun):
        total = one.finish_probability + sum(step.probability for step in one.next_steps)
        assert total == pytest.approx(1)


def test_nothing_crosses_users_and_nobody_is_a_user_too(home: Home, memory: Memory) -> None:
    publish(
        home,
        [
            episode("hers", "Water the plants", ["fetch_can"]),
            episode("his", "Water the plants", ["open_tap"], user_id="ben"),
            episode("nobody's", "Water the plants", ["wait_for_rain"], user_id=None),
        ],
    )
    for user_id, tool in (("maya", "fetch_can"), ("ben", "open_tap"), (None, "wait_for_rain")):
        suggestion = memory.suggest("Water the plants", user_id=user_id)
        assert [step.tool for step in suggestion.next_steps] == [tool]
        assert len(suggestion.episodes) == suggestion.episode_count == 1
    assert not memory.suggest("Water the plants", user_id="zoe").episode_count


def test_agents_and_domains_are_shared_unless_one_is_asked_for(home: Home, memory: Memory) -> None:
    publish(
        home,
        [
            episode("a", "Book it", ["x"], agent_id="one", domain="air"),
            episode("b", "Book it", ["y"], agent_id="two", domain="rail"),
        ],
    )

    def count(**more: str) -> int:
        return memory.suggest("Book it", user_id="maya", **more).episode_count  # type: ignore[arg-type]

    assert count() == 2
    assert count(agent_id="one") == count(domain="rail") == 1
    assert count(agent_id="one", domain="rail") == 0


def test_of_the_past_only_what_had_ended_by_then_counts(home: Home, memory: Memory) -> None:
    hour = timedelta(hours=1)
    old = episode("old", "Bake", ["knead"])
    late = episode("late", "Bake", ["buy"], completed_at=NOON + 5 * hour)
    gone = episode("gone", "Bake", ["burn"], forgotten_at=NOON + 2 * hour)
    running = episode("running", "Bake", ["dance"], completed_at=None, outcome=None)
    publish(home, [old, late, gone, running])

    def tools(moment: datetime | None) -> set[str]:
        return {step.tool for step in memory.suggest("Bake", user_id="maya", as_of=moment).next_steps}

    assert tools(NOON - hour) == set()
    assert tools(NOON + hour) == {"knead", "burn"}
    assert tools(NOON + 3 * hour) == {"knead"}
    assert tools(None) == {"knead", "buy"}
    then = memory.suggest("Bake", user_id="maya", as_of=NOON + hour)
    publish(home, [old, gone])
    assert memory.suggest("Bake", user_id="maya", as_of=NOON + hour) == then, "whatever came later"


def test_what_is_forgotten_is_not_suggested_from_that_moment_on(home: Home, memory: Memory) -> None:
    publish(home, [*SHOP, episode("his", "Cancel", ["wait"], user_id="ben")])
    memory.forget(user_id="zoe")
    memory.forget(user_id="maya", session_id="another")
    memory.forget(user_id="maya", before=datetime(2020, 1, 1, tzinfo=UTC))
    assert memory.suggest("Cancel", user_id="maya").episode_count == 4
    memory.forget(user_id="maya")
    assert memory.suggest("Cancel", user_id="maya").episode_count == 0
    assert memory.suggest("Cancel", user_id="ben").episode_count == 1
    assert memory.suggest("Cancel", user_id="maya", as_of=NOON).episode_count == 4, "then it was known"


def test_similar_episodes_share_words_of_the_task_and_steps(home: Home, memory: Memory) -> None:
    publish(home, SHOP)
    found = memory.suggest("cancelling orders", ["find_user", "refund"], user_id="maya").episodes
    assert {one.episode_id for one in found[:2]} == {"boots", "tent"}, "in whatever form they stand"
    assert found[0].similarity >= found[1].similarity > found[2].similarity
    for one in found:
        assert one.task_similarity is not None
        assert 0 <= one.task_similarity <= 1
        assert one.shared_steps == 0.5
        assert one.similarity == pytest.approx((one.task_similarity + one.shared_steps) / 2)
    exactly = memory.suggest("Return my sofa", user_id="maya").episodes[0]
    assert (exactly.episode_id, exactly.outcome, exactly.shared_steps) == ("sofa", "failure", None)
    assert exactly.similarity == pytest.approx(1)
    assert exactly.tools == ["find_user", "get_order", "call_human"]


@pytest.mark.parametrize(
    ("task", "so_far"),
    [
        ("", []),
        ("", ["find_user"]),
        ("???", ["no_such_tool"]),
        ("Cancel " * 10_000, []),
        ("Cancel", ["get_order"] * 10_000),
        ("Cancel", [{"role": "user", "text": "hello"}, {"tool": "find_user", "error": None}]),
        ("注文をキャンセル\x00", ["find\n_user"]),
    ],
)
def test_odd_requests_have_sensible_answers(home: Home, memory: Memory, task: str, so_far: list[Any]) -> None:
    publish(home, SHOP)
    suggestion = memory.suggest(task, so_far, user_id="maya")
    assert suggestion.next_steps
    assert all(0 < step.probability <= 1 and 0 < step.confidence < 1 for step in suggestion.next_steps)
    assert all(0 < one.similarity <= 1 for one in suggestion.episodes)
    assert memory.suggest(task, so_far, user_id="maya", limit=0).next_steps == []


@pytest.mark.parametrize(
    ("task", "so_far", "more"),
    [
        (None, [], {}),
        ("x" * 100_001, [], {}),
        ("\ud800", [], {}),
        ("x", "find_user", {}),
        ("x", {"tool": "find_user"}, {}),
        ("x", 5, {}),
        ("x", [None], {}),
        ("x", [""], {}),
        ("x", [{"args": {}}], {}),
        ("x", [{"tool": 3}], {}),
        ("x", [{"tool": "a", "error": 3}], {}),
        ("x", ["a" * 1_001], {}),
        ("x", itertools.repeat("a"), {}),
        ("x", [], {"limit": -1}),
        ("x", [], {"user_id": ""}),
        ("x", [], {"domain": 3}),
        ("x", [], {"as_of": "2026-03-01"}),
    ],
)
def test_what_cannot_be_asked_is_told(memory: Memory, task: Any, so_far: Any, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        memory.suggest(task, so_far, **more)


def test_before_the_first_build_and_of_an_old_one_there_is_a_sentence(home: Home, memory: Memory) -> None:
    assert memory.suggest("Cancel").next_steps == []
    assert memory.patterns() == []
    path = publish(home, SHOP)
    with pytest.raises(SnapshotError, match="no patterns"):
        memory.patterns()
    with duckdb.connect(str(path.with_name("other.duckdb"))) as connection:
        connection.execute("create schema staging; create table staging.raw_batches as select 0 as batch_seq")
        connection.execute(
            "create schema retrieval; create table retrieval.search_documents "
            "(memory_id uuid, memory_key bigint, occurred_at timestamp)"
        )
    home.current.write_text("other.duckdb\n")
    News(home).announce()
    with pytest.raises(SnapshotError, match="no episodes"):
        memory.suggest("Cancel")


def test_what_is_kept_is_bounded_and_that_of_an_older_build_is_let_go_of(home: Home, memory: Memory) -> None:
    publish(home, [episode(f"e{n}", "Cancel", ["a", "b"], user_id=f"user {n}") for n in range(20)])
    snapshots, asker = memory._readers.snapshots, memory._readers.asker
    one = ExperienceReader(asker).read(snapshots.get(), "user 0").bytes
    reader = ExperienceReader(asker, store_bytes=5 * one)
    for number in range(20):
        reader.read(snapshots.get(), f"user {number}")
    assert 3 <= len(reader._kept) <= 5
    assert reader.read(snapshots.get(), "user 19") is reader.read(snapshots.get(), "user 19")
    publish(home, SHOP)
    memory.suggest("Cancel", user_id="maya")
    reader.read(snapshots.get(), "maya")
    assert len(reader._kept) == 1
    assert len(ExperienceReader(asker, store_bytes=10).read(snapshots.get(), "maya")) == 4, "too much to keep"


CALLS = st.lists(st.sampled_from("abc"), max_size=12)


def experience(histories: Sequence[Sequence[str]]) -> Experience:
    rows: list[Any] = [
        (
            Episode(
                UUID(int=number), str(number), None, None, "", None, "", "success", True, None,
                None, NOON, None, None,
            ),
            tools, [False] * len(tools), ["assistant"] * len(tools), [],
        )
        for number, tools in enumerate(histories)
    ]  # fmt: skip
    return Experience(rows, {"": []})


@given(histories=st.lists(CALLS, max_size=6), so_far=CALLS)
def test_moments_and_what_they_have_in_common_are_counted_as_one_would_by_hand(
    histories: list[list[str]], so_far: list[str]
) -> None:
    known = experience(histories)
    moments = [(number, place) for number, tools in enumerate(histories) for place in range(len(tools) + 1)]
    assert known.episode_of.tolist() == [number for number, _ in moments]
    assert known.place_of.tolist() == [place for _, place in moments]
    by_moment, by_end = known.steps_in_common([known.number(tool) for tool in so_far])
    asked = Counter(so_far)
    assert list(by_end) == [(Counter(tools) & asked).total() for tools in histories]
    for row, (number, place) in enumerate(moments):
        tools = histories[number]
        assert by_moment[row] == (Counter(tools[:place]) & asked).total()
        assert known.tools[known.next_of[row]] == (tools[place] if place < len(tools) else "")
        marks = [2 * known.number(tool) for tool in reversed(tools[:place])][:CALLS_BACK]
        assert list(known.history[:, row]) == marks + [0] * (CALLS_BACK - len(marks))


TERMS = st.lists(st.integers(0, 9), max_size=8)


@given(tasks=st.lists(TERMS, min_size=1, max_size=6), asked=TERMS, data=st.data())
def test_the_similarity_of_tasks_is_a_share_and_of_the_same_task_all_of_it(
    tasks: list[list[int]], asked: list[int], data: st.DataObject
) -> None:
    among = np.array(data.draw(st.lists(st.booleans(), min_size=len(tasks), max_size=len(tasks))))
    found = TaskWords(tasks).similarities(asked, among)
    for task, value, is_among in zip(tasks, found, among, strict=True):
        assert 0 <= value <= 1
        if not is_among or set(task).isdisjoint(asked):
            assert value == 0
        elif Counter(task) == Counter(asked):
            assert value == pytest.approx(1)
        else:
            assert value > 0


def test_the_interval_of_a_beta_distribution_is_that_of_closed_forms() -> None:
    for a in (0.5, 1.0, 3.7, 40.0, 2_000.0, 1e5):
        mean, low, high = beta_interval(a, 1.0)
        assert mean == a / (a + 1)
        assert (low, high) == pytest.approx((0.025 ** (1 / a), 0.975 ** (1 / a)), abs=1e-4)
        assert beta_interval(1.0, a)[1:] == pytest.approx((1 - high, 1 - low), abs=1e-4)
    arcsine = tuple(math.sin(math.pi * q / 2) ** 2 for q in (0.025, 0.975))
    assert beta_interval(0.5, 0.5)[1:] == pytest.approx(arcsine, abs=1e-4)


def test_the_interval_of_a_step_is_that_of_patterns() -> None:
    rows = [(a, b) for a in (0.5, 1.3, 12.0, 250.0, 1_900.0) for b in (0.5, 3.1, 77.0, 2_000.0)]
    low = render(find_project(), "beta_lower_bound", "a", "b")
    high = f"1 - ({render(find_project(), 'beta_lower_bound', 'b', 'a')})"
    values = ", ".join(f"({a}::double, {b}::double)" for a, b in rows)
    found = duckdb.sql(f"select {low}, {high} from (values {values}) as asked (a, b)").fetchall()
    for (a, b), of_patterns in zip(rows, found, strict=True):
        assert beta_interval(a, b)[1:] == pytest.approx(of_patterns, abs=2e-4), f"Beta({a}, {b})"


PATTERN = Pattern(
    UUID(int=1), "maya", "shop", "tool_sequence", "", [], 5, 3, 5, 0, NOON.replace(tzinfo=UTC),
    NOON.replace(tzinfo=UTC), [], 1.0, 0.5, 0.8, 0.6, 0.9, 1.6, 0.01, 0.02, True, False,
)  # fmt: skip


def test_patterns_match_that_begin_like_the_end_or_recover_from_the_error() -> None:
    sequence = replace(PATTERN, steps=["b", "c", "d"])
    decision = replace(PATTERN, kind="decision", steps=["c", "failed", "d"])
    recovery = replace(PATTERN, kind="error_recovery", steps=["c", "no such *", "d", "worked later"])
    feature = replace(PATTERN, kind="context", steps=["tool_count", "3 to 5"])

    def matches(tools: list[str], is_error: bool = False, key: str | None = None) -> list[float]:
        last = Call(tools[-1], is_error) if tools else None
        return [match_pattern(one, tools, last, key) for one in (sequence, decision, recovery, feature)]

    assert matches([]) == [0, 0, 0, 0]
    assert matches(["a", "b"]) == [2, 0, 0, 0]
    assert matches(["b", "c", "c"]) == [3, 0, 0, 0], "repeats are one, as in patterns"
    assert matches(["b", "c", "d"]) == [0, 0, 0, 0], "it is over"
    strengths = matches(["b", "c"], True, "no such *")
    assert strengths[2] > strengths[0] > strengths[1] > 0
    assert matches(["b", "c"], True, "another")[2] == 0
    assert match_pattern(replace(decision, steps=["^", "began", "a"]), [], None, None) > 0


def test_steps_are_read_as_they_are_logged() -> None:
    steps: list[Any] = ["a", {"tool": "b", "args": {"x": 1}, "observation": "o", "error": "bad"}, Call("c")]
    assert read_calls(steps) == (Call("a"), Call("b", True, "bad", "o"), Call("c"))
    flags = [read_calls([{"tool": "a", "error": one}])[0].is_error for one in (None, False, True, "", "bad")]
    assert flags == [False, False, True, True, True], "as log_step takes them"
    assert read_calls({"tool": name} for name in "ab") == (Call("a"), Call("b"))


def test_what_a_tool_gave_back_is_read_as_it_is_kept() -> None:
    (call,) = read_calls([{"tool": "pay", "error": True, "observation": {"why": "declined"}}])
    assert call.observation == '{"why": "declined"}', "as log_step keeps it, and patterns of errors are made"
    for odd in ({1, 2}, "\ud800"):
        with pytest.raises(UsageError, match="observation of step 0"):
            read_calls([{"tool": "pay", "observation": odd}])


@pytest.mark.parametrize(
    ("error", "observation", "key"),
    [
        ("User 'ada_1' not found", "{}", "user * not found"),
        ('No order "#W17" of 3', None, "no order * of *"),
        (None, '[Errno 2] no\n file "a b"', "[errno *] no file *"),
        (None, '{"code": "declined", "card": 17}', "{code: declined, card: *}"),
        (None, '{"code": "expired", "card": 18}', "{code: expired, card: *}"),
        (None, '["not allowed"]', "[not allowed]"),
        (None, None, "failed"),
        (None, "x" * 100, "x" * 80),
    ],
)
def test_errors_are_told_apart_by_what_they_say_not_by_what_it_is_about(
    memory: Memory, home: Home, error: str | None, observation: str | None, key: str
) -> None:
    publish(home, [])
    reader, snapshot = memory._readers.patterns, memory._readers.snapshots.get()
    assert reader.error_key(snapshot, Call("pay", True, error, observation)) == key
    assert reader.error_key(snapshot, Call("pay", False, error, observation)) is None


def test_values_that_go_together_say_less() -> None:
    coins = np.array([0.0, 1.0] * 200)
    alone = clustered_interval(coins, np.arange(400))
    assert alone == pytest.approx(bootstrap_interval(coins), abs=0.006)
    by_four = clustered_interval(np.repeat(coins[:100], 4), np.repeat(np.arange(100), 4))
    assert by_four[1] - by_four[0] == pytest.approx(2 * (alone[1] - alone[0]), rel=0.1)
    assert all(math.isnan(end) for end in clustered_interval(coins[:0], np.arange(0)))


def test_an_evaluation_leaves_out_the_task_that_it_asks_about(home: Home, memory: Memory) -> None:
    publish(
        home,
        [
            episode(f"{trial} {task}", f"Task {task}", [f"only {task}", "both"], task_id=f"t{task}")
            for task in range(4)
            for trial in range(2)
        ],
    )
    result = evaluate_next_tools(memory.suggester, file="x", user_id="maya", folds=4)
    assert (result.episodes, result.tasks, result.calls) == (8, 4, 16)
    by_name = {name: of["top-1"]["all"].value for name, of in result.measures.items()}
    assert by_name[SUGGEST] == by_name[FREQUENT] == 0.5, "what only this task calls, nobody can know"
    with pytest.raises(UsageError, match="4 tasks"):
        evaluate_next_tools(memory.suggester, file="x", user_id="maya", folds=5)


def test_an_evaluation_leaves_out_tasks_in_the_same_words_too(home: Home, memory: Memory) -> None:
    publish(
        home,
        [
            episode(f"{name} {task}", f"Task {task}", [f"only {task}", "both"], task_id=f"{name}{task}")
            for task in range(4)
            for name in "ab"
        ],
    )
    result = evaluate_next_tools(memory.suggester, file="x", user_id="maya", folds=4)
    assert (result.tasks, result.groups) == (8, 4)
    assert result.measures[SUGGEST]["top-1"]["all"].value == 0.5, "what these words call, nobody can know"


def test_tasks_are_of_one_group_if_words_lead_from_one_to_the_other() -> None:
    told = [("c", "x"), ("b", "x"), ("b", "y"), ("a", "y"), ("d", "z"), ("e", "E")]
    for order in itertools.permutations(told):
        assert group_tasks(order) == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e"}


def test_next_tools_of_unseen_tasks_are_predicted_better_than_by_both_baselines(
    home: Home, memory: Memory
) -> None:
    if not DEV_EPISODES.is_file():
        pytest.skip(f"there is no {DEV_EPISODES}")
    publish(home, read_dev_episodes())
    result = evaluate_next_tools(memory.suggester, file=DEV_EPISODES.name)
    assert (result.episodes, result.calls) == (288, 2980)
    for baseline in (FREQUENT, BIGRAM):
        for cut, of in result.differences[baseline].items():
            for kind in ("all", AGENT_ONLY):
                assert (of[kind].low or 0) > 0, f"{cut} of suggest is surely better than of the {baseline}"
            assert all((figure.value or 0) > 0 for figure in of.values()), "in each domain"


def read_dev_episodes() -> list[dict[str, Any]]:
    found = []
    for line in gzip.decompress(DEV_EPISODES.read_bytes()).splitlines():
        one = json.loads(line)
        calls = [step for step in one["steps"] if step["type"] == "tool"]
        said = (step["text"] for step in one["steps"] if step["type"] == "message" and step["role"] == "user")
        found.append(
            episode(
                one["episode_id"],
                next(said, one["task_id"]),
                [step["tool"] + ("!" if step["error"] else "") for step in calls],
                outcome="success" if one["success"] else "failure",
                user_id=None,
                domain=one["domain"],
                requestors=[step.get("requestor") for step in calls],
                task_id=one["task_id"],
                completed_at=datetime.fromisoformat(one["ended_at"]),
            )
        )
    return found


def test_the_shell_shows_what_worked(home: Home) -> None:
    publish(home, SHOP)

    def run(*more: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(
            cli, ["suggest", "Cancel the tent", "--home", str(home.path), *more]
        )

    shown = run("--user", "maya", "--so-far", "find_user", "--so-far", "get_order!")
    assert shown.exit_code == 0, shown.output
    for text in ("Next steps", "cancel_order", "Similar episodes", "boots", "from 4 episodes."):
        assert text in shown.output
    found = json.loads(run("--user", "maya", "--json", "--limit", "2").output)
    assert [step["tool"] for step in found["next_steps"]] == ["find_user", "get_order"]
    assert "no episode to learn from" in run().output
    assert "--domain and --agent" in run("--user", "maya", "--domain", "Shop").output


def test_the_shell_shows_patterns(home: Home) -> None:
    path = publish(home, SHOP)
    columns = ", ".join(f"${name} as {name}" for name in PATTERN.as_dict())
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            f"create table patterns as select {columns}",
            {**PATTERN.as_dict(), "pattern": "look → mend\x1b[31m", "steps": ["look", "mend"]},
        )

    def run(*more: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["patterns", "--home", str(home.path), *more])

    shown = run("--kind", "tool_sequence", "--actionable", "--domain", "shop")
    assert shown.exit_code == 0, shown.output
    assert "80%" in shown.output
    assert "* look → mend" in shown.output
    assert "\x1b[31m" not in shown.output
    assert json.loads(run("--user", "maya", "--json").output)[0]["steps"] == ["look", "mend"]
    assert "no such pattern" in run("--user", "ben").output
    assert "no such pattern" in run("--kind", "decision").output
    with Memory(home.path) as memory:
        assert [one.kind for one in memory.suggest("x", ["look"], user_id="maya").patterns] == [
            "tool_sequence"
        ]
        assert memory.suggest("x", ["mend"], user_id="maya").patterns == []
        with pytest.raises(UsageError, match="kind of pattern"):
            memory.patterns(kind="rumour")
        with pytest.raises(UsageError, match="actionable is 'yes'"):
            memory.patterns(actionable="yes")  # type: ignore[arg-type]
