"""Reading episodes back: from a snapshot with what a build publishes, in Python and on the command line."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from mnemoduck import Memory
from mnemoduck.cli import cli
from mnemoduck.errors import MnemoduckError, SnapshotError, UsageError
from mnemoduck.home import Home
from mnemoduck.inbox import FreshEvents
from mnemoduck.project import find_project

from .conftest import write_snapshot

EPISODES = """
    create table episodes as
    select
        md5(coalesce(user_id, '') || episode_id)::uuid as episode_key, *,
        null::varchar as session_id, 'retail:7' as task_id, '{"model": "small", "n": 2}' as context,
        3 as step_count, if(user_id = 'lea', 1, 2) as tool_count, 1 as error_count,
        ['look', 'cancel'] as tools
    from (values
        ('run-1', 'maya', 'otter', 'retail', 'Cancel it \x1b[31m' || repeat('x', 200), 'success', 1.0::double,
            timestamp '2026-03-01 12:00', timestamp '2026-03-01 12:05'),
        ('run-2', 'maya', null, '', null, 'failure', null, null, timestamp '2026-03-02 12:00'),
        ('run-3', 'jonas', null, 'airline', 'Fly', null, null, timestamp '2026-03-03 12:00', null),
        ('run-3', null, null, 'airline', 'Fly too', null, null, timestamp '2026-02-03 12:00', null),
        ('run-2', 'lea', null, 'bank', 'Pay', 'success', null, timestamp '2026-01-01 12:00', null)
    ) t(episode_id, user_id, agent_id, domain, task, outcome, reward, started_at, completed_at)
"""
STEPS = """
    create table episode_steps as
    select md5('mayarun-1')::uuid as episode_key, timestamp '2026-03-01 12:01' as occurred_at, *
    from (values
        (1, 0, 'message', null, '{}', null, false, null, null, 'user', 'Please', null::double),
        (2, 4, 'tool', 'look', '{"id": "#W1"}', 'seen', false, null, 'user', null, null, 12.5),
        (3, 4, 'tool', 'cancel', '{}', 'Error: too late', true, null, null, null, null, null)
    ) t(place, step, step_type, tool, args, observation, is_error, error, requestor, role, text, latency_ms)
