"""Memories as JSON Lines: text with its provenance, which any model reads into a memory of its own.

A line is a passage:

    {"source": "book.txt", "start": 0, "end": 812, "text": "...", "kind": "document", "added": 1790000000.0,
     "marks": {"chapter": "I"}, "happened": null, "meta": {}}

The passages of a source follow one another and are all of its text. `kind`, `added` (unix seconds) and `meta` (JSON values,
tags among them) are those of the source; `marks` and `happened` (unix seconds) those of the passage. All but `source`,
`start` and `text` may be left out. Keys, vectors and token ids belong to a model and are not written: they are computed
anew.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO, Any

from memspan.assistant.language_model import LanguageModel
from memspan.assistant.reading import FILE
from memspan.data.chunking import in_chunks
from memspan.data.documents import Document
from memspan.data.marks import Chunk, Mark, Value, in_force, portions
from memspan.data.positions import CHANGES, changes_of
from memspan.errors import UsageError
from memspan.memory import Contents, Memory

MAX_LINE = 16 * 1024 * 1024  # characters


@dataclass(frozen=True)
class Line:
    """A passage of a file, and what the file says of its source."""

    source: str
    start: int
    text: str
    kind: str = "document"
    added: float | None = None
    marks: Mapping[str, Value] = field(default_factory=dict)
    happened: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    end: int | None = None


def exported(memory: Contents) -> Iterator[dict[str, Any]]:
    """The passages of a memory, source after source, each in the order of its text, as values for JSON."""
    view = memory.view()
    for name, record in view.sources.items():
        for number in view.passages_of(name):
            passage = view.passage(number)
            yield {
                "source": name,
                "start": passage.start,
                "end": passage.end,
                "text": passage.text,
                "kind": record.kind,
                "added": record.added,
                "marks": dict(passage.marks),
                "happened": passage.happened,
                "meta": {key: value for key, value in record.meta.items() if key != FILE},
            }


def import_lines(
    lm: LanguageModel, memory: Memory, file: IO[str], on_source: Callable[[str], object] = lambda _: None
) -> list[str]:
    """Reads the passages of a file into a memory; returns the names of its sources that were not there with this text.

    A source is read as a document is: one that was read before is continued, and an interrupted call can be repeated.

    Args:
        file: text of the lines.
        on_source: called with the name of each source before it is read.

    Raises:
        UsageError: a line that is none; what stands before it has been read.
        ChangedSource: the memory has a source of this name with another text.
    """
    added = []
    for name, lines in groupby(_lines(file), key=lambda line: line.source):
        on_source(name)
        before = memory.sources[name].characters if name in memory.sources else 0
        lm.read(_document(name, list(lines)), memory)
        if name in memory.sources and memory.sources[name].characters > before:
            added.append(name)
    return added


def _document(name: str, lines: list[Line]) -> Document:
    first = lines[0]
    return Document(
        name, lambda: in_chunks(_portions(lines)), None, kind=first.kind, added=first.added, meta=dict(first.meta)
    )


def _portions(lines: list[Line]) -> Iterator[str | Mark]:
    """The text of a source, with a mark wherever something else holds than before."""
    holding: dict[str, Value] = {}
    for line in lines:
        held = {kind: value for kind, value in line.marks.items() if kind not in CHANGES}
        if line.happened is not None:
            held["happened"] = line.happened
        yield from (Mark(kind, None) for kind in holding if kind not in held)
        yield from (Mark(kind, value) for kind, value in held.items() if holding.get(kind) != value)
        changes = [(offset, Mark(kind, value)) for offset, kind, value in changes_of(line.marks)]
        yield from portions(Chunk(line.text, changes))
        holding = in_force((mark for _, mark in changes), held)


def _lines(file: IO[str]) -> Iterator[Line]:
    """The lines of a file. Raises UsageError, with its number, for one that is none or does not follow the one before."""
    name, end, seen = None, 0, set[str]()
    number = 0
    while text := file.readline(MAX_LINE + 1):
        number += 1
        if not text.strip():
            continue
        try:
            line = _line(text)
            if line.source != name:
                if line.source in seen:
                    raise ValueError(f"the passages of {line.source!r} must follow one another")
                name, end = line.source, 0
                seen.add(name)
            if line.start != end:
                raise ValueError(f"the passage must begin at character {end} of {name!r}, got {line.start}")
            end += len(line.text)
            if line.end not in (None, end):
                raise ValueError(f"the passage must end at character {end} of {name!r}, got {line.end}")
        except (ValueError, TypeError, RecursionError) as error:
            raise UsageError(f"Line {number} is not a passage of an exported memory: {error}.") from None
        yield line


def _line(text: str) -> Line:
    """Raises ValueError or TypeError for what is no passage."""
    if len(text) > MAX_LINE:
        raise ValueError(f"it must have at most {MAX_LINE:,} characters")
    record = json.loads(text)
    if not isinstance(record, dict):
        raise TypeError("it must be a JSON object")
    known = {key: value for key, value in record.items() if key in Line.__dataclass_fields__}
    line = Line(**known)
    for key in ("source", "text", "kind"):
        if not isinstance(getattr(line, key), str) or not getattr(line, key):
            raise TypeError(f'"{key}" must be a string of at least one character')
    for key in ("start", "end"):
        value = getattr(line, key)
        if type(value) is not int and not (key == "end" and value is None):
            raise TypeError(f'"{key}" must be a whole number')
    for key in ("added", "happened"):
        value = getattr(line, key)
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
            raise TypeError(f'"{key}" must be a time in unix seconds, or null')
    if line.kind not in ("document", "exchange"):
        raise ValueError(f'"kind" must be "document" or "exchange", got {line.kind!r}')
    for key in ("marks", "meta"):
        if not isinstance(getattr(line, key), dict):
            raise TypeError(f'"{key}" must be an object')
    if any(type(value) not in (str, int, float) for value in line.marks.values()):
        raise TypeError('"marks" must be strings and numbers')
    return line
