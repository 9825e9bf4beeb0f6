"""How well recall does is counted as the benchmarks' authors count it, on their files as they are."""

from __future__ import annotations

import copy
import gzip
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mnemoduck.cli import cli
from mnemoduck.errors import UsageError
from mnemoduck.evaluation import (
    evaluate,
    fill_home,
    read_locomo_questions,
    read_longmemeval_questions,
)
from mnemoduck.evaluation.locomo import split_evidence
from mnemoduck.evaluation.measures import all_found, bootstrap_interval, fraction_found
from mnemoduck.home import Home, open_home
from mnemoduck.memory import Memory

SHARED = Path(__file__).parents[3] / "shared" / "data"

LOCOMO = [
    {
        "sample_id": "talk",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bo",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ann", "dia_id": "D1:1", "text": "I adopted a greyhound called Comet."},
                {"speaker": "Bo", "dia_id": "D1:2", "text": "Lovely, Ann! What does it eat?"},
                {"speaker": "Ann", "dia_id": "D1:3", "text": "Mostly rice and chicken."},
            ],
            "session_2_date_time": "7:00 am on 1 June, 2023",
            "session_2": [{"speaker": "Bo", "dia_id": "D2:1", "text": "Ann, my violin is at the luthier."}],
        },
        "qa": [
            {"question": "What is Ann's greyhound called?", "evidence": ["D1:1"], "category": 4},
            {"question": "What does Comet eat?", "evidence": ["D1:2; D1:3", "D9:9"], "category": 1},
            {"question": "Where is Bo's violin?", "evidence": ["D2:1"], "category": 5},
            {"question": "What does nobody know?", "evidence": ["D"], "category": 3},
            {"question": "What else?", "evidence": [], "category": 3},
        ],
    }
]

LONGMEMEVAL = [
    {
        "question_id": "q1",
        "question_type": "multi-session",
        "question": "How much were the lamp and the carpet?",
        "answer": "90",
        "question_date": "2023/05/02 (Tue) 10:00",
        "haystack_dates": ["2023/05/01 (Mon) 09:00", "2023/05/01 (Mon) 10:00", "2023/05/03 (Wed) 11:00"],
        "haystack_session_ids": ["lamps", "weather", "carpets"],
        "haystack_sessions": [
            [
                {"role": "user", "content": "The lamp was 40 euros.", "has_answer": True},
                {"role": "assistant", "content": "A fair price for a lamp."},
            ],
            [{"role": "user", "content": "Will it rain?", "has_answer": False}],
            [{"role": "user", "content": "The carpet was 50 euros.", "has_answer": True}],
        ],
        "answer_session_ids": ["lamps", "carpets"],
    }
]
LONGMEMEVAL.append({**LONGMEMEVAL[0], "question_id": "q2_abs"})


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), "utf-8")
    return path


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["eval", *arguments])


def test_a_fraction_of_the_evidence_is_counted_and_all_of_it_is_all_or_nothing() -> None:
    found = ["a", "x", "b", "c"]
    evidence = frozenset("abc")
    assert [fraction_found(evidence, found, k) for k in (1, 2, 3, 4)] == [1 / 3, 1 / 3, 2 / 3, 1]
    assert [all_found(evidence, found, k) for k in (1, 2, 3, 4)] == [0, 0, 0, 1]
    assert math.isnan(fraction_found(frozenset(), found, 5))
    assert math.isnan(all_found(frozenset(), found, 5))
    assert fraction_found(evidence, [], 5) == all_found(evidence, [], 5) == 0


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=40), gaps=st.integers(0, 5))
def test_the_interval_lies_within_the_values_and_is_the_same_each_time(
    values: list[float], gaps: int
) -> None:
    low, high = bootstrap_interval(np.array([*values, *[math.nan] * gaps]))
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert (low, high) == bootstrap_interval(np.array(values))


def test_the_interval_of_a_coin_is_that_of_statistics() -> None:
    low, high = bootstrap_interval(np.array([0.0, 1.0] * 200))
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.006)


