"""Keys and queries of chosen attention heads, by running only the layers that are needed.

A head is (layer, query head); several query heads share one key-value head (grouped-query attention).
Letters: B batch, S tokens, G key-value heads kept, H query heads chosen, K head size.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memspan.errors import UnsupportedModel
from memspan.mechanisms import keep_everything
from memspan.mechanisms.layers.attention import Rotate
from memspan.pretrained.cache import ForwardStep, MemoryCache
from memspan.pretrained.decoding import shared_copy
from memspan.pretrained.hooks import Attachment
from memspan.pretrained.support import find_causal_lm

Head = tuple[int, int]


class _Noted(NamedTuple):
    """What went into the attention of a layer."""

    q: Tensor  # (B, Hq, S, K) un-rotated
    k: Tensor  # (B, H, S, K) un-rotated
    scale: float  # of the scores


class _Enough(Exception):
    """The last layer that was asked for has been seen; the rest of the forward is not needed."""


class _Tap(MemoryCache):
    """A cache for one forward over independent segments that notes what goes into the attention of some layers."""

    def __init__(self, layers: int, wanted: frozenset[int]) -> None:
        super().__init__([keep_everything()] * layers)
        self.wanted, self.last = wanted, max(wanted)
        self.noted: dict[int, _Noted] = {}

    def begin(self, length: int, valid: Tensor | None) -> ForwardStep:
        return _TapStep(self, length, valid)


class _TapStep(ForwardStep):
    def __init__(self, tap: _Tap, length: int, valid: Tensor | None) -> None:
        super().__init__(tap, length, valid)
        self._tap = tap

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotate: Rotate | None, **options: Any) -> Tensor:
        if layer in self._tap.wanted:
            scale = q.shape[3] ** -0.5 if options["scale"] is None else options["scale"]
            self._tap.noted[layer] = _Noted(q, k, float(scale))
        if layer == self._tap.last:
            raise _Enough
        output = super().attend(layer, q, k, v, rotate, **options)
        self.after.clear()  # nothing of this segment is to be remembered
        return output


class HeadReader:
    """Reads segments with a model whose hooks are its own: it shares the weights of `model` and leaves it untouched.

    Attributes:
        layers, query_heads, key_heads, head_size: the shape of the model's attention, the same in every layer.
        scale: what the model's attention multiplies the products of queries and keys by.

    Raises:
        UnsupportedModel: the model cannot be given a memory, or its layers have heads of different shapes.
    """

    def __init__(self, model: nn.Module) -> None:
        causal_lm = find_causal_lm(model)
        self._model = shared_copy(causal_lm).eval()
        self._attachment = Attachment(self._model, lambda: MemoryCache([keep_everything()] * self.layers))
        self._attachment.attach()
        self.layers: int = self._attachment.config.num_hidden_layers
        token = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        noted = self._noted(token, frozenset(range(self.layers)), None).values()
        shapes = {(one.q.shape[1], *one.k.shape[1::2], one.scale) for one in noted}
        if len(shapes) > 1:
            raise UnsupportedModel(
                f"The heads of {type(causal_lm).__name__} differ from layer to layer in number, size or scale, "
                "so their keys cannot be kept side by side."
            )
        self.query_heads, self.key_heads, self.head_size, self.scale = shapes.pop()

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
    def _noted(self, ids: Tensor, wanted: frozenset[int], valid: Tensor | None) -> dict[int, _Noted]:
        tap = _Tap(self.layers, wanted)
        try:
            self._attachment.base(
                input_ids=ids, attention_mask=valid, **{self._attachment.cache_name: tap}, use_cache=True
            )
        except _Enough:
            return tap.noted
        raise AssertionError("the forward never reached the last layer that was asked for")

    def keys(self, ids: Tensor, heads: Sequence[Head], valid: Tensor | None = None) -> Tensor:
        """Un-rotated keys (B, S, G, K) of the key-value heads `heads` for segments `ids` (B, S) int64.

        `valid` (B, S) is zero at padding. Layers above the last of `heads` are not run.
        """
        noted = self._noted(ids, frozenset(layer for layer, _ in heads), valid)
        return torch.stack([noted[layer].k[:, head] for layer, head in heads], 2)

    def queries(self, ids: Tensor, heads: Sequence[Head], valid: Tensor | None = None) -> Tensor:
        """Un-rotated queries (B, S, H, K) of the query heads `heads` for segments `ids` (B, S) int64."""
        noted = self._noted(ids, frozenset(layer for layer, _ in heads), valid)
        return torch.stack([noted[layer].q[:, head] for layer, head in heads], 2)

    def all_layers(self, ids: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(layer, queries (B, S, Hq, K), keys (B, S, H, K)) of every layer: for calibration."""
        noted = self._noted(ids, frozenset(range(self.layers)), None)
        for layer, one in sorted(noted.items()):
            yield layer, one.q.transpose(1, 2), one.k.transpose(1, 2)
