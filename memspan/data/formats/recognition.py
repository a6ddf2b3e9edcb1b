"""Text recognition (OCR) in pictures of pages, by RapidOCR, which memspan does not need otherwise (extra `ocr`).

The wheel of RapidOCR holds its networks (PP-OCRv6 for Chinese, English and other scripts), which ONNX Runtime computes on
the CPU: nothing is fetched. A page takes some ten seconds of one core.
"""

import hashlib
import logging
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspan.data.formats.base import FileSource
from memspan.data.formats.layout import MAX_LINES, Line, Row, paragraphs
from memspan.data.formats.parsing import check_at_most
from memspan.data.marks import Mark
from memspan.data.positions import Box
from memspan.data.scripts import HAN, KANA
from memspan.errors import MemspanWarning

INSTALL = "pip install 'memspan[ocr]'"
MAX_PIXELS = 80_000_000  # of a picture, 240 MB: A4 at 600 dots per inch has 35 million
SIDE = 3_000  # pixels: a larger picture of a page is made smaller; A4 at 250 dots per inch
STRIP = 1.5  # times as long as wide: a longer picture, such as that of a web page, is cut into strips
DETECTION_SIDE = 1_280  # pixels within which lines are looked for; they are read in the picture itself
MIN_SCORE = 0.5  # of a line that counts, from 0 to 1
MANY_PAGES = 5  # of a document, which is announced
STEEPEST = 0.25  # radians by which a page may slope and still have its lines put in order as if it did not
KEPT_PAGES = 512  # whose lines are kept: a document is looked into before it is read

_TALL = 1.5  # times as high as wide: such lines run from top to bottom
_SURE = 0.8  # of the characters of a page that stands as it should; upside down they are about half as certain
_NO_SPACE = re.compile(rf"[{HAN}{KANA}，。、；：！？（）《》“”…—]")
_FULL_LINE = 0.85  # of the width of the paragraph: a line that the next one goes on with

_recognised: "OrderedDict[bytes, tuple[Line, ...]]" = OrderedDict()
_lock = Lock()


def is_installed() -> bool:
    """Whether text can be recognised."""
    return _library() is not None


def check_installed(source: FileSource, why: str) -> None:
    """Raise UnreadableSource, which says what to install, if text cannot be recognised."""
    if not is_installed():
        raise source.refused(f"{why}: {INSTALL}")


def announce(source: FileSource, pages: int) -> None:
    """Warn that the pages of a document take long; not for a few."""
    if pages >= MANY_PAGES:
        warnings.warn(
            f"{source.name}: the text of its pages, up to {pages:,}, is recognised, some ten seconds of one core each",
            MemspanWarning,
            stacklevel=2,
        )


def recognised(source: FileSource, image: Any, scale: float = 1.0) -> Iterator[str | Mark]:
    """The text in the picture of a page in reading order: paragraphs with blank lines between, a mark "box" ahead of each line.

    Args:
        image: a `PIL.Image.Image`.
        scale: pixels of the picture in a unit of the boxes: 1 gives pixels.

    Raises UnreadableSource for a page of too many lines. The library must be installed (`check_installed`).
    """
    lines = _lines(image)
    check_at_most(source, len(lines), MAX_LINES, "lines on a page")
    first = True
    for paragraph in paragraphs(lines):
        if not first:
            yield "\n\n"
        first = False
        edge = max(_right(row) for row in paragraph)
        left = min(row[0].box.x for row in paragraph)
        for number, row in enumerate(paragraph):
            for position, line in enumerate(row):
                if position > 0:
                    yield " "
                yield Mark("box", str(_scaled(line.shown, 1 / scale)))
                yield line.text
            if number + 1 < len(paragraph):
                is_full = _right(row) - left >= _FULL_LINE * (edge - left)
                yield _between(row[-1].text, paragraph[number + 1][0].text, is_full)


def _between(text: str, following: str, is_full: bool) -> str:
    """What stands between two lines of a paragraph: nothing within a sentence of a script without spaces."""
    is_joined = is_full and _NO_SPACE.match(text[-1:]) and _NO_SPACE.match(following[:1])
    return "" if is_joined else "\n"


def _right(row: Row) -> float:
    return row[-1].box.x + row[-1].box.width


def _lines(image: Any) -> tuple[Line, ...]:
    """The lines of text in a picture, in any order, with boxes in its pixels."""
    image = image.convert("RGB")
    ratio = max(1.0, image.width / SIDE)
    if ratio > 1:
        image = image.resize((SIDE, max(1, round(image.height / ratio))))
    key = hashlib.blake2b(f"{image.mode} {image.size}".encode(), usedforsecurity=False)
    key.update(image.tobytes())
    with _lock:
        known = _recognised.get(key.digest())
    if known is not None:
        return known
    # In a thread of its own: it takes long for a reason, and a document is given up after so much work of this thread.
    with ThreadPoolExecutor(1, "recognition") as executor:
        lines = tuple(executor.submit(_lines_of_strips, _recogniser(), np.asarray(image)).result())
    lines = tuple(replace(line, box=_scaled(line.box, ratio), shown=_scaled(line.shown, ratio)) for line in lines)
    with _lock:
        _recognised[key.digest()] = lines
        while len(_recognised) > KEPT_PAGES:
            _recognised.popitem(last=False)
    return lines


