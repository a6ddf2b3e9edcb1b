"""The hooks that give a Hugging Face causal LM a memory, through four public seams of transformers.

1. A `Cache` that returns the keys and values of the current segment only, and counts the tokens (`MemoryCache`).
2. An identity rotary embedding, so that keys reach the cache un-rotated and can take new positions at every use.
3. One name registered with `AttentionInterface`, whose function lets the mechanism choose the keys that the queries see,
   rotates them to positions inside the trained window, and attends; and with `AttentionMaskInterface`, to build no mask.
4. A forward pre-hook that gives each forward pass its own `ForwardStep`: the states before it, and which tokens are
   padding. A forward hook stores the states after it once the whole pass has succeeded, so a pass that fails, or that
   activation checkpointing replays, changes nothing.

The state of a request lives in its cache, never on the model.

Letters: B batch, S tokens of a forward pass, N keys, Hq query heads, H key heads, K head size.
"""

import inspect
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicCache

from memspan import state as states
from memspan.errors import UnsupportedModel, UsageError
from memspan.mechanisms.layers.attention import Rotate
from memspan.pretrained.cache import ForwardStep, MemoryCache
from memspan.pretrained.rotary import IdentityRotary, rotates, rotation_of, trained_positions
from memspan.pretrained.support import find_causal_lm, why_unsupported
from memspan.pretrained.versions import CACHE_NAMES, cache_name

_NAME = "memspan"
_SWITCH = threading.Lock()  # held while a model gets or loses a memory


