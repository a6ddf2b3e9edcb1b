"""Linear layers whose weights are laid out for products with few rows, such as those of decoding on a CPU.

torch keeps a weight row by row, and oneDNN rearranges it for every product; with a single row, that takes almost half of the
time. Here a second copy of the weight is kept in the layout of oneDNN. In bfloat16 the results are the same to the bit. In
float32 they are rounded in another order than those of torch, but in the same for one row as for many where that was measured
(AVX2): a token gets the same result in a step of its own and in a common one.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SHARE = 3  # the copies take at most this part of the memory that is free: one third
_UNKNOWN_MEMORY = 3 * 2**30  # bytes that are taken to be free where the system does not tell
_SAMPLED = 64  # numbers of a weight by which a change of it is noticed
_ROWS = {torch.bfloat16: 1, torch.float32: 8}  # for which the layout is chosen; it is a good one for others too


class PackedLinear(nn.Linear):
    """A linear layer around the tensors of another; it computes as that layer does until it is packed."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._packed: Any = None
        self._packed_from: tuple[int, int, Tensor] | None = None

    @property
    def is_current(self) -> bool:
        """Whether it is packed and the weight is still the one that was packed: training and adapters change it in place."""
        if self._packed_from is None:
            return False
        (address, version, sample), (old_address, old_version, old_sample) = self._state(), self._packed_from
        return (address, version) == (old_address, old_version) and torch.equal(sample, old_sample)

    def pack(self) -> None:
        """Copies the weight in the layout of oneDNN."""
        self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), _ROWS[self.weight.dtype])
        self._packed_from = self._state()

    def forward(self, input: Tensor) -> Tensor:
        """input (..., I) -> (..., O)."""
        if self._packed is None or torch.is_grad_enabled() or input.dtype != self.weight.dtype:
            return functional.linear(input, self.weight, self.bias)
        return _product(input, self._packed, self.bias)

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed copy, which can neither be copied nor saved: a copy of the layer is packed anew."""
        return {**vars(self), "_packed": None, "_packed_from": None}

    def _state(self) -> tuple[int, int, Tensor]:
        weight = self.weight.detach()
        sample = weight.view(-1)[:: max(1, weight.numel() // _SAMPLED)].clone()
        return weight.data_ptr(), self.weight._version, sample


def replace_linear(model: nn.Module) -> list[PackedLinear]:
    """Puts a `PackedLinear` in place of every linear layer of a model for which it is of use; returns them."""
    replaced: dict[nn.Module, PackedLinear] = {}
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and _is_packable(child):
                setattr(module, name, replaced.setdefault(child, PackedLinear(child)))
    return list(replaced.values())


def pack(layers: Sequence[PackedLinear]) -> None:
    """Packs the layers that are not packed or whose weights have changed, as far as memory for all of the copies is free."""
    stale = [layer for layer in layers if not layer.is_current]
    missing = sum(layer.weight.nbytes for layer in stale if layer._packed is None)
    if stale and missing * SHARE <= free_memory():
        for layer in stale:
            layer.pack()


def free_memory() -> int:
    """Bytes of main memory that this process may still use, by Linux and by the limits of its control group."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("utf-8").splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return _UNKNOWN_MEMORY
    try:
        limit, used = (
            int(Path("/sys/fs/cgroup", name).read_text("utf-8")) for name in ("memory.max", "memory.current")
        )
    except (OSError, ValueError):  # "max" is no limit
        return free
    return min(free, max(0, limit - used))


@cache
def is_supported(dtype: torch.dtype = torch.bfloat16) -> bool:
    """Whether this build of torch and this processor have the products for weights of this type, and they are right."""
    if dtype not in _ROWS or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    weight = torch.linspace(-1, 1, 32 * 48).view(32, 48).to(dtype)
    input = torch.linspace(1, -1, 3 * 48).view(3, 48).to(dtype)
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS[dtype])
        return torch.allclose(
            _product(input, packed, None).float(), input.float() @ weight.float().T, atol=0.1, rtol=0.02
        )
    except (AttributeError, RuntimeError):  # names of torch that are not public, and may go
        return False


def _product(input: Tensor, packed: Any, bias: Tensor | None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")
    return output


def _is_packable(linear: nn.Linear) -> bool:
    weight = linear.weight
    return (
        weight.device.type == "cpu"
        and weight.is_contiguous()
        and not weight.is_inference()
        and not (linear._forward_hooks or linear._forward_pre_hooks)
        and "forward" not in vars(linear)  # accelerate replaces it where a model is spread over devices
        and is_supported(weight.dtype)
    )
