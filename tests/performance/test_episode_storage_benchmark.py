"""The measurement of how steps are stored works, and its result is what the pages say."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from benchmarks.episodes.storage import FORMS, RESULT, storage
from click.testing import CliRunner

from tests.integration.workbench import PROJECT


def test_every_form_gives_back_what_went_in_and_is_measured(tmp_path: Path) -> None:
    """The command compares what it reads with what it wrote, and fails where they differ."""
    told = [
        {"step": 0, "type": "message", "role": "user", "text": "Find them"},
        {
            "step": 1,
            "type": "tool",
            "tool": "find",
            "args": {"n": 1},
            "observation": "found 1 of Li",
            "error": False,
        },
        {
            "step": 2,
            "type": "tool",
            "tool": "find",
            "args": {"n": 2},
            "observation": "found 2 of Li",
            "error": False,
        },
        {"step": 3, "type": "tool", "tool": "find", "args": {"n": 1}, "observation": "", "error": True},
    ]
    episode = {"model": "m", "started_at": "2026-01-01T00:00:00", "steps": told}
    lines = [json.dumps({**episode, "episode_id": f"{number:041d}"}) for number in range(8)]
    path, out = tmp_path / "episodes.jsonl.gz", tmp_path / "result.json"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    arguments = ["--episodes", path, "--folder", tmp_path, "--out", out, "--copies", 2, "--rounds", 1]

    done = CliRunner().invoke(storage, list(map(str, arguments)), catch_exceptions=False)

    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert result["steps"] == 32
    assert result["texts"]["observation"] == {
        "count": 24,
        "bytes": 208,
        "different": 3,
        "different_bytes": 26,
    }
    assert result["observation_bytes"]["what differs from the last of the tool in the episode"] == 8 * (
        13 + 1
    )
    assert [part["share_that_is_new"] for part in result["growth"]] == [0.5, 0, 0, 0]
    for stream in result["streams"].values():
        assert stream.keys() == FORMS.keys()
        assert all(form["bytes"] > 0 for form in stream.values())


@pytest.mark.parametrize("page", ["episodes.md", "decisions/0019-stored-steps.md"])
def test_the_pages_say_what_was_measured(page: str) -> None:
    text = (PROJECT / "docs" / page).read_text("utf-8")
    result = json.loads(RESULT.read_text())
    once, ours = (result["streams"]["once"][form]["bytes"] for form in list(FORMS)[:2])
    told = [result["texts"]["observation"]["bytes"], result["texts"]["observation"]["different_bytes"]]
    for part in [*(f"{size:,}" for size in told), f"{once / 1e6:.2f}", f"{ours / 1e6:.2f}"]:
        assert part in text
