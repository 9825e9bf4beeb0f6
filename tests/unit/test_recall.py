"""Recall on a home that was never built: what arrived is found at once, by the right people only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnemoduck import Memory, Recollection
from mnemoduck.errors import UsageError
from mnemoduck.events import Event, new_event
from mnemoduck.reader import MAX_LIMIT
from mnemoduck.recall import MAX_QUERY_CHARACTERS
from mnemoduck.recall.documents import DocumentStore
from mnemoduck.recall.postings import PostingStore

any_text = st.text()
fresh_words = (f"token{number}" for number in itertools.count())
"""Words that no other example has used: the properties share a home, which must make no difference."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    with Memory(tmp_path_factory.mktemp("shared") / "home") as memory:
        yield memory


def contents(items: list[Recollection]) -> list[str]:
    return [item.content for item in items]


# --- ranking -------------------------------------------------------------------------------------------


def test_what_matches_better_comes_first(memory: Memory) -> None:
    memory.remember("The flight to Lisbon leaves on Friday")
    memory.remember("A flight of stairs leads to the attic")
    memory.remember("Bread needs flour, water and salt")
    found = memory.recall("when is the flight to Lisbon")
    assert contents(found)[:2] == [
        "The flight to Lisbon leaves on Friday",
        "A flight of stairs leads to the attic",
    ]
    assert "Bread needs flour, water and salt" not in contents(found)
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)


def test_words_match_by_their_stem_whatever_their_case(memory: Memory) -> None:
    memory.remember("She was Running to the stations")
    (item,) = memory.recall("RUN station")
    assert item.matched_terms == ["run", "station"]


def test_a_rare_word_counts_more_than_words_that_are_everywhere(memory: Memory) -> None:
    for number in range(10):
        memory.remember(f"the cat and the dog of the house {number}")
    memory.remember("the zebra")
    assert contents(memory.recall("the and of zebra"))[0] == "the zebra"
    assert len(memory.recall("the and of", limit=100)) == 11, "a question of common words has an answer too"


def test_the_score_is_bm25_of_the_words_and_a_share_of_the_best_for_the_session(memory: Memory) -> None:
    """By hand: 2 documents of 1 and 3 words, the word once in the first (k1 = 1.2, b = 0.4); alone in its
    session, which is the best one, it gets 0.4 of the best score on top."""
    memory.remember("duck")
    memory.remember("three other words")
    (item,) = memory.recall("duck")
    idf = 0.6931471805599453  # ln(1 + (2 - 1 + 0.5) / (1 + 0.5))
    words = idf * 1 * 2.2 / (1 + 1.2 * (1 - 0.4 + 0.4 * 1 / 2))
    assert item.parts.words == pytest.approx(words)
    assert item.parts.session == pytest.approx(0.4 * words)
    assert (item.parts.context, item.parts.speaker) == (0, 1)
    assert (item.parts.time, item.parts.meaning) == (0, 0)
    assert item.score == pytest.approx(1.4 * words + item.parts.prior)
    (item,) = memory.recall("duck", weights={"recall_prior_weight": 0})
    assert item.score == pytest.approx(1.4 * words)


def test_irregular_forms_and_accents_are_the_same_word(memory: Memory) -> None:
    memory.remember("She went to the café")
    (item,) = memory.recall("go CAFE")
    assert item.matched_terms == ["cafe", "go"]


def test_the_same_words_are_one_answer_with_their_support(memory: Memory) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for minute, content in enumerate(["Duck  pond", "duck pond", "DUCK\npond ", "duck pond!"]):
        memory.remember(content, user_id="u", occurred_at=start + timedelta(minutes=minute))
    memory.remember("duck pond", user_id="other")
    found = {(item.user_id, item.content): item.support_count for item in memory.recall("duck")}
    assert found == {("u", "DUCK\npond "): 3, ("u", "duck pond!"): 1, ("other", "duck pond"): 1}


