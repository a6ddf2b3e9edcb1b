"""Pages of a PDF as pictures, by PDFium, whose text is recognised: for pages without a text layer."""

from collections.abc import Iterator
from importlib import import_module
from threading import Lock
from typing import Any

from memspan.data.formats.base import FileSource
from memspan.data.formats.parsing import parsing
from memspan.data.formats.recognition import announce, recognised
from memspan.data.marks import Mark

DOTS = 200  # per inch: letters of 10 points are then 28 pixels high
POINTS = 72  # per inch
MAX_PIXELS = 12_000_000  # of a picture: A4 at 200 dots per inch has 4 million; larger pages have fewer dots per inch

_lock = Lock()  # PDFium is not made for several threads


class PagePictures:
    """The text in the pictures of the pages of a document, which is opened when the first is needed."""

    def __init__(self, source: FileSource, pages: int) -> None:
        self._source, self._pages = source, pages
        self._is_announced = False

    def text(self, number: int) -> Iterator[str | Mark]:
        """The text of a page, counted from 0, with boxes in points; nothing where PDFium cannot draw it or nothing is on it."""
        with parsing(self._source, "PDF"):
            drawn = self._drawn(number)
        if drawn is None:
            return
        if not self._is_announced:
            self._is_announced = True
            announce(self._source, self._pages)
        with parsing(self._source, "PDF"):
            portions = list(recognised(self._source, *drawn))
        yield from portions

    def _drawn(self, number: int) -> tuple[Any, float] | None:
        """The picture of a page, and its pixels in a point."""
        pdfium = import_module("pypdfium2")
        with _lock, self._source.open() as file:
            try:
                pdf = pdfium.PdfDocument(file)
            except pdfium.PdfiumError:  # pypdf reads some damaged files that it does not
                return None
            try:
                page = pdf[number]
                if next(page.get_objects(max_depth=1), None) is None:
                    return None
                width, height = page.get_size()
                scale = min(DOTS / POINTS, (MAX_PIXELS / max(1.0, width * height)) ** 0.5)
                if min(width, height) * scale < 1:
                    return None
                return page.render(scale=scale, no_smoothtext=False).to_pil(), scale
            except pdfium.PdfiumError:
                return None
            finally:
                pdf.close()
