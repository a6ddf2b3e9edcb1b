"""A self-contained HTML page: no scripts, no external files, every text escaped, readable on a phone and in print."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from memspan.data.scripts import HAN, KANA
from memspan.errors import UsageError

LEVELS = 5  # shades of a colour
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Bar:
    """A number that is also drawn, relative to the largest magnitude in its column."""

    value: float


@dataclass(frozen=True)
class Cell:
    """A cell of a table: a text, or a number with a bar."""

    text: str
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def widths(self) -> list[list[int]]:
        """The width of each cell's bar in percent; 0 for a cell without one."""
        numbers = [[0.0 if cell.bar is None else abs(cell.bar.value) for cell in row] for row in self.rows]
        largest = [max(column) or 1.0 for column in zip(*numbers, strict=True)]
        return [[round(100 * number / most) for number, most in zip(row, largest, strict=True)] for row in numbers]


@dataclass(frozen=True)
class ShadedSpan:
    """A token span with its value, the value it is shaded by, and a mark before it."""

    text: str
    value: float
    shade: float
    mark: str = ""


@dataclass(frozen=True)
class ShadedText:
    """A text whose spans are shaded by their values."""

    title: str
    about: str
    spans: Sequence[ShadedSpan]

    @property
    def language(self) -> str:
        return language("".join(span.text for span in self.spans))

    def classes(self) -> list[str]:
        """The CSS class of each span: "plus3" is evidence for the answer with the third of `LEVELS` shades, "minus3" against it."""
        largest = max((abs(span.shade) for span in self.spans), default=0.0) or 1.0
        levels = [round(LEVELS * abs(span.shade) / largest) for span in self.spans]
        signs = ["minus" if span.shade < 0 else "plus" for span in self.spans]
        return [f"{sign}{level}" if level else "" for sign, level in zip(signs, levels, strict=True)]


@dataclass(frozen=True)
class Page:
    """The contents of a page, in order; `signed` if values below 0 are evidence against the answer."""

    title: str
    question: str
    answer: str
    facts: Sequence[tuple[str, str]]
    how: Sequence[str]
    tables: Sequence[Table]
    texts: Sequence[ShadedText]
    signed: bool = field(default=False)


def render(page: Page) -> str:
    """The page as HTML."""
    return template(TEMPLATE).render(page=page, levels=LEVELS, language=language)


def write(page: Page, path: str | Path) -> None:
    """Writes the page as HTML. Raises UsageError if the path is not writable."""
    try:
        Path(path).write_text(render(page), "utf-8")
    except OSError as error:
        raise UsageError(f"Writing the page to {path} failed: {error.strerror or error}.") from error


def language(text: str) -> str:
    """The `lang` attribute by which a browser chooses the shapes of characters that languages share; "" for others."""
    if re.search(f"[{KANA}]", text):
        return "ja"
    return "zh" if re.search(f"[{HAN}]", text) else ""


def plain(text: str) -> str:
    """The text with the replacement character for those that HTML does not allow."""
    return "".join(c if c.isprintable() or c in "\n\t\u3000" or c.isspace() else "\ufffd" for c in text)


@cache
def template(path: Path) -> Template:
    """The template of a page: what it shows is escaped, what it lacks is an error; its filters are `plain`, `percent`, `thousands`."""
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    environment.filters["percent"] = lambda share: f"{share:.0%}"
    environment.filters["thousands"] = lambda number: f"{number:,}"
    return environment.get_template(path.name)
