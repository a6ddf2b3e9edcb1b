"""JSON: exported chats as dialogues, anything else as the text that it is.

A chat is recognised by its contents: conversations with a "mapping" of their messages (ChatGPT) or "chat_messages"
(Claude), one chat or many with "messages" (Telegram, and most other programs), or an array of messages.
"""

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded
from memspan.data.formats.json_values import ITEM, Path, json_values
from memspan.data.formats.messages import (
    conversation_portions,
    is_message,
    message_portions,
    messages_in,
    text_in,
)
from memspan.data.formats.parsing import MAX_TEXT
from memspan.data.formats.turns import UNKNOWN, conversation_head
from memspan.data.marks import Mark

FIRST = 50  # values by which a chat is recognised
_OPENED = frozenset({"messages", "chats", "list"})
_TITLES = frozenset({"name", "title"})
_SHOWN = frozenset(
    {"text", "multimodal_text", "code"}
)  # kinds of content that ChatGPT shows as its or the user's words
_ROLES = frozenset({"user", "assistant"})


def read_json(source: FileSource) -> Iterator[str | Mark]:
    """An exported chat as turns "Ann: ..." with speakers and dates as marks; any other JSON as it stands.

    Of a conversation with ChatGPT, only the branch that was shown last is read, and not what tools said. Raises
    UnreadableSource for binary data, a wrong encoding, and a chat that is damaged further down.
    """
    values = json_values(source, decoded(source, "", longest=MAX_TEXT), _OPENED)
    try:
        first = list(islice(values, FIRST))
    except (ValueError, RecursionError):  # no JSON, or none that a program would write: a text like any other
        first = []
    if not any(_is_chat(path, value) for path, value in first):
        yield from decoded(source, cure="break its lines first, for instance with `fold -s`")
        return
    number, values = 0, chain(first, values)
    while True:
        try:
            item = next(values, None)
            portions = [] if item is None else list(_portions(*item))
        except (ValueError, RecursionError) as error:
            advice = "export the chat again, or name the file .txt to read it as it stands"
            raise source.refused(f"is damaged behind value {number} ({error}): {advice}") from None
        if item is None:
            return
        number += 1
        yield from portions


def _is_chat(path: Path, value: Any) -> bool:
    """Whether a value of a document shows that it is a chat."""
    if path == (ITEM,):
        return is_message(value) or _messages(value) is not None
    return path[-2:] == ("messages", ITEM) and is_message(value)


def _portions(path: Path, value: Any) -> Iterator[str | Mark]:
    """The text and the marks of one value of a chat. Raises ValueError for a message of no known form."""
    if path[-1] in _TITLES and isinstance(value, str) and path[-2:-1] in ((), (ITEM,)):
        yield from conversation_head(value, UNKNOWN)
    elif path == (ITEM,) and (messages := _messages(value)) is not None:
        yield from conversation_portions(value, messages)
    elif (path == (ITEM,) or path[-2:] == ("messages", ITEM)) and not _is_notice(value):
        yield from message_portions(value)


def _is_notice(value: Any) -> bool:
    """Whether a value is what Telegram notes between the messages: somebody joined, a call."""
    return isinstance(value, Mapping) and value.get("type") == "service"


def _messages(value: Any) -> list[Any] | None:
    """The messages of a whole conversation in any form; None for a value that is no conversation."""
    if isinstance(value, Mapping):
        if isinstance(value.get("mapping"), Mapping):
            return list(_branch(value))
        if isinstance(value.get("chat_messages"), list):
            return [_with_attachments(message) for message in value["chat_messages"]]
    return messages_in(value)


def _branch(conversation: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The messages from the root of the tree of a conversation with ChatGPT to its current node."""
    nodes = conversation["mapping"]
    key, branch = conversation.get("current_node"), dict[str, Mapping[str, Any]]()
    if not isinstance(key, str) or key not in nodes:
        key = next(reversed(nodes), None)
    while isinstance(key, str) and key not in branch and isinstance(node := nodes.get(key), Mapping):
        branch[key], key = node, node.get("parent")
    for node in reversed(branch.values()):
        message = node.get("message")
        if isinstance(message, Mapping) and _is_shown(message):
            yield message


def _is_shown(message: Mapping[str, Any]) -> bool:
    """Whether a message of ChatGPT is part of what the user and the model said to each other."""
    author, content, facts = (message.get(key) for key in ("author", "content", "metadata"))
    hidden = isinstance(facts, Mapping) and facts.get("is_visually_hidden_from_conversation") is True
    return (
        isinstance(author, Mapping)
        and author.get("role") in _ROLES
        and isinstance(content, Mapping)
        and content.get("content_type", "text") in _SHOWN
        and message.get("recipient", "all") == "all"
        and not hidden
    )


def _with_attachments(message: Any) -> Any:
    """A message of Claude, the names of its attachments below its text."""
    if not isinstance(message, Mapping):
        return message
    written = message.get("text")
    text = text_in(message.get("content")) or (written if isinstance(written, str) else "")
    files = [file for key in ("attachments", "files") for file in message.get(key) or [] if isinstance(file, Mapping)]
    names = [name for file in files if isinstance(name := file.get("file_name"), str) and name.strip()]
    attached = (f"[Attached: {' '.join(name.split())[:200]}]" for name in dict.fromkeys(names))
    return {**message, "content": "\n".join(filter(None, (text, *attached)))}


JSON = Format("json", (".json",), read_json)
