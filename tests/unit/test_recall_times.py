"""Times that a query names: a function of the text and the moment, and always a range that is one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnemoduck.recall.times import parse_times

WEDNESDAY = datetime(2023, 6, 14, 9, 30, tzinfo=UTC)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31))
days = st.dates(date(1970, 1, 1), date(2099, 12, 30))


def spans(text: str, as_of: datetime = WEDNESDAY) -> list[tuple[str | None, str | None]]:
    return [
        (
            f"{one.since:%Y-%m-%d %H}" if one.since else None,
            f"{one.until:%Y-%m-%d %H}" if one.until else None,
        )
        for one in parse_times(text, as_of)
    ]


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("on 2023-05-07", "2023-05-07 00", "2023-05-08 00"),
        ("7 May 2023", "2023-05-07 00", "2023-05-08 00"),
        ("on May 7th, 2023?", "2023-05-07 00", "2023-05-08 00"),
        ("the 7th of May", "2023-05-07 00", "2023-05-08 00"),
        ("on 7 July", "2022-07-07 00", "2022-07-08 00"),
        ("Dec 1,2022", "2022-12-01 00", "2022-12-02 00"),
        ("on 29 February", "2020-02-29 00", "2020-03-01 00"),
        ("in May 2023", "2023-05-01 00", "2023-06-01 00"),
        ("in December", "2022-12-01 00", "2023-01-01 00"),
        ("last June", "2022-06-01 00", "2022-07-01 00"),
        ("last May", "2023-05-01 00", "2023-06-01 00"),
        ("2023-05", "2023-05-01 00", "2023-06-01 00"),
        ("in 2022", "2022-01-01 00", "2023-01-01 00"),
        ("yesterday", "2023-06-13 00", "2023-06-14 00"),
        ("the day before yesterday", "2023-06-12 00", "2023-06-13 00"),
        ("yesterday evening", "2023-06-13 17", "2023-06-14 00"),
        ("this morning", "2023-06-14 05", "2023-06-14 12"),
        ("last night", "2023-06-13 18", "2023-06-14 06"),
        ("last week", "2023-06-05 00", "2023-06-12 00"),
        ("in the last week", "2023-06-07 09", "2023-06-14 09"),
        ("last weekend", "2023-06-10 00", "2023-06-12 00"),
        ("last month", "2023-05-01 00", "2023-06-01 00"),
        ("this year", "2023-01-01 00", "2024-01-01 00"),
        ("3 days ago", "2023-06-11 00", "2023-06-12 00"),
        ("a couple of days ago", "2023-06-11 00", "2023-06-13 00"),
        ("three weeks ago", "2023-05-22 00", "2023-05-29 00"),
        ("a month ago", "2023-05-01 00", "2023-06-01 00"),
        ("in the past two days", "2023-06-12 09", "2023-06-14 09"),
        ("on Monday", "2023-06-12 00", "2023-06-13 00"),
        ("on Wednesday", "2023-06-07 00", "2023-06-08 00"),
        ("this Friday", "2023-06-16 00", "2023-06-17 00"),
        ("the week before 3 August 2022", "2022-07-27 00", "2022-08-03 00"),
        ("the Sunday before October 25, 2022", "2022-10-23 00", "2022-10-24 00"),
        ("the weekend after 3 August 2022", "2022-08-06 00", "2022-08-08 00"),
        ("two weeks before August 11, 2022", "2022-07-25 00", "2022-08-01 00"),
        ("between August 11 and August 15 2022", "2022-08-11 00", "2022-08-16 00"),
        ("between November and January 2023", "2022-11-01 00", "2023-02-01 00"),
        ("since January", "2023-01-01 00", None),
        ("before 2020", None, "2020-01-01 00"),
        ("by 10 July 2022", None, "2022-07-11 00"),
    ],
)
def test_a_time_is_the_range_that_people_mean(text: str, since: str | None, until: str | None) -> None:
    assert spans(f"What did we do {text}?") == [(since, until)]
    assert spans(text.upper()) == [(since, until)]


@pytest.mark.parametrize(
    "text",
    [
        "What is the second book I may read?",
        "Can I march on?",
        "How many weeks are there in 2 months?",
        "30 February 2023",
        "Who scored 2022 points against 1999.5?",
        "the last thing that happened",
        "a day in May-fair",
        "room 12/13, call 2023-13-45",
        "yesterdays",
        "999999 years ago",
        "in March 99999",
        "",
    ],
)
def test_what_names_no_time_is_left_alone(text: str) -> None:
    assert parse_times(text, WEDNESDAY) == []


def test_several_times_are_several_ranges_with_their_words() -> None:
    found = parse_times("Did I swim yesterday or on  May\n3rd, 2022?", WEDNESDAY)
    assert [one.text for one in found] == ["yesterday", "May 3rd, 2022"]


@given(text=st.text(max_size=80), moment=moments)
@example(text="İİİ yesterday", moment=datetime(1970, 1, 1))
@example(text="12 months ago, 9999 years ago, 9999 days ago", moment=datetime(1970, 1, 1))
@example(text="a few years before 2 February 1900", moment=datetime(2099, 12, 31))
def test_any_text_gives_ranges_that_are_ranges(text: str, moment: datetime) -> None:
    for one in parse_times(text, moment):
        assert one.since is not None or one.until is not None
        assert one.since is None or one.until is None or one.since < one.until


@given(day=days, moment=moments)
def test_a_day_that_is_written_out_is_that_day_whenever_it_is_asked_about(
    day: date, moment: datetime
) -> None:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for written in (f"{day:%Y-%m-%d}", f"{day.day} {day:%B %Y}", f"{day:%B} {day.day}, {day:%Y}"):
        (one,) = parse_times(f"what about {written}", moment)
        assert (one.since, one.until) == (begin, begin + timedelta(days=1))


@given(moment=moments, count=st.integers(1, 500))
def test_days_ago_agree_with_the_calendar(moment: datetime, count: int) -> None:
    midnight = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    (ago,) = parse_times(f"{count} days ago", moment)
    assert ago.since == midnight - timedelta(days=count)
    (weekday,) = parse_times(f"on {ago.since:%A}", moment)
    assert weekday.since is not None
    assert 1 <= (midnight - weekday.since).days <= 7
    (week,) = parse_times("last week", moment)
    assert week.since is not None
    assert week.since.weekday() == 0
    assert week.until is not None
    assert timedelta() <= midnight - week.until <= timedelta(days=6)


def test_the_moment_is_taken_in_utc() -> None:
    late = datetime(2023, 6, 14, 1, 0, tzinfo=timezone(timedelta(hours=5)))  # 13 June, 20:00 in UTC
    assert spans("yesterday", late) == [("2023-06-12 00", "2023-06-13 00")]


def test_a_long_query_costs_what_its_beginning_costs() -> None:
    assert spans("x " * 50_000 + "yesterday") == []
    assert spans("a " * 4_000 + "yesterday") == [("2023-06-13 00", "2023-06-14 00")]
