"""Any Hugging Face causal LM, given a memory through four public seams of transformers and nothing else.

1. A `Cache` that hands back only the keys and values of the current segment and counts what was seen.
2. An identity rotary embedding, so that keys reach the cache un-rotated and can be placed anew at every use.
3. One name registered with both `AttentionInterface` and `AttentionMaskInterface`, whose function asks the mechanism what
   the queries may see, rotates it to positions inside the trained window, and attends.
4. A forward pre-hook that gives each forward its own `Step`: a snapshot of the states before it. The states after it are
   stored by a forward hook once the whole forward has succeeded, so a failed forward, or one replayed by activation
   checkpointing, changes nothing.

The state of a request lives in its cache, never on the model.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from memspan import state as states
from memspan.errors import UnsupportedModel, UsageError
from memspan.mechanisms import KVMechanism, Recalled, mechanism_class
from memspan.mechanisms.attention import attend

_NAME = "memspan"


class _Layer(CacheLayerMixin):
    """Hands the current segment through; what is remembered of it is the mechanism's business."""

    is_sliding = False
    is_croppable = False

    def __init__(self, cache: "MemoryCache") -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return key_states, value_states

    def get_seq_length(self) -> int:
        return self._cache.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.seen + query_length, 0

    def get_max_length(self) -> int:
        return -1


