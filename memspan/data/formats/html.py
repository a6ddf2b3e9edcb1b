"""Web pages: the visible text, by the event parser of lxml, which reads as browsers do."""

import re
from collections.abc import Iterator, Mapping

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import (
    BLOCK,
    check_is_text,
    is_encoding,
    lines_before,
    marked_encoding,
    wrong_encoding,
)
from memspan.data.formats.landmarks import Landmarks
from memspan.data.formats.main_text import main_text
from memspan.data.formats.parsing import MAX_DEPTH, MAX_PAGE, check_at_most, parsing, time_limit
from memspan.data.marks import Mark

_AS_BROWSERS_READ = {  # the declared encoding -> the larger one that browsers, and so authors, mean by it
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "iso-8859-1": "cp1252",
}
_DECLARED = re.compile(rb"""<(?:\?xml\b[^<>]*?\bencoding|meta\b[^<>]*?\bcharset)\s*=\s*["']?([^\s"'/;<>]+)""", re.I)
_HEAD = 8 * 1024  # bytes in which a page declares its encoding; browsers look at the first 1,024
_DROPPED = frozenset(
    {"script", "style", "template", "noscript", "iframe", "object", "svg", "math", "canvas", "audio", "video"}
    | {"select", "textarea"}
)
_PARAGRAPHS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div", "dl"}
    | {"dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"}
    | {"html", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "title", "ul"}
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_GAPS = dict.fromkeys(_PARAGRAPHS, "\n\n") | {"br": "\n", "li": "\n", "tr": "\n", "td": " | ", "th": " | "}
_EMPTY = "area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr"  # elements without an end tag
_CLOSED_AT_ONCE = re.compile(rf"<(?!(?:{_EMPTY})\b)([a-zA-Z][\w:.-]*+)([^<>]*+)(?<=/)>", re.I)
_PORTION = 4096  # characters that are parsed between two looks at the depth and the time
_MAX_COMPARISONS = 1_000_000_000  # of end tags with open elements, at 2.5 ns; a page of MAX_PAGE needs a tenth of it


def read_html(source: FileSource) -> Iterator[str | Mark]:
    """The visible text of a web page, its title first, block elements as paragraphs, headings as marks.

    Without the landmarks around the contents (navigation, page header and footer, asides, notices about cookies),
    unless there is nothing else; with `source.main_text` only what an extractor takes for the main text.

    Raises UnreadableSource for binary data, a wrong encoding, and a page that is too large.
    """
    with source.open() as file:
        data = file.read(MAX_PAGE + 1)
    check_at_most(source, len(data), MAX_PAGE, "bytes of markup")
    check_is_text(source, data[:BLOCK], source.encoding or marked_encoding(data) or "utf-8")
    with parsing(source, "HTML"):
        markup = decode_page(source, data)
        xml = source.path.suffix.lower() == ".xhtml" or _is_xml(markup)
        portions = visible_portions(source, markup, xml=xml, landmarks=False)
        portions = portions or visible_portions(source, markup, xml=xml)
        text = main_text(source, markup) if source.main_text else ""
    yield from [text] if text else portions


def decode_page(source: FileSource, data: bytes) -> str:
    """The markup of a web page, decoded by `source.encoding`, else by its mark, as UTF-8, or as the page declares.

    Raises UnreadableSource if none of them fits.
    """
    declaration = _DECLARED.search(data, 0, _HEAD)
    declared = declaration[1].decode("ascii", "replace").lower() if declaration else "utf-8"
    guesses = (marked_encoding(data) or "utf-8", _AS_BROWSERS_READ.get(declared, declared))
    line, sample = 1, data[:BLOCK]
    for encoding in guesses if source.encoding is None else (source.encoding,):
        if not is_encoding(encoding):
            continue  # pages may declare an encoding that does not exist
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = 1 + lines_before(error)
            sample = data[max(0, error.start - BLOCK) : error.start + BLOCK]
    raise wrong_encoding(source, source.encoding or "utf-8", sample, line)


def visible_text(source: FileSource, markup: str, *, xml: bool) -> str:
    """The text of `visible_portions`, without marks."""
    return "".join(portion for portion in visible_portions(source, markup, xml=xml) if isinstance(portion, str))


def visible_portions(source: FileSource, markup: str, *, xml: bool, landmarks: bool = True) -> list[str | Mark]:
    """The visible text of `markup`, its title first: blank lines between paragraphs, a line per list item or row.

    A mark "heading" stands ahead of each heading. Nothing is given for a page without text.

    Args:
        source: the file, for errors.
        markup: a page, decoded.
        xml: whether it is written in XML, where any element can be closed at once (`<a id="x"/>`).
        landmarks: whether to keep navigation, page header and footer; without them nothing is given if that is all.

    Raises UnreadableSource for a page that takes more work than its length explains.
    """
    from lxml import etree

    page = _Page(source, None if landmarks else Landmarks(markup))
    parser = etree.HTMLParser(target=page, huge_tree=True, encoding="utf-8")
    markup = _as_html(markup) if xml else markup
    check_time, comparisons = time_limit(source), 0
    for start in range(0, len(markup), _PORTION):
        portion = markup[start : start + _PORTION]
        depth = page.depth
        parser.feed(portion.encode("utf-8", "replace"))
        comparisons += portion.count("</") * max(depth, page.depth)
        check_at_most(source, comparisons, _MAX_COMPARISONS, "end tags within open elements")
        check_time()
    return list(parser.close()) if markup else []


