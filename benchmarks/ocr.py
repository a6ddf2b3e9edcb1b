"""Text recognised in pictures: the character error rate of drawn paragraphs in English and Chinese.

    python -m benchmarks.ocr [--half test|choosing] [--pictures 12] [--detection-side 1280]    # half an hour on two cores

Paragraphs of XQuAD, whose English and Chinese say the same, are drawn with Pillow in black on white and read as
`memspan read` does, one picture a document. Conditions change one thing each of a picture with letters of 24 pixels: their
size, the font, how far the page is turned, noise, a two-column page, and a scan (200 dots per inch, turned by 0.7 degrees,
grey, noisy, JPEG of quality 40, as a PDF without a text layer).

The rate is the edit distance over the length of the text, each line of the paragraph joined as it is read; white space counts
as one space in English and not at all in Chinese. Brackets hold the 95 % interval of the mean over pictures (bootstrap).
Settings were chosen on `--half choosing`, the first paragraphs of the data set; the test draws the others.
"""

import argparse
import io
import json
import random
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from memspan.data.documents import open_documents
from memspan.data.formats import recognition

FONTS = {
    "English": {
        "sans": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "serif": "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf",
        "mono": "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf",
    },
    "Chinese": {
        "sans": "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
        "serif": "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc",
        "bold": "/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc",
    },
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "24 pixels": {},
    "12 pixels": {"size": 12},
    "16 pixels": {"size": 16},
    "48 pixels": {"size": 48},
    "another font": {"font": 1},
    "a third font": {"font": 2},
    "turned by 2 degrees": {"degrees": 2},
    "turned by 5 degrees": {"degrees": -5},
    "turned by 90 degrees": {"degrees": 90},
    "upside down": {"degrees": 180},
    "noise": {"noise": 40},
    "two columns": {"columns": 2},
    "scanned PDF": {"size": 28, "degrees": 0.7, "noise": 20, "width": 1400, "scan": True},
}
LENGTH = {"English": (300, 900), "Chinese": (120, 350)}  # characters of a paragraph
SEED = 11


def texts(half: str, language: str) -> list[str]:
    """The paragraphs of a half of the data set, in an order that is the same for both languages."""
    path = report.needs(report.DATA / "xquad_en_zh" / f"xquad.{'en' if language == 'English' else 'zh'}.json")
    data = json.loads(path.read_text("utf-8"))["data"]
    found = [" ".join(paragraph["context"].split()) for article in data for paragraph in article["paragraphs"]]
    low, high = LENGTH[language]
    found = [text for text in found if low <= len(text) <= high]
    found = found[: len(found) // 3] if half == "choosing" else found[len(found) // 3 :]
    random.Random(SEED).shuffle(found)
    return found


def wrapped(text: str, font: Any, width: int, language: str) -> list[str]:
    """The lines of a text that is `width` pixels wide: cut between words, in Chinese between characters."""
    space = " " if language == "English" else ""
    lines = [""]
    for part in text.split() if language == "English" else text:
        joined = f"{lines[-1]}{space}{part}" if lines[-1] else part.lstrip()
        if font.getlength(joined) > width and lines[-1]:
            lines.append(part.lstrip())
        else:
            lines[-1] = joined
    return lines


# The settings of a condition.
def drawn(
    paragraphs: list[str], language: str, path: str, size: int, width: int, degrees: float, noise: int, seed: int
) -> Any:
    """A picture of paragraphs in columns side by side."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(path, size)
    columns = [wrapped(text, font, width, language) for text in paragraphs]
    height = max(map(len, columns)) * size * 3 // 2 + 4 * size
    picture = Image.new("L", (len(columns) * (width + 3 * size) + 2 * size, height), 255)
    draw = ImageDraw.Draw(picture)
    for number, lines in enumerate(columns):
        for row, line in enumerate(lines):
            draw.text((2 * size + number * (width + 3 * size), 2 * size + row * size * 3 // 2), line, 0, font)
    if degrees:
        picture = picture.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    if noise:
        spread = np.random.default_rng(seed).normal(0, noise, (picture.height, picture.width))
        picture = Image.fromarray(np.clip(np.asarray(picture) * 0.8 + 25 + spread, 0, 255).astype(np.uint8))
    return picture


def errors(expected: str, text: str, language: str) -> tuple[int, int]:
    """The edit distance, and the length of what was expected."""
    from torchmetrics.functional.text import char_error_rate

    space = " " if language == "English" else ""
    expected, text = (space.join(unicodedata.normalize("NFKC", each).split()) for each in (expected, text))
    return round(float(char_error_rate([text], [expected])) * len(expected)), len(expected)


def read(picture: Any, scan: bool, folder: Path) -> str:
    """The text of a picture, read as a document."""
    path = folder / ("page.pdf" if scan else "page.png")
    if scan:
        from PIL import Image

        grey = io.BytesIO()
        picture.save(grey, "JPEG", quality=40)
        Image.open(grey).save(path, resolution=200)
    else:
        picture.save(path)
    (document,) = open_documents([path])
    return "".join(document.chunks())


def measured(condition: str, language: str, pool: list[str], pictures: int, folder: Path) -> dict[str, Any]:
    settings = {"size": 24, "width": 1000, "degrees": 0.0, "noise": 0, "font": 0, "columns": 1, "scan": False}
    settings |= CONDITIONS[condition]
    font = list(FONTS[language].values())[settings["font"]]
    columns, seconds, counts = settings["columns"], 0.0, list[tuple[int, int]]()
    for number in range(pictures):
        chosen = [pool[(number * columns + column) % len(pool)] for column in range(columns)]
        width = settings["width"] // 2 if columns > 1 else settings["width"]
        picture = drawn(
            chosen, language, font, settings["size"], width, settings["degrees"], settings["noise"], SEED + number
        )
        begin = time.process_time()
        text = read(picture, settings["scan"], folder)
        seconds += time.process_time() - begin
        counts.append(errors(" ".join(chosen), text, language))
    wrong, length = np.array(counts).T
    draws = np.random.default_rng(SEED).integers(0, pictures, (2_000, pictures))
    low, high = np.percentile(wrong[draws].sum(1) / length[draws].sum(1), [2.5, 97.5])
    return {
        "condition": condition,
        "language": language,
        "pictures": pictures,
        "characters": int(length.sum()),
        "error rate": float(wrong.sum() / length.sum()),
        "interval": [float(low), float(high)],
        "CPU seconds a picture": seconds / pictures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("test", "choosing"), default="test")
    parser.add_argument("--pictures", type=int, default=12, help="of each condition and language")
    parser.add_argument("--detection-side", type=int, default=recognition.DETECTION_SIDE)
    parser.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), default=list(CONDITIONS))
    arguments = parser.parse_args()
    recognition.DETECTION_SIDE = arguments.detection_side
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for language in FONTS:
            pool = texts(arguments.half, language)
            for condition in arguments.conditions:
                row = measured(condition, language, pool, arguments.pictures, Path(folder))
                low, high = row["interval"]
                print(
                    f"{language:8} {condition:22} {row['error rate']:7.2%} [{low:.2%}, {high:.2%}]"
                    f" {row['CPU seconds a picture']:5.1f} s",
                    flush=True,
                )
                rows.append(row)
    if arguments.half == "test":
        report.save("ocr", rows, seeds=[SEED])


if __name__ == "__main__":
    main()
