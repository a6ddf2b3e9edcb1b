"""Every kind of document gives its whole text; everything else gives one sentence that says what to do."""

import json
import logging
import os
import random
import subprocess
import sys
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import docx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter
from reportlab.pdfgen.canvas import Canvas

from memspan.data import documents as readers
from memspan.data.documents import PIECE, READERS, SUFFIXES, Skipped, in_pieces, open_documents
from memspan.errors import UnreadableSource, UsageError

CHINESE = "船长说今天风向要变。水手们收起了帆，等着天黑！"


def texts_of(path: Path | str, encoding: str | None = None) -> list[str]:
    """The whole texts of the documents at `path`."""
    return ["".join(document.pieces()) for document in open_documents([path], encoding=encoding)]


def text_of(path: Path | str, encoding: str | None = None) -> str:
    """The whole text of the one document at `path`."""
    (text,) = texts_of(path, encoding)
    return text


def refusal(path: Path | str, encoding: str | None = None) -> str:
    """The sentence with which `path` is refused, from opening it to reading all of it."""
    with pytest.raises(UsageError) as caught:
        texts_of(path, encoding)
    message = str(caught.value)
    assert "\n" not in message
    return message


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- documents --------------------------------------------------------------------------------------------------------


def test_a_document_has_its_name_size_and_text_and_can_be_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "sea.txt", "high tide\n")
    (document,) = open_documents(["sea.txt"])
    assert (document.source, document.size, document.kind) == ("sea.txt", 10, "document")
    assert "".join(document.pieces()) == "".join(document.pieces()) == "high tide\n"


def test_documents_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    paths = [written(tmp_path / name, name) for name in ("b.txt", "a.md", "noext", "z.LOG")]
    assert [document.source for document in open_documents(paths)] == [str(path) for path in paths]


def test_every_suffix_has_a_reader() -> None:
    assert tuple(READERS) == SUFFIXES
    assert {".txt", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf", ".docx", ".epub", ".jsonl"} == set(SUFFIXES)


def test_a_missing_path_is_told_before_any_document_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file or folder '.*nowhere\.txt'"):
        open_documents([written(tmp_path / "a.txt", "a"), tmp_path / "nowhere.txt"])


@pytest.mark.parametrize("paths", [[], "book.txt", ["-", "-"], ["a\0b"]])
def test_senseless_paths_are_refused(paths: list[str]) -> None:
    with pytest.raises(UsageError):
        open_documents(paths)


# --- pieces -----------------------------------------------------------------------------------------------------------

ENDINGS = st.sampled_from(
    ["\n\n", "\n", ". ", "! ", "。", "！”", "？", " ", "e\u0301", "word", "潮水退了", "\u0301", "👩\u200d👧"]
)
TEXTS = st.one_of(st.lists(ENDINGS, max_size=60).map("".join), st.text(max_size=200))


@settings(deadline=None)
@given(TEXTS, st.integers(1, 100), st.integers(1, 50))
def test_joined_pieces_are_the_text(text: str, limit: int, portion: int) -> None:
    portions = [text[start : start + portion] for start in range(0, len(text), portion)]
    pieces = list(in_pieces(portions, limit))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("A. b\n\nC d\nE. f g", "A. b\n\n"),
        ("A. b c d\nE. f ghijk", "A. b c d\n"),
        ('A "b." C d e f g h', 'A "b." '),
        ("潮水退了。船长说“走吧！”我们就走了", "潮水退了。船长说“走吧！”"),
        ("one two three four five", "one two three "),
        ("x" * 20, "x" * 14),
        ("x" * 13 + "e\u0301" + "x" * 9, "x" * 13),
    ],
)
def test_a_piece_ends_at_the_best_place_there_is(text: str, first: str) -> None:
    assert next(in_pieces([text], limit=14)) == first


def test_a_long_file_comes_in_pieces_of_bounded_size_that_join_to_it(tmp_path: Path) -> None:
    rng = random.Random(3)
    text = "".join(rng.choice(["The sea. ", CHINESE, "\n", "\n\n", "wind "]) for _ in range(60_000))
    (document,) = open_documents([written(tmp_path / "long.md", text)])
    pieces = list(document.pieces())
    assert "".join(pieces) == text
    assert len(pieces) > 3
    assert max(map(len, pieces)) <= PIECE
    assert all(piece.endswith("\n\n") for piece in pieces[:-1])


