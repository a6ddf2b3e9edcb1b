"""E-books give their chapters in reading order."""

import zipfile
from pathlib import Path

import pytest

from tests.data.files import CHINESE, PACKAGE, epub_of, refusal, text_of


def test_an_epub_gives_its_chapters_in_reading_order(tmp_path: Path) -> None:
    text = text_of(epub_of(tmp_path / "a.epub"))
    assert text == "\n\n".join(f"Chapter {name}\n\n{name}\n\nWords of {name}. {CHINESE}" for name in ("two", "one"))


def test_an_encoding_given_for_texts_does_not_touch_an_epub(tmp_path: Path) -> None:
    path = epub_of(tmp_path / "a.epub")
    assert text_of(path, "gb18030") == text_of(path)


def test_a_protected_epub_is_refused(tmp_path: Path) -> None:
    path = epub_of(tmp_path / "a.epub")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("META-INF/encryption.xml", '<encryption><CipherReference URI="EPUB/two.xhtml"/></encryption>')
    assert "copy-protected" in refusal(path)


def test_an_epub_whose_fonts_are_disguised_is_read(tmp_path: Path) -> None:
    path = epub_of(tmp_path / "a.epub")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("META-INF/encryption.xml", '<encryption><CipherReference URI="EPUB/a.otf"/></encryption>')
    assert "Words of one." in text_of(path)


def test_an_epub_that_lacks_a_chapter_is_refused(tmp_path: Path) -> None:
    package = PACKAGE.replace("two.xhtml", "three.xhtml")
    assert "is damaged or no epub at all" in refusal(epub_of(tmp_path / "a.epub", package=package))


def test_a_chapter_that_the_reading_order_names_again_is_read_once(tmp_path: Path) -> None:
    package = PACKAGE.replace('<itemref idref="c2"/>', '<itemref idref="c2"/>' * 10_000)
    assert text_of(epub_of(tmp_path / "a.epub", package=package)) == text_of(epub_of(tmp_path / "b.epub"))


def test_a_book_of_too_many_chapters_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, refused in ((2, False), (1, True)):
        monkeypatch.setattr("memspan.data.formats.epub.MAX_CHAPTERS", limit)
        path = epub_of(tmp_path / "a.epub")
        assert ("more chapters than are read from a document (1)" in refusal(path)) if refused else text_of(path)


def test_the_markup_of_all_chapters_together_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = epub_of(tmp_path / "a.epub")
    with zipfile.ZipFile(path) as archive:
        size = sum(
            member.file_size
            for member in archive.infolist()
            if "nav" not in member.filename and "xhtml" in member.filename
        )
    monkeypatch.setattr("memspan.data.formats.epub.MAX_ARCHIVE", size)
    assert "Words of one." in text_of(path)
    monkeypatch.setattr("memspan.data.formats.epub.MAX_ARCHIVE", size - 1)
    assert "more bytes of markup" in refusal(path)


def test_chapters_written_in_xml_keep_what_follows_an_empty_element(tmp_path: Path) -> None:
    page = "<html><head><title/><script src='a.js'/></head><body><p hidden='hidden'/><![CDATA[1 < 2]]> <a id='x'/>b</body></html>"
    assert "1 < 2 b" in text_of(epub_of(tmp_path / "a.epub", two=page))
    aside = "<html><body><header><h1>Two</h1></header><aside>a note</aside></body></html>"
    assert "Two\n\na note" in text_of(epub_of(tmp_path / "b.epub", two=aside))
