"""Tags that only the text behind a token decides."""

from typing import ClassVar

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

TAGS = 4


class LaterText(Task):
    """Each segment is symbols and, as its last token, a key; the tag of a symbol is (symbol + key) modulo 4.

    Whoever reads from left to right only can but guess: once in 4. The task is not for models of language from left to
    right; every token is asked for, but the keys.
    """

    causal: ClassVar[bool] = False

    def __init__(self, segment: int = 32) -> None:
        if segment < 2:
            raise UsageError(f"segment={segment} cannot be: a segment holds a symbol and a key.")
        self.segment, self.vocabulary = segment, 2 * TAGS

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        ids = torch.randint(0, TAGS, (rows, segments, self.segment), generator=generator)
        keys = torch.randint(0, TAGS, (rows, segments, 1), generator=generator)
        targets = (ids + keys) % TAGS
        ids[..., -1:], targets[..., -1] = keys + TAGS, IGNORE_INDEX
        return Batch(ids.flatten(1), targets.flatten(1))
