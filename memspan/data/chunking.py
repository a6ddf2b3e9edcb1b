"""Where a text may be cut: into passages for retrieval, and into chunks for processing.

A passage is retrieved and shown, so it should be something a reader would quote: a paragraph with its heading, a run of
dialogue, some whole sentences of a long paragraph. Everything here counts characters of a Python string.
"""

import math
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter

from memspan.data.dates import DATE_LINE, date_of_line, day_of
from memspan.data.marks import Chunk, Mark, says_little_else

MAX_CHUNK = 64 * 1024  # characters

_CLOSING = r"""["'”’»」』）)\]】》〉]"""
_ABBREVIATION = r"(?<!\b[A-Z])(?<!\b(?:Mr|Ms|Dr|St|No|vs))(?<!\b(?:Mrs|etc))"
_SENTENCE = (
    rf"(?:{_ABBREVIATION}\.|[!?]){_CLOSING}*+\s++(?![a-z])"  # a lower-case letter goes on with the sentence
    rf"|[。！？；…]{_CLOSING}*+(?![。！？；…])\s*+"
)
# Also before a Markdown heading and before a date on a line of its own: both belong to what follows.
_PARAGRAPH_BREAK = re.compile(rf"\n(?:[^\S\n]*+\n)++|\n(?=#{{1,6}}[ \t]|{DATE_LINE}(?:\n|\Z))")
_SENTENCE_END = re.compile(_SENTENCE)
# A line end that is more than the wrapping of prose: after a whole sentence, or before an indent, a bullet, a number.
_LINE_OF_ITS_OWN = re.compile(rf"[.!?:。！？；：…]{_CLOSING}*+[^\S\n]*+\n|\n(?=[^\w\n\"'“‘「『（(]|\d)")
_LINE_END = re.compile(r"\n")
_CELLS = re.compile(r"[|\t]")
_LABELLED = re.compile(r"\S[^\n:]{0,40}: ")  # "Name: value", or a speaker and what they say
_CLAUSE_END = re.compile(rf"[,;:]{_CLOSING}*+\s++|[，、：]{_CLOSING}*+\s*+| [–—] ")
_WHITE_SPACE = re.compile(r"\s++")
_INSIDE_PARAGRAPH = (_LINE_OF_ITS_OWN, _SENTENCE_END, _LINE_END, _CLAUSE_END, _WHITE_SPACE)  # best first

_HEADING = re.compile(r"\s*+(?:#{1,6}[ \t][^\n]*|[^\n]{0,79}[^\n.!?,;。！？，；…\"'”’»」』）)\]】》〉])\s*")
MOST_HEADINGS = 3  # in a row, that a chunk leaves to the next one
_SHORT = 8  # a paragraph under 1/8 of the limit is short
_SHORT_TURN = 4  # the same for a turn of a dialogue, which says little without those before it
_FULL = 0.9  # parts of a long paragraph aim at this share of the limit, which leaves room for a good cut
_SECTIONS = frozenset({"line", "speaker", "heading", "chapter", "date"})  # kinds of marks that begin a unit
_HEADS = frozenset({"file", "chapter", "heading"})  # kinds of marks before which a passage ends
_EXTENDERS = re.compile("[\u200d\ufe00-\ufe0f\u1160-\u11ff\U0001f3fb-\U0001f3ff\udc00-\udfff]")


