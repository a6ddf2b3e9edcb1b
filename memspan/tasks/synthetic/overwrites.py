"""Overwrites: facts that are repeated with other values, of which the last one counts."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task, draw_distinct

KEYS, VALUES, NOISE = 16, 16, 31


class Overwrites(Task):
    """Every segment but the last gives the same `keys` keys new values among noise; the last one asks for the newest.

    A memory that only adds holds all values of a key at once and can at best prefer the latest; one that corrects holds
    just one. Guessing among 16 values is right once in 16.

    Args:
        keys: number of keys.
        segment: tokens of a segment.
    """

    def __init__(self, keys: int = 4, segment: int = 32) -> None:
        if not 1 <= keys <= KEYS:
            raise UsageError(f"keys must be from 1 to {KEYS}, got keys={keys}.")
        if segment < 2 * keys:
            raise UsageError(f"segment must be at least {2 * keys} tokens for {keys} keys, got segment={segment}.")
        self.keys, self.segment = keys, segment
        self.vocabulary = KEYS + VALUES + NOISE + 1
        self.mark = self.vocabulary - 1

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        if segments < 2:
            raise UsageError(f"Overwrites need at least 2 segments, one with facts and one that asks, got {segments}.")
        ids = torch.randint(KEYS + VALUES, self.mark, (batch_size, segments, self.segment), generator=generator)
        keys = draw_distinct(KEYS, self.keys, batch_size, generator)
        rows = torch.arange(batch_size)[:, None]
        for number in range(segments - 1):
            order = draw_distinct(self.keys, self.keys, batch_size, generator)
            values = torch.randint(KEYS, KEYS + VALUES, (batch_size, self.keys), generator=generator)
            positions = draw_distinct(self.segment // 2, self.keys, batch_size, generator) * 2
            ids[rows, number, positions] = keys.gather(1, order)
            ids[rows, number, positions + 1] = values
        questions = draw_distinct(self.segment // 2, self.keys, batch_size, generator) * 2
        ids[rows, -1, questions], ids[rows, -1, questions + 1] = self.mark, keys.gather(1, order)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[rows, -1, questions + 1] = values
        return Batch(ids.flatten(1), targets.flatten(1))