@settings(max_examples=4)
@given(data=st.data())
def test_ties_are_broken_the_same_way_whatever_the_order_of_arrival(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    minutes = data.draw(st.lists(st.integers(0, 2), min_size=2, max_size=8))
    events = [
        new_event("memory", {"content": f"duck {number:03d}"}, occurred_at=start + timedelta(minutes=minute))
        for number, minute in enumerate(minutes)
    ]
    answers = []
    for order in (events, data.draw(st.permutations(events))):
        with Memory(tmp_path_factory.mktemp("ties") / "home") as memory:
            for event in order:
                memory.remember_many([event])
            answers.append([item.memory_id for item in memory.recall("duck", limit=100)])
    expected = sorted(events, key=lambda event: (event.occurred_at, event.event_id.int), reverse=True)
    assert answers[0] == answers[1] == [event.event_id for event in expected]


# --- any query, any content ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["", " ", "\n\t", "?!… — *", "\0", "\u202e\u2066", "🦆", "'; --", "{{ }}", "%_\\", "$1 $query ?"]
)
def test_a_query_without_a_letter_or_digit_that_is_known_finds_nothing(shared: Memory, query: str) -> None:
    shared.remember("a duck, and * signs % of _ every ' kind 🦆 \\ {{", user_id="signs")
    assert shared.recall(query, user_id="signs") == []


@settings(max_examples=20)
@given(query=any_text)
@example(query="\0duck")
@example(query="é\0 duck")
@example(query="ﬁ İ ß ẞ Σς \u0345 ŉ")
@example(query="a" * 5000)
@example(query="x\u0301" * 500)
def test_any_query_is_answered(shared: Memory, query: str) -> None:
    shared.remember("duck", user_id="asked")
    for item in shared.recall(query, user_id="asked", limit=5):
        assert item.content == "duck"
        assert item.matched_terms == ["duck"]


@settings(max_examples=15)
@given(text=any_text)
@example(text="a\0b\r\n\x1b[31m")
@example(text="'; drop table fresh_memories_1; --")
@example(text="{{ memories }} {postings} {0} %s $query $limit ?")
@example(text="\u202e\u2066\u200f 👩🏽\u200d🚀 e\u0301")
def test_any_content_comes_back_exactly(shared: Memory, text: str) -> None:
    word = next(fresh_words)
    memory_id = shared.remember(f"{word} {text}")
    (item,) = shared.recall(word)
    assert item.memory_id == memory_id
    assert item.content == f"{word} {text}"


@settings(max_examples=15)
@given(word=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12))
@example(word="İstanbul")
@example(word="STRAẞE")
@example(word="日本語")
@example(word="ﬁancé")
@example(word="Ⅷ")
def test_a_word_of_any_script_finds_itself(shared: Memory, word: str) -> None:
    user = next(fresh_words)
    shared.remember(f"one {word} two", user_id=user)
    found = shared.recall(word, user_id=user)
    assert contents(found) == [f"one {word} two"]


def test_a_query_of_100_000_characters_is_answered_and_a_longer_one_refused(memory: Memory) -> None:
    memory.remember("duck")
    longest = ("duck " * MAX_QUERY_CHARACTERS)[:MAX_QUERY_CHARACTERS]
    assert contents(memory.recall(longest)) == ["duck"]
    different = " ".join(f"w{number}" for number in range(20_000))[: MAX_QUERY_CHARACTERS - 5] + " duck"
    assert contents(memory.recall(different)) == ["duck"]
    with pytest.raises(UsageError, match=r"The query has 100,001 characters; at most 100,000 are allowed"):
        memory.recall(longest + "x")


@pytest.mark.parametrize("query", [None, 5, b"duck", "\ud800", "duck \udcff"])
def test_a_query_that_is_no_text_is_refused(memory: Memory, query: str) -> None:
    with pytest.raises(UsageError, match="The query"):
        memory.recall(query)


# --- limits --------------------------------------------------------------------------------------------


def test_the_limit_cuts_the_answer_and_never_changes_its_order(memory: Memory) -> None:
    for number in range(30):
        memory.remember("duck " * (number % 4 + 1) + f"{number}")
    everything = memory.recall("duck", limit=MAX_LIMIT)
    assert len(everything) == 30
    assert len(memory.recall("duck")) == 10
    for limit in (0, 1, 29, 30, 31):
        assert memory.recall("duck", limit=limit) == everything[:limit]


