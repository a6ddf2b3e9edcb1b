"""Capacity: how many pairs a memory holds, from streams of nothing but pairs and questions about all of them."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task, draw_distinct

KEYS, VALUES = 128, 16


class Capacity(Task):
    """The first half of a stream is `segment` / 4 different keys and their values for every segment of the whole stream;
    the second half asks for all of them in another order. With segments of 32 tokens, 2 of them hold 16 pairs, 16 hold 128.

    A pair is two tokens, and so is a question: a mark and the key, where the target is the value. Guessing is right once
    in 16.
    """

    def __init__(self, segment: int = 32) -> None:
        if segment < 4 or segment % 4:
            raise UsageError(f"segment must be a multiple of 4, for as many pairs as questions, got segment={segment}.")
        self.segment, self.vocabulary = segment, KEYS + VALUES + 1

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        pairs = segments * self.segment // 4
        if pairs > KEYS:
            raise UsageError(f"Streams of {segments} segments hold {pairs} pairs, but there are only {KEYS} keys.")
        keys = draw_distinct(KEYS, pairs, batch_size, generator)
        values = torch.randint(KEYS, KEYS + VALUES, (batch_size, pairs), generator=generator)
        order = draw_distinct(pairs, pairs, batch_size, generator)
        questions = torch.stack([torch.full_like(keys, KEYS + VALUES), keys.gather(1, order)], 2).flatten(1)
        ids = torch.cat([torch.stack([keys, values], 2).flatten(1), questions], 1)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, 2 * pairs + 1 :: 2] = values.gather(1, order)
        return Batch(ids, targets)
