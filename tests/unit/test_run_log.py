"""What a run reads out of dbt's structured log."""

from __future__ import annotations

import json
import textwrap

import duckdb
import pytest

from mnemoduck.llm.enrichment import progress_line
from mnemoduck.pipeline.run import CallProgress, Progress, RunSummary, _read_log_line, without_traceback


def read(*entries: dict[str, object]) -> RunSummary:
    summary = RunSummary()
    for entry in entries:
        _read_log_line(json.dumps(entry), summary, lambda _: None)
    return summary


def said(text: str) -> dict[str, object]:
    return {"info": {"name": "JinjaLogInfo", "msg": text, "level": "info"}, "data": {}}


def test_what_a_model_has_to_say_is_kept_for_the_user() -> None:
    summary = read(
        said("mnemoduck 3 rows of 2024-01 were left out of thoughts: that month was dropped."),
        said("mnemoduck published: 2026"),
        said("something of dbt's"),
    )
    assert summary.notices == ["3 rows of 2024-01 were left out of thoughts: that month was dropped."]
    assert (summary.outcome, summary.snapshot) == ("published", "2026")


@pytest.mark.parametrize("data", [{}, {"node_info": {}}, {"node_info": "t"}, {"node_info": {"node_name": 5}}])
@pytest.mark.parametrize("name", ["LogTestResult", "LogModelResult"])
def test_a_result_of_a_shape_that_we_do_not_know_is_a_remark_and_ends_nothing(
    name: str, data: dict[str, object]
) -> None:
    line = {"info": {"name": name, "msg": "FAIL 3", "level": "error"}, "data": data}
    summary = read(line, said("mnemoduck published: 2026"))
    assert summary.remarks == [json.dumps(line)]
    assert (summary.nodes, summary.snapshot) == ([], "2026")


def test_how_far_the_calls_of_a_model_are_is_progress_and_no_notice() -> None:
    seen: list[Progress | CallProgress] = []
    summary = RunSummary()
    line = said(f"mnemoduck {progress_line('vectors', 'nomic-embed-text:v1.5', 32, 1000, 2)}")
    _read_log_line(json.dumps(line), summary, seen.append)
    assert seen == [CallProgress("nomic-embed-text:v1.5", "vectors", 32, 1000, 2)]
    assert summary.notices == []


def test_why_nothing_was_published_is_no_notice() -> None:
    assert read(said("mnemoduck not published: readers stay on the last good snapshot.")).notices == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Compilation Error in model m (m.sql)\n  The archive is missing.\n  \n  > in macro a (a.sql)\n"
            "  > called by model m (m.sql)",
            "Compilation Error in model m (m.sql)\n  The archive is missing.",
        ),
        (
            "Runtime Error\n  Python model failed:\n  Traceback (most recent call last):\n    File x\n"
            "  ValueError: no",
            "Runtime Error\n  Python model failed: ValueError: no",
        ),
        ("Database Error\n  > is no operator here", "Database Error\n  > is no operator here"),
    ],
)
def test_an_error_is_told_without_the_calls_that_led_to_it(message: str, expected: str) -> None:
    assert without_traceback(message) == expected


def test_of_what_a_function_of_ours_raised_its_words_are_shown_and_not_who_called_it() -> None:
    def refuse(_said: str) -> str:
        raise ValueError("two expectations are not met:\nfail: one\nfail: two")

    with duckdb.connect() as connection:
        connection.create_function("refuse", refuse, [duckdb.sqltype("varchar")], duckdb.sqltype("varchar"))
        with pytest.raises(duckdb.Error) as raised:
            connection.execute("select refuse('x')").fetchall()
    message = "Encountered an error:\nRuntime Error\n" + textwrap.indent(str(raised.value), "  ")
    assert without_traceback(message) == "two expectations are not met:\nfail: one\nfail: two"
