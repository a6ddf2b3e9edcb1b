"""The trained memory of a language model, before memories that hold latents by it, by another, or none."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from memspan.errors import ForeignMemory, UsageError
from memspan.memory import EncodedText, Fingerprint, LatentsFingerprint, PassageLatents
from memspan.memory.store.manifest import DIGITS
from memspan.pretrained.condenser import Condenser
from memspan.pretrained.decoding import CompiledDecoder, Decoder

SHIPPED = "memspan"  # the name of the trained memories that come with it


class Condensers:
    """Trained memories of one model, each loaded when it is needed first.

    Args:
        weights: the folder of the run that is used where no other is named; None for what comes with memspan.
    """

    def __init__(
        self, model: PreTrainedModel, stop: Sequence[int], name: str, decoder: Decoder, weights: str | Path | None
    ) -> None:
        self._model, self._stop, self._name, self._weights = model, tuple(stop), name, weights
        self._decoder = None if isinstance(decoder, CompiledDecoder) else decoder  # which begins every prompt anew

    @cached_property
    def default(self) -> Condenser:
        """Where no other is named. Raises UsageError for a model that has none."""
        return self._loaded(self._weights)

    def of(self, weights: str | Path | None) -> Condenser:
        """That of the folder of a run, which may change meanwhile, or the default. Raises UsageError where there is none."""
        return self.default if weights is None else self._loaded(weights)

    @property
    def fingerprint(self) -> LatentsFingerprint:
        """By what the latents of new memories are made. Raises UsageError for a model without a trained memory or its codec."""
        return fingerprint_of(self.default, SHIPPED if self._weights is None else str(self._weights))

    def check(self, memory: Fingerprint) -> None:
        """Raises ForeignMemory, with the way out, if passages cannot be added to a memory here."""
        theirs = memory.latents
        if theirs is None:
            return
        try:
            own = self.fingerprint
            why = None if theirs.is_of(own) else f"but here it is '{own.name}' ({own.identity[:DIGITS]})"
        except UsageError as error:
            why = f"which cannot be had here: {error}"
        if why is not None:
            named = f"'{theirs.name}'", f" --memory-weights {theirs.name}"
            argument, option = ("True", "") if theirs.name == SHIPPED else named
            raise ForeignMemory(
                f"The memory holds latents by the trained memory '{theirs.name}' ({theirs.identity[:DIGITS]}), "
                f"{why.rstrip('.')}. Load it (--latents{option}, memspan.load_model(..., latents={argument})), or read the "
                "documents into a new memory."
            )

    def added_to(self, text: EncodedText, memory: Fingerprint) -> EncodedText:
        """A text with the latents of its passages, each of which is read alone; as it is if the memory holds none.

        Raises ForeignMemory as `check` does.
        """
        self.check(memory)
        if memory.latents is None:
            return text
        rows = [text.ids[first:end].tolist() for first, end in text.passages[:, :2].tolist()]
        latents = self.default.latents(rows)
        counts = np.array([len(numbers) for numbers in latents], np.int32)
        joined = np.concatenate([np.zeros((0, memory.latents.size), np.int8), *latents])
        return replace(text, latents=PassageLatents(counts, joined))

    def _loaded(self, weights: str | Path | None) -> Condenser:
        return Condenser(self._model, self._stop, weights, self._name, self._decoder)


def fingerprint_of(condenser: Condenser, name: str = SHIPPED) -> LatentsFingerprint:
    """By what a trained memory makes latents. Raises UsageError if it has no codec."""
    codec = condenser.needed_codec()
    return LatentsFingerprint(codec.identity, name, codec.size, codec.rate)
