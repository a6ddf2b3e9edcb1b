"""Filters: which passages a search looks at, by source, time, kind, marks and tags."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from fnmatch import translate
from re import compile as compile_pattern
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memspan.errors import NoMatch, UsageError, require_type
from memspan.memory.index.passage_table import Marked, OfSources, Within, comparable
from memspan.memory.moments import TimeLike, since, until

if TYPE_CHECKING:
    from memspan.memory.view import View

TAGS = "tags"  # in the meta of a source: what `where` of `read` said of it

_WILDCARDS = frozenset("*?[")
_NAMES_SHOWN = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Filter:
    """Conditions on passages, which must meet all of them; those left out are none.

    The time of a passage is when what it says happened; where that is not known, when it was read. Dates without a time
    zone are local for the latter, and as written for the former.

    Attributes:
        sources: names of sources, or patterns with * ? [seq]; any of them.
        since: a time or a period, such as "2023-05-08T18:00", "2023-05" or "30d" (30 days ago), a date, a datetime or unix
            seconds. The passages from then on.
        until: the same; the passages up to then, the period included.
        kinds: kinds of sources, such as "document" or "exchange"; any of them.
        where: marks of passages, such as page, speaker or title, and tags of sources, in upper or lower case; of several
            values any.
    """

    sources: Sequence[str] | str = ()
    since: TimeLike | None = None
    until: TimeLike | None = None
    kinds: Sequence[str] | str = ()
    where: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UsageError for a value of another type, and for what is no time."""
        object.__setattr__(self, "sources", _texts("sources", self.sources))
        object.__setattr__(self, "kinds", _texts("kinds", self.kinds))
        object.__setattr__(self, "where", MappingProxyType(_wanted(self.where)))
        if self.since is not None:
            since(self.since, "since")
        if self.until is not None:
            until(self.until, "until")

    def __bool__(self) -> bool:
        """Whether there is any condition."""
        return bool(self.sources or self.kinds or self.where) or (self.since, self.until) != (None, None)

    def mask(self, view: "View") -> NDArray[np.bool_]:
        """Which passages of a view meet all conditions, bool (P,).

        Raises NoMatch if there are passages and none does; the sentence says which condition excludes them.
        """
        masks = [(part, part.mask(view)) for part in self._parts()]
        mask = np.ones(len(view), np.bool_)
        for _, passing in masks:
            mask &= passing
        if len(view) > 0 and not mask.any():
            raise NoMatch(_why_none(masks, view))
        return mask

    def _parts(self) -> "list[_Part]":
        """Each condition with the words that say it."""
        parts: list[_Part] = []
        if self.sources:
            parts.append(_BySource(self.sources))
        if self.kinds:
            parts.append(_ByKind(self.kinds))
        if self.since is not None:
            bound = since(self.since, "since")
            within = Within((bound.of_events, math.inf), (bound.of_clock, math.inf))
            parts.append(_ByTime(f"since {self.since}", within, is_first=False))
        if self.until is not None:
            bound = until(self.until, "until")
            within = Within((-math.inf, bound.of_events), (-math.inf, bound.of_clock))
            parts.append(_ByTime(f"until {self.until}", within, is_first=True))
        parts.extend(_ByMark(kind, values) for kind, values in self.where.items())
        return parts


class _Part:
    """One condition of a filter: which passages meet it, and why if none does."""

    words: str

    def mask(self, view: "View") -> NDArray[np.bool_]:
        raise NotImplementedError

    def why_none(self, view: "View") -> str:
        raise NotImplementedError


class _BySource(_Part):
    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self.words = f"of {' or '.join(repr(pattern) for pattern in patterns)}"

    def mask(self, view: "View") -> NDArray[np.bool_]:
        is_chosen = name_test(self._patterns)
        return view.select(OfSources(lambda name, kind: is_chosen(name)))

    def why_none(self, view: "View") -> str:
        names = list(view.sources)
        near = [name for pattern in self._patterns for name in get_close_matches(pattern, names, n=3, cutoff=0.4)]
        shown = " or ".join(repr(name) for name in dict.fromkeys(near[:_NAMES_SHOWN]))
        hint = f"did you mean {shown}?" if near else f"there are {len(names)}, the first is {names[0]!r}."
        wanted = " or ".join(repr(pattern) for pattern in self._patterns)
        return f"no source with text matches {wanted}; {hint}"


