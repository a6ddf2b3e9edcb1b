"""Files in every format, and how tests read them or are refused."""

import zipfile
from pathlib import Path

import docx
import pytest
from reportlab.pdfgen.canvas import Canvas

from memspan.data.documents import open_documents
from memspan.errors import UsageError

CHINESE = "船长说今天风向要变。水手们收起了帆，等着天黑！"


def texts_of(path: Path | str, encoding: str | None = None) -> list[str]:
    """The whole texts of the documents at `path`."""
    return ["".join(document.chunks()) for document in open_documents([path], encoding=encoding)]


def text_of(path: Path | str, encoding: str | None = None) -> str:
    """The whole text of the one document at `path`."""
    (text,) = texts_of(path, encoding)
    return text


def refusal(path: Path | str, encoding: str | None = None) -> str:
    """The sentence with which `path` is refused, from opening it to reading all of it."""
    with pytest.raises(UsageError) as caught:
        texts_of(path, encoding)
    message = str(caught.value)
    assert "\n" not in message
    return message


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pdf_of(path: Path, pages: list[str]) -> Path:
    canvas = Canvas(str(path))
    for page in pages:
        canvas.drawString(72, 700, page)
        canvas.rect(72, 72, 100, 100)
        canvas.showPage()
    canvas.save()
    return path


def docx_of(path: Path) -> Path:
    document = docx.Document()
    document.add_heading("The Log", 0)
    document.add_paragraph("First words.")
    table = document.add_table(rows=2, cols=3)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"c{number}"
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    document.add_paragraph("")
    document.add_paragraph(CHINESE)
    document.save(str(path))
    return path


CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="EPUB/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>
"""

PACKAGE = """<?xml version="1.0"?>
<package version="3.0" xmlns="http://www.idpf.org/2007/opf"><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="cover" href="cover.jpg" media-type="image/jpeg"/>
<item id="c1" href="text/chapter%20one.xhtml" media-type="application/xhtml+xml"/>
<item id="c2" href="two.xhtml" media-type="application/xhtml+xml"/>
</manifest><spine><itemref idref="nav"/><itemref idref="cover"/><itemref idref="c2"/><itemref idref="c1"/></spine>
</package>
"""


def epub_of(path: Path, **members: str) -> Path:
    """A small e-book; `members` replace files of it (package=, two=)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("EPUB/content.opf", members.get("package", PACKAGE))
        book.writestr("EPUB/nav.xhtml", "<html><body>Table of contents</body></html>")
        for name, member in (("one", "text/chapter one.xhtml"), ("two", "two.xhtml")):
            head = f"<title>Chapter {name}</title>"
            page = f"<html><head>{head}</head><body><h1>{name}</h1><p>Words of {name}. {CHINESE}</p></body></html>"
            book.writestr(f"EPUB/{member}", members.get(name, page))
    return path
