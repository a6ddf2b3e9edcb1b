"""Keys and queries of chosen attention heads, by running only the layers that are needed.

A head is (layer, query head); several query heads share one key-value head (grouped-query attention).
Letters: B batch, S tokens, G key-value heads kept, H query heads chosen, K head size.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn

from memspan.mechanisms import Recalled, SinkWindow
from memspan.models.huggingface import Attachment, MemoryCache, Step, find_causal_lm

Head = tuple[int, int]


class _Enough(Exception):
    """The last layer that was asked for has been seen; the rest of the forward is not needed."""


class _Tap(MemoryCache):
    """A cache for one forward over independent segments that notes un-rotated queries and keys of some layers."""

    def __init__(self, layers: int, wanted: frozenset[int]) -> None:
        super().__init__([SinkWindow(sinks=0, window=None)] * layers)
        self.wanted, self.last = wanted, max(wanted)
        self.noted: dict[int, tuple[Tensor, Tensor]] = {}

    def begin(self, length: int, valid: Tensor | None) -> Step:
        return _TapStep(self, length, valid)


class _TapStep(Step):
    def __init__(self, tap: _Tap, length: int, valid: Tensor | None) -> None:
        super().__init__(tap, length, valid)
        self._tap = tap

    def recall(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Iterator[tuple[slice, Recalled]]:
        if layer in self._tap.wanted:
            self._tap.noted[layer] = (q, k)
        if layer == self._tap.last:
            raise _Enough
        yield from super().recall(layer, q, k, v)


class HeadReader:
    """Reads segments with a model whose hooks are its own: it shares the weights of `model` and leaves it untouched."""

    def __init__(self, model: nn.Module) -> None:
        causal_lm = find_causal_lm(model)
        shared = {id(tensor): tensor for tensor in chain(causal_lm.parameters(), causal_lm.buffers())}
        self._model = deepcopy(causal_lm, memo=shared)  # new modules, the same tensors
        config = self._model.config.get_text_config()
        self.layers: int = config.num_hidden_layers
        self.query_heads: int = config.num_attention_heads
        self.key_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.head_size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        attention = next((module for module in self._model.modules() if hasattr(module, "scaling")), None)
        self.scale = float(self.head_size**-0.5 if attention is None else attention.scaling)
        self._attachment = Attachment(self._model, lambda: MemoryCache([SinkWindow(window=None)] * self.layers))
        self._attachment.attach()

    @property
    def device(self) -> torch.device:
        """Where the segments are to be."""
        first: Tensor = next(self._model.parameters())
        return first.device

    def key_head(self, head: Head) -> Head:
        """The (layer, key-value head) whose keys the query head `head` reads."""
        layer, query_head = head
        return layer, query_head // (self.query_heads // self.key_heads)

    @torch.inference_mode()
    def _noted(self, ids: Tensor, wanted: frozenset[int], valid: Tensor | None) -> dict[int, tuple[Tensor, Tensor]]:
        tap = _Tap(self.layers, wanted)
        try:
            self._attachment.base(input_ids=ids, attention_mask=valid, past_key_values=tap, use_cache=True)
        except _Enough:
            return tap.noted
        raise AssertionError("the forward never reached the last layer that was asked for")

    def keys(self, ids: Tensor, heads: Sequence[Head], valid: Tensor | None = None) -> Tensor:
        """Un-rotated keys (B, S, G, K) of the key-value heads `heads` for segments `ids` (B, S) int64.

        `valid` (B, S) is zero at padding. Layers above the last of `heads` are not run.
        """
        noted = self._noted(ids, frozenset(layer for layer, _ in heads), valid)
        return torch.stack([noted[layer][1][:, head] for layer, head in heads], 2)

    def queries(self, ids: Tensor, heads: Sequence[Head], valid: Tensor | None = None) -> Tensor:
        """Un-rotated queries (B, S, H, K) of the query heads `heads` for segments `ids` (B, S) int64."""
        noted = self._noted(ids, frozenset(layer for layer, _ in heads), valid)
        return torch.stack([noted[layer][0][:, head] for layer, head in heads], 2)

    def all_layers(self, ids: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(layer, queries (B, S, Hq, K), keys (B, S, H, K)) of every layer: for calibration."""
        noted = self._noted(ids, frozenset(range(self.layers)), None)
        for layer, (queries, keys) in sorted(noted.items()):
            yield layer, queries.transpose(1, 2), keys.transpose(1, 2)
