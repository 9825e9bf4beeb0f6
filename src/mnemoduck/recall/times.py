"""Times that a query names, as ranges: "on 7 May 2023", "last week", "3 days ago", "the week before May 3rd".

A range is what recall needs: "last week" is seven days, "in May" a month. Of the libraries that were tried
(dateparser 1.5, timefhuman 0.1, ctparse 0.3, parsedatetime 2.6) each gives a point for most of these; one
reads the clock whatever it is told, one takes half a second to load, and all take "may" in "I may go" for a
month. So this is a grammar of its own: small, of English, a function of the text and the moment only. What it
does not know it leaves alone.

Weeks begin on Monday (ISO 8601), months and years are those of the calendar, all in UTC. A date without a
year is the last one that has begun by the moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

_LONGEST_READ = 10_000
"""Characters of a query that are looked through: what is longer is no question."""

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = {
    "a": (1, 1), "an": (1, 1), "one": (1, 1), "two": (2, 2), "three": (3, 3), "four": (4, 4), "five": (5, 5),
    "six": (6, 6), "seven": (7, 7), "eight": (8, 8), "nine": (9, 9), "ten": (10, 10), "eleven": (11, 11),
    "twelve": (12, 12), "a couple of": (2, 3), "a couple": (2, 3), "a few": (2, 5), "few": (2, 5),
    "several": (3, 7),
}  # fmt: skip
_PARTS_OF_DAY = {"morning": (5, 12), "afternoon": (12, 18), "evening": (17, 24), "night": (18, 30)}

_MONTH = rf"(?:{'|'.join(_MONTHS)}|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?"
_FULL_MONTH = rf"(?:{'|'.join(_MONTHS)})\b"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?\b"
_YEAR = r"(?:19|20)\d\d\b(?![.,]\d)"
_WEEKDAY = rf"(?:{'|'.join(_DAYS)})\b"
_COUNT = rf"(?:\d{{1,4}}|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})".replace(" ", r"\ ")
_UNIT = r"(?:day|week|weekend|month|year)"
_PART = rf"(?:{'|'.join(_PARTS_OF_DAY)})\b"

_DATE = rf"""(?:
    (?P<iso>(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))\b
    | (?P<slashed>(?:19|20)\d\d/(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01]))\b
    | (?P<iso_month>(?:19|20)\d\d-(?:0[1-9]|1[0-2]))\b(?!-)
    | (?:the\ )?(?P<day_1>{_DAY})\ (?:of\ )?(?P<month_1>{_MONTH})(?:,?\ ?(?P<year_1>{_YEAR}))?
    | (?P<month_2>{_MONTH})\ (?:the\ )?(?P<day_2>{_DAY})(?!:)(?:,?\ ?(?P<year_2>{_YEAR}))?
    | (?P<month_3>{_MONTH}),?\ (?:of\ )?(?P<year_3>{_YEAR})
)"""
_LONE_DATE = rf"""(?:{_DATE}
    | (?P<month_4>{_FULL_MONTH})
    | (?P<year_4>{_YEAR})
)"""
_WITH_DATE = re.compile(_LONE_DATE, re.VERBOSE)

# Spaces in these are spaces of the text: it is searched with one space for any run of white space.
_PLAIN_DATE = re.sub(r"\(\?P<\w+>", "(?:", _DATE)
_PLAIN_LONE_DATE = re.sub(r"\(\?P<\w+>", "(?:", _LONE_DATE)

_TIME = re.compile(
    rf"""(?<![\w-])(?:
    (?:between|from)\ (?P<begin>{_PLAIN_LONE_DATE})\ (?:and|to|until|till)\ (?P<end>{_PLAIN_LONE_DATE})
    | (?:the\ |in\ the\ )?(?:(?P<near_count>{_COUNT})\ )?(?P<near_unit>{_UNIT})s?
        \ (?P<side>before|after)\ (?P<near>{_PLAIN_DATE})
    | (?:on\ |the\ |last\ ){{0,3}}(?P<near_day>{_WEEKDAY})
        \ (?P<day_side>before|after)\ (?P<near_of_day>{_PLAIN_DATE})
    | (?P<open>before|until|till|since|after|by)\ (?P<bound>{_PLAIN_LONE_DATE})
    | (?P<date>{_PLAIN_DATE})
    | last\ (?P<last_month>{_FULL_MONTH})
    | (?:in|during|of|this|early\ in|late\ in)\ (?P<month>{_FULL_MONTH})(?!,?\ (?:the\ |of\ )?\d)
    | (?:in|during|of|since|year|throughout)\ (?P<year>{_YEAR})
    | the\ (?P<day_before_yesterday>day\ before\ yesterday)
    | (?P<yesterday>yesterday)(?:\ (?P<yesterday_part>{_PART}))?
    | (?P<last_night>last\ night)
    | this\ (?P<today_part>{_PART})
    | (?P<today>today|tonight)
    | (?P<ago_count>{_COUNT})\ (?P<ago_unit>hour|{_UNIT})s?\ ago
    | (?:last|past)\ (?P<past_count>{_COUNT})\ (?P<past_unit>hour|{_UNIT})s?
    | (?:(?:in|over|during|within)\ the\ last|past)\ (?P<past_one>hour|day|week|month|year)
    | (?P<which>last|this)\ (?P<unit>{_UNIT})(?!\ before|\ after)
    | (?P<which_day>on|last|this|past)\ (?P<weekday>{_WEEKDAY})(?:\ (?P<weekday_part>{_PART}))?
    )(?![\w-]\w)(?!\w)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class TimeRange:
    """A range of time that a query names: since <= t < until, a bound of None being open. `text` names it."""

    text: str
    since: datetime | None
    until: datetime | None

    def as_text(self) -> str:
        """Return it for people: '"last week": from 2023-06-05 00:00 and before 2023-06-12 00:00'."""
        bounds = [
            f"{word} {bound:%Y-%m-%d %H:%M}"
            for word, bound in (("from", self.since), ("before", self.until))
            if bound is not None
        ]
        return f'"{self.text}": {" and ".join(bounds)}'


