"""The contents of a memory at one generation: an immutable value from which everything is read.

A reader keeps the snapshot it began with, also while others append: the arrays of a shard that was compacted away stay
valid as long as they are used.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from memspan.data.marks import Value
from memspan.memory.context import with_context
from memspan.memory.index.passage_table import Row
from memspan.memory.store.passage_latents import Latents
from memspan.memory.store.passage_marks import Marks
from memspan.memory.store.shard import (
    CHARACTER,
    CHARACTER_END,
    SOURCE,
    TOKEN,
    TOKEN_END,
    Ids,
    Integers,
    Keys,
    Scales,
    Shard,
    Times,
    Vectors,
)
from memspan.memory.store.sources import Sources


@dataclass(frozen=True)
class Passage:
    """A stretch of one source, the unit that is retrieved."""

    number: int  # position in the memory, from 0, in order of reading
    source: str
    start: int  # first character in the source
    end: int
    text: str
    tokens: int
    added: float  # unix seconds
    marks: Mapping[str, Value] = field(default_factory=dict)  # what holds of it, such as its page
    happened: float | None = None  # unix seconds of what it is about; None if that is not known


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive passages for scoring; on disk the arrays are mapped, not loaded."""

    first: int  # number of the first passage
    keys: Keys  # int8 (T, G, K)
    scales: Scales  # float16 (T, G)
    ends: Integers  # int64 (P,), the end token of each passage within the block
    vectors: Vectors | None = None  # int8 (P, E), directions; zeros where a passage has none, None where all have none


