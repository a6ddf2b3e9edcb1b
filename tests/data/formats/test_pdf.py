"""PDFs give the text of their pages, or the reason why there is none."""

import logging
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter
from reportlab.pdfgen.canvas import Canvas

from memspan.data.documents import open_documents
from tests.data.files import pdf_of, refusal, text_of, written
from tests.data.hostile import bookmarks_of


def test_a_pdf_gives_its_pages_with_blank_lines_between(tmp_path: Path) -> None:
    assert text_of(pdf_of(tmp_path / "a.pdf", ["Page one.", "", "Page three."])) == "Page one.\n\nPage three."


def test_a_pdf_of_pictures_is_pointed_to_text_recognition(tmp_path: Path) -> None:
    assert "only pictures of pages" in refusal(pdf_of(tmp_path / "a.pdf", ["", ""]))


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128"])
def test_an_encrypted_pdf_is_refused_unless_its_password_is_empty(tmp_path: Path, algorithm: str) -> None:
    for name, password in (("open.pdf", ""), ("closed.pdf", "secret")):
        writer = PdfWriter(clone_from=PdfReader(pdf_of(tmp_path / "plain.pdf", ["Hidden words."])))
        writer.encrypt(user_password=password, owner_password="owner", algorithm=algorithm)
        writer.write(tmp_path / name)
    assert text_of(tmp_path / "open.pdf") == "Hidden words."
    assert "is encrypted" in refusal(tmp_path / "closed.pdf")


def test_a_pdf_in_a_cipher_that_is_not_installed_is_refused_as_encrypted(tmp_path: Path) -> None:
    plain = pdf_of(tmp_path / "plain.pdf", ["Words."]).read_bytes()
    lock = (
        b"/Encrypt << /Filter /Standard /V 5 /R 6 /Length 256 /P -4 /O <%b> /U <%b> /OE <%b> /UE <%b> /Perms <%b>"
        % (*(b"07" * length for length in (48, 48, 32, 32, 16)),)
    )
    lock += b" /CF << /StdCF << /CFM /AESV3 /AuthEvent /DocOpen /Length 32 >> >> /StmF /StdCF /StrF /StdCF >>"
    path = written(tmp_path / "a.pdf", plain.replace(b"trailer\n<<", b"trailer\n<<\n" + lock))
    assert "is encrypted" in refusal(path)


def test_a_parser_that_warns_is_not_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = pdf_of(tmp_path / "a.pdf", ["Words."]).read_bytes()
    path = written(tmp_path / "b.pdf", content.replace(b"startxref\n", b"startxref\n9"))
    assert text_of(path) == "Words."
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("pypdf").level == logging.NOTSET


def test_the_number_of_each_page_is_a_mark_at_its_first_character(tmp_path: Path) -> None:
    (document,) = open_documents([pdf_of(tmp_path / "a.pdf", ["First.", "", "Third."])])
    (chunk,) = document.marked_chunks()
    assert [(chunk[offset:][:5], mark.kind, mark.value) for offset, mark in chunk.marks] == [
        ("First", "page", 1),
        ("Third", "page", 3),
    ]


def marked(path: Path) -> list[tuple[str, str, object]]:
    """The first letters behind each mark that is no page, its kind and its value."""
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    return [(chunk[offset:][:8], mark.kind, mark.value) for offset, mark in chunk.marks if mark.kind != "page"]


def with_bookmarks(path: Path, pages: list[str], bookmarks: list[tuple[int, str, int]]) -> Path:
    """A PDF with bookmarks: level, title and page of each."""
    writer = PdfWriter(clone_from=PdfReader(pdf_of(path, pages)))
    above = [None]
    for level, title, page in bookmarks:
        above[level + 1 :] = [writer.add_outline_item(title=title, page_number=page, parent=above[level])]
    writer.write(path)
    return path


def test_the_bookmarks_of_a_pdf_are_its_chapters_and_headings(tmp_path: Path) -> None:
    bookmarks = [(0, "Beginning", 0), (1, "Aims", 1), (2, "Small aims", 1), (0, "End", 2)]
    path = with_bookmarks(tmp_path / "a.pdf", ["One.", "Two.", "Three."], bookmarks)
    assert marked(path) == [
        ("One.\n\nTw", "chapter", "Beginning"),
        ("One.\n\nTw", "heading", None),
        ("Two.\n\nTh", "heading", "Aims"),
        ("Three.", "chapter", "End"),
        ("Three.", "heading", None),
    ]


def test_the_only_bookmark_above_all_others_is_the_title_and_no_chapter(tmp_path: Path) -> None:
    path = with_bookmarks(tmp_path / "a.pdf", ["One.", "Two."], [(0, "A Book", 0), (1, "First", 0), (1, "Second", 1)])
    assert [value for _, kind, value in marked(path) if kind == "chapter"] == ["First", "Second"]


def test_a_bookmark_of_a_page_without_text_counts_from_the_next_page_on(tmp_path: Path) -> None:
    path = with_bookmarks(tmp_path / "a.pdf", ["One.", "", "Three."], [(0, "First", 0), (0, "Second", 1)])
    assert [mark[::2] for mark in marked(path) if mark[1] == "chapter"] == [
        ("One.\n\nTh", "First"),
        ("Three.", "Second"),
    ]


def test_a_heading_within_a_page_begins_at_its_line(tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "lines.pdf"))
    for line, text in enumerate(["The end of this.", "2.1 Growth", "It grows.", "2.2", "Late Decay", "It decays."]):
        canvas.drawString(72, 700 - 20 * line, text)
    canvas.showPage()
    canvas.drawString(72, 700, "More.")
    canvas.save()
    writer = PdfWriter(clone_from=PdfReader(tmp_path / "lines.pdf"))
    chapter = writer.add_outline_item(title="Life", page_number=0)
    for title in ("Growth", "2.2 Late decay"):
        writer.add_outline_item(title=title, page_number=0, parent=chapter)
    writer.add_outline_item(title="Art", page_number=1)
    writer.write(tmp_path / "a.pdf")
    assert [(text, value) for text, kind, value in marked(tmp_path / "a.pdf") if value] == [
        ("The end ", "Life"),
        ("2.1 Grow", "Growth"),
        ("2.2\nLate", "2.2 Late decay"),
        ("More.", "Art"),
    ]


@pytest.mark.parametrize(
    "catalogue",
    [b"/Dests << /there [3 0 R /Fit] >>", b"/Names << /Dests << /Kids [8 0 R] >> >>"],
    ids=["dictionary", "tree"],
)
@pytest.mark.parametrize("target", [b"/Dest %b", b"/A << /S /GoTo /D %b >>"], ids=["destination", "action"])
def test_bookmarks_may_point_at_a_name(catalogue: bytes, target: bytes, tmp_path: Path) -> None:
    name = b"/there" if b"/there" in catalogue else b"(there)"
    objects = [b"<< /Title (A word) %b >>" % (target % name), b"<< /Names [(there) << /D [3 0 R /Fit] >>] >>"]
    path = written(tmp_path / "a.pdf", bookmarks_of(objects, catalogue))
    assert marked(path)[0] == ("word", "chapter", "A word")


def test_bookmarks_that_follow_each_other_in_a_circle_count_once(tmp_path: Path) -> None:
    circle = [b"<< /Title (%b) /Dest [3 0 R /Fit] /First 7 0 R /Next 7 0 R >>" % title for title in (b"A", b"B")]
    path = written(tmp_path / "a.pdf", bookmarks_of(circle))
    assert marked(path) == [("word", "chapter", "A"), ("word", "heading", None)]
