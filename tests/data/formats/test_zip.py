"""Archives are read as the documents in them."""

import zipfile
from pathlib import Path

import pytest

from memspan.data.documents import open_documents
from memspan.data.formats import zip as zip_format
from tests.data.files import docx_of, refusal, text_of, written
from tests.data.hostile import archive_of


def test_the_documents_of_an_archive_are_read_each_by_its_name(tmp_path: Path) -> None:
    word = docx_of(tmp_path / "a.docx").read_bytes()
    members = {
        "notes/a.md": "# Plan\n\nGo.\n",
        "b.docx": word,
        "c.png": b"\x89PNG" + bytes(100),
        ".hidden": "no",
        "__MACOSX/c.txt": "no",
        "empty.txt": "",
        "blank.txt": "  \n",
        "d.csv": "Name,Age\nBo,7\n",
    }
    path = written(tmp_path / "a.zip", archive_of(members))
    text = text_of(path)
    assert text.startswith("# Plan\n\nGo.\n\n\nThe Log\n\nFirst words.")
    assert text.endswith("\n\nName; Age\nName: Bo; Age: 7\n")
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    files = [(chunk[offset:][:5].strip(), mark.value) for offset, mark in chunk.marks if mark.kind == "file"]
    assert files == [("# Pla", "notes/a.md"), ("The L", "b.docx"), ("Name;", "d.csv")]
    ended = {(mark.kind, mark.value) for offset, mark in chunk.marks if chunk[offset:].startswith("The Log")}
    assert ("heading", None) in ended


def test_archives_that_are_none_or_hold_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is damaged or no zip at all" in refusal(written(tmp_path / "a.zip", "words"))
    assert "without files" in refusal(written(tmp_path / "a.zip", archive_of({})))
    assert "holds no document" in refusal(written(tmp_path / "a.zip", archive_of({"a.png": b"\x89PNG"})))
    assert "holds another archive (x/y.tar)" in refusal(written(tmp_path / "a.zip", archive_of({"x/y.tar": "a"})))
    locked = bytearray(archive_of({"a.txt": "words"}))
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in refusal(written(tmp_path / "a.zip", bytes(locked)))
    monkeypatch.setattr(zip_format, "MAX_FILES", 1)
    assert "more files" in refusal(written(tmp_path / "a.zip", archive_of({"a.txt": "a", "b.txt": "b"})))


def test_damage_within_a_member_that_was_begun_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", archive_of({"a.txt": b"words\n" * 20_000 + b"\xff\xfe\n"}))
    assert refusal(path).startswith(f"{path}/a.txt is not valid UTF-8 in line 20001")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a.txt"]