class MemoryCache(Cache):
    """The memory of one request: a state per layer, and how many tokens (padding included) it was given.

    Takes the place of `DynamicCache` in `forward` and `generate`. It cannot be cropped, so assisted decoding refuses it;
    beam search and `num_return_sequences` work.
    """

    def __init__(self, mechanisms: Sequence[KVMechanism]) -> None:
        super().__init__(layers=[_Layer(self) for _ in mechanisms])
        self.mechanisms = tuple(mechanisms)
        self.states: tuple[states.State, ...] = (None,) * len(self.mechanisms)
        self.seen = 0

    def begin(self, length: int) -> "Step":
        return Step(self, length)

    @property
    def nbytes(self) -> int:
        """Bytes of all the states."""
        return sum(states.nbytes(state) for state in self.states)

    def reset(self) -> None:
        self.states, self.seen = (None,) * len(self.mechanisms), 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.states = tuple(states.select(state, beam_idx) for state in self.states)

    def batch_select_indices(self, indices: Tensor) -> None:
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        rows = next((leaf.shape[0] for leaf in states.pytree.tree_leaves(self.states)), None)
        if rows is not None:
            self.reorder_cache(torch.arange(rows).repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        raise UsageError(
            "A memory cannot be cropped: tokens that were read cannot be unread. Decode without an assistant model."
        )


class Step:
    """One forward: the states before it, and those after it, which are stored only when it has succeeded.

    Reading `before` and writing `after` by layer makes a replay by activation checkpointing harmless.
    """

    def __init__(self, cache: MemoryCache, length: int) -> None:
        self._cache, self._length = cache, length
        self._before = cache.states
        self._after: dict[int, states.State] = {}

    def recall(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None
    ) -> Iterator[tuple[slice, Recalled]]:
        """What the queries of each piece of the segment see, piece by piece."""
        mechanism, state, start = self._cache.mechanisms[layer], self._before[layer], 0
        for length in mechanism.pieces(k.shape[2], state, valid):
            piece = slice(start, start + length)
            recalled, state = mechanism.recall(
                q[:, :, piece], k[:, :, piece], v[:, :, piece], state, None if valid is None else valid[:, piece]
            )
            yield piece, recalled
            start += length
        self._after[layer] = state

    def commit(self) -> None:
        cache = self._cache
        cache.states = tuple(self._after.get(layer, state) for layer, state in enumerate(self._before))
        cache.seen += self._length


class _Rotary(nn.Module):
    """In the place of the model's rotary embedding: the model itself rotates nothing, the attention function asks `at`."""

    def __init__(self, real: nn.Module) -> None:
        super().__init__()
        self.real = real
        self.config = getattr(real, "config", None)
        self.by_layer_type = "layer_type" in inspect.signature(real.forward).parameters
        self._tables: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        cos, sin = self.real(x, position_ids[:1, :1] * 0, *args, **kwargs)
        shape = (*position_ids.shape, cos.shape[-1])
        return cos.new_ones(shape), sin.new_zeros(shape)

    def at(self, x: Tensor, positions: Tensor, layer_type: str | None, longest: int) -> tuple[Tensor, Tensor]:
        """cos and sin (B, N, rotary size) of `positions` (B, N), all below `longest`.

        Looked up in a table made once by the model's own embedding: positions stay inside the trained window, so scaled
        variants (YaRN, NTK, long rope) behave as they do on a text of that length.
        """
        key = (layer_type, longest, x.dtype, x.device)
        if key not in self._tables:
            extra = (layer_type,) if self.by_layer_type else ()
            cos, sin = self.real(x, torch.arange(longest, device=x.device)[None], *extra)
            self._tables[key] = (cos[0], sin[0])
        cos, sin = self._tables[key]
        return cos[positions], sin[positions]


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
    memspan: tuple["Step", "Attachment"] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention function of an attached model. `attention_mask` is `valid` (B, S) bool, see `_mask`."""
    if memspan is None:
        raise UsageError("This model has a memory attached, but was called around it: call the whole model.")
    step, attachment = memspan
    rotate = attachment.rotation(module)
    outputs = [
        attend(
            query[:, :, piece],
            recalled,
            rotate,
            scale=scaling,
            dropout=dropout,
            sliding_window=sliding_window,
            softcap=softcap,
            sink_logits=s_aux,
        )
        for piece, recalled in step.recall(module.layer_idx, query, key, value, attention_mask)
    ]
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def _mask(
    batch_size: int, q_length: int, kv_length: int, attention_mask: Tensor | None = None, **_: Any
) -> Tensor | None:
    """What transformers passes to `_attention` as its mask: which of the current tokens are text, (B, S) bool or None."""
    if attention_mask is None:
        return None
    valid = attention_mask[:, -q_length:].bool()
    return None if bool(valid.all()) else valid


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _mask)


class Attachment:
    """The hooks on one model, from `attach` to `detach`. After `detach` the model is what it was, to the bit."""

    def __init__(self, model: nn.Module, new_cache: Any) -> None:
        self.causal_lm = find_causal_lm(model)
        self.base = self.causal_lm.base_model
        self._new_cache = new_cache
        self._attention_before = self.causal_lm.config._attn_implementation
        if self._attention_before == _NAME:
            raise UsageError("This model already has a memory attached; leave the first `with` before entering another.")
        self._rotary: _Rotary | None = None
        self._position_limit = self.causal_lm.config.get_text_config().max_position_embeddings
        rope = getattr(self.causal_lm.config.get_text_config(), "rope_parameters", None) or {}
        self._table_limit = int(rope.get("original_max_position_embeddings") or self._position_limit)
        self._handles: list[Any] = []

    def attach(self) -> None:
        unsupported = why_unsupported(self.causal_lm)
        if unsupported is not None:
            raise UnsupportedModel(unsupported)
        self.causal_lm.set_attn_implementation(_NAME)
        if self.causal_lm.config._attn_implementation != _NAME:
            raise UnsupportedModel(
                f"The attention of {type(self.causal_lm).__name__} cannot be replaced (it does not use transformers' "
                "AttentionInterface), so it cannot be given a memory; `memspan models --families` lists those that can."
            )
        if hasattr(self.base, "rotary_emb"):
            self._rotary = _Rotary(self.base.rotary_emb)
            self.base.rotary_emb = self._rotary
        self._handles = [
            self.base.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            self.base.register_forward_hook(self._after_forward, with_kwargs=True),
        ]

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        if self._rotary is not None:
            self.base.rotary_emb = self._rotary.real
            self._rotary = None
        self.causal_lm.set_attn_implementation(self._attention_before)

    def rotation(self, module: nn.Module) -> Any:
        """The function that rotates (x, positions) for this attention module, or None if its layer has no rotary."""
        rotary = self._rotary
        if rotary is None or getattr(module, "use_rope", True) in (False, 0):
            return None
        apply = sys.modules[type(module).__module__].apply_rotary_pos_emb
        layer_type = getattr(module, "layer_type", None) if rotary.by_layer_type else None

        def rotate(x: Tensor, positions: Tensor) -> Tensor:
            longest = self._table_limit
            while longest <= int(positions.max()):
                longest *= 2
            cos, sin = rotary.at(x, positions, layer_type, longest)
            return apply(x, x, cos, sin)[0]

        return rotate

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cache = kwargs.get("past_key_values")
        if not hasattr(cache, "begin"):
            if cache is not None and cache.get_seq_length() > 0:
                raise UsageError(
                    f"The {type(cache).__name__} passed as past_key_values was filled without a memory; start from an "
                    "empty one, or pass the one that an attached model returned."
                )
            cache = self._new_cache()
        tokens = next(x for x in (*args, kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if x is not None)
        length, seen = tokens.shape[1], cache.get_seq_length()
        kwargs = {**kwargs, "past_key_values": cache, "memspan": (cache.begin(length), self)}
        mask = kwargs.get("attention_mask")
        if mask is not None:
            if mask.dim() != 2:
                raise UsageError("An attached model takes a 2D attention_mask (batch, tokens): the memory makes its own.")
            if mask.shape[1] == length and seen > 0:  # only the new tokens were described: all before them was text
                kwargs["attention_mask"] = torch.cat([mask.new_ones(mask.shape[0], seen), mask], 1)
        if self._rotary is None:
            kwargs["position_ids"] = self._learned_positions(seen, length, tokens.device)
        return args, kwargs

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        kwargs["memspan"][0].commit()

    def _learned_positions(self, seen: int, length: int, device: torch.device) -> Tensor:
        """Positions for models that bake them into the hidden states: the trained ones, then its second half again."""
        position = torch.arange(seen, seen + length, device=device)
        half = self._position_limit // 2
        again = half + (position - self._position_limit) % (self._position_limit - half)
        return torch.where(position < self._position_limit, position, again)[None]


def find_causal_lm(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside `model` (itself, or what PEFT wraps). Raises UsageError if there is none."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.base_model is not module:
            return module
    raise UsageError(f"{type(model).__name__} is not a transformers model with a language-modelling head.")


def why_unsupported(model: PreTrainedModel) -> str | None:
    """One sentence saying why this model cannot be given a memory, or None if nothing speaks against trying."""
    config, name = model.config.get_text_config(), type(model).__name__
    if getattr(config, "is_encoder_decoder", False):
        return f"{name} is an encoder-decoder; only decoder-only language models can be given a memory."
    if getattr(config, "kv_lora_rank", None) is not None:
        return f"{name} keeps compressed keys (multi-head latent attention), which cannot be placed anew."
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"{name} has layers without keys and values ({', '.join(sorted(kinds))}), which already carry their own state."
    base = model.base_model
    if hasattr(base, "rotary_emb"):
        if not hasattr(sys.modules[type(base).__module__], "apply_rotary_pos_emb"):
            return f"{name} rotates keys in a way of its own, so they cannot be placed anew."
        return None
    if getattr(config, "max_position_embeddings", None) is None or not _has_learned_positions(base):
        return f"{name} has neither rotary nor learned positions (ALiBi, or a state-space model)."
    return None


def _has_learned_positions(base: nn.Module) -> bool:
    """Whether the model adds an embedding of absolute positions to its input."""
    return any(name.endswith(("wpe", "embed_positions")) for name, _ in base.named_modules())


def repositions(model: nn.Module) -> bool:
    """Whether recalled keys can be given new positions (rotary models), rather than keep those they were read at."""
    base = find_causal_lm(model).base_model
    return hasattr(base, "rotary_emb")


def _mechanisms(
    model: PreTrainedModel, mechanism: str | KVMechanism | Sequence[KVMechanism], settings: Mapping[str, Any]
) -> list[KVMechanism]:
    layers = model.config.get_text_config().num_hidden_layers
    if isinstance(mechanism, str):
        made = mechanism_class(mechanism)(**settings)
        if not isinstance(made, KVMechanism):
            raise UsageError(f"'{mechanism}' works on hidden states; a pretrained model takes one over keys and values.")
        mechanism = made
    chosen = [mechanism] * layers if isinstance(mechanism, KVMechanism) else list(mechanism)
    if len(chosen) != layers:
        raise UsageError(f"The model has {layers} layers, but {len(chosen)} mechanisms were given.")
    limit = model.config.get_text_config().max_position_embeddings
    for one in chosen:
        capacity = one.capacity()
        if capacity is not None and capacity > limit:
            raise UsageError(
                f"This memory places {capacity} tokens side by side, more than the {limit} positions the model was trained "
                f"on; make its window {limit} or less."
            )
    return chosen


@contextmanager
def attached(
    model: nn.Module, mechanism: str | KVMechanism | Sequence[KVMechanism] = "sink_window", **settings: Any
) -> Iterator[nn.Module]:
    """Gives a transformers causal LM (or a PEFT-wrapped one) a memory inside the `with`; yields the same model.

    Inside, `model(ids)` and `model.generate(...)` work unmodified; the cache they return is a `MemoryCache`, which can
    be passed on as `past_key_values` with the next segment. Outside, the model is what it was, to the bit.

    Args:
        mechanism: a registered name with its `settings`, one mechanism for all layers, or one per layer.

    Raises:
        UnsupportedModel: the model's attention cannot be given a memory; the message says why.
        UsageError: unknown mechanism, settings that cannot be, a window beyond the trained positions.
    """
    causal_lm = find_causal_lm(model)
    chosen = _mechanisms(causal_lm, mechanism, settings)
    attachment = Attachment(model, lambda: MemoryCache(chosen))
    attachment.attach()
    try:
        yield model
    finally:
        attachment.detach()


@torch.inference_mode()
def parity_difference(model: nn.Module, length: int = 32) -> float:
    """The largest difference, in logits, between the plain model and the attached one with nothing evicted.

    `length` tokens are read whole by the plain model and in three pieces by the attached one.
    """
    causal_lm = find_causal_lm(model)
    vocabulary = causal_lm.config.get_text_config().vocab_size
    ids = (torch.arange(length, device=causal_lm.device) * 7919 + 11)[None] % vocabulary
    plain = causal_lm(ids, use_cache=False).logits
    with attached(causal_lm, "sink_window", window=None):
        cache, logits = None, []
        for piece in ids.split([length // 2, length // 2 - 1, length - length // 2 * 2 + 1], dim=1):
            output = causal_lm(piece, past_key_values=cache)
            cache = output.past_key_values
            logits.append(output.logits)
    return float((torch.cat(logits, 1) - plain).abs().max())
