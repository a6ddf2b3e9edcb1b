"""The word index: BM25 scores of all passages for the words of a question, by SQLite's full-text index.

SQLite splits and stems the words (Porter's stemmer, which hardly changes languages other than English). Scripts that are
written without spaces are indexed by overlapping pairs of characters. The index is derived from the text of the shards and
can be deleted at any time; it holds the words, not the text.
"""

import hashlib
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from memspan.data.scripts import UNSPACED

MOST_WORDS = 1000  # of a question: SQLite limits the depth of an expression

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(f"[{UNSPACED}]+")
# These words make a sentence a question and do not bear on the answer; they are rare in most texts, so BM25 would give
# them weight.
_QUESTION_WORDS = re.compile(
    r"\b(?:what|which|who|whom|whose|when|where|why|how|do|does|did|much|many)\b"
    "|为什么|什么|如何|为何|何时|怎么|怎样|多少|哪[里些个]?|谁|几",
    re.IGNORECASE,
)


class WordIndex:
    """The words of passages 0 to `passages`, in an SQLite database in RAM.

    The methods may be called from several threads: they take turns on the connection.

    Attributes:
        passages: how many it covers.
        digest: of their texts, see `chained`.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        # Without content: the words are looked up, never read back.
        self._turn = threading.Lock()
        self._database.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='porter unicode61')")
        self.passages = 0
        self.digest = b""

    def __del__(self) -> None:
        self._database.close()

    @classmethod
    def restore(cls, content: bytes, passages: int, digest: bytes) -> "WordIndex":
        """The index that `dump` wrote. Raises sqlite3.Error."""
        index = cls()
        with closing(sqlite3.connect(":memory:")) as dumped:
            dumped.deserialize(content)
            dumped.execute("PRAGMA trusted_schema = OFF")
            schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
            if dumped.execute(schema).fetchall() != index._database.execute(schema).fetchall():
                raise sqlite3.DatabaseError("the database must hold the tables of a word index and no others")
            dumped.backup(index._database)  # a deserialised database could not grow past 1 GiB
        (rows,) = index._database.execute("SELECT count(*) FROM words").fetchone()
        if rows != passages:
            raise sqlite3.DatabaseError(f"the index must cover {passages} passages, got {rows}")
        index.passages, index.digest = passages, digest
        return index

    def dump(self) -> bytes:
        """The database as the bytes of a file."""
        with self._turn:
            return self._database.serialize()

    def copy(self) -> "WordIndex":
        """An independent index with the same contents."""
        twin = WordIndex()
        with self._turn:
            self._database.backup(twin._database)
            twin.passages, twin.digest = self.passages, self.digest
        return twin

    @property
    def nbytes(self) -> int:
        """The size of the database in bytes."""
        with self._turn:
            (pages,) = self._database.execute("PRAGMA page_count").fetchone()
            (page_size,) = self._database.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(page_size)

    def extend(self, passages: Iterable[str]) -> None:
        """Add the words of the passages that follow; all of them or, after an exception, none."""
        digest = self.digest

        def rows() -> Iterator[tuple[int, str]]:
            nonlocal digest
            for row, text in enumerate(passages, start=self.passages):
                digest = chained(digest, [text])
                yield row, _spaced(text)

        with self._turn:
            with self._database:
                self._database.executemany("INSERT INTO words(rowid, text) VALUES (?, ?)", rows())
            (self.passages,) = self._database.execute("SELECT count(*) FROM words").fetchone()
            self.digest = digest

    def scores(self, text: str) -> NDArray[np.float32]:
        """The BM25 score of every passage, float32 (P,), for any word of `text`; higher is better, 0 without a match."""
        scores = np.zeros(self.passages, np.float32)
        words = sorted(set(_WORD.findall(_spaced(text.casefold()))))[:MOST_WORDS]
        if words:
            query = " OR ".join(f'"{word}"' for word in words)
            with self._turn:
                matches = self._database.execute(
                    "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?", (query,)
                ).fetchall()
            rows = np.array(matches, np.float64).reshape(-1, 2)
            scores[rows[:, 0].astype(np.int64)] = rows[:, 1]
        return scores


def chained(digest: bytes, texts: Iterable[str]) -> bytes:
    """The digest of passages that begin with those of `digest`, which is empty for none, and go on with `texts`."""
    for text in texts:
        digest = hashlib.sha256(digest + hashlib.sha256(text.encode()).digest()).digest()
    return digest


def without_question_words(text: str) -> str:
    """`text` without English and Chinese question words; unchanged if it has no other words."""
    rest = _QUESTION_WORDS.sub(" ", text)
    return rest if _WORD.search(rest) else text


def _spaced(text: str) -> str:
    """`text` with every run of characters written without spaces replaced by its overlapping pairs."""
    return _UNSPACED.sub(_pairs, text)


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = [characters[start : start + 2] for start in range(max(1, len(characters) - 1))]
    return f" {' '.join(pairs)} "
