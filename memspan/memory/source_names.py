"""Names of sources: those that a pattern matches, and free ones for sources that are merged."""

from collections import ChainMap
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from memspan.errors import UsageError
from memspan.memory.store.shard import SourceRecord


def matching(pattern: str, names: Collection[str]) -> list[str]:
    """The names that equal `pattern` or match it, where * ? [seq] are wildcards.

    Raises UsageError if there are none; the message lists similar names.
    """
    matches = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
    if matches:
        return matches
    near = get_close_matches(pattern, names, n=3, cutoff=0.4)
    if near:
        hint = f"did you mean {' or '.join(repr(name) for name in near)}?"
    elif names:
        hint = f"there are {len(names)}, the first is {next(iter(names))!r}."
    else:
        hint = "the memory is empty."
    raise UsageError(f"no source matches {pattern!r}; {hint}")


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
