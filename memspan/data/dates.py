"""Dates as people write them: whole days only, so that none is invented from "May" or "10".

English forms are read by dateutil, which fills what is missing from a default: each is read with two defaults, and counts
only if both give the same day. A time without a zone is taken as UTC, so that a memory is the same everywhere.
"""

import re
import warnings
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
LONGEST_DATE = 80  # characters
_WORDS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?|(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
    "|[ap]\\.?m\\.?|at|on|of|the|t|z|utc|gmt"
)
_FRAME = r"(?:session|date|day|meeting|conversation|chat|log|entry|diary|日期|时间)"
_NUMBER = r"\d{1,4}(?:st|nd|rd|th|[ap]m)?(?:(?![^\W_])|(?=T\d|Z))"
_CHINESE = (
    r"(?P<year>\d{4})[ ]?年[ ]?(?P<month>\d{1,2})[ ]?月[ ]?(?P<day>\d{1,2})[ ]?[日号]"
    r"[ ]?(?:[（(]?(?:星期|周|礼拜)[一二三四五六日天][）)]?)?"
    r"[ ,，]*(?:(?P<half>上午|早上|凌晨|中午|下午|晚上|傍晚)?[ ]?(?P<hour>\d{1,2})[ ]?[:：点时](?:[ ]?(?P<minute>\d{1,2}))?"
    r"(?:[:：分](?P<second>\d{1,2})?)?[秒]?)?"
)
_ENGLISH = rf"(?=[^\n]{{0,60}}\d{{4}})(?:(?:{_WORDS})(?![^\W\d_])|{_NUMBER}|[ \t,./:+-]){{3,40}}+"
# The marks around a date that make a line of it: "## ", "[", "Session 3 of ", "**".
_BEFORE = rf"[ \t]{{0,3}}(?:#{{1,6}}[ \t]+)?[*_\[(（【]{{0,3}}(?:{_FRAME}(?:[ \t]+\d{{1,4}})?(?:[ \t]+(?:of|on|from))?[ \t]*[:：,–-]?[ \t]*)?"
_BEHIND = r"[*_\])）】:：]{0,4}[ \t]*#{0,6}[ \t]*"

DATE_LINE: Final = rf"(?i:{_BEFORE}(?P<date>{_CHINESE.replace('?P<', '?P<line_')}|{_ENGLISH}){_BEHIND})"
"""A pattern of a line that is a date and nothing else, without the line end; group "date" is the date as written."""

_DATE_LINE = re.compile(DATE_LINE)
_CHINESE_DATE = re.compile(_CHINESE)
_NUMERIC = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?:[ ,T]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?[ ]?([ap])?\.?(?:m\.?)?", re.I
)
_YEAR_FIRST = re.compile(r"(\d{4})[./](\d{1,2})[./](\d{1,2})(?=$|[ ,T])")
_WHOLE_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")


def date_of_line(line: str) -> str:
    """The date, as it is written, of a line that is a whole date and nothing else; empty for any other line."""
    match = _DATE_LINE.fullmatch(line) if len(line) <= 2 * LONGEST_DATE else None
    written = "" if match is None else match["date"].strip(" \t,.:")
    return written if moment(written) is not None else ""


def moment(text: str) -> float | None:
    """The unix seconds of a date with year, month and day, and perhaps a time; None for anything else.

    Figures alone are read as day and month in the one order that is possible, as day first with dots ("8.5.2023"), and
    not at all where both orders are ("03/04/2023").
    """
    text = text.strip(" \t,.:")
    if not 8 <= len(text) <= LONGEST_DATE or not any(map(str.isdigit, text)):
        return None
    try:
        found = _chinese(text) or _iso(text) or _numeric(text) or _english(text)
        return None if found is None else (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):  # a day that does not exist, a year out of range
        return None


def day_of(seconds: float) -> date | None:
    """The day of unix seconds in UTC; None outside of the years 1 to 9999."""
    try:
        return (datetime(1970, 1, 1) + timedelta(seconds=seconds)).date()
    except (OverflowError, ValueError):  # ValueError: NaN
        return None


def in_words(day: date) -> str:
    """A day in words, e.g. "8 May 2023"."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _chinese(text: str) -> datetime | None:
    match = _CHINESE_DATE.fullmatch(text)
    if match is None:
        return None
    hour, afternoon = int(match["hour"] or 0), match["half"] in ("下午", "晚上", "傍晚")
    hour += 12 if afternoon and hour < 12 else 0
    day = int(match["year"]), int(match["month"]), int(match["day"])
    return datetime(*day, hour, int(match["minute"] or 0), int(match["second"] or 0), tzinfo=UTC)


def _iso(text: str) -> datetime | None:
    text = _YEAR_FIRST.sub(lambda match: f"{match[1]}-{int(match[2]):02d}-{int(match[3]):02d}", text)
    try:
        return datetime.fromisoformat(text) if text[4:5] == "-" else None
    except ValueError:
        return None


def _numeric(text: str) -> datetime | None:
    """Raises ValueError where day and month are ambiguous."""
    match = _NUMERIC.fullmatch(text)
    if match is None:
        return None
    first, second, hour = int(match[1]), int(match[3]), int(match[5] or 0)
    if match[2] != "." and first <= 12 and second <= 12 and first != second:
        raise ValueError("either may be the month")
    day, month = (first, second) if match[2] == "." or first > 12 else (second, first)
    if match[8]:
        hour = hour % 12 + (12 if match[8].lower() == "p" else 0)
    return datetime(int(match[4]), month, day, hour, int(match[6] or 0), int(match[7] or 0), tzinfo=UTC)


def _english(text: str) -> datetime | None:
    """Raises ValueError or OverflowError for what is no date."""
    if _WHOLE_YEAR.search(text) is None or not any(map(str.isalpha, text)):
        return None
    from dateutil import parser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names of time zones
        first, second = (
            parser.parse(text, default=datetime(year, month, day)) for year, month, day in ((2001, 1, 1), (2003, 3, 3))
        )
    return first if first == second else None


def unix_seconds(value: Any) -> float | None:
    """The unix seconds of a time as tables write it: a number of seconds, an ISO date, or a date in words; None for others."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        time = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return moment(str(value))
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
