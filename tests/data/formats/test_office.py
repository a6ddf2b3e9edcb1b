"""Presentations, spreadsheets and OpenDocument texts become text with slides, sheets, rows and headings as marks."""

from pathlib import Path

import pytest

from memspan.data.documents import open_documents
from tests.data.files import refusal, text_of, written
from tests.data.hostile import archive_of, odt_with, pptx_with, shape, xlsx_with


def marks_of(path: Path, *kinds: str) -> list[tuple[str, object]]:
    """The first word behind each mark of these kinds, and its value."""
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    return [((chunk[offset:].split() or [""])[0], mark.value) for offset, mark in chunk.marks if mark.kind in kinds]


def test_slides_are_read_in_the_order_of_the_presentation(tmp_path: Path) -> None:
    table = "<a:tbl><a:tr><a:tc><a:p><a:r><a:t>x</a:t></a:r></a:p></a:tc><a:tc><a:p><a:r><a:t>y</a:t></a:r></a:p></a:tc></a:tr></a:tbl>"
    slides = [
        shape("Second", "body") + shape("7", "sldNum"),
        shape("First</a:t></a:r><a:br/><a:r><a:t>point</a:t></a:r><a:r><a:t> of all")
        + shape("The plan", "title")
        + table,
    ]
    path = written(tmp_path / "a.pptx", pptx_with(slides, order=[1, 0], notes={1: "Speak slowly."}))
    assert text_of(path) == "The plan\n\nFirst\npoint of all\n\nx | y\n\nNotes: Speak slowly.\n\nSecond"
    assert marks_of(path, "page") == [("The", 1), ("Second", 2)]
    assert marks_of(path, "heading") == [("The", "The plan"), ("Second", None)]


def test_a_presentation_of_pictures_has_no_text(tmp_path: Path) -> None:
    assert "has no text" in refusal(written(tmp_path / "a.pptx", pptx_with([""])))


SHEET = (
    '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>Sold</t></is></c><c r="D1" t="s"><v>1</v></c></row>'
    '<row r="3"><c r="A3" t="str"><f>A1</f><v>Pears</v></c><c r="B3" s="1"><v>45054.5</v></c><c r="D3"><v>4.5</v></c></row>'
    '<row><c t="s"><v>9</v></c><c><v>2</v></c><c r="D4" t="b"><v>1</v></c></row>'
)


def test_rows_of_a_spreadsheet_name_their_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.xlsx", xlsx_with({"Fruit &amp; more": SHEET, "Empty": "", "Two": SHEET}, ["Name", "Price"])
    )
    sheet = "\n\nName; Sold; Price\nName: Pears; Sold: 2023-05-08 12:00; Price: 4.5\nSold: 2; Price: yes\n"
    assert text_of(path) == f"Fruit & more{sheet}\nTwo{sheet}"
    assert marks_of(path, "line")[:4] == [("Fruit", None), ("Name;", 1), ("Name:", 3), ("Sold:", 4)]
    assert marks_of(path, "heading") == [("Fruit", "Fruit & more"), ("Two", "Two")]


def test_paragraphs_headings_and_tables_of_an_opendocument_text(tmp_path: Path) -> None:
    row = "<table:table-row><table:table-cell><text:p>{}</text:p></table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row>"
    body = (
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
        '<text:h text:outline-level="1">The  log</text:h><text:p>First<text:s text:c="2"/><text:span>words</text:span>\n here.</text:p>'
        f"<table:table>{row.format('a')}{row.format('c')}</table:table><text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>"
    )
    path = written(tmp_path / "a.odt", odt_with(body))
    assert text_of(path) == "The log\n\nFirst  words here.\n\na | b\nc | b\n\nitem"
    assert marks_of(path, "heading") == [("The", "The log")]


@pytest.mark.parametrize("suffix", ["pptx", "xlsx", "odt"])
def test_a_damaged_office_document_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = {"pptx": pptx_with([shape("a")]), "xlsx": xlsx_with({"a": SHEET}), "odt": odt_with("<text:p>a</text:p>")}[
        suffix
    ]
    for content in (whole[: len(whole) // 2], b"words", archive_of({"a": "b"})):
        assert f"is damaged or no {suffix} at all" in refusal(written(tmp_path / f"a.{suffix}", content))
    assert "old or encrypted Office" in refusal(written(tmp_path / f"a.{suffix}", b"\xd0\xcf\x11\xe0" + bytes(600)))
