"""Recent keys unchanged, older ones in trained slots.

Letters: B batch, H key heads, S queries, N keys, K head size, G groups of tokens, P slots kept, M slots in the state, R rows
told apart.
"""

from functools import lru_cache
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as windows
from memspan.state import State


class Gist(windows.Windowed):
    """A recent window, and older tokens in trained slots (gist tokens, Mu et al. 2023, arXiv 2304.08467).

    A block that leaves the window becomes block / `rate` slots. A slot is a key and a value of every head, made from `rate`
    consecutive tokens: their mean, weighted by shares that depend on the tokens, plus what a network of one hidden layer
    computes from all of their keys and values. Before training the shares are equal and the network adds nothing, so that a
    slot is the mean. Slots are read at positions `rate` apart, those of the middle tokens of their groups, so that every
    distance is that of the text; the positions begin anew once the oldest slots are dropped.

    Deviations from the paper: the slots are made from the keys and values of each layer by itself, rather than by special
    tokens that run through the network (Zhang et al. 2024, arXiv 2401.03462, make them so, block by block as here), so that
    the model's own weights and what it computes within the window stay as they are.

    Args:
        rate: number of tokens that share a slot.
        slots: P, number of slots kept; the oldest are dropped.
        sinks: number of first tokens that stay as they are.
        window: largest number of recent tokens kept as they are, a multiple of `block`; None keeps everything.
        block: number of tokens that leave together, a multiple of `rate`.
        code: size of the code of a token, from which the network computes.
        hidden: width of its hidden layer.
        strength: what the values of the slots are multiplied by where they are read, at least 0. Slots that were trained to
            answer questions say too much where a text only goes on, see LOG.md.
    """

    # Each parameter is a setting that users write: a size of the memory or of its network, or how strongly slots are read.
    def __init__(
        self,
        rate: int = 8,
        slots: int = 128,
        sinks: int = 4,
        window: int | None = 1024,
        block: int = 128,
        code: int = 64,
        hidden: int = 192,
        strength: float = 1.0,
    ) -> None:
        if rate < 1 or block < 1 or block % rate or (window is not None and (window < block or window % block)):
            raise UsageError(
                "block must be a multiple of rate, and window a multiple of block, "
                f"got rate={rate}, window={window}, block={block}."
            )
        if slots < block // rate or min(code, hidden) < 1 or not 0 <= sinks <= block:
            raise UsageError(
                "slots must be at least block / rate, code and hidden at least 1, and sinks 0 to block, "
                f"got slots={slots}, code={code}, hidden={hidden}, sinks={sinks}, block={block}, rate={rate}."
            )
        if not 0 <= strength < inf:
            raise UsageError(f"strength must be a number of at least 0, got {strength}.")
        super().__init__(sinks, window, block, slots * rate)
        self.rate, self.kept, self.widths, self.strength = rate, slots, (code, hidden), strength
        self.pool: _Pool | None = None  # made once the size of the keys is known

    def make_weights(self, heads: int, size: int) -> None:
        if self.pool is None or self.pool.shape != (heads, size):
            self.pool = _Pool(heads, size, self.rate, *self.widths)

    def capacity(self) -> int | None:
        return None if self.window is None else self.slots + self.window

    def split_lengths(self, length: int, state: State = None, valid: Tensor | None = None) -> list[int]:
        return windows.split_lengths(self.rule._replace(sinks=0), length, state, valid)  # sinks are compressed, too

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        update, after = windows.store(self.rule, k, v, state, valid)
        rows, heads, _, size = k.shape
        if state is None:
            empty, index = k.new_zeros(rows, heads, 0, size), torch.zeros(rows, 0, dtype=torch.int64)
            state = {"index": index, "slots": {"k": empty, "v": empty}, "slot_index": index.clone()}
            state["left"] = torch.zeros(rows, dtype=torch.int64)
        rule = _SlotRule(self.rule, self.rate, self.kept)
        change = _slot_update_once(rule, update, state["index"], state["slot_index"], state["left"], k.device)
        slots = self._slots_after(state, change.leaving, change.columns)
        recalled = Recalled(
            torch.cat([slots["k"], after["k"]], 2),
            torch.cat([slots["v"] if self.strength == 1 else self.strength * slots["v"], after["v"]], 2),
            change.mask,
            change.key_positions,
            change.query_positions,
        )
        return recalled, {
            **after,
            "slots": slots,
            "slot_index": change.slot_index.clone(),
            "left": change.left.clone(),
        }

    def condensed(self, state: State) -> State:
        """Every whole group of tokens becomes a slot, and the sinks stay too; so do the tokens behind the last whole group."""
        if state is None:
            return None
        index, slot_index, left = (state[name].cpu() for name in ("index", "slot_index", "left"))
        done = torch.maximum(left, state["seen"].cpu() // self.rate * self.rate)[:, None]
        rule = _SlotRule(self.rule, self.rate, self.kept)
        leaving, columns, slot_index = _leaving(rule, index, slot_index, left[:, None], done)
        device = state["k"].device
        slots = self._slots_after(state, *(x if x is None else x.to(device) for x in (leaving, columns)))
        stays = (index >= 0) & ((index < self.sinks) | (index >= done))
        kept = windows.first_columns(stays)
        tokens = {kind: windows.take(state[kind], kept.to(device)) for kind in ("k", "v")}
        index = torch.where(stays.gather(1, kept), index.gather(1, kept), -1)
        return {**state, **tokens, "index": index, "slots": slots, "slot_index": slot_index, "left": done.flatten()}

    def condensed_keys(self, state: State) -> Tensor | None:
        return None if state is None else torch.stack([state["slots"]["k"], state["slots"]["v"]]).permute(1, 3, 0, 2, 4)

    def followed_by(self, state: State, slots: Tensor) -> State:
        """Raises UsageError if there are tokens behind the last whole group of the state."""
        seen: Tensor = state["seen"].cpu()
        if bool((seen != state["left"].cpu()).any()):
            raise UsageError("Slots can follow only whole groups of tokens, all of them condensed.")
        new = slots.permute(2, 0, 3, 1, 4).to(state["k"])
        groups = (seen // self.rate)[:, None] + torch.arange(slots.shape[1])
        both = {kind: torch.cat([state["slots"][kind], added], 2) for kind, added in zip(("k", "v"), new, strict=True)}
        kept = {kind: keys[:, :, -self.kept :].contiguous() for kind, keys in both.items()}
        index = torch.cat([state["slot_index"].cpu(), groups], 1)[:, -self.kept :]
        seen = seen + slots.shape[1] * self.rate
        return {**state, "slots": kept, "slot_index": index, "seen": seen, "left": seen.clone()}

    def _slots_after(self, state: State, leaving: Tensor | None, columns: Tensor | None) -> dict[str, Tensor]:
        """The slots once the tokens in the columns `leaving` of the state have become slots, of which `columns` stay."""
        slots: dict[str, Tensor] = state["slots"]
        if leaving is None or columns is None:
            return slots
        new = self._pooled(*(windows.take(state[kind], leaving) for kind in ("k", "v")))
        return {
            kind: windows.take(torch.cat([slots[kind], added], 2), columns)
            for kind, added in zip(("k", "v"), new, strict=True)
        }

    def _pooled(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if self.pool is None:
            raise UsageError("The mechanism must be attached to a model, or `make_weights` called, before it reads.")
        return self.pool(k, v)  # type: ignore[no-any-return]


class _Pool(nn.Module):
    """Keys and values of groups of tokens -> a key and a value for each group.

    Its input is divided by the root mean square of each head over a group, by which its output is multiplied again.
    """

    def __init__(self, heads: int, size: int, rate: int, code: int, hidden: int) -> None:
        super().__init__()
        self.shape, self.rate = (heads, size), rate
        width = 2 * heads * size
        self.share = nn.Linear(width, 2 * heads, bias=False)  # before the softmax over the tokens of a group
        self.share_by_place = nn.Parameter(torch.zeros(rate, 2 * heads))
        self.code = nn.Linear(width, code, bias=False)
        self.up, self.down = nn.Linear(rate * code, hidden), nn.Linear(hidden, width)
        for weight in (self.share.weight, self.down.weight, self.down.bias):
            nn.init.zeros_(weight)

    def forward(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (B, H, G * rate, K), k un-rotated -> (B, H, G, K) each."""
        kinds = torch.stack([k, v], 1).to(self.code.weight.dtype)
        groups = kinds.reshape(*kinds.shape[:3], -1, self.rate, k.shape[3]).permute(
            0, 3, 4, 1, 2, 5
        )  # (B, G, rate, 2, H, K)
        scale = (groups.square().mean((2, 5), keepdim=True) + 1e-12).sqrt()
        tokens = (groups / scale).flatten(3)
        shares = (self.share(tokens) + self.share_by_place).softmax(2).reshape(*groups.shape[:-1], 1)
        mean = (shares * groups).sum(2)
        residual = self.down(gelu(self.up(self.code(tokens).flatten(2)))).reshape(mean.shape)
        slots = (mean + scale[:, :, 0] * residual).permute(2, 0, 3, 1, 4).to(k.dtype)
        return slots[0], slots[1]


class _SlotRule(NamedTuple):
    window: windows.WindowRule
    rate: int
    slots: int


class _SlotUpdate(NamedTuple):
    """The slots after a segment, and what its queries see of them and of the window.

    Attributes:
        leaving: (R, G * rate) columns of the state's tokens that become slots, group by group; None: none.
        columns: (R, M) columns of (slots of the state, new slots) that stay; None: all slots stay as they are.
        mask: (R, S, M + N) bool; None: every query sees everything up to its own key.
        key_positions: (R, M + N).
        query_positions: (R, S).
        slot_index: (B, M) number of each slot's group, counted from 0; -1 in empty columns. On the CPU.
        left: (B,) number of tokens of each row that have left the window. On the CPU.
    """

    leaving: Tensor | None
    columns: Tensor | None
    mask: Tensor | None
    key_positions: Tensor
    query_positions: Tensor
    slot_index: Tensor
    left: Tensor


def _slot_update(
    rule: _SlotRule,
    update: windows.WindowUpdate,
    index: Tensor,
    slot_index: Tensor,
    left: Tensor,
    device: torch.device,
) -> _SlotUpdate:
    """The update of a state with tokens `index` (B, N), slots `slot_index` (B, M) and `left` (B,), by that of its window."""
    index, slot_index, left = index.cpu(), slot_index.cpu(), left.cpu()
    rows, rate, sinks = len(update.seen), rule.rate, rule.window.sinks
    with torch.inference_mode(False):  # an update computed while generating may be used in training
        alike = update.rows_alike and bool((slot_index == slot_index[:1]).all() and (left == left[:1]).all())
        count = 1 if alike else rows
        index, slot_index = index[:count], slot_index[:count]
        first, _ = windows.window_start(update.seen[:count], *rule.window)
        done = torch.maximum(left[:count, None], first)  # (R, 1)
        leaving, columns, slot_index = _leaving(rule, index, slot_index, left[:count, None], done)
        shift = (done // rate - rule.slots).clamp_min(0) * rate
        key, query = update.key_index.cpu(), update.query_index.cpu()
        mask = None
        if not alike:
            filled = (slot_index >= 0)[:, None] | (query < 0)[:, :, None]
            mask = torch.cat([filled, windows.visible(key, query).expand(count, -1, -1)], 2)
        middle = slot_index * rate + (rate - 1) // 2 - shift
        positions = torch.cat([middle, torch.where(key < sinks, key, key - shift).expand(count, -1)], 1)
        return _SlotUpdate(
            None if leaving is None else leaving.to(device),
            None if columns is None else columns.to(device),
            None if mask is None else mask.to(device),
            positions.clamp_min(0).to(device),
            (query - shift).clamp_min(0).to(device),
            slot_index.repeat(rows // count, 1),
            done.flatten().repeat(rows // count),
        )


def _leaving(
    rule: _SlotRule, index: Tensor, slot_index: Tensor, left: Tensor, done: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """`leaving`, `columns` and `slot_index` of a `_SlotUpdate` once tokens `left` to `done`, (R, 1) each, have left."""
    leaves = (index >= left) & (index < done)
    if not bool(leaves.any()):
        return None, None, slot_index
    leaving = windows.first_columns(leaves)
    groups = torch.where(leaves.gather(1, leaving), index.gather(1, leaving), -1)[:, :: rule.rate] // rule.rate
    slot_index = torch.cat([slot_index, groups], 1)
    stays = (slot_index >= 0) & (slot_index >= done // rule.rate - rule.slots)
    columns = windows.first_columns(stays)
    return leaving, columns, torch.where(stays.gather(1, columns), slot_index.gather(1, columns), -1)


# Tensors are compared by identity: layers whose states share their counts compute the update only once.
_slot_update_once = lru_cache(maxsize=32)(_slot_update)
