"""A document segment by segment: its passages, which are cited, and their sentences, each with where it stands.

A segment is what is looked at in one step: passages that follow one another, as many as its length holds. It ends before a new
chapter. Only one chunk of the document is held at a time.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from memspan.assistant.locations import Location, has_lines, location_of
from memspan.data.chunking import sentence_spans, split_passages
from memspan.data.documents import Document
from memspan.data.marks import Chunk, Value, in_force, marks_of_passages
from memspan.data.scripts import words

PASSAGE = 1_200  # characters, at most
SEGMENT = 8_000  # characters of passages, about
FEWEST_WORDS = 4  # of a sentence that can say something
LEAST_LETTERS = 0.55  # of the characters of a sentence that are no white space; programs and tables have fewer

# What an edition adds to a book stands outside of these lines.
_EDITION = re.compile(r"^\*\*\* ?(START|END) OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*\n?", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]{0,3}(?:```|~~~)", re.MULTILINE)
_NO_PROSE = re.compile(r"#{1,6}\s|[|+]|<|\\[a-z]|\$\$|!\[|\*\*\*")
_LIST_MARK = re.compile(r"(?:[-*+•]|\d{1,2}[.)、])\s+")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a document.

    Attributes:
        start, end: characters of the document; white space within a sentence counts as it stands there.
        text: in one line.
        passage: the number of its passage in the document, from 0.
        location: its chapter, page and line, as far as they are known.
        says: whether it is prose; a heading, a row of a table or a line of a program is not.
    """

    start: int
    end: int
    text: str
    passage: int
    location: Location
    says: bool


@dataclass(frozen=True)
class Passage:
    """A passage of a document: its number from 0, its characters, and where it begins."""

    number: int
    start: int
    end: int
    text: str
    location: Location


@dataclass
class DocumentSegment:
    """Passages that follow one another."""

    number: int
    passages: list[Passage] = field(default_factory=list)
    sentences: list[Sentence] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(passage.text for passage in self.passages)


def segments(document: Document, length: int = SEGMENT) -> Iterator[DocumentSegment]:
    """The segments of a document of about `length` characters, in order.

    Raises UnreadableSource for a document that turns out to be unreadable.
    """
    segment, size, chapter = DocumentSegment(0), 0, None
    for passage, sentences in _passages(document):
        other = passage.location.chapter != chapter
        if segment.passages and (size + len(passage.text) > length or (other and size > length // 4)):
            yield segment
            segment, size = DocumentSegment(segment.number + 1), 0
        segment.passages.append(passage)
        segment.sentences += sentences
        size, chapter = size + len(passage.text), passage.location.chapter
    if segment.passages:
        yield segment


def _passages(document: Document) -> Iterator[tuple[Passage, list[Sentence]]]:
    """The passages of a document with their sentences."""
    verbatim = has_lines(document.source)
    start, line, number, is_code = 0, 1, 0, False
    holding: dict[str, Value] = {}
    for chunk in document.marked_chunks():
        begin, end, is_over = _edited(chunk)
        body = _between(chunk, begin, end, holding)
        spans = split_passages(body, PASSAGE)
        marks, _ = marks_of_passages(body, spans, {})
        for (first, last), mark in zip(spans, marks, strict=True):
            text = body.text[first:last]
            if not text.isspace():
                lines = line + chunk.text.count("\n", 0, begin + first) if verbatim else None
                passage = Passage(
                    number, start + begin + first, start + begin + last, text, _location(mark, lines, text, 0)
                )
                yield passage, _sentences(passage, body, first, lines, is_code)
                number += 1
            is_code = is_code != (len(_FENCE.findall(text)) % 2 == 1)
        if is_over:
            return
        holding = in_force((mark for _, mark in chunk.marks), holding)
        start, line = start + len(chunk), line + chunk.text.count("\n")


def _between(chunk: Chunk, start: int, end: int, before: Mapping[str, Value]) -> Chunk:
    """The characters `[start, end)` of a chunk with all marks that hold there."""
    body = chunk.behind(start, before)
    return Chunk(body[: end - start], [(offset, mark) for offset, mark in body.marks if offset < end - start])


def _edited(chunk: Chunk) -> tuple[int, int, bool]:
    """Between which characters of a chunk the text of its author stands, and whether it ends there."""
    begin, end, is_over = 0, len(chunk), False
    for match in _EDITION.finditer(chunk):
        if match[1] == "START":
            begin = match.end()
        else:
            end, is_over = match.start(), True
            break
    return begin, end, is_over


def _sentences(passage: Passage, body: Chunk, first: int, lines: int | None, is_code: bool) -> list[Sentence]:
    """The sentences of a passage, which begins at the character `first` of its chunk."""
    found = []
    fences = [match.start() for match in _FENCE.finditer(passage.text)]
    for start, end in sentence_spans(passage.text):
        text = passage.text[start:end]
        fenced = is_code != (sum(fence <= start for fence in fences) % 2 == 1)
        held = in_force(mark for offset, mark in body.marks if offset <= first + start)
        location = _location(held, lines, passage.text, start)
        says = not fenced and is_prose(text)
        span = passage.start + start, passage.start + end
        found.append(Sentence(*span, " ".join(text.split()), passage.number, location, says))
    return found


def _location(marks: Mapping[str, Value], lines: int | None, text: str, start: int) -> Location:
    """Where the character `start` of the text of a passage stands; `lines` is the number of the passage's first line."""
    location = location_of(marks)
    heading = marks.get("heading")
    if location.chapter is None and isinstance(heading, str):
        location = replace(location, chapter=heading)
    if location.line is None and lines is not None:
        location = replace(location, line=lines + text.count("\n", 0, start))
    return location


def is_prose(text: str) -> bool:
    """Whether a sentence can say something: it is no heading, no row of a table and no line of a program."""
    stripped = _LIST_MARK.sub("", text.strip(), count=1)
    solid = [character for character in stripped if not character.isspace()]
    letters = sum(character.isalpha() for character in solid)
    return (
        _NO_PROSE.match(stripped) is None
        and not stripped.endswith((":", "："))
        and len(words(stripped)) >= FEWEST_WORDS
        and letters >= LEAST_LETTERS * len(solid)
    )
