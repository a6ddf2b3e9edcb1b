"""Chats in JSON Lines: one message or conversation in each line."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded
from memspan.data.formats.parsing import MAX_VALUES, check_at_most


def read_jsonl(source: FileSource) -> Iterator[str]:
    """Chats with one JSON object per line, written out as "User: ...", "Assistant: ..." with blank lines between.

    A line is a message {"role", "content"}, a conversation {"messages": [...]}, or {"text": ...}. Raises
    UnreadableSource with the number of a line that is none of them.
    """
    cure = "write the conversation as shorter JSON objects, one message per line"
    for number, line in enumerate(_lines(decoded(source, cure)), start=1):
        if not line.strip():
            continue
        check_at_most(source, sum(map(line.count, "[{,:")), MAX_VALUES, f"values in line {number}")
        try:
            yield _chat_text(json.loads(line))
        except (ValueError, RecursionError) as error:  # JSONDecodeError is a ValueError
            advice = "mend the line, or name the file .txt to read it as it stands"
            raise source.refused(f"has a bad line {number} ({error}): {advice}") from None


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


def _chat_text(entry: Any) -> str:
    """The text of one line of a chat file. Raises ValueError if it has none of the three forms."""
    match entry:
        case {"messages": [*messages]}:
            return "".join(map(_message_text, messages))
        case {"role": _, "content": _}:
            return _message_text(entry)
        case {"text": str(text)}:
            return f"{text}\n\n"
    raise ValueError('neither {"role", "content"} nor {"messages"} nor {"text"}')


def _message_text(message: Any) -> str:
    """One message as "Role: content" and a blank line; nothing for a message without text (a tool call)."""
    match message:
        case {"role": str(role), "content": str(content)}:
            pass
        case {"role": str(role), "content": [*parts]}:
            content = "\n".join(text for part in parts for text in _texts(part))
        case {"role": str(role), "content": None}:
            content = ""
        case _:
            raise ValueError('a message needs a "role" and a "content" of text')
    return f"{role.capitalize()}: {content}\n\n" if content.strip() else ""


def _texts(part: Any) -> list[str]:
    """The text in one part of a message; none for a picture."""
    match part:
        case {"text": str(text)}:
            return [text]
    return []


JSONL = Format("jsonl", (".jsonl",), read_jsonl)
