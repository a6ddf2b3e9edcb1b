"""Headings, dates and speakers that a plain text shows by the form of its lines.

    text -> text with marks: "## Results", "Chapter 3", "2.1 Scope", "[1:56 pm on 8 May, 2023]", "Ann: Good morning."

A heading is a line of its own form, not whatever is short: Markdown's two forms, a chapter with its number, and a
numbered line that stands alone. Nothing is taken from the text: the lines stay where they are.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from memspan.data.dates import date_of_line, moment
from memspan.data.marks import Mark

BLOCK = 64 * 1024  # characters that are looked at together, more or less: they end with a paragraph
LONGEST_HEADING = 120  # characters
HEAD_LINES = 5  # a date within the first lines of a text holds for all of it
MOST_SPEAKERS = 1000  # of a text

_NUMERAL = (
    r"(?:\d{1,4}|[ivxlcdm]{1,8}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|the (?:first|last))"
)
_CHAPTER = re.compile(
    rf"(?:chapter|book|part|act|scene|canto|letter|volume|appendix|section)[ \t]+{_NUMERAL}(?![^\W_])(?P<rest>[^\n]{{0,80}})"
    r"|(?:prologue|epilogue|preface|introduction|foreword)\.?(?P<none>)"
    r"|第[ ]?[\d一二三四五六七八九十百千零〇两]{1,7}[ ]?[章回节節卷部篇集](?P<chinese>[^\n。！？]{0,60})",
    re.I,
)
_ATX = re.compile(r"(?P<level>#{1,6})[ \t]+(?P<title>[^\n]*?)[ \t]*#*[ \t]*")
_UNDERLINE = re.compile(r"[ ]{0,3}(?:={3,}|-{3,}|~{3,})[ \t]*")
_NUMBERED = re.compile(r"(?P<number>\d{1,3}(?:\.\d{1,3}){0,4})(?P<dot>\.?)[ \t]+[^\W\d_][^\n]{0,90}")
_ROMAN = re.compile(r"[IVXLC]{1,7}\.[ \t]+[^\na-z]{3,80}")
_FENCE = re.compile(r"[ ]{0,3}(?:```|~~~)")
_SENTENCE_END = re.compile(r"[.!?,;:。！？，；：…][\"'”’)）」』]*$")
_TURN = re.compile(
    r"(?m)^[ \t]{0,3}(?:\*{1,2}|(?:\[[^\]\n]{1,30}\]|\(\d[^)\n]{1,20}\))[ \t]+)?"
    r"(?P<name>[^\W\d_][^\n:：\[\]()（）.!?。！？,，;；\"“]{0,38}?)[ \t]*(?:\([^)\n]{1,30}\))?(?::\*{0,2}[ \t]|\*{1,2}:[ \t]|：)"
)
_DIALOGUE = 0.25  # of the lines of a text begin a turn where it is a dialogue
_FRONT_MATTER = re.compile(r"---[ \t]*\n((?:[^\n]{0,500}\n){1,100}?)(?:---|\.\.\.)[ \t]*(?:\n|$)")
_FIELD = re.compile(r"(?m)^(?P<key>title|date|created|published|author)[ \t]*:[ \t]*(?P<value>[^\n]+?)[ \t]*$", re.I)


def with_headings(portions: Iterable[str]) -> Iterator[str | Mark]:
    """The portions of a text, with marks where its lines show a heading, a date or a speaker.

    The text is yielded unchanged, in other portions: at most BLOCK characters and one portion are held at a time.
    """
    finder = _Finder()
    for block in _blocks(portions):
        start = 0
        for offset, mark in finder.marks(block):
            if start < offset:
                yield block[start:offset]
                start = offset
            yield mark
        yield block[start:]


def date_marks(written: str) -> list[Mark]:
    """The marks of a date as it is written: the date and, where it is a whole one, when it happened."""
    seconds = moment(written)
    return [Mark("date", written), Mark("happened", seconds)]


def _blocks(portions: Iterable[str]) -> Iterator[str]:
    """A stream of text in blocks that end with a paragraph, or else with a line, and are never empty."""
    pending = ""
    for portion in portions:
        pending += portion
        if len(pending) >= BLOCK:
            end = pending.rfind("\n\n") + 2
            end = end if end > 1 else pending.rfind("\n") + 1 or len(pending)
            yield pending[:end]
            pending = pending[end:]
    if pending:
        yield pending


class _Finder:
    """Finds the marks of a text, given block by block."""

    def __init__(self) -> None:
        self._is_first = True
        self._is_fenced = False  # within a block of code
        self._lines = 0  # that are not blank, so far
        self._level = 0  # of the last heading; 0 before the first
        self._date_level: int | None = None  # of the heading under which the last date stands
        self._of_text: list[Mark] = []  # the date of the whole text
        self._speakers: set[str] = set()

    def marks(self, block: str) -> list[tuple[int, Mark]]:
        """The marks of the next block, with their offsets in it."""
        found: list[tuple[int, Mark]] = []
        start = self._front_matter(block, found) if self._is_first else 0
        self._is_first = False
        lines = block[start:].split("\n")
        for number, line in enumerate(lines):
            if line and not line.isspace():
                self._lines += 1
                found += [(start, mark) for mark in self._marks_of_line(lines, number)]
            start += len(line) + 1
        turns = self._turns(block)
        headings = {offset for offset, _ in found}
        found += [(offset, mark) for offset, mark in turns if offset not in headings]
        return sorted(found, key=lambda item: item[0])

    def _front_matter(self, block: str, found: list[tuple[int, Mark]]) -> int:
        """Where the text behind the front matter of Markdown begins; adds what that says of title and date."""
        match = _FRONT_MATTER.match(block)
        if match is None:
            return 0
        fields = {field["key"].lower(): field["value"].strip("\"' ") for field in _FIELD.finditer(match[1])}
        if title := fields.get("title"):
            found.append((0, Mark("title", title)))
        date = next((fields[key] for key in ("date", "created", "published") if key in fields), "")
        if moment(date) is not None:
            self._of_text = date_marks(date)
            found += [(0, mark) for mark in self._of_text]
        return match.end()

    def _marks_of_line(self, lines: list[str], number: int) -> Iterator[Mark]:
        """The marks of one line, which is not blank, among the lines of its block."""
        line = lines[number]
        if len(line) > LONGEST_HEADING:
            return
        if _FENCE.match(line):
            self._is_fenced = not self._is_fenced
        if self._is_fenced:
            return
        stripped = line.strip()
        before, behind = _line(lines, number - 1), _line(lines, number + 1)
        if written := date_of_line(line):
            level = len(stripped) - len(stripped.lstrip("#"))
            yield from self._dated(written, level)
        elif (heading := _ATX.fullmatch(stripped)) and line[0] == "#":
            yield from self._headed(heading["title"], len(heading["level"]))
        elif not before and behind and _UNDERLINE.fullmatch(behind) and not _UNDERLINE.fullmatch(line):
            yield from self._headed(stripped, 1 if behind.strip()[0] == "=" else 2)
        elif not before and _is_chapter(stripped) and (not behind or _is_title(lines, number + 1)):
            yield from self._headed(f"{stripped} {behind.strip()}".rstrip(), 1)
        elif not before and not behind and _ROMAN.fullmatch(stripped):
            yield from self._headed(stripped, 1)
        elif not before and not behind and (numbered := _NUMBERED.fullmatch(stripped)) and not _is_list(lines, number):
            yield from self._headed(stripped, 1 + numbered["number"].count("."))

    def _headed(self, title: str, level: int) -> Iterator[Mark]:
        """The marks of a heading: it ends what the heading before it said, and a date under one of its level."""
        self._level = level
        if not title:
            return
        if _is_chapter(title):
            yield Mark("chapter", title)
            yield Mark("heading", None)
        else:
            yield Mark("heading", title)
        yield Mark("speaker", None)
        if self._date_level is not None and level <= self._date_level:
            self._date_level = None
            yield from self._of_text or [Mark("date", None), Mark("happened", None)]

    def _dated(self, written: str, level: int) -> Iterator[Mark]:
        """The marks of a line that is a date, a heading itself if it has a level."""
        marks = date_marks(written)
        if self._lines <= HEAD_LINES and not self._of_text:
            self._of_text = marks
        self._level = level or self._level
        self._date_level = self._level or None
        yield from marks
        yield Mark("speaker", None)

    def _turns(self, block: str) -> list[tuple[int, Mark]]:
        """The turns of a dialogue: lines that begin with a name and a colon, if so many do that it is one."""
        turns = [(match.start(), match["name"].strip()) for match in _TURN.finditer(block)]
        names = Counter(name for _, name in turns)
        often = {name for name, count in names.items() if count > 1}
        count = sum(names[name] for name in often)
        lines = sum(1 for line in block.split("\n") if line.strip())
        if len(often) > 1 and count >= _DIALOGUE * lines and len(self._speakers) < MOST_SPEAKERS:
            self._speakers |= often
        return [(offset, Mark("speaker", name)) for offset, name in turns if name in self._speakers]


def _line(lines: list[str], number: int) -> str:
    """A line of a block; empty if it is blank or beyond the block."""
    return lines[number] if 0 <= number < len(lines) and not lines[number].isspace() else ""


def _is_chapter(line: str) -> bool:
    """Whether a line that stands alone is that of a chapter: not a sentence that begins with the same word."""
    match = _CHAPTER.fullmatch(line)
    if match is None:
        return False
    rest = (match["rest"] or "").strip(" .:—–-")
    return not rest or match["chinese"] is not None or line.isupper() or not _SENTENCE_END.search(line)


def _is_title(lines: list[str], number: int) -> bool:
    """Whether a line below that of a chapter is its title: a single short line, no sentence and no other chapter."""
    line = lines[number].strip()
    return (
        len(line) <= LONGEST_HEADING // 2
        and not _line(lines, number + 1)
        and not _SENTENCE_END.search(line)
        and not _is_chapter(line)
    )


def _is_list(lines: list[str], number: int) -> bool:
    """Whether a numbered line that stands alone is an item of a list: a sentence, or near lines that are numbered too."""
    near = (
        lines[number],
        *_nearest(lines[number + 1 : number + 5]),
        *_nearest(lines[max(0, number - 4) : number][::-1]),
    )
    items = [match for line in near if (match := _NUMBERED.fullmatch(line.strip()))]
    return _SENTENCE_END.search(lines[number].rstrip()) is not None or (
        len(items) > 1 and "." not in items[0]["number"]
    )


def _nearest(lines: list[str]) -> list[str]:
    """The first line that is not blank; none if all are."""
    return [line for line in lines if line.strip()][:1]
