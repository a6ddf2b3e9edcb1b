"""Decoding with a transformers causal LM, on a copy that is fast for few tokens at a time.

1. The fused CPU kernel of scaled dot-product attention splits its work over queries; with a single query it takes longer
   than the rest of the layer. Two small matrix products over the grouped heads compute the same in a fraction of the time.
2. Weights are packed for products with few rows, see `packed_linear`.
3. Keys and values are written into tensors that have room for them, see `growing_cache`.
4. Several tokens are read at once where the text so far shows what may come next, see `lookup`.

Letters: B batch, S tokens, N keys, Hq query heads, H key heads, K head size, V vocabulary.
"""

from collections.abc import Generator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel, StaticCache
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from memspan.errors import UsageError
from memspan.models.generate import Sampling, ends_in_cycle, token_chooser
from memspan.pretrained.growing_cache import can_step_back, growing_cache
from memspan.pretrained.lookup import DRAFT, Lookup
from memspan.pretrained.packed_linear import pack, replace_linear
from memspan.pretrained.placement import input_device, is_spread, kept_by_hooks
from memspan.pretrained.rows import current_rows
from memspan.pretrained.versions import cache_name

_NAME = "memspan_few_queries"
_FEW = 16  # queries for which the small products are faster
_ROWS = 4  # from which on products in float32 round alike, as was measured for MKL


def shared_copy(model: PreTrainedModel) -> PreTrainedModel:
    """New modules around the same tensors: hooks and settings of the copy do not reach the model."""
    shared = chain(model.parameters(), model.buffers(), kept_by_hooks(model))
    return deepcopy(model, memo={id(value): value for value in shared})


