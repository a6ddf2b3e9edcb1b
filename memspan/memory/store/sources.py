"""The sources of a memory by name: a mapping over its shards, whose records are joined only when they are listed."""

from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from itertools import takewhile

from memspan.memory.store.shard import Shard, SourceRecord, latest


class Sources(Mapping[str, SourceRecord]):
    """Every source by name, in order of first appearance, each with its latest record.

    A look-up costs the number of shards, the logarithm of the number of sources. Iterating joins the records of all
    shards. Counting costs as much once; afterwards, only what was added since is counted.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        """Look names up in these shards, which are in order of reading."""
        self._shards = tuple(shards)
        self._new_names: tuple[int, ...] = ()  # of each shard, as far as counted: the names that no earlier shard has

    def count_from(self, previous: "Sources") -> None:
        """Take over the counts of `previous` for the first shards, as far as they are the same."""
        pairs = zip(self._shards, previous._shards, strict=False)
        unchanged = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], pairs))
        self._new_names = previous._new_names[:unchanged]

    def __getitem__(self, name: str) -> SourceRecord:
        for shard in reversed(self._shards):
            if name in shard.sources:
                return shard.sources[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(latest(self._shards))

    def values(self) -> ValuesView[SourceRecord]:
        """The records, in the same order."""
        return latest(self._shards).values()

    def items(self) -> ItemsView[str, SourceRecord]:
        """Names and records, in the same order."""
        return latest(self._shards).items()

    def __reversed__(self) -> Iterator[str]:
        """The names from the last to appear first, found one at a time: the latest cost nothing but themselves."""
        for index in reversed(range(len(self._shards))):
            for name in reversed(list(self._shards[index].sources)):
                if not any(name in shard.sources for shard in self._shards[:index]):
                    yield name

    def __len__(self) -> int:
        counts = list(self._new_names)
        for index in range(len(counts), len(self._shards)):
            earlier = self._shards[:index]
            names = self._shards[index].sources
            counts.append(sum(not any(name in shard.sources for shard in earlier) for name in names))
        self._new_names = tuple(counts)  # one assignment: another thread may be counting too
        return sum(counts)

    def __repr__(self) -> str:
        return f"<{len(self)} sources>"
