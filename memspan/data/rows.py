"""Rows of files with a text in each: tables (csv, tsv, jsonl) and plain lines, and those that cannot be used.

Rows are numbered as a spreadsheet or an editor shows them: the head of a csv or tsv file is row 1.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memspan.data.corpora import Record
from memspan.data.formats.csv import SAMPLE, delimiter_of
from memspan.errors import UsageError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".txt")
SHOWN = 5  # rows that are named in a message
LONGEST_CELL = 16 * 1024 * 1024  # characters
TEXT = "text"  # the column of a file of lines


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Attributes:
        number: see the module.
        values: by column; empty where the row cannot be read.
        problem: why it cannot be read; None where it can.
    """

    number: int
    values: Mapping[str, Any]
    problem: str | None = None


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of `SUFFIXES`, those that cannot be read among them.

    Raises UsageError for a file that is absent, of another kind or without a row.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise UsageError(f"{path} must be a file of rows ({', '.join(SUFFIXES)}), got '{path.suffix}'.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} is not readable: {error.strerror}.") from error
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    readers = {".csv": _table, ".tsv": _table, ".jsonl": _objects, ".txt": _lines}
    try:
        rows = list(readers[kind](text, delimiter_of(path, text[:SAMPLE])))
    except csv.Error as error:
        raise UsageError(f"{path} must be a readable table, got: {error}.") from error
    if not rows:
        raise UsageError(f"There is no row in {path}.")
    return [Row(row.number, {}, "is not UTF-8 text") if _is_broken(row.values) else row for row in rows]


def _table(text: str, delimiter: str) -> Iterator[Row]:
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
        names = next(lines, [])
        for number, cells in enumerate(lines, 2):
            if not cells:
                continue
            if len(cells) != len(names):
                yield Row(number, {}, f"has {len(cells)} cells, not {len(names)}")
            else:
                yield Row(number, dict(zip(names, cells, strict=True)))
    finally:
        csv.field_size_limit(limit)


def _objects(text: str, delimiter: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        yield Row(number, values) if isinstance(values, dict) else Row(number, {}, "is no JSON object")


def _lines(text: str, delimiter: str) -> Iterator[Row]:
    return (Row(number, {TEXT: line.strip()}) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _is_broken(values: Mapping[str, Any]) -> bool:
    """Whether there are bytes in a row that are no UTF-8."""
    return any("\udc80" <= character <= "\udcff" for text in (*values, *values.values()) for character in str(text))


def first_number(path: Path) -> int:
    """The number of the first row of a file that holds a value."""
    return 2 if path.suffix.lower() in (".csv", ".tsv") else 1


def unusable(records: Sequence[Record], columns: Sequence[str], first: int = 1) -> dict[int, str]:
    """The numbers of the rows with an empty one of `columns`, and what they lack; the number of the first is `first`."""
    found = {}
    for number, record in enumerate(records, first):
        empty = [column for column in columns if is_empty(record.get(column))]
        if empty:
            found[number] = f"has no {empty[0]}"
    return found


def is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, list) and not value)


def described(problems: Mapping[int, str], total: int, name: str) -> str:
    """A sentence that counts rows that are not used and names the first of them."""
    named = "; ".join(f"row {number} {problem}" for number, problem in list(problems.items())[:SHOWN])
    end = "; and so on." if len(problems) > SHOWN else "."
    return f"{len(problems):,} of {total:,} rows of {name} are not used: {named}{end}"
