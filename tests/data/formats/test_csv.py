"""Rows of tables become lines in which every value stands behind the name of its column."""

from pathlib import Path

import pytest

from memspan.data.chunking import in_chunks, split_passages
from memspan.data.documents import open_documents
from memspan.data.formats import csv as csv_format
from memspan.data.formats.base import FileSource
from tests.data.files import refusal, text_of, written

TABLE = 'Name,City,Note\nBo,Bergen,"likes\nrain, and snow"\nAnn,Oslo,\n\n谁,上海,x\n'
LINES = "Name; City; Note\nName: Bo; City: Bergen; Note: likes rain, and snow\nName: Ann; City: Oslo\nName: 谁; City: 上海; Note: x\n"


def test_a_row_is_a_line_with_the_names_of_its_columns(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.csv", TABLE)) == LINES


def test_the_mark_of_a_row_is_its_line_in_the_file(tmp_path: Path) -> None:
    (document,) = open_documents([written(tmp_path / "a.csv", TABLE)])
    (chunk,) = document.marked_chunks()
    marks = [(chunk[offset:].split("\n")[0][:9], mark.kind, mark.value) for offset, mark in chunk.marks]
    assert marks == [
        ("Name; Cit", "line", 1),
        ("Name: Bo;", "line", 2),
        ("Name: Ann", "line", 4),
        ("Name: 谁; ", "line", 6),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_guessed(tmp_path: Path, delimiter: str) -> None:
    rows = [["Name", "Price"], ["Tea", '"1,50; or so"'], ["Milk", '"0,90"']]
    text = text_of(written(tmp_path / "a.csv", "\n".join(delimiter.join(row) for row in rows)))
    assert "Name: Tea; Price: 1,50; or so\nName: Milk; Price: 0,90\n" in text


def test_a_tsv_is_cut_at_tabs_only(tmp_path: Path) -> None:
    assert "a: x, y; b: z, w" in text_of(written(tmp_path / "a.tsv", "a\tb\nx, y\tz, w\n"))


def test_without_a_header_the_values_stand_alone(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.csv", "Bo,17\nAnn,18\n")) == "Bo; 17\nAnn; 18\n"


def test_the_encoding_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "Name;Ort\nBjörn;Malmö\n".encode("cp1252"))
    assert "--encoding" in refusal(path)
    assert "Name: Björn; Ort: Malmö" in text_of(path, "cp1252")


def test_a_quotation_mark_that_does_not_end_is_named(tmp_path: Path) -> None:
    assert "bad row in line 2" in refusal(written(tmp_path / "a.csv", 'a,b\n"' + "x\n" * 100_000))
    assert "characters in a row" in refusal(written(tmp_path / "a.csv", 'a,b\n"' + 'x\n","' * 300_000))


def test_the_chunks_hold_the_whole_table_and_the_marks_of_every_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "name,value\n" + "".join(f"n{k},v{k}\n" for k in range(2_000)))
    portions = list(csv_format.read_csv(FileSource(path, "a.csv")))
    whole = "".join(portion for portion in portions if isinstance(portion, str))
    chunks = list(in_chunks(portions, 1_000))
    assert "".join(chunks) == whole
    for chunk in chunks:
        for offset, mark in chunk.marks:
            assert chunk[offset:].startswith(
                "name; value" if mark.value == 1 else f"name: n{int(mark.value or 0) - 2};"
            )


def test_a_row_is_not_torn_apart_by_passages(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "name,note\n" + "".join(f"n{k},word. Word. {k}\n" for k in range(50)))
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    for start, _ in split_passages(chunk, 100):
        assert start == 0 or chunk[start - 1] == "\n"
