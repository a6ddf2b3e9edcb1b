"""Selective copying: symbols scattered among noise, repeated in their order at the end."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task, draw_distinct

SYMBOLS = 16
NOISE, MARK = SYMBOLS, SYMBOLS + 1


class SelectiveCopying(Task):
    """`symbols` random symbols stand anywhere among noise; then as many marks, whose targets are the symbols in their order.

    Gu and Dao 2023, "Mamba". What lies between the symbols is one symbol of noise, and which of them a mark asks for is told
    by its place alone. Guessing is right once in 16.

    Args:
        symbols: number of symbols to copy.
        segment: tokens of a segment.
    """

    def __init__(self, symbols: int = 8, segment: int = 32) -> None:
        if symbols < 1:
            raise UsageError(f"symbols must be at least 1, got symbols={symbols}.")
        if segment < 1:
            raise UsageError(f"segment must be at least 1 token, got segment={segment}.")
        self.symbols, self.segment, self.vocabulary = symbols, segment, SYMBOLS + 2

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        if length < 2 * self.symbols:
            raise UsageError(f"{self.symbols} symbols and as many marks need {2 * self.symbols} tokens, got {length}.")
        ids = torch.full((batch_size, length), NOISE)
        symbols = torch.randint(SYMBOLS, (batch_size, self.symbols), generator=generator)
        positions = draw_distinct(length - self.symbols, self.symbols, batch_size, generator).sort(1).values
        ids.scatter_(1, positions, symbols)
        ids[:, -self.symbols :] = MARK
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, -self.symbols :] = symbols
        return Batch(ids, targets)
