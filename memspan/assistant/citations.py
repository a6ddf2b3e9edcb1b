"""Citations: `[n]` in an answer stands for the n-th passage of the prompt; marks that stand for none are taken out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# White space before a mark goes with it. What may still become a mark at the end of a text is held back while streaming.
_MARK = re.compile(r"[^\S\n]*\[\s*([1-9]\d{0,3}(?:\s*[,;]\s*[1-9]\d{0,3})*)\s*\]")
_NUMBER = re.compile(r"\d+")
_UNFINISHED = re.compile(r"[^\S\n]+\Z|[^\S\n]*\[[\s\d,;]{0,40}\Z")


@dataclass(frozen=True)
class Citation:
    """A mark in an answer.

    Attributes:
        start, end: characters of the answer, its brackets included.
        passages: the positions, from 0, of the passages of the answer that it stands for; at least one.
    """

    start: int
    end: int
    passages: tuple[int, ...]


def resolved(text: str, passages: int, before: str = "") -> str:
    """`text` without the numbers in marks that none of so many passages has, and without the marks that have no other.

    A mark that is glued to a letter, such as `a[7]` in a program, stays as it is.

    Args:
        before: what stands before the text.
    """

    def keep(mark: re.Match[str]) -> str:
        if _is_glued(mark, before):
            return mark[0]
        numbers = [number for number in _NUMBER.findall(mark[1]) if int(number) <= passages]
        opening = mark[0][: mark[0].index("[")]
        return f"{opening}[{', '.join(numbers)}]" if numbers else ""

    return _MARK.sub(keep, text)


def citations(text: str, passages: Sequence[int]) -> tuple[Citation, ...]:
    """The marks of a text, in order, that stand for some of the passages, whose numbers in the prompt are `passages`.

    Passages that are quoted as one text have one number.
    """
    found = []
    for mark in _MARK.finditer(text):
        meant = [int(number) for number in _NUMBER.findall(mark[1])]
        positions = tuple(position for number in meant for position, other in enumerate(passages) if other == number)
        if positions:
            found.append(Citation(mark.start() + mark[0].index("["), mark.end(), positions))
    return tuple(found)


def resolved_parts(parts: Iterable[str], passages: int) -> Iterator[str]:
    """`resolved` for a text that comes in parts: a mark is passed on when it is complete, an empty part as it is."""
    held = before = ""
    for part in parts:
        held += part
        unfinished = _UNFINISHED.search(held)
        ready = held[: unfinished.start()] if unfinished else held
        held = held[len(ready) :]
        if (shown := resolved(ready, passages, before)) or not part:
            yield shown
        before = ready or before
    if shown := resolved(held, passages, before):
        yield shown


def _is_glued(mark: re.Match[str], before: str) -> bool:
    previous = mark.string[mark.start() - 1] if mark.start() > 0 else before[-1:]
    return mark[0].startswith("[") and (previous.isalpha() or previous in {"_", ")"})
