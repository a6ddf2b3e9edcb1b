"""Several texts in a single forward pass, each with a cache of its own.

The next tokens of all texts are read behind each other, as if they were those of a single text: linear layers, norms and
activations work token by token anyhow, and the weights, which a step on a CPU waits for, are read once. Only attention has to
know which token belongs to which text: it is computed text by text, as a step of that text alone computes it. No text is
padded, and texts join and leave between any two passes.

Letters: S tokens of all texts together, N keys of a text, Hq query heads, H key heads, K head size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

Attend = Callable[..., tuple[Tensor, None]]

_CURRENT: ContextVar["Rows | None"] = ContextVar("rows of the forward pass", default=None)


def current_rows() -> "Rows | None":
    """The texts of the forward pass that is under way in this thread; None where it reads a single text."""
    return _CURRENT.get()


class Rows(Cache):  # type: ignore[misc]
    """The caches of several texts, in the guise of the cache of a single text.

    Attributes:
        sizes: tokens that are read of each text.
        positions: of these tokens in their texts, int64 (1, S).
    """

    def __init__(self, caches: Sequence[Cache], sizes: Sequence[int], device: torch.device) -> None:
        super().__init__(layers=list(caches[0].layers))
        self.sizes, self._caches = list(sizes), tuple(caches)
        before = [cache.get_seq_length() for cache in caches]
        positions = [torch.arange(start, start + size) for start, size in zip(before, sizes, strict=True)]
        self.positions = torch.cat(positions)[None].to(device)
        self._masks = [
            None
            if size == 1
            else torch.ones(size, start + size, dtype=torch.bool, device=device).tril(start)[None, None]
            for start, size in zip(before, sizes, strict=True)
        ]
        self._read: list[tuple[Tensor, Tensor]] = []  # keys and values of each text, in the layer at hand

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within, attention is computed text by text."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """key_states, value_states (1, H, S, K), which are returned as they are: `attention` has the keys of each text."""
        keys, values = torch.split(key_states, self.sizes, 2), torch.split(value_states, self.sizes, 2)
        self._read = [
            cache.update(key, value, layer_idx, *args, **kwargs)
            for cache, key, value in zip(self._caches, keys, values, strict=True)
        ]
        return key_states, value_states

    def attention(self, attention: Attend, module: nn.Module, query: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
        """query (1, Hq, S, K) -> (1, S, Hq, K), by the attention function of a single text."""
        outputs = [
            attention(module, part, keys, values, mask, **kwargs)[0]
            for part, (keys, values), mask in zip(
                torch.split(query, self.sizes, 2), self._read, self._masks, strict=True
            )
        ]
        return torch.cat(outputs, 1), None
