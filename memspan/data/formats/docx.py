"""Word documents (docx): paragraphs and tables, by python-docx."""

import zipfile
from collections.abc import Iterator
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import OFFICE_CONTAINER, SIGNATURES
from memspan.data.formats.parsing import check_unpacked_size, parsing


def read_docx(source: FileSource) -> Iterator[str]:
    """Paragraphs and tables of a Word document in their order; a table row is a line with " | " between cells.

    Raises UnreadableSource if it is damaged, encrypted, or unpacks to too much.
    """
    with source.open() as file, parsing(source, "docx"):
        if file.read(len(OFFICE_CONTAINER)) == OFFICE_CONTAINER:
            raise source.refused(f"is {SIGNATURES[OFFICE_CONTAINER]}")
        from docx import Document

        with zipfile.ZipFile(file) as archive:
            check_unpacked_size(source, archive.infolist())
        blocks = [_block_text(block) for block in Document(file).iter_inner_content()]
    yield "\n\n".join(block for block in blocks if block)


def _block_text(block: Any) -> str:
    """The text of a paragraph or table of python-docx."""
    from docx.table import Table

    if isinstance(block, Table):
        return "\n".join(" | ".join(_cell_texts(row)) for row in block.rows)
    return str(block.text).strip("\n")


def _cell_texts(row: Any) -> Iterator[str]:
    """The texts of the cells of a table row; a cell that spans columns comes once."""
    before = None
    for cell in row.cells:
        if cell._tc is not before:
            blocks = (_block_text(block) for block in cell.iter_inner_content())
            yield " ".join(text.replace("\n", " ") for text in blocks if text)
        before = cell._tc


DOCX = Format("docx", (".docx",), read_docx, packed=True)
