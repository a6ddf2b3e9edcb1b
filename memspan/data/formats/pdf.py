"""PDF: the text layer, by pypdf."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.parsing import parsing


def read_pdf(source: FileSource) -> Iterator[str]:
    """The text layer of a PDF, page by page, with a blank line between pages.

    Raises UnreadableSource if it is damaged, encrypted, or has pictures of pages only.
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
        empty = True
        for number in range(count):
            with _parsing(source):
                text = pdf.pages[number].extract_text().strip()
            if text:
                yield text if empty else f"\n\n{text}"
                empty = False
    if empty:
        raise source.refused("has no text, only pictures of pages: run text recognition over it, e.g. `ocrmypdf`")


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
