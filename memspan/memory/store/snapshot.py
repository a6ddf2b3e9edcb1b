"""What a memory holds at one generation: an immutable value that all reading looks into.

Whoever reads keeps the value it began with, also while others append: the arrays of a part that was compacted away
stay valid as long as somebody looks at them.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from memspan.memory.store.shard import (
    CHARACTER,
    CHARACTER_END,
    SOURCE,
    TOKEN,
    TOKEN_END,
    Ids,
    Keys,
    Places,
    Scales,
    Shard,
    SourceRecord,
    latest,
)


@dataclass(frozen=True)
class Passage:
    """A stretch of one source, the unit that is recalled."""

    number: int  # position in the memory, from 0, in order of reading
    source: str
    start: int  # first character in the source
    end: int
    text: str
    tokens: int
    added: float  # unix seconds


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive passages for scoring; on disk the arrays are mapped, not loaded."""

    first: int  # number of the first passage
    keys: Keys  # int8 (T, G, K)
    scales: Scales  # float16 (T, G)
    ends: Places  # int64 (P,), the end token of each passage within the block


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The parts of a memory, in order of reading.

    Attributes:
        generation: how many commits led here.
        lineage: changes whenever passages are renumbered or copied to another memory; within one lineage, passage
            numbers mean the same thing in every generation.
    """

    generation: int
    lineage: str
    parts: tuple[Shard, ...]

    @cached_property
    def sources(self) -> dict[str, SourceRecord]:
        """Every source by name, in order of first appearance."""
        return latest(self.parts)

    @cached_property
    def _firsts(self) -> list[int]:
        """The number of each part's first passage, and after the last the number of passages."""
        return list(accumulate((len(part.passages) for part in self.parts), initial=0))

    @property
    def passages(self) -> int:
        """How many passages there are."""
        return self._firsts[-1]

    @cached_property
    def tokens(self) -> int:
        """How many tokens there are."""
        return sum(len(part.ids) for part in self.parts)

    def passage(self, number: int) -> Passage:
        """One passage with its text. Raises IndexError."""
        part, row = self._find(number)
        place = part.passages[row]
        return Passage(
            number=number,
            source=part.names[place[SOURCE]],
            start=int(place[CHARACTER]),
            end=int(place[CHARACTER_END]),
            text=part.characters(row).decode(),
            tokens=int(place[TOKEN_END] - place[TOKEN]),
            added=float(part.added[row]),
        )

    def ids(self, number: int) -> Ids:
        """The token ids of one passage, int32 (T,), read-only. Raises IndexError."""
        part, row = self._find(number)
        return part.ids[part.passages[row, TOKEN] : part.passages[row, TOKEN_END]]

    def neighbours(self, number: int, before: int, after: int) -> list[int]:
        """The passages around one in the text of its source, itself included. Raises IndexError."""
        part, row = self._find(number)
        source = part.names[part.passages[row, SOURCE]]
        numbers = self.numbers_of(source)
        position = int(np.searchsorted(numbers, number))
        return [int(other) for other in numbers[max(0, position - before) : position + after + 1]]

    def blocks(self) -> Iterator[Block]:
        """All passages in order, a part at a time."""
        for first, part in zip(self._firsts, self.parts, strict=False):
            if len(part.passages) > 0:
                yield Block(first, part.keys, part.scales, part.passages[:, TOKEN_END])

    def texts(self, first: int) -> Iterator[str]:
        """The text of passage `first` and of each after it."""
        for start, part in zip(self._firsts, self.parts, strict=False):
            for row in range(max(0, first - start), len(part.passages)):
                yield part.characters(row).decode()

    def numbers_of(self, source: str) -> Places:
        """The numbers of a source's passages, int64, ascending, which is the order of its text."""
        numbers = [
            part.places[source] + first
            for first, part in zip(self._firsts, self.parts, strict=False)
            if source in part.places
        ]
        return np.concatenate(numbers) if numbers else np.zeros(0, np.int64)

    def _find(self, number: int) -> tuple[Shard, int]:
        if not 0 <= number < self.passages:
            raise IndexError(f"there is no passage {number}; the memory has {self.passages}")
        index = bisect_right(self._firsts, number) - 1
        return self.parts[index], number - self._firsts[index]