@pytest.mark.parametrize("limit", [-1, MAX_LIMIT + 1, 1.5, "10", None, True, float("nan")])
def test_a_limit_that_is_none_is_refused(memory: Memory, limit: int) -> None:
    with pytest.raises(UsageError, match="takes a whole number from 0 to 10,000"):
        memory.recall("duck", limit=limit)
    with pytest.raises(UsageError, match="takes a whole number from 0 to 10,000"):
        memory.long_term(limit=limit)


# --- scopes --------------------------------------------------------------------------------------------

part = st.sampled_from([None, "a", "A", "a ", "b", "é", "e\u0301", "'; --", "%", "_", "null", "None"])
scopes = st.tuples(part, part, part)


@settings(max_examples=12)
@given(remembered=st.lists(scopes, min_size=1, max_size=10), asked=st.lists(scopes, min_size=1, max_size=4))
def test_a_recall_finds_all_of_its_scope_and_nothing_of_another(
    shared: Memory, remembered: list[tuple[str | None, ...]], asked: list[tuple[str | None, ...]]
) -> None:
    # What stands beside it in a session is found too, and the examples share their sessions.
    neighbours = ("recall_neighbour_weight", "recall_second_neighbour_weight", "recall_answer_weight")
    without_neighbours = dict.fromkeys(neighbours, 0.0)
    word = next(fresh_words)
    events: list[Event] = []
    for number, (user, agent, session) in enumerate(remembered):
        payload = {"content": f"{word} {number}"}
        events.append(new_event("memory", payload, user_id=user, agent_id=agent, session_id=session))
    shared.remember_many(events)
    for user, agent, session in asked:
        found = shared.recall(
            word, user_id=user, agent_id=agent, session_id=session, limit=100, weights=without_neighbours
        )
        expected = [
            event.event_id
            for event in events
            if user in (None, event.user_id)
            and agent in (None, event.agent_id)
            and session in (None, event.session_id)
        ]
        assert sorted(item.memory_id for item in found) == sorted(expected)


@pytest.mark.parametrize("value", ["", 5, b"u", "\ud800", ["u"]])
def test_a_scope_that_is_no_text_is_refused(memory: Memory, value: str) -> None:
    for name in ("user_id", "agent_id", "session_id"):
        scope = {name: value}
        with pytest.raises(UsageError, match=name):
            memory.recall("duck", **scope)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=name):
            memory.working_memory(**scope)  # type: ignore[arg-type]


# --- moments -------------------------------------------------------------------------------------------


def test_what_had_not_happened_by_then_is_not_recalled(memory: Memory) -> None:
    noon = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    memory.remember("early duck", occurred_at=noon - timedelta(microseconds=1))
    memory.remember("duck of the moment", occurred_at=noon)
    memory.remember("late duck", occurred_at=noon + timedelta(microseconds=1))
    memory.remember("duck of the future", occurred_at=datetime(2099, 1, 1, tzinfo=UTC))

    def at(moment: datetime) -> set[str]:
        return set(contents(memory.recall("duck", as_of=moment)))

    assert at(noon) == {"early duck", "duck of the moment"}
    assert at(noon.replace(tzinfo=None)) == at(noon), "without a zone it is UTC"
    assert at(noon.astimezone(timezone(timedelta(hours=-9)))) == at(noon)
    assert at(datetime(1970, 1, 1, tzinfo=UTC)) == set()
    assert at(datetime.min) == set()
    assert len(at(datetime.max)) == 4
    assert set(contents(memory.recall("duck"))) == {"early duck", "duck of the moment", "late duck"}


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))),
    ],
)
def test_a_moment_outside_the_calendar_is_refused(memory: Memory, moment: datetime) -> None:
    for ask in (memory.recall, lambda _, as_of: memory.working_memory(as_of=as_of)):
        with pytest.raises(UsageError, match="out of range"):
            ask("duck", as_of=moment)


