"""The units in which a document is translated: paragraphs, items of lists and headings, and what stands between them.

Joined, the units with what stands between them are the document: a translation keeps its paragraphs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from memspan.data.chunking import split_passages
from memspan.data.documents import Document

LONGEST = 1_200  # characters of a unit; a longer paragraph is translated in several

_PARAGRAPH_BREAK = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_OWN_LINE = re.compile(r"(?m)^[ \t]{0,8}(?:#{1,6}[ \t]|[-*+•][ \t]|\d{1,3}[.)、][ \t]?|>|\|)")
_MARK = re.compile(r"[ \t]*(?:#{1,6}[ \t]+|[-*+•][ \t]+|\d{1,3}[.)、][ \t]*|>[ \t]*)?")
_FENCE = re.compile(r"[ \t]{0,3}(?:```|~~~)")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Unit:
    """A stretch of a document.

    Attributes:
        text: what is to be translated; empty where nothing is.
        before, behind: what stays as it is: white space, the marks of lists and headings, programs.
    """

    before: str
    text: str
    behind: str = ""


def units(document: Document) -> Iterator[Unit]:
    """The units of a document in order; one chunk of it is held at a time.

    Raises UnreadableSource for a document that turns out to be unreadable.
    """
    is_code = False
    for chunk in document.chunks():
        start = 0
        for match in _PARAGRAPH_BREAK.finditer(chunk):
            for unit in _of_paragraph(str(chunk[start : match.start()]), is_code):
                is_code ^= _is_fence(unit)
                yield unit
            yield Unit(match[0], "")
            start = match.end()
        for unit in _of_paragraph(str(chunk[start:]), is_code):
            is_code ^= _is_fence(unit)
            yield unit


def _is_fence(unit: Unit) -> bool:
    return not unit.text and _FENCE.match(unit.before) is not None


def _of_paragraph(paragraph: str, is_code: bool) -> Iterator[Unit]:
    """The units of a paragraph: one, or its lines where they are items, headings or a program."""
    if is_code or _OWN_LINE.search(paragraph) or "```" in paragraph or "~~~" in paragraph:
        for line in paragraph.splitlines(keepends=True):
            if is_code or _FENCE.match(line):
                is_code ^= _FENCE.match(line) is not None
                yield Unit(line, "")
            else:
                yield from _parts(line)
    else:
        yield from _parts(paragraph)


def _parts(text: str) -> Iterator[Unit]:
    """A text without the mark and the white space around it, in units of at most `LONGEST` characters."""
    for start, end in split_passages(text, LONGEST):
        part = text[start:end]
        mark = _MARK.match(part)
        first = len(part) - len(part.lstrip()) if mark is None else mark.end()
        body = part[first:].strip()
        if not _LETTER.search(body):
            yield Unit(part, "")
            continue
        last = len(part.rstrip())
        yield Unit(part[:first] + part[first : last - len(body)], body, part[last:])
