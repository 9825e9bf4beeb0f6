"""Times: those that a question names, those of options, of models' answers and of imported records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from hypothesis import strategies as st

from fuzz.target import Target, may_refuse
from mnemoduck.cli.llm_cache import Age
from mnemoduck.cli.options import Moment
from mnemoduck.cli.partitions import MonthName
from mnemoduck.dbt_plugin import _moment
from mnemoduck.events import EARLIEST, LATEST
from mnemoduck.importers import locomo, longmemeval
from mnemoduck.importers.occurrence import parse_occurred_at
from mnemoduck.importers.records import RefusedError
from mnemoduck.llm.answers import plain_moment
from mnemoduck.recall.filters import make_filters
from mnemoduck.recall.times import parse_times
from mnemoduck.schedule.times import Clock, parse_day

_WORDS = (
    "on", "in", "the", "last", "this", "past", "between", "from", "and", "to", "before", "after", "since",
    "until",
    "by", "ago", "a", "a couple of", "a few", "several", "two", "12", "9999", "0", "day", "days", "week",
    "weekend",
    "month", "months", "year", "years", "hour", "hours", "yesterday", "today", "tonight", "last night",
    "morning",
    "evening", "the day before yesterday", "monday", "Sunday", "may", "May", "february", "feb.", "sept",
    "29", "30th",
    "31st", "2023", "1900", "2099", "2024-02-29", "2023/2/30", "2023-13", "1999-12-31", "during",
    "throughout", ",",
    "?", "of", "early in", "year", "-", "\u0131", "İ",
)  # fmt: skip


def check_question(data: bytes) -> None:
    """The first two bytes are the moment of the question, the rest is what is asked."""
    days = int.from_bytes(data[:2], "big") * 56  # to the year 9999 and beyond
    text = data[2:].decode("utf-8", "replace")
    try:
        as_of = datetime(1, 1, 1, 12, 30, tzinfo=UTC) + timedelta(days=days)
    except OverflowError:
        as_of = datetime.max.replace(tzinfo=UTC)
    plain = " ".join(text.split())
    place = 0
    for found in parse_times(text, as_of):
        if found.since and found.until:
            assert found.since < found.until
        assert found.since or found.until
        assert str(found.as_text())
        place = plain.lower().find(found.text.lower(), place)
        assert found.text
        assert place >= 0, (plain, found)


def check_moment(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for kind in (Moment(), Age(), MonthName()):
        with may_refuse(click.BadParameter):
            kind.convert(text, None, None)
    with may_refuse(click.BadParameter):
        make_filters(since=Moment().convert(text, None, None))
    with may_refuse():
        assert str(Clock.parse(text, "--nightly"))
    with may_refuse():
        assert 0 <= parse_day(text) <= 6
    with may_refuse(ValueError):  # the macro as_of has checked it before
        _moment(text)
    with may_refuse(RefusedError):
        assert EARLIEST <= parse_occurred_at(text) < LATEST
    for parse in (locomo.parse_date, longmemeval.parse_date):
        with may_refuse(RefusedError):
            assert parse(text).tzinfo is UTC
    plain = plain_moment(text)
    assert plain is None or plain_moment(plain) == plain


_question = st.lists(st.sampled_from(_WORDS), max_size=10).map(" ".join)
_moment_text = st.builds(
    "{}{}".format,
    st.datetimes().map(datetime.isoformat) | st.dates().map(str) | st.integers(-(10**14), 10**14).map(str),
    st.sampled_from(
        ["", "Z", "+14:00", "-23:59", "+00:00:00.000001", " (Mon) 05:03", "[UTC]", ".5", "W01", "h"]
    ),
)
_TOKENS = tuple(word.encode() for word in _WORDS)

TARGETS = (
    Target(
        "times",
        "each range is not empty and named by words of the question",
        check_question,
        _TOKENS,
        st.builds(lambda head, text: head + text.encode(), st.binary(min_size=2, max_size=2), _question),
    ),
    Target(
        "moments",
        "a moment within bounds, or a sentence",
        check_moment,
        (b"2026-03-01", b"T12:00:00", b"Z", b"+14:00", b"1:56 pm on 8 May, 2023", b"2023/04/24 (Mon) 05:03",
        b"90d",
         b"03:15", b"sunday", b"1772366400", b"1772366400000", b"2026-03", b"2026-W01-1", b"20260301"),
        _moment_text.map(str.encode),
        max_bytes=300,
    ),
)  # fmt: skip
