"""How many pairs a memory holds: nothing but pairs, and then all are asked for."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task, choose

KEYS, VALUES = 128, 16


class Capacity(Task):
    """The first half of a stream tells `segment` / 4 different keys and their values for every segment of the whole, the
    second half asks for all of them in another order. With segments of 32 tokens, 2 of them hold 16 pairs, 16 hold 128.

    A pair is two tokens, so is a question: a mark and the key, whose logits should be the value. A guess is right once
    in 16.
    """

    def __init__(self, segment: int = 32) -> None:
        if segment < 4 or segment % 4:
            raise UsageError(f"segment={segment} cannot be: a multiple of 4 holds as many pairs as questions.")
        self.segment, self.vocabulary = segment, KEYS + VALUES + 1

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        pairs = segments * self.segment // 4
        if pairs > KEYS:
            raise UsageError(f"Streams of {segments} segments hold {pairs} pairs, but there are only {KEYS} keys.")
        keys = choose(KEYS, pairs, rows, generator)
        values = torch.randint(KEYS, KEYS + VALUES, (rows, pairs), generator=generator)
        order = choose(pairs, pairs, rows, generator)
        asked = torch.stack([torch.full_like(keys, KEYS + VALUES), keys.gather(1, order)], 2).flatten(1)
        ids = torch.cat([torch.stack([keys, values], 2).flatten(1), asked], 1)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, 2 * pairs + 1 :: 2] = values.gather(1, order)
        return Batch(ids, targets)
