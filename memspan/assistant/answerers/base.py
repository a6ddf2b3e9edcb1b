"""The interface of an answerer, and what its answers have in common."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from memspan.data.plain_text import Message
from memspan.errors import AnswererFailed
from memspan.models.generate import Sampling

UNKNOWN_WINDOW = 4096  # tokens that an answerer is assumed to hold if it does not say: the default of Ollama
ESTIMATE_MARGIN = 0.95  # of a window, where tokens are counted with the tokenizer of another model


@dataclass(frozen=True)
class Usage:
    """The tokens that an answerer read and wrote, in its own tokenizer."""

    prompt_tokens: int
    answer_tokens: int


class PromptTooLong(AnswererFailed):
    """A prompt that an answerer refused because of its length.

    Attributes:
        window: tokens of prompt and answer together that the answerer holds.
        prompt_tokens: of the refused prompt, in the answerer's tokenizer; None if it did not say.
    """

    def __init__(self, message: str, window: int, prompt_tokens: int | None) -> None:
        super().__init__(message)
        self.window, self.prompt_tokens = window, prompt_tokens

    def fitting_window(self, counted: int, max_new_tokens: int) -> int:
        """The window in tokens of another tokenizer, in which the refused prompt has `counted`.

        As everywhere, the answer takes `max_new_tokens` of the window, but never more than half.
        """
        answer = min(max_new_tokens, self.window // 2)
        scale = counted / (self.prompt_tokens or counted)
        return max(2, int((self.window - answer) * scale * ESTIMATE_MARGIN) + answer)


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


def window_of(answerer: Answerer) -> int:
    """The window of an answerer, `UNKNOWN_WINDOW` if it is not known."""
    return UNKNOWN_WINDOW if answerer.window is None else answerer.window


def answer_parts(answerer: Answerer, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, object]:
    """The parts of an answer; returns what the answerer's generator returns, None for another iterator."""
    parts = iter(answerer.answer(messages, sampling))
    while True:
        try:
            part = next(parts)
        except StopIteration as end:
            return end.value
        yield part
