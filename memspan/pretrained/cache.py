"""The memory of one request, in the form of a transformers cache, and the forward passes that change it.

Letters: B batch, S tokens of a forward pass, Hq query heads, H key heads, K head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from memspan import state as states
from memspan.errors import UsageError
from memspan.mechanisms import KVMechanism
from memspan.mechanisms.layers.attention import Rotate, attend
from memspan.pretrained.rotary import IdentityRotary


class _Count:
    """The number of tokens read: shared by a cache and its layers, which must not refer to the cache itself.

    A cycle of references would keep the cache's tensors until Python's garbage collector finds it.
    """

    def __init__(self) -> None:
        self.seen = 0


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """A layer of the cache that returns the keys and values of the current segment only: the mechanism stores the rest."""

    is_sliding = False
    is_croppable = False

    def __init__(self, count: _Count) -> None:
        super().__init__()
        self._count = count

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return key_states, value_states

    def get_seq_length(self) -> int:
        return self._count.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._count.seen + query_length, 0

    def get_max_length(self) -> int:
        return -1


class MemoryCache(Cache):  # type: ignore[misc]
    """The memory of one request: a state per layer, and how many tokens were read.

    It stands in for `DynamicCache` in `forward` and `generate`. Beam search and `num_return_sequences` work; assisted
    decoding does not, because a memory has no `crop`.

    Attributes:
        mechanisms: one per layer.
        states: the state of each layer's mechanism.
        seen: number of tokens read, padding included, as transformers counts them.
        text_tokens: number of tokens read without padding: an int, or (B, 1) int64 once rows differ.
    """

    def __init__(self, mechanisms: Sequence[KVMechanism]) -> None:
        self._count = _Count()
        super().__init__(layers=[_Layer(self._count) for _ in mechanisms])
        self.mechanisms = tuple(mechanisms)
        self.reset()

    @property
    def seen(self) -> int:
        return self._count.seen

    @seen.setter
    def seen(self, count: int) -> None:
        self._count.seen = count

    def begin(self, length: int, valid: Tensor | None) -> "ForwardStep":
        """A forward pass over `length` tokens, of which `valid` (B, S) bool are text; None means all."""
        return ForwardStep(self, length, valid)

    @property
    def nbytes(self) -> int:
        """Bytes of all the states."""
        return states.nbytes(self.states)

    def reset(self) -> None:
        """Forget everything."""
        self.states: tuple[states.State, ...] = (None,) * len(self.mechanisms)
        self.seen = 0
        self.text_tokens: int | Tensor = 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows `beam_idx` (B,) int64, in that order, repeats allowed."""
        self.states = states.share(states.select(self.states, beam_idx))
        self.text_tokens = states.select(self.text_tokens, beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        batch_size = states.batch_size(self.states)
        if batch_size is not None:
            self.reorder_cache(torch.arange(batch_size).repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        raise UsageError(
            "A memory does not support cropping, because what was read stays read; decode without an assistant model."
        )


class ForwardStep:
    """One forward pass: the states before it, and the states after it, which are stored only once it has succeeded.

    Reading `before` and writing `after` by layer makes a replay by activation checkpointing harmless.

    Attributes:
        before: the states before the pass, one per layer.
        after: the new state of each layer that has run, by layer number.
    """

    def __init__(self, cache: MemoryCache, length: int, valid: Tensor | None) -> None:
        self.cache, self.length, self.valid = cache, length, valid
        self.before: tuple[states.State, ...] = cache.states
        self.after: dict[int, states.State] = {}
        self._seen_after = cache.seen + length
        self._tables: dict[Any, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotate: Rotate | None, **options: Any) -> Tensor:
        """q (B, Hq, S, K), k, v (B, H, S, K) -> (B, Hq, S, K), chunk by chunk; `options` are those of `attend`."""
        mechanism, state, start, outputs = self.cache.mechanisms[layer], self.before[layer], 0, []
        whole = None if self.valid is None else self.valid.to(q.device)  # layers may be on several devices
        for length in mechanism.split_lengths(self.length, state, whole):
            chunk = slice(start, start + length)
            valid = None if whole is None else whole[:, chunk]
            recalled, state = mechanism.recall(q[:, :, chunk], k[:, :, chunk], v[:, :, chunk], state, valid)
            outputs.append(attend(q[:, :, chunk], recalled, rotate, **options))
            start += length
        self.after[layer] = state
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)

    def position_bound(self, layer: int) -> int:
        """The number that all positions assigned by this layer's mechanism in this pass lie below."""
        capacity = self.cache.mechanisms[layer].capacity()
        return self._seen_after if capacity is None else min(capacity, self._seen_after)

    def cos_sin(
        self, rotary: IdentityRotary, x: Tensor, positions: Tensor, layer_type: str | None, bound: int
    ) -> tuple[Tensor, Tensor]:
        """cos and sin of `positions`; while decoding, those of one layer are reused by the next."""
        if self.length > 1:
            return rotary.at(x, positions, layer_type, bound)
        key = (positions, x.dtype, layer_type, bound)  # tensors are compared by identity
        if key not in self._tables:
            self._tables[key] = rotary.at(x, positions, layer_type, bound)
        return self._tables[key]

    def commit(self) -> None:
        """Store the new states in the cache and count the tokens."""
        cache = self.cache
        cache.states = states.share(tuple(self.after.get(layer, state) for layer, state in enumerate(self.before)))
        cache.seen += self.length
        cache.text_tokens = cache.text_tokens + (self.length if self.valid is None else self.valid.sum(1, keepdim=True))
