"""The values of a JSON document one after another, so that an export of any length is read in bounded memory."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from memspan.data.formats.base import FileSource
from memspan.data.formats.parsing import MAX_MEMBER, MAX_VALUES, check_at_most

Path = tuple[str, ...]  # keys from the root; ITEM for any element of an array
ITEM = "*"
MAX_OPENED = 8  # containers within one another that are opened up
_STRUCTURE = re.compile(r'["\[\]{},:]')
_STRING_END = re.compile(r'["\\]')


def json_values(source: FileSource, portions: Iterable[str], opened: frozenset[str]) -> Iterator[tuple[Path, Any]]:
    """The values within the root of a JSON document, in order, each with its path.

    Arrays and objects at a key in `opened`, and the elements of an array there that are objects, are not values of their
    own: what they hold is yielded instead, unless an element of the root is meant. One value is held at a time.

    Raises ValueError for what is not JSON, RecursionError for deep nesting, and UnreadableSource for a value that is too
    large.
    """
    splitter = _Splitter(source, opened)
    for portion in portions:
        yield from splitter.feed(portion)
    splitter.check_end()


class _Splitter:
    """Follows the brackets, commas, colons and strings of JSON, and decodes each value when it has ended."""

    def __init__(self, source: FileSource, opened: frozenset[str]) -> None:
        self._source, self._keys = source, opened
        self._open: list[str] = []  # the brackets around the current value that are opened up
        self._path: list[str] = []  # a key for each of them; "" where an object waits for one
        self._raw: list[str] = []  # the current value as far as it was read
        self._length = self._values = self._depth = 0  # characters, commas and brackets, open brackets of it
        self._in_string = self._is_escaped = self._is_done = False

    def feed(self, portion: str) -> Iterator[tuple[Path, Any]]:
        """The values that end within the next characters."""
        start = position = 0
        while True:
            if self._in_string:
                position = self._after_string(portion, position)
                if self._in_string:
                    break
            match = _STRUCTURE.search(portion, position)
            if match is None:
                break
            sign, position = match[0], match.end()
            if sign == '"':
                self._in_string = True
                continue
            self._values += sign != ":"
            if self._depth:
                self._depth += (sign in "[{") - (sign in "]}")
                check_at_most(self._source, self._values, MAX_VALUES, "values in an item of JSON")
                continue
            self._keep(portion[start : match.start()])
            start = match.start()
            if sign in "[{" and not self._opens(sign):
                self._depth = 1
                continue
            start = position
            if sign == ":":
                self._take_key()
            elif sign in ",]}":
                yield from self._ended()
                if sign != ",":
                    self._close(sign)
        self._keep(portion[start:])

    def check_end(self) -> None:
        """Raise ValueError if the document is not whole."""
        if not self._is_done or "".join(self._raw).strip():
            raise ValueError("the text ends within a value, or goes on behind it")

    def _after_string(self, portion: str, position: int) -> int:
        """The position behind the string that is open, if it ends in this portion."""
        if self._is_escaped and position < len(portion):
            position, self._is_escaped = position + 1, False
        while (match := _STRING_END.search(portion, position)) is not None:
            if match[0] == '"':
                self._in_string = False
                return match.end()
            position = match.end() + 1
            self._is_escaped = position > len(portion)
        return len(portion)

    def _keep(self, text: str) -> None:
        if text:
            self._length += len(text)
            check_at_most(self._source, self._length, MAX_MEMBER, "characters in an item of JSON")
            self._raw.append(text)

    def _opens(self, sign: str) -> bool:
        """Whether the container that begins is opened up; takes note of it."""
        if self._is_done or "".join(self._raw).strip():
            raise ValueError(f"'{sign}' where a comma or the end is due")
        if self._open:
            key = self._path[-1]
            is_element = key == ITEM and len(self._path) > 1 and self._path[-2] == "list" and sign == "{"
            if not (key in self._keys or is_element) or len(self._open) == MAX_OPENED:
                return False
        self._open.append(sign)
        self._path.append(ITEM if sign == "[" else "")
        self._raw, self._length, self._values = [], 0, 0
        return True

    def _take_key(self) -> None:
        if not self._open or self._open[-1] != "{" or self._path[-1]:
            raise ValueError("':' outside of an object")
        self._path[-1] = str(json.loads("".join(self._raw))) or " "
        self._raw, self._length = [], 0

    def _ended(self) -> Iterator[tuple[Path, Any]]:
        """The value before a comma or a closing bracket, if there is one; there is none behind what was opened up."""
        raw = "".join(self._raw)
        if not self._open:
            raise ValueError("text outside of an array or object")
        if raw.strip():
            yield tuple(self._path), json.loads(raw)
        self._raw, self._length, self._values = [], 0, 0
        if self._open[-1] == "{":
            self._path[-1] = ""

    def _close(self, sign: str) -> None:
        if self._open.pop() != {"]": "[", "}": "{"}[sign]:
            raise ValueError(f"'{sign}' closes nothing")
        self._path.pop()
        self._is_done = not self._open
