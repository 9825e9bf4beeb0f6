"""The life of a month on the command line: what is archived answers as before, what goes wrong is told."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mnemoduck import Memory
from tests.integration.workbench import SAMPLE_END, Done, Workbench, checksums

MODELS = ("short_term_memories", "consolidated_memories")
MONTH = "2026-03"  # of the whole sample
QUESTION = "select count(*) as rows, min(occurred_at) as first, sum(importance) as importance from short_term"


def partitions(bench: Workbench, *arguments: str) -> Done:
    return bench.mnemoduck("partitions", *arguments)


def done_well(done: Done) -> str:
    assert done.code == 0, done.out + done.err
    return done.out


def state_of_march(bench: Workbench, model: str = MODELS[0]) -> str:
    listed = json.loads(done_well(partitions(bench, "list", model, "--json")))
    return str({month["month"]: month for month in listed[model]}[MONTH]["state"])


def answers(bench: Workbench) -> list[Any]:
    """What people get to see of the sample, by every way that reads months."""
    end = datetime.fromisoformat(SAMPLE_END)
    with Memory(bench.home) as memory:
        recalled = memory.recall("flight to Lisbon", user_id="maya", record=False)
        in_mind = memory.working_memory(user_id="maya", as_of=end)
        long_term = memory.long_term(as_of=end)
        first = memory.get(recalled[0].memory_id)
        counted = memory.cursor_for(QUESTION).fetchall()
    assert (len(recalled), len(in_mind), len(long_term)) == (10, 7, 10)
    assert first is not None
    assert first.content == recalled[0].content
    return [recalled, in_mind, long_term, first, counted]


def rows_of(bench: Workbench) -> dict[str, tuple[int, str]]:
    return checksums(bench.home / "warehouse.duckdb")


def test_an_archived_month_answers_as_before_and_restored_it_is_the_same(sample: Workbench) -> None:
    before, rows = answers(sample), rows_of(sample)
    for model in MODELS:
        out = done_well(partitions(sample, "archive", model, "--before", "2026-05"))
        assert f"archived {MONTH} of {model}: {rows[f'main.{model}'][0]} rows, archive/{model}/" in out
        assert "published: " in out
    assert [state_of_march(sample, model) for model in MODELS] == ["cold", "cold"]
    listed = done_well(partitions(sample, "list"))
    assert "cold" in listed
    assert "02 07:40" in listed
    assert answers(sample) == before
    shown = done_well(sample.mnemoduck("show", str(before[3].memory_id)))
    assert before[3].content in shown
    assert rows_of(sample) == rows
    assert "archived already" in done_well(partitions(sample, "archive", MODELS[0], MONTH))
    assert "Nothing new" in done_well(sample.mnemoduck("run")), "a month that was archived stays so"

    assert f"restored {MONTH}" in done_well(partitions(sample, "restore", MODELS[0], MONTH))
    assert f"reclustered {MONTH}" in done_well(partitions(sample, "recluster", MODELS[0], MONTH))
    assert state_of_march(sample) == "hot"
    assert rows_of(sample) == rows
    assert answers(sample) == before


def test_what_was_killed_in_its_transaction_can_be_run_again(sample: Workbench) -> None:
    """A month is archived, killed on the way and again; and restored, killed on the way and again."""
    rows = rows_of(sample)
    kill_and_repeat(sample, rows, "archive", "drop table short_term_memories__months")
    kill_and_repeat(sample, rows, "restore", "create table short_term_memories__months")


def kill_and_repeat(
    sample: Workbench, rows: dict[str, tuple[int, str]], operation: str, statement: str
) -> None:
    log = Path(f"{sample.home}-logs/dbt.log")
    log.unlink(missing_ok=True)
    arguments = json.dumps({"model": MODELS[0], "months": [MONTH]})
    process = sample.start_dbt("run-operation", f"partitions_{operation}", "--args", arguments)
    while process.poll() is None and not (log.exists() and statement in log.read_text("utf-8")):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    (sample.home / "archive" / MODELS[0] / f"{MONTH}.tmp").write_bytes(b"half of a file")
    assert rows_of(sample) == rows, "a month is a table or a file, and never neither"
    done_well(partitions(sample, operation, MODELS[0], MONTH))
    assert state_of_march(sample) == ("cold" if operation == "archive" else "hot")
    assert rows_of(sample) == rows
    assert not list(sample.home.glob("archive/*/*.tmp"))


def test_a_changed_a_missing_and_a_moved_archive_are_told(sample: Workbench) -> None:
    done_well(partitions(sample, "archive", MODELS[0], MONTH))
    (file,) = (sample.home / "archive" / MODELS[0]).iterdir()
    whole, rows = file.read_bytes(), rows_of(sample)

    file.write_bytes(whole + b"x")
    assert state_of_march(sample) == "cold, file changed"
    refused = partitions(sample, "restore", MODELS[0], MONTH)
    assert refused.code == 2
    assert f"The archive of {MONTH} of {MODELS[0]} was changed since it was written" in refused.err
    assert "Nothing was touched" in refused.err
    assert "Traceback" not in refused.err
    assert "in macro" not in refused.err

    file.unlink()
    assert state_of_march(sample) == "cold, file missing"
    done_well(sample.mnemoduck("working-memory"))  # it needs this month, not that one
    for arguments, code in ((["recall", "Lisbon"], 1), (["sql", QUESTION], 2)):
        done = sample.mnemoduck(*arguments)
        assert done.code == code
        assert "missing" in done.err
        assert "--full-refresh" in done.err

    file.write_bytes(whole)
    assert rows_of(sample) == rows
    moved = Workbench(sample.home.with_name("moved"))
    sample.home.rename(moved.home)
    assert "The home was moved" in moved.mnemoduck("sql", QUESTION).err
    done_well(moved.mnemoduck("run"))
    assert (
        json.loads(done_well(moved.mnemoduck("sql", QUESTION, "--json")))[0]["rows"]
        == rows[f"main.{MODELS[0]}"][0]
    )


def test_status_counts_what_is_archived_also_where_its_file_is_gone(sample: Workbench) -> None:
    done_well(partitions(sample, "archive", "consolidated_memories", MONTH))
    (file,) = (sample.home / "archive" / "consolidated_memories").iterdir()
    file.unlink()
    assert "240 consolidated memories" in done_well(sample.mnemoduck("status"))


@pytest.mark.long
def test_dropping_says_what_is_lost_and_a_full_refresh_brings_it_back(sample: Workbench) -> None:
    before, rows = answers(sample), rows_of(sample)
    refused = partitions(sample, "drop", MODELS[0], "--before", "2026-05")
    assert refused.code == 2
    for part in (MONTH, "256 rows", "stay in raw/", "--full-refresh", "add --yes"):
        assert part in refused.err
    assert rows_of(sample) == rows
    out = done_well(partitions(sample, "drop", MODELS[0], "--before", "2026-05", "--yes"))
    assert f"dropped {MONTH} of {MODELS[0]}: 256 rows" in out
    assert "published: " in out
    assert state_of_march(sample) == "dropped"
    assert "Nothing in memory matches" in done_well(sample.mnemoduck("recall", "Lisbon"))
    assert "left to drop" in done_well(partitions(sample, "drop", MODELS[0], "--before", "2026-05", "--yes"))
    arguments = json.dumps({"model": MODELS[1], "months": [MONTH], "yes": True})
    done_well(sample.dbt("run-operation", "partitions_drop", "--args", arguments))
    done_well(sample.mnemoduck("run", "--full-refresh"))
    assert answers(sample) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "nope"], "There are: consolidated_memories, session_gists, short_term_memories"),
        (["drop", "nope", MONTH], "There are: consolidated_memories, session_gists, short_term_memories"),
        (["drop", MODELS[0], "2020-01", "--yes"], "has no month 2020-01. It has: 2026-03"),
        (["archive", MODELS[0], "March"], "a month is written like 2026-03"),
        (["archive", MODELS[0], "2026-13"], "a month is written like 2026-03"),
        (["archive", MODELS[0]], "Say which months"),
        (["drop", MODELS[0], MONTH, "--before", "2026-05"], "Say which months"),
        (["archive", "nope", MONTH], "There are: consolidated_memories, session_gists, short_term_memories"),
        (["restore", MODELS[0], "2020-01"], "has no month 2020-01"),
    ],
)
def test_a_month_or_model_that_is_not_there_is_told_with_what_there_is(
    sample: Workbench, arguments: list[str], sentence: str
) -> None:
    done = sample.mnemoduck_here("partitions", *arguments)
    assert done.code == 2, done.out + done.err
    assert sentence in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_each_operation_has_help_that_begins_with_a_sentence(bench: Workbench) -> None:
    listing = done_well(bench.mnemoduck_here("partitions", "--help")).split("Commands:")[1]
    operations = [line.split()[0] for line in listing.splitlines() if line.strip()]
    assert set(operations) == {"list", "archive", "restore", "recluster", "drop"}
    for operation in operations:
        assert (
            len(done_well(bench.mnemoduck_here("partitions", operation, "--help")).splitlines()[2].split())
            >= 3
        )
    assert partitions(bench, "list").code == 2, "there is no home"
    assert not bench.home.exists()