CHAT_LINE = json.dumps({"role": "user", "content": CHINESE * 5}, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(("name", "unit"), [("big.txt", "The sea was calm. " * 5 + "\n"), ("big.jsonl", CHAT_LINE)])
def test_memory_stays_bounded_while_reading(tmp_path: Path, name: str, unit: str) -> None:
    with (tmp_path / name).open("w", encoding="utf-8") as file:
        for _ in range(20_000_000 // len(unit.encode())):
            file.write(unit)
    tracemalloc.start()
    try:
        (document,) = open_documents([tmp_path / name])
        assert sum(map(len, document.pieces())) > 6_000_000
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


# --- plain text -------------------------------------------------------------------------------------------------------


def test_line_ends_become_newlines_even_across_blocks(tmp_path: Path) -> None:
    text = "ab\r\n" * 50_000 + "c\rd"
    assert text_of(written(tmp_path / "dos.txt", text)) == "ab\n" * 50_000 + "c\nd"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_as_it_is_and_the_mark_goes(tmp_path: Path, encoding: str) -> None:
    text = f"{CHINESE}\n" * 4000
    assert text_of(written(tmp_path / "a.txt", text.encode(encoding))) == text


def test_big_endian_utf16_is_read(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.txt", b"\xfe\xff" + CHINESE.encode("utf-16-be"))) == CHINESE


@pytest.mark.parametrize("encoding", ["gb18030", "big5", "shift_jis", "cp1251", "utf-16-le"])
def test_a_given_encoding_is_used(tmp_path: Path, encoding: str) -> None:
    text = {"shift_jis": "海へ行きました。", "cp1251": "Ветер стих."}.get(encoding, "今天風停了。") + "\n"
    path = written(tmp_path / "a.txt", (text * 9000).encode(encoding))
    assert text_of(path, encoding) == text * 9000


@pytest.mark.parametrize(
    ("encoding", "text"), [("gb18030", CHINESE), ("cp1251", "Вчера ветер стих, и мы вышли в море.")]
)
def test_a_wrong_encoding_is_named_with_the_option_that_helps(tmp_path: Path, encoding: str, text: str) -> None:
    path = written(tmp_path / "a.txt", f"{text}\n".encode(encoding) * 200)
    message = refusal(path)
    assert f"is not valid UTF-8 in line 1; it looks like {encoding}: add `--encoding {encoding}`" in message
    assert text in text_of(path, encoding)


def test_western_european_text_is_pointed_to_cp1252(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "Où êtes-vous allés hier soir, déjà au café?\n".encode("cp1252") * 50)
    assert "cp1252" in refusal(path)


def test_a_text_that_ends_within_a_character_is_refused(tmp_path: Path) -> None:
    message = refusal(written(tmp_path / "a.txt", b"one\ntwo\ncaf\xe9"))
    assert "not valid UTF-8 in line 3" in message
    assert "--encoding" in message


def test_one_damaged_byte_deep_in_a_utf8_text_is_found_by_line(tmp_path: Path) -> None:
    lines = f"{CHINESE}\n".encode() * 5000
    message = refusal(written(tmp_path / "a.txt", lines + b"\xff\n" + lines))
    assert "line 5001" in message
    assert "iconv" in message


def test_an_unknown_encoding_is_refused_before_reading(tmp_path: Path) -> None:
    for encoding in ("klingon", "hex", "a\0b"):
        assert "unknown encoding" in refusal(written(tmp_path / "a.txt", "text"), encoding)


def test_a_given_encoding_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", CHINESE * 50)
    assert "is not valid ASCII in line 1; it looks like UTF-8: leave out `--encoding`" in refusal(path, "ascii")
    assert "is not valid UTF-16" in refusal(path, "utf-16")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG image"),
        (b"PK\x03\x04" + b"x" * 100, "zip archive"),
        (b"%PDF-1.7\n", "suffix .pdf"),
        (b"{\\rtf1 hello}", "Rich Text"),
        (random.Random(1).randbytes(5000), "binary"),
        (random.Random(1).randbytes(5000).replace(b"\0", b"\1"), "binary"),
        (b"text " * 20_000 + b"\0" + b"text", "NUL character near line 1"),
    ],
    ids=["png", "zip", "pdf", "rtf", "random", "random-without-nul", "late-nul"],
)
def test_binary_data_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(written(tmp_path / "data.txt", content))


@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.jsonl", "a.docx", "a.pdf", "a.epub"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    assert "is empty (0 bytes)" in refusal(written(tmp_path / name, ""))


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", " \n\t" * 50_000), ("a.jsonl", "\n\n"), ("a.html", "<p> </p>")]
)
def test_white_space_is_no_text(tmp_path: Path, name: str, content: str) -> None:
    assert "no text" in refusal(written(tmp_path / name, content))


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    with path.open("wb") as file:
        file.write(b"first\n")
        for _ in range(400):
            file.write(b"x" * 65536)
    (document,) = open_documents([path])
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableSource, match=r"more than 16,777,216 characters in line 2: .*fold -s"):
            sum(map(len, document.pieces()))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_the_longest_line_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.data.documents.LONGEST_LINE", 100_000)
    assert len(text_of(written(tmp_path / "fits.txt", "x" * 100_000 + "\ny"))) == 100_002
    assert "line 1" in refusal(written(tmp_path / "long.txt", "x" * 100_001 + "\ny"))


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "closed.txt", "secret")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "chmod" in refusal(path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert "not a regular file" in refusal(tmp_path / "pipe.txt")


# --- standard input ---------------------------------------------------------------------------------------------------


def test_standard_input_is_read_and_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with written(tmp_path / "in", CHINESE * 9000).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        (document,) = open_documents(["-"])
    assert document.source.startswith("stdin-20")
    assert document.size is None
    assert "".join(document.pieces()) == "".join(document.pieces()) == CHINESE * 9000


@pytest.mark.parametrize(("data", "reason"), [(b"", "pipe some text in"), (b" \n", "no text"), (b"a\0b", "binary")])
def test_bad_standard_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, reason: str
) -> None:
    with written(tmp_path / "in", data).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert reason in refusal("-")