"""


@pytest.fixture
def published(home: Home) -> Home:
    with duckdb.connect(str(write_snapshot(home, 1))) as connection:
        connection.execute(EPISODES)
        connection.execute(STEPS)
    return home


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home.path)], catch_exceptions=True)


def names(memory: Memory, **filters: object) -> list[tuple[str, str | None]]:
    return [(one.episode_id, one.user_id) for one in memory.episodes(**filters)]  # type: ignore[arg-type]


def test_episodes_are_listed_latest_first_and_by_what_is_asked_for(published: Home) -> None:
    with Memory(published.path) as memory:
        latest = [("run-3", "jonas"), ("run-2", "maya"), ("run-1", "maya"), ("run-3", None), ("run-2", "lea")]
        assert names(memory) == latest
        assert names(memory, limit=2) == [("run-3", "jonas"), ("run-2", "maya")]
        assert names(memory, user_id="maya", outcome="success") == [("run-1", "maya")]
        assert names(memory, outcome="open") == [("run-3", "jonas"), ("run-3", None)]
        assert names(memory, domain="airline", user_id="jonas") == [("run-3", "jonas")]
        assert names(memory, agent_id="otter") == [("run-1", "maya")]
        assert all(episode.steps is None for episode in memory.episodes())
        with pytest.raises(UsageError, match="one of success, failure, abandoned, open"):
            memory.episodes(outcome="won")
        with pytest.raises(UsageError, match="limit"):
            memory.episodes(limit=-1)


def test_an_episode_is_read_with_its_steps(published: Home) -> None:
    with Memory(published.path) as memory:
        episode = memory.get_episode("run-1")
        assert episode is not None
        assert episode.context == {"model": "small", "n": 2}
        assert episode.started_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
        assert episode.steps is not None
        assert [(step.place, step.step, step.tool, step.args) for step in episode.steps] == [
            (1, 0, None, {}),
            (2, 4, "look", {"id": "#W1"}),
            (3, 4, "cancel", {}),
        ]
        assert episode.steps[2].is_error
        assert memory.get_episode("run-1", user_id="jonas") is None
        assert memory.get_episode("nothing") is None
        with pytest.raises(UsageError, match=r"2 users have an episode 'run-2': 'lea', 'maya'\. Say whose"):
            memory.get_episode("run-2")
        of_nobody = memory.get_episode("run-3")
        assert of_nobody is not None
        assert (of_nobody.user_id, of_nobody.task) == (None, "Fly too"), "which no user can be given for"
        found = memory.get_episode("run-3", user_id="jonas")
        assert found is not None
        assert (found.task, found.completed_at, found.steps) == ("Fly", None, [])


def test_before_anything_is_published_there_are_none_and_an_old_snapshot_says_what_to_do(home: Home) -> None:
    with Memory(home.path) as memory:
        assert memory.episodes() == []
        assert memory.get_episode("run-1") is None
        write_snapshot(home, 1)
        with pytest.raises(SnapshotError, match=r"knows no episodes.*mnemoduck run"):
            memory.episodes()


def test_the_shell_lists_and_shows_them_and_nothing_in_them_steers_the_terminal(published: Home) -> None:
    listed = run(published, "episode", "list").output
    assert "2026-03-01 12:00  success    run-1: 2 calls, 1 failed" in listed
    assert "retail / maya / otter: Cancel it \\x1b[31mxxx" in listed
    assert "-  failure    run-2" in listed
    assert "open       run-3" in listed
    assert "success    run-2: 1 call, 1 failed" in listed
    assert "…" in listed
    assert "\x1b" not in listed
    shown = run(published, "episode", "show", "run-1").output
    assert "ended  2026-03-01 12:05, success, reward 1" in shown
    assert '  2. look({"id": "#W1"}) (by user) in 12.5 ms\n     -> seen\n' in shown
    assert "  3. cancel()\n     failed: Error: too late\n" in shown
    assert "  1. user: Please\n" in shown
    as_json = json.loads(run(published, "episode", "show", "run-1", "--json").output)
    assert [step["tool"] for step in as_json["steps"]] == [None, "look", "cancel"]
    (open_one,) = json.loads(
        run(published, "episode", "list", "--outcome", "open", "--user", "jonas", "--json").output
    )
    assert open_one["episode_id"] == "run-3"
    assert "steps" not in open_one
    assert "There is no such episode" in run(published, "episode", "list", "--user", "nobody").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["episode", "show", "nothing"], "There is no episode 'nothing' in the last build"),
        (["episode", "show", "run-2"], "2 users have an episode 'run-2': 'lea', 'maya'"),
        (["episode", "start", " "], "task: must not be empty"),
        (["episode", "step", "run-1", "look", "--args", "[1]"], "is no JSON object"),
        (["episode", "step", "run-1", "look", "--args", "{"], "is not JSON"),
        (["episode", "step", "run-1", "look", "--step", "-1"], "--step"),
        (["episode", "complete", "run-1", "won"], "'won' is not one of"),
        (["feedback", "pattern", "x", "success"], "pattern_id"),
        (["feedback", "dream", "x", "success"], "'dream' is not one of"),
        (["feedback", "memory", "x", "maybe"], "'maybe' is not one of"),
    ],
)
def test_what_cannot_be_done_is_told_with_exit_code_2_and_leaves_no_trace(
    published: Home, arguments: list[str], says: str
) -> None:
    done = run(published, *arguments)
    if isinstance(done.exception, MnemoduckError):
        assert done.exception.exit_code == 2
        assert says in str(done.exception)
    else:
        assert done.exit_code == 2
        assert says in done.output
    assert FreshEvents(published).read(0)[0] == []


def test_each_command_has_written_what_it_was_told_when_it_returns(home: Home) -> None:
    user = ("--user", "maya")
    episode = run(
        home, "episode", "start", "Cancel it", *user, "--domain", "retail", "--context", '{"model": "small"}'
    ).output.strip()
    first = run(home, "episode", "message", episode, "user", "Please", *user).output.strip()
    run(home, "episode", "step", episode, "look", "--args", '{"id": 1}', "--observation", "seen", *user)
    run(home, "episode", "step", episode, "cancel", "--error", "too late", "--latency-ms", "5", *user)
    run(home, "episode", "step", episode, "cancel", "--failed", "--step", "7", *user)
    run(home, "episode", "complete", episode, "failure", "--reward", "0.5", *user)
    run(home, "feedback", "memory", first, "success", "--note", "it helped", *user)
    events, _ = FreshEvents(home).read(0)
    assert [event.event_type for event in events] == [
        "episode_started",
        *["step"] * 4,
        "episode_completed",
        "feedback",
    ]
    assert {event.user_id for event in events} == {"maya"}
    start, said, look, cancel, failed, end, feedback = (event.payload for event in events)
    assert start["context"] == {"model": "small"}
    assert (str(events[1].event_id), said["text"]) == (first, "Please")
    assert look == {
        "episode_id": episode,
        "step": 0,
        "tool": "look",
        "args": {"id": 1},
        "observation": "seen",
    }
    assert (cancel["is_error"], cancel["error"], cancel["latency_ms"]) == (True, "too late", 5.0)
    assert (failed["is_error"], failed["step"], "error" in failed) == (True, 7, False)
    assert (end["outcome"], end["reward"]) == ("failure", 0.5)
    assert (feedback["memory_id"], feedback["outcome"], feedback["note"]) == (first, "success", "it helped")


@pytest.mark.parametrize(
    "command",
    [["episode", "start"], ["episode", "step"], ["episode", "complete"], ["feedback"], ["remember"]],
)
def test_a_command_that_writes_asks_whose_it_is_and_does_not_filter(command: list[str]) -> None:
    told = CliRunner().invoke(cli, [*command, "--help"]).output
    assert "--user ID" in told
    assert "The user that it belongs to." in told
    assert "Only this" not in told


def test_texts_can_come_from_standard_input(home: Home) -> None:
    def pipe(text: str, *arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments, "--home", str(home.path)], input=text)
        assert done.exit_code == 0, done.output
        return done.output.strip()

    episode = pipe("a task\nof two lines", "episode", "start", "-")
    pipe("what was seen", "episode", "step", episode, "look", "--observation", "-")
    pipe("what was said", "episode", "message", episode, "user", "-")
    events, _ = FreshEvents(home).read(0)
    assert [
        event.payload.get(name) for event, name in zip(events, ("task", "observation", "text"), strict=True)
    ] == [
        "a task\nof two lines",
        "what was seen",
        "what was said",
    ]


def test_the_python_of_the_page_runs(tmp_path: Path) -> None:
    page = (find_project() / "docs" / "episodes.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    with contextlib.chdir(tmp_path):
        exec(code, {})
    kinds = [event.event_type for event in FreshEvents(Home(tmp_path / "my-agent-home")).read(0)[0]]
    assert kinds == ["episode_started", *["step"] * 4, "episode_completed"]
