"""The devices of a model: one, or several over which accelerate has spread its layers.

accelerate puts a hook on each module of a spread model. The hook moves the inputs to the device of the module, and where
weights do not fit, it loads them from main memory or from the safetensors on disk for the time of each forward pass; at all
other times they are on the device "meta", which has no numbers.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Device: TypeAlias = str | torch.device | Mapping[str, str | int | torch.device] | None

# Strategies of accelerate: "auto" is "balanced", which fills all GPUs alike, then main memory, then the disk.
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
OFFLOADED = ("cpu", "disk")  # where a map puts weights that run on another device


def device_map_of(device: Device) -> Any | None:
    """The `device_map` of transformers for a device argument that spreads a model; None if it names a single device."""
    if isinstance(device, Mapping):
        return dict(device)
    return device if device in STRATEGIES else None


def main_device_of(device: Mapping[str, str | int | torch.device]) -> str | int | torch.device:
    """The device on which a spread model computes what it holds elsewhere: the first that is neither main memory nor disk."""
    return next((found for found in device.values() if str(found) not in OFFLOADED), "cpu")


def is_spread(model: nn.Module) -> bool:
    """Whether hooks of accelerate move inputs, or weights, of a model."""
    return any(True for module in model.modules() for _ in _hooks(module))


def input_device(model: Any) -> torch.device:
    """The device on which a transformers model expects token ids: that of its embeddings while they run."""
    embeddings = model.get_input_embeddings()
    devices = [hook.execution_device for hook in _hooks(embeddings) if hook.execution_device is not None]
    device: torch.device = torch.device(devices[-1]) if devices else next(embeddings.parameters()).device
    return device


def with_numbers(model: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """The tensor `name` of a model, from where its hook loads it if it is on the device "meta"."""
    if tensor.device.type != "meta":
        return tensor
    module, _, own_name = name.rpartition(".")
    maps = [hook.weights_map for hook in _hooks(model.get_submodule(module)) if hook.weights_map is not None]
    return next((weights[own_name] for weights in maps if own_name in weights), tensor)


def kept_by_hooks(model: nn.Module) -> list[Any]:
    """What the hooks of a spread model hold of its weights: a copy of the model that shares its tensors shares these too."""
    hooks = [hook for module in model.modules() for hook in _hooks(module)]
    kept = [value for hook in hooks for value in (hook.weights_map, hook.tied_params_map)]
    return [value for value in kept if value is not None]


def _hooks(module: nn.Module) -> Iterator[Any]:
    """The hooks of accelerate on one module that say where it runs."""
    hook: Any = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):
        if hasattr(each, "execution_device") and hasattr(each, "weights_map"):
            yield each
