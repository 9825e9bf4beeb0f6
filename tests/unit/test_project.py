"""The dbt project outside dbt: where it is, and what its macros mean in DuckDB.

That dbt expands them to the same SQL is shown by tests/integration: a home answers the same before
and after it is built.
"""

from __future__ import annotations

import math
import shutil
import time
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import duckdb
import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mnemoduck.composition import compose
from mnemoduck.errors import UsageError
from mnemoduck.extensions import load_extension
from mnemoduck.project import PROJECT_VARIABLE, find_project, render, variables

PROJECT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 1, 12, 0)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        load_extension(opened, "fts")
        yield opened


def evaluate(connection: duckdb.DuckDBPyConnection, expression: str, **parameters: object) -> Any:
    row = connection.execute(f"select {expression}", parameters).fetchone()
    assert row is not None
    return row[0]


# --- where it is ---------------------------------------------------------------------------------------


def test_the_project_of_the_checkout_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert find_project() == PROJECT


def test_the_argument_goes_before_the_variable_and_that_before_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("argument", "variable", "working")]
    for folder in folders:
        folder.mkdir()
        shutil.copy(PROJECT / "dbt_project.yml", folder)
    argument, variable, working = folders
    monkeypatch.chdir(working)
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    assert find_project() == working
    monkeypatch.setenv(PROJECT_VARIABLE, str(variable))
    assert find_project() == variable
    assert find_project(argument) == argument


@pytest.mark.parametrize("content", [None, "name: another\n", "", "- name: mnemoduck_not\n"])
def test_a_folder_that_was_asked_for_and_is_no_project_is_refused(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "dbt_project.yml").write_text(content)
    with pytest.raises(UsageError, match="holds no mnemoduck dbt project"):
        find_project(tmp_path)


def test_another_project_in_the_working_folder_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    (tmp_path / "dbt_project.yml").write_bytes(b"\xff\xfe no text at all \x00")
    monkeypatch.chdir(tmp_path)
    assert find_project() == PROJECT


# --- variables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"capacity_minimum": 8, "capacity_maximum": 6}, "capacity_minimum is 8 and capacity_maximum is 6"),
        ({"attention_fallback_minutes": 4}, "attention_fallback_minutes is 4; it must be at least"),
        ({"priority_weight_urgency": 0.9}, "they must sum to 1"),
    ],
)
def test_a_variable_that_would_stop_dbt_stops_recall_with_the_same_sentence(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    shutil.copytree(PROJECT / "macros", tmp_path / "macros")
    document = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())
    document["vars"].update(changes)
    (tmp_path / "dbt_project.yml").write_text(yaml.safe_dump(document))
    assert variables(tmp_path)["capacity_minimum"] == document["vars"]["capacity_minimum"]
    with pytest.raises(UsageError, match=sentence):
        render(tmp_path, "working_memory_slots", "memories", "'all'", "now()")


# --- what the macros mean ------------------------------------------------------------------------------

part = st.none() | st.text(alphabet="ab:-|0123", max_size=6)


@given(one=st.tuples(part, part), other=st.tuples(part, part))
@example(one=("a", None), other=(None, "a"))
@example(one=("a", "b"), other=("ab", ""))
@example(one=("1:a", "b"), other=("a", "1:b"))
@example(one=(None, None), other=("-", "-"))
def test_keys_are_equal_only_for_equal_values(
    connection: duckdb.DuckDBPyConnection, one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    key = render(PROJECT, "hash_key", ("cast($a as varchar)", "cast($b as varchar)"))
    keys = [evaluate(connection, key, a=values[0], b=values[1]) for values in (one, other)]
    assert isinstance(keys[0], UUID)
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("Duck pond", "duck  POND\n", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("a\t\n b", " a b ", True),
        ("duck pond", "duckpond", False),
        ("duck", "duck!", False),
        ("", "  ", True),
    ],
)
def test_texts_are_equal_but_for_case_blanks_and_composition(
    connection: duckdb.DuckDBPyConnection, one: str, other: str, is_same: bool
) -> None:
    text = render(PROJECT, "normalised_text", "$text")
    assert (evaluate(connection, text, text=one) == evaluate(connection, text, text=other)) is is_same


MARKS = "\u0301\u0316"
"""Two combining marks out of order: to sort a run of them takes the square of its length."""


