"""Induction: what followed a symbol the last time follows it again."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

SYMBOLS = 16


class Induction(Task):
    """Random symbols with one mark among them; the stream ends with the mark again, and what followed it is the target.

    The induction-head task (Olsson et al. 2022) in the form of Gu and Dao 2023, "Mamba": one target a stream, at the last
    token. Guessing is right once in 16.
    """

    def __init__(self, segment: int = 32) -> None:
        if segment < 2:
            raise UsageError(f"segment must be at least 2 tokens, got segment={segment}.")
        self.segment, self.vocabulary = segment, SYMBOLS + 1

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        if length < 3:
            raise UsageError(f"A stream needs 3 tokens, the mark, what follows it and the mark again, got {length}.")
        ids = torch.randint(SYMBOLS, (batch_size, length), generator=generator)
        marks = torch.randint(length - 2, (batch_size, 1), generator=generator)
        ids.scatter_(1, marks, SYMBOLS)
        ids[:, -1] = SYMBOLS
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, -1:] = ids.gather(1, marks + 1)
        return Batch(ids, targets)
