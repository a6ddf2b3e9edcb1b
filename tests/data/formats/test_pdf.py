"""PDFs give the text of their pages, or the reason why there is none."""

import logging
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter

from memspan.data.documents import open_documents
from tests.data.files import pdf_of, refusal, text_of, written


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
