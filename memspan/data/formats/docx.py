"""Word documents (docx): paragraphs and tables, by zipfile and the event parser of lxml.

The markup is read as a stream, so that memory and time follow its length and not the numbers in it: a cell may claim to
span two thousand million columns.
"""

import zipfile
from collections.abc import Iterator
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.ooxml import events, main_part, opened_document, related, tree
from memspan.data.formats.parsing import MAX_TREE, parsing
from memspan.data.marks import Mark

LABEL = 200  # characters; the text of a cell merged over rows is repeated in each row only if it is this short
_BREAKS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Copies for older programs, text that was moved elsewhere, and properties, which hold no text.
_SKIPPED = frozenset({"Fallback", "moveFrom", "pPr", "rPr", "tblPr", "sectPr"})

_LEVELS = frozenset("012345678")  # of the outline; 9 is that of the text

_GALLERY = ["sdt", "sdtPr", "docPartObj", "docPartGallery"]  # names what a structured part is, as its first child


def read_docx(source: FileSource) -> Iterator[str | Mark]:
    """Paragraphs and tables of a Word document in their order; a table row is a line with " | " between cells.

    A cell that spans columns comes once; one that spans rows comes in each if it is short (LABEL), else in the first.
    The table of contents is left out; paragraphs in the style of a heading are marks. Raises UnreadableSource if the document is damaged, encrypted, or unpacks to too
    much.
    """
    with source.open() as file:
        with parsing(source, "docx"):
            archive = opened_document(source, file)
            main = main_part(source, archive)
            blocks = _Blocks(_heading_styles(source, archive, main))
        for _ in events(source, archive, main, blocks, "docx"):
            yield from blocks.taken()


def _heading_styles(source: FileSource, archive: zipfile.ZipFile, main: str) -> frozenset[str]:
    """The ids of the styles of headings: those with a level of the outline, and the title, in whatever language."""
    part = next((part for kind, part in related(source, archive, main).values() if kind == "styles"), "")
    if part not in archive.NameToInfo or archive.NameToInfo[part].file_size > MAX_TREE:
        return frozenset()
    return frozenset(
        _value(style.attrib, "styleId")
        for style in tree(source, archive, part).iter("{*}style")
        if any(_value(level.attrib) in _LEVELS for level in style.iter("{*}outlineLvl"))
        or any(_value(name.attrib).lower() == "title" for name in style.iter("{*}name"))
    )


