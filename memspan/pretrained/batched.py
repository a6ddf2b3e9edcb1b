"""Writing several texts at a time with one model: a step reads the next tokens of all of them.

On a CPU a step takes about twice as long for eight texts as for one, because it waits for the weights. The generators of a batched
decoder share their steps: whichever needs a token first has the model read on in all texts that wait for theirs, which find
them when it is their turn. Nothing but turns is needed for that: a program takes tokens of several generators in one thread.
"""

from collections import deque
from collections.abc import Generator, Sequence
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from memspan.models.generate import Sampling
from memspan.pretrained.decoding import Decoder, Prefix, Writing
from memspan.pretrained.growing_cache import can_step_back
from memspan.pretrained.lookup import DRAFT
from memspan.pretrained.placement import input_device
from memspan.pretrained.rows import Rows

PENDING = -1  # yielded in the position of a token: the next takes a step, before which others may have a turn
MOST_READ = 16  # tokens of a step, with the drafts of its texts; every text has at least its last token read
PROMPT_PART = 128  # tokens of a prompt that are read in one pass while others write: they wait for it
RUN_AHEAD = 64  # tokens that are written of a text before they are taken
_TOLERANCE = 0.02  # of the largest logit, by which those of a common step may differ from those of steps of their own


class _Text:
    """A text, and its tokens that nobody has taken yet."""

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self.ready: deque[int] = deque()
        self.error: Exception | None = None

    @property
    def waits(self) -> bool:
        """Whether the model may read on in it."""
        return self.error is None and not self.writing.is_over and len(self.ready) < RUN_AHEAD

    def take(self, logits: Tensor) -> None:
        """Adds the tokens that follow by the logits (S, V). What goes wrong is raised where they are taken."""
        try:
            self.ready.extend(self.writing.take(logits))
        except Exception as error:
            self.error = error


class BatchedDecoder(Decoder):
    """A decoder whose generators share their steps. It belongs to one thread.

    The texts are those that a decoder writes on its own, as far as products of several rows round like those of one.
    Models whose attention or caches do not allow common steps are found out by a self-test; their texts take turns.
    """

    def __init__(self, model: Any, stop: Sequence[int]) -> None:
        super().__init__(model, stop)
        self._may_share = self.model is not model and "position_ids" in signature(model.forward).parameters
        self._texts: list[_Text] = []

    @torch.inference_mode()
    def generate(
        self, ids: Sequence[int], sampling: Sampling, prefix: Prefix | None = None
    ) -> Generator[int, None, Prefix]:
        """As `Decoder.generate`, with `PENDING` before each step: who gets it can let others take their tokens.

        While other texts are written, a long prompt is read in parts, with a step of theirs between any two.
        """
        writing, read = self.open(ids, sampling, prefix)
        while self._texts and len(ids) - read > PROMPT_PART and can_step_back(writing.cache):
            self.read_prompt(writing, ids, read, read + PROMPT_PART)
            read += PROMPT_PART
            yield PENDING
        logits = self.read_prompt(writing, ids, read, len(ids))
        text = _Text(writing)
        text.take(logits)
        self._texts.append(text)
        try:
            while True:
                while text.ready:
                    yield text.ready.popleft()
                if text.error is not None:
                    raise text.error
                if writing.is_over:
                    return writing.prefix
                yield PENDING
                if not text.ready and text.waits:
                    self._step(text)
        finally:
            self._texts.remove(text)

    def _step(self, first: _Text) -> None:
        """Reads on in a text, and in all others that wait if they can share a step with it."""
        texts = [text for text in self._texts if text.waits and can_step_back(text.writing.cache)]
        if len(texts) < 2 or first not in texts or not self.shares_steps:
            first.take(self.read_on(first.writing))
            return
        try:
            logits = self.read_together([text.writing for text in texts])
        except Exception as error:  # the caches are no longer whole
            for text in texts:
                text.error = error
            return
        for text, rows in zip(texts, logits, strict=True):
            text.take(rows)

    def read_together(self, writings: Sequence[Writing]) -> Sequence[Tensor]:
        """The logits (S, V) of the next tokens of each text, which are read in one step."""
        longest = min(DRAFT, MOST_READ // len(writings) - 1)
        tokens = [writing.next_tokens(longest) for writing in writings]
        device = input_device(self.model)
        rows = Rows([writing.cache for writing in writings], [len(part) for part in tokens], device)
        ids = torch.tensor([[token for part in tokens for token in part]], device=device)
        mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool, device=device)  # the layers' own are used
        with rows.current():
            output = self.model(
                input_ids=ids,
                position_ids=rows.positions,
                attention_mask=mask,
                **{self._cache_name: rows},
                use_cache=True,
                logits_to_keep=ids.shape[1],
            )
        logits: Tensor = output.logits[0, -ids.shape[1] :]
        return torch.split(logits, rows.sizes)

    @cached_property
    @torch.inference_mode()
    def shares_steps(self) -> bool:
        """Whether the model computes in common steps what it computes in steps of their own: a self-test of short texts."""
        if not self._may_share:
            return False
        size = self.model.config.get_text_config().vocab_size
        prompts = [[(7919 * index + 11) % size for index in range(length)] for length in (5, 9)]
        sampling = Sampling(max_new_tokens=2)
        try:
            alone = [self.read_on(_begun(self, ids, sampling)) for ids in prompts]
            together = self.read_together([_begun(self, ids, sampling) for ids in prompts])
        except (
            RuntimeError,
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
        ):  # of a model with other ideas of a cache
            return False
        most = max(float(logits.abs().max()) for logits in alone)
        return all(
            float((ours - theirs).abs().max()) <= _TOLERANCE * most
            for ours, theirs in zip(together, alone, strict=True)
        )


def _begun(decoder: Decoder, ids: Sequence[int], sampling: Sampling) -> Writing:
    """A text with its first token."""
    writing, logits = decoder.begin(ids, sampling)
    writing.take(logits)
    return writing
