"""The reading order of lines of text on a page: columns from left to right, in each the paragraphs from top to bottom.

    lines with their boxes -> paragraphs of rows of lines

A page is cut along the widest empty stripes, again and again: from top to bottom between columns, and across between
what stands above and below. Columns are cut only where both sides are running text, so that a table is read row by row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from memspan.data.positions import Box

MAX_LINES = 5_000  # of a page; a page of a newspaper has a tenth of them
_DEPTH = 40  # stripes within one another that a page is cut along
_GUTTER = 1.0  # heights of a line that are empty between two columns, at least
_COLUMN_LINES = 4  # of each column, at least
_COLUMN_WIDTH = 8.0  # heights of a line that a line of running text is wide, at least
_PARAGRAPH = 0.9  # heights of a line that are empty between two paragraphs, at least
_HEADING = 1.3  # how much higher than the lines beside it the lines of a heading are, at least


@dataclass(frozen=True)
class Line:
    """A line of text, or a part of a line.

    Attributes:
        box: where it stands on the page once that is upright.
        shown: where it stands in the picture of the page as it is, which may be turned.
    """

    text: str
    box: Box
    shown: Box


Row = tuple[Line, ...]
"""What stands side by side on a page, from left to right."""

Paragraph = tuple[Row, ...]
"""Rows from top to bottom."""


def paragraphs(lines: Iterable[Line]) -> Iterator[Paragraph]:
    """The lines of a page as paragraphs in reading order."""
    for block in _blocks(list(lines), _DEPTH):
        paragraph: list[Row] = []
        for row in _rows(block):
            if paragraph and _parts(paragraph[-1], row):
                yield tuple(paragraph)
                paragraph = []
            paragraph.append(row)
        if paragraph:
            yield tuple(paragraph)


def _blocks(lines: list[Line], depth: int) -> list[list[Line]]:
    """The blocks of a page in reading order; within each the lines stand below one another.

    What is above and below an empty stripe is taken apart only where one of the two has columns.
    """
    if columns := _columns(lines):
        return [block for column in columns for block in _blocks(column, depth)]
    if depth == 0 or not lines or not _holds_columns(lines):
        return [lines]
    bands = [_blocks(band, depth - 1) for band in _bands(lines)]
    return [block for blocks in bands for block in blocks] if any(len(blocks) > 1 for blocks in bands) else [lines]


def _columns(lines: Sequence[Line]) -> list[list[Line]]:
    """The block cut at its widest gutter; nothing if there is none between two columns of running text."""
    if len(lines) < 2 * _COLUMN_LINES:
        return []
    least = _GUTTER * _height(lines)
    for gap, cut in sorted(_gaps([(line.box.x, line.box.width) for line in lines]), reverse=True):
        if gap < least:
            break
        left = [line for line in lines if line.box.x < cut]
        right = [line for line in lines if line.box.x >= cut]
        if _is_running_text(left) and _is_running_text(right):
            return [left, right]
    return []


def _holds_columns(lines: Sequence[Line]) -> bool:
    """Whether any two lines stand side by side, far enough from one another for a gutter."""
    least = _GUTTER * _height(lines) if lines else 0.0
    return any(b.box.x - a.box.x - a.box.width >= least for row in _rows(lines) for a, b in pairwise(row))


def _bands(lines: Sequence[Line]) -> list[list[Line]]:
    """The block cut across at its widest empty stripe; nothing if there is none."""
    widest = max(_gaps([(line.box.y, line.box.height) for line in lines]), default=None)
    if widest is None:
        return []
    above = [line for line in lines if line.box.y < widest[1]]
    return [above, [line for line in lines if line.box.y >= widest[1]]]


def _is_running_text(lines: Sequence[Line]) -> bool:
    if len(lines) < _COLUMN_LINES:
        return False
    return median(line.box.width for line in lines) >= _COLUMN_WIDTH * _height(lines)


def _gaps(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The widths of the empty stretches between spans, given by start and length, and where each ends."""
    gaps, reached = [], None
    for start, length in sorted(spans):
        if reached is not None and start > reached:
            gaps.append((start - reached, start))
        reached = start + length if reached is None else max(reached, start + length)
    return gaps


def _rows(lines: Sequence[Line]) -> list[Row]:
    """The lines from top to bottom, those side by side as one row."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.box.y + line.box.height / 2):
        middle = line.box.y + line.box.height / 2
        if rows and middle < min(each.box.y + each.box.height * 0.75 for each in rows[-1]):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [tuple(sorted(row, key=lambda line: line.box.x)) for row in rows]


def _parts(above: Row, below: Row) -> bool:
    """Whether a paragraph ends between two rows: at an empty stripe, or where the letters are much higher or lower."""
    heights = _height(above), _height(below)
    gap = min(line.box.y for line in below) - max(line.box.y + line.box.height for line in above)
    return gap >= _PARAGRAPH * min(heights) or max(heights) >= _HEADING * min(heights)


def _height(lines: Sequence[Line]) -> float:
    return median(line.box.height for line in lines)
