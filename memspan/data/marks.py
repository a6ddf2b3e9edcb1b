"""Marks: what holds of a text from some character on, such as its heading, its speaker, or when it happened.

A format yields marks between portions of text. They travel with the text, by character offsets, and end as facts about
passages; the text itself is never changed by them.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from memspan.data.positions import CHANGES, LONGEST_CHANGES, POSITIONS, of_passage
from memspan.data.positions import Value as Value  # part of a mark

KINDS: Final = (
    *(
        "title",
        "file",
        "chapter",
        "heading",
        "page",
        "line",
        "time",
        "box",
        "date",
        "happened",
        "from",
        "to",
        "speaker",
    ),
)
LONGEST_VALUE = 200  # characters of a mark that is a text: a heading, not a paragraph
SPEAKERS: Final = "speakers"  # a mark of passages alone: the names of all who speak in it, if several, a line for each
LONGEST_SPEAKERS = 1_000  # characters; names beyond them are left out
_LONGEST: Final = {SPEAKERS: LONGEST_SPEAKERS} | dict.fromkeys(CHANGES, LONGEST_CHANGES)

_WITH_LINES = frozenset({"title", "chapter", "heading", "date"})  # the line that says so often stands in the text
_BESIDE_THE_VALUE = 24  # characters that such a line has beside the value: "## ", "Session of ", brackets
_WORD = re.compile(r"\w")
_NOT_SPACE = re.compile(r"\S")


@dataclass(frozen=True)
class Mark:
    """What holds of the text that follows, until the next mark of the same kind.

    Attributes:
        kind: one of KINDS.
        value: of "page" and "line" a whole number, of "time" seconds from the start of a recording, of "happened" unix
            seconds, of "date" the date as written, of "box" four numbers as text (`memspan.data.positions`), of others a
            text. None ends the mark before it: from here on nothing of this kind is known.
    """

    kind: str
    value: Value | None


class Chunk(str):
    """A stretch of text with its marks.

    Attributes:
        marks: pairs of a character offset within the chunk, ascending, and the mark that holds from there on.
    """

    marks: tuple[tuple[int, Mark], ...]

    def __new__(cls, text: str, marks: Iterable[tuple[int, Mark]] = ()) -> "Chunk":
        chunk = super().__new__(cls, text)
        chunk.marks = tuple(marks)
        return chunk

    @property
    def text(self) -> str:
        """The text without its marks."""
        return str(self)

    def behind(self, start: int, before: Mapping[str, Value]) -> "Chunk":
        """The rest from character `start` on, with what holds there as marks of its first character.

        Args:
            before: what holds where this chunk begins.
        """
        passed = in_force((mark for offset, mark in self.marks if offset < start), before)
        held = [(0, Mark(kind, value)) for kind, value in passed.items()]
        return Chunk(self[start:], [*held, *((offset - start, mark) for offset, mark in self.marks if offset >= start)])


def portions(text: Chunk) -> Iterator[str | Mark]:
    """The text in stretches, each behind the marks that hold from its first character on."""
    start = 0
    for offset, mark in text.marks:
        if offset > start:
            yield text[start:offset]
            start = offset
        yield mark
    yield text[start:]


def in_force(marks: Iterable[Mark], before: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """What holds after `marks`, by kind, where `before` held ahead of them."""
    holding = dict(before or {})
    for mark in marks:
        holding.pop(mark.kind, None)
        if mark.value is not None:
            longest = _LONGEST.get(mark.kind, LONGEST_VALUE)
            holding[mark.kind] = mark.value[:longest] if isinstance(mark.value, str) else mark.value
    return holding


def marks_of_passages(
    chunk: Chunk, spans: Sequence[tuple[int, int]], before: Mapping[str, Value]
) -> tuple[list[dict[str, Value]], dict[str, Value]]:
    """What holds of each passage of a chunk, and what holds at the end of the chunk.

    A passage has the marks in force at its first character. Those of the headings and dates with which it begins count
    too, so that the first passage of a chapter has its number, its name and its date. A passage that several speakers
    share has the first as its speaker, and all of them as SPEAKERS. Its page, time and box are as in
    `memspan.data.positions`.

    Args:
        spans: the first and the end character of each passage; they tile the chunk.
        before: what holds where the chunk begins.
    """
    offsets = [offset for offset, _ in chunk.marks]
    holding, passages, passed = dict(before), [], 0
    for start, end in spans:
        first = bisect_left(offsets, start)
        holding = in_force((mark for _, mark in chunk.marks[passed:first]), holding)
        held = in_force(_opening_marks(chunk, start, end, first), holding)
        within = chunk.marks[first : bisect_left(offsets, end)]
        speakers = _speakers(held, within)
        passages.append(
            of_passage({**held, SPEAKERS: speakers} if "\n" in speakers else held, _positions(start, within))
        )
        passed = first
    return passages, in_force((mark for _, mark in chunk.marks[passed:]), holding)


def _speakers(held: Mapping[str, Value], marks: Iterable[tuple[int, Mark]]) -> str:
    """The names of those who speak in a passage, a line for each.

    Args:
        held: what holds at its beginning.
        marks: that are within it, with their offsets; of several at one offset the last counts.
    """
    within = {(offset, mark.kind): mark.value for offset, mark in marks if mark.kind in ("speaker", SPEAKERS)}
    values = [held.get("speaker"), held.get(SPEAKERS), *within.values()]
    texts = [line for value in values for line in speakers_in(value)]
    speakers = ""
    for name in dict.fromkeys(" ".join(text.split())[:LONGEST_VALUE] for text in texts):
        if name and len(speakers) + len(name) < LONGEST_SPEAKERS:
            speakers += f"\n{name}" if speakers else name
    return speakers


def _positions(start: int, marks: Iterable[tuple[int, Mark]]) -> dict[str, list[tuple[int, Value | None]]]:
    """The changes of pages, times and boxes behind the first character, `start`, of a passage."""
    changes: dict[str, dict[int, Value | None]] = {kind: {} for kind in POSITIONS}
    for offset, mark in marks:
        if mark.kind in POSITIONS and offset > start:
            changes[mark.kind][offset - start] = mark.value
    return {kind: list(found.items()) for kind, found in changes.items()}


def speakers_in(value: object) -> list[str]:
    """The names in the value of a mark of one speaker or of several."""
    return value.split("\n") if isinstance(value, str) else []


def _opening_marks(chunk: Chunk, start: int, end: int, first: int) -> Iterator[Mark]:
    """The marks, from number `first` on, of the first words of the passage `[start, end)` and of headings ahead of them."""
    marks, position = chunk.marks, start
    while position < end:
        word = _NOT_SPACE.search(chunk, position, end)
        line_start = end - 1 if word is None else word.start()
        line_end = chunk.find("\n", line_start, end)
        line = chunk[line_start : end if line_end < 0 else line_end]
        is_heading = _WORD.search(line) is None  # also the line under a heading, or between a heading and the text
        while first < len(marks) and marks[first][0] <= line_start:
            yield marks[first][1]
            is_heading = is_heading or says_little_else(marks[first][1], line)
            first += 1
        if not is_heading or line_end < 0:
            return
        position = line_end + 1


def says_little_else(mark: Mark, line: str) -> bool:
    """Whether a line says what the mark of a heading or a date says, and little else."""
    value = mark.value
    return (
        mark.kind in _WITH_LINES
        and isinstance(value, str)
        and value[:LONGEST_VALUE] in line
        and len(line) <= len(value) + _BESIDE_THE_VALUE
    )
