"""Text documents of OpenDocument (odt): paragraphs, lists and tables, by zipfile and the event parser of lxml."""

from collections.abc import Iterator
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.ooxml import attribute, events, local, opened_document
from memspan.data.formats.parsing import parsing
from memspan.data.marks import Mark

MAX_SPACES = 1_000  # that one element may stand for
_SKIPPED = frozenset(  # earlier versions of a text, tables of contents, and what is no text of the document
    {"tracked-changes", "table-of-content", "alphabetical-index", "annotation", "forms", "scripts", "automatic-styles"}
)


def read_odt(source: FileSource) -> Iterator[str | Mark]:
    """Paragraphs and tables in their order; a table row is a line with " | " between cells. Headings are marks.

    Raises UnreadableSource if the document is damaged, encrypted, or unpacks to too much.
    """
    with source.open() as file:
        with parsing(source, "odt"):
            archive = opened_document(source, file)
            if "META-INF/manifest.xml" in archive.NameToInfo and "content.xml" not in archive.NameToInfo:
                raise source.refused("is encrypted: save a copy without password")
        blocks = _Blocks()
        for _ in events(source, archive, "content.xml", blocks, "odt"):
            yield from blocks.taken()


class _Blocks:
    """A parser target: the events of an OpenDocument text to blocks with a blank line between, rows one a line."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._skipped_from = 0  # the depth of the skipped element that is open; 0 for none
        self._paragraphs: list[list[str]] = []
        self._cells: list[list[str]] = []  # blocks of each cell that is open
        self._rows: list[list[str]] = []  # cells of each row that is open
        self._tables: list[int] = []  # rows of each open table so far
        self._portions: list[str | Mark] = []
        self._begun = False

    def taken(self) -> list[str | Mark]:
        """The text and the marks since the last call."""
        portions, self._portions = self._portions, []
        return portions

    def start(self, tag: str, attributes: Any) -> None:
        """Called by the parser at a start tag."""
        name = local(tag)
        self._stack.append(name)
        if self._skipped_from:
            return
        if name in _SKIPPED:
            self._skipped_from = len(self._stack)
        elif name in ("p", "h"):
            self._paragraphs.append([])
        elif name == "table":
            self._tables.append(0)
        elif name == "table-row":
            self._rows.append([])
        elif name == "table-cell":
            self._cells.append([])
        elif self._paragraphs and name in ("tab", "line-break", "s"):
            count = attribute(attributes, "c") if name == "s" else ""
            spaces = min(int(count), MAX_SPACES) if count.isascii() and count.isdigit() and len(count) < 6 else 1
            self._paragraphs[-1].append({"tab": "\t", "line-break": "\n"}.get(name, " " * spaces))

    def data(self, text: str) -> None:
        """Called by the parser with characters; runs of white space count as one space."""
        if self._paragraphs and not self._skipped_from:
            words = " ".join(text.split())
            before, behind = " " * text[:1].isspace(), " " * (text[-1:].isspace() and bool(words))
            self._paragraphs[-1].append(f"{before}{words}{behind}")

    def end(self, tag: str) -> None:
        """Called by the parser at an end tag."""
        name = self._stack.pop()
        if self._skipped_from:
            if len(self._stack) < self._skipped_from:
                self._skipped_from = 0
        elif name in ("p", "h") and self._paragraphs:
            text = "".join(self._paragraphs.pop()).strip()
            heading = " ".join(text.split()) if name == "h" and not self._cells else ""
            self._add(text, "\n\n", heading)
        elif name == "table-cell" and self._cells:
            text = " ".join(self._cells.pop())
            if self._rows:
                self._rows[-1].append(text)
        elif name == "table-row" and self._rows:
            cells = self._rows.pop()
            gap = "\n" if self._tables and self._tables[-1] else "\n\n"
            self._add(" | ".join(cells) if any(cells) else "", gap)
            if self._tables:
                self._tables[-1] += any(cells)
        elif name == "table" and self._tables:
            self._tables.pop()

    def _add(self, text: str, gap: str, heading: str = "") -> None:
        """Add a block to the innermost cell, or to the text."""
        if not text:
            return
        if self._cells:
            self._cells[-1].append(text.replace("\n", " "))
            return
        if self._begun:
            self._portions.append(gap)
        if heading:
            self._portions.append(Mark("heading", heading))
        self._portions.append(text)
        self._begun = True

    def close(self) -> None:
        """Called by the parser at the end of the document."""


ODT = Format("odt", (".odt",), read_odt, packed=True)
