"""Word documents give their paragraphs and tables."""

from pathlib import Path

from tests.data.files import CHINESE, docx_of, refusal, text_of, written


def test_a_docx_gives_paragraphs_and_tables_in_order(tmp_path: Path) -> None:
    expected = f"The Log\n\nFirst words.\n\nwide | c2\nc3 | c4 | c5\n\n{CHINESE}"
    assert text_of(docx_of(tmp_path / "a.docx")) == expected


def test_an_office_document_with_a_password_is_named(tmp_path: Path) -> None:
    assert "encrypted Office" in refusal(written(tmp_path / "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)))
