"""Any Hugging Face causal LM, given a memory through four public seams of transformers and nothing else.

1. A `Cache` that hands back only the keys and values of the current segment and counts what was seen.
2. An identity rotary embedding, so that keys reach the cache un-rotated and can be placed anew at every use.
3. One name registered with `AttentionInterface`, whose function asks the mechanism what the queries may see, rotates it
   to positions inside the trained window, and attends; and with `AttentionMaskInterface`, to make no mask at all.
4. A forward pre-hook that gives each forward its own `ForwardStep`: a snapshot of the states before it, and which tokens are
   padding. The states after it are stored by a forward hook once the whole forward has succeeded, so a failed forward,
   or one replayed by activation checkpointing, changes nothing.

The state of a request lives in its cache, never on the model.

Letters: B batch, S tokens of a forward, N keys, H heads, K head size.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from memspan import state as states
from memspan.errors import UnsupportedModel, UsageError
from memspan.mechanisms import DEFAULT, KVMechanism, build_over_keys, keep_everything
from memspan.mechanisms.layers.attention import Rotate, attend
from memspan.pretrained.families import FAMILIES, Tier
from memspan.pretrained.versions import CACHE_NAMES, cache_name

_NAME = "memspan"
PARITY = 1e-4  # what a memory that holds everything may change in a logit, beyond rounding
_SHORTEST_TABLE = 1024  # positions of the smallest table of cos and sin; longer ones are made as texts grow


class _Count:
    """Tokens that went in: shared by a cache and its layers, which must not hold the cache itself. A cycle of
    references would keep its tensors until Python looks for cycles."""

    def __init__(self) -> None:
        self.seen = 0


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """Hands the current segment through; what is remembered of it is the mechanism's business."""

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
    """The memory of one request: a state per layer, and how many tokens it was given.

    Takes the place of `DynamicCache` in `forward` and `generate`. Beam search and `num_return_sequences` work; it
    cannot be cropped, so decoding with an assistant does not.

    Attributes:
        states: what each layer's mechanism remembers.
        seen: how many tokens went in, padding included, as transformers counts them.
        text: how many of them were text: a number, or (B, 1) int64 once rows differ.
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
        """A forward over `length` tokens, of which `valid` (B, S) are text; None means all."""
        return ForwardStep(self, length, valid)

    @property
    def nbytes(self) -> int:
        """Bytes of all the states."""
        return states.nbytes(self.states)

    def reset(self) -> None:
        self.states: tuple[states.State, ...] = (None,) * len(self.mechanisms)
        self.seen = 0
        self.text: int | Tensor = 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.states = states.share(states.select(self.states, beam_idx))
        self.text = states.select(self.text, beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        rows = states.batch_size(self.states)
        if rows is not None:
            self.reorder_cache(torch.arange(rows).repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        raise UsageError(
            "A memory cannot be cropped: tokens that were read cannot be unread. Decode without an assistant model."
        )


class ForwardStep:
    """One forward: the states before it, and those after it, which are stored only when it has succeeded.

    Reading `before` and writing `after` by layer makes a replay by activation checkpointing harmless.
    """

    def __init__(self, cache: MemoryCache, length: int, valid: Tensor | None) -> None:
        self.cache, self.length, self.valid = cache, length, valid
        self._before, self._everything = cache.states, cache.seen + length
        self._after: dict[int, states.State] = {}
        self._tables: dict[Any, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotate: Rotate | None, **how: Any) -> Tensor:
        """q (B, Hq, S, K), k, v (B, H, S, K) -> (B, Hq, S, K), piece by piece; `how` is passed on to `attend`."""
        mechanism, state, start, outputs = self.cache.mechanisms[layer], self._before[layer], 0, []
        for length in mechanism.split_lengths(self.length, state, self.valid):
            piece = slice(start, start + length)
            valid = None if self.valid is None else self.valid[:, piece]
            recalled, state = mechanism.recall(q[:, :, piece], k[:, :, piece], v[:, :, piece], state, valid)
            outputs.append(attend(q[:, :, piece], recalled, rotate, **how))
            start += length
        self._after[layer] = state
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)

    def reach(self, layer: int) -> int:
        """All positions that this layer's mechanism assigns in this forward lie below this bound."""
        capacity = self.cache.mechanisms[layer].capacity()
        return self._everything if capacity is None else min(capacity, self._everything)

    def table(
        self, rotary: "_Rotary", x: Tensor, positions: Tensor, layer_type: str | None, reach: int
    ) -> tuple[Tensor, Tensor]:
        """cos and sin of `positions`; when decoding, what one layer asked for is kept for the next."""
        if self.length > 1:
            return rotary.at(x, positions, layer_type, reach)
        key = (positions, x.dtype, layer_type, reach)  # a tensor is told apart by identity
        if key not in self._tables:
            self._tables[key] = rotary.at(x, positions, layer_type, reach)
        return self._tables[key]

    def commit(self) -> None:
        cache = self.cache
        cache.states = states.share(tuple(self._after.get(layer, state) for layer, state in enumerate(self._before)))
        cache.seen += self.length
        cache.text = cache.text + (self.length if self.valid is None else self.valid.sum(1, keepdim=True))


