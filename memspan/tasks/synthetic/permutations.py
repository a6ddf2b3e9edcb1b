"""Permutations: the word problem of a symmetric group, as a test of state tracking."""

import itertools

import torch

from memspan.errors import UsageError
from memspan.tasks.base import Batch, Task

MOST_ELEMENTS = 5


class Permutations(Task):
    """Random permutations of `elements` things; the target at each is the product of all up to it, the latest applied last.

    The word problem of the symmetric group (Merrill, Petty and Sabharwal 2024, "The illusion of state"): S3 with 6 symbols by
    default; S5 with 120, which no transformer and no diagonal state-space model of constant depth can track. Guessing is right
    once in as many cases as there are permutations.

    Args:
        elements: number of things that are permuted, from 2 to 5.
        segment: tokens of a segment.
    """

    def __init__(self, elements: int = 3, segment: int = 32) -> None:
        if not 2 <= elements <= MOST_ELEMENTS:
            raise UsageError(f"elements must be from 2 to {MOST_ELEMENTS}, got elements={elements}.")
        if segment < 1:
            raise UsageError(f"segment must be at least 1 token, got segment={segment}.")
        self.elements, self.segment = elements, segment
        group = list(itertools.permutations(range(elements)))
        number = {permutation: index for index, permutation in enumerate(group)}
        self.vocabulary = len(group)
        # products[a, b]: b applied after a
        self.products = torch.tensor([[number[tuple(b[thing] for thing in a)] for b in group] for a in group])

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        ids = torch.randint(self.vocabulary, (batch_size, segments * self.segment), generator=generator)
        product, targets = ids[:, 0], [ids[:, 0]]
        for token in ids.unbind(1)[1:]:
            product = self.products[product, token]
            targets.append(product)
        return Batch(ids, torch.stack(targets, 1))
