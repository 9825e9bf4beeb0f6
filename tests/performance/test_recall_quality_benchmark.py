"""The page about the quality of recall says what was measured, and its formula is what recall does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.recall_quality.conversations import LOCOMO, read_corpus
from benchmarks.recall_quality.formula import Index, Words, weights_of
from benchmarks.recall_quality.report import PAGE, TARGETS, write_report
from benchmarks.recall_quality.studies import BY_WORDS_ALONE

from mnemoduck.evaluation import fill_home
from mnemoduck.home import open_home
from mnemoduck.memory import Memory
from mnemoduck.project import find_project

PROJECT = Path(__file__).resolve().parents[2]
RESULT = PROJECT / "benchmarks" / "recall_quality" / "result.json"

SAYINGS = [
    ("Ann", "I adopted a greyhound called Comet last spring."),
    ("Bo", "Lovely, Ann! What does Comet eat?"),
    ("Ann", "Mostly rice and chicken. My mom cooks it."),
    ("Bo", "My mother would never cook for a dog."),
    ("Ann", "[nods]"),
    ("Bo", "Did the violin get repaired?"),
    ("Ann", "The luthier kept the violin for a week, and the bow for two."),
]
QUESTIONS = (
    "What does Ann's greyhound eat?",
    "Who cooks for the dog?",
    "Where did Bo keep the violin?",
    "Ann and Bo",
    "what was it",
    "Which mom?",
)


def test_the_committed_page_is_made_of_the_committed_result(tmp_path: Path) -> None:
    write_report(json.loads(RESULT.read_text()), tmp_path)
    assert (tmp_path / PAGE).read_text() == (PROJECT / "docs" / PAGE).read_text()


def test_the_committed_result_reaches_every_target() -> None:
    result = json.loads(RESULT.read_text())
    for (name, measure, kind), target in TARGETS.items():
        assert result["evaluations"][name]["measures"][measure][kind]["value"] >= target
    for name, means in result["formula"].items():
        ways = {way["name"]: way for way in result["evaluations"][name]["variants"]}
        measures = ways[BY_WORDS_ALONE.name]["measures"]
        measured = [figures["all"]["value"] for figures in measures.values()]
        quoted = result["quoted"][name] / result["evaluations"][name]["questions"]
        assert means == pytest.approx(measured, abs=max(0.002, quoted)), "phrases are all that the API adds"


def test_the_formula_scores_as_recall_does(tmp_path: Path) -> None:
    turns = [
        {"speaker": speaker, "dia_id": f"D{1 + place // 5}:{place}", "text": text}
        for place, (speaker, text) in enumerate(SAYINGS)
    ]
    sample = {
        "sample_id": "talk",
        "conversation": {
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": turns[:5],
            "session_2_date_time": "7:00 am on 1 June, 2023",
            "session_2": turns[5:],
        },
        "qa": [{"question": text, "evidence": ["D1:0"], "category": 4} for text in QUESTIONS],
    }
    path = tmp_path / LOCOMO
    path.write_text(json.dumps([sample]))
    index = Index(Words(), read_corpus(path).conversations[0])
    home = open_home(tmp_path / "home")
    fill_home(home, path, "locomo", build=False)
    for changes in ({}, {"recall_names": 1.0, "recall_session_weight": 0.9, "recall_length_weight": 0.1}):
        weights = weights_of(find_project(), changes)
        with Memory(home.path) as memory:
            for text in QUESTIONS:
                recalled = memory.recall(text, user_id="talk", weights=changes | dict(BY_WORDS_ALONE.weights))
                scores = {
                    turn.names["turns"]: score
                    for turn, score in zip(index.turns, index.scores(text, weights), strict=True)
                    if score > 0
                }
                assert {one.metadata["dia_id"]: one.score for one in recalled} == pytest.approx(scores), text
