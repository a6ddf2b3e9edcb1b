"""Tables as text (csv, tsv), by the standard library."""

import csv
from collections.abc import Iterator
from pathlib import Path

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded, lines_of
from memspan.data.formats.parsing import MAX_COLUMNS, check_at_most
from memspan.data.formats.tables import Row, rows_as_text
from memspan.data.marks import Mark

MAX_ROW = 1_000_000  # characters of a row, which may go over many lines
SAMPLE = 64 * 1024  # characters by which the delimiter is guessed
DELIMITERS = ",;\t|"


def read_csv(source: FileSource) -> Iterator[str | Mark]:
    """The rows of a table as lines "column: value; column: value" (`tables`).

    The delimiter is guessed: a comma, a semicolon, a tab or a bar. Raises UnreadableSource for binary data, a wrong
    encoding, a row of more than MAX_ROW characters or MAX_COLUMNS columns, and a field that is too long.
    """
    return rows_as_text(_rows(source))


def _rows(source: FileSource) -> Iterator[Row]:
    """The rows with the numbers of their first lines."""
    portions = decoded(source, cure="write the table with shorter rows")
    beginning = next(portions, "")
    delimiter = delimiter_of(source.path, beginning[:SAMPLE])
    length = 0  # of the lines of the row that is being read

    def lines() -> Iterator[str]:
        nonlocal length
        for line in lines_of(portions, beginning):
            length += len(line)
            check_at_most(source, length, MAX_ROW, "characters in a row (a quotation mark that does not end?)")
            yield line

    reader, number = csv.reader(lines(), delimiter=delimiter), 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise source.refused(f"has a bad row in line {number} ({error}): mend it, or name the file .txt") from None
        if fields is None:
            return
        check_at_most(source, len(fields), MAX_COLUMNS, f"columns in line {number}")
        cells = ((column, " ".join(field.split())) for column, field in enumerate(fields))
        yield number, {column: cell for column, cell in cells if cell}
        number, length = reader.line_num + 1, 0


def delimiter_of(path: Path, sample: str) -> str:
    """What stands between the cells of a table: a tab in a tsv, else what divides most rows into as many cells as the first.

    Args:
        sample: the beginning of the file; its last line may be incomplete.
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    lines = sample.splitlines(keepends=True)
    rows = lines[:-1] if len(lines) > 1 and len(sample) >= SAMPLE else lines

    def evidence(delimiter: str) -> tuple[int, int]:
        try:
            sizes = [len(cells) for cells in csv.reader(rows, delimiter=delimiter) if cells]
        except csv.Error:
            return 0, 0
        return (sizes.count(sizes[0]), sizes[0]) if sizes and sizes[0] > 1 else (0, 0)

    return max(DELIMITERS, key=evidence)


CSV = Format("csv", (".csv", ".tsv"), read_csv, packed=True)
