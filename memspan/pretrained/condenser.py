"""Texts in the condensed form of a trained memory, and a model that goes on behind them.

Letters: n slots of a text, L layers, H key heads, K head size, Z numbers of a latent.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from memspan.errors import UsageError
from memspan.mechanisms import condensing
from memspan.pretrained import trained
from memspan.pretrained.attach import mechanisms_for
from memspan.pretrained.cache import MemoryCache
from memspan.pretrained.decoding import Decoder, Prefix, shared_copy
from memspan.pretrained.growing_cache import can_step_back
from memspan.pretrained.hooks import Attachment
from memspan.pretrained.latents import LatentCodec, codec_of, digest
from memspan.pretrained.placement import input_device
from memspan.state import share

AT_ONCE = 2048  # tokens of texts that are condensed together


class Condenser:
    """Reads texts into the trained memory of a model. The model itself stays free: a copy around its weights is used.

    Attributes:
        decoder: goes on behind what was read.
        codec: turns what is condensed into latents and back; None where there is none for these weights.
        rate: tokens of a slot.
        weights: sha256 of the weights of the trained memory.
    """

    # The parameters are the model, its trained memory, and what goes on behind it.
    def __init__(
        self,
        model: PreTrainedModel,
        stop: Collection[int],
        weights: str | Path | None = None,
        name: str = "NAME",
        decoder: Decoder | None = None,
    ) -> None:
        """
        Args:
            stop: tokens that end an answer.
            weights: the folder of a trained model, see `memspan.attached`; None for those that come with memspan.
            name: of the model, for messages.
            decoder: of the model, if there is one already: its weights are then packed only once.

        Raises UsageError for a model without trained weights, and for weights of another model.
        """
        settings = condensing(model.config.get_text_config(decoder=True).max_position_embeddings)
        mechanism = settings.pop("name")
        if weights is None:
            known = trained.shipped(model, mechanism, {})
        else:
            known = trained.find(model, mechanism, {}, weights)
        if known is None:
            raise UsageError(
                f"The model '{name}' has no trained memory to read condensed passages with: `memspan train --task memory "
                f"--model {name}` trains one, and its folder is then given as the weights of the memory."
            )
        self._mechanisms = mechanisms_for(model, mechanism, {**known.settings, **settings})
        trained.put_in(self._mechanisms, known)
        self.weights, self.codec, self.rate = (
            digest(known.weights),
            codec_of(known.weights, weights),
            self._mechanisms[0].rate,
        )
        copy = shared_copy(model)
        self._attachment = Attachment(copy, lambda: MemoryCache(self._mechanisms))
        self._attachment.attach()
        plain = Decoder(model, tuple(stop)) if decoder is None else decoder
        self._is_plain = can_step_back(
            plain.new_cache()
        )  # what was read has then the form of keys that were read as text
        self.decoder = plain if self._is_plain else Decoder(copy, tuple(stop))

    @torch.no_grad()  # whoever goes on may do so in inference mode or not
    def read(self, texts: Sequence[Sequence[int]], latents: Sequence[NDArray[np.int8] | None] = ()) -> Prefix:
        """The memory of texts, given as token ids and in the order in which they are read, for `decoder` to go on behind.

        Each is read behind the condensed form of those before it, and then condensed with them, as in training.

        Args:
            latents: int8 (n, Z) for each text by `latents`, which then need not be read; None for one that is read. There is
                then an opening before all texts, and each has whole groups of tokens.

        Raises UsageError for latents that are not those of the text by `codec`.
        """
        cache, ids = MemoryCache(self._mechanisms), list[int]()
        stored = [*latents, *[None] * (len(texts) - len(latents))]
        codec = self.codec if any(rows is not None for rows in stored) else None
        if codec is not None:
            ids += codec.opening
            self._read([codec.opening], cache)
            self._condense(cache)
        for text, rows in zip(texts, stored, strict=True):
            text = list(text) if codec is None else self._whole(text, codec.filler)
            ids += text
            if rows is None:
                self._read([text], cache)
                self._condense(cache)
            else:
                self._put_back(text, rows, cache)
        return Prefix(tuple(ids), self._plain(cache) if self._is_plain and texts else cache)

    def latents(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.int8]]:
        """Of each text, given as token ids and read alone, the latents int8 (n, Z): one for every `rate` tokens, the last of
        which are filled up. Raises UsageError without a codec."""
        codec = self.needed_codec()
        slots = self.slots(texts, codec.opening, codec.filler)
        for rows in slots:
            codec.check(tuple(rows.shape[1:]))
        return [codec.encode(rows) for rows in slots]

    @torch.inference_mode()
    def slots(self, texts: Sequence[Sequence[int]], opening: Sequence[int], filler: int) -> list[Tensor]:
        """The condensed form of each text, read alone behind `opening`: float32 (n, L, 2, H, K), on the CPU."""
        whole = [self._whole(text, filler) for text in texts]
        found: dict[int, Tensor] = {}
        for batch in _batches(whole):
            longest = max(len(whole[row]) for row in batch)
            cache = MemoryCache(self._mechanisms)
            # What follows a token does not change what was computed of it: rows may be filled up on the right.
            self._read([[*opening, *whole[row], *[filler] * (longest - len(whole[row]))] for row in batch], cache)
            self._condense(cache)
            pairs = zip(self._mechanisms, cache.states, strict=True)
            keys = [mechanism.condensed_keys(state) for mechanism, state in pairs]
            layers = torch.stack([layer.float().cpu() for layer in keys if layer is not None], 2)
            first = len(opening) // self.rate
            for row, slots in zip(batch, layers, strict=True):
                found[row] = slots[first : first + len(whole[row]) // self.rate].clone()
        return [found[row] for row in range(len(whole))]

    def logits(self, ids: Tensor, slots: Tensor, opening: Sequence[int]) -> Tensor:
        """The logits (B, T, V) of ids (B, T) behind `opening` and texts whose slots these are, (B, M, L, 2, H, K).

        Gradients flow to the slots.
        """
        cache, device = MemoryCache(self._mechanisms), input_device(self._attachment.causal_lm)
        with torch.no_grad():
            self._read([opening] * len(ids), cache)
            self._condense(cache)
        triples = zip(self._mechanisms, cache.states, slots.unbind(2), strict=True)
        cache.states = share(tuple(mechanism.followed_by(state, layer) for mechanism, state, layer in triples))
        cache.seen += slots.shape[1] * self.rate
        cache.text_tokens = cache.text_tokens + slots.shape[1] * self.rate
        inputs = {"input_ids": ids.to(device), "use_cache": True, self._attachment.cache_name: cache}
        logits: Tensor = self._attachment.causal_lm(**inputs).logits
        return logits

    def needed_codec(self) -> LatentCodec:
        """The codec. Raises UsageError, with the way out, if there is none."""
        if self.codec is None:
            raise UsageError(
                "There are no latents by this trained memory: it has no codec. memspan.training.latents.make_latents makes "
                "one, see docs/trained-memory.md."
            )
        return self.codec

    def _whole(self, text: Sequence[int], filler: int) -> list[int]:
        """The ids of a text, filled up to whole groups."""
        return [*text, *[filler] * (-len(text) % self.rate)]

    def _read(self, rows: Sequence[Sequence[int]], cache: MemoryCache) -> None:
        ids = torch.tensor([list(row) for row in rows], device=input_device(self._attachment.causal_lm))
        self._attachment.base(input_ids=ids, use_cache=True, **{self._attachment.cache_name: cache})

    def _condense(self, cache: MemoryCache) -> None:
        states = zip(self._mechanisms, cache.states, strict=True)
        cache.states = share(tuple(mechanism.condensed(state) for mechanism, state in states))

    def _put_back(self, text: Sequence[int], latents: NDArray[np.int8], cache: MemoryCache) -> None:
        """Puts what the latents of a text stand for behind what was read."""
        codec = self.needed_codec()
        if latents.shape != (len(text) // self.rate, codec.size):
            raise UsageError(f"The latents must be int8 {(len(text) // self.rate, codec.size)}, got {latents.shape}.")
        first = self._mechanisms[0].condensed_keys(cache.states[0])
        if first is not None:
            shape = (len(self._mechanisms), *first.shape[2:])
            codec.check(shape)
            slots = codec.decode(latents, shape)
            pairs = zip(self._mechanisms, cache.states, slots.unbind(1), strict=True)
            cache.states = share(tuple(mechanism.followed_by(state, layer[None]) for mechanism, state, layer in pairs))
            cache.seen += len(text)
            cache.text_tokens = cache.text_tokens + len(text)

    def _plain(self, memory: MemoryCache) -> Cache:
        """The keys and values of a memory, rotated to their positions, as the plain model keeps those that it has read."""
        cache, step = self.decoder.new_cache(), memory.begin(1, None)
        attentions = {
            module.layer_idx: module for module in self._attachment.base.modules() if hasattr(module, "layer_idx")
        }
        for layer, (mechanism, state) in enumerate(zip(memory.mechanisms, memory.states, strict=True)):
            slots = mechanism.condensed_keys(state)
            if slots is None:  # of no mechanism that `condensing` names
                raise UsageError("The memory has no condensed form.")
            token = slots.new_zeros(1, slots.shape[3], 1, slots.shape[4])
            recalled, _ = mechanism.recall(token, token, token, state)  # the last key is that of the token
            rotate = self._attachment.rotation(attentions[layer], layer, step)
            keys = recalled.k if rotate is None else rotate(recalled.k, recalled.key_positions)
            cache.update(keys[:, :, :-1], recalled.v[:, :, :-1], layer)
        return cache


def _batches(texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The numbers of texts of about the same length, in batches of at most `AT_ONCE` tokens, or of one text."""
    batch: list[int] = []
    for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
        if batch and (len(batch) + 1) * len(texts[row]) > AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
