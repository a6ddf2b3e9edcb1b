"""Times as users give them: a moment, such as "2023-05-08T18:00" or "30d", or a period, such as "2023-05" or "2023-05-08".

A time without a time zone means two things. Compared with when a passage was added, it is local time. Compared with when
something happened, it is the time as the document writes it, which has no time zone either.
"""

import math
import re
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from numbers import Real
from typing import TypeAlias

from memspan.errors import UsageError

TimeLike: TypeAlias = datetime | date | float | str

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d{1,9})([mhdw])")
_YEAR_OR_MONTH = re.compile(r"(\d{4})(?:-(\d{2}))?")


@dataclass(frozen=True)
class Bound:
    """A moment in unix seconds, twice.

    Attributes:
        of_events: to compare with when something happened.
        of_clock: to compare with when a passage was added.
    """

    of_events: float
    of_clock: float


def since(value: TimeLike, name: str) -> Bound:
    """The first moment that counts: the moment, or the beginning of the period. Raises UsageError for what is no time."""
    return _bound(_period(value, name)[0], name)


def until(value: TimeLike, name: str) -> Bound:
    """The first moment that no longer counts: behind the moment, or behind the period. Raises UsageError for what is no time."""
    start, end = _period(value, name)
    if end is not None:
        return _bound(end, name)
    last = _bound(start, name)
    return Bound(math.nextafter(last.of_events, math.inf), math.nextafter(last.of_clock, math.inf))


def seconds_of(value: TimeLike, name: str) -> float:
    """The moment, or the beginning of the period, in unix seconds. Raises UsageError for what is no time."""
    return since(value, name).of_clock


def _period(value: TimeLike, name: str) -> tuple[datetime | float, datetime | None]:
    """The first moment of a period and the first one behind it; for a moment, itself and None."""
    if isinstance(value, str):
        return _parsed(value, name)
    if isinstance(value, datetime):
        return value, None
    if isinstance(value, date):
        return _day(datetime(value.year, value.month, value.day), name)
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value), None
    raise _no_time(value, name)


def _parsed(text: str, name: str) -> tuple[datetime | float, datetime | None]:
    ago, period = _AGO.fullmatch(text), _YEAR_OR_MONTH.fullmatch(text)
    try:
        if ago is not None:
            return time.time() - int(ago[1]) * _SECONDS[ago[2]], None
        if period is not None:
            year, month = int(period[1]), int(period[2] or 1)
            months = year * 12 + month - 1 + (1 if period[2] else 12)
            return datetime(year, month, 1), datetime(months // 12, months % 12 + 1, 1)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise _no_time(text, name) from None
    return _day(moment, name) if len(text) <= len("2026-05-31") else (moment, None)


def _day(first: datetime, name: str) -> tuple[datetime, datetime]:
    try:
        return first, first + timedelta(days=1)
    except OverflowError:
        raise _no_time(first.date(), name) from None


def _bound(moment: datetime | float, name: str) -> Bound:
    if not isinstance(moment, datetime):
        return Bound(moment, moment)
    try:
        seconds = moment.timestamp()
        as_written = moment.replace(tzinfo=UTC).timestamp() if moment.tzinfo is None else seconds
    except (ValueError, OverflowError, OSError):  # a year that the system's clock does not know
        raise _no_time(moment, name) from None
    return Bound(as_written, seconds)


def _no_time(value: object, name: str) -> UsageError:
    return UsageError(
        f"{name} must be a date or a time (2026-05-31, 2026-05-31T18:00), a month or a year (2026-05, 2026), or a number "
        f"with m, h, d or w for so many minutes, hours, days or weeks ago, got {value!r}."
    )
