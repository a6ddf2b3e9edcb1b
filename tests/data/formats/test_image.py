"""Pictures of text become the text in reading order, with the box of each line; hostile ones are refused."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from memspan.data.documents import open_documents
from memspan.data.formats import pdf, recognition
from memspan.data.marks import marks_of_passages
from memspan.data.positions import Box, box_of, box_within
from tests.data.files import pdf_of, refusal, text_of, written

SENTENCES = ("The captain of the Aurora said", "that the wind would turn.", "There were 42 of them.")
TEXT = f"{SENTENCES[0]}\n{SENTENCES[1]}\n\n{SENTENCES[2]}"
TOPS = (40, 90, 240)


def test_without_the_library_a_picture_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "is_installed", lambda: False)
    monkeypatch.setattr(pdf, "is_installed", lambda: False)
    for name in ("a.png", "b.JPG", "c.tiff"):
        message = refusal(written(tmp_path / name, b"any bytes"))
        assert "is a picture, whose text must be recognised: pip install 'memspan[ocr]'" in message
    message = refusal(pdf_of(tmp_path / "a.pdf", ["", ""]))
    assert "only pictures of pages, whose text must be recognised: pip install 'memspan[ocr]'" in message


needs_ocr = pytest.mark.skipif(not recognition.is_installed(), reason="needs pip install 'memspan[ocr]' (310 MB)")


@pytest.fixture(scope="module")
def picture() -> Any:
    """A page of three lines in two paragraphs, 900 by 400 pixels."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (900, 400), "white")
    draw = ImageDraw.Draw(image)
    for top, sentence in zip(TOPS, SENTENCES, strict=True):
        draw.text((60, top), sentence, "black", ImageFont.load_default(32))
    return image


def marked(path: Path) -> list[tuple[str, str, object]]:
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    return [(chunk[offset:][:4], mark.kind, mark.value) for offset, mark in chunk.marks]


@needs_ocr
def test_each_line_of_a_picture_has_its_box(tmp_path: Path, picture: Any) -> None:
    picture.save(tmp_path / "a.png")
    assert text_of(tmp_path / "a.png") == TEXT
    marks = marked(tmp_path / "a.png")
    assert [(text, kind) for text, kind, _ in marks] == [("The ", "box"), ("that", "box"), ("Ther", "box")]
    for (_, _, value), top in zip(marks, TOPS, strict=True):
        box = box_of(value)
        assert box is not None
        assert (abs(box.x - 60) < 12, abs(box.y - top) < 15, 20 < box.height < 50) == (True, True, True)
    (document,) = open_documents([tmp_path / "a.png"])
    (chunk,) = document.marked_chunks()
    (held,), _ = marks_of_passages(chunk, [(0, len(chunk))], {})
    quoted = box_within(held, chunk.index("There"), len(chunk))
    assert quoted == box_of(marks[2][2])


@needs_ocr
@pytest.mark.parametrize("quarters", [1, 2])
def test_a_page_that_was_turned_is_read_and_its_boxes_are_those_of_the_picture(
    tmp_path: Path, picture: Any, quarters: int
) -> None:
    turned = picture.rotate(90 * quarters, expand=True)
    turned.save(tmp_path / "a.png")
    assert text_of(tmp_path / "a.png") == TEXT
    first = box_of(marked(tmp_path / "a.png")[0][2])
    assert first is not None
    middle = Box(first.x + first.width / 2, first.y + first.height / 2, 0, 0)
    if quarters == 1:
        assert (first.height > first.width, abs(middle.x - 60) < 15) == (True, True)
    else:
        assert abs(middle.y - (400 - 60)) < 15


@needs_ocr
def test_transparent_grey_and_paletted_pictures_are_read_as_they_are_shown(tmp_path: Path, picture: Any) -> None:
    from PIL import Image, ImageOps

    ink = ImageOps.invert(picture.convert("L"))
    clear = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    clear.putalpha(ink)
    clear.save(tmp_path / "clear.png")
    picture.convert("I;16").point(lambda value: value * 200).save(tmp_path / "deep.png")
    picture.convert("P").save(tmp_path / "palette.webp", lossless=True)
    for name in ("clear.png", "deep.png", "palette.webp"):
        assert text_of(tmp_path / name) == TEXT, name


