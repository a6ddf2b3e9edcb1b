"""Facts that are told again with other values: the last one counts."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task, choose

KEYS, VALUES, NOISE = 16, 16, 31


class Overwrites(Task):
    """Every segment but the last tells the same `keys` keys new values among noise; the last one asks for the newest.

    A memory that only adds sees all values of a key at once and can at best prefer the latest; one that corrects has
    just one. A guess among 16 values is right once in 16.

    Args:
        keys: how many keys are told and asked for.
        segment: tokens of a segment.
    """

    def __init__(self, keys: int = 4, segment: int = 32) -> None:
        if keys < 1 or keys > KEYS or segment < 2 * keys:
            raise UsageError(f"{keys} keys of {KEYS} cannot be told in a segment of {segment} tokens.")
        self.keys, self.segment = keys, segment
        self.vocabulary = KEYS + VALUES + NOISE + 1
        self.mark = self.vocabulary - 1

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        if segments < 2:
            raise UsageError("Overwrites need at least 2 segments: one that tells, one that asks.")
        ids = torch.randint(KEYS + VALUES, self.mark, (rows, segments, self.segment), generator=generator)
        keys = choose(KEYS, self.keys, rows, generator)
        everything = torch.arange(rows)[:, None]
        for number in range(segments - 1):
            order = choose(self.keys, self.keys, rows, generator)
            values = torch.randint(KEYS, KEYS + VALUES, (rows, self.keys), generator=generator)
            places = choose(self.segment // 2, self.keys, rows, generator) * 2
            ids[everything, number, places] = keys.gather(1, order)
            ids[everything, number, places + 1] = values
        asked = choose(self.segment // 2, self.keys, rows, generator) * 2
        ids[everything, -1, asked], ids[everything, -1, asked + 1] = self.mark, keys.gather(1, order)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[everything, -1, asked + 1] = values
        return Batch(ids.flatten(1), targets.flatten(1))