def test_evidence_is_split_on_separators_and_what_is_no_turn_is_dropped(tmp_path: Path) -> None:
    assert split_evidence(["D1:1, D1:2;D1:3", "D4:4"]) == {"D1:1", "D1:2", "D1:3", "D4:4"}
    questions = read_locomo_questions(write(tmp_path / "l.json", LOCOMO))
    assert [one.evidence["turns"] for one in questions.questions] == [
        frozenset({"D1:1"}),
        frozenset({"D1:2", "D1:3"}),
        frozenset({"D2:1"}),
    ]
    assert [one.kind for one in questions.questions] == ["single-hop", "multi-hop", "adversarial"]
    assert questions.skipped == {"no evidence that is a turn": 2}
    assert {one.as_of for one in questions.questions} == {datetime(2023, 6, 1, 7, 0, 1, tzinfo=UTC)}


def test_abstention_questions_are_left_out_and_the_haystack_is_over_when_others_are_asked(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.json.gz"
    path.write_bytes(gzip.compress(json.dumps(LONGMEMEVAL).encode()))
    questions = read_longmemeval_questions(path)
    assert questions.skipped == {"abstention: nothing answers it": 1}
    (one,) = questions.questions
    assert one.evidence == {
        "sessions": frozenset({"lamps", "carpets"}),
        "turns": frozenset({("lamps", 0), ("carpets", 0)}),
    }
    assert one.as_of == datetime(2023, 5, 3, 11, 0, 1, tzinfo=UTC)
    assert "1 of 1 questions are dated before" in questions.notes[0]


@pytest.mark.parametrize(
    ("read", "document", "says"),
    [
        (read_locomo_questions, LONGMEMEVAL, "sample 1 has not all of sample_id, conversation and qa"),
        (read_longmemeval_questions, LOCOMO, "question 1: it has no question_id"),
        (read_locomo_questions, [], "not a list of JSON objects"),
        (read_locomo_questions, ["a"], "not a list of JSON objects"),
        (read_locomo_questions, "text", "not a list of JSON objects"),
        (
            read_locomo_questions,
            [{**LOCOMO[0], "qa": [{"question": "?", "category": 9}]}],
            "question 1 of sample 1 has no category",
        ),
        (read_locomo_questions, [{**LOCOMO[0], "conversation": {}}], "no turns (sample 1)"),
        (
            read_longmemeval_questions,
            [{**LONGMEMEVAL[0], "question_date": "soon"}],
            "question 1: the session has no date like",
        ),
        (read_longmemeval_questions, [{**LONGMEMEVAL[0], "haystack_dates": []}], "question 1: ValueError"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_place(
    tmp_path: Path, read: Any, document: object, says: str
) -> None:
    with pytest.raises(UsageError, match=r"official format") as refusal:
        read(write(tmp_path / "file.json", document))
    assert says in str(refusal.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        read_locomo_questions(tmp_path / "missing.json")


def test_a_part_of_the_questions_is_taken_from_the_whole_file(tmp_path: Path) -> None:
    questions = read_locomo_questions(write(tmp_path / "l.json", LOCOMO))
    assert [one.question_id for one in questions.first(2).questions] == ["talk/1", "talk/2"]
    assert [one.question_id for one in questions.first(1).questions] == ["talk/1"]
    assert questions.first(None) is questions.first(99) is questions


def test_locomo_is_measured_and_compared_through_the_command(tmp_path: Path) -> None:
    file, out = write(tmp_path / "l.json", LOCOMO), tmp_path / "result.json"
    done = run("locomo", str(file), "--no-build", "--compare", "--json", "--out", str(out))
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads(done.output)
    assert result == json.loads(out.read_text())
    assert (result["questions"], result["memories"]) == (3, 4)
    of_all = result["measures"]["recall@5"]["all"]
    assert of_all["questions"] == 3
    assert 0 <= of_all["low"] <= of_all["value"] <= of_all["high"] <= 1
    assert result["measures"]["recall@20"]["adversarial"]["value"] == 1
    names = [variant["name"] for variant in result["variants"]]
    assert names[0] == "plain BM25"
    assert len(names) >= 7
    plain = result["variants"][0]
    assert plain["measures"]["recall@5"]["multi-hop"]["value"] == 0.5, "only by its neighbour is D1:3 found"
    assert plain["differences"]["recall@5"]["value"] == pytest.approx(-0.5 / 3, abs=1e-6)
    assert result["interval"]["resamples"] >= 1000


def test_longmemeval_is_measured_by_sessions_and_turns_and_shown_as_a_table(tmp_path: Path) -> None:
    file, home = write(tmp_path / "m.json", LONGMEMEVAL), tmp_path / "home"
    done = run("longmemeval", str(file), "--no-build", "--home", str(home), "--compare")
    assert done.exit_code == 0, (done.output, done.exception)
    for text in (
        "sessions recall_all@5",
        "turns recall_all@10",
        "multi-session",
        "plain BM25",
        "1.000 to 1.000",
        "Not asked: 1 questions (abstention: nothing answers it).",
        "asked after it",
        f"The home is {home}",
    ):
        assert text in done.output, text
    again = run("longmemeval", str(file), "--no-build", "--home", str(home), "--json")
    assert json.loads(again.output)["memories"] == 8, "the same file in the same home adds nothing"


def test_what_was_not_found_counts(home: Home, tmp_path: Path) -> None:
    """A question that names nothing of its evidence finds none of it, and sessions are told apart."""
    document = copy.deepcopy(LONGMEMEVAL[:1])
    document[0]["question"] = "Will it rain?"
    file = write(tmp_path / "m.json", document)
    memories = fill_home(home, file, "longmemeval", build=False)
    asked: list[tuple[int, int]] = []
    with Memory(home.path) as memory:
        result = evaluate(
            memory,
            read_longmemeval_questions(file),
            file="m.json",
            memories=memories,
            on_answer=lambda done, total: asked.append((done, total)),
        )
    assert result.measures["sessions recall_all@5"]["all"].value == 0
    assert asked == [(1, 1)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["locomo", "{longmemeval}"], "is not LoCoMo in its official format"),
        (["longmemeval", "{locomo}"], "is not LongMemEval in its official format"),
        (["locomo", "{locomo}", "--no-build", "--embeddings", "minilm"], "Vectors are made by the build"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, arguments: list[str], says: str) -> None:
    files = {
        "{locomo}": str(write(tmp_path / "l.json", LOCOMO)),
        "{longmemeval}": str(write(tmp_path / "m.json", LONGMEMEVAL)),
    }
    done = run(*(files.get(argument, argument) for argument in arguments))
    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)


def test_a_file_without_a_question_that_counts_says_so(tmp_path: Path) -> None:
    done = run("longmemeval", str(write(tmp_path / "m.json", LONGMEMEVAL[1:])), "--no-build")
    assert "no question that can be measured: 1 questions (abstention" in str(done.exception)


LOCOMO_TARGETS = {("recall@5", "all"): 0.71, ("recall@10", "all"): 0.80, ("recall@20", "all"): 0.85}
LOCOMO_TARGETS[("recall@10", "multi-hop")] = 0.47
LONGMEMEVAL_TARGETS = {("sessions recall_all@5", "all"): 0.88}


@pytest.mark.parametrize(
    ("file", "read", "targets"),
    [
        ("locomo_dev.json", read_locomo_questions, LOCOMO_TARGETS),
        ("longmemeval_s_dev.json.gz", read_longmemeval_questions, LONGMEMEVAL_TARGETS),
    ],
)
def test_recall_without_a_model_reaches_its_targets(
    tmp_path: Path, file: str, read: Any, targets: dict[tuple[str, str], float]
) -> None:
    path = SHARED / file
    if not path.exists():
        pytest.skip("../shared/data is not here")
    home, questions = open_home(tmp_path / "home"), read(path)
    memories = fill_home(home, path, questions.format, build=False)
    with Memory(home.path) as memory:
        result = evaluate(memory, questions, file=file, memories=memories, is_built=False, threads=2)
    for (measure, kind), target in targets.items():
        value = result.measures[measure][kind].value
        assert value is not None
        assert value >= target, (measure, kind)