class _Blocks:
    """A parser target: the events of WordprocessingML to text, blocks with a blank line between, rows one a line.

    Elements nest, a table within a cell of a table, so the elements that are open stand on stacks.
    """

    def __init__(self, heading_styles: frozenset[str]) -> None:
        self._stack: list[str] = []
        self._skipped_from = 0  # the depth of the skipped element that is open; 0 for none
        self._heading_styles = heading_styles
        self._is_heading = False  # the paragraph that began last
        self._paragraphs: list[list[str]] = []
        self._portions: list[str | Mark] = []  # of the body
        self._containers: list[list[str]] = []  # blocks of each open cell
        self._tables: list[_Table] = []
        self._begun = False  # whether a gap belongs before the next block

    def taken(self) -> list[str | Mark]:
        """The text and the marks of the blocks, and of the rows of a table, that ended since the last call."""
        portions, self._portions = self._portions, []
        return portions

    def start(self, tag: str, attributes: Any) -> None:
        """Called by the parser at a start tag."""
        name = tag.rpartition("}")[2]
        parent = self._stack[-1] if self._stack else ""
        self._stack.append(name)
        if len(self._stack) == 1 and name != "document":
            raise ValueError(f"not the text of a Word document but of kind '{name}'")
        if self._skipped_from:
            if parent == "pPr" and len(self._stack) == self._skipped_from + 1:
                self._note_style(name, _value(attributes))
            return
        if name in _SKIPPED:
            self._skipped_from = len(self._stack)
        elif self._stack[-4:] == _GALLERY and _value(attributes) == "Table of Contents":
            self._skipped_from = len(self._stack) - 3
        elif name == "p":
            self._paragraphs.append([])
            self._is_heading = False
        elif name in _BREAKS and parent == "r" and self._paragraphs:
            if not (name == "br" and _value(attributes, "type") in ("page", "column")):
                self._paragraphs[-1].append(_BREAKS[name])
        else:
            self._start_of_table(name, attributes)

    def _note_style(self, name: str, value: str) -> None:
        """Take note of what the properties of a paragraph say of headings."""
        if name == "pStyle":
            self._is_heading = value in self._heading_styles
        elif name == "outlineLvl":
            self._is_heading = value in _LEVELS

    def _start_of_table(self, name: str, attributes: Any) -> None:
        """`start` for the parts of a table."""
        if name == "tbl":
            self._tables.append(_Table())
        elif not self._tables:
            return
        elif name == "tr":
            self._tables[-1].start_row()
        elif name == "gridBefore":
            self._tables[-1].column += _number(attributes)
        elif name == "tc":
            self._containers.append([])
            self._tables[-1].span, self._tables[-1].merge = 1, ""
        elif name == "gridSpan":
            self._tables[-1].span = _number(attributes)
        elif name == "vMerge":
            self._tables[-1].merge = _value(attributes) or "continue"

    def data(self, text: str) -> None:
        """Called by the parser with characters."""
        if self._paragraphs and not self._skipped_from and self._stack[-1] == "t":
            self._paragraphs[-1].append(text)

    def end(self, tag: str) -> None:
        """Called by the parser at an end tag."""
        name = self._stack.pop()
        if self._skipped_from:
            if len(self._stack) < self._skipped_from:
                self._skipped_from = 0
        elif name == "p" and self._paragraphs:
            self._add("".join(self._paragraphs.pop()).strip("\n"), "\n\n", self._is_heading)
            self._is_heading = False
        elif not self._tables:
            return
        elif name == "tc" and self._containers:
            blocks = self._containers.pop()
            self._tables[-1].add_cell(" ".join(text.replace("\n", " ") for text in blocks if text))
        elif name == "tr":
            row = " | ".join(self._tables[-1].cells)
            self._add(row, "\n" if self._tables[-1].rows else "\n\n")
            self._tables[-1].rows += bool(row)
        elif name == "tbl":
            self._tables.pop()

    def _add(self, text: str, gap: str, is_heading: bool = False) -> None:
        """Add a block to the innermost cell, or to the body."""
        if self._containers:
            self._containers[-1].append(text)
        elif text:
            heading = [Mark("heading", " ".join(text.split()))] if is_heading and text.strip() else []
            self._portions += [gap if self._begun else "", *heading, text]
            self._begun = True

    def close(self) -> None:
        """Called by the parser at the end of the document."""


class _Table:
    """The row of a table that is being read, and the cells that were merged with those below them.

    Attributes:
        rows: the number of rows with text so far.
        column: of the grid, where the next cell begins.
        cells: the texts of the row so far.
        span: columns of the current cell.
        merge: "" for a cell of its own, "restart" for the first of a merged column, "continue" for the others.
        labels: column of the grid -> the text of the merged cell in it.
    """

    def __init__(self) -> None:
        self.rows, self.column, self.span, self.merge = 0, 0, 1, ""
        self.cells: list[str] = []
        self.labels: dict[int, str] = {}

    def start_row(self) -> None:
        """Begin a row."""
        self.cells, self.column = [], 0

    def add_cell(self, text: str) -> None:
        """Add the cell that ended to the row."""
        if self.merge == "continue" and self.column in self.labels:
            text = self.labels[self.column]
        elif self.merge == "restart":
            self.labels[self.column] = text if len(text) <= LABEL else ""
        else:
            self.labels.pop(self.column, None)
        self.cells.append(text)
        self.column += self.span
        self.span, self.merge = 1, ""


def _value(attributes: Any, name: str = "val") -> str:
    """An attribute of WordprocessingML, "" if it is absent."""
    return next((str(value) for key, value in attributes.items() if key.rpartition("}")[2] == name), "")


def _number(attributes: Any) -> int:
    """The value as a number, 1 if it is none."""
    value = _value(attributes)
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 1


DOCX = Format("docx", (".docx",), read_docx, packed=True)
