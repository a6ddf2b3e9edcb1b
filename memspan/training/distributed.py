"""A run in several processes, each with its share of every batch: what `torchrun` and `accelerate launch` start.

Every process draws the same batch and reads its own rows; gradients are added up once a step. That is what
`DistributedDataParallel` computes, without its hooks: they expect one pass backward for each forward, but here a stream
is cut, and after some cuts the rows of some process have no target.
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
    """The processes of a run and their collective operations. With a single process none of these does anything.

    Attributes:
        count: number of processes.
        index: of this process, from 0.
        main: whether this process is the one that measures and writes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.count: int = accelerator.num_processes
        self.index: int = accelerator.process_index
        self.main = self.index == 0
        if self.count > 1:  # several runs may follow one another: the processes stay together to their end
            atexit.unregister(_leave_group)
            atexit.register(_leave_group)

    def check(self, batch_size: int) -> None:
        """Raises UsageError unless a batch can be divided evenly among the processes."""
        if batch_size % self.count:
            raise UsageError(
                f"batch_size must be a multiple of the number of processes, {self.count}, got {batch_size}."
            )

    def broadcast_weights(self, model: nn.Module) -> None:
        """Copies the main process's weights to all processes."""
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
        """The tree with whole tensors instead of sharded ones; every process has to call this."""
        return pytree.tree_map(lambda leaf: leaf.full_tensor() if isinstance(leaf, DTensor) else leaf, tree)

    def shard_like(self, tensor: Tensor, other: Tensor) -> Tensor:
        """A whole tensor, sharded as `other` is, if it is."""
        tensor = tensor.to(other.device)
        if not isinstance(other, DTensor):
            return tensor
        return distribute_tensor(tensor, other.device_mesh, other.placements)

    # ---- rows

    def local_batch(self, batch: Batch) -> Batch:
        """The rows of this process."""
        return Batch(self._rows(batch.ids), self._rows(batch.targets), batch.fresh)

    def local_rows(self, state: State) -> State:
        """The rows of this process in the state of all."""
        return pytree.tree_map(lambda leaf: self._rows(leaf) if isinstance(leaf, Tensor) else leaf, state)

    def gather_rows(self, state: State) -> State:
        """The state of all rows, from each process its own: as one process would have it."""
        if self.count == 1:
            return state
        return pytree.tree_map(
            lambda leaf: self.accelerator.gather(leaf.contiguous()) if isinstance(leaf, Tensor) else leaf, state
        )

    def all_gather(self, tensor: Tensor) -> Tensor:
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
            torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=device)
        ).tolist()
        used = [parameter for parameter, often in zip(parameters, there, strict=True) if often]
        for dtype in {parameter.dtype for parameter in used}:
            alike = [parameter for parameter in used if parameter.dtype == dtype]
            added = self.all_reduce(
                torch.cat(
                    [(torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten() for weight in alike]
                )
            )
            sizes = [parameter.numel() for parameter in alike]
            for parameter, gradient in zip(alike, torch.split(added, sizes), strict=True):
                parameter.grad = gradient.view_as(parameter)

    def on_main(self, function: Callable[[], Value]) -> Value:
        """The result of `function`, which the main process alone calls."""
        if self.count == 1:
            return function()
        results = [function() if self.main else None]
        broadcast_object_list(results)
        return results[0]  # type: ignore[return-value]

    def _rows(self, tensor: Tensor) -> Tensor:
        own = len(tensor) // self.count
        return tensor[self.index * own : (self.index + 1) * own]


def check_alone(what: str) -> None:
    """Raises UsageError where a launcher started several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{what} must run in a single process: start it without torchrun or accelerate launch.")


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        listed = list(child) if isinstance(child, nn.ModuleList) else []
        for block in listed:
            yield from _blocks_of_list(block)
        if not listed:
            yield from _blocks(child)


def _blocks_of_list(module: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(module, nn.ModuleList):
        yield module
        return
    for block in module:
        yield from _blocks_of_list(block)


def _leave_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
