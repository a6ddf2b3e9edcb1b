"""Every key ever read, in blocks from which each query retrieves a few.

Letters: B batch, Hq query heads, H key heads, S queries, N keys, K head size, C tokens of a block, M older blocks,
U blocks that any query of the segment retrieves, W recent keys, R rows told apart.
"""

from typing import Any

import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as windows
from memspan.state import State


class Retrieval(windows.Windowed):
    """All keys in blocks, of which each query retrieves the best (Memorizing Transformers, Wu et al. 2022, arXiv 2203.08913).

    A query sees its own block, the `recent` complete ones before it, and of all older blocks the `top` with the highest
    scores. The score of a block is that of its best token; the score of a token is the sum of q . k over the heads. Recent
    and retrieved keys share one softmax.

    Deviations from the paper: whole blocks are retrieved rather than single keys, the same ones for all heads; one softmax
    instead of two with a gate; gradients flow into the retrieved keys unless the caller detaches the state, but not
    through the choice. Retrieved keys are all at position 0, just before the recent ones: as in the paper their content
    counts, not their age.

    Args:
        block: C.
        top: number of older blocks that each query retrieves.
        recent: number of complete blocks before its own that a query always sees.
        limit: largest number of older blocks kept, the newest ones; None keeps all, and the state grows with the stream.
    """

    def __init__(self, block: int = 32, top: int = 2, recent: int = 1, limit: int | None = None) -> None:
        if block < 1 or top < 1 or recent < 0 or (limit is not None and limit < 1):
            raise UsageError(
                "block, top and limit must be at least 1, and recent at least 0, "
                f"got block={block}, top={top}, recent={recent}, limit={limit}."
            )
        super().__init__(sinks=0, window=(recent + 1) * block, block=block, slots=1)
        self.top = top
        self.stored = windows.WindowRule(0, None if limit is None else (limit + recent + 1) * block, block)

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"block": 16, "limit": size}

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        update, state = windows.store(self.stored, k, v, state, valid)
        keys, values, index = state["k"], state["v"], state["index"]
        if not update.rows_alike:  # a row's tokens come first, so that its blocks are runs of C columns
            order = (index < 0).byte().argsort(dim=1, stable=True)
            index = index.gather(1, order)
            keys, values = (windows.take(x, order.to(k.device)) for x in (keys, values))
        state = {"k": keys, "v": values, "index": index, "seen": update.seen}

        index, seen = (index[:1], update.seen[:1]) if update.rows_alike else (index, update.seen)
        first, _ = windows.window_start(seen, *self.rule)  # (R, 1) index of the first recent token
        older = ((index >= 0) & (index < first)).sum(1, keepdim=True)  # (R, 1)
        width = int(((index >= first).sum(1)).max())
        recent = older + torch.arange(max(1, width))  # (R, W) their columns
        inside = recent < index.shape[1]
        recent = torch.where(inside, recent, 0)
        key = torch.where(inside, index.gather(1, recent), -1)
        query, key, first, recent = update.query_index, *(x.to(k.device) for x in (key, first, recent))
        key_positions, query_positions = ((x - first).clamp_min(0) + 1 for x in (key, query))
        if not older.any():
            mask = None if update.rows_alike else windows.visible(key, query)
            if not update.rows_alike:
                keys, values = windows.take(keys, recent), windows.take(values, recent)
            return Recalled(keys, values, mask, key_positions, query_positions), state

        columns, chosen = self._choose(q, keys, older.to(k.device), int(older.max()) // self.block)
        rows = q.shape[0]
        columns = torch.cat([columns, recent.expand(rows, -1)], 1)
        mask = torch.cat([chosen | (query < 0)[:, :, None], windows.visible(key, query).expand(rows, -1, -1)], 2)
        key_positions = torch.cat([key_positions.new_zeros(rows, chosen.shape[2]), key_positions.expand(rows, -1)], 1)
        keys, values = windows.take(keys, columns), windows.take(values, columns)
        return Recalled(keys, values, mask, key_positions, query_positions), state

    @torch.no_grad()
    def _choose(self, q: Tensor, k: Tensor, older: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The blocks that any query retrieves from the first `older` (R, 1) keys of each row, at most `count` blocks.

        Returns their columns (B, U * C), and which of them each query retrieves, (B, S, U * C) bool.
        """
        rows, heads, _, size = k.shape
        # for heads that share their keys the sum of q . k is that of the summed q
        queries = q.reshape(rows, heads, -1, q.shape[2], size).sum(2)  # (B, H, S, K)
        keys = k[:, :, : count * self.block]
        scores = queries.transpose(1, 2).flatten(2) @ keys.permute(0, 1, 3, 2).flatten(1, 2)  # (B, S, M * C)
        scores = scores.reshape(rows, -1, count, self.block).amax(3)  # (B, S, M)
        start = torch.arange(count, device=q.device) * self.block
        scores = scores.masked_fill((start >= older)[:, None], -torch.inf)
        best, blocks = scores.topk(min(self.top, count), 2)
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(2, blocks, best > -torch.inf)
        used = chosen.any(1)  # (B, M)
        order = used.byte().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(used.sum(1).max()))]  # (B, U)
        chosen = chosen.gather(2, order[:, None].expand(-1, q.shape[2], -1))
        columns = order[:, :, None] * self.block + torch.arange(self.block, device=q.device)
        return columns.flatten(1), chosen.repeat_interleave(self.block, 2)
