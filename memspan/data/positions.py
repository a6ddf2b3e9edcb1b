"""Positions within a passage: on which page, at what time of a recording and in which box of a page its words stand.

    page = 3, pages = "0 3\n640 4"                          from character 640 of the passage on, it is page 4
    time = 12.5, times = "0 12.5\n48 15.2"                  seconds from the start of the recording
    box = "72 90 400 31", boxes = "0 72 90 400 14\n41 72 107 380 14"

A passage has its page and its time where it begins, and the box around all that it holds of its first page: x, y, width
and height from the upper left corner of the page, in pixels of a picture or points of a PDF. Where one of them changes
within the passage, the second mark gives for each change the character, counted from the first of the passage, and the
value from there on, "-" for none.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

Value = str | int | float

POSITIONS: Final = {"page": "pages", "time": "times", "box": "boxes"}
"""The kinds of marks that are positions, and for each the kind of mark that gives its changes within a passage."""

CHANGES: Final = frozenset(POSITIONS.values())
LONGEST_CHANGES = 1_000  # characters of a mark of changes; where there are more, neighbours are given as one

_NONE = "-"


class Box(NamedTuple):
    """A rectangle: its left and upper edge from those of its page, and its size, in pixels or points."""

    x: float
    y: float
    width: float
    height: float

    def __str__(self) -> str:
        """The four numbers, to a tenth, as in the marks."""
        return " ".join(f"{number:.1f}".removesuffix(".0") for number in self)

    def around(self, other: "Box") -> "Box":
        """The smallest box that holds both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        right = max(self.x + self.width, other.x + other.width)
        return Box(x, y, right - x, max(self.y + self.height, other.y + other.height) - y)


def box_of(value: object) -> Box | None:
    """The box that a mark gives; None for what is none."""
    try:
        box = Box(*map(float, value.split())) if isinstance(value, str) else None
    except (ValueError, TypeError):
        return None
    return box if box is not None and all(map(math.isfinite, box)) else None


def clock(seconds: float) -> str:
    """A time of a recording as players show it, in whole seconds: 00:12:03."""
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


Changes = Sequence[tuple[int, Value | None]]
"""Characters of a passage, ascending from 0, and the value from each on."""


def of_passage(held: Mapping[str, Value], changes: Mapping[str, Changes]) -> dict[str, Value]:
    """The marks of a passage with its positions.

    Args:
        held: what holds where it begins.
        changes: for kinds of POSITIONS those within the passage, behind its first character.
    """
    found = dict(held)
    for kind, later in changes.items():
        if later:
            found[POSITIONS[kind]] = _written(kind, [(0, held.get(kind)), *later])
    if "boxes" in found or "box" in found:
        box = box_within(found, 0, None)
        found = {key: value for key, value in found.items() if key != "box"} | (
            {} if box is None else {"box": str(box)}
        )
    return found


def value_at(marks: Mapping[str, Value], kind: str, offset: int) -> Value | None:
    """The page or the time at a character of a passage, counted from its first; None if it is not known."""
    entries = _entries(marks, kind)
    if not entries:
        return marks.get(kind)
    return entries[max(0, bisect_right(entries, offset, key=itemgetter(0)) - 1)][1]


def box_within(marks: Mapping[str, Value], start: int, end: int | None) -> Box | None:
    """The box around the characters `[start, end)` of a passage, as far as they stand on the page of the first of them.

    Args:
        start, end: characters counted from the first of the passage; None for its end.
    """
    entries = _entries(marks, "box")
    if not entries:
        return box_of(marks.get("box"))
    page_end = next((offset for offset, _ in _entries(marks, "page") if offset > start), None)
    last = min(math.inf if bound is None else bound for bound in (end, page_end))
    first = max(0, bisect_right(entries, start, key=itemgetter(0)) - 1)
    found = None
    for number, (offset, value) in enumerate(entries[first:]):
        box = box_of(value)
        if box is not None and (number == 0 or offset < last):
            found = box if found is None else found.around(box)
    return found


def changes_of(marks: Mapping[str, Value]) -> Iterator[tuple[int, str, Value | None]]:
    """The changes within a passage: the character, counted from its first, the kind and the value from there on."""
    found = [(offset, kind, value) for kind in POSITIONS for offset, value in _entries(marks, kind)]
    yield from sorted(found, key=itemgetter(0))


def _entries(marks: Mapping[str, Value], kind: str) -> list[tuple[int, Value | None]]:
    """The changes of a kind; none if nothing changes, or for a mark that cannot be read."""
    written = marks.get(POSITIONS[kind])
    found = list[tuple[int, Value | None]]()
    for line in written.split("\n") if isinstance(written, str) else []:
        offset, _, value = line.partition(" ")
        try:
            found.append((int(offset), None if value == _NONE else _parsed(kind, value)))
        except ValueError:
            return []
    return sorted(found, key=itemgetter(0))


def _parsed(kind: str, value: str) -> Value:
    """Raises ValueError for what is no value of this kind."""
    if kind == "page":
        return int(value)
    if kind == "box":
        if (box := box_of(value)) is None:
            raise ValueError(value)
        return str(box)
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(value)
    return seconds


def _written(kind: str, changes: Changes) -> str:
    """Changes as the value of a mark; neighbours are given as one until it is short enough."""
    while True:
        written = "\n".join(f"{offset} {_NONE if value is None else _text(value)}" for offset, value in changes)
        if len(written) <= LONGEST_CHANGES:
            return written
        pairs = zip(changes[::2], [*changes[1::2], None], strict=False)
        changes = [first if kind != "box" or second is None else _joined(first, second) for first, second in pairs]


def _text(value: Value) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _joined(first: tuple[int, Value | None], second: tuple[int, Value | None]) -> tuple[int, Value | None]:
    """Two neighbouring boxes as one."""
    boxes = [box for box in (box_of(first[1]), box_of(second[1])) if box is not None]
    return first[0], None if not boxes else str(boxes[0].around(boxes[-1]))
