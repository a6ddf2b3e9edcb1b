"""The first tokens and the most recent ones."""

import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.base import KVMechanism, Recalled
from memspan.state import State


class SinkWindow(KVMechanism):
    """StreamingLLM (Xiao et al. 2024, arXiv 2309.17453): attention sinks and a recent window at re-assigned positions.

    Deviations from the paper: tokens leave in whole blocks of `block` rather than one by one, so that what a query sees
    and the positions it is given depend on its place in the stream alone, not on how the stream was cut; padding is
    neither a sink nor a part of the window, so every row of a ragged batch remembers what it would remember alone.

    Args:
        sinks: how many first tokens stay for ever.
        window: how many recent tokens are kept at most, a multiple of `block`; None keeps everything. May be changed
            between two segments: a smaller window forgets at the next one, a larger one fills up again.
        block: how many tokens leave together. A query sees between `window - block + 1` and `window` recent tokens.
    """

    def __init__(self, sinks: int = 4, window: int | None = 1024, block: int = 128) -> None:
        super().__init__()
        if sinks < 0 or block < 1 or (window is not None and (window < block or window % block)):
            raise UsageError(
                f"sinks={sinks}, window={window}, block={block} cannot be: sinks must be 0 or more, "
                "and the window a positive multiple of the block."
            )
        self.sinks, self.window, self.block = sinks, window, block

    def capacity(self) -> int | None:
        return None if self.window is None else self.sinks + self.window

    def pieces(self, length: int, state: State = None, valid: Tensor | None = None) -> list[int]:
        """Cuts where any row enters a new block after tokens have begun to leave; before that there is nothing to cut."""
        if self.window is None or length == 1:
            return [length]
        if valid is None and state is None and length <= self.sinks + self.window - self.block:
            return [length]
        position = _positions(length, state, valid)
        if int(position.max()) // self.block < (self.sinks + self.window) // self.block:
            return [length]
        text = position >= 0
        starts = (position % self.block == 0) & text  # a row's first token of a block
        cuts = [0, *(starts.any(0).nonzero().flatten().tolist()), length]
        return [end - start for start, end in zip(cuts, cuts[1:], strict=False) if end > start]

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        length = k.shape[2]
        query = _positions(length, state, valid).to(k.device).expand(k.shape[0], -1)
        key, keys, values = query, k, v
        seen = query.amax(1) + 1
        if state is not None:
            key = torch.cat([state["position"], query], 1)
            keys, values = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
            seen = torch.maximum(seen, state["seen"])
        first, shift = self._first_visible(seen)
        alive = (key >= 0) & ((key < self.sinks) | (key >= first[:, None]))
        if not bool(alive.all()):  # a column goes when no row needs it any more
            kept = alive.any(0).nonzero().flatten()
            key, alive = key.index_select(1, kept), alive.index_select(1, kept)
            keys, values = keys.index_select(2, kept), values.index_select(2, kept)
        mask = None
        if length > 1 or not bool(alive.all()):
            mask = alive[:, None] & (key[:, None] <= query[:, :, None])
            mask = mask | (query < 0)[:, :, None]  # a padded query must see something, or softmax yields NaN
        recalled = Recalled(
            keys,
            values,
            mask,
            torch.where(key < self.sinks, key, key - shift[:, None]).clamp_min(0),
            torch.where(query < self.sinks, query, query - shift[:, None]).clamp_min(0),
        )
        return recalled, {"k": keys, "v": values, "position": torch.where(alive, key, -1), "seen": seen}

    def _first_visible(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """For the block of each row's newest token: the first recent position it sees, and how far positions moved. (B,)"""
        if self.window is None:
            return torch.zeros_like(seen), torch.zeros_like(seen)
        block_end = ((seen - 1).clamp_min(0) // self.block + 1) * self.block
        first = (block_end - self.window).clamp_min(0)
        return first, (first - self.sinks).clamp_min(0)


def _positions(length: int, state: State, valid: Tensor | None) -> Tensor:
    """Each token's place among its row's tokens, from 0; -1 at padding. (B or 1, length) int64."""
    counted = torch.arange(length)[None] if valid is None else valid.long().cumsum(1) - 1
    if state is not None:
        counted = counted.to(state["seen"].device) + state["seen"][:, None]
    return counted if valid is None else torch.where(valid.to(counted.device), counted, -1)
