"""Plain text: encodings, line ends, binary data, and lines without end."""

import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from memspan.data.documents import open_documents
from memspan.errors import UnreadableSource
from tests.data.files import CHINESE, refusal, text_of, written


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
            sum(map(len, document.chunks()))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_the_longest_line_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.data.formats.decoding.MAX_LINE", 100_000)
    assert len(text_of(written(tmp_path / "fits.txt", "x" * 100_000 + "\ny"))) == 100_002
    assert "line 1" in refusal(written(tmp_path / "long.txt", "x" * 100_001 + "\ny"))
    # Within the line the file goes over from one block that is read to the next.
    assert len(text_of(written(tmp_path / "second.txt", "y\n" + "x" * 100_000))) == 100_002
    assert "line 2" in refusal(written(tmp_path / "longer.txt", "y\n" + "x" * 100_001))


def test_reading_text_imports_no_parser(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "words")
    code = (
        "import sys; from memspan.data.documents import open_documents as o; "
        f"list(next(o([{str(path)!r}])).chunks()); "
        "print([name for name in ('pypdf', 'docx', 'lxml', 'bs4', 'charset_normalizer') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"
