"""The word index: BM25 scores of all passages for the words of a question, by SQLite's full-text index.

SQLite splits and stems the words (Porter's stemmer, which hardly changes languages other than English). Scripts that are
written without spaces are indexed by overlapping pairs of characters. Beside the words lies the table of passages, by which
searches are filtered. The index is derived from the shards and can be deleted at any time; it holds the words, not the
text.
"""

import math
import os
import re
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memspan.data.scripts import UNSPACED
from memspan.errors import SystemRefused
from memspan.memory.index.passage_table import SCHEMA, Condition, Digest, Row, as_row, insert, kinds_of_marks

CACHE_KIB = 16 * 1024  # of the database's pages in RAM, at most; the others are read from its file
CHUNK = 1024 * 1024  # bytes
MOST_WORDS = 1000  # of a question: SQLite limits the depth of an expression
SATURATION = 1.2  # k1 of SQLite's BM25: a word that is repeated without end scores 1 + k1 times its weight
LEAST_WEIGHT = 1e-6  # of a word, by which SQLite keeps the weight of a very common one above zero

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(f"[{UNSPACED}]+")
# These words make a sentence a question, or ask for what was said of something ("Summarize the discussion about ...", "What
# did the team think of ..."). They do not bear on the answer; they are rare in most texts, so BM25 would give them weight.
_QUESTION_WORDS = re.compile(
    r"\b(?:what|which|who|whom|whose|when|where|why|how|do|does|did|much|many"
    r"|summari[sz]e|describe|explain|discuss(?:es|ed|ing|ions?)?|talk(?:s|ed|ing)?|thinks?|thought|say|says|said"
    r"|mention(?:s|ed)?|about|opinions?"
    r"|(?:group|team|committee)(?=\s+(?:discuss|talk|think|say|agree|disagree|decide|want|plan|feel)))\b"
    "|为什么|什么|如何|为何|何时|怎么|怎样|多少|哪[里些个]?|谁|几",
    re.IGNORECASE,
)


