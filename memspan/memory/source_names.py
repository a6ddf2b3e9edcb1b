"""Names of sources that are merged."""

from collections import ChainMap
from collections.abc import Mapping

from memspan.memory.store.shard import SourceRecord


def free_names(theirs: Mapping[str, SourceRecord], ours: Mapping[str, SourceRecord]) -> dict[str, str]:
    """The name here of each of their sources: the same, or numbered if ours has it with another text.

    Sources that are here already, with the same text, are left out.
    """
    taken = ChainMap[str, SourceRecord]({}, ours)  # type: ignore[arg-type]  # only its first map is written
    names = {}
    for name, source in theirs.items():
        free, count = name, 1
        while free in taken and taken[free].sha256 != source.sha256:
            count += 1
            free = f"{name} ({count})"
        if free not in taken:
            names[name], taken[free] = free, source
    return names
