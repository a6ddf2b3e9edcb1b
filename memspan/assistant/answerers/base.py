"""The interface of an answerer."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from memspan.data.plain_text import Message
from memspan.models.generate import Sampling


@dataclass(frozen=True)
class Usage:
    """The tokens that an answerer read and wrote, in its own tokenizer."""

    prompt_tokens: int
    answer_tokens: int


@runtime_checkable
class Answerer(Protocol):
    """Writes the answer to a prompt: the local model, a server, or anything else that continues a conversation.

    Attributes:
        name: shown to users.
        window: tokens of prompt and answer together; None if it is not known.
    """

    @property
    def name(self) -> str: ...

    @property
    def window(self) -> int | None: ...

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer in parts, as they are written. A generator may return the `Usage`.

        Args:
            messages: dictionaries with "role" (system, user or assistant) and "content"; the last is the user's.
        """
        ...


def answer_parts(answerer: Answerer, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, object]:
    """The parts of an answer; returns what the answerer's generator returns, None for another iterator."""
    parts = iter(answerer.answer(messages, sampling))
    while True:
        try:
            part = next(parts)
        except StopIteration as end:
            return end.value
        yield part
