"""Chats that WhatsApp exports as text: one message after another, in the date form of the phone that wrote them.

    [12/05/2023, 10:15:32] Ann: Good morning.        12.05.23, 10:15 - Ann: Good morning.
    5/12/23, 10:15 AM - Ann: Good morning.           2023/5/12 上午10:15 - Ann: 早上好

Whether the day or the month comes first is found from all dates of the file together.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from memspan.data.formats.decoding import lines_of
from memspan.data.formats.turns import LONGEST_NAME, Moment, Turn, turn_portions
from memspan.data.marks import Mark

_SIGNS = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202c\u2068\u2069\ufeff"))  # of the direction of writing
_DATE = (
    r"(?:(?P<left>\d{1,4})(?P<sign>[./-])(?P<middle>\d{1,2})(?P=sign)(?P<right>\d{1,4})"
    r"|(?P<year>\d{4})年(?P<month>\d{1,2})月(?P<day>\d{1,2})日)"
)
_TIME = (
    r"(?P<half>[上下]午|凌晨|早上|清晨|中午|傍晚|晚上)?[ ]?(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2}))?"
    r"(?:[ ]?(?P<ap>[ap])\.?[ ]?m\.?)?"
)
_WHEN = rf"{_DATE}(?:,[ ]?|[ ](?:à|um|at|alle|às)[ ]|[ ]|(?=[上下凌早清中傍晚])){_TIME}"
_HEAD = re.compile(rf"(?:\[{_WHEN}\][ ]|{_WHEN.replace('?P<', '?P<a_').replace('?P=', '?P=a_')}[ ][-–][ ])", re.I)
_NAME = re.compile(rf"(?P<name>[^:\n]{{1,{LONGEST_NAME}}}):[ ]")
_OMITTED = re.compile(r"<[^<>\n]{1,80}>")  # what the export leaves out: <Media omitted>, <attached: photo.jpg>
# Of the messages in logs of programs, which stand where the speaker would.
_LEVELS = frozenset({"trace", "debug", "info", "notice", "warn", "warning", "error", "critical", "fatal"})
_AFTERNOON = frozenset(("下午", "傍晚", "晚上", "p"))
_MOST = 20_000_000  # characters of a message; what is longer goes on in the next


def is_whatsapp(beginning: str) -> bool:
    """Whether a text that begins so is an exported chat: its first line is dated, and two messages have a speaker."""
    lines = [_plain(line) for line in beginning.split("\n", 400)[:400] if line.strip()]
    if not lines or len(lines[0]) > 10_000 or _HEAD.match(lines[0]) is None:
        return False
    heads = [(match, line) for line in lines if (match := _HEAD.match(line))]
    names = [name["name"] for match, line in heads if (name := _NAME.match(line, match.end()))]
    return len(names) > 1 and not any(name.strip("[] ").lower() in _LEVELS for name in names)


def day_comes_first(portions: Iterable[str]) -> bool:
    """Whether the day stands before the month in the dates of a chat, as in most of the world.

    A number above 12 settles it; else the order in which the messages become later, not earlier; else 12-hour times,
    which are written where the month comes first.
    """
    first = second = halves = 0
    by_day, by_month = _Order(), _Order()
    for line in lines_of(portions):
        match = _HEAD.match(_plain(line))
        fields = {} if match is None else _fields(match)
        if "left" not in fields or len(fields["left"]) == 4:
            continue
        left, middle, year = (int(fields[key]) for key in ("left", "middle", "right"))
        first, second = max(first, left), max(second, middle)
        halves += "ap" in fields and fields["sign"] == "/"
        by_day.add((year, middle, left))
        by_month.add((year, left, middle))
    if (first > 12) != (second > 12):
        return first > 12
    if by_day.falls != by_month.falls:
        return by_day.falls < by_month.falls
    return not halves


class _Order:
    """Counts how often a date is earlier than the one before it."""

    def __init__(self) -> None:
        self.falls = 0
        self._last: tuple[int, int, int] | None = None

    def add(self, date: tuple[int, int, int]) -> None:
        self.falls += self._last is not None and date < self._last
        self._last = date


def chat_portions(portions: Iterable[str], day_first: bool) -> Iterator[str | Mark]:
    """The messages as turns "Ann: ..." without their dates, which become marks; lines stay those of the file."""
    turn, lines, length = Turn("", line=1), list[str](), 0
    for number, line in enumerate(lines_of(portions), start=1):
        line = _plain(line).removesuffix("\n")
        match = _HEAD.match(line)
        if match is not None or length > _MOST:
            yield from _turn(turn, lines)
            turn, lines, length = Turn("", turn.speaker, turn.moment, number), [], 0
        if match is not None:
            written, line = match[0].strip(" []-–"), line[match.end() :]
            name = _NAME.match(line)
            turn = Turn("", name["name"] if name else "", Moment(written, _seconds(match, day_first)), number)
            line = line[name.end() :] if name else line
        lines.append(line)
        length += len(line)
    yield from _turn(turn, lines)


def _turn(turn: Turn, lines: list[str]) -> Iterator[str | Mark]:
    """A turn of so many lines; nothing for one that stands for what the export left out."""
    text = "\n".join(lines).rstrip()
    if text and not _OMITTED.fullmatch(text):
        yield from turn_portions(Turn(text, turn.speaker, turn.moment, turn.line), end="\n")


def _plain(line: str) -> str:
    """A line without signs of the direction of writing, its narrow spaces as spaces."""
    return line.translate(_SIGNS).replace("\u202f", " ").replace("\xa0", " ")


def _fields(match: re.Match[str]) -> dict[str, str]:
    """The parts of the date of a message that are there."""
    return {name.removeprefix("a_"): value for name, value in match.groupdict().items() if value is not None}


def _seconds(match: re.Match[str], day_first: bool) -> float | None:
    """The unix seconds of a date, its time taken as UTC; None for a day that does not exist."""
    fields = _fields(match)
    if "year" in fields:
        year, month, day = (int(fields[key]) for key in ("year", "month", "day"))
    elif len(fields["left"]) == 4:
        year, month, day = (int(fields[key]) for key in ("left", "middle", "right"))
    else:
        day, month, year = (int(fields[key]) for key in ("left", "middle", "right"))
        day, month = (day, month) if day_first else (month, day)
    hour, half = int(fields["hour"]), fields.get("half") or fields.get("ap", "").lower()
    if fields.get("ap"):
        hour %= 12
    hour += 12 if half in _AFTERNOON and hour < 12 else 0
    year += 2000 if year < 100 else 0
    try:
        moment = datetime(year, month, day, hour, int(fields["minute"]), int(fields.get("second", 0)), tzinfo=UTC)
        return moment.timestamp()
    except ValueError:
        return None
