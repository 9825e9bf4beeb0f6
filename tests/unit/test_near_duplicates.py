"""Near-duplicate texts: what is merged, and that order, batches and the future do not matter."""

from __future__ import annotations

import itertools
import json
import random
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benchmarks.near_duplicates.layer import PROJECT, Saying, TextLayer
from benchmarks.near_duplicates.measure import against_all_pairs, build, drift
from benchmarks.near_duplicates.report import PAGE, write_report
from benchmarks.near_duplicates.stream import labelled
from hypothesis import given, settings
from hypothesis import strategies as st

START = datetime(2026, 3, 1)
LOOSE = {
    "near_duplicate_similarity": 0.3,
    "near_duplicate_additions": 0.2,
    "minhash_bands": 3,
    "minhash_rows": 1,
}
"""Parameters with which nearly all texts meet, some do not, and chains of additions grow long."""


def saying(number: int, content: str, *, at: int | None = None, user: str | None = "maya") -> Saying:
    moment = START + timedelta(minutes=number if at is None else at)
    return uuid.UUID(int=number), user, None, None, content, moment


LONG = (
    "I moved to a small flat above the bakery with my sister and our two cats after the old landlord "
    "had sold the house behind the station to a construction company from the north of the country, and "
    "since then we wake up every morning with the smell of fresh bread and go to bed with the noise of "
    "the delivery vans, which leave for the market long before sunrise whatever the weather is like"
)
SAME = [
    ("Thanks, Nate! Your support is appreciated.", "Thanks Nate - your support is appreciated"),
    ("I have been to the dentist", "I've been to the dentist."),
    ("You're welcome! Don't hesitate to ask.", "You're welcome! Please don't hesitate to ask."),
    ("The appointment is on Monday at the clinic", "The appoinment is on Monday at the clinic"),
    (LONG, LONG.replace("I moved", "I finally moved")),
    ("我们明天去北京。", "我们明天去北京！"),
    ("a a a a a a a", "a a a a"),
]
DIFFERENT = [
    ("The flight to Lisbon leaves at 10 on Monday", "The flight to Lisbon leaves at 11 on Monday"),
    ("I met Anna in the park near the river", "I met Clara in the park near the river"),
    ("I eat meat with every meal I cook", "I don't eat meat with every meal I cook"),
    ("I eat meat with every meal I cook", "I never eat meat with every meal I cook"),
    ("You have booked the table for tonight.", "You have booked the table for tonight?"),
    ("I bought a red car from my uncle last week", "I bought a blue car from my uncle last week"),
    ("I love my new job at the library in town", "I hate my new job at the library in town"),
    ("My sister told my brother about the house", "My brother told my sister about the house"),
    ("I learned to write programs in C++ this year", "I learned to write programs in C# this year"),
    ("It was -5 degrees in the morning when I left", "It was 5 degrees in the morning when I left"),
    ("The exam results came in this morning 😀", "The exam results came in this morning 😢"),
    ("I am allergic to nuts and to the dust at home", "I am allergic to pine nuts and to the dust at home"),
    ("He was treated for his addition problem here", "He was treated for his addiction trouble here"),
    ("I was planning the garden all day long", "I was panning the garden all day long"),
    (LONG, f"{LONG} with Anna"),
    (LONG, f"{LONG} in 2019"),
    (LONG, f"{LONG} without asking"),
    ("👍", "👎"),
    ("👍", "👍👍"),
    ("?!", "..."),
    ("我们明天去北京。", "我们后天去北京。"),
    ("मैंने किताब ली", "मैंने किताब ला"),
]


@pytest.fixture(scope="module")
def judged() -> dict[tuple[str, str], bool]:
    """For each pair, in both orders, whether the second text was merged into the first."""
    pairs = [pair for one, other in SAME + DIFFERENT for pair in ((one, other), (other, one))]
    layer = TextLayer()
    layer.add(
        saying(2 * number + place, content, user=f"user {number}")
        for number, pair in enumerate(pairs)
        for place, content in enumerate(pair)
    )
    layer.build()
    consolidated = layer.connection.execute(
        "select count(distinct consolidated_id) from int_texts group by user_id "
        "order by cast(user_id[6:] as integer)"
    ).fetchall()
    return {pair: count == 1 for pair, (count,) in zip(pairs, consolidated, strict=True)}


@pytest.mark.parametrize(("one", "other"), SAME)
def test_texts_that_say_the_same_in_nearly_the_same_words_are_merged(
    one: str, other: str, judged: dict[tuple[str, str], bool]
) -> None:
    assert judged[one, other]
    assert judged[other, one]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_texts_that_say_something_else_are_not_merged(
    one: str, other: str, judged: dict[tuple[str, str], bool]
) -> None:
    assert not judged[one, other]
    assert not judged[other, one]


