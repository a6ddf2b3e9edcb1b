"""Selections of sources, by name, by time and by what their text contains."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from numbers import Real
from types import NoneType
from typing import TYPE_CHECKING

import numpy as np

from memspan.errors import NoMatch, UsageError, require_type
from memspan.memory.filter import Filter
from memspan.memory.store.snapshot import Snapshot

if TYPE_CHECKING:
    from memspan.memory.view import Contents


@dataclass(frozen=True)
class Selection:
    """Conditions that a source meets all of; `None` stands for no condition.

    Attributes:
        pattern: its name, or a pattern for it with * ? [seq].
        before: it was added earlier than this time, an aware or local `datetime` or unix seconds.
        after: it was added at this time or later.
        containing: its text contains this text, in upper or lower case.
        filter: each of its passages, of which there is at least one, meets these conditions.
    """

    pattern: str | None = None
    before: datetime | float | None = None
    after: datetime | float | None = None
    containing: str | None = None
    filter: Filter | None = None

    def __post_init__(self) -> None:
        """Raises UsageError if there is no condition, or one that every text meets."""
        require_type("filter", self.filter, (Filter, NoneType), "a memspan.Filter")
        if not self.filter and all(
            condition is None for condition in (self.pattern, self.before, self.after, self.containing)
        ):
            raise UsageError(
                "There must be at least one condition (a name or pattern, a time before or after, a text contained), got "
                "none."
            )
        for name in ("pattern", "containing"):
            require_type(name, getattr(self, name), (str, NoneType), "a string")
        for name in ("before", "after"):
            require_type(name, getattr(self, name), (datetime, Real, NoneType), "a datetime or unix seconds")
        if self.containing == "":
            raise UsageError("The text that sources contain must not be empty.")

    def names(self, contents: "Contents") -> list[str]:
        """The names of the sources that meet all conditions, in order of first appearance.

        Raises NoMatch, a UsageError, if there are none; for a name alone the message lists similar names.
        """
        view = contents.view() if self.filter else contents
        snapshot = view.snapshot
        names = {source.name for source in snapshot.sources.values() if self._is_in_time(source.added)}
        if self.pattern is not None:
            names &= {name for name in names if name == self.pattern or fnmatchcase(name, self.pattern)}
        if self.containing is not None:
            names = _containing(self.containing, names, snapshot)
        if self.filter:
            mask = np.zeros(snapshot.passages, np.bool_)
            mask[view.passing(self.filter)] = True
            names &= set(snapshot.sources_within(mask))
            if not names:
                raise NoMatch(
                    "no source meets all of the conditions with every one of its passages; sources that meet them in part can "
                    "be forgotten by name."
                )
        if not names:
            raise self._no_match(list(snapshot.sources))
        return [name for name in snapshot.sources if name in names]

    def _no_match(self, names: Collection[str]) -> NoMatch:
        if self.pattern is None or (self.before, self.after, self.containing) != (None, None, None):
            hint = f"{len(names)} were looked at." if names else "the memory is empty."
            return NoMatch(f"no source meets all of the conditions; {hint}")
        near = get_close_matches(self.pattern, names, n=3, cutoff=0.4)
        if near:
            hint = f"did you mean {' or '.join(repr(name) for name in near)}?"
        elif names:
            hint = f"there are {len(names)}, the first is {next(iter(names))!r}."
        else:
            hint = "the memory is empty."
        return NoMatch(f"no source matches {self.pattern!r}; {hint}")

    def _is_in_time(self, added: float) -> bool:
        is_early = self.before is None or added < _unix_seconds(self.before)
        return is_early and (self.after is None or added >= _unix_seconds(self.after))


def _unix_seconds(moment: datetime | float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment


def _containing(text: str, names: set[str], snapshot: Snapshot) -> set[str]:
    """Those of the sources whose text contains `text`, also across the edges of passages and shards."""
    wanted = text.casefold()
    found: set[str] = set()
    ends = dict.fromkeys(names, "")  # of the text so far, too short to contain it
    for shard in snapshot.shards:
        for name in names & shard.sources.keys() - found:
            for row in shard.rows.get(name, ()):
                read = ends[name] + shard.characters(row).decode().casefold()
                if wanted in read:
                    found.add(name)
                    break
                ends[name] = read[max(0, len(read) - len(wanted) + 1) :]
    return found
