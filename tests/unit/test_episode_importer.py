"""Episodes of agents, imported: what becomes of each field, what is refused, and that nothing comes twice."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck.cli import cli
from mnemoduck.events import MAX_LINE_BYTES, Event, new_event
from mnemoduck.importers import detect_format
from mnemoduck.importers.episodes import read_episodes
from mnemoduck.importers.source import Source, UnusableSourceError
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope

from .test_importers import SHARED, Warehouse, moment, write_json, write_jsonl


def a_call(step: int, tool: str | None = "get_order", **others: Any) -> dict[str, Any]:
    return {
        "step": step,
        "type": "tool",
        "requestor": "assistant",
        "tool": tool,
        "args": {"order_id": "#W1"},
        "observation": "pending",
        "error": False,
        "timestamp": None,
        **others,
    }


def an_episode(**others: Any) -> dict[str, Any]:
    return {
        "dataset": "tau2-bench",
        "episode_id": "run-1",
        "task_id": "retail:7",
        "domain": "retail",
        "model": "small",
        "agent_impl": "llm_agent",
        "trial": 0,
        "reward": 1.0,
        "success": True,
        "started_at": "2026-03-01T12:00:00",
        "ended_at": "2026-03-01T12:01:00",
        "termination_reason": "user_stop",
        "steps": [
            {"step": 0, "type": "message", "role": "assistant", "text": "Hi!", "timestamp": None},
            {"step": 1, "type": "message", "role": "user", "text": "Cancel my order", "timestamp": None},
            a_call(2),
            a_call(3, "cancel", observation="Error: too late", error=True),
            a_call(4, "look", requestor="user"),
        ],
        **others,
    }


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "home")


def read(path: Path, *, defaults: Scope | None = None) -> list[Event | Rejection]:
    return list(read_episodes(Source(path), defaults or Scope()))


def events_of(folder: Path, episode: object, **defaults: str) -> list[Event]:
    found = read(write_jsonl(folder / "one.jsonl", episode), defaults=Scope(**defaults))
    assert not [record for record in found if isinstance(record, Rejection)], found
    return [record for record in found if isinstance(record, Event)]


def reason(folder: Path, episode: object) -> str:
    (record,) = read(write_json(folder / "one.json", [episode]))
    assert isinstance(record, Rejection)
    return record.reason


def test_every_field_has_its_place(tmp_path: Path) -> None:
    start, hello, task, found, late, look, end = events_of(tmp_path, an_episode())
    assert start.payload == {
        "episode_id": "run-1",
        "task": "Cancel my order",
        "domain": "retail",
        "task_id": "retail:7",
        "context": {"agent_impl": "llm_agent", "model": "small"},
        "metadata": {"dataset": "tau2-bench", "termination_reason": "user_stop", "trial": 0},
    }
    assert hello.payload == {
        "episode_id": "run-1",
        "step": 0,
        "step_type": "message",
        "role": "assistant",
        "text": "Hi!",
    }
    assert found.payload == {
        "episode_id": "run-1",
        "step": 2,
        "tool": "get_order",
        "args": {"order_id": "#W1"},
        "observation": "pending",
        "is_error": False,
        "requestor": "assistant",
    }
    assert (late.payload["is_error"], late.payload["observation"]) == (True, "Error: too late")
    assert look.payload["requestor"] == "user"
    assert end.payload == {"episode_id": "run-1", "outcome": "success", "reward": 1.0}
    assert {event.agent_id for event in (start, hello, task, found, late, look, end)} == {"small"}
    # Steps without a time are a second apart; the end is that of the file.
    assert [event.occurred_at for event in (start, hello, task, found)] == [
        moment(f"2026-03-01T12:00:0{second}") for second in (0, 0, 1, 2)
    ]
    assert end.occurred_at == moment("2026-03-01T12:01:00")


def test_the_scope_is_that_of_the_episode_else_the_default_and_the_agent_else_its_model(
    tmp_path: Path,
) -> None:
    def scope(episode: object, **defaults: str) -> tuple[str | None, str | None, str | None]:
        event = events_of(tmp_path, episode, **defaults)[3]
        return event.user_id, event.agent_id, event.session_id

    named = an_episode(user_id=7, agent_id="otter", session_id="s1")
    assert scope(an_episode()) == (None, "small", None)
    assert scope(an_episode(), user_id="maya", agent_id="beaver", session_id="s2") == (
        "maya",
        "beaver",
        "s2",
    )
    assert scope(named, user_id="maya", agent_id="beaver", session_id="s2") == ("7", "otter", "s1")


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"success": True, "reward": 0.0}, "success"),
        ({"success": False, "reward": 1.0}, "failure"),
        ({"success": None, "reward": 1}, "success"),
        ({"success": None, "reward": 0.99}, "failure"),
        ({"success": True, "outcome": "abandoned"}, "abandoned"),
        ({"success": None, "reward": None}, None),
    ],
)
def test_how_it_ended_is_said_by_outcome_else_success_else_reward(
    tmp_path: Path, fields: dict[str, Any], outcome: str | None
) -> None:
    ends = [e for e in events_of(tmp_path, an_episode(**fields)) if e.event_type == "episode_completed"]
    assert [end.payload["outcome"] for end in ends] == ([] if outcome is None else [outcome])


@pytest.mark.parametrize(
    ("fields", "task"),
    [
        ({"task": "Say hello"}, "Say hello"),
        ({"steps": [a_call(0)]}, "retail:7"),
        ({"steps": [{"type": "message", "role": "user", "text": " "}, a_call(1)]}, "retail:7"),
    ],
)
def test_the_task_is_what_is_said_to_be_it_else_the_first_message_of_the_user_else_its_id(
    tmp_path: Path, fields: dict[str, Any], task: str
) -> None:
    assert events_of(tmp_path, an_episode(**fields))[0].payload["task"] == task


def test_times_that_are_given_are_kept_and_the_end_comes_last(tmp_path: Path) -> None:
    steps = [
        a_call(0, timestamp="2026-03-01T11:59:00.5"),
        a_call(1),
        a_call(2, timestamp="2026-03-01T14:00:00+01:00"),
    ]
    found = events_of(tmp_path, an_episode(steps=steps))
    assert [event.occurred_at for event in found] == [
        moment("2026-03-01T12:00:00"),
        moment("2026-03-01T11:59:00.5"),
        moment("2026-03-01T12:00:01"),
        moment("2026-03-01T13:00:00"),
        moment("2026-03-01T13:00:00"),
    ]
    undated = an_episode(steps=[a_call(0, timestamp="2026-03-01T11:00:00")], started_at=None, ended_at=None)
    assert {event.occurred_at for event in events_of(tmp_path, undated)} == {moment("2026-03-01T11:00:00")}


def test_what_is_no_text_is_kept_as_json_and_a_text_says_why_a_call_failed(tmp_path: Path) -> None:
    steps = [a_call(0, observation={"city": "Köln"}, error="it broke", latency_ms=3), a_call(1, args=None)]
    _, first, second, _ = events_of(tmp_path, an_episode(steps=steps))
    assert first.payload["observation"] == '{"city": "Köln"}'
    assert (first.payload["is_error"], first.payload["error"]) == (True, "it broke")
    assert first.payload["latency_ms"] == 3
    assert "args" not in second.payload


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"episode_id": None}, "the episode has no episode_id"),
        ({"episode_id": "a\nb"}, "control characters are not allowed in an id"),
        ({"steps": {"a": 1}}, "the episode has no list of steps"),
        ({"steps": ["look"]}, "a step is not a JSON object (item 0 of steps)"),
        ({"steps": [a_call(0), a_call(-1)]}, "a step has no number from 0 to 1,000,000 (item 1 of steps)"),
        ({"steps": [a_call(0, tool=None)]}, "a step is refused (item 0 of steps: "),
        ({"steps": [a_call(0, type="thought")]}, "its type is neither tool nor message ('thought')"),
        ({"steps": [a_call(0, error=7)]}, "error is neither a text nor true or false (7)"),
        ({"steps": [a_call(0, args="x")]}, "args: Input should be a valid dictionary"),
        ({"steps": [a_call(0, timestamp="soon")]}, "timestamp is not a date or time ('soon'"),
        (
            {"steps": [{"type": "message", "role": "user", "text": None}]},
            "a step of type message needs its text",
        ),
        ({"started_at": None}, "the episode has no started_at"),
        ({"started_at": "1950-01-01"}, "started_at is out of range"),
        ({"success": "yes"}, "success is neither true nor false ('yes')"),
        ({"outcome": "won"}, "outcome: "),
        ({"reward": "1"}, "reward is not a number ('1')"),
        ({"context": [1]}, "context is not an object ([1])"),
        ({"task_id": None, "steps": []}, "the episode has no task"),
        ({"domain": ["x"]}, "domain is not a text"),
        ({"steps": [a_call(0, observation="x" * MAX_LINE_BYTES)]}, "the record is too long"),
    ],
)
def test_an_episode_that_breaks_a_rule_is_refused_whole_with_the_reason(
    tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    assert says in reason(tmp_path, an_episode(**fields))


def test_a_bad_line_is_counted_and_quarantined_and_the_others_are_taken(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    path = tmp_path / "episodes.jsonl"
    bad = json.dumps(an_episode(episode_id="run-2", steps=[a_call(0), "no step"]))
    path.write_text(f"{json.dumps(an_episode())}\n{{broken\n{bad}\n[1]\n")
    summary = warehouse.ingest(path)
    assert (summary.files[0].format, summary.accepted, summary.quarantined) == ("episodes", 7, 3)
    assert summary.visible == 0
    assert dict(summary.reasons) == {
        "not valid JSON": 1,
        "a step is not a JSON object": 1,
        "the episode is not a JSON object": 1,
    }
    assert [refused["line"] for refused in warehouse.quarantine()] == [2, 3, 4]
    assert {event.payload["episode_id"] for event in warehouse.events()} == {"run-1"}


def test_two_episodes_of_one_id_are_not_mixed(warehouse: Warehouse, tmp_path: Path) -> None:
    grown = an_episode(steps=[*an_episode()["steps"], a_call(5)])
    another = an_episode(started_at="2026-03-02T12:00:00", ended_at=None)
    of_another_user = {**another, "user_id": "ben"}
    summary = warehouse.ingest(
        write_jsonl(tmp_path / "a.jsonl", an_episode(), grown, another, of_another_user)
    )
    assert (summary.accepted, summary.duplicated, summary.quarantined) == (7 + 1 + 7, 7, 1)
    assert dict(summary.reasons) == {"another episode of the file has this episode_id": 1}
    assert {event.user_id for event in warehouse.events() if event.occurred_at.day == 2} == {"ben"}


def test_what_is_in_already_adds_nothing_in_whatever_form_the_file_comes(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    episodes = [an_episode(), an_episode(episode_id="run-2", success=False)]
    lines = write_jsonl(tmp_path / "a.jsonl", *episodes)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    assert warehouse.ingest(lines).accepted == 14
    for path in (tmp_path / "a.jsonl.gz", write_json(tmp_path / "b.json", episodes)):
        summary = warehouse.ingest(path, defaults=Scope(agent_id="otter"))
        assert (summary.files[0].format, summary.accepted, summary.duplicated) == ("episodes", 0, 14)
    assert warehouse.ingest(write_json(tmp_path / "c.json", episodes[0])).duplicated == 7
    grown = an_episode(steps=[*an_episode()["steps"], a_call(5)])
    assert warehouse.ingest(write_jsonl(lines, grown)).accepted == 1
    assert warehouse.ingest(lines, defaults=Scope(user_id="maya")).accepted == 8


def test_the_shell_says_what_recall_knows_at_once_and_what_waits_for_a_run(tmp_path: Path) -> None:
    memory = new_event("memory", {"content": "a memory"})
    step = new_event("step", {"episode_id": "run-9", "step": 0, "tool": "look"})
    files = {
        "They change nothing yet": write_jsonl(tmp_path / "a.jsonl", an_episode()),
        "Recall knows 1 of them at once": tmp_path / "b.jsonl",
        "They are found by recall at once": write_jsonl(tmp_path / "c.jsonl", {"content": "another"}),
    }
    (tmp_path / "b.jsonl").write_bytes(memory.to_line() + step.to_line())
    for sentence, path in files.items():
        done = CliRunner().invoke(cli, ["ingest", str(path), "--home", str(tmp_path / "home")])
        assert done.exit_code == 0
        assert done.output.splitlines()[-1].startswith(sentence)
        assert "`mnemoduck run`" in done.output.splitlines()[-1]
    again = CliRunner().invoke(cli, ["ingest", *map(str, files.values()), "--home", str(tmp_path / "home")])
    assert "0 accepted, 10 duplicated" in again.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", json.dumps(an_episode())),
        ("a.json", json.dumps([an_episode()])),
        ("a", json.dumps([an_episode()], indent=2)),
        ("a.json", json.dumps(an_episode(), indent=2)),
        ("a.log", "garbage\n" + json.dumps(an_episode())),
    ],
)
def test_the_format_is_told_by_what_is_in_the_file(tmp_path: Path, name: str, text: str) -> None:
    if name == "a.log":
        text = "\n\n" + text.removeprefix("garbage\n")
    (tmp_path / name).write_text(text)
    assert detect_format(tmp_path / name) == "episodes"
    assert len(read(tmp_path / name)) == 7


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**7) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(
    fields=st.dictionaries(st.sampled_from([*an_episode(), "task", "outcome", "user_id", "context"]), JSON),
    step=st.dictionaries(st.sampled_from([*a_call(0), "text", "role", "latency_ms"]), JSON),
    is_list=st.booleans(),
)
def test_whatever_is_in_a_field_the_episode_is_taken_whole_or_refused_whole(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any], step: dict[str, Any], is_list: bool
) -> None:
    episode = an_episode(steps=[a_call(0), a_call(1) | step]) | fields
    folder = tmp_path_factory.mktemp("any")
    path = write_json(folder / "f", [episode]) if is_list else write_jsonl(folder / "f", episode)
    if is_list and "Infinity" in path.read_text():
        # A list is one JSON document, and infinity is not JSON: nothing of it is read, and it is said.
        with pytest.raises(UnusableSourceError, match="Nothing was taken from it"):
            read(path)
        return
    found = read(path)
    if any(isinstance(record, Rejection) for record in found):
        assert len(found) == 1
    else:
        kinds = [record.event_type for record in found if isinstance(record, Event)]
        assert kinds.count("step") == len(episode["steps"])
        assert kinds[0] == "episode_started"


def test_the_real_file_is_accepted_whole_and_only_once(warehouse: Warehouse) -> None:
    path = SHARED / "agent_episodes_dev.jsonl.gz"
    if not path.exists():
        pytest.skip("the episodes of tau2-bench are not part of the project")
    summary = warehouse.ingest(path)
    assert summary.files[0].format == "episodes"
    with gzip.open(path) as file:
        episodes = [json.loads(line) for line in file]
    steps = sum(len(episode["steps"]) for episode in episodes)
    assert (len(episodes), steps) == (288, 6342)
    assert (summary.accepted, summary.duplicated, summary.quarantined) == (steps + 2 * 288, 0, 0)
    events = warehouse.events()
    kept = [event.payload for event in events if event.event_type == "step"]
    given = [step for episode in episodes for step in episode["steps"]]
    for step, payload in zip(given, kept, strict=True):
        names = ("text", "role") if step["type"] == "message" else ("tool", "observation", "requestor")
        assert [payload.get(name) for name in names] == [step[name] for name in names]
        assert payload.get("args", {}) == step.get("args", {})
        assert payload.get("is_error", False) == step.get("error", False)
    ends = [event.payload["outcome"] for event in events if event.event_type == "episode_completed"]
    assert ends.count("success") == sum(episode["success"] for episode in episodes) == 203
    assert warehouse.ingest(path).duplicated == summary.accepted