def for_decoding(model: PreTrainedModel) -> PreTrainedModel:
    """A shared copy with the fast attention if the model uses the fused kernel on a CPU; otherwise the model itself.

    The layers of a model that is spread over devices are left as they are.
    """
    if model.config._attn_implementation != "sdpa" or input_device(model).type != "cpu" or is_spread(model):
        return model
    copy = shared_copy(model)
    copy.set_attn_implementation(_NAME)
    return copy


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one text, or of several in one pass, see `rows`."""
    rows = current_rows()
    if rows is None:
        return _few_queries(module, query, key, value, attention_mask, **kwargs)
    return rows.attention(_few_queries, module, query, **kwargs)


def _few_queries(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query (B, Hq, S, K), key and value (B, H, N, K) -> (B, S, Hq, K)."""
    queries, has_mask = query.shape[2], attention_mask is not None
    if queries > _FEW or (queries > 1 and not has_mask) or key.shape[0] != query.shape[0]:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return output, None
    batch, heads, _, size = query.shape
    groups = heads // key.shape[1]
    grouped = query.reshape(batch, key.shape[1], groups * queries, size)
    if query.dtype == torch.float32:  # a token gets the same whatever is read with it
        grouped = functional.pad(grouped, (0, 0, 0, -groups * queries % _ROWS))
    scores = grouped @ key.transpose(2, 3) * (size**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        hidden = ~attention_mask[:, :, -queries:].repeat(1, 1, groups, 1)
        scores[:, :, : groups * queries].masked_fill_(hidden, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    output = (weights @ value)[:, :, : groups * queries].reshape(batch, heads, queries, value.shape[3])
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


@dataclass(frozen=True)
class Prefix:
    """The contents of a model's window, for the next call to reuse: ids, and the cache with their keys and values."""

    ids: tuple[int, ...]
    cache: Cache


class Writing:
    """A text while it is written: what the model has read of it, what it reads next, and by which rule tokens are chosen.

    Attributes:
        cache: of what was read.
        window: the ids of the prompt and of what follows it; the model has read all but the last, or all if it is over.
        is_over: whether nothing follows.
    """

    def __init__(self, ids: Sequence[int], sampling: Sampling, cache: Cache, most: int, decoder: "Decoder") -> None:
        """
        Args:
            ids: the prompt, which has been read into `cache` when `take` is called first.
            most: tokens that follow at most.
        """
        self.cache, self.window, self.is_over = cache, list(ids), False
        self._prompt, self._left, self._stop = len(ids), most, decoder.stop
        self._choose = token_chooser(sampling, input_device(decoder.model))
        self._lookup = Lookup(ids) if can_step_back(cache) else None
        self._draft: Sequence[int] = ()

    @property
    def prefix(self) -> Prefix:
        """The contents of the window."""
        return Prefix(tuple(self.window), self.cache)

    def next_tokens(self, longest_draft: int = DRAFT) -> list[int]:
        """The tokens that the model reads next: the last of the text, and a draft of those that may follow it."""
        longest = min(longest_draft, self._left - 1)
        self._draft = () if self._lookup is None or longest < 1 else self._lookup.draft(longest)
        return [self.window[-1], *self._draft]

    def take(self, logits: Tensor) -> list[int]:
        """The tokens that follow by the logits of those that were read: (1, V) after the prompt, or (S, V) of `next_tokens`."""
        new: list[int] = []
        read = len(self.window) + len(self._draft)
        for row, guess in zip(logits, (*self._draft, None), strict=True):
            written = self.window[self._prompt :]
            token = int(self._choose(row[None], torch.tensor([written], dtype=torch.int64, device=row.device)))
            if token in self._stop:
                self.is_over = True
                break
            new.append(token)
            self._left -= 1
            self.is_over = self._left == 0 or ends_in_cycle([*written, token])
            if self.is_over:
                break
            self.window.append(token)
            if self._lookup is not None:
                self._lookup.append(token)
            if token != guess:
                break
        unread = 0 if self.is_over else 1  # the last token
        if read > len(self.window) - unread:
            self.cache.crop(len(self.window) - unread - read)
        return new


class Decoder:
    """Decoding with one model.

    Attributes:
        window: the largest number of tokens that it holds at once.
    """

    def __init__(self, model: Any, stop: Sequence[int]) -> None:
        self.model, self.stop = for_decoding(model), frozenset(stop)
        self._packed = [] if self.model is model else replace_linear(self.model)
        self.window: int = model.config.get_text_config().max_position_embeddings
        self._cache_name = cache_name(self.model.forward)

    def new_cache(self) -> Cache:
        """An empty cache."""
        return growing_cache(self.model.config)

    def reuse(self, prefix: Prefix | None, ids: Sequence[int]) -> tuple[Cache, int]:
        """The cache of `prefix` cropped to the ids that both have in common, and their number: at most all `ids` but one."""
        if prefix is None:
            return self.new_cache(), 0
        pairs = zip(prefix.ids, ids[:-1], strict=False)
        shared = next(
            (index for index, (old, new) in enumerate(pairs) if old != new), min(len(prefix.ids), len(ids) - 1)
        )
        if shared == 0:
            return self.new_cache(), 0
        if shared < len(prefix.ids):
            prefix.cache.crop(shared - len(prefix.ids))
        return prefix.cache, shared

    def step(self, ids: Tensor, cache: Cache, before: int, keep: int = 1) -> Tensor:
        """The logits (keep, V) of the tokens after the last of ids (1, S), read behind the `before` tokens in the cache."""
        inputs = {"input_ids": ids, self._cache_name: cache, "use_cache": True, "logits_to_keep": keep}
        if (
            can_step_back(cache) and cache.get_seq_length() != before
        ):  # condensed text takes a position for each token, and fewer keys
            inputs["position_ids"] = torch.arange(before, before + ids.shape[1], device=ids.device)[None]
        logits: Tensor = self.model(**inputs).logits[0, -keep:]
        return logits

    def begin(self, ids: Sequence[int], sampling: Sampling, prefix: Prefix | None = None) -> tuple[Writing, Tensor]:
        """Reads a prompt; returns the text that is to be written and the logits (1, V) of its first token.

        The arguments and errors are those of `generate`.
        """
        writing, read = self.open(ids, sampling, prefix)
        return writing, self.read_prompt(writing, ids, read, len(ids))

    def open(self, ids: Sequence[int], sampling: Sampling, prefix: Prefix | None = None) -> tuple[Writing, int]:
        """The text that is to be written, and how many tokens of its prompt its cache has already.

        The arguments and errors are those of `generate`.
        """
        room = self.window - len(ids)
        if room < 1 or not ids:
            raise UsageError(
                f"The prompt must have from 1 to {self.window - 1} tokens, so that an answer fits into the model's window, got "
                f"{len(ids)}: shorten the question or lower the budget."
            )
        pack(self._packed)
        cache, read = self.reuse(prefix, ids)
        return Writing(ids, sampling, cache, min(sampling.max_new_tokens, room), self), read

    def read_prompt(self, writing: Writing, ids: Sequence[int], start: int, end: int) -> Tensor:
        """Reads the tokens of a prompt from `start` to `end`; the logits (1, V) of the token behind them."""
        tokens = torch.tensor([ids[start:end]], device=input_device(self.model))
        return self.step(tokens, writing.cache, start)

    @torch.inference_mode()
    def generate(
        self, ids: Sequence[int], sampling: Sampling, prefix: Prefix | None = None
    ) -> Generator[int, None, Prefix]:
        """Yields the tokens that follow `ids`, without the stop token; returns the contents of the window afterwards.

        It also stops where the model repeats itself without end, see `ends_in_cycle`.

        Args:
            prefix: return value of an earlier call. It is consumed: its cache is cropped to the common ids and extended.

        Raises:
            UsageError: no ids, or so many that no token fits into the window behind them.
        """
        writing, logits = self.begin(ids, sampling, prefix)
        while True:
            yield from writing.take(logits)
            if writing.is_over:
                return writing.prefix
            logits = self.read_on(writing)

    def read_on(self, writing: Writing) -> Tensor:
        """The logits (S, V) of the next tokens of a text, which are read."""
        tokens = torch.tensor([writing.next_tokens()], device=input_device(self.model))
        return self.step(tokens, writing.cache, len(writing.window) - 1, tokens.shape[1])


class CompiledDecoder(Decoder):
    """A decoder whose one-token step is compiled once for a fixed window: a static cache and constant shapes.

    Compilation happens at the first token (half a minute on two cores for a model of 135 million weights); every later
    token takes a fraction of the time of an uncompiled one. A prompt that does not fit into `window` is refused.
    """

    def __init__(self, model: Any, stop: Sequence[int], window: int = 2048) -> None:
        super().__init__(model, stop)
        self.window = min(self.window, window)
        self._compiled: Any = None

    def new_cache(self) -> Cache:
        return StaticCache(config=self.model.config, max_cache_len=self.window)

    def reuse(self, prefix: Prefix | None, ids: Sequence[int]) -> tuple[Cache, int]:
        return self.new_cache(), 0

    def step(self, ids: Tensor, cache: Cache, before: int, keep: int = 1) -> Tensor:
        if ids.shape[1] > 1:
            return super().step(ids, cache, before)
        if self._compiled is None:
            self._compiled = torch.compile(self.model.forward, dynamic=False, options={"freezing": True})
        positions = torch.full((1, 1), before, device=ids.device)
        with torch.no_grad():
            output = self._compiled(
                input_ids=ids, position_ids=positions, **{self._cache_name: cache}, use_cache=True, logits_to_keep=1
            )
        logits: Tensor = output.logits[:, -1].clone()
        return logits
