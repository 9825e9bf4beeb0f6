"""What is too large is refused with a sentence, before it is copied; the rest takes bounded memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mnemoduck import Memory
from mnemoduck.cli import cli
from mnemoduck.errors import InvalidEventError, UsageError
from mnemoduck.events import MAX_CONTENT_BYTES, MAX_LINE_BYTES
from mnemoduck.home import open_home
from mnemoduck.importers import NothingIngestedError, ingest
from mnemoduck.memory import _known_request, _make_request
from mnemoduck.metrics.names import METRICS

LARGE = 128 * 1024 * 1024


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    with Memory(tmp_path / "home") as opened:
        yield opened


def nothing_is_known(ids: object) -> set[Any]:
    return set()


def inbox_bytes(memory: Memory) -> int:
    return sum(path.stat().st_size for path in (memory.home / "inbox").rglob("*") if path.is_file())


@pytest.mark.parametrize("way", ["remember", "remember_batch"])
def test_a_memory_far_over_the_limit_is_refused_without_a_copy_of_it(memory: Memory, way: str) -> None:
    content = "x" * LARGE
    remember: Callable[[], object] = {
        "remember": lambda: memory.remember(content),
        "remember_batch": lambda: memory.remember_batch([{"content": content}]),
    }[way]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidEventError, match="the limit is 1,048,576"):
            remember()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LARGE / 8
    assert inbox_bytes(memory) == 0


@pytest.mark.parametrize("name", ["memories.jsonl", "memories.csv", "note.md"])
def test_a_file_of_one_huge_memory_is_refused_in_bounded_memory(
    memory: Memory, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    head = {"memories.jsonl": b'{"content": "', "memories.csv": b"content\n", "note.md": b"# note\n"}[name]
    with file.open("wb") as target:
        target.write(head)
        for _ in range(LARGE // 2**20):
            target.write(b"x" * 2**20)
        target.write(b'"}\n' if name.endswith("jsonl") else b"\n")
    home = open_home(memory.home)
    tracemalloc.start()
    try:
        with pytest.raises(NothingIngestedError, match="too long"):
            ingest(home, [file], known_event_ids=nothing_is_known)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LARGE / 2
    kept = sum(path.stat().st_size for path in home.quarantine.iterdir())
    assert 0 < kept < 1_000_000  # an excerpt: the file stays its owner's
    assert inbox_bytes(memory) == 0


def test_standard_input_is_read_no_further_than_what_is_taken(memory: Memory) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any, /) -> int:
            Endless.taken += len(buffer)
            assert Endless.taken < 10 * MAX_LINE_BYTES
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    for command in (("remember", "-"), ("episode", "start", "-")):
        Endless.taken = 0
        done = CliRunner().invoke(cli, [*command, "--home", str(memory.home)], input=Endless())  # type: ignore[arg-type]
        assert isinstance(done.exception, UsageError)
        assert "Standard input holds more than 4,194,304 bytes" in str(done.exception)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tags": [f"tag {number}" for number in range(10_000)]}, "tags"),
        ({"tags": ["x" * 257]}, "256"),
        ({"facts": [{"subject": "a", "predicate": "b", "object": "c"}] * 1001}, "1000"),
        ({"metadata": {str(number): "x" * 100 for number in range(100_000)}}, "4,194,304"),
        ({"role": "x" * 257}, "256"),
        ({"user_id": "x" * 257}, "256"),
    ],
)
def test_too_many_or_too_long_parts_are_refused_and_named(memory: Memory, fields: Any, says: str) -> None:
    with pytest.raises(InvalidEventError, match=says):
        memory.remember("x", **fields)
    assert inbox_bytes(memory) == 0


def test_metadata_as_deep_as_it_is_read_back_is_taken_and_deeper_is_refused(memory: Memory) -> None:
    deep: Any = "x"
    for _ in range(150):
        deep = {"a": deep}
    memory.remember("x", metadata=deep)
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(InvalidEventError):
        memory.remember("x", metadata=deep)


def test_a_step_with_huge_arguments_is_refused_before_it_is_buffered(memory: Memory) -> None:
    episode_id = memory.start_episode("a task")
    with pytest.raises(InvalidEventError, match="the limit is 4,194,304"):
        memory.log_step(episode_id, "tool", {"blob": "x" * 50_000_000})
    with pytest.raises(InvalidEventError, match="not true or false"):
        memory.complete_episode(episode_id, "success", reward=True)


def test_an_order_to_forget_names_a_hundred_thousand_memories_at_most(memory: Memory) -> None:
    with pytest.raises(InvalidEventError, match="100000"):
        memory.forget(["01890000-0000-7000-8000-000000000000"] * 100_001)


def test_questions_and_limits_beyond_what_is_answered_are_refused(memory: Memory) -> None:
    with pytest.raises(UsageError, match="100,000"):
        memory.recall("x" * 100_001)
    with pytest.raises(UsageError, match="10,000"):
        memory.recall("x", limit=10_001)


def test_long_questions_are_not_kept(memory: Memory) -> None:
    _known_request.cache_clear()
    for number in range(10):
        _make_request(f"{number} " + "x" * 50_000, None, None, None, 10, None, "boost", 0.0, False, None)
    assert _known_request.cache_info().currsize == 0


def test_a_long_question_is_repeated_by_its_beginning(memory: Memory) -> None:
    memory.remember("hazelnuts")
    done = CliRunner().invoke(cli, ["recall", "hazelnuts " * 5_000, "--home", str(memory.home)])
    assert done.exit_code == 0, done.output
    assert "Recall:" in done.output
    assert len(done.output) < 2_000


def test_feedback_on_a_pattern_that_nobody_has_says_so(memory: Memory) -> None:
    arguments = ["feedback", "pattern", "01890000-0000-7000-8000-000000000000", "success"]
    done = CliRunner().invoke(cli, [*arguments, "--home", str(memory.home)])
    assert done.exit_code == 0
    assert "Warning: the last build has no pattern 01890000" in done.stderr
    assert len(done.stdout.strip()) == 36


def test_no_label_of_a_metric_has_a_value_for_each_user() -> None:
    labels = {label for spec in METRICS for label in spec.labels}
    assert not labels & {"user", "user_id", "agent", "agent_id", "session", "session_id", "scope", "tag"}


def test_the_limits_that_the_page_tells_are_those_of_the_code() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text("utf-8")
    assert f"{MAX_CONTENT_BYTES // 2**20} MiB" in page
    assert f"{MAX_LINE_BYTES // 2**20} MiB" in page
