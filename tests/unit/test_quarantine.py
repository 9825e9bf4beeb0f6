"""Quarantine: what could not be read is kept, with file, line and reason, and counted once."""

from __future__ import annotations

import base64
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck.home import Home
from mnemoduck.pipeline.load import load_inbox
from mnemoduck.quarantine import (
    EXCERPT_BYTES,
    HELD_BYTES,
    TEMPORARY_SUFFIX,
    QuarantineFile,
    Rejection,
    count_lines,
    count_quarantined,
    file_name_for,
    quarantine,
    remove_unfinished,
)

from .conftest import in_child


def entries(home: Home) -> list[dict[str, Any]]:
    files = sorted(home.quarantine.iterdir())
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def bytes_of(entry: dict[str, Any]) -> bytes:
    return entry["text"].encode() if "text" in entry else base64.b64decode(entry["base64"])


def test_rejected_bytes_come_back_exactly_and_the_file_is_plain_ascii(home: Home) -> None:
    raws = [b"", b"plain", "é \u202e\x1b[31m".encode(), b"\xff\x00\n\r", b'{"a": "\\u0000"}']
    quarantine(home, "a.jsonl", [Rejection(n, "why", raw) for n, raw in enumerate(raws)], keep_whole=True)
    assert [bytes_of(entry) for entry in entries(home)] == raws
    (file,) = home.quarantine.iterdir()
    assert file.read_bytes().isascii()
    assert b"\x1b" not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0


@given(raw=st.binary(max_size=50) | st.text(max_size=50).map(lambda text: text.encode()))
def test_any_bytes_are_kept_on_one_line(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    home = Home(tmp_path_factory.getbasetemp() / "bytes")
    home.quarantine.mkdir(parents=True, exist_ok=True)
    quarantine(home, "any", [Rejection(1, "why", raw)], keep_whole=True)
    (entry,) = entries(home)
    assert bytes_of(entry) == raw
    assert entry["raw_bytes"] == len(raw)


def test_of_a_users_own_file_an_excerpt_is_kept_with_the_true_length(home: Home) -> None:
    long = b"x" * (EXCERPT_BYTES + 1)
    quarantine(home, "mine.csv", [Rejection(1, "too long", long)], keep_whole=False)
    (entry,) = entries(home)
    assert bytes_of(entry) == long[:-1]
    assert entry["raw_bytes"] == len(long)


def test_reading_the_same_source_again_replaces_what_was_said_about_it(home: Home) -> None:
    quarantine(home, "a.csv", [Rejection(1, "bad"), Rejection(2, "bad")], keep_whole=False)
    quarantine(home, "b.csv", [Rejection(7, "other")], keep_whole=False)
    assert count_quarantined(home) == 3
    quarantine(home, "a.csv", [Rejection(2, "still bad")], keep_whole=False)
    assert {(entry["source"], entry["line"], entry["reason"]) for entry in entries(home)} == {
        ("a.csv", 2, "still bad"),
        ("b.csv", 7, "other"),
    }
    assert quarantine(home, "a.csv", [], keep_whole=False) == 0
    assert [entry["source"] for entry in entries(home)] == ["b.csv"]


def test_thousands_of_rejections_are_kept_in_order(home: Home) -> None:
    rejections = [Rejection(number, "bad", b"%d" % number) for number in range(2_500)]
    assert quarantine(home, "many", rejections, keep_whole=True) == 2_500
    assert [entry["line"] for entry in entries(home)] == list(range(2_500))
    assert count_quarantined(home) == 2_500


def test_nothing_appears_before_the_file_is_closed(home: Home) -> None:
    file = QuarantineFile(home, "slow", keep_whole=True)
    for number in range(1_500):
        file.add(Rejection(number, "bad"))
    assert count_quarantined(home) == 0
    file.close()
    assert count_quarantined(home) == 1_500
    assert [path.suffix for path in home.quarantine.iterdir()] == [".jsonl"]


@given(sources=st.sets(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=10))
def test_sources_have_different_and_harmless_file_names(sources: set[str]) -> None:
    names = [file_name_for(source) for source in sources]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 100
        assert name.isascii()
        assert Path(name).name == name
        assert not name.startswith(".")


@pytest.mark.parametrize(
    "source", ["../../etc/passwd", "a/../b", "..", "/", "\udcff.csv", "con\0.txt", "x" * 999]
)
def test_a_hostile_source_name_stays_in_the_quarantine(home: Home, source: str) -> None:
    quarantine(home, source, [Rejection(1, "bad")], keep_whole=False)
    (file,) = home.quarantine.iterdir()
    assert file.parent == home.quarantine
    assert entries(home)[0]["source"] == source


def leave_unfinished(home: Home, name: str) -> Path:
    """Begin a file in quarantine and return where it is; this process goes on writing it."""
    file = QuarantineFile(home, name, keep_whole=True)
    file.add(Rejection(1, "too long", b"x" * HELD_BYTES))
    (path,) = home.quarantine.glob(f"{name}*{TEMPORARY_SUFFIX}")
    unfinished.append(file)
    return path


unfinished: list[QuarantineFile] = []


def test_what_the_dead_have_left_half_written_goes_with_the_next_load_and_what_is_being_written_stays(
    home: Home,
) -> None:
    written = leave_unfinished(home, "living")
    assert in_child(lambda: (leave_unfinished(home, "dead"), os._exit(0))) == 0
    assert len(list(home.quarantine.glob("*.tmp"))) == 2
    load_inbox(home)
    assert list(home.quarantine.glob("*.tmp")) == [written]
    unfinished.pop().close()
    (kept,) = home.quarantine.iterdir()
    assert count_lines(kept) == 1
    assert kept.stat().st_mode & 0o077 == 0


def test_a_file_that_is_removed_before_it_is_locked_is_made_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    is_removed: list[bool] = []

    def remove_before(descriptor: int, operation: int) -> None:
        if not is_removed:
            is_removed.append(True)
            remove_unfinished(home)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_before)
    assert quarantine(home, "a source", [Rejection(1, "no event", b"x")], keep_whole=True) == 1
    (kept,) = home.quarantine.iterdir()
    assert count_lines(kept) == 1
