"""The scores of all items for a memory: those that the model was fitted on, and new ones, which are known by their texts.

Letters: B memories, N items that the model was fitted on, M new ones, E numbers of a text's vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memspan.apps.recommend.steps import Shares, Step, memory_after
from memspan.apps.recommend.tables import ItemRow
from memspan.models.recommender import Recommender

NEIGHBOURS = 30  # whose scores a new item has; on MovieLens before the test dates as good as 20 or 50


def borrowed(vectors: Tensor, texts: Tensor) -> Tensor:
    """What each new item borrows from those the model was fitted on, float32 (M, N), rows that sum to one.

    It is the square of the cosine of their texts, of the `NEIGHBOURS` nearest; a row is zero where no text is alike.

    Args:
        vectors: of the new items, (M, E), of length one or zero.
        texts: of the items of the model, (N, E), likewise.
    """
    shares = torch.zeros(len(vectors), len(texts))
    if not len(vectors):
        return shares
    nearest = (vectors @ texts.T).topk(min(NEIGHBOURS, len(texts)), 1)
    squares = nearest.values.clamp_min(0) ** 2
    return shares.scatter_(1, nearest.indices, squares / squares.sum(1, keepdim=True).clamp_min(1e-12))


@dataclass
class Engine:
    """The model of a recommend folder and what it recommends.

    Attributes:
        items: N items of the model, then M new ones; an item's number is its position here.
        vectors: of all their texts, float32 (N + M, E); None where there are no texts.
        weighs: M rows (M, N), see `borrowed`.
    """

    model: Recommender
    items: list[ItemRow]
    vectors: Tensor | None
    weighs: Tensor

    def __post_init__(self) -> None:
        self.numbers = {item.id: number for number, item in enumerate(self.items)}
        self.fitted: int = self.model.config.items
        self.decays: Sequence[float] = self.model.config.decays
        self.shares = self._shares()

    def _shares(self) -> Mapping[str, Shares]:
        shares = {item.id: Shares([number], [1.0]) for number, item in enumerate(self.items[: self.fitted])}
        for item, row in zip(self.items[self.fitted :], self.weighs, strict=True):
            numbers = torch.nonzero(row).flatten()
            if len(numbers):
                shares[item.id] = Shares(numbers.tolist(), row[numbers].tolist())
        return shares

    def memories(self, histories: Sequence[Sequence[Step]]) -> Tensor:
        """The memory after each history, float32 (H, D, N)."""
        return memory_after(histories, self.shares, self.decays, self.fitted)

    def scores(self, memories: Tensor) -> Tensor:
        """The scores of all items, float32 (B, N + M), for memories (B, D, N); -inf for a new item without a text.

        A new item has the mean of the scores of the items from which it borrows. A memory without anything gives what was
        popular lately.
        """
        with torch.no_grad():
            known = self.model.scores(memories)
        new = known @ self.weighs.T
        new[:, self.weighs.sum(1) == 0] = -torch.inf
        return torch.cat([known, new], 1)

    def is_new(self) -> Tensor:
        """Which items are new, bool (N + M,)."""
        return torch.arange(len(self.items)) >= self.fitted


def text_matrix(vectors: Sequence[np.ndarray | None], size: int) -> Tensor:
    """The vectors of texts, float32 (items, E); zeros for none."""
    rows = [np.zeros(size, np.float32) if vector is None else vector.astype(np.float32) for vector in vectors]
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, size)