# The signature is transformers' own.
def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    memspan: tuple[ForwardStep, "Attachment"] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query (B, Hq, S, K), key, value (B, H, S, K) -> (B, S, Hq, K). `attention_mask` is None: the step has padding."""
    if memspan is None:
        raise UsageError("A model with a memory attached must be called as a whole, got a call of one of its modules.")
    step, attachment = memspan
    layer: int = module.layer_idx  # type: ignore[assignment]
    rotate = attachment.rotation(module, layer, step)
    if sliding_window is not None and step.position_bound(layer) <= sliding_window:
        sliding_window = None  # every key is inside it
    output = step.attend(
        layer,
        query,
        key,
        value,
        rotate,
        scale=scaling,
        dropout=dropout,
        sliding_window=sliding_window,
        softcap=softcap,
        sink_logits=s_aux,
    )
    return output.transpose(1, 2).contiguous(), None


def _no_mask(*_: Any, **__: Any) -> None:
    """The mask that transformers builds for an attached model: none, because the mechanism decides what is visible."""


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _no_mask)


class Attachment:
    """The hooks on one model, from `attach` to `detach`. After `detach` the model is what it was, to the bit.

    Args:
        model: a causal LM of transformers, or a PEFT model around one.
        new_cache: makes the empty memory of a new request.

    Raises:
        UnsupportedModel: the model's attention does not fit; the message states the reason.
        UsageError: the model has a memory already.
    """

    def __init__(self, model: nn.Module, new_cache: Callable[[], MemoryCache]) -> None:
        self.causal_lm = find_causal_lm(model)
        unsupported = why_unsupported(self.causal_lm)
        if unsupported is not None:
            raise UnsupportedModel(unsupported)
        self.base: Any = self.causal_lm.base_model.get_decoder()
        self._new_cache = new_cache
        self.config = self.causal_lm.config.get_text_config(decoder=True)
        self._refuse_second()
        self._argument_names = list(inspect.signature(self.base.forward).parameters)
        self.cache_name = cache_name(self.base.forward)
        self._rotary: IdentityRotary | None = None
        self._replaced: WeakSet[Any] = WeakSet()
        self._handles: list[Any] = []
        self._others: WeakSet[threading.Thread] = WeakSet()  # those that may not call the model
        self._switching: int | None = None  # the thread that attaches or detaches now: no other may call the model

    def attach(self, *, to_this_thread: bool = False) -> None:
        """Put the hooks on the model.

        Args:
            to_this_thread: refuse calls of the model from the other threads that are running now.

        Raises:
            UnsupportedModel: the model's attention does not fit; the model is then left as it was.
            UsageError: the model has a memory already.
        """
        with _SWITCH:
            self._refuse_second()
            self._attention_before = self.causal_lm.config._attn_implementation
            self._switching = threading.get_ident()
            if to_this_thread:
                self._others.update(set(threading.enumerate()) - {threading.current_thread()})
            # The hooks come first and go last: in between, they refuse the calls of other threads.
            self._handles = [
                self.base.register_forward_pre_hook(self._before_forward, with_kwargs=True),
                self.base.register_forward_hook(self._after_forward, with_kwargs=True),
            ]
            self.causal_lm.set_attn_implementation(_NAME)
            if self.causal_lm.config._attn_implementation != _NAME:
                self._remove_hooks()
                raise UnsupportedModel(
                    f"{type(self.causal_lm).__name__} cannot be given a memory: its attention does not go through "
                    "transformers' AttentionInterface; `memspan models --families` lists the families that fit."
                )
            if hasattr(self.base, "rotary_emb"):
                self._rotary = IdentityRotary(self.base.rotary_emb, trained_positions(self.config))
                self.base.rotary_emb = self._rotary
            self._switching = None

    def detach(self) -> None:
        """Remove everything that `attach` put on the model."""
        with _SWITCH:
            self._switching = threading.get_ident()
            if self._rotary is not None:
                self.base.rotary_emb = self._rotary.real
                self._rotary = None
            self.causal_lm.set_attn_implementation(self._attention_before)
            self._remove_hooks()

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _refuse_second(self) -> None:
        """Raises UsageError if the model has a memory."""
        if self.causal_lm.config._attn_implementation == _NAME:
            raise UsageError(
                "This model already has a memory attached, by this thread or another; leave the first `with` before "
                "entering another."
            )

    def _refuse_other_threads(self, module: nn.Module) -> None:
        """Raises UsageError for a call from a thread that the memory is not attached for.

        The copies of `DataParallel` run in threads of their own, as does what activation checkpointing computes again.
        """
        amid_switch = self._switching is not None and self._switching != threading.get_ident()
        is_other = amid_switch or threading.current_thread() in self._others
        if is_other and module is self.base and torch._C._current_graph_task_id() == -1:
            raise UsageError(
                "A memory is attached to this model by another thread: until that leaves its `with`, only threads that were "
                "started inside it may use the model. Take turns, or load the model once for each thread."
            )

    def rotation(self, module: nn.Module, layer: int, step: ForwardStep) -> Rotate | None:
        """The function (x, positions) -> rotated x of this attention module; None if its keys are not rotated."""
        rotary = self._rotary
        if rotary is None or not rotates(module, layer, self.config):
            return None
        turn, size = rotation_of(type(module).__module__), getattr(module, "rotary_ndims", None)
        layer_type = self.config.layer_types[layer] if rotary.by_layer_type else None
        bound = step.position_bound(layer)

        def rotate(x: Tensor, positions: Tensor) -> Tensor:
            cos, sin = step.cos_sin(rotary, x, positions, layer_type, bound)
            if size is None or size == x.shape[-1]:
                return turn(x, cos, sin)
            return torch.cat([turn(x[..., :size], cos, sin), x[..., size:]], -1)

        return rotate

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._refuse_other_threads(module)
        kwargs = {**dict(zip(self._argument_names, args, strict=False)), **kwargs}
        if self.causal_lm.config._attn_implementation != _NAME:
            raise UsageError(
                "The attention implementation was changed while a memory is attached; leave the `with` first."
            )
        if kwargs.get("output_attentions") or getattr(self.config, "output_attentions", False):
            raise UsageError("An attached model has no attention weights to return; call it without output_attentions.")
        tokens = next((kwargs[name] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None), None)
        if tokens is None:
            raise UsageError("A forward pass needs input_ids or inputs_embeds, got neither.")
        batch_size, length = tokens.shape[:2]
        caches = [kwargs.pop(name) for name in CACHE_NAMES if name in kwargs]
        cache = self._cache_for(next((cache for cache in caches if cache is not None), None), batch_size)
        valid = _valid(kwargs.get("attention_mask"), batch_size, length, cache.seen)
        step = cache.begin(length, valid)
        kwargs.pop("logits_to_keep", None)  # a decoder that drops the other tokens early would not remember them
        kwargs |= {self.cache_name: cache, "attention_mask": None, "memspan": (step, self)}
        if self._rotary is None:
            counts = torch.arange(length, device=tokens.device)[None] if valid is None else valid.long().cumsum(1) - 1
            kwargs["position_ids"] = self._learned_positions(counts.clamp_min(0) + cache.text_tokens)
        return (), kwargs

    def _after_forward(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        step, _attachment = kwargs["memspan"]
        step.commit()
        if hasattr(output, self.cache_name):
            # Some models drop it while checkpointing activations; and `generate` without a cache must not get one.
            unwanted = kwargs.get("use_cache") is False and step.cache.seen == step.length
            setattr(output, self.cache_name, None if unwanted else step.cache)

    def _cache_for(self, cache: Any, batch_size: int) -> MemoryCache:
        """The memory that a forward pass uses when it was called with `cache`."""
        if isinstance(cache, MemoryCache):
            rows = states.batch_size(cache.states)
            if len(cache.mechanisms) != self.config.num_hidden_layers or rows not in (None, batch_size):
                raise UsageError(
                    f"The memory passed as {self.cache_name} must have {batch_size} rows and "
                    f"{self.config.num_hidden_layers} layers, as this call has, got {rows} rows and "
                    f"{len(cache.mechanisms)} layers."
                )
            return cache
        if cache is not None:
            if not isinstance(cache, DynamicCache) or cache.get_seq_length() > 0 or cache in self._replaced:
                raise UsageError(
                    f"The cache passed as {self.cache_name} must be the one that the attached model returned, or None to "
                    f"start anew, got a {type(cache).__name__} without this memory."
                )
            # `generate` makes an empty cache; whoever passes it a second time assumes that it was filled.
            self._replaced.add(cache)
        return self._new_cache()

    def _learned_positions(self, positions: Tensor) -> Tensor:
        """Rows of the table of learned positions, which models add to the hidden states: beyond the end of the table its
        second half repeats."""
        limit: int = self.config.max_position_embeddings
        half = limit // 2
        return torch.where(positions < limit, positions, half + (positions - limit) % (limit - half))


def _valid(mask: Any, batch_size: int, length: int, seen: int) -> Tensor | None:
    """Which tokens of a forward pass are text, (B, S) bool; None if all are. `mask` is its attention_mask."""
    if mask is None:
        return None
    if getattr(mask, "ndim", None) != 2:
        raise UsageError(
            "The attention_mask of an attached model must be 2D (batch, tokens), got "
            f"{getattr(mask, 'ndim', type(mask).__name__)} dimensions: the memory decides which tokens are visible."
        )
    if mask.shape[1] not in (length, seen + length):
        raise UsageError(
            f"The attention_mask must describe the {length} new tokens or all {seen + length} tokens read so far, got "
            f"{mask.shape[1]}."
        )
    valid = mask[:, -length:].bool().expand(batch_size, -1)
    return None if bool(valid.all()) else valid