def split_passages(text: str, limit: int) -> list[tuple[int, int]]:
    """Cut `text` into passages of at most `limit` characters.

    Returns the half-open spans `(start, end)` of the passages in order; they tile the text, and none is empty. An
    ordinary paragraph is one passage. Short ones (under an eighth of the limit: headings, lines of dialogue) join their
    neighbours while the sum stays within the limit, a heading with what follows it. A paragraph over the limit becomes
    roughly equal parts, cut at the best of: a line of its own, sentence end, line end, clause end, white space. Where a
    text has marks of lines, headings, days or speakers, as rows of tables, functions of programs, the sections of a
    document, the entries of a diary and turns of dialogues have, what stands between two of them counts as a paragraph
    while it is within the limit. A passage ends before a heading and before another day, by the marks of the text.

    Raises ValueError if `limit` is not positive.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1 character, got {limit}")
    return list(_merged(text, _units(text, limit), limit))


def in_chunks(portions: Iterable[str | Mark], limit: int = MAX_CHUNK) -> Iterator[Chunk]:
    """Cut a stream of text, given in portions of any size, into chunks of at most `limit` characters.

    Yields the chunks in order; joined they are the text, and none is empty. A chunk ends at the last paragraph break
    within the limit, else at a line end, else at a sentence end, else at white space, else at the limit. At most
    `limit` characters and one portion are held at a time. Marks between the portions become marks of the chunks; one that
    no text follows belongs to the last chunk.
    """
    pending, marks = "", list[tuple[int, Mark]]()
    for portion in portions:
        if isinstance(portion, Mark):
            marks.append((len(pending), portion))
            continue
        pending += portion
        start = 0
        while len(pending) - start > limit:
            end = _chunk_end(pending, start, start + limit)
            passed = bisect_left(marks, end, key=itemgetter(0))
            yield Chunk(pending[start:end], [(offset - start, mark) for offset, mark in marks[:passed]])
            marks = marks[passed:]
            start = end
        if start:
            pending, marks = pending[start:], [(offset - start, mark) for offset, mark in marks]
    if pending:
        yield Chunk(pending, marks)


def _chunk_end(text: str, start: int, end: int) -> int:
    """The best position in `(start, end]` to end a chunk."""
    for mark in ("\n\n", "\n"):
        last = text.rfind(mark, start, end)
        if last >= start:
            return _before_heading(text, start, last + len(mark))
    for ends in (sentence_ends, word_ends):
        best = max(ends(text, start, end), default=None)
        if best is not None:
            return best
    return hard_cut(text, start, end)


def _before_heading(text: str, start: int, end: int) -> int:
    """The end of a chunk before the headings that it would end with; `end` itself where it would be empty."""
    for _ in range(MOST_HEADINGS):
        last = text.rfind("\n\n", start, end - 2) + 2
        if last <= start + 1 or not _is_heading(text, last, end):
            break
        end = last
    return end


def sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Positions in `(start, end]` right after a sentence, its closing quotes and the white space behind it."""
    return _ends(_SENTENCE_END, text, start, end)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The half-open spans of what a reader would quote from `text`, in order, without white space around them.

    These are sentences, headings, items of a list, turns of a dialogue, and rows of a table. Together they hold every
    character but white space.
    """
    spans = []
    for block in _tiles(_PARAGRAPH_BREAK, text, 0, len(text)):
        lines = _LINE_END if _has_rows(text[slice(*block)]) else _LINE_OF_ITS_OWN
        for line in _tiles(lines, text, *block):
            start = line[0]
            for end in (*sentence_ends(text, *line), line[1]):
                sentence = text[start:end]
                if sentence and not sentence.isspace():
                    spans.append((end - len(sentence.lstrip()), start + len(sentence.rstrip())))
                start = end
    return spans


def _has_rows(block: str) -> bool:
    """Whether the lines of a block without empty lines are rows of a table, or values with their names."""
    lines = block.strip().split("\n")
    commas = {line.count(",") for line in lines}
    if len(lines) < 2:
        return False
    return (len(commas) == 1 and commas != {0}) or all(_CELLS.search(line) or _LABELLED.match(line) for line in lines)


def word_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Positions in `(start, end]` right after a run of white space."""
    return _ends(_WHITE_SPACE, text, start, end)


def is_joined(text: str, position: int) -> bool:
    """Whether a cut before `text[position]` would tear a letter from its accent, or an emoji or a line end apart."""
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    if after < "\u0300":
        return before == "\r" and after == "\n"
    if before in "\r\n":
        return False
    return unicodedata.category(after).startswith("M") or _EXTENDERS.match(after) is not None or before == "\u200d"


def hard_cut(text: str, start: int, end: int) -> int:
    """The last position in `(start, end]` that tears nothing apart; `end` where there is none."""
    for position in range(end, start, -1):
        if not is_joined(text, position):
            return position
    return end


def _ends(pattern: re.Pattern[str], text: str, start: int, end: int) -> Iterator[int]:
    """Where the matches of `pattern` end within `(start, end]`, without those that would tear a character apart."""
    look_ahead = 32  # what follows `end` decides whether a match ends there
    for match in pattern.finditer(text, start, end + look_ahead):
        if match.end() > end:
            return
        if not is_joined(text, match.end()):
            yield match.end()


def _units(text: str, limit: int) -> Iterator[tuple[int, int]]:
    """Spans of the paragraphs, in order and tiling the text; those over `limit` already cut into parts."""
    for start, end, is_whole in _sections(text):
        if is_whole and end - start <= limit:
            yield start, end
        else:
            yield from _paragraphs(text, start, end, limit)


def _sections(text: str) -> Iterator[tuple[int, int, bool]]:
    """`text` cut at its marks of lines, headings, days and speakers, and whether such a mark begins the section.

    Where a mark says that nobody in particular speaks any more, and nothing else, the section is ordinary text.
    """
    begins = dict[int, bool]()
    for offset, mark in _marks(text):
        if mark.kind in _SECTIONS and offset < len(text):
            begins[offset] = begins.get(offset, False) or mark.value is not None
    for start, end in pairwise(sorted({0, *begins, len(text)})):
        yield start, end, begins.get(start, False)


