"""Texts that programs add to a memory, and stretches of those that it holds."""

from bisect import bisect_right
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import chain
from typing import TYPE_CHECKING, Any

from memspan.data.chunking import in_chunks
from memspan.data.documents import Document
from memspan.data.headings import with_headings
from memspan.data.marks import Mark
from memspan.errors import UsageError
from memspan.memory import Contents, Memory, SourceRecord
from memspan.memory.filter import TAGS, checked_tags
from memspan.memory.moments import TimeLike, since

if TYPE_CHECKING:
    from memspan.assistant.language_model import LanguageModel


def add_text(
    lm: "LanguageModel",
    memory: Memory,
    text: str,
    source: str,
    *,
    happened_at: TimeLike | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> SourceRecord:
    """Reads a text into a memory as a new source; returns the source's record.

    Args:
        happened_at: when what the text says was so; what it says itself of single parts of it comes first.
        metadata: tags of the source, by which searches can be filtered: strings, numbers or lists of them.

    Raises:
        UsageError: the text or the name is blank, or there is a source of this name.
        ForeignMemory, MemoryLocked: as `LanguageModel.read` does.
    """
    text = text.replace("\0", "")
    if not text.strip():
        raise UsageError("The text is empty: give one of at least one word.")
    if not source.strip():
        raise UsageError("The name of the source is empty: give one of at least one word, or none.")
    if source in memory.sources:
        raise UsageError(f"There is a source {source!r} already: choose another name, or forget that source first.")
    tags = checked_tags(metadata)
    marks = [] if happened_at is None else [Mark("happened", since(happened_at, "happened_at").of_events)]
    lm.read(
        Document(
            source,
            lambda: in_chunks(chain(marks, with_headings([text]))),
            size=None,
            meta={TAGS: tags} if tags else {},
        ),
        memory,
    )
    return memory.sources[source]


def record_of(contents: Contents, source: str) -> SourceRecord:
    """The record of a source. Raises UsageError if there is none; the sentence lists similar names."""
    sources = contents.sources
    if source in sources:
        return sources[source]
    near = get_close_matches(source, sources, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the memory holds {len(sources)} others."
    raise UsageError(f"There is no source {source!r}; {hint}")


def text_between(contents: Contents, source: str, start: int, end: int) -> str:
    """The characters from `start` to `end` of a source, as far as there are any. Raises UsageError if there is no such source."""
    record_of(contents, source)
    view = contents.view()
    numbers = view.passages_of(source)
    first = bisect_right(numbers, start, key=lambda number: view.passage(number).start) - 1
    parts = []
    for number in numbers[max(0, first) :]:
        passage = view.passage(number)
        if passage.start >= end:
            break
        parts.append(passage.text[max(0, start - passage.start) : end - passage.start])
    return "".join(parts)