_making_tables = Lock()  # some rotary embeddings change themselves while they are asked


class _Rotary(nn.Module):
    """In the place of the model's rotary embedding: the model itself rotates nothing, the attention asks `at`.

    cos and sin come from tables made by the model's own embedding for texts of some length. Positions stay inside the
    trained window, so scaled variants (YaRN, NTK, long rope) behave as they do on a text of that length.
    """

    def __init__(self, real: nn.Module, trained: int) -> None:
        super().__init__()
        self.real = real
        self.config = getattr(real, "config", None)
        self.by_layer_type = "layer_type" in inspect.signature(real.forward).parameters
        self._trained = trained
        self._tables: dict[Any, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> tuple[Tensor, Tensor]:
        cos, _ = self._table(x, layer_type, 1)
        ones = cos.new_ones(*position_ids.shape, cos.shape[-1])
        return ones, torch.zeros_like(ones)

    def at(self, x: Tensor, positions: Tensor, layer_type: str | None, reach: int) -> tuple[Tensor, Tensor]:
        """cos and sin (B, N, rotary size) of `positions` (B, N), all below `reach`, in the precision of `x`."""
        cos, sin = self._table(x, layer_type, reach)
        return cos[positions], sin[positions]

    def _table(self, x: Tensor, layer_type: str | None, reach: int) -> tuple[Tensor, Tensor]:
        length = _SHORTEST_TABLE
        while length < reach:
            length *= 2
        if reach <= self._trained:
            length = min(length, self._trained)
        key = (layer_type, length, x.dtype, x.device)
        if key not in self._tables:
            extra = (layer_type,) if self.by_layer_type else ()
            with _making_tables, torch.inference_mode(False), torch.no_grad():
                cos, sin = self.real(x.new_empty(1), torch.arange(length, device=x.device)[None], *extra)
            self._tables[key] = (cos[0], sin[0])
        return self._tables[key]


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
    """The attention function of an attached model. `attention_mask` is always None: the step knows what is padding."""
    if memspan is None:
        raise UsageError("This model has a memory attached, but was called around it: call the whole model.")
    step, attachment = memspan
    layer: int = module.layer_idx  # type: ignore[assignment]
    rotate = attachment.rotation(module, layer, step)
    if sliding_window is not None and step.reach(layer) <= sliding_window:
        sliding_window = None  # everything is near
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
    """What transformers makes as the mask of an attached model: the mechanism says what is visible."""


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _no_mask)


