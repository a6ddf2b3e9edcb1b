"""Pictures of text (png, jpg, tiff, webp, bmp): scans, photographs and screenshots, by text recognition."""

import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.parsing import check_at_most, parsing
from memspan.data.formats.recognition import MAX_PIXELS, announce, check_installed, recognised
from memspan.data.marks import Mark

MAX_PAGES = 1_000  # of a TIFF
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")  # of Pillow; no other of its parsers is ever tried
_TURNED = 274  # the number of the field of EXIF that says how a camera was held


def read_image(source: FileSource) -> Iterator[str | Mark]:
    """The text in a picture in reading order; of a TIFF that of all its pages, with the mark "page".

    A mark "box" stands ahead of each line: x, y, width and height in pixels of the picture as it is shown, from its upper
    left corner. Raises UnreadableSource if it is damaged, too large or without text, or if the library that recognises text
    is not installed.
    """
    check_installed(source, "is a picture, whose text must be recognised")
    with source.open() as file:
        with parsing(source, "picture"):
            picture = _opened(source, file)
            pages = int(getattr(picture, "n_frames", 1)) if picture.format == "TIFF" else 1
            check_at_most(source, pages, MAX_PAGES, "pages")
        empty = True
        announce(source, pages)
        for number in range(pages):
            with parsing(source, "picture"):
                picture.seek(number)
                _check_size(source, picture)
                portions = list(recognised(source, _shown(picture)))
            if portions:
                if not empty:
                    yield "\n\n"
                if pages > 1:
                    yield Mark("page", number + 1)
                yield from portions
                empty = False
    if empty:
        raise source.refused("is a picture in which no text was found: there is nothing to read")


def _opened(source: FileSource, file: BinaryIO) -> Any:
    """The picture in an open file, of which only its size is known so far."""
    library = import_module("PIL.Image")
    try:
        picture = library.open(file, formats=_FORMATS)
    except library.DecompressionBombError:  # beyond Pillow's own limit, which is higher
        check_at_most(source, MAX_PIXELS + 1, MAX_PIXELS, "pixels")
        raise
    _check_size(source, picture)
    return picture


def _check_size(source: FileSource, picture: Any) -> None:
    """Raises UnreadableSource before a few bytes are unpacked to more pixels than the memory holds."""
    check_at_most(source, picture.width * picture.height, MAX_PIXELS, "pixels")


def _shown(picture: Any) -> Any:
    """The picture as it is shown: turned as the camera was held, on white where it is transparent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turned = import_module("PIL.ImageOps").exif_transpose(picture) if _TURNED in picture.getexif() else picture
    if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
        turned = turned.convert("RGBA")
        white = import_module("PIL.Image").new("RGBA", turned.size, "white")
        white.alpha_composite(turned)
        return white.convert("RGB")
    if turned.mode.startswith(("I", "F")):  # 16 and 32 bits, which `convert` would cut off
        low, high = turned.getextrema()
        return turned.point(lambda value: value * (255 / max(1, high - low)) - low * 255 / max(1, high - low)).convert(
            "RGB"
        )
    return turned.convert("RGB")


IMAGE = Format("image", (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"), read_image, packed=True)
