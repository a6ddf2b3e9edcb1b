"""What a user did, step by step, and the decaying memory after it.

Letters: T steps, D decays, N items that the model was fitted on, K of them that have a weight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memspan.apps.recommend.tables import EventRow
from memspan.apps.recommend.weights import Weights

LEAST = 1e-7  # weight in a memory, compared with the largest, that is not kept: as much as float32 can tell


class Step(NamedTuple):
    """Events of a user with one item after the other, taken together: the strongest of them counts.

    Attributes:
        event: the strongest of them, the first of equal ones.
    """

    event: EventRow
    weight: float

    @property
    def item(self) -> str:
        return self.event.item


def steps_of(events: Sequence[EventRow], weights: Weights) -> list[Step]:
    """The steps of a user's events, which are in the order of time."""
    return merged([Step(event, weights.weight(event)) for event in events])


def merged(steps: Sequence[Step]) -> list[Step]:
    """The steps, of which those with the same item next to each other are taken together."""
    kept: list[Step] = []
    for step in steps:
        if kept and kept[-1].item == step.item:
            kept[-1] = max(kept[-1], step, key=lambda candidate: candidate.weight)
        else:
            kept.append(step)
    return kept


class Shares(NamedTuple):
    """What an item is in a memory: itself, or, if the model was not fitted on it, shares of items with similar texts."""

    numbers: list[int]
    shares: list[float]


def memory_after(
    histories: Sequence[Sequence[Step]], shares: Mapping[str, Shares], decays: Sequence[float], items: int
) -> Tensor:
    """The memory after the steps of each history, float32 (H, D, N).

    Args:
        shares: by the id of an item; one without an entry leaves nothing, but what was before decays.
    """
    memory = torch.zeros(len(histories), len(decays), items)
    for row, steps in zip(memory, histories, strict=True):
        entries = [
            (number, step.weight * share, len(steps) - 1 - position)
            for position, step in enumerate(steps)
            if step.item in shares
            for number, share in zip(*shares[step.item], strict=True)
        ]
        if not entries:
            continue
        numbers, counted, ages = (torch.tensor(values) for values in zip(*entries, strict=True))
        for index, decay in enumerate(decays):
            row[index].index_add_(0, numbers, counted.float() * float(decay) ** ages)
    return memory


@dataclass(frozen=True)
class UserState:
    """The memory of a user, as it is carried on from event to event: what was before a new event is not read again.

    Attributes:
        numbers: int32 (K,), the items that have a weight.
        values: float32 (D, K), their weights.
        last: the last step; None before the first event.
    """

    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    last: Step | None = None

    def dense(self, decays: Sequence[float], items: int) -> Tensor:
        """The memory, float32 (D, N)."""
        memory = torch.zeros(len(decays), items)
        if len(self.numbers):
            memory[:, torch.from_numpy(self.numbers.astype(np.int64))] = torch.from_numpy(self.values)
        return memory

    def after(
        self, steps: Sequence[Step], shares: Mapping[str, Shares], decays: Sequence[float], items: int
    ) -> "UserState":
        """The state after further steps, each behind those before in time."""
        if not steps:
            return self
        memory, further = self.dense(decays, items), merged(steps)
        last = further[-1]
        if self.last is not None and further[0].item == self.last.item:
            strongest = max(self.last, further.pop(0), key=lambda step: step.weight)
            gain = strongest._replace(weight=strongest.weight - self.last.weight)
            memory += memory_after([[gain]], shares, decays, items)[0]
            last = further[-1] if further else strongest
        memory *= torch.tensor(list(decays))[:, None] ** len(further)
        memory += memory_after([further], shares, decays, items)[0]
        kept = torch.nonzero((memory > LEAST * memory.amax(1, keepdim=True)).any(0)).flatten()
        return UserState(kept.numpy().astype(np.int32), memory[:, kept].numpy().copy(), last)
