"""Copying: the whole first half of a stream, repeated in its second half."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

SYMBOLS = 32


class Copying(Task):
    """Random symbols, then a mark; from there on the targets are the symbols in their order, each at the one before it.

    The repetition fills the second half of the stream. Guessing is right once in 32.
    """

    def __init__(self, segment: int = 32) -> None:
        if segment < 2:
            raise UsageError(f"segment must be at least 2 tokens, got segment={segment}.")
        self.segment, self.vocabulary = segment, SYMBOLS + 1

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        half = segments * self.segment // 2
        symbols = torch.randint(0, SYMBOLS, (batch_size, half), generator=generator)
        mark = torch.full((batch_size, 1), SYMBOLS)
        rest = segments * self.segment - 2 * half  # of an odd number of odd segments
        ids = torch.cat([symbols, mark, symbols[:, : half - 1 + rest]], 1)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, half : 2 * half] = symbols
        return Batch(ids, targets)