class WordIndex:
    """The words of passages 0 to `passages` and what is known of these, in a private temporary file.

    SQLite deletes the file when it opens it, so that nobody else can, and keeps `CACHE_KIB` of it in RAM at most; a small
    index never reaches the disk. The methods may be called from several threads: they take turns on the connection.

    Attributes:
        passages: how many it covers.
        digest: of all that it was made from, see `chained`.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)
        self._turn = threading.Lock()
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # Without content: the words are looked up, never read back.
        self._database.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='porter unicode61')")
        for statement in SCHEMA:
            self._database.execute(statement)
        self.passages = 0
        self.digest = b""

    def __del__(self) -> None:
        self._database.close()

    @classmethod
    def restore(cls, content: Iterable[bytes], passages: int, digest: bytes) -> "WordIndex":
        """The index that `dump` wrote. Raises sqlite3.Error, OSError, or what taking the content raises."""
        index = cls()
        with _temporary_file() as path:
            with path.open("wb") as file:
                for chunk in content:
                    file.write(chunk)
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as dumped:
                _unlink(path)
                dumped.execute("PRAGMA trusted_schema = OFF")
                schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
                if dumped.execute(schema).fetchall() != index._database.execute(schema).fetchall():
                    raise sqlite3.DatabaseError("the database must hold the tables of a word index and no others")
                dumped.backup(index._database)
        for counting in ("SELECT count(*) FROM words", "SELECT count(*) FROM passages"):
            (rows,) = index._database.execute(counting).fetchone()
            if rows != passages:
                raise sqlite3.DatabaseError(f"the index must cover {passages} passages, got {rows}")
        index.passages, index.digest = passages, digest
        return index

    def dump(self) -> Iterator[bytes]:
        """The database as the bytes of a file, in chunks, as it is when the first is taken."""
        with _temporary_file() as path, closing(sqlite3.connect(path)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")  # a copy that fails is thrown away
            copy.execute("PRAGMA synchronous = OFF")
            with path.open("rb") as file:
                _unlink(path)
                with self._turn:
                    self._database.backup(copy)
                while chunk := file.read(CHUNK):
                    yield chunk

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

    def extend(self, passages: Iterable[str | Row]) -> None:
        """Add the passages that follow; all of them or, after an exception, none.

        Raises SystemRefused if there is no room for the temporary file.
        """
        digest = Digest(self.digest)

        def rows() -> Iterator[tuple[int, Row]]:
            for number, row in enumerate(map(as_row, passages), start=self.passages):
                digest.add(row)
                yield number, row

        with self._turn:
            words = ((number, _spaced(text)) for number, text in insert(self._database, rows()))
            try:
                with self._database:
                    self._database.executemany("INSERT INTO words(rowid, text) VALUES (?, ?)", words)
            except sqlite3.OperationalError as error:
                raise SystemRefused(
                    f"The word index needs a temporary file, and the system refused ({error}): free some space, or set "
                    "TMPDIR to a folder on another disk."
                ) from error
            (self.passages,) = self._database.execute("SELECT count(*) FROM words").fetchone()
            self.digest = digest.value

    def scores(self, text: str) -> NDArray[np.float32]:
        """The BM25 score of every passage, float32 (P,), for any word of `text`; higher is better, 0 without a match."""
        scores = np.zeros(self.passages, np.float32)
        if words := words_of(text):
            rows = self.matches(" OR ".join(f'"{word}"' for word in words))
            scores[rows["number"]] = rows["score"]
        return scores

    def matches(self, query: str) -> NDArray[np.void]:
        """The "number" (int64) and "score" (float64) of each passage that matches a query in the language of FTS5."""
        with self._turn:
            rows = self._database.execute("SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?", (query,))
            return np.fromiter(rows, [("number", np.int64), ("score", np.float64)])

    def count(self, word: str) -> int:
        """How many passages have a word."""
        with self._turn:
            (count,) = self._database.execute(
                "SELECT count(*) FROM words WHERE words MATCH ?", (f'"{word}"',)
            ).fetchone()
            return int(count)

    def select(self, condition: Condition) -> NDArray[np.bool_]:
        """Which passages meet the condition, bool (P,)."""
        with self._turn:
            return condition.mask(self._database, self.passages)

    def kinds_of_marks(self) -> list[str]:
        """The kinds of marks that any passage has, sorted."""
        with self._turn:
            return kinds_of_marks(self._database)


@contextmanager
def _temporary_file() -> Iterator[Path]:
    """The path of a file that does not exist, in a folder of its own that only this user may open; deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="memspan-"))
    try:
        yield folder / "index"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unlink(path: Path) -> None:
    """Delete an open file with its folder at once where the system can: words do not outlive a process that is killed."""
    if os.name == "posix":
        shutil.rmtree(path.parent, ignore_errors=True)


def chained(digest: bytes, passages: Iterable[str | Row]) -> bytes:
    """The digest of passages that begin with those of `digest`, which is empty for none, and go on with `passages`."""
    chain = Digest(digest)
    for passage in passages:
        chain.add(as_row(passage))
    return chain.value


def words_of(text: str) -> list[str]:
    """The words of a question that are searched for, at most `MOST_WORDS`."""
    return sorted(set(_WORD.findall(_spaced(text.casefold()))))[:MOST_WORDS]


def weight(passages: int, matches: int) -> float:
    """The weight of a word that so many of the passages have, its inverse document frequency as SQLite computes it."""
    return max(LEAST_WEIGHT, math.log((passages - matches + 0.5) / (matches + 0.5)))


def full_score(passages: int, matches: Iterable[int]) -> float:
    """The BM25 score that a passage with all words of a question has at most.

    Args:
        matches: for each of the words, how many of the passages have it.
    """
    return (1 + SATURATION) * sum(weight(passages, count) for count in matches)


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
