"""What holds for every format, for the registry, and for formats of other packages."""

import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import docx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.data.documents import open_documents
from memspan.data.formats import FORMATS, GROUP, Format, format_names, format_of, parsing, suffixes
from memspan.errors import UnreadableSource, UsageError
from tests.data.files import docx_of, epub_of, pdf_of, refusal, text_of, written

Install = Callable[[str, str], None]


def test_every_suffix_has_a_format() -> None:
    assert suffixes() == tuple(suffix for format in FORMATS for suffix in format.suffixes)
    assert len(set(suffixes())) == len(suffixes())
    assert format_names() == tuple(format.name for format in FORMATS)
    for format in FORMATS:
        for suffix in format.suffixes:
            assert format_of(f"folder.d/a{suffix}") is format_of(f"A{suffix.upper()}") is format


def test_any_other_suffix_is_tried_as_text(tmp_path: Path) -> None:
    for name in ("a.log", "a.pdf.old", "README", ".html", "a."):
        assert format_of(name) is format_of("a.txt")
        assert text_of(written(tmp_path / name, f"words of {name}")) == f"words of {name}"


def test_the_formats_that_documents_were_promised_in_are_there() -> None:
    promised = {".txt", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf", ".docx", ".epub", ".jsonl"}
    assert promised <= set(suffixes())
    packed = {suffix for suffix in promised if format_of(f"a{suffix}").packed}
    assert packed == {".html", ".htm", ".xhtml", ".pdf", ".docx", ".epub"}


def test_a_document_knows_whether_its_size_is_the_length_of_its_text(tmp_path: Path) -> None:
    for path, packed in ((docx_of(tmp_path / "a.docx"), True), (written(tmp_path / "a.txt", "words"), False)):
        (document,) = open_documents([path])
        assert document.packed is packed


@pytest.mark.parametrize("suffix", suffixes())
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    assert "is empty (0 bytes)" in refusal(written(tmp_path / f"a{suffix}", ""))


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", " \n\t" * 50_000), ("a.jsonl", "\n\n"), ("a.html", "<p> </p>")]
)
def test_white_space_is_no_text(tmp_path: Path, name: str, content: str) -> None:
    assert "no text" in refusal(written(tmp_path / name, content))


def test_what_unpacks_to_far_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MAX_MEMBER", 100_000)
    assert "unpacks to more" in refusal(epub_of(tmp_path / "a.epub", two="<p>" + "words " * 50_000))
    document = docx.Document()
    document.add_paragraph("words " * 50_000)
    document.save(str(tmp_path / "a.docx"))
    assert "unpacks to more" in refusal(tmp_path / "a.docx")


def test_a_document_of_many_small_files_that_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = docx_of(tmp_path / "a.docx")
    with zipfile.ZipFile(path) as archive:
        sizes = [member.file_size for member in archive.infolist()]
    monkeypatch.setattr(parsing, "MAX_MEMBER", max(sizes))
    monkeypatch.setattr(parsing, "MAX_ARCHIVE", sum(sizes))
    assert "First words." in text_of(path)
    monkeypatch.setattr(parsing, "MAX_ARCHIVE", sum(sizes) - 1)
    assert "unpacks to more" in refusal(path)


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
    tmp_path_factory: pytest.TempPathFactory, suffix: str, position: int, noise: bytes
) -> None:
    folder = tmp_path_factory.mktemp("noise")
    make = {"pdf": lambda path: pdf_of(path, ["Words."]), "docx": docx_of, "epub": epub_of}[suffix]
    whole = make(folder / f"whole.{suffix}").read_bytes()
    position %= len(whole)
    path = written(folder / f"a.{suffix}", whole[:position] + noise + whole[position + len(noise) :])
    with suppress(UnreadableSource):
        text_of(path)


# --- formats of other packages ----------------------------------------------------------------------------------------

CODE = """
from memspan.data.formats import Format


def read(source):
    with source.open() as file:
        yield file.read().decode()[::-1]


UPSIDE_DOWN = Format("upside-down", (".{suffix}",), read)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package `<suffix>_reader` that registers the attribute UPSIDE_DOWN of its module for a suffix."""
    folder = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(folder))

    def install(suffix: str, code: str) -> None:
        package = f"{suffix}_reader"
        written(folder / f"{package}.py", code)
        info = folder / f"{package}-1.0.dist-info"
        written(info / "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        written(info / "entry_points.txt", f"[{GROUP}]\n{suffix} = {package}:UPSIDE_DOWN\n")

    return install


def test_another_package_adds_a_format_that_is_loaded_when_a_file_needs_it(tmp_path: Path, install: Install) -> None:
    install("upside", CODE.replace("{suffix}", "upside"))
    assert text_of(written(tmp_path / "a.txt", "words")) == "words"
    assert "upside_reader" not in sys.modules
    assert text_of(written(tmp_path / "a.UPSIDE", "words")) == "sdrow"
    assert ".upside" not in suffixes()


@pytest.mark.parametrize(
    ("suffix", "code", "reason"),
    [
        ("absent", "import no_such_library", "must be importable, got ModuleNotFoundError"),
        ("object", "UPSIDE_DOWN = read = print", "must be a Format with the suffix .object, got <built-in"),
        ("other", CODE.replace("{suffix}", "another"), "must be a Format with the suffix .other"),
        ("upper", CODE.replace("{suffix}", "Upper"), "suffixes must be a tuple of endings such as ('.txt',)"),
    ],
)
def test_a_broken_format_of_another_package_is_refused_by_name(
    tmp_path: Path, install: Install, suffix: str, code: str, reason: str
) -> None:
    install(suffix, code)
    path = written(tmp_path / f"a.{suffix}", "words")
    for _ in range(2):
        message = refusal(path)
        assert f"The plugin '{suffix}' of memspan.readers" in message
        assert reason in message
    assert text_of(written(tmp_path / "a.txt", "words")) == "words"


@pytest.mark.parametrize("suffixes", [(), ".txt", ("txt",), (".TXT",), (".tar.gz",), (".",), (1,), [".txt"]])
def test_a_format_has_endings_that_files_can_have(suffixes: Any) -> None:
    with pytest.raises(UsageError, match="suffixes must be a tuple of endings"):
        Format("new", suffixes, FORMATS[0].read)


def test_a_format_has_a_name_and_a_function() -> None:
    for name, read in (("", FORMATS[0].read), (None, FORMATS[0].read), ("new", "read")):
        with pytest.raises(UsageError, match="must have a name and a function `read`"):
            Format(name, (".new",), read)  # type: ignore[arg-type]