def parse_times(query: str, as_of: datetime) -> list[TimeRange]:
    """Return the ranges of time that a text names, in its order.

    Args:
        query: any text; the first 10,000 characters are looked through.
        as_of: the moment that "yesterday" is told from (naive means UTC).

    Returns:
        Ranges that are not empty, in UTC; what would leave the calendar is left out.

    Raises:
        OverflowError: the moment is outside of the calendar in UTC.
    """
    moment = as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of.astimezone(UTC)
    return list(_find(" ".join(query[:_LONGEST_READ].split()), moment.replace(tzinfo=None)))


def _find(text: str, moment: datetime) -> Iterator[TimeRange]:
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter that becomes two: the places would not be the same
        text = lowered
    for match in _TIME.finditer(lowered):
        try:
            found = _resolve(match, moment)
        except (ValueError, OverflowError):  # 30 February, or outside of the calendar
            continue
        if found is None:
            continue
        since, until = found
        if since is None or until is None or since < until:
            yield TimeRange(text[match.start() : match.end()].strip(), _aware(since), _aware(until))


Range = tuple[datetime, datetime]


def _resolve(match: re.Match[str], moment: datetime) -> tuple[datetime | None, datetime | None] | None:
    said = match.groupdict()
    today = moment.date()
    if said["begin"]:
        end = _range_of(said["end"], moment)
        begin = _range_of(said["begin"], moment, not_after=end)
        return (begin[0], end[1])
    if said["near"]:
        return _beside(said["near_count"], said["near_unit"], said["side"], _range_of(said["near"], moment))
    if said["near_day"]:
        at = _range_of(said["near_of_day"], moment)
        return _weekday_beside(said["near_day"], said["day_side"], at)
    if said["open"]:
        if said["open"] == "since" or said["open"] == "after":
            at = _range_of(said["bound"], moment)
            return (at[0] if said["open"] == "since" else at[1], None)
        at = _range_of(said["bound"], moment)
        return (None, at[0] if said["open"] == "before" else at[1])
    for name in ("date", "month", "year", "last_month"):
        if said[name]:
            return _range_of(said[name], moment, is_over=name == "last_month")
    if said["day_before_yesterday"]:
        return _days(today - timedelta(days=2))
    if said["yesterday"]:
        return _part(today - timedelta(days=1), said["yesterday_part"])
    if said["last_night"]:
        return _part(today - timedelta(days=1), "night")
    if said["today_part"]:
        return _part(today, said["today_part"])
    if said["today"]:
        return _days(today)
    if said["ago_count"]:
        return _ago(said["ago_count"], said["ago_unit"], moment)
    if said["past_count"] or said["past_one"]:
        _, most = _count(said["past_count"] or "one")
        begin_of_past = _earlier(moment, said["past_unit"] or said["past_one"], most)
        return (begin_of_past, moment + timedelta(microseconds=1))
    if said["unit"]:
        return _unit(said["unit"], today, 0 if said["which"] == "this" else 1)
    if said["weekday"]:
        number = _DAYS.index(said["weekday"])
        back = (today.weekday() - number - 1) % 7 + 1
        if said["which_day"] == "this":
            back = today.weekday() - number
        return _part(today - timedelta(days=back), said["weekday_part"])
    return None