def test_the_copy_of_standard_input_goes_with_its_document(tmp_path: Path) -> None:
    code = "from memspan.data.documents import open_documents as o; print(*next(o(['-'])).pieces())"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=CHINESE.encode(),
        capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert run.stdout.decode().strip() == CHINESE
    assert run.stderr == b""
    assert list(tmp_path.iterdir()) == []


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_recursively_in_order_and_tells_what_it_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("docs/b.md", "docs/a/z.txt", "docs/c.py"):
        written(tmp_path / name, name)
    written(tmp_path / "docs/.git/config", "x")
    written(tmp_path / "docs/.hidden", "x")
    written(tmp_path / "docs/empty.txt", "")
    written(tmp_path / "docs/pic.png", b"\x89PNG\r\n")
    (tmp_path / "docs/again").symlink_to(tmp_path / "docs")
    (tmp_path / "docs/broken").symlink_to(tmp_path / "nowhere")
    skipped: list[Skipped] = []
    documents = list(open_documents(["docs"], on_skip=skipped.append))
    assert [document.source for document in documents] == ["docs/a/z.txt", "docs/b.md", "docs/c.py"]
    assert ["".join(document.pieces()) for document in documents] == [document.source for document in documents]
    reasons = {one.source: one.reason for one in skipped}
    assert list(reasons) == sorted(reasons)
    assert reasons["docs/.git"] == reasons["docs/.hidden"] == "is hidden"
    assert reasons["docs/again"] == "is a link to a folder"
    assert reasons["docs/broken"].startswith("is not a regular file")
    assert reasons["docs/empty.txt"].startswith("is empty")
    assert reasons["docs/pic.png"].startswith("is a PNG image")


def test_a_folder_without_readable_files_says_what_it_holds(tmp_path: Path) -> None:
    for number in range(5):
        written(tmp_path / f"{number}.png", b"\x89PNG")
    message = refusal(tmp_path)
    assert "no readable file, skipped 5" in message
    assert "0.png is a PNG image" in message
    assert message.endswith("and 2 more")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "holds no files" in refusal(tmp_path)


