"""Recent keys as they are, older ones pooled.

Letters: B batch, Hq query heads, H key heads, S queries, N keys, K head size, C tokens of a block, P compressed slots,
R rows told apart.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as blocks
from memspan.state import State


class Compressed(blocks.Windowed):
    """Compressive Transformer (Rae et al. 2020, arXiv 1911.05507): what leaves the recent window is pooled, not dropped.

    A query sees its own block, the `recent` blocks before it, and a memory of `slots` keys and values, each pooled from
    `rate` consecutive tokens; the oldest are dropped. The state has "loss" (B,), the attention-reconstruction loss of
    the paper's section 3.2, averaged over the blocks that have left: what the query that pushed a block out would have
    read from the block, and what it reads from its pooled form, all detached, so that it trains the pooling alone.

    Deviations from the paper: keys and values are pooled rather than hidden states; pooling is a weighted mean (of the
    paper's choices, between mean pooling and convolution); the loss asks one query per block and head, because those that
    come later depend on how the stream is cut.

    Args:
        block: C, a multiple of `rate`; how many tokens leave together.
        recent: how many complete blocks before its own a query sees as they are.
        rate: how many tokens become one slot.
        slots: P, how many pooled keys are kept.
        pooling: "mean", or "weighted": the places of the tokens in their group have learned weights.
    """

    def __init__(
        self, block: int = 32, recent: int = 1, rate: int = 4, slots: int = 128, pooling: str = "weighted"
    ) -> None:
        if block < 1 or recent < 0 or rate < 1 or block % rate or slots < block // rate:
            raise UsageError(
                f"block={block}, recent={recent}, rate={rate}, slots={slots} cannot be: the block must be a multiple of "
                "the rate, and the slots must hold at least what becomes of one block."
            )
        if pooling not in ("mean", "weighted"):
            raise UsageError(f"There is no pooling '{pooling}'. Known: mean, weighted.")
        super().__init__(sinks=0, window=(recent + 1) * block, block=block, slots=slots)
        self.rate = rate
        self.weights = nn.Parameter(torch.zeros(rate), requires_grad=pooling == "weighted")  # before the softmax

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        count, after = blocks.keep(self.rule, k, v, state, valid)
        if state is None:
            rows, heads, _, size = k.shape
            empty = k.new_zeros(rows, heads, self.slots, size)
            pooled = {"k": empty, "v": empty.clone()}
            left, loss = torch.zeros(rows, dtype=torch.int64), k.new_zeros(rows)
        else:
            pooled, left, loss = state["pooled"], state["left"].cpu(), state["loss"]
            first, _ = blocks.window_of(count.seen, *self.rule)
            before = state["place"].cpu()
            leaves = (before >= 0) & (before < first)  # no column of a row, or a whole block
            if leaves.any():
                columns = leaves.byte().argsort(dim=1, descending=True, stable=True)[:, : self.block].to(k.device)
                pushes, one = leaves.any(1), q[:, :, :1]
                gone = {kind: blocks.take(state[kind], columns) for kind in ("k", "v")}  # (B, H, C, K)
                error = self._error(one.detach(), gone["k"].detach(), gone["v"].detach())
                left = left + pushes
                pushes = pushes.to(k.device)
                share = left.clamp_min(1).to(loss)
                loss = torch.where(pushes, loss + (error - loss) / share, loss)
                pooled = {
                    kind: torch.where(pushes.view(-1, 1, 1, 1), self._push(slots, gone[kind]), slots)
                    for kind, slots in pooled.items()
                }
        recalled = self._with_slots(count, count.recalled(after), pooled, left)
        return recalled, {**after, "pooled": pooled, "left": left.clone(), "loss": loss.clone()}

    def _with_slots(self, count: blocks.Count, recent: Recalled, pooled: dict[str, Tensor], left: Tensor) -> Recalled:
        """The recent keys at the positions after those of all slots; the newest slot is the last."""
        key_positions, query_positions = recent.key_positions + self.slots, recent.query_positions + self.slots
        if not left.any():
            return recent._replace(key_positions=key_positions, query_positions=query_positions)
        rows, device = recent.k.shape[0], recent.k.device
        number = torch.arange(self.slots, device=device)
        filled = (left * (self.block // self.rate)).clamp_max(self.slots).to(device)
        slot = (number >= self.slots - filled[:, None])[:, None].expand(-1, count.query.shape[1], -1)  # (B, S, P)
        mask = torch.cat([slot, blocks.up_to(count.key, count.query).expand(rows, -1, -1)], 2)
        key_positions = torch.cat([number.expand(len(count.key), -1), key_positions], 1)
        keys, values = torch.cat([pooled["k"], recent.k], 2), torch.cat([pooled["v"], recent.v], 2)
        return Recalled(keys, values, mask, key_positions, query_positions)

    def _pool(self, x: Tensor) -> Tensor:
        """(B, H, C, K) -> (B, H, C / rate, K)."""
        rows, heads, tokens, size = x.shape
        groups = x.reshape(rows, heads, tokens // self.rate, self.rate, size)
        return (groups * self.weights.softmax(0).to(x)[:, None]).sum(3)

    def _push(self, slots: Tensor, gone: Tensor) -> Tensor:
        new = self._pool(gone)
        return torch.cat([slots[:, :, new.shape[2] :], new], 2)

    def _error(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Squared difference between attention to a block, by content alone, and to its pooled form: (B,)."""
        grouped = q.shape[1] != k.shape[1]
        raw = scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
        pooled = scaled_dot_product_attention(q, self._pool(k), self._pool(v), enable_gqa=grouped)
        return (raw - pooled).square().mean((1, 2, 3))