def _paragraphs(text: str, section_start: int, section_end: int, limit: int) -> Iterator[tuple[int, int]]:
    """Spans of the paragraphs of a section; those over `limit` already cut into parts."""
    for start, end in _tiles(_PARAGRAPH_BREAK, text, section_start, section_end):
        if end - start > limit and _has_paragraph_lines(text, start, end):
            for line_start, line_end in _tiles(_LINE_OF_ITS_OWN, text, start, end):
                yield from _parts(text, line_start, line_end, limit)
        else:
            yield from _parts(text, start, end, limit)


def _tiles(pattern: re.Pattern[str], text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """`text[start:end]` cut after every match of `pattern`."""
    for match in pattern.finditer(text, start, end):
        if start < match.end() < end:
            yield start, match.end()
            start = match.end()
    if start < end:
        yield start, end


def _has_paragraph_lines(text: str, start: int, end: int) -> bool:
    """Whether lines are the paragraphs here, as in texts without blank lines; in wrapped prose few lines are."""
    own = sum(1 for _ in _LINE_OF_ITS_OWN.finditer(text, start, end))
    return 2 * own >= text.count("\n", start, end) > 0


def _parts(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """`text[start:end]` in as many roughly equal parts as `limit` requires; a single part if it is within the limit."""
    while end - start > limit:
        count = math.ceil((end - start) / (limit * _FULL))
        cut = _best_cut(text, start, start + limit, (end - start) / count)
        yield start, cut
        start = cut
    yield start, end


def _best_cut(text: str, start: int, end: int, length: float) -> int:
    """The best position in `(start, end]` to end a part of about `length` characters."""
    ideal = start + length
    low, high = int(start + 0.6 * length), min(end, int(start + 1.4 * length))
    for pattern in _INSIDE_PARAGRAPH:
        near = min(_ends(pattern, text, low, high), key=lambda cut: abs(cut - ideal), default=None)
        if near is not None:
            return near
    space = max(word_ends(text, start, end), default=None)
    if space is not None:
        return space
    middle = hard_cut(text, start, max(start + 1, round(ideal)))
    return middle if not is_joined(text, middle) else hard_cut(text, start, end)


def _merged(text: str, units: Iterator[tuple[int, int]], limit: int) -> Iterator[tuple[int, int]]:
    """Join short units with their neighbours: a passage holds at most one unit that is not short."""
    start = end = 0
    open_ended = True  # all units of the passage so far are short
    only_headings = True
    headed, other_day = _openings(text)
    turns = {offset for offset, mark in _marks(text) if mark.kind == "speaker" and mark.value is not None}
    for unit_start, unit_end in units:
        short = (unit_end - unit_start) * (_SHORT_TURN if unit_start in turns else _SHORT) < limit
        dated = unit_start in other_day or _begins_with_date(text, unit_start, unit_end)
        heading = short and (
            _is_heading(text, unit_start, unit_end)
            or (unit_start in headed and _is_line_of(headed[unit_start], text[unit_start:unit_end].strip()))
        )
        opens = dated or heading or unit_start in headed
        fits = unit_end - start <= limit and (short or open_ended) and (only_headings or not opens)
        if end > start and not fits:
            yield start, end
            start, open_ended, only_headings = unit_start, True, True
        end = unit_end
        open_ended, only_headings = open_ended and short, only_headings and heading
    if end > start:
        yield start, end


def _openings(text: str) -> tuple[dict[int, Mark], set[int]]:
    """The offsets at which the marks of a text begin a chapter or a heading, with the mark, or begin another day.

    A heading with the number of its line is that of a table or of a program, whose short parts may share a passage.
    """
    numbered = {offset for offset, mark in _marks(text) if mark.kind == "line"}
    headed, other_day, day = dict[int, Mark](), set[int](), None
    for offset, mark in _marks(text):
        if mark.kind in _HEADS and mark.value is not None and offset not in numbered:
            headed[offset] = mark
        elif mark.kind == "happened" and mark.value is not None:
            before, day = day, day_of(float(mark.value))
            if day != before:
                other_day.add(offset)
    return headed, other_day


def _marks(text: str) -> Sequence[tuple[int, Mark]]:
    return text.marks if isinstance(text, Chunk) else ()


def _begins_with_date(text: str, start: int, end: int) -> bool:
    """Whether the first line of a unit is a date."""
    line_end = text.find("\n", start, end)
    return date_of_line(text[start : end if line_end < 0 else line_end]) != ""


def _is_line_of(mark: Mark, unit: str) -> bool:
    """Whether a unit is the line of a heading and nothing else, however it ends."""
    return "\n" not in unit and says_little_else(mark, unit)


def _is_heading(text: str, start: int, end: int) -> bool:
    """Whether a unit is a heading and nothing else, such as a date that stands alone."""
    return _HEADING.fullmatch(text, start, end) is not None or date_of_line(text[start:end].strip()) != ""