# --- web pages --------------------------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html><head><title>The  Light</title><style>p {color: red}</style></head>
<body><h1>Log</h1><!-- draft --><script>var x = "code";</script>
<p>A <b>bold</b> <i>sea</i>,
 wrapped.<br>Next line.</p><div hidden>unseen</div><p style="display: none">unseen</p>
<ul><li>oil</li><li>rope</li></ul>
<table><tr><th>ship</th><th>tons</th></tr><tr><td>Gull</td><td>40</td></tr></table>
<pre>
a
  b</pre>&copy; end</body></html>"""
PAGE_TEXT = """The Light

Log

A bold sea, wrapped.
Next line.

oil
rope

ship | tons
Gull | 40

a
  b

© end"""


@pytest.mark.parametrize("name", ["a.html", "a.htm", "a.XHTML"])
def test_a_web_page_gives_its_visible_text(tmp_path: Path, name: str) -> None:
    assert text_of(written(tmp_path / name, PAGE)) == PAGE_TEXT


def test_a_web_page_without_closing_tags_is_read(tmp_path: Path) -> None:
    page = "<html><head><title>T</title><body><p>one<p>two<ul><li>x<li>y"
    assert text_of(written(tmp_path / "a.html", page)) == "T\n\none\n\ntwo\n\nx\ny"


def test_a_web_page_may_declare_its_encoding(tmp_path: Path) -> None:
    page = f'<html><head><meta charset="gb2312"></head><body>{CHINESE}镕</body></html>'
    assert text_of(written(tmp_path / "a.html", page.encode("gb18030"))) == f"{CHINESE}镕"
    bare = written(tmp_path / "b.html", f"<p>{CHINESE * 20}</p>".encode("gb18030"))
    assert "--encoding gb18030" in refusal(bare)
    assert text_of(bare, "gb18030") == CHINESE * 20


def test_a_wrong_encoding_deep_in_a_web_page_is_found(tmp_path: Path) -> None:
    page = b"<p>plain ascii</p>\n" * 20_000 + f"<p>{CHINESE * 20}</p>\n".encode("gb18030") * 20
    message = refusal(written(tmp_path / "a.html", page))
    assert "in line 20001; it looks like gb18030" in message


def test_a_deeply_nested_web_page_is_read(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.html", "<div>" * 5000 + "deep" + "</div>" * 5000)) == "deep"


def test_a_picture_named_html_is_refused(tmp_path: Path) -> None:
    assert "PNG image" in refusal(written(tmp_path / "a.html", b"\x89PNG\r\n\x1a\n\0\0"))


# --- pdf --------------------------------------------------------------------------------------------------------------


def pdf_of(path: Path, pages: list[str]) -> Path:
    canvas = Canvas(str(path))
    for page in pages:
        canvas.drawString(72, 700, page)
        canvas.rect(72, 72, 100, 100)
        canvas.showPage()
    canvas.save()
    return path


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


# --- docx and epub ----------------------------------------------------------------------------------------------------


def docx_of(path: Path) -> Path:
    document = docx.Document()
    document.add_heading("The Log", 0)
    document.add_paragraph("First words.")
    table = document.add_table(rows=2, cols=3)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"c{number}"
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    document.add_paragraph("")
    document.add_paragraph(CHINESE)
    document.save(str(path))
    return path


def test_a_docx_gives_paragraphs_and_tables_in_order(tmp_path: Path) -> None:
    expected = f"The Log\n\nFirst words.\n\nwide | c2\nc3 | c4 | c5\n\n{CHINESE}"
    assert text_of(docx_of(tmp_path / "a.docx")) == expected


CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="EPUB/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>
"""
PACKAGE = """<?xml version="1.0"?>
<package version="3.0" xmlns="http://www.idpf.org/2007/opf"><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="cover" href="cover.jpg" media-type="image/jpeg"/>
<item id="c1" href="text/chapter%20one.xhtml" media-type="application/xhtml+xml"/>
<item id="c2" href="two.xhtml" media-type="application/xhtml+xml"/>
</manifest><spine><itemref idref="nav"/><itemref idref="cover"/><itemref idref="c2"/><itemref idref="c1"/></spine>
</package>
"""