def test_combining_marks_in_a_row_take_time_in_proportion_and_none_is_dropped(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    composed = render(PROJECT, "composed_text", "piece")

    def compose(text: str) -> tuple[str, float]:
        began = time.process_time()
        query = f"select {composed} from (select unnest([$text]) as piece)"
        (found,) = connection.execute(query, {"text": text}).fetchone() or ("",)
        return found, time.process_time() - began

    _, seconds = compose("b" + MARKS * 10_000)
    found, seconds_of_ten_times = compose("b" + MARKS * 100_000)
    assert seconds_of_ten_times < 30 * max(seconds, 0.02)  # of the square it is a hundred times: minutes
    assert (found.count("\u0301"), found.count("\u0316")) == (100_000, 100_000)
    assert found.replace("\u034f", "") != found
    assert compose("e\u0301 " * 2000)[0] == "é " * 2000


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_python_composes_marks_in_a_row_in_time_in_proportion(form: Literal["NFC", "NFD"]) -> None:
    began = time.process_time()
    found = compose("b" + MARKS * 100_000, form)
    assert time.process_time() - began < 10
    assert (found.count("\u0301"), found.count("\u0316")) == (100_000, 100_000)
    usual = "Ça va, e\u0301te\u0301 " * 1000
    assert compose(usual, form) == unicodedata.normalize(form, usual)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat's 2 mice, don't!", ["the", "cat", "s", "2", "mice", "don", "t"]),
        ("naïve—café ÉTÉ", ["naïve", "café", "été"]),
        ("日本語 текст 𝔘", ["日本語", "текст", "𝔘"]),
        ("a_b-c.d/e", ["a", "b", "c", "d", "e"]),
        ("?! 🦆 …", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_of_any_script(
    connection: duckdb.DuckDBPyConnection, text: str, words: list[str]
) -> None:
    assert evaluate(connection, render(PROJECT, "words", "$text"), text=text) == words


def moment(value: datetime) -> str:
    return f"timestamp '{value.isoformat()}'"


def activation_of(connection: duckdb.DuckDBPyConnection, ages: list[float], kept: int) -> float:
    uses = sorted(NOW - timedelta(seconds=age) for age in ages)
    times = "[" + ", ".join(map(moment, uses[-kept:])) + "]"
    expression = render(PROJECT, "activation", str(len(uses)), moment(uses[0]), times, moment(NOW))
    return float(evaluate(connection, expression))


@settings(max_examples=25)
@given(ages=st.lists(st.integers(1, 10**8), min_size=1, max_size=10))
def test_activation_is_the_sum_of_the_decayed_uses(
    connection: duckdb.DuckDBPyConnection, ages: list[float]
) -> None:
    expected = math.log(sum(age**-0.5 for age in ages))
    assert activation_of(connection, ages, 10) == pytest.approx(expected)


@settings(max_examples=25)
@given(ages=st.lists(st.integers(1, 10**7), min_size=11, max_size=40))
def test_activation_of_many_uses_is_approximated_from_the_last_10_and_the_first(
    connection: duckdb.DuckDBPyConnection, ages: list[float]
) -> None:
    """Petrov's tail lies between all older uses at the age of the first and all at that of the tenth."""
    recent, first = sorted(ages)[:10], max(ages)
    older = len(ages) - 10
    known = sum(age**-0.5 for age in recent)
    low, high = math.log(known + older * first**-0.5), math.log(known + older * recent[-1] ** -0.5)
    activation = activation_of(connection, ages, 10)
    assert low - 1e-9 <= activation <= high + 1e-9


@settings(max_examples=25)
@given(ages=st.lists(st.integers(1, 10**6), min_size=1, max_size=8), further=st.integers(1, 10**6))
def test_another_use_raises_activation_and_time_lowers_it(
    connection: duckdb.DuckDBPyConnection, ages: list[float], further: int
) -> None:
    before = activation_of(connection, ages, 10)
    assert activation_of(connection, [*ages, further], 10) > before
    assert activation_of(connection, [age + further for age in ages], 10) < before


@settings(max_examples=25)
@given(days=st.floats(0, 3650), stability=st.floats(0.5, 1000))
def test_retention_is_the_exponential_forgetting_curve(
    connection: duckdb.DuckDBPyConnection, days: float, stability: float
) -> None:
    last_use = NOW - timedelta(days=days)
    assume(last_use < NOW)
    exact_days = (NOW - last_use).total_seconds() / 86400
    expression = render(PROJECT, "retention", moment(last_use), f"{stability}::double", moment(NOW))
    assert evaluate(connection, expression) == pytest.approx(math.exp(-exact_days / stability), abs=1e-12)


def test_retrieval_succeeds_half_the_time_at_the_threshold(connection: duckdb.DuckDBPyConnection) -> None:
    def probability(activation: float) -> float:
        return float(evaluate(connection, render(PROJECT, "retrieval_probability", repr(activation), -7.5)))

    assert probability(-7.5) == pytest.approx(0.5)
    assert probability(-7.1) == pytest.approx(1 / (1 + math.exp(-1)))  # one s = 0.4 above
    assert probability(100.0) == pytest.approx(1)
    assert probability(-300.0) == pytest.approx(0)
