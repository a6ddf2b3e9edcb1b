"""Texts in the condensed form of a trained memory, and a model that goes on behind them."""

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from memspan.errors import UsageError
from memspan.mechanisms import condensing
from memspan.pretrained import trained
from memspan.pretrained.attach import mechanisms_for
from memspan.pretrained.cache import MemoryCache
from memspan.pretrained.decoding import Decoder, Prefix, shared_copy
from memspan.pretrained.hooks import Attachment
from memspan.pretrained.placement import input_device
from memspan.state import share


class Condenser:
    """Reads texts into the trained memory of a model. The model itself stays free: a copy around its weights is used.

    Each text is read behind the condensed form of those before it, and then condensed with them, as in training.

    Attributes:
        decoder: goes on behind what was read.
    """

    def __init__(
        self, model: PreTrainedModel, stop: Collection[int], weights: str | Path | None = None, name: str = "NAME"
    ) -> None:
        """
        Args:
            stop: tokens that end an answer.
            weights: the folder of a trained model, see `memspan.attached`; None for those that come with memspan.
            name: of the model, for messages.

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
        copy = shared_copy(model)
        self._attachment = Attachment(copy, lambda: MemoryCache(self._mechanisms))
        self._attachment.attach()
        self.decoder = Decoder(copy, tuple(stop))

    @torch.inference_mode()
    def read(self, texts: Sequence[Sequence[int]]) -> Prefix:
        """The memory of texts, given as token ids and in the order in which they are read, for `decoder` to go on behind."""
        cache = MemoryCache(self._mechanisms)
        base, device = self._attachment.base, input_device(self.decoder.model)
        for ids in texts:
            base(
                input_ids=torch.tensor([list(ids)], device=device),
                use_cache=True,
                **{self._attachment.cache_name: cache},
            )
            states = zip(self._mechanisms, cache.states, strict=True)
            cache.states = share(tuple(mechanism.condensed(state) for mechanism, state in states))
        return Prefix(tuple(token for ids in texts for token in ids), cache)
