"""E-books give their chapters in reading order."""

import zipfile
from pathlib import Path

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
