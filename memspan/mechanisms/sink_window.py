"""The first tokens and the most recent ones."""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

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
        """Cuts where a row enters a block that pushes another one out, so that a whole piece sees the same blocks."""
        if self.window is None or length == 1:
            return [length]
        place = _places(length, None if state is None else state["seen"], valid)
        first_to_push = (self.sinks + self.window) // self.block
        enters = (place % self.block == 0) & (place // self.block >= first_to_push)
        cuts = [0, *enters.any(0).nonzero().flatten().tolist(), length]
        return [end - start for start, end in pairwise(cuts) if end > start]

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        place, seen = (None, None) if state is None else (state["place"], state["seen"])
        rule, shape = (self.sinks, self.window, self.block), (k.shape[0], k.shape[2])
        if valid is None:
            count = _count_once(rule, shape, place, seen, k.device)
        else:
            count = _count(rule, shape, place, seen, k.device, valid)
        keys, values = k, v
        if state is not None:
            keys, values = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
        if count.kept is not None:
            keys, values = _take(keys, count.kept), _take(values, count.kept)
        mask = None
        if not count.alike:
            key, query = count.key[:, None], count.query[:, :, None]
            mask = (key >= 0) & (key <= query) | (query < 0)  # padding must see something, or softmax yields NaN
        recalled = Recalled(keys, values, mask, count.key_positions, count.query_positions)
        return recalled, {"k": keys, "v": values, "place": count.place, "seen": count.seen}


class _Count(NamedTuple):
    """Where the tokens of a piece, and those kept from before, stand among the tokens of their row.

    A place counts the row's tokens from 0; it is -1 where a row has padding or nothing. R is B, or 1 if rows are alike.
    """

    alike: bool  # every row has the same places, all of them tokens
    kept: Tensor | None  # (R, N) the columns of (state, piece) that stay, in this order; None = all
    key: Tensor  # (R, N) places of the kept columns
    query: Tensor  # (R, S) places of the piece
    key_positions: Tensor  # (R, N)
    query_positions: Tensor  # (R, S)
    place: Tensor  # (B, N) `key` for the state, on the CPU
    seen: Tensor  # (B,) how many tokens each row has had, on the CPU


def _count(
    rule: tuple[int, int | None, int],
    shape: tuple[int, int],
    place: Tensor | None,
    seen: Tensor | None,
    device: torch.device,
    valid: Tensor | None = None,
) -> _Count:
    """`rule` is (sinks, window, block), `shape` the piece's (B, S). All on the CPU: no accelerator is waited for."""
    (sinks, window, block), (rows, length) = rule, shape
    with torch.inference_mode(False):  # what is worked out while generating may be used in training
        query = _places(length, seen, valid)
        seen = (query.amax(1) + 1).expand(rows) if seen is None else torch.maximum(seen.cpu(), query.amax(1) + 1)
        key = query if place is None else torch.cat([place.cpu(), query], 1)
        alike = valid is None and bool((key == key[:1]).all())
        if alike:
            key, query = key[:1], query[:1]
        first, shift = _window_of(seen[: len(key)], sinks, window, block)
        stays = (key >= 0) & ((key < sinks) | (key >= first))
        kept, most = None, max(1, int(stays.sum(1).max()))
        if most < key.shape[1]:
            kept = stays.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
            key, stays = key.gather(1, kept), stays.gather(1, kept)
        key = torch.where(stays, key, -1)
        return _Count(
            alike,
            None if kept is None else kept.to(device),
            key.to(device),
            query.to(device),
            torch.where(key < sinks, key, key - shift).clamp_min(0).to(device),
            torch.where(query < sinks, query, query - shift).clamp_min(0).to(device),
            key.repeat(rows // len(key), 1),
            seen.clone(),
        )


# Tensors are told apart by identity: layers whose states share `place` and `seen` are counted once, not one by one.
_count_once = lru_cache(maxsize=32)(_count)


def _window_of(seen: Tensor, sinks: int, window: int | None, block: int) -> tuple[Tensor, Tensor]:
    """For rows that have seen (R,) tokens: the first recent place in sight, and how far positions have moved. (R, 1)"""
    if window is None:
        return torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    block_end = ((seen[:, None] - 1).clamp_min(0) // block + 1) * block
    first = (block_end - window).clamp_min(0)
    return first, (first - sinks).clamp_min(0)


def _places(length: int, seen: Tensor | None, valid: Tensor | None) -> Tensor:
    """The places of a piece's tokens, (B, S), or (1, S) if nothing tells the rows apart; -1 at padding. On the CPU."""
    counted = torch.arange(length)[None] if valid is None else valid.cpu().long().cumsum(1) - 1
    if seen is not None:
        counted = counted + seen.cpu()[:, None]
    return counted if valid is None else torch.where(valid.cpu(), counted, -1)


def _take(x: Tensor, columns: Tensor) -> Tensor:
    """x (B, H, N, K) at `columns` (R, n) of its third dimension."""
    if columns.shape[0] == 1:
        return x.index_select(2, columns[0])
    return x.gather(2, columns[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