@needs_ocr
def test_the_pages_of_a_tiff_have_numbers(tmp_path: Path, picture: Any) -> None:
    picture.save(tmp_path / "a.tif", save_all=True, append_images=[picture])
    assert text_of(tmp_path / "a.tif") == f"{TEXT}\n\n{TEXT}"
    assert [value for _, kind, value in marked(tmp_path / "a.tif") if kind == "page"] == [1, 2]


@needs_ocr
def test_only_a_page_of_a_pdf_without_a_text_layer_is_recognised(tmp_path: Path, picture: Any) -> None:
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(500, 300))
    canvas.drawString(50, 200, "A text layer.")
    canvas.drawImage(ImageReader(picture), 50, 20, 225, 100)
    canvas.showPage()
    canvas.drawImage(ImageReader(picture), 50, 100, 225, 100)
    canvas.showPage()
    canvas.showPage()
    canvas.drawString(50, 200, "The end.")
    canvas.save()
    assert text_of(tmp_path / "a.pdf") == f"A text layer.\n\n{TEXT}\n\nThe end."
    marks = marked(tmp_path / "a.pdf")
    assert [value for _, kind, value in marks if kind == "page"] == [1, 2, 4]
    boxes = [value for text, kind, value in marks if kind == "box" and value is not None]
    assert len(boxes) == 3
    first = box_of(boxes[0])
    assert first is not None
    assert (abs(first.x - 65) < 4, abs(first.y - 111) < 5, 90 < first.width < 130) == (True, True, True)


@needs_ocr
def test_a_long_picture_is_read_in_strips(tmp_path: Path) -> None:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (400, 2_000), 255)
    draw = ImageDraw.Draw(image)
    for number in range(20):
        draw.text((20, 100 * number + 10), f"Line number {number + 100}", 0, ImageFont.load_default(24))
    image.save(tmp_path / "a.png")
    assert text_of(tmp_path / "a.png").split("\n\n") == [f"Line number {number + 100}" for number in range(20)]
    boxes = [box_of(value) for _, kind, value in marked(tmp_path / "a.png")]
    assert all(box is not None and abs(box.y - 100 * number - 10) < 15 for number, box in enumerate(boxes))


@needs_ocr
def test_a_picture_without_text_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (300, 200), 255).save(tmp_path / "a.bmp")
    assert "in which no text was found" in refusal(tmp_path / "a.bmp")


# --- hostile ----------------------------------------------------------------------------------------------------------


def png_of(width: int, height: int, data: bytes) -> bytes:
    """A PNG that claims a size."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", data) + part(b"IEND", b"")


@needs_ocr
def test_a_picture_that_unpacks_to_far_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = png_of(60_000, 60_000, zlib.compress(bytes(1_000_000)))
    assert "has more pixels than are read from a document" in refusal(written(tmp_path / "a.png", bomb))


@needs_ocr
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tiff", "a.webp", "a.bmp"])
@pytest.mark.parametrize("damage", ["cut short", "not at all", "scrambled"])
def test_a_damaged_picture_is_refused_without_noise(
    tmp_path: Path, picture: Any, name: str, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = io.BytesIO()
    picture.save(file, {"a.jpg": "JPEG", "a.tiff": "TIFF"}.get(name, name[2:].upper()))
    whole = file.getvalue()
    content = {
        "cut short": whole[: len(whole) // 8],
        "not at all": b"just words",
        "scrambled": whole[:20] + bytes(reversed(whole[20:])),
    }[damage]
    message = refusal(written(tmp_path / name, content))
    assert (
        "is damaged or no picture at all" in message or "has more pixels" in message or "no text was found" in message
    )
    assert capfd.readouterr() == ("", "")


@needs_ocr
def test_a_file_of_another_kind_is_not_tried_with_other_parsers(tmp_path: Path) -> None:
    written(tmp_path / "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "is damaged or no picture at all" in refusal(tmp_path / "a.png")


@needs_ocr
def test_a_tiff_of_too_many_pages_is_refused(tmp_path: Path, picture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.data.formats.image.MAX_PAGES", 1)
    picture.save(tmp_path / "a.tif", save_all=True, append_images=[picture])
    assert "has more pages than are read" in refusal(tmp_path / "a.tif")
