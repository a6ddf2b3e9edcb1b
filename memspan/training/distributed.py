"""A run in several processes, each with its share of every batch: what `torchrun` and `accelerate launch` start.

Every process draws the same batch and reads its own rows; gradients are added up once a step. That is what
`DistributedDataParallel` computes, without its hooks: they expect one pass backward for each forward, but here a stream
is read in pieces, and in some of them nothing is asked of the rows of some process.
"""

import atexit
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils import _pytree as pytree

from memspan.errors import UsageError
from memspan.state import State
from memspan.tasks import Batch

Value = TypeVar("Value")


class Processes:
    """What the processes of a run have to agree on. With one process nothing here does anything.

    Attributes:
        count: how many there are.
        index: which of them this is, from 0.
        main: this is the one that measures and writes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.count: int = accelerator.num_processes
        self.index: int = accelerator.process_index
        self.main = self.index == 0
        if self.count > 1:  # several runs may follow one another: the processes stay together to their end
            atexit.unregister(_part)
            atexit.register(_part)

    def check(self, rows: int) -> None:
        if rows % self.count:
            raise UsageError(
                f"{rows} rows cannot be divided evenly among {self.count} processes: make `rows` a multiple of "
                f"{self.count}."
            )

    def broadcast_weights(self, model: nn.Module) -> None:
        """Every process takes the weights of the main one."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in (*model.parameters(), *model.buffers()):
                    tensor.copy_(broadcast(tensor))

    # ---- a model that no process has the whole of

    def shard(self, model: nn.Module) -> None:
        """Weights, gradients and optimizer state are divided among the processes (FSDP2), in place.

        A block, an entry of the model's outermost `nn.ModuleList`, is put together while it is passed. After a pass
        backward gradients are the mean over the processes.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # nothing here changes outputs in place
        mesh = init_device_mesh(self.accelerator.device.type, (self.count,))
        for block in _blocks(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def full_tensor(self, tree: Any) -> Any:
        """The tree with whole tensors in the place of divided ones; every process has to ask."""
        return pytree.tree_map(lambda leaf: leaf.full_tensor() if isinstance(leaf, DTensor) else leaf, tree)

    def like(self, tensor: Tensor, other: Tensor) -> Tensor:
        """A whole tensor, divided as `other` is, if it is."""
        tensor = tensor.to(other.device)
        if not isinstance(other, DTensor):
            return tensor
        return distribute_tensor(tensor, other.device_mesh, other.placements)

    # ---- rows

    def share(self, batch: Batch) -> Batch:
        """The rows of this process."""
        return Batch(self._rows(batch.ids), self._rows(batch.targets), batch.fresh)

    def part(self, state: State) -> State:
        """The rows of this process in the state of all."""
        return pytree.tree_map(lambda leaf: self._rows(leaf) if isinstance(leaf, Tensor) else leaf, state)

    def whole(self, state: State) -> State:
        """The state of all rows, from each process its own: as one process would have it."""
        if self.count == 1:
            return state
        return pytree.tree_map(
            lambda leaf: self.accelerator.gather(leaf.contiguous()) if isinstance(leaf, Tensor) else leaf, state
        )

    def each(self, tensor: Tensor) -> Tensor:
        """What each process has, one below the other: (count, ...) on the CPU."""
        gathered: Tensor = self.accelerator.gather(tensor[None].to(self.accelerator.device))
        return gathered.cpu()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.count == 1:
            return tensor
        added: Tensor = self.accelerator.reduce(tensor, "sum")
        return added

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Every process gets the sum of all gradients; a parameter that none has a gradient of keeps none."""
        if self.count == 1:
            return
        device = self.accelerator.device
        there = self.all_reduce(
            torch.tensor([float(one.grad is not None) for one in parameters], device=device)
        ).tolist()
        used = [one for one, often in zip(parameters, there, strict=True) if often]
        for kind in {one.dtype for one in used}:
            alike = [one for one in used if one.dtype == kind]
            added = self.all_reduce(
                torch.cat(
                    [torch.zeros_like(one).flatten() if one.grad is None else one.grad.flatten() for one in alike]
                )
            )
            sizes = [one.numel() for one in alike]
            for one, gradient in zip(alike, torch.split(added, sizes), strict=True):
                one.grad = gradient.view_as(one)

    def on_main(self, function: Callable[[], Value]) -> Value:
        """What `function` returns in the main process, the only one to call it."""
        if self.count == 1:
            return function()
        told = [function() if self.main else None]
        broadcast_object_list(told)
        return told[0]  # type: ignore[return-value]

    def _rows(self, tensor: Tensor) -> Tensor:
        own = len(tensor) // self.count
        return tensor[self.index * own : (self.index + 1) * own]


def check_alone(what: str) -> None:
    """Raises UsageError where a launcher started several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{what} is done by one process: start it without torchrun or accelerate launch.")


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        listed = list(child) if isinstance(child, nn.ModuleList) else []
        for one in listed:
            yield from _blocks_of_list(one)
        if not listed:
            yield from _blocks(child)


def _blocks_of_list(module: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(module, nn.ModuleList):
        yield module
        return
    for one in module:
        yield from _blocks_of_list(one)


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