class Attachment:
    """The hooks on one model, from `attach` to `detach`. After `detach` the model is what it was, to the bit.

    Raises:
        UnsupportedModel: the model's attention cannot be given a memory; the message says why.
        UsageError: it has one already.
    """

    def __init__(self, model: nn.Module, new_cache: Callable[[], MemoryCache]) -> None:
        self.causal_lm = find_causal_lm(model)
        unsupported = why_unsupported(self.causal_lm)
        if unsupported is not None:
            raise UnsupportedModel(unsupported)
        self.base: Any = self.causal_lm.base_model.get_decoder()
        self._new_cache = new_cache
        self.config = self.causal_lm.config.get_text_config(decoder=True)
        self._attention_before = self.causal_lm.config._attn_implementation
        if self._attention_before == _NAME:
            raise UsageError(
                "This model already has a memory attached; leave the first `with` before entering another."
            )
        self._argument_names = list(inspect.signature(self.base.forward).parameters)
        self._cache_name = cache_name(self.base.forward)
        self._rotary: _Rotary | None = None
        self._replaced: WeakSet[Any] = WeakSet()
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Raises UnsupportedModel if the model cannot be given a memory; it is then left as it was."""
        self.causal_lm.set_attn_implementation(_NAME)
        if self.causal_lm.config._attn_implementation != _NAME:
            raise UnsupportedModel(
                f"{type(self.causal_lm).__name__} cannot be given a memory: its attention does not go through "
                "transformers' AttentionInterface; `memspan models --families` lists those that can."
            )
        if hasattr(self.base, "rotary_emb"):
            self._rotary = _Rotary(self.base.rotary_emb, _trained_positions(self.config))
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

    def rotation(self, module: nn.Module, layer: int, step: ForwardStep) -> Rotate | None:
        """What rotates (x, positions) for this attention module in this step; None if its keys are not rotated."""
        rotary = self._rotary
        if rotary is None or not _rotates(module, layer, self.config):
            return None
        turn, size = _turn(type(module).__module__), getattr(module, "rotary_ndims", None)
        layer_type = self.config.layer_types[layer] if rotary.by_layer_type else None
        reach = step.reach(layer)

        def rotate(x: Tensor, positions: Tensor) -> Tensor:
            cos, sin = step.table(rotary, x, positions, layer_type, reach)
            if size is None or size == x.shape[-1]:
                return turn(x, cos, sin)
            return torch.cat([turn(x[..., :size], cos, sin), x[..., size:]], -1)

        return rotate

    def _before_forward(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = {**dict(zip(self._argument_names, args, strict=False)), **kwargs}
        if self.causal_lm.config._attn_implementation != _NAME:
            raise UsageError(
                "The attention implementation was changed while a memory is attached; leave the `with` first."
            )
        if kwargs.get("output_attentions") or getattr(self.config, "output_attentions", False):
            raise UsageError("An attached model has no attention weights to return; call it without output_attentions.")
        tokens = next((kwargs[name] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None), None)
        if tokens is None:
            raise UsageError("There is nothing to read: give input_ids or inputs_embeds.")
        rows, length = tokens.shape[:2]
        given = [kwargs.pop(name) for name in CACHE_NAMES if name in kwargs]
        cache = self._cache_for(next((one for one in given if one is not None), None), rows)
        valid = _valid(kwargs.get("attention_mask"), rows, length, cache.seen)
        step = cache.begin(length, valid)
        kwargs.pop("logits_to_keep", None)  # a decoder that drops the other tokens early would not remember them
        kwargs |= {self._cache_name: cache, "attention_mask": None, "memspan": (step, self)}
        if self._rotary is None:
            places = torch.arange(length, device=tokens.device)[None] if valid is None else valid.long().cumsum(1) - 1
            kwargs["position_ids"] = self._learned_positions(places.clamp_min(0) + cache.text)
        return (), kwargs

    def _after_forward(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        step, _attachment = kwargs["memspan"]
        step.commit()
        if hasattr(output, self._cache_name):
            # Some models drop it while checkpointing activations; and `generate` without a cache must not be given one.
            unwanted = kwargs.get("use_cache") is False and step.cache.seen == step.length
            setattr(output, self._cache_name, None if unwanted else step.cache)

    def _cache_for(self, cache: Any, rows: int) -> MemoryCache:
        """The cache that the forward shall use when it was given `cache`."""
        if isinstance(cache, MemoryCache):
            known = states.batch_size(cache.states)
            if len(cache.mechanisms) != self.config.num_hidden_layers or known not in (None, rows):
                raise UsageError(
                    f"The memory passed as past_key_values is of {known} rows and {len(cache.mechanisms)} layers; "
                    f"this call has {rows} rows and {self.config.num_hidden_layers} layers."
                )
            return cache
        if cache is not None:
            if not isinstance(cache, DynamicCache) or cache.get_seq_length() > 0 or cache in self._replaced:
                raise UsageError(
                    f"The {type(cache).__name__} passed as past_key_values does not hold this memory; pass the "
                    "past_key_values that the attached model returned, or none to start anew."
                )
            # `generate` makes an empty one; whoever passes it again believes that it was filled.
            self._replaced.add(cache)
        return self._new_cache()

    def _learned_positions(self, places: Tensor) -> Tensor:
        """Positions for models that bake them into the hidden states: the trained ones, then their 2nd half again."""
        limit: int = self.config.max_position_embeddings
        half = limit // 2
        return torch.where(places < limit, places, half + (places - limit) % (limit - half))


def _valid(mask: Any, rows: int, length: int, seen: int) -> Tensor | None:
    """Which of a forward's tokens are text, (B, S) bool; None if all are. `mask` is the attention_mask it was given."""
    if mask is None:
        return None
    if getattr(mask, "ndim", None) != 2:
        raise UsageError("An attached model takes a 2D attention_mask (batch, tokens): the memory makes its own.")
    if mask.shape[1] not in (length, seen + length):  # either the new tokens, or all of them
        raise UsageError(
            f"The attention_mask describes {mask.shape[1]} tokens, but {length} are new and {seen} were read before."
        )
    valid = mask[:, -length:].bool().expand(rows, -1)
    return None if bool(valid.all()) else valid


