"""A state is a value: what a mechanism carries from one segment to the next.

A state is a pytree (tensors in dicts, tuples or lists, or `None` for "nothing yet") whose tensors all
have the batch as their first dimension, B. Nothing changes a state in place: every function here returns a new one, and
so does every mechanism.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # the one tree library that torch itself is built on

from memspan.errors import MemspanError

State = Any  # a pytree of tensors, batch first
LOSS, LOSS_COUNT = OBJECTIVE = ("loss", "loss_count")  # the keys of an objective, and of how many terms it is the mean


def tensors(state: State) -> list[Tensor]:
    """The tensors of `state`, in a fixed order."""
    return [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]


def _map(function: Callable[[Tensor], Tensor], state: State) -> State:
    return pytree.tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, state)


def detach(state: State) -> State:
    """The same values cut off from the graph that made them: truncated back-propagation through time.

    The losses that mechanisms leave in the state begin anew with their counts, from zero: in a mean over all that was read,
    what has gradients would count for less and less.
    """

    def cut(path: tuple[Any, ...], leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return torch.zeros_like(leaf) if _last_key(path) in OBJECTIVE else leaf.detach()

    return pytree.tree_map_with_path(cut, state)


def select(state: State, rows: Tensor) -> State:
    """The batch rows `rows` (R,) int64, in that order, repeats allowed: beam search, forks of a conversation."""
    return _map(lambda leaf: leaf.index_select(0, rows.to(leaf.device)), state)


def reset(state: State, initial: State, fresh: Tensor) -> State:
    """`state` with the rows where `fresh` (B,) bool is true taken from `initial`: a new document begins there.

    Both states must have the same shapes.
    """

    def blend(old: Any, new: Any) -> Any:
        if not isinstance(old, Tensor):
            return old
        return torch.where(fresh.to(old.device).view(-1, *[1] * (old.dim() - 1)), new, old)

    return pytree.tree_map(blend, state, initial)


def share(state: State) -> State:
    """The same values, but an integer tensor equal to the last one of its shape becomes that very tensor.

    Layers that read the same tokens count them alike. Sharing the counts saves their memory, and lets a mechanism work
    out once for all layers what follows from them.
    """
    last: dict[tuple[Any, ...], Tensor] = {}

    def known(leaf: Tensor) -> Tensor:
        kind = (leaf.shape, leaf.dtype, leaf.device)
        other = last.get(kind)
        if leaf.is_floating_point() or other is leaf:
            return leaf
        if other is not None and torch.equal(other, leaf):
            return other
        last[kind] = leaf
        return leaf

    return _map(known, state)


def losses(state: State) -> list[Tensor]:
    """What mechanisms with an objective of their own left in `state` under the key "loss", of what was read since gradients
    were cut last (`detach`): tensors (B,)."""
    return [leaf for path, leaf in pytree.tree_flatten_with_path(state)[0] if _last_key(path) == LOSS]


def with_losses(state: State, total: Tensor, number: Tensor | int) -> dict[str, Tensor]:
    """The keys "loss" and "loss_count" after `number` more terms of an objective: (B,), their mean and how many there are.

    Args:
        state: with these keys; None before the first term.
        total: the sum of the terms, (B,).
        number: how many they are, of each row (B,) or of every row.
    """
    total = total.to(torch.promote_types(total.dtype, torch.float32))
    mean, count = (torch.zeros_like(total),) * 2 if state is None else (state[LOSS], state[LOSS_COUNT])
    count = count + number
    return {LOSS: mean + (total - number * mean) / count.clamp_min(1), LOSS_COUNT: count}


def _last_key(path: tuple[Any, ...]) -> Any:
    return getattr(path[-1], "key", None) if path else None


def batch_size(state: State) -> int | None:
    """The number of rows B; None for a state without tensors."""
    return next((leaf.shape[0] for leaf in tensors(state)), None)


def nbytes(state: State) -> int:
    """Bytes of memory that `state` holds: a storage counts once and whole, also where a tensor views a part of it."""
    storages = [leaf.untyped_storage() for leaf in tensors(state)]
    return sum({(storage.device, storage.data_ptr()): storage.nbytes() for storage in storages}.values())


def pack(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """A state, or any tree of dicts, lists and tuples, as named tensors, and its form as JSON: without a program in it.

    Raises MemspanError for anything else in the tree, such as a named tuple: its class would have to be imported.
    """
    tensors: dict[str, Tensor] = {}

    def form_of(node: Any) -> Any:
        kind = type(node)
        if kind is dict:
            return {"dict": [[key, form_of(value)] for key, value in node.items()]}
        if kind in (list, tuple):
            return {kind.__name__: [form_of(value) for value in node]}
        if isinstance(node, Tensor):
            name = str(len(tensors))
            tensors[name] = node.detach().contiguous().clone()
            return {"tensor": name}
        if node is None or kind in (bool, int, float, str):
            return {"value": node}
        raise MemspanError(
            f"What is saved must be made of dicts, lists, tuples, tensors and plain values, got a {kind.__name__}: let the "
            "state of the mechanism hold these."
        )

    return tensors, form_of(tree)


def unpack(tensors: Mapping[str, Tensor], form: Any) -> Any:
    """The tree that `pack` took apart. Raises ValueError, KeyError or TypeError for any other form."""
    ((kind, content),) = form.items()
    if kind == "dict":
        return {key: unpack(tensors, value) for key, value in content}
    if kind in ("list", "tuple"):
        values = [unpack(tensors, value) for value in content]
        return values if kind == "list" else tuple(values)
    if kind == "tensor":
        return tensors[content]
    if kind == "value":
        return content
    raise ValueError(f"a checkpoint has no '{kind}'")
