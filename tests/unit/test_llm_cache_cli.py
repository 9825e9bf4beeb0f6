"""`mnemoduck cache`: what people see, and which exit code scripts get."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.unit.llm_cache_rows import ASKED_AT, make_embedding, make_failure, make_response, make_run

from mnemoduck.cli import cli
from mnemoduck.errors import LockedError, MnemoduckError, StorageError, UsageError
from mnemoduck.home import Home, open_home
from mnemoduck.llm.cache import open_cache
from mnemoduck.pipeline.lock import RunLock


def cache(home: Home, *arguments: str) -> Result:
    """Run the command as people do; an error of ours is in the result's `exception`, see `main`."""
    return CliRunner(env={"COLUMNS": "160"}).invoke(cli, ["cache", *arguments, "--home", str(home.path)])


def said(home: Home, *arguments: str) -> str:
    done = cache(home, *arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def refused(home: Home, *arguments: str) -> MnemoduckError:
    done = cache(home, *arguments)
    assert isinstance(done.exception, MnemoduckError), (done.output, done.exception)
    return done.exception


@pytest.fixture
def filled(home: Home) -> Home:
    """A home with two answers, a failure, a vector and a run."""
    with open_cache(home) as opened:
        opened.store_responses([make_response("a"), make_response("b"), make_failure("\x1b[31mc")])
        opened.store_embeddings([make_embedding("a", [1.0, 2.0])])
        opened.record_uses([(make_response("a").key, 7)], ASKED_AT + timedelta(days=1))
        opened.record_run(make_run(1, stopped_by="budget of calls"))
    return home


def test_stats_show_what_is_there_and_what_it_spared(filled: Home) -> None:
    out = said(filled, "stats")
    for text in ("llama3.2", "appraisal", "embedding", "2026-03-02 12:00", "4 entries, 1 of them failures"):
        assert text in out
    assert "hit rate = hits / (hits + misses)" in out
    for text in ("80.0%", "216", "0:00:07", "budget of calls"):
        assert text in out
    found = json.loads(said(filled, "stats", "--json"))
    assert (found["entries"], found["failures"], found["models"][0]["hit_rate"]) == (4, 1, 0.8)
    assert found["file_bytes"] >= filled.llm_cache.stat().st_size > 0


@pytest.mark.parametrize(
    "arguments",
    [("stats",), ("verify",), ("evict", "--older-than", "1d"), ("export", "x")],
    ids=lambda a: a[0],
)
def test_without_a_cache_it_says_so_and_makes_none(
    home: Home, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said(home, *arguments) == "No model has answered anything yet.\n"
    assert said(home, *arguments, "--json") == "null\n"
    assert not home.llm_cache.exists()
    assert not Path("x").exists()


def test_an_empty_cache_has_nothing_yet(home: Home) -> None:
    with open_cache(home):
        pass
    assert said(home, "stats") == "No model has answered anything yet.\n"


def test_verify_tells_a_sound_cache_from_one_that_was_changed(filled: Home) -> None:
    assert "3 responses and 1 embeddings: every key" in said(filled, "verify")
    with open_cache(filled) as opened:
        opened._cursor.execute("update responses set answer = 'no' where input = 'a'")
    done = cache(filled, "verify")
    key = make_response("a").key
    assert done.output == f"responses {key}: its answer is no JSON.\n"
    assert isinstance(done.exception, StorageError)
    assert str(done.exception).startswith("1 faults in 3 responses and 1 embeddings")
    assert done.exception.exit_code == 1
    found = json.loads(cache(filled, "verify", "--json").output)
    assert (found["fault_count"], found["faults"][0]["key"]) == (1, str(key))


def test_evict_counts_first_and_then_does_it(filled: Home) -> None:
    arguments = ("evict", "--template", "appraisal", "--max-size", "0.25KB")
    counted = said(filled, *arguments, "--dry-run")
    assert counted.startswith("would evict 2 responses and 0 embeddings (")
    done = said(filled, *arguments)
    assert done == counted.replace("would evict", "evicted").replace("would stay", "are left")
    again = json.loads(said(filled, *arguments, "--json"))
    assert (again["responses"], again["kept"], again["dry_run"]) == (0, 2, False)
    assert "evicted 1 responses and 1 embeddings" in said(filled, "evict", "--older-than", "0h")


def test_evict_failures_leaves_the_answers(filled: Home) -> None:
    assert "would evict 1 responses and 0 embeddings" in said(filled, "evict", "--failures", "--dry-run")
    assert "evicted 0 responses" in said(filled, "evict", "--failures", "--template", "extraction")
    assert "evicted 1 responses and 0 embeddings" in said(filled, "evict", "--failures")
    assert "3 entries, 0 of them failures" in said(filled, "stats")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--older-than", "90"),
        ("--older-than", "-1d"),
        ("--older-than", "1y"),
        ("--max-size", "500XB"),
        ("--max-size", "much"),
        ("--below-version", "0"),
    ],
)
def test_what_is_no_age_or_size_is_told(filled: Home, option: str, value: str) -> None:
    done = cache(filled, "evict", option, value)
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.output