@cache
def _turn(module_name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The rotation (x, cos, sin) -> x of a modeling file."""
    apply = sys.modules[module_name].apply_rotary_pos_emb
    if "k" not in inspect.signature(apply).parameters:
        return lambda x, cos, sin: apply(x, cos, sin)
    return lambda x, cos, sin: apply(x, x[:, :0], cos, sin)[0]  # it rotates a pair: x and no heads at all


def _rotates(attention: nn.Module, layer: int, config: Any) -> bool:
    """Whether this layer rotates its keys at all."""
    family = FAMILIES.get(config.model_type)
    if family is not None and family.rotary_layers in (getattr(config, "layer_types", None) or ()):
        return bool(config.layer_types[layer] == family.rotary_layers)
    return bool(getattr(attention, "use_rope", True))


def _trained_positions(config: Any) -> int:
    """How many positions the model's rotary embedding serves before it is scaled for longer texts."""
    rope = getattr(config, "rope_parameters", None) or {}
    by_layer_type = [kind for kind in rope.values() if isinstance(kind, Mapping)]
    originals = [kind.get("original_max_position_embeddings") for kind in (rope, *by_layer_type)]
    return min((int(one) for one in originals if one is not None), default=int(config.max_position_embeddings))


def find_causal_lm(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside `model` (itself, or what PEFT wraps). Raises UsageError if there is none."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.get_output_embeddings() is not None:
            return module
    raise UsageError(f"{type(model).__name__} is not a transformers model with a language-modelling head.")


def why_unsupported(model: PreTrainedModel) -> str | None:
    """One sentence saying why this model cannot be given a memory, or None if nothing speaks against trying."""
    name, family = type(model).__name__, FAMILIES.get(model.config.model_type)
    if family is not None and family.tier is Tier.UNSUPPORTED:
        return f"{name} cannot be given a memory: {family.notes}."
    if not getattr(model.config, "is_causal", True):
        return f"{name} attends both ways in a text; only models that read from left to right can be given a memory."
    if family is not None:
        return None
    if getattr(model.config, "is_encoder_decoder", False):
        return f"{name} is an encoder-decoder; only decoder-only language models can be given a memory."
    config = model.config.get_text_config(decoder=True)
    if config is not model.config:
        return f"{name} reads more than text; load its language model alone to give it a memory."
    if getattr(config, "kv_lora_rank", None) is not None:
        return f"{name} keeps compressed keys (multi-head latent attention), which cannot be placed anew."
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"{name} has layers of another kind than attention over all or recent keys: {', '.join(sorted(kinds))}."
    base = model.base_model.get_decoder()
    if hasattr(base, "rotary_emb"):
        if not hasattr(sys.modules[type(base).__module__], "apply_rotary_pos_emb"):
            return f"{name} rotates keys in a way of its own, so they cannot be placed anew."
        return None
    learned = any(part.endswith(("wpe", "embed_positions")) for part, _ in base.named_modules())
    if not learned or getattr(config, "max_position_embeddings", None) is None:
        return f"{name} has neither rotary nor learned positions (ALiBi, or a state-space model)."
    return None


def repositions(model: nn.Module) -> bool:
    """Whether recalled keys can be given new positions (rotary models), rather than keep those they were read at."""
    return hasattr(find_causal_lm(model).base_model.get_decoder(), "rotary_emb")


def mechanisms_for(
    model: PreTrainedModel, mechanism: str | KVMechanism | Sequence[KVMechanism], settings: Mapping[str, Any]
) -> list[KVMechanism]:
    """One mechanism per layer. Raises UsageError for one that there is not, or that reaches beyond the trained positions."""
    config = model.config.get_text_config(decoder=True)
    if isinstance(mechanism, str):
        mechanism = build_over_keys(mechanism, **settings)
    elif settings:
        raise UsageError(
            f"Settings ({', '.join(settings)}) go with the name of a mechanism, not with one made already."
        )
    layers, limit = config.num_hidden_layers, config.max_position_embeddings
    chosen = [mechanism] * layers if isinstance(mechanism, KVMechanism) else list(mechanism)
    if len(chosen) != layers:
        raise UsageError(f"The model has {layers} layers, but {len(chosen)} mechanisms were given.")
    most = max((one.capacity() or 0 for one in chosen), default=0)
    if most > limit:
        raise UsageError(
            f"This memory places {most} tokens side by side, more than the {limit} positions the model was trained on; "
            "make its window smaller."
        )
    return chosen


def _verify(causal_lm: PreTrainedModel) -> None:
    """Tries out a model of a family that no test of ours has seen."""
    try:
        check_parity(causal_lm)
    except UnsupportedModel:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"{type(causal_lm).__name__} is of no verified family and fails with a memory attached: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error


@contextmanager
def attached(
    model: nn.Module, mechanism: str | KVMechanism | Sequence[KVMechanism] = DEFAULT, **settings: Any
) -> Iterator[nn.Module]:
    """Gives a transformers causal LM (or a PEFT-wrapped one) a memory inside the `with`; yields the same model.

    Inside, `model(ids)` and `model.generate(...)` work unmodified; the cache they return is a `MemoryCache`, which can
    be passed on as `past_key_values` with the next segment. Outside, the model is what it was, to the bit. Positions
    are the memory's own: `position_ids` are not read.

    A model of a family that is not in `FAMILIES` is first compared with itself without a memory on a few tokens.

    Args:
        mechanism: a registered name with its `settings`, one mechanism for all layers, or one per layer.

    Raises:
        UnsupportedModel: the model's attention cannot be given a memory; the message says why.
        UsageError: unknown mechanism, settings that cannot be, a window beyond the trained positions.
    """
    attachment = Attachment(model, lambda: MemoryCache(chosen))
    chosen = mechanisms_for(attachment.causal_lm, mechanism, settings)
    if attachment.causal_lm.config.model_type not in FAMILIES:
        _verify(attachment.causal_lm)
    attachment.attach()
    try:
        yield model
    finally:
        attachment.detach()


def parity_difference(model: nn.Module, length: int = 32) -> float:
    """The largest difference, in logits, between the plain model and the attached one with nothing evicted.

    `length` made-up tokens are read whole by the plain model and in three pieces by the attached one.
    """
    attachment = Attachment(model, lambda: MemoryCache([keep_everything()] * layers))
    layers = attachment.config.num_hidden_layers
    plain = _logits(model, length, split_lengths=1)
    attachment.attach()
    try:
        return float((_logits(model, length, split_lengths=3) - plain).abs().max())
    finally:
        attachment.detach()


def rounding_difference(model: nn.Module, length: int = 32) -> float:
    """The same difference between the plain model and itself with its own cache: what rounding alone does."""
    return float((_logits(model, length, split_lengths=3) - _logits(model, length, split_lengths=1)).abs().max())


def check_parity(model: nn.Module) -> None:
    """Raises UnsupportedModel if the model with a memory that holds everything does not say what it says without.

    What counts as different is measured on the model itself: how far its own cache, or the last bit of its precision,
    moves its logits.
    """
    difference, rounding = parity_difference(model), rounding_difference(model)
    least = float(_logits(model, 32, split_lengths=1).abs().max()) * torch.finfo(find_causal_lm(model).dtype).eps
    if not difference <= PARITY + 4 * max(rounding, least):
        raise UnsupportedModel(
            f"{type(find_causal_lm(model)).__name__} fails the self-test: with a memory attached its logits differ by "
            f"{difference:.2g} although nothing was evicted (its own cache: {rounding:.2g}). "
            "`memspan models --families` lists the families that pass."
        )


@torch.inference_mode()
def _logits(model: nn.Module, length: int, split_lengths: int) -> Tensor:
    """The logits (1, length, V) of made-up ids, read in so many pieces, without dropout."""
    causal_lm = find_causal_lm(model)
    vocabulary = causal_lm.config.get_text_config(decoder=True).vocab_size
    ids = (torch.arange(length, device=causal_lm.device) * 7919 + 11)[None] % vocabulary
    training = [module for module in causal_lm.modules() if module.training]
    name = cache_name(causal_lm.forward)
    causal_lm.eval()
    try:
        cache, logits = None, []
        for piece in ids.tensor_split(split_lengths, dim=1):
            output = causal_lm(piece, **{name: cache}, use_cache=True)
            cache = getattr(output, name)
            logits.append(output.logits)
    finally:
        for module in training:
            module.training = True
    return torch.cat(logits, 1)