def test_asking_twice_gives_the_same_answer(memory: Memory) -> None:
    for number in range(40):
        memory.remember(f"duck {number % 7} pond {number % 3}", user_id=f"u{number % 2}")
    now = datetime.now(UTC)
    assert memory.recall("duck pond", as_of=now) == memory.recall("duck pond", as_of=now)
    with Memory(memory.home) as other:
        assert other.recall("duck pond", as_of=now) == memory.recall("duck pond", as_of=now)


def test_an_event_that_was_delivered_again_and_again_is_one_memory(memory: Memory) -> None:
    events = [new_event("memory", {"content": f"duck {number}"}) for number in range(2_000)]
    for _ in range(3):
        memory.remember_many(events)
    found = memory.recall("duck", limit=MAX_LIMIT)
    assert {item.memory_id for item in found} == {event.event_id for event in events}
    assert {item.support_count for item in found} == {1}


def test_of_events_that_share_an_id_the_first_counts_as_in_staging(memory: Memory) -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    first = new_event("memory", {"content": "duck"}, occurred_at=moment)
    changed = first.model_copy(update={"payload": {"content": "goose"}})
    other = new_event("memory", {"content": "goose"}, occurred_at=moment)
    memory.remember_many([first, changed, other])
    found = {item.memory_id: item.content for item in memory.recall("duck goose")}
    assert found == {first.event_id: "duck", other.event_id: "goose"}


def test_a_retry_under_another_id_is_one_memory_and_another_moment_is_another_use(memory: Memory) -> None:
    """As in staging: the same words, of the same role, in the same scope, at the same moment."""
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    first = memory.remember("Duck pond", user_id="u", occurred_at=moment)
    memory.remember("Duck pond", user_id="u", occurred_at=moment)
    memory.remember("duck  POND", user_id="u", occurred_at=moment)
    (item,) = memory.recall("duck")
    assert (item.memory_id, item.support_count) == (first, 1)
    memory.remember("Duck pond", user_id="u", occurred_at=moment, role="assistant")
    memory.remember("Duck pond", user_id="u", occurred_at=moment + timedelta(microseconds=1))
    memory.remember("Duck pond", user_id="u", session_id="s", occurred_at=moment)
    (item,) = memory.recall("duck")
    assert item.support_count == 4


def test_a_recall_that_is_not_recorded_leaves_no_trace(memory: Memory) -> None:
    memory.remember("duck")
    before = {path: path.read_bytes() for path in Path(memory.home).rglob("*") if path.is_file()}
    memory.recall("duck", record=False)
    memory.working_memory()
    memory.long_term()
    assert {path: path.read_bytes() for path in Path(memory.home).rglob("*") if path.is_file()} == before


def test_what_stands_behind_a_nul_character_counts(memory: Memory) -> None:
    memory.remember("é duck\0 swan", user_id="u", occurred_at=datetime(2026, 1, 1, tzinfo=UTC))
    memory.remember("é duck\0 goose", user_id="u", occurred_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert [item.content for item in memory.recall("goose")] == ["é duck\0 goose"]
    assert {item.support_count for item in memory.recall("duck")} == {1}


# --- conversations -------------------------------------------------------------------------------------

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=1)


def tell(memory: Memory, session: str | None, *turns: tuple[str, str], minutes: float = 1) -> None:
    for place, (role, content) in enumerate(turns):
        moment = NOON + timedelta(minutes=place * minutes)
        memory.remember(content, user_id="u", session_id=session, role=role, occurred_at=moment)


def test_a_turn_is_found_by_what_was_said_before_and_after_it(memory: Memory) -> None:
    tell(memory, "s", ("a", "Shall we talk about the zebra"), ("b", "In June, on a Monday"), ("a", "Oh nice"))
    found = {item.content: item for item in memory.recall("zebra", user_id="u")}
    assert list(found) == ["Shall we talk about the zebra", "In June, on a Monday", "Oh nice"]
    assert found["In June, on a Monday"].matched_terms == []
    assert found["In June, on a Monday"].parts.words == 0
    assert found["In June, on a Monday"].parts.context > found["Oh nice"].parts.context > 0


