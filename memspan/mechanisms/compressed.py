"""Recent keys unchanged, older ones pooled.

Letters: B batch, Hq query heads, H key heads, S queries, N keys, K head size, C tokens of a block, P compressed slots,
R rows told apart.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as windows
from memspan.state import OBJECTIVE, State, with_losses

POOLINGS = ("mean", "weighted")


class Compressed(windows.Windowed):
    """A recent window, and older tokens pooled into slots (Compressive Transformer, Rae et al. 2020, arXiv 1911.05507).

    A query sees its own block, the `recent` blocks before it, and a memory of `slots` keys and values, each pooled from
    `rate` consecutive tokens; the oldest are dropped. The state has "loss" (B,), the attention-reconstruction loss of
    the paper's section 3.2, averaged over the blocks that have left: the squared difference between the attention output
    of the query that pushed a block out over the block and over its pooled form, all detached, so that it trains the
    pooling alone.

    Deviations from the paper: keys and values are pooled rather than hidden states; pooling is a weighted mean (of the
    paper's choices, between mean pooling and convolution); the loss takes one query per block and head, because later
    queries depend on how the stream is cut.

    Args:
        block: C, a multiple of `rate`; number of tokens that leave together.
        recent: number of complete blocks before its own that a query sees unpooled.
        rate: number of tokens that are pooled into one slot.
        slots: P, number of pooled keys kept.
        pooling: "mean", or "weighted" with a learned weight for each token of a group of `rate`.
    """

    def __init__(
        self, block: int = 32, recent: int = 1, rate: int = 4, slots: int = 128, pooling: str = "weighted"
    ) -> None:
        if block < 1 or recent < 0 or rate < 1 or block % rate or slots < block // rate:
            raise UsageError(
                "block must be a multiple of rate, slots at least block / rate, and recent at least 0, "
                f"got block={block}, recent={recent}, rate={rate}, slots={slots}."
            )
        if pooling not in POOLINGS:
            raise UsageError(f"pooling must be one of {', '.join(POOLINGS)}, got '{pooling}'.")
        super().__init__(sinks=0, window=(recent + 1) * block, block=block, slots=slots)
        self.rate = rate
        self.weights = nn.Parameter(torch.zeros(rate), requires_grad=pooling == "weighted")  # before the softmax

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"block": 16, "slots": 4 * size}

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        update, after = windows.store(self.rule, k, v, state, valid)
        if state is None:
            rows, heads, _, size = k.shape
            empty = k.new_zeros(rows, heads, self.slots, size)
            pooled = {"k": empty, "v": empty.clone()}
            left, objective = torch.zeros(rows, dtype=torch.int64), with_losses(None, k.new_zeros(rows), 0)
        else:
            pooled, left = state["pooled"], state["left"].cpu()
            objective = {key: state[key] for key in OBJECTIVE}
            first, _ = windows.window_start(update.seen, *self.rule)
            before = state["index"].cpu()
            leaves = (before >= 0) & (before < first)  # none of a row, or a whole block
            if leaves.any():
                columns = leaves.byte().argsort(dim=1, descending=True, stable=True)[:, : self.block].to(k.device)
                pushes, pushing = leaves.any(1), q[:, :, :1]
                leaving = {kind: windows.take(state[kind], columns) for kind in ("k", "v")}  # (B, H, C, K)
                error = self._error(pushing.detach(), leaving["k"].detach(), leaving["v"].detach())
                left = left + pushes
                pushes = pushes.to(k.device)
                objective = with_losses(state, error * pushes, pushes.float())
                pooled = {
                    kind: torch.where(pushes.view(-1, 1, 1, 1), self._push(slots, leaving[kind]), slots)
                    for kind, slots in pooled.items()
                }
        recalled = self._with_slots(update, update.recalled(after), pooled, left)
        return recalled, {**after, "pooled": pooled, "left": left.clone(), **objective}

    def _with_slots(
        self, update: windows.WindowUpdate, recent: Recalled, pooled: dict[str, Tensor], left: Tensor
    ) -> Recalled:
        """The recent keys at the positions after those of all slots; the newest slot is the last."""
        key_positions, query_positions = recent.key_positions + self.slots, recent.query_positions + self.slots
        if not left.any():
            return recent._replace(key_positions=key_positions, query_positions=query_positions)
        rows, device = recent.k.shape[0], recent.k.device
        index = torch.arange(self.slots, device=device)
        filled = (left * (self.block // self.rate)).clamp_max(self.slots).to(device)
        seen_slots = (index >= self.slots - filled[:, None])[:, None].expand(
            -1, update.query_index.shape[1], -1
        )  # (B, S, P)
        seen_keys = windows.visible(update.key_index, update.query_index).expand(rows, -1, -1)
        mask = torch.cat([seen_slots, seen_keys], 2)
        key_positions = torch.cat([index.expand(len(update.key_index), -1), key_positions], 1)
        keys, values = torch.cat([pooled["k"], recent.k], 2), torch.cat([pooled["v"], recent.v], 2)
        return Recalled(keys, values, mask, key_positions, query_positions)

    def _pool(self, x: Tensor) -> Tensor:
        """(B, H, C, K) -> (B, H, C / rate, K)."""
        rows, heads, tokens, size = x.shape
        groups = x.reshape(rows, heads, tokens // self.rate, self.rate, size)
        return (groups * self.weights.softmax(0).to(x)[:, None]).sum(3)

    def _push(self, slots: Tensor, leaving: Tensor) -> Tensor:
        """Slots (B, H, P, K) after a block (B, H, C, K): the newest last, the oldest dropped."""
        new = self._pool(leaving)
        return torch.cat([slots[:, :, new.shape[2] :], new], 2)

    def _error(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Squared difference between attention to a block, without positions, and to its pooled form: (B,)."""
        grouped = q.shape[1] != k.shape[1]
        raw = scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
        pooled = scaled_dot_product_attention(q, self._pool(k), self._pool(v), enable_gqa=grouped)
        return (raw - pooled).square().mean((1, 2, 3))
