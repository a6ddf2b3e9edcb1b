"""Chats in JSON Lines: one message or conversation in each line."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded
from memspan.data.formats.messages import (
    conversation_portions,
    date_of,
    is_message,
    message_portions,
    messages_in,
    title_of,
)
from memspan.data.formats.parsing import MAX_VALUES, check_at_most
from memspan.data.formats.turns import Turn, turn_portions
from memspan.data.marks import Mark


def read_jsonl(source: FileSource) -> Iterator[str | Mark]:
    """Chats with one JSON object per line, written out as "User: ...", "Assistant: ..." with blank lines between.

    A line is a message {"role", "content"}, a conversation {"messages": [...]}, or {"text": ...}. Names and dates under
    their usual keys ("name", "speaker", "from"; "timestamp", "date", "created_at") become marks. Raises UnreadableSource
    with the number of a line that is none of them.
    """
    cure = "write the conversation as shorter JSON objects, one message per line"
    for number, line in enumerate(_lines(decoded(source, cure)), start=1):
        if not line.strip():
            continue
        check_at_most(source, sum(map(line.count, "[{,:")), MAX_VALUES, f"values in line {number}")
        try:
            portions = list(_entry_portions(json.loads(line)))
        except (ValueError, RecursionError) as error:  # JSONDecodeError is a ValueError
            advice = "mend the line, or name the file .txt to read it as it stands"
            raise source.refused(f"has a bad line {number} ({error}): {advice}") from None
        yield from portions


def _lines(portions: Iterable[str]) -> Iterator[str]:
    """A stream of text as lines, without their line ends."""
    beginning: list[str] = []  # portions of a line whose end was not read yet
    for portion in portions:
        first, *rest = portion.split("\n")
        beginning.append(first)
        if rest:
            yield "".join(beginning)
            yield from rest[:-1]
            beginning = [rest[-1]]
    yield "".join(beginning)


def _entry_portions(entry: Any) -> Iterator[str | Mark]:
    """The text and the marks of one line of a chat file. Raises ValueError if it has none of the three forms."""
    messages = messages_in(entry)
    if messages is not None:
        yield from conversation_portions(entry, messages)
    elif is_message(entry):
        yield from message_portions(entry)
    elif isinstance(entry, dict) and isinstance(entry.get("text"), str):
        yield Mark("heading", title_of(entry) or None)
        yield from turn_portions(Turn(entry["text"], "", date_of(entry)))
    else:
        raise ValueError('neither {"role", "content"} nor {"messages"} nor {"text"}')


JSONL = Format("jsonl", (".jsonl",), read_jsonl)
