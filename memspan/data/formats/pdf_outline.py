"""The outline of a PDF, its bookmarks: the chapters and headings that begin on each page.

pypdf reads outlines too, but copies what it has visited at each entry with entries below it, so that 100,000 entries
take time and memory by their square. Here an outline is walked once, within limits; what is beyond them or damaged is left
out, and the text of the document is read all the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeVar

from memspan.data.formats.base import FileSource
from memspan.data.formats.parsing import time_limit
from memspan.data.marks import LONGEST_VALUE, Mark

MAX_ENTRIES = 10_000  # of an outline; the longest manuals have some thousand
MAX_LEVELS = 16  # of entries below one another
MAX_NAMES = 100_000  # destinations with a name, of which each citation of a scientific text makes one
MAX_MISSING = 20  # entries of which something is missing: pypdf looks for it in the whole file each time
MAX_SECONDS = 10  # of CPU time

_Item = TypeVar("_Item")

_MISSING = object()

_NOT_LETTERS = re.compile(r"[\W_]+")
_NUMBER = re.compile(r"^[\W\d_]+")  # of a section, ahead of its title


@dataclass(frozen=True)
class _Entry:
    """An entry of an outline.

    Attributes:
        level: 0 for those that are below no other.
        title: what it says.
        page: the number of the object that is the page it points at; -1 - p for page p from 0, where it says so.
    """

    level: int
    title: str
    page: int


class Outline:
    """The marks of chapters and headings of a document, page by page in order."""

    def __init__(self, source: FileSource, pdf: Any) -> None:
        """Walk the outline of an open `pypdf.PdfReader`; an outline that is damaged counts as far as it was read."""
        self._on_page: dict[int, list[_Entry]] = {}
        self._waiting: list[_Entry] = []  # of a page without text
        entries = _as_far_as_sound(_resolved(pdf, _as_far_as_sound(_walked(source, pdf)), source))
        top = [entry for entry in entries if entry.level == 0]
        is_title = len(top) == 1 and len(entries) > 1  # all chapters are below the title of the document
        for entry in entries:
            if not (is_title and entry is top[0]):
                level = entry.level - is_title
                self._on_page.setdefault(entry.page, []).append(_Entry(level, entry.title, entry.page))

    def marked(self, page: Any, number: int, text: str) -> Iterator[str | Mark]:
        """The text of a page with the marks of the chapters and headings that begin on it.

        A mark is ahead of the line that says the title. Where none does, it is where the entry before it is on this page, or
        ahead of the page; of several such headings the first counts. The last entry of pages without text is ahead of the
        next page with text.

        Args:
            page: the `pypdf.PageObject`.
            number: of the page, counted from 0.
        """
        reference = page.indirect_reference
        entries = [
            *self._on_page.pop(-1 - number, []),
            *self._on_page.pop(-1 if reference is None else reference.idnum, []),  # a page may come again
        ]
        if not text:
            self._waiting = entries[-1:] or self._waiting
            return
        lines = _lines(text) if entries else {}
        marks: list[tuple[int, int, str, str]] = []  # offset, order, kind, title
        position, taken = 0, set[tuple[int, str]]()
        for order, entry in enumerate(entries):
            position = next((at for key in _keys(entry.title) if (at := lines.get(key)) is not None), position)
            marks.append((position, order, _kind(entry), entry.title))
        marks += [(0, -1, _kind(entry), entry.title) for entry in self._waiting]
        self._waiting = []
        begun = 0
        for offset, _, kind, title in sorted(marks):
            if (offset, kind) in taken:
                continue
            taken.add((offset, kind))
            if offset > begun:
                yield text[begun:offset]
                begun = offset
            yield Mark(kind, title)
            if kind == "chapter":
                yield Mark("heading", None)
        yield text[begun:]


def _as_far_as_sound(items: Iterator[_Item]) -> list[_Item]:
    """The items up to the first that is damaged or takes too much time."""
    sound = []
    try:
        for item in items:
            sound.append(item)
    except MemoryError:
        raise
    except Exception:  # given damaged files, pypdf raises nearly every kind
        return sound
    return sound


def _kind(entry: _Entry) -> str:
    return "heading" if entry.level else "chapter"


def _lines(text: str) -> dict[str, int]:
    """What each line says, alone or with the line below it -> where it begins, for the first that says so."""
    lines: dict[str, int] = {}
    before, before_at, offset = "", 0, 0
    for line in text.splitlines(keepends=True):
        if len(line) <= 2 * LONGEST_VALUE:
            for key, at in [
                *((key, offset) for key in _keys(line)),
                *((key, before_at) for key in _keys(before + line)),
            ]:
                lines.setdefault(key, at)
            before, before_at = line, offset
        else:
            before = ""
        offset += len(line)
    return lines


def _keys(title: str) -> list[str]:
    """The letters and digits of a title, with and without the number of the section."""
    keys = (_NOT_LETTERS.sub("", text).casefold() for text in (title, _NUMBER.sub("", title)))
    return [key for key in dict.fromkeys(keys) if key]


def _walked(source: FileSource, pdf: Any) -> Iterator[tuple[int, str, Any]]:
    """Level, title and destination of each entry, in order of reading."""
    check_time = time_limit(source, MAX_SECONDS)
    root = _value(pdf.root_object, "/Outlines")
    stack, visited, missing = [(0, _value(root, "/First"))], dict[int, Any](), 0
    while stack and len(visited) < MAX_ENTRIES and missing < MAX_MISSING:
        level, node = stack.pop()
        if not isinstance(node, dict) or id(node) in visited:
            continue
        visited[id(node)] = node
        check_time()
        stack.append((level, _value(node, "/Next")))
        if level < MAX_LEVELS:
            stack.append((level + 1, _value(node, "/First")))
        title, target = _value(node, "/Title"), _target(node)
        missing += not (isinstance(title, str | bytes) and isinstance(target, dict | list | str | bytes | NoneType))
        text = " ".join(title[: 10 * LONGEST_VALUE].split())[:LONGEST_VALUE] if isinstance(title, str) else ""
        if text:
            yield level, text, target


def _target(node: Any) -> Any:
    """The destination of an entry, or its name; None if it has none, _MISSING for a reference to no object."""
    action, target = (_value(node, key) for key in ("/A", "/Dest"))
    if any(value is None and key in node for key, value in (("/A", action), ("/Dest", target))):
        return _MISSING
    return _value(action, "/D") if _value(action, "/S") == "/GoTo" else target


def _resolved(pdf: Any, walked: list[tuple[int, str, Any]], source: FileSource) -> Iterator[_Entry]:
    """The entries of which the page is known."""
    wanted = {target for _, _, target in walked if isinstance(target, str | bytes)}
    named = _named(pdf, wanted, source) if wanted else {}
    for level, title, target in walked:
        array = named.get(target) if isinstance(target, str | bytes) else target
        if isinstance(array, dict):
            array = _value(array, "/D")
        page: Any = next(iter(array), None) if isinstance(array, list) else None
        if hasattr(page, "idnum"):
            yield _Entry(level, title, page.idnum)
        elif isinstance(page, int) and page >= 0:
            yield _Entry(level, title, -1 - page)


def _named(pdf: Any, wanted: set[str | bytes], source: FileSource) -> dict[str | bytes, Any]:
    """The destinations with these names, from the catalogue or its tree of names."""
    check_time = time_limit(source, MAX_SECONDS)
    found: dict[str | bytes, Any] = {}
    old = _value(pdf.root_object, "/Dests")
    for name in wanted:
        check_time()
        if isinstance(name, str) and (target := _value(old, f"/{name.removeprefix('/')}")) is not None:
            found[name] = target
    stack, visited, names = [_value(_value(pdf.root_object, "/Names"), "/Dests")], dict[int, Any](), 0
    missing = 0
    while stack and names < MAX_NAMES and len(found) < len(wanted) and missing < MAX_MISSING:
        check_time()
        node = stack.pop()
        node = node.get_object() if hasattr(node, "get_object") else node
        missing += not isinstance(node, dict)
        if not isinstance(node, dict) or id(node) in visited:
            continue
        visited[id(node)] = node
        pairs, below = (
            part if isinstance(part, list) else [] for part in (_value(node, "/Names"), _value(node, "/Kids"))
        )
        names += 1 + len(pairs) // 2
        for name, target in zip(pairs[: 2 * MAX_NAMES : 2], pairs[1 : 2 * MAX_NAMES : 2], strict=False):
            check_time()
            text = name.get_object()
            missing += not isinstance(text, str | bytes)
            if missing >= MAX_MISSING:
                break
            if isinstance(text, str | bytes) and text in wanted:
                found.setdefault(text, target.get_object())
        stack.extend(reversed(below[:MAX_NAMES]))
    return found


def _value(node: Any, key: str) -> Any:
    """A value of a dictionary of a PDF, with references followed; None if it is absent, or `node` is none."""
    return node[key] if isinstance(node, dict) and key in node else None
