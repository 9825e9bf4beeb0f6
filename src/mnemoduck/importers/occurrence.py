"""When a record says that it happened."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from mnemoduck.events import EARLIEST, LATEST
from mnemoduck.importers.records import RefusedError, show

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_BASIC_DATE = re.compile(r"(19|20)[0-9]{6}", re.ASCII)
_LATEST_SECONDS = LATEST.timestamp()


def parse_occurred_at(value: object) -> datetime:
    """Return a moment in UTC.

    Accepts ISO 8601 (a date means its midnight; without a zone it is UTC), datetime and date, and
    seconds since 1970 as a number or as text. A number that would be 2100 or later as seconds is
    taken as milliseconds.

    Raises:
        RefusedError: it is something else, or outside 1970-01-01 to 2099-12-31.
    """
    try:
        moment = _read(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise _out_of_range(value) from None
    except ValueError:
        raise RefusedError(
            f"occurred_at is not a date or time ({show(value)}; write 2026-03-15T18:30:00Z)"
        ) from None
    if not EARLIEST <= moment < LATEST:
        raise _out_of_range(value)
    return moment


def _read(value: object) -> datetime:
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text) or _BASIC_DATE.fullmatch(text):
            return datetime.fromisoformat(text)
        value = float(text)
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        number = value if isinstance(value, int) else float(value)
        is_seconds = number < _LATEST_SECONDS
        return EARLIEST + (timedelta(seconds=number) if is_seconds else timedelta(milliseconds=number))
    raise ValueError


def _out_of_range(value: object) -> RefusedError:
    shown = value.isoformat() if isinstance(value, date) else show(value)
    return RefusedError(f"occurred_at is out of range ({shown}; expected 1970-01-01 to 2099-12-31)")
