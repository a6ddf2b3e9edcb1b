"""The context line of a passage: what its marks say of it, in one line that stands before its text.

It is read by the word index, the sentence encoder, the likelihood of a question, and the model that answers. A passage
without marks has none and stays as it is.
"""

import re
from collections.abc import Mapping
from typing import Protocol

from memspan.data.dates import day_of, in_words
from memspan.data.marks import Value

SEPARATOR = " | "
_KINDS = ("title", "chapter", "heading", "date", "from", "to", "speaker")  # in the order of the line
_IN_WORDS = re.compile(r"[^\W\d_]{3}|[年月日]")  # a date that is more than digits and signs: May, 5月


class Marked(Protocol):
    """A text with its marks, such as a passage."""

    @property
    def text(self) -> str: ...
    @property
    def marks(self) -> Mapping[str, Value]: ...
    @property
    def happened(self) -> float | None: ...


def context_of(marks: Mapping[str, Value], happened: float | None = None, text: str = "") -> str:
    """The context line of a passage, without a line end; empty where nothing is known that a reader of its text asks for.

    Args:
        marks: of the passage; pages, lines and names of files are left out.
        happened: unix seconds; shown as a day where the passage has no date in words.
        text: of the passage; what it says itself is left out.
    """
    parts = {kind: " ".join(str(marks[kind]).split()) for kind in _KINDS if kind in marks}
    if happened is not None and not _IN_WORDS.search(parts.get("date", "")):
        parts["date"] = date_in_words(happened)
    shown = [parts[kind] for kind in _KINDS if parts.get(kind) and parts[kind] not in text]
    return SEPARATOR.join(dict.fromkeys(shown))


def with_context(passage: Marked) -> str:
    """The text of a passage behind its context line; the text alone where there is none."""
    line = context_of(passage.marks, passage.happened, passage.text)
    return f"{line}\n{passage.text}" if line else passage.text


def date_in_words(happened: float) -> str:
    """The day of unix seconds in words and in UTC, e.g. "8 May 2023"; empty outside of the years 1 to 9999."""
    day = day_of(happened)
    return "" if day is None else in_words(day)
