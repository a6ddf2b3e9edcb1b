"""Word documents give their paragraphs and tables."""

from pathlib import Path

from memspan.data.documents import Skipped, open_documents
from memspan.data.formats.docx import LABEL
from tests.data.files import CHINESE, docx_of, refusal, text_of, written
from tests.data.hostile import docx_with


def test_a_docx_gives_paragraphs_and_tables_in_order(tmp_path: Path) -> None:
    expected = f"The Log\n\nFirst words.\n\nwide | c2\nc3 | c4 | c5\n\n{CHINESE}"
    assert text_of(docx_of(tmp_path / "a.docx")) == expected


def test_an_office_document_with_a_password_is_named(tmp_path: Path) -> None:
    assert "encrypted Office" in refusal(written(tmp_path / "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)))


def document(path: Path, body: str, **members: str) -> Path:
    return written(path, docx_with(body, **members))


def row(*cells: str) -> str:
    return f"<w:tr>{''.join(cells)}</w:tr>"


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


FIRST, OTHERS = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"


def test_a_cell_that_claims_to_span_thousands_of_millions_of_columns_is_one_cell(tmp_path: Path) -> None:
    wide = cell("wide", '<w:gridSpan w:val="2000000000"/>')
    assert text_of(document(tmp_path / "a.docx", f"<w:tbl>{row(wide, cell('b'))}</w:tbl>")) == "wide | b"


def test_a_cell_merged_over_rows_comes_in_each_row_where_its_column_is(tmp_path: Path) -> None:
    rows = row(cell("wide", '<w:gridSpan w:val="2"/>'), cell("ship", FIRST)) + row(
        cell("a"), cell("b"), cell("", OTHERS)
    )
    rows += row('<w:trPr><w:gridBefore w:val="2"/></w:trPr>', cell("", OTHERS)) + row(cell("c"), cell("d"), cell("e"))
    rows += row(cell("f"), cell("g"), cell("own", OTHERS))
    assert text_of(document(tmp_path / "a.docx", f"<w:tbl>{rows}</w:tbl>")) == (
        "wide | ship\na | b | ship\nship\nc | d | e\nf | g | own"
    )


def test_a_long_text_merged_over_rows_comes_once(tmp_path: Path) -> None:
    for text, count in (("x" * LABEL, 3), ("x" * (LABEL + 1), 1)):
        rows = row(cell(text, FIRST), cell("1")) + row(cell("", OTHERS), cell("2")) * 2
        assert text_of(document(tmp_path / "a.docx", f"<w:tbl>{rows}</w:tbl>")).count(text) == count


def test_a_table_within_a_cell_is_part_of_its_line(tmp_path: Path) -> None:
    inner = f"<w:tbl>{row(cell('a'), cell('b'))}{row(cell('c'))}</w:tbl>"
    see = f"<w:tc>{paragraph('see')}{inner}</w:tc>"
    outer = f"<w:tbl>{row(see, cell('z'))}</w:tbl>"
    assert text_of(document(tmp_path / "a.docx", outer + paragraph("after"))) == "see a | b c | z\n\nafter"


def test_what_a_reader_sees_is_read_and_what_is_hidden_is_not(tmp_path: Path) -> None:
    gallery = '<w:sdtPr><w:docPartObj><w:docPartGallery w:val="{}"/></w:docPartObj></w:sdtPr>'
    body = (
        f"<w:sdt>{gallery.format('Table of Contents')}<w:sdtContent>{paragraph('contents 1')}</w:sdtContent></w:sdt>"
        f"<w:sdt>{gallery.format('Cover Pages')}<w:sdtContent>{paragraph('cover')}</w:sdtContent></w:sdt>"
        "<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:ins><w:r><w:t>new</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        '<w:r><w:tab/><w:t>a</w:t><w:br/><w:t>b</w:t><w:br w:type="page"/><w:noBreakHyphen/><w:t>c</w:t></w:r></w:p>'
        f"<w:p><w:r><Choice>{paragraph('box')}</Choice><Fallback>{paragraph('copy')}</Fallback></w:r></w:p>"
    )
    assert text_of(document(tmp_path / "a.docx", body)) == "cover\n\nnew\ta\nb-c\n\nbox"


def test_a_folder_is_read_past_a_document_that_is_a_bomb(tmp_path: Path) -> None:
    document(tmp_path / "a.docx", '<!DOCTYPE a [<!ENTITY e "x">]>' + "&e;" * 9)
    written(tmp_path / "b.txt", "words")
    skipped: list[Skipped] = []
    (readable,) = open_documents([tmp_path], on_skip=skipped.append)
    assert "".join(readable.chunks()) == "words"
    assert [member.reason.split(" (")[0] for member in skipped] == ["is damaged or no docx at all"]