def block_of(shard: Shard, first: int = 0) -> Block:
    """The passages of a shard, which are counted from `first`."""
    return Block(first, shard.keys, shard.scales, shard.passages[:, TOKEN_END], shard.vectors)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The shards of a memory, in order of reading.

    Attributes:
        generation: how many commits led here.
        lineage: changes whenever passages are renumbered or copied to another memory; within one lineage, passage
            numbers mean the same thing in every generation.
    """

    generation: int
    lineage: str
    shards: tuple[Shard, ...]

    def followed_by(self, generation: int, lineage: str, shards: tuple[Shard, ...]) -> "Snapshot":
        """The contents after a change; what is known of shards that stay is kept."""
        snapshot = Snapshot(generation, lineage, shards)
        snapshot.sources.count_from(self.sources)
        return snapshot

    @cached_property
    def sources(self) -> Sources:
        """Every source by name, in order of first appearance."""
        return Sources(self.shards)

    @cached_property
    def _firsts(self) -> list[int]:
        """The number of each shard's first passage, followed by the number of all passages."""
        return list(accumulate((len(shard.passages) for shard in self.shards), initial=0))

    @property
    def passages(self) -> int:
        """The number of passages."""
        return self._firsts[-1]

    @cached_property
    def tokens(self) -> int:
        """The number of tokens."""
        return sum(len(shard.ids) for shard in self.shards)

    def passage(self, number: int) -> Passage:
        """One passage with its text. Raises IndexError."""
        shard, row = self.locate(number)
        return _passage(number, shard, row)

    def ids(self, number: int) -> Ids:
        """The token ids of one passage, int32 (T,), read-only. Raises IndexError."""
        shard, row = self.locate(number)
        return shard.ids[shard.passages[row, TOKEN] : shard.passages[row, TOKEN_END]]

    def latents(self, number: int) -> Latents | None:
        """The latents of one passage, int8 (n, Z), read-only; None if it has none. Raises IndexError."""
        shard, row = self.locate(number)
        latents = None if shard.latents is None else shard.latents.at(row)
        return None if latents is None or len(latents) == 0 else latents

    def neighbours(self, number: int, before: int, after: int) -> list[int]:
        """The numbers of the passages around one in its source, itself included. Raises IndexError."""
        shard, row = self.locate(number)
        source = shard.names[shard.passages[row, SOURCE]]
        numbers = self.numbers_of(source)
        position = int(np.searchsorted(numbers, number))
        return [int(near) for near in numbers[max(0, position - before) : position + after + 1]]

    def blocks(self) -> Iterator[Block]:
        """All passages in order, a shard at a time."""
        for first, shard in zip(self._firsts, self.shards, strict=False):
            if len(shard.passages) > 0:
                yield block_of(shard, first)

    def texts(self, first: int) -> Iterator[str]:
        """The text of passage `first` and of each after it."""
        for start, shard in zip(self._firsts, self.shards, strict=False):
            for row in range(max(0, first - start), len(shard.passages)):
                yield shard.characters(row).decode()

    def marks(self, first: int = 0) -> Iterator[Marks]:
        """The marks of passage `first` and of each after it."""
        for start, shard in zip(self._firsts, self.shards, strict=False):
            for row in range(max(0, first - start), len(shard.passages)):
                yield {} if shard.marks is None else shard.marks.at(row)

    def having(self, kind: str) -> NDArray[np.bool_]:
        """Whether each passage has a mark of this kind, bool (P,)."""
        by_shard = [
            np.zeros(len(shard.passages), np.bool_) if shard.marks is None else shard.marks.having(kind)
            for shard in self.shards
        ]
        return np.concatenate(by_shard) if by_shard else np.zeros(0, np.bool_)

    @cached_property
    def source_numbers(self) -> Integers:
        """A number for the source of each passage, int64 (P,): from 0 in order of first appearance."""
        numbers: dict[str, int] = {}
        by_shard = [
            np.array([numbers.setdefault(name, len(numbers)) for name in shard.names], np.int64)[
                shard.passages[:, SOURCE]
            ]
            for shard in self.shards
        ]
        return np.concatenate(by_shard) if by_shard else np.zeros(0, np.int64)

    @cached_property
    def happened(self) -> Times:
        """Unix seconds of what each passage is about, float64 (P,); NaN where that is not known."""
        times = [
            np.full(len(shard.passages), np.nan) if shard.happened is None else shard.happened for shard in self.shards
        ]
        return np.concatenate(times) if times else np.zeros(0)

    def rows(self, first: int) -> Iterator[Row]:
        """Passage `first` and each after it, as they are indexed: the text behind its context line."""
        for start, shard in zip(self._firsts, self.shards, strict=False):
            sources, columns = list(shard.sources.values()), shard.passages[:, SOURCE].tolist()
            for row in range(max(0, first - start), len(columns)):
                source = sources[columns[row]]
                passage = _passage(start + row, shard, row)
                yield Row(
                    text=with_context(passage),
                    source=source.name,
                    kind=source.kind,
                    added=passage.added,
                    happened=passage.happened,
                    marks=passage.marks,
                )

    def sources_within(self, mask: NDArray[np.bool_]) -> list[str]:
        """The names of the sources with text of which the mask, bool (P,), holds every passage, in order of first appearance."""
        is_whole: dict[str, bool] = {}
        for first, shard in zip(self._firsts, self.shards, strict=False):
            columns = shard.passages[:, SOURCE]
            outside = set(columns[~mask[first : first + len(columns)]].tolist())
            for column in np.unique(columns).tolist():
                name = shard.names[column]
                is_whole[name] = is_whole.get(name, True) and column not in outside
        return [name for name, whole in is_whole.items() if whole]

    @cached_property
    def times(self) -> Times:
        """The time of each passage, float64 (P,), unix seconds: when it happened, or else when it was added."""
        added = [shard.added for shard in self.shards]
        return np.where(np.isnan(self.happened), np.concatenate(added) if added else np.zeros(0), self.happened)

    @cached_property
    def event_times(self) -> Times:
        """When what a passage says was so, float64 (P,), unix seconds: when it happened, and for an exchange without that
        when it was added; NaN for other text without a time."""
        if not self.shards:
            return np.zeros(0)
        times = []
        for shard in self.shards:
            is_exchange = np.array([source.kind == "exchange" for source in shard.sources.values()], np.bool_)
            times.append(np.where(is_exchange[shard.passages[:, SOURCE]], shard.added, np.nan))
        return np.where(np.isnan(self.happened), np.concatenate(times), self.happened)

    def numbers_of(self, source: str) -> Integers:
        """The numbers of a source's passages, int64, ascending, which is the order of its text."""
        numbers = [
            shard.rows[source] + first
            for first, shard in zip(self._firsts, self.shards, strict=False)
            if source in shard.sources and source in shard.rows
        ]
        return np.concatenate(numbers) if numbers else np.zeros(0, np.int64)

    def locate(self, number: int) -> tuple[Shard, int]:
        """The shard that holds a passage, and its row there. Raises IndexError."""
        if not 0 <= number < self.passages:
            raise IndexError(f"there is no passage {number}; the memory has {self.passages}")
        index = bisect_right(self._firsts, number) - 1
        return self.shards[index], number - self._firsts[index]


def _passage(number: int, shard: Shard, row: int) -> Passage:
    """The passage in a row of a shard, under its number in the memory."""
    columns = shard.passages[row]
    return Passage(
        number=number,
        source=shard.names[columns[SOURCE]],
        start=int(columns[CHARACTER]),
        end=int(columns[CHARACTER_END]),
        text=shard.characters(row).decode(),
        tokens=int(columns[TOKEN_END] - columns[TOKEN]),
        added=float(shard.added[row]),
        marks={} if shard.marks is None else shard.marks.at(row),
        happened=None if shard.happened is None or np.isnan(shard.happened[row]) else float(shard.happened[row]),
    )
