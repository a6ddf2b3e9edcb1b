"""What "yesterday", "last week" and 昨天 mean in a text that was written on a known day.

Only what the calendar settles is resolved: days, and the first and last day of weeks, months and years. Weeks begin on
Monday. "last Friday" is the Friday before the day of the text, "next Friday" the one after it.
"""

import re
from calendar import monthrange
from contextlib import suppress
from datetime import date, timedelta

from memspan.data.dates import MONTHS, day_of, in_words

MOST_PHRASES = 6  # of a text that are resolved

_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}
_NUMBERS |= dict(zip("一二三四五六七两", (1, 2, 3, 4, 5, 6, 7, 2), strict=True))
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS = {
    "the day before yesterday": -2,
    "yesterday": -1,
    "last night": -1,
    "today": 0,
    "tonight": 0,
    "this morning": 0,
    "the day after tomorrow": 2,
    "tomorrow": 1,
    "大前天": -3,
    "前天": -2,
    "昨天": -1,
    "昨晚": -1,
    "今天": 0,
    "今晚": 0,
    "明天": 1,
    "后天": 2,
}
_STEPS = {"last": -1, "this": 0, "next": 1, "上": -1, "这": 0, "本": 0, "下": 1, "去": -1, "今": 0, "明": 1}
_UNITS = {"周": "week", "星期": "week", "个星期": "week", "礼拜": "week", "个月": "month", "月": "month", "年": "year"}
_PHRASE = re.compile(
    rf"\b(?P<day>{'|'.join(key for key in _DAYS if key.isascii())})\b"
    rf"|(?P<when>{'|'.join(key for key in _DAYS if not key.isascii())})"
    rf"|\b(?P<count>\d{{1,3}}|{'|'.join(key for key in _NUMBERS if key.isascii())})[ ](?P<unit>day|week)s?[ ]ago\b"
    r"|(?P<number>\d{1,3}|[一二三四五六七两])(?P<time>天|周|个?星期)(?:之?前)"
    rf"|\b(?P<step>last|this|next)[ ](?P<span>week|month|year|{'|'.join(_WEEKDAYS)})\b"
    r"|(?P<move>[上这本下])(?P<period>周|个?星期|礼拜|个?月)(?P<weekday>[一二三四五六日天])?"
    r"|(?P<year>[去今明])年",
    re.I,
)


def resolved(text: str, happened: float) -> dict[str, str]:
    """The relative dates in a text, as written there, and what each means, e.g. {"yesterday": "Sunday, 7 May 2023"}.

    Args:
        happened: unix seconds; their day in UTC is that of the text.
    """
    day, phrases = day_of(happened), dict[str, str]()
    for match in () if day is None else _PHRASE.finditer(text):
        if match[0].lower() not in phrases and len(phrases) < MOST_PHRASES and day is not None:
            with suppress(OverflowError, ValueError):  # beyond the years 1 to 9999
                phrases[match[0].lower()] = _meaning(match, day)
    return phrases


def day_in_words(day: date) -> str:
    """A day with its weekday, e.g. "Monday, 8 May 2023"."""
    return f"{_WEEKDAYS[day.weekday()].capitalize()}, {in_words(day)}"


def _meaning(match: re.Match[str], day: date) -> str:
    """What a phrase means in a text of `day`."""
    groups = {name: value.lower() for name, value in match.groupdict().items() if value is not None}
    if name := groups.get("day") or groups.get("when"):
        return day_in_words(day + timedelta(days=_DAYS[name]))
    if count := groups.get("count") or groups.get("number"):
        unit = groups.get("unit") or groups.get("time", "")
        number = int(count) if count.isdigit() else _NUMBERS[count]
        return day_in_words(day - timedelta(days=number * (1 if unit in ("day", "天") else 7)))
    step = _STEPS[groups.get("step") or groups.get("move") or groups.get("year", "")]
    span = groups.get("span") or groups.get("period") or "年"
    if span in _WEEKDAYS:
        return day_in_words(_weekday(day, _WEEKDAYS.index(span), step))
    if weekday := groups.get("weekday"):
        monday = day - timedelta(days=day.weekday()) + timedelta(weeks=step)
        return day_in_words(monday + timedelta(days="一二三四五六日".find(weekday.replace("天", "日"))))
    return _span(_UNITS.get(span, span), day, step)


def _weekday(day: date, weekday: int, step: int) -> date:
    """The weekday before a day, in its week, or after it."""
    if step < 0:
        return day - timedelta(days=(day.weekday() - weekday - 1) % 7 + 1)
    if step > 0:
        return day + timedelta(days=(weekday - day.weekday() - 1) % 7 + 1)
    return day + timedelta(days=weekday - day.weekday())


def _span(unit: str, day: date, step: int) -> str:
    """A week by its first and last day, a month or a year by its name, so many steps from that of a day."""
    if unit == "week":
        monday = day - timedelta(days=day.weekday()) + timedelta(weeks=step)
        return f"{day_in_words(monday)} to {day_in_words(monday + timedelta(days=6))}"
    if unit == "year":
        return str(day.year + step)
    first = day.replace(day=1)
    first += timedelta(days=monthrange(first.year, first.month)[1] if step > 0 else step)
    return f"{MONTHS[first.month - 1]} {first.year}"
