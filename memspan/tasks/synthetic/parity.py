"""Parity: whether the number of ones so far is odd."""

import torch

from memspan.errors import UsageError
from memspan.tasks.base import Batch, Task


class Parity(Task):
    """Random bits; the target at each is the parity of all bits up to it.

    The smallest problem of state tracking: no sum of decaying memories solves it, and a linear recurrence needs negative
    eigenvalues (Grazzi et al. 2024, arXiv 2411.12537). Guessing is right in half of the cases.
    """

    def __init__(self, segment: int = 32) -> None:
        if segment < 1:
            raise UsageError(f"segment must be at least 1 token, got segment={segment}.")
        self.segment, self.vocabulary = segment, 2

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        ids = torch.randint(2, (batch_size, segments * self.segment), generator=generator)
        return Batch(ids, ids.cumsum(1) % 2)
