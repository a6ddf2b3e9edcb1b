"""One self-contained page: no scripts, nothing from elsewhere, every text escaped, readable on a phone and in print."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from memspan.errors import UsageError

LEVELS = 5  # shades of a colour, beside none
TEMPLATE = "page.html"


@dataclass(frozen=True)
class Bar:
    """A number that is also drawn, as a part of the largest one in its column."""

    value: float


@dataclass(frozen=True)
class Cell:
    text: str
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def widths(self) -> list[list[int]]:
        """Of each cell's bar, in percent; 0 where there is none."""
        numbers = [[0.0 if cell.bar is None else abs(cell.bar.value) for cell in row] for row in self.rows]
        largest = [max(column) or 1.0 for column in zip(*numbers, strict=True)]
        return [[round(100 * one / most) for one, most in zip(row, largest, strict=True)] for row in numbers]


@dataclass(frozen=True)
class ShadedSpan:
    """A bit of text with its number, the number it is shaded by, and a mark before it."""

    text: str
    value: float
    shade: float
    mark: str = ""


@dataclass(frozen=True)
class Coloured:
    """A text whose pieces are shaded by their numbers."""

    title: str
    about: str
    pieces: Sequence[ShadedSpan]

    @property
    def language(self) -> str:
        return language("".join(one.text for one in self.pieces))

    def classes(self) -> list[str]:
        """Of each piece: "plus3" speaks for the answer with the third of `LEVELS` shades, "minus3" against it."""
        largest = max((abs(one.shade) for one in self.pieces), default=0.0) or 1.0
        levels = [round(LEVELS * abs(one.shade) / largest) for one in self.pieces]
        signs = ["minus" if one.shade < 0 else "plus" for one in self.pieces]
        return [f"{sign}{level}" if level else "" for sign, level in zip(signs, levels, strict=True)]


@dataclass(frozen=True)
class Page:
    """What stands on the page, in this order; `signed` where numbers below 0 speak against the answer."""

    title: str
    question: str
    answer: str
    facts: Sequence[tuple[str, str]]
    how: Sequence[str]
    tables: Sequence[Table]
    texts: Sequence[Coloured]
    signed: bool = field(default=False)


def render(page: Page) -> str:
    """The page as HTML."""
    return _template().render(page=page, levels=LEVELS, language=language)


def write(page: Page, path: str | Path) -> None:
    """Raises UsageError for a path that cannot be written."""
    try:
        Path(path).write_text(render(page), "utf-8")
    except OSError as error:
        raise UsageError(f"The page cannot be written to {path}: {error.strerror or error}.") from error


def language(text: str) -> str:
    """What a browser must know to choose the right shapes for characters that languages share; "" for others."""
    if any("\u3040" <= one <= "\u30ff" for one in text):
        return "ja"
    return "zh" if any("\u3400" <= one <= "\u9fff" for one in text) else ""


def plain(text: str) -> str:
    """Without characters that HTML does not know."""
    return "".join(one if one.isprintable() or one in "\n\t\u3000" or one.isspace() else "\ufffd" for one in text)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template(TEMPLATE)
