"""Multi-query associative recall (MQAR): many pairs, each of them asked for once, at random distances."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task, draw_distinct

KEYS, VALUES, NOISE = 32, 32, 32


class MQAR(Task):
    """The stream begins with `pairs` keys and their values; every key returns once among noise, where its value is the target.

    Arora et al. 2023, "Zoology", with two deviations: keys return at places drawn evenly instead of from a power law, so
    that long distances are as frequent as short ones, and noise is drawn from symbols of its own. Guessing is right once
    in 32.

    Args:
        pairs: number of pairs, at most 32.
        segment: tokens of a segment.
    """

    def __init__(self, pairs: int = 8, segment: int = 32) -> None:
        if not 1 <= pairs <= KEYS:
            raise UsageError(f"pairs must be from 1 to {KEYS}, got pairs={pairs}.")
        if segment < 1:
            raise UsageError(f"segment must be at least 1 token, got segment={segment}.")
        self.pairs, self.segment = pairs, segment
        self.vocabulary = KEYS + VALUES + NOISE

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        length, begin = segments * self.segment, 2 * self.pairs  # of the questions
        if length < begin + self.pairs:
            raise UsageError(
                f"{self.pairs} pairs and as many questions need {begin + self.pairs} tokens, got {length}."
            )
        ids = torch.randint(KEYS + VALUES, self.vocabulary, (batch_size, length), generator=generator)
        keys = draw_distinct(KEYS, self.pairs, batch_size, generator)
        values = torch.randint(KEYS, KEYS + VALUES, (batch_size, self.pairs), generator=generator)
        ids[:, :begin:2], ids[:, 1:begin:2] = keys, values
        questions = draw_distinct(length - begin, self.pairs, batch_size, generator) + begin
        targets = torch.full_like(ids, IGNORE_INDEX)
        ids.scatter_(1, questions, keys)
        targets.scatter_(1, questions, values)
        return Batch(ids, targets)
