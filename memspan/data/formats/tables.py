"""Rows of a table as text: a line for each row, in which every value stands behind the name of its column."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice

from memspan.data.marks import Mark

Row = tuple[int, Mapping[int, str]]  # the number of the row or line, from 1; column, from 0 -> text that is not empty
SAMPLE = 20  # rows by which the first is taken for a header or not
MAX_NAME = 100  # characters of a column's name, which is repeated in every row
_NUMBER = re.compile(r"[-+(]?\W{0,3}\d[\d.,:/\s%-]{0,40}\W{0,3}")


def rows_as_text(rows: Iterable[Row]) -> Iterator[str | Mark]:
    """The rows as lines "column: value; column: value", each behind a mark "line" with its number.

    The first row is taken for the names of the columns if its cells are texts, no numbers, all different, and as many as
    the rows below it have; it is written as a line, too. Without such a row a line holds the values alone.
    """
    rest = (row for row in rows if row[1])
    sample = list(islice(rest, SAMPLE))
    header = _header(sample)
    names: dict[int, str] = {}
    if header:
        number, cells = sample.pop(0)
        names = {column: cell[:MAX_NAME].rstrip(": ") for column, cell in cells.items()}
        yield Mark("line", number)
        yield f"{'; '.join(cells.values())}\n"
    for number, cells in chain(sample, rest):
        yield Mark("line", number)
        values = (f"{names[column]}: {cell}" if column in names else cell for column, cell in cells.items())
        yield f"{'; '.join(values)}\n"


def _header(rows: list[Row]) -> bool:
    """Whether the first row names the columns."""
    if len(rows) < 2:
        return False
    first, *others = (cells for _, cells in rows)
    names = list(first.values())
    usual = sorted(len(cells) for cells in others)[len(others) // 2]
    return (
        len(set(names)) == len(names)
        and len(names) >= min(usual, 2)
        and len(names) >= usual // 2
        and not any(_NUMBER.fullmatch(name) for name in names)
    )
