"""Turns of a dialogue as text with marks: who says something, and when."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from memspan.data.dates import LONGEST_DATE, moment
from memspan.data.marks import Mark

LONGEST_NAME = 100  # characters of the name of a speaker, which is repeated in every turn
_EPOCHS = ((1e8, 1e11, 1.0), (1e11, 1e14, 1e3), (1e14, 1e17, 1e6), (1e17, 1e20, 1e9))  # from, to, units in a second


@dataclass(frozen=True)
class Moment:
    """A date as it is written, "" if it is only a number, and its unix seconds if it is a whole date."""

    written: str = ""
    seconds: float | None = None

    def marks(self) -> Iterator[Mark]:
        """The marks of the date; they end those of an earlier date where this one is unknown."""
        yield Mark("date", self.written or None)
        yield Mark("happened", self.seconds)


UNKNOWN = Moment()


@dataclass(frozen=True)
class Turn:
    """What one speaker says.

    Attributes:
        speaker: "" if that is not known.
        line: of the file, from 1, where the turn begins, if its lines are those of the file.
    """

    text: str
    speaker: str = ""
    moment: Moment = UNKNOWN
    line: int | None = None


def turn_portions(turn: Turn, end: str = "\n\n") -> Iterator[str | Mark]:
    """A turn as "Ann: Good morning." behind its marks, so that a passage of several turns says who speaks in each."""
    speaker = name_of(turn.speaker)
    if turn.line is not None:
        yield Mark("line", turn.line)
    yield from turn.moment.marks()
    yield Mark("speaker", speaker or None)
    yield f"{speaker}: {turn.text}{end}" if speaker else f"{turn.text}{end}"


def conversation_head(title: str, moment: Moment) -> Iterator[str | Mark]:
    """The beginning of a conversation: its title as a paragraph, and marks that end those of the one before it."""
    title = " ".join(title.split())
    yield from moment.marks()
    yield Mark("speaker", None)
    yield Mark("heading", title or None)
    if title:
        yield f"{title}\n\n"


def name_of(value: str) -> str:
    """The name of a speaker in one line of at most LONGEST_NAME characters."""
    return " ".join(value[: 4 * LONGEST_NAME].split())[:LONGEST_NAME].rstrip()


def moment_of(value: Any) -> Moment:
    """The moment that a value of JSON stands for: a date as text, or the time since 1970 in seconds or parts of them."""
    if isinstance(value, str) and len(value) <= LONGEST_DATE:
        seconds = moment(value)
        number = None if seconds is not None else _number(value)
        return Moment(value, seconds) if number is None else Moment("", _since_1970(number))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Moment("", _since_1970(value))
    return UNKNOWN


def _number(text: str) -> float | None:
    """A text of digits, perhaps with decimals, as a number; None for any other."""
    whole, _, decimals = text.strip().partition(".")
    is_number = whole.isascii() and whole.isdigit() and len(whole) < 20 and (not decimals or decimals.isdecimal())
    return float(f"{whole}.{decimals or 0}") if is_number else None


def _since_1970(number: float) -> float | None:
    """Unix seconds by the size of a number: seconds from 1973 on, or thousandths, millionths or billionths of them."""
    if isinstance(number, float) and not math.isfinite(number):
        return None
    return next((number / units for low, high, units in _EPOCHS if low <= number < high), None)
