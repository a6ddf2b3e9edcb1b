"""Several memories searched as one: a view of all their passages, with one ranking over them."""

import operator
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from memspan.errors import NoMatch, UsageError
from memspan.memory.filter import Filter
from memspan.memory.index.bm25 import weight, words_of
from memspan.memory.index.passage_table import Condition
from memspan.memory.index.word_search import WordScorer
from memspan.memory.store.manifest import new_lineage, refuse_foreign
from memspan.memory.store.passage_latents import Latents
from memspan.memory.store.shard import Shard, select
from memspan.memory.store.snapshot import Snapshot
from memspan.memory.view import Contents, View


def united(memories: Sequence[Contents], *, names_one: bool = False) -> View:
    """One view of several memories, in this order. The source "notes.txt" of the memory "a.mem" is "a.mem/notes.txt" in it.

    Args:
        names_one: whether sources have the name of their memory also where there is only one.

    Raises:
        UsageError: there is none.
        ForeignMemory: they were not made with one model.
    """
    if not memories:
        raise UsageError("There must be at least one memory, got none.")
    views = [memory.view() for memory in memories]
    if len(views) == 1 and not names_one:
        return views[0]
    names = _names(views)
    for name, view in zip(names, views, strict=True):
        refuse_foreign(name, view.fingerprint, views[0].fingerprint)
    return _UnitedView(names, views)


class LatestUnion:
    """The union that was asked for last: it is the same as long as none of its memories changes, so that what a search computes
    once about all passages is not computed again.
    """

    def __init__(self, *, names_one: bool = False) -> None:
        """As `united`."""
        self._names_one = names_one
        self._latest: tuple[list[Snapshot], View] | None = None

    def of(self, memories: Sequence[Contents]) -> View:
        """The union of memories. Threads may call it at once: each gets that of its own memories. Raises as `united` does."""
        views = [memory.view() for memory in memories]
        snapshots = [view.snapshot for view in views]
        of_latest, latest = self._latest or ([], None)
        is_same = len(of_latest) == len(snapshots) and all(map(operator.is_, of_latest, snapshots))
        if latest is None or not is_same:
            latest = united(views, names_one=self._names_one)
            self._latest = snapshots, latest
        return latest


class _UnitedView(View):
    """The contents of several views, one behind the other."""

    def __init__(self, names: Sequence[str], views: Sequence[View]) -> None:
        self._names, self._views = tuple(names), tuple(views)
        shards = [shard for name, view in zip(names, views, strict=True) for shard in _renamed(name, view.snapshot)]
        generation = sum(view.generation for view in views)
        words = _UnitedScorer(views)
        super().__init__(views[0].fingerprint, Snapshot(generation, new_lineage(), tuple(shards)), words, None)

    def latents(self, number: int) -> Latents | None:
        """See `Contents.latents`; None also where the memory of the passage has its latents by another trained memory."""
        firsts = list(accumulate((len(view) for view in self._views), initial=0))
        own = self._views[bisect_right(firsts, number) - 1].fingerprint.latents if 0 <= number < firsts[-1] else None
        return super().latents(number) if own is None or own.is_of(self.fingerprint.latents) else None

    def passing(self, filter: Filter | None) -> NDArray[np.int64]:
        """See `Contents.passing`; names of sources are those in their own memory."""
        firsts = accumulate((len(view) for view in self._views), initial=0)
        found, excluded = [], []
        for name, first, view in zip(self._names, firsts, self._views, strict=False):
            try:
                found.append(view.passing(filter) + first)
            except NoMatch as error:
                excluded.append(f"{name}: {error}")
        if excluded and not any(len(numbers) > 0 for numbers in found):
            raise NoMatch(" ".join(excluded))
        return np.concatenate(found)


class _UnitedScorer(WordScorer):
    """BM25 over several indexes, with the weight that each word has in all of them together."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views

    def scores(self, text: str) -> NDArray[np.float32]:
        """See `WordScorer.scores`. Lengths of passages are compared with the average of their own memory."""
        counts = [len(view) for view in self._views]
        firsts = list(accumulate(counts, initial=0))
        scores = np.zeros(firsts[-1], np.float64)
        for word in words_of(text):
            matches = [view.word_matches(word) for view in self._views]
            word_weight = weight(firsts[-1], sum(map(len, matches)))
            for first, count, rows in zip(firsts, counts, matches, strict=False):
                scores[first + rows["number"]] += rows["score"] * (word_weight / weight(count, len(rows)))
        return scores.astype(np.float32)

    def count(self, word: str) -> int:
        return sum(view.word_counts([word])[0] for view in self._views)

    def select(self, condition: Condition) -> NDArray[np.bool_]:
        return np.concatenate([view.select(condition) for view in self._views])

    def kinds_of_marks(self) -> list[str]:
        return sorted({kind for view in self._views for kind in view.kinds_of_marks()})


def _names(views: Sequence[View]) -> list[str]:
    """The name of each memory: its folder's, with its path if several have it, and a number if they are still alike."""
    names = ["memory" if view.path is None else view.path.name for view in views]
    shared = Counter(names)
    names = [
        name if view.path is None or shared[name] == 1 else str(view.path)
        for name, view in zip(names, views, strict=True)
    ]
    shared, seen = Counter(names), Counter[str]()
    for index, name in enumerate(names):
        seen[name] += 1
        names[index] = name if shared[name] == 1 else f"{name} {seen[name]}"
    return names


_RENAMED: WeakKeyDictionary[Shard, dict[str, list[Shard]]] = WeakKeyDictionary()  # by the name of the memory


def _renamed(name: str, snapshot: Snapshot) -> list[Shard]:
    """The shards with other names of sources. They are the same for every union, and with them what is computed of them once."""
    renamed = []
    for shard in snapshot.shards:
        known = _RENAMED.setdefault(shard, {})
        if name not in known:
            known[name] = select(shard, {source: f"{name}/{source}" for source in shard.sources})
        renamed += known[name]
    return renamed
