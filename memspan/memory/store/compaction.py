"""Compaction: which shards are joined, so that there are few files and no byte is rewritten often.

Shard sizes fall into classes, each eight times the previous one; all small shards are of the first. A new shard absorbs
the smaller ones just before it, and eight shards of one class become one of the next. So classes never rise along the
list, each occurs at most seven times, and a byte is rewritten at most once per class: the number of shards grows with the
logarithm of the memory, except for shards of the final class, which are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

FAN_IN = 8
FIRST_CLASS = 4  # shards below 16 KiB
FINAL_CLASS = 9  # shards from 64 MiB


@dataclass
class _Run:
    """Adjacent shards that become one: indices `first` to `end`, and their bytes together."""

    first: int
    end: int
    size: int

    @property
    def size_class(self) -> int:
        return max(FIRST_CLASS, min(self.size.bit_length() // 3, FINAL_CLASS))


def settle(sizes: Sequence[int]) -> list[slice]:
    """Which adjacent shards to join, given their sizes in bytes in the order of the memory.

    Returns:
        Slices that tile the list: a slice of one shard leaves it as it is.
    """
    runs: list[_Run] = []
    for index, size in enumerate(sizes):
        runs.append(_Run(index, index + 1, size))
        while (count := _to_join(runs)) > 1:
            last = runs[-count:]
            runs[-count:] = [_Run(last[0].first, last[-1].end, sum(run.size for run in last))]
    return [slice(run.first, run.end) for run in runs]


def _to_join(runs: Sequence[_Run]) -> int:
    """How many of the last runs become one; 1 if none."""
    newest = runs[-1].size_class
    before = [run.size_class for run in reversed(runs[:-1])]
    smaller = sum(1 for _ in takewhile(lambda size_class: size_class < newest, before))
    if smaller > 0:
        return smaller + 1
    equal = 1 + sum(1 for _ in takewhile(lambda size_class: size_class == newest, before))
    return equal if equal >= FAN_IN and newest < FINAL_CLASS else 1
