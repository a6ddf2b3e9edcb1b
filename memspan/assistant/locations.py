"""Where a text stands in its source, as readers name it: the chapter, the page, the line, the time, the box."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from memspan.data.formats import FORMATS
from memspan.data.marks import SPEAKERS
from memspan.data.positions import Box, box_within, clock, value_at
from memspan.memory import View
from memspan.memory.lines import line_of

Marks = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Location:
    """A chapter, a page, a line, a time and a box, as far as they are known.

    Attributes:
        page, line: counted from 1.
        time: seconds from the start of a recording.
        speaker: who speaks then, where the passage has a single speaker; the text names them where there are several.
        box: x, y, width and height from the upper left corner of the page, in pixels of a picture or points of a PDF.
    """

    chapter: str | None = None
    page: int | None = None
    line: int | None = None
    time: float | None = None
    speaker: str | None = None
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        """Records hold the box as a list."""
        if self.box is not None:
            object.__setattr__(self, "box", Box(*self.box))

    def __str__(self) -> str:
        """For example "Chapter 3, page 12, line 4"; "at 00:12:05" in a recording; empty if nothing is known."""
        numbers = [f"{noun} {number:,}" for noun, number in (("page", self.page), ("line", self.line)) if number]
        times = [] if self.time is None else [f"at {clock(self.time)}", *([self.speaker] if self.speaker else [])]
        boxes = [] if self.box is None else [f"at x {self.box[0]:.0f}, y {self.box[1]:.0f}"]
        return ", ".join([*([self.chapter] if self.chapter else []), *numbers, *times, *boxes])


def locate(view: View, number: int, start: int, marks: Marks, end: int | None = None) -> Location:
    """Where the characters from `start` on of its source, which stand in the passage `number`, are found.

    Lines are counted in the stored text, and only for plain text and Markdown, whose lines are those of the file.

    Args:
        marks: of the passage: its chapter, its pages, times and boxes, the line that it begins with.
        end: the box is around the characters before it; None for those up to the end of the passage.
    """
    passage = view.passage(number)
    offset = max(0, start - passage.start)
    location = location_of(marks, offset, None if end is None else end - passage.start)
    if isinstance(location.line, int):
        return replace(location, line=location.line + passage.text.count("\n", 0, offset))
    if location.page is None and view.sources[passage.source].kind == "document" and has_lines(passage.source):
        return replace(location, line=line_of(view, passage.source, start))
    return location


def location_of(marks: Marks, start: int = 0, end: int | None = None) -> Location:
    """Where the characters `[start, end)` of a passage stand by its marks alone, with the line that the passage begins with."""
    chapter, line = marks.get("chapter"), marks.get("line")
    page, time = (value_at(marks, kind, start) for kind in ("page", "time"))
    speaker = marks.get("speaker") if time is not None and SPEAKERS not in marks else None
    return Location(
        chapter if isinstance(chapter, str) else None,
        page if isinstance(page, int) else None,
        line if isinstance(line, int) else None,
        float(time) if isinstance(time, int | float) else None,
        speaker if isinstance(speaker, str) else None,
        box_within(marks, start, end),
    )


def has_lines(document: str) -> bool:
    """Whether the text of a document of this name has the lines of its file: no suffix of a format that is converted to text."""
    others = [suffix for format in FORMATS if not format.verbatim for suffix in format.suffixes]
    return not document.partition("#")[0].casefold().endswith(tuple(others)) and "://" not in document
