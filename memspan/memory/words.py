"""Word search: the BM25 scores of all passages for a set of terms, by SQLite's full-text index.

The index is derived from the terms in the parts and can be thrown away at any time. It holds the terms only, no text.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray


class WordIndex:
    """The terms of passages 0 to `passages`, in an SQLite database in RAM."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        # Without content: the terms are looked up, never read back.
        self._database.execute("CREATE VIRTUAL TABLE words USING fts5(terms, content='', tokenize='ascii')")
        self.passages = 0

    def __del__(self) -> None:
        self._database.close()

    @classmethod
    def restore(cls, content: bytes, passages: int) -> "WordIndex":
        """The index that `dump` wrote. Raises sqlite3.Error."""
        index = cls()
        with closing(sqlite3.connect(":memory:")) as dumped:
            dumped.deserialize(content)
            dumped.backup(index._database)  # a deserialised database could not grow past 1 GiB
        (found,) = index._database.execute("SELECT count(*) FROM words").fetchone()
        if found != passages:
            raise sqlite3.DatabaseError(f"an index of {found} passages instead of {passages}")
        index.passages = passages
        return index

    def dump(self) -> bytes:
        """The database as the bytes of a file."""
        return self._database.serialize()

    def copy(self) -> "WordIndex":
        """An independent index with the same contents."""
        twin = WordIndex()
        self._database.backup(twin._database)
        twin.passages = self.passages
        return twin

    @property
    def nbytes(self) -> int:
        """The size of the database in bytes."""
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (page_size,) = self._database.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(page_size)

    def extend(self, passages: Iterable[NDArray[np.int32]]) -> None:
        """Add the terms of the passages that follow; all of them or, after an exception, none."""
        rows = ((row, _words(terms.tolist())) for row, terms in enumerate(passages, start=self.passages))
        with self._database:
            self._database.executemany("INSERT INTO words(rowid, terms) VALUES (?, ?)", rows)
        (self.passages,) = self._database.execute("SELECT count(*) FROM words").fetchone()

    def scores(self, terms: Sequence[int]) -> NDArray[np.float32]:
        """The BM25 score of every passage, float32 (P,), for any of the terms; higher is better, 0 without a match."""
        scores = np.zeros(self.passages, np.float32)
        if len(terms) > 0:
            query = _words(sorted(set(terms))).replace(" ", " OR ")
            found = self._database.execute("SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?", (query,))
            rows = np.array(found.fetchall(), np.float64).reshape(-1, 2)
            scores[rows[:, 0].astype(np.int64)] = rows[:, 1]
        return scores


def _words(terms: Iterable[int]) -> str:
    return " ".join(f"t{term:x}" for term in terms)
