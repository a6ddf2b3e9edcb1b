"""A cache of keys and values whose tensors have room for tokens to come.

The cache of transformers is copied with every token: with a prompt of 600 tokens, this took a tenth of the time of an answer.

Letters: B batch, H key heads, S new tokens, N tokens so far, K head size.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

_LEAST_ROOM = 256  # tokens for which a layer makes room at least


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of the cache; its keys and values are the beginning of larger tensors."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._rooms = [_room(states, 0) for states in (key_states, value_states)]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """key_states, value_states (B, H, S, K) -> (B, H, N + S, K) each, which the next call overwrites behind N + S."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        for index, states in enumerate((key_states, value_states)):
            if after > self._rooms[index].shape[-2]:
                larger = _room(states, after)
                larger[..., :before, :] = self._rooms[index][..., :before, :]
                self._rooms[index] = larger
            self._rooms[index][..., before:after, :] = states
        self.keys, self.values = (room[..., :after, :] for room in self._rooms)
        return self.keys, self.values


def growing_cache(config: Any) -> Cache:
    """The cache of transformers for a model with this configuration, with room in its layers of full attention."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def can_step_back(cache: Cache) -> bool:
    """Whether the last tokens can be taken out of a cache at any time, which windows and recurrent states do not allow."""
    return bool(cache.layers) and all(type(layer) is GrowingLayer for layer in cache.layers)


def _room(states: Tensor, tokens: int) -> Tensor:
    """Memory for keys or values like `states` of this number of tokens, and for a quarter more."""
    shape = list(states.shape)
    shape[-2] = tokens + max(_LEAST_ROOM, tokens // 4) if tokens else 0
    return torch.empty(shape, dtype=states.dtype, device=states.device)
