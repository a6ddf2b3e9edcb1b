"""Keys and queries of chosen attention heads, and hidden states, computed by running only the layers that are needed.

A head is (layer, query head); several query heads share one key-value head (grouped-query attention).
Letters: B batch, S tokens, G key-value heads kept, H query heads chosen, K head size, L layers chosen, D hidden size.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memspan.errors import UnsupportedModel
from memspan.mechanisms import keep_everything
from memspan.mechanisms.layers.attention import Rotate
from memspan.pretrained.cache import ForwardStep, MemoryCache
from memspan.pretrained.decoding import shared_copy
from memspan.pretrained.hooks import Attachment
from memspan.pretrained.placement import input_device
from memspan.pretrained.support import find_causal_lm

Head = tuple[int, int]


class _Inputs(NamedTuple):
    """The inputs of the attention of a layer."""

    q: Tensor  # (B, Hq, S, K) un-rotated
    k: Tensor  # (B, H, S, K) un-rotated
    scale: float  # of the scores


class _LastLayerReached(Exception):
    """Raised in the last layer that is needed, to end the forward pass."""


class _Tap(MemoryCache):
    """A cache for one forward pass over independent segments that records the inputs of the attention of some layers."""

    def __init__(self, layers: int, recorded_layers: frozenset[int], on_layer: Callable[[float], None] | None) -> None:
        super().__init__([keep_everything()] * layers)
        self.recorded_layers, self.last, self.on_layer = recorded_layers, max(recorded_layers), on_layer
        self.inputs: dict[int, _Inputs] = {}

    def begin(self, length: int, valid: Tensor | None) -> ForwardStep:
        return _TapStep(self, length, valid)


class _TapStep(ForwardStep):
    def __init__(self, tap: _Tap, length: int, valid: Tensor | None) -> None:
        super().__init__(tap, length, valid)
        self._tap = tap

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotate: Rotate | None, **options: Any) -> Tensor:
        if self._tap.on_layer is not None:
            self._tap.on_layer(layer / (self._tap.last + 1))
        if layer in self._tap.recorded_layers:
            scale = q.shape[3] ** -0.5 if options["scale"] is None else options["scale"]
            self._tap.inputs[layer] = _Inputs(q, k, float(scale))
        if layer == self._tap.last:
            raise _LastLayerReached
        output = super().attend(layer, q, k, v, rotate, **options)
        self.after.clear()  # segments are independent
        return output


class _Watched(threading.local):
    """The hidden states that the pass of this thread is to record, by layer; None for none."""

    states: dict[int, Tensor | None] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Watched":
        """A copied reader records for itself."""
        return _Watched()


class HeadReader:
    """A reader of segments with a hooked copy of `model` that shares its weights; the model itself is left untouched.

    Attributes:
        layers, query_heads, key_heads, head_size: the shape of the model's attention, the same in every layer.
        scale: factor of the products of queries and keys in the model's attention.

    Raises:
        UnsupportedModel: the model's attention does not fit, or its layers have heads of different shapes.
    """

    def __init__(self, model: nn.Module) -> None:
        causal_lm = find_causal_lm(model)
        self._model = shared_copy(causal_lm).eval()
        self._attachment = Attachment(self._model, lambda: MemoryCache([keep_everything()] * self.layers))
        self._attachment.attach()
        self.layers: int = self._attachment.config.num_hidden_layers
        token = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        by_layer = self._attention_inputs(token, frozenset(range(self.layers)), None)
        shapes = {(inputs.q.shape[1], *inputs.k.shape[1::2], inputs.scale) for inputs in by_layer.values()}
        if len(shapes) > 1:
            raise UnsupportedModel(
                f"The heads of all layers must have the same number, size and scale, got {len(shapes)} different shapes in "
                f"{type(causal_lm).__name__}: the index holds their keys side by side."
            )
        self.query_heads, self.key_heads, self.head_size, self.scale = shapes.pop()
        self._watched, self._is_watched = _Watched(), False

    @property
    def device(self) -> torch.device:
        """The device on which segments are expected."""
        return input_device(self._model)

    def key_head(self, head: Head) -> Head:
        """The (layer, key-value head) whose keys the query head `head` reads."""
        layer, query_head = head
        return layer, query_head // (self.query_heads // self.key_heads)

    @torch.inference_mode()
    def _attention_inputs(
        self,
        ids: Tensor,
        layers: frozenset[int],
        valid: Tensor | None,
        on_layer: Callable[[float], None] | None = None,
    ) -> dict[int, _Inputs]:
        tap = _Tap(self.layers, layers, on_layer)
        try:
            self._attachment.base(
                input_ids=ids, attention_mask=valid, **{self._attachment.cache_name: tap}, use_cache=True
            )
        except _LastLayerReached:
            return tap.inputs
        raise AssertionError("the forward pass never reached the last layer that was needed")

    def keys(
        self,
        ids: Tensor,
        heads: Sequence[Head],
        valid: Tensor | None = None,
        on_layer: Callable[[float], None] | None = None,
    ) -> Tensor:
        """Un-rotated keys (B, S, G, K) of the key-value heads `heads` for segments `ids` (B, S) int64.

        `valid` (B, S) is zero at padding. Layers above the last of `heads` are not run. `on_layer` is called in each
        layer with the share of the layers before it, 0 to 1.
        """
        inputs = self._attention_inputs(ids, frozenset(layer for layer, _ in heads), valid, on_layer)
        return torch.stack([inputs[layer].k[:, head].to(self.device) for layer, head in heads], 2)

    def queries(self, ids: Tensor, heads: Sequence[Head], valid: Tensor | None = None) -> Tensor:
        """Un-rotated queries (B, S, H, K) of the query heads `heads` for segments `ids` (B, S) int64."""
        inputs = self._attention_inputs(ids, frozenset(layer for layer, _ in heads), valid)
        return torch.stack([inputs[layer].q[:, head].to(self.device) for layer, head in heads], 2)

    def hidden_states(self, ids: Tensor, layers: Sequence[int]) -> Tensor:
        """The hidden states before the layers `layers`, (B, S, L, D), for segments `ids` (B, S) int64.

        Raises UnsupportedModel for a model without a list of its layers.
        """
        self._watch()
        self._watched.states = dict.fromkeys(layers)
        try:
            self._attention_inputs(ids, frozenset({max(layers)}), None)
            states = [self._watched.states[layer] for layer in layers]
        finally:
            self._watched.states = None
        if any(state is None for state in states):
            raise UnsupportedModel(f"{type(self._model).__name__} does not pass hidden states on from layer to layer.")
        return torch.stack([state for state in states if state is not None], 2)

    def _watch(self) -> None:
        """Hooks that record, on all layers, from the first call on."""
        if self._is_watched:
            return
        lists = (module for module in self._attachment.base.modules() if isinstance(module, nn.ModuleList))
        layers = next((found for found in lists if len(found) == self.layers), None)
        if layers is None:
            raise UnsupportedModel(f"{type(self._model).__name__} must hold its layers in one list.")

        def record(layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states = self._watched.states
            if states is not None and layer in states:
                states[layer] = args[0] if args else kwargs.get("hidden_states")

        for number, module in enumerate(layers):
            module.register_forward_pre_hook(
                lambda _, args, kwargs, number=number: record(number, args, kwargs), with_kwargs=True
            )
        self._is_watched = True

    def all_layers(self, ids: Tensor, count: int | None = None) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(layer, queries (B, S, Hq, K), keys (B, S, H, K)) of every layer, or of the first `count`: for calibration."""
        by_layer = self._attention_inputs(ids, frozenset(range(self.layers if count is None else count)), None)
        for layer, inputs in sorted(by_layer.items()):
            yield layer, inputs.q.transpose(1, 2), inputs.k.transpose(1, 2)


def sink_of(tokenizer: Any) -> int:
    """The token that begins every segment, an attention sink: the first position draws attention, whatever it holds."""
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return next((token for token in special if token is not None), 0)
