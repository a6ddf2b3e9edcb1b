"""Rotary embeddings taken out of a model's layers, so that its attention can rotate keys to new positions at every use.

Letters: B batch, S tokens, N keys, R rotary size (the part of a head that is rotated).
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from memspan.pretrained.families import FAMILIES

_SHORTEST_TABLE = 1024  # positions of the smallest table of cos and sin; longer tables are made as texts grow

_making_tables = Lock()  # some rotary embeddings change their own buffers during a forward pass


class IdentityRotary(nn.Module):
    """The stand-in for a model's rotary embedding: it returns cos 1 and sin 0, so keys reach the cache un-rotated.

    The attention function takes the real cos and sin from `at`. They come from tables that the model's own embedding
    computes for a text of a certain length. Positions stay inside the trained window, so scaled variants (YaRN, NTK, long
    rope) behave as they do on a text of that length.

    Args:
        real: the model's own embedding.
        trained: number of positions that it serves before it is scaled for longer texts.
    """

    def __init__(self, real: nn.Module, trained: int) -> None:
        super().__init__()
        self.real = real
        self.config = getattr(real, "config", None)
        self.by_layer_type = "layer_type" in inspect.signature(real.forward).parameters
        self._trained = trained
        self._tables: dict[Any, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> tuple[Tensor, Tensor]:
        """position_ids (B, S) -> cos and sin (B, S, R) of no rotation."""
        cos, _ = self._table(x, layer_type, 1)
        identity = cos.new_ones(*position_ids.shape, cos.shape[-1])
        return identity, torch.zeros_like(identity)

    def at(self, x: Tensor, positions: Tensor, layer_type: str | None, bound: int) -> tuple[Tensor, Tensor]:
        """cos and sin (B, N, R) of `positions` (B, N) int64, all below `bound`, in the dtype of `x`."""
        cos, sin = self._table(x, layer_type, bound)
        return cos[positions], sin[positions]

    def _table(self, x: Tensor, layer_type: str | None, bound: int) -> tuple[Tensor, Tensor]:
        """cos and sin (length, R) of all positions of a table that is at least `bound` long."""
        length = _SHORTEST_TABLE
        while length < bound:
            length *= 2
        if bound <= self._trained:
            length = min(length, self._trained)
        key = (layer_type, length, x.dtype, x.device)
        if key not in self._tables:
            arguments = (layer_type,) if self.by_layer_type else ()
            with _making_tables, torch.inference_mode(False), torch.no_grad():
                cos, sin = self.real(x.new_empty(1), torch.arange(length, device=x.device)[None], *arguments)
            self._tables[key] = (cos[0].to(x.device), sin[0].to(x.device))  # of a layer on another device than `real`
        return self._tables[key]


@cache
def rotation_of(module_name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The rotation (x, cos, sin) -> x of a modeling file of transformers. Families pair the channels differently."""
    apply = sys.modules[module_name].apply_rotary_pos_emb
    if "k" not in inspect.signature(apply).parameters:
        return lambda x, cos, sin: apply(x, cos, sin)
    return lambda x, cos, sin: apply(x, x[:, :0], cos, sin)[0]  # it rotates a pair: `x`, and an `x` without heads


def rotates(attention: nn.Module, layer: int, config: Any) -> bool:
    """Whether the attention module of this layer rotates its keys."""
    family = FAMILIES.get(config.model_type)
    if family is not None and family.rotary_layers in (getattr(config, "layer_types", None) or ()):
        return bool(config.layer_types[layer] == family.rotary_layers)
    return bool(getattr(attention, "use_rope", True))


def trained_positions(config: Any) -> int:
    """Number of positions that the model's rotary embedding serves before it is scaled for longer texts."""
    rope = getattr(config, "rope_parameters", None) or {}
    by_layer_type = [parameters for parameters in rope.values() if isinstance(parameters, Mapping)]
    originals = [parameters.get("original_max_position_embeddings") for parameters in (rope, *by_layer_type)]
    return min((int(count) for count in originals if count is not None), default=int(config.max_position_embeddings))