@pytest.mark.parametrize(
    ("text", "kept"), [("0B", 0), ("8", 1), ("0.008 kb", 1), ("1gb", 4), ("0.001MB", 4), ("0.000TB", 0)]
)
def test_sizes_are_read_with_and_without_units(filled: Home, text: str, kept: int) -> None:
    with open_cache(filled) as opened:  # the vector, of 8 bytes, is what was used last
        opened.record_uses([(make_embedding("a", [1.0]).key, 1)], ASKED_AT + timedelta(days=2))
    counted = json.loads(said(filled, "evict", "--max-size", text, "--dry-run", "--json"))
    assert counted["kept"] == kept


def test_an_export_goes_to_another_home(filled: Home, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    out = said(filled, "export", str(folder))
    assert f"{folder / 'responses.parquet'}: 3 rows" in out
    other = open_home(tmp_path / "other")
    assert "responses: 3 taken, 0 known already\n" in said(other, "import", str(folder))
    assert "responses: 0 taken, 3 known already\n" in said(other, "import", str(folder / "responses.parquet"))
    ours, theirs = (json.loads(said(one, "stats", "--json")) for one in (filled, other))
    for found in (ours, theirs):
        del found["file_bytes"]
    assert ours == theirs


def test_an_import_says_what_it_left_out(filled: Home, tmp_path: Path) -> None:
    with open_cache(filled) as opened:
        opened._cursor.execute("update responses set input = 'x' where input = 'a'")
        opened.export(tmp_path / "export")
    other = open_home(tmp_path / "other")
    out = said(other, "import", str(tmp_path / "export"))
    assert "responses: 2 taken, 0 known already, 1 refused\n" in out
    assert "\n  1 refused: its input does not give its input_hash\n" in out
    (one, *_) = json.loads(said(other, "import", str(tmp_path / "export"), "--json"))
    reasons = {"its input does not give its input_hash": 1}
    assert one == {"table": "responses", "taken": 0, "known": 2, "refused": 1, "reasons": reasons}
    assert isinstance(refused(other, "import", str(tmp_path / "nowhere")), UsageError)


@pytest.mark.parametrize("arguments", [("stats",), ("verify",), ("evict",), ("export", "x"), ("import", "x")])
def test_none_of_them_works_beside_a_run(
    filled: Home, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with RunLock(filled):
        error: Any = refused(filled, *arguments)
    assert isinstance(error, LockedError)
    assert error.exit_code == 75


def test_a_damaged_file_is_told(filled: Home) -> None:
    filled.llm_cache.write_bytes(b"no" * 5000)
    error = refused(filled, "stats")
    assert isinstance(error, StorageError)
    assert "Put it back from a backup" in str(error)
