"""Spreadsheets (xlsx): the rows of each sheet, by zipfile and the event parser of lxml.

Formulas are read as the values that were stored with them. Numbers whose format is a date are written as one.
"""

import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.ooxml import events, local, main_part, opened_document, related, tree
from memspan.data.formats.parsing import MAX_COLUMNS, MAX_VALUES, check_at_most, parsing
from memspan.data.formats.tables import Row, rows_as_text
from memspan.data.marks import Mark

MAX_SHEETS = 1_000
_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_DATE_FORMATS = frozenset((*range(14, 23), *range(45, 48)))  # of those that every program knows by number
_NOT_OF_DATE = re.compile(r'"[^"]{0,200}"|\[[^\]]{0,50}\]|\\.')


def read_xlsx(source: FileSource) -> Iterator[str | Mark]:
    """The rows of each sheet as lines "column: value; column: value" (`tables`), below the name of the sheet.

    Marks: the name of a sheet as "heading", the number of a row as "line". Raises UnreadableSource if the document is
    damaged, encrypted, or unpacks to too much.
    """
    with source.open() as file:
        with parsing(source, "xlsx"):
            archive = opened_document(source, file)
            main = main_part(source, archive)
            parts = related(source, archive, main)
            sheets = _sheets(source, archive, main, parts)
            check_at_most(source, len(sheets), MAX_SHEETS, "sheets")
            dates, since = _dates(source, archive, main, parts)
        texts = _shared_texts(
            source, archive, next((part for kind, part in parts.values() if kind == "sharedStrings"), "")
        )
        empty = True
        for name, part in sheets:
            rows = rows_as_text(_rows(source, archive, part, _Cells(source, texts, dates, since)))
            first = next(rows, None)
            if first is None:
                continue
            if not empty:
                yield "\n"
            empty = False
            yield Mark("line", None)
            yield Mark("heading", name or None)
            yield f"{name}\n\n" if name else ""
            yield first
            yield from rows


def _sheets(source: FileSource, archive: zipfile.ZipFile, main: str, parts: dict[str, Any]) -> list[tuple[str, str]]:
    """The names of the sheets and the parts that hold them, in their order."""
    sheets = dict[str, str]()
    for sheet in tree(source, archive, main).iter("{*}sheet"):
        id_ = next((value for key, value in sheet.attrib.items() if key.endswith("/relationships}id")), "")
        kind, part = parts.get(id_, ("", ""))
        if kind == "worksheet":
            sheets.setdefault(part, " ".join(sheet.get("name", "").split()))
    return [(name, part) for part, name in sheets.items()]


def _dates(
    source: FileSource, archive: zipfile.ZipFile, main: str, parts: dict[str, Any]
) -> tuple[frozenset[int], datetime]:
    """The numbers of the cell formats that are dates, and the day from which dates are counted."""
    since_1904 = any(
        entry.get("date1904") in ("1", "true") for entry in tree(source, archive, main).iter("{*}workbookPr")
    )
    since = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30)
    styles = next((part for kind, part in parts.values() if kind == "styles"), None)
    if styles is None:
        return frozenset(), since
    root = tree(source, archive, styles)
    own = {entry.get("numFmtId"): entry.get("formatCode", "") for entry in root.iter("{*}numFmt")}
    formats = next(root.iter("{*}cellXfs"), ())
    ids = [entry.get("numFmtId", "0") for entry in formats]
    return frozenset(number for number, id_ in enumerate(ids) if _is_date(id_, own.get(id_, ""))), since


def _is_date(id_: str, code: str) -> bool:
    """Whether a number format is one of dates: by its number, or by the years and days in its code."""
    if code:
        return any(sign in _NOT_OF_DATE.sub("", code[:1000]).lower() for sign in ("yy", "dd", "d/", "d."))
    return id_.isascii() and id_.isdigit() and len(id_) < 5 and int(id_) in _DATE_FORMATS


def _shared_texts(source: FileSource, archive: zipfile.ZipFile, part: str) -> list[str]:
    """The texts to which cells refer by number."""
    target = _SharedTexts(source)
    if part in archive.NameToInfo:
        for _ in events(source, archive, part, target, "xlsx"):
            pass
    return target.texts


