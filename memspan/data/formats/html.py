"""Web pages: the visible text, by Beautiful Soup."""

from collections.abc import Iterator
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import BLOCK, check_is_text, lines_before, marked_encoding, wrong_encoding
from memspan.data.formats.parsing import parsing

_AS_BROWSERS_READ = {  # the declared encoding -> the larger one that browsers, and so authors, mean by it
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "iso-8859-1": "cp1252",
}
_DROPPED = frozenset(
    {"script", "style", "template", "noscript", "iframe", "object", "svg", "math", "canvas", "audio", "video"}
    | {"select", "textarea"}
)
_PARAGRAPHS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div", "dl"}
    | {"dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"}
    | {"html", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "title", "ul"}
)
_GAPS = dict.fromkeys(_PARAGRAPHS, "\n\n") | {"br": "\n", "li": "\n", "tr": "\n", "td": " | ", "th": " | "}


def read_html(source: FileSource) -> Iterator[str]:
    """The visible text of a web page, its title first, block elements as paragraphs.

    Raises UnreadableSource for binary data and a wrong encoding.
    """
    with source.open() as file:
        data = file.read()
    check_is_text(source, data[:BLOCK], source.encoding or marked_encoding(data) or "utf-8")
    with parsing(source, "HTML"):
        text = visible_text(decode_page(source, data))
    yield text


def decode_page(source: FileSource, data: bytes) -> str:
    """The markup of a web page, decoded by `source.encoding`, else by its mark, as UTF-8, or as the page declares.

    Raises UnreadableSource if none of them fits.
    """
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8"
    guesses = (marked_encoding(data) or "utf-8", _AS_BROWSERS_READ.get(declared.lower(), declared))
    line, sample = 1, data[:BLOCK]
    for encoding in guesses if source.encoding is None else (source.encoding,):
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = 1 + lines_before(error)
            sample = data[max(0, error.start - BLOCK) : error.start + BLOCK]
        except LookupError:
            continue  # pages may declare an encoding that does not exist
    raise wrong_encoding(source, source.encoding or "utf-8", sample, line)


def visible_text(markup: str) -> str:
    """The visible text of `markup`, its title first: blank lines between paragraphs, a line per list item or row."""
    from bs4 import BeautifulSoup
    from bs4.element import CData, NavigableString, Tag

    soup = BeautifulSoup(markup, "html.parser")
    layout = _Layout()
    stack: list[Any] = [soup]  # instead of recursion: pages may nest deeper than Python does
    title = soup.title
    if title is not None and title.find_parent("svg") is None:
        stack.append(title.extract())
    while stack:
        node = stack.pop()
        if type(node) is str:  # the gap after an element
            layout.add_gap(node)
        elif type(node) in (NavigableString, CData):
            layout.add_words(node)
        elif isinstance(node, Tag) and node.name not in _DROPPED and not _is_hidden(node):
            gap = _GAPS.get(node.name, "")
            layout.add_gap(gap)
            stack.append(gap)
            if node.name == "pre":
                layout.add_lines(node.get_text())
            else:
                stack.extend(reversed(node.contents))
    return layout.text()


def _is_hidden(tag: Any) -> bool:
    """Whether the attributes of an element hide it."""
    return tag.has_attr("hidden") or "display:none" in str(tag.get("style", "")).replace(" ", "").lower()


class _Layout:
    """Text laid out from words and the gaps between them; of several gaps in a row the widest counts."""

    _WIDTHS = ("", " ", " | ", "\n", "\n\n")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._gap = ""

    def add_gap(self, gap: str) -> None:
        """Put at least `gap` between the text so far and the text to come."""
        self._gap = max(self._gap, gap, key=self._WIDTHS.index)

    def add_words(self, text: str) -> None:
        """Add running text, every run of white space as a single space."""
        if text[:1].isspace():
            self.add_gap(" ")
        words = " ".join(text.split())
        if words:
            self.add_lines(words)
            self.add_gap(" " if text[-1].isspace() else "")

    def add_lines(self, text: str) -> None:
        """Add text as it stands."""
        self._parts += [self._gap if self._parts else "", text.strip("\n")]
        self._gap = ""

    def text(self) -> str:
        """Everything so far."""
        return "".join(self._parts)


HTML = Format("html", (".html", ".htm", ".xhtml"), read_html, packed=True)