def _range_of(text: str, moment: datetime, *, is_over: bool = False, not_after: Range | None = None) -> Range:
    """Return the range of a date, a month or a year; without a year it is the last that has begun.

    `is_over`: the last that has ended. `not_after`: the last that begins no later than this one.
    """
    match = _WITH_DATE.match(text)
    if match is None:
        raise ValueError(text)
    said = match.groupdict()
    for name in ("iso", "slashed"):
        if said[name]:
            year, month, day = map(int, re.split("[-/]", said[name]))
            return _days(date(year, month, day))
    if said["iso_month"]:
        year, month = map(int, said["iso_month"].split("-"))
        return _month(year, month)
    if said["month_3"]:
        return _month(int(said["year_3"]), _month_number(said["month_3"]))
    if said["year_4"]:
        return _year(int(said["year_4"]))
    which = "1" if said["month_1"] else "2" if said["month_2"] else "4"
    month = _month_number(said[f"month_{which}"])
    day_of_month = None if which == "4" else int(re.sub(r"\D", "", said[f"day_{which}"]))

    def in_year(year: int) -> Range:
        return _month(year, month) if day_of_month is None else _days(date(year, month, day_of_month))

    if which != "4" and said[f"year_{which}"]:
        return in_year(int(said[f"year_{which}"]))
    latest = moment if not_after is None else not_after[0]
    for year in range(latest.year, max(latest.year - 9, date.min.year), -1):  # 29 February is not in each
        try:
            found = in_year(year)
        except ValueError:
            continue
        if (found[1] if is_over else found[0]) <= latest:
            return found
    raise ValueError(text)


def _beside(count: str | None, unit: str, side: str, at: Range) -> Range:
    """Return what lies so many units before or after a date: of one the span beside it, of more that one.

    "The week before 3 August" is the seven days before it; "two weeks before" the seven days about it.
    """
    begin, end = at
    least, most = _count(count or "one")
    if unit == "weekend":
        saturday = begin.date() - timedelta(days=(begin.weekday() - 5) % 7 or 7)
        if side == "after":
            saturday = (end - timedelta(days=1)).date()
            saturday += timedelta(days=(5 - saturday.weekday()) % 7 or 7)
        return _days(saturday, 2)
    if (least, most) == (1, 1):
        return (_earlier(begin, unit, 1), begin) if side == "before" else (end, _earlier(end, unit, -1))
    slack = {"day": 0, "week": 3, "month": 15, "year": 182}[unit]
    sign = 1 if side == "before" else -1
    points = sorted((_earlier(begin, unit, sign * least), _earlier(begin, unit, sign * most)))
    return (points[0] - timedelta(days=slack), points[1] + timedelta(days=slack + 1))


def _weekday_beside(weekday: str, side: str, at: Range) -> Range:
    number = _DAYS.index(weekday)
    if side == "before":
        begin = at[0].date()
        return _days(begin - timedelta(days=(begin.weekday() - number - 1) % 7 + 1))
    last = (at[1] - timedelta(days=1)).date()
    return _days(last + timedelta(days=(number - last.weekday() - 1) % 7 + 1))


def _ago(count: str, unit: str, moment: datetime) -> Range:
    """Return the day, week, month or year that lies so many of it back; hours are taken as three about it."""
    least, most = _count(count)
    if unit == "hour":
        return (
            moment - timedelta(hours=most, minutes=90),
            moment - timedelta(hours=least) + timedelta(minutes=90),
        )
    return (_unit(unit, moment.date(), most)[0], _unit(unit, moment.date(), least)[1])


def _unit(unit: str, today: date, back: int) -> Range:
    """Return the day, week, weekend, month or year that lies so many of it back, 0 being this one."""
    if unit == "day":
        return _days(today - timedelta(days=back))
    if unit == "week":
        return _days(today - timedelta(days=today.weekday() + 7 * back), 7)
    if unit == "weekend":
        return _days(today - timedelta(days=today.weekday() - 5 + 7 * back), 2)
    if unit == "month":
        months = today.year * 12 + today.month - 1 - back
        return _month(months // 12, months % 12 + 1)
    return _year(today.year - back)


def _earlier(moment: datetime, unit: str, count: int) -> datetime:
    """Return the moment so many units before; a day that the month does not have becomes its last."""
    if unit in ("month", "year"):
        months = moment.year * 12 + moment.month - 1 - count * (12 if unit == "year" else 1)
        begin, end = _month(months // 12, months % 12 + 1)
        return min(begin + timedelta(days=moment.day - 1), end - timedelta(days=1)).replace(
            hour=moment.hour, minute=moment.minute, second=moment.second, microsecond=moment.microsecond
        )
    hours = {"hour": 1, "day": 24, "week": 168, "weekend": 168}[unit]
    return moment - timedelta(hours=hours * count)


def _part(day: date, part: str | None) -> Range:
    if part is None:
        return _days(day)
    begin, end = _PARTS_OF_DAY[part]
    midnight = datetime.combine(day, time())
    return (midnight + timedelta(hours=begin), midnight + timedelta(hours=end))


def _days(first: date, count: int = 1) -> Range:
    begin = datetime.combine(first, time())
    return (begin, begin + timedelta(days=count))


def _month(year: int, month: int) -> Range:
    return (datetime(year, month, 1), datetime(year + month // 12, month % 12 + 1, 1))


def _year(year: int) -> Range:
    return (datetime(year, 1, 1), datetime(year + 1, 1, 1))


def _month_number(name: str) -> int:
    return next(number for number, month in enumerate(_MONTHS, 1) if month.startswith(name.rstrip(".")[:3]))


def _count(text: str) -> tuple[int, int]:
    """Return the least and the most that a count means."""
    return _NUMBERS[text] if text in _NUMBERS else (int(text), int(text))


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