def epub_of(path: Path, **members: str) -> Path:
    """A small e-book; `members` replace files of it (package=, two=)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("EPUB/content.opf", members.get("package", PACKAGE))
        book.writestr("EPUB/nav.xhtml", "<html><body>Table of contents</body></html>")
        for name, member in (("one", "text/chapter one.xhtml"), ("two", "two.xhtml")):
            head = f"<title>Chapter {name}</title>"
            page = f"<html><head>{head}</head><body><h1>{name}</h1><p>Words of {name}. {CHINESE}</p></body></html>"
            book.writestr(f"EPUB/{member}", members.get(name, page))
    return path


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


def test_what_unpacks_to_far_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LARGEST_MEMBER", 100_000)
    assert "unpacks to more" in refusal(epub_of(tmp_path / "a.epub", two="<p>" + "words " * 50_000))
    document = docx.Document()
    document.add_paragraph("words " * 50_000)
    document.save(str(tmp_path / "a.docx"))
    assert "unpacks to more" in refusal(tmp_path / "a.docx")


@pytest.mark.parametrize("suffix", ["pdf", "docx", "epub"])
@pytest.mark.parametrize("damage", ["cut short", "not at all", "scrambled"])
def test_a_damaged_document_is_refused_without_noise(
    tmp_path: Path, suffix: str, damage: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    make = {"pdf": lambda path: pdf_of(path, ["Words."]), "docx": docx_of, "epub": epub_of}[suffix]
    whole = make(tmp_path / f"whole.{suffix}").read_bytes()
    content = {
        "cut short": whole[: len(whole) // 2],
        "not at all": b"just words",
        "scrambled": whole[:20] + bytes(reversed(whole[20:])),
    }[damage]
    message = refusal(written(tmp_path / f"a.{suffix}", content))
    assert f"is damaged or no {suffix.upper() if suffix == 'pdf' else suffix} at all" in message
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["pdf", "docx", "epub"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=60))
def test_whatever_is_wrong_within_a_document_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, place: int, noise: bytes
) -> None:
    folder = tmp_path_factory.mktemp("noise")
    make = {"pdf": lambda path: pdf_of(path, ["Words."]), "docx": docx_of, "epub": epub_of}[suffix]
    whole = make(folder / f"whole.{suffix}").read_bytes()
    place %= len(whole)
    path = written(folder / f"a.{suffix}", whole[:place] + noise + whole[place + len(noise) :])
    with suppress(UnreadableSource):
        text_of(path)


def test_a_parser_that_warns_is_not_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = pdf_of(tmp_path / "a.pdf", ["Words."]).read_bytes()
    path = written(tmp_path / "b.pdf", content.replace(b"startxref\n", b"startxref\n9"))
    assert text_of(path) == "Words."
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("pypdf").level == logging.NOTSET


def test_an_office_document_with_a_password_is_named(tmp_path: Path) -> None:
    assert "encrypted Office" in refusal(written(tmp_path / "a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)))


# --- chats ------------------------------------------------------------------------------------------------------------


def test_chats_are_written_out(tmp_path: Path) -> None:
    lines = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is\r\nthe chest?"},
        {"role": "assistant", "content": [{"type": "text", "text": "Buried."}, {"type": "image_url"}, {"text": 5}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"messages": [{"role": "user", "content": "谁？"}, {"role": "tool", "content": "42"}]},
        {"text": "Plain \ud83d words."},
    ]
    path = written(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, lines)))
    assert text_of(path) == (
        "System: Be brief.\n\nUser: Where is\nthe chest?\n\nAssistant: Buried.\n\n"
        "User: 谁？\n\nTool: 42\n\nPlain \ufffd words.\n\n"
    )


@pytest.mark.parametrize(
    "bad", ["{", "[1]", '"text"', '{"role": "user"}', '{"messages": [7]}', '{"role": 1, "content": "x"}', "[" * 99_999]
)
def test_a_bad_line_of_a_chat_is_named_by_number(tmp_path: Path, bad: str) -> None:
    assert "bad line 3" in refusal(written(tmp_path / "a.jsonl", f'{{"text": "good"}}\n\n{bad}\n'))


def test_reading_text_imports_no_parser(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "words")
    code = (
        "import sys; from memspan.data.documents import open_documents as o; "
        f"list(next(o([{str(path)!r}])).pieces()); "
        "print([name for name in ('pypdf', 'docx', 'lxml', 'bs4', 'charset_normalizer') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"
