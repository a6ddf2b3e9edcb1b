"""Later text: tags that depend on a token behind those they belong to."""

from typing import ClassVar

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

TAGS = 4


class LaterText(Task):
    """Each segment is symbols and, as its last token, a key; the tag of a symbol is (symbol + key) modulo 4.

    A model that reads from left to right can only guess, right once in 4: the task is for models that see later tokens.
    Every token but the keys has a target.
    """

    causal: ClassVar[bool] = False

    def __init__(self, segment: int = 32) -> None:
        if segment < 2:
            raise UsageError(f"segment must be at least 2 tokens, a symbol and a key, got segment={segment}.")
        self.segment, self.vocabulary = segment, 2 * TAGS

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        ids = torch.randint(0, TAGS, (batch_size, segments, self.segment), generator=generator)
        keys = torch.randint(0, TAGS, (batch_size, segments, 1), generator=generator)
        targets = (ids + keys) % TAGS
        ids[..., -1:], targets[..., -1] = keys + TAGS, IGNORE_INDEX
        return Batch(ids.flatten(1), targets.flatten(1))
