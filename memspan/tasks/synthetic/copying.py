"""The whole first half of a stream, said again."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

SYMBOLS = 32


class Copying(Task):
    """Random symbols, then a mark; from there on the logits should be the symbols in their order, each told the one before.

    The repetition fills the second half of the stream, so a stream has an even number of segments. A guess is right
    once in 32.
    """

    def __init__(self, segment: int = 32) -> None:
        if segment < 2:
            raise UsageError(f"segment={segment} cannot be: a segment holds at least 2 tokens.")
        self.segment, self.vocabulary = segment, SYMBOLS + 1

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        half = segments * self.segment // 2
        symbols = torch.randint(0, SYMBOLS, (rows, half), generator=generator)
        mark = torch.full((rows, 1), SYMBOLS)
        rest = segments * self.segment - 2 * half  # of an odd number of odd segments
        ids = torch.cat([symbols, mark, symbols[:, : half - 1 + rest]], 1)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, half : 2 * half] = symbols
        return Batch(ids, targets)
