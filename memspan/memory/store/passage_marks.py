"""The marks of a shard's passages: what holds of each, such as its page or its speaker, kept where it changes.

In the file they are JSON, for each kind the passages at which its value changes and the new values, `null` for none:

    {"page": [[0, 4], [1, 2]], "speaker": [[0, 1, 2], ["Ann", "Ben", null]]}

Passages 0 to 3 are of page 1, those from 4 on of page 2. A kind that stays the same costs nothing, however many passages.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memspan.data.marks import Value
from memspan.memory.store.records import LARGEST, strict_json

Marks: TypeAlias = Mapping[str, Value]

MOST_MARKS = 64  # of a passage
LONGEST_KIND = 64  # characters
LONGEST_VALUE = 1024  # characters


@dataclass(frozen=True)
class _Changes:
    """The passages at which the value of one kind changes, ascending, and its values from there on."""

    rows: tuple[int, ...]
    values: tuple[Value | None, ...]

    def at(self, row: int) -> Value | None:
        index = bisect_right(self.rows, row) - 1
        return None if index < 0 else self.values[index]


class PassageMarks:
    """The marks of consecutive passages.

    Attributes:
        passages: how many.
    """

    def __init__(self, changes: Mapping[str, _Changes], passages: int) -> None:
        """Use `PassageMarks.of`, `joined` or `parsed`."""
        self._changes, self.passages = changes, passages

    @classmethod
    def of(cls, marks: Sequence[Marks]) -> "PassageMarks | None":
        """Those of passages of which each has the mapping at its position; None if there is not one mark."""
        rows: dict[str, list[int]] = {}
        values: dict[str, list[Value | None]] = {}
        current: dict[str, Value] = {}
        for row, here in enumerate(marks):
            for kind in [*here, *(kind for kind in current if kind not in here)]:
                value = here.get(kind)
                if not _is_same(current.get(kind), value):
                    rows.setdefault(kind, []).append(row)
                    values.setdefault(kind, []).append(value)
            current = dict(here)
        changes = {kind: _Changes(tuple(rows[kind]), tuple(values[kind])) for kind in rows}
        return cls(changes, len(marks)) if changes else None

    @classmethod
    def joined(cls, parts: Iterable[tuple["PassageMarks | None", int]]) -> "PassageMarks | None":
        """Those of several shards one after another, given the marks and the number of passages of each."""
        rows: dict[str, list[int]] = {}
        values: dict[str, list[Value | None]] = {}
        offset = 0
        for part, passages in parts:
            changes = {} if part is None or passages == 0 else part._changes
            for kind in [*changes, *(kind for kind in rows if kind not in changes)]:
                new = changes.get(kind, _Changes((), ()))
                pairs = list(zip(new.rows, new.values, strict=True))
                if passages > 0 and (not pairs or pairs[0][0] > 0):
                    pairs.insert(0, (0, None))
                for row, value in pairs:
                    if not _is_same(values[kind][-1] if kind in values else None, value):
                        rows.setdefault(kind, []).append(row + offset)
                        values.setdefault(kind, []).append(value)
            offset += passages
        joined = {kind: _Changes(tuple(rows[kind]), tuple(values[kind])) for kind in rows}
        return cls(joined, offset) if joined else None

    @classmethod
    def parsed(cls, raw: bytes, passages: int) -> "PassageMarks":
        """Those that `encoded` wrote for so many passages. Raises ValueError or RecursionError for anything else."""
        content = strict_json(raw)
        if type(content) is not dict:
            raise ValueError("its marks must be an object")
        changes = {kind: _parsed_changes(kind, columns, passages) for kind, columns in content.items()}
        if b"\\u" in raw:  # half a surrogate pair can be written in JSON, but not in UTF-8
            json.dumps(content, ensure_ascii=False).encode()
        kinds = np.zeros(passages + 1, np.int64)
        for change in changes.values():
            held = [value is not None for value in (None, *change.values)]
            np.add.at(kinds, list(change.rows), np.diff(np.array(held, np.int64)))
        if np.cumsum(kinds).max() > MOST_MARKS:
            raise ValueError(f"a passage has more than {MOST_MARKS} marks")
        return cls(changes, passages)

    def encoded(self) -> bytes:
        """These marks as JSON."""
        columns = {kind: [change.rows, change.values] for kind, change in self._changes.items()}
        return json.dumps(columns, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()

    def at(self, row: int) -> dict[str, Value]:
        """The marks of one passage."""
        marks = ((kind, changes.at(row)) for kind, changes in self._changes.items())
        return {kind: value for kind, value in marks if value is not None}

    def having(self, kind: str) -> NDArray[np.bool_]:
        """Whether each passage has a mark of this kind, bool (P,)."""
        having = np.zeros(self.passages, np.bool_)
        if changes := self._changes.get(kind):
            lengths = np.diff([*changes.rows, self.passages])
            having[changes.rows[0] :] = np.repeat([value is not None for value in changes.values], lengths)
        return having

    def part(self, first: int, end: int) -> "PassageMarks | None":
        """The marks of passages `first` to `end`, counted from there."""
        return PassageMarks.of([self.at(row) for row in range(first, end)])

    def __iter__(self) -> Iterator[dict[str, Value]]:
        """The marks of each passage in order."""
        return (self.at(row) for row in range(self.passages))


def check_marks(marks: Marks) -> None:
    """Raises ValueError unless they are marks of a passage that a memory can hold."""
    if len(marks) > MOST_MARKS:
        raise ValueError(f"a passage must have at most {MOST_MARKS} marks, got {len(marks)}")
    for kind, value in marks.items():
        _check_kind(kind)
        _check_value(kind, value)


def _is_same(value: object, other: object) -> bool:
    """Whether they are written alike: 1 and 1.0 are not."""
    return type(value) is type(other) and value == other


def _parsed_changes(kind: str, columns: Any, passages: int) -> _Changes:
    _check_kind(kind)
    if type(columns) is not list or len(columns) != 2 or any(type(column) is not list for column in columns):
        raise ValueError("a kind of its marks must have two lists")
    rows, values = columns
    if len(rows) != len(values) or not rows or any(type(row) is not int for row in rows):
        raise ValueError("the values of a mark must each have a passage")
    ascend = all(row < following for row, following in pairwise(rows))
    if not (ascend and rows[0] >= 0 and rows[-1] < passages):
        raise ValueError("the passages of a mark must ascend within the shard")
    for value in values:
        if value is not None:
            _check_value(kind, value)
    return _Changes(tuple(rows), tuple(values))


def _check_kind(kind: object) -> None:
    if type(kind) is not str or not 0 < len(kind) <= LONGEST_KIND:
        raise ValueError(f"the kind of a mark must be a string of 1 to {LONGEST_KIND} characters")
    kind.encode()


def _check_value(kind: str, value: object) -> None:
    if type(value) is str:
        value.encode()
        fits = len(value) <= LONGEST_VALUE
    elif type(value) is int:
        fits = abs(value) <= LARGEST
    else:
        fits = type(value) is float and math.isfinite(value)
    if not fits:
        raise ValueError(
            f"mark {kind!r} must be a string of at most {LONGEST_VALUE} characters or a finite number, got "
            f"{type(value).__name__}"
        )
