"""Where a text stands in its source, as readers name it: the chapter, the page, the line."""

from collections.abc import Mapping
from dataclasses import dataclass

from memspan.data.formats import FORMATS
from memspan.memory import View
from memspan.memory.lines import line_of

Marks = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Location:
    """A chapter, a page and a line, counted from 1, as far as they are known."""

    chapter: str | None = None
    page: int | None = None
    line: int | None = None

    def __str__(self) -> str:
        """For example "Chapter 3, page 12, line 4"; empty if nothing is known."""
        numbers = [f"{noun} {number:,}" for noun, number in (("page", self.page), ("line", self.line)) if number]
        return ", ".join([*([self.chapter] if self.chapter else []), *numbers])


def locate(view: View, number: int, start: int, marks: Marks) -> Location:
    """Where the character `start` of its source, which stands in the passage `number`, is found.

    Lines are counted in the stored text, and only for plain text and Markdown, whose lines are those of the file.

    Args:
        marks: of the passage: its chapter, its page, the line that it begins with.
    """
    chapter, page, line = (marks.get(kind) for kind in ("chapter", "page", "line"))
    passage = view.passage(number)
    if isinstance(line, int):
        line += passage.text.count("\n", 0, max(0, start - passage.start))
    elif page is None and view.sources[passage.source].kind == "document" and has_lines(passage.source):
        line = line_of(view, passage.source, start)
    else:
        line = None
    return Location(chapter if isinstance(chapter, str) else None, page if isinstance(page, int) else None, line)


def has_lines(document: str) -> bool:
    """Whether the text of a document of this name has the lines of its file: no suffix of a format that is converted to text."""
    others = [suffix for format in FORMATS if not format.verbatim for suffix in format.suffixes]
    return not document.partition("#")[0].casefold().endswith(tuple(others)) and "://" not in document