def test_the_same_words_of_another_speaker_are_another_text() -> None:
    layer = TextLayer()
    identity = uuid.uuid4
    scopes = [("maya", None, None), ("maya", "a", None), ("maya", None, "user"), (None, "maya", None)]
    layer.add(
        (identity(), user, agent, role, content, START)
        for user, agent, role in scopes
        for content in ("Good morning, world", "good morning world!")
    )
    layer.build()
    assert layer.connection.execute("select count(distinct consolidated_id) from int_texts").fetchone() == (
        4,
    )


def test_a_very_long_text_is_merged_like_any_other() -> None:
    words = [f"word{number * 7919 % 1_000}" for number in range(20_000)]
    text = " ".join(words)
    layer = TextLayer()
    layer.add(
        saying(number, content)
        for number, content in enumerate([text, text.upper() + ".", f"{text} and more", f"no {text}"])
    )
    layer.build()
    assert sorted(parent is not None for (parent,) in layer.rows("parent_text_id")) == [
        False,
        False,
        True,
        True,
    ]


BASE = [f"{letter}{letter}" for letter in "bcdefghijklmnopqrstuvwxyz"]
contents = st.one_of(
    st.integers(6, 25).map(lambda length: " ".join(BASE[:length])),
    st.integers(0, 15).map(lambda start: " ".join(BASE[start:])),
    st.lists(st.sampled_from(["bb", "cc", "dd", "the", "oh", "Anna", "7", "no"]), max_size=6).map(" ".join),
).flatmap(lambda text: st.sampled_from([text, text.capitalize(), f"Oh, {text}!", f"{text}?", f"{text}."]))
sayings = st.lists(
    st.tuples(contents, st.integers(0, 20), st.sampled_from(["maya", "jonas"])), min_size=1, max_size=30
).map(lambda said: [saying(number, text, at=at, user=user) for number, (text, at, user) in enumerate(said)])


@settings(max_examples=20, deadline=None)
@given(said=sayings, order=st.randoms(use_true_random=False), batches=st.integers(2, 4))
def test_order_and_batches_of_arrival_do_not_change_the_texts_and_every_change_can_be_found(
    said: list[Saying], order: random.Random, batches: int
) -> None:
    shuffled = said[:]
    order.shuffle(shuffled)
    layer = TextLayer(**LOOSE)
    for number in range(batches):
        before = _memories(layer) if number else {}
        layer.add(shuffled[number::batches])
        layer.build()
        if number:
            found = layer.connection.execute(
                f"select text_id, consolidated_id from int_texts where changed_batch_seq > {number}"
            ).fetchall()
            after = _memories(layer)
            changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
            assert changed <= set(itertools.chain.from_iterable(found))
    assert layer.build() == {"int_text_buckets": 0, "int_texts": 0}
    at_once = TextLayer(**LOOSE)
    at_once.add(said)
    at_once.build()
    assert layer.rows() == at_once.rows()
    assert drift(layer, LOOSE["near_duplicate_similarity"])["below_the_threshold_from_the_first"] == 0


@settings(max_examples=10, deadline=None)
@given(said=sayings, until=st.integers(0, 20))
def test_what_was_said_later_does_not_change_the_texts_of_before(said: list[Saying], until: int) -> None:
    moment = START + timedelta(minutes=until)
    whole, then = TextLayer(**LOOSE), TextLayer(**LOOSE)
    whole.add(said)
    then.add(entry for entry in said if entry[-1] <= moment)
    for layer in (whole, then):
        layer.build()
    assert [row for row in whole.rows() if row[-2] <= moment] == then.rows()


def _memories(layer: TextLayer) -> dict[Any, Any]:
    """Return for each consolidated memory the texts that it is made of, with their times."""
    rows = layer.connection.execute(
        "select consolidated_id, list((text_id, first_seen_at) order by text_id) from int_texts group by all"
    ).fetchall()
    return dict(rows)


def test_nearly_all_that_repeats_something_is_found_and_nothing_else() -> None:
    exact = against_all_pairs(build(labelled(1_500, seed=7)))
    assert exact["texts_that_repeat_an_earlier_one"] > 200
    assert exact["of_which_merged"] >= 0.95 * exact["texts_that_repeat_an_earlier_one"]
    assert exact["merged_that_are_repetitions"] == exact["merged"]
    assert exact["similar_pairs"] > 1_000
    assert exact["similar_pairs_that_share_a_bucket"] >= 0.95 * exact["similar_pairs"]
    assert exact["pairs_in_both"] == exact["pairs_in_one_memory"]


def test_the_committed_page_is_made_of_the_committed_result(tmp_path: Path) -> None:
    write_report(json.loads((PROJECT / "benchmarks/near_duplicates/result.json").read_text()), tmp_path)
    assert (tmp_path / PAGE).read_text() == (PROJECT / "docs" / PAGE).read_text()
