"""The command line as people use it, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnemoduck import Memory
from tests.integration.workbench import SAMPLE_END, SAMPLE_STREAM, Workbench

HOSTILE = "Robert'); drop table memories;-- {{ var('x') }} \x1b[31mred\x1b]0;title\x07 \u202egnp.exe \x9b2J"


def assert_is_a_sentence(text: str) -> None:
    assert "Traceback" not in text
    assert text.strip()


def test_what_was_remembered_a_moment_ago_is_found_before_the_next_run(bench: Workbench) -> None:
    done = bench.mnemoduck("remember", "The spare key hangs behind the boiler", "--user", "maya")
    assert done.code == 0, done.err
    found = json.loads(bench.mnemoduck("recall", "spare keys", "--user", "maya", "--json").out)
    assert [item["memory_id"] for item in found] == [done.out.strip()]
    assert found[0]["is_fresh"] is True
    assert json.loads(bench.mnemoduck("recall", "spare keys", "--user", "jonas", "--json").out) == []


def test_recall_working_memory_long_term_and_status_show_the_sample(read_only_sample: Workbench) -> None:
    recalled = read_only_sample.mnemoduck(
        "recall", "hazelnut allergy", "--user", "maya", "--limit", "3", "--no-record"
    )
    assert recalled.code == 0
    assert "hazelnut" in recalled.out
    mind = read_only_sample.mnemoduck("working-memory", "--user", "maya", "--as-of", SAMPLE_END)
    assert mind.code == 0
    assert "capacity 7 of 5 to 9" in mind.out
    strongest = read_only_sample.mnemoduck("long-term", "--as-of", SAMPLE_END, "--json")
    supports = [item["support_count"] for item in json.loads(strongest.out)]
    assert len(supports) == 10
    assert max(supports) == 4
    status = json.loads(read_only_sample.mnemoduck("status", "--json").out)
    assert status["memories"] == 256
    assert status["waiting_events"] == 0


def test_recall_explains_itself_filters_and_packs_a_context_block(read_only_sample: Workbench) -> None:
    def recall(*arguments: str) -> str:
        done = read_only_sample.mnemoduck_here("recall", "--user", "maya", "--as-of", SAMPLE_END, *arguments)
        assert done.code == 0, done.err
        return done.out

    explained = recall("flight to Lisbon on 2 March", "--explain", "--limit", "2")
    assert 'time "2 March": from 2026-03-02 00:00 and before 2026-03-03 00:00' in explained
    for part in ("own words", "found by  words", "source  event", "line 16", "strength", "Consolidated as"):
        assert part in explained
    (found,) = json.loads(recall("flight to Lisbon", "--explain", "--limit", "1", "--json"))
    parts = found["parts"]
    assert found["score"] == pytest.approx(sum(parts.values()) - parts["speaker"])
    assert found["explanation"]["is_consolidated"] is True
    assert found["explanation"]["fate"] in ("retained", "reinforced")
    for fate in ("forgotten", "retained"):
        later = ("--as-of", "2026-11-01", "--fate", fate, "--explain", "--json")
        fates = [item["explanation"]["fate"] for item in json.loads(recall("flight to Lisbon", *later))]
        assert set(fates) == {fate}
    ordered = json.loads(
        recall("blue heron lantern", "--as-of", "2026-11-01", "--fate", "forgotten", "--json")
    )
    assert not any("heron" in item["content"] for item in ordered), (
        "what was ordered forgotten is never shown"
    )
    before = json.loads(recall("flight", "--until", "2026-03-04", "--type", "episodic", "--json"))
    assert before
    assert all(item["occurred_at"] < "2026-03-04" for item in before)
    block = recall("flight to Lisbon", "--budget", "200")
    assert "```text\n- 2026-03-" in block
    assert "more that match are left out." in block
    assert "Nothing in memory matches" in recall("flight", "--min-importance", "1", "--tag", "no such tag")


def test_facts_show_what_held_then_as_it_was_known_then(read_only_sample: Workbench) -> None:
    def objects(*arguments: str) -> list[str]:
        done = read_only_sample.mnemoduck_here(
            "facts", "--predicate", "Flies_to Lisbon on", "--json", *arguments
        )
        assert done.code == 0, done.err
        return [fact["object"] for fact in json.loads(done.out)]

    assert objects("--history") == ["2026-03-28", "2026-03-25"]
    assert objects("--as-of", "2026-03-05") == ["2026-03-28"]
    assert objects("--as-of", SAMPLE_END, "--known-at", "2026-03-05") == ["2026-03-28"]
    shown = read_only_sample.mnemoduck_here("facts", "--user", "maya", "--as-of", "2026-03-03")
    assert "Facts at 2026-03-03 00:00 of maya / otter" in shown.out
    assert "Maya is allergic to hazelnuts" in shown.out
    # Whoever opens the file with DuckDB and nothing of ours can ask as well.
    known = "select subject from facts_as_of('2026-03-05', '2026-03-05', for_user := 'jonas')"
    assert read_only_sample.query(known) == [("Frieda",)]


def test_nothing_in_mind_says_how_to_look_from_another_moment(read_only_sample: Workbench) -> None:
    done = read_only_sample.mnemoduck_here("working-memory", "--user", "maya", "--as-of", "2026-03-20")
    assert done.code == 0
    assert "--as-of" in done.out


def test_content_is_data_and_comes_back_exactly(bench: Workbench) -> None:
    remembered = bench.mnemoduck("remember", HOSTILE, "--user", "u", "--tag", "{{ 1/0 }}")
    assert remembered.code == 0, remembered.err
    bench.build()
    found = json.loads(bench.mnemoduck("recall", "drop table", "--user", "u", "--json").out)
    assert [item["content"] for item in found] == [HOSTILE]
    assert found[0]["tags"] == ["{{ 1/0 }}"]
    shown = bench.mnemoduck("recall", "drop table", "--user", "u").out
    assert not set("\x1b\x07\x9b\u202e") & set(shown), "nothing in a memory may steer the terminal"
    assert "\\x1b[31mred" in shown
    table = bench.mnemoduck("sql", "select content from short_term").out
    assert not set("\x1b\x07\x9b\u202e") & set(table)


def test_reading_from_standard_input(bench: Workbench) -> None:
    done = subprocess.run(
        [*_command(bench), "remember", "-"], input=b"a thought\non two lines\n",
        env=bench._environment({}), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(bench.mnemoduck("recall", "thought", "--json").out)
    assert found[0]["content"] == "a thought\non two lines\n"


def in_bash(bench: Workbench, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], env=bench._environment(environment), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("form", ["", "--json"])
def test_output_into_a_closed_pipe_is_no_error(
    read_only_sample: Workbench, form: str, unbuffered: str
) -> None:
    line = f"mnemoduck sql 'select * from range(200000)' {form} | head -1; exit ${{PIPESTATUS[0]}}"
    done = in_bash(read_only_sample, line, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_gets_all_of_a_long_output(read_only_sample: Workbench, unbuffered: str) -> None:
    line = "mnemoduck sql 'select * from range(200000)' --json | (sleep 2; cat)"
    done = in_bash(read_only_sample, line, PYTHONUNBUFFERED=unbuffered)
    assert len(json.loads(done.stdout)) == 200_000


@pytest.mark.parametrize("nobody", ["2>&1 | true", ">&-", ">&- 2>&-"])
def test_a_command_comes_to_its_end_though_nobody_reads_what_it_says(
    bench: Workbench, tmp_path: Path, nobody: str
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"content": f"thought {name}"}) + "\n")
    line = f"mnemoduck ingest {tmp_path}/one.jsonl {tmp_path}/two.jsonl {nobody}; exit ${{PIPESTATUS[0]}}"
    done = in_bash(bench, line)
    assert done.returncode == 0, done.stdout
    found = json.loads(bench.mnemoduck("recall", "thought", "--json").out)
    assert {item["content"] for item in found} == {"thought one", "thought two"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["recall"], "Missing argument 'QUERY'"),
        (["recall", "x", "--nonsense"], "No such option"),
        (["recall", "x", "--limit", "-1"], "-1 is not in the range"),
        (["recall", "x", "--limit", "many"], "'many' is not a valid integer"),
        (["recall", "x", "--as-of", "yesterday"], "write it like 2026-03-15"),
        (["recall", "x", "--metadata", "page"], "'page' is not KEY=VALUE"),
        (["recall", "x", "--since", "2026-03-02", "--until", "2026-03-01"], "No time lies between"),
        (["recall", "x", "--fate", "gone"], "'gone' is not one of 'retained'"),
        (["recall", "x", "--user", ""], "user_id must be a text that is not empty"),
        (["remember", "   "], "content: must not be empty"),
        (["remember", "x", "--importance", "7"], "7.0 is not in the range"),
        (["remember", "x", "--occurred-at", "1950-01-01"], "out of range"),
        (["reinforce", "not-an-id"], "memory_ids.0"),
        (["forget"], "Nothing says what to forget"),
        (["forget", "not-an-id"], "memory_ids.0"),
        (["forget", "--user", "maya"], "add --yes"),
        (["forget", "--user", "maya", "not-an-id"], "memory_ids.0"),
        (["sql", "delete from short_term_memories"], "must be one SELECT"),
        (["sql", "select * from nowhere"], "nowhere does not exist"),
        (["sql", "selec 1"], "cannot be read"),
        (["sql", ""], "got nothing"),
        (["sql", "select * from read_text('/etc/passwd')"], "none of the table functions"),
        (["sql", "attach '/tmp/x.duckdb'"], "must be one SELECT"),
        (["ingest"], "Missing argument"),
        (["ingest", "/nowhere/at/all.jsonl"], "/nowhere/at/all.jsonl"),
        (["ingest", "--format", "telepathy", "README.md"], "telepathy"),
        (["run", "--threads", "0"], "it takes a whole number from 1 to 64"),
        (["run", "--project", "/tmp"], "holds no mnemoduck dbt project"),
    ],
)
def test_a_mistake_of_the_user_ends_in_a_sentence_and_exit_code_2(
    read_only_sample: Workbench, arguments: list[str], sentence: str
) -> None:
    done = read_only_sample.mnemoduck_here(*arguments)
    assert done.code == 2, done.out + done.err
    assert sentence in " ".join(done.err.split())
    assert_is_a_sentence(done.err)


@pytest.mark.parametrize(
    "command",
    [["recall", "x"], ["working-memory"], ["long-term"], ["facts"], ["status"], ["sql", "select 1"]],
    ids=lambda command: command[0],
)
class TestAHomeThatIsNone:
    def test_a_missing_home_is_named(self, bench: Workbench, command: list[str]) -> None:
        done = bench.mnemoduck(*command)  # a process of its own, once for each command
        assert done.code == 2
        assert str(bench.home) in done.err.replace("\n", "")
        assert "mnemoduck init" in done.err
        assert not bench.home.exists(), "a mistyped path is not filled with our files"

    def test_a_folder_with_other_things_in_it_is_left_alone(
        self, bench: Workbench, command: list[str]
    ) -> None:
        bench.home.mkdir()
        (bench.home / "thesis.tex").write_text("mine")
        done = bench.mnemoduck_here(*command)
        assert done.code == 2
        assert "is not a mnemoduck home" in done.err
        assert os.listdir(bench.home) == ["thesis.tex"]

    def test_a_file_is_no_home(self, bench: Workbench, command: list[str]) -> None:
        bench.home.write_text("a file")
        done = bench.mnemoduck_here(*command)
        assert done.code == 2
        assert_is_a_sentence(done.err)


def test_a_home_that_is_none_is_told_to_dbt_as_well(bench: Workbench) -> None:
    bench.home.mkdir()
    (bench.home / "thesis.tex").write_text("mine")
    done = bench.dbt("build")
    assert done.code != 0
    assert "is not a mnemoduck home" in done.out
    assert os.listdir(bench.home) == ["thesis.tex"]


def test_before_the_first_run_recall_works_and_sql_says_what_to_do(bench: Workbench) -> None:
    assert bench.mnemoduck_here("init").code == 0
    assert "Nothing in memory matches" in bench.mnemoduck_here("recall", "anything").out
    done = bench.mnemoduck_here("sql", "select * from short_term")
    assert done.code == 2
    assert "mnemoduck run" in done.err
    assert bench.mnemoduck_here("status").code == 0
    assert "Nothing is in long-term memory at this moment" in bench.mnemoduck_here("long-term").out


def test_a_run_on_an_empty_home_publishes_an_empty_memory(bench: Workbench) -> None:
    bench.build()
    assert bench.query("select count(*) from consolidated") == [(0,)]
    assert "Nothing in memory matches" in bench.mnemoduck("recall", "anything").out


def test_a_damaged_snapshot_is_named_with_what_to_do(sample: Workbench) -> None:
    snapshot = sample.snapshot()
    snapshot.write_bytes(b"damaged" * 10_000)
    done = sample.mnemoduck("recall", "anything")
    assert done.code == 1
    assert snapshot.name in done.err.replace("\n", "")
    assert_is_a_sentence(done.err)
    snapshot.unlink()
    sample.build()
    assert sample.mnemoduck("recall", "Lisbon").code == 0


def test_every_command_has_help_that_begins_with_a_sentence(bench: Workbench) -> None:
    listing = bench.mnemoduck_here("--help").out
    commands = [line.split()[0] for line in listing.split("Commands:")[1].splitlines() if line.strip()]
    assert {"ingest", "run", "recall", "working-memory", "status", "sql", "forget"} <= set(commands)
    readme = (SAMPLE_STREAM.parents[1] / "README.md").read_text("utf-8")
    for command in commands:
        done = bench.mnemoduck_here(command, "--help")
        assert done.code == 0
        assert len(done.out.splitlines()[2].split()) >= 3, command
        assert f"mnemoduck {command}" in readme, f"{command} is not in the README"


def test_ingesting_says_what_was_accepted_duplicated_and_quarantined(
    bench: Workbench, tmp_path: Path
) -> None:
    file = tmp_path / "mixed.jsonl"
    good = {"content": "The ferry leaves at seven", "occurred_at": "2026-03-01T07:00:00Z"}
    lines = [
        json.dumps(good),
        json.dumps(good),
        "{broken",
        json.dumps({"text": 1}),
        json.dumps({"content": 7}),
    ]
    file.write_text("\n".join(lines) + "\n")
    done = bench.mnemoduck_here("ingest", str(file))
    assert done.code == 0, done.out + done.err
    summary = json.loads(bench.mnemoduck_here("ingest", "--json", str(file)).out)
    assert summary["accepted"] == 0, "the second time adds nothing"
    assert summary["duplicated"] == 2
    assert summary["quarantined"] == 3
    with Memory(bench.home) as memory:
        assert [item.content for item in memory.recall("ferry")] == ["The ferry leaves at seven"]


def test_a_50_mb_line_is_refused_without_being_held(bench: Workbench, tmp_path: Path) -> None:
    file = tmp_path / "huge.jsonl"
    with file.open("wb") as out:
        out.write(b'{"content": "' + b"x" * 50_000_000 + b'"}\n{"content": "small"}\n')
    started = time.monotonic()
    summary = json.loads(bench.mnemoduck("ingest", "--json", str(file)).out)
    assert summary["accepted"] == 1
    assert summary["quarantined"] == 1
    assert time.monotonic() - started < 60
    (quarantined,) = (bench.home / "quarantine").iterdir()
    assert quarantined.stat().st_size < 1_000_000


def _command(bench: Workbench) -> list[str]:
    return [str(Path(sys.executable).parent / "mnemoduck")]


def test_a_memory_limit_that_is_no_size_builds_nothing(bench: Workbench) -> None:
    bench.mnemoduck("init")
    done = bench.mnemoduck("run", MNEMODUCK_MEMORY_LIMIT="lots")
    assert done.code == 2
    assert "run.memory_limit is 'lots'; it takes a size such as 4GB" in done.out + done.err
    assert not list((bench.home / "published").glob("*.duckdb"))
