"""PDF: the text layer, by pypdf; where a page has none, its picture by text recognition."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.parsing import MAX_OPERATIONS, check_at_most, parsing, time_limit
from memspan.data.formats.pdf_outline import Outline
from memspan.data.formats.pdf_pictures import PagePictures
from memspan.data.formats.recognition import check_installed, is_installed
from memspan.data.marks import Mark


def read_pdf(source: FileSource) -> Iterator[str | Mark]:
    """The text layer of a PDF, page by page, with a blank line between pages and a mark with the number of each.

    Its bookmarks are marks of chapters and headings. Where the extra `ocr` is installed, a page without a text layer gives
    the text that is recognised in it, with a mark "box" ahead of each line: x, y, width and height in points from the upper
    left corner of the page. Raises UnreadableSource if it is damaged, encrypted, has no text, or a page that takes too much
    work.
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
        pictures = PagePictures(source, count) if is_installed() else None
        for number in range(count):
            with _parsing(source):
                page = pdf.pages[number]
                text = page.extract_text(visitor_operand_before=_counted(source, number)).strip()
            boxes = list[tuple[int, Mark]]()
            if not text and pictures is not None:
                text, boxes = _recognised_text(pictures, number)
            with _parsing(source):
                portions = list(outline.marked(page, number, text))
            if text:
                if not empty:
                    yield "\n\n"
                yield Mark("page", number + 1)
                yield from _with_boxes(portions, boxes)
                empty = False
    if empty:
        check_installed(source, "has no text, only pictures of pages, whose text must be recognised")
        raise source.refused("has no text, only pictures of pages, and no text was found in them")


def _recognised_text(pictures: PagePictures, number: int) -> tuple[str, list[tuple[int, Mark]]]:
    """The text that is recognised in a page, and the marks of its boxes with their characters."""
    text, boxes = "", list[tuple[int, Mark]]()
    for portion in pictures.text(number):
        if isinstance(portion, Mark):
            boxes.append((len(text), portion))
        else:
            text += portion
    return text, boxes


def _with_boxes(portions: Iterable[str | Mark], boxes: Sequence[tuple[int, Mark]]) -> Iterator[str | Mark]:
    """The portions of a page with the marks of its boxes, which end with it."""
    begun, pending = 0, list(boxes[::-1])
    for portion in portions:
        if isinstance(portion, Mark):
            yield portion
            continue
        start, end = 0, begun + len(portion)
        while pending and pending[-1][0] < end:
            offset, mark = pending.pop()
            yield portion[start : offset - begun]
            yield mark
            start = offset - begun
        yield portion[start:]
        begun = end
    if boxes:
        yield Mark("box", None)


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
