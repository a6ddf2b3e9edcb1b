"""Headings of web pages, e-books and Word documents are marks ahead of their text."""

from pathlib import Path

import docx

from memspan.data.documents import open_documents
from tests.data.files import CHINESE, epub_of, text_of, written


def marks_of(path: Path) -> list[tuple[str, object, str]]:
    """Kind and value of each mark of headings and chapters, and the first word behind it."""
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    marks = [(mark.kind, mark.value, chunk[offset:].split()[0]) for offset, mark in chunk.marks]
    return [mark for mark in marks if mark[0] in ("heading", "chapter")]


def test_headings_of_a_web_page(tmp_path: Path) -> None:
    page = "<title>T</title><h1>One <b>and</b>\n all</h1><p>a<div><h2></h2><h3 hidden>no</h3><h2><a>Two</a></h2>b</div><nav><h2>Menu</h2></nav>"
    path = written(tmp_path / "a.html", page)
    assert text_of(path) == "T\n\nOne and all\n\na\n\nTwo\n\nb"
    assert marks_of(path) == [("heading", "One and all", "One"), ("heading", "Two", "Two")]


def test_pages_of_an_e_book_are_chapters_by_their_first_heading(tmp_path: Path) -> None:
    plain = "<html><body><p>Further words.</p></body></html>"
    path = epub_of(tmp_path / "a.epub", one=plain)
    assert text_of(path) == f"Chapter two\n\ntwo\n\nWords of two. {CHINESE}\n\nFurther words."
    assert marks_of(path) == [("chapter", "two", "Chapter"), ("heading", None, "Chapter"), ("heading", "two", "two")]


def test_headings_of_a_word_document_by_their_style_or_level(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("The Log", 0)
    document.add_paragraph("Words.")
    document.add_heading("A  storm", 2)
    document.add_paragraph("It rained.")
    levelled = document.add_paragraph("By level")
    level = docx.oxml.OxmlElement("w:outlineLvl")
    level.set(docx.oxml.ns.qn("w:val"), "0")
    levelled.paragraph_format.element.get_or_add_pPr().append(level)
    table = document.add_table(rows=1, cols=1)
    table.cell(0, 0).paragraphs[0].style = document.styles["Heading 1"]
    table.cell(0, 0).paragraphs[0].text = "cell"
    document.save(str(tmp_path / "a.docx"))
    assert text_of(tmp_path / "a.docx") == "The Log\n\nWords.\n\nA  storm\n\nIt rained.\n\nBy level\n\ncell"
    assert marks_of(tmp_path / "a.docx") == [
        ("heading", "The Log", "The"),
        ("heading", "A storm", "A"),
        ("heading", "By level", "By"),
    ]