def test_a_turn_after_a_long_silence_or_of_another_session_or_of_none_is_no_neighbour(memory: Memory) -> None:
    tell(memory, "s", ("a", "The zebra"), ("b", "Later that day"), minutes=31)
    tell(memory, "t", ("a", "At the same time"), ("b", "Elsewhere"))
    tell(memory, None, ("a", "Alone"))
    assert contents(memory.recall("zebra", user_id="u")) == ["The zebra"]


def test_an_answer_takes_from_the_question_before_it_and_the_question_tells_less(memory: Memory) -> None:
    tell(memory, "asked", ("a", "Where is the zebra?"), ("b", "Behind that hill"))
    tell(memory, "told", ("a", "There is a zebra."), ("b", "Behind that tree"))
    found = {item.content: item.parts for item in memory.recall("zebra", user_id="u")}
    assert found["Behind that hill"].context > found["Behind that tree"].context
    assert found["Where is the zebra?"].words < found["There is a zebra."].words


@pytest.mark.parametrize("role", ["Anna", "anna", "Dr. ANNA-Maria Smith", "ánna"])
def test_who_is_named_in_the_question_speaks_louder(memory: Memory, role: str) -> None:
    tell(memory, None, (role, "The zebra is striped"))
    tell(memory, None, ("Annabel", "The zebra was striped"))
    first, second = memory.recall("What did Anna say about the zebra", user_id="u")
    assert (first.role, first.parts.speaker) == (role, 1.5)
    assert (second.role, second.parts.speaker) == ("Annabel", 1)
    assert first.parts.words == pytest.approx(1.5 * second.parts.words)


def test_i_am_the_user_and_you_are_the_assistant(memory: Memory) -> None:
    tell(memory, None, ("user", "The zebra is striped"), ("assistant", "The zebra was striped"))
    assert memory.recall("What did I say about the zebra")[0].role == "user"
    assert memory.recall("What did you say about the zebra")[0].role == "assistant"


def test_the_session_that_is_about_it_raises_what_is_said_in_it(memory: Memory) -> None:
    tell(memory, "zoo", ("a", "zebra one"), ("b", "nothing"), ("a", "zebra two"), minutes=40)
    tell(memory, "home", ("a", "zebra three"))
    found = {item.content: item.parts for item in memory.recall("zebra", user_id="u")}
    assert found["zebra one"].session > found["zebra three"].session
    assert found["zebra one"].words == found["zebra three"].words


@settings(max_examples=6)
@given(others=st.lists(st.text("duckpond zebra", min_size=1, max_size=30).filter(str.strip), max_size=6))
def test_what_another_user_says_changes_no_answer(shared: Memory, others: list[str]) -> None:
    user = next(fresh_words)
    for number in range(4):
        shared.remember(f"duck {'pond ' * number}", user_id=user, session_id="s", occurred_at=NOON)
    before = shared.recall("duck pond", user_id=user, as_of=LATER)
    for text in others:
        shared.remember(text, user_id=f"{user}!", session_id="s", occurred_at=NOON)
    assert shared.recall("duck pond", user_id=user, as_of=LATER) == before


# --- quotes --------------------------------------------------------------------------------------------


def test_what_is_quoted_stands_like_that(memory: Memory) -> None:
    for content in ("The FLIGHT, to Lisbon", "a flight from Oslo to Lisbon", "flights to Lisbon", "a flight"):
        memory.remember(content, user_id="u")
    assert contents(memory.recall('when is the "flight to lisbon"', user_id="u")) == ["The FLIGHT, to Lisbon"]
    assert set(contents(memory.recall('"Flights" tomorrow', user_id="u"))) == {"flights to Lisbon"}
    assert contents(memory.recall('"a flight" "oslo"', user_id="u")) == ["a flight from Oslo to Lisbon"]
    assert contents(memory.recall('"to Lisbon" "flights to"', user_id="u")) == ["flights to Lisbon"]
    assert memory.recall('"zebra"', user_id="u") == []


