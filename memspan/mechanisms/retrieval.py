"""Every key ever read, in blocks that each query chooses from.

Letters: B batch, Hq query heads, H key heads, S queries, N keys, K head size, C tokens of a block, M older blocks,
U blocks that any query of the piece chose, W recent keys.
"""

import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as blocks
from memspan.state import State


class Retrieval(blocks.Windowed):
    """Memorizing Transformers (Wu et al. 2022, arXiv 2203.08913): each query reads the best of all that was ever read.

    A query sees its own block, the `recent` complete ones before it, and of all older blocks the `top` that score best:
    a block scores what its best token does, a token the sum over the heads of q . k. Recent and retrieved keys share one
    softmax, so the reads mix by their own scores.

    Deviations from the paper: whole blocks are retrieved rather than single keys, and the same ones for all heads; one
    softmax instead of two with a gate; gradients flow into the retrieved keys unless the caller detaches the state. The
    choice itself has no gradient. Retrieved keys all stand at position 0, just before the recent ones: what they say
    counts, not how long ago, as in the paper.

    Args:
        block: C.
        top: how many older blocks each query retrieves.
        recent: how many complete blocks before its own a query always sees.
        limit: how many older blocks are kept at most, the newest; None keeps all, and the state grows with the stream.
    """

    def __init__(self, block: int = 32, top: int = 2, recent: int = 1, limit: int | None = None) -> None:
        if block < 1 or top < 1 or recent < 0 or (limit is not None and limit < 1):
            raise UsageError(
                f"block={block}, top={top}, recent={recent}, limit={limit} cannot be: all are 1 or more, but recent may be 0."
            )
        super().__init__(sinks=0, window=(recent + 1) * block, block=block, slots=1)
        self.top = top
        self.kept: blocks.Rule = (0, None if limit is None else (limit + recent + 1) * block, block)

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        count, state = blocks.keep(self.kept, k, v, state, valid)
        keys, values, place = state["k"], state["v"], state["place"]
        if not count.alike:  # a row's tokens come first, so that its blocks are runs of C columns
            order = (place < 0).byte().argsort(dim=1, stable=True)
            place = place.gather(1, order)
            keys, values = (blocks.take(x, order.to(k.device)) for x in (keys, values))
        state = {"k": keys, "v": values, "place": place, "seen": count.seen}

        place, seen = (place[:1], count.seen[:1]) if count.alike else (place, count.seen)
        first, _ = blocks.window_of(seen, *self.rule)  # (R, 1) the first recent place
        older = ((place >= 0) & (place < first)).sum(1, keepdim=True)  # (R, 1)
        most = int(((place >= first).sum(1)).max())
        recent = older + torch.arange(max(1, most))  # (R, W) their columns
        inside = recent < place.shape[1]
        recent = torch.where(inside, recent, 0)
        key = torch.where(inside, place.gather(1, recent), -1)
        query, key, first, recent = count.query, *(x.to(k.device) for x in (key, first, recent))
        key_positions, query_positions = ((x - first).clamp_min(0) + 1 for x in (key, query))
        if not older.any():
            mask = None if count.alike else blocks.up_to(key, query)
            if not count.alike:
                keys, values = blocks.take(keys, recent), blocks.take(values, recent)
            return Recalled(keys, values, mask, key_positions, query_positions), state

        columns, chosen = self._choose(q, keys, older.to(k.device), int(older.max()) // self.block)
        rows = q.shape[0]
        columns = torch.cat([columns, recent.expand(rows, -1)], 1)
        mask = torch.cat([chosen | (query < 0)[:, :, None], blocks.up_to(key, query).expand(rows, -1, -1)], 2)
        key_positions = torch.cat([key_positions.new_zeros(rows, chosen.shape[2]), key_positions.expand(rows, -1)], 1)
        keys, values = blocks.take(keys, columns), blocks.take(values, columns)
        return Recalled(keys, values, mask, key_positions, query_positions), state

    @torch.no_grad()
    def _choose(self, q: Tensor, k: Tensor, older: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Of the first `older` (R, 1) keys of each row, at most `most` blocks, those that any query reads.

        Returns their columns (B, U * C) and which of them each query chose, (B, S, U * C) bool.
        """
        rows, heads, _, size = k.shape
        # for heads that share their keys the sum of q . k is that of the summed q
        queries = q.reshape(rows, heads, -1, q.shape[2], size).sum(2)  # (B, H, S, K)
        keys = k[:, :, : most * self.block]
        scores = queries.transpose(1, 2).flatten(2) @ keys.permute(0, 1, 3, 2).flatten(1, 2)  # (B, S, M * C)
        scores = scores.reshape(rows, -1, most, self.block).amax(3)  # (B, S, M)
        number = torch.arange(most, device=q.device)
        scores = scores.masked_fill((number * self.block >= older)[:, None], -torch.inf)
        best, which = scores.topk(min(self.top, most), 2)
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(2, which, best > -torch.inf)
        used = chosen.any(1)  # (B, M)
        order = used.byte().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(used.sum(1).max()))]  # (B, U)
        chosen = chosen.gather(2, order[:, None].expand(-1, q.shape[2], -1))
        columns = order[:, :, None] * self.block + torch.arange(self.block, device=q.device)
        return columns.flatten(1), chosen.repeat_interleave(self.block, 2)
