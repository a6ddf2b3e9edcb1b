"""Any tree of tensors as named tensors and JSON, without a program in it."""

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


def pack(tree: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Any pytree as named tensors and JSON: its form, and those of its leaves that are no tensors."""
    leaves, form = pytree.tree_flatten(tree)
    tensors = {str(place): leaf.detach().contiguous().clone() for place, leaf in enumerate(leaves) if _is_tensor(leaf)}
    values = {str(place): leaf for place, leaf in enumerate(leaves) if not _is_tensor(leaf)}
    return tensors, {"tree": pytree.treespec_dumps(form), "values": values}


def unpack(tensors: dict[str, Tensor], form: dict[str, Any]) -> Any:
    """The pytree that `pack` took apart."""
    leaves = {**tensors, **form["values"]}
    tree = pytree.treespec_loads(form["tree"])
    return pytree.tree_unflatten([leaves[str(place)] for place in range(len(leaves))], tree)


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Tensor)
