"""The table of passages beside the word index: what is known of each but its text, so that SQL can filter by it.

    sources   number, name, kind           the sources of the passages that are covered
    passages  number, source, added, happened
    runs      kind, value, first, last     a mark and the passages, from the first to the last, that have it

Marks stay the same over many passages, so they are kept as runs. All speakers of a passage are runs of "speaker". Values are compared as `comparable` writes them.
"""

import hashlib
import json
import math
import sqlite3
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memspan.data.marks import SPEAKERS, speakers_in
from memspan.data.positions import CHANGES
from memspan.memory.store.passage_marks import Marks

SCHEMA = (
    "CREATE TABLE sources(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL)",
    "CREATE TABLE passages(number INTEGER PRIMARY KEY, source INTEGER NOT NULL, added REAL NOT NULL, happened REAL)",
    "CREATE TABLE runs(kind TEXT NOT NULL, value TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL)",
    "CREATE INDEX passages_of_sources ON passages(source)",
    "CREATE INDEX runs_of_values ON runs(kind, value)",
)


class Row(NamedTuple):
    """A passage as it is indexed."""

    text: str
    source: str = ""
    kind: str = "document"
    added: float = 0.0  # unix seconds
    happened: float | None = None  # unix seconds
    marks: Marks = MappingProxyType({})


class Condition(ABC):
    """A condition on passages. No text of it ever becomes SQL: texts are passed as parameters of fixed statements."""

    @abstractmethod
    def rows(self, database: sqlite3.Connection) -> Iterable[tuple[int]]:
        """The numbers of the passages that meet it, in any order."""

    def mask(self, database: sqlite3.Connection, passages: int) -> NDArray[np.bool_]:
        """Which of so many passages meet it, bool (P,)."""
        mask = np.zeros(passages, np.bool_)
        mask[np.fromiter((number for (number,) in self.rows(database)), np.int64)] = True
        return mask


@dataclass(frozen=True)
class OfSources(Condition):
    """The passages of the sources whose name and kind meet a test."""

    meets: Callable[[str, str], bool]

    def rows(self, database: sqlite3.Connection) -> Iterable[tuple[int]]:
        database.create_function("meets", 2, self.meets, deterministic=True)
        return database.execute(
            "SELECT number FROM passages WHERE source IN (SELECT number FROM sources WHERE meets(name, kind))"
        )


@dataclass(frozen=True)
class Within(Condition):
    """The passages whose time is from the first of two bounds on and before the second, in unix seconds.

    Attributes:
        of_events: the bounds of what happened.
        of_clock: the bounds of when a passage was added, which counts where it is not known when it happened.
    """

    of_events: tuple[float, float]
    of_clock: tuple[float, float]

    def rows(self, database: sqlite3.Connection) -> Iterable[tuple[int]]:
        return database.execute(
            "SELECT number FROM passages WHERE iif(happened IS NULL, added >= ? AND added < ?, happened >= ? AND happened < ?)",
            (*self.of_clock, *self.of_events),
        )


@dataclass(frozen=True)
class Marked(Condition):
    """The passages with a mark of this kind and this value, as `comparable` writes it."""

    kind: str
    value: str

    def rows(self, database: sqlite3.Connection) -> Iterable[tuple[int]]:
        return database.execute(
            "SELECT number FROM runs JOIN passages ON number BETWEEN first AND last WHERE kind = ? AND value = ?",
            (self.kind, self.value),
        )


def comparable(value: object) -> str | None:
    """A value as it is compared: in lower case, numbers without needless digits; None for lists and objects."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int | float):
        return str(value).casefold()
    return None


def insert(database: sqlite3.Connection, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, str]]:
    """Insert the rows with their numbers one by one, as they are taken, and yield the number and the text of each."""
    runs: dict[tuple[str, str], int] = {}  # each mark that holds, as kind and value, and since which passage
    numbers: dict[str, int] = {}
    number = -1
    for number, row in rows:
        if row.source not in numbers:
            numbers = {row.source: _source_number(database, row)}  # the passages of a source follow one another
        database.execute(
            "INSERT INTO passages VALUES (?, ?, ?, ?)", (number, numbers[row.source], row.added, row.happened)
        )
        held = dict.fromkeys(_compared(row.marks))
        _end_runs(database, runs, number, [run for run in runs if run not in held])
        for run in held:
            runs.setdefault(run, number)
        yield number, row.text
    _end_runs(database, runs, number + 1, list(runs))


def _source_number(database: sqlite3.Connection, row: Row) -> int:
    database.execute("INSERT OR IGNORE INTO sources(name, kind) VALUES (?, ?)", (row.source, row.kind))
    (number,) = database.execute("SELECT number FROM sources WHERE name = ?", (row.source,)).fetchone()
    return int(number)


def _compared(marks: Marks) -> Iterator[tuple[str, str]]:
    """The kind and the value, as they are compared, of each mark of a passage."""
    for kind, value in marks.items():
        if kind == SPEAKERS:
            yield from (("speaker", name.casefold()) for name in speakers_in(value))
        elif kind not in CHANGES and (text := comparable(value)) is not None:
            yield kind, text


def _end_runs(
    database: sqlite3.Connection, runs: dict[tuple[str, str], int], end: int, ended: Sequence[tuple[str, str]]
) -> None:
    """Write the runs that end before passage `end`, and take them from `runs`."""
    for kind, value in ended:
        first = runs.pop((kind, value))
        database.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (kind, value, first, end - 1))


def kinds_of_marks(database: sqlite3.Connection) -> list[str]:
    """The kinds of marks that any passage has, sorted."""
    return [kind for (kind,) in database.execute("SELECT DISTINCT kind FROM runs ORDER BY kind")]


class Digest:
    """The digest of passages and of what is known of them, which any change to any of them changes.

    Attributes:
        value: of all that was added; empty for none.
    """

    def __init__(self, value: bytes = b"") -> None:
        """Go on behind the passages whose digest is `value`."""
        self.value = value
        self._source: tuple[tuple[str, str] | None, bytes] = (None, b"")
        self._marks: tuple[Marks | None, bytes] = (None, b"")

    def add(self, row: Row) -> None:
        """Add the passage that follows."""
        if self._source[0] != (row.source, row.kind):  # long ones are hashed once for all their passages
            self._source = (row.source, row.kind), _hash([row.source, row.kind])
        if self._marks[0] != row.marks:
            self._marks = row.marks, _hash(sorted((kind, repr(value)) for kind, value in row.marks.items()))
        times = struct.pack("<dd", row.added, math.nan if row.happened is None else row.happened)
        text = hashlib.sha256(row.text.encode()).digest()
        self.value = hashlib.sha256(self.value + text + self._source[1] + self._marks[1] + times).digest()


def _hash(value: object) -> bytes:
    return hashlib.sha256(json.dumps(value).encode()).digest()


def as_row(passage: "str | Row") -> Row:
    """The row of a passage; a text alone has no provenance."""
    return Row(passage) if isinstance(passage, str) else passage
