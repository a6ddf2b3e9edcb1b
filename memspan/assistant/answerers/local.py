"""The local model as an answerer."""

from collections.abc import Generator, Sequence
from typing import Any

from memspan.assistant import prompts
from memspan.assistant.answerers.base import Usage
from memspan.assistant.streaming import StreamedText
from memspan.data.plain_text import Message
from memspan.models.generate import Sampling, ends_in_cycle, repeated_tail
from memspan.pretrained.batched import PENDING
from memspan.pretrained.decoding import Decoder, Prefix


class LocalAnswerer:
    """Answers with the decoder of a language model, in the chat template of its tokenizer."""

    def __init__(
        self,
        tokenizer: Any,
        decoder: Decoder,
        name: str,
        *,
        keeps_prefix: bool = False,
        behind: Prefix | None = None,
    ) -> None:
        """
        Args:
            keeps_prefix: keep the contents of the window, so that the next prompt is read only from where it differs.
            behind: what was read before the next prompt; for one answer.
        """
        self._tokenizer, self._decoder, self._keeps_prefix = tokenizer, decoder, keeps_prefix
        self._prefix, self._before = behind, () if behind is None else behind.ids
        self.name = name

    @property
    def window(self) -> int:
        return self._decoder.window

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, Usage]:
        """The answer in parts of whole characters; returns the tokens of prompt and answer.

        What was read before the prompt does not count. What repeats the text before it is held back until something else follows; where the model repeats it without end,
        it is dropped. A part is empty where a batched decoder lets others have their turn.
        """
        ids = prompts.prompt_ids(self._tokenizer, messages)
        before, self._before = self._before, ()
        prefix, self._prefix = self._prefix, None  # decoding uses it up
        answer = StreamedText(self._tokenizer)
        decoding = self._decoder.generate([*before, *ids], sampling, prefix)
        while True:
            try:
                token = next(decoding)
            except StopIteration as end:
                self._prefix = end.value if self._keeps_prefix else None
                break
            if token == PENDING:
                yield ""
                continue
            answer.append(token)
            if new := answer.take(repeated_tail(answer.tokens)):
                yield new
        written = len(answer.tokens)
        if ends_in_cycle(answer.tokens):
            del answer.tokens[written - repeated_tail(answer.tokens) :]
        if rest := answer.text[len(answer.shown) :]:
            yield rest
        return Usage(len(ids), written)

    def forget_prefix(self) -> None:
        """Drops the contents of the window."""
        self._prefix = None
