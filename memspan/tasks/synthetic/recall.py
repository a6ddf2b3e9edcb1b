"""Recall: facts among noise, and questions about them at the end."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task, draw_distinct

KEYS, VALUES, NOISE = 16, 16, 31


class Recall(Task):
    """Key-value facts hidden in the first segments of a stream of noise; the last segment asks for every value.

    A fact is two tokens, key and value, anywhere in one of the first `facts` segments (or of all but the last, if there
    are fewer). The last segment holds, among noise, a mark and a key for each fact in random order; the target at that key
    is the value. Guessing is right once in 16.

    Args:
        facts: number of facts.
        segment: tokens of a segment.
        aligned: facts begin at even positions only, so that no chunk of an even length cuts a fact in two.
    """

    def __init__(self, facts: int = 4, segment: int = 32, aligned: bool = True) -> None:
        if not 1 <= facts <= KEYS:
            raise UsageError(f"facts must be from 1 to {KEYS}, got facts={facts}.")
        if segment < 3 * facts:
            raise UsageError(f"segment must be at least {3 * facts} tokens for {facts} facts, got segment={segment}.")
        self.facts, self.segment, self.aligned = facts, segment, aligned
        self.vocabulary = KEYS + VALUES + NOISE + 1
        self.mark = self.vocabulary - 1

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        if segments < 2:
            raise UsageError(f"Recall needs at least 2 segments, one with facts and one that asks, got {segments}.")
        ids = torch.randint(KEYS + VALUES, self.mark, (batch_size, segments * self.segment), generator=generator)
        keys = draw_distinct(KEYS, self.facts, batch_size, generator)
        values = torch.randint(KEYS, KEYS + VALUES, (batch_size, self.facts), generator=generator)
        end = min(self.facts, segments - 1) * self.segment  # of the facts
        positions = draw_distinct(end // 2, self.facts, batch_size, generator) * 2
        if not self.aligned:  # anywhere, also across the border of two segments
            positions = draw_distinct(end // 3, self.facts, batch_size, generator) * 3
            positions = positions + torch.randint(0, 2, positions.shape, generator=generator)
        rows = torch.arange(batch_size)[:, None]
        ids[rows, positions], ids[rows, positions + 1] = keys, values
        order = draw_distinct(self.facts, self.facts, batch_size, generator)
        questions = draw_distinct(self.segment // 2, self.facts, batch_size, generator) * 2
        questions = questions + (segments - 1) * self.segment
        ids[rows, questions], ids[rows, questions + 1] = self.mark, keys.gather(1, order)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[rows, questions + 1] = values.gather(1, order)
        return Batch(ids, targets)
