"""Prompts: messages around retrieved text, and their token ids in the model's chat template.

Retrieved text always stands in the user's message, as data: numbered, with its source, and quoted line by line, so that
nothing that it holds can end the quotation or begin another.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from memspan.data.dates import day_of
from memspan.data.marks import Value
from memspan.data.plain_text import Message, conversation_ids
from memspan.data.relative_dates import day_in_words, resolved
from memspan.errors import UsageError
from memspan.memory.context import Marked, context_of

INSTRUCTION = "Answer from the text above, in a few words: {question}"
LONGEST_LABEL = 80  # characters of the name of a source


class Quotable(Marked, Protocol):
    """A text with its marks and the name of its source, such as a retrieved passage."""

    @property
    def source(self) -> str: ...


@dataclass(frozen=True)
class Quotation:
    """A text to quote, the name of its source, and what holds of it: marks, and the unix seconds of what it is about."""

    source: str
    text: str
    marks: Mapping[str, Value] = field(default_factory=dict)
    happened: float | None = None


def question_message(question: str, passages: Sequence[Quotable], instruction: str = INSTRUCTION) -> str:
    """The user's message for a question: the question, the quoted passages, and the instruction with the question."""
    return f"{question}\n\n{quoted(passages)}\n\n{instruction.format(question=question)}"


def chat_message(message: str, passages: Sequence[Quotable]) -> str:
    """The user's message of a chat behind the quoted passages; unchanged if there are none."""
    if not passages:
        return message
    return f"From my notes, for reference:\n\n{quoted(passages)}\n\n{message}"


def quoted(passages: Sequence[Quotable]) -> str:
    """The passages, numbered, each with its source, its day, and a mark before every line of its context and its text."""
    blocks = []
    for number, passage in enumerate(passages, start=1):
        context = context_of(passage.marks, passage.happened, passage.text)
        quotation = [f"[{context}]"] if context else []
        lines = (f"> {line}".rstrip() for line in (*quotation, *passage.text.strip().splitlines()))
        header = f"Text {number}, from {source_label(passage.source)}{_page(passage)}{_dated(passage)}:"
        blocks.append("\n".join([header, *lines]))
    return "\n\n".join(blocks)


def _page(passage: Quotable) -> str:
    """The page on which a passage begins; empty where it has none."""
    page = passage.marks.get("page")
    return f", page {page}" if isinstance(page, int) else ""


def _dated(passage: Quotable) -> str:
    """When a passage was written, and what "yesterday" means in it, in words of our own; empty where it has no date."""
    day = None if passage.happened is None else day_of(passage.happened)
    if day is None or passage.happened is None:
        return ""
    relative = resolved(passage.text, passage.happened)
    meanings = "".join(f'; "{phrase}" is {meaning}' for phrase, meaning in relative.items())
    return f", of {day_in_words(day)}{meanings}"


def source_label(source: str) -> str:
    """The name of a source as one short line: without control and direction characters, its end if it is long."""
    name = _visible(source) or "a text without a name"
    return name if len(name) <= LONGEST_LABEL else f"...{name[-LONGEST_LABEL + 3 :]}"


def _visible(text: str) -> str:
    """The text in one line, without control and direction characters."""
    visible = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in text)
    return " ".join(visible.split())


def likelihood_prefix(text: str) -> str:
    """The prompt behind which the likelihood of a question is computed, given `text`."""
    return f"{text.strip()}\n\nQuestion answered by this text:"


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The ids of a conversation up to where the answer begins, in the chat template if the tokenizer has one.

    The contents add no control tokens to those of the template. Where the template refuses a system message, its text
    stands before that of the first message of the user.

    Args:
        messages: dictionaries with "role" and "content".

    Raises:
        UsageError: the template fails, or a message is not valid Unicode.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        return conversation_ids(tokenizer, messages, _written_out, add_special_tokens=True)
    return conversation_ids(tokenizer, messages, partial(_in_template, tokenizer))


def _written_out(messages: Sequence[Message]) -> str:
    turns = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
    return "\n\n".join(turns) + "\n\nAssistant:"


def _in_template(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The text of a conversation in the tokenizer's chat template. Raises UsageError if the template fails."""
    try:
        return _rendered(tokenizer, messages)
    except UsageError:
        if [message["role"] for message in messages[:2]] != ["system", "user"]:
            raise
        with suppress(UsageError):
            system, first = messages[0]["content"], messages[1]["content"]
            return _rendered(tokenizer, [{"role": "user", "content": f"{system}\n\n{first}"}, *messages[2:]])
        raise


def _rendered(tokenizer: Any, messages: Sequence[Message]) -> str:
    try:
        text: str = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template is a program: it may raise anything
        lines = str(error).strip().splitlines() or [""]
        raise UsageError(
            f"The chat template of '{tokenizer.name_or_path}' fails ({type(error).__name__}: {lines[0]}): mend "
            "`chat_template` in the folder of the model, or set it to null there to do without."
        ) from error
    return text
