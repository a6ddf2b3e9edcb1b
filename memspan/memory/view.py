"""What can be read from a memory, and a view: its contents at one moment, with the word index of exactly these passages."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memspan.memory.filter import Filter
from memspan.memory.index.bm25 import full_score, words_of
from memspan.memory.index.passage_table import Condition
from memspan.memory.index.word_search import WordScorer
from memspan.memory.selection import Selection
from memspan.memory.source_table import as_html
from memspan.memory.store.manifest import Fingerprint, refuse_foreign
from memspan.memory.store.passage_latents import Latents
from memspan.memory.store.shard import Ids, Times
from memspan.memory.store.snapshot import Block, Passage, Snapshot
from memspan.memory.store.sources import Sources


class Contents(ABC):
    """What can be read from a memory, and from a view of it.

    Attributes:
        fingerprint: of the memory.
    """

    fingerprint: Fingerprint

    @property
    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The contents at this moment, as a value that later changes leave as it is."""

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """The memory's folder, or `None` in RAM."""

    @abstractmethod
    def view(self) -> "View":
        """The contents at this moment with their word index, to search by; later changes leave it as it is."""

    def _repr_html_(self) -> str:
        """The sources in a notebook."""
        return as_html(self)

    def check_fingerprint(self, expected: Fingerprint) -> None:
        """Raises ForeignMemory if the memory has another fingerprint than `expected`."""
        refuse_foreign("this memory" if self.path is None else str(self.path), self.fingerprint, expected)

    def __len__(self) -> int:
        return self.snapshot.passages

    @property
    def generation(self) -> int:
        """The number of commits so far."""
        return self.snapshot.generation

    @property
    def sources(self) -> Sources:
        """Every source by name, in order of first appearance. To be read only."""
        return self.snapshot.sources

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return self.snapshot.tokens

    def matching(
        self,
        pattern: str | None = None,
        *,
        before: datetime | float | None = None,
        after: datetime | float | None = None,
        containing: str | None = None,
        filter: Filter | None = None,
    ) -> list[str]:
        """The names of the sources that meet all conditions: those that `Memory.forget` removes. Arguments and errors are
        the same."""
        return Selection(pattern, before, after, containing, filter).names(self)

    def passage(self, number: int) -> Passage:
        """One passage with its text and provenance. Raises IndexError."""
        return self.snapshot.passage(number)

    def ids(self, number: int) -> Ids:
        """The token ids of one passage, int32 (T,), read-only. Raises IndexError."""
        return self.snapshot.ids(number)

    def latents(self, number: int) -> Latents | None:
        """The latents of one passage by the trained memory that `fingerprint.latents` names, int8 (n, Z), read-only; None if it
        has none. Raises IndexError."""
        return self.snapshot.latents(number)

    def passages_of(self, source: str) -> list[int]:
        """The numbers of a source's passages, in the order of its text; none if there is no such source."""
        numbers: list[int] = self.snapshot.numbers_of(source).tolist()
        return numbers

    def neighbours(self, number: int, before: int, after: int) -> list[int]:
        """The numbers of a passage, of `before` passages ahead of it and `after` behind it, in the order of its source.

        Fewer where the source begins or ends. Raises IndexError.
        """
        return self.snapshot.neighbours(number, before, after)

    def blocks(self) -> Iterator[Block]:
        """All passages in order, in blocks for scoring; on disk their arrays are mapped, never loaded as a whole."""
        return self.snapshot.blocks()

    def word_scores(self, text: str) -> NDArray[np.float32]:
        """The BM25 score of every passage, float32 (P,), for any of the words of `text`; 0 without a match."""
        return self.view().word_scores(text)

    def passing(self, filter: Filter | None) -> NDArray[np.int64]:
        """The numbers of the passages that meet the conditions, int64, ascending; of all without any.

        Raises NoMatch if there are passages and none does.
        """
        view = self.view()
        return np.flatnonzero(filter.mask(view)) if filter else np.arange(len(view))


class View(Contents):
    """What a search reads from its first step to its last, whatever other threads and processes change meanwhile.

    A view keeps what it shows, text that has been forgotten since included, for as long as it is referenced.
    """

    def __init__(self, fingerprint: Fingerprint, snapshot: Snapshot, words: WordScorer, path: Path | None) -> None:
        """
        Args:
            words: the word index of the passages of `snapshot`.
            path: the memory's folder, or `None` in RAM.
        """
        self.fingerprint, self._snapshot, self._words, self._path = fingerprint, snapshot, words, path

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    @property
    def path(self) -> Path | None:
        return self._path

    def view(self) -> "View":
        """This view, so that a function can be passed a view as well as a memory."""
        return self

    def word_scores(self, text: str) -> NDArray[np.float32]:
        return self._words.scores(text)

    def word_matches(self, word: str) -> NDArray[np.void]:
        """The "number" (int64) and the BM25 "score" (float64) of each passage that has a word."""
        return self._words.matches(word)

    def word_counts(self, words: Sequence[str]) -> list[int]:
        """How many passages have each of the words, or another form of it."""
        return [self._words.count(word) for word in words]

    def full_word_score(self, text: str) -> float:
        """What `word_scores` is at most, for a passage that has all words of `text`."""
        return full_score(len(self), self.word_counts(words_of(text)))

    def select(self, condition: Condition) -> NDArray[np.bool_]:
        """Which passages meet a condition, bool (P,)."""
        return self._words.select(condition)

    def kinds_of_marks(self) -> list[str]:
        """The kinds of marks that any passage has, sorted."""
        return self._words.kinds_of_marks()

    @property
    def times(self) -> Times:
        """The time of each passage, float64 (P,), unix seconds: when it happened, or else when it was added."""
        return self.snapshot.times

    @property
    def event_times(self) -> Times:
        """When what each passage says was so, float64 (P,), unix seconds; NaN where that is not known, see `Snapshot`."""
        return self.snapshot.event_times
