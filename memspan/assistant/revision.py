"""Revisions of a source: which of its passages stay when its text is replaced, and which part is read anew."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memspan.data.marks import Chunk
from memspan.memory import Contents, Passage


@dataclass(frozen=True)
class Revision:
    """The new text of a source beside its passages in a memory.

    Attributes:
        before: the numbers of the first passages that stay.
        after: the numbers of the last passages that stay, at the end of the new text.
        start, end: the characters of the new text between them, which are read anew.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    start: int
    end: int


def revision(memory: Contents, source: str, text: str, context: int) -> Revision:
    """What of a source stays where its text becomes `text`.

    A passage stays if its text does, and if it was read behind the same text. So the last passage before a change is
    read anew, which may be cut in another way now, and passages of `context` tokens behind it, of which they are the
    context.
    """
    passages = [memory.passage(number) for number in memory.passages_of(source)]
    first, start = _agreeing(passages, text)
    last, end = len(passages), len(text)
    while (
        last > first and start + len(passages[last - 1].text) <= end and text.endswith(passages[last - 1].text, 0, end)
    ):
        last -= 1
        end -= len(passages[last].text)
    if first > 0:
        first -= 1
        start -= len(passages[first].text)
    tokens = 0
    while last < len(passages) and tokens < context:
        tokens += passages[last].tokens
        end += len(passages[last].text)
        last += 1
    before = tuple(passage.number for passage in passages[:first])
    return Revision(before, tuple(passage.number for passage in passages[last:]), start, end)


def _agreeing(passages: Sequence[Passage], text: str) -> tuple[int, int]:
    """How many of the first passages the text begins with, and their characters."""
    count = position = 0
    while count < len(passages) and text.startswith(passages[count].text, position):
        position += len(passages[count].text)
        count += 1
    return count, position


def joined(chunks: Iterable[Chunk]) -> Chunk:
    """Consecutive chunks as one."""
    texts, marks, length = list[str](), [], 0
    for chunk in chunks:
        texts.append(str(chunk))
        marks += [(length + offset, mark) for offset, mark in chunk.marks]
        length += len(chunk)
    return Chunk("".join(texts), marks)


def between(text: Chunk, start: int, end: int) -> Chunk:
    """The characters from `start` to `end` with their marks, and at the first one what holds there."""
    rest = text.behind(start, {})
    return Chunk(rest[: end - start], [(offset, mark) for offset, mark in rest.marks if offset < end - start])
