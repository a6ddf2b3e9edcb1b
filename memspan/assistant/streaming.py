"""Token ids to text while they are generated: whole characters only, each once."""

from collections.abc import Sequence
from typing import Any

_INCOMPLETE = "\ufffd"  # what a decoder puts for a character whose last bytes are still to come


class StreamedText:
    """The text of token ids that arrive one by one.

    Attributes:
        tokens: the ids so far.
        shown: the text that `take` has returned so far.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.tokens: list[int] = []
        self.shown = ""

    def append(self, token: int) -> None:
        """Adds one token id."""
        self.tokens.append(token)

    def take(self, held_back: int = 0) -> str:
        """The text since the last call, but for the last `held_back` tokens; empty while it ends within a character."""
        text = self._decoded(self.tokens[: len(self.tokens) - held_back])
        if text.endswith(_INCOMPLETE) or not text.startswith(self.shown):
            return ""
        new, self.shown = text[len(self.shown) :], text
        return new

    @property
    def text(self) -> str:
        """The text of all ids so far, without special tokens."""
        return self._decoded(self.tokens)

    def _decoded(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
