"""Messages and conversations as JSON holds them, in the forms of many programs, as turns of a dialogue."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from memspan.data.formats.turns import UNKNOWN, Moment, Turn, conversation_head, moment_of, turn_portions
from memspan.data.marks import Mark

_SPEAKER = ("speaker", "author", "sender_name", "from", "sender", "user_profile", "user", "role", "name")
_NAME = (
    "real_name",
    "display_name",
    "name",
    "username",
    "first_name",
    "email",
    "role",
)  # of a speaker that is an object
_TEXT = ("content", "text", "message", "body", "value")
_DATE = (
    *(
        "timestamp",
        "timestamp_ms",
        "date",
        "datetime",
        "created_at",
        "create_time",
        "createdAt",
        "sent_at",
        "time",
        "ts",
    ),
)
_MESSAGES = ("messages", "conversations", "conversation", "turns", "dialogue")
_TITLE = ("title", "name", "subject")


def is_message(value: Any) -> bool:
    """Whether a value is a message of somebody, by its keys."""
    return isinstance(value, Mapping) and any(key in value for key in _TEXT) and any(key in value for key in _SPEAKER)


def messages_in(value: Any) -> list[Any] | None:
    """The messages of a conversation; None for a value that is no conversation."""
    if not isinstance(value, Mapping):
        return None
    return next((value[key] for key in _MESSAGES if isinstance(value.get(key), list)), None)


def conversation_portions(conversation: Mapping[str, Any], messages: list[Any]) -> Iterator[str | Mark]:
    """A conversation with its title and its messages. Raises ValueError for a message of no known form."""
    moment = date_of(conversation)
    yield from conversation_head(title_of(conversation), moment)
    for message in messages:
        yield from message_portions(message, moment)


def message_portions(message: Any, otherwise: Moment = UNKNOWN) -> Iterator[str | Mark]:
    """A message as a turn; nothing for one without text, such as a picture. Raises ValueError for any other value.

    Args:
        otherwise: the date of a message that has none.
    """
    turn = turn_of(message)
    if turn.text.strip():
        yield from turn_portions(turn if turn.moment != UNKNOWN else replace(turn, moment=otherwise))


def turn_of(message: Any) -> Turn:
    """The turn that a message is. Raises ValueError if it has no speaker, or no text and no place for one."""
    if not is_message(message):
        raise ValueError('a message needs a "role" and a "content" of text, or other keys of their kind')
    key = next(key for key in _TEXT if key in message)
    return Turn(text_in(message[key]), speaker_of(message), date_of(message))


def speaker_of(message: Mapping[str, Any]) -> str:
    """Who says something, "" if no name is given. Raises ValueError if the role is no text."""
    role, name = message.get("role"), message.get("name")
    if isinstance(role, str) and isinstance(name, str) and name.strip():
        return name
    for key in _SPEAKER:
        value = message.get(key)
        if isinstance(value, Mapping):
            value = next((value[part] for part in _NAME if isinstance(value.get(part), str) and value[part]), None)
            if value in ("user", "assistant", "system", "tool"):
                value = value.capitalize()
        if isinstance(value, str) and value.strip():
            return value.capitalize() if key == "role" else value
        if key == "role" and value is not None:
            raise ValueError(f'"role" must be a text, got {value!r:.50}')
    return ""


def text_in(content: Any) -> str:
    """The text of a message: of a text, or of its parts, none of pictures. Raises ValueError for any other value."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = content.get("parts") if isinstance(content.get("parts"), list) else [content]
    if isinstance(content, list):
        return "\n".join(filter(None, map(_text_of_part, content)))
    raise ValueError(f"the text of a message must be a text or a list of its parts, got {content!r:.50}")


def _text_of_part(part: Any) -> str:
    """The text in one part of a message; "" for a picture."""
    if isinstance(part, Mapping):
        part = part.get("text")
    return part if isinstance(part, str) else ""


def title_of(value: Mapping[str, Any]) -> str:
    """The title of a conversation, "" if it has none."""
    return next((value[key] for key in _TITLE if isinstance(value.get(key), str) and value[key].strip()), "")


def date_of(value: Mapping[str, Any]) -> Moment:
    """The date of a message or a conversation."""
    moments = (moment_of(value[key]) for key in _DATE if key in value)
    return next((moment for moment in moments if moment.seconds is not None), UNKNOWN)
