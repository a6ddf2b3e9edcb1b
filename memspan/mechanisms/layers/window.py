"""The bookkeeping of a window that drops tokens in whole blocks: which tokens stay, and at which positions they are seen.

Every token has an index, counted from 0 within its row without padding, and a position, re-assigned for every segment so
that positions stay within the window. All of it is integers, computed on the CPU: no accelerator has to be waited for.

Letters: B batch, S tokens of the segment, N keys kept, R rows told apart (B, or 1 if all rows are alike), H heads, K head
size.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from memspan.mechanisms.base import KVMechanism, Recalled
from memspan.state import State


class WindowRule(NamedTuple):
    """The tokens that stay: the first `sinks`, and the most recent `window` (None: all), which leave `block` by `block`."""

    sinks: int
    window: int | None
    block: int


class Windowed(KVMechanism):
    """A mechanism whose queries see a recent window, which moves on by whole blocks.

    Args:
        sinks, window, block: as in `WindowRule`. The window may be changed between two segments.
        slots: number of positions between the sinks and the window, for what a subclass keeps of tokens that have left it.
    """

    def __init__(self, sinks: int, window: int | None, block: int, slots: int = 0) -> None:
        super().__init__()
        self.sinks, self.window, self.block, self.slots = sinks, window, block, slots

    @property
    def rule(self) -> WindowRule:
        return WindowRule(self.sinks, self.window, self.block)

    def capacity(self) -> int | None:
        return None if self.window is None else self.sinks + self.slots + self.window

    def columns_before(self, length: int, state: State = None) -> Tensor | None:
        """Rows then enter their blocks together: otherwise each of them would cut the segment at columns of its own."""
        if state is None or self.window is None or length < self.block:
            return None
        seen: Tensor = state["seen"].cpu()
        return None if bool((seen == seen[:1]).all()) else seen % self.block

    def split_lengths(self, length: int, state: State = None, valid: Tensor | None = None) -> list[int]:
        return split_lengths(self.rule, length, state, valid)


def split_lengths(rule: WindowRule, length: int, state: State, valid: Tensor | None) -> list[int]:
    """Cuts wherever a row enters a block that pushes another one out, so that all queries of a part see the same blocks."""
    sinks, window, block = rule
    if window is None or length == 1:
        return [length]
    index = token_indices(length, None if state is None else state["seen"], valid)
    first_to_push = (sinks + window) // block
    enters = (index % block == 0) & (index // block >= first_to_push)
    cuts = [0, *enters.any(0).nonzero().flatten().tolist(), length]
    return [end - start for start, end in pairwise(cuts) if end > start]


class WindowUpdate(NamedTuple):
    """The tokens kept after a segment, and their indices and positions. An index is -1 at padding and in empty columns.

    Attributes:
        rows_alike: every row has the same indices, and no padding; R is then 1.
        columns: (R, N) the columns of (state, segment) that stay, in this order; None: all of them.
        key_index: (R, N) indices of the kept tokens.
        query_index: (R, S) indices of the segment's tokens.
        key_positions: (R, N).
        query_positions: (R, S).
        stored_index: (B, N) `key_index` for the state, on the CPU.
        seen: (B,) number of tokens that each row has read, on the CPU.
    """

    rows_alike: bool
    columns: Tensor | None
    key_index: Tensor
    query_index: Tensor
    key_positions: Tensor
    query_positions: Tensor
    stored_index: Tensor
    seen: Tensor

    def mask(self) -> Tensor | None:
        """The kept tokens that each query sees, (R, S, N) bool; None: all up to its own, which suffices for rows alike."""
        return None if self.rows_alike else visible(self.key_index, self.query_index)

    def recalled(self, state: State) -> Recalled:
        """The keys and values in the state after the segment, and nothing else."""
        return Recalled(state["k"], state["v"], self.mask(), self.key_positions, self.query_positions)


def store(
    rule: WindowRule, k: Tensor, v: Tensor, state: State, valid: Tensor | None
) -> tuple[WindowUpdate, dict[str, Tensor]]:
    """Appends the segment's keys and values (B, H, S, K) to those in the state and drops those that leave.

    The state is {"k", "v", "index", "seen"}; the old one may have further keys.
    """
    index, seen = (None, None) if state is None else (state["index"], state["seen"])
    shape = (k.shape[0], k.shape[2])
    if valid is None:
        update = update_window_once(rule, shape, index, seen, k.device)
    else:
        update = update_window(rule, shape, index, seen, k.device, valid)
    if state is not None:
        k, v = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
    if update.columns is not None:
        k, v = take(k, update.columns), take(v, update.columns)
    return update, {"k": k, "v": v, "index": update.stored_index, "seen": update.seen}


def update_window(
    rule: WindowRule,
    shape: tuple[int, int],
    index: Tensor | None,
    seen: Tensor | None,
    device: torch.device,
    valid: Tensor | None = None,
) -> WindowUpdate:
    """The update of a segment of `shape` (B, S) after a state with `index` (B, N) and `seen` (B,); None: no state."""
    rows, length = shape
    with torch.inference_mode(False):  # an update computed while generating may be used in training
        query = token_indices(length, seen, valid)
        seen = (query.amax(1) + 1).expand(rows) if seen is None else torch.maximum(seen.cpu(), query.amax(1) + 1)
        key = query if index is None else torch.cat([index.cpu(), query], 1)
        rows_alike = valid is None and bool((key == key[:1]).all())
        if rows_alike:
            key, query = key[:1], query[:1]
        first, shift = window_start(seen[: len(key)], *rule)
        stays = (key >= 0) & ((key < rule.sinks) | (key >= first))
        columns, count = None, max(1, int(stays.sum(1).max()))
        if count < key.shape[1]:
            columns = stays.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
            key, stays = key.gather(1, columns), stays.gather(1, columns)
        key = torch.where(stays, key, -1)
        return WindowUpdate(
            rows_alike,
            None if columns is None else columns.to(device),
            key.to(device),
            query.to(device),
            torch.where(key < rule.sinks, key, key - shift).clamp_min(0).to(device),
            torch.where(query < rule.sinks, query, query - shift).clamp_min(0).to(device),
            key.repeat(rows // len(key), 1),
            seen.clone(),
        )


# Tensors are compared by identity: layers whose states share `index` and `seen` compute the update only once.
update_window_once = lru_cache(maxsize=32)(update_window)


def window_start(seen: Tensor, sinks: int, window: int | None, block: int) -> tuple[Tensor, Tensor]:
    """Of rows that have read `seen` (R,) tokens, the index of the first recent token, and index minus position: (R, 1)."""
    if window is None:
        return torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    block_end = ((seen[:, None] - 1).clamp_min(0) // block + 1) * block
    first = (block_end - window).clamp_min(0)
    return first, (first - sinks).clamp_min(0)


def token_indices(length: int, seen: Tensor | None, valid: Tensor | None) -> Tensor:
    """The indices of a segment's tokens, (B, S), or (1, S) without `seen` and `valid`; -1 at padding. On the CPU."""
    index = torch.arange(length)[None] if valid is None else valid.cpu().long().cumsum(1) - 1
    if seen is not None:
        index = index + seen.cpu()[:, None]
    return index if valid is None else torch.where(valid.cpu(), index, -1)


def visible(key_index: Tensor, query_index: Tensor) -> Tensor:
    """(R, N) and (R, S) -> (R, S, N) bool: a query sees the keys up to its own index."""
    key, query = key_index[:, None], query_index[:, :, None]
    return (key >= 0) & (key <= query) | (query < 0)  # padding must see something, or softmax yields NaN


def take(x: Tensor, columns: Tensor) -> Tensor:
    """x (B, H, N, K) at `columns` (R, n) of its third dimension."""
    if columns.shape[0] == 1:
        return x.index_select(2, columns[0])
    return x.gather(2, columns[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))


def first_columns(chosen: Tensor) -> Tensor:
    """The columns of `chosen` (R, N) bool that are true, in order, and then others up to the largest number in a row."""
    columns = chosen.byte().argsort(dim=1, descending=True, stable=True)
    return columns[:, : int(chosen.sum(1).max())]