def _rows(source: FileSource, archive: zipfile.ZipFile, part: str, target: "_Cells") -> Iterator[Row]:
    for _ in events(source, archive, part, target, "xlsx"):
        yield from target.taken()


class _SharedTexts:
    """A parser target for the texts of a workbook: `si` with one `t` or several, without hints for pronunciation."""

    def __init__(self, source: FileSource) -> None:
        self.texts: list[str] = []
        self._source, self._parts, self._in_text, self._hidden = source, list[str](), False, 0

    def start(self, tag: str, attributes: Any) -> None:
        name = local(tag)
        self._hidden += name == "rPh"
        self._in_text = name == "t" and not self._hidden

    def data(self, text: str) -> None:
        if self._in_text:
            self._parts.append(text)

    def end(self, tag: str) -> None:
        name = local(tag)
        self._hidden -= name == "rPh"
        self._in_text = False
        if name == "si":
            self.texts.append(" ".join("".join(self._parts).split()))
            self._parts = []
            check_at_most(self._source, len(self.texts), MAX_VALUES, "texts in cells")

    def close(self) -> None:
        """Called by the parser at the end of the part."""


class _Cells:
    """A parser target for the rows of a sheet.

    Columns and rows are numbered by their references, or one after another where they have none.
    """

    def __init__(self, source: FileSource, texts: list[str], dates: frozenset[int], since: datetime) -> None:
        self._source, self._texts, self._dates, self._since = source, texts, dates, since
        self._ended: list[Row] = []
        self._row, self._column, self._cells = 0, -1, dict[int, str]()
        self._kind, self._style, self._value, self._in_value = "", 0, list[str](), False

    def taken(self) -> list[Row]:
        """The rows that ended since the last call."""
        rows, self._ended = self._ended, []
        return rows

    def start(self, tag: str, attributes: Any) -> None:
        """Called by the parser at a start tag."""
        name = local(tag)
        if name == "row":
            number = attributes.get("r", "")
            self._row = int(number) if number.isascii() and number.isdigit() and len(number) < 8 else self._row + 1
            self._column, self._cells = -1, {}
        elif name == "c":
            reference = _REFERENCE.fullmatch(attributes.get("r", ""))
            self._column = _column(reference[1]) if reference else self._column + 1
            style = attributes.get("s", "")
            self._style = int(style) if style.isascii() and style.isdigit() and len(style) < 8 else 0
            self._kind, self._value = attributes.get("t", "n"), []
        self._in_value = name in ("v", "t")

    def data(self, text: str) -> None:
        """Called by the parser with characters."""
        if self._in_value:
            self._value.append(text)

    def end(self, tag: str) -> None:
        """Called by the parser at an end tag."""
        name, self._in_value = local(tag), False
        if name == "c":
            text = self._text("".join(self._value).strip())
            if text:
                self._cells[self._column] = text
                check_at_most(self._source, len(self._cells), MAX_COLUMNS, f"columns in row {self._row}")
        elif name == "row" and self._cells:
            self._ended.append((self._row, dict(sorted(self._cells.items()))))
            self._cells = {}

    def _text(self, value: str) -> str:
        """The text of a cell."""
        if self._kind == "s":
            number = int(value) if value.isascii() and value.isdigit() and len(value) < 9 else -1
            return self._texts[number] if 0 <= number < len(self._texts) else ""
        if self._kind == "b":
            return {"1": "yes", "0": "no"}.get(value, value)
        if self._kind == "n" and self._style in self._dates:
            return self._date(value)
        return " ".join(value.split())

    def _date(self, value: str) -> str:
        """A number of days as a date, with the time if it has one."""
        try:
            moment = self._since + timedelta(days=float(value))
        except (ValueError, OverflowError):
            return value
        moment = (moment + timedelta(seconds=0.5)).replace(microsecond=0)
        if abs(float(value)) < 1:
            return f"{moment:%H:%M}"
        return f"{moment:%Y-%m-%d}" if not (moment.hour or moment.minute) else f"{moment:%Y-%m-%d %H:%M}"

    def close(self) -> None:
        """Called by the parser at the end of the sheet."""


def _column(letters: str) -> int:
    """The number of a column, from 0, by its letters."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


XLSX = Format("xlsx", (".xlsx", ".xlsm"), read_xlsx, packed=True)