class _ByKind(_Part):
    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = frozenset(kinds)
        self.words = f"of kind {' or '.join(kinds)}"

    def mask(self, view: "View") -> NDArray[np.bool_]:
        return view.select(OfSources(lambda name, kind: kind in self._kinds))

    def why_none(self, view: "View") -> str:
        known = sorted({source.kind for source in view.sources.values()})
        return f"no source is {self.words}; there are {', '.join(known)}."


class _ByTime(_Part):
    def __init__(self, words: str, within: Within, is_first: bool) -> None:
        self.words, self._within, self._is_first = words, within, is_first

    def mask(self, view: "View") -> NDArray[np.bool_]:
        return view.select(self._within)

    def why_none(self, view: "View") -> str:
        times = view.times
        edge, moment = ("first", times.min()) if self._is_first else ("last", times.max())
        day = f"{_EPOCH + timedelta(seconds=float(moment)):%Y-%m-%d}"
        return f"no passage is {self.words}; the {edge} is of {day}."


class _ByMark(_Part):
    def __init__(self, kind: str, values: Sequence[str]) -> None:
        self._kind, self._values = kind, values
        self.words = f"with {' or '.join(f'{kind}={value}' for value in values)}"

    def mask(self, view: "View") -> NDArray[np.bool_]:
        mask = np.zeros(len(view), np.bool_)
        for value in self._values:
            mask |= view.select(Marked(self._kind, value))
        tagged = {
            name
            for name, source in view.sources.items()
            if any(value in self._values for value in _values_of(source.meta, self._kind))
        }
        return mask | view.select(OfSources(lambda name, kind: name in tagged)) if tagged else mask

    def why_none(self, view: "View") -> str:
        known = {*view.kinds_of_marks(), *(key for source in view.sources.values() for key in _tags(source.meta))}
        hint = f"there are {', '.join(sorted(known))}." if known else "there are no marks or tags."
        return f"no passage is {self.words}; {hint}"


def name_test(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name is any of these, or matches any of them as a pattern with * ? [seq]."""
    names = frozenset(patterns)
    matches = [compile_pattern(translate(pattern)).match for pattern in patterns if _WILDCARDS & set(pattern)]
    return lambda name: name in names or any(match(name) is not None for match in matches)


def _values_of(meta: Mapping[str, Any], key: str) -> list[str]:
    """The comparable values of a tag of a source, or of a field of its meta; of a list those in it."""
    value = _tags(meta).get(key, meta.get(key))
    values = [comparable(each) for each in (value if isinstance(value, list) else [value])]
    return [each for each in values if each is not None]


def _tags(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    tags = meta.get(TAGS)
    return tags if isinstance(tags, Mapping) else {}


def _why_none(masks: Sequence[tuple[_Part, NDArray[np.bool_]]], view: "View") -> str:
    """Which condition excludes all passages, or that they do it together."""
    for part, mask in masks:
        if not mask.any():
            return part.why_none(view)
    counts = ", ".join(f"{int(mask.sum()):,} {part.words}" for part, mask in masks)
    return f"no passage meets all of the conditions together: there are {counts}."


def _texts(name: str, value: object) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    require_type(name, texts, Sequence, "a string or strings")
    assert isinstance(texts, Sequence)
    for text in texts:
        require_type(name, text, str, "a string or strings")
        if not text:
            raise UsageError(f"`{name}` must not hold an empty string.")
    return tuple(texts)


def checked_tags(where: object) -> dict[str, Any]:
    """Tags of a source as its meta holds them. Raises UsageError for what no filter could compare."""
    if where is None:
        return {}
    _wanted(where)
    assert isinstance(where, Mapping)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in where.items()}


def _wanted(where: object) -> dict[str, tuple[str, ...]]:
    """The comparable values of each mark or tag. Raises UsageError for anything else."""
    noun = "a mapping of names to strings or numbers"
    require_type("where", where, Mapping, noun)
    assert isinstance(where, Mapping)
    wanted = {}
    for key, value in where.items():
        require_type("where", key, str, noun)
        values = [comparable(each) for each in (value if isinstance(value, list | tuple) else (value,))]
        if not key or not values or None in values:
            raise UsageError(f"`where` must be {noun}, got {key!r}: {value!r}.")
        wanted[key] = tuple(str(each) for each in values)
    return wanted
