"""Word search in a memory that changes: its index is brought up to date when it is used."""

import threading
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from memspan.memory.index.bm25 import WordIndex
from memspan.memory.index.passage_table import Condition
from memspan.memory.store.folder import Folder
from memspan.memory.store.manifest import Manifest
from memspan.memory.store.snapshot import Snapshot


class WordScorer:
    """The word index of exactly the passages of one snapshot: while this object lives, nothing is added to the index."""

    def __init__(self, index: WordIndex) -> None:
        self._index = index

    def scores(self, text: str) -> NDArray[np.float32]:
        """The BM25 score of every passage, float32 (P,), for any word of `text`; 0 without a match."""
        return self._index.scores(text)

    def matches(self, word: str) -> NDArray[np.void]:
        """The "number" (int64) and the BM25 "score" (float64) of each passage that has a word."""
        return self._index.matches(f'"{word}"')

    def count(self, word: str) -> int:
        """How many passages have a word."""
        return self._index.count(word)

    def select(self, condition: Condition) -> NDArray[np.bool_]:
        """Which passages meet the condition, bool (P,)."""
        return self._index.select(condition)

    def kinds_of_marks(self) -> list[str]:
        """The kinds of marks that any passage has, sorted."""
        return self._index.kinds_of_marks()


class WordSearch:
    """The word index of one lineage of a memory: shared with forks, and stored in the memory's folder.

    The methods may be called from several threads.
    """

    def __init__(self, index: WordIndex | None = None, *, is_shared: bool = False) -> None:
        """
        Args:
            index: covers the first passages; None loads or builds one when it is needed.
            is_shared: the index is copied before passages are added to it.
        """
        self._index, self._is_shared = index, is_shared
        self._scorers: WeakSet[WordScorer] = WeakSet()  # of the index
        self._stored = 0  # passages that the index on disk covers
        self._mutex = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The bytes of the index."""
        index = self._index
        return 0 if index is None else index.nbytes

    def fork(self, snapshot: Snapshot) -> "WordSearch":
        """The search of a fork with these contents, also in a new folder: both share the index until either adds to it."""
        with self._mutex:
            if self._index is None or self._index.passages > snapshot.passages:
                return WordSearch()
            self._is_shared = True
            return WordSearch(self._index, is_shared=True)

    def scorer(self, snapshot: Snapshot, folder: Folder | None, manifest: Manifest | None) -> WordScorer | None:
        """The word index of the passages of `snapshot`; None if later contents have been searched by now.

        Args:
            folder: the memory's folder, to load the index from and store it in; None in RAM.
            manifest: of the folder with these contents.
        """
        with self._mutex:
            if self._index is not None and self._index.passages > snapshot.passages:
                return None
            index = self._current(snapshot, folder)
            if folder is not None and manifest is not None and self._is_behind(snapshot.passages):
                is_stored = folder.store_index(index, manifest)
                self._stored = snapshot.passages if is_stored else self._stored
            scorer = WordScorer(index)
            self._scorers.add(scorer)
            return scorer

    def _current(self, snapshot: Snapshot, folder: Folder | None) -> WordIndex:
        """The index of all passages."""
        index = self._index
        if index is None and folder is not None:
            index = folder.index.load(snapshot)
            self._stored = 0 if index is None else index.passages
        if index is None:
            index = WordIndex()
        if index.passages < snapshot.passages:
            if self._is_shared or len(self._scorers) > 0:
                index = index.copy()
                self._is_shared, self._scorers = False, WeakSet()
            index.extend(snapshot.rows(index.passages))
        self._index = index
        return index

    def _is_behind(self, passages: int) -> bool:
        """Whether the index on disk lacks so many passages, an eighth, that writing it anew pays."""
        return passages - self._stored > self._stored // 8
