"""A state is a value: what a mechanism carries from one segment to the next.

A state is a pytree (tensors in dicts, tuples, lists or named tuples, or `None` for "nothing yet") whose tensors all have
the batch as their first dimension, B. Nothing here changes a state in place: every function returns a new one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # the one tree library that torch itself is built on

State = Any  # a pytree of tensors, batch first


def _map(function: Callable[[Tensor], Tensor], state: State) -> State:
    return pytree.tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, state)


def detach(state: State) -> State:
    """The same values cut off from the graph that made them: truncated back-propagation through time."""
    return _map(Tensor.detach, state)


def select(state: State, rows: Tensor) -> State:
    """The batch rows `rows` (R,) int64, in that order and with repeats allowed: beam search, forks of a conversation."""
    return _map(lambda leaf: leaf.index_select(0, rows.to(leaf.device)), state)


def reset(state: State, initial: State, fresh: Tensor) -> State:
    """`state` with the rows where `fresh` (B,) bool is true replaced by those of `initial`: a new document begins there.

    Both states must have the same shapes.
    """

    def blend(old: Any, new: Any) -> Any:
        if not isinstance(old, Tensor):
            return old
        return torch.where(fresh.view(-1, *[1] * (old.dim() - 1)), new, old)

    return pytree.tree_map(blend, state, initial)


def nbytes(state: State) -> int:
    """Bytes held by the tensors of `state`; a storage shared by two tensors is counted for each view's own elements."""
    return sum(leaf.numel() * leaf.element_size() for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor))