def _is_xml(markup: str) -> bool:
    """Whether a page shows at its beginning that it is written in XML."""
    return markup.startswith("<?xml") or "http://www.w3.org/1999/xhtml" in markup[:_HEAD]


def _as_html(markup: str) -> str:
    """XHTML as HTML: CDATA sections as text, elements that are closed at once with an end tag."""
    from html import escape

    first, *sections = markup.split("<![CDATA[")
    parts = [first]
    for section in sections:
        content, end, rest = section.partition("]]>")
        parts += [escape(content, quote=False), rest] if end else [section]
    return _CLOSED_AT_ONCE.sub(lambda match: f"<{match[1]}{match[2][:-1]}></{match[1]}>", "".join(parts))


class _Page:
    """A parser target: the events of a page to its text.

    Attributes:
        depth: the number of open elements.
    """

    def __init__(self, source: FileSource, landmarks: Landmarks | None) -> None:
        self.depth = 0
        self._source, self._landmarks = source, landmarks
        self._hidden_from = 0  # the depth of the open element whose contents are left out; 0 for none
        self._lines_from = 0  # the depth of the open element whose lines are kept as they stand; 0 for none
        self._lines: list[str] = []
        self._title, self._body = _Layout(), _Layout()
        self._layout = self._body  # of the element that is open

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Called by the parser at a start tag, given or implied."""
        self.depth += 1
        check_at_most(self._source, self.depth, MAX_DEPTH, "elements within one another")
        if self._hidden_from:
            return
        if tag in _DROPPED or _is_hidden(attributes):
            self._hidden_from = self.depth
            return
        if self._landmarks is not None:
            if self._landmarks.include(tag, attributes):
                self._hidden_from = self.depth
                return
            self._landmarks.open(tag)
        if tag == "title" and not self._title.text():
            self._layout = self._title
        self._layout.add_gap(_GAPS.get(tag, ""))
        if tag in _HEADINGS:
            self._layout.begin_heading()
        if self._lines_from and tag == "br":
            self._lines.append("\n")
        elif tag == "pre" and not self._lines_from:
            self._lines_from = self.depth

    def data(self, text: str) -> None:
        """Called by the parser with characters, a run of them in several calls."""
        if self._hidden_from:
            return
        if self._lines_from:
            self._lines.append(text)
        else:
            self._layout.add_words(text)

    def end(self, tag: str) -> None:
        """Called by the parser at the end of an element, given or implied."""
        self.depth -= 1
        if self._hidden_from:
            self._hidden_from = 0 if self.depth < self._hidden_from else self._hidden_from
            return
        if self._landmarks is not None:
            self._landmarks.close(tag)
        if self.depth < self._lines_from:
            self._layout.add_lines("".join(self._lines))
            self._lines, self._lines_from = [], 0
        if tag in _HEADINGS:
            self._layout.end_heading()
        self._layout.add_gap(_GAPS.get(tag, ""))
        if tag == "title":
            self._layout = self._body

    def close(self) -> list[str | Mark]:
        """The text of the page with its marks; without landmarks nothing if there is nothing but a title."""
        title, body = self._title.text(), self._body.portions()
        if self._landmarks is not None and not body:
            return []
        return [title, *(["\n\n"] if body else []), *body] if title else body


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    """Whether the attributes of an element hide it."""
    if "hidden" in attributes:
        return True
    return "display:none" in attributes.get("style", "").replace(" ", "").lower()


class _Layout:
    """Text laid out from words and the gaps between them; of several gaps in a row the widest counts."""

    _WIDTHS = ("", " ", " | ", "\n", "\n\n")

    def __init__(self) -> None:
        self._parts: list[str | Mark] = []  # a gap and a text in turn, a mark perhaps between them
        self._gap = ""
        self._heading_from: int | None = None  # the number of the first part of the heading that is open

    def add_gap(self, gap: str) -> None:
        """Put at least `gap` between the text so far and the text to come."""
        if gap:
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
        """Add text as it stands, without empty lines around it."""
        text = text.strip("\n")
        if text:
            self._parts += [self._gap if self._parts else "", text]
            self._gap = ""

    def begin_heading(self) -> None:
        """Take what follows for a heading."""
        self._heading_from = len(self._parts)

    def end_heading(self) -> None:
        """Put a mark ahead of the heading that was begun, if it has a text."""
        first, self._heading_from = self._heading_from, None
        if first is not None and first < len(self._parts):
            words = "".join(part for part in self._parts[first:] if isinstance(part, str))
            self._parts.insert(first + 1, Mark("heading", " ".join(words.split())))

    def portions(self) -> list[str | Mark]:
        """Everything so far with the marks of its headings."""
        return [part for part in self._parts if part]

    def text(self) -> str:
        """Everything so far."""
        return "".join(part for part in self._parts if isinstance(part, str))


HTML = Format("html", (".html", ".htm", ".xhtml"), read_html, packed=True)