def _scaled(box: Box, factor: float) -> Box:
    return Box(*(value * factor for value in box))


def _lines_of_strips(recogniser: Any, pixels: NDArray[np.uint8]) -> list[Line]:
    """The lines of a picture, uint8 (height, width, 3), which is cut into strips where it is long."""
    lines, top = list[Line](), 0
    while top < len(pixels):
        end = _strip_end(pixels, top)
        for line in _upright(recogniser, pixels[top:end]):
            box, shown = line.box._replace(y=line.box.y + top), line.shown._replace(y=line.shown.y + top)
            lines.append(Line(line.text, box, shown))
        top = end
    return lines


def _strip_end(pixels: NDArray[np.uint8], top: int) -> int:
    """The row behind a strip: the emptiest of the last quarter, where the picture goes on for long."""
    height, longest = len(pixels), int(max(DETECTION_SIDE, STRIP * pixels.shape[1]))
    if height - top <= longest * 1.25:
        return height
    first = top + longest * 3 // 4
    contrast = pixels[first : top + longest].max(axis=(1, 2)).astype(np.int16) - pixels[first : top + longest].min(
        axis=(1, 2)
    )
    return first + int(np.flatnonzero(contrast == contrast.min())[-1])


def _upright(recogniser: Any, pixels: NDArray[np.uint8]) -> list[Line]:
    """The lines of a page. One that reads badly as it is, or whose lines run from top to bottom, is turned if that helps."""
    best, score, characters = _read(recogniser, pixels)
    tall = sum(len(line.text) for line in best if line.box.height > _TALL * line.box.width)
    is_tall, turn = 2 * tall > sum(len(line.text) for line in best), 0
    if is_tall:
        score *= _SURE  # its lines may read as well, but in the wrong order
    for quarters in (1, 3) if is_tall else (2,) if score < _SURE * characters else ():
        turned, other, _ = _read(recogniser, np.ascontiguousarray(np.rot90(pixels, quarters)))
        if other > score:
            best, score, turn = turned, other, quarters
    height, width = pixels.shape[:2]
    return [replace(line, shown=_turned_back(line.shown, turn, width, height)) for line in best]


def _turned_back(box: Box, quarters: int, width: int, height: int) -> Box:
    """A box of a picture that was turned by so many quarters against the clock, in the picture of this size before it."""
    x, y, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    if quarters == 1:
        return Box(width - bottom, x, box.height, box.width)
    if quarters == 2:
        return Box(width - right, height - bottom, box.width, box.height)
    return Box(y, height - right, box.height, box.width) if quarters == 3 else box


def _read(recogniser: Any, pixels: NDArray[np.uint8]) -> tuple[list[Line], float, int]:
    """The lines of a picture, the sum over all characters of how certain each is, from 0 to 1, and how many they are."""
    found = recogniser(np.ascontiguousarray(pixels[..., ::-1]))  # OpenCV's order of the colours
    if getattr(found, "boxes", None) is None or found.txts is None:
        return [], 0.0, 0
    lines, score, characters = list[Line](), 0.0, 0
    slope = _slope(found.boxes)
    level = np.array([[np.cos(slope), -np.sin(slope)], [np.sin(slope), np.cos(slope)]])
    for corners, text, certainty in zip(found.boxes, found.txts, found.scores, strict=True):
        score += len(text) * float(certainty)
        characters += len(text)
        if text.strip() and certainty >= MIN_SCORE:
            lines.append(Line(" ".join(text.split()), _around(corners @ level), _around(corners)))
    return lines, score, characters


def _slope(boxes: Any) -> float:
    """The angle in radians by which the lines of a page slope, as that of the longest tells; 0 beyond a few degrees."""
    edges = np.array([corners[1] - corners[0] for corners in boxes], np.float64)
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    longest = edges[lengths >= np.median(lengths)]
    slope = float(np.median(np.arctan2(longest[:, 1], longest[:, 0])))
    return slope if abs(slope) < STEEPEST else 0.0


def _around(corners: Any) -> Box:
    """The box around corners, (4, 2)."""
    (x, y), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return Box(x, y, right - x, bottom - y)


@cache
def _library() -> Any:
    """The module rapidocr; None if it, or ONNX Runtime, is not installed."""
    try:
        import_module("onnxruntime")
        return import_module("rapidocr")
    except ImportError:
        return None


@cache
def _recogniser() -> Any:
    """A function from pixels, uint8 (height, width, 3), to the lines of text in them."""
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    return _library().RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,  # a page stands upside down as a whole, see `_upright`
            "Global.max_side_len": 2 * SIDE,
            "Global.text_score": 0.0,  # of lines that are read badly too: they tell that a page lies upside down
            "Det.limit_type": "max",
            "Det.limit_side_len": DETECTION_SIDE,
        }
    )
