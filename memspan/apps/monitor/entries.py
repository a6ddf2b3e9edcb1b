"""Texts as they arrive: a record of a stream to a text with its time and its identity, or to a reason why it is none."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from memspan.data.columns import text_column
from memspan.data.dates import moment

LONGEST = 100_000  # characters of a text
AHEAD = 86400.0  # seconds by which the clock of a source may be ahead
_TIMES = ("time", "date", "timestamp", "created_at", "created", "published", "datetime", "时间", "日期")
_IDS = ("id", "_id", "guid", "uuid", "url", "link", "编号")
_UNIX = re.compile(r"[0-9]{9,13}(\.[0-9]+)?")  # seconds or milliseconds as a text
_MILLISECONDS = 1e11  # numbers beyond it count milliseconds: as seconds they would be of the year 5138


@dataclass(frozen=True)
class Fields:
    """The names of the fields of a record; None for those that are guessed."""

    text: str | None = None
    time: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Entry:
    """A text that arrived.

    Attributes:
        number: of its line or entry in the source, from 1.
        text: itself.
        time: unix seconds; None where the source says nothing.
        given: its id by the source; empty without one.
        identity: by which it is known again: its id within the source, else its text and time.
    """

    number: int
    text: str
    time: int | None
    given: str
    identity: bytes


class Opinion(NamedTuple):
    """What a text is about and how it speaks of it, with the probability of each."""

    topic: str
    topic_confidence: float
    sentiment: str
    sentiment_confidence: float


class Rejected(NamedTuple):
    """A line or entry that holds no text that can be used, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class Position:
    """How far a source is read.

    Attributes:
        offset: bytes read.
        lines: read.
        mark: hash of what was read first, by which a file that was replaced is recognised.
    """

    offset: int = 0
    lines: int = 0
    mark: str = ""


@dataclass
class Chunk:
    """What was read at once, and where the source stands behind it."""

    source: str
    position: Position
    entries: list[Entry] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, found: Entry | Rejected) -> None:
        (self.entries if isinstance(found, Entry) else self.rejected).append(found)  # type: ignore[arg-type]


def of_line(line: bytes, number: int, group: str, fields: Fields, now: float, as_json: bool) -> Entry | Rejected:
    """The text of a line: a JSON object, or the text itself.

    Args:
        group: within which ids are unique.
        now: unix seconds.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return Rejected(number, "is not UTF-8 text")
    if not as_json:
        return made(number, text.strip(), None, "", group, now)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return Rejected(number, "is no JSON object")
    if not isinstance(record, dict):
        return Rejected(number, "is no JSON object")
    return of_record(record, number, group, fields, now)


def of_record(record: Mapping[str, Any], number: int, group: str, fields: Fields, now: float) -> Entry | Rejected:
    """The text of a record."""
    time_field = fields.time or next((name for name in _TIMES if name in record), None)
    id_field = fields.id or next((name for name in _IDS if name in record), None)
    rest = {name: value for name, value in record.items() if name not in (time_field, id_field)}
    texts = {name: value for name, value in rest.items() if isinstance(value, str)}
    text = record.get(fields.text or text_column([texts]) or "text")
    if not isinstance(text, str):
        return Rejected(number, "has no text")
    when = None if time_field is None else record.get(time_field)
    given = "" if id_field is None else record.get(id_field)
    return made(number, text.strip(), when, "" if given is None else str(given), group, now)


def made(number: int, text: str, when: object, given: str, group: str, now: float) -> Entry | Rejected:
    """An entry, or why it is none."""
    if not text:
        return Rejected(number, "has no text")
    if len(text) > LONGEST:
        return Rejected(number, f"has a text of more than {LONGEST:,} characters")
    time = _seconds(when)
    if isinstance(time, str):
        return Rejected(number, time)
    if time is not None and time > now + AHEAD:
        return Rejected(number, "has a time in the future")
    known_by = ("id", group, given) if given else ("text", "" if when is None else str(when), text)
    identity = hashlib.sha256("\0".join(known_by).encode("utf-8", "surrogatepass")).digest()
    if any("\ud800" <= character <= "\udfff" for character in text):
        return Rejected(number, "is not UTF-8 text")
    return Entry(number, text, None if time is None else int(time), given, identity)


def _seconds(when: object) -> float | str | None:
    """Unix seconds of a number or a date; None for nothing; a sentence for anything else."""
    if when is None or when == "":
        return None
    if isinstance(when, str) and _UNIX.fullmatch(when):
        when = float(when)
    if isinstance(when, int | float) and not isinstance(when, bool) and math.isfinite(when):
        found: float | None = when / 1000 if abs(when) > _MILLISECONDS else float(when)
    else:
        found = moment(when) if isinstance(when, str) else None
    if found is None:
        return "has a time that is no date"
    return found if found >= 0 else "has a time before 1970"
