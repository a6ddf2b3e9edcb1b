"""Checkpoints on disk: any tree of tensors without a program in it, and folders that are whole at every moment."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from torch.utils import _pytree as pytree

from memspan.errors import MemspanError, UsageError


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


def check_output(folder: Path) -> None:
    """Raises UsageError for a folder that cannot be made, because a file has its name or that of one above it."""
    file = next((one for one in (folder, *folder.parents) if one.exists() and not one.is_dir()), None)
    if file is not None:
        raise UsageError(f"{file} is a file, so the output cannot be written to {folder}: choose another folder.")


def find(folder: Path) -> Path | None:
    """The checkpoint at `folder`, also where replacing it was interrupted; None if there is none."""
    return next((one for one in (folder, _retired(folder)) if one.is_dir()), None)


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which then takes the place of `folder`: at any moment one of them is there and whole."""
    new, old = folder.with_name(f".{folder.name}.new"), _retired(folder)
    try:
        if folder.is_dir() or new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        for path in new.iterdir():
            _flush(path)
        if folder.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise MemspanError(f"The checkpoint {folder} cannot be written: {error}.") from error


def _flush(path: Path) -> None:
    """What was written survives a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
