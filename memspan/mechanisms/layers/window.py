"""Which tokens are kept where they leave in whole blocks: the first few of a row, and its most recent blocks.

The bookkeeping that the mechanisms with a recent window share. All of it is integers, worked out on the CPU.

Letters: B batch, S tokens of the piece, N keys kept, R rows told apart (B, or 1 if all are alike), H heads, K head size.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from memspan.mechanisms.base import KVMechanism, Recalled
from memspan.state import State

Rule = tuple[int, int | None, int]  # (sinks, window, block): how many first tokens and how many recent ones stay


class Windowed(KVMechanism):
    """A mechanism whose queries see a recent window, which moves on by whole blocks.

    Args:
        sinks, window, block: the rule of what a query sees as it is. The window may be changed between two segments.
        slots: how many positions between the sinks and the window are kept for what has left it.
    """

    def __init__(self, sinks: int, window: int | None, block: int, slots: int = 0) -> None:
        super().__init__()
        self.sinks, self.window, self.block, self.slots = sinks, window, block, slots

    @property
    def rule(self) -> Rule:
        return self.sinks, self.window, self.block

    def capacity(self) -> int | None:
        return None if self.window is None else self.sinks + self.slots + self.window

    def split_lengths(self, length: int, state: State = None, valid: Tensor | None = None) -> list[int]:
        return split_lengths(self.rule, length, state, valid)


def split_lengths(rule: Rule, length: int, state: State, valid: Tensor | None) -> list[int]:
    """Cuts where a row enters a block that pushes another one out, so that a whole piece sees the same blocks."""
    sinks, window, block = rule
    if window is None or length == 1:
        return [length]
    place = places(length, None if state is None else state["seen"], valid)
    first_to_push = (sinks + window) // block
    enters = (place % block == 0) & (place // block >= first_to_push)
    cuts = [0, *enters.any(0).nonzero().flatten().tolist(), length]
    return [end - start for start, end in pairwise(cuts) if end > start]


def keep(rule: Rule, k: Tensor, v: Tensor, state: State, valid: Tensor | None) -> tuple["Count", dict[str, Tensor]]:
    """Where the keys and values (B, H, N, K) stand that stay of those in the state and in the piece, and the state.

    The state is {"k", "v", "place", "seen"}; that of the piece before may have more.
    """
    place, seen = (None, None) if state is None else (state["place"], state["seen"])
    shape = (k.shape[0], k.shape[2])
    if valid is None:
        kept = count_once(rule, shape, place, seen, k.device)
    else:
        kept = count(rule, shape, place, seen, k.device, valid)
    if state is not None:
        k, v = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
    if kept.kept is not None:
        k, v = take(k, kept.kept), take(v, kept.kept)
    return kept, {"k": k, "v": v, "place": kept.place, "seen": kept.seen}


class Count(NamedTuple):
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

    def mask(self) -> Tensor | None:
        """What the queries see of the kept columns, (R, S, N); None = all to their own, which is what rows alike need."""
        return None if self.alike else up_to(self.key, self.query)

    def recalled(self, state: State) -> Recalled:
        """Nothing but the keys and values in the state after the piece."""
        return Recalled(state["k"], state["v"], self.mask(), self.key_positions, self.query_positions)


def up_to(key: Tensor, query: Tensor) -> Tensor:
    """Places (R, N) and (R, S) -> (R, S, N) bool: a query sees the keys up to its own place."""
    key, query = key[:, None], query[:, :, None]
    return (key >= 0) & (key <= query) | (query < 0)  # padding must see something, or softmax yields NaN


def count(
    rule: Rule,
    shape: tuple[int, int],
    place: Tensor | None,
    seen: Tensor | None,
    device: torch.device,
    valid: Tensor | None = None,
) -> Count:
    """`rule` is (sinks, window, block), `shape` the piece's (B, S). All on the CPU: no accelerator is waited for."""
    (sinks, window, block), (rows, length) = rule, shape
    with torch.inference_mode(False):  # what is worked out while generating may be used in training
        query = places(length, seen, valid)
        seen = (query.amax(1) + 1).expand(rows) if seen is None else torch.maximum(seen.cpu(), query.amax(1) + 1)
        key = query if place is None else torch.cat([place.cpu(), query], 1)
        alike = valid is None and bool((key == key[:1]).all())
        if alike:
            key, query = key[:1], query[:1]
        first, shift = window_of(seen[: len(key)], sinks, window, block)
        stays = (key >= 0) & ((key < sinks) | (key >= first))
        kept, most = None, max(1, int(stays.sum(1).max()))
        if most < key.shape[1]:
            kept = stays.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
            key, stays = key.gather(1, kept), stays.gather(1, kept)
        key = torch.where(stays, key, -1)
        return Count(
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
count_once = lru_cache(maxsize=32)(count)


def window_of(seen: Tensor, sinks: int, window: int | None, block: int) -> tuple[Tensor, Tensor]:
    """For rows that have seen (R,) tokens: the first recent place in sight, and how far positions have moved. (R, 1)"""
    if window is None:
        return torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    block_end = ((seen[:, None] - 1).clamp_min(0) // block + 1) * block
    first = (block_end - window).clamp_min(0)
    return first, (first - sinks).clamp_min(0)


def places(length: int, seen: Tensor | None, valid: Tensor | None) -> Tensor:
    """The places of a piece's tokens, (B, S), or (1, S) if nothing tells the rows apart; -1 at padding. On the CPU."""
    counted = torch.arange(length)[None] if valid is None else valid.cpu().long().cumsum(1) - 1
    if seen is not None:
        counted = counted + seen.cpu()[:, None]
    return counted if valid is None else torch.where(valid.cpu(), counted, -1)


def take(x: Tensor, columns: Tensor) -> Tensor:
    """x (B, H, N, K) at `columns` (R, n) of its third dimension."""
    if columns.shape[0] == 1:
        return x.index_select(2, columns[0])
    return x.gather(2, columns[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
