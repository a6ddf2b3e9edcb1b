"""Replacement: the shards of a memory in which texts have taken the position of sources."""

from collections.abc import Collection, Sequence
from itertools import chain

from memspan.memory.store.encoded_text import EncodedText, continue_sources
from memspan.memory.store.shard import Shard, select, without
from memspan.memory.store.snapshot import Snapshot


def replaced(
    snapshot: Snapshot, sources: Collection[str], texts: Sequence[EncodedText], *, in_position: bool = False
) -> list[list[Shard]]:
    """Groups of shards, in the order of the memory, without `sources` and with `texts`, checked ones.

    Args:
        in_position: whether the texts stand where the first of the sources stood; otherwise they are the last ones.

    Raises UsageError if a text does not begin where its source ends.
    """
    groups = without(snapshot.shards, sources)
    kept = Snapshot(snapshot.generation, snapshot.lineage, tuple(chain.from_iterable(groups)))
    views, _ = continue_sources(texts, kept, {})
    if not in_position or not sources or not views:
        return [*groups, *([view] for view in views)]
    removed = frozenset(sources)
    before: list[list[Shard]] = []
    for index, shard in enumerate(snapshot.shards):
        if removed.isdisjoint(shard.sources):
            before.append([shard])
            continue
        names = shard.names
        first = min(number for number, name in enumerate(names) if name in removed)
        head, tail = ({name: name for name in part if name not in removed} for part in (names[:first], names[first:]))
        middle = [*select(shard, head), *views, *select(shard, tail)]
        return [*before, middle, *without(snapshot.shards[index + 1 :], removed)]
    return [*groups, *([view] for view in views)]
