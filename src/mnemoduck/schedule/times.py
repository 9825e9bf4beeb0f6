"""When each rhythm runs: staggered, so that as a rule no run meets another one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mnemoduck.errors import UsageError
from mnemoduck.pipeline.rhythm import CONTINUOUS, HOURLY, NIGHTLY, RHYTHMS, WEEKLY

WAIT_MINUTES = {CONTINUOUS: 0, HOURLY: 0, NIGHTLY: 15, WEEKLY: 15}
"""How long a run waits for one that is at work; those that come once a day or a week do not give up soon."""

EVERY_MINUTES = tuple(minutes for minutes in range(1, 31) if 60 % minutes == 0)
"""What divides an hour: any other number would leave a shorter gap before each full hour."""

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


@dataclass(frozen=True)
class Clock:
    """A time of day, in the time zone of the machine."""

    hour: int
    minute: int

    @classmethod
    def parse(cls, text: str, option: str) -> Clock:
        """Read `HH:MM`.

        Raises:
            UsageError: it is no time of day.
        """
        found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
        if not found:
            raise UsageError(f"{option} is {text!r}; it takes a time of day such as 03:15.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"


@dataclass(frozen=True)
class Times:
    """When the four rhythms run.

    Attributes:
        every: minutes between two continuous runs, one of EVERY_MINUTES.
        hourly_minute: minute of the hour.
        weekly_day: 0 is Sunday, as in a crontab.
    """

    every: int = 10
    hourly_minute: int = 5
    nightly: Clock = Clock(3, 15)
    weekly: Clock = Clock(4, 15)
    weekly_day: int = 0

    def __post_init__(self) -> None:
        if self.every not in EVERY_MINUTES:
            allowed = ", ".join(map(str, EVERY_MINUTES))
            raise UsageError(f"--every is {self.every}; an hour is divided by {allowed} minutes.")
        if self.nightly == self.weekly:
            raise UsageError(f"--nightly and --weekly are both {self.nightly}; give them different times.")

    @property
    def continuous_minutes(self) -> tuple[int, ...]:
        """The minutes of the hour at which a continuous run begins, apart from those of the other rhythms.

        Those of the others are left out where that cannot be: an hourly run does what a continuous one does.
        """
        taken = {self.hourly_minute, self.nightly.minute, self.weekly.minute}
        choices = [tuple(range(first, 60, self.every)) for first in range(self.every)]
        for minutes in choices:
            if not taken & set(minutes):
                return minutes
        return tuple(minute for minute in choices[0] if minute != self.hourly_minute)

    def cron(self, rhythm: str) -> str:
        """Return the five fields of a crontab line."""
        return {
            CONTINUOUS: f"{','.join(map(str, self.continuous_minutes))} * * * *",
            HOURLY: f"{self.hourly_minute} * * * *",
            NIGHTLY: f"{self.nightly.minute} {self.nightly.hour} * * *",
            WEEKLY: f"{self.weekly.minute} {self.weekly.hour} * * {self.weekly_day}",
        }[rhythm]

    def calendar(self, rhythm: str) -> str:
        """Return the value of OnCalendar= of a systemd timer."""
        minutes = ",".join(f"{minute:02}" for minute in self.continuous_minutes)
        return {
            CONTINUOUS: f"*-*-* *:{minutes}:00",
            HOURLY: f"*-*-* *:{self.hourly_minute:02}:00",
            NIGHTLY: f"*-*-* {self.nightly}:00",
            WEEKLY: f"{_DAYS[self.weekly_day][:3]} *-*-* {self.weekly}:00",
        }[rhythm]

    def describe(self, rhythm: str) -> str:
        """Return when a rhythm runs, for people."""
        return {
            CONTINUOUS: f"every {self.every} minutes" if self.every > 1 else "every minute",
            HOURLY: f"every hour at :{self.hourly_minute:02}",
            NIGHTLY: f"every night at {self.nightly}",
            WEEKLY: f"every {_DAYS[self.weekly_day]} at {self.weekly}",
        }[rhythm]


def parse_day(text: str) -> int:
    """Return the number of a day of the week, 0 for Sunday, from its English name or the beginning of it.

    Raises:
        UsageError: it is none.
    """
    found = [number for number, day in enumerate(_DAYS) if day.lower().startswith(text.strip().lower())]
    if len(text.strip()) < 3 or len(found) != 1:
        raise UsageError(f"--weekly-day is {text!r}; it takes a day such as sunday.")
    return found[0]


__all__ = ["EVERY_MINUTES", "RHYTHMS", "WAIT_MINUTES", "Clock", "Times", "parse_day"]
