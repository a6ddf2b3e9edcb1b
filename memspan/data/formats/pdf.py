"""PDF: the text layer, by pypdf."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.parsing import MAX_OPERATIONS, check_at_most, parsing, time_limit
from memspan.data.formats.pdf_outline import Outline
from memspan.data.marks import Mark


def read_pdf(source: FileSource) -> Iterator[str | Mark]:
    """The text layer of a PDF, page by page, with a blank line between pages and a mark with the number of each.

    Its bookmarks are marks of chapters and headings. Raises UnreadableSource if it is damaged, encrypted, has pictures of
    pages only, or a page that takes too much work.
    """
    with source.open() as file:
        with _parsing(source):
            from pypdf import PdfReader
            from pypdf.errors import DependencyError

            try:
                pdf = PdfReader(file)
                locked = pdf.is_encrypted and not pdf.decrypt("")  # many are locked with an empty password
            except DependencyError:  # for the newer ciphers
                locked = True
            if locked:
                raise source.refused("is encrypted: save a copy without password, e.g. `qpdf --decrypt in.pdf out.pdf`")
            count = len(pdf.pages)
            outline = Outline(source, pdf)
        empty = True
        for number in range(count):
            with _parsing(source):
                page = pdf.pages[number]
                text = page.extract_text(visitor_operand_before=_counted(source, number)).strip()
                portions = list(outline.marked(page, number, text))
            if text:
                if not empty:
                    yield "\n\n"
                yield Mark("page", number + 1)
                yield from portions
                empty = False
    if empty:
        raise source.refused("has no text, only pictures of pages: run text recognition over it, e.g. `ocrmypdf`")


def _counted(source: FileSource, number: int) -> Callable[[bytes, Any, Any, Any], None]:
    """A function that pypdf calls with each drawing operation of a page, also of the forms drawn on it.

    Forms may draw other forms, so that a few bytes make many operations. Raises UnreadableSource beyond MAX_OPERATIONS
    and MAX_SECONDS.
    """
    check_time, count = time_limit(source), 0

    def visit(operator: bytes, operands: Any, *_matrices: Any) -> None:
        nonlocal count
        count += 1 + (len(operands[0]) if operator == b"TJ" and operands and isinstance(operands[0], list) else 0)
        check_at_most(source, count, MAX_OPERATIONS, f"drawing operations on page {number + 1}")
        if operator == b"Do" or count % 1000 == 0:
            check_time()

    return visit


@contextmanager
def _parsing(source: FileSource) -> Iterator[None]:
    """`parsing` with pypdf's log silenced."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with parsing(source, "PDF"):
            yield
    finally:
        logger.setLevel(level)


PDF = Format("pdf", (".pdf",), read_pdf, packed=True)