def test_quoted_stop_words_count(memory: Memory) -> None:
    memory.remember("to be or not to be")
    memory.remember("not to fly")
    assert contents(memory.recall('who said "to be or not to be"')) == ["to be or not to be"]


@pytest.mark.parametrize("query", ['"duck', 'duck"', '"" duck', '" " duck', '"?!" duck', '5" duck'])
def test_quotes_around_nothing_or_without_the_other_are_characters_like_any_others(
    memory: Memory, query: str
) -> None:
    memory.remember("a duck")
    assert contents(memory.recall(query)) == ["a duck"]


@pytest.mark.parametrize("method", ["read", "measure", "of_sessions"])
def test_what_arrives_while_an_answer_is_computed_passes_no_condition_unseen(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The tables of what is fresh grow in another thread, between the statements of a question."""
    owner = PostingStore if method == "read" else DocumentStore
    original = getattr(owner, method)
    memory.remember("pond", user_id="u", agent_id="a", session_id="s", tags=["wanted"])
    memory.remember("the pond at dawn", user_id="u", agent_id="a", session_id="s")
    (one,) = memory.recall("pond", user_id="u", agent_id="a", tags=["wanted"], record=False)
    before = (one.score, one.parts.context)
    numbers = itertools.count()

    def interrupted(*arguments: object) -> object:
        number = next(numbers)
        memory.remember(f"a pond {number}", user_id="u", agent_id="b", session_id="s", tags=["wanted"])
        memory.remember(f"pond {number}", user_id="u", agent_id="a", session_id="s")
        memory._readers.fresh.get()
        return original(*arguments)

    monkeypatch.setattr(owner, method, interrupted)
    found = memory.recall("pond", user_id="u", agent_id="a", tags=["wanted"], limit=9, record=False)
    assert next(numbers) > 0
    assert [one.content for one in found] == ["pond"]
    assert (found[0].score, found[0].parts.context) == pytest.approx(before, abs=1e-3)


def test_a_phrase_is_found_in_a_session_that_matches_worse_than_all_others(memory: Memory) -> None:
    """Only some sessions are looked into: of a phrase those that have it, not those that have its words."""
    for number in range(5):
        memory.remember(f"red car {number}", session_id=str(number))
    memory.remember("a car red as a brick, but for the doors, which are as black as the roof", session_id="z")
    few = {"recall_sessions": 1, "recall_prior_weight": 0}
    assert [one.session_id for one in memory.recall('"car red"', limit=1, weights=few)] == ["z"]


def test_where_no_memory_has_what_stands_in_quotes_its_words_count_and_the_answer_says_so(
    memory: Memory,
) -> None:
    memory.remember("the red car", tags=["seen"])
    memory.remember("a car red as a brick")
    memory.remember("what the duck said")
    assert contents(memory.recall('"car red"')) == ["a car red as a brick"]
    (found,) = memory.recall('"car red"', tags=["seen"], explain=True)
    assert found.content == "the red car"
    assert found.explanation is not None
    assert found.explanation.notes == ["No memory has what stands in quotes, so its words count."]
    assert contents(memory.recall('"the brick red"')) == ["a car red as a brick", "the red car"]


def test_questions_that_count_for_nothing_hide_no_answer(memory: Memory) -> None:
    memory.remember("pond?", session_id="a")
    memory.remember("the way to the pond behind the hills", session_id="b")
    weights = {"recall_sessions": 1, "recall_question_weight": 0, "recall_prior_weight": 0}
    assert [one.session_id for one in memory.recall("pond", limit=1, weights=weights)] == ["b"]


def test_a_phrase_in_thousands_of_memories_is_found(memory: Memory) -> None:
    memory.remember_many(
        new_event("memory", {"content": f"{'duck pond' if number % 2 else 'pond duck'} {number}"})
        for number in range(2_400)
    )
    assert len(memory.recall('"duck pond"', limit=MAX_LIMIT)) == 1_200
