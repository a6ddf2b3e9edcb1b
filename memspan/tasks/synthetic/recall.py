"""Facts among noise, asked for at the end."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task, choose

KEYS, VALUES, NOISE = 16, 16, 31


class Recall(Task):
    """Key-value facts hidden in the first segments of a stream of noise; the last segment asks for every value.

    A fact is two tokens, key and value, anywhere in one of the first `facts` segments (as many as there are before the
    last). The last segment holds, among noise, a mark and a key for each fact in random order; the logits at that key
    should be the value. A guess is right once in 16.

    Args:
        facts: how many.
        segment: tokens of a segment.
        aligned: facts begin at even places only, so that no chunk of an even length cuts one in two.
    """

    def __init__(self, facts: int = 4, segment: int = 32, aligned: bool = True) -> None:
        if facts < 1 or facts > KEYS or segment < 3 * facts:
            raise UsageError(f"{facts} facts cannot be asked for in a segment of {segment} tokens with {KEYS} keys.")
        self.facts, self.segment, self.aligned = facts, segment, aligned
        self.vocabulary = KEYS + VALUES + NOISE + 1
        self.mark = self.vocabulary - 1

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        if segments < 2:
            raise UsageError("Recall needs at least 2 segments: one with facts, one that asks.")
        ids = torch.randint(KEYS + VALUES, self.mark, (rows, segments * self.segment), generator=generator)
        keys = choose(KEYS, self.facts, rows, generator)
        values = torch.randint(KEYS, KEYS + VALUES, (rows, self.facts), generator=generator)
        reach = min(self.facts, segments - 1) * self.segment  # facts lie before this place
        places = choose(reach // 2, self.facts, rows, generator) * 2
        if not self.aligned:  # anywhere, also across the border of two segments
            places = choose(reach // 3, self.facts, rows, generator) * 3
            places = places + torch.randint(0, 2, places.shape, generator=generator)
        everything = torch.arange(rows)[:, None]
        ids[everything, places], ids[everything, places + 1] = keys, values
        order = choose(self.facts, self.facts, rows, generator)
        asked = choose(self.segment // 2, self.facts, rows, generator) * 2 + (segments - 1) * self.segment
        ids[everything, asked], ids[everything, asked + 1] = self.mark, keys.gather(1, order)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[everything, asked + 1] = values.gather(1, order)
        return Batch(ids, targets)
